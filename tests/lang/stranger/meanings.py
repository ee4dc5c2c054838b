# mypy: ignore-errors
"""What statements mean: layouts, bit fields, unions, constants set before loading, references, loops."""

import enum

from skep import bpf
from skep.bpf import be16, be32, be64, s8, s16, s32, s64, u8, u16, u32, u64


class Mode(enum.IntEnum):
    OFF = 0
    ON = 5


@bpf.enum(s8)
class Neg(enum.IntEnum):
    A = -1
    B = 3


@bpf.struct(packed=True)
class Packed:
    a: u8
    b: be32
    c: be16
    d: be64
    e: s16


@bpf.struct
class Bits:
    a: s32 = bpf.bits(s32, 5)
    b: u32 = bpf.bits(u32, 11)
    c: bool = bpf.bits(u8, 1)
    d: u64 = bpf.bits(u64, 40)


@bpf.union
class Mix:
    word: u32
    half: list[u16] = bpf.array(u16, 2)
    text: bytes = bpf.raw(4)


@bpf.struct
class Inner:
    x: u32
    y: be16


@bpf.struct
class Config:
    mode: Mode
    neg: Neg
    on: bool
    inner: Inner
    nums: list[u16] = bpf.array(u16, 4)
    name: bpf.Text = bpf.char(8)
    mix: Mix
    items: list[Inner] = bpf.array(Inner, 3)


cfg: Config = bpf.const(
    Config(mode=Mode.ON, neg=Neg.A, on=True, inner=Inner(1, 2), nums=[1, 2, 3, 4], name="abc")
)
state: Config = bpf.var(Config())
out: list[s64] = bpf.var(bpf.array(s64, 64))
table = bpf.Hash(u32, Config)
rows = bpf.Array(Inner, 4)
percpu = bpf.PerCpuArray(Inner, 2)
neg_keys = bpf.Hash(s32, s64)
VARIABLES = {
    "cfg": {
        "mode": 5,
        "neg": -1,
        "on": True,
        "inner": {"x": 70000, "y": 258},
        "nums": [9, 8, 7, 6],
        "name": b"xyz",
        "mix": {"word": 0x01020304},
        "items": [{"x": 1, "y": 2}, {"x": 3, "y": 4}, {"x": 5, "y": 6}],
    }
}


def swap(a, b):
    return b, a


def first(items, limit: int = 3):
    for i, item in enumerate(items):
        if i == limit:
            return None
        if item.x == 3:
            return item
    return None


@bpf.tc
def t(skb: bpf.SkBuff) -> int:
    n = 0
    p = Packed(a=1, b=0x01020304, c=0xABCD, d=1 << 40, e=-5)
    p.b += 1
    p.c -= 0xABCE
    out[0], out[1], out[2], out[3] = p.b, p.c, p.d, p.e
    b = Bits(a=-3, b=2047, c=True, d=(1 << 40) - 1)
    b.b += 1
    b.a -= 20
    b.d += 2
    out[4], out[5], out[6], out[7] = b.a, b.b, b.c, b.d
    m = Mix(word=0x11223344)
    m.half[1] = 0xAAAA
    out[8] = m.word
    out[9] = m.text[0]
    out[10], out[11], out[12], out[13], out[14], out[15] = (
        cfg.mode,
        cfg.neg,
        cfg.on,
        cfg.inner.x,
        cfg.inner.y,
        cfg.nums[2],
    )
    out[16] = cfg.name == "xyz"
    out[17] = cfg.mix.half[0]
    f = first(cfg.items)
    out[18] = f.y if f is not None else -1
    out[19] = first(cfg.items, 1) is None
    state.inner.x = 7
    state.items[1].y = 300
    inner = state.inner
    inner.x += 5
    out[20] = state.inner.x
    table[1] = state
    c = table.get(1)
    if c is not None:
        c.neg = Neg.A
        c.inner = Inner(8, 9)
        c.name = "hello"
        out[21] = c.items[1].y + c.inner.x
        out[22] = c.neg
        if c.mode == Mode.OFF:
            out[23] = len(c.name)
    for i in range(4):
        row = rows[i]
        row.x += i * 10
        row.y = i
    out[24] = rows[3].x + rows[2].y
    percpu[1].x += 4
    out[25] = percpu[1].x
    neg_keys[-1] = -7
    neg_keys[-1] += -3
    out[26] = neg_keys.get(-1, 0)
    x, y = swap(1, 2)
    x, y = y, x + y
    out[27] = x * 10 + y
    k = 5
    while k > 0:
        k -= 2
        if k == 1:
            continue
        n += 1
    else:
        n += 100
    out[28] = n
    out[29] = -7 // 2 + (-7 % 3) * 10
    z: u8 = 250
    z += 10
    out[30] = z
    w: s8 = 127
    w += 1
    out[31] = w
    arr = bpf.array(u16, 4)
    arr[-1] = 70000
    out[32] = arr[3]
    out[33] = 1 if 1 < x <= 5 and y != 4 else 0
    q = None
    if skb.len > 10:
        q = rows[1]
    out[34] = q.x if q is not None else -2
    out[35] = sum3(1, c=4)
    out[36] = max(-3, 2, -9) - min(4, -5) + abs(-8)
    txt = "abc"
    out[37] = txt[1] + len(txt)
    out[38] = (u32(0) - 1) & 0xFF
    out[39] = u64(u32(5) - 6) >> 60
    out[40] = ~5
    out[41] = (1 << 63) >> 62 if skb.len else 0
    out[42] = s32(0x80000000)
    out[43] = any([x == 1, y == 3])
    mac = bpf.raw(6)
    mac[0:3] = b"abc"
    cp = mac
    mac[0] = 1
    out[44] = cp[0]
    out[45] = 3 if (v := skb.len) > 5 and v < 1000 else 4
    match v:
        case 64:
            out[46] = 1
        case _:
            out[46] = 2
    return 0


def sum3(a, b=2, c=3):
    return a + b * 10 + c * 100


def check(obj):
    assert obj.t.run(bytes(64)).retval == 0
    o = list(obj.bss.out)
    want = {
        0: 0x01020305,
        1: 0xFFFF,
        2: 1 << 40,
        3: -5,
        4: 9,
        5: 0,
        6: 1,
        7: 1,
        8: 0xAAAA3344,
        9: 0x44,
        10: 5,
        11: -1,
        12: 1,
        13: 70000,
        14: 258,
        15: 7,
        16: 1,
        17: 0x0304,
        18: 4,
        19: 1,
        20: 12,
        21: 308,
        22: -1,
        23: 5,
        24: 32,
        25: 4,
        26: -10,
        27: 13,
        28: 102,
        29: -4 + 20,
        30: 4,
        31: -128,
        32: 70000 & 0xFFFF,
        33: 0,
        34: 10,
        35: 421,
        36: 2 + 5 + 8,
        37: 98 + 3,
        38: 255,
        39: 15,
        40: -6,
        41: 2,
        42: -(1 << 31),
        43: 1,
        44: 1,
        45: 3,
        46: 1,
    }
    bad = {i: (o[i], w) for i, w in want.items() if o[i] != w}
    assert not bad, bad
