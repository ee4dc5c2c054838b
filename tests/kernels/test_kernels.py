"""The matrix: in every kernel each hook it has attaches and fires, each it lacks is refused by name.

Runs under `make test-kernels` (SKEP_TEST_KERNELS names the versions, by default all). One boot for each
kernel plays everything; what is missing to boot skips by name, and fails under CI.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from skep.cli.python import imported
from skep.loading import build
from tests.examples.plays import EXAMPLES, PLAYS
from tests.kernels import images
from tests.kernels.emulate import Answer, run
from tests.kernels.guest import MARK
from tests.kernels.objects import OTHERS, STEPS
from tests.lang import hooks
from tests.lang.hooks import SLOTS
from tests.linux.links.rig import build_library, scenarios
from tests.support.oracles import ROOT, absent, tool

VERSIONS = ("5.10", "6.1", "6.12", "6.18", "7")
ASKED = os.environ.get("SKEP_TEST_KERNELS", "")
HERE = Path(__file__).resolve().parent

pytestmark = [
    pytest.mark.skipif(not ASKED, reason="make test-kernels runs these"),
    pytest.mark.oracle,
]


@functools.cache
def built() -> Path:
    """Everything that runs inside, built here once: in the cache, where every guest sees it."""
    (images.cache() / "built").mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=images.cache() / "built"))
    folder.chmod(0o755)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    build_library(str(folder / "probes.so"))
    clang = tool("clang-19", "clang")
    for name in (*STEPS, *OTHERS):
        source, out = HERE / "c" / f"{name}.bpf.c", folder / f"{name}.o"
        command = [clang, "-O2", "-g", "-mcpu=v2", "--target=bpf", "-c", str(source), "-o", str(out)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert not done.returncode, done.stderr
    (folder / "examples").mkdir(exist_ok=True)
    for name in PLAYS:
        module = imported(str(EXAMPLES / f"{name}.py"))
        # v2 loads on every kernel of the matrix
        (folder / "examples" / f"{name}.bpf.o").write_bytes(build(module, cpu="v2"))
    (folder / "hooks").mkdir(exist_ok=True)
    for name in SLOTS:
        (folder / "hooks" / f"{name}.o").write_bytes(build(getattr(hooks, name), cpu="v2"))
    return folder


@functools.cache
def played(prefix: str) -> tuple[Answer, list[dict[str, Any]]]:
    """The answer of one boot, and its lines of results."""
    try:
        image = images.find(prefix) or images.fetch(prefix)
        command = [sys.executable, "-m", "tests.kernels.guest", str(built())]
        answer = run(image, command, folder=str(ROOT), timeout=900)
    except images.Missing as reason:
        absent(str(reason))
    lines = [line.partition(MARK)[2] for line in answer.output.splitlines() if MARK in line]
    return answer, [json.loads(line) for line in lines]


def wanted() -> list[str]:
    chosen = [v for v in ASKED.split() if v[0].isdigit() and v != "1"]
    return chosen or list(VERSIONS)


@pytest.mark.parametrize(
    "prefix", [pytest.param(v, marks=pytest.mark.xdist_group(f"kernel-{v}")) for v in wanted()]
)
class TestKernel:
    def test_everything_was_played(self, prefix: str) -> None:
        answer, results = played(prefix)
        assert answer.status == 0, f"{answer.status}: {answer.output[-2000:]}{answer.console[-2000:]}"
        assert results[-1]["kind"] == "end"
        assert {r["name"] for r in results if r["kind"] == "hook"} == {one.name for one in scenarios()}
        assert {r["name"] for r in results if r["kind"] == "object"} == set(STEPS)

    def test_hooks(self, prefix: str) -> None:
        """Nothing failed, and nothing that this kernel is new enough for was absent or skipped."""
        _, results = played(prefix)
        hooks = [r for r in results if r["kind"] == "hook"]
        version = next(tuple(map(int, r["name"].split(".")[:2])) for r in results if r["kind"] == "start")
        wrong = [
            f"{r['name']}: {r['result']}: {r['detail']}"
            for r in hooks
            if r["result"] != "ok"
            and not (r["result"] == "absent" and version < tuple(map(int, r["since"].split("."))))
        ]
        assert not wrong, "\n".join(wrong)
        assert sum(r["result"] == "ok" for r in hooks) >= 60

    def test_tables(self, prefix: str) -> None:
        """Every first version in skep.uapi is what the kernel says."""
        _, results = played(prefix)
        (told,) = [r for r in results if r["kind"] == "tables"]
        assert told["total"] > 450 and told["result"] == "ok", told["detail"]

    def test_objects(self, prefix: str) -> None:
        _, results = played(prefix)
        wrong = [
            f"{r['name']}: {r['detail']}" for r in results if r["kind"] == "object" and r["result"] != "ok"
        ]
        assert not wrong, "\n".join(wrong)

    def test_examples(self, prefix: str) -> None:
        """Programs in Python, built once here: the same objects do their work on every kernel."""
        _, results = played(prefix)
        told = [r for r in results if r["kind"] == "example"]
        assert {r["name"] for r in told} == set(PLAYS)
        wrong = [f"{r['name']}: {r['result']}: {r['detail']}" for r in told if r["result"] != "ok"]
        assert not wrong, "\n".join(wrong)

    def test_programs(self, prefix: str) -> None:
        """kprobes, fentry, fexit, fmod_ret, LSM: programs in Python fire where the kernel has the hook."""
        _, results = played(prefix)
        told = {r["name"]: r for r in results if r["kind"] == "program"}
        assert set(told) == set(SLOTS)
        wrong = [f"{r['name']}: {r['detail']}" for r in told.values() if r["result"] == "failed"]
        assert not wrong, "\n".join(wrong)
        assert sum(r["result"] == "ok" for r in told.values()) >= len(SLOTS) - 2
