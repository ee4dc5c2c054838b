"""Objects that programs allocate, alone, in maps, lists and trees: the object of test_owned."""

from __future__ import annotations

from enum import IntEnum

from skep import bpf
from skep.bpf import be16, be32, s32, s64, u8, u16, u32, u64


@bpf.struct
class Inner:
    a: u16
    b: u8


@bpf.struct
class Plain:
    key: u64
    small: u8
    half: u16
    word: u32
    next_word: u32
    numbers: list[u32] = bpf.array(u32, 3)
    name: bpf.Text = bpf.char(12)
    inner: Inner


@bpf.struct
class Kept:
    value: u64
    plain: bpf.Kptr[Plain]


kept = bpf.Array(Kept, 2)
seen: u64 = bpf.var(0)
missed: u64 = bpf.var(0)
zeros: u64 = bpf.var(0)


@bpf.tc
def alone(ctx: bpf.SkBuff) -> int:
    global seen, zeros
    x = bpf.new(Plain, key=7, small=3)
    if x is None:
        return 1
    zeros = x.half + x.word + x.next_word + x.numbers[0] + x.numbers[2] + x.inner.a + x.inner.b
    x.half = 500
    x.word = 1
    x.next_word = 2
    x.numbers[1] = 9
    x.inner.b = 4
    x.name = "hello"
    x.key += 1
    if x.name == "hello":
        seen = x.key * 1000000 + x.half * 1000 + x.word + x.next_word + x.numbers[1] + x.inner.b + x.small
    bpf.drop(x)
    return 2


@bpf.tc
def by_with(ctx: bpf.SkBuff) -> int:
    with bpf.releasing(bpf.new(Plain, key=41)) as x:
        x.key += 1
        return x.key
    return 0


@bpf.tc
def keep(ctx: bpf.SkBuff) -> int:
    slot = kept[0]
    x = bpf.new(Plain, key=ctx.len)
    if x is None:
        return 0
    old = slot.plain.swap(x)
    if old is not None:
        found = old.key
        bpf.drop(old)
        return found
    return 1


@bpf.tc
def take(ctx: bpf.SkBuff) -> int:
    old = kept[0].plain.swap(None)
    if old is None:
        return 0
    found = old.key
    bpf.drop(old)
    return found


@bpf.struct
class Item:
    key: s64
    node: bpf.ListNode
    value: u32


@bpf.struct
class Queue:
    count: u64
    lock: bpf.SpinLock
    items: bpf.ListHead[Item]


queues = bpf.Array(Queue, 2)


def put(which: u32, key: s64, front: bool) -> bool:
    q = queues[which]
    x = bpf.new(Item, key=key)
    if x is None:
        return False
    x.value = 100
    with q.lock:
        if front:
            q.items.push_front(x)
        else:
            q.items.push_back(x)
    return True


@bpf.tc
def fill(ctx: bpf.SkBuff) -> int:
    put(0, 2, False)
    put(0, 3, False)
    put(0, 1, True)
    q = queues[0]
    x = bpf.new(Item, key=4)
    if x is None:
        return 1
    with q.lock:
        went = q.items.push_back(x)
        x.value = 5
        q.count += 1 if went else 0
        q.count += x.value
    return 0


@bpf.tc
def empty(ctx: bpf.SkBuff) -> int:
    """The keys in the order of the list, as digits; the last one first."""
    total = 0
    q = queues[0]
    with q.lock:
        last = q.items.pop_back()
    if last is not None:
        total = last.key
        bpf.drop(last)
    for _ in range(5):
        with q.lock:
            x = q.items.pop_front()
        if x is None:
            break
        total = (total * 10 + x.key) & 0xFFFFFF
        bpf.drop(x)
    return total


@bpf.struct
class Node:
    refs: bpf.Refcount
    links: bpf.ListNode
    by_key: bpf.RbNode
    key: u64


@bpf.struct
class Tree:
    lock: bpf.SpinLock
    nodes: bpf.RbRoot[Node]
    order: bpf.ListHead[Node] = bpf.ListHead(Node, "links")


trees = bpf.Array(Tree, 1)


def less(a: Node, b: Node) -> bool:
    return a.key < b.key


@bpf.tc
def grow(ctx: bpf.SkBuff) -> int:
    tree = trees[0]
    added = 0
    for i in range(6):
        x = bpf.new(Node, key=(i * 5 + 2) % 7)
        if x is None:
            return -1
        both = bpf.refcount_acquire(x)
        if both is None:
            bpf.drop(x)
            return -1
        with tree.lock:
            went = tree.nodes.add(x, less)
            tree.order.push_back(both)
        added += 1 if went else 0
    return added


@bpf.tc
def shrink(ctx: bpf.SkBuff) -> int:
    """The keys in order, as digits."""
    tree = trees[0]
    total = 0
    for _ in range(7):
        x = None
        with tree.lock:
            least = tree.nodes.first()
            if least is not None:
                x = tree.nodes.remove(least)
        if x is None:
            break
        total = (total * 10 + x.key) & 0xFFFFFFF
        bpf.drop(x)
    return total


@bpf.tc
def drain(ctx: bpf.SkBuff) -> int:
    tree = trees[0]
    total = 0
    for _ in range(7):
        with tree.lock:
            x = tree.order.pop_front()
        if x is None:
            break
        total = (total * 10 + x.key) & 0xFFFFFFF
        bpf.drop(x)
    return total


@bpf.tc
def peek(ctx: bpf.SkBuff) -> int:
    tree = trees[0]
    found: u64 = 0
    with tree.lock:
        top = tree.nodes.root()
        if top is not None:
            found = top.key * 100
            left = tree.nodes.left(top)
            right = tree.nodes.right(top)
            if left is not None:
                found += left.key * 10
            if right is not None:
                found += right.key
        back = tree.order.back()
        if back is not None:
            found += back.key * 1000
    return found


@bpf.struct
class Counter:
    lock: bpf.ResSpinLock
    count: u32
    items: bpf.ListHead[Item]


counters = bpf.Array(Counter, 1)


@bpf.tc
def guarded(ctx: bpf.SkBuff) -> int:
    x = bpf.new(Item, key=11)
    if x is None:
        return -1
    found: u64 = 0
    c = counters[0]
    with c.lock:
        c.count += 1
        found = c.count
    bpf.drop(x)
    return found


@bpf.tc
def by_name(ctx: bpf.SkBuff) -> int:
    """What C calls these functions works as well."""
    q = queues[1]
    x = bpf.obj_new(Item)
    if x is None:
        return -1
    x.key = 21
    y = bpf.obj_new(Item)
    if y is None:
        bpf.obj_drop(x)
        return -1
    bpf.obj_drop(y)
    with q.lock:
        bpf.list_push_front(q.items, x)
        x = bpf.list_pop_back(q.items)
    if x is None:
        return -2
    found = x.key
    bpf.obj_drop(x)
    return found


@bpf.tc
def either(ctx: bpf.SkBuff) -> int:
    """Out of a list, or new; and into the list again, or away."""
    q = queues[1]
    with q.lock:
        x = q.items.pop_front()
    if x is None:
        x = bpf.new(Item, key=0)
    if x is None:
        return -1
    x.key += 1
    found = x.key
    if found < 3:
        with q.lock:
            q.items.push_front(x)
    else:
        bpf.drop(x)
    return found


#: a global variable: its own map, which no process has mapped
own: Queue = bpf.var()


@bpf.tc
def in_global(ctx: bpf.SkBuff) -> int:
    x = bpf.new(Item, key=ctx.len)
    if x is None:
        return -1
    with own.lock:
        own.count += 1
        own.items.push_back(x)
        y = None
        if own.count > 2:
            y = own.items.pop_front()
    if y is None:
        return 0
    found = y.key
    bpf.drop(y)
    return found


@bpf.tc
def ways_out(ctx: bpf.SkBuff) -> int:
    """What is held is given back after the lock is released, on every way out."""
    q = queues[1]
    with bpf.releasing(bpf.new(Item, key=1)) as x:
        with q.lock:
            if ctx.len == 60:
                return 5
            q.count += 1
            if ctx.len == 61:
                return x.key
        for i in range(4):
            with q.lock:
                if i == 2:
                    break
                q.count += 1
        return q.count & 0xFF
    return 0


class Kind(IntEnum):
    A = 1
    B = 2


@bpf.struct
class Odd:
    a: u8 = bpf.bits(u8, 6)
    b: u8 = bpf.bits(u8, 8)
    port: be16
    addr: be32
    kind: Kind
    flag: bool
    cells: list[u64] = bpf.array(u64, 4)
    mac: bpf.Raw = bpf.raw(6)
    comm: bpf.Text = bpf.char(16)
    node: bpf.RbNode
    delta: s32


@bpf.struct
class Leaf:
    v: u64
    n: bpf.ListNode


@bpf.struct
class Branch:
    lock: bpf.SpinLock
    leaves: bpf.ListHead[Leaf]
    by: bpf.RbNode
    key: u64
    one: bpf.Kptr[Leaf]


@bpf.struct
class Top:
    lock: bpf.SpinLock
    tree: bpf.RbRoot[Branch]
    count: u64


@bpf.struct
class Out:
    name: bpf.Text = bpf.char(16)
    v: u64


tops = bpf.Hash(u32, Top, max_entries=10)
outs = bpf.RingBuf(Out, size=4096)


def before(a: Branch, b: Branch) -> bool:
    return a.key < b.key


def make(k: int, v: int) -> Leaf | None:
    x = bpf.new(Leaf)
    if x is not None:
        x.v = k * v
    return x


@bpf.tc
def odd(ctx: bpf.SkBuff) -> int:
    x = bpf.new(Odd, a=5, port=80, kind=Kind.B)
    if x is None:
        return 0
    x.b = 17
    x.flag = True
    x.addr = 0x0A000001
    for i in bpf.unroll(range(4)):
        x.cells[i] = i * 2
    x.mac = b"\x01\x02\x03\x04\x05\x06"
    x.comm = bpf.comm()
    x.delta = -5
    x.delta -= 2
    total = 0
    for i in bpf.unroll(range(4)):
        total += x.cells[i]
    if x.a != 5 or x.b != 17 or x.port != 80 or x.kind != Kind.B or not x.flag or x.delta != -7:
        bpf.drop(x)
        return 1
    if x.mac[3] != 4 or len(x.comm) == 0:
        bpf.drop(x)
        return 2
    with outs.reserve() as e:
        e.name = x.comm
        e.v = x.addr
    bpf.drop(x)
    return total & 0xFF


@bpf.tc
def nest(ctx: bpf.SkBuff) -> int:
    tops.insert(1, bpf.zero(Top))
    t = tops.get(1)
    if t is None:
        return 1
    b = bpf.new(Branch, key=9)
    if b is None:
        return 2
    leaf = make(3, 4)
    if leaf is None:
        bpf.drop(b)
        return 3
    with b.lock:
        b.leaves.push_back(leaf)
    got = 0
    with b.lock:
        leaf = b.leaves.pop_front()
    if leaf is not None:
        got = leaf.v & 0xFF
        old = b.one.swap(leaf)
        if old is not None:
            bpf.drop(old)
    with t.lock:
        t.tree.add(b, before)
        t.count += 1
    return got


@bpf.tc
def unnest(ctx: bpf.SkBuff) -> int:
    t = tops.get(1)
    if t is None:
        return 1
    x = None
    found = 0
    with t.lock:
        f = t.tree.first()
        if f is not None:
            found = f.key & 0xFF
            f.key += 1
            x = t.tree.remove(f)
    if x is not None:
        leaf = x.one.swap(None)
        if leaf is not None:
            found += leaf.v & 0xFF
            bpf.drop(leaf)
        bpf.drop(x)
    return found
