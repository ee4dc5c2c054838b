"""What llvm-objdump prints, pasted whole: headings, slot numbers and raw bytes in either byte order."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import pytest

from skep.asm import assemble
from skep.asm.listing import raw_bytes
from skep.errors import AsmError
from skep.isa import Insn, encode
from skep.isa import opcodes as op
from skep.isa.ebpf import ByteOrder
from tests.asm import corpus
from tests.support import oracles


def objdump(code: bytes, order: str, folder: Path) -> str:
    """All that ``llvm-objdump -d`` prints of an object with ``code`` in it."""
    source, made = folder / "code.s", folder / "code.o"
    rows = (code[at : at + 64] for at in range(0, len(code), 64))
    source.write_text("\n".join(["prog:", *(".byte " + ",".join(map(str, row)) for row in rows)]))
    mc = oracles.tool("llvm-mc-19", "llvm-mc")
    triple = "bpfel" if order == "little" else "bpfeb"
    subprocess.run([mc, f"-triple={triple}", "-filetype=obj", source, "-o", made], check=True)
    tool = oracles.tool("llvm-objdump-19", "llvm-objdump")
    return subprocess.run(
        [tool, "-d", "-z", "--mcpu=v4", made], capture_output=True, text=True, check=True
    ).stdout


@pytest.mark.oracle
@pytest.mark.parametrize("order", ["little", "big"])
def test_nothing_is_lost(order: ByteOrder, tmp_path: Path) -> None:
    print(f"SKEP_SEED={corpus.SEED}")
    rng = random.Random(corpus.SEED)
    program = [insn for _ in range(4) for insn in corpus.program(rng, 200)]
    program = [
        insn
        for insn in program
        # LLVM 19 has no words for these two.
        if insn.opcode & (op.CLASS_MASK | op.MODE_MASK) != op.BPF_STX | op.BPF_ATOMIC or insn.imm < 0x100
    ]
    # What LLVM's text leaves out, and what it does not tell apart.
    program += [Insn(op.CALL, 0, src, 0, imm) for src in (0, 1, 2) for imm in (-1, 7, 1 << 20)]
    program += [Insn(op.BPF_LD | op.BPF_IND | size, 0, 7, 0, -3) for size in (op.BPF_W, op.BPF_H, op.BPF_B)]
    program += [Insn(op.LD_IMM64, 3, 2, 0, 9), Insn(0, 0, 0, 0, 77), Insn(op.EXIT, 0, 0, 0, 0)]
    code = encode(program, order)
    text = objdump(code, order, tmp_path)
    assert "file format" in text
    assert "<prog>:" in text
    assert encode(assemble(text), order) == code
    digits = raw_bytes(text)
    assert digits is not None
    assert bytes.fromhex(digits) == code


def test_edited_text_counts_more_than_its_bytes() -> None:
    (insn,) = assemble("0000 <name>:\n   0:\tb7 00 00 00 01 00 00 00\tr0 = 0x2\n")
    assert insn == Insn(op.BPF_ALU64 | op.BPF_MOV | op.BPF_K, 0, 0, 0, 2)
    (insn,) = assemble("   0:\t85 10 00 00 ff ff ff ff\tcall 0x5\n")
    assert insn == Insn(op.CALL, 0, 0, 0, 5)


def test_relocations_are_refused() -> None:
    with pytest.raises(AsmError, match=r"R_BPF_64_32.*without -r") as caught:
        assemble("  2:\t85 10 00 00 ff ff ff ff\tcall -0x1\n\t\t0000000000000010:  R_BPF_64_32\t.text\n")
    assert caught.value.line == 2


def test_digits_alone_are_no_listing() -> None:
    assert raw_bytes("b7 00 00 00 01 00 00 00\n95 00 00 00 00 00 00 00\n") is None
    assert raw_bytes("0: r0 = 1\n") is None
