"""The builder: every kind there and back, what it refuses, and what kernel and bpftool make of its bytes."""

from __future__ import annotations

from pathlib import Path

import pytest

from skep.btf import Btf, BtfBuilder, raw_dump
from skep.btf import types as t
from skep.btf.types import (
    Array,
    Const,
    DataSec,
    DeclTag,
    Enum,
    Enum64,
    EnumValue,
    Float,
    Func,
    FuncProto,
    Fwd,
    Int,
    Member,
    Param,
    Ptr,
    Restrict,
    SectionVar,
    Struct,
    Typedef,
    TypeTag,
    Union,
    Var,
    Volatile,
)
from skep.errors import BtfError
from tests.btf.objects import NAMES, bpftool, compiled, kernel, load_btf
from tests.support import oracles


def every_kind(order: str = "<", *, attributes: bool = False) -> BtfBuilder:
    """One or more of each kind, forward references included."""
    b = BtfBuilder(order=order)
    number = b.add(Int("int", 4, t.SIGNED))
    wide = b.add(Int("unsigned long", 8))
    char = b.add(Int("char", 1, t.SIGNED))
    b.add(Int("_Bool", 1, t.BOOL))
    node = b.reserve()
    pointer = b.add(Ptr(node))
    array = b.add(Array(char, number, 16))
    b[node] = Struct(
        "node", 40, [Member("next", pointer, 0), Member("name", array, 64), Member("w", wide, 192)]
    )
    b[node] = Struct(
        "node", 32, [Member("next", pointer, 0), Member("name", array, 64), Member("w", wide, 192)]
    )
    b.add(Struct("bits", 8, [Member("a", number, 0, 3), Member("b", number, 3, 29), Member("c", number, 32)]))
    b.add(Union("u", 8, [Member("w", wide, 0), Member("n", number, 0)]))
    b.add(Struct("empty", 0))
    b.add(Enum("e", 4, [EnumValue("E_A", 0), EnumValue("E_BIG", 0xFFFFFFFF)]))
    b.add(Enum("signed_e", 4, [EnumValue("S_A", -1), EnumValue("S_MIN", -(1 << 31))], signed=True))
    b.add(Enum64("e64", 8, [EnumValue("L_A", (1 << 64) - 1)]))
    b.add(Enum64("signed_e64", 8, [EnumValue("LS_A", -5), EnumValue("LS_B", 1 << 40)], signed=True))
    b.add(Fwd("later"))
    b.add(Fwd("later_u", is_union=True))
    alias = b.add(Typedef("alias", b.add(Const(b.add(Volatile(number))))))
    b.add(Restrict(pointer))
    tag = b.add(TypeTag("user", number))
    b.add(Ptr(tag))
    if attributes:
        b.add(Ptr(b.add(TypeTag("address_space(1)", number, attribute=True))))
        b.add(DeclTag("deprecated", node, attribute=True))
    b.add(Float("double", 8))
    proto = b.add(FuncProto(number, [Param("p", pointer), Param("a", alias)]))
    b.add(FuncProto(0, [Param("format", pointer), Param("", 0)]))
    func = b.add(Func("f", proto, t.LINKAGE_GLOBAL))
    b.add(DeclTag("decl", node, 1))
    b.add(DeclTag("decl", func))
    var = b.add(Var("v", number, t.LINKAGE_STATIC))
    b.add(DataSec(".data", 4, [SectionVar(var, 0, 4)]))
    return b


@pytest.mark.parametrize("order", ["<", ">"])
def test_every_kind_there_and_back(order: str) -> None:
    builder = every_kind(order, attributes=True)
    data = builder.build()
    btf = Btf(data)
    assert list(btf) == list(builder)
    assert {value.kind for value in btf} == set(range(t.LAST_KIND + 1))
    btf.check()
    again = BtfBuilder(order=order)
    assert again.extend(btf) == 0
    assert again.build() == data


@pytest.mark.oracle
@pytest.mark.parametrize("order", ["<", ">"])
def test_bpftool_reads_it(tmp_path: Path, order: str) -> None:
    path = tmp_path / "built"
    path.write_bytes(every_kind(order).build())
    assert "".join(f"{line}\n" for line in raw_dump(Btf.open(path))) == bpftool("btf", "dump", "file", path)


@pytest.mark.live
def test_the_kernel_takes_it() -> None:
    oracles.bpf()
    assert load_btf(every_kind().build()) == ""
    broken = every_kind()
    broken.add(Struct("small", 4, [Member("a", 1, 0), Member("b", 1, 32)]))
    assert "small" in load_btf(broken.build())


@pytest.mark.live
@pytest.mark.oracle
@pytest.mark.parametrize("name", [name for name in NAMES if name != "core"])
def test_the_kernel_takes_clangs_types_rebuilt(tmp_path: Path, name: str) -> None:
    """Sections sized as a loader does it: clang leaves them 0."""
    oracles.bpf()
    btf = Btf.open(compiled(name, tmp_path))
    builder = BtfBuilder()
    builder.extend(btf)
    for id, value in list(builder.items()):
        if isinstance(value, DataSec):
            rows, at = [], 0
            for row in value.vars:
                size = builder.size_of(row.type) if builder[row.type].kind == t.VAR else 0
                if size:  # the kernel refuses variables of no size
                    rows.append(SectionVar(row.type, at, size))
                    at += size
            builder[id] = DataSec(value.name, at, rows) if rows else Float("double", 8)
        elif isinstance(value, Var) and value.linkage == t.LINKAGE_EXTERN:
            builder[id] = Var(value.name, value.type, t.LINKAGE_GLOBAL)
    assert load_btf(builder.build()) == ""


@pytest.mark.oracle
def test_the_kernels_own_types_rebuilt() -> None:
    btf = Btf.open(kernel())
    builder = BtfBuilder()
    builder.extend(btf)
    again = builder.btf()
    assert all(one == other for one, other in zip(btf, again, strict=True))


def test_intern_and_extend() -> None:
    builder = BtfBuilder()
    number = builder.intern(Int("int", 4, t.SIGNED))
    assert builder.intern(Int("int", 4, t.SIGNED)) == number
    assert builder.intern(Ptr(number)) == builder.intern(Ptr(number)) == 2
    shift = builder.extend(every_kind().btf())
    assert shift == 2 and builder[3] == Int("int", 4, t.SIGNED)
    assert builder.find("node") == every_kind().require("node") + shift
    builder.btf().check()


def test_refusals() -> None:
    builder = BtfBuilder()
    builder.add(Ptr(9))
    with pytest.raises(BtfError, match="type 1: names type 9, of 1"):
        builder.build()
    builder = BtfBuilder()
    builder.reserve()
    with pytest.raises(BtfError, match="type 1 was reserved and never given"):
        builder.build()
    with pytest.raises(BtfError, match="was not reserved here"):
        builder[7] = Ptr(0)
    with pytest.raises(BtfError, match="zero byte"):
        builder.add(Fwd("a\0b"))
    with pytest.raises(BtfError, match="byte order"):
        BtfBuilder(order="!")
    for value in (
        Int("i", 4, 16),
        Int("i", 1 << 32),
        Struct("s", 4, [Member("m", 1, -1)]),
        Struct("s", 4, [Member("m", 1, 1 << 24, 1)]),
        Struct("s", 4, [Member("m", 1, 0, 5)], bitfields=False),
        Enum("e", 4, [EnumValue("v", -1)]),
        Enum("e", 4, [EnumValue("v", 1 << 31)], signed=True),
        Enum64("e", 8, [EnumValue("v", 1 << 64)]),
        FuncProto(0, [Param("p", 1)] * 70000),
        Array(1, 1, 1 << 32),
    ):
        builder = BtfBuilder()
        builder.add(Int("int", 4))
        builder.add(value)
        with pytest.raises(BtfError, match=r"type 2: .*does not fit"):
            builder.build()
