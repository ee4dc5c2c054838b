"""Plain functions of numbers as native code of this machine.

The same walk as for programs, with the host as its target: what the kernel computes and what this computes
are held against Python's own answers by the tests.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from skep.bpf.programs import Subprog
from skep.lang import subprogs
from skep.lang.source import SourceFile
from skep.lang.unit import Unit


def to_host_ir(functions: Sequence[Any]) -> str:
    """IR that defines each function under its own name, taking and returning i64.

    Parameters and results need annotations, of integer types or bool. Raises CompileError.
    """
    path = functions[0].__code__.co_filename
    file = SourceFile.read(path)
    unit = Unit(path, file.text, target="host")
    unit.sources[path] = file
    for fn in functions:
        subprogs.compile_subprog(unit, Subprog(fn), None)
    return unit.text()
