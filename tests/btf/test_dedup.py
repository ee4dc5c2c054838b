"""Deduplication against libbpf's: bpftool's static linker and pahole run it."""

from __future__ import annotations

import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from skep.btf import Btf, BtfBuilder, dedup
from skep.btf import types as t
from skep.btf.types import (
    Const,
    DeclTag,
    Enum,
    EnumValue,
    Func,
    FuncProto,
    Fwd,
    Int,
    Member,
    Param,
    Ptr,
    Struct,
    Type,
    Typedef,
    Union,
    references,
    with_references,
)
from skep.errors import BtfError
from tests.btf.objects import compiled, kernel
from tests.elf.clang import compile_c
from tests.support import oracles

SHARED = """
typedef unsigned int u32; typedef struct list { struct list *next, *prev; } list_t;
enum color { RED, GREEN = 5 }; union cell { u32 n; char c[4]; };
struct tree { struct tree *l, *r; int (*cmp)(const struct tree *, const struct tree *); list_t links; };
struct shape { enum color color; union cell cells[4]; struct { u32 x, y; } at;
	struct tree *owner; u32 f : 3; };
"""
UNITS = [
    SHARED + "struct only_a { struct shape s; const volatile u32 *p; struct same *q; }; struct only_a a;"
    "struct clash { int x; }; struct clash clash_a; "
    "struct same { struct clash *c; long n; }; struct same same_a;",
    SHARED + "struct only_b { struct tree t; struct shape *s; }; struct only_b b; struct same;"
    "struct clash { long x; }; struct clash clash_b; struct user { struct same *s; }; struct user u;",
    SHARED + "struct tree t3; struct shape s3; enum color c3; struct clash { int x; }; struct clash clash_c;"
    "struct same { struct clash *c; long n; }; struct same same_c; int (*fp)(struct tree *, u32);",
]


def signature(btf: Btf | BtfBuilder, id: int, depth: int) -> Any:
    """A type and what it refers to, some steps deep, without ids."""
    value = btf[id]
    refs = references(value)
    bare = tuple(with_references(value, dict.fromkeys(refs, 0)))
    return (bare, tuple(signature(btf, r, depth - 1) for r in refs) if depth else None)


def signatures(btf: Btf | BtfBuilder, depth: int = 5) -> Counter[Any]:
    return Counter(
        signature(btf, id, depth)
        for id in range(1, len(btf))
        if btf[id].kind not in (t.DATASEC, t.VAR)  # the linker merges these by symbol
    )


def joined(paths: list[Path]) -> BtfBuilder:
    builder = BtfBuilder()
    for path in paths:
        builder.extend(Btf.open(path))
    return builder


@pytest.mark.oracle
def test_against_bpftools_linker(tmp_path: Path) -> None:
    paths = [
        compile_c(text, tmp_path / f"{i}.o", "-O2", "-g", "-Dclash_a=k0", f"-Da=v{i}")
        for i, text in enumerate(UNITS)
    ]
    linked = tmp_path / "linked.o"
    subprocess.run([oracles.tool("bpftool"), "gen", "object", str(linked), *map(str, paths)], check=True)
    ours, _ = dedup(joined(paths), guess_forwards=False)
    ours.btf().check()
    assert signatures(ours) == signatures(Btf.open(linked))


@pytest.mark.oracle
def test_against_bpftools_linker_on_every_source(tmp_path: Path) -> None:
    """Twice the same types (names of variables and functions apart): one set comes out."""
    first = compiled("layout", tmp_path)
    text = (Path(__file__).parent / "c" / "layout.c").read_text()
    for old, new in (("use_##name", "two_##name"), ("} top;", "} top2;"), ("s64 used;", "s64 used2;")):
        assert old in text
        text = text.replace(old, new)
    second = compile_c(text, tmp_path / "second.o", "-O2", "-g", "-Wno-everything")
    linked = tmp_path / "linked.o"
    done = subprocess.run(
        [oracles.tool("bpftool"), "gen", "object", str(linked), str(first), str(second)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    ours, _ = dedup(joined([first, second]), guess_forwards=False)
    assert signatures(ours) == signatures(Btf.open(linked))


@pytest.mark.oracle
def test_against_pahole(tmp_path: Path) -> None:
    """pahole dedups over the units of one linked file; we dedup over the files it makes of each."""
    flags = ("-O0", "-g", "-gdwarf-4")
    paths = [
        compile_c(text, tmp_path / f"{i}.o", *flags, f"-Da=v{i}", target="x86_64-linux-gnu")
        for i, text in enumerate(UNITS)
    ]
    whole = tmp_path / "whole.o"
    linker = oracles.tool("ld.lld-19", "ld.lld", "ld")
    subprocess.run([linker, "-r", "-o", str(whole), *map(str, paths)], check=True)
    for path in [whole, *paths]:
        subprocess.run([oracles.tool("pahole"), "-J", str(path)], check=True, capture_output=True)
    ours, _ = dedup(joined(paths))
    plain = {key: n for key, n in signatures(ours).items() if key[0][0] != t.FUNC}
    theirs = {key: n for key, n in signatures(Btf.open(whole)).items() if key[0][0] != t.FUNC}
    assert plain == theirs


@pytest.mark.oracle
def test_the_kernels_types_are_already_unique() -> None:
    """The kernel was deduplicated by pahole: nothing is left to merge, and of two copies one remains."""
    btf = Btf.open(kernel())
    once, renewed = dedup(btf)
    assert len(once) == len(btf) and renewed == list(range(len(btf)))
    twice = BtfBuilder()
    twice.extend(btf)
    twice.extend(btf)
    both, renewed = dedup(twice)
    never_merged = sum(value.kind in (t.VAR, t.DATASEC) for value in btf)
    tagged = 0  # tags of variables stay with them
    for value in btf:
        if isinstance(value, DeclTag) and btf[value.type].kind == t.VAR:
            tagged += 1
    assert len(both) == len(btf) + never_merged + tagged
    assert renewed[: len(btf)] == list(range(len(btf)))


def build(*values: Type) -> BtfBuilder:
    builder = BtfBuilder()
    for value in values:
        builder.add(value)
    return builder


def kinds(builder: BtfBuilder) -> list[Type]:
    return [value for _, value in builder.items()]


def test_primitives_and_references() -> None:
    values = (Int("int", 4, 1), Ptr(1), Const(2), Int("int", 4, 1), Ptr(4), Const(5), Int("int", 4, 0))
    made, renewed = dedup(build(*values))
    assert kinds(made) == [Int("int", 4, 1), Ptr(1), Const(2), Int("int", 4, 0)]
    assert renewed == [0, 1, 2, 3, 1, 2, 3, 4]


def test_loops_of_structs() -> None:
    def node(first: int) -> list[Type]:
        return [
            Struct("n", 16, [Member("next", first + 1, 0), Member("v", first + 2, 64)]),
            Ptr(first),
            Int("l", 8),
        ]

    made, renewed = dedup(build(*node(1), *node(4), *node(7)))
    assert len(made) == 4 and renewed[4:] == [1, 2, 3, 1, 2, 3]


def test_same_names_other_layout_stay() -> None:
    values = (Int("int", 4), Struct("s", 4, [Member("a", 1, 0)]), Struct("s", 4, [Member("b", 1, 0)]))
    made, _ = dedup(build(*values, Union("s", 4, [Member("a", 1, 0)])))
    assert len(made) == 5


def test_different_graph_below_the_same_shape() -> None:
    long, int_ = Int("long", 8), Int("int", 4)
    values = (
        int_,
        long,
        Struct("s", 8, [Member("p", 4, 0)]),
        Ptr(1),
        Struct("s", 8, [Member("p", 6, 0)]),
        Ptr(2),
    )
    made, _ = dedup(build(*values))
    assert len(made) == 7


def test_forward_declarations() -> None:
    values = (Fwd("s"), Ptr(1), Struct("t", 8, [Member("p", 2, 0)]), Int("int", 4))
    values += (Struct("s", 4, [Member("x", 4, 0)]), Ptr(5), Struct("t", 8, [Member("p", 6, 0)]))
    for guess in (True, False):
        made, _ = dedup(build(*values), guess_forwards=guess)
        assert [v.kind for v in kinds(made)] == [t.PTR, t.STRUCT, t.INT, t.STRUCT]
    # Nothing compares these graphs: only the name says which struct is meant.
    values = (Fwd("s"), Ptr(1), Int("int", 4), Struct("s", 4, [Member("x", 3, 0)]))
    assert len(dedup(build(*values))[0]) == 4
    assert len(dedup(build(*values), guess_forwards=False)[0]) == 5
    two = (*values, Struct("s", 8, [Member("y", 3, 0)]))
    assert len(dedup(build(*two))[0]) == 6  # which of the two is not known
    union = (Fwd("s", is_union=True), *values[1:])
    assert len(dedup(build(*union))[0]) == 5


def test_enum_forward_declarations() -> None:
    full = Enum("e", 4, [EnumValue("A", 1)])
    for values in ((Enum("e", 4), Ptr(1), full, Ptr(3)), (full, Ptr(1), Enum("e", 4), Ptr(3))):
        made, _ = dedup(build(*values))
        assert sorted(kinds(made)) == sorted([full, Ptr(kinds(made).index(full) + 1)])


def test_functions_and_tags() -> None:
    unit = [Int("int", 4, 1), FuncProto(1, [Param("a", 1)]), Func("f", 2, 1), DeclTag("t", 3, 0)]
    other = [Int("int", 4, 1), FuncProto(5, [Param("b", 5)]), Func("f", 6, 1), DeclTag("t", 7, 0)]
    made, _ = dedup(build(*unit, *[with_references(v, [0, *range(5, 9)]) for v in unit]))
    assert len(made) == 5
    made, _ = dedup(build(*unit, *other))
    assert len(made) == 8  # another parameter name: another prototype, function and tag


def test_split() -> None:
    base = build(Int("int", 4), Struct("s", 4, [Member("x", 1, 0)]), Ptr(2)).btf()
    split = BtfBuilder(base=base)
    number = split.add(Int("int", 4))
    again = split.add(Struct("s", 4, [Member("x", number, 0)]))
    own = split.add(Struct("own", 8, [Member("p", split.add(Ptr(again)), 0)]))
    made, renewed = dedup(split)
    assert renewed[number] == 1 and renewed[again] == 2 and renewed[own] == 4
    assert kinds(made) == [Struct("own", 8, [Member("p", 3, 0)])]


def test_loops_and_ranges_are_refused() -> None:
    with pytest.raises(BtfError, match="refer back"):
        dedup(build(Ptr(2), Const(1)))
    with pytest.raises(BtfError, match="names type 9"):
        dedup(build(Ptr(9)))
    made, _ = dedup(build(Typedef("a", 2), Typedef("b", 1), Typedef("a", 4), Typedef("b", 3)))
    assert len(made) == 3


def test_long_chains_need_no_stack() -> None:
    count = 20_000
    made, _ = dedup(build(*[Ptr(id + 1) for id in range(1, count)], Int("int", 4)))
    assert len(made) == count + 1


def test_hard_graphs_end() -> None:
    """Structs of one shape whose graphs differ only at the far end cost their cube to compare."""
    count = 1_000
    chain = [Struct("s", 8, [Member("n", id + 1, 0)]) if id % 2 else Ptr(id + 1) for id in range(1, count)]
    with pytest.raises(BtfError, match="types of its shape take too long to compare"):
        dedup(build(*chain, Int("int", 4)))
