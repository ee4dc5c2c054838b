"""Bounds while they are worked on: the kernel's deductions between known bits and the four ranges.

A rule a method, in the order in which Linux 6.18 applies them: the order shows in what is known afterwards.
"""

from __future__ import annotations

from typing import Final

from skep.verifier import tnum
from skep.verifier.scalar import S32_MAX, S32_MIN, S64_MAX, S64_MIN, U32, U64, Scalar, Scalars

_HIGH: Final = U64 ^ U32


def s32(value: int) -> int:
    """The low 32 bits as a signed number."""
    low = value & U32
    return low - (1 << 32) if low >> 31 else low


def s64(value: int) -> int:
    """The low 64 bits as a signed number."""
    low = value & U64
    return low - (1 << 64) if low >> 63 else low


class Bounds:
    """A `Scalar` that can be changed."""

    __slots__ = ("s32max", "s32min", "smax", "smin", "tm", "tv", "u32max", "u32min", "umax", "umin")

    def __init__(self, s: Scalar) -> None:
        self.tv = s.tv
        self.tm = s.tm
        self.smin = s.smin
        self.smax = s.smax
        self.umin = s.umin
        self.umax = s.umax
        self.s32min = s.s32min
        self.s32max = s.s32max
        self.u32min = s.u32min
        self.u32max = s.u32max

    def intern(self, scalars: Scalars) -> Scalar:
        """The interned scalar; contradictory bounds become unknown ones, the tnum stays (as the kernel)."""
        if (
            self.umin > self.umax
            or self.smin > self.smax
            or self.u32min > self.u32max
            or self.s32min > self.s32max
            or not self._in_sync()
        ):
            self.unbound()
        return scalars.make(
            self.tv,
            self.tm,
            self.smin,
            self.smax,
            self.umin,
            self.umax,
            self.s32min,
            self.s32max,
            self.u32min,
            self.u32max,
        )

    def _in_sync(self) -> bool:
        if not self.tm:
            signed = s64(self.tv)
            if self.umin != self.tv or self.umax != self.tv or self.smin != signed or self.smax != signed:
                return False
        if not self.tm & U32:
            low = self.tv & U32
            signed = s32(low)
            if self.u32min != low or self.u32max != low or self.s32min != signed or self.s32max != signed:
                return False
        return True

    # --- setting -------------------------------------------------------------------------------

    def unbound(self) -> None:
        self.unbound64()
        self.unbound32()

    def unbound64(self) -> None:
        self.smin = S64_MIN
        self.smax = S64_MAX
        self.umin = 0
        self.umax = U64

    def unbound32(self) -> None:
        self.s32min = S32_MIN
        self.s32max = S32_MAX
        self.u32min = 0
        self.u32max = U32

    def known(self, value: int) -> None:
        self.tv = self.umin = self.umax = value & U64
        self.tm = 0
        self.smin = self.smax = s64(value)
        self.u32min = self.u32max = value & U32
        self.s32min = self.s32max = s32(value)

    def known32(self, value: int) -> None:
        low = value & U32
        self.tv = self.tv & _HIGH | low
        self.tm &= _HIGH
        self.u32min = self.u32max = low
        self.s32min = self.s32max = s32(low)

    def subreg(self, v: int, m: int) -> None:
        """Replace the tnum's low half."""
        self.tv = self.tv & _HIGH | v & U32
        self.tm = self.tm & _HIGH | m & U32

    # --- from the tnum -------------------------------------------------------------------------

    def update32(self) -> None:
        v = self.tv & U32
        m = self.tm & U32
        self.s32min = max(self.s32min, s32(v | m & 0x80000000))
        self.s32max = min(self.s32max, s32(v | m & S32_MAX))
        self.u32min = max(self.u32min, v)
        self.u32max = min(self.u32max, v | m)

    def update64(self) -> None:
        v = self.tv
        m = self.tm
        self.smin = max(self.smin, s64(v | m & 1 << 63))
        self.smax = min(self.smax, s64(v | m & S64_MAX))
        self.umin = max(self.umin, v)
        self.umax = min(self.umax, v | m)
        if not m:
            return
        # The range and the tnum may have one number in common.
        umin = self.umin
        following = tnum.step(v, m, umin)
        if umin & ~m == v:
            if following > self.umax or following == umin:
                self._only(umin)
        elif following == v | m or following <= self.umax < tnum.step(v, m, following):
            self._only(following)

    def _only(self, value: int) -> None:
        """This 64-bit number and no other; the 32-bit ranges follow later."""
        self.tv = self.umin = self.umax = value
        self.tm = 0
        self.smin = self.smax = s64(value)

    # --- between ranges ------------------------------------------------------------------------

    def deduce32(self) -> None:
        umin, umax = self.umin, self.umax
        smin, smax = self.smin, self.smax
        low, high = s32(umin), s32(umax)
        if umin >> 32 == umax >> 32:
            self.u32min = max(self.u32min, umin & U32)
            self.u32max = min(self.u32max, umax & U32)
            if low <= high:
                self.s32min = max(self.s32min, low)
                self.s32max = min(self.s32max, high)
        slow, shigh = s32(smin), s32(smax)
        if smin >> 32 == smax >> 32:
            if smin & U32 <= smax & U32:
                self.u32min = max(self.u32min, smin & U32)
                self.u32max = min(self.u32max, smax & U32)
            if slow <= shigh:
                self.s32min = max(self.s32min, slow)
                self.s32max = min(self.s32max, shigh)
        if ((umin >> 32) + 1) & U32 == umax >> 32 and low < 0 <= high:
            self.s32min = max(self.s32min, low)
            self.s32max = min(self.s32max, high)
        if ((smin >> 32) + 1) & U32 == smax >> 32 & U32 and slow < 0 <= shigh:
            self.s32min = max(self.s32min, slow)
            self.s32max = min(self.s32max, shigh)
        if s32(self.u32min) <= s32(self.u32max):
            self.s32min = max(self.s32min, s32(self.u32min))
            self.s32max = min(self.s32max, s32(self.u32max))
        if self.s32min & U32 <= self.s32max & U32:
            self.u32min = max(self.s32min & U32, self.u32min)
            self.u32max = min(self.s32max & U32, self.u32max)
        elif self.u32max < self.s32min & U32:
            self.s32min = s32(self.u32min)
            self.u32max = min(self.u32max, self.s32max & U32)
        elif self.s32max & U32 < self.u32min:
            self.s32max = s32(self.u32max)
            self.u32min = max(self.u32min, self.s32min & U32)

    def deduce64(self) -> None:
        if s64(self.umin) <= s64(self.umax):
            self.smin = max(self.smin, s64(self.umin))
            self.smax = min(self.smax, s64(self.umax))
        if self.smin & U64 <= self.smax & U64:
            self.umin = max(self.smin & U64, self.umin)
            self.umax = min(self.smax & U64, self.umax)
        elif self.umax < self.smin & U64:
            # Signed wraps and unsigned lies in its non-negative part; or the other way round.
            self.smin = s64(self.umin)
            self.umax = min(self.umax, self.smax & U64)
        elif self.smax & U64 < self.umin:
            self.smax = s64(self.umax)
            self.umin = max(self.umin, self.smin & U64)

    def deduce_mixed(self) -> None:
        self.umin = max(self.umin, self.umin & _HIGH | self.u32min)
        self.umax = min(self.umax, self.umax & _HIGH | self.u32max)
        self.smin = max(self.smin, self.smin & ~U32 | self.u32min)
        self.smax = min(self.smax, self.smax & ~U32 | self.u32max)
        low, high = self.s32min & U32, self.s32max & U32
        if low <= high:
            self.umin = max(self.umin, self.umin & _HIGH | low)
            self.umax = min(self.umax, self.umax & _HIGH | high)
            self.smin = max(self.smin, self.smin & ~U32 | low)
            self.smax = min(self.smax, self.smax & ~U32 | high)
        if self.s32min >= 0 and self.smin >= S32_MIN and self.smax <= S32_MAX:
            self.smin = self.umin = self.s32min
            self.smax = self.umax = self.s32max
            # The kernel's cast: an empty range counts from its low end in 64 bits.
            v, m = tnum.from_range(self.smin & U64, self.smax & U64)
            self.tv, self.tm = tnum.intersect(self.tv, self.tm, v, m)

    def bound_offset(self) -> None:
        v, m = tnum.from_range(self.umin, self.umax)
        v, m = tnum.intersect(self.tv, self.tm, v, m)
        lv, lm = tnum.from_range(self.u32min, self.u32max)
        lv, lm = tnum.intersect(v & U32, m & U32, lv, lm)
        self.tv, self.tm = tnum.or_(v & _HIGH, m & _HIGH, lv, lm)

    def sync(self) -> None:
        """All deductions."""
        self.update32()
        self.update64()
        before = self._all()
        for _ in range(3):
            self.deduce32()
            self.deduce64()
            self.deduce_mixed()
            after = self._all()
            if after == before:
                break  # another round would find nothing either
            before = after
        self.bound_offset()
        self.update32()
        self.update64()

    def _all(self) -> tuple[int, int, int, int, int, int, int, int, int, int]:
        return (
            self.tv,
            self.tm,
            self.smin,
            self.smax,
            self.umin,
            self.umax,
            self.s32min,
            self.s32max,
            self.u32min,
            self.u32max,
        )

    def settle(self, scalars: Scalars) -> Scalar:
        """`sync` and `intern`; one number that all agree on is found at once."""
        value = self.tv
        if not self.tm and self.umin == value == self.umax and self.smin == self.smax == s64(value):
            low = value & U32
            if self.u32min <= low <= self.u32max and self.s32min <= s32(low) <= self.s32max:
                return scalars.const(value)
        self.sync()
        return self.intern(scalars)

    def zext(self) -> None:
        """Forget the upper half: it is zero."""
        self.tv &= U32
        self.tm &= U32
        self.umin = self.u32min
        self.umax = self.u32max
        if self.s32min >= 0:
            self.smin = self.s32min
            self.smax = self.s32max
        else:
            self.smin = 0
            self.smax = U32
