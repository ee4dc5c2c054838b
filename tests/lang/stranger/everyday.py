"""Small things everybody tries."""

from enum import IntEnum
from typing import Any

from skep import bpf
from skep.bpf import s32, u8, u64

MASK = (1 << 64) - 1


class Kind(IntEnum):
    TCP = 6
    UDP = 17


@bpf.struct
class Point:
    x: s32
    y: s32


@bpf.struct
class Row:
    points: list[Point] = bpf.array(Point, 4)
    names: list[Any] = bpf.array(bpf.char(8), 2)
    kind: Kind
    flags: u8 = bpf.bits(u8, 3)
    rest: u8 = bpf.bits(u8, 5)


rows = bpf.Array(Row, 4)
counts = bpf.Hash(Kind, u64, max_entries=8)
out: u64 = bpf.var(0)
signed: s32 = bpf.var(-5)
pts: list[Point] = bpf.var(bpf.array(Point, 4))


@bpf.xdp
def consts(ctx: bpf.Xdp) -> int:
    global out
    big = (1 << 64) - 1
    out = big
    if out == MASK:
        return 1
    x = bpf.ktime() & ((1 << 64) - 1)
    y = ~0
    z = u64(~0)
    if z != big or y != -1:
        return 2
    return 3 if x == 0 else 4


@bpf.xdp
def arrays(ctx: bpf.Xdp) -> int:
    r = rows[0]
    r.points[1].x = -3
    r.points[2] = Point(1, 2)
    r.points[3] = r.points[2]
    for p in r.points:
        p.y += 1
    total = 0
    for i, p in enumerate(r.points):
        total += p.x * i + p.y
    r.names[0] = "abc"
    r.names[1] = r.names[0]
    r.kind = Kind.UDP
    r.flags = 5
    r.rest = 17
    counts[Kind.TCP] += 1
    if r.names[1] == "abc" and r.kind == Kind.UDP:
        total += 100
    for p in pts:
        p.x += 2
    return total


@bpf.xdp
def text(ctx: bpf.Xdp) -> int:
    buf = bpf.char(32)
    n = bpf.snprintf(buf, f"len={len(ctx.packet())}")
    if buf == "len=64":
        return n
    return 0


def swap(a: int, b: int) -> tuple[int, int]:
    return b, a


@bpf.xdp
def tuples(ctx: bpf.Xdp) -> int:
    a, b = swap(1, 2)
    (c, d), e = (3, 4), 5
    first, *rest = 1, 2, 3
    return a * 10000 + b * 1000 + c * 100 + d * 10 + e + first + len(rest)


def check(obj: Any) -> None:
    pkt = b"\0" * 64
    assert obj.consts.run(pkt).retval == 1
    assert obj.bss.out == (1 << 64) - 1
    v = obj.arrays.run(pkt).retval
    # points: (0,0),( -3,0),(1,2),(1,2) y+1 -> 1,1,3,3
    assert v == 1 + (-3 + 1) + (2 + 3) + (3 + 3) + 100, v
    r = obj.rows[0]
    assert r.names[1] == b"abc" and r.kind == 17 and r.flags == 5 and r.rest == 17, r
    assert [p.x for p in obj.bss.pts] == [2] * 4
    assert obj.text.run(pkt).retval == 7
    assert obj.tuples.run(pkt).retval == 21345 + 3
