# mypy: ignore-errors
"""kfuncs: conntrack, dynptr, task refs, cpumask, rcu."""

from skep import bpf
from skep.bpf import s64, u32, u64
from skep.net import ethhdr

out = bpf.Array(s64, 8)
only: u32 = bpf.const(0)


@bpf.xdp
def dyn(ctx: bpf.Xdp) -> int:
    d = bpf.Dynptr()
    if bpf.dynptr_from_xdp(0, d):
        return bpf.XDP_DROP
    eth = ethhdr()
    if bpf.dynptr_read(eth, d, 0) == 0:
        out[0] = eth.proto
    out[1] = bpf.dynptr_size(d)
    return bpf.XDP_PASS


@bpf.tp_btf("task_newtask")
def refs(task: bpf.task_struct, flags: u64) -> int:
    if bpf.pid() != only:
        return 0
    t = bpf.task_acquire(task)
    if t is None:
        return 0
    out[2] = t.tgid
    bpf.task_release(t)
    p = bpf.task_from_pid(1)
    if p is not None:
        out[3] = p.pid
        bpf.task_release(p)
    return 0


@bpf.tp_btf("sys_enter")
def rcu(regs: bpf.pt_regs, nr: s64) -> int:
    if bpf.pid() != only:
        return 0
    bpf.rcu_read_lock()
    task = bpf.get_current_task_btf()
    parent = task.real_parent
    out[4] = parent.tgid
    bpf.rcu_read_unlock()
    return 0


VARIABLES = {"only": __import__("os").getpid()}


def check(obj):
    obj.dyn.run(bytes(12) + b"\x08\x00" + bytes(50))
    assert obj.out[0] == 0x800 and obj.out[1] == 64, (obj.out[0], obj.out[1])
