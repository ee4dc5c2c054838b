"""Damaged files: every field wrong in turn, and generated damage, give ElfError and nothing else."""

from __future__ import annotations

import contextlib
import os
import random
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import seed as hypothesis_seed
from hypothesis import strategies as st

from skep.elf import Elf, ElfBuilder
from skep.elf import constants as c
from skep.errors import ElfError
from tests.elf.test_write import small

SEED = int(os.environ.get("SKEP_SEED", "20260101"))


def sample(order: str = "<") -> bytes:
    builder = small(order)
    data = builder.section("data", bytes(32), flags=c.SHF_ALLOC, align=8)
    symbol = builder.symbol("target", section=data, bind=c.STB_GLOBAL)
    builder.relocation(data, 8, 2, symbol)
    builder.section(".shndx", bytes(4 * 8), type=c.SHT_SYMTAB_SHNDX, link=7)
    return builder.build()


def walk(data: bytes) -> bool:
    """Read everything there is; True when the file holds together."""
    whole = True
    try:
        elf = Elf(data, path="fuzz.o")
    except ElfError as error:
        assert error.path == "fuzz.o" and "fuzz.o" in str(error)
        return False
    steps = [lambda: elf.symbols, lambda: ElfBuilder.from_elf(elf).build()]
    for section in elf.sections:
        steps += [
            lambda s=section: s.name,
            lambda s=section: bytes(s.data),
            lambda s=section: elf.relocations(s),
            lambda s=section: repr(s),
        ]
    for step in steps:
        try:
            step()
        except ElfError as error:
            whole = False
            assert "\n" not in str(error)
    return whole


@pytest.mark.parametrize("order", ["<", ">"])
def test_whole(order: str) -> None:
    assert walk(sample(order))


@pytest.mark.parametrize("order", ["<", ">"])
def test_every_truncation(order: str) -> None:
    data = sample(order)
    assert not any(walk(data[:size]) for size in range(len(data)))


@pytest.mark.parametrize("value", [b"\xff" * 8, b"\x80" + bytes(7), bytes(7) + b"\x80", b"\x00" * 8])
@pytest.mark.parametrize("width", [1, 2, 4, 8])
def test_every_field_wrong_in_turn(width: int, value: bytes) -> None:
    data = sample()
    for at in range(0, len(data) - width, width):
        broken = bytearray(data)
        broken[at : at + width] = value[:width]
        walk(bytes(broken))


@hypothesis_seed(SEED)
@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 1 << 16), st.binary(min_size=1, max_size=8)), max_size=6), st.booleans()
)
def test_generated_damage(patches: list[tuple[int, bytes]], big: bool) -> None:
    data = bytearray(sample(">" if big else "<"))
    for at, patch in patches:
        at %= len(data)
        data[at : at + len(patch)] = patch
    walk(bytes(data))


def test_memory_stays_bounded() -> None:
    data = bytearray(sample())
    rng = random.Random(SEED)
    tracemalloc.start()
    for _ in range(300):
        broken = bytearray(data)
        for _ in range(3):
            at = rng.randrange(0, len(data) - 8)
            broken[at : at + 8] = rng.choice([b"\xff" * 8, (1 << 32).to_bytes(8, "little"), bytes(8)])
        walk(bytes(broken))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20, f"seed {SEED}"


def test_random_bytes_after_the_magic(tmp_path: Path) -> None:
    rng = random.Random(SEED)
    for _ in range(300):
        path = tmp_path / "r.o"
        path.write_bytes(b"\x7fELF\x02\x01\x01" + rng.randbytes(rng.randrange(200)))
        with contextlib.suppress(ElfError):
            Elf.open(path)


def test_overlapping_long_names_are_refused() -> None:
    """Thousands of symbols whose names all run to the end of one large string table."""
    builder = ElfBuilder()
    builder.symbol("x" * 300_000)
    for _ in range(3_000):
        builder.symbol("y")
    data = bytearray(builder.build())
    symtab = Elf(data).symtab
    assert symtab is not None
    for index in range(2, 3_000):
        at = symtab.offset + index * c.SYM_SIZE
        data[at : at + 4] = index.to_bytes(4, "little")
    with pytest.raises(ElfError, match="long names that overlap"):
        _ = Elf(data).symbols
