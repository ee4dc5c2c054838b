"""Bit fields in network order, of odd widths too: as the program sees them, in its maps as Python does."""

from typing import Any

from skep import bpf
from skep.bpf import be16, be32, be64, s32, u8, u16, u32


class Header(bpf.Struct):
    a: be16 = bpf.bits(be16, 3)
    b: be16 = bpf.bits(be16, 13)
    c: be32 = bpf.bits(be32, 4)
    d: be32 = bpf.bits(be32, 20)
    e: be32 = bpf.bits(be32, 8)
    f: u32 = bpf.bits(u32, 5)
    g: s32 = bpf.bits(s32, 7)
    h: be64 = bpf.bits(be64, 33)
    i: be64 = bpf.bits(be64, 31)


class Tight(bpf.Struct, packed=True):
    kind: u8
    version: be16 = bpf.bits(be16, 4)
    class_: be16 = bpf.bits(be16, 8)
    flow: be32 = bpf.bits(be32, 20)
    rest: u16


table = bpf.Hash(u32, Header)
tight = bpf.Hash(u32, Tight)
same: Header = bpf.var()


@bpf.xdp
def main(ctx: bpf.Xdp) -> int:
    table[1] = Header(a=5, b=0x1234, c=9, d=0x54321, e=0xAB, f=17, g=-3, h=0x123456789, i=0x7654321)
    tight[1] = Tight(kind=1, version=6, class_=0xA5, flow=0xBCDEF, rest=0x77)
    h = table.get(2)
    t = tight.get(2)
    if h is None or t is None:
        return 0
    good = (h.a, h.b, h.c, h.d, h.e, h.f, h.g) == (2, 0x1FFE, 7, 0x80001, 0x81, 3, -60)
    good = good and (h.h, h.i) == (0x1FFFFFFFE, 5) and (t.version, t.class_, t.flow, t.rest) == (4, 1, 2, 3)
    return int(good)


def check(obj: Any) -> None:
    assert obj.main.run(bytes(64)).retval == 0
    h, t = obj.table[1], obj.tight[1]
    assert (h.a, h.b, h.c, h.d, h.e, h.f, h.g) == (5, 0x1234, 9, 0x54321, 0xAB, 17, -3), h
    assert (h.h, h.i) == (0x123456789, 0x7654321), h
    assert (t.kind, t.version, t.class_, t.flow, t.rest) == (1, 6, 0xA5, 0xBCDEF, 0x77), t
    obj.table[2] = {
        "a": 2,
        "b": 0x1FFE,
        "c": 7,
        "d": 0x80001,
        "e": 0x81,
        "f": 3,
        "g": -60,
        "h": 0x1FFFFFFFE,
        "i": 5,
    }
    obj.tight[2] = t._replace(version=4, class_=1, flow=2, rest=3)
    assert obj.main.run(bytes(64)).retval == 1
