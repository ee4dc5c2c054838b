"""LLVM's notation against llvm-objdump, and our assembler against llvm-mc, thousands of lines a process."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import pytest

from skep.asm import assemble, llvm
from skep.isa import Insn, encode
from skep.isa import opcodes as op
from tests.asm import corpus
from tests.support import oracles

pytestmark = pytest.mark.oracle


def objdump(code: bytes, folder: Path, *options: str) -> list[str]:
    """llvm-objdump's lines for raw bytes."""
    source, made = folder / "code.s", folder / "code.o"
    rows = (code[at : at + 64] for at in range(0, len(code), 64))
    source.write_text("\n".join(".byte " + ",".join(map(str, row)) for row in rows))
    mc = oracles.tool("llvm-mc-19", "llvm-mc")
    subprocess.run([mc, "-triple=bpfel", "-filetype=obj", source, "-o", made], check=True)
    tool = oracles.tool("llvm-objdump-19", "llvm-objdump")
    done = subprocess.run(
        [tool, "-d", "-z", "--no-show-raw-insn", *options, made], capture_output=True, text=True, check=True
    )
    return [line for line in done.stdout.splitlines()[6:] if line.strip()]


def unknown_to_llvm(insn: Insn, alu32: bool) -> bool:
    """Legal, but LLVM 19 does not know it (load_acquire, store_release), or not without --mcpu."""
    if insn.opcode & (op.CLASS_MASK | op.MODE_MASK) != op.BPF_STX | op.BPF_ATOMIC:
        return False
    if insn.imm in (op.BPF_LOAD_ACQ, op.BPF_STORE_REL):
        return True
    return not alu32 and insn.opcode & op.SIZE_MASK == op.BPF_W and insn.imm != op.BPF_ADD


@pytest.mark.parametrize("alu32", [False, True])
def test_listing_of_legal_programs(alu32: bool, tmp_path: Path) -> None:
    print(f"SKEP_SEED={corpus.SEED}")
    rng = random.Random(corpus.SEED)
    program = [insn for _ in range(15) for insn in corpus.program(rng, 300)]
    _compare(program, alu32, tmp_path, 4000)


@pytest.mark.parametrize("alu32", [False, True])
def test_listing_of_any_bits(alu32: bool, tmp_path: Path) -> None:
    print(f"SKEP_SEED={corpus.SEED}")
    rng = random.Random(corpus.SEED)
    program: list[Insn] = []
    for opcode in range(256):
        for _ in range(50):
            insn = corpus.anything(rng)._replace(opcode=opcode)
            if rng.random() < 0.6:
                insn = insn._replace(off=rng.choice((0, 1, 8, 16, 32)), imm=rng.choice((0, insn.imm)))
            if rng.random() < 0.6:
                insn = insn._replace(dst=rng.randrange(12), src=rng.randrange(12))
            program += [insn, Insn(0, imm=5)] if opcode == op.LD_IMM64 else [insn]
    _compare(program, alu32, tmp_path, 12_000)


def _compare(program: list[Insn], alu32: bool, folder: Path, least: int) -> None:
    want = objdump(encode(program), folder, *(["--mcpu=v4"] if alu32 else []))
    got = llvm.listing(program, alu32=alu32, annotate=False)
    assert len(got) == len(want) >= least
    compared = 0
    for ours, theirs in zip(got, want, strict=True):
        slot = int(theirs.split(":")[0])
        if not unknown_to_llvm(program[slot], alu32):
            assert ours == theirs, program[slot]
            compared += 1
    print(f"compared {compared} instructions")
    assert compared > 0.95 * least


def test_bytes_of_what_llvm_writes(tmp_path: Path) -> None:
    """The text of legal programs, assembled by llvm-mc and by us."""
    rng = random.Random(corpus.SEED)
    program = [insn for _ in range(15) for insn in corpus.program(rng, 300)]
    lines = [
        llvm.text(program, pc, alu32=True, symbol=None)
        for pc in range(len(program))
        if program[pc].opcode
        and not unknown_to_llvm(program[pc], True)
        # llvm-mc keeps these for the linker or has another form for them
        and program[pc].opcode not in (op.CALL, op.LD_IMM64)
        and program[pc].opcode & (op.CLASS_MASK | op.MODE_MASK) != op.BPF_LD | op.BPF_IND
    ]
    lines = [line for line in lines if "gotol" not in line]
    lines += [f"r{rng.randrange(10)} = {rng.randrange(-(1 << 63), 1 << 64)} ll" for _ in range(200)]
    source = tmp_path / "code.s"
    source.write_text("\n".join(lines) + "\n")
    mc = oracles.tool("llvm-mc-19", "llvm-mc")
    made = tmp_path / "code.o"
    subprocess.run([mc, "-triple=bpfel", "-mcpu=v4", "-filetype=obj", source, "-o", made], check=True)
    copy = oracles.tool("llvm-objcopy-19", "llvm-objcopy", "objcopy")
    raw = tmp_path / "code.bin"
    subprocess.run([copy, "-O", "binary", "--only-section=.text", made, raw], check=True)
    assert encode(assemble("\n".join(lines))) == raw.read_bytes()
    print(f"compared {len(lines)} instructions")
    assert len(lines) > 3500


def test_what_clang_writes(tmp_path: Path) -> None:
    """Real compiler output, with its directives and labels, assembles to the bytes clang itself makes."""
    source = tmp_path / "code.c"
    source.write_text(
        "int f(unsigned char *p, unsigned n) { int s = 0; for (unsigned i = 0; i < n; i++) {"
        " if (p[i] > 9) s += (signed char)p[i] % 7; else s ^= __builtin_bswap32(i) / (n | 1); }"
        " __sync_fetch_and_add((long *)p, s); return s; }"
    )
    clang = oracles.tool("clang-19", "clang")
    for cpu in ("v1", "v3", "v4"):
        if cpu == "v1":
            text = (
                source.read_text().replace("(signed char)p[i] % 7", "p[i] % 7").replace("(long *)", "(int *)")
            )
            source.write_text(text)
        common = [clang, "--target=bpfel", f"-mcpu={cpu}", "-O2", source]
        subprocess.run([*common, "-S", "-o", tmp_path / "code.s"], check=True)
        subprocess.run([*common, "-c", "-o", tmp_path / "code.o"], check=True)
        copy = oracles.tool("llvm-objcopy-19", "llvm-objcopy", "objcopy")
        raw = tmp_path / "code.bin"
        subprocess.run([copy, "-O", "binary", "--only-section=.text", tmp_path / "code.o", raw], check=True)
        assert encode(assemble((tmp_path / "code.s").read_text())) == raw.read_bytes()
