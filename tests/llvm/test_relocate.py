"""aarch64 objects made by clang, linked here: branches and addresses decoded again from the patched code."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from skep.errors import LinkError
from skep.llvm import native
from skep.llvm.relocate import EM_AARCH64, EM_X86_64, SPREAD, relocate, stub
from tests.support.oracles import tool

SOURCE = """
static const long table[8] = {3, 1, 4, 1, 5, 9, 2, 6};
__attribute__((noinline)) long pick(long i) { return table[i & 7]; }
long twice(long i) { return pick(i) + pick(i + 1); }
"""
BASE = 0x7F0012345000


@pytest.mark.oracle
def test_aarch64_links_to_the_right_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = tmp_path / "a.c", tmp_path / "a.o"
    source.write_text(SOURCE)
    clang = tool("clang-19", "clang")
    flags = ["-target", "aarch64-linux-gnu", "-O1", "-fno-asynchronous-unwind-tables", "-ffreestanding"]
    subprocess.run([clang, *flags, "-c", str(source), "-o", str(target)], check=True)
    monkeypatch.setattr(native.os, "uname", lambda: SimpleNamespace(machine="aarch64"))
    linker = native._Linker(target.read_bytes(), {})
    linker.link(BASE)
    symbols = {symbol.name: linker.place[symbol.section] + symbol.value for symbol in linker.exported()}
    words = [int.from_bytes(linker.image[at : at + 4], "little") for at in range(0, len(linker.image), 4)]
    table = bytes(linker.image).index(b"".join(n.to_bytes(8, "little") for n in (3, 1, 4, 1, 5, 9, 2, 6)))
    calls = addresses = 0
    for index, word in enumerate(words[: table // 4]):
        here = BASE + 4 * index
        if word >> 26 == 0b100101:  # bl
            delta = (word & 0x3FFFFFF) - ((word & 0x2000000) << 1)
            assert here + 4 * delta == BASE + symbols["pick"]
            calls += 1
        if word >> 24 & 0x9F == 0x90:  # adrp, then an add with the low twelve bits
            pages = (word >> 29 & 3) | (word >> 5 & 0x7FFFF) << 2
            pages -= (pages & 1 << 20) << 1
            following = words[index + 1]
            assert following >> 22 == 0b1001000100
            assert ((here >> 12) + pages << 12) + (following >> 10 & 0xFFF) == BASE + table
            addresses += 1
    assert calls == 2
    assert addresses == 1
    monkeypatch.undo()
    with pytest.raises(LinkError, match="made for machine 183"):
        native.load(target.read_bytes())


def test_what_does_not_fit_is_refused() -> None:
    for machine, kind, value in (
        (EM_X86_64, 2, 1 << 40),
        (EM_X86_64, 2, -(1 << 31) - 1),
        (EM_AARCH64, 283, 1 << 28),
        (EM_AARCH64, 283, 2),
        (EM_AARCH64, 275, 1 << 40),
        (EM_AARCH64, 286, 4),
        (EM_X86_64, 99, 0),
        (EM_AARCH64, 99, 0),
    ):
        assert relocate(machine, kind, bytearray(8), 0, 8, 0, 0, value)
    for offset in (5, 8, 1 << 60):
        assert (
            relocate(EM_X86_64, 2, bytearray(8), 0, 8, offset, 0, 0) == "a relocation is outside its section"
        )
    image = bytearray(16)
    assert relocate(EM_X86_64, 2, image, 4, 8, 2, 0x1000, 0x1000) is None
    assert image == bytes(6) + (-6).to_bytes(4, "little", signed=True) + bytes(6)
    assert len(stub(EM_X86_64, 1)) == len(stub(EM_AARCH64, 1)) == 16


@pytest.mark.oracle
def test_spread_is_what_the_assembler_makes_of_it() -> None:
    """A function of five arguments, called with the address of six words."""
    x86 = "mov rax, [rdi+40]; mov rsi, [rdi+8]; mov rdx, [rdi+16]; mov rcx, [rdi+24]; mov r8, [rdi+32]"
    arm = "ldr x9, [x0, #40]; ldp x3, x4, [x0, #24]; ldp x1, x2, [x0, #8]; ldr x0, [x0]; br x9"
    for machine, triple, text in (
        (EM_X86_64, "x86_64", f".intel_syntax noprefix; {x86}; mov rdi, [rdi]; jmp rax"),
        (EM_AARCH64, "aarch64", arm),
    ):
        done = subprocess.run(
            [tool("llvm-mc-19", "llvm-mc"), f"-triple={triple}", "-show-encoding"],
            input=text.replace("; ", "\n") + "\n",
            capture_output=True,
            text=True,
            check=True,
        )
        parts = [line.partition("encoding: [")[2].partition("]")[0] for line in done.stdout.splitlines()]
        code = bytes(int(byte, 16) for part in parts if part for byte in part.split(","))
        assert code == SPREAD[machine]
