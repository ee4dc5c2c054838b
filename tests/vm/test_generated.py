"""Generated programs: the interpreter against the live kernel.

``SKEP_SEED`` moves to other programs, ``SKEP_PROGRAMS`` changes how many.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable

import pytest

from skep.errors import KernelError, SkepError
from skep.vm import Machine
from tests.support import live, oracles, programs

SEED = int(os.environ.get("SKEP_SEED", "1"))
COUNT = int(os.environ.get("SKEP_PROGRAMS", "2000"))

#: low half of r0, and the context's cb afterwards
Outcome = tuple[int, bytes]


def interpreted(program: programs.Program) -> Outcome:
    ctx = bytearray(program.ctx)
    struct.pack_into("=I", ctx, 0, len(program.packet))
    result = Machine(program.insns(), ctx, packet=program.packet).run()
    return result & programs.M32, bytes(ctx[programs.CB : programs.CB + programs.CB_BYTES])


def in_kernel(program: programs.Program) -> Outcome:
    with live.loaded(program.insns()) as loaded:
        answer = loaded.run(program.packet, program.ctx)
    return answer.retval, answer.ctx[programs.CB : programs.CB + programs.CB_BYTES]


def report(program: programs.Program, differs: Callable[[programs.Program], bool]) -> str:
    """The seed, and the listing of the smallest program that still differs."""

    def fails(smaller: programs.Program) -> bool:
        try:
            return differs(smaller)
        except SkepError:
            return False

    small = program.shrunk(fails)
    return f"SKEP_SEED={SEED}, program {program.seed}\n{programs.listing(small.insns())}"


@pytest.mark.live
def test_interpreter_equals_kernel() -> None:
    oracles.bpf()
    accepted = 0
    for seed in range(SEED * 1_000_000, SEED * 1_000_000 + COUNT):
        program = programs.Generator(seed).program()
        try:
            expected = in_kernel(program)
        except KernelError as error:
            # Too many paths for the verifier: no fault of the program's.
            assert error.errno == errno.E2BIG, f"program {seed}: {error}\n{error.log}"
            continue
        accepted += 1
        got = interpreted(program)
        if got != expected:
            pytest.fail(
                f"interpreter {got}, kernel {expected}; "
                + report(program, lambda smaller: interpreted(smaller) != in_kernel(smaller))
            )
    assert accepted >= 0.98 * COUNT


def test_programs_do_many_things() -> None:
    """The generator reaches every opcode it means to, and most results are not the packet's rejection."""
    seen: set[int] = set()
    zeros = 0
    for seed in range(600):
        program = programs.Generator(seed).program()
        seen |= {insn.opcode for insn in program.insns()}
        zeros += interpreted(program)[0] == 0
    assert zeros < 120
    missing = {opcode for opcode in _expected() if opcode not in seen}
    assert not missing, sorted(map(hex, missing))


def test_loops_for_linux_split_no_numbers() -> None:
    """The rule of `programs.Generator` that keeps kernels alive."""
    from skep.isa import jump_target
    from skep.isa import opcodes as op

    loops = 0
    for seed in range(SEED * 1_000_000, SEED * 1_000_000 + 500):
        insns = programs.Generator(seed).program().insns()
        for pc, insn in enumerate(insns):
            target = jump_target(insn, pc)
            if target is None or target > pc or insn.opcode == op.CALL:
                continue
            loops += 1
            for at in range(target, pc):
                opcode, dst, _, _, imm = insns[at]
                assert opcode != op.CALL, seed
                arithmetic = opcode & 7 in (op.BPF_ALU, op.BPF_ALU64)
                if arithmetic and opcode & op.OP_MASK in (op.BPF_AND, op.BPF_OR):
                    whole = insns[at - 1] == (op.BPF_ALU | op.BPF_MOV | op.BPF_X, dst, dst, 0, 0)
                    assert whole and opcode == op.BPF_ALU64 | op.BPF_AND and imm >= 0, (seed, at)
    assert loops > 100


def _expected() -> set[int]:
    from skep.isa import opcodes as op
    from skep.isa.legal import rules

    never = {op.CALLX}
    return {opcode for opcode, rule in enumerate(rules()) if rule is not None} - never


def test_shrinking_keeps_the_failure() -> None:

    def stores(smaller: programs.Program) -> bool:
        return any(insn.opcode == 0xDB for body in smaller.main for insn in getattr(body, "insns", ()))

    program = next(
        candidate
        for candidate in (programs.Generator(seed).program(40) for seed in range(100))
        if stores(candidate)
    )
    small = program.shrunk(stores)
    assert stores(small)
    assert len(small.main) == 1
