"""The compiled build: what mypyc makes of the engine gives the same answers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from tools.build_compiled import MODULES, ROOT, build

#: enough for instances, containers and big numbers to cross between compiled and plain modules; what
#: inherits from a compiled class must be compiled with it
SOME = ["value", "scalar", "tnum", "bounds", "ptr"]
_ANSWERS = """
import json
from pathlib import Path
from skep.verifier import bounds
from tests.verifier.harness.cases import read_file
from tests.verifier.harness.ours import judge

rows = []
for name in ("scalars", "branches"):
    for case in read_file(Path("tests/verifier/cases", name + ".txt")):
        if "million" not in case.name:
            answer = judge(case.question)
            rows.append([case.name, answer.accepted, answer.reason, answer.processed])
print(json.dumps({"file": bounds.__file__, "rows": rows}))
"""


def _missing() -> str:
    for module in ("mypyc", "setuptools"):
        if find_spec(module) is None:
            return module
    compiler = (sysconfig.get_config_var("CC") or "cc").split()[0]
    header = Path(sysconfig.get_paths()["include"], "Python.h")
    return compiler if shutil.which(compiler) is None else "" if header.exists() else "Python.h"


def _answers(first: Path) -> Any:
    path = os.pathsep.join((str(first), str(ROOT)))
    done = subprocess.run(
        [sys.executable, "-c", _ANSWERS],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return json.loads(done.stdout)


def test_compiled_modules_give_the_same_answers(tmp_path: Path) -> None:
    lacking = _missing()
    if os.environ.get("CI") != "true":
        if lacking:
            pytest.skip(f"{lacking} is not installed")
        if not os.environ.get("SKEP_LONG"):
            pytest.skip("compiling takes half a minute of processor time: SKEP_LONG=1")
    assert not lacking
    assert build(tmp_path, level="0", modules=SOME) == 0
    compiled, plain = _answers(tmp_path), _answers(ROOT / "src")
    assert compiled["file"].startswith(str(tmp_path)) and not compiled["file"].endswith(".py")
    assert plain["file"].endswith(".py")
    assert len(plain["rows"]) > 50
    assert compiled["rows"] == plain["rows"]


def test_modules_to_compile_exist() -> None:
    folder = ROOT / "src" / "skep" / "verifier"
    assert [name for name in MODULES if not (folder / f"{name}.py").is_file()] == []
