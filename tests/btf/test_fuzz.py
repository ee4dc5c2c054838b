"""Damaged and hostile BTF: BtfError and nothing else, in bounded time and memory."""

from __future__ import annotations

import os
import random
import resource
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import seed as hypothesis_seed
from hypothesis import strategies as st

from skep.btf import Btf, BtfBuilder, c_dump, dedup, py_dump, raw_dump, raw_json
from skep.btf import types as t
from skep.btf.types import (
    Array,
    Const,
    Enum,
    FuncProto,
    Int,
    Member,
    Param,
    Ptr,
    Struct,
    Type,
    Typedef,
    Union,
    Volatile,
)
from skep.errors import BtfError
from tests.btf.test_build import every_kind

SEED = int(os.environ.get("SKEP_SEED", "20260101"))


def everything(data: bytes) -> int:
    """Do all there is to do with some BTF; how many of it were refused."""
    try:
        btf = Btf(data, path="fuzz.btf")
    except BtfError as error:
        assert error.path == "fuzz.btf" and error.offset is not None
        return 99
    steps: list[Callable[[], object]] = [
        lambda: list(btf),
        lambda: btf.check(),
        lambda: list(raw_dump(btf)),
        lambda: raw_json(btf),
        lambda: c_dump(btf),
        lambda: dedup(btf)[0].build(),
        lambda: py_dump(btf, ["node", "bits", "u"]),
        lambda: btf.function("f"),
        lambda: btf.member(btf.require("node"), "name"),
        lambda: [btf.size_of(id) for id in range(len(btf)) if btf[id].kind in (t.STRUCT, t.ARRAY)],
        lambda: BtfBuilder().extend(btf),
    ]
    refused = 0
    for step in steps:
        try:
            step()
        except BtfError as error:
            refused += 1
            assert "\n" not in str(error)
    return refused


@pytest.mark.parametrize("order", ["<", ">"])
def test_whole(order: str) -> None:
    assert everything(every_kind(order).build()) == 0


def test_every_truncation() -> None:
    data = every_kind().build()
    assert all(everything(data[:size]) for size in range(0, len(data), 3))


@pytest.mark.parametrize("value", [0xFFFFFFFF, 0x80000000, 0x7FFFFFFF, 0, 5, 1 << 24, 1 << 32 - 1 - 8])
def test_every_word_wrong_in_turn(value: int) -> None:
    data = every_kind().build()
    for at in range(0, len(data) - 3, 4):
        broken = bytearray(data)
        broken[at : at + 4] = (value & 0xFFFFFFFF).to_bytes(4, "little")
        everything(bytes(broken))


@hypothesis_seed(SEED)
@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 4000), st.binary(min_size=1, max_size=8)), max_size=6), st.booleans()
)
def test_generated_damage(patches: list[tuple[int, bytes]], big: bool) -> None:
    data = bytearray(every_kind(">" if big else "<").build())
    for at, patch in patches:
        at %= len(data)
        data[at : at + len(patch)] = patch
    everything(bytes(data))


def random_types(rng: random.Random) -> list[Type]:
    """Types that decode, wired at random: loops of every sort."""
    count = rng.randrange(2, 24)

    def pick() -> int:
        return rng.randrange(count + 1)

    made: list[Type] = []
    for number in range(count):
        name = rng.choice(["", "a", "b", f"n{number}"])
        members = [
            Member(
                rng.choice(["", f"m{i}"]), pick(), i * rng.choice([0, 3, 32, 64]), rng.choice([0, 0, 0, 5])
            )
            for i in range(rng.randrange(4))
        ]
        flag = any(member.bitfield_size for member in members)
        made.append(
            rng.choice(
                [
                    Int(name or "int", rng.choice([1, 2, 4, 8])),
                    Ptr(pick()),
                    Const(pick()),
                    Volatile(pick()),
                    Typedef(name or "t", pick()),
                    Array(pick(), pick(), rng.choice([0, 1, 7, 0xFFFFFFFF])),
                    Struct(name, rng.choice([0, 4, 24, 0xFFFFFFFF]), members, flag),
                    Union(name, 8, members, flag),
                    FuncProto(pick(), [Param(name, pick()) for _ in range(rng.randrange(3))]),
                    Enum(name, 4),
                ]
            )
        )
    return made


def test_random_graphs() -> None:
    rng = random.Random(SEED)
    whole = 0
    for _ in range(400):
        builder = BtfBuilder()
        for value in random_types(rng):
            builder.add(value)
        whole += everything(builder.build()) == 0
    assert whole < 400, f"seed {SEED}"


def build(*values: Type) -> bytes:
    builder = BtfBuilder()
    for value in values:
        builder.add(value)
    return builder.build()


def chain(count: int, link: Callable[[int], Type], end: Type) -> bytes:
    return build(*[link(id + 1) for id in range(1, count)], end)


@pytest.mark.parametrize(
    "data",
    [
        build(Ptr(1)),
        build(Const(2), Volatile(1)),
        build(Typedef("a", 2), Typedef("b", 1)),
        build(Array(1, 1, 5)),
        build(Struct("s", 4, [Member("s", 1, 0)])),
        build(Struct("", 4, [Member("", 2, 0)]), Union("", 4, [Member("", 1, 0)])),
        build(Struct("s", 4, [Member("a", 2, 0)]), Array(1, 3, 2), Int("int", 4)),
        build(
            Int("int", 4),
            Array(1, 1, 0xFFFFFFFF),
            Array(2, 1, 0xFFFFFFFF),
            Struct("s", 8, [Member("a", 3, 0)]),
        ),
    ],
    ids=["ptr", "modifiers", "typedefs", "array", "struct", "anonymous", "through-array", "4GiB"],
)
def test_loops_and_sizes_are_refused(data: bytes) -> None:
    assert everything(data) >= 1
    with pytest.raises(BtfError, match=r"type [1-4]: "):
        Btf(data).check()


@pytest.mark.parametrize(
    "data",
    [
        chain(50_000, Ptr, Int("int", 4)),
        chain(50_000, Const, Int("int", 4)),
        chain(3_000, lambda id: Typedef(f"t{id}", id), Int("int", 4)),
        chain(400, lambda id: Struct("", 4, [Member("", id, 0)]), Int("int", 4)),
        chain(3_000, lambda id: Array(id, 3_000, 2), Int("int", 4)),
        # Each refers twice to the next: two to the power of 60 paths.
        chain(60, lambda id: Struct("", 4, [Member("", id, 0), Member("", id, 0)]), Int("int", 4)),
        chain(60, lambda id: FuncProto(id, [Param("", id)]), Int("int", 4)),
        build(Struct("s", 0xFFFFFFFF), Struct("t", 0xFFFFFFFF, [Member("s", 1, 0), Member("e", 1, 1 << 31)])),
    ],
    ids=["pointers", "consts", "typedefs", "structs", "arrays", "doubling", "functions", "padding"],
)
def test_depth_and_growth_are_bounded(data: bytes) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    everything(data)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 400 << 10  # KiB


def test_overlapping_long_names_are_refused() -> None:
    """Thousands of types whose names all run to the end of one long string."""
    builder = BtfBuilder()
    count = 5_000
    for _ in range(count):
        builder.add(t.Fwd("x" * 60_000))
    data = bytearray(builder.build())
    for index in range(count):
        data[24 + 12 * index : 28 + 12 * index] = (index + 1).to_bytes(4, "little")
    btf = Btf(bytes(data))
    with pytest.raises(BtfError, match="too many long ones that overlap"):
        list(btf)
    assert everything(bytes(data)) > 5
