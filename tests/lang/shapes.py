"""Generated functions over structs, arrays, tuples and long loops, and what CPython runs in their place."""

from __future__ import annotations

from typing import Any, ClassVar

from skep.bpf.types import IntType
from tests.lang.functions import TYPES, Generator, checked, python_namespace

#: what every module of such functions declares; `Struct` and `Array` below are its meaning in CPython
DECLARED = """
@bpf.struct
class Part:
    a: u8
    b: s16
    c: u32

@bpf.struct
class Whole:
    n: s64
    m: u32
    k: u8
    port: be16
    low: u32 = bpf.bits(u32, 5)
    high: s32 = bpf.bits(s32, 11)
    part: Part
    cells: list[s16] = bpf.array(s16, 4)
    parts: list[Part] = bpf.array(Part, 2)

def ordered(x: s64, y: s64) -> tuple[int, int]:
    if x > y:
        return y, x
    return x, y

def split(x: s64) -> tuple[u8, tuple[u16, s16]]:
    return u8(x), (u16(x >> 8), s16(x >> 3))

def first_over(w: Whole, limit: s64) -> int:
    for i, cell in enumerate(w.cells):
        if cell > limit:
            return i
    return -1

"""
_PARTS = ["a", "b", "c"]


class Bits:
    """A bit field of so many bits."""

    def __init__(self, width: int, signed: bool) -> None:
        self.width = width
        self.signed = signed

    def __call__(self, value: int) -> int:
        value &= (1 << self.width) - 1
        return value - (1 << self.width) if self.signed and value >> self.width - 1 else value


class Struct:
    """An object whose members wrap as its fields do."""

    fields: ClassVar[dict[str, Any]]

    def __init__(self, *given: int, **named: int) -> None:
        for (name, kind), value in zip(self.fields.items(), (*given, *[None] * 20), strict=False):
            if isinstance(kind, (IntType, Bits)):
                setattr(self, name, 0 if value is None else value)
            else:
                object.__setattr__(self, name, kind())
        for name, value in named.items():
            setattr(self, name, value)

    def __setattr__(self, name: str, value: int) -> None:
        object.__setattr__(self, name, checked(int(self.fields[name](int(value)))))


class Array:
    """Elements that wrap."""

    def __init__(self, kind: Any, count: int) -> None:
        self.kind = kind
        self.items = [kind() if isinstance(kind, type) else checked(int(kind(0))) for _ in range(count)]

    def __getitem__(self, index: int) -> Any:
        return self.items[index]

    def __setitem__(self, index: int, value: Any) -> None:
        if isinstance(value, Struct):  # copied to where it lies: other names of that see it
            for name in value.fields:
                setattr(self.items[index], name, getattr(value, name))
            return
        self.items[index] = checked(int(self.kind(int(value))))

    def __iter__(self) -> Any:
        return (self[i] for i in range(len(self.items)))


class Part(Struct):
    fields: ClassVar[dict[str, Any]] = {"a": TYPES["u8"], "b": TYPES["s16"], "c": TYPES["u32"]}


class Whole(Struct):
    fields: ClassVar[dict[str, Any]] = {
        "n": TYPES["s64"], "m": TYPES["u32"], "k": TYPES["u8"], "port": TYPES["u16"],
        "low": Bits(5, False), "high": Bits(11, True), "part": Part,
        "cells": lambda: Array(TYPES["s16"], 4), "parts": lambda: Array(Part, 2),
    }  # fmt: skip


def namespace() -> dict[str, Any]:
    """Names for such functions to run in, with CPython."""

    class Language:
        array = Array

    return python_namespace() | {"bpf": Language, "Part": Part, "Whole": Whole}


class Shapes(Generator):
    """Makes functions that keep what they compute in memory."""

    def function(self, name: str) -> str:
        rng = self.rng
        params = [(f"p{i}", rng.choice(["s64", "s64", "u32", "u8", "s16"])) for i in range(rng.randint(1, 3))]
        self.names = [param for param, _ in params]
        self.lines = [f"def {name}({', '.join(f'{p}: {t}' for p, t in params)}) -> s64:"]
        self.targets = []
        self.put(1, f"w = Whole({rng.choice(self.names)}, m={rng.choice(self.names)})")
        self.put(1, f"row = bpf.array({rng.choice(['u16', 's64', 'u8', 's16', 'u32'])}, 8)")
        self.put(1, "q = w.part" if rng.random() < 0.5 else f"q = w.parts[{rng.randint(0, 1)}]")
        self.memory = ["w.n", "w.m", "w.k", "w.port", "w.low", "w.high", "q.a", "q.b", "w.part.b"]
        self.memory += [f"w.parts[{i}].{rng.choice(_PARTS)}" for i in range(2)]
        self.memory += [f"w.cells[{i}]" for i in range(4)] + [f"row[{i}]" for i in range(8)]
        for _ in range(2):
            self.assign(1)
        for _ in range(rng.randint(3, 7)):
            self.shape(1)
            self.block(1, 1)
        self.put(1, f"return s64({self.expr(2)} + ({' ^ '.join(rng.sample(self.memory, 5))}))")
        return "\n".join(self.lines)

    def leaf(self) -> str:
        if self.rng.random() < 0.3:
            return self.rng.choice(self.memory)
        return super().leaf()

    def expr(self, depth: int) -> str:
        """Mostly numbers that stay small, so that few results leave 64 bits."""
        rng = self.rng
        kind = rng.random()
        if depth <= 0 or kind < 0.2:
            return self.leaf()
        one, two = self.expr(depth - 1), self.expr(depth - 1)
        if kind < 0.5:
            return f"({one} {rng.choice('+-&|^')} {two})"
        if kind < 0.58:
            return f"(({one} & {rng.choice([255, 4095, 0xFFFFF])}) * {rng.choice(['7', '-3', two])})"
        if kind < 0.68:
            by = rng.choice([1, 2, 3, 7, -5, 1000, f"(({two} & 7) + 1)"])
            return f"({one} {rng.choice(['//', '%'])} {by})"
        if kind < 0.76:
            return f"({one} >> ({two} & {rng.choice([3, 15, 63])}))"
        if kind < 0.8:
            return f"(({one} & 0xFFFF) << ({two} & {rng.choice([3, 15, 31])}))"
        if kind < 0.86:
            return f"({one} if {self.test(1)} else {two})"
        if kind < 0.93:
            return f"{rng.choice(['min', 'max'])}({one}, {two})"
        if kind < 0.95:
            return f"abs({one})"
        return f"{rng.choice(['u8', 's16', 'u32', 's64', 'u16'])}({one})"

    def place(self) -> str:
        rng = self.rng
        kind = rng.random()
        if kind < 0.2:
            return f"row[{self.expr(1)} & 7]"
        if kind < 0.3:
            return f"w.cells[{self.leaf()} & 3]"
        if kind < 0.4:
            return f"w.parts[{self.leaf()} & 1].{rng.choice(_PARTS)}"
        return rng.choice(self.memory)

    def new(self) -> str:
        self.fresh += 1
        return f"t{self.fresh}"

    def shape(self, depth: int) -> None:
        rng = self.rng
        kind = rng.random()
        if kind < 0.25:
            self.put(depth, f"{self.place()} = {self.expr(2)}")
        elif kind < 0.4:
            self.put(depth, f"{self.place()} {rng.choice(['+', '-', '^', '|', '&'])}= {self.expr(1)}")
        elif kind < 0.5:
            a, b = self.new(), self.new()
            self.put(depth, f"{a}, {b} = ordered({self.expr(1)}, {self.expr(1)})")
            self.names += [a, b]
        elif kind < 0.58:
            a, b, c = self.new(), self.new(), self.new()
            self.put(depth, f"{a}, ({b}, {c}) = split({self.expr(1)})")
            self.names += [a, b, c]
        elif kind < 0.66:
            self.put(depth, "for i in range(8):")
            self.put(depth + 1, f"row[i] = row[7 - i] {rng.choice('+-^')} i * {rng.randint(-9, 9)}")
        elif kind < 0.74:
            a = self.new()
            self.put(depth, f"{a} = {rng.choice(self.names)} & 0xFFFF")
            self.put(depth, f"for i in range({rng.choice([100, 500, 2000])}):")
            self.put(depth + 1, f"{a} = ({a} * {rng.choice([3, 31, 33])} + i) & 0xFFFFF")
            self.put(depth + 1, f"if {a} == {rng.randint(0, 3000)}:")
            self.put(depth + 2, rng.choice(["break", f"{a} += 1", "continue"]))
            self.names.append(a)
        elif kind < 0.82:
            a = self.new()
            self.put(depth, f"{a} = 0")
            self.put(depth, "for i, x in enumerate(row):")
            self.put(depth + 1, f"if x > {rng.randint(-5, 300)} and i != {rng.randint(0, 9)}:")
            self.put(depth + 2, f"{a} += {rng.randint(1, 3)}")
            self.names.append(a)
        elif kind < 0.9:
            a = self.new()
            self.put(depth, f"{a} = first_over(w, {self.expr(1)})")
            self.put(depth, f"w.parts[{rng.randint(0, 1)}] = Part({self.leaf()}, b={self.leaf()})")
            self.names.append(a)
        else:
            self.put(depth, f"if (w.k, w.port) {rng.choice(['<', '>=', '==', '!='])} (q.a, {self.leaf()}):")
            self.put(depth + 1, f"{self.place()} = {self.expr(1)}")
