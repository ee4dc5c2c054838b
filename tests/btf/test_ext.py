""".BTF.ext against llvm-objdump, which reads it by itself, and there and back."""

from __future__ import annotations

import re
import struct
import subprocess
from pathlib import Path

import pytest

from skep.btf import Btf, BtfBuilder, BtfExt, CoreRelo, FuncInfo, LineInfo
from skep.btf import types as t
from skep.elf import Elf
from skep.errors import BtfError
from tests.btf.objects import compiled
from tests.support import oracles

# llvm-objdump's words for the kinds, by number.
LLVM_KINDS = [
    "byte_off",
    "byte_sz",
    "field_exists",
    "signed",
    "lshift_u64",
    "rshift_u64",
    "local_type_id",
    "target_type_id",
    "type_exists",
    "type_size",
    "enumval_exists",
    "enumval_value",
    "type_matches",
]


def objdump(*args: str) -> str:
    return subprocess.run(
        [oracles.tool("llvm-objdump-19", "llvm-objdump"), *args], capture_output=True, text=True, check=True
    ).stdout


@pytest.mark.oracle
@pytest.mark.parametrize("target", ["bpfel", "bpfeb"])
def test_core_relocations(tmp_path: Path, target: str) -> None:
    path = compiled("core", tmp_path, target=target)
    btf, ext = BtfExt.open(path)
    shown = re.findall(r"([0-9a-f]{16}):\s+CO-RE <(\w+)> \[(\d+)\] .*?\(([\d:]+)", objdump("-dr", str(path)))
    theirs = [(int(at, 16), kind, int(id)) for at, kind, id, _ in shown]
    ours = [(r.offset, LLVM_KINDS[r.kind], r.type) for r in ext.relos["raw_tp"]]
    whole = re.findall(r"([0-9a-f]{16}):\s+CO-RE <(\w+)> \[(\d+)\]", objdump("-dr", str(path)))
    assert ours == [(int(at, 16), kind, int(id)) for at, kind, id in whole]
    assert set(theirs) <= set(ours) and len(theirs) > 6
    accesses = {(int(at, 16), access) for at, _, _, access in shown}
    assert accesses <= {(r.offset, r.access) for r in ext.relos["raw_tp"]}
    assert {r.kind for r in ext.relos["raw_tp"]} == set(range(13))
    assert btf.describe(ext.relos["raw_tp"][0].type) == "struct task"


@pytest.mark.oracle
@pytest.mark.parametrize("target", ["bpfel", "bpfeb"])
@pytest.mark.parametrize("name", ["core", "declarations"])
def test_lines_and_functions(tmp_path: Path, name: str, target: str) -> None:
    path = compiled(name, tmp_path, target=target)
    btf, ext = BtfExt.open(path)
    stripped = tmp_path / "stripped.o"
    subprocess.run([oracles.tool("llvm-objcopy-19"), "--strip-debug", str(path), str(stripped)], check=True)
    elf = Elf.open(path)
    for section, rows in ext.lines.items():
        told = re.findall(r"^; (\S+):(\d+)$", objdump("-dl", "-j", section, str(stripped)), re.M)
        ours: list[tuple[str, str]] = []
        for row in rows:
            place = (row.file, str(row.line))
            if not ours or ours[-1] != place:
                ours.append(place)
        assert [place for i, place in enumerate(told) if not i or told[i - 1] != place] == ours
    for section, funcs in ext.funcs.items():
        index = next(s.index for s in elf.sections if s.name == section)
        symbols = {s.value: s.name for s in elf.symbols if s.section == index and s.type == 2}
        assert {f.offset: btf[f.type].name for f in funcs} == symbols
        assert all(btf[f.type].kind == t.FUNC for f in funcs)


@pytest.mark.oracle
@pytest.mark.parametrize("target", ["bpfel", "bpfeb"])
def test_there_and_back(tmp_path: Path, target: str) -> None:
    btf, ext = BtfExt.open(compiled("core", tmp_path, target=target))
    builder = BtfBuilder(order=btf.order)
    builder.extend(btf)
    data = ext.encode(builder.strings)
    again = BtfExt.read(data, builder.btf())
    assert (again.order, again.funcs, again.lines, again.relos) == (
        ext.order,
        ext.funcs,
        ext.lines,
        ext.relos,
    )


def sample() -> tuple[Btf, bytes]:
    builder = BtfBuilder()
    ext = BtfExt(
        {"xdp": [FuncInfo(0, 1)]},
        {"xdp": [LineInfo(0, "a.c", "int x;", 3, 5), LineInfo(8, "a.c", "", 1 << 21, 1023)]},
        {"xdp": [CoreRelo(8, 2, "0:1", 0)], "tc": []},
    )
    data = ext.encode(builder.strings)
    return builder.btf(), data


def test_values() -> None:
    btf, data = sample()
    ext = BtfExt.read(data, btf)
    assert ext.lines["xdp"][1] == LineInfo(8, "a.c", "", 1 << 21, 1023)
    assert ext.relos["xdp"][0].kind_name == "field_byte_offset" and ext.relos["tc"] == []
    with pytest.raises(BtfError, match="does not fit a line record"):
        BtfExt(lines={"x": [LineInfo(0, "", "", 1 << 22, 0)]}).encode(BtfBuilder().strings)
    with pytest.raises(BtfError, match="does not fit its field"):
        BtfExt(funcs={"x": [FuncInfo(1 << 32, 0)]}).encode(BtfBuilder().strings)


def test_longer_records_are_read(tmp_path: Path) -> None:
    """A newer compiler may append to each record."""
    btf, _ = sample()
    rows = struct.pack("<IIIIII", 12, next(btf.strings.offsets_of("xdp")), 1, 16, 7, 0xFFFFFFFF)
    header = struct.pack("<HBBI4I", 0xEB9F, 1, 0, 24, 0, len(rows), len(rows), 0)
    assert BtfExt.read(header + rows, btf).funcs == {"xdp": [FuncInfo(16, 7)]}


@pytest.mark.parametrize("width", [4, 2, 1])
@pytest.mark.parametrize("value", [0xFF, 0x00, 0x7F])
def test_every_field_wrong_in_turn(width: int, value: int) -> None:
    btf, data = sample()
    refused = 0
    for at in range(0, len(data) - width + 1, width):
        broken = bytearray(data)
        broken[at : at + width] = bytes([value]) * width
        try:
            BtfExt.read(bytes(broken), btf, path="x.o", origin=100)
        except BtfError as error:
            refused += 1
            assert error.path == "x.o" and "\n" not in str(error)
    assert refused > 3
    for size in range(len(data)):
        with pytest.raises(BtfError):
            BtfExt.read(data[:size], btf)
