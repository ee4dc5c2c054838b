"""USDT programs of an object: all sites of a probe are one link where the kernel has that."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path

import pytest

import skep
from skep.kernel.probes import uprobe_multi
from skep.loading import open_kernel
from skep.uapi.enums import AttachType
from tests.kernel.build import no_leaks
from tests.kernels import objects
from tests.linux.links.rig import build_library
from tests.support.oracles import bpf, tool

pytestmark = pytest.mark.live


def test_one_link(tmp_path: Path) -> None:
    bpf()
    library, path = tmp_path / "probes.so", tmp_path / "usdt.o"
    build_library(str(library))
    source = Path(objects.__file__).parent / "c" / "usdt.bpf.c"
    clang = tool("clang-19", "clang")
    subprocess.run([clang, "-O2", "-g", "-target", "bpf", "-c", str(source), "-o", str(path)], check=True)
    kernel = open_kernel()
    at_once = kernel.version >= (6, 6) and uprobe_multi(kernel)
    with no_leaks():
        objects.usdt(str(path))
        with skep.load(path) as obj:
            wanted = AttachType.TRACE_UPROBE_MULTI if at_once else 0
            assert obj.probe.attach_type == wanted
            with obj.probe.attach(str(library), "skep", "open", pid=0, cookie=5) as link:
                assert link.kind == "bpf_link"
                loaded = ctypes.CDLL(str(library))
                loaded.fire(-5)
                assert (obj.bss.hits, obj.bss.cookie) == (1, 5)
            loaded.fire(-5)
            assert obj.bss.hits == 1
            # another process's calls are not ours
            with obj.probe.attach(str(library), "skep", "open", pid=1):
                loaded.fire(-5)
                assert obj.bss.hits == 1
