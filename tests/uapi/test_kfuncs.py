"""First versions of kernel functions: as generated, and nothing that the running kernel's BTF contradicts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from skep.btf import Btf
from skep.errors import NotSupported, UnresolvedSymbol
from skep.kernel.externs import ExternTable
from skep.linux.kernel import LinuxKernel
from skep.obj import CoreTarget, link_program, read
from skep.uapi import kfuncs
from tests.kernel.build import build
from tests.support.oracles import ROOT, bpf

FUNC = 12
ROWS = dict(
    line.split()
    for line in (ROOT / "tools" / "data" / "kfunc_since.txt").read_text().splitlines()
    if line[0] != "#"
)


def test_the_table_is_the_generated_one() -> None:
    words = [sys.executable, str(ROOT / "tools" / "gen_kfuncs.py")]
    made = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    assert made == Path(kfuncs.__file__).read_text()
    assert {name: kfuncs.first(name) for name in ROWS} == ROWS and len(ROWS) > 300
    assert kfuncs.first("no_such_function") is None


@pytest.mark.live
def test_this_kernel_has_none_of_a_later_one() -> None:
    bpf()
    version, btf = LinuxKernel().version, Btf.kernel()
    for name, since in ROWS.items():
        if version < tuple(map(int, since.split("."))):
            assert btf.find(name, FUNC) is None, f"{name} is said to need {since}"


class Old(LinuxKernel):
    """The running kernel, taken for an older one."""

    def __init__(self, *version: int) -> None:
        super().__init__()
        self.version = (version[0], version[1])


@pytest.mark.live
@pytest.mark.parametrize(
    ("version", "function", "since"),
    [((5, 10), "bpf_throw", "6.7"), ((6, 6), "bpf_throw", "6.7"), ((5, 10), "bpf_nor_this_one", "5.13")],
)
def test_what_an_older_kernel_lacks_is_named(version: tuple[int, int], function: str, since: str) -> None:
    bpf()
    spec = read(build("throws"))
    extern = spec.externs[function]
    spec.externs[function] = extern._replace(weak=False)
    other = read(build("handles")).btf
    assert other is not None
    program = "throws" if function == "bpf_throw" else "guarded"
    table = ExternTable(Old(*version), spec, CoreTarget(other))
    with pytest.raises(NotSupported, match=rf"kernel functions? \(?{function}\)? is not supported") as caught:
        table.fill(link_program(spec, program), -1)
    assert caught.value.since == since
    table.close()
    table = ExternTable(Old(9, 9), spec, CoreTarget(other))
    with pytest.raises(UnresolvedSymbol, match=f"has no '{function}'") as missing:
        table.fill(link_program(spec, program), -1)
    assert ("as a module that is not loaded" in str(missing.value)) == (function == "bpf_throw")
    table.close()
