"""From programs, or a module, to an object."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from skep.bpf.programs import Program
from skep.errors import CompileError
from skep.lang.sections import unmark
from skep.lang.source import SourceFile
from skep.lang.unit import Unit

if TYPE_CHECKING:
    from skep.llvm.bpf import BpfCompiler

_LICENSES = ("license", "LICENSE", "__license__")


def to_ir(
    programs: Sequence[Program], *, cpu: str = "v3", license: str | None = None, btf: str | None = None
) -> str:
    """The IR of one object with these programs, their maps and global variables.

    ``license`` is by default the ``license`` of the first program's module, else "GPL"; ``btf`` a file with
    the kernel's types, by default those of the running kernel.

    Raises:
        CompileError: something is outside the language; the error points at it.
        BtfError: ``btf`` is no file of types.
    """
    return _unit(programs, cpu, license, btf).text()


def sections(programs: Sequence[Program], *, cpu: str = "v3") -> dict[str, tuple[str, str]]:
    """By program, its section in the object and why it is of that kind ("" where there was no choice).

    Raises:
        CompileError: as `to_ir` does.
    """
    made = _unit(programs, cpu, None)
    found = {}
    for program in programs:
        choice = made.choices.get(program.__name__)
        found[program.__name__] = (choice.section, choice.why) if choice else (program.section, "")
    return found


def _unit(programs: Sequence[Program], cpu: str, license: str | None, btf: str | None = None) -> Unit:
    """Everything of an object, compiled."""
    if not programs:
        raise CompileError(
            "no program to compile", hint="decorate a function: @bpf.xdp, @bpf.tracepoint(...)"
        )
    first = programs[0].fn
    path = first.__code__.co_filename
    file = SourceFile.read(path)
    # Functions, maps and variables may have the name of a section.
    taken = {name for space in _namespaces(programs) for name in space}
    unit = Unit(path, file.text, cpu=cpu, taken=taken)
    unit.sources[path] = file
    if license is None:
        license = _license(first.__globals__, path)
    unit.license_text = license
    if btf is not None:
        from skep.btf.read import Btf
        from skep.lang.kernel_types import Types

        unit.types = Types(Btf.open(btf))
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(max(limit, 10_000))  # long chains of operators and elifs nest deeply
    try:
        done: set[int] = set()
        waiting = list(programs)
        for space in _namespaces(programs):
            unit.module_globals(space)
        while waiting:
            program = waiting.pop(0)
            if id(program) not in done:
                done.add(id(program))
                unit.program(program)
            waiting += unit.more_programs
            unit.more_programs = []
    except RecursionError:
        raise CompileError("the program is nested too deeply", file=path) from None
    finally:
        sys.setrecursionlimit(limit)
    unit.license(license)
    return unit


def _license(space: dict[str, Any], path: str) -> str:
    """What a module says its license is, by default "GPL"."""
    for name in _LICENSES:
        given = space.get(name)
        if given is not None and not isinstance(given, type(len)):
            if not isinstance(given, str):
                source = SourceFile.read(path)
                where = source.declaration(name)
                if where is None:
                    raise CompileError(f"{name} is {given!r}, no text", file=path, hint=f'{name} = "GPL"')
                raise source.error(where, f"{name} is {given!r}, no text", f'{name} = "GPL"')
            return given
    return "GPL"


def _namespaces(programs: Iterable[Program]) -> list[dict[str, Any]]:
    spaces: dict[int, dict[str, Any]] = {}
    for program in programs:
        spaces[id(program.fn.__globals__)] = program.fn.__globals__
    return list(spaces.values())


def compile_programs(
    programs: Sequence[Program],
    *,
    cpu: str = "v3",
    license: str | None = None,
    kind: str = "obj",
    btf: str | None = None,
) -> bytes:
    """The bytes of an object (or of "asm" or "ir" text) with these programs; ``btf`` as for `to_ir`.

    Raises:
        CompileError: something is outside the language, or LLVM failed.
        MissingDependency: llvmlite is not installed.
    """
    from skep.llvm.bpf import BpfCompiler

    with BpfCompiler() as compiler:
        return compile_with(compiler, programs, cpu=cpu, license=license, kind=kind, btf=btf)


def compile_with(
    compiler: BpfCompiler,
    programs: Sequence[Program],
    *,
    cpu: str = "v3",
    license: str | None = None,
    kind: str = "obj",
    btf: str | None = None,
) -> bytes:
    """`compile_programs` with a compiler process that is started already."""
    unit = _unit(programs, cpu, license, btf)
    ir = unit.text()
    try:
        made = compiler.compile(ir, cpu=cpu, kind=kind)
    except CompileError as error:
        raise located(error, programs) from None
    if kind == "obj" and 'section "~' in ir:
        made = unmark(made)
    if kind == "obj" and unit.has_subprogs:
        from skep.lang.frames import check

        check(made, unit.sources.values())
    return made


def located(error: CompileError, programs: Sequence[Program]) -> CompileError:
    """An error of LLVM's about a place in a program, as one of the language's."""
    head, found, _ = error.reason.partition("Looks like the BPF stack limit is exceeded")
    if not found:
        return error
    # LLVM says: ...: error: file.py:12:5: in function name i32 (ptr): Looks like ...
    words = head.split("error: ")[-1].split(" in function ")
    file, line, column = words[0].strip(" :").rsplit(":", 2)
    name = words[-1].split(" ", 1)[0]
    for program in programs:
        path = program.fn.__code__.co_filename
        if path.endswith(file.rpartition("/")[2]) and line.isdigit() and column.isdigit():
            source = SourceFile.read(path)
            return CompileError(
                f"the variables of {name}() need more than 512 bytes of stack together",
                file=path,
                source=source.text,
                line=int(line),
                column=max(0, int(column) - 1),
                end_column=max(0, int(column) - 1) + 1,
                hint="keep large ones in a map: scratch = bpf.PerCpuArray(T, 1); x = scratch[0]",
            )
    return error
