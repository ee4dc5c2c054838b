"""Programs without any structure: random legal instructions, jumps and calls to anywhere.

r1 (the context) and r10 (the stack) are only used as the base of a load or store, so that no engine's
addresses show in results. ``SKEP_SEED`` moves to other programs, ``SKEP_PROGRAMS`` changes how many.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator

import pytest

from skep.errors import DecodeError, ExecutionError
from skep.isa import Insn, ld_imm64, validate
from skep.isa import opcodes as op
from skep.isa.legal import rules
from skep.vm import Machine
from tests.support import programs

SEED = int(os.environ.get("SKEP_SEED", "1"))
COUNT = int(os.environ.get("SKEP_PROGRAMS", "2000"))
FREE = (0, 2, 3, 4, 5, 6, 7, 8, 9)
CTX = 32
KINDS = ("bounds", "align", "helper", "deep", "budget")
BUDGET = 300
HELPERS = {1: lambda a, b, c, d, e: b ^ c * 3 ^ d * 5 ^ e * 7, 2: lambda *_: 0xFEDC_BA98_7654_3210}
ATOMICS = (
    *(code | fetch for code in programs.RMW for fetch in (0, op.BPF_FETCH)),
    op.BPF_XCHG,
    op.BPF_CMPXCHG,
    op.BPF_LOAD_ACQ,
    op.BPF_STORE_REL,
)


def wild(rng: random.Random) -> list[Insn]:
    """5 to 40 slots that `validate` accepts."""
    legal = [code for code, rule in enumerate(rules()) if rule is not None]
    while True:
        insns: list[Insn] = []
        count = rng.randint(5, 40)
        while len(insns) < count:
            opcode = rng.choice(legal)
            if opcode == op.LD_IMM64:
                insns += ld_imm64(rng.choice(FREE), rng.choice(programs.EDGES))
            else:
                insns.append(_insn(rng, opcode, len(insns), count))
        insns.append(Insn(op.EXIT))
        try:
            validate(insns)
        except DecodeError:  # a jump into a 64-bit immediate, a width that does not exist
            continue
        return insns


def _insn(rng: random.Random, opcode: int, pc: int, count: int) -> Insn:
    kind, mode = opcode & op.CLASS_MASK, opcode & op.MODE_MASK
    dst, src = rng.choice(FREE), rng.choice(FREE)
    imm = rng.choice((rng.choice(programs.EDGES) & programs.M32, rng.getrandbits(5)))
    imm -= imm >> 31 << 32
    there = rng.randrange(count + 1) - pc - 1
    if kind in (op.BPF_ALU, op.BPF_ALU64):
        operation = opcode & op.OP_MASK
        if operation == op.BPF_END:
            return Insn(opcode, dst, imm=rng.choice((16, 32, 64)))
        if operation == op.BPF_NEG:
            return Insn(opcode, dst)
        off = 0
        if operation in (op.BPF_DIV, op.BPF_MOD):
            off = rng.choice((0, 1))
        elif operation == op.BPF_MOV and opcode & op.BPF_X:
            off = rng.choice((0, 0, 8, 16, 32) if kind == op.BPF_ALU64 else (0, 0, 8, 16))
        return Insn(opcode, dst, src, off) if opcode & op.BPF_X else Insn(opcode, dst, 0, off, imm)
    if kind in (op.BPF_JMP, op.BPF_JMP32):
        if opcode in (op.JA, op.MAY_GOTO):
            return Insn(opcode, off=there)
        if opcode == op.GOTOL:
            return Insn(opcode, imm=there)
        if opcode == op.CALL:
            local = rng.random() < 0.6
            return Insn(opcode, 0, int(local), 0, there if local else rng.choice((1, 1, 2, 3)))
        if opcode == op.CALLX:
            return Insn(opcode, dst)
        if opcode == op.EXIT:
            return Insn(opcode)
        return Insn(opcode, dst, src, there) if opcode & op.BPF_X else Insn(opcode, dst, 0, there, imm)
    if kind == op.BPF_LD:
        offset = rng.choice((0, 1, 5, 100, -1))
        return Insn(opcode, 0, src if mode == op.BPF_IND else 0, 0, offset)
    base = rng.choice((1, 10, 10, rng.choice(FREE) if rng.random() < 0.1 else 10))
    size = op.SIZE_BYTES[opcode & op.SIZE_MASK]
    off = size * rng.randrange(32 // size) - (64 if base == 10 else 0)
    if rng.random() < 0.05:
        off = rng.choice((0, -513, 31, -1, 7, 0x7FFF))
    if kind == op.BPF_LDX:
        return Insn(opcode, dst, base, off)
    if kind == op.BPF_ST:
        return Insn(opcode, base, 0, off, imm)
    if mode != op.BPF_ATOMIC:
        return Insn(opcode, base, src, off)
    operation = rng.choice(ATOMICS)
    off = min(off + (rng.random() < 0.1), 0x7FFF)
    if operation == op.BPF_LOAD_ACQ:
        return Insn(opcode, dst, base, off, operation)
    return Insn(opcode, base, src, off, operation)


def kind(error: ExecutionError) -> str:
    return next((word for word in KINDS if word in error.reason), "?")


def end_of(machine: Machine, ctx: bytearray) -> tuple[object, ...]:
    try:
        return machine.run(), "", -1, bytes(ctx)
    except ExecutionError as error:
        return None, kind(error), error.pc, bytes(ctx)


def test_wild_programs_end_in_one_of_the_ways_there_are() -> None:
    ends: dict[object, int] = {}
    for number in range(COUNT):
        rng = random.Random(SEED * 1_000_000 + 500_000 + number)
        insns = wild(rng)
        ctx = bytearray(rng.randbytes(CTX))
        machine = Machine(insns, ctx, packet=bytes(range(16)), helpers=HELPERS, budget=BUDGET)
        end = end_of(machine, ctx)
        ends[end[1]] = ends.get(end[1], 0) + 1
        assert end[1] != "?", (SEED, number, end)
    assert set(ends) == {"", *KINDS}, ends


def test_stepping_is_running() -> None:
    """Steps reach the same end, and what they report adds up to it."""
    for number in range(COUNT // 4):
        rng = random.Random(SEED * 1_000_000 + 600_000 + number)
        insns = wild(rng)
        contents = rng.randbytes(CTX)
        whole, memory = (
            Machine(insns, ran := bytearray(contents), packet=bytes(9), budget=BUDGET),
            bytearray(),
        )
        expected = end_of(whole, ran)
        stepped = Machine(insns, memory := bytearray(contents), packet=bytes(9), budget=BUDGET)
        registers, pc, replayed = list(stepped.registers), 0, bytearray(contents)
        try:
            for step in stepped.steps():
                assert step.pc == pc, "steps follow each other"
                changed = {n for n in range(11) if step.registers[n] != registers[n]}
                assert changed == set(step.changed)
                registers, pc = list(step.registers), step.next_pc
                if step.written is not None and stepped.where(step.written[0]).startswith("ctx"):
                    at = int(stepped.where(step.written[0])[3:])
                    replayed[at : at + len(step.written[1])] = step.written[1]
        except ExecutionError as error:
            assert (None, error.pc) == (expected[0], expected[2])
        else:
            assert (stepped.registers[0], pc) == (expected[0], -1)
        assert bytes(memory) == expected[3] == bytes(replayed)
        assert whole.budget == stepped.budget


def compared_with_native() -> Iterator[str]:
    """What is being compiled, and last a line that starts with ! if the engines differ."""
    from skep.jit import compile as compile_native

    for number in range(COUNT // 5):
        rng = random.Random(SEED * 1_000_000 + 700_000 + number)
        insns = wild(rng)
        contents, packet = rng.randbytes(CTX), bytes(range(16))
        ctx, memory = bytearray(contents), bytearray(contents)
        expected = end_of(Machine(insns, ctx, packet=packet, helpers=HELPERS, budget=BUDGET), ctx)
        case = f"SKEP_SEED={SEED}, number {number}\n{programs.listing(insns)}\n"
        yield case
        with compile_native(insns, helpers=HELPERS, cached=False, isolate=False) as native:
            try:
                got: tuple[object, ...] = native.run(memory, packet, budget=BUDGET), "", -1, bytes(memory)
            except ExecutionError as error:
                got = None, kind(error), error.pc, bytes(memory)
        if got != expected:
            yield f"!interpreter {expected}\nnative {got}\n{case}"
            return


def test_wild_programs_on_both_engines() -> None:
    """In a process of its own: LLVM ends the process when its own checks fail."""
    pytest.importorskip("llvmlite", reason="the native engine needs llvmlite")
    read, write = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.close(read)
            for line in compared_with_native():
                os.write(write, b"\0" + line.encode())
        except BaseException as error:
            os.write(write, f"\n{error!r}".encode())
            os._exit(1)
        os._exit(0)
    os.close(write)
    with open(read, "rb") as pipe:
        last = pipe.read().decode().rpartition("\0")[2]
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status == 0, f"ended with {status} at {last}"
    assert not last.startswith("!"), last
