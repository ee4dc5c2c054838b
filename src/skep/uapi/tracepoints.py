"""Tracepoints: classes of events, arguments of system calls."""

from __future__ import annotations


def syscall_arguments(name: str) -> list[tuple[str, str]] | None:
    """(name, type) of each argument of a system call, None for one that is unknown.

    A type is ``s32``, ``u64``, …, or ``*`` and what a pointer into user space points to:
    ``*char``, ``*void``, ``*sockaddr``, ``**char``.
    """
    from skep.uapi.syscall_table import SYSCALLS

    row = _find(SYSCALLS, name)
    if row is None:
        return None
    return [(word.partition("=")[0], word.partition("=")[2]) for word in row.split()]


def syscall_names() -> list[str]:
    """Every system call that has tracepoints."""
    from skep.uapi.syscall_table import SYSCALLS

    return [line.split()[0] for line in SYSCALLS.strip().splitlines()]


def event_classes(event: str) -> list[str]:
    """Classes that a tracepoint has or had: its record is ``struct trace_event_raw_CLASS``."""
    from skep.uapi.event_table import CLASSES

    return [event, *(_find(CLASSES, event) or "").split()]


def _find(table: str, name: str) -> str | None:
    """What stands behind ``name`` in its row; rows begin at a line's start or a ``;``."""
    rows = table.replace(";", "\n") if ";" in table else table
    at = rows.find(f"\n{name} ")
    if at < 0:
        return "" if f"\n{name}\n" in rows else None
    start = at + len(name) + 2
    return rows[start : rows.index("\n", start)]
