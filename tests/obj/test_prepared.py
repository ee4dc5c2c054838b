"""An object as the cache keeps it: the same spec as the readers', and nothing but a spec from other bytes."""

from __future__ import annotations

import copy
import marshal
import random
from pathlib import Path
from typing import Any

import pytest

from skep.errors import SkepError
from skep.obj import ObjectSpec, kernel_btf, link_program, read
from skep.obj.prepared import SHAPE, freeze, thaw
from skep.uapi.enums import MapType
from tests.obj import support
from tests.support.specs import differences

SOURCES = ["whole.c", "relocated.c", "externs.c", "link_a.c"]


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> list[ObjectSpec]:
    made = []
    for source in SOURCES:
        for clang, cpu in support.BUILDS:
            folder = tmp_path_factory.mktemp("prepared")
            made.append(read(support.compiled(source, folder, clang, cpu)))
    return made


def test_every_field_is_the_readers(objects: list[ObjectSpec]) -> None:
    for spec in objects:
        again = thaw(freeze(spec))
        assert again is not None
        assert marshal.loads(freeze(again)) == marshal.loads(freeze(spec))
        assert again.take_kernel_btf() == kernel_btf(spec) == kernel_btf(again)
        assert again.take_kernel_btf() is None, "what it was made of may be changed"
        assert differences(spec, again) == []


def test_programs_are_put_together_alike(objects: list[ObjectSpec]) -> None:
    linked = 0
    for spec in objects:
        again = thaw(freeze(spec))
        assert again is not None
        for name in spec.programs:
            found = []
            for one in (spec, again):
                try:
                    made = link_program(one, name)
                    found.append(
                        [getattr(made, slot) for slot in made.__slots__ if slot not in ("object", "spec")]
                    )
                except SkepError as error:
                    found.append([str(error)])
            assert found[0] == found[1]
            linked += len(found[0]) > 1
    assert linked > 20


def test_without_types_and_with_what_is_rare() -> None:
    """What no compiler here writes: no BTF, kinds of maps that nobody knows, maps in maps, edits."""
    from skep.obj.spec import PIN_BY_NAME, Extern, MapSpec, ProgramSpec, Reloc, SubprogSpec
    from skep.uapi.enums import AttachType, ProgType

    spec = ObjectSpec("rare", "/there/rare.o")
    spec.license, spec.version, spec.byteorder = "Dual MIT/GPL", 0x060C00, "big"
    inner = MapSpec("inner", MapType.HASH, 4, 8, 16, extra=3, numa_node=0)
    spec.maps["outer"] = MapSpec("outer", MapType.HASH_OF_MAPS, 4, 4, 8, inner=inner, contents={3: "inner"})
    spec.maps["new"] = MapSpec("new", 9999, 1, 2, 3, 4, pinning=PIN_BY_NAME, pin_value=16)
    spec.maps[".data"] = MapSpec(
        ".data", MapType.ARRAY, 4, 3, 1, data=bytearray(b"\1\0\xff"), kernel_name="r.data"
    )
    spec.maps[".data"].data_offset = 4096
    spec.programs["p"] = ProgramSpec("p", "?xdp", ProgType.XDP, AttachType.XDP, hook="xdp", autoload=False)
    spec.programs["q"] = ProgramSpec("q", "none", ProgType.UNSPEC, sleepable=True, flags=32, attach_to="x")
    spec.functions["p"] = SubprogSpec(
        "p",
        "?xdp",
        2,
        bytes(16),
        is_weak=True,
        relocs=[Reloc(0, "map", "outer"), Reloc(1, "data", ".data", 2)],
    )
    spec.functions["p"].core_relos = [(0, 1, 2, 3)]
    spec.externs["e"] = Extern("e", "kconfig", 1, True, 8, 4, 9)
    spec.jump_tables["t:8"] = (1, 2, 3)
    spec.btf_edits.sizes[4] = 16
    again = thaw(freeze(spec))
    assert again is not None and differences(spec, again) == [] and not again.has_btf
    again.maps["outer"].contents[3] = "other"
    assert isinstance(again.maps[".data"].data, bytearray), "to be set before loading"


def test_what_another_version_wrote(tmp_path: Path) -> None:
    """The names of all fields are part of it: a field more, less or elsewhere is another shape."""
    shape, row, fixed = marshal.loads(freeze(read(support.compiled("whole.c", tmp_path))))
    assert shape == SHAPE and thaw(marshal.dumps((shape, row, fixed))) is not None
    for part, names in enumerate(shape):
        others = [names + "x"] if isinstance(names, str) else [names[1:], (*names, "more"), names[::-1], ()]
        for other in others:
            changed = (*shape[:part], other, *shape[part + 1 :])
            assert thaw(marshal.dumps((changed, row, fixed))) is None
    assert thaw(marshal.dumps((shape[:-1], row, fixed))) is None


def test_bytes_of_something_else(tmp_path: Path) -> None:
    """Whole, but not what was written: values of other kinds in generated places, and cut short."""
    data = freeze(read(support.compiled("whole.c", tmp_path)))
    number = support.seed()
    rng = random.Random(number)
    print(f"seed {number}")
    whole = marshal.loads(data)
    refused = 0
    for _ in range(600):
        changed = _changed(copy.deepcopy(whole), rng)
        made = thaw(marshal.dumps(changed))
        assert made is None or isinstance(made, ObjectSpec)
        refused += made is None
    assert refused > 100
    for other in (b"", b"\0", b"N", data[:1], marshal.dumps(5), marshal.dumps((SHAPE, (), None)), b"\x7fELF"):
        assert thaw(other) is None
    for _ in range(200):
        assert thaw(data[: rng.randrange(len(data))]) is None


def _changed(value: Any, rng: random.Random) -> Any:
    """``value`` with another in one place of it."""
    if isinstance(value, (tuple, list)) and value and rng.random() < 0.9:
        items = list(value)
        at = rng.randrange(len(items))
        if rng.random() < 0.1:
            del items[at]
        else:
            items[at] = _changed(items[at], rng)
        return type(value)(items)
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(list(value))
        return {**value, key: _changed(value[key], rng)}
    return rng.choice([None, True, -1, 1 << 70, 1.5, "", "text", b"", b"bytes", (), (1, 2), [], {}, {"a": 1}])
