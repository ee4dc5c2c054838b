"""Kernel functions for programs: their flags, who may call them, what the names of arguments say."""

from __future__ import annotations

from functools import cache
from typing import Final

from skep.uapi.enums import ProgType

Version = tuple[int, int]

# flags
ACQUIRE: Final = 1 << 0
RELEASE: Final = 1 << 1
RET_NULL: Final = 1 << 2
TRUSTED_ARGS: Final = 1 << 3
SLEEPABLE: Final = 1 << 4
DESTRUCTIVE: Final = 1 << 5
RCU: Final = 1 << 6
ITER_NEW: Final = 1 << 7
ITER_NEXT: Final = 1 << 8
ITER_DESTROY: Final = 1 << 9
RCU_PROTECTED: Final = 1 << 10
FASTCALL: Final = 1 << 11
ARENA_RET: Final = 1 << 12
ARENA_ARG1: Final = 1 << 13
ARENA_ARG2: Final = 1 << 14
IMPLICIT_ARGS: Final = 1 << 15
ITER: Final = ITER_NEW | ITER_NEXT | ITER_DESTROY

_FLAGS: Final = {
    "ACQUIRE": ACQUIRE,
    "RELEASE": RELEASE,
    "RET_NULL": RET_NULL,
    "TRUSTED_ARGS": TRUSTED_ARGS,
    "SLEEPABLE": SLEEPABLE,
    "DESTRUCTIVE": DESTRUCTIVE,
    "RCU": RCU,
    "ITER_NEW": ITER_NEW,
    "ITER_NEXT": ITER_NEXT,
    "ITER_DESTROY": ITER_DESTROY,
    "RCU_PROTECTED": RCU_PROTECTED,
    "FASTCALL": FASTCALL,
    "ARENA_RET": ARENA_RET,
    "ARENA_ARG1": ARENA_ARG1,
    "ARENA_ARG2": ARENA_ARG2,
    "IMPLICIT_ARGS": IMPLICIT_ARGS,
}
#: the functions that are trusted with any pointer no more: all arguments are, from here on
_ALL_TRUSTED: Final = (7, 0)


def _version(text: str) -> Version:
    major, _, minor = text.partition(".")
    return int(major), int(minor)


@cache
def _table() -> dict[str, tuple[int, int, str]]:
    """name -> (flags in 6.18, flags from 7.0 on, first versions)."""
    from skep.verifier.facts.kfunc_table import KFUNCS

    out: dict[str, tuple[int, int, str]] = {}
    since = ""
    for line in KFUNCS.strip().split("\n"):
        if line[0] == "@":
            since = line[2:]
            continue
        name, now, later = line.split()
        out[name] = _bits(now), _bits(later), since
    return out


def _bits(text: str) -> int:
    out = 0
    for word in text.split(","):
        out |= _FLAGS.get(word, 0)
    return out


def known(name: str) -> bool:
    """Whether some kernel that was asked has the function."""
    return name in _table()


def flags(name: str, kernel: Version = (6, 18)) -> int:
    """The function's flags (KF_* in <linux/btf.h>)."""
    row = _table().get(name)
    if row is None:
        return TRUSTED_ARGS
    found = row[1] | TRUSTED_ARGS if kernel >= _ALL_TRUSTED else row[0]
    return found | TRUSTED_ARGS if found & RELEASE else found


def releasing() -> list[str]:
    """The functions that take back what another acquired."""
    return [name for name, row in _table().items() if row[0] & RELEASE]


def iterators() -> list[str]:
    """The functions that begin an open-coded iterator."""
    return [name for name, row in _table().items() if row[0] & ITER_NEW]


def sleeps(name: str) -> bool:
    """The function may sleep."""
    row = _table().get(name)
    return row is not None and bool(row[0] & SLEEPABLE)


@cache
def _firsts(since: str) -> dict[str, Version]:
    out: dict[str, Version] = {}
    for cell in since.split():
        version, _, kinds = cell.partition(":")
        for kind in kinds.split(","):
            out[kind] = _version(version)
    return out


#: schedulers' functions are for schedulers alone, and many for some of their members, from here on
_SCHEDULERS: Final = (7, 2)
#: what tracing programs may call raw tracepoints may call too, from here on
_RAW_TRACEPOINTS: Final = (7, 2)


def first(
    name: str, prog_type: int, where: str | None = None, kernel: Version | None = None
) -> Version | None:
    """The first Linux that lets programs of this type call the function; None: none that is known does.

    ``where`` is what the function's filter looks at: the attach type's name, or ``struct.member`` of a
    struct_ops program; with None it is not looked at. ``kernel`` is the version that filters.
    """
    row = _table().get(name)
    if row is None:
        return None
    kind = ProgType(prog_type).name
    firsts = _firsts(row[2])
    found = firsts.get(kind)
    if kind == "STRUCT_OPS" and kernel is not None and kernel >= _SCHEDULERS and "scx_" in name:
        found = None
    if found is None and kind == "LSM":  # asked where LSM programs could not be loaded
        found = firsts.get("TRACING")
    if found is None and kind == "RAW_TRACEPOINT" and "TRACING" in firsts:
        found = max(firsts["TRACING"], _RAW_TRACEPOINTS)
    if found is not None:
        return found
    if where is None:
        return min((v for key, v in firsts.items() if key.startswith(kind + "/")), default=None)
    return firsts.get(f"{kind}/{where}") or firsts.get(f"{kind}/{where.partition('.')[0]}")


def allowed(name: str, prog_type: int, kernel: Version = (6, 18), where: str | None = None) -> bool:
    """Whether programs of this type may call the function (``where``: see `first`)."""
    found = first(name, prog_type, where, kernel)
    return found is not None and found <= kernel


@cache
def suffix(param: str) -> str:
    """What the end of an argument's name says: ``k`` in ``local_type_id__k``; "" for nothing."""
    base, mark, word = param.rpartition("__")
    return word if mark and base else ""
