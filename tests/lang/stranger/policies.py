"""System calls tampered with, LSM policies."""

from skep import bpf
from skep.bpf import s32, u32, u64

EPERM = 1
ENOENT = 2
only_pid: u32 = bpf.const(0)


@bpf.fmod_ret("__x64_sys_getcpu")
def getcpu(regs: bpf.pt_regs, ret: s32) -> int:
    if bpf.pid() == only_pid:
        return -EPERM
    return ret


@bpf.fmod_ret("security_file_open")
def open_(file: bpf.file, ret: s32) -> int:
    return 0 if ret == 0 else -ENOENT


denied = bpf.Hash(u64, u32, max_entries=100)


@bpf.struct
class Denial:
    pid: u32
    inode: u64
    path: bpf.Text = bpf.char(256)
    comm: bpf.Text = bpf.char(16)


denials = bpf.RingBuf(Denial, size=1 << 16)


@bpf.lsm("file_open")
def deny_open(file: bpf.file) -> int:
    ino = file.f_inode.i_ino
    if ino not in denied:
        return 0
    with denials.reserve() as d:
        d.pid = bpf.pid()
        d.inode = ino
        d.comm = bpf.comm()
        bpf.d_path(file.f_path, d.path)
    return -EPERM


@bpf.lsm("socket_connect")
def restrict_connect(sock: bpf.socket, address: bpf.sockaddr, addrlen: s32, ret: s32) -> int:
    """The blog post every LSM tutorial has: connections to 1.1.1.1 are refused."""
    if ret != 0:
        return ret
    if address.sa_family != bpf.AF_INET:
        return 0
    addr = bpf.cast(bpf.sockaddr_in, address)
    dest = addr.sin_addr.s_addr
    bpf.printk(f"lsm: found connect to {dest:x}")
    if dest == 0x01010101:
        return -EPERM
    return 0


@bpf.lsm("bprm_check_security", sleepable=True)
def exec_(bprm: bpf.linux_binprm, ret: s32) -> int:
    buf = bpf.char(64)
    bpf.probe_read_kernel_str(buf, bprm.filename)
    if buf.startswith("/tmp/"):
        return -EPERM
    return ret


@bpf.lsm("bpf")
def no_bpf(cmd: s32, attr: bpf.bpf_attr, size: u32) -> int:
    if cmd == 5:
        return -EPERM
    return 0


@bpf.lsm("task_kill")
def no_kill(p: bpf.task_struct, info: bpf.kernel_siginfo, sig: s32, cred: bpf.cred) -> int:
    if p.tgid == only_pid and sig == 9:
        return -EPERM
    return 0
