"""A program of lines in the making: registers, slots, labels, functions, and small mistakes now and then."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.verifier.families import world

Statement = Callable[[], None]


class Frame:
    """A function: its lines, free registers, the stack from -8 downward."""

    def __init__(self, name: str, kind: str) -> None:
        self.name = name
        self.kind = kind
        self.lines: list[str] = []
        self.free = [7, 8, 9] if kind == "main" else [6, 7, 8, 9]
        self.stack: set[int] = set()


class Writer:
    """Statements are methods of its subclasses; ``body`` writes some."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.hook = self.random.choice(world.HOOKS)
        #: small mistakes are made in three of five programs
        self.slips = 0.01 if self.random.random() < 0.5 else 0.0
        self.frame = self.main = Frame("skep_main", "main")
        self.functions: list[Frame] = []
        self.used: dict[str, int] = {}
        self.labels = 0
        self.depth = 0
        self.left = self.random.choice((3, 5, 8, 12, 18))
        #: registers with a trusted task, the innermost last; what is held, as "rcu" or "lock"
        self.tasks: list[int] = []
        self.held: list[str] = []
        self.loops = 0

    # --- words ----------------------------------------------------------------------------------

    def say(self, *lines: str) -> None:
        self.frame.lines += lines

    def chance(self, of: float) -> bool:
        return self.random.random() < of

    def slip(self, more: float = 1) -> bool:
        """Whether to do this wrong."""
        return self.random.random() < self.slips * more

    def fits(self, *what: str) -> bool:
        return any(one in self.hook.what for one in what)

    def label(self) -> str:
        self.labels += 1
        return f"L{self.labels}"

    def at(self, label: str) -> None:
        self.say(f"{label}:")

    @contextmanager
    def register(self) -> Iterator[int]:
        """A register that calls keep; `OutOfRegisters` when there is none."""
        if not self.frame.free:
            raise OutOfRoom
        frame = self.frame
        register = frame.free.pop(self.random.randrange(len(frame.free)))
        try:
            yield register
        finally:
            frame.free.append(register)

    @contextmanager
    def slots(self, size: int) -> Iterator[int]:
        """``size`` bytes of stack, by their offset; mostly no one else's."""
        frame = self.frame
        count = (size + 7) // 8
        low = 8 if self.slip() else 1
        for first in range(low, 60 if frame.kind == "main" else 20):
            wanted = set(range(first, first + count))
            if not wanted & frame.stack:
                break
        else:
            raise OutOfRoom
        frame.stack |= wanted
        try:
            yield -8 * (first + count - 1)
        finally:
            frame.stack -= wanted

    def address(self, register: int, slot: int) -> None:
        self.say(
            f"r{register} = r10",
            f"r{register} += {slot + (self.random.choice((8, -8, 1)) if self.slip() else 0)}",
        )

    def kfunc(self, name: str) -> None:
        self.say(f"call kfunc {name}")

    def test(self, label: str, register: int = 0) -> None:
        """Leave for ``label`` where the register is null."""
        if not self.slip(2):
            if self.chance(0.85):
                self.say(f"if r{register} == 0 goto {label}")
            else:
                other = self.label()
                self.say(f"if r{register} != 0 goto {other}", f"goto {label}")
                self.at(other)

    # --- numbers --------------------------------------------------------------------------------

    def unknown(self, register: int = 0) -> None:
        """A number of which nothing is known. Uses r0 to r5."""
        if self.hook.numbers and self.frame is self.main and self.chance(0.4):
            offset, size = self.random.choice(self.hook.numbers)
            self.say(f"r{register} = *(u{size * 8} *)(r6 +{offset})")
            return
        self.say("call bpf_get_prandom_u32")
        if register:
            self.say(f"r{register} = r0")

    def below(self, register: int, most: int, out: str) -> None:
        """Bound a register to 0..``most``, by leaving or by arithmetic without masks."""
        if self.slip():
            most += self.random.choice((1, 8, -1))
        how = self.random.randrange(4)
        if how == 0:
            self.say(f"if r{register} > {most} goto {out}")
        elif how == 1:
            self.say(f"if r{register} s< 0 goto {out}", f"if r{register} s> {most} goto {out}")
        elif how == 2:
            bits = (most + 1).bit_length() - 1
            self.say(f"r{register} >>= {64 - bits}" if bits else f"r{register} = 0")
        else:
            self.say(f"w{register} = w{register}", f"if w{register} > {most} goto {out}")

    # --- statements -----------------------------------------------------------------------------

    def choices(self) -> list[tuple[int, Statement]]:
        """(weight, statement) of those that fit here."""
        return [(3, self.arithmetic), (4, self.branch), (5, self.value)]

    def body(self, most: int = 3, least: int = 0) -> None:
        if self.depth >= 5:
            return
        self.depth += 1
        for _ in range(self.random.randint(least, most)):
            if self.left <= 0:
                break
            self.left -= 1
            choices = self.choices()
            statement = self.random.choices([made for _, made in choices], [weight for weight, _ in choices])[
                0
            ]
            mark, where = self.frame, len(self.frame.lines)
            try:
                statement()
            except OutOfRoom:
                assert mark is self.frame
                del mark.lines[where:]
        self.depth -= 1

    def arithmetic(self) -> None:
        self.unknown()
        operation = self.random.choice(("+", "-", "*", "^", "<<", ">>", "s>>", "%", "/"))
        self.say(f"{self.random.choice('rw')}0 {operation}= {self.random.choice((1, 2, 3, 7, 31))}")

    def branch(self) -> None:
        out = self.label()
        self.unknown()
        self.say(
            f"if r0 {self.random.choice(('==', '!=', '>', 's<', '<='))} {self.random.randrange(9)} goto {out}"
        )
        self.body(2)
        self.at(out)

    def lookup(self, name: str, out: str, key: int | None = None) -> None:
        """r0 = a value of map ``name``, not null."""
        with self.slots(8) as slot:
            key = self.random.choice((0, 1, 1, 5)) if key is None else key
            self.say(f"*(u64 *)(r10 {slot}) = {key}")
            self.address(2, slot)
            self.say(f"r1 = map {name}", "call bpf_map_lookup_elem")
            self.test(out)

    def value(self) -> None:
        """A value looked up and touched, perhaps at an index."""
        out = self.label()
        name, size = self.random.choice((("plain", 48), ("hash", 16), ("plain", 48)))
        with self.register() as value:
            self.lookup(name, out)
            self.say(f"r{value} = r0")
            self.body(2)
            self.touch(value, size, out)
        self.at(out)

    def touch(self, base: int, size: int, out: str, write: bool = True, index: bool = True) -> None:
        """A load or store in the ``size`` bytes at a register. Uses r0 to r5."""
        width = self.random.choice((1, 2, 4, 8))
        if size < width:
            width = 1
        if index and self.chance(0.4):
            self.unknown(3)
            self.below(3, size - width, out)
            if width > 1 and not self.slip():
                shift = {2: 1, 4: 2, 8: 3}[width]
                self.say(f"r3 >>= {shift}", f"r3 <<= {shift}")
            self.say(f"r2 = r{base}", "r2 += r3")
            where, base = 0, 2
        else:
            where = self.random.randrange((size - width) // width + 1) * width
        if self.slip():
            where += self.random.choice((size, 1, -1, -8))
        if write and self.chance(0.5):
            self.say(f"*(u{8 * width} *)(r{base} +{where}) = {self.random.randrange(100)}")
        else:
            self.say(f"r0 = *(u{8 * width} *)(r{base} +{where})")

    # --- functions ------------------------------------------------------------------------------

    def function(self, kind: str, write: Callable[[], None]) -> str | None:
        """Write a function of a kind of `world`; None when the program has enough of them."""
        count = self.used.get(kind, 0)
        if count >= world.EACH or len(self.functions) >= 5:
            return None
        self.used[kind] = count + 1
        name = f"{kind}{count}"
        outer = (self.frame, self.tasks, self.held, self.depth, self.loops)
        self.frame = Frame(name, kind)
        self.functions.append(self.frame)
        self.tasks, self.held = [], []
        write()
        self.frame, self.tasks, self.held, self.depth, self.loops = outer
        return name

    def end(self, low: int, high: int) -> None:
        """Leave the function with a number in a range."""
        value = self.random.randint(low, high) if high - low < 100 else self.random.choice((0, 1, -1, 7))
        self.say(f"r0 = {value + (5 if self.slip() else 0)}", "exit")


class OutOfRoom(Exception):
    """No register or slot is left for a statement."""
