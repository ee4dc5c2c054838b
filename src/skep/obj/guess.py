"""Types of programs whose section names none: by older names, by what the code does, by their neighbours.

tc, ip and the kernel's samples took sections of any name, since their command line said the type. The types
guessed here are those that such objects hold: XDP, classifiers (SCHED_CLS), socket filters, and programs of
routes (LWT) that say so by their names or the helpers that only routes have. What a program reads of its
context and which helpers it calls tell more than names do, where they tell anything.
"""

from __future__ import annotations

import struct
from sys import byteorder

from skep.obj.sections import Section, apply, lookup
from skep.uapi.enums import AttachType, ProgType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import Final

    from skep.obj.spec import ObjectSpec, ProgramSpec, SubprogSpec

_LITTLE: Final = byteorder == "little"
_SECTION_OF: Final = {
    ProgType.XDP: "xdp",
    ProgType.SCHED_CLS: "tc",
    ProgType.SOCKET_FILTER: "socket",
}
_GUESSED: Final = frozenset(_SECTION_OF)
_XDP_FIELDS: Final = frozenset(range(0, 24, 4))
_SKB_BYTES: Final = 192
#: 64-bit fields of __sk_buff: flow_keys, tstamp, sk, hwtstamp
_SKB_WIDE: Final = frozenset((144, 152, 168, 184))
#: fields of __sk_buff that socket filters may not read: tc_classid, data, data_end, family … local_port,
#: data_meta, tstamp, wire_len, hwtstamp
_NOT_FOR_SOCKETS: Final = frozenset((72, 76, 80, *range(88, 144, 4), 152, 160, 184))
_CB: Final = range(48, 68)
#: bpf_lwt_push_encap, of lwt_in and lwt_xmit; bpf_lwt_seg6_store_bytes, _adjust_srh and _action, of seg6local
_PUSH_ENCAP: Final = 73
_SEG6: Final = frozenset((74, 75, 76))
_ROUTES: Final = (ProgType.LWT_IN, ProgType.LWT_OUT, ProgType.LWT_XMIT, ProgType.LWT_SEG6LOCAL)


def is_tail(section: str) -> bool:
    """Whether a section's name is of those given to what tail calls reach: "2/7", "tail-3", "xdp/tail"."""
    first, _, second = section.removeprefix("?").partition("/")
    return tail_of(section) is not None or (second or first).startswith("tail")


def tail_of(section: str) -> tuple[int, int] | None:
    """What iproute2 reads in a section's name "ID/KEY": the number of a program array, and the slot in it."""
    first, slash, second = section.removeprefix("?").partition("/")
    if not slash:
        return None
    try:
        return int(first, 0), int(second, 0)
    except ValueError:
        return None


def stem(section: str) -> str:
    """What sections of one series have in common: "tail-" of "tail-12"."""
    return section.rstrip("0123456789")


def by_name(section: str, function: str) -> Section | None:
    """The meaning that a section's and its function's names suggest (iproute2's "prog", ".text").

    "xdp" in the function's name makes an XDP program, "tc", "cls", "ingress" or "egress" a classifier,
    "sock" or "filter" a socket filter; then SEC("prog"), "ingress", "egress", "from-…" and "to-…" are
    classifiers, as for `tc`, and "filter" socket filters.
    """
    words = function.lower()
    for parts, meaning in (
        (("xdp",), "xdp"),
        (("tc_", "_tc", "cls", "ingress", "egress"), "tc"),
        (("sock", "filter"), "socket"),
    ):
        if any(part in words for part in parts):
            return lookup(meaning)
    name = section.removeprefix("?")
    if name in ("prog", "ingress", "egress") or name.startswith(("from-", "to-")):
        return lookup("tc")
    return lookup("socket") if name == "filter" else None


def of_route(section: str, function: str, helpers: Collection[int]) -> Section | None:
    """The hook of a route that a program says it is for: by helpers, else by "lwt_in", … in its names.

    A program that encapsulates (bpf_lwt_push_encap) is for packets that come in, unless it calls what only
    lwt_xmit has.
    """
    if not _SEG6.isdisjoint(helpers):
        return lookup("lwt_seg6local")
    words = f"{section} {function}".lower()
    named = next((name for name in ("lwt_in", "lwt_out", "lwt_xmit", "seg6local") if name in words), None)
    if named is not None:
        return lookup("lwt_seg6local" if named == "seg6local" else named)
    if _PUSH_ENCAP not in helpers:
        return None
    from skep.uapi.availability import first

    fits = [type for type in _ROUTES if all(first(type, helper) is not None for helper in helpers)]
    return lookup(fits[0].name.lower()) if fits else None


def of_type(type: ProgType) -> Section | None:
    """The section that stands for one of the types guessed here."""
    name = _SECTION_OF.get(type)
    return lookup(name) if name is not None else None


class Evidence:
    """What the code of a function says of its type.

    ``kind`` is "xdp" or "skb" where what it reads of its context is of that kind, else None; ``fits`` are the
    types among XDP, SCHED_CLS and SOCKET_FILTER that have the fields and the helpers it uses; ``helpers`` are
    the numbers of those.
    """

    __slots__ = ("fits", "helpers", "kind")

    def __init__(self, function: SubprogSpec) -> None:
        fields, helpers, loads_packet = _uses(function)
        skb = loads_packet or any(store or at >= 24 for at, _, store in fields)
        xdp = all(at in _XDP_FIELDS and size == 4 and not store for at, size, store in fields)
        fits = []
        if xdp and not loads_packet:
            fits.append(ProgType.XDP)
        if all(_in_skb(at, size) for at, size, _ in fields):
            fits.append(ProgType.SCHED_CLS)
            if not any(at & ~3 in _NOT_FOR_SOCKETS or (store and at not in _CB) for at, _, store in fields):
                fits.append(ProgType.SOCKET_FILTER)
        if helpers:
            from skep.uapi.availability import first

            fits = [type for type in fits if all(first(type, helper) is not None for helper in helpers)]
        self.fits = tuple(fits)
        self.helpers = helpers
        self.kind: str | None = None
        if skb and (ProgType.SCHED_CLS in fits or ProgType.SOCKET_FILTER in fits):
            self.kind = "skb"
        elif fits == [ProgType.XDP] or (ProgType.XDP in fits and {0, 4} <= {at for at, _, _ in fields}):
            self.kind = "xdp"
        elif fits and ProgType.XDP not in fits:
            self.kind = "skb"

    def choose(self, named: Section | None, known: Collection[ProgType]) -> Section | None:
        """The type, when code and names together leave one; ``known`` are the other programs' types."""
        if self.kind == "xdp":
            return of_type(ProgType.XDP)
        if self.kind is None:
            return named if named is not None and (named.type in self.fits or not self.fits) else None
        if named is not None and named.type in self.fits:
            return named
        if len(self.fits) == 2 and ProgType.SCHED_CLS in known:
            return of_type(ProgType.SCHED_CLS)
        return of_type(self.fits[-1])


def _in_skb(at: int, size: int) -> bool:
    return 0 <= at < _SKB_BYTES and (size <= 4 or at in _SKB_WIDE)


def _uses(function: SubprogSpec) -> tuple[set[tuple[int, int, bool]], set[int], bool]:
    """Fields of the context (byte, size, stored), helpers called, and whether it has LD_ABS or LD_IND.

    One pass in the order of the code: registers hold the context from where they were set to it until they
    are set again, which is how compilers use them.
    """
    context = {1}
    fields: set[tuple[int, int, bool]] = set()
    helpers: set[int] = set()
    loads_packet = False
    relocated = {reloc.pc for reloc in function.relocs}
    wide = False
    for pc, (opcode, registers, offset, imm) in enumerate(struct.iter_unpack("=BBhi", function.code)):
        if wide:
            wide = False
            continue
        dst, src = (registers & 15, registers >> 4) if _LITTLE else (registers >> 4, registers & 15)
        kind = opcode & 7
        if opcode == 0x18:
            wide = True
            context.discard(dst)
        elif kind == 0:  # LD_ABS, LD_IND
            loads_packet = True
            context -= {0, 1, 2, 3, 4, 5}
        elif kind == 1:
            if src in context:
                fields.add((offset, (4, 2, 1, 8)[opcode >> 3 & 3], False))
            context.discard(dst)
        elif kind in (2, 3):
            if dst in context and opcode & 0xE0 == 0x60:
                fields.add((offset, (4, 2, 1, 8)[opcode >> 3 & 3], True))
        elif opcode == 0xBF and offset == 0 and src in context:
            context.add(dst)
        elif kind in (4, 7):
            context.discard(dst)
        elif opcode == 0x85:
            if src == 0 and pc not in relocated and imm > 0:
                helpers.add(imm)
            context -= {0, 1, 2, 3, 4, 5}
    return fields, helpers, loads_packet


class Guesses:
    """Gives types to programs whose sections name none, as far as anything tells."""

    def __init__(self, spec: ObjectSpec, unknown: list[ProgramSpec]) -> None:
        self.unknown = unknown
        self.evidence = {program.name: Evidence(spec.functions[program.name]) for program in unknown}
        #: the types known so far, with the attach types of their programs
        self.types: dict[ProgType, set[AttachType]] = {}
        #: how many programs of each type are in sections of one series
        self.series: dict[tuple[str, ProgType], int] = {}
        for program in spec.programs.values():
            if program.type != ProgType.UNSPEC:
                self.note(program)

    def run(self) -> None:
        tails = {program.name for program in self.unknown if is_tail(program.section)}
        for program in self.unknown:
            if program.name not in tails:
                self.decide(program)
        # What tail calls reach is of the type of what reaches it.
        for program in self.left():
            fits = self.evidence[program.name].fits
            types = set(self.types)
            if len(types) == 1 and (not fits or types <= set(fits) or not types <= _GUESSED):
                self.follow(program, types.pop())
            elif program.name in tails:
                self.decide(program)
        for program in self.left():
            fits = self.evidence[program.name].fits
            counts = [(self.series.get((stem(program.section), type), 0), type) for type in fits]
            most = max(counts, default=(0, ProgType.UNSPEC))
            if most[0]:
                self.follow(program, most[1])
            elif program.name in tails and (meaning := of_type(ProgType.SCHED_CLS)) is not None:
                apply(program, meaning)

    def left(self) -> list[ProgramSpec]:
        return [program for program in self.unknown if program.type == ProgType.UNSPEC]

    def decide(self, program: ProgramSpec) -> None:
        function = program.name.partition("@")[0]
        evidence = self.evidence[program.name]
        meaning = of_route(program.section, function, evidence.helpers)
        if meaning is None:
            meaning = evidence.choose(by_name(program.section, function), self.types)
        if meaning is not None:
            apply(program, meaning)
            self.note(program)

    def note(self, program: ProgramSpec) -> None:
        attach_types = self.types.setdefault(program.type, set())
        if program.attach_type is not None:
            attach_types.add(program.attach_type)
        key = (stem(program.section), program.type)
        self.series[key] = self.series.get(key, 0) + 1

    def follow(self, program: ProgramSpec, type: ProgType) -> None:
        """Make a program one of a type there is already, with its attach type if there is only one.

        A program array holds programs of one type and, in new kernels, of one attach type.
        """
        program.type = type
        if len(self.types[type]) == 1:
            program.attach_type = next(iter(self.types[type]))
