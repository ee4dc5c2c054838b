"""Symbols, versions, file offsets and USDT notes against readelf; damaged files."""

from __future__ import annotations

import os
import random
import re
import subprocess
from pathlib import Path

import pytest

from skep.errors import FormatError, KernelError
from skep.linux.links.elfsym import ElfFile, find_binary, function_offset
from skep.linux.links.usdt import sites
from skep.linux.links.usdt_args import CONST, REG, REG_DEREF, SIB, Arg, pack_spec, parse
from tests.linux.links.rig import build_library
from tests.support.oracles import tool

SEED = int(os.environ.get("SKEP_SEED", "20261121"))


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> str:
    tool("cc")
    path = str(tmp_path_factory.mktemp("elf") / "probes.so")
    build_library(path)
    return path


def readelf_functions(path: str) -> dict[str, set[int]]:
    """name -> addresses of the defined functions, as readelf lists them."""
    text = subprocess.run(
        [tool("llvm-readelf-19", "readelf"), "-sW", path], capture_output=True, text=True, check=True
    ).stdout
    out: dict[str, set[int]] = {}
    for line in text.splitlines():
        fields = line.split()
        if len(fields) >= 8 and fields[3] in ("FUNC", "IFUNC", "<OS") and fields[6] != "UND":
            out.setdefault(fields[7], set()).add(int(fields[1], 16))
    return out


def test_every_function_of_libc() -> None:
    path = find_binary("libc.so.6")
    expected = readelf_functions(path)
    assert len(expected) > 1000
    rng = random.Random(SEED)
    with ElfFile(path) as elf:
        for name in rng.sample(sorted(expected), 60):
            bare = name.partition("@")[0]
            assert {s.address for s in elf.functions(name)} == expected[name], (SEED, name)
            every = {a for n, addresses in expected.items() if n.partition("@")[0] == bare for a in addresses}
            assert {s.address for s in elf.functions(bare)} == every, (SEED, name)
        pattern = {s.name.partition("@")[0] for s in elf.matching("getp?id")}
        assert pattern == {n.partition("@")[0] for n in expected if re.match(r"getp.id(@|$)", n)}


def test_versions_and_statics(library: str) -> None:
    expected = readelf_functions(library)
    default = next(n for n in expected if n.startswith("versioned@@"))
    old = next(n for n in expected if re.match(r"versioned@[^@]", n))
    with ElfFile(library) as elf:
        place = {n: elf.file_offset(min(a)) for n, a in expected.items()}
    assert function_offset(library, "versioned") == place[default]
    assert function_offset(library, "versioned@SKEP_1") == place[old] != place[default]
    assert function_offset(library, "hidden") == place["hidden"]
    with pytest.raises(KernelError, match="no function versioned@SKEP_9"):
        function_offset(library, "versioned@SKEP_9")


def test_notes(library: str) -> None:
    text = subprocess.run(["readelf", "-nW", library], capture_output=True, text=True, check=True).stdout
    rows = re.findall(
        r"Provider: (\S+)\s+Name: (\S+)\s+Location: (\S+), Base: \S+, Semaphore: (\S+)\s+Arguments: (.*)",
        text,
    )
    found = sites(library)
    assert len(rows) == len(found) == 2
    with ElfFile(library) as elf:
        for row, site in zip(rows, found, strict=True):
            assert (site.provider, site.name, site.text) == (row[0], row[1], row[4].strip())
            assert site.address == int(row[2], 16) and site.offset == elf.file_offset(site.address)
            semaphore = int(row[3], 16)
            assert site.semaphore == (elf.file_offset(semaphore) if semaphore else 0)
    assert [s.name for s in sites(library, "skep", "gate")] == ["gate"]
    assert sites(find_binary("cat")) == []


def test_arguments() -> None:
    rbp, rax, rbx = 32, 80, 40
    assert parse("-4@%eax 8@%rax -4@$-7 1@$0x10") == [
        Arg(REG, 4, True, 0, rax),
        Arg(REG, 8, False, 0, rax),
        Arg(CONST, 4, True, -7),
        Arg(CONST, 1, False, 16),
    ]
    assert parse("-4@-20(%rbp) 8@(%rax)") == [
        Arg(REG_DEREF, 4, True, -20, rbp),
        Arg(REG_DEREF, 8, False, 0, rax),
    ]
    assert parse("8@8(%rax,%rbx,4) 8@(%rax,%rbx)") == [
        Arg(SIB, 8, False, 8, rax, rbx, 2),
        Arg(SIB, 8, False, 0, rax, rbx, 0),
    ]
    assert parse("-4@w3 8@[sp, 16] 8@[x2] 4@5", 183) == [
        Arg(REG, 4, True, 0, 24),
        Arg(REG_DEREF, 8, False, 16, 248),
        Arg(REG_DEREF, 8, False, 0, 16),
        Arg(CONST, 4, False, 5),
    ]
    spec = pack_spec(parse("-4@%eax"), cookie=9)
    assert len(spec) == 208
    assert spec[:16] == bytes(8) + (1).to_bytes(4, "little") + rax.to_bytes(2, "little") + b"\x01\x20"
    assert spec[192:202] == (9).to_bytes(8, "little") + (1).to_bytes(2, "little")


@pytest.mark.parametrize(
    "text",
    ["8@%xmm0", "3@%rax", "8@sym(%rip)", "%rax", "8@", "8@$", " ".join(["8@$1"] * 13), "8@%rax,8@%rbx"],
)
def test_arguments_refused(text: str) -> None:
    with pytest.raises(FormatError, match="USDT argument"):
        parse(text)


def test_damaged_files(library: str, tmp_path: Path) -> None:
    """Bytes changed and files cut short end in an error of ours or an answer, in bounded time."""
    data = Path(library).read_bytes()
    rng = random.Random(SEED)
    file = tmp_path / "damaged"
    refused = 0
    for turn in range(400):
        bad = bytearray(data)
        if turn % 4 == 0:
            del bad[rng.randrange(len(bad)) :]
        for _ in range(rng.randrange(1, 8)):
            # mostly the headers, where lengths and offsets are
            at = rng.choice((rng.randrange(64), rng.randrange(len(data)), len(data) - rng.randrange(1, 2000)))
            if at < len(bad):
                bad[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        file.write_bytes(bad)
        try:
            with ElfFile(str(file)) as elf:
                elf.functions("twice")
                elf.matching("t*")
            sites(str(file))
        except (FormatError, KernelError):
            refused += 1
    assert 40 < refused < 400, (SEED, refused)
