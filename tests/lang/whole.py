"""Generated whole programs: maps, arrays, packets, loops with conditional state, rings, locks, subprograms.

Their text is Python and the language's subset at once; `Twin` is what CPython runs in place of the kernel.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from skep.bpf.types import u32, u64
from tests.lang.functions import TYPES, checked, python_namespace
from tests.lang.shapes import Array, Struct

#: what every such module declares
DECLARED = """
@bpf.struct
class Row:
    v: list[u32] = bpf.array(u32, 64)
    w: list[u64] = bpf.array(u64, 64)
    s: list[s16] = bpf.array(s16, 32)
    raw: list[u8] = bpf.array(u8, 128)
    n: u32
    k: s16
    b: u8

@bpf.struct
class Note:
    a: u32
    b: u64
    c: s16

@bpf.struct
class Cell:
    lock: bpf.SpinLock
    n: u64

@bpf.struct(packed=True)
class Option:
    kind: u8
    size: u8

rows = bpf.Array(Row, 1)
hist = bpf.Array(u64, 16)
seen = bpf.Hash(u32, u64, max_entries=256)
cells = bpf.Array(Cell, 1)
notes = bpf.RingBuf(Note, size=4096)
result: s64 = bpf.var(0)
total: u64 = bpf.var(0)

def below(x: int, limit: int) -> int:
    if x < 0:
        return 0
    if x >= limit:
        return limit - 1
    return x

@bpf.subprog
def mix(a: u32, b: u32) -> u32:
    if a > b:
        return a - b
    return (a ^ b) & 0xFFF

@bpf.subprog
def find(t: Row, what: u32) -> s64:
    for i in range(64):
        if t.v[i] == what:
            return i
    return -1

"""
PROGRAM = """
@bpf.xdp
def main(ctx: bpf.Xdp) -> int:
    global result, total
    t = rows.lookup(0)
    if t is None:
        return 1
    pkt = ctx.packet()
"""


#: the members of Row: how struct writes them
_LAYOUT = "<64I64Q32h128BIhBx"
_COUNTS = {"v": 64, "w": 64, "s": 32, "raw": 128}


class Row(Struct):
    """A value of the map ``rows``."""

    fields: ClassVar[dict[str, Any]] = {
        "v": lambda: Array(TYPES["u32"], 64), "w": lambda: Array(TYPES["u64"], 64),
        "s": lambda: Array(TYPES["s16"], 32), "raw": lambda: Array(TYPES["u8"], 128),
        "n": TYPES["u32"], "k": TYPES["s16"], "b": TYPES["u8"],
    }  # fmt: skip


class Note(Struct):
    fields: ClassVar[dict[str, Any]] = {"a": TYPES["u32"], "b": TYPES["u64"], "c": TYPES["s16"]}


class Cell(Struct):
    fields: ClassVar[dict[str, Any]] = {"n": TYPES["u64"]}

    @property
    @contextmanager
    def lock(self) -> Iterator[None]:
        yield


class Option(Struct):
    fields: ClassVar[dict[str, Any]] = {"kind": TYPES["u8"], "size": TYPES["u8"]}


class Table(dict[int, int]):
    """A hash map: what is not there counts from zero."""

    def __missing__(self, key: int) -> int:
        return checked(0)

    def get(self, key: int, default: Any = None) -> Any:
        return checked(self[key]) if key in self else default

    def __setitem__(self, key: int, value: int) -> None:
        super().__setitem__(u32(int(key)), checked(u64(int(value))))


class Rows:
    """A map of one element."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def lookup(self, key: int) -> Any:
        return self.value if key == 0 else None


class Ring:
    """What was submitted."""

    def __init__(self) -> None:
        self.records: list[Note] = []

    @contextmanager
    def reserve(self) -> Iterator[Note]:
        made = Note()
        yield made
        self.records.append(made)


class Packet:
    """The cursor over a packet."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def packet(self) -> Packet:
        return self

    def skip(self, count: int) -> None:
        self.at += count

    def take(self, kind: Any) -> Any:
        size = 2 if kind is Option else kind.bits // 8
        if self.at + size > len(self.data):
            return None
        piece = self.data[self.at : self.at + size]
        self.at += size
        if kind is Option:
            return Option(piece[0], size=piece[1])
        return Value(checked(int.from_bytes(piece, "little")))


class Value:
    def __init__(self, value: int) -> None:
        self.value = value


class Twin:
    """A module of the kind, for CPython: maps and variables of its own."""

    def __init__(self, text: str, row: bytes) -> None:
        class Language:
            array = Array
            Xdp = object

            @staticmethod
            def xdp(fn: Any) -> Any:
                return fn

            subprog = xdp

        self.row = Row()
        members = list(struct.unpack(_LAYOUT, row))
        for name, count in _COUNTS.items():
            for i in range(count):
                getattr(self.row, name)[i] = members.pop(0)
        self.row.n, self.row.k, self.row.b = members
        self.tail = row[-1:]
        self.table = Table()
        self.hist = Array(TYPES["u64"], 16)
        self.cell = Cell()
        self.ring = Ring()
        functions = DECLARED[DECLARED.index("def below") :]
        self.names = python_namespace() | {
            "bpf": Language, "rows": Rows(self.row), "hist": self.hist, "seen": self.table,
            "cells": Rows(self.cell), "notes": self.ring, "Option": Option, "result": 0, "total": 0,
        }  # fmt: skip
        self.names["u8"] = _Kind("u8")
        exec(
            compile("from __future__ import annotations\n" + functions + text, "generated", "exec"),
            self.names,
        )

    def __bytes__(self) -> bytes:
        """The row as it lies in memory."""
        members = [int(one) for name in _COUNTS for one in getattr(self.row, name)]
        members += [int(getattr(self.row, name)) for name in ("n", "k", "b")]
        return struct.pack(_LAYOUT, *members)[:-1] + self.tail

    def run(self, packet: bytes) -> int:
        return int(self.names["main"](Packet(packet)))


class _Kind:
    """A type that converts, and is taken from a packet."""

    def __init__(self, name: str) -> None:
        self.kind = TYPES[name]
        self.bits = self.kind.bits

    def __call__(self, value: int) -> int:
        return checked(int(self.kind(int(value))))


class Whole:
    """Makes the text of one program."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.lines: list[str] = []
        #: numbers that can be read here; those that can be assigned; those known to be in [0, n]
        self.names: list[str] = []
        self.state: list[str] = []
        self.fresh = 0
        self.turns = 1
        self.depth = 1
        self.locked = False

    def program(self, least: int = 3, most: int = 6) -> str:
        rng = self.rng
        for _ in range(rng.randint(1, 4)):
            self.variable(rng.choice(["0", "1", "t.n", "t.b", "t.k", "hist[3] & 0xFFFF", "t.n & 31"]))
        for _ in range(rng.randint(least, most)):
            self.statement()
        used = rng.sample(self.names, min(5, len(self.names)))
        self.put(f"result = {' ^ '.join(f's64({name})' for name in used)}")
        self.put("return 2")
        return PROGRAM + "\n".join(self.lines) + "\n"

    def put(self, text: str) -> None:
        self.lines.append("    " * self.depth + text)

    def new(self, kind: str = "x") -> str:
        self.fresh += 1
        return f"{kind}{self.fresh}"

    def variable(self, value: str) -> str:
        name = self.new("a")
        self.put(f"{name} = {value}")
        self.names.append(name)
        self.state.append(name)
        return name

    @contextmanager
    def inside(self, text: str, turns: int = 1) -> Iterator[None]:
        """A block; what is first assigned in it is gone after it."""
        names, state = list(self.names), list(self.state)
        self.put(text)
        self.depth += 1
        self.turns *= turns
        before = len(self.lines)
        yield
        if len(self.lines) == before:
            self.put("pass")
        self.turns //= turns
        self.depth -= 1
        self.names, self.state = names, state

    # --- expressions ------------------------------------------------------------------------------

    def leaf(self) -> str:
        rng = self.rng
        if self.names and rng.random() < 0.75:
            return rng.choice(self.names)
        return str(rng.choice([0, 1, 2, 3, 7, 10, 32, 48, 57, 63, 64, 100, 255]))

    def load(self) -> str:
        rng = self.rng
        return rng.choice([
            f"t.v[{self.index(64)}]", f"t.raw[{self.index(128)}]", f"t.s[{self.index(32)}]",
            f"(t.w[{self.index(64)}] & 0xFFFFF)", f"(hist[{self.index(16)}] & 0xFFFF)", "t.n", "t.b", "t.k",
        ])  # fmt: skip

    def expr(self, depth: int = 2) -> str:
        rng = self.rng
        kind = rng.random()
        if depth <= 0 or kind < 0.25:
            return self.leaf()
        if kind < 0.45:
            return self.load()
        one, two = self.expr(depth - 1), self.expr(depth - 1)
        if kind < 0.68:
            return f"(({one} {rng.choice(['+', '-', '+', '-', '^', '|', '*'])} {two}) & 0xFFFFF)"
        if kind < 0.76:
            return f"({one} {rng.choice(['//', '%'])} {rng.choice([2, 3, 7, 10, 16, 100])})"
        if kind < 0.82:
            return f"({one} >> {rng.randint(1, 9)})"
        if kind < 0.88:
            return f"({one} if {self.test(1)} else {two})"
        if kind < 0.94:
            return f"{rng.choice(['min', 'max'])}({one}, {two})"
        if kind < 0.97:
            return f"abs({one})"
        return f"mix(u32({one}), u32({two}))" if not self.locked else one

    def test(self, depth: int = 1) -> str:
        rng = self.rng
        kind = rng.random()
        if depth > 0 and kind < 0.25:
            return f"({self.test(depth - 1)} {rng.choice(['and', 'or'])} {self.test(depth - 1)})"
        one = self.expr(1)
        if kind < 0.35:
            return f"{rng.choice(['0', '3', self.leaf()])} {rng.choice(['<', '<='])} {one} < {self.leaf()}"
        if kind < 0.42:
            return f"not {one} == {self.leaf()}"
        if kind < 0.5:
            return f"{one} & {rng.choice([1, 3, 8])} {rng.choice(['==', '!='])} 0"
        return f"{one} {rng.choice(['<', '<=', '>', '>=', '==', '!='])} {self.leaf()}"

    def index(self, count: int) -> str:
        """An expression that is within ``count``."""
        rng = self.rng
        name = rng.choice(self.names) if self.names else "3"
        other = rng.choice(self.names) if self.names else "5"
        return rng.choice([
            f"{name} & {count - 1}", f"{name} % {count}", f"({name} + {other}) & {count - 1}",
            f"min(max({name}, 0), {count - 1})", f"below({name}, {count})",
            f"({name} & {count // 2 - 1}) + {count // 2}", f"({name} % {count // 2}) * 2 + 1",
            f"{count - 1} - ({name} & {count - 1})", f"({name} & 0xFF) % {count}",
            f"{name} if 0 <= {name} < {count} else 0", str(rng.randrange(count)),
            f"abs({name}) % {count}", f"(({name} >> 2) ^ {other}) & {count - 1}",
        ])  # fmt: skip

    # --- statements -------------------------------------------------------------------------------

    def statement(self) -> None:
        rng = self.rng
        plain: list[Callable[[], None]] = [self.assign, self.assign, self.branch, self.store, self.ranges]
        loops = [self.filtered, self.counters, self.scan, self.extremes, self.machine, self.some, self.pairs,
                 self.nested, self.digits, self.walks]  # fmt: skip
        outside = [self.tables, self.ring, self.lock, self.options, self.leaves, self.memory, self.searched]
        choices = plain if self.turns > 1 or self.depth > 3 else plain + loops + loops + outside
        rng.choice(choices)()

    def assign(self) -> None:
        rng = self.rng
        if not self.state or (rng.random() < 0.3 and self.depth < 3):
            self.variable(self.expr())
        elif rng.random() < 0.5:
            self.put(f"{rng.choice(self.state)} = {self.expr()}")
        else:
            name = rng.choice(self.state)
            self.put(f"{name} = ({name} {rng.choice(['+', '-', '^'])} {self.expr(1)}) & 0xFFFFF")

    def branch(self) -> None:
        with self.inside(f"if {self.test()}:"):
            for _ in range(self.rng.randint(1, 2)):
                self.rng.choice([self.assign, self.store, self.assign])()
        if self.rng.random() < 0.5:
            with self.inside("else:"):
                self.assign()

    def store(self) -> None:
        rng = self.rng
        place = rng.choice([f"t.w[{self.index(64)}]", f"t.s[{self.index(32)}]", f"t.raw[{self.index(128)}]"])
        if rng.random() < 0.3:
            self.put(f"t.w[{self.index(64)}] = (t.w[{self.index(64)}] & 0xFFFF) + 1")
        else:
            self.put(f"{place} = {self.expr(1)} & 0x7FF")

    def ranges(self) -> None:
        """Tests that bound an index, in each way of saying so."""
        rng = self.rng
        n = self.new("n")
        self.put(f"{n} = {self.expr(1)}")
        lo, count = rng.choice([0, 1, 3, 10]), rng.choice([8, 16, 64])
        by = f"{n} - {lo}" if lo else n
        up = rng.randint(1, 4)
        for test, at in [rng.choice([
            (f"{lo} <= {n} < {lo + count}", by), (f"{lo - 1} < {n} <= {lo + count - 1}", by),
            (f"{n} >= {lo} and {n} <= {lo + count - 1}", by),
            (f"not ({n} < {lo} or {n} > {lo + count - 1})", by),
            (f"-{up} <= {n} < {count - up}", f"{n} + {up}"), (f"{lo + count} > {n} >= {lo}", by),
            (f"{n} in range({lo}, {lo + count})", by), (f"0 < {n} and {n} < {count}", f"{n} - 1"),
            (f"{n} > 0 and {n} <= {count}", f"{count} - {n}"), (f"-8 < {n} < 0", f"-{n}"),
        ])]:  # fmt: skip
            with self.inside(f"if {test}:"):
                if rng.random() < 0.5:
                    m = self.new("m")
                    self.put(f"{m} = {at}")
                    at = m
                self.put(f"t.w[{at}] = {self.expr(1)} & 0xFFFF")
                if self.state:
                    self.put(f"{rng.choice(self.state)} = t.v[{at}]")

    def filtered(self) -> None:
        rng = self.rng
        n = self.variable("0")
        self.state.remove(n)
        turns = rng.choice([8, 20, 64])
        with self.inside(f"for i in range({turns}):", turns):
            x = self.new()
            self.put(f"{x} = {rng.choice(['t.v[i]', 't.raw[i]', 't.w[i] & 0xFFFF', 't.raw[127 - i]'])}")
            self.names += [x, "i"]
            with self.inside(f"if {x} {rng.choice('<>')} {self.leaf()}:"):
                self.put(f"t.w[{n}] = {x}")
                self.put(f"{n} += 1")
            if rng.random() < 0.4:
                self.statement()

    def counters(self) -> None:
        rng = self.rng
        count = rng.randint(2, 4)
        kept = [self.variable("0") for _ in range(count)]
        array, turns = rng.choice([("t.v", 64), ("t.raw", 128), ("t.s", 32)])
        with self.inside(f"for x in {array}:", turns):
            self.names.append("x")
            for i, name in enumerate(kept):
                word = rng.choice(["if", "elif"]) if i else "if"
                with self.inside(f"{word} {self.test(0)}:"):
                    self.put(f"{name} += {rng.choice(['1', '2', 'x & 3', '1'])}")
                    if rng.random() < 0.2:
                        self.put(rng.choice(["continue", "break"]))
        a, b = rng.sample(kept, 2)
        with self.inside(f"if {a} > {b}:"):
            self.assign()

    def scan(self) -> None:
        rng = self.rng
        for _ in range(rng.randint(1, 3)):
            at = self.variable(rng.choice(["0", "127", "-1"]))
            self.state.remove(at)
            turns, sought = rng.choice([16, 64, 128]), rng.choice([0, 10, 32, 47, 58])
            with self.inside(f"for i in range({turns}):", 64), self.inside(f"if t.raw[i] == {sought}:"):
                self.put(f"{at} = i")
                self.put("break")
            if rng.random() < 0.6:
                with self.inside(f"if {rng.choice([f'{at} > 0', f'0 < {at} < 100', f'{at} >= 1'])}:"):
                    self.put(f"t.raw[{at} - 1] = t.raw[{at}] ^ 1")

    def extremes(self) -> None:
        rng = self.rng
        low, high, at, flag = (self.variable(v) for v in ("t.v[0]", "0", "0", "0"))
        turns = rng.choice([16, 64])
        with self.inside(f"for i in range(1, {turns}):", turns):
            self.put("x = t.v[i]")
            with self.inside(f"if x < {low}:"):
                self.put(f"{low} = x")
                self.put(f"{at} = i")
            if rng.random() < 0.5:
                self.put(f"{high} = max({high}, x)")
            with self.inside(f"if x > {high} or x == {rng.randint(0, 99)}:"):
                self.put(f"{high} = x")
                self.put(f"{flag} = 1")
        self.put(f"t.w[{at} & 63] = {high}")

    def machine(self) -> None:
        rng = self.rng
        state, words, longest = (self.variable("0") for _ in range(3))
        inside = self.new("f")
        self.put(f"{inside} = False")
        with self.inside(f"for i in range({rng.choice([24, 64, 128])}):", 128):
            self.put("c = t.raw[i]")
            self.names.append("c")
            if rng.random() < 0.5:
                with self.inside("if c == 0:"):
                    self.put("break")
            with self.inside(f"if c == 32 or c == {rng.randint(9, 60)}:"):
                self.put(f"{inside} = False")
                self.put(f"{state} = 0")
            with self.inside("else:"):
                with self.inside(f"if not {inside}:"):
                    self.put(f"{words} += 1")
                self.put(f"{inside} = True")
                self.put(f"{state} += 1")
                with self.inside(f"if {state} > {longest}:"):
                    self.put(f"{longest} = {state}")
        with self.inside(f"if {longest} < 64:"):
            self.put(f"t.w[{longest}] = {words}")

    def some(self) -> None:
        """As many turns as the data says."""
        rng = self.rng
        n, kept = self.new("n"), self.variable("0")
        self.put(f"{n} = t.n")
        if rng.random() < 0.5:
            with self.inside(f"if {n} > 64:"):
                self.put(f"{n} = 64")
        else:
            self.put(f"{n} = min({n}, 64)")
        for _ in range(rng.randint(1, 2)):
            with self.inside(f"for i in range({n}):", 64):
                self.names.append("i")
                with self.inside(f"if t.v[i] > {self.leaf()}:"):
                    self.put(f"{kept} += 1")
                if rng.random() < 0.3:
                    self.statement()
        with self.inside(rng.choice([f"if 0 < {n}:", f"if {n} != 0:", f"if {n}:", f"if {n} >= 1:"])):
            self.put(f"t.w[{n} - 1] = {kept}")
        self.names.append(n)

    def pairs(self) -> None:
        rng = self.rng
        i, j = self.new("i"), self.new("j")
        self.put(f"{i} = 0")
        self.put(f"{j} = 0")
        self.names += [i, j]
        with self.inside(f"while {i} < {rng.choice([32, 128])} and {j} < 64:", 128):
            self.put(f"c = t.raw[{i}]")
            self.put(f"{i} += 1")
            with self.inside(f"if c == {rng.randint(30, 60)}:"):
                self.put(rng.choice(["continue", f"{i} += 2", "break"]))
            self.put(f"t.w[{j}] = c")
            with self.inside(f"if c > {rng.randint(0, 99)}:"):
                self.put(f"{j} += 1")

    def nested(self) -> None:
        rng = self.rng
        total, best = self.variable("0"), self.variable("0")
        outer, inner = rng.choice([(8, 8), (16, 16), (64, 4), (4, 30)])
        with self.inside(f"for i in range({outer}):", outer):
            self.put("k = 0")
            with self.inside(f"for j in range({inner}):", inner):
                with self.inside(f"if t.v[(i * j) & 63] {rng.choice(['>', '<'])} t.raw[i + j]:"):
                    self.put("k += 1")
                    self.put(f"{total} += 1")
                if rng.random() < 0.4:
                    with self.inside(f"if t.raw[j] == {rng.randint(0, 5)}:"):
                        self.put(rng.choice(["break", "continue"]))
                    self.put("k += 1")
            with self.inside(f"if k > {best}:"):
                self.put(f"{best} = k")
                self.put(f"t.w[k & 63] = {total}")

    def digits(self) -> None:
        number, at = self.variable("0"), self.new("i")
        self.put(f"{at} = {self.rng.choice(['0', '5'])}")
        with self.inside(f"while {at} < 64:", 64):
            self.put(f"c = t.raw[{at}]")
            with self.inside(f"if c < {self.rng.choice([48, 3])} or c > 200:"):
                self.put("break")
            self.put(f"{number} = ({number} * 10 + c - 3) & 0xFFFFFFF")
            self.put(f"{at} += 1")
        self.names.append(at)
        self.put(f"t.w[{at} & 63] = {number}")

    def walks(self) -> None:
        """Collatz and its like: the number of turns hangs on the data."""
        x, steps = self.new(), self.variable("0")
        self.put(f"{x} = ({self.expr(1)} & 0xFFFF) + 1")
        with self.inside(f"for _ in range({self.rng.choice([30, 100])}):", 100):
            with self.inside(f"if {x} == 1:"):
                self.put("break")
            with self.inside(f"if {x} & 1:"):
                self.put(f"{x} = (3 * {x} + 1) & 0xFFFFFF")
            with self.inside("else:"):
                self.put(f"{x} = {x} >> 1")
            self.put(f"{steps} += 1")
        self.names.append(x)

    def tables(self) -> None:
        rng = self.rng
        self.put(f"seen[{self.expr(1)} & 0xFF] += 1")
        self.put(f"hist[{self.index(16)}] += {rng.randint(1, 5)}")
        found = self.new("g")
        if rng.random() < 0.5:
            self.put(f"{found} = seen.get({self.leaf()} & 0xFF, 0) & 0xFFFF")
            self.names.append(found)
        else:
            self.put(f"{found} = seen.get({self.leaf()} & 0xFF)")
            with self.inside(f"if {found} is not None and {found} < 64:"):
                self.put(f"t.w[{found}] = 1")
        if rng.random() < 0.5:
            turns = rng.choice([4, 16])
            test = f"hist[i] {rng.choice('<>')} {rng.randint(0, 9)}"
            with self.inside(f"for i in range({turns}):", turns), self.inside(f"if {test}:"):
                self.put(f"seen[t.v[i] & 0xFF] += {rng.randint(1, 3)}")

    def ring(self) -> None:
        rng = self.rng
        around = rng.random() < 0.4
        if around:
            self.put("for i in range(4):")
            self.depth += 1
        with self.inside("with notes.reserve() as e:"):
            self.put(f"e.a = u32({self.expr(1)})")
            if rng.random() < 0.5:
                with self.inside(f"if {self.test()}:"):
                    self.put(f"e.b = {self.leaf()} & 0xFF")
                    if around:
                        self.put(rng.choice(["continue", "break"]))
            self.put(f"e.c = s16({self.leaf()})")
        if around:
            self.depth -= 1

    def lock(self) -> None:
        cell = self.new("cell")
        self.put(f"{cell} = cells.lookup(0)")
        self.locked = True
        test = f"if {cell}.n < {self.leaf()}:"
        locked = f"with {cell}.lock:"
        with self.inside(f"if {cell} is not None:"), self.inside(locked), self.inside(test):
            self.put(f"{cell}.n += {self.rng.randint(1, 9)}")
        self.locked = False

    def options(self) -> None:
        rng = self.rng
        kept, turns = self.variable("0"), rng.choice([8, 24, 40])
        with self.inside(f"for i in range({turns}):", turns):
            self.put("o = pkt.take(Option)")
            with self.inside("if o is None:"):
                self.put(rng.choice(["break", "return 1", "break"]))
            with self.inside(f"if o.kind == {rng.randint(0, 3)}:"):
                self.put(rng.choice(["continue", "break"]))
            with self.inside(f"if o.kind > {rng.randint(4, 99)}:"):
                self.put(f"{kept} += {rng.choice(['1', 'o.size'])}")
            self.put(f"pkt.skip(o.size & {rng.choice([3, 15, 63])})")

    def leaves(self) -> None:
        with self.inside(f"if {self.test()}:"):
            self.put(f"result = s64({self.leaf()})")
            self.put(f"return {self.rng.choice([1, 2])}")

    def memory(self) -> None:
        """An array on the stack."""
        rng = self.rng
        buf = self.new("buf")
        self.put(f"{buf} = bpf.array({rng.choice(['u32', 'u16', 's64', 'u8'])}, 8)")
        with self.inside(f"for i in range({rng.choice([8, 30])}):", 30):
            self.names.append("i")
            with self.inside(f"if {self.test()}:"):
                self.put(f"{buf}[{self.index(8)}] {rng.choice(['+=', '=', '^='])} {self.leaf()} & 0xFF")
        self.variable(f"{buf}[{self.index(8)}] & 0xFFFF")

    def searched(self) -> None:
        at = self.new("p")
        self.put(f"{at} = find(t, u32({self.leaf()}))")
        with self.inside(self.rng.choice([f"if {at} >= 0:", f"if 0 <= {at} < 64:", f"if {at} != -1:"])):
            self.put(f"t.w[{at} & 63] = {self.expr(1)} & 0xFFFF")
        self.names.append(at)
