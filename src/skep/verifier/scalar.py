"""What is known of a number: known bits and four ranges, interned so that equal knowledge is one object."""

from __future__ import annotations

from typing import Final

from skep.verifier.value import Value

U64: Final = (1 << 64) - 1
S64_MAX: Final = (1 << 63) - 1
S64_MIN: Final = -(1 << 63)
U32: Final = (1 << 32) - 1
_TABLE_LIMIT: Final = 200_000
S32_MAX: Final = (1 << 31) - 1
S32_MIN: Final = -(1 << 31)


class Scalar(Value):
    """A 64-bit number of which some is known.

    ``tv``/``tm`` are the tnum: bits known to be one, bits unknown (both as u64). The ranges are inclusive;
    signed ones have negative numbers. ``const`` says that one value is left: then it is ``tv``.
    Immutable and interned by `Scalars`: ``is`` finds almost all that are equal.
    """

    __slots__ = (
        "const",
        "num",
        "s32max",
        "s32min",
        "smax",
        "smin",
        "tm",
        "tv",
        "u32max",
        "u32min",
        "umax",
        "umin",
    )

    def __init__(
        self,
        num: int,
        tv: int,
        tm: int,
        smin: int,
        smax: int,
        umin: int,
        umax: int,
        s32min: int,
        s32max: int,
        u32min: int,
        u32max: int,
    ) -> None:
        self.type = 1
        self.num = num
        self.tv = tv
        self.tm = tm
        self.smin = smin
        self.smax = smax
        self.umin = umin
        self.umax = umax
        self.s32min = s32min
        self.s32max = s32max
        self.u32min = u32min
        self.u32max = u32max
        self.const = tm == 0

    def __repr__(self) -> str:
        if self.const:
            return f"Scalar({self.tv:#x})"
        return f"Scalar(s{self.smin}..{self.smax} u{self.umin}..{self.umax} var {self.tv:#x};{self.tm:#x})"


class Scalars:
    """The interned scalars of one check. ``unknown`` is any number, ``zero`` is 0."""

    __slots__ = ("_consts", "_made", "_table", "unknown", "zero")

    def __init__(self) -> None:
        self._table: dict[tuple[int, int, int, int, int, int, int, int, int, int], Scalar] = {}
        self._consts: dict[int, Scalar] = {}
        self._made = 0
        self.unknown = self.make(0, U64, S64_MIN, S64_MAX, 0, U64, S32_MIN, S32_MAX, 0, U32)
        self.zero = self.const(0)

    def make(
        self,
        tv: int,
        tm: int,
        smin: int,
        smax: int,
        umin: int,
        umax: int,
        s32min: int,
        s32max: int,
        u32min: int,
        u32max: int,
    ) -> Scalar:
        """The scalar with exactly this knowledge; nothing is deduced (see `bounds`)."""
        key = (tv, tm, smin, smax, umin, umax, s32min, s32max, u32min, u32max)
        found = self._table.get(key)
        if found is None:
            if len(self._table) > _TABLE_LIMIT:
                self._table.clear()  # a loop that counts to a million: equal ones may be two objects now
                self._consts.clear()
            found = Scalar(len(self._table), tv, tm, smin, smax, umin, umax, s32min, s32max, u32min, u32max)
            self._made += 1
            self._table[key] = found
        return found

    def const(self, value: int) -> Scalar:
        """The number ``value``, taken modulo 2**64."""
        found = self._consts.get(value)
        if found is None:
            u = value & U64
            s = u - (1 << 64) if u >> 63 else u
            low = u & U32
            s32 = low - (1 << 32) if low >> 31 else low
            found = self._consts[value] = self.make(u, 0, s, s, u, u, s32, s32, low, low)
        return found

    def of_size(self, size: int) -> Scalar:
        """Any number of ``size`` bytes, zero-extended."""
        if size >= 8:
            return self.unknown
        top = (1 << 8 * size) - 1
        if size == 4:
            return self.make(0, top, 0, top, 0, top, S32_MIN, S32_MAX, 0, U32)
        return self.make(0, top, 0, top, 0, top, 0, top, 0, top)

    def __len__(self) -> int:
        return len(self._table)
