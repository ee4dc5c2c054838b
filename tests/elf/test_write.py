"""The writer: its files read back equal, satisfy llvm-readelf, and libbpf links and loads them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from skep.elf import Elf, ElfBuilder
from skep.elf import constants as c
from skep.errors import ElfError
from tests.elf.clang import PROGRAM, compile_c
from tests.elf.test_read import MANY, ours, theirs
from tests.support import libbpf, oracles

# r0 = 0; exit
PASS = bytes.fromhex("b7000000000000009500000000000000")


def small(order: str = "<") -> ElfBuilder:
    elf = ElfBuilder(order=order)
    code = PASS if order == "<" else bytes.fromhex("b7000000000000009500000000000000")
    text = elf.section("socket", code, flags=c.SHF_ALLOC | c.SHF_EXECINSTR, align=8)
    licence = elf.section("license", b"GPL\0", flags=c.SHF_ALLOC | c.SHF_WRITE)
    elf.section(".bss", type=c.SHT_NOBITS, size=40, flags=c.SHF_ALLOC | c.SHF_WRITE, align=8)
    elf.symbol("drop", section=text, size=len(code), type=c.STT_FUNC, bind=c.STB_GLOBAL)
    elf.symbol("_license", section=licence, size=4, type=c.STT_OBJECT, bind=c.STB_GLOBAL)
    elf.symbol("local", section=text, type=c.STT_NOTYPE)
    elf.symbol("absolute", section=c.SHN_ABS - 0x10000, value=77)
    return elf


def shape(elf: Elf) -> list[object]:
    """Everything of an object but where things lie in the file and how strings are stored."""
    seen: list[object] = [elf.order, elf.type, elf.machine, elf.flags, elf.shstrndx]
    for s in elf.sections:
        table = s.type in (c.SHT_STRTAB, c.SHT_SYMTAB)
        size = 0 if table else s.size
        data = b"" if table else bytes(s.data)
        seen.append((s.name, s.type, s.flags, s.addr, size, s.link, s.info, s.addralign, s.entsize, data))
    answer = ours(elf)
    return [*seen, answer["symbols"], answer["relocations"]]


@pytest.mark.oracle
@pytest.mark.parametrize("order", ["<", ">"])
def test_readelf_agrees(tmp_path: Path, order: str) -> None:
    builder = small(order)
    data = builder.section("data", bytes(32), flags=c.SHF_ALLOC | c.SHF_WRITE, align=8)
    global_ = builder.symbol("target", section=data, value=8, bind=c.STB_GLOBAL, type=c.STT_OBJECT)
    section_symbol = builder.symbol(section=data, type=c.STT_SECTION)
    builder.relocation(data, 16, c.R_BPF_64_ABS64, global_)
    builder.relocation(data, 24, c.R_BPF_64_ABS64, section_symbol)
    path = tmp_path / "w.o"
    builder.write(path)
    elf = Elf.open(path)
    assert ours(elf) == theirs(path)
    assert {s.name for s in elf.symbols} == {"", "drop", "_license", "local", "absolute", "target"}
    rows = elf.relocations(elf.sections[data])
    assert [elf.symbols[r.symbol].name for r in rows] == ["target", ""]
    warned = subprocess.run(
        [oracles.tool("llvm-readelf-19"), "-a", str(path)], capture_output=True, text=True, check=True
    ).stderr
    assert warned == ""


@pytest.mark.oracle
def test_rela(tmp_path: Path) -> None:
    builder = ElfBuilder(machine=62)
    data = builder.section("data", bytes(32), flags=c.SHF_ALLOC, align=8)
    target = builder.symbol("t", bind=c.STB_GLOBAL)
    builder.relocation(data, 0, 1, target, -5)
    builder.relocation(data, 8, 1, target, 1 << 40)
    with pytest.raises(ElfError, match="do not mix"):
        builder.relocation(data, 8, 1, target)
    builder.write(tmp_path / "r.o")
    assert ours(Elf.open(tmp_path / "r.o")) == theirs(tmp_path / "r.o")


@pytest.mark.oracle
@pytest.mark.parametrize("target", ["bpfel", "bpfeb", "x86_64-linux-gnu", "s390x-linux-gnu"])
def test_read_rebuild_equality(tmp_path: Path, target: str) -> None:
    path = compile_c(PROGRAM, tmp_path / "a.o", "-O2", "-g", "-ffunction-sections", target=target)
    elf = Elf.open(path)
    data = ElfBuilder.from_elf(elf).build()
    again = Elf(data)
    assert shape(again) == shape(elf)
    assert ElfBuilder.from_elf(again).build() == data
    (tmp_path / "b.o").write_bytes(data)
    assert ours(again) == theirs(tmp_path / "b.o")


@pytest.mark.oracle
def test_more_than_65280_sections(tmp_path: Path) -> None:
    builder = ElfBuilder()
    for i in range(MANY):
        index = builder.section(f"s{i}", i.to_bytes(4, "little"))
        builder.symbol(f"g{i}", section=index, bind=c.STB_GLOBAL)
    path = tmp_path / "many.o"
    builder.write(path)
    elf = Elf.open(path)
    assert len(elf.sections) > 0xFF00 and elf.shstrndx > 0xFF00
    assert ours(elf) == theirs(path)
    data = path.read_bytes()
    assert ElfBuilder.from_elf(elf).build() == data


@pytest.mark.oracle
def test_libbpf_links_it(tmp_path: Path) -> None:
    bpftool = oracles.tool("bpftool")
    path = tmp_path / "w.o"
    path.write_bytes(ElfBuilder.from_elf(Elf.open(compile_c(PROGRAM, tmp_path / "a.o"))).build())
    linked = tmp_path / "linked.o"
    subprocess.run([bpftool, "gen", "object", str(linked), str(path)], check=True, capture_output=True)
    direct = tmp_path / "direct.o"
    subprocess.run([bpftool, "gen", "object", str(direct), str(tmp_path / "a.o")], check=True)
    assert linked.read_bytes() == direct.read_bytes()
    # ... and what bpftool's linker writes is read and rebuilt too
    assert shape(Elf(ElfBuilder.from_elf(Elf.open(linked)).build())) == shape(Elf.open(linked))


@pytest.mark.oracle
@pytest.mark.live
def test_libbpf_loads_it(tmp_path: Path) -> None:
    path, pins = tmp_path / "w.o", tmp_path / "bpffs"
    small().write(path)
    pins.mkdir()
    assert libbpf.loadall(path, pins) == {"drop": "socket_filter"}


def test_order_and_arguments() -> None:
    with pytest.raises(ElfError, match="byte order"):
        ElfBuilder(order="=")
    builder = small()
    with pytest.raises(ElfError, match="power of two"):
        builder.section("x", b"", align=3)
    with pytest.raises(ElfError, match="zero byte"):
        builder.section("a\0b", b"")
        builder.build()
    with pytest.raises(ElfError, match="which has 16"):
        builder.relocation(1, 16, 1, 1)
    with pytest.raises(ElfError, match="symbol 99"):
        builder.relocation(1, 0, 1, 99)
    with pytest.raises(ElfError, match="does not fit"):
        other = small()
        other.section("y", b"", flags=1 << 64)
        other.build()


def test_write_is_whole_or_nothing(tmp_path: Path) -> None:
    with pytest.raises(ElfError, match="cannot write"):
        small().write(tmp_path / "no" / "where.o")
    (tmp_path / "folder").mkdir()
    with pytest.raises(ElfError, match="cannot write"):
        small().write(tmp_path / "folder")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["folder"]
