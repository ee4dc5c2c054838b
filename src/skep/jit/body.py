"""Text of one LLVM function under construction.

A value is an ``int`` (a constant, signed 64 bits) or a ``str`` (the name of an i64). Every name is used
once, so values need no bookkeeping beyond the low halves that are known already.
"""

from __future__ import annotations

import os
from typing import Any

Value = int | str

#: Why a program was stopped: the upper half of the state's second word; the lower half is the slot.
(
    OUT_OF_BOUNDS,
    UNALIGNED,
    NO_HELPER,
    TOO_DEEP,
    NO_BUDGET,
    HELPER_RAISED,
) = range(1, 7)


def signed(number: int, bits: int = 64) -> int:
    """``number`` modulo 2**bits as a signed number."""
    number &= (1 << bits) - 1
    return number - (1 << bits) if number >> (bits - 1) else number


class Body:
    """Lines of IR, the current label, and the places where the program may be stopped."""

    __slots__ = ("begun", "blind", "count", "label", "lines", "low", "narrow", "traps", "truncated")

    def __init__(self, *, blind: bool = False) -> None:
        #: a list among the lines is filled in later
        self.lines: list[Any] = []
        self.label = ""
        #: how many lines there were when the current block started
        self.begun = 0
        self.count = 0
        #: i64 name -> i32 name with its low half (where the i64 was made by zero extension)
        self.low: dict[str, str] = {}
        #: i64 name -> i8 or i16 name and its bits, where the i64 was loaded and zero-extended
        self.narrow: dict[str, tuple[str, int]] = {}
        #: the same as `low` for halves made in the current block, which may not be known elsewhere
        self.truncated: dict[str, str] = {}
        self.blind = blind
        #: reason -> the edges to its trap: the label that each comes from, and the slot to report
        self.traps: dict[int, list[tuple[str, int]]] = {}

    def new(self) -> str:
        """A fresh name."""
        self.count += 1
        return f"%v{self.count}"

    def op(self, text: str) -> str:
        """Append an instruction; its result's name."""
        self.count += 1
        name = f"%v{self.count}"
        self.lines.append(f"  {name} = {text}")
        return name

    def do(self, text: str) -> None:
        """Append an instruction without a result."""
        self.lines.append("  " + text)

    def start(self, label: str) -> None:
        """Start a basic block."""
        self.lines.append(label + ":")
        self.label = label
        self.begun = len(self.lines)

    def fresh_label(self) -> str:
        self.count += 1
        return f"l{self.count}"

    def const(self, number: int) -> Value:
        """A constant of the program: itself, or under blinding a value that only running code knows."""
        number = signed(number)
        if not self.blind:
            return number
        mask = signed(int.from_bytes(os.urandom(8), "little"))
        return self.op(f"xor i64 {self.hidden(signed(number ^ mask))}, {mask}")

    def hidden(self, value: Value) -> str:
        """The same value, of which LLVM cannot know anything."""
        return self.op(f'call i64 asm "", "=r,0"(i64 {value})')

    def low32(self, value: Value) -> Value:
        """The low half as i32: a signed constant or a name."""
        if isinstance(value, int):
            return signed(value, 32)
        found = self.low.get(value) or self.truncated.get(value)
        if found is None:
            small = self.narrow.get(value)
            if small is None:
                found = self.op(f"trunc i64 {value} to i32")
            else:
                found = self.op(f"zext i{small[1]} {small[0]} to i32")
            self.truncated[value] = found
        return found

    def widen(self, value: Value) -> Value:
        """An i32 as i64, zero-extended."""
        if isinstance(value, int):
            return value & 0xFFFFFFFF
        wide = self.op(f"zext i32 {value} to i64")
        self.low[wide] = value
        return wide

    def word(self, value: Value) -> Value:
        """An i64's low half, zero-extended: itself, if it is known to be one."""
        if value in self.low or value in self.narrow:
            return value
        return self.widen(self.low32(value))

    def add(self, value: Value, number: int) -> Value:
        """``value`` plus a constant, modulo 2**64."""
        if isinstance(value, int):
            return signed(value + number)
        return self.op(f"add i64 {value}, {number}") if number else value

    def plus(self, a: Value, b: Value) -> Value:
        """The sum of two values, modulo 2**64."""
        if isinstance(b, int):
            return self.add(a, b)
        return self.add(b, a) if isinstance(a, int) else self.op(f"add i64 {a}, {b}")

    def less(self, a: Value, b: Value) -> Value:
        """``a`` minus ``b``, modulo 2**64."""
        if isinstance(b, int):
            return self.add(a, -b)
        return self.op(f"sub i64 {a}, {b}")

    def times(self, value: Value, number: int) -> Value:
        """``value`` times a constant, modulo 2**64."""
        if isinstance(value, int):
            return signed(value * number)
        return value if number == 1 else self.op(f"mul i64 {value}, {number}")

    def require(self, ok: str, why: int, pc: int) -> None:
        """Stop the program at slot ``pc`` unless the i1 ``ok`` holds."""
        self.traps.setdefault(why, []).append((self.label, pc))
        label = self.fresh_label()
        self.lines.append(f"  br i1 {ok}, label %{label}, label %trap{why}, !prof !7001")
        self.start(label)

    def stop(self, why: int, pc: int) -> None:
        """Stop the program at slot ``pc``; what follows is unreachable."""
        self.require("false", why, pc)
