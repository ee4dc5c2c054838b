"""Generated programs on both engines: results, memory, and how programs that are stopped end.

``SKEP_SEED`` moves to other programs, ``SKEP_PROGRAMS`` changes how many.
"""

from __future__ import annotations

import os
import random
import struct
from typing import NamedTuple

import pytest

from skep.errors import ExecutionError
from skep.isa import Insn, jump_target, ld_imm64
from skep.isa import opcodes as op
from skep.vm import Machine
from tests.jit.shuffle import shuffled
from tests.support import live, oracles, programs

pytest.importorskip("llvmlite", reason="the native engine needs llvmlite")

from skep.jit import compile as compile_native

SEED = int(os.environ.get("SKEP_SEED", "1"))
COUNT = int(os.environ.get("SKEP_PROGRAMS", "2000")) // 8
BUDGET = 20_000
CTX = programs.CTX_BYTES

#: what an error's text must say of its kind
KINDS = ("out of bounds", "align", "helper", "deep", "budget")


class End(NamedTuple):
    """How a run ended: r0 or the error's kind and pc, and the context afterwards."""

    result: int | None
    stopped: str
    pc: int
    ctx: bytes


def kind(error: ExecutionError) -> str:
    text = error.reason
    return next((word for word in KINDS if word in text), text)


def helper(a: int, b: int, c: int, d: int, e: int) -> int:
    return (a * 3 + b * 5 + c * 7 + d * 11 + e * 13) ^ 0x1234_5678_9ABC_DEF0


HELPERS = {3: helper, 100_000: lambda *numbers: -1}


def interpreted(insns: list[Insn], ctx: bytes, packet: bytes, budget: int) -> End:
    memory = bytearray(ctx)
    try:
        result = Machine(insns, memory, packet=packet, helpers=HELPERS, budget=budget).run()
    except ExecutionError as error:
        return End(None, kind(error), error.pc, bytes(memory))
    return End(result, "", -1, bytes(memory))


def native(insns: list[Insn], ctx: bytes, packet: bytes, budget: int) -> End:
    memory = bytearray(ctx)
    with compile_native(insns, helpers=HELPERS, cached=False, isolate=False) as program:
        try:
            result = program.run(memory, packet, budget=budget)
        except ExecutionError as error:
            return End(None, kind(error), error.pc, bytes(memory))
    return End(result, "", -1, bytes(memory))


def inputs(program: programs.Program) -> tuple[bytes, bytes]:
    ctx = bytearray(program.ctx)
    struct.pack_into("=I", ctx, 0, len(program.packet))
    return bytes(ctx), program.packet


def differs(program: programs.Program) -> bool:
    ctx, packet = inputs(program)
    insns = program.insns()
    return interpreted(insns, ctx, packet, BUDGET) != native(insns, ctx, packet, BUDGET)


def without(insns: list[Insn], start: int, count: int) -> list[Insn]:
    """The program less ``count`` slots, jumps led to what follows them."""
    return _moved(insns[:start] + insns[start + count :], insns, start, -count)


def spliced(insns: list[Insn], at: int, extra: list[Insn]) -> list[Insn]:
    """The program with ``extra`` before slot ``at``; jumps to ``at`` reach ``extra`` first."""
    return _moved(insns[:at] + extra + insns[at:], insns, at, len(extra))


def _moved(out: list[Insn], insns: list[Insn], at: int, by: int) -> list[Insn]:
    result = list(out)
    for pc, insn in enumerate(insns):
        target = jump_target(insn, pc)
        if target is None or (by < 0 and at <= pc < at - by):
            continue
        here = pc + by if pc >= at - min(by, 0) else pc
        there = max(at, target + by) if by < 0 and target > at else target + by if target > at else target
        if insn.opcode in (op.GOTOL, op.CALL):
            result[here] = insn._replace(imm=there - here - 1)
        else:
            result[here] = insn._replace(off=there - here - 1)
    return result


def shortest(insns: list[Insn], ctx: bytes, packet: bytes, budget: int) -> str:
    """A listing of as few slots as still differ."""
    from skep.errors import SkepError

    progress = True
    while progress:
        progress = False
        for count in (16, 4, 1):
            for start in range(len(insns) - count, -1, -1):
                smaller = without(insns, start, count)
                try:
                    if interpreted(smaller, ctx, packet, budget) != native(smaller, ctx, packet, budget):
                        insns, progress = smaller, True
                except SkepError:
                    continue
    a, b = interpreted(insns, ctx, packet, budget), native(insns, ctx, packet, budget)
    return f"SKEP_SEED={SEED}\ninterpreter {a}\nnative      {b}\n{programs.listing(insns)}"


def seeds(offset: int, count: int = COUNT) -> range:
    start = SEED * 1_000_000 + offset
    return range(start, start + count)


def test_generated_programs() -> None:
    """All kinds of instructions, also what Linux refuses (shifts too far, division by an immediate 0)."""
    for seed in seeds(200_000):
        program = programs.Generator(seed, kernel=False).program()
        if differs(program):
            ctx, packet = inputs(program)
            pytest.fail(f"program {seed}: {shortest(program.insns(), ctx, packet, BUDGET)}")


def test_generated_programs_in_pieces() -> None:
    """Their blocks in any order, and stopped early: jumps back pay wherever they lead."""
    budgets: dict[str, int] = {}
    for seed in seeds(500_000, COUNT // 4):
        program = programs.Generator(seed, kernel=False).program(12)
        ctx, packet = inputs(program)
        insns = shuffled(program.insns(), seed)
        budget = random.Random(seed).choice((0, 10, 100, 1000, BUDGET, (1 << 63) - 1))
        expected = interpreted(insns, ctx, packet, budget)
        budgets[expected.stopped] = budgets.get(expected.stopped, 0) + 1
        if expected != native(insns, ctx, packet, budget):
            pytest.fail(f"program {seed}: {shortest(insns, ctx, packet, budget)}")
    assert {"budget", ""} <= set(budgets), budgets


@pytest.mark.live
def test_native_equals_kernel() -> None:
    oracles.bpf()
    for seed in seeds(300_000, COUNT // 2):
        program = programs.Generator(seed).program()
        ctx, packet = inputs(program)
        insns = program.insns()
        got = native(insns, ctx, packet, BUDGET)
        with live.loaded(insns) as loaded:
            answer = loaded.run(packet, program.ctx)
        assert got.result is not None
        part = slice(programs.CB, programs.CB + programs.CB_BYTES)
        assert (got.result & programs.M32, got.ctx[part]) == (answer.retval, answer.ctx[part]), (
            f"program {seed}\n{programs.listing(insns)}"
        )


# --- programs that are stopped -------------------------------------------------------------------


def sabotage(rng: random.Random, length: int) -> list[Insn]:
    """Instructions that stop a program, or may; if they do not, they leave no address behind."""
    size = rng.choice((1, 2, 4, 8))
    width = programs.SIZES[size]
    reg, other = rng.sample((0, 1, 2, 3, 4, 5, 7, 8), 2)
    off = rng.choice((0, 1, -1, 8, -8, 4, 0x7FFF, -0x8000, -size, CTX - size, CTX - size + 1, CTX))
    load = Insn(op.BPF_LDX | op.BPF_MEM | width, other, reg, off)
    store = Insn(op.BPF_STX | op.BPF_MEM | width, reg, other, off)
    immediate = Insn(op.BPF_ST | op.BPF_MEM | width, reg, 0, off, rng.choice((-1, 0, 7)))
    wide = rng.choice((4, 8))
    atomic = Insn(
        op.BPF_STX | op.BPF_ATOMIC | programs.SIZES[wide],
        reg,
        other,
        off,
        rng.choice((*programs.RMW, op.BPF_XCHG, op.BPF_CMPXCHG, op.BPF_ADD | op.BPF_FETCH)),
    )
    access = rng.choice((load, load, store, immediate, atomic))
    move = op.BPF_ALU64 | op.BPF_MOV | op.BPF_X
    forget = Insn(op.BPF_ALU64 | op.BPF_MOV, reg, imm=rng.choice((0, 1, -1)))
    how = rng.randrange(9)
    if how == 0:  # around the ends of the stack
        delta = rng.choice((-512, -511, -508, -8, -1, 0, 1, 8, 504, 1024, -1 << 31, (1 << 31) - 1))
        add = Insn(op.BPF_ALU64 | op.BPF_ADD, reg, imm=delta)
        return [Insn(move, reg, 10), add, access._replace(off=0), forget]
    if how == 1:  # around the ends of the context
        return [Insn(move, reg, 6), access, forget]
    if how == 2:  # anything as an address
        return [*ld_imm64(reg, rng.choice(programs.EDGES)), access]
    if how == 3:  # a pointer that went through memory, or a variable index
        return [
            Insn(op.BPF_STX | op.BPF_MEM | op.BPF_DW, 10, 6, -8),
            Insn(op.BPF_LDX | op.BPF_MEM | op.BPF_DW, reg, 10, -8),
            access,
            Insn(op.BPF_ST | op.BPF_MEM | op.BPF_DW, 10, 0, -8, 5),
            forget,
        ]
    if how == 4:
        bound = rng.choice((0x1FF, 0x3FF, 0xFF))
        return [
            Insn(op.BPF_ALU64 | op.BPF_AND, reg, imm=bound),
            Insn(op.BPF_ALU64 | op.BPF_ADD | op.BPF_X, reg, rng.choice((6, 10))),
            access._replace(off=-size),
            forget,
        ]
    if how == 5:
        return [Insn(op.CALL, imm=rng.choice((3, 3, 100_000, 4, -1)))]
    if how == 6:
        return [Insn(op.BPF_ALU64 | op.BPF_MOV, reg, imm=rng.choice((3, 100_000, 77))), Insn(op.CALLX, reg)]
    if how == 7:  # an endless loop, or one that ends only sometimes
        test = Insn(op.BPF_JMP | op.BPF_JSET, other, off=-2, imm=rng.choice((-1, 1, 0x80)))
        return [Insn(op.BPF_ALU64 | op.BPF_ADD, other, imm=1), rng.choice((test, Insn(op.JA, off=-2)))]
    # recursion: a call of the program's own start
    return [Insn(op.CALL, 0, op.BPF_PSEUDO_CALL, imm=-length - 1)]


def test_stopped_programs_end_alike() -> None:
    ends: dict[str, int] = {}
    for seed in seeds(400_000):
        rng = random.Random(seed)
        program = programs.Generator(seed, kernel=False).program(12)
        ctx, packet = inputs(program)
        insns = program.insns()
        at = rng.choice([pc for pc in range(31, len(insns)) if _between(insns, pc)])
        insns = spliced(insns, at, sabotage(rng, at))
        budget = rng.choice((0, 10, 100, 1000, BUDGET))
        expected = interpreted(insns, ctx, packet, budget)
        ends[expected.stopped] = ends.get(expected.stopped, 0) + 1
        if expected != native(insns, ctx, packet, budget):
            pytest.fail(f"program {seed}: {shortest(insns, ctx, packet, budget)}")
    assert {"out of bounds", "helper", "budget", ""} <= set(ends), ends


def _between(insns: list[Insn], pc: int) -> bool:
    """Whether no instruction is torn apart at ``pc``, and no register holds an address that could get out."""
    pointer = op.BPF_ALU64 | op.BPF_MOV | op.BPF_X
    return insns[pc - 1].opcode != op.LD_IMM64 and not any(
        insn.opcode == pointer and insn.src == 10 for insn in insns[pc - 3 : pc]
    )
