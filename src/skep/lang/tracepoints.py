"""Which kind of program ``@bpf.tracepoint("system:event")`` becomes: the cheapest that gives what it takes.

A perf tracepoint writes a record for its program; a raw or BTF tracepoint calls it with the tracepoint's own
arguments, and costs two thirds (82-95 ns against 112-141 measured). What a program takes decides: a parameter
with the name of an argument needs no record, and none at all needs nothing. ``via=`` says it instead.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from skep.bpf.programs import Program
from skep.bpf.types import Named
from skep.errors import BtfError

if TYPE_CHECKING:
    from skep.lang.kernel_types import KernelType, Types
    from skep.lang.source import SourceFile

WAYS = ("record", "tp_btf", "raw_tp")


class Choice(NamedTuple):
    """What a program becomes, and why, in words for `skep build -v`."""

    section: str
    why: str


def split(program: Program) -> tuple[str, str] | None:
    """(system, event) of a program for a perf tracepoint, None of any other."""
    head, _, rest = program.section.removeprefix("?").partition("/")
    if head != "tracepoint" or not rest:
        return None
    system, _, event = rest.rpartition("/")
    return system, event


def signature(types: Types, event: str) -> dict[str, tuple[int, KernelType]]:
    """A tracepoint's own arguments by name: (position, type). Empty where the kernel's BTF has none."""
    from skep.uapi.tracepoints import event_classes

    for name in dict.fromkeys([event, *event_classes(event)]):
        found = types.function(f"__bpf_trace_{name}")
        if found is not None and types.present(f"btf_trace_{event}"):
            return {arg: (i, kind) for i, (arg, kind) in enumerate(found[0][1:]) if arg}
    return {}


def fields(types: Types, event: str) -> set[str]:
    """The names of a record's fields."""
    from skep.lang.kernel_types import KStruct
    from skep.uapi.tracepoints import event_classes

    names: set[str] = set()
    for name in event_classes(event):
        kind = types.by_name(f"trace_event_raw_{name}")
        if isinstance(kind, KStruct):
            names |= {n.removeprefix("__data_loc_").removeprefix("__rel_loc_") for n in kind.names()}
    return names - {"ent", "__data"}


def effective(program: Program, choice: Choice | None) -> Program:
    """The program as it is compiled."""
    if choice is None or choice.section == program.section:
        return program
    hook = choice.section.removeprefix("?").partition("/")[0]
    return Program(program.fn, hook, choice.section, program.targets, program.options)


def choose(
    types_of: Callable[[], Types | None],
    file: SourceFile,
    program: Program,
    params: Sequence[tuple[str, Any, ast.AST]],
) -> Choice | None:
    """What a tracepoint program becomes; None for other programs. ``types_of`` gives None without BTF.

    Raises CompileError for parameters that are partly a record's fields and partly arguments.
    """
    place = split(program)
    if place is None:
        return None
    system, event = place
    mark = "?" if program.section.startswith("?") else ""
    way = program.options.get("via", "auto")
    stay = program.section
    if way == "record":
        return Choice(stay, "its record, as asked for")
    if system in ("syscalls", "") and event.startswith(("sys_enter_", "sys_exit_")):
        if way != "auto":
            every = "_".join(event.split("_")[:2])
            raise file.error(
                params[0][2] if params else file.function(program.fn),
                f"{event} is one system call's, and has no raw tracepoint of its own",
                f'@bpf.{way}("{every}") runs for every system call: compare the number',
            )
        return Choice(stay, "its record: the raw tracepoint runs for every system call, which costs more")
    names = [name for name, _, _ in params]
    whole = len(params) == 1 and _is_record(params[0][0], params[0][1], event)
    if not params and way in ("auto", "raw_tp"):
        return Choice(f"{mark}raw_tp/{event}", "a raw tracepoint: it takes nothing of the record")
    if way in ("tp_btf", "raw_tp") and (whole or not params):
        return Choice(f"{mark}{way}/{event}", "as asked for")
    types = types_of()
    known = signature(types, event) if types is not None else {}
    if way in ("tp_btf", "raw_tp"):
        odd = next((param for param in params if param[0] not in known), None)
        if odd is not None:
            raise file.error(
                odd[2],
                f"the tracepoint {event} has no argument {odd[0]!r}",
                f"it has ({', '.join(known)})" if known else "this kernel's BTF does not say which it has",
            )
        return Choice(f"{mark}{way}/{event}", "as asked for")
    if whole or types is None:
        return Choice(stay, _dearer(event, known) if types is not None else "its record: no BTF here")
    record = fields(types, event)
    own = [name for name in names if name in known and name not in record]
    only = [name for name in names if name in record and name not in known]
    if own and only:
        raise file.error(
            next(node for name, _, node in params if name == only[0]),
            f"{only[0]} is a field of the record of {event}, and {own[0]} an argument of the tracepoint: "
            "a program takes one or the other",
            f"arguments: {', '.join(known)}",
        )
    if own and all(name in known for name in names):
        _steady(file, event, known, params)
        why = "a BTF tracepoint: it takes the tracepoint's own arguments, where Linux 5.10 to 7.3 have them"
        return Choice(f"{mark}tp_btf/{event}", why)
    return Choice(stay, _dearer(event, known))


def changes(event: str) -> set[str]:
    """The arguments of a tracepoint that lie elsewhere, or are something else, in other kernels."""
    from skep.uapi.tracepoint_changes import CHANGES
    from skep.uapi.tracepoints import event_classes

    return {arg for name in (event, *event_classes(event)) for arg in CHANGES.get(name, "").split()}


def _steady(
    file: SourceFile,
    event: str,
    known: dict[str, tuple[int, KernelType]],
    params: Sequence[tuple[str, Any, ast.AST]],
) -> None:
    """Refuse to guess where an argument lies that other kernels have elsewhere."""
    moved = changes(event)
    for name, _, node in params:
        if name in moved:
            raise file.error(
                node,
                f"{name!r} is in another place, or of another type, among the arguments of {event} in other "
                "kernels, where an object built here would take something else for it",
                f'via="tp_btf" takes argument {known[name][0]} everywhere; def f(ctx) has the record',
            )


def _is_record(name: str, annotation: Any, event: str) -> bool:
    if name == "ctx":
        return True
    called = annotation.name.lower() if isinstance(annotation, Named) else ""
    return called in ("tracepoint", event.replace("_", "")) or called.startswith("trace_event_raw_")


def _dearer(event: str, known: dict[str, tuple[int, KernelType]]) -> str:
    if not known:
        return "its record: this kernel has no BTF tracepoint of that name"
    return f"its record; with ({', '.join(known)}) as parameters it would be tp_btf/{event}, a third cheaper"


def types_here() -> Types | None:
    """The running kernel's types, None where it has none."""
    from skep.btf.read import Btf
    from skep.lang.kernel_types import Types

    try:
        return Types(Btf.kernel())
    except BtfError:
        return None
