"""memleak: outstanding allocations by stack (uprobes on malloc, free, calloc)."""

from skep import bpf
from skep.bpf import s32, u32, u64


class Alloc(bpf.Struct):
    size: u64
    timestamp_ns: u64
    stack_id: s32


class Combined(bpf.Struct):
    total_size: u64
    number_of_allocs: u64


pid_filter: u32 = bpf.const(0)
min_size: u64 = bpf.const(0)
max_size: u64 = bpf.const((1 << 64) - 1)
sample_rate: u64 = bpf.const(1)
sizes = bpf.Hash(u64, u64, max_entries=10240)
allocs = bpf.Hash(u64, Alloc, max_entries=100000)
combined = bpf.Hash(u64, Combined, max_entries=10240)
stack_traces = bpf.StackTrace(max_entries=1024, depth=64)


def gen_alloc_enter(size: int) -> int:
    if size < min_size or size > max_size:
        return 0
    if sample_rate > 1 and bpf.ktime() % sample_rate != 0:
        return 0
    sizes[bpf.pid() << 32 | bpf.tid()] = size
    return 0


def gen_alloc_exit(address: int) -> int:
    key = bpf.get_current_pid_tgid()
    size = sizes.get(key)
    if size is None:
        return 0
    del sizes[key]
    if address != 0:
        a = Alloc(size, bpf.ktime(), stack_traces.id(bpf.BPF_F_USER_STACK))
        allocs[address] = a
        update(a.stack_id, size, 1)
    return 0


def update(stack_id: int, size: int, sign: int) -> None:
    c = combined.get(u64(stack_id))
    if c is None:
        combined.update(u64(stack_id), Combined(), bpf.BPF_NOEXIST)
        c = combined.get(u64(stack_id))
        if c is None:
            return
    c.total_size += sign * size
    c.number_of_allocs += sign


@bpf.uprobe
def malloc_enter(size: u64) -> int:
    return gen_alloc_enter(size)


@bpf.uretprobe
def malloc_exit(address: u64) -> int:
    return gen_alloc_exit(address)


@bpf.uprobe
def calloc_enter(nmemb: u64, size: u64) -> int:
    return gen_alloc_enter(nmemb * size)


@bpf.uprobe
def free_enter(address: u64) -> int:
    a = allocs.get(address)
    if not a:
        return 0
    update(a.stack_id, a.size, -1)
    del allocs[address]
    return 0
