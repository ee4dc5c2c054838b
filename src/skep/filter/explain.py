"""Classic code in words: what each instruction reads and asks.

    ldh [12]                  A = EtherType
    jeq #0x800                EtherType is IPv4
    ldb [23]                  A = IPv4 protocol
    jeq #0x6                  IPv4 protocol is TCP

The words follow the values that A, X and M[] hold on every path (`explain_flow`) and the headers whose place
is certain there (`explain_fields`). What is not certain is named by its place: "16 bits at byte 20".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from skep.filter import explain_names as names
from skep.filter import explain_radio as radio
from skep.filter.explain_fields import Field, field, is_ipv4_header, layers, place
from skep.filter.explain_flow import (
    Ancillary,
    Const,
    Header,
    Length,
    Load,
    Op,
    State,
    Value,
    jump,
    result,
    states,
)
from skep.isa import classic as c
from skep.isa.classic import ClassicInsn

_SIGNS: Final = {
    c.BPF_ADD: "+",
    c.BPF_SUB: "-",
    c.BPF_MUL: "*",
    c.BPF_DIV: "/",
    c.BPF_MOD: "%",
    c.BPF_OR: "|",
    c.BPF_AND: "&",
    c.BPF_XOR: "^",
    c.BPF_LSH: "<<",
    c.BPF_RSH: ">>",
}
_LONGEST: Final = 72  # characters of a value in words; beyond, it is called by its register
_FRAGMENT: Final = {0x1FFF: "fragment offset", 0x2000: "more-fragments flag", 0x4000: "don't-fragment flag"}


class Words(NamedTuple):
    """A value in words; ``kind``, ``size`` and ``shift`` say how constants beside it are written."""

    text: str
    kind: str = "number"
    size: int = 4
    shift: int = 0
    field: Field | None = None


def explain(insns: Sequence[ClassicInsn], linktype: int = 1) -> list[str]:
    """One phrase for each instruction of a program for packets of that LINKTYPE_ (or DLT_) number.

    A phrase beside a conditional jump is what is so when the jump goes to its "true" target.
    """
    return [
        _at(insn, pc, here, linktype) if here else "never reached"
        for pc, (insn, here) in enumerate(zip(insns, states(insns), strict=True))
    ]


def _at(insn: ClassicInsn, pc: int, here: Sequence[State], linktype: int) -> str:
    """The phrase that holds in every state; without one, a phrase that leans on no state."""
    phrases: list[str] = []
    for state in here:
        phrase = _phrase(insn, pc, state, linktype)
        if phrase not in phrases:
            phrases.append(phrase)
    if len(phrases) == 1:
        return phrases[0]
    common = _common(phrases)
    if common is not None:
        return common
    values = {(state.a, state.x) for state in here}
    if len(values) == 1:
        a, x = values.pop()
        return _phrase(insn, pc, State(a, x), -1)
    return _phrase(insn, pc, State(), -1)


def _common(phrases: Sequence[str]) -> str | None:
    """`TCP source port is 80` and `UDP source port is 80`: `TCP/UDP source port is 80`."""
    heads, tails = [], set()
    for phrase in phrases:
        prefix = "A = " if phrase.startswith("A = ") else ""
        head, _, tail = phrase[len(prefix) :].partition(" ")
        heads.append(head)
        tails.add((prefix, tail))
    if len(tails) != 1 or not set(heads) <= {"TCP", "UDP", "SCTP", "TCP/UDP", "TCP/UDP/SCTP", "UDP/SCTP"}:
        return None
    prefix, tail = tails.pop()
    known = {part for head in heads for part in head.split("/")}
    return f"{prefix}{'/'.join(part for part in ('TCP', 'UDP', 'SCTP') if part in known)} {tail}"


def _phrase(insn: ClassicInsn, pc: int, state: State, linktype: int) -> str:
    code = insn.code
    cls = code & 7
    if cls == c.BPF_RET:
        return _return(insn, state, linktype)
    if cls == c.BPF_JMP:
        if code & 0xF0 == c.BPF_JA:
            return f"go on at {jump(insn, pc)}"
        return _test(insn, state, linktype)
    if cls in (c.BPF_ST, c.BPF_STX):
        register, value = ("A", state.a) if cls == c.BPF_ST else ("X", state.x)
        return f"M[{insn.k}] = {_text(value, state, linktype, register)}"
    if code == c.BPF_MISC | c.BPF_TAX:
        return f"X = {_text(state.a, state, linktype, 'A')}"
    if code == c.BPF_MISC | c.BPF_TXA:
        return f"A = {_text(state.x, state, linktype, 'X')}"
    register = "X" if cls == c.BPF_LDX else "A"
    value = result(insn, state)
    return f"{register} = {_text(value, state, linktype, _neutral(insn))}"


def _neutral(insn: ClassicInsn) -> str:
    """What an instruction computes, without knowing what its registers hold."""
    code, k = insn.code, insn.k
    if code & 7 == c.BPF_ALU:
        if code & 0xF0 == c.BPF_NEG:
            return "-A"
        sign = _SIGNS.get(code & 0xF0, "?")
        bitwise = sign in "&|^"
        right = "X" if code & c.BPF_X else f"0x{k:x}" if bitwise else str(k)
        return f"A {sign} {right}"
    size = {c.BPF_W: 32, c.BPF_H: 16, c.BPF_B: 8}.get(code & 0x18, 0)
    mode = code & 0xE0
    if mode == c.BPF_MEM:
        return f"M[{k}]"
    if mode == c.BPF_IND:
        return _bits(size // 8, f"X + {k}" if k else "X")
    if mode == c.BPF_ABS:
        ancillary = k - (c.SKF_AD_OFF & 0xFFFFFFFF)
        if ancillary in names.ANCILLARY:
            return names.ANCILLARY[ancillary]
        return _bits(size // 8, str(k if k < 0x80000000 else k - (1 << 32)))
    return "a value skep does not know"


def _bits(size: int, where: str) -> str:
    return f"byte {where}" if size == 1 else f"{8 * size} bits at byte {where}"


def _return(insn: ClassicInsn, state: State, linktype: int) -> str:
    source = insn.code & 0x18
    if source == c.BPF_K:
        return f"keep up to {insn.k} bytes" if insn.k else "reject the packet"
    register, value = ("A", state.a) if source == c.BPF_A else ("X", state.x)
    if isinstance(value, Const):
        return f"keep up to {value.number} bytes" if value.number else "reject the packet"
    return f"keep as many bytes as {_text(value, state, linktype, register)} says, reject if 0"


def _text(value: Value | None, state: State, linktype: int, otherwise: str) -> str:
    if value is None:
        return otherwise
    text = words(value, state, linktype).text
    return text if len(text) <= _LONGEST else otherwise


def words(value: Value, state: State, linktype: int) -> Words:
    """A value as a field of a header, or by its place in the packet."""
    if isinstance(value, Const):
        return Words(names.number(value.number))
    if isinstance(value, Load):
        return _load(value, state, linktype)
    if isinstance(value, Header):
        if is_ipv4_header(value, state, linktype):
            return Words("IPv4 header length")
        return Words(f"4 * (byte {value.offset} & 0xf)")
    if isinstance(value, Length):
        return Words("packet length")
    if isinstance(value, Ancillary):
        kind = {0: "ethertype", 4: "packettype", 60: "ethertype"}.get(value.number, "number")
        return Words(names.ANCILLARY.get(value.number, f"ancillary data {value.number}"), kind)
    return _operation(value, state, linktype)


def _load(value: Load, state: State, linktype: int) -> Words:
    found = field(value, state, linktype)
    if found is not None:
        return Words(found.text, found.kind, value.size, field=found)
    where = place(value, state, linktype)
    if where is not None:
        return Words(where, size=value.size)
    at = str(value.offset)
    if value.base is not None:
        base = words(value.base, state, linktype).text
        at = f"{base} + {value.offset}" if value.offset else base
        at = f"({at})"
    return Words(_bits(value.size, at), size=value.size)


def _operation(value: Op, state: State, linktype: int) -> Words:
    if value == radio.PREFIXES.get(linktype):
        return Words(f"{radio.TITLES[radio.PREFIX_KINDS[linktype]]} header length")
    if linktype == radio.PFLOG and value == radio.PFLOG_LENGTH:
        return Words("padded pflog header length")
    left = words(value.left, state, linktype)
    if isinstance(value.right, Const):
        special = _special(value, left, value.right.number)
        if special is not None:
            return special
    right = words(value.right, state, linktype)
    sign = _SIGNS.get(value.operation)
    if sign is None:
        return Words("A")
    other = right.text
    if isinstance(value.right, Const):
        other = f"0x{value.right.number:x}" if sign in "&|^" else str(value.right.number)
    elif isinstance(value.right, Op) and " " in other:
        other = f"({other})" if _is_plain(right) else other
    one = f"({left.text})" if isinstance(value.left, Op) and _is_plain(left) else left.text
    return Words(f"{one} {sign} {other}", size=4)


def _is_plain(found: Words) -> bool:
    """Written as an operation, so that it needs parentheses inside another."""
    return any(f" {sign} " in found.text for sign in _SIGNS.values())


def _special(value: Op, left: Words, k: int) -> Words | None:
    """Masks and shifts that pick a named part of a field."""
    if value.operation == c.BPF_RSH and left.kind == "offset4" and k == 2:
        return Words("TCP header length")
    if value.operation == c.BPF_RSH and left.shift and k == left.shift:
        return Words(left.text, left.kind, left.size)
    if value.operation != c.BPF_AND:
        return None
    if left.size == 1 and (radioed := radio.masked(left.kind, k)) is not None:
        return Words(*radioed, size=1)
    if left.kind == "fragment" and k in _FRAGMENT and left.size == 2:
        return Words(_FRAGMENT[k], size=2)
    if left.kind == "version" and k == 0xF0:
        return Words("IP version", shift=4, size=1)
    if left.kind == "version" and k == 0x0F:
        return Words("IPv4 header length in words", size=1)
    if left.kind == "dataoffset" and k == 0xF0:
        return Words("TCP header length in words", "offset4", 1, 4)
    if left.kind == "flags":
        return Words(f"TCP flags & ({names.flags(k)})", "flags", 1)
    if left.kind == "vlan" and k == 0x0FFF and left.size == 2:
        return Words(left.text.replace("tag", "ID"), size=2)
    if left.text == names.ANCILLARY[c.SKF_AD_VLAN_TAG] and k == 0x0FFF:
        return Words("VLAN ID (from the kernel)", size=2)
    if left.kind == "mpls" and k == 1 and left.field is not None and (left.field.start, left.size) == (2, 1):
        return Words("MPLS bottom-of-stack bit", size=1)
    if left.kind == "pppoe" and k == 0xFFFF:
        return Words("PPPoE session", size=2)
    if left.kind == "mpls" and k == 0xFFFFF000 and left.size == 4:
        return Words("MPLS label", shift=12)
    if left.kind == "ip4" and left.size == 4 and left.field is not None and left.field.whole == 4:
        length = names.prefix_length(k)
        if length is not None:
            return Words(f"first {length} bits of {left.text}", f"net{length}", 4)
    return None


def _test(insn: ClassicInsn, state: State, linktype: int) -> str:
    operation = insn.code & 0xF0
    right = state.x if insn.code & c.BPF_X else Const(insn.k)
    if state.a is None:
        left = Words("A")
    else:
        left = words(state.a, state, linktype)
        if len(left.text) > _LONGEST:
            left = Words("A")
    if not isinstance(right, Const):
        other = _text(right, state, linktype, "X")
        verbs = {c.BPF_JEQ: "equals", c.BPF_JGT: "is greater than", c.BPF_JGE: "is at least"}
        if operation in verbs:
            return f"{left.text} {verbs[operation]} {other}"
        return f"{left.text} & {other} is not 0" if operation == c.BPF_JSET else "a jump skep does not know"
    tests: dict[int, Callable[[Words, int], str]] = {
        c.BPF_JEQ: _equal,
        c.BPF_JGT: lambda left, k: f"{left.text} is greater than {_bound(left, k)}",
        c.BPF_JGE: lambda left, k: f"{left.text} is at least {_bound(left, k)}",
        c.BPF_JSET: _bits_set,
    }
    if operation == c.BPF_JSET and left.kind == "fragment" and left.size == 2 and right.number == 0x1FFF:
        return f"fragment offset is not zero: {_no_header(state, linktype)}"
    test = tests.get(operation)
    return test(left, right.number) if test else "a jump skep does not know"


def _no_header(state: State, linktype: int) -> str:
    """What a later fragment of this packet lacks."""
    protocols = next((layer.protocols for layer in layers(state, linktype) if layer.protocols), frozenset())
    if protocols and protocols <= {6, 17, 132}:
        return "no ports here"
    if len(protocols) == 1:
        return f"no {names.constant('ipproto', next(iter(protocols)), 1)} header here"
    return "not the first fragment"


def _equal(left: Words, k: int) -> str:
    if left.kind.startswith("net"):
        return f"{left.text.partition(' bits of ')[2]} is in {names.ipv4(k)}/{left.kind[3:]}"
    if left.shift and not k & ((1 << left.shift) - 1):
        return f"{left.text} is {k >> left.shift}"
    if left.text in (_FRAGMENT[0x2000], _FRAGMENT[0x4000]):
        return f"{left.text} is {'set' if k else 'not set'}"
    if left.text == _FRAGMENT[0x1FFF] and not k:
        return "fragment offset is zero"
    verb = "is" if left.text[:6] != "bytes " else "are"
    if left.kind == "packettype" and k in names.PACKET_TYPES:
        return f"packet is {names.PACKET_TYPES[k]}"
    if left.kind == "number" and left.field is None and " bits at byte" in left.text:
        verb = "are"
    return f"{left.text} {verb} {names.constant(left.kind, k, left.size)}"


def _bound(left: Words, k: int) -> str:
    if left.shift and not k & ((1 << left.shift) - 1):
        return str(k >> left.shift)
    if left.kind == "ethertype" and k == 1500:
        return "1500: not an 802.3 length"
    if left.kind in ("port", "ip4"):
        return names.constant(left.kind, k, left.size)
    return names.number(k)


def _bits_set(left: Words, k: int) -> str:
    found = left.field
    if left.kind == "fragment" and left.size == 2:
        if k == 0x3FFF:
            return "packet is a fragment"
        if k in _FRAGMENT:
            return f"{_FRAGMENT[k]} is set"
    if left.kind == "flags" and k < 256:
        several = k & (k - 1)
        return f"TCP flags: {'any of ' if several else ''}{names.flags(k)} set"
    if left.kind == "mac" and found and found.start == 0 and k == 1 << 8 * left.size - 8:
        return f"{found.name} is multicast"
    if left.kind == "fragment" and left.size == 1 and found and found.start == 0 and k == 0x20:
        return "more-fragments flag is set"
    if found and left.size == found.whole and (said := radio.bits(left.kind, left.text, k)) is not None:
        return said
    if k & (k - 1) == 0:
        return f"{left.text} has bit 0x{k:x} set"
    return f"{left.text} has a bit of 0x{k:x} set"
