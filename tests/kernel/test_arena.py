"""Arenas: global variables in them, seen from both sides, at the address the object asks for."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

import pytest

import skep
from skep import loading
from skep.errors import KernelError, LinkError
from skep.obj import read
from tests.kernel.build import build, no_leaks
from tests.support import oracles

pytestmark = pytest.mark.live
ADDRESS = 1 << 44


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    oracles.bpf()
    if loading.open_kernel().version < (6, 9):
        oracles.absent("a kernel with arenas (6.9)")
    with no_leaks():
        yield


@pytest.mark.parametrize("flags", [(), (f"-DAT={ADDRESS}",)])
def test_global_variables_in_an_arena(flags: tuple[str, ...]) -> None:
    spec = read(build("arena", *flags))
    assert len(spec.maps["arena"].data or b"") == 601 * 8
    with skep.load(spec, variables={"plain": 7, "count": 50}) as obj:
        seen = obj.globals("arena")
        assert (seen.count, seen.sums[:3], seen.sums[599]) == (50, [1, 2, 3], 0)
        assert obj.kernel.prog_test_run(obj.bump.fd).retval == 3
        assert (seen.count, seen.sums[599], obj.data.plain) == (57, 57, 7)
        seen.sums = [9] * 600
        assert obj.kernel.prog_test_run(obj.bump.fd).retval == 9
        assert obj.maps["arena"].arena().nbytes == 16 * mmap.PAGESIZE
        if flags:
            line = f"{ADDRESS:x}-"
            assert any(row.startswith(line) for row in Path("/proc/self/maps").read_text().splitlines())
            with pytest.raises(KernelError, match="File exists"):
                skep.load(read(build("arena", *flags)))
        with pytest.raises(KernelError, match="no arena"):
            obj.maps[".data"].arena()


def test_arenas_that_do_not_fit() -> None:
    with pytest.raises(LinkError, match="1 pages are too few"):
        read(build("arena", "-DPAGES=1"))
    with pytest.raises(LinkError, match="the object has none"):
        read(build("arena", "-DNO_ARENA"))
