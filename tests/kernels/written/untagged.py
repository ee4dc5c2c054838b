"""Kernel functions where the kernel's types mark none as callable."""

from typing import Any

from skep import bpf
from skep.bpf import u32

weight: u32 = bpf.var(0)
pid: u32 = bpf.var(0)
count: u32 = bpf.var(0)
only: u32 = bpf.var(0)


@bpf.syscall
def masks() -> int:
    global weight, pid, count
    m = bpf.cpumask_create()
    if m is None:
        return 1
    bpf.cpumask_set_cpu(0, m)
    weight = bpf.cpumask_weight(m)
    bpf.cpumask_release(m)
    with bpf.releasing(bpf.task_from_pid(only)) as t:
        pid = t.tgid
    with bpf.rcu_read_lock():
        for t in bpf.iter_task(None, bpf.BPF_TASK_ITER_ALL_PROCS):
            if t.tgid == only:
                count += 1
    return 0


def play(obj: Any) -> None:
    import os

    obj.bss.only = os.getpid()
    assert obj.masks.run(b"").retval == 0
    assert (obj.bss.weight, obj.bss.pid, obj.bss.count) == (1, os.getpid(), 1)
