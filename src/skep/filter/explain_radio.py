"""Headers whose length the packet tells: 802.11 behind radiotap, PPI or AVS, and OpenBSD's pflog.

Places in them are offsets from a value, such as radiotap's length field; so are the headers that follow. The
values are those that libpcap's code computes (`skep.filter.gen_prefix`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from skep.filter.explain_flow import Const, Load, Op, State, Value
from skep.isa import classic as c

IEEE802_11: Final = 105
PFLOG: Final = 117
RADIOTAP: Final = 127
AVS: Final = 163
PPI: Final = 192

#: link type -> the length of what precedes the 802.11 header (PPI and radiotap: two bytes, little-endian)
_LITTLE: Final = Op(c.BPF_OR, Load(2, 1), Op(c.BPF_LSH, Load(3, 1), Const(8)))
PREFIXES: Final[dict[int, Value]] = {RADIOTAP: _LITTLE, PPI: _LITTLE, AVS: Load(4, 4)}
PREFIX_KINDS: Final = {RADIOTAP: "radiotap", PPI: "ppi", AVS: "avs"}
PFLOG_LENGTH: Final = Op(c.BPF_AND, Op(c.BPF_ADD, Load(0, 1), Const(3)), Const(0xFFFFFFFC))

#: (first byte, bytes, name, kind) of the headers' fields
FIELDS: Final[dict[str, tuple[tuple[int, int, str, str], ...]]] = {
    "wlan": (
        (0, 1, "802.11 type and subtype", "wlantype"),
        (1, 1, "802.11 flags", "wlanflags"),
        (2, 2, "802.11 duration", "number"),
        (4, 6, "802.11 address 1 (receiver)", "mac"),
        (10, 6, "802.11 address 2 (transmitter)", "mac"),
        (16, 6, "802.11 address 3", "mac"),
        (22, 2, "802.11 sequence control", "number"),
        (24, 6, "802.11 address 4", "mac"),
    ),
    "snap": (
        (0, 1, "LLC destination", "lsap"),
        (1, 1, "LLC source", "lsap"),
        (2, 1, "LLC control", "number"),
        (3, 3, "SNAP organisation", "number"),
        (6, 2, "SNAP EtherType", "ethertype"),
    ),
    "radiotap": (
        (0, 1, "radiotap version", "number"),
        (2, 1, "low byte of the radiotap header length", "number"),
        (3, 1, "high byte of the radiotap header length", "number"),
        (4, 4, "radiotap present flags", "radiotap"),
        (8, 1, "radiotap flags", "radioflags"),
        (16, 1, "radiotap flags (after the timestamp)", "radioflags"),
    ),
    "ppi": (
        (2, 1, "low byte of the PPI header length", "number"),
        (3, 1, "high byte of the PPI header length", "number"),
        (4, 4, "PPI link type", "number"),
    ),
    "avs": ((0, 4, "AVS version", "number"), (4, 4, "AVS header length", "number")),
    "pflog": (
        (0, 1, "pflog header length", "number"),
        (1, 1, "address family", "family"),
        (2, 1, "pflog action", "pfaction"),
        (3, 1, "pflog reason", "pfreason"),
        (4, 16, "pflog interface name", "text"),
        (20, 16, "pflog rule set name", "text"),
        (36, 4, "pflog rule number", "number"),
        (40, 4, "pflog subrule number", "number"),
        (60, 1, "pflog direction", "pfdir"),
    ),
}
TITLES: Final = {"wlan": "802.11", "snap": "LLC/SNAP", "radiotap": "radiotap", "ppi": "PPI", "pflog": "pflog"}

_TYPES: Final = {0x00: "management", 0x04: "control", 0x08: "data", 0x0C: "extension"}
_SUBTYPES: Final = {
    0x00: "association request", 0x10: "association response", 0x20: "reassociation request",
    0x30: "reassociation response", 0x40: "probe request", 0x50: "probe response", 0x80: "beacon",
    0x90: "ATIM", 0xA0: "disassociation", 0xB0: "authentication", 0xC0: "deauthentication", 0xD0: "action",
    0x84: "block ack request", 0x94: "block ack", 0xA4: "PS-Poll", 0xB4: "RTS", 0xC4: "CTS", 0xD4: "ACK",
    0xE4: "CF-End", 0xF4: "CF-End and CF-Ack", 0x08: "data", 0x18: "data and CF-Ack",
    0x28: "data and CF-Poll", 0x48: "null data", 0x88: "QoS data", 0xC8: "QoS null data",
}  # fmt: skip
_DIRECTIONS: Final = {0: "neither to nor from the DS", 1: "to the DS", 2: "from the DS", 3: "DS to DS"}
_FLAGS: Final = {
    0x01: "to-DS", 0x02: "from-DS", 0x04: "more-fragments", 0x08: "retry", 0x10: "power-management",
    0x20: "more-data", 0x40: "protected", 0x80: "order",
}  # fmt: skip
_TYPE_BITS: Final = {
    0x04: "802.11 type has the control bit set",
    0x08: "802.11 type has the data bit set",
    0x80: "802.11 subtype has the QoS bit set",
    0x40: "802.11 subtype has the no-data bit set",
}
#: As a big-endian load sees the little-endian word: the byte that holds bits 0 to 7 comes first.
_PRESENT: Final = {
    0x01000000: "a timestamp (TSFT)",
    0x02000000: "flags",
    0x00000080: "a second present word",
}
_PF: Final[dict[str, dict[int, str]]] = {
    "pfaction": {0: "pass", 1: "block", 2: "scrub", 3: "no scrub", 4: "nat", 5: "no nat", 6: "binat",
                 7: "no binat", 8: "rdr", 9: "no rdr", 10: "synproxy drop"},
    "pfreason": {0: "match", 1: "bad offset", 2: "fragment", 3: "short", 4: "normalize", 5: "memory",
                 6: "bad timestamp"},
    "pfdir": {0: "in and out", 1: "in", 2: "out"},
    "wlantype": _SUBTYPES,
}  # fmt: skip


def masked(kind: str, k: int) -> tuple[str, str] | None:
    """(words, kind) of a field of that kind under a mask."""
    if kind == "wlantype":
        names = {0x0C: "802.11 type", 0xF0: "802.11 subtype", 0xFC: "802.11 type and subtype"}
        kinds = {0x0C: "wlanmajor", 0xF0: "wlanminor", 0xFC: "wlantype"}
        return (names[k], kinds[k]) if k in names else None
    if kind == "wlanflags" and k == 3:
        return "802.11 direction", "wlandir"
    return None


def constant(kind: str, value: int) -> str | None:
    """A number of one of these headers in words, None for what has none."""
    if kind == "wlanmajor":
        return _TYPES.get(value)
    if kind == "wlandir":
        return _DIRECTIONS.get(value)
    if kind == "wlanminor":
        return f"0x{value >> 4:x}"
    return _PF.get(kind, {}).get(value)


def bits(kind: str, text: str, k: int) -> str | None:
    """What it means that a bit (or, of two in 802.11's type, one) is set."""
    if kind == "wlantype" and k == 0x0C:
        return "802.11 frame is not a management frame"
    if kind == "wlantype":
        return _TYPE_BITS.get(k)
    if kind == "wlanflags" and k in _FLAGS:
        return f"802.11 {_FLAGS[k]} flag is set"
    if kind == "radiotap" and k in _PRESENT:
        return f"radiotap header has {_PRESENT[k]}"
    if kind == "radioflags" and k == 0x20:
        return "radiotap flags: the 802.11 header is padded to four bytes"
    return None


def bodies(state: State, linktype: int) -> Iterator[tuple[int, Value | None]]:
    """Where what follows an 802.11 header may begin: (offset, base), as libpcap's code reckons it."""
    prefix = PREFIXES.get(linktype)
    if prefix is None:
        # Without padding the length follows from the type: data frames with QoS have two bytes more.
        yield (26 if _is_qos_data(state) else 24), None
        return
    plain = Op(c.BPF_ADD, prefix, Const(24))
    for length in (plain, Op(c.BPF_ADD, plain, Const(2))):
        yield 0, length
        yield 0, Op(c.BPF_AND, Op(c.BPF_ADD, length, Const(3)), Const(0xFFFFFFFC))


def _bit(k: int) -> Value:
    return Op(c.BPF_AND, Load(0, 1), Const(k))


def _is_qos_data(state: State) -> bool:
    """QoS data, as single-bit tests have found: data set, control not, QoS set."""
    set_ = [state.among(_bit(k)) == frozenset((k,)) for k in (0x08, 0x80)]
    control = state.facts.get(_bit(0x04))
    return all(set_) and control is not None and 0x04 in control.without
