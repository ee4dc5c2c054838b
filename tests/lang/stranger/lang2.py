# mypy: ignore-errors
"""Optionals, functions as arguments, swaps, texts, nested arrays and tuples."""

from skep import bpf
from skep.bpf import s32, s64, u8, u32, u64


@bpf.struct
class Rec:
    kind: u8
    name: bpf.Text = bpf.char(16)
    vals: list[u32] = bpf.array(u32, 4)


out = bpf.Array(s64, 32)
recs = bpf.Hash(u32, Rec)
WEIGHTS = (3, 5, 7)
TABLE = ((1, 2), (3, 4))


def opt(k: u32) -> "u64 | None":
    r = recs.get(k)
    if r is None:
        return None
    return r.vals[1]


def apply(fn, x):
    return fn(x)


def dbl(x):
    return x * 2


@bpf.subprog(global_=True)
def glob(a: u32, b: u32) -> u32:
    return a * 10 + b


@bpf.tc
def main(ctx: bpf.SkBuff) -> int:
    r = Rec(kind=1, name="bob", vals=(1, 2, 3, 4))
    recs[1] = r
    a = opt(1)
    out[0] = a if a is not None else -1
    out[1] = 1 if opt(2) is None else 0
    out[2] = apply(dbl, 21)
    out[3] = glob(4, 2)
    t = 0
    for (x, y), w in zip(TABLE, WEIGHTS):  # noqa: B905 - the language has no strict=
        t += x * y * w
    out[4] = t
    r2 = recs.get(1)
    if r2:
        r2.vals[0], r2.vals[3] = r2.vals[3], r2.vals[0]
        out[5] = r2.vals[0] * 10 + r2.vals[3]
        out[6] = r2.name == r.name
        s = 0
        for v in r2.vals:
            if v == 3:
                continue
            s += v
        out[7] = s
        r2.name = "alice"
        out[8] = r2.name == "alice" and r2.name != "bob"
        n = r2.name
        r2.name = "x"
        out[9] = n == "alice"
    i = 10
    while i > 0 and i != 4:
        i -= 1
    else:
        out[10] = i
    out[11] = sum_to(5)
    x: s32 = -1
    out[12] = u32(x)
    x += 0x7FFFFFFF
    x += 5
    out[13] = x
    out[14] = (5 if ctx.len > 3 else 6) + (ctx.len > 3)
    z = 0
    z |= 1 << 33
    z ^= 1
    z <<= 1
    z //= 3
    out[15] = z
    out[16] = min(max(ctx.len, 1), 9)
    b = True
    b = b and ctx.len > 1
    out[17] = b
    out[18] = not b
    m = bpf.array(bpf.array(u8, 4), 4)
    for p in range(4):
        for q in range(4):
            m[p][q] = p * q
    out[19] = m[3][2] + len(m) * 100 + len(m[0])
    return 0


def sum_to(n):
    return n * (n + 1) // 2


def check(obj):
    obj.main.run(bytes(64))
    got = [obj.out[i] for i in range(20)]
    z = (((1 << 33) ^ 1) << 1) // 3
    want = [
        2,
        1,
        42,
        42,
        1 * 2 * 3 + 3 * 4 * 5,
        41,
        1,
        7,
        1,
        1,
        4,
        15,
        0xFFFFFFFF,
        -2147483645,
        6,
        z,
        9,
        1,
        0,
        410,
    ]
    want[13] = ((0x7FFFFFFF - 1 + 5 + (1 << 31)) % (1 << 32)) - (1 << 31)
    assert got == want
