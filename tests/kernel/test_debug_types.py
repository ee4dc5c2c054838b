"""Records whose types only the compiler's debugging information has, read by the name of the type."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

import skep
from skep.errors import LinkError
from skep.kernel.perfbuf import PerfBuffer
from skep.obj import read
from tests.cli.bpftool import compile_c
from tests.kernel.build import no_leaks
from tests.support import oracles

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    oracles.bpf()
    return compile_c("local_types", tmp_path_factory.mktemp("debug"))


def test_readers(path: Path) -> None:
    assert (btf := read(path).btf) is not None and btf.find("ring_record") is None
    with no_leaks(), skep.load(path, variables={"only_pid": os.getpid()}) as obj:
        ring, buffer = obj.reader("rings", "ring_record"), obj.reader("events", "struct event")
        assert isinstance(buffer, PerfBuffer)
        with obj.enter.attach():
            os.getppid()
        (record,), (event,) = ring.read(), buffer.read()
        assert record.number == 7
        assert record.comm == Path("/proc/self/comm").read_bytes().rstrip(b"\n")
        # the kernel was given the first 16 bytes of it
        assert (event.pid, event.negative, event.text[:5]) == (os.getpid(), -5, b"short")
        assert obj.codec("event")(pid=1, text="x").pid == 1


def test_no_such_type(path: Path, tmp_path: Path) -> None:
    stripped = tmp_path / "stripped.o"
    words = [oracles.tool("llvm-strip-19", "llvm-strip"), "-g", path, "-o", stripped]
    subprocess.run(words, check=True)
    for object, name in ((path, "no_such"), (stripped, "ring_record"), (path.read_bytes(), "ring_record")):
        with (
            skep.load(read(object) if isinstance(object, bytes) else object) as obj,
            pytest.raises(LinkError, match=rf"no type '{name}', .* a global `struct {name} \*unused;`"),
        ):
            obj.reader("rings", name)
