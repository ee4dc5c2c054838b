"""Programs with resilient locks, taken by with and by hand: the object of test_locks."""

from __future__ import annotations

from skep import bpf
from skep.bpf import u64


@bpf.struct
class Item:
    key: u64
    node: bpf.ListNode


@bpf.struct
class Guard:
    lock: bpf.ResSpinLock
    count: u64
    items: bpf.ListHead[Item]


guards = bpf.Array(Guard, 4)
lock_a: Guard = bpf.var()
bare: bpf.ResSpinLock = bpf.var()


@bpf.tc
def by_irq(ctx: bpf.SkBuff) -> int:
    g = guards[0]
    found = 0
    with bpf.res_spin_lock_irqsave(g.lock):
        g.count += 1
        found = g.count & 0xFF
    return found


@bpf.tc
def by_hand(ctx: bpf.SkBuff) -> int:
    g = guards[1]
    r = bpf.res_spin_lock(g.lock)
    if r:
        return r
    g.count += 1
    bpf.res_spin_unlock(g.lock)
    return g.count & 0xFF


@bpf.tc
def by_hand_irq(ctx: bpf.SkBuff) -> int:
    g = guards[1]
    if bpf.res_spin_lock_irqsave(g.lock) == 0:
        g.count += 1
        bpf.res_spin_unlock_irqrestore(g.lock)
        return 3
    return 1


@bpf.tc
def same(ctx: bpf.SkBuff) -> int:
    """Two lookups of one value: taken twice, which the lock notices."""
    a, b = guards[2], guards[2]
    if bpf.res_spin_lock(a.lock) != 0:
        return 100
    r = bpf.res_spin_lock(b.lock)
    if r == 0:
        bpf.res_spin_unlock(b.lock)
        bpf.res_spin_unlock(a.lock)
        return 101
    bpf.res_spin_unlock(a.lock)
    return -r


@bpf.tc
def nested(ctx: bpf.SkBuff) -> int:
    a = guards[2]
    total = 0
    with a.lock, bpf.res_spin_lock(lock_a.lock):
        lock_a.count += 1
        a.count += 1
        with bpf.res_spin_lock_irqsave(bare):
            total = 7
        with bare:
            total += 1
    return total


@bpf.tc
def listed(ctx: bpf.SkBuff) -> int:
    g = guards[3]
    x = bpf.new(Item, key=9)
    if x is None:
        return 0
    y = None
    with bpf.res_spin_lock_irqsave(g.lock):
        g.items.push_back(x)
        x = None
        y = g.items.pop_front()
    if x is not None:
        bpf.drop(x)
    if y is None:
        return 1
    k = y.key & 0xFF
    bpf.drop(y)
    return k


@bpf.tc
def listed_by_hand(ctx: bpf.SkBuff) -> int:
    g = guards[3]
    x = bpf.new(Item, key=19)
    if x is None:
        return 0
    if bpf.res_spin_lock(g.lock) < 0:
        bpf.drop(x)
        return 1
    g.items.push_back(x)
    y = g.items.pop_front()
    bpf.res_spin_unlock(g.lock)
    if y is None:
        return 1
    k = y.key & 0xFF
    bpf.drop(y)
    return k
