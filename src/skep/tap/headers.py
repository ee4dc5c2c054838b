"""How long a packet's link-level header is: what tcpdump 4.99 leaves out of -x, -X and -A given once.

What it takes for the header is more than a definition: LLC and SNAP belong to it, of control frames of 802.11
nothing is left, PPI counts what is inside twice. A packet that ends within its header is printed whole.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_TAGS = (0x8100, 0x88A8, 0x9100, 0x9200)
_LENGTHS = 1500  # an EtherType up to here is a length: LLC follows
_JUMBO, _ARISTA, _MACSEC = 0x8870, 0xD28B, 0x88E5
#: protocols by EtherType that tcpdump has a printer for
_ETHERTYPES = {
    0x0800, 0x86DD, 0x0806, 0x8035, 0x6003, 0x809B, 0x80F3, 0x8137, 0x00FE, 0x8863, 0x8864, 0x3C12, 0x3C13,
    0x888E, 0x8899, 0x880B, 0x8808, 0x8809, 0x8902, 0x8903, 0x88CC, 0x894F, 0x9000, 0x8847, 0x8848, 0x88CA,
    0x886F, 0x0707, 0x8947, 0x04E0, 0x88A2, 0x88F7,
}  # fmt: skip

#: DLT -> length of a header that is always the same: NULL, LOOP, ENC, PPP (and pppd's), SLIP (and BSD/OS'),
#: Bluetooth with direction, IPNET, IPoIB, IP over FireWire, Symantec, Linux USB, vsock, Cisco HDLC, SunATM
_FIXED = {
    0: 4, 108: 4, 109: 12, 9: 4, 166: 4, 8: 16, 15: 16, 201: 4, 226: 24, 242: 44, 138: 18, 99: 44,
    189: 48, 220: 64, 271: 32, 104: 4, 123: 4,
}  # fmt: skip
#: the same, but a packet that is shorter has no more than this header: it is not printed
_NOTHING_LEFT = (9, 166, 242, 271)
#: DLT -> bytes in front of an Ethernet header, bytes between its addresses and its type
_ETHERNETS = {1: (0, 0), 240: (4, 0), 241: (12, 0), 281: (0, 4), 282: (4, 0), 284: (0, 4), 285: (0, 8)}
_PPI, _PKTAP, _USER2, _CIP = 192, 258, 149, 19


class _Cut(Exception):
    """The packet ends within its header."""


def link_length(data: bytes, linktype: int, wirelen: int | None = None) -> int:
    """Bytes of the link-level header of a packet of ``linktype`` (DLT), ``wirelen`` bytes long on the wire.

    0 for raw IP, link types without a header that is known, and packets that end within theirs. May be more
    than there are: nothing is left then.
    """
    try:
        return _length(data, linktype, len(data) if wirelen is None else wirelen)
    except _Cut:
        return 0


def payload(data: bytes, linktype: int, wirelen: int) -> int | None:
    """Where a packet's network header starts; None where no link-level header is known."""
    printed = link_length(data, linktype, wirelen)
    if linktype in (_PPI, _PKTAP, _USER2):  # tcpdump counts the inner header twice
        outer = int.from_bytes(data[2:4] if linktype == _PPI else data[:4], "little")
        return (printed + outer) // 2 if printed > outer else None
    return printed if printed or linktype == _CIP else None


def _length(data: bytes, linktype: int, wirelen: int) -> int:
    if linktype in _ETHERNETS:
        before, tag = _ETHERNETS[linktype]
        if before:
            _need(data, before)
            return before + _ethernet(data[before:], wirelen - before, tag)
        return _ethernet(data, wirelen, tag)
    size = _FIXED.get(linktype)
    if size is not None:
        if len(data) < size and linktype not in _NOTHING_LEFT:
            raise _Cut
        return min(size, len(data)) if linktype in _NOTHING_LEFT else size
    special = _specials().get(linktype)
    return 0 if special is None else special(data, wirelen)


def _specials() -> dict[int, Callable[[bytes, int], int]]:
    return {
        6: _token_ring,
        7: _arcnet,
        10: _fddi,
        11: _atm,
        19: _classical_ip,
        50: _ppp_serial,
        51: _pppoe,
        105: _wireless,
        107: _frame_relay,
        113: lambda data, wirelen: _cooked(data, wirelen, 16, 2, 14),
        114: _localtalk,
        117: _pflog,
        119: _prism,
        122: lambda data, wirelen: 16 + _llc(_after(data, 16), wirelen - 16),
        127: _radiotap,
        129: _arcnet_linux,
        _USER2: _pktap,
        163: _avs,
        164: _juniper_monitor,
        178: _juniper_ethernet,
        179: lambda data, wirelen: _juniper(data)[0],
        180: lambda data, wirelen: _juniper(data)[0],
        181: lambda data, wirelen: _juniper(data)[0],
        182: _multilink_frame_relay,
        _PPI: _ppi,
        239: _nflog,
        _PKTAP: _pktap,
        276: lambda data, wirelen: _cooked(data, wirelen, 20, 8, 0),
    }


def _need(data: bytes, size: int) -> None:
    if len(data) < size:
        raise _Cut


def _after(data: bytes, size: int) -> bytes:
    _need(data, size)
    return data[size:]


def _big(data: bytes, at: int, size: int = 2) -> int:
    _need(data, at + size)
    return int.from_bytes(data[at : at + size], "big")


def _little(data: bytes, at: int, size: int = 2) -> int:
    _need(data, at + size)
    return int.from_bytes(data[at : at + size], "little")


# --- Ethernet and what LLC follows -------------------------------------------------------------


def _ethernet(data: bytes, wirelen: int, tag: int = 0) -> int:
    if wirelen < len(data):
        return wirelen
    at = 12 + tag
    if len(data) < at + 2:
        return len(data)
    kind = _big(data, at)
    at += 2
    if kind == _MACSEC:
        at, whole, secure = _macsec(data, at, wirelen)
        if not secure:
            return at
        wirelen -= whole - secure
        data = data[:secure]
        kind = _big(data, at)
        at += 2
    while kind in _TAGS or kind == _ARISTA:
        if kind == _ARISTA:  # a time stamp of 64 or 48 bits between the addresses and the type
            if len(data) < at + 2:
                return len(data)
            size = {1: 12, 2: 10}.get(_big(data, at + 3, 1) >> 4, 0) if _big(data, at) == 1 else 0
            if not size:
                return at
            kind = _big(data, at + size)
            at += size + 2
            continue
        if len(data) < at + 4:
            return len(data)
        kind = _big(data, at + 2)
        at += 4
    if kind <= _LENGTHS:
        length = min(kind, wirelen - at)
        return at + _llc(data[at : at + length], length)
    return at + _llc(data[at:], wirelen - at) if kind == _JUMBO else at


def _macsec(data: bytes, at: int, wirelen: int) -> tuple[int, int, int]:
    """(where its payload starts, bytes of the frame, of those up to the payload's end).

    The last is 0 when the header ends there: the payload is encrypted or the frame makes no sense.
    """
    whole = len(data)
    if whole < at + 6:
        return whole, whole, 0
    tag, short = data[at], data[at + 1]
    start = at + (14 if tag & 0x20 else 6)
    if whole < start or short & 0xC0 or tag & 0x80:
        return whole, whole, 0
    if tag & 0x0C:
        return start, whole, 0
    end = whole - 16  # what proves it right is no payload
    if end < start or short > end - start:
        return whole, whole, 0
    return start, whole, start + short if short else end


def _llc(data: bytes, length: int) -> int:
    """LLC and SNAP: 3 or 4 bytes and 5 more. IPX straight behind an 802.3 header has neither."""
    short = min(len(data), length)
    if short < 3:
        return short
    control = data[2]
    size = 3 if control & 3 == 3 else 4
    if short < size:
        return short
    if data[0] == data[1] == 0xFF:
        return 0
    if data[0] & 0xFE == data[1] & 0xFE == 0xAA and size == 3 and control == 3:
        _need(data, 8)
        return 8
    return size


def _cooked(data: bytes, wirelen: int, size: int, hardware: int, kind_at: int) -> int:
    _need(data, size)
    if _big(data, hardware) == 803:
        return size + _radiotap(data[size:], wirelen - size)
    kind, at = _big(data, kind_at), size
    while kind == 0x8100:
        if len(data) < at + 4:
            return len(data)
        kind = _big(data, at + 2)
        at += 4
        if kind <= _LENGTHS:
            kind = 4
    if kind == 4:
        found = _known_llc(data[at:], wirelen - at)
        return at + (found or 0)
    return at


def _known_llc(data: bytes, length: int) -> int | None:
    """`_llc`, or None when tcpdump has no printer for what it carries."""
    size = _llc(data, length)
    if min(len(data), length) < 3 or size in (0, 1, 2):
        return size
    ssap, dsap, control = data[1] & 0xFE, data[0] & 0xFE, data[2]
    if size == 8:
        oui, kind = _big(data, 3, 3), _big(data, 6)
        if oui in (0, 0xF8):
            return size if kind in _ETHERTYPES else None
        if oui == 0x080007:
            return size if kind == 0x809B else None
        if oui == 0x00000C:
            return size if kind in (0x2000, 0x2004, 0x0111, 0x2003, 0x010B, 0x010C) else None
        return size if oui == 0x0080C2 and kind in (1, 2, 3, 4, 7, 8, 9, 10, 11, 14) else None
    if ssap == dsap and control == 3 and ssap in (0x42, 0x06, 0xE0, 0xFE, 0xF0):
        return size
    if size == 4 and control & 3 == 1:
        return size
    return size if size == 3 and control & ~0x10 == 0xAF else None


def _fddi(data: bytes, wirelen: int) -> int:
    if len(data) < 13:
        return len(data)
    return 13 + (_llc(data[13:], wirelen - 13) if data[0] & 0xF0 == 0x50 else 0)


def _token_ring(data: bytes, wirelen: int) -> int:
    size = 14
    if len(data) < size:
        return size
    if data[8] & 0x80:  # source routed
        if len(data) < size + 2:
            return size
        size += data[14] & 0x1F
        if len(data) < size:
            return size
    return size + (_llc(data[size:], wirelen - size) if data[1] >> 6 == 1 else 0)


def _atm(data: bytes, wirelen: int) -> int:
    if data[:1] == b"\x03":
        return 1
    size = 0 if _big(data, 0, 3) in (0xAAAA03, 0xFEFE03, 0x060603) else 20
    return size + _llc(_after(data, size), wirelen - size)


def _classical_ip(data: bytes, wirelen: int) -> int:
    _need(data, 6)
    return _llc(data, wirelen) if data[:6] == b"\xaa\xaa\x03\x00\x00\x00" else 0


# --- point to point ----------------------------------------------------------------------------


def _ppp_serial(data: bytes, wirelen: int) -> int:
    if len(data) < 2:
        return len(data)
    if data[0] in (0x0F, 0x8F):
        _need(data, 4)
        return 4
    if len(data) < 4:
        return len(data)
    return 4 if data[0] == 0xFF else 2


def _pppoe(data: bytes, wirelen: int) -> int:
    if wirelen < 6:
        return 0
    _need(data, 6)
    if data[1]:
        return 6
    size = 6 + 2 * (data[6:8] in (b"\x00\x03", b"\x01\x03", b"\xff\x03"))
    return size + (1 if _big(data, size, 1) & 1 else 2)


def _address(data: bytes) -> int:
    """Length of a Q.922 address, 0 for an invalid one."""
    if _big(data, 0, 1) & 1:
        return 0
    if _big(data, 1, 1) & 1:
        return 2
    size = 3 if _big(data, 2, 1) & 1 else 4
    return size if _big(data, size - 1, 1) & 1 else 0


def _frame_relay(data: bytes, wirelen: int) -> int:
    if len(data) < 4:
        return len(data)
    size = _address(data)
    if not size:
        return 0
    channel = (data[0] & 0xFC) << 2 | data[1] >> 4
    if _big(data, size, 1) != 3 and channel and len(data) >= size + 2 and _big(data, size) in _ETHERTYPES:
        return size + 2
    size += 3 if _big(data, size + 1, 1) == 0 else 2
    _need(data, size)
    return size


def _multilink_frame_relay(data: bytes, wirelen: int) -> int:
    if len(data) < 2:
        return len(data)
    if wirelen < 4:
        return wirelen
    if len(data) < 4:
        return wirelen
    bits = data[0] & 0xE0
    if bits == 0xE0 and data[1] == 0:
        return 3
    return 2 if bits in (0xC0, 0x80) else 0


def _localtalk(data: bytes, wirelen: int) -> int:
    if len(data) < 3:
        return len(data)
    size = {1: 5, 2: 13}.get(data[2], 0)
    return len(data) if len(data) < 3 + size else 3 + size


# --- ARCNET ------------------------------------------------------------------------------------

_OLD = (0xF0, 0xF1, 0x80)  # RFC 1051 IP and ARP, diagnose: no sequence numbers


def _arcnet(data: bytes, wirelen: int) -> int:
    _need(data, 3)
    if data[2] in _OLD:
        return 3
    _need(data, 6)
    if data[3] == 0xFF:
        _need(data, 10)
        return 10
    return 6


def _arcnet_linux(data: bytes, wirelen: int) -> int:
    _need(data, 5)
    if data[4] in _OLD:
        return 5
    _need(data, 8)
    return 8


# --- 802.11 ------------------------------------------------------------------------------------

#: control frames' subtypes -> header length: wrapper, block ack request, block ack, PS-Poll, RTS, CTS, ACK,
#: CF-End, CF-End with CF-Ack
_CONTROL = {7: 16, 8: 20, 9: 10, 10: 16, 11: 16, 12: 10, 13: 10, 14: 16, 15: 16}


def _wireless(data: bytes, wirelen: int, padded: bool = False, fcs: int = 0) -> int:
    if wirelen < fcs:
        return len(data)
    body = data[: wirelen - fcs]
    if len(body) < 2:
        return len(data)
    kind, subtype = body[0] >> 2 & 3, body[0] >> 4
    if kind == 0:
        size = 24
    elif kind == 1:
        size = _CONTROL.get(subtype, 0)
    elif kind == 2:
        size = (30 if body[1] & 3 == 3 else 24) + (2 if subtype & 8 else 0)
    else:
        size = 0
    if not size:
        return 0
    if padded:
        size = (size + 3) & ~3
    if kind != 2 or subtype & 4 or body[1] & 0x40 or len(body) < size:
        return size
    return size + _llc(body[size:], wirelen - fcs - size)


def _radiotap(data: bytes, wirelen: int) -> int:
    if len(data) < 8:
        return len(data)
    size = _little(data, 2)
    if size < 8 or len(data) < size:
        return len(data)
    at, words = 4, []
    while True:
        if at + 4 > size:
            return len(data)
        words.append(_little(data, at, 4))
        at += 4
        if not words[-1] >> 31:
            break
    flags = 0
    if words[0] & 2:
        if words[0] & 1:  # the time stamp in front is 8 bytes long and aligned
            at = (at + 7 & ~7) + 8
        flags = data[at] if at < size else 0
    return size + _wireless(data[size:], wirelen - size, bool(flags & 0x20), 4 if flags & 0x10 else 0)


def _avs(data: bytes, wirelen: int) -> int:
    if len(data) < 8:
        return len(data)
    size = _big(data, 4, 4)
    if size < 8 or len(data) < size:
        return len(data)
    return size + _wireless(data[size:], wirelen - size)


def _prism(data: bytes, wirelen: int) -> int:
    if len(data) < 4:
        return len(data)
    if data[:4] in (b"\x80\x21\x10\x01", b"\x80\x21\x10\x02"):
        return _avs(data, wirelen)
    if len(data) < 144:
        return len(data)
    return 144 + _wireless(data[144:], wirelen - 144)


# --- headers with another packet of any type inside --------------------------------------------


def _ppi(data: bytes, wirelen: int) -> int:
    if len(data) < 8:
        return len(data)
    size = _little(data, 2)
    if not 8 <= size <= 65532 or len(data) < size:
        return len(data)
    return size + 2 * _length(data[size:], _little(data, 4, 4), wirelen - size)


def _pktap(data: bytes, wirelen: int) -> int:
    if wirelen < 108:
        return 0
    size = _little(data, 0, 4)
    if not 108 <= size <= wirelen:
        return 0
    _need(data, size)
    inner = 0
    if _little(data, 4, 4) == 1:
        inner = _length(data[size:], _little(data, 8, 4), wirelen - size)
    return size + 2 * inner


def _juniper(data: bytes) -> tuple[int, bool]:
    """(length of Juniper's own header, whether the link-level header follows)."""
    if _big(data, 0, 3) != 0x4D4743:
        _need(data, 4)
        return 0, False
    flags, size = _big(data, 3, 1), 4
    if flags & 0x80:
        extension = _big(data, size)
        size += 2 + extension
        _need(data, size)
        at, left = 6, extension
        while left > 2:
            kind, length = data[at], data[at + 1]
            if not kind or not length:
                break
            if left < length + 2:
                return 0, False
            at, left = at + length + 2, left - length - 2
    if flags & 2:
        _need(data, size + 5)
        return size + 4, False
    return size, True


def _juniper_ethernet(data: bytes, wirelen: int) -> int:
    size, more = _juniper(data)
    return size + (_ethernet(data[size:], wirelen - size) if more else 0)


def _juniper_monitor(data: bytes, wirelen: int) -> int:
    size, more = _juniper(data)
    if not more:
        return size
    first = _big(data, size, 1)
    cookie = 10 if first == 0x54 else 8
    if cookie == 8:
        _need(data, size + 18)
    return size + cookie


def _pflog(data: bytes, wirelen: int) -> int:
    if not data:
        return 0
    return data[0] if data[0] < 45 else (data[0] + 3) & ~3


def _nflog(data: bytes, wirelen: int) -> int:
    """Its numbers were in the byte order of the machine that captured: the reader turned them into ours."""
    import sys

    if len(data) < 4:
        return len(data)
    if data[1]:
        return 4
    at = 4
    while wirelen > at:
        if len(data) < at + 4:
            return at
        size, kind = (int.from_bytes(data[i : i + 2], sys.byteorder) for i in (at, at + 2))
        size = (size + 3) & ~3
        if size < 4 or len(data) < at + size:
            return at
        if kind == 9:
            return at + 4
        at += size
    return at
