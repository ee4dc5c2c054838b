"""Every example compiles, loads, attaches and does what it says, on activity of the test's own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from skep.cli.python import imported
from skep.loading import build, programs_of
from tests.examples.plays import EXAMPLES, PLAYS, Load
from tests.linux.links.rig import Rig, Skipped
from tests.support import oracles

NAMES = sorted(path.stem for path in EXAMPLES.glob("*.py") if "from skep import bpf" in path.read_text())
ROOT = EXAMPLES.parent


def module(name: str) -> ModuleType:
    return imported(str(EXAMPLES / f"{name}.py"))


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    oracles.bpf()
    made = Rig(str(tmp_path))
    yield made
    made.close()


def test_every_example_is_played() -> None:
    assert set(NAMES) == set(PLAYS)


@pytest.mark.live
@pytest.mark.parametrize("name", NAMES)
def test_example(name: str, rig: Rig) -> None:
    try:
        PLAYS[name](rig, Load())
    except Skipped as reason:
        oracles.absent(str(reason))


@pytest.mark.live
def test_libbpf_loads_the_same_objects(tmp_path: Path) -> None:
    """bpftool loads every example's object, types included."""
    oracles.bpf()
    bpftool = oracles.tool("bpftool")
    objects = []
    for name in NAMES:
        path = tmp_path / f"{name}.bpf.o"
        path.write_bytes(build(programs_of(module(name))))
        objects.append(str(path))
    script = 'mount -t bpf bpf "$1" && shift && for o; do echo "@@@ $o"; '
    script += (
        f'{bpftool} -d prog loadall "$o" "/sys/fs/bpf/$(basename "$o" .bpf.o)" 2>&1 || echo FAILED; done'
    )
    words = ["unshare", "-m", "sh", "-c", script, "sh", "/sys/fs/bpf", *objects]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert done.stdout.count("@@@ ") == len(NAMES), done.stderr
    for part in done.stdout.split("@@@ ")[1:]:
        where = part.splitlines()[0]
        assert "FAILED" not in part, (where, part[-2000:])
        assert "Error loading .BTF" not in part, (where, part[-2000:])


@pytest.mark.parametrize("name", NAMES)
def test_types_are_shown(name: str, tmp_path: Path) -> None:
    """`bpftool btf dump` reads the object's types."""
    bpftool = oracles.tool("bpftool")
    path = tmp_path / "x.bpf.o"
    path.write_bytes(build(programs_of(module(name))))
    done = subprocess.run([bpftool, "btf", "dump", "file", str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for program in programs_of(module(name)):
        assert f"FUNC '{program.__name__}'" in done.stdout


def test_type_checkers_accept_the_examples() -> None:
    files = [str(EXAMPLES / f"{name}.py") for name in NAMES]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", *files],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout
