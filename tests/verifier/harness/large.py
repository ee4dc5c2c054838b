"""The C programs of tests/verifier/c, compiled: real-world-like and large."""

from __future__ import annotations

import functools
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

from skep.obj import read
from tests.support.oracles import tool

C = Path(__file__).resolve().parents[1] / "c"


class Build(NamedTuple):
    """``defines`` as in ``-DNAME=VALUE``; ``programs`` those to judge, all without."""

    source: str
    clang: str = "clang-19"
    cpu: str = "v3"
    defines: tuple[str, ...] = ()
    programs: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "-".join((self.source, self.clang, self.cpu, *self.defines))


#: every program at every instruction set that each compiler knows
SMALL = tuple(
    Build(source, clang, cpu)
    for source in ("tracers", "balancer")
    for clang, cpu in (("clang-14", "v1"), ("clang-19", "v2"), ("clang-19", "v4"))
)
MIDDLE = (
    Build("endpoint", "clang-14", "v1", programs=("entry", "ingress6")),
    Build("endpoint", "clang-14", "v3", programs=("ingress4",)),
    Build("endpoint", "clang-19", "v2", programs=("egress4",)),
    Build("endpoint", "clang-19", "v4", programs=("egress6", "ingress4")),
    Build("stacks", "clang-19", "v3", ("FRAMES=60",)),
)
#: 3,000 to 80,000 instructions, up to 300,000 processed
LARGE = (
    Build("endpoint", "clang-14", "v1", programs=("whole",)),
    Build("endpoint", "clang-14", "v3", programs=("whole",)),
    Build("endpoint", "clang-19", "v2", programs=("whole",)),
    Build("endpoint", "clang-19", "v4", programs=("whole",)),
    Build("endpoint", "clang-19", "v3", ("BACKENDS=400",), ("whole",)),
    Build("stacks", "clang-14", "v3", ("FRAMES=300",)),
    Build("stacks", "clang-19", "v4", ("FRAMES=700",)),
)


@functools.cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="skep-large-")


@functools.cache
def build(what: Build) -> str:
    """The object's path."""
    out = Path(_folder().name, f"{what}.o")
    done = subprocess.run(
        [
            tool(what.clang), "-g", "-O2", f"-mcpu={what.cpu}", "--target=bpf", "-w",
            "-I/usr/include/x86_64-linux-gnu", *(f"-D{one}" for one in what.defines),
            "-c", str(C / f"{what.source}.c"), "-o", str(out),
        ],
        capture_output=True,
        text=True,
    )  # fmt: skip
    assert not done.returncode, done.stderr[-2000:]
    return str(out)


def programs(what: Build) -> list[str]:
    return list(what.programs or read(build(what)).programs)
