"""Damaged objects: every outcome is an object or a SkepError of one line, soon."""

from __future__ import annotations

import functools
import os
import random
import struct
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skep import obj
from skep.btf import Btf, BtfBuilder
from skep.elf import Elf
from skep.errors import SkepError
from tests.obj.support import compiled, seed

_EXAMPLES = int(os.environ.get("SKEP_FUZZ_EXAMPLES", "120"))
_SOURCES = ("whole.c", "relocated.c", "library.c", "link_b.c")
_EDGES = (0, 1, 0x7F, 0xFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFFF8)


@functools.cache
def originals() -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        out, flags = Path(folder), ("19", "v3", "-fno-builtin")
        return {name: compiled(name, out, *flags).read_bytes() for name in _SOURCES}


@functools.cache
def target() -> Btf:
    """Some types to relocate against: the object's own."""
    return Btf(bytes(Elf(originals()["relocated.c"]).section(".BTF").data))  # type: ignore[union-attr]


_CHANGE = st.tuples(st.integers(0, 1 << 20), st.sampled_from([1, 2, 4, 8]), st.integers(0, 1 << 64))


def use(data: bytes) -> None:
    """Everything that is done with an object, short of a kernel."""
    try:
        spec = obj.read(data, "fuzz")
    except SkepError as error:
        one_line(error)
        return
    answers = obj.CoreTarget(target())
    for name in spec.programs:
        try:
            linked = obj.link_program(spec, name, target=answers)
            assert len(linked.code) % 8 == 0
            linked.func_info(), linked.line_info()
        except SkepError as error:
            one_line(error)
    for step in (obj.kernel_btf, functools.partial(obj.fill_kconfig, lines=["CONFIG_HZ=100"])):
        try:
            step(spec)
        except SkepError as error:
            one_line(error)


def one_line(error: SkepError) -> None:
    text = str(error)
    assert text and len(text.splitlines()) == 1, text


@settings(
    max_examples=_EXAMPLES,
    deadline=None,
    derandomize="SKEP_SEED" not in os.environ,
    suppress_health_check=list(HealthCheck),
)
@given(
    st.sampled_from(_SOURCES), st.lists(_CHANGE, max_size=6), st.one_of(st.none(), st.integers(0, 1 << 20))
)
def test_any_damage(source: str, changes: list[tuple[int, int, int]], cut: int | None) -> None:
    data = bytearray(originals()[source])
    for at, width, value in changes:
        at %= len(data)
        data[at : at + width] = (value & (1 << 8 * width) - 1).to_bytes(width, "little")[: len(data) - at]
    use(bytes(data[: cut % len(data)] if cut is not None else data))


def _words(section: str, data: bytes) -> range:
    found = Elf(data).section(section)
    assert found is not None
    return range(found.offset, found.offset + found.size - 3, 4)


@pytest.mark.parametrize(
    "section", [".symtab", ".BTF", ".BTF.ext", ".relsocket", ".rel.maps", ".relraw_tp/sys_enter"]
)
def test_every_field_in_turn(section: str) -> None:
    """Numbers of the tables replaced by edge values, a sample of them."""
    chance = random.Random(seed())
    for source in _SOURCES:
        original = originals()[source]
        if Elf(original).section(section) is None:
            continue
        places = list(_words(section, original))
        for at in chance.sample(places, min(len(places), _EXAMPLES // 2)):
            data = bytearray(original)
            struct.pack_into("<I", data, at, chance.choice(_EDGES))
            use(bytes(data))


def test_static_linking_of_damage(tmp_path: Path) -> None:
    chance = random.Random(seed())
    original = originals()["link_b.c"]
    whole = tmp_path / "whole.o"
    whole.write_bytes(originals()["library.c"])
    damaged, out = tmp_path / "damaged.o", tmp_path / "out.o"
    for _ in range(_EXAMPLES // 2):
        data = bytearray(original)
        for _ in range(chance.randint(1, 3)):
            struct.pack_into("<I", data, 4 * chance.randrange(len(data) // 4), chance.choice(_EDGES))
        damaged.write_bytes(data)
        try:
            obj.static_link([whole, damaged], out)
        except SkepError as error:
            one_line(error)
            assert not out.exists()
        out.unlink(missing_ok=True)
        assert sorted(p.name for p in tmp_path.iterdir()) == ["damaged.o", "whole.o"]


def test_a_type_loop_and_a_huge_section() -> None:
    from skep.btf import types as t
    from skep.elf import ElfBuilder
    from skep.elf import constants as c

    builder = BtfBuilder()
    builder.add(t.Typedef("a", 2))
    builder.add(t.Const(1))
    var = builder.add(t.Var("m", 1))
    builder.add(t.DataSec(".maps", 0, [t.SectionVar(var, 0, 8)]))
    elf = ElfBuilder()
    maps = elf.section(".maps", bytes(8), flags=c.SHF_ALLOC | c.SHF_WRITE)
    elf.symbol("m", section=maps, size=8, type=c.STT_OBJECT, bind=c.STB_GLOBAL)
    elf.section(".BTF", builder.build())
    with pytest.raises(SkepError, match="loop"):
        obj.read(elf.build())
    elf = ElfBuilder()
    elf.section(".bss", type=c.SHT_NOBITS, size=1 << 32, flags=c.SHF_ALLOC | c.SHF_WRITE)
    elf.symbol("x", section=1, size=4, type=c.STT_OBJECT, bind=c.STB_GLOBAL)
    with pytest.raises(SkepError, match=r"section 1 \(\.bss\): 4294967296 bytes of data"):
        obj.read(elf.build())
