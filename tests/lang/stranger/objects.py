"""Timers, kptrs, trees, cpumasks, dynptrs, workqueues: programs a kernel hacker ports from selftests."""

from typing import Any

from skep import bpf
from skep.bpf import u32, u64


class Elem(bpf.Struct):
    t: bpf.Timer
    count: u64


timers = bpf.Array(Elem, 1)
CLOCK_MONOTONIC = 1


def fired(map: Any, key: u32, value: Elem) -> int:
    value.count += 1
    if value.count < 5:
        bpf.timer_start(value.t, 1_000_000)
    return 0


@bpf.syscall
def start() -> int:
    e = timers.lookup(0)
    if e is None:
        return 1
    if bpf.timer_init(e.t, timers, CLOCK_MONOTONIC) != 0:
        return 2
    bpf.timer_set_callback(e.t, fired)
    return bpf.timer_start(e.t, 0)


class Node(bpf.Struct):
    key: u64
    value: u64
    rb: bpf.RbNode


class Index(bpf.Struct):
    lock: bpf.SpinLock
    root: bpf.RbRoot[Node]


index: Index = bpf.var()


def before(a: Node, b: Node) -> bool:
    return a.key < b.key


@bpf.tc
def insert(skb: bpf.SkBuff) -> int:
    n = bpf.new(Node, key=skb.len, value=bpf.ktime())
    if n is None:
        return bpf.TC_ACT_OK
    with index.lock:
        index.root.add(n, before)
    return bpf.TC_ACT_OK


@bpf.tc
def smallest(skb: bpf.SkBuff) -> int:
    key = 0
    with index.lock:
        n = index.root.first()
        if n is not None:
            key = n.key
    skb.mark = u32(key)
    return bpf.TC_ACT_OK


@bpf.tc
def pop(skb: bpf.SkBuff) -> int:
    n = None
    with index.lock:
        first = index.root.first()
        if first is not None:
            n = index.root.remove(first)
    if n is not None:
        skb.mark = u32(n.key)
        bpf.drop(n)
    return bpf.TC_ACT_OK


class Masks(bpf.Struct):
    mask: bpf.Kptr[bpf.bpf_cpumask]


masks = bpf.Array(Masks, 1)
weight: u32 = bpf.var(0)


@bpf.syscall
def store_mask() -> int:
    global weight
    m = bpf.cpumask_create()
    if m is None:
        return 1
    bpf.cpumask_set_cpu(0, m)
    if bpf.cpumask_test_cpu(0, m):
        weight = bpf.cpumask_weight(m)
    slot = masks.lookup(0)
    if slot is None:
        bpf.cpumask_release(m)
        return 2
    old = slot.mask.swap(m)
    if old is not None:
        bpf.cpumask_release(old)
    return 0


class Msg(bpf.Struct):
    kind: u32
    n: u32
    body: bpf.Raw = bpf.raw(32)


ring = bpf.RingBuf(Msg, size=4096)


@bpf.syscall
def dyn() -> int:
    d = bpf.Dynptr()
    if bpf.ringbuf_reserve_dynptr(ring, 40, 0, d) < 0:
        bpf.ringbuf_discard_dynptr(d)
        return 1
    m = Msg(kind=7, n=3)
    bpf.dynptr_write(d, 0, m, 0, size=8)
    p = bpf.dynptr_data(d, 8, 4)
    if p is not None:
        p[0] = 65
    bpf.ringbuf_submit_dynptr(d)
    return 0


def check(obj: Any) -> None:
    import time

    assert obj.start.run(b"").retval == 0
    end = time.monotonic() + 20
    while obj.timers[0].count < 5 and time.monotonic() < end:
        time.sleep(0.01)
    assert obj.timers[0].count == 5

    def pkt(n: int) -> bytes:
        return b"\0" * 12 + b"\x08\0" + bytes(n)

    for n in (100, 50, 70):
        obj.insert.run(pkt(n))
    got = []
    for _ in range(4):
        r = obj.pop.run(pkt(20), ctx=bytes(192))
        got.append(int.from_bytes(r.ctx[8:12], "little"))
    assert got == [64, 84, 114, 0], got
    assert obj.store_mask.run(b"").retval == 0
    assert obj.bss.weight == 1
    assert obj.dyn.run(b"").retval == 0
