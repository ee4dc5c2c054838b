"""Ranges of quotients and remainders hold every number they stand for."""

from __future__ import annotations

import os
import random

import pytest

from skep.isa import opcodes as op
from skep.verifier.bounds import Bounds
from skep.verifier.division import by_constant
from skep.verifier.scalar import Scalar, Scalars
from tests.verifier.harness.concrete import _arithmetic, signed

SEED = int(os.environ.get("SKEP_SEED", "1"))
EDGES = (0, 1, -1, 2, -2, 3, 7, 10, -10, 255, (1 << 31) - 1, -(1 << 31), 1 << 32, (1 << 63) - 1, -(1 << 63))
M64 = (1 << 64) - 1


def between(scalars: Scalars, low: int, high: int, as_signed: bool) -> Scalar:
    b = Bounds(scalars.unknown)
    if as_signed:
        b.smin, b.smax = low, high
    else:
        b.umin, b.umax = low, high
    b.sync()
    return b.intern(scalars)


def holds(s: Scalar, value: int) -> bool:
    low = value & 0xFFFF_FFFF
    return (
        s.umin <= value <= s.umax
        and s.smin <= signed(value, 64) <= s.smax
        and s.u32min <= low <= s.u32max
        and s.s32min <= signed(low, 32) <= s.s32max
        and not (value ^ s.tv) & ~s.tm & M64
    )


@pytest.mark.parametrize("operation", [op.BPF_DIV, op.BPF_MOD])
@pytest.mark.parametrize("as_signed", [False, True])
@pytest.mark.parametrize("wide", [False, True])
def test_every_result_lies_in_the_range(operation: int, as_signed: bool, wide: bool) -> None:
    rng = random.Random(SEED)
    scalars = Scalars()
    narrower = 0
    for _ in range(3000):
        near = rng.choice(EDGES)
        low, high = sorted((near, near + rng.choice((0, 1, 5, 100, 1 << 20, 1 << 40))))
        if not as_signed:
            low, high = low & M64, high & M64
        if low > high or high > (M64 if not as_signed else (1 << 63) - 1):
            continue
        a = between(scalars, low, high, as_signed)
        divisor = rng.choice(EDGES) & M64
        got = by_constant(scalars, operation, wide, as_signed, a, scalars.const(divisor))
        narrower += got is not scalars.unknown and got.umax < (1 << 32) - 1
        bits = 64 if wide else 32
        mask = (1 << bits) - 1
        for value in {low, high, rng.randint(low, high), rng.randint(low, high)}:
            result = _arithmetic(operation, value & mask, divisor & mask, bits, as_signed) & mask
            assert holds(got, result), (SEED, low, high, divisor, value, result, got)
    assert narrower > 300
