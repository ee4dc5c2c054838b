"""Programs in Python built with another kernel's types, loaded and run in that kernel."""

from __future__ import annotations

import os
import sys

import pytest

from skep.cli.python import imported
from skep.errors import CompileError
from skep.loading import build
from tests.kernels import images, types
from tests.kernels.emulate import run
from tests.support.oracles import ROOT, absent

ASKED = os.environ.get("SKEP_TEST_KERNELS", "")

pytestmark = [
    pytest.mark.skipif(not ASKED, reason="make test-kernels runs these"),
    pytest.mark.oracle,
]


@pytest.mark.parametrize(("prefix", "name"), [("6.18", "scheduler"), ("6.12", "untagged")])
def test_runs_there(prefix: str, name: str) -> None:
    folder = images.cache() / "built"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{os.getpid()}.bpf.o"
    try:
        kernel = types.btf(prefix)
        module = imported(str(ROOT / "tests" / "kernels" / "written" / f"{name}.py"))
        path.write_bytes(build(module, btf=str(kernel)))
        image = images.find(prefix) or images.fetch(prefix)
        command = [sys.executable, "-m", "tests.kernels.written", name, str(path)]
        answer = run(image, command, folder=str(ROOT), timeout=600)
    except images.Missing as reason:
        absent(str(reason))
    finally:
        path.unlink(missing_ok=True)
    assert answer.status == 0 and f"{name} played" in answer.output, (
        f"{answer.status}: {answer.output[-2000:]}{answer.console[-2000:]}"
    )


def test_a_kernel_without_schedulers_says_so() -> None:
    try:
        kernel = types.btf("6.1.0")
    except images.Missing as reason:
        absent(str(reason))
    module = imported(str(ROOT / "tests" / "kernels" / "written" / "scheduler.py"))
    with pytest.raises(CompileError, match="sched_ext_ops"):
        build(module, btf=str(kernel))
