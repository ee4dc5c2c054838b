"""DECnet, ATM, SS7 and OpenBSD's packet filter log."""

from __future__ import annotations

from typing import Final

from skep.filter import gen_link as link
from skep.filter import linktypes as lt
from skep.filter.emit import LINKHDR, LINKPL, MASK32, PACKET, Cond, Emitter, Offset, both, either, refused
from skep.isa.classic import BPF_B, BPF_H, BPF_JEQ, BPF_JGT, BPF_W

# --- DECnet ------------------------------------------------------------------------------------


def decnet_host(g: Emitter, address: int, dir: str | None) -> Cond:
    """A DECnet Phase IV address, little-endian, in short and long routing headers, padded or not."""
    if dir == "src" or dir == "dst":
        short, long = (3, 15) if dir == "src" else (1, 7)
    elif dir in (None, "src or dst", "src and dst"):
        from_it = decnet_host(g, address, "src")
        to_it = decnet_host(g, address, "dst")
        return both(from_it, to_it) if dir == "src and dst" else either(from_it, to_it)
    else:
        raise refused(f"{dir!r} is for 802.11 hardware addresses, not for DECnet's")
    value = (address & 0xFF) << 8 | address >> 8 & 0xFF
    carried = link.linktype(g, link.DECNET)

    def form(size: int, flags: int, mask: int, at: int) -> Cond:
        is_form = g.equal(LINKPL, 2, size, flags, mask)
        return both(is_form, g.equal(LINKPL, at, BPF_H, value))

    cond = form(BPF_H, 0x8106, 0xFF07, 3 + long)
    cond = either(form(BPF_B, 0x06, 0x07, 2 + long), cond)
    cond = either(form(BPF_H, 0x8102, 0xFF07, 3 + short), cond)
    cond = either(form(BPF_B, 0x02, 0x07, 2 + short), cond)
    return both(carried, cond)


# --- ATM (SunATM's pseudo-header: flags and type, VPI, VCI) --------------------------------------

_VPI_AT = 1
_VCI_AT = 2
_PAYLOAD_AT = 4
_MESSAGE_AT = 5  # Q.2931 message type, from the payload
_VCIS: Final = {"metac": 1, "bcc": 2, "oamf4sc": 3, "oamf4ec": 4, "sc": 5, "ilmic": 16}
_PT_LANE = 1
_SETUP, _PROCEEDING, _CONNECT, _CONNECT_ACK, _RELEASE, _RELEASE_DONE = 0x05, 0x02, 0x07, 0x0F, 0x4D, 0x5A
ATM_WORDS: Final = frozenset({*_VCIS, "lane", "oam", "oamf4", "connectmsg", "metaconnect"})


def _atm_only(g: Emitter, word: str) -> None:
    if not g.atm:
        raise refused(f"{word!r} is for SunATM captures")


def atm_field(g: Emitter, word: str, value: int, jump: int, reverse: bool) -> Cond:
    """vpi or vci compared with a number."""
    _atm_only(g, word)
    at, size = (_VPI_AT, BPF_B) if word == "vpi" else (_VCI_AT, BPF_H)
    return g.compare(LINKHDR, at, size, MASK32, jump, reverse, value)


def _circuit(g: Emitter, vci: int) -> Cond:
    """VPI 0 and this VCI."""
    vpi = atm_field(g, "vpi", 0, BPF_JEQ, False)
    return both(vpi, atm_field(g, "vci", vci, BPF_JEQ, False))


def atm(g: Emitter, word: str) -> Cond:
    """A well-known circuit, LANE, or signalling messages."""
    _atm_only(g, word)
    if word in _VCIS:
        return _circuit(g, _VCIS[word])
    if word == "lane":
        cond = g.equal(LINKHDR, 0, BPF_B, _PT_LANE, 0x0F)
        from skep.filter.gen_tunnel import enter

        # Two bytes of LANE header, then Ethernet.
        enter(g, lt.EN10MB, Offset(_PAYLOAD_AT + 2))
        g.type_at.const = _PAYLOAD_AT + 2 + 12
        g.payload.const = _PAYLOAD_AT + 2 + 14
        g.net, g.net_nosnap = 0, 3
        return cond
    if word in ("oam", "oamf4"):
        segment = atm_field(g, "vci", 3, BPF_JEQ, False)
        cond = either(segment, atm_field(g, "vci", 4, BPF_JEQ, False))
        return both(atm_field(g, "vpi", 0, BPF_JEQ, False), cond)
    messages = [_SETUP, _PROCEEDING, _CONNECT, _RELEASE, _RELEASE_DONE]
    if word == "connectmsg":
        messages.insert(3, _CONNECT_ACK)
    first, second, *others = (
        g.equal(LINKHDR, _PAYLOAD_AT + _MESSAGE_AT, BPF_B, message) for message in messages
    )
    cond = either(first, second)
    for other in others:
        cond = either(other, cond)
    return both(_circuit(g, _VCIS["sc" if word == "connectmsg" else "metac"]), cond)


# --- SS7 (MTP2, with and without pseudo-header, and in ERF) --------------------------------------

_MTP: Final = {lt.MTP2: 0, lt.MTP2_WITH_PHDR: 4, lt.ERF: 20}  # where MTP2 starts
_LENGTHS: Final = {
    # word -> [(jump, reverse, length indicator), ...]
    "fisu": ((BPF_JEQ, False, 0),),
    "lssu": ((BPF_JGT, False, 0), (BPF_JGT, True, 2)),
    "msu": ((BPF_JGT, False, 2),),
}
MTP2_WORDS: Final = frozenset({*_LENGTHS, *("h" + word for word in _LENGTHS)})
_MTP3_AT: Final = {"sio": 3, "opc": 4, "dpc": 4, "sls": 7}
_MTP3_MAX: Final = {"sio": 255, "opc": 16383, "dpc": 16383, "sls": 15}
MTP3_WORDS: Final = frozenset({*_MTP3_AT, *("h" + word for word in _MTP3_AT)})


def mtp2(g: Emitter, word: str) -> Cond:
    """A signal unit by its length indicator: 0 fill-in, 1 or 2 link status, more: message."""
    start = _MTP.get(g.linktype)
    if start is None:
        raise refused(f"{word!r} is for MTP2 captures")
    fast = word[0] == "h"  # high-speed links have a 9-bit length indicator
    at, size, mask, shift = (4, BPF_H, 0xFF80, 7) if fast else (2, BPF_B, 0x3F, 0)
    tests = _LENGTHS[word[1:] if fast else word]
    # libpcap's limit between status and message units on fast links is 0x0100, length 2.
    conds = [
        g.compare(PACKET, start + at, size, mask, jump, reverse, value << shift)
        for jump, reverse, value in tests
    ]
    return conds[0] if len(conds) == 1 else both(conds[0], conds[1])


def mtp3(g: Emitter, word: str, value: int, jump: int, reverse: bool) -> Cond:
    """A field of the routing label compared with a number."""
    start = _MTP.get(g.outermost)
    if start is None:
        raise refused(f"{word!r} is for SS7 captures")
    fast = word[0] == "h"
    field = word[1:] if fast else word
    if value > _MTP3_MAX[field]:
        raise refused(f"{word} {value} is over {_MTP3_MAX[field]}")
    at = start + _MTP3_AT[field] + (3 if fast else 0)
    if field == "sio":
        return g.compare(PACKET, at, BPF_B, MASK32, jump, reverse, value)
    if field == "sls":
        return g.compare(PACKET, at, BPF_B, 0xF0, jump, reverse, value << 4)
    # Point codes have 14 bits, little-endian, and the two are packed into four bytes.
    if field == "opc":
        packed = ((value & 0x3C00) >> 10) + ((value & 0x3FC) << 6) + ((value & 3) << 22)
        return g.compare(PACKET, at, BPF_W, 0x00C0FF0F, jump, reverse, packed)
    packed = ((value & 0xFF) << 24) + ((value & 0x3F00) << 8)
    return g.compare(PACKET, at, BPF_W, 0xFF3F0000, jump, reverse, packed)


# --- pflog ---------------------------------------------------------------------------------------

_REASONS: Final = tuple(
    "match bad-offset fragment short normalize memory bad-timestamp congestion ip-option proto-cksum "  # noqa: SIM905
    "state-mismatch state-insert state-limit src-limit synproxy".split()
)
_ACTIONS: Final = {
    "pass": 0,
    "accept": 0,
    "drop": 1,
    "block": 1,
    "scrub": 2,
    "noscrub": 3,
    "nat": 4,
    "nonat": 5,
    "binat": 6,
    "nobinat": 7,
    "rdr": 8,
    "nordr": 9,
    "synproxy-drop": 10,
}


def pflog(g: Emitter, word: str, value: str | int) -> Cond:
    """ifname, rset, rnr, srnr, reason or action of a packet that pf logged."""
    number: int
    if word == "reason":
        if isinstance(value, int):
            number = value
        elif value.lower() in _REASONS:
            number = _REASONS.index(value.lower())
        else:
            raise refused(f"{value!r} is no reason of pf", ", ".join(_REASONS))
    elif word == "action":
        found = _ACTIONS.get(str(value).lower())
        if found is None:
            raise refused(f"{value!r} is no action of pf", ", ".join(_ACTIONS))
        number = found
    elif isinstance(value, int):
        number = value
    if g.linktype != lt.PFLOG:
        raise refused(f"{word!r} is for captures of pflog")
    if word in ("ifname", "rset"):
        octets = str(value).encode()
        if len(octets) >= 16:
            raise refused(f"names of {'interfaces' if word == 'ifname' else 'rule sets'} have up to 15 bytes")
        return g.octets(LINKHDR, 4 if word == "ifname" else 20, octets)
    if word in ("rnr", "srnr"):
        return g.equal(LINKHDR, 36 if word == "rnr" else 40, BPF_W, number)
    return g.equal(LINKHDR, 3 if word == "reason" else 2, BPF_B, number)
