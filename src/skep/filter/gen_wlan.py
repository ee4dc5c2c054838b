"""802.11 frame types and directions, and the control field of 802.2 LLC."""

from __future__ import annotations

from typing import Final

from skep.filter import gen_link as link
from skep.filter import linktypes as lt
from skep.filter.emit import LINKHDR, LINKTYPE, LLC, Cond, Emitter, both, negate, refused
from skep.isa.classic import BPF_B, BPF_H

TYPE_MASK: Final = 0x0C
SUBTYPE_MASK: Final = 0xF0

TYPES: Final = {"data": 0x08, "mgt": 0x00, "management": 0x00, "ctl": 0x04, "control": 0x04}
_MANAGEMENT = {
    **dict.fromkeys(("assocreq", "assoc-req"), 0x00),
    **dict.fromkeys(("assocresp", "assoc-resp"), 0x10),
    **dict.fromkeys(("reassocreq", "reassoc-req"), 0x20),
    **dict.fromkeys(("reassocresp", "reassoc-resp"), 0x30),
    **dict.fromkeys(("probereq", "probe-req"), 0x40),
    **dict.fromkeys(("proberesp", "probe-resp"), 0x50),
    "beacon": 0x80,
    "atim": 0x90,
    **dict.fromkeys(("disassoc", "disassociation"), 0xA0),
    **dict.fromkeys(("auth", "authentication"), 0xB0),
    **dict.fromkeys(("deauth", "deauthentication"), 0xC0),
}
_CONTROL = {
    "ps-poll": 0xA0,
    "rts": 0xB0,
    "cts": 0xC0,
    "ack": 0xD0,
    "cf-end": 0xE0,
    "cf-end-ack": 0xF0,
}
_DATA = {
    "data": 0x00,
    "data-cf-ack": 0x10,
    "data-cf-poll": 0x20,
    "data-cf-ack-poll": 0x30,
    "null": 0x40,
    "cf-ack": 0x50,
    "cf-poll": 0x60,
    "cf-ack-poll": 0x70,
    "qos-data": 0x80,
    "qos-data-cf-ack": 0x90,
    "qos-data-cf-poll": 0xA0,
    "qos-data-cf-ack-poll": 0xB0,
    "qos": 0xC0,
    "qos-cf-poll": 0xE0,
    "qos-cf-ack-poll": 0xF0,
}
_SUBTYPES = {0x00: _MANAGEMENT, 0x04: _CONTROL, 0x08: _DATA}
DIRECTIONS: Final = {"nods": 0, "tods": 1, "fromds": 2, "dstods": 3}

_LLC_S = {"rr": 0x01, "rnr": 0x05, "rej": 0x09}
_LLC_U = {
    "ui": 0x03,
    "ua": 0x63,
    "disc": 0x43,
    "dm": 0x0F,
    "sabme": 0x6F,
    "test": 0xE3,
    "xid": 0xAF,
    "frmr": 0x87,
}
_PLAIN_80211 = lt.WIRELESS - {lt.PPI}


def frame_type(word: str | int) -> int:
    """Type bits of a name or number."""
    if isinstance(word, int):
        if word & ~TYPE_MASK:
            raise refused(f"{word:#04x} is no 802.11 frame type", "0, 4, 8 or 12, or a name")
        return word
    value = TYPES.get(word.lower())
    if value is None:
        raise refused(f"{word!r} is no 802.11 frame type", "mgt, ctl or data")
    return value


def frame_subtype(word: str | int, type_: int) -> int:
    """Subtype bits of a name or number within ``type_``."""
    if isinstance(word, int):
        if word & ~SUBTYPE_MASK:
            raise refused(f"{word:#04x} is no 802.11 frame subtype", "a multiple of 16 up to 240, or a name")
        return word
    value = _SUBTYPES.get(type_, {}).get(word.lower())
    if value is None:
        raise refused(f"{word!r} is no subtype of 802.11 frames of type {type_:#04x}")
    return value


def subtype_alone(word: str) -> int:
    """Type and subtype bits of a subtype's name."""
    for type_, names in _SUBTYPES.items():
        value = names.get(word.lower())
        if value is not None:
            return type_ | value
    raise refused(f"{word!r} is no 802.11 frame subtype")


def frame(g: Emitter, bits: int, mask: int) -> Cond:
    """Bits of the first frame control byte."""
    if g.linktype not in _PLAIN_80211:
        raise refused("802.11 frame types are for 802.11 link types")
    return g.equal(LINKHDR, 0, BPF_B, bits, mask)


def direction(g: Emitter, word: str | int) -> Cond:
    """To and from the distribution system."""
    value = word if isinstance(word, int) else DIRECTIONS.get(word.lower())
    if value is None:
        raise refused(f"{word!r} is no 802.11 direction", "nods, tods, fromds or dstods")
    if g.linktype not in _PLAIN_80211:
        raise refused("802.11 directions are for 802.11 link types")
    return g.equal(LINKHDR, 1, BPF_B, value, 0x03)


def llc(g: Emitter, word: str | None) -> Cond:
    """An 802.2 LLC header; of an I, S or U frame, or of one command, when ``word`` says so."""
    if word is None:
        return _has_llc(g)
    name = word.lower()
    has = _has_llc(g)
    if name == "i":
        return both(has, negate(g.bits(LLC, 2, BPF_B, 0x01)))
    if name in ("s", "u"):
        return both(has, g.equal(LLC, 2, BPF_B, 1 if name == "s" else 3, 0x03))
    if name in _LLC_S:
        return both(has, g.equal(LLC, 2, BPF_B, _LLC_S[name], 0x0F))
    if name in _LLC_U:
        return both(has, g.equal(LLC, 2, BPF_B, _LLC_U[name], 0xEF))
    raise refused(f"{word!r} is no type of LLC frame", ", ".join(("i", "s", "u", *_LLC_S, *_LLC_U)))


def _has_llc(g: Emitter) -> Cond:
    if g.linktype == lt.EN10MB:
        short = g.at_most(LINKTYPE, 0, BPF_H, link.ETHERMTU)
        # 0xffff where LLC would be marks Novell's frames without it.
        return both(short, negate(g.equal(LLC, 0, BPF_H, 0xFFFF)))
    if g.linktype == lt.SUNATM:
        cond = g.equal(LINKHDR, 0, BPF_B, 2, 0x0F)
        g.linktype = g.prevlinktype
        return cond
    if g.linktype in (lt.IEEE802, lt.FDDI, lt.ATM_RFC1483):
        return g.true()
    if g.linktype in lt.WIRELESS:
        return link.wlan_data_frame(g)
    raise refused("'llc' is not known for this link type")
