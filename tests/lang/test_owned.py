"""Objects that programs allocate: on the live kernel, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

import skep
from skep.lang.compile import compile_programs
from skep.loading import programs_of
from tests.lang import owned
from tests.support.oracles import bpf


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("owned") / "owned.bpf.o"
    path.write_bytes(compile_programs(programs_of(owned)))
    return path


@pytest.mark.live
def test_alone_and_in_maps(built: Path) -> None:
    bpf()
    with skep.load(str(built)) as obj:
        assert obj.alone.run(bytes(64)).retval == 2
        assert obj.bss.zeros == 0
        assert obj.bss.seen == 8 * 1000000 + 500 * 1000 + 1 + 2 + 9 + 4 + 3
        assert obj.by_with.run(bytes(64)).retval == 42
        assert obj.take.run(bytes(64)).retval == 0
        assert [obj.keep.run(bytes(n)).retval for n in (60, 70, 80)] == [1, 60, 70]
        assert [obj.take.run(bytes(64)).retval for _ in range(2)] == [80, 0]


@pytest.mark.live
def test_lists(built: Path) -> None:
    bpf()
    with skep.load(str(built)) as obj:
        assert obj.empty.run(bytes(64)).retval == 0
        assert obj.fill.run(bytes(64)).retval == 0
        assert obj.queues[0].count == 6
        assert obj.empty.run(bytes(64)).retval == 4123
        assert obj.empty.run(bytes(64)).retval == 0


@pytest.mark.live
def test_trees(built: Path) -> None:
    bpf()
    keys = [(i * 5 + 2) % 7 for i in range(6)]
    with skep.load(str(built)) as obj:
        assert obj.grow.run(bytes(64)).retval == 6
        top = obj.peek.run(bytes(64)).retval
        assert top // 1000 == keys[-1]
        root, left, right = top // 100 % 10, top // 10 % 10, top % 10
        assert left < root < right
        digits = "".join(map(str, sorted(keys)))
        assert obj.shrink.run(bytes(64)).retval == int(digits)
        assert obj.shrink.run(bytes(64)).retval == 0
        # the list holds them still
        assert obj.drain.run(bytes(64)).retval == int("".join(map(str, keys)))
