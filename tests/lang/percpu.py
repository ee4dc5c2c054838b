"""Programs with objects that every processor has a copy of: the object of test_percpu."""

from __future__ import annotations

from skep import bpf
from skep.bpf import u32, u64


@bpf.struct
class Counts:
    packets: u64
    bytes: u64
    sizes: list[u32] = bpf.array(u32, 4)
    last: bpf.Text = bpf.char(8)


@bpf.struct
class Slot:
    total: u64
    counts: bpf.PerCpuKptr[Counts]


slots = bpf.Array(Slot, 2)
MOST = 64


@bpf.tc
def count(ctx: bpf.SkBuff) -> int:
    s = slots[0]
    counts = s.counts.get()
    if counts is None:
        counts = bpf.new_percpu(Counts)
        if counts is None:
            return 255
        old = s.counts.swap(counts)
        if old is not None:
            bpf.drop(old)
    mine = bpf.this_cpu_ptr(counts)
    mine.packets += 1
    mine.bytes += ctx.len
    mine.sizes[2] = 7
    mine.last = "hey"
    return mine.packets & 0xFF


@bpf.tc
def total(ctx: bpf.SkBuff) -> int:
    s = slots[0]
    counts = s.counts.get()
    if counts is None:
        return 0
    sum = 0
    for cpu in bpf.range(MOST):
        c = bpf.per_cpu_ptr(counts, cpu)
        if c is None:
            break
        sum += c.bytes
    return sum & 0xFFFF


@bpf.tc
def end(ctx: bpf.SkBuff) -> int:
    old = slots[0].counts.swap(None)
    if old is None:
        return 1
    bpf.drop(old)
    with bpf.releasing(bpf.percpu_obj_new(Counts)):
        pass
    y = bpf.percpu_obj_new(Counts)
    if y is not None:
        bpf.percpu_obj_drop(y)
    return 2


@bpf.syscall
def slow() -> int:
    s = slots[1]
    x = bpf.new_percpu(Counts)
    if x is None:
        return 9
    with bpf.rcu_read_lock():
        old = s.counts.swap(x)
        if old is not None:
            bpf.drop(old)
        mine = bpf.this_cpu_ptr(x)
        mine.packets = 5
        y = s.counts.get()
        if y is None:
            return 8
        return bpf.this_cpu_ptr(y).packets & 0xFF
