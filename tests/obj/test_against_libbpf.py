"""The same object loaded by libbpf (bpftool) and by skep: the kernel must hold the same of both."""

from __future__ import annotations

from pathlib import Path

import pytest

from skep import obj
from tests.obj.support import BUILDS, bpftool_load, compiled, load
from tests.support import oracles


@pytest.mark.parametrize("source", ["whole.c", "relocated.c"])
@pytest.mark.parametrize(("clang", "cpu"), BUILDS)
def test_programs_and_maps_are_the_same(source: str, clang: str, cpu: str, tmp_path: Path) -> None:
    oracles.bpf()
    path = compiled(source, tmp_path, clang, cpu)
    want = bpftool_load(path, tmp_path)
    spec = obj.read(path)
    with load(spec) as loaded:
        assert set(want.programs) == set(loaded.programs)
        for name, code in want.programs.items():
            assert loaded.xlated(name) == code, name
    assert want.maps
    for made in spec.maps.values():
        row = want.maps.get(made.kernel_name[:15])
        if row is not None:
            ours = (made.type.name.lower(), made.key_size, made.value_size, made.max_entries, made.flags)
            theirs = (row["type"], row["bytes_key"], row["bytes_value"], row["max_entries"], row["flags"])
            assert ours == theirs, made.name
