"""Files of BPF programs written in Python, for the commands that take them."""

from __future__ import annotations

import os
import sys

from skep.errors import CompileError, SkepError

try:  # where `importlib.util` has them from, which takes a warm start 1 ms
    from _frozen_importlib import module_from_spec
    from _frozen_importlib_external import spec_from_file_location
except ImportError:  # pragma: no cover - other Pythons than CPython
    from importlib.util import module_from_spec, spec_from_file_location

TYPE_CHECKING = False  # `typing` and `collections` would be a third of a warm start
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType
    from typing import Any

    from skep.bpf.programs import Program
    from skep.obj.spec import ObjectSpec


def imported(path: str) -> ModuleType:
    """The module of a file, imported under its own name, not as ``__main__``.

    Raises:
        CompileError: Python cannot read it, or it raises while it is imported.
    """
    full = os.path.abspath(path)
    name = os.path.splitext(os.path.basename(full))[0]
    if not os.path.isfile(full):
        there = os.path.exists(full)
        what = ("is a folder" if os.path.isdir(full) else "is no regular file") if there else "no such file"
        raise CompileError(f"{path}: {what}")
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
        raise _not_python(error, path) from None
    except CompileError:
        raise
    except SkepError as error:  # a declaration that means nothing
        from skep.lang.source import advised

        reason, hint = advised(str(error), "mend the declaration")
        raise CompileError(reason, hint=hint, **_raised(error, full)) from None
    except SystemExit as error:
        raise CompileError(
            f"the file ends Python while it is imported (exit status {error.code})",
            file=path,
            hint='put what is to be run under `if __name__ == "__main__":`',
        ) from None
    except RecursionError:
        raise CompileError(
            "Python runs out of stack while it reads the file", file=path, hint="nest less deeply"
        ) from None
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # the user's own module, which may raise anything
        if isinstance(error, ValueError) and "null bytes" in str(error):  # a SyntaxError from 3.11.4 on
            raise _not_python(SyntaxError(str(error)), full) from None
        place = _raised(error, full)
        words = " ".join(_in_words(error, place).split())
        raise CompileError(
            f"{type(error).__name__} while it was imported: {words}{_beyond(error, full)}",
            hint="the module is run by Python before its programs are compiled: mend it here",
            **place,
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


def _not_python(error: SyntaxError, path: str) -> CompileError:
    """What Python itself cannot read, at the place that it tells."""
    file = error.filename or path
    source = _source(file)
    line, start = error.lineno or 1, max(1, error.offset or 1)
    end = error.end_offset if error.end_lineno == error.lineno else None
    if source is not None and "\0" in source and "null bytes" in error.msg:
        before = source[: source.index("\0")]
        line, start, end = before.count("\n") + 1, len(before) - before.rfind("\n"), None
    return CompileError(
        error.msg,
        file=file,
        source=source,
        line=line,
        column=start - 1,
        end_column=end - 1 if end is not None and end > start else None,
        hint="Python itself cannot read this",
    )


def _raised(error: BaseException, path: str) -> dict[str, Any]:
    """Where an exception came up: the last place of ``path`` on the way to it, as CompileError takes it."""
    source = _source(path)
    line, column, end = 1, 0, 1
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        if code.co_filename == path:
            places = list(code.co_positions())
            at = places[trace.tb_lasti // 2] if trace.tb_lasti // 2 < len(places) else (None,) * 4
            line, last = at[0] or trace.tb_lineno, at[1]
            text = (source or "").split("\n")[line - 1 : line]
            whole = text[0] if text else ""
            column = _characters(whole, at[2]) if at[2] is not None else len(whole) - len(whole.lstrip())
            end = _characters(whole, at[3]) if at[3] is not None and last == line else len(whole.rstrip())
        trace = trace.tb_next
    return {
        "file": path,
        "source": source,
        "line": line,
        "column": column,
        "end_column": max(end, column + 1),
    }


def _beyond(error: BaseException, path: str) -> str:
    """The place within another module that an exception came from, for its end."""
    trace, place = error.__traceback__, ""
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename
        if name == path:
            place = ""
        elif not name.startswith("<"):
            place = f" ({os.path.basename(name)}:{trace.tb_lineno})"
        trace = trace.tb_next
    return place


def _characters(line: str, offset: int) -> int:
    """Characters in so many bytes of UTF-8."""
    return len(line.encode()[:offset].decode("utf-8", "ignore"))


def _in_words(error: BaseException, place: dict[str, Any]) -> str:
    """An exception's own words; a constructor is called as the file calls it."""
    text = str(error)
    name, init, rest = text.partition(".__init__()")
    if init and isinstance(error, TypeError) and name.isidentifier() and place["source"]:
        called = place["source"].split("\n")[place["line"] - 1][place["column"] :].partition("(")[0].strip()
        text = f"{called or name}(){rest}"
    return text


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


def compiled(path: str, wanted: Sequence[str] = ()) -> ObjectSpec:
    """The programs of a file as an object, named after the file."""
    from skep.loading import spec_of

    return spec_of(programs(path, wanted), name=os.path.basename(path).partition(".")[0])
