"""Prototypes of helpers as the verifier checks them: `proto` picks the one a program gets."""

from __future__ import annotations

from functools import cache
from typing import Final, NamedTuple

from skep.uapi.enums import AttachType, ProgType
from skep.verifier import kinds
from skep.verifier.facts import args


class Arg(NamedTuple):
    """An argument: kind with flags, the struct it points to ("*": the call decides), bytes (0: none)."""

    kind: int
    btf: str = ""
    size: int = 0


class Proto(NamedTuple):
    """A helper as a group of program types sees it.

    ``name`` is the prototype's, ``ret`` a RET_* with flags and ``ret_btf`` the struct it points to; ``args``
    are always five. ``allowed`` names a further rule about where the program is attached, or is "".
    """

    name: str
    gpl_only: bool
    pkt_access: bool
    might_sleep: bool
    fastcall: bool
    allowed: str
    ret: int
    ret_btf: str
    args: tuple[Arg, ...]


_GROUPS: Final = {
    ProgType.SCHED_CLS: "sched",
    ProgType.SCHED_ACT: "sched",
    ProgType.RAW_TRACEPOINT_WRITABLE: "raw_tracepoint",
}
_KPROBE_MULTI: Final = (AttachType.TRACE_KPROBE_MULTI, AttachType.TRACE_KPROBE_SESSION)
_UPROBE_MULTI: Final = (AttachType.TRACE_UPROBE_MULTI, AttachType.TRACE_UPROBE_SESSION)
_NOTHING: Final = Arg(args.ARG_DONTCARE)


@cache
def _texts() -> dict[str, str]:
    from skep.verifier.facts.proto_table import PROTOS

    return {name: rest for name, _, rest in (line.partition(" ") for line in PROTOS.split("\n") if line)}


@cache
def _calls() -> dict[tuple[str, str], list[str]]:
    from skep.verifier.facts.proto_table import CALLS

    rows = [line.split() for line in CALLS.split("\n") if line]
    return {(row[0], row[1]): row[2:] for row in rows}


@cache
def _names() -> dict[int, str]:
    from skep.uapi.helpers import helpers

    return {number: row.name for number, row in helpers().items()}


def _number(text: str) -> int:
    """PTR_TO_MEM|MEM_RDONLY as a number."""
    out = 0
    prefix, *parts = text.split("|")
    for part in parts:
        name = part.replace("MAYBE_NULL", "PTR_MAYBE_NULL").replace("DYNPTR_", "DYNPTR_TYPE_")
        out |= int(getattr(kinds, name))
    return out | int(getattr(args, prefix))


def _split(text: str) -> tuple[str, str, int]:
    """PTR_TO_BTF_ID:task_struct=8 in its parts."""
    text, _, size = text.partition("=")
    kind, _, btf = text.partition(":")
    return kind, btf, int(size or 0)


@cache
def named(name: str) -> Proto | None:
    """The prototype of that name (a helper's, or one of its variants'), None for an unknown one."""
    text = _texts().get(name)
    if text is None:
        return None
    gpl, flags, ret, *want = text.split()
    words = flags.split(",")
    allowed = next((word.partition("=")[2] for word in words if word.startswith("allowed=")), "")
    kind, btf, _ = _split(ret)
    found = []
    for cell in want:
        base, struct, size = _split(cell)
        found.append(Arg(_number("ARG_" + base), struct, size))
    found += [_NOTHING] * (5 - len(found))
    return Proto(
        name,
        gpl == "gpl",
        "pkt_access" in words,
        "might_sleep" in words,
        "allow_fastcall" in words,
        allowed,
        _number("RET_" + kind),
        btf,
        tuple(found),
    )


def proto(prog_type: int, helper: int, attach_type: int = 0, sleepable: bool = False) -> Proto | None:
    """What a program gets for a helper, None for a number that no kernel has.

    Whether the type may call it at all is `skep.uapi.availability`'s to say.
    """
    name = _names().get(helper)
    if name is None:
        return None
    kind = ProgType(prog_type)
    group = _GROUPS.get(kind, kind.name.lower())
    calls = _calls()
    choices = calls.get((group, name)) or calls.get(("any", name)) or [name]
    return named(_choose(choices, attach_type, sleepable))


def _choose(choices: list[str], attach_type: int, sleepable: bool) -> str:
    if len(choices) == 1:
        return choices[0]
    for name in choices:
        if "kmulti" in name or "kprobe_multi" in name:
            fits = attach_type in _KPROBE_MULTI
        elif "umulti" in name or "uprobe_multi" in name:
            fits = attach_type in _UPROBE_MULTI
        elif "sleepable" in name:
            fits = sleepable
        else:
            continue
        if fits:
            return name
    return next(
        (n for n in choices if not any(word in n for word in ("multi", "sleepable", "unlocked"))), choices[-1]
    )
