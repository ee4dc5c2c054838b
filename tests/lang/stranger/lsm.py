# mypy: ignore-errors
from skep import bpf
from skep.bpf import s32, u32, u64

EPERM = 1
blocked = bpf.Hash(u64, u32)
log = bpf.RingBuf(u64)


@bpf.lsm("bprm_check_security")
def exec(bprm: bpf.linux_binprm, ret: s32) -> int:
    if ret:
        return ret
    ino = bprm.file.f_inode.i_ino
    return -EPERM if ino in blocked else 0


@bpf.lsm("file_open", sleepable=True)
def opened(file: bpf.file) -> int:
    buf = bpf.char(128)
    n = bpf.d_path(file.f_path, buf)
    if n > 0 and buf == "/etc/shadow":
        return -bpf.EPERM
    return 0


@bpf.lsm("task_kill")
def kill(p: bpf.task_struct, info: bpf.kernel_siginfo, sig: s32, cred: bpf.cred, ret: s32) -> int:
    if sig == 9 and p.comm == "protected":
        return -bpf.EPERM
    return ret


@bpf.fexit("do_unlinkat")
def unlink(dfd: s32, name: bpf.filename, ret: s32) -> int:
    bpf.printk(f"unlink {name.name} {ret}")
    return 0


@bpf.fentry("tcp_sendmsg")
def send(sk: bpf.sock, msg: bpf.msghdr, size: u64) -> int:
    blocked[sk.__sk_common.skc_dport] += u32(size)
    return 0
