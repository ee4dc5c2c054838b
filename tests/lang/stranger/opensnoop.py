# mypy: ignore-errors
"""opensnoop as in libbpf-tools: start in enter, finish in exit, filters in rodata."""

from skep import bpf
from skep.bpf import s32, u32, u64

TASK_COMM_LEN = 16
NAME_MAX = 255

target_pid: u32 = bpf.const(0)
target_uid: u32 = bpf.const(0xFFFFFFFF)
failed_only: bool = bpf.const(False)


@bpf.struct
class Args:
    fname: u64
    flags: s32


@bpf.struct
class Event:
    ts: u64
    pid: u32
    uid: u32
    ret: s32
    flags: s32
    comm: bytes = bpf.char(TASK_COMM_LEN)
    fname: bytes = bpf.char(NAME_MAX)


start = bpf.Hash(u32, Args, max_entries=10240)
events = bpf.PerfEventArray(Event)


def trace_allowed(tgid: u32, pid: u32) -> bool:
    if target_pid and target_pid != tgid:
        return False
    if target_uid != 0xFFFFFFFF:
        uid = bpf.get_current_uid_gid() & 0xFFFFFFFF
        if uid != target_uid:
            return False
    return True


@bpf.tracepoint("syscalls/sys_enter_openat")
def enter(ctx: bpf.SysEnterOpenat) -> int:
    id = bpf.get_current_pid_tgid()
    tgid = id >> 32
    pid = u32(id)
    if trace_allowed(tgid, pid):
        start[pid] = Args(fname=ctx.filename, flags=ctx.flags)
    return 0


@bpf.tracepoint("syscalls/sys_exit_openat")
def exit(ctx: bpf.SysExitOpenat) -> int:
    pid = u32(bpf.get_current_pid_tgid())
    ap = start.get(pid)
    if not ap:
        return 0
    if failed_only and ctx.ret >= 0:
        del start[pid]
        return 0
    e = Event(
        pid=bpf.get_current_pid_tgid() >> 32, uid=bpf.get_current_uid_gid(), flags=ap.flags, ret=ctx.ret
    )
    e.comm = bpf.comm()
    e.fname = bpf.user_str(ap.fname)
    events.output(e)
    start.delete(pid)
    return 0
