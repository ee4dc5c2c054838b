# mypy: ignore-errors
"""runqlat: run queue latency, log2 histogram per pid or overall."""

from skep import bpf
from skep.bpf import array, char, s64, u32, u64

MAX_SLOTS = 26


@bpf.struct
class Hist:
    slots: list[u32] = array(u32, MAX_SLOTS)
    comm: bytes = char(16)


targ_per_process: bool = bpf.const(False)
targ_ms: bool = bpf.const(False)
targ_tgid: u32 = bpf.const(0)

start = bpf.Hash(u32, u64, max_entries=10240)
hists = bpf.Hash(u32, Hist, max_entries=10240)


def trace_enqueue(tgid, pid):
    if pid == 0:
        return
    if targ_tgid and targ_tgid != tgid:
        return
    start[pid] = bpf.ktime_get_ns()


@bpf.tp_btf("sched_wakeup")
def sched_wakeup(p: bpf.task_struct) -> int:
    trace_enqueue(p.tgid, p.pid)
    return 0


@bpf.tp_btf("sched_wakeup_new")
def sched_wakeup_new(p: bpf.task_struct) -> int:
    trace_enqueue(p.tgid, p.pid)
    return 0


@bpf.tp_btf("sched_switch")
def sched_switch(preempt: bool, prev: bpf.task_struct, next: bpf.task_struct) -> int:
    if prev.__state == 0:
        trace_enqueue(prev.tgid, prev.pid)
    pid = next.pid
    tsp = start.lookup(pid)
    if tsp is None:
        return 0
    delta = s64(bpf.ktime_get_ns() - tsp.value)
    if delta < 0:
        del start[pid]
        return 0
    hkey = next.tgid if targ_per_process else -1
    histp = hists.get(hkey)
    if histp is None:
        hists[hkey] = Hist()
        histp = hists.get(hkey)
        if histp is None:
            return 0
        histp.comm = next.comm
    if targ_ms:
        delta //= 1_000_000
    else:
        delta //= 1000
    slot = bpf.log2(delta)
    if slot >= MAX_SLOTS:
        slot = MAX_SLOTS - 1
    histp.slots[slot] += 1
    del start[pid]
    return 0
