# mypy: ignore-errors
"""Local storage of tasks, inodes, sockets, cgroups."""

from skep import bpf
from skep.bpf import s64, u32, u64


@bpf.struct
class Stat:
    count: u64
    first: u64


tasks = bpf.TaskStorage(Stat)
inodes = bpf.InodeStorage(u64)
sks = bpf.SkStorage(Stat)
cgs = bpf.CgrpStorage(u64)
only: u32 = bpf.const(0)
total: u64 = bpf.var(0)
incg: s64 = bpf.var(0)
cgroups = bpf.CgroupArray(4)


@bpf.tp_btf("sys_enter")
def enter(regs: bpf.pt_regs, nr: s64) -> int:
    global total
    task = bpf.get_current_task_btf()
    if task.tgid != only:
        return 0
    s = tasks.create(task)
    if s is None:
        return 0
    if s.count == 0:
        s.first = bpf.ktime_get_ns()
    s.count += 1
    if nr == 39:
        total += 1
    cg = cgs.create(task.cgroups.dfl_cgrp)
    if cg is not None:
        cg.value += 1
    return 0


@bpf.cgroup_skb_egress
def egress(skb: bpf.SkBuff) -> int:
    sk = skb.sk
    if sk is None:
        return 1
    full = bpf.sk_fullsock(sk)
    if not full:
        return 1
    s = sks.create(full)
    if s:
        s.count += skb.len
    return 1


@bpf.lsm("file_open")
def opened(file: bpf.file) -> int:
    n = inodes.create(file.f_inode)
    if n is not None:
        n.value += 1
    return 0


VARIABLES = {"only": __import__("os").getpid()}


def check(obj):
    import os

    with obj.enter.attach():
        for _ in range(100):
            os.getppid()
            os.getpid()
    assert obj.bss.total >= 100, obj.bss.total
