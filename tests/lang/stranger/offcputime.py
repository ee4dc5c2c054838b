"""offcputime: stacks by time blocked, filtered to one process."""

from skep import bpf
from skep.bpf import s32, s64, u32, u64

PF_KTHREAD = 0x00200000


class Key(bpf.Struct):
    pid: u32
    tgid: u32
    user_stack_id: s32
    kern_stack_id: s32


class Internal(bpf.Struct):
    start_ts: u64
    key: Key


class Val(bpf.Struct):
    delta: u64
    comm: bpf.Text = bpf.char(16)


targ_tgid: u32 = bpf.const(0)
kernel_threads_only: bool = bpf.const(False)
user_threads_only: bool = bpf.const(False)
min_block_ns: u64 = bpf.const(1)
max_block_ns: u64 = bpf.const((1 << 64) - 1)
state: s64 = bpf.const(-1)

start = bpf.Hash(u32, Internal, max_entries=10240)
stackmap = bpf.StackTrace(max_entries=1024, depth=127)
info = bpf.Hash(Key, Val, max_entries=10240)


def allow_record(t: bpf.task_struct) -> bool:
    if targ_tgid and targ_tgid != t.tgid:
        return False
    if (user_threads_only and t.flags & PF_KTHREAD) or (kernel_threads_only and not (t.flags & PF_KTHREAD)):
        return False
    return state == -1 or t.__state == state


@bpf.tp_btf("sched_switch")
def sched_switch(preempt: bool, prev: bpf.task_struct, next: bpf.task_struct) -> int:
    if allow_record(prev):
        i = Internal()
        i.start_ts = bpf.ktime_get_ns()
        i.key.pid = prev.pid
        i.key.tgid = prev.tgid
        if prev.flags & PF_KTHREAD:
            i.key.user_stack_id = -1
        else:
            i.key.user_stack_id = stackmap.id(bpf.BPF_F_USER_STACK)
        i.key.kern_stack_id = stackmap.id(0)
        start[prev.pid] = i
    ip = start.get(next.pid)
    if ip is None:
        return 0
    delta = bpf.ktime_get_ns() - ip.start_ts
    if delta < 0:
        del start[next.pid]
        return 0
    if delta < min_block_ns or delta > max_block_ns:
        del start[next.pid]
        return 0
    delta //= 1000
    valp = info.get(ip.key)
    if valp is None:
        info[ip.key] = Val(comm=next.comm)
        valp = info.get(ip.key)
    if valp is not None:
        valp.delta += delta
    del start[next.pid]
    return 0
