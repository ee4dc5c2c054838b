# mypy: ignore-errors
"""Members that are tested and then used: as indices, as counts, for None."""

from skep import bpf
from skep.bpf import u8, u32, u64


@bpf.struct
class Slot:
    key: u32
    hits: u64


@bpf.struct
class Table:
    n: u32
    cap: u32
    slots: list[Slot] = bpf.array(Slot, 16)


tables = bpf.Array(Table, 4)


@bpf.xdp
def fill(ctx: bpf.Xdp) -> int:
    t = tables[0]
    for k in (5, 6, 7):
        if t.n >= 16:
            continue
        t.slots[t.n].key = k
        t.slots[t.n].hits += 1
        t.n += 1
    if t.n < 10:
        for i in range(t.n):
            t.cap += t.slots[i].key
    u = tables[1]
    if 0 < u.n <= 8:
        u.cap = 1 << u.n
        u.slots[u.n - 1].key = 3
    return 2


@bpf.struct
class Counts:
    n: u32
    xs: list[u8] = bpf.array(u8, 8)


counts = bpf.Array(Counts, 1)


@bpf.iter("task")
def tasks(ctx: bpf.IterTask) -> int:
    if ctx.task is None:
        return 0
    bpf.seq_printf(ctx.meta.seq, f"{ctx.task.pid}\n")
    return 0


@bpf.tc
def port(skb: bpf.SkBuff) -> int:
    if skb.sk is None:
        return 0
    if skb.sk.family == 2:
        return skb.sk.src_port & 1
    return 0


@bpf.tc
def mark(skb: bpf.SkBuff) -> int:
    t = counts[0]
    if skb.mark < 8 and t.n < 8:
        t.xs[skb.mark] = 5
        t.xs[t.n] = 4
        skb.mark = t.n
    return 0


stack: list[u32] = bpf.var(bpf.array(u32, 16))
used: u32 = bpf.var(0)
over: u32 = bpf.var(0)
small = bpf.Hash(u32, Slot, max_entries=8)


def clear(table: bpf.Hash[int, Slot], key: u32, value: Slot) -> bool:
    value.hits = key + value.key
    return False


@bpf.xdp
def push(ctx: bpf.Xdp) -> int:
    global used, over
    for k in (5, 6, 7):
        if used >= 16:
            over += 1
            continue
        stack[used] = k
        used += 1
    small[3] = Slot(key=4)
    small.for_each(clear, None)
    return 2


def check(obj):
    for _ in range(6):
        assert obj.push.run(bytes(64)).retval == 2
    assert list(obj.bss.stack) == ([5, 6, 7] * 6)[:16] and obj.bss.over == 2 and obj.bss.used == 16
    assert obj.small[3].hits == 7
    obj.tables[1] = {"n": 3}
    for _ in range(2):
        assert obj.fill.run(bytes(64)).retval == 2
    t = obj.tables[0]
    assert t.n == 6 and [s.key for s in t.slots[:7]] == [5, 6, 7, 5, 6, 7, 0] and t.cap == 18 + 36
    assert obj.tables[1].cap == 8 and obj.tables[1].slots[2].key == 3
    obj.counts[0] = {"n": 2}
    assert obj.mark.run(bytes(64)).retval == 0
    assert list(obj.counts[0].xs) == [5, 0, 4, 0, 0, 0, 0, 0]
