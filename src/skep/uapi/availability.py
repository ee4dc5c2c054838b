"""Which program may call which helper, and since which Linux.

Found by loading a call of every helper in programs of every type and attach type in several kernels (5.10 to
7.3); between two of those, by the version that brought the helper. A build of the kernel may lack a helper
that its version has. `helpers` has numbers and C prototypes.
"""

from __future__ import annotations

from functools import cache

from skep.uapi.enums import AttachType, ProgType

Version = tuple[int, int]

#: attach types that say no more than the program type does, and that kernels before them do not look at
OPTIONAL = (int(AttachType.XDP),)


def _version(text: str) -> Version:
    major, _, minor = text.partition(".")
    return int(major), int(minor or 0)


@cache
def _table() -> tuple[dict[tuple[int, int], str], dict[int, tuple[int, ...]]]:
    """(program type, attach type) -> row of the table; program type -> attach types that were asked about."""
    from skep.uapi.availability_table import TABLE

    rows: dict[tuple[int, int], str] = {}
    attach_types: dict[int, tuple[int, ...]] = {}
    for line in TABLE.strip().split("\n"):
        contexts, _, text = line.partition(" | ")
        for context in contexts.split():
            kind, _, attach = context.partition("/")
            number = 0 if attach == "0" else int(AttachType[attach])
            prog = int(ProgType[kind])
            rows[prog, number] = text
            attach_types[prog] = (*attach_types.get(prog, ()), number)
    return rows, attach_types


@cache
def _row(prog_type: int, attach_type: int) -> dict[int, Version]:
    rows, attach_types = _table()
    if (prog_type, attach_type) not in rows:
        # An attach type that makes no difference to what may be called.
        attach_type = attach_types.get(prog_type, (0,))[0]
    out: dict[int, Version] = {}
    for cell in rows.get((prog_type, attach_type), "").split():
        first, _, text = cell.partition(":")
        version = _version(first)
        for part in text.split(","):
            low, _, high = part.partition("-")
            for number in range(int(low), int(high or low) + 1):
                out[number] = version
    return out


def first(prog_type: int, helper: int, attach_type: int | None = None) -> Version | None:
    """The first Linux, as (major, minor), that lets programs of this type call ``helper``; None: none does.

    Without ``attach_type``, the first that lets any of them.
    """
    if attach_type is not None and attach_type not in OPTIONAL:
        return _row(prog_type, attach_type).get(helper)
    found = [_row(prog_type, a).get(helper) for a in _table()[1].get(prog_type, ())]
    return min((v for v in found if v is not None), default=None)


def since(prog_type: int, helper: int, attach_type: int | None = None) -> str | None:
    """`first` as text, ``"5.8"``."""
    found = first(prog_type, helper, attach_type)
    return f"{found[0]}.{found[1]}" if found is not None else None


def allowed(prog_type: int, helper: int, attach_type: int | None = None, kernel: Version = (6, 18)) -> bool:
    """Whether programs of this type may call ``helper`` in Linux ``kernel``.

    An EXT program (that replaces a function) may call what the program around it may: ask about that.
    """
    found = first(prog_type, helper, attach_type)
    return found is not None and found <= kernel


def types_with(helper: int, kernel: Version = (6, 18)) -> list[ProgType]:
    """The types of programs that may call ``helper``, in some attachment of theirs."""
    return [ProgType(kind) for kind in _table()[1] if allowed(kind, helper, None, kernel)]
