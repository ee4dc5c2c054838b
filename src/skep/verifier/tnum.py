"""Tristate numbers: bits that are known to be one (value) and bits that are unknown (mask), both u64.

After Vishwanathan et al., "Sound, precise, and fast abstract interpretation with tristate numbers" (CGO
2022), as Linux 6.18 computes them.
"""

from __future__ import annotations

from typing import Final

_U64: Final = (1 << 64) - 1

Tnum = tuple[int, int]


def from_range(low: int, high: int) -> Tnum:
    """The smallest tnum that holds every number from ``low`` to ``high`` (u64)."""
    bits = (low ^ high).bit_length()
    if bits > 63:
        return 0, _U64
    delta = (1 << bits) - 1
    return low & ~delta, delta


def add(av: int, am: int, bv: int, bm: int) -> Tnum:
    sv = (av + bv) & _U64
    mu = (((am + bm + sv) & _U64) ^ sv) | am | bm
    return sv & ~mu, mu


def sub(av: int, am: int, bv: int, bm: int) -> Tnum:
    dv = (av - bv) & _U64
    mu = (((dv + am) & _U64) ^ ((dv - bm) & _U64)) | am | bm
    return dv & ~mu, mu


def and_(av: int, am: int, bv: int, bm: int) -> Tnum:
    v = av & bv
    return v, (av | am) & (bv | bm) & ~v


def or_(av: int, am: int, bv: int, bm: int) -> Tnum:
    v = av | bv
    return v, (am | bm) & ~v


def xor(av: int, am: int, bv: int, bm: int) -> Tnum:
    mu = am | bm
    return (av ^ bv) & ~mu, mu


def union(av: int, am: int, bv: int, bm: int) -> Tnum:
    mu = (av ^ bv) | am | bm
    return av & bv & ~mu, mu


def intersect(av: int, am: int, bv: int, bm: int) -> Tnum:
    mu = am & bm
    return (av | bv) & ~mu, mu


def mul(av: int, am: int, bv: int, bm: int) -> Tnum:
    if not am and not bm:
        return av * bv & _U64, 0
    v = m = 0
    while av or am:
        if av & 1:
            v, m = add(v, m, bv, bm)
        elif am & 1:
            sv, sm = add(v, m, bv, bm)
            v, m = union(v, m, sv, sm)
        av >>= 1
        am >>= 1
        bv = bv << 1 & _U64
        bm = bm << 1 & _U64
    return v, m


def arshift(v: int, m: int, shift: int, bits: int) -> Tnum:
    """Arithmetic shift of the low ``bits`` (32 or 64)."""
    top = 1 << (bits - 1)
    all = (1 << bits) - 1
    sv = (v & all) - ((v & top) << 1)
    sm = (m & all) - ((m & top) << 1)
    return sv >> shift & all, sm >> shift & all


def step(v: int, m: int, z: int) -> int:
    """The smallest member above ``z``; the largest where there is none."""
    top = v | m
    if z >= top:
        return top
    if z < v:
        return v
    d = z - v
    filled = d | ((1 << (d & ~m).bit_length()) - 1) | (~m & _U64)
    return v | (filled + 1 & m)


def contains(av: int, am: int, bv: int, bm: int) -> bool:
    """Every number of b is one of a."""
    return not bm & ~am and bv & ~am == av


def text(v: int, m: int) -> str:
    """As the kernel's log writes it: a known number by itself, a small one in decimal."""
    if not m:
        return str(v) if v <= 32767 else f"{v:#x}"
    return f"({v:#x}; {m:#x})"
