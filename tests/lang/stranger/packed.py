"""Arrays, structs and bit fields inside packed structs, on the stack and in maps."""

from typing import Any

from skep import bpf
from skep.bpf import be16, u8, u16, u32, u64


@bpf.struct
class Inner:
    a: u32
    b: be16
    c: u8 = bpf.bits(u8, 4)
    d: u8 = bpf.bits(u8, 4)
    e: u64


@bpf.struct(packed=True)
class Event:
    kind: u8
    inner: Inner
    cells: list[u64] = bpf.array(u64, 3)
    parts: list[Inner] = bpf.array(Inner, 2)


@bpf.struct
class Addr:
    family: u16
    ip6: bpf.Raw = bpf.raw(16)


table = bpf.Hash(u32, Event, max_entries=8)
addrs = bpf.Hash(u32, Addr, max_entries=8)


@bpf.xdp
def stack(ctx: bpf.Xdp) -> int:
    e = bpf.zero(Event, kind=1)
    e.inner.a = 2
    e.inner.b = 3
    e.inner.c = 4
    e.inner.d = 5
    e.inner.e = 6
    for i in range(3):
        e.cells[i] = i + 7
    e.parts[1] = e.inner
    e.parts[0] = bpf.zero(Inner, a=10, e=11)
    e.parts[0].b += 12
    part = e.parts[1] if ctx.rx_queue_index == 0 else e.inner
    part.e += 100
    copy = Inner(1, 1, 1, 1, 1)
    e.inner = copy
    e.cells[0] += 1
    table[1] = e
    got = table.get(1)
    if got is None:
        return 0
    got.cells[2] += 50
    got.parts[1].a += 1
    total = 0
    for x in got.cells:
        total += x
    return total


@bpf.cgroup_connect6
def connect(ctx: bpf.SockAddr) -> int:
    a = bpf.zero(Addr, family=ctx.family)
    a.ip6 = ctx.user_ip6
    addrs[1] = a
    return 1


def check(obj: Any) -> None:
    assert obj.stack.run(bytes(64)).retval == 8 + 8 + 9 + 50
    e = obj.table[1]
    assert list(e.cells) == [8, 8, 59], e
    assert (e.inner.a, e.inner.b, e.inner.c, e.inner.d, e.inner.e) == (1, 1, 1, 1, 1)
    p = e.parts[1]
    assert (p.a, p.b, p.c, p.d, p.e) == (3, 3, 4, 5, 106), p
    p = e.parts[0]
    assert (p.a, p.b, p.e) == (10, 12, 11), p
