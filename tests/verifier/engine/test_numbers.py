"""What is known of numbers, against the numbers themselves: no operation may lose one that is possible."""

from __future__ import annotations

import os
import random
from collections.abc import Callable

import pytest

from skep.isa import opcodes as op
from skep.verifier import arith, compare, tnum
from skep.verifier.bounds import Bounds, s32, s64
from skep.verifier.equal import within
from skep.verifier.scalar import U32, U64, Scalar, Scalars

SEED = int(os.environ.get("SKEP_SEED", "1"))
INTERESTING = (
    0,
    1,
    2,
    7,
    8,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0xFFFF,
    1 << 31,
    (1 << 31) - 1,
    U32,
    1 << 32,
    1 << 63,
    U64,
)

ALU: dict[int, Callable[[int, int, int], int]] = {
    op.BPF_ADD: lambda a, b, bits: a + b,
    op.BPF_SUB: lambda a, b, bits: a - b,
    op.BPF_MUL: lambda a, b, bits: a * b,
    op.BPF_AND: lambda a, b, bits: a & b,
    op.BPF_OR: lambda a, b, bits: a | b,
    op.BPF_XOR: lambda a, b, bits: a ^ b,
    op.BPF_LSH: lambda a, b, bits: a << (b % bits),
    op.BPF_RSH: lambda a, b, bits: a >> (b % bits),
    op.BPF_ARSH: lambda a, b, bits: (s64(a) if bits == 64 else s32(a)) >> (b % bits),
}
HOLDS: dict[int, Callable[[int, int], bool]] = {
    op.BPF_JEQ: lambda a, b: a == b,
    op.BPF_JNE: lambda a, b: a != b,
    op.BPF_JGT: lambda a, b: a > b,
    op.BPF_JGE: lambda a, b: a >= b,
    op.BPF_JLT: lambda a, b: a < b,
    op.BPF_JLE: lambda a, b: a <= b,
    op.BPF_JSET: lambda a, b: a & b != 0,
}
SIGNED = {
    op.BPF_JSGT: op.BPF_JGT,
    op.BPF_JSGE: op.BPF_JGE,
    op.BPF_JSLT: op.BPF_JLT,
    op.BPF_JSLE: op.BPF_JLE,
}


def holds_number(s: Scalar, value: int) -> bool:
    """Whether ``value`` is one of the numbers that ``s`` may be."""
    low = value & U32
    return (
        value & ~s.tm == s.tv
        and s.umin <= value <= s.umax
        and s.smin <= s64(value) <= s.smax
        and s.u32min <= low <= s.u32max
        and s.s32min <= s32(low) <= s.s32max
    )


def some_number(rng: random.Random) -> int:
    kind = rng.randrange(4)
    if kind == 0:
        return rng.getrandbits(64)
    if kind == 1:
        return (rng.choice(INTERESTING) + rng.randint(-3, 3)) & U64
    return rng.getrandbits(rng.randint(1, 63))


def some_scalar(rng: random.Random, scalars: Scalars) -> tuple[Scalar, list[int]]:
    """A scalar, made as programs make them, and numbers that it may be."""
    value = some_number(rng)
    members = [value]
    mask = rng.choice((0, rng.getrandbits(64), rng.getrandbits(8), U32, U64, 0xFF00))
    members += [value & ~mask | rng.getrandbits(64) & mask for _ in range(6)]
    b = Bounds(scalars.unknown)
    b.tv, b.tm = value & ~mask, mask
    if rng.random() < 0.7:
        b.umin, b.umax = min(members), max(members)
    if rng.random() < 0.5:
        b.smin, b.smax = min(map(s64, members)), max(map(s64, members))
    if rng.random() < 0.4:
        lows = [m & U32 for m in members]
        b.u32min, b.u32max = min(lows), max(lows)
    if rng.random() < 0.4:
        signed = [s32(m) for m in members]
        b.s32min, b.s32max = min(signed), max(signed)
    b.sync()
    return b.intern(scalars), members


def test_deductions_keep_every_number() -> None:
    rng = random.Random(SEED)
    print(f"SKEP_SEED={SEED}")
    scalars = Scalars()
    for _ in range(2000):
        s, members = some_scalar(rng, scalars)
        for m in members:
            assert holds_number(s, m), (s, hex(m))


@pytest.mark.parametrize("wide", [True, False], ids=["64", "32"])
@pytest.mark.parametrize("operation", sorted(ALU), ids=lambda o: f"{o:#x}")
def test_arithmetic_keeps_every_result(operation: int, wide: bool) -> None:
    rng = random.Random(SEED * 1000 + operation + wide)
    scalars = Scalars()
    bits = 64 if wide else 32
    shift = operation in (op.BPF_LSH, op.BPF_RSH, op.BPF_ARSH)
    for _ in range(250):
        a, xs = some_scalar(rng, scalars)
        if shift:
            amount = rng.randrange(bits)
            b, ys = scalars.const(amount), [amount]
        else:
            b, ys = some_scalar(rng, scalars)
        result = arith.alu(scalars, operation, wide, a, b)
        for x in xs[:4]:
            for y in ys[:4]:
                left, right = (x, y) if wide else (x & U32, y & U32)
                expected = ALU[operation](left, right, bits) & (U64 if wide else U32)
                assert holds_number(result, expected), (a, b, result, hex(x), hex(y))


def test_widths_and_byte_orders() -> None:
    rng = random.Random(SEED)
    scalars = Scalars()
    for _ in range(400):
        s, members = some_scalar(rng, scalars)
        for m in members[:3]:
            assert holds_number(arith.zext32(scalars, s), m & U32)
            for size in (1, 2, 4):
                low = m & ((1 << 8 * size) - 1)
                signed = low - (1 << 8 * size) if low >> (8 * size - 1) else low
                assert holds_number(arith.truncate(scalars, s, size), low)
                assert holds_number(arith.sext64(scalars, s, size), signed & U64)
                if size < 4:
                    assert holds_number(arith.sext32(scalars, s, size), signed & U32)
                swapped = int.from_bytes(low.to_bytes(size, "little"), "big")
                if size > 1:
                    assert holds_number(arith.swap(scalars, s, 8 * size, True), swapped)
                    assert holds_number(arith.swap(scalars, s, 8 * size, False), low)


@pytest.mark.parametrize("narrow", [False, True], ids=["64", "32"])
@pytest.mark.parametrize("operation", sorted([*HOLDS, *SIGNED]), ids=lambda o: f"{o:#x}")
def test_comparisons_keep_every_pair(operation: int, narrow: bool) -> None:
    rng = random.Random(SEED * 1000 + operation + narrow)
    scalars = Scalars()
    decided = 0
    for _ in range(300):
        a, xs = some_scalar(rng, scalars)
        b, ys = some_scalar(rng, scalars)
        if rng.random() < 0.5:
            value = rng.choice(xs)
            b, ys = scalars.const(value), [value]
        taken = compare.taken(a, b, operation, narrow)
        outcome = None if taken >= 0 else compare.refine(scalars, a, b, operation, narrow)
        decided += taken >= 0
        for x in xs:
            for y in ys:
                true = _true(operation, x, y, narrow)
                assert true == compare.holds(x, y, operation, narrow)
                if outcome is None:
                    assert true == (taken == 1), (a, b, hex(x), hex(y))
                elif true:
                    assert holds_number(outcome.true_a, x), (a, b, outcome.true_a, hex(x), hex(y))
                    assert holds_number(outcome.true_b, y), (a, b, outcome.true_b, hex(x), hex(y))
                else:
                    assert holds_number(outcome.false_a, x), (a, b, outcome.false_a, hex(x), hex(y))
                    assert holds_number(outcome.false_b, y), (a, b, outcome.false_b, hex(x), hex(y))
    assert 0 < decided < 300


def _true(operation: int, x: int, y: int, narrow: bool) -> bool:
    if narrow:
        x, y = x & U32, y & U32
    if operation in SIGNED:
        convert = s32 if narrow else s64
        return HOLDS[SIGNED[operation]](convert(x), convert(y))
    return HOLDS[operation](x, y)


def test_one_scalar_within_another() -> None:
    """`within` is what pruning rests on: all numbers of the one must be among those of the other."""
    rng = random.Random(SEED)
    scalars = Scalars()
    found = 0
    for _ in range(2500):
        a, _ = some_scalar(rng, scalars)
        b, members = some_scalar(rng, scalars)
        if rng.random() < 0.5:
            b = arith.alu(scalars, op.BPF_AND, True, a, scalars.const(some_number(rng)))
            members = []
        if within(a, b):
            found += 1
            assert all(holds_number(a, m) for m in members)
    assert found > 20


@pytest.mark.parametrize("name", ["add", "sub", "and_", "or_", "xor", "mul"])
def test_tnums_are_exact_for_few_bits(name: str) -> None:
    """Every result of four-bit tnums is in the tnum (checked whole, not by sample)."""
    plain: Callable[[int, int], int] = {
        "add": lambda x, y: x + y,
        "sub": lambda x, y: x - y,
        "and_": lambda x, y: x & y,
        "or_": lambda x, y: x | y,
        "xor": lambda x, y: x ^ y,
        "mul": lambda x, y: x * y,
    }[name]
    function = getattr(tnum, name)
    pairs = [(v, m) for m in range(8) for v in range(8) if not v & m]
    for av, am in pairs:
        xs = [av | s for s in range(8) if not s & ~am]
        for bv, bm in pairs:
            rv, rm = function(av, am, bv, bm)
            for x in xs:
                for y in [bv | s for s in range(8) if not s & ~bm]:
                    assert plain(x, y) & U64 & ~rm == rv


def test_the_next_member_of_a_tnum() -> None:
    for m in range(16):
        for v in range(16):
            if v & m:
                continue
            members = sorted({v | s for s in range(16) if not s & ~m})
            for z in range(20):
                above = [x for x in members if x > z]
                assert tnum.step(v, m, z) == (above[0] if above else members[-1])
