"""`skep asm` and `skep disasm` as processes: input, output, exit status, messages."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from skep.isa import classic as c
from skep.isa import decode, encode
from tests.asm import corpus
from tests.support import oracles

PROGRAM = "r0 = 1\nif r1 > 5 goto out\nr0 = 0x1122334455667788 ll\nout: exit\n"
BYTES = bytes.fromhex(
    "b700000001000000 2501020005000000 1800000088776655 0000000044332211 9500000000000000".replace(" ", "")
)


def skep(*args: str | Path, stdin: bytes = b"", status: int = 0) -> subprocess.CompletedProcess[bytes]:
    done = subprocess.run([sys.executable, "-m", "skep", *args], input=stdin, capture_output=True)
    assert done.returncode == status, done.stderr.decode()
    assert b"Traceback" not in done.stderr
    return done


def test_formats() -> None:
    source = PROGRAM.encode()
    assert skep("asm", stdin=source).stdout == BYTES
    assert bytes.fromhex(skep("asm", "--format", "hex", stdin=source).stdout.decode()) == BYTES
    assert skep("asm", "--big-endian", stdin=source).stdout == encode(decode(BYTES), "big")
    text = skep("asm", "--format", "c", stdin=source).stdout
    assert b".code = 0xb7" in text and skep("asm", stdin=text).stdout == BYTES
    classic = skep(
        "asm", "--classic", "--format", "ddd", stdin=b"ldh [12]\njeq #0x800, a, b\na: ret #1\nb: ret #0"
    )
    assert classic.stdout == b"4\n40 0 0 12\n21 0 1 2048\n6 0 0 1\n6 0 0 0\n"


@pytest.mark.parametrize("notation", ["linux", "llvm", "llvm-alu32", "c"])
def test_through_files_and_back(notation: str, tmp_path: Path) -> None:
    program = corpus.program(random.Random(corpus.SEED), 200)
    binary, text, again = tmp_path / "p.bin", tmp_path / "p.s", tmp_path / "again.bin"
    binary.write_bytes(encode(program))
    text.write_bytes(skep("disasm", binary, "--notation", notation).stdout)
    skep("asm", text, "-o", again)
    assert again.read_bytes() == binary.read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["again.bin", "p.bin", "p.s"]


@pytest.mark.parametrize("notation", ["tcpdump", "tcpdump-dd", "tcpdump-ddd", "c"])
def test_classic_and_back(notation: str) -> None:
    program = corpus.classic_program(random.Random(corpus.SEED), 200)
    code = c.encode(program, "big")
    listed = skep("disasm", "--classic", "--big-endian", "--notation", notation, stdin=code).stdout
    assert skep("asm", "--classic", "--big-endian", stdin=listed).stdout == code


def test_hex_input() -> None:
    want = b"   0: (95) exit\n"
    for text in (b"9500000000000000", b"95 00 00 00\n00 00 00 00\n", b"0x95, 0x00,0x00, 0X00, 0x00000000"):
        assert skep("disasm", "--hex", stdin=text).stdout == want


@pytest.mark.oracle
@pytest.mark.parametrize("form", ["-d", "-dd", "-ddd"])
def test_what_tcpdump_prints_is_classic_code(form: str) -> None:
    tool = oracles.tool("tcpdump")
    listings = [
        subprocess.run([tool, "-y", "EN10MB", how, "ip and tcp port 8080"], capture_output=True, check=True)
        for how in (form, "-d")
    ]
    assert skep("disasm", "--classic", stdin=listings[0].stdout).stdout == listings[1].stdout


def test_text_is_no_extended_bytecode() -> None:
    done = skep("disasm", stdin=b"r0 = 1\nexit\n\n\n\n\n", status=1)
    assert done.stderr.startswith(b"skep disasm: this is text, not bytecode: `skep asm` assembles it")
    assert done.stderr.count(b"\n") == 1


def test_errors_are_a_line_and_a_caret(tmp_path: Path) -> None:
    file = tmp_path / "bad.s"
    file.write_text("r0 = 0\nr0 += w1\nexit\n")
    out = tmp_path / "out.bin"
    out.write_bytes(b"old")
    done = skep("asm", file, "-o", out, status=1)
    lines = done.stderr.decode().splitlines()
    assert lines[0].startswith(f"skep asm: {file}:2:7: expected r1")
    assert lines[1:] == ["r0 += w1", "      ^^"]
    assert out.read_bytes() == b"old" and sorted(os.listdir(tmp_path)) == ["bad.s", "out.bin"]
    assert b"multiple of 8" in skep("disasm", stdin=b"\x95123456", status=1).stderr
    assert b"ELF object" in skep("disasm", stdin=b"\x7fELF" + bytes(60), status=1).stderr
    assert b"hex digits" in skep("disasm", "--hex", stdin=b"95 zz", status=1).stderr
    assert b"one hex digit" in skep("disasm", "--hex", stdin=b"95 0", status=1).stderr
    assert b"No such file" in skep("asm", tmp_path / "none", status=1).stderr
    assert b"No such file" in skep("asm", file.parent / "bad2.s", status=1).stderr
    assert b"insn 0" in skep("asm", "--check", stdin=b"r10 = 5\nexit", status=1).stderr
    assert skep("asm", "-o", tmp_path / "no" / "dir", stdin=b"exit", status=1).stderr.count(b"\n") == 1


@pytest.mark.parametrize(
    "args",
    [
        ["asm", "--format", "ddd"],
        ["asm", "--classic", "--check"],
        ["asm", "--nonsense"],
        ["disasm", "--notation", "tcpdump"],
        ["disasm", "--classic", "--notation", "llvm"],
        ["disasm", "--notation", "intel"],
    ],
)
def test_usage_errors_exit_2(args: list[str]) -> None:
    assert b"usage:" in skep(*args, status=2).stderr


def test_any_input_ends_well() -> None:
    """Random bytes as text and as code: a listing or one line of error."""
    print(f"SKEP_SEED={corpus.SEED}")
    rng = random.Random(corpus.SEED)
    for _ in range(6):
        noise = rng.randbytes(rng.randrange(400))
        for args in (["asm"], ["asm", "--classic"]):
            done = subprocess.run([sys.executable, "-m", "skep", *args], input=noise, capture_output=True)
            assert done.returncode in (0, 1) and b"Traceback" not in done.stderr
        skep("disasm", stdin=noise[: len(noise) // 8 * 8])
        skep("disasm", "--classic", stdin=noise[: len(noise) // 8 * 8])
