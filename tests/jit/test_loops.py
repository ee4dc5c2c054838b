"""Loops with guards stop, count and compute exactly as the interpreter does."""

from __future__ import annotations

import os
import random

import pytest

from skep import jit, vm
from skep.errors import ExecutionError
from skep.isa import Insn
from skep.isa import opcodes as op
from skep.jit.lower import lower
from skep.llvm import available, warm
from tests.jit import searches, vectors
from tests.jit.loops import program
from tests.jit.shuffle import shuffled

SEED = int(os.environ.get("SKEP_SEED", "1"))
COUNT = int(os.environ.get("SKEP_LOOPS", "150"))


@pytest.fixture(autouse=True, scope="module")
def llvm() -> None:
    if not available():
        pytest.skip("needs llvmlite")
    warm()


def outcome(run: object, insns: list[Insn], ctx: bytearray, budget: int) -> tuple[object, bytes]:
    try:
        assert callable(run)
        result: object = run(ctx, budget=budget)
    except ExecutionError as error:
        kind = next(word for word in ("bounds", "budget", "aligned") if word in error.reason)
        result = (error.pc, kind)
    return result, bytes(ctx)


def test_random_loops() -> None:
    rng = random.Random(SEED)
    seen: dict[str, int] = {}
    for number in range(COUNT):
        seed = SEED * 1_000_000 + number
        insns = program(seed)
        level = rng.choice(("O1", "O1", "flat", "basic", "large", "O2", None))
        with jit.compile(insns, cached=False, level=level) as native:
            for length in (0, 1, 7, 8, 16, 33, 64, 200):
                data = rng.randbytes(length)
                budget = rng.choice((5000, 5000, 1000, rng.randrange(200)))
                machine = vm.Machine(insns, bytearray(data), budget=budget)
                ctx = bytearray(data)
                machine.reset(ctx, budget=budget)
                expected = outcome(lambda ctx, budget, machine=machine: machine.run(), insns, ctx, budget)
                got = outcome(native.run, insns, bytearray(data), budget)
                what = f"SKEP_SEED={SEED}, program {seed}, {length} bytes, budget {budget}, {level}"
                # Programs never return addresses, so everything must be the same.
                assert got == expected, f"{what}\n" + "\n".join(map(str, insns))
                kind = expected[0][1] if isinstance(expected[0], tuple) else "result"
                seen[kind] = seen.get(kind, 0) + 1
    assert all(seen.get(kind, 0) > COUNT // 6 for kind in ("bounds", "budget", "result")), seen


def test_random_vectors() -> None:
    """Loops whose turns are done many at a time; some must be, and none may show."""
    rng = random.Random(SEED)
    made = 0
    for number in range(COUNT):
        seed = SEED * 1_000_000 + number
        insns = vectors.program(seed)
        made += " x i" in lower(insns).text
        level = rng.choice(("flat", "basic", "O1", "O2", None))
        with jit.compile(insns, cached=False, level=level) as native:
            for length in (300, 900, rng.randrange(300)):
                data = rng.randbytes(length)
                budget = rng.choice((1 << 20, 1 << 20, rng.randrange(3000)))
                machine = vm.Machine(insns, bytearray(data), budget=budget)
                ctx = bytearray(data)
                machine.reset(ctx, budget=budget)
                expected = outcome(lambda ctx, budget, machine=machine: machine.run(), insns, ctx, budget)
                got = outcome(native.run, insns, bytearray(data), budget)
                what = f"SKEP_SEED={SEED}, program {seed}, {length} bytes, budget {budget}, {level}"
                assert got == expected, f"{what}\n" + "\n".join(map(str, insns))
    assert made > COUNT // 4, made


def test_a_sum_of_sums_is_none() -> None:
    """r0 adds up what r9 has come to: no two turns at once."""
    insns = [
        Insn(op.BPF_ALU64 | op.BPF_MOV, 0),
        Insn(op.BPF_ALU64 | op.BPF_MOV, 9, imm=-202),
        Insn(op.BPF_ALU64 | op.BPF_MOV, 5, imm=100),
        Insn(op.BPF_LDX | op.BPF_MEM | op.BPF_B, 8, 1),
        Insn(op.BPF_ALU | op.BPF_ADD | op.BPF_X, 8, 9),
        Insn(op.BPF_ALU | op.BPF_SUB | op.BPF_X, 0, 8),
        Insn(op.BPF_ALU64 | op.BPF_MOV | op.BPF_X, 9, 8),
        Insn(op.BPF_ALU64 | op.BPF_ADD, 1, imm=1),
        Insn(op.BPF_ALU64 | op.BPF_ADD, 5, imm=-1),
        Insn(op.BPF_JMP | op.BPF_JNE, 5, 0, -7, 0),
        Insn(op.EXIT),
    ]
    data = bytes(range(100))
    total, so_far = 0, -202
    for byte in data:
        so_far += byte
        total -= so_far
    with jit.compile(insns, cached=False) as native:
        assert native.run(bytearray(data)) == total & 0xFFFFFFFF


def test_random_searches() -> None:
    """Loops with several ways out, asked many turns at a time whether they take one."""
    rng = random.Random(SEED)
    made = late = 0
    for number in range(2 * COUNT):
        seed = SEED * 1_000_000 + number
        insns = searches.program(seed)
        if number % 4 == 3:
            insns = shuffled(insns, seed)
        made += "llvm.cttz" in lower(insns).text
        level = rng.choice(("flat", "basic", "O1", None))
        with jit.compile(insns, cached=False, level=level) as native:
            for length in (0, 50, 130, 300, 900, 900):
                data = searches.memory(rng, length)
                budget = rng.choice((1 << 20, 1 << 20, rng.randrange(5000)))
                machine = vm.Machine(insns, ctx := bytearray(data), budget=budget)
                expected = outcome(lambda ctx, budget, machine=machine: machine.run(), insns, ctx, budget)
                got = outcome(native.run, insns, bytearray(data), budget)
                what = f"SKEP_SEED={SEED}, program {seed}, {length} bytes, budget {budget}, {level}"
                assert got == expected, f"{what}\n" + "\n".join(map(str, insns))
                late += isinstance(expected[0], int) and length == 900
    assert made > COUNT // 3 and late > COUNT // 3, (made, late)


def test_loops_in_pieces() -> None:
    """Blocks in any order: turns pay at several jumps, and some of those that leave a loop do."""
    rng = random.Random(SEED)
    stopped = uneven = 0
    for number in range(COUNT):
        seed = SEED * 1_000_000 + number
        plain = (program, vectors.program)[number % 2](seed)
        insns = shuffled(plain, seed)
        level = rng.choice(("flat", "basic", "O1", None))
        with jit.compile(insns, cached=False, level=level) as native:
            for length in (40, 200, 900):
                data = rng.randbytes(length)
                for budget in (rng.randrange(300), rng.randrange(3000), 1 << 20):
                    machine = vm.Machine(insns, ctx := bytearray(data), budget=budget)
                    expected = outcome(lambda ctx, budget, machine=machine: machine.run(), insns, ctx, budget)
                    got = outcome(native.run, insns, bytearray(data), budget)
                    what = f"SKEP_SEED={SEED}, program {seed}, {length} bytes, budget {budget}, {level}"
                    assert got == expected, f"{what}\n" + "\n".join(map(str, insns))
                    stopped += isinstance(expected[0], tuple) and expected[0][1] == "budget"
        uneven += insns != plain
    assert stopped > COUNT and uneven > COUNT // 2, (stopped, uneven)


def test_a_simple_loop_has_a_fast_copy_without_checks() -> None:
    insns = [
        Insn(op.BPF_ALU64 | op.BPF_MOV, 0),
        Insn(op.BPF_JMP | op.BPF_JEQ, 2, 0, 5, 0),
        Insn(op.BPF_LDX | op.BPF_MEM | op.BPF_B, 3, 1),
        Insn(op.BPF_ALU64 | op.BPF_ADD | op.BPF_X, 0, 3),
        Insn(op.BPF_ALU64 | op.BPF_ADD, 1, imm=1),
        Insn(op.BPF_ALU64 | op.BPF_ADD, 2, imm=-1),
        Insn(op.BPF_JMP | op.BPF_JNE, 2, 0, -5, 0),
        Insn(op.EXIT),
    ]
    text = lower(insns).text
    fast = text[text.index("\nf2:") :]
    fast = fast[: fast.index("\nb7:")]
    assert "load i8" in fast
    assert "%trap" not in fast
    data = bytes(range(256)) * 40
    with jit.compile(insns, cached=False) as native:
        assert native.run(bytearray(data)) == sum(data)
        for budget, fails in ((5 * (len(data) - 1), False), (5 * (len(data) - 1) - 1, True)):
            try:
                assert native.run(bytearray(data), budget=budget) == sum(data)
                assert not fails
            except ExecutionError as error:
                assert fails
                assert error.pc == 6
