"""Which instructions are legal: by hand, and against the running kernel on generated single instructions."""

from __future__ import annotations

import os
import random
import re

import pytest

from skep.errors import DecodeError
from skep.isa import Insn, validate
from skep.isa import opcodes as op
from tests.asm import corpus
from tests.isa import live

EXIT = Insn(op.EXIT)
MOVE = Insn(0xB7)

#: program -> slot at fault, words of the reason
REFUSED = [
    ([], 0, "at least one"),
    ([Insn(0xFF), EXIT], 0, "unknown opcode 0xff"),
    ([Insn(0x85, src=3), EXIT], 0, "unknown kind 3"),
    ([Insn(0x85, off=1), EXIT], 0, "offset"),
    ([Insn(0x18, 1)], 0, "second half"),
    ([Insn(0x18, 1), Insn(0, 1), EXIT], 1, "more than an immediate"),
    ([Insn(0x18, 1, 1), Insn(0, imm=1), EXIT], 1, "no upper half"),
    ([Insn(0x18, 1, 7), Insn(0), EXIT], 0, "unknown kind 7"),
    ([Insn(0x05, off=1), Insn(0x18), Insn(0), EXIT], 0, "second half of a 64-bit immediate"),
    ([Insn(0x05, off=1), EXIT], 0, "outside the program's 2"),
    ([Insn(0x05, off=-2), EXIT], 0, "insn -1"),
    ([Insn(0x06, imm=5), EXIT], 0, "insn 6"),
    ([Insn(0x85, src=1, imm=9), EXIT], 0, "call to insn 10"),
    ([Insn(0xB7, 10), EXIT], 0, "r10"),
    ([Insn(0xB7, 11), EXIT], 0, "r11"),
    ([Insn(0x0F, 0, 12), EXIT], 0, "r12"),
    ([Insn(0x07, 0, 1), EXIT], 0, "src field"),
    ([Insn(0x0F, 0, 1, 0, 1), EXIT], 0, "immediate field"),
    ([Insn(0xDC, imm=8), EXIT], 0, "byte swap of 8"),
    ([Insn(0xDF, imm=16), EXIT], 0, "unknown opcode"),
    ([Insn(0x37, off=2, imm=1), EXIT], 0, "division with offset 2"),
    ([Insn(0xBC, off=32), EXIT], 0, "move with offset 32"),
    ([Insn(0xDB, 1, 2, 0, 0x30), EXIT], 0, "unknown atomic"),
    ([Insn(0xCB, 1, 2, 0, 0), EXIT], 0, "16 bits"),
    ([Insn(0xDB, 1, 10, 0, 1), EXIT], 0, "r10"),
    ([MOVE], 0, "last instruction"),
    ([EXIT, Insn(0x85)], 1, "last instruction"),
]


@pytest.mark.parametrize(("insns", "slot", "words"), REFUSED)
def test_refusals_say_where_and_what(insns: list[Insn], slot: int, words: str) -> None:
    with pytest.raises(DecodeError) as caught:
        validate(insns)
    assert caught.value.offset == 8 * slot
    assert words in str(caught.value)
    assert f"insn {slot}" in str(caught.value) or not insns


@pytest.mark.parametrize(
    "insns",
    [
        [Insn(0x67, 0, imm=64), EXIT],
        [Insn(0x64, 0, imm=-1), EXIT],
        [Insn(0x37, 0), EXIT],
        [Insn(0x94, 0), EXIT],
        [Insn(0x8D, 1), EXIT],
        [Insn(0x85, src=1, imm=1), EXIT, Insn(0x05, off=-2), EXIT],
        [Insn(0x85, src=1, imm=1), Insn(0x05, off=0), MOVE, EXIT],
    ],
)
def test_what_only_linux_refuses(insns: list[Insn]) -> None:
    validate(insns)
    with pytest.raises(DecodeError):
        validate(insns, linux=True)


def test_every_generated_legal_program_is_legal() -> None:
    rng = random.Random(corpus.SEED)
    for _ in range(20):
        validate(corpus.program(rng, 300))


#: What the kernel says of an instruction's form, as opposed to what values it works on.
FORM = re.compile(
    r"reserved field|unknown opcode|R\d+ is invalid|invalid BPF_|frame pointer is read only"
    r"|(?:invalid|unrecognized) bpf_ld_imm64|invalid shift|div by zero|jump out of range|last insn"
    r"|invalid atomic operand|call to invalid dest|invalid may_goto|only convert between|BPF_ATOMIC uses"
)


def _case(rng: random.Random, opcode: int) -> Insn:
    kind = rng.random()
    if kind > 0.6 and opcode in corpus.opcodes():
        return corpus.legal(rng, opcode)[0]
    insn = corpus.anything(rng)._replace(opcode=opcode)
    if kind < 0.5:
        insn = insn._replace(off=rng.choice((0, 0, 1, 8, 16, 32)))
    if kind < 0.4:
        insn = insn._replace(dst=rng.choice((0, 7, 10, 11)), src=rng.choice((0, 1, 2, 9, 10)))
    if kind < 0.3:
        insn = insn._replace(imm=rng.choice((0, 16, 32, 1)))
    return insn


def _program(insn: Insn) -> list[Insn]:
    """The instruction where every register but r10 may be read and any jump by 0 is fine."""
    skip = Insn(0x15, off=2 if insn.opcode == op.LD_IMM64 else 1)
    start = [Insn(0xBF, 6, 1), *(Insn(0xB7, r, imm=1) for r in (0, 2, 3, 4, 5, 7, 8, 9)), skip]
    return [*start, insn, *([Insn(0)] if insn.opcode == op.LD_IMM64 else []), MOVE, EXIT]


@pytest.mark.live
def test_the_kernel_agrees_on_single_instructions() -> None:
    """Only the form is compared: a program refused for what it does is legal in form."""
    print(f"SKEP_SEED={corpus.SEED}")
    rng = random.Random(corpus.SEED)
    legal = 0
    for opcode in range(256):
        for _ in range(12):
            insn = _case(rng, opcode)
            if opcode == op.LD_IMM64:
                insn = insn._replace(src=rng.choice((0, 7, 8)))  # maps and BTF ids need objects
            if opcode == op.CALL and insn.src == 2:
                continue  # kernel functions need BTF
            program = _program(insn)
            try:
                validate(program, linux=True)
                refused = None
            except DecodeError as error:
                refused = str(error)
            fd, log = live.load(program)
            if fd >= 0:
                os.close(fd)
            form = next((line for line in log.splitlines() if FORM.search(line)), None) if fd < 0 else None
            assert (refused is None) == (form is None), (insn, refused, log[-300:])
            legal += refused is None
    print(f"{legal} legal instructions")
    assert legal > 400  # the comparison is worth something only if both sides of it occur


def test_the_name_is_the_function_whoever_was_loaded_first() -> None:
    """No module of the package may bear the name of what the package offers: it would take its place."""
    import importlib
    import pkgutil

    package = importlib.import_module("skep.isa")
    modules = {module.name for module in pkgutil.iter_modules(package.__path__)}
    assert not modules & set(package.__all__)
