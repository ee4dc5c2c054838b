"""Ranges of quotients and remainders by a constant (Linux 7.0 and later; before they are unknown)."""

from __future__ import annotations

from typing import Final

from skep.isa import opcodes as op
from skep.verifier.bounds import Bounds
from skep.verifier.scalar import S32_MAX, S32_MIN, S64_MAX, S64_MIN, U32, U64, Scalar, Scalars

SINCE: Final = (7, 0)


def by_constant(
    scalars: Scalars, operation: int, wide: bool, signed: bool, dst: Scalar, divisor: Scalar
) -> Scalar:
    """``dst / divisor`` or ``dst % divisor`` (``operation``), in 64 bits (``wide``) or the low 32."""
    if wide:
        number = divisor.smin if signed else divisor.umin
        low, high = (dst.smin, dst.smax) if signed else (dst.umin, dst.umax)
        lowest, highest = S64_MIN, S64_MAX
    else:
        number = divisor.s32min if signed else divisor.u32min
        low, high = (dst.s32min, dst.s32max) if signed else (dst.u32min, dst.u32max)
        lowest, highest = S32_MIN, S32_MAX
    b = Bounds(dst)
    changed = True
    if not number:
        if operation == op.BPF_DIV:
            b.known(0) if wide else b.known32(0)
        changed = False
    elif operation == op.BPF_DIV:
        low, high = (
            _divided(low, high, number, lowest, highest) if signed else (low // number, high // number)
        )
    elif signed:
        most = abs(number) - 1
        changed = low < -most or high > most
        low, high = (
            (0 if low >= 0 else max(low, -most) if high <= 0 else -most),
            (min(high, most) if low >= 0 else 0 if high <= 0 else most),
        )
    else:
        changed = high >= number
        low, high = 0, min(high, number - 1)
    if changed:
        b.tv, b.tm = 0, U64
        b.unbound()
        if wide:
            if signed:
                b.smin, b.smax = low, high
            else:
                b.umin, b.umax = low, high
        elif signed:
            b.s32min, b.s32max = low, high
        else:
            b.u32min, b.u32max = low & U32, high & U32
    if not wide:
        b.zext()
    b.sync()
    return b.intern(scalars)


def _divided(low: int, high: int, by: int, lowest: int, highest: int) -> tuple[int, int]:
    """Signed quotients, rounded toward 0; the smallest number by -1 is itself."""
    if low == lowest and by == -1:
        return (low, high) if high == lowest else (lowest, highest)
    one, other = _toward_zero(low, by), _toward_zero(high, by)
    return min(one, other), max(one, other)


def _toward_zero(a: int, b: int) -> int:
    quotient = abs(a) // abs(b)
    return quotient if (a < 0) == (b < 0) else -quotient
