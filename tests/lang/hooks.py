"""Programs for the hooks that this machine's kernel refuses: built here, fired in other kernels.

Each notes, in the slot of its name in ``seen``, what it was called with when process ``only_pid`` opened a
file. The slots are `SLOTS`.
"""

from __future__ import annotations

from skep import bpf
from skep.bpf import s32, s64, u32, u64

#: program -> its slot
SLOTS = {
    "on_kprobe": 0,
    "on_kretprobe": 1,
    "on_ksyscall": 2,
    "on_fentry": 3,
    "on_fexit": 4,
    "on_fmod_ret": 5,
    "on_lsm": 6,
    "on_kprobe_multi": 7,
    "on_registers": 8,
    "on_kretsyscall": 9,
}
#: what needs a newer kernel than the matrix's oldest
SINCE = {"on_kprobe_multi": "5.18"}


@bpf.struct
class Seen:
    hits: u64
    result: s64
    inode: u64
    flags: s64
    name: bytes = bpf.char(32)


seen = bpf.Array(Seen, 16)
only_pid: u32 = bpf.const(0)


@bpf.kprobe("vfs_open")
def on_kprobe(path: bpf.path, file: bpf.file) -> int:
    if bpf.pid() == only_pid:
        s = seen[0]
        s.hits += 1
        s.name = path.dentry.d_name.name
        s.inode = path.dentry.d_inode.i_ino
    return 0


@bpf.kretprobe("vfs_open")
def on_kretprobe(ret: s32) -> int:
    if bpf.pid() == only_pid:
        s = seen[1]
        s.hits += 1
        s.result = ret
    return 0


@bpf.ksyscall("openat")
def on_ksyscall(filename: bytes, flags: s32) -> int:
    if bpf.pid() == only_pid:
        s = seen[2]
        s.hits += 1
        s.name = filename
        s.flags = flags
    return 0


@bpf.fentry("vfs_open")
def on_fentry(path: bpf.path, file: bpf.file) -> int:
    if bpf.pid() == only_pid:
        s = seen[3]
        s.hits += 1
        s.name = path.dentry.d_name.name
        s.inode = path.dentry.d_inode.i_ino
        s.flags = file.f_flags
    return 0


@bpf.fexit("vfs_open")
def on_fexit(path: bpf.path, file: bpf.file, ret: s32) -> int:
    if bpf.pid() == only_pid:
        s = seen[4]
        s.hits += 1
        s.result = ret
        s.inode = file.f_inode.i_ino
    return 0


@bpf.fmod_ret("security_file_open")
def on_fmod_ret(file: bpf.file, ret: s32) -> int:
    if bpf.pid() == only_pid:
        s = seen[5]
        s.hits += 1
        s.result = ret
        s.inode = file.f_inode.i_ino
    return ret


@bpf.lsm("file_open")
def on_lsm(file: bpf.file, ret: s32) -> int:
    if bpf.pid() == only_pid:
        s = seen[6]
        s.hits += 1
        s.name = file.f_path.dentry.d_name.name
        s.inode = file.f_inode.i_ino
    return ret


@bpf.kprobe_multi("vfs_open")
def on_kprobe_multi(path: bpf.path) -> int:
    if bpf.pid() == only_pid:
        s = seen[7]
        s.hits += 1
        s.name = path.dentry.d_name.name
    return 0


@bpf.kprobe("vfs_open")
def on_registers(ctx: bpf.PtRegs) -> int:
    if bpf.pid() == only_pid:
        s = seen[8]
        s.hits += 1
        s.name = bpf.path(ctx.arg0).dentry.d_name.name
    return 0


@bpf.kretsyscall("openat")
def on_kretsyscall(ret: s64) -> int:
    if bpf.pid() == only_pid:
        s = seen[9]
        s.hits += 1
        s.result = ret
    return 0
