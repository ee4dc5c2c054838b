"""Compile the verifier's engine to native code with mypyc (an option: everything works without).

    python -m tools.build_compiled OUT [--jobs N] [--level N] [--modules NAME,…]

puts a copy of the package into folder OUT/skep with an extension module beside each module that is compiled:
use it with PYTHONPATH=OUT, or copy it over an installed one. Needs mypy (which brings mypyc), setuptools and
a C compiler. Takes about two minutes of processor time; ``--level 0`` (no optimisation) a fourth of it.
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
options = ["--follow-imports=silent", "--ignore-missing-imports"]
setup(
    name="skep-compiled",
    packages=[],
    ext_modules=mypycify([*modules, *options], opt_level="{level}", multi_file={several}),
)
"""


def build(out: Path, jobs: int = 1, level: str = "2", modules: list[str] | None = None) -> int:
    """Compile ``modules`` (all that are worth it) into ``out``; the compiler's exit status.

    ``level`` is the C compiler's -O; with ``jobs`` more than one, each module is a C file of its own.
    """
    target = out / "skep"
    if target.exists():
        shutil.rmtree(target)
    out.mkdir(parents=True, exist_ok=True)
    shutil.copytree(ROOT / "src" / "skep", target, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    setup = out / "setup.py"
    setup.write_text(_SETUP.format(modules=modules or MODULES, level=level, several=jobs > 1))
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
    parser.add_argument("--level", default="2", choices=("0", "1", "2", "3"), help="the C compiler's -O")
    parser.add_argument("--modules", help="of skep.verifier, with commas (default: all that are worth it)")
    args = parser.parse_args()
    return build(args.out, args.jobs, args.level, args.modules.split(",") if args.modules else None)


if __name__ == "__main__":
    sys.exit(main())
