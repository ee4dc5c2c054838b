"""Generated C through clang: what we print of it and what bpftool does."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from skep.btf import Btf, c_dump, dedup, py_dump, raw_dump
from skep.btf import types as t
from tests.btf.generate import Source
from tests.btf.objects import bpftool, bpftool_knows_modes, load_btf
from tests.btf.test_dedup import joined, signatures
from tests.elf.clang import compile_c

SEED = int(os.environ.get("SKEP_SEED", "20260101"))


@pytest.mark.oracle
@pytest.mark.parametrize("number", range(25))
def test_generated_c(tmp_path: Path, number: int) -> None:
    source = Source(SEED + number)
    print(f"seed {SEED + number}")
    path = compile_c(source.text, tmp_path / "g.o", "-O0", "-g", "-Wno-everything")
    btf = Btf.open(path)
    btf.check()
    assert "".join(f"{line}\n" for line in raw_dump(btf)) == bpftool("btf", "dump", "file", path)
    header = c_dump(btf, enum_modes=bpftool_knows_modes())
    assert header == bpftool("btf", "dump", "file", path, "format", "c")
    # The header compiles, and to the same types wherever C can say them without `aligned`.
    again = Btf.open(compile_c(c_dump(btf) + "int end;", tmp_path / "h.o", "-g", "-Wno-everything"))
    assert again.find("end") is not None
    names = {v.name for v in btf if v.kind in (t.STRUCT, t.UNION) and v.name}
    space: dict[str, object] = {}
    exec(compile(py_dump(btf, sorted(names)), "generated", "exec"), space)
    for name in names:
        made = space[name]
        assert made.unpack(bytes(range(256)) * 64).SIZE == made.SIZE  # type: ignore[attr-defined]


@pytest.mark.oracle
def test_deduplicating_twice_the_same(tmp_path: Path) -> None:
    for number in range(5):
        path = compile_c(Source(SEED + number).text, tmp_path / "g.o", "-O0", "-g", "-Wno-everything")
        btf = Btf.open(path)
        once, _ = dedup(btf)
        twice, _ = dedup(joined([path, path]))
        assert set(signatures(twice, 4)) == set(signatures(once, 4)), f"seed {SEED + number}"
        fixed = sum(value.kind in (t.VAR, t.DATASEC) for value in btf)
        assert len(twice) == len(once) + fixed, f"seed {SEED + number}"
        assert len(dedup(once)[0]) == len(once)


def test_load_reports_the_kernels_log() -> None:
    """The helper that other tests lean on says no when the kernel does."""
    from tests.support import oracles

    oracles.bpf()
    assert load_btf(b"\x9f\xeb\1\0") != ""
