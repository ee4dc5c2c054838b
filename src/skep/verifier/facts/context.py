"""What a program may read and write of its context, and of the sockets and flow keys it was handed.

Three sources: a table made by asking kernels (`context_table`), rules by size for the contexts that are plain
memory, and the BTF prototype of what a program attaches to (`btf_context`).
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Final, NamedTuple

from skep.uapi.availability import OPTIONAL
from skep.uapi.enums import AttachType, ProgType
from skep.verifier import kinds as k

if TYPE_CHECKING:
    from skep.verifier.subject import Subject

Version = tuple[int, int]


class CtxField(NamedTuple):
    """What a read of the context yields.

    ``kind`` is a register kind with flags; for BTF kinds ``btf`` and ``btf_id`` name the struct, ``ref`` says
    that the pointer comes with a reference that must be released or given back. ``retval`` marks the return
    value that an LSM or fmod_ret program looks at.
    """

    kind: int
    btf: object = None
    btf_id: int = 0
    ref: bool = False
    retval: bool = False


SCALAR: Final = CtxField(k.SCALAR_VALUE)
_KINDS: Final = {
    "scalar": k.SCALAR_VALUE,
    "pkt": k.PTR_TO_PACKET,
    "pkt_end": k.PTR_TO_PACKET_END,
    "pkt_meta": k.PTR_TO_PACKET_META,
    "sock": k.PTR_TO_SOCKET,
    "sock_or_null": k.PTR_TO_SOCKET | k.PTR_MAYBE_NULL,
    "sock_common": k.PTR_TO_SOCK_COMMON,
    "sock_common_or_null": k.PTR_TO_SOCK_COMMON | k.PTR_MAYBE_NULL,
    "flow_keys": k.PTR_TO_FLOW_KEYS,
    "tp_buffer": k.PTR_TO_TP_BUFFER,
}
_OBJECTS: Final = {
    k.PTR_TO_FLOW_KEYS: "flow_keys",
    k.PTR_TO_SOCKET: "sock",
    k.PTR_TO_SOCK_COMMON: "sock_common",
    k.PTR_TO_TCP_SOCK: "tcp_sock",
    k.PTR_TO_XDP_SOCK: "xdp_sock",
}
#: PERF_MAX_TRACE_SIZE, and the largest context of a syscall program
_TRACE_BYTES: Final = 8192
_SYSCALL_BYTES: Final = 0xFFFF
_BY_BTF: Final = (ProgType.TRACING, ProgType.LSM, ProgType.STRUCT_OPS)


def _numbers(text: str) -> list[int]:
    out: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        out.extend(range(int(first), int(last or first) + 1))
    return out


@cache
def _blocks() -> dict[tuple[int, int], list[str]]:
    """(program type, attach type) -> its rows."""
    from skep.verifier.facts.context_table import CONTEXTS

    out: dict[tuple[int, int], list[str]] = {}
    rows: list[str] = []
    for line in CONTEXTS.strip().split("\n"):
        if line[0] == " ":
            rows.append(line)
            continue
        rows = []
        for context in line.split():
            kind, _, attach = context.partition("/")
            number = 0 if attach == "0" else int(AttachType[attach])
            out[int(ProgType[kind]), number] = rows
    return out


@cache
def _places(prog_type: int, attach_type: int) -> dict[tuple[int, int, bool], tuple[str, Version]]:
    """(offset, size, write) -> (what, first version) of one context."""
    blocks = _blocks()
    rows = blocks.get((prog_type, 0 if attach_type in OPTIONAL else attach_type))
    if rows is None:  # an attach type that changes nothing
        rows = next((r for (kind, _), r in blocks.items() if kind == prog_type), [])
    out: dict[tuple[int, int, bool], tuple[str, Version]] = {}
    for row in rows:
        what, size_text, since, text = row.split()
        major, _, minor = since.partition(".")
        size = int(size_text)
        for n in _numbers(text):
            out[n * size, size, what == "write"] = (what, (int(major), int(minor)))
    return out


def place_since(prog_type: int, attach_type: int, off: int, size: int, write: bool = False) -> Version | None:
    """The first Linux whose programs of a type may access these bytes of their context; None: none may.

    (0, 0) for types whose contexts are not in the table.
    """
    if not any(kind == prog_type for kind, _ in _blocks()):
        return 0, 0
    found = _places(prog_type, attach_type).get((off, size, write))
    return found[1] if found is not None else None


@cache
def _object_places() -> dict[str, frozenset[tuple[int, int, bool]]]:
    from skep.verifier.facts.context_table import OBJECTS

    found: dict[str, set[tuple[int, int, bool]]] = {}
    for line in OBJECTS.strip().split("\n"):
        name, what, size, text = line.split()
        found.setdefault(name, set()).update((n, int(size), what == "write") for n in _numbers(text))
    return {name: frozenset(places) for name, places in found.items()}


def object_access(kind: int, off: int, size: int, write: bool) -> bool:
    """Whether ``size`` bytes at ``off`` of a socket (or flow keys) may be read or written."""
    return (off, size, write) in _object_places()[_OBJECTS[kind & k.BASE_MASK]]


def ctx_access(
    subject: Subject,
    off: int,
    size: int,
    write: bool,
    kernel: Version = (6, 18),
    *,
    signed: bool = False,
    privileged: bool = True,
    log: list[str] | None = None,
) -> CtxField | None:
    """What an access of ``size`` bytes at ``off`` of the context yields; None: it is not allowed.

    A write that is allowed yields a number. ``signed`` is a sign-extending load, which cannot make pointers.
    Lines that the kernel prints beside its refusal are added to ``log``.
    """
    prog_type = subject.prog_type
    attach_type = subject.attach_type
    if prog_type == ProgType.EXT:
        if subject.attach_prog is None:
            return None
        prog_type, attach_type = subject.attach_prog.prog_type, subject.attach_prog.attach_type
    if prog_type in _BY_BTF:
        from skep.verifier.facts.btf_context import btf_ctx_access

        if write and not (prog_type == ProgType.STRUCT_OPS or attach_type == AttachType.TRACE_ITER):
            return None
        found = None if write else btf_ctx_access(subject, off, size, kernel, log)
    elif prog_type == ProgType.TRACEPOINT:
        found = SCALAR if 8 <= off < _TRACE_BYTES and not write and off % size == 0 else None
    elif prog_type == ProgType.SYSCALL:
        aligned = off % size == 0 or kernel >= (7, 0)
        found = SCALAR if 0 <= off < _SYSCALL_BYTES and aligned else None
    else:
        found = _from_table(subject, prog_type, attach_type, off, size, write, kernel)
    if not privileged and prog_type == ProgType.CGROUP_SKB and _needs_rights(off, write):
        return None
    if found is not None and signed and found.kind != k.SCALAR_VALUE:
        return None
    return found


def _needs_rights(off: int, write: bool) -> bool:
    """The packet's pointers, and a write of its time stamp, are for CAP_BPF in a cgroup's filter."""
    return off in (76, 80) or (write and off == 152)


def _from_table(
    subject: Subject, prog_type: int, attach_type: int, off: int, size: int, write: bool, kernel: Version
) -> CtxField | None:
    what, since = _places(prog_type, attach_type).get((off, size, write), ("", (0, 0)))
    if not what or since > kernel:
        return None
    if what == "write":
        return SCALAR
    kind = _KINDS.get(what)
    if kind is not None:
        return CtxField(kind) if kind != k.SCALAR_VALUE else SCALAR
    # trusted_ptr_NAME: a kernel struct
    types = subject.types
    name = what.removeprefix("trusted_ptr_")
    found = types.find(name, 4) if types is not None else None
    if found is None:
        return None
    return CtxField(k.PTR_TO_BTF_ID | k.PTR_TRUSTED, types, found)
