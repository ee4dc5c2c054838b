"""The reader against llvm-readelf, over what clang makes."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest

from skep.elf import Elf
from skep.elf import constants as c
from skep.errors import ElfError
from tests.elf.clang import PROGRAM, compile_c, readelf
from tests.support.oracles import tool

MANY = 0xFF00 + 60


def ours(elf: Elf) -> dict[str, Any]:
    """An Elf in the shape of `theirs`."""
    return {
        "header": (elf.type, elf.machine, elf.flags, elf.shoff, len(elf.sections), elf.shstrndx),
        "sections": [
            (
                s.index,
                s.name,
                s.type,
                s.flags,
                s.addr,
                s.offset,
                s.size,
                s.link,
                s.info,
                s.addralign,
                s.entsize,
            )
            for s in elf.sections
        ],
        "symbols": [
            (
                s.name or (elf.sections[s.section].name if s.type == c.STT_SECTION else ""),
                s.value,
                s.size,
                s.bind,
                s.type,
                s.other,
                s.section,
            )
            for s in elf.symbols
        ],
        "relocations": {
            s.index: [(r.offset, r.type, r.symbol, r.addend) for r in elf.relocation_rows(s)]
            for s in elf.sections
            if s.type in (c.SHT_REL, c.SHT_RELA)
        },
    }


def signed(value: int) -> int:
    """llvm-readelf's JSON prints negative addends as 64-bit unsigned numbers."""
    return value - (1 << 64) if value >> 63 else value


def theirs(path: Path) -> dict[str, Any]:
    said = readelf(path)
    header = said["ElfHeader"]
    sections = [row["Section"] for row in said["Sections"]]
    names = [row["Name"]["Name"] for row in sections]
    rela = {row["Index"] for row in sections if row["Type"]["Value"] == c.SHT_RELA}
    reserved = {c.SHN_ABS: c.SHN_ABS - 0x10000, c.SHN_COMMON: c.SHN_COMMON - 0x10000}
    symbols = []
    for row in said["Symbols"]:
        symbol = row["Symbol"]
        section = symbol["Section"]["Value"]
        if symbol["Section"]["Name"] in ("Absolute", "Common"):
            section = reserved[section]
        symbols.append(
            (
                symbol["Name"]["Name"],
                symbol["Value"],
                symbol["Size"],
                symbol["Binding"]["Value"],
                symbol["Type"]["Value"],
                symbol["Other"]["Value"],
                section,
            )
        )
    counts = [int(str(header[key]).split()[-1].strip("()")) for key in ("SectionHeaderCount",)]
    names_in = int(str(header["StringTableSectionIndex"]).split()[-1].strip("()"))
    return {
        "header": (
            int(header["Type"].split("(")[1][:-1], 16),
            header["Machine"]["Value"],
            header["Flags"]["Value"],
            header["SectionHeaderOffset"],
            counts[0],
            names_in,
        ),
        "sections": [
            (
                row["Index"],
                names[row["Index"]],
                row["Type"]["Value"],
                row["Flags"]["Value"],
                row["Address"],
                row["Offset"],
                row["Size"],
                row["Link"],
                row["Info"],
                row["AddressAlignment"],
                row["EntrySize"],
            )
            for row in sections
        ],
        "symbols": symbols,
        "relocations": {
            row["SectionIndex"]: [
                (
                    entry["Relocation"]["Offset"],
                    entry["Relocation"]["Type"]["Value"],
                    entry["Relocation"]["Symbol"]["Value"],
                    signed(entry["Relocation"].get("Addend", 0)) if row["SectionIndex"] in rela else None,
                )
                for entry in row["Relocs"]
            ]
            for row in said["Relocations"]
        },
    }


def many_sections() -> str:
    """Assembly with more than 65,280 sections, each with a symbol, and relocations to the last."""
    lines = [f'.section s{i},"aw",@progbits\n.globl g{i}\ng{i}: .quad {i}' for i in range(MANY)]
    return "\n".join([*lines, '.section last,"aw",@progbits', f".quad g{MANY - 1}", ".quad g1"])


@pytest.mark.oracle
@pytest.mark.parametrize(
    ("target", "cpu"),
    [(target, cpu) for target in ("bpfel", "bpfeb") for cpu in ("v1", "v2", "v3", "v4")]
    + [("x86_64-linux-gnu", ""), ("s390x-linux-gnu", "")],
)
@pytest.mark.parametrize("debug", [True, False])
def test_equals_readelf(tmp_path: Path, target: str, cpu: str, debug: bool) -> None:
    # The other machines bring RELA relocations, big-endian ones too.
    flags = ["-O2", f"-mcpu={cpu}"] if target.startswith("bpf") else ["-O2"]
    path = compile_c(PROGRAM, tmp_path / "a.o", *flags, *(["-g"] if debug else []), target=target)
    assert ours(Elf.open(path)) == theirs(path)
    assert ours(Elf(path.read_bytes())) == theirs(path)


@pytest.mark.oracle
def test_more_than_65280_sections(tmp_path: Path) -> None:
    source = tmp_path / "many.s"
    source.write_text(many_sections())

    path = tmp_path / "many.o"
    subprocess.run(
        [tool("clang-19", "clang"), "-target", "bpf", "-c", str(source), "-o", str(path)], check=True
    )
    elf = Elf.open(path)
    assert len(elf.sections) > 0xFF00
    assert ours(elf) == theirs(path)
    last = elf.section("last")
    assert last is not None
    first, second = elf.relocations(last)
    assert elf.symbols[first.symbol].name == f"g{MANY - 1}"
    assert elf.sections[elf.symbols[first.symbol].section].name == f"s{MANY - 1}"
    assert elf.symbols[second.symbol].name == "g1"


@pytest.mark.oracle
def test_lookup_and_contents(tmp_path: Path) -> None:
    elf = Elf.open(compile_c(PROGRAM, tmp_path / "a.o", "-O2"))
    licence = elf.section("license")
    assert licence is not None and bytes(licence.data) == b"GPL\0"
    bss = elf.section(".bss")
    assert bss is not None and bss.size == 8 and len(bss.data) == 0
    assert elf.section("nothing") is None
    socket = elf.section("socket")
    assert socket is not None
    names = {elf.symbols[r.symbol].name for r in elf.relocations(socket)}
    assert {"total", "started"} <= names
    assert elf.relocations(licence) == []


@pytest.mark.oracle
def test_machine_zero_is_read(tmp_path: Path) -> None:
    data = bytearray(compile_c(PROGRAM, tmp_path / "a.o", "-O2").read_bytes())
    data[18:20] = b"\0\0"
    elf = Elf(data)
    assert elf.machine == 0 and elf.section("xdp") is not None


@pytest.mark.oracle
def test_compressed_sections_are_refused(tmp_path: Path) -> None:
    path = compile_c(PROGRAM, tmp_path / "a.o", "-O2", "-g", "-gz=zlib", target="x86_64-linux-gnu")
    elf = Elf.open(path)
    squeezed = [s for s in elf.sections if s.flags & c.SHF_COMPRESSED]
    assert squeezed
    with pytest.raises(ElfError, match=r"\.debug_\w+\) is compressed.*decompress"):
        _ = squeezed[0].data


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "not an ELF file"),
        (b"\x7fELF", "ends inside the ELF header"),
        (b"\x7fELF" + bytes([1, 1, 1]) + bytes(60), "only 64-bit"),
        (b"\x7fELF" + bytes([2, 3, 1]) + bytes(60), "data encoding 3"),
        (b"\x7fELF" + bytes([2, 1, 1]) + bytes(20), "ends inside the ELF header"),
        (b"\x7fELF" + bytes([2, 1, 9]) + bytes(60), "version"),
    ],
)
def test_other_files(data: bytes, words: str) -> None:
    with pytest.raises(ElfError, match=words):
        Elf(data, path="x.o")


def test_absent_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(ElfError, match="No such file"):
        Elf.open(tmp_path / "absent.o")
    with pytest.raises(ElfError, match="directory"):
        Elf.open(tmp_path)


def test_four_gigabyte_section_is_named() -> None:
    from skep.elf import ElfBuilder

    builder = ElfBuilder()
    builder.section("xdp", b"\0" * 16)
    data = bytearray(builder.build())
    elf = Elf(data)
    at = elf.header_offset(elf.sections[1]) + 32
    struct.pack_into("<Q", data, at, 1 << 32)
    with pytest.raises(ElfError, match=rf"x\.o at byte {at - 8}: section 1 \(xdp\) claims 4294967296 bytes"):
        _ = Elf(data, path="x.o").sections[1].data
