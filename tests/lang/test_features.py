"""Features of the language, run in the kernel by BPF_PROG_TEST_RUN on the test's own packets."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

import skep
from skep.loading import build
from tests.lang.support import HEADER, module
from tests.support.oracles import bpf, tool

pytestmark = pytest.mark.live


def run(folder: Path, text: str, *programs: str, plain: bool = False, **variables: int) -> Any:
    """The loaded object after one run of each program on 64 zero bytes; ``plain`` text imports itself."""
    bpf()
    made = module(folder, text if plain else HEADER + text)
    obj = skep.load(made.main if plain else made, variables=variables)
    for name in programs or obj.programs:
        result = obj.programs[name].run(bytes(64))
        assert result.retval == 2, f"{name} gave {result.retval}"
    return obj


def test_control_flow(tmp_path: Path) -> None:
    text = """
out = bpf.Array(s64, 16)
START = 3
WORDS = (7, 8, 9)

def early(x: s64) -> s64:
    if x < 0:
        return -1
    for i in range(10):
        if i * i > x:
            return i
    return 10

def pair(x: s64) -> tuple[int, int]:
    return x // 10, x % 10

@bpf.xdp
def main(ctx: bpf.Xdp) -> int:
    n = START
    while n < 50:
        n *= 2
        if n == 24:
            continue
    else:
        n += 1
    out[0] = n
    total = 0
    for w in WORDS:
        total += w
    out[1] = total
    for i in range(10):
        if i == 5:
            break
    else:
        total = -1
    out[2] = i if total > 0 else 0
    out[3] = early(30)
    out[4] = early(-5)
    tens, ones = pair(total)
    tens, ones = ones, tens
    out[5] = tens * 100 + ones
    found = total > 20 and n > 3 or total == 0
    out[6] = 1 if found and not total == 5 else 0
    out[7] = sum_of_squares(5, start=100)
    for a in range(3):
        for b in range(3):
            if b > a:
                break
            out[8] += a * 10 + b
    for k in bpf.unroll(range(4)):
        out[9] += 1 << k
    out[10] = 1 if 3 < n <= 97 else 2
    if (m := n - 90) > 5:
        out[11] = m
    x: u8 = 250
    x += 10
    out[12] = x
    out[13] = min(n, 5, total) + max((1, 2)) + abs(-3)
    out[14] = -7 // 2 * 1000 + -7 % 3
    for at, w in enumerate(WORDS, start=1):
        out[15] += at * w
    for x, y in zip((1, 2), WORDS):
        out[15] += x * y * 100
    cells = bpf.array(u32, 3)
    cells[2] = 4
    for at, cell in enumerate(cells):
        out[15] += 10_000 * at * cell
    return bpf.XDP_PASS

def sum_of_squares(n: u32, *, start: u32 = 0) -> u64:
    total = start
    for i in range(min(n, 100)):
        total += i * i
    return total
"""
    with run(tmp_path, text) as obj:
        got = [obj.out[i] for i in range(16)]
    assert got == [97, 24, 5, 6, -1, 402, 1, 130, 10 + 11 + 20 + 21 + 22, 15, 1, 7, 4, 10, -3998, 82350]


def test_structs(tmp_path: Path) -> None:
    text = """
@bpf.struct
class Inner:
    a: u8
    b: u32

@bpf.union
class Either:
    word: u64
    halves: list[u32] = bpf.array(u32, 2)

@bpf.struct(packed=True)
class Tight:
    a: u8
    b: u32
    c: be16

@bpf.struct
class Bits:
    low: u8 = bpf.bits(u8, 4)
    high: u8 = bpf.bits(u8, 4)
    negative: s32 = bpf.bits(s32, 5)
    rest: s32 = bpf.bits(s32, 27)
    port: be16
    flags: bool

@bpf.struct
class Outer:
    inner: Inner
    either: Either
    bits: Bits
    tight: Tight
    name: bytes = bpf.char(8)
    mac: bytes = bpf.raw(6)
    grid: list[Inner] = bpf.array(Inner, 3)

values = bpf.Hash(u32, Outer, max_entries=4)
out = bpf.Array(s64, 16)

@bpf.xdp
def write(ctx: bpf.Xdp) -> int:
    o = Outer()
    o.inner = Inner(7, b=70000)
    o.inner.a += 250
    o.either.halves[1] = 5
    o.bits.low = 3
    o.bits.high = 0x1F
    o.bits.negative = -3
    o.bits.rest = 1000
    o.bits.port = 0x1234
    o.bits.flags = True
    o.tight.b = 0xDEADBEEF
    o.tight.c = 80
    o.name = "skep"
    o.mac = b"\\x01\\x02\\x03\\x04\\x05\\x06"
    for i in range(3):
        o.grid[i].a = i
        o.grid[i].b = i * 100
    values[1] = o
    return bpf.XDP_PASS

@bpf.xdp
def read(ctx: bpf.Xdp) -> int:
    o = values.get(1)
    if o is None:
        return bpf.XDP_DROP
    out[0] = o.inner.a
    out[1] = o.either.word >> 32
    out[2] = o.bits.low + 100 * o.bits.high
    out[3] = o.bits.negative
    out[4] = o.bits.rest
    out[5] = o.bits.port
    out[6] = 1 if o.bits.flags else 0
    out[7] = o.tight.b
    out[8] = 1 if o.name == "skep" else 0
    out[9] = 1 if o.name == "skepp" else 0
    out[10] = o.mac[5]
    for g in o.grid:
        out[11] += g.a + g.b
    out[12] = 1 if o.inner == o.grid[0] else 0
    out[13] = bpf.sizeof(Outer)
    out[14] = len(o.grid)
    o.inner.b += 1
    return bpf.XDP_PASS
"""
    with run(tmp_path, text, "write", "read") as obj:
        got = [obj.out[i] for i in range(15)]
        kept = obj.values[1]
    assert got == [1, 5, 1503, -3, 1000, 0x1234, 1, 0xDEADBEEF, 1, 0, 6, 303, 0, kept._codec.size, 3]
    assert kept.inner.b == 70001 and kept.bits.port == 0x1234 and kept.tight.c == 80
    assert kept.name == b"skep" and kept.mac == bytes([1, 2, 3, 4, 5, 6]) and kept.grid[2].b == 200


def test_globals_and_subprograms(tmp_path: Path) -> None:
    text = """
@bpf.struct
class Config:
    limit: u32
    name: bytes = bpf.char(4)

hits: u64 = bpf.var(0)
start: u64 = bpf.var(40)
step: u32 = bpf.const(1)
on: bool = bpf.const(True)
table: list[u32] = bpf.var(bpf.array(u32, 4))
config: Config = bpf.const(Config(limit=9, name=b"abc"))
port: be16 = bpf.const(80)

@bpf.subprog
def collatz(n: u64) -> u32:
    steps = 0
    for i in range(200):
        if n == 1:
            break
        n = n // 2 if n % 2 == 0 else 3 * n + 1
        steps += 1
    return steps

@bpf.subprog(global_=True)
def bump(c: Config) -> u64:
    return c.limit + 1

@bpf.subprog
def cell(at: u32) -> Config | None:
    return places.get(at)

places = bpf.Array(Config, 2)

@bpf.xdp
def main(ctx: bpf.Xdp) -> int:
    global hits, start
    hits += step
    start = start + 2 if on else 0
    table[2] = config.limit
    table[3] += collatz(27)
    hits += bump(Config(limit=20))
    p = cell(1)
    if p is not None:
        p.limit = port
    return bpf.XDP_PASS
"""
    with run(tmp_path, text, step=5) as obj:
        assert obj.bss.hits == 26 and obj.data.start == 42
        assert list(obj.bss.table) == [0, 0, 9, 111]
        assert obj.places[1].limit == 80
        assert obj.rodata.config.name == b"abc"


def test_maps(tmp_path: Path) -> None:
    text = """
@bpf.struct
class Key:
    addr: be32
    port: be16

@bpf.struct
class Entry:
    lock: bpf.SpinLock
    count: u64
    total: u64

flows = bpf.Hash(Key, u64, max_entries=8)
small = bpf.Hash(u32, u32, max_entries=1)
lru = bpf.LruHash(u32, u64, max_entries=8)
percpu = bpf.PerCpuArray(u64, 2)
locked = bpf.Hash(u32, Entry, max_entries=8)
fifo = bpf.Queue(u32, 4)
lifo = bpf.Stack(Key, 4)
bloom = bpf.BloomFilter(u32, 100)
inner = bpf.Hash(u32, u64, max_entries=4)
outer = bpf.HashOfMaps(u32, bpf.Hash(u32, u64, max_entries=4), max_entries=2)
array_of = bpf.ArrayOfMaps(bpf.Array(u64, 2), 2, initial=[bpf.Array(u64, 2)])
routes = bpf.LpmTrie(bpf.lpm(be32), u32, max_entries=8)
out = bpf.Array(s64, 32)

def n_or_zero(k: Key) -> u64:
    return k.port // 40

@bpf.xdp
def main(ctx: bpf.Xdp) -> int:
    k = Key(0x0A000001, 80)
    flows[k] += 1
    flows[k] += 10
    flows[(0x0A000002, 443)] = 7
    n = flows.get(k)
    if n is not None:
        out[0] = n
    out[1] = flows.get(Key(addr=1), 99)
    out[2] = 1 if k in flows else 0
    del flows[k]
    out[3] = 1 if k not in flows else 0
    out[4] = 1 if flows.delete(k) else 0
    small[1] += 5
    small[2] += 5
    out[5] = small.get(1, 0)
    out[6] = 1 if small.insert(1, 3) else 0
    out[7] = small.update(1, 6, bpf.BPF_EXIST)
    lru[3] |= 6
    lru[4] += 10
    lru[4] -= 3
    lru[4] -= n_or_zero(k)
    lru[4] ^= 1
    percpu[1] += 4
    percpu[1] -= 1
    out[8] = percpu[1]
    locked[5] = Entry(count=1)
    e = locked.lookup(5)
    if e is not None:
        with e.lock:
            e.count += 1
            e.total = e.count * 10
        out[9] = e.total
    out[10] = 1 if fifo.push(11) and fifo.push(12) else 0
    first = fifo.pop()
    if first is not None:
        out[11] = first
    lifo.push(k)
    top = lifo.pop()
    if top is not None:
        out[12] = top.port
    missing = lifo.pop()
    out[13] = 1 if missing is None else 0
    bloom.push(5)
    out[14] = 1 if 5 in bloom and 6 not in bloom else 0
    m = outer.get(1)
    if m is not None:
        m[9] += 3
    a = array_of.get(0)
    if a is not None:
        a[1] = 8
        out[15] = a[1]
    routes[bpf.lpm(be32)(8, 0x0A000000)] = 77
    out[16] = routes.get(0x0A010203, 0)
    out[17] = 1 if 0x0B000000 in routes else 0
    p = flows.lookup((0x0A000002, 443))
    if p:
        p.value += 1
        out[18] = p.value
    return bpf.XDP_PASS
"""
    bpf()
    with skep.load(module(tmp_path, HEADER + text)) as obj:
        obj.outer[1] = obj.inner
        assert obj.main.run(bytes(64)).retval == 2
        got = [obj.out[i] for i in range(19)]
        assert dict(obj.inner) == {9: 3}
        assert obj.bss.small_lost == 1
        assert dict(obj.lru) == {3: 6, 4: 4}
    assert got == [11, 99, 1, 1, 0, 5, 0, 0, 3, 20, 1, 11, 80, 1, 1, 8, 77, 0, 8]


def test_rings(tmp_path: Path) -> None:
    text = """
@bpf.struct
class Inner:
    a: u8
    b: u64

@bpf.struct
class Event:
    number: u32
    kind: u8
    text: bytes = bpf.char(12)
    inner: Inner

events = bpf.RingBuf(Event, size=4096)
tiny = bpf.RingBuf(Event, size=4096)

def send(n: u32) -> bool:
    with events.reserve() as e:
        if n > 2:
            return False
        e.number = n
        if n == 1:
            return True
        e.text = "overwritten"
        e.text = "late"
        e.inner = (7, 8)
    return True

@bpf.xdp
def main(ctx: bpf.Xdp) -> int:
    send(1)
    send(2)
    send(3)
    one = Event(number=9, text="copied")
    events.output(one)
    for i in range(300):
        with tiny.reserve() as e:
            e.number = i
    return bpf.XDP_PASS if events.query(bpf.BPF_RB_AVAIL_DATA) > 0 else bpf.XDP_DROP
"""
    with run(tmp_path, text) as obj:
        got = [(e.number, e.kind, e.text, e.inner.a, e.inner.b) for e in obj.reader("events").read()]
        assert got == [(1, 0, b"", 0, 0), (2, 0, b"late", 7, 8), (0, 0, b"", 0, 0), (9, 0, b"copied", 0, 0)]
        ring = obj.reader("tiny")
        assert len(ring.read()) + ring.lost == 300 and ring.lost > 0


def test_tail_calls(tmp_path: Path) -> None:
    text = """
out = bpf.Array(u32, 4)

@bpf.xdp
def second(ctx: bpf.Xdp) -> int:
    out[1] = 2
    return bpf.XDP_TX

@bpf.xdp
def first(ctx: bpf.Xdp) -> int:
    out[0] = 1
    jumps.call(5)
    jumps.call(1)
    out[2] = 3
    return bpf.XDP_DROP

jumps = bpf.ProgArray(8, initial={1: second})
"""
    bpf()
    with skep.load(module(tmp_path, HEADER + text)) as obj:
        assert obj.first.run(bytes(64)).retval == 3
        assert [obj.out[i] for i in range(3)] == [1, 2, 0]


def test_every_cpu_level(tmp_path: Path) -> None:
    text = """
out = bpf.Hash(u32, s64, max_entries=8)
seen: u32 = bpf.var(0)

@bpf.xdp
def main(ctx: bpf.Xdp) -> int:
    global seen
    seen += 1
    x: s32 = -100
    out[1] = x // 7
    out[2] += bpf.bswap32(0x11223344)
    out[2] += seen
    return bpf.XDP_PASS
"""
    bpf()
    made = module(tmp_path, HEADER + text)
    for cpu in ("v1", "v2", "v3", "v4"):
        with skep.load(made, cpu=cpu) as obj:
            assert obj.main.run(bytes(64)).retval == 2
            assert dict(obj.out) == {1: -15, 2: 0x44332211 + 1}, cpu


def test_callbacks_and_long_loops(tmp_path: Path) -> None:
    text = """
@bpf.struct
class Sum:
    turns: u64
    total: u64

numbers = bpf.Hash(u32, u64, max_entries=64)
out = bpf.Array(s64, 8)

def add(i: u32, s: Sum) -> bool:
    s.turns += 1
    s.total += i
    return i == 99_999

def collect(m: object, key: u32, value: u64, s: Sum) -> bool:
    s.turns += 1
    s.total += key * value
    return False

@bpf.xdp
def main(ctx: bpf.Xdp) -> int:
    s = Sum()
    out[0] = bpf.loop(1_000_000, add, s)
    out[1] = s.total
    for k in range(10):
        numbers[k] = k * k
    t = Sum()
    out[2] = numbers.for_each(collect, t)
    out[3] = t.total
    return bpf.XDP_PASS

@bpf.xdp
def iterate(ctx: bpf.Xdp) -> int:
    total = 0
    for i in bpf.range(2_000_000):
        if i == 1_500_000:
            break
        if i % 2:
            continue
        total += 1
    else:
        total = -1
    out[4] = total
    for i in bpf.range(5, 8):
        if out[4] == 0:
            return bpf.XDP_DROP
        out[5] += i
    return bpf.XDP_PASS
"""
    with run(tmp_path, text) as obj:
        got = [obj.out[i] for i in range(6)]
    assert got == [100_000, 99_999 * 100_000 // 2, 10, sum(k**3 for k in range(10)), 750_000, 18]


def test_functions_may_be_called_like_their_section(tmp_path: Path) -> None:
    text = """
seen: u64 = bpf.var(0)

@bpf.xdp
def xdp(ctx: bpf.Xdp) -> int:
    global seen
    seen += 1
    return bpf.XDP_PASS

@bpf.tc
def tc(skb: bpf.SkBuff) -> int:
    return 2
"""
    with run(tmp_path, text) as obj:
        assert obj.bss.seen == 1
        assert [p.spec.section for p in obj.programs.values()] == ["xdp", "tc"]
    path = tmp_path / "object.o"
    path.write_bytes(build(module(tmp_path, HEADER + text), cache=False))
    listing = subprocess.run([tool("llvm-objdump-19"), "-h", str(path)], capture_output=True, text=True)
    assert " xdp " in listing.stdout and "~" not in listing.stdout.replace(".rel~", "")


def test_annotations_as_text_and_closures(tmp_path: Path) -> None:
    text = """
@bpf.struct
class Pair:
    a: u32
    b: be16

seen: u64 = bpf.var(3)
pairs = bpf.Hash(u32, Pair)

def positive(n: s64) -> bool:
    if n:
        return n > 0
    return False

def make(limit: int):
    inside = bpf.Array(u64, 2)

    def clamp(n: u64) -> u64:
        return min(n, limit)

    @bpf.xdp
    def main(ctx: "bpf.Xdp") -> "int":
        x: u8 = 300
        pairs[1] = Pair(x, seen)
        inside[1] = clamp(1000)
        both = positive(limit) and positive(x)
        return bpf.XDP_PASS if both else bpf.XDP_DROP

    return main

main = make(40)
other = make(50)
"""
    with run(tmp_path, "from __future__ import annotations\n" + HEADER + text, "main", plain=True) as obj:
        assert obj.pairs[1].a == 44 and obj.pairs[1].b == 3
        assert obj.inside[1] == 40


def test_contexts_and_references_in_subprograms(tmp_path: Path) -> None:
    text = """
from skep.net import ethhdr

@bpf.struct
class State:
    n: u64
    deep: list[u32] = bpf.array(u32, 4)

out = bpf.Array(u64, 4)

@bpf.subprog
def kind(ctx: bpf.Xdp, s: State) -> u32:
    eth = ctx.packet().take(ethhdr)
    s.n += 5
    s.deep[3] = 9
    return 0 if eth is None else eth.proto + 7

states = bpf.Array(State, 4)
spare: State = bpf.var(State(n=70))

@bpf.subprog
def bigger(a: State, at: u32) -> State | None:
    b = states.get(at)
    if b is None:
        return spare
    return b if b.n > a.n else None

@bpf.xdp
def main(ctx: bpf.Xdp) -> int:
    s = State(n=1)
    out[0] = kind(ctx, s)
    out[1] = s.n + s.deep[3]
    states[2].n = 100
    best = bigger(s, 2)
    if best is not None:
        out[2] = best.n
    other = bigger(s, 4)
    if other is not None:
        out[3] = other.n
    return bpf.XDP_PASS
"""
    with run(tmp_path, text) as obj:
        assert [obj.out[i] for i in range(4)] == [7, 15, 100, 70]


def test_texts_are_values(tmp_path: Path) -> None:
    text = """
from skep.net import ethhdr

@bpf.struct
class Names:
    a: bytes = bpf.char(8)
    b: bytes = bpf.char(8)

MAC: bytes = bpf.const(b"\\x02\\x00\\x00\\x00\\x00\\x09")
names = bpf.Array(Names, 2)
counts = bpf.Hash(u32, bpf.array(u32, 6))
out = bpf.Array(u64, 4)

@bpf.xdp
def main(ctx: bpf.Xdp) -> int:
    eth = ctx.packet().take(ethhdr)
    if eth is None:
        return bpf.XDP_DROP
    eth.source = MAC
    eth.dest[5] = 7
    source = eth.source
    eth.source = eth.dest
    eth.dest = source
    n = names[0]
    n.a = "left"
    n.b = "right"
    n.a, n.b = n.b, n.a
    old = n.a
    n.a = "new"
    out[0] = 1 if old == "right" and n.b == "left" and n.a == "new" else 0
    counts.insert(1, bpf.array(u32, 6))
    c = counts.get(1)
    if c is not None:
        c[3] += 4
        out[1] = c[3]
    return bpf.XDP_PASS
"""
    with run(tmp_path, text) as obj:
        assert [obj.out[i] for i in range(2)] == [1, 4]
        sent = obj.main.run(bytes(64), data_out=64).data
    assert sent[:14] == bytes([2, 0, 0, 0, 0, 9]) + bytes([0, 0, 0, 0, 0, 7]) + bytes(2)


def test_numbers_or_none_texts_and_match(tmp_path: Path) -> None:
    text = """
from enum import IntEnum

class Color(IntEnum):
    RED = 1
    BLUE = 2

@bpf.struct
class Named:
    name: bytes = bpf.char(16)

table = bpf.Hash(u32, u64)
names = bpf.Array(Named, 1)
out = bpf.Array(s64, 16)

def find(x: u32) -> int | None:
    if x == 0:
        return None
    if x < 5:
        return x * 10
    return table.get(x)

def color(x: u32) -> int:
    match x:
        case Color.RED:
            return 100
        case Color.BLUE | 7 if out[0] == 0:
            return 200
        case 3 | 4:
            return 300
        case _:
            return -1

@bpf.xdp
def main(ctx: bpf.Xdp) -> int:
    table[9] = 99
    for at, x in enumerate((0, 3, 9, 10)):
        n = find(x)
        out[at] = -1 if n is None else n
    best = None
    for i in range(5):
        if i * i % 5 == 4 and (best is None or i > best):
            best = i
    if best is not None:
        out[4] = best
    out[5] = color(1) + color(2) + color(7) + color(4) + color(50)
    found = 0
    if best is not None:
        found = best == 3
    out[10] = found + (True if found else 2)
    n = names[0]
    n.name = "skepper"
    out[6] = len(n.name)
    out[7] = 1 if n.name.startswith("skep") and not n.name.startswith(b"skeps") else 0
    for b in n.name:
        out[8] += b
    n.name = "0123456789abcdef"
    out[9] = len(n.name)
    return bpf.XDP_PASS
"""
    with run(tmp_path, text) as obj:
        got = [obj.out[i] for i in range(11)]
    assert got == [-1, 30, 99, -1, 3, 100 - 1 - 1 + 300 - 1, 7, 1, sum(b"skepper"), 16, 2]


def test_constants_in_network_order(tmp_path: Path) -> None:
    text = """
address: be32 = bpf.const(0)
port: be16 = bpf.const(0)
found: list[u64] = bpf.var(bpf.array(u64, 2))
raw = bpf.Array(be32, 1)

@bpf.xdp
def main(ctx: bpf.Xdp) -> int:
    found[0] = address
    found[1] = port
    raw[0] = address
    return bpf.XDP_PASS
"""
    with run(tmp_path, text, address=0x0A000001, port=443) as obj:
        assert list(obj.bss.found) == [0x0A000001, 443]
        assert obj.rodata.address == 0x0A000001
        assert obj.raw[0] == 0x0A000001
