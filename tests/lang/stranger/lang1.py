# mypy: ignore-errors
from enum import IntEnum, IntFlag

from skep import bpf
from skep.bpf import be16, be32, be64, s8, s16, s32, s64, u8, u16, u32, u64


class State(IntEnum):
    NEW = 0
    OPEN = 1
    CLOSED = 2


@bpf.enum(u8)
class Small(IntEnum):
    A = 1
    B = 200


class Flags(IntFlag):
    R = 1
    W = 2


@bpf.struct
class Point:
    x: s32
    y: s32


@bpf.struct
class Line:
    a: Point
    b: Point
    pts: list[Point] = bpf.array(Point, 3)
    grid: list[list[u16]] = bpf.array(bpf.array(u16, 2), 3)


@bpf.union
class Addr:
    v4: be32
    v6: bytes = bpf.raw(16)
    words: list[be32] = bpf.array(be32, 4)


@bpf.struct(packed=True)
class Wire:
    kind: u8
    len: be16
    id: be64
    addr: Addr
    flag: bool
    state: Small


@bpf.struct
class Bits:
    a: u32 = bpf.bits(u32, 3)
    b: u32 = bpf.bits(u32, 29)
    c: u64 = bpf.bits(u64, 40)
    d: s16 = bpf.bits(s16, 4)
    e: u8


out = bpf.Array(s64, 128)
wires = bpf.Array(Wire, 1)
lines = bpf.Array(Line, 2)
bits = bpf.Array(Bits, 1)
counter: u64 = bpf.var(0)
table: list[u32] = bpf.var(bpf.array(u32, 16))
primes: list[u16] = bpf.const([2, 3, 5, 7, 11, 13, 0, 0])
name: bytes = bpf.var(bpf.char(16))
last: Point = bpf.var(Point(1, -2))
big: s64 = bpf.var(-5)
flag: bool = bpf.var(True)
limit: u32 = bpf.const(7)


def classify(n: int) -> State:
    if n < 10:
        return State.NEW
    elif n < 100:
        return State.OPEN
    return State.CLOSED


def divide(a: int, b: int) -> tuple[int, int]:
    if b == 0:
        return 0, 0
    return divmod(a, b)


@bpf.subprog
def move(p: Point, dx: s32) -> s32:
    p.x += dx
    return p.x


@bpf.subprog
def fib(n: u32) -> u64:
    a, b = 0, 1
    for _ in range(min(n, 90)):
        a, b = b, a + b
    return a


@bpf.xdp
def main(ctx: bpf.Xdp) -> int:
    global counter, big, flag, last, name
    out[0] = classify(5) * 100 + classify(50) * 10 + classify(500)
    q, r = divide(17, 5)
    out[1] = q * 10 + r
    p = Point(3, 4)
    out[2] = move(p, 10)
    out[3] = p.x
    out[4] = fib(50)
    ln = lines[0]
    ln.a = Point(1, 2)
    ln.b.x = -7
    ln.pts[2] = ln.a
    ln.pts[2].y += 40
    ln.grid[1][1] = 9
    ln.grid[2][0] += 3
    out[5] = ln.pts[2].y
    out[6] = ln.b.x
    out[7] = ln.grid[1][1] * 10 + ln.grid[2][0]
    w = wires[0]
    w.kind = 300
    w.len = 0x1234
    w.id = 0x0102030405060708
    w.addr.v4 = 0x7F000001
    w.addr.words[3] = 5
    w.flag = limit > 3
    w.state = Small.B
    out[8] = w.kind
    out[9] = w.len
    out[10] = w.id
    out[11] = w.addr.v6[0] * 1000 + w.addr.v6[3]
    out[12] = w.addr.v6[15]
    out[13] = w.flag
    out[14] = w.state == Small.B
    bf = bits[0]
    bf.a = 9
    bf.b = 0x1FFFFFFF
    bf.c = (1 << 40) - 2
    bf.d = -3
    bf.e = 255
    bf.b += 1
    out[15] = bf.a
    out[16] = bf.b
    out[17] = bf.c
    out[18] = bf.d
    counter += 5
    counter = counter * 3
    big -= 10
    flag = not flag
    last.x += 100
    name = "hello"
    out[19] = counter
    out[20] = big
    out[21] = 1 if flag else 0
    out[22] = last.x + last.y
    total = 0
    for v in primes:
        if v == 0:
            break
        total += v
    out[23] = total
    for i, v in enumerate(primes):
        table[i] = v * v
    table[15] |= 0xF0
    out[24] = table[5] + table[15]
    i = 0
    while True:
        i += 1
        if i > 20:
            break
        if i & 1:
            continue
        out[25] += i
    out[26] = 1 if 1 <= i < 22 and not (i == 3 or i == 4) else 0
    x = 5 if limit == 7 else 6 if limit == 8 else 7
    out[27] = x
    if (n := limit * 3) > 20:
        out[28] = n
    out[29] = (Flags.R | Flags.W) & ~Flags.R
    out[30] = -17 // 5
    out[31] = -17 % 5
    out[32] = (1 << 63) >> 60
    out[33] = -1 >> 3
    out[34] = ~limit
    out[35] = limit ^ 0xFF
    out[36] = s8(200)
    out[37] = u8(-1)
    out[38] = u16(0x12345)
    out[39] = limit * limit
    out[40] = 2 ** (limit & 31)
    out[41] = abs(big)
    out[42] = max(limit, 3, 9)
    out[43] = ord("a") + b"xyz"[1]
    out[44] = len(table) + len("hello")
    out[45] = bpf.bswap32(0x01020304)
    out[46] = int(limit == 7) + bool(limit)
    out[47] = 7 in (1, 3, 7)
    out[48] = limit in range(5, 8)
    a = bpf.array(u8, 8)
    for i in range(8):
        a[i] = i * 40
    out[49] = a[7]
    del a
    out[50] = any((limit == 1, limit == 7)) and all((limit == 7, True))
    s = 0
    for i in range(10, 0, -3):
        s = s * 100 + i
    out[51] = s
    for i in range(3):
        for j in range(3):
            if i * j == 2:
                break
        else:
            out[52] += 1
    k = min(limit, 50)
    while k:
        k -= 1
        out[53] += k
    (aa, bb), cc = (1, 2), 3
    out[54] = aa * 100 + bb * 10 + cc
    out[55] = name == "hello"
    out[56] = name[1]
    y: u8
    y = 255
    y += 1
    out[57] = y
    out[58] = None is None
    z = lines[1]
    z.a.x = 1
    out[59] = z.a == Point(1, 0)
    out[60] = 0xFFFF_FFFF & -1
    out[61] = bpf.sizeof(Wire) * 100 + bpf.sizeof(Bits)
    return bpf.XDP_PASS


def check(obj):
    r = obj.main.run(bytes(64))
    assert r.retval == 2, r.retval
    got = [obj.out[i] for i in range(62)]
    w = 1 + 2 + 8 + 16 + 1 + 1
    want = [
        12,
        32,
        13,
        13,
        12586269025,
        42,
        -7,
        93,
        44,
        0x1234,
        0x0102030405060708,
        127 * 1000 + 1,
        5,
        1,
        1,
        1,
        0,
        (1 << 40) - 2,
        -3,
        15,
        -15,
        0,
        99,
        41,
        13 * 13 + 0xF0,
        110,
        1,
        5,
        21,
        2,
        -4,
        3,
        8,
        -1,
        ~7,
        0xF8,
        -56,
        255,
        0x2345,
        49,
        128,
        15,
        9,
        97 + 121,
        21,
        0x04030201,
        2,
        1,
        1,
        (280) & 255,
        1,
        10070401,
        1,
        21,
        123,
        1,
        101,
        0,
        1,
        1,
        0xFFFFFFFF,
        w * 100 + 16,
    ]
    for i, (g, e) in enumerate(zip(got, want, strict=True)):
        if g != e:
            print("slot", i, "got", g, "want", e)
    assert obj.data.big == -15
    assert bytes(obj.bss.name).rstrip(b"\0") == b"hello", obj.bss.name
    assert got == want
