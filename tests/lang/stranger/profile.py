# mypy: ignore-errors
from skep import bpf
from skep.bpf import s32, s64, u32, u64


@bpf.struct
class Key:
    pid: u32
    user: s32
    kern: s32
    comm: bytes = bpf.char(16)


counts = bpf.Hash(Key, u64, max_entries=10000)
stacks = bpf.StackTrace(4096)
buf = bpf.PerCpuArray(bpf.array(u64, 64), 1)
depth: s64 = bpf.var(0)
only: u32 = bpf.const(0)


@bpf.perf_event
def sample(ctx: bpf.PerfEvent) -> int:
    global depth
    if bpf.pid() != only:
        return 0
    k = Key(pid=bpf.pid(), comm=bpf.comm())
    k.user = stacks.id(bpf.BPF_F_USER_STACK)
    k.kern = stacks.id(0)
    counts[k] += 1
    b = buf[0]
    depth = bpf.get_stack(b, bpf.BPF_F_USER_STACK)
    return 0


VARIABLES = {"only": __import__("os").getpid()}
