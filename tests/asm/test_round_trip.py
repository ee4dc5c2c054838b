"""assemble(disassemble(x)) == x, for generated legal programs in every notation."""

from __future__ import annotations

import random

import pytest

from skep.asm import (
    CLASSIC_NOTATIONS,
    NOTATIONS,
    assemble,
    assemble_classic,
    disassemble,
    disassemble_classic,
)
from skep.isa import Insn, validate
from skep.isa import opcodes as op
from tests.asm import corpus


@pytest.mark.parametrize("notation", NOTATIONS)
def test_extended(notation: str) -> None:
    print(f"SKEP_SEED={corpus.SEED}")
    rng = random.Random(corpus.SEED)
    for _ in range(25):
        program = corpus.program(rng, 200)
        validate(program)
        assert assemble("\n".join(disassemble(program, notation))) == program


@pytest.mark.parametrize("notation", NOTATIONS)
def test_every_opcode_many_times(notation: str) -> None:
    rng = random.Random(corpus.SEED + 1)
    program = [insn for opcode in corpus.opcodes() for _ in range(30) for insn in corpus.legal(rng, opcode)]
    assert assemble("\n".join(disassemble(program, notation))) == program


@pytest.mark.parametrize("notation", CLASSIC_NOTATIONS)
def test_classic(notation: str) -> None:
    print(f"SKEP_SEED={corpus.SEED}")
    rng = random.Random(corpus.SEED)
    for _ in range(25):
        program = corpus.classic_program(rng, 300)
        assert assemble_classic("\n".join(disassemble_classic(program, notation))) == program


def test_any_bits_can_be_listed() -> None:
    rng = random.Random(corpus.SEED)
    slots = [corpus.anything(rng) for _ in range(5000)]
    for notation in NOTATIONS:
        lines = disassemble(slots, notation)
        assert all(line.strip() for line in lines)
    assert assemble("\n".join(disassemble(slots, "c"))) == slots
    for code in range(0x10000):
        assert corpus.ClassicInsn(code) and disassemble_classic([corpus.ClassicInsn(code, 1, 2, 3)])[0]


def test_a_wide_immediate_at_the_very_end() -> None:
    for notation in NOTATIONS:
        assert disassemble([Insn(op.LD_IMM64, 1)], notation)


def test_raw_slots_round_trip_through_slot_directives() -> None:
    rng = random.Random(corpus.SEED)
    slots = [corpus.anything(rng) for _ in range(500)]
    text = "\n".join(f".slot {op_:#x}, {dst}, {src}, {off}, {imm}" for op_, dst, src, off, imm in slots)
    assert assemble(text) == slots
