"""Task-local storage instead of a hash: runqlat per cgroup; and preempt counters per CPU."""

from skep import bpf
from skep.bpf import u32, u64

TASK_RUNNING = 0


@bpf.struct
class Run:
    enqueued: u64
    waited: u64
    switches: u32


runs = bpf.TaskStorage(Run)
per_cgroup = bpf.CgrpStorage(u64)
hist = bpf.PerCpuArray(u32, 64)
only: u32 = bpf.const(0)


@bpf.tp_btf("sched_wakeup")
def wakeup(p: bpf.task_struct) -> int:
    if p.tgid != only:
        return 0
    r = runs.create(p)
    if r is not None:
        r.enqueued = bpf.ktime()
    return 0


@bpf.tp_btf("sched_switch")
def switch(preempt: bool, prev: bpf.task_struct, next: bpf.task_struct) -> int:
    if prev.tgid == only and prev.__state == TASK_RUNNING:
        r = runs.create(prev)
        if r:
            r.enqueued = bpf.ktime()
    if next.tgid != only:
        return 0
    r = runs.get(next)
    if r is None or r.enqueued == 0:
        return 0
    delta = bpf.ktime() - r.enqueued
    if delta > 0:
        r.waited += delta
        r.switches += 1
        hist[bpf.log2(delta // 1000)] += 1
        with bpf.rcu_read_lock():
            g = per_cgroup.create(next.cgroups.dfl_cgrp)
            if g is not None:
                g.value += delta
    r.enqueued = 0
    return 0
