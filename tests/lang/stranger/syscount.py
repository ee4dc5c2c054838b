# mypy: ignore-errors
from skep import bpf
from skep.bpf import u32, u64


@bpf.struct
class Data:
    count: u64
    total_ns: u64
    comm: bytes = bpf.char(16)


start = bpf.Hash(u32, u64)
data = bpf.Hash(u32, Data)
by_pid: bool = bpf.const(False)
only: u32 = bpf.const(0)
zero: Data = bpf.const(Data())


def lookup_or_init(key):
    v = data.get(key)
    if v is not None:
        return v
    data.update(key, zero, bpf.BPF_NOEXIST)
    return data.get(key)


@bpf.tracepoint("raw_syscalls:sys_enter")
def enter(ctx: bpf.SysEnter) -> int:
    if only and bpf.pid() != only:
        return 0
    start[bpf.tid()] = bpf.ktime_get_ns()
    return 0


@bpf.tracepoint("raw_syscalls:sys_exit")
def leave(ctx: bpf.SysExit) -> int:
    if only and bpf.pid() != only:
        return 0
    ts = start.get(bpf.tid())
    if ts is None:
        return 0
    v = lookup_or_init(bpf.pid() if by_pid else ctx.id)
    if v is not None:
        v.count += 1
        v.total_ns += bpf.ktime_get_ns() - ts
        if by_pid:
            v.comm = bpf.comm()
    return 0


VARIABLES = {"only": __import__("os").getpid()}


def check(obj):
    import os

    with obj.enter.attach(), obj.leave.attach():
        for _ in range(50):
            os.getppid()
    assert obj.data[110].count == 50, obj.data[110]
