"""Files of BPF programs written in Python, for the commands that take them."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from skep.errors import CompileError, SkepError

if TYPE_CHECKING:
    from types import ModuleType

    from skep.bpf.programs import Program
    from skep.obj.spec import ObjectSpec


def imported(path: str) -> ModuleType:
    """The module of a file, imported under its own name, not as ``__main__``.

    Raises:
        CompileError: Python cannot read it, or it raises while it is imported.
    """
    from importlib.util import module_from_spec, spec_from_file_location

    full = os.path.abspath(path)
    name = os.path.splitext(os.path.basename(full))[0]
    if not os.path.isfile(full):
        raise CompileError(f"{path}: no such file")
    found = spec_from_file_location(name, full)
    if found is None or found.loader is None:
        raise CompileError(f"{path}: no Python file")
    module = module_from_spec(found)
    folder = os.path.dirname(full)
    if folder not in sys.path:
        sys.path.insert(0, folder)  # as `python FILE` does, for the modules beside it
    before = sys.modules.get(name)
    sys.modules[name] = module
    try:
        found.loader.exec_module(module)
    except SyntaxError as error:
        raise CompileError(
            error.msg,
            file=error.filename or path,
            source=_source(error.filename or path),
            line=error.lineno or 1,
            column=(error.offset or 1) - 1,
        ) from None
    except CompileError:
        raise
    except SkepError as error:  # a declaration that means nothing
        line, where = _raised(error, full)
        text = (_source(where) or "").splitlines()[line - 1 : line]
        raise CompileError(
            str(error),
            file=where,
            source=_source(where),
            line=line,
            column=0,
            end_column=len(text[0]) if text else 1,
            hint="the declaration that Python was running is wrong",
        ) from None
    except SystemExit as error:
        raise CompileError(
            f"the file ends Python while it is imported (exit status {error.code})",
            file=path,
            hint='put what is to be run under `if __name__ == "__main__":`',
        ) from None
    except Exception as error:  # the user's own module, which may raise anything
        line, where = _raised(error, full)
        raise CompileError(
            f"{type(error).__name__} while it was imported: {error}",
            file=where,
            source=_source(where),
            line=line,
            column=0,
        ) from None
    finally:
        if before is not None:
            sys.modules[name] = before
    return module


def _source(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return None


def _raised(error: BaseException, path: str) -> tuple[int, str]:
    """The last line of ``path`` on the way to an exception."""
    line = 1
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == path:
            line = trace.tb_lineno
        trace = trace.tb_next
    return line, path


def programs(path: str, wanted: Sequence[str] = ()) -> list[Program]:
    """The programs of a file, all or those of these names.

    Raises:
        CompileError: the file cannot be imported, has no programs, or not one of a name.
    """
    from skep.bpf.programs import Program

    module = imported(path)
    found: dict[str, Program] = {}
    for value in vars(module).values():
        if isinstance(value, Program):
            found.setdefault(value.__name__, value)
    if not found:
        raise CompileError("no BPF program in this file", file=path, hint="@bpf.xdp and the like make them")
    for name in wanted:
        if name not in found:
            raise CompileError(f"no program {name!r}; there are: {', '.join(found)}", file=path)
    return [found[name] for name in wanted] if wanted else list(found.values())


def compiled(path: str, wanted: Sequence[str] = (), **options: Any) -> ObjectSpec:
    """The programs of a file as an object. ``options`` are those of `skep.loading.build` (``cpu``)."""
    from skep.loading import build
    from skep.obj import read

    data = build(programs(path, wanted), **options)
    return read(data, name=os.path.basename(path).partition(".")[0])
