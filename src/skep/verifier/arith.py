"""Arithmetic on what is known of numbers: one function an operation, the kernel's rules (Linux 6.18)."""

from __future__ import annotations

from typing import Final

from skep.isa import opcodes as op
from skep.verifier import tnum
from skep.verifier.bounds import Bounds, s32, s64
from skep.verifier.scalar import S32_MAX, S32_MIN, S64_MAX, S64_MIN, U32, U64, Scalar, Scalars

_PLAIN: Final = (op.BPF_ADD, op.BPF_SUB, op.BPF_AND, op.BPF_XOR, op.BPF_OR, op.BPF_MUL, op.BPF_NEG)
_SHIFTS: Final = (op.BPF_LSH, op.BPF_RSH, op.BPF_ARSH)


def alu_const(operation: int, wide: bool, a: int, b: int) -> int:
    """The operation on known numbers (u64 in, u64 out); -1 where the result is not tracked."""
    if operation == op.BPF_ADD:
        value = a + b
    elif operation == op.BPF_SUB:
        value = a - b
    elif operation == op.BPF_AND:
        value = a & b
    elif operation == op.BPF_OR:
        value = a | b
    elif operation == op.BPF_XOR:
        value = a ^ b
    elif operation == op.BPF_MUL:
        value = a * b
    elif operation == op.BPF_NEG:
        value = -a
    elif operation not in _SHIFTS or b >= (64 if wide else 32):
        return -1
    elif operation == op.BPF_LSH:
        value = a << b
    elif operation == op.BPF_RSH:
        value = (a if wide else a & U32) >> b
    else:
        value = (s64(a) if wide else s32(a)) >> b
    return value & (U64 if wide else U32)


def alu(scalars: Scalars, operation: int, wide: bool, dst: Scalar, src: Scalar) -> Scalar:
    """``dst operation src`` in 64 bits (``wide``) or in the low 32, zero-extended."""
    if dst.const and src.const:
        value = alu_const(operation, wide, dst.tv, src.tv)
        return scalars.const(value) if value >= 0 else scalars.unknown
    if operation in _SHIFTS:
        if wide:
            known = src.const and src.umin == src.umax and src.smin == src.smax
        else:
            known = not src.tm & U32 and src.u32min == src.u32max and src.s32min == src.s32max
        if not known or src.umax >= (64 if wide else 32):
            return scalars.unknown
    elif operation not in _PLAIN:
        return scalars.unknown
    b = Bounds(dst)
    if operation == op.BPF_ADD:
        add(b, src)
    elif operation == op.BPF_SUB:
        sub(b, src)
    elif operation == op.BPF_NEG:
        b.known(0)
        sub(b, dst)
    elif operation == op.BPF_MUL:
        _mul(b, src)
    elif operation == op.BPF_AND:
        b.tv, b.tm = tnum.and_(b.tv, b.tm, src.tv, src.tm)
        _and(b, src)
    elif operation == op.BPF_OR:
        b.tv, b.tm = tnum.or_(b.tv, b.tm, src.tv, src.tm)
        _or(b, src)
    elif operation == op.BPF_XOR:
        b.tv, b.tm = tnum.xor(b.tv, b.tm, src.tv, src.tm)
        _xor(b, src)
    elif operation == op.BPF_LSH:
        if wide:
            _lsh64(b, src.umin, src.umax)
        else:
            _lsh32(b, src.u32min, src.u32max)
    elif operation == op.BPF_RSH:
        if wide:
            _rsh64(b, src.umin, src.umax)
        else:
            _rsh32(b, src.u32min, src.u32max)
    elif wide:
        _arsh64(b, src.umin)
    else:
        _arsh32(b, src.u32min)
    if not wide:
        b.zext()
    b.sync()
    return b.intern(scalars)


def add(b: Bounds, src: Scalar) -> None:
    """b += src, ranges and tnum; where every unsigned sum overflows the range is still one range."""
    low, high = b.s32min + src.s32min, b.s32max + src.s32max
    if low >= S32_MIN and high <= S32_MAX:
        b.s32min, b.s32max = low, high
    else:
        b.s32min, b.s32max = S32_MIN, S32_MAX
    low, high = b.u32min + src.u32min, b.u32max + src.u32max
    if high <= U32 or low > U32:
        b.u32min, b.u32max = low & U32, high & U32
    else:
        b.u32min, b.u32max = 0, U32
    low, high = b.smin + src.smin, b.smax + src.smax
    if low >= S64_MIN and high <= S64_MAX:
        b.smin, b.smax = low, high
    else:
        b.smin, b.smax = S64_MIN, S64_MAX
    low, high = b.umin + src.umin, b.umax + src.umax
    if high <= U64 or low > U64:
        b.umin, b.umax = low & U64, high & U64
    else:
        b.umin, b.umax = 0, U64
    b.tv, b.tm = tnum.add(b.tv, b.tm, src.tv, src.tm)


def sub(b: Bounds, src: Scalar) -> None:
    """b -= src."""
    low, high = b.s32min - src.s32max, b.s32max - src.s32min
    if low >= S32_MIN and high <= S32_MAX:
        b.s32min, b.s32max = low, high
    else:
        b.s32min, b.s32max = S32_MIN, S32_MAX
    low, high = b.u32min - src.u32max, b.u32max - src.u32min
    if low >= 0 or high < 0:
        b.u32min, b.u32max = low & U32, high & U32
    else:
        b.u32min, b.u32max = 0, U32
    low, high = b.smin - src.smax, b.smax - src.smin
    if low >= S64_MIN and high <= S64_MAX:
        b.smin, b.smax = low, high
    else:
        b.smin, b.smax = S64_MIN, S64_MAX
    low, high = b.umin - src.umax, b.umax - src.umin
    if low >= 0 or high < 0:
        b.umin, b.umax = low & U64, high & U64
    else:
        b.umin, b.umax = 0, U64
    b.tv, b.tm = tnum.sub(b.tv, b.tm, src.tv, src.tm)


def _mul(b: Bounds, src: Scalar) -> None:
    b.tv, b.tm = tnum.mul(b.tv, b.tm, src.tv, src.tm)
    low, high = b.u32min * src.u32min, b.u32max * src.u32max
    b.u32min, b.u32max = (low, high) if high <= U32 else (0, U32)
    corners = [x * y for x in (b.s32min, b.s32max) for y in (src.s32min, src.s32max)]
    low, high = min(corners), max(corners)
    b.s32min, b.s32max = (low, high) if low >= S32_MIN and high <= S32_MAX else (S32_MIN, S32_MAX)
    low, high = b.umin * src.umin, b.umax * src.umax
    b.umin, b.umax = (low, high) if high <= U64 else (0, U64)
    corners = [x * y for x in (b.smin, b.smax) for y in (src.smin, src.smax)]
    low, high = min(corners), max(corners)
    b.smin, b.smax = (low, high) if low >= S64_MIN and high <= S64_MAX else (S64_MIN, S64_MAX)


def _signs32(b: Bounds) -> None:
    """Signed from unsigned bounds where they do not wrap."""
    low, high = s32(b.u32min), s32(b.u32max)
    b.s32min, b.s32max = (low, high) if low <= high else (S32_MIN, S32_MAX)


def _signs64(b: Bounds) -> None:
    low, high = s64(b.umin), s64(b.umax)
    b.smin, b.smax = (low, high) if low <= high else (S64_MIN, S64_MAX)
    b.update32()
    b.update64()


def _and(b: Bounds, src: Scalar) -> None:
    known32 = not (b.tm | src.tm) & U32
    if known32:  # the tnum of b is that of the result: known where both were, or where a zero decides
        b.known32(b.tv)
    else:
        b.u32min = b.tv & U32
        b.u32max = min(b.u32max, src.u32max)
        _signs32(b)
    if not b.tm | src.tm:
        b.known(b.tv)
        return
    b.umin = b.tv
    b.umax = min(b.umax, src.umax)
    _signs64(b)


def _or(b: Bounds, src: Scalar) -> None:
    if not (b.tm | src.tm) & U32:
        b.known32(b.tv)
    else:
        b.u32min = max(b.u32min, src.u32min)
        b.u32max = (b.tv | b.tm) & U32
        _signs32(b)
    if not b.tm | src.tm:
        b.known(b.tv)
        return
    b.umin = max(b.umin, src.umin)
    b.umax = b.tv | b.tm
    _signs64(b)


def _xor(b: Bounds, src: Scalar) -> None:
    if not (b.tm | src.tm) & U32:
        b.known32(b.tv)
    else:
        b.u32min = b.tv & U32
        b.u32max = (b.tv | b.tm) & U32
        _signs32(b)
    if not b.tm | src.tm:
        b.known(b.tv)
        return
    b.umin = b.tv
    b.umax = b.tv | b.tm
    _signs64(b)


def _lsh32_ranges(b: Bounds, low: int, high: int) -> None:
    b.s32min, b.s32max = S32_MIN, S32_MAX
    if high > 31 or b.u32max > 1 << (31 - high):
        b.u32min, b.u32max = 0, U32
    else:
        b.u32min = b.u32min << low & U32
        b.u32max = b.u32max << high & U32


def _lsh32(b: Bounds, low: int, high: int) -> None:
    v, m = b.tv & U32, b.tm & U32
    _lsh32_ranges(b, low, high)
    b.tv, b.tm = v << low & U32, m << low & U32
    b.unbound64()
    b.update32()


def _lsh64(b: Bounds, low: int, high: int) -> None:
    if low == 32 and high == 32:
        b.smin, b.smax = b.s32min << 32, b.s32max << 32  # the usual way to sign-extend starts like this
    else:
        b.smin, b.smax = S64_MIN, S64_MAX
    if b.umax > 1 << (63 - high):
        b.umin, b.umax = 0, U64
    else:
        b.umin = b.umin << low & U64
        b.umax = b.umax << high & U64
    _lsh32_ranges(b, low, high)
    b.tv = b.tv << low & U64
    b.tm = b.tm << low & U64
    b.update32()
    b.update64()


def _rsh32(b: Bounds, low: int, high: int) -> None:
    b.s32min, b.s32max = S32_MIN, S32_MAX
    b.tv = (b.tv & U32) >> low
    b.tm = (b.tm & U32) >> low
    b.u32min >>= high
    b.u32max >>= low
    b.unbound64()
    b.update32()


def _rsh64(b: Bounds, low: int, high: int) -> None:
    b.smin, b.smax = S64_MIN, S64_MAX
    b.tv >>= low
    b.tm >>= low
    b.umin >>= high
    b.umax >>= low
    b.unbound32()
    b.update32()
    b.update64()


def _arsh32(b: Bounds, shift: int) -> None:
    b.s32min >>= shift
    b.s32max >>= shift
    b.tv, b.tm = tnum.arshift(b.tv, b.tm, shift, 32)
    b.u32min, b.u32max = 0, U32
    b.unbound64()
    b.update32()


def _arsh64(b: Bounds, shift: int) -> None:
    b.smin >>= shift
    b.smax >>= shift
    b.tv, b.tm = tnum.arshift(b.tv, b.tm, shift, 64)
    b.umin, b.umax = 0, U64
    b.unbound32()
    b.update32()
    b.update64()


# --- width -------------------------------------------------------------------------------------


def zext32(scalars: Scalars, s: Scalar) -> Scalar:
    """The low 32 bits, zero-extended (a 32-bit move)."""
    b = Bounds(s)
    b.zext()
    b.sync()
    return b.intern(scalars)


def truncate(scalars: Scalars, s: Scalar, size: int) -> Scalar:
    """The low ``size`` bytes, zero-extended (a narrow load of a known value)."""
    if size >= 8:
        return s
    return truncate_bounds(scalars, Bounds(s), size)


def truncate_bounds(scalars: Scalars, b: Bounds, size: int) -> Scalar:
    """`truncate` of bounds at work; ``size`` below 8."""
    mask = (1 << 8 * size) - 1
    b.tv &= mask
    b.tm &= mask
    if b.umin & ~mask == b.umax & ~mask:
        b.umin &= mask
        b.umax &= mask
    else:
        b.umin, b.umax = 0, mask
    b.smin, b.smax = b.umin, b.umax
    if size < 4:
        b.unbound32()
    b.sync()
    return b.intern(scalars)


def sext64(scalars: Scalars, s: Scalar, size: int) -> Scalar:
    """The low ``size`` bytes, sign-extended to 64 bits."""
    if size >= 8:
        return s
    bits = 8 * size
    b = Bounds(s)
    if s.const:
        b.known(_sign(s.tv, bits))
        return b.intern(scalars)
    low, high = _sign(s.smin, bits), _sign(s.smax, bits)
    top_high, top_low = s.smax >> bits, s.smin >> bits
    if top_high != top_low or low > high:
        half = 1 << (bits - 1)
        b.unbound()
        b.tv, b.tm = 0, U64
        b.smin, b.smax = -half, half - 1
        b.s32min, b.s32max = -half, half - 1
        b.umin, b.umax = 0, U64
        b.u32min, b.u32max = 0, U32
        b.tv, b.tm = 0, U64
        return b.intern(scalars)
    b.smin, b.smax = low, high
    b.s32min, b.s32max = s32(low), s32(high)
    b.umin, b.umax = low & U64, high & U64
    b.u32min, b.u32max = low & U32, high & U32
    b.tv, b.tm = tnum.from_range(b.umin, b.umax)
    return b.intern(scalars)


def sext32(scalars: Scalars, s: Scalar, size: int) -> Scalar:
    """The low ``size`` bytes, sign-extended to 32 bits, zero-extended to 64."""
    bits = 8 * size
    b = Bounds(s)
    if s.const:
        b.known(_sign(s.tv, bits) & U32)
        return b.intern(scalars)
    low, high = _sign(s.s32min, bits), _sign(s.s32max, bits)
    if s.s32max >> bits != s.s32min >> bits or low > high:
        half = 1 << (bits - 1)
        b.s32min, b.s32max = -half, half - 1
        b.u32min, b.u32max = 0, U32
        b.subreg(0, U32)
    else:
        b.s32min, b.s32max = low, high
        b.u32min, b.u32max = low & U32, high & U32
        if b.u32min <= b.u32max:
            v, m = tnum.from_range(b.u32min, b.u32max)
        else:
            v, m = 0, U32
        b.subreg(v, m)
    b.zext()
    b.sync()
    return b.intern(scalars)


def _sign(value: int, bits: int) -> int:
    low = value & ((1 << bits) - 1)
    return low - (1 << bits) if low >> (bits - 1) else low


def swap(scalars: Scalars, s: Scalar, bits: int, swaps: bool) -> Scalar:
    """The bytes of the low ``bits`` in the other order (``swaps``), or those bits alone."""
    b = Bounds(s)
    if swaps:
        b.tv = _bswap(b.tv, bits)
        b.tm = _bswap(b.tm, bits)
        b.unbound()
    if bits < 64:
        return truncate_bounds(scalars, b, bits >> 3)
    b.sync()
    return b.intern(scalars)


def _bswap(value: int, bits: int) -> int:
    size = bits >> 3
    return int.from_bytes((value & ((1 << bits) - 1)).to_bytes(size, "little"), "big")
