"""Jumps, calls and ends of whole programs, against the running kernel."""

from __future__ import annotations

import os
import random
import re

import pytest

from skep.errors import DecodeError
from skep.isa import Insn, ld_imm64, validate
from skep.isa import opcodes as op
from tests.asm import corpus
from tests.isa import live

#: The kernel's words for what `validate` looks at.
STRUCTURE = re.compile(
    r"jump out of range|last insn is not|call to invalid destination|jump into the middle of ldimm64"
    r"|invalid bpf_ld_imm64|reserved field"
)
#: What the kernel says before it has looked at all of it: nothing to compare.
FIRST = re.compile(
    r"missing btf func_info|not allowed|number of subprog|unreachable insn|back-edge|R\d+ !read"
)


def _program(rng: random.Random) -> list[Insn]:
    insns: list[Insn] = []
    for _ in range(rng.randrange(2, 14)):
        far = rng.choice((-3, -1, 0, 0, 0, 1, 1, 2, 3, 5, 9))
        kind = rng.randrange(9)
        if kind < 2:
            insns.append(Insn(0xB7, 0, imm=1))
        elif kind == 2:
            insns += ld_imm64(0, 5)
        elif kind == 3:
            insns.append(Insn(op.JA, off=far))
        elif kind == 4:
            insns.append(Insn(op.GOTOL, imm=far))
        elif kind == 5:
            insns.append(Insn(op.CALL, src=1, imm=far))
        elif kind == 6:
            insns.append(Insn(op.EXIT))
        else:
            insns.append(Insn(0x15, 1, off=far))
    if rng.random() < 0.8:
        insns.append(Insn(op.EXIT))
    return insns


@pytest.mark.live
def test_the_kernel_agrees_on_jumps_and_subprograms() -> None:
    print(f"SKEP_SEED={corpus.SEED}")
    rng = random.Random(corpus.SEED)
    verdicts = {True: 0, False: 0}
    for _ in range(4000):
        program = _program(rng)
        try:
            validate(program, linux=True)
            refused = None
        except DecodeError as error:
            refused = str(error)
        fd, log = live.load(program)
        if fd >= 0:
            os.close(fd)
        theirs = fd < 0 and STRUCTURE.search(log) is not None
        if fd < 0 and not theirs and refused is not None and FIRST.search(log):
            continue
        assert theirs == (refused is not None), (program, refused, log[-200:])
        verdicts[theirs] += 1
    print(f"compared {sum(verdicts.values())} programs, {verdicts[True]} refused")
    assert min(verdicts.values()) > 200
