"""Compile the verifier's engine to native code with mypyc (an option: everything works without).

    python -m tools.build_compiled OUT [--jobs N]

puts a copy of the package into folder OUT/skep with an extension module beside each module that is compiled:
use it with PYTHONPATH=OUT, or build a wheel from it. Needs mypy (which brings mypyc), setuptools and a C
compiler. Takes about two minutes of processor time.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
#: modules of skep.verifier whose work is per instruction; the rest stays as it is
MODULES = [
    "value",
    "scalar",
    "tnum",
    "bounds",
    "arith",
    "compare",
    "ptr",
    "state",
    "insn",
    "alu",
    "jump",
    "equal",
    "pointers",
    "nullness",
    "precision",
    "prune",
    "live",
    "stack",
    "mem",
    "memory_insns",
    "explore",
    "widen",
    "calls",
    "callbacks",
    "env",
    "btfptr",
    "kinds",
    "subprogs",
    "cfg",
    "decode",
    "helper_call",
    "helper_args",
    "refs",
    "dynptr",
]
_SETUP = """
from setuptools import setup
from mypyc.build import mypycify

modules = [f"skep/verifier/{{name}}.py" for name in {modules!r}]
setup(
    name="skep-compiled",
    packages=[],
    ext_modules=mypycify([*modules, "--follow-imports=silent", "--ignore-missing-imports"], opt_level="2"),
)
"""


def build(out: Path, jobs: int = 1) -> int:
    """Compile into ``out``; the compiler's exit status."""
    target = out / "skep"
    if target.exists():
        shutil.rmtree(target)
    out.mkdir(parents=True, exist_ok=True)
    shutil.copytree(ROOT / "src" / "skep", target, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    setup = out / "setup.py"
    setup.write_text(_SETUP.format(modules=MODULES))
    command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace", "-j", str(jobs)]
    done = subprocess.run(command, cwd=out, env={**os.environ, "MYPYPATH": str(out)})
    shutil.rmtree(out / "build", ignore_errors=True)
    setup.unlink()
    return done.returncode


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tools.build_compiled", description=__doc__.split("\n")[0]
    )
    parser.add_argument("out", type=Path, help="folder for the compiled package")
    parser.add_argument("--jobs", type=int, default=1, help="C compilers at once")
    args = parser.parse_args()
    return build(args.out, args.jobs)


if __name__ == "__main__":
    sys.exit(main())
