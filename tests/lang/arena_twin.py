# mypy: ignore-errors
"""One function over the value of a map and over an arena: the bytes after it must be the same."""

from skep import bpf
from skep.bpf import be16, be32, s8, s64, u8, u16, u32, u64

arena = bpf.Arena(pages=64)


@bpf.struct(packed=True)
class Packed:
    a: u8
    b: u32
    c: be16


@bpf.struct
class Inner:
    x: u16
    y: bool
    name: bpf.Text = bpf.char(12)


@bpf.union
class Word:
    w: u64
    h: u32


@bpf.struct
class Twin:
    a: u8
    b: s8
    c: u16
    d: be32
    e: s64
    lo: u8 = bpf.bits(u8, 3)
    hi: u8 = bpf.bits(u8, 5)
    p: Packed
    inner: Inner
    ins: list[Inner] = bpf.array(Inner, 3)
    u: Word
    mac: bpf.Raw = bpf.raw(6)
    big: list[u64] = bpf.array(u64, 200)
    text: bpf.Text = bpf.char(300)


values = bpf.Array(Twin, 2)
at: bpf.ArenaPtr[Twin] = bpf.var(None)
place: u64 = bpf.var(3)


def body(t, o) -> u64:
    t.a += 300
    t.b -= 5
    t.c = t.a * 7
    t.d = 0x01020304
    t.d += 1
    t.e -= 1 << 40
    t.lo = 13
    t.hi += 17
    t.p.a = 9
    t.p.b += 70000
    t.p.c = t.p.b
    t.inner.x = t.p.c
    t.inner.y = t.e < 0
    t.inner.name = "hello"
    t.ins[1] = t.inner
    t.ins[2].name = t.ins[1].name
    t.ins[2].x ^= 0x55
    for i, x in enumerate(t.ins):
        x.x += i
    t.u.w = 0x1122334455667788
    t.u.h += 1
    t.mac = b"\1\2\3\4\5\6"
    t.mac[2:4] = t.mac[0:2]
    for i in range(200):
        t.big[i] += i * t.a
    t.big[place & 63] |= 1 << 50
    t.big[place & 63] &= 0x00FFFFFFFFFFFFFF
    t.text = "some longer text"
    t.text[3] = 0x41
    o.big = t.big
    o.text = t.text
    o.inner = bpf.zero(Inner)
    o.u.w = len(t.text) + t.text[4]
    if t.text == "somAlonger":
        o.a = 1
    if t.text.startswith("somA"):
        o.a = 2
    if o.text == t.text:
        o.b = -3
    if t.inner == t.ins[1]:
        o.c = 4
    x = t.inner.name
    t.inner.name = "gone"
    if x == "hello":
        o.c += 8
    t.inner, o.ins[0] = o.ins[1], t.ins[2]
    return t.e + (o.p.a if place else t.p.a)


@bpf.syscall
def in_map() -> int:
    return body(values[0], values[1]) & 0xFFFF


@bpf.syscall
def make() -> int:
    global at
    at = arena.alloc(Twin, 2)
    return 0 if at is not None else 1


@bpf.syscall
def in_arena() -> int:
    p = at
    if p is None:
        return 1
    return body(p[0], p[1]) & 0xFFFF
