"""Generated functions of integers: source text that is Python and the language's subset at once."""

from __future__ import annotations

import random
from typing import Any

from skep.bpf.types import IntType, s16, s64, u8, u16, u32, u64

TYPES: dict[str, IntType] = {"s64": s64, "u32": u32, "u8": u8, "s16": s16, "u16": u16, "u64": u64}
S64 = range(-(1 << 63), 1 << 63)


class LeavesS64(Exception):
    """An intermediate result that 64 bits do not hold: what the language does then is not Python's."""


class Exact(int):
    """An integer that raises when a result of arithmetic leaves s64."""

    def __neg__(self) -> Exact:
        return checked(-int(self))

    def __invert__(self) -> Exact:
        return checked(~int(self))

    def __abs__(self) -> Exact:
        return checked(abs(int(self)))


def checked(value: int) -> Exact:
    if value not in S64:
        raise LeavesS64
    return Exact(value)


def _operator(name: str) -> None:
    def method(self: Exact, other: int) -> Any:
        if "shift" in name and int(other if name[2] != "r" or name == "__rshift__" else self) > 63:
            raise LeavesS64
        made = getattr(int, name)(self, other)
        return made if made is NotImplemented else checked(made)

    setattr(Exact, name, method)


for _name in ("add", "sub", "mul", "floordiv", "mod", "and", "or", "xor", "lshift", "rshift"):
    _operator(f"__{_name}__")
    _operator(f"__r{_name}__")


#: few u64: what may be negative and may exceed 63 bits is refused where its sign matters
_KINDS = ["s64"] * 6 + ["u32"] * 4 + ["u8", "u8", "s16", "u16", "u16", "u64"]


_CONSTANTS = [0, 1, 2, 3, 5, 7, 10, 63, 100, 255, 256, 65535, 1 << 31, (1 << 32) - 1, -1, -2, -7]


class Generator:
    """Makes one function's source. Variables are always assigned before they are used."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.lines: list[str] = []
        self.names: list[str] = []
        self.targets: list[str] = []
        self.fresh = 0
        self.loops = 0

    def function(self, name: str) -> str:
        rng = self.rng
        count = rng.randint(1, 4)
        params = [(f"p{i}", rng.choice(_KINDS)) for i in range(count)]
        self.names = [param for param, _ in params]
        self.lines = [f"def {name}({', '.join(f'{p}: {t}' for p, t in params)}) -> s64:"]
        # Parameters keep their type: assigning to one wraps, which Python does not do. Locals do not.
        self.targets = []
        for _ in range(rng.randint(1, 3)):
            self.assign(1)
        self.block(1, rng.randint(2, 6))
        self.lines.append(f"    return s64({self.expr(2)})")
        return "\n".join(self.lines)

    def put(self, depth: int, text: str) -> None:
        self.lines.append("    " * depth + text)

    def assign(self, depth: int) -> None:
        new = self.rng.random() < 0.4 or not self.targets
        if depth > 1 and new:  # a name that is new inside a branch may be unassigned after it
            new = False
        name = f"v{self.fresh}" if new else self.rng.choice(self.targets)
        value = self.expr(3)
        self.put(depth, f"{name} = {value}")
        if new:
            self.fresh += 1
            self.names.append(name)
            self.targets.append(name)

    def block(self, depth: int, count: int) -> None:
        for _ in range(count):
            kind = self.rng.random()
            if kind < 0.35 or depth > 3:
                self.assign(depth)
            elif kind < 0.5:
                op = self.rng.choice(["+", "-", "+", "-", "*", "&", "|", "^"])
                self.put(depth, f"{self.rng.choice(self.targets)} {op}= {self.expr(1)}")
            elif kind < 0.56:
                a, b = self.rng.choice(self.targets), self.rng.choice(self.targets)
                first, second = self.expr(1), self.expr(1)
                # CPython 3.11.2 itself stores the wrong one in `a, a = 1, 2`
                self.put(depth, f"{a}, {b} = {first}, {second}" if a != b else f"{b} = {second}")
            elif kind < 0.78:
                self.put(depth, f"if {self.test(2)}:")
                self.block(depth + 1, self.rng.randint(1, 2))
                if self.rng.random() < 0.3:
                    self.put(depth, f"elif {self.test(1)}:")
                    self.block(depth + 1, 1)
                if self.rng.random() < 0.5:
                    self.put(depth, "else:")
                    self.block(depth + 1, self.rng.randint(1, 2))
            elif self.loops < 2:
                self.loop(depth)
            else:
                self.assign(depth)

    def loop(self, depth: int) -> None:
        rng = self.rng
        self.loops += 1
        index = f"i{self.loops}"
        start, stop = rng.randint(-3, 3), rng.randint(-2, 6)
        if rng.random() < 0.3:
            bound = rng.choice(self.names)
            self.put(depth, f"for {index} in range(min(max({bound}, 0), {rng.randint(1, 5)})):")
        elif rng.random() < 0.5:
            self.put(depth, f"for {index} in range({start}, {stop}):")
        else:
            self.put(depth, f"for {index} in range({stop}, {start}, {rng.choice([-1, -2, 2, 3])}):")
        self.names.append(index)
        self.block(depth + 1, rng.randint(1, 2))
        if rng.random() < 0.3:
            self.put(depth + 1, f"if {self.test(1)}:")
            self.put(depth + 2, rng.choice(["break", "continue"]))
            self.assign(depth + 1)
        self.names.remove(index)
        if rng.random() < 0.2:
            self.put(depth, "else:")
            self.assign(depth + 1)

    def expr(self, depth: int) -> str:
        rng = self.rng
        kind = rng.random()
        if depth <= 0 or kind < 0.2:
            return self.leaf()
        if kind < 0.65:
            op = rng.choice(["+", "-", "+", "-", "+", "-", "*", "&", "|", "^", "//", "%"])
            return f"({self.expr(depth - 1)} {op} {self.expr(depth - 1)})"
        if kind < 0.75:
            op = rng.choice(["<<", ">>"])
            return f"({self.expr(depth - 1)} {op} ({self.expr(depth - 2)} & {rng.choice([1, 3, 7, 31, 63])}))"
        if kind < 0.82:
            return f"({rng.choice(['-', '~', '-'])}{self.expr(depth - 1)})"
        if kind < 0.88:
            return f"({self.expr(depth - 1)} if {self.test(1)} else {self.expr(depth - 1)})"
        if kind < 0.94:
            return f"{rng.choice(['min', 'max'])}({self.expr(depth - 1)}, {self.expr(depth - 1)})"
        if kind < 0.96:
            return f"abs({self.expr(depth - 1)})"
        return f"{rng.choice(_KINDS)}({self.expr(depth - 1)})"

    def leaf(self) -> str:
        rng = self.rng
        if self.names and rng.random() < 0.7:
            return rng.choice(self.names)
        return str(
            rng.choice([0, 1, 2, 3, 5, 7, 10, 63, 100, 255, 256, 65535, 1 << 31, (1 << 32) - 1, -1, -2, -7])
        )

    def test(self, depth: int) -> str:
        rng = self.rng
        kind = rng.random()
        if depth <= 0 or kind < 0.55:
            op = rng.choice(["<", "<=", ">", ">=", "==", "!="])
            return f"{self.expr(1)} {op} {self.expr(1)}"
        if kind < 0.65:
            first, second = rng.choice(["<", "<="]), rng.choice(["<", "<="])
            return f"{self.leaf()} {first} {self.expr(1)} {second} {self.leaf()}"
        if kind < 0.9:
            return f"({self.test(depth - 1)} {rng.choice(['and', 'or'])} {self.test(depth - 1)})"
        if kind < 0.95:
            return f"not ({self.test(depth - 1)})"
        return self.leaf()


def argument(rng: random.Random, kind: IntType) -> int:
    """A value of a type, often at an edge."""
    lo = -(1 << kind.bits - 1) if kind.signed else 0
    hi = (1 << kind.bits - int(kind.signed)) - 1
    edges = [lo, hi, lo + 1, hi - 1, 0, 1, 2, 7, 100]
    if kind.bits == 64:
        edges += [1 << 31, (1 << 32) - 1, 1 << 32, -1 if kind.signed else 3]
    value = rng.choice(edges) if rng.random() < 0.5 else rng.randint(-300, 300)
    return min(max(value, lo), hi)


def python_result(fn: Any, args: list[int]) -> int | None:
    """What CPython computes; None where a result leaves 64 bits or Python raises."""
    try:
        return int(fn(*(Exact(arg) for arg in args)))
    except (LeavesS64, ZeroDivisionError):
        return None


def python_namespace() -> dict[str, Any]:
    """Names for the functions to run in: conversions give checked integers."""
    names: dict[str, Any] = {}
    for name, kind in TYPES.items():
        names[name] = lambda value, kind=kind: Exact(kind(int(value)))
    return names
