"""The mnemonic notation against capstone, which knows v1 and v2 and writes them in a dialect of it."""

from __future__ import annotations

import random
import re

import capstone
import pytest

from skep.asm import assemble
from skep.isa import Insn, encode
from skep.isa import opcodes as op
from skep.isa.facts import is_jump, version
from tests.asm import corpus

_ALU = ["add", "sub", "mul", "div", "mod", "or", "and", "xor", "lsh", "rsh", "arsh", "neg", "mov"]


def ours(mnemonic: str, operands: str) -> str:
    """Capstone's plain arithmetic is 32 bits wide; its packet loads and jumps have other names."""
    if mnemonic in _ALU:
        mnemonic += "32"
    elif mnemonic == "jmp":
        mnemonic = "ja"
    elif mnemonic in ("ldb", "ldh", "ldw") and operands.startswith("[r"):
        base, _, offset = operands.strip("[]").partition("+")
        return f"ldind{mnemonic[2]} {base}, {offset or 0}"
    elif mnemonic in ("ldb", "ldh", "ldw"):
        return f"ldabs{mnemonic[2]} {operands.strip('[]')}"
    return f"{mnemonic} {operands}"


def known(insn: Insn) -> bool:
    """What capstone decodes and decodes right: v1 and v2, 32-bit arithmetic; plain calls and immediates."""
    cls = insn.opcode & op.CLASS_MASK
    if version(insn) > (3 if cls == op.BPF_ALU else 2) or insn.opcode == op.CALLX:
        return False
    if insn.opcode in (op.CALL, op.LD_IMM64) and insn.src:
        return False
    return cls != op.BPF_STX or insn.opcode & op.MODE_MASK == op.BPF_MEM


@pytest.mark.oracle
def test_capstone_text_assembles_to_the_same_bytes() -> None:
    print(f"SKEP_SEED={corpus.SEED}")
    rng = random.Random(corpus.SEED)
    machine = capstone.Cs(capstone.CS_ARCH_BPF, capstone.CS_MODE_BPF_EXTENDED)
    compared = 0
    for opcode in corpus.opcodes():
        for _ in range(30):
            insns = corpus.legal(rng, opcode)
            if is_jump(insns[0]):
                insns = [insns[0]._replace(off=rng.randrange(-(1 << 15), 1 << 15))]
            if not known(insns[0]):
                continue
            found = list(machine.disasm(encode(insns), 0))
            assert len(found) == 1, insns
            text = ours(found[0].mnemonic, found[0].op_str)
            assert assemble(text) == insns, (text, re.sub(r"\s+", " ", found[0].op_str))
            compared += 1
    print(f"compared {compared} instructions")
    assert compared > 2000
