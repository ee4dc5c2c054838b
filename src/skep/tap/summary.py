"""One line about a packet: who to whom, what, how long. A summary, not tcpdump's dissector.

Understands Ethernet with VLAN tags and SNAP, Linux cooked, BSD loopback, raw IP; ARP, IPv4, IPv6 (with
its extension headers), TCP, UDP, SCTP, ICMP. Behind other link-level headers IP is known by what it looks
like: IPv4 by a header checksum that is right, IPv6 by its version and length. Everything else is named by
its number. Never fails: what is cut off is called so.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from struct import unpack_from

_ETHERNET, _RAW, _NULL, _LOOP, _SLL, _SLL2 = 1, 12, 0, 108, 113, 276
_IPV4_LINK, _IPV6_LINK = 228, 229
_IP, _ARP, _IP6 = 0x0800, 0x0806, 0x86DD
_SNAP = b"\xaa\xaa\x03\0\0\0"
_TAGS = (0x8100, 0x88A8, 0x9100)
_TYPES = {
    0x8035: "RARP", 0x8847: "MPLS", 0x8848: "MPLS", 0x8863: "PPPoE discovery", 0x8864: "PPPoE",
    0x88CC: "LLDP", 0x888E: "EAPOL", 0x8902: "CFM", 0x88F7: "PTP", 0x8809: "slow protocols",
}  # fmt: skip
_PROTOCOLS = {
    1: "ICMP", 2: "IGMP", 4: "IPIP", 6: "tcp", 17: "UDP", 41: "IPv6", 46: "RSVP", 47: "GRE", 50: "ESP",
    51: "AH", 58: "ICMP6", 88: "EIGRP", 89: "OSPF", 103: "PIM", 112: "VRRP", 115: "L2TP", 132: "SCTP",
}  # fmt: skip
_EXTENSIONS = (0, 43, 60, 135)
_ICMP = {
    0: "echo reply", 3: "unreachable", 4: "source quench", 5: "redirect", 8: "echo request",
    9: "router advertisement", 10: "router solicitation", 11: "time exceeded", 12: "parameter problem",
    13: "timestamp", 14: "timestamp reply",
}  # fmt: skip
_ICMP6 = {
    1: "unreachable", 2: "packet too big", 3: "time exceeded", 4: "parameter problem", 128: "echo request",
    129: "echo reply", 130: "listener query", 131: "listener report", 132: "listener done",
    133: "router solicitation", 134: "router advertisement", 135: "neighbor solicitation",
    136: "neighbor advertisement", 137: "redirect", 143: "listener report v2",
}  # fmt: skip
_DIRECTIONS = {0: "In", 1: "B", 2: "M", 3: "P", 4: "Out"}  # as tcpdump has them
_FLAGS = (
    (0x01, "F"),
    (0x02, "S"),
    (0x04, "R"),
    (0x08, "P"),
    (0x10, "."),
    (0x20, "U"),
    (0x40, "E"),
    (0x80, "W"),
)


def summary(
    data: bytes,
    wirelen: int,
    linktype: int,
    *,
    link_header: bool = False,
    interface: Callable[[int], str] | None = None,
) -> str:
    """The line for a packet of ``linktype`` (DLT), ``wirelen`` bytes long on the wire.

    ``interface`` names the interface of an index, for captures of this machine's: packets of cooked v2 tell
    theirs, and the direction.
    """
    if linktype == _SLL2 and len(data) >= 20:
        (index,) = unpack_from(">I", data, 4)
        name = interface(index) if interface is not None else f"if{index}"
        text = _summary(data, wirelen, linktype, link_header)
        return f"{name:<5} {_DIRECTIONS.get(data[10], '?'):<3} {text}"
    return _summary(data, wirelen, linktype, link_header)


def _summary(data: bytes, wirelen: int, linktype: int, link_header: bool) -> str:
    try:
        link, kind, offset = _link(data, linktype, wirelen)
        if kind is None:
            return f"{link}, length {wirelen}"
        text = _network(data, kind, offset, wirelen)
    except (IndexError, struct.error, _Cut):
        return f"[cut short], length {wirelen}"
    return f"{link}, {text}" if link_header and link else text


class _Cut(Exception):
    """The packet ends before a field."""


def _link(data: bytes, linktype: int, wirelen: int) -> tuple[str, int | None, int]:
    """(link-level text, ethertype or None, offset of the network header)."""
    if linktype == _ETHERNET:
        (kind,) = unpack_from(">H", data, 12)
        text = f"{_mac(data[6:12])} > {_mac(data[:6])}"
        text, kind, at = _tags(data, kind, 14, text)
        if kind <= 1500:
            return f"{text} 802.3 LLC {data[at]:#04x} > {data[at + 1]:#04x}", None, at
        return text, kind, at
    if linktype == _SLL:
        return _tags(data, unpack_from(">H", data, 14)[0], 16, f"cooked {data[6:12].hex(':')}")
    if linktype == _SLL2:
        return _tags(data, unpack_from(">H", data, 0)[0], 20, f"interface {unpack_from('>I', data, 4)[0]}")
    if linktype in (_NULL, _LOOP):
        return "", _IP if data[4] >> 4 == 4 else _IP6, 4
    if linktype in (_RAW, _IPV4_LINK, _IPV6_LINK):
        return "", _IP if data[0] >> 4 == 4 else _IP6, 0
    from skep.tap.headers import payload

    start = payload(data, linktype, wirelen)
    found = None if start is None else _looks_like(data, start, wirelen)
    return f"link type {linktype}", found, start or 0


def _looks_like(data: bytes, at: int, wirelen: int) -> int | None:
    """EtherType of the IP packet that starts at byte ``at``; None when it does not look like one."""
    if len(data) >= at + 20 and data[at] >> 4 == 4:
        size = (data[at] & 15) * 4
        if size < 20 or len(data) < at + size:
            return None
        total = sum(unpack_from(f">{size // 2}H", data, at))
        return _IP if ((total & 0xFFFF) + (total >> 16)) % 0xFFFF == 0 else None
    if len(data) >= at + 40 and data[at] >> 4 == 6:
        return _IP6 if unpack_from(">H", data, at + 4)[0] + 40 <= wirelen - at else None
    return None


def _tags(data: bytes, kind: int, offset: int, text: str) -> tuple[str, int, int]:
    """Past VLAN tags and SNAP: (text, ethertype or length, offset behind it)."""
    while kind in _TAGS:
        tag, kind = unpack_from(">HH", data, offset)
        text += f" vlan {tag & 0xFFF}"
        offset += 4
    if kind <= 1500 and data[offset : offset + 6] == _SNAP:
        return f"{text} SNAP", unpack_from(">H", data, offset + 6)[0], offset + 8
    return text, kind, offset


def _mac(raw: bytes) -> str:
    if len(raw) < 6:
        raise _Cut
    return raw.hex(":")


def _network(data: bytes, kind: int, offset: int, wirelen: int) -> str:
    if kind == _IP:
        return _ipv4(data, offset)
    if kind == _IP6:
        return _ipv6(data, offset)
    if kind == _ARP:
        return _arp(data, offset)
    name = _TYPES.get(kind)
    return f"{name or f'ethertype {kind:#06x}'}, length {wirelen}"


def _ipv4(data: bytes, at: int) -> str:
    first, total, fragment, proto = unpack_from(">BxHxxHxB", data, at)
    header = (first & 15) * 4
    source, target = (".".join(map(str, data[i : i + 4])) for i in (at + 12, at + 16))
    if len(data) < at + 20:
        raise _Cut
    length = max(0, total - header)
    if fragment & 0x1FFF:
        name = _PROTOCOLS.get(proto, f"protocol {proto}")
        return f"IP {source} > {target}: {name} fragment at {(fragment & 0x1FFF) * 8}, length {length}"
    text = _transport(data, proto, at + header, length, source, target)
    return f"IP {text}" + (" (more fragments)" if fragment & 0x2000 else "")


def _ipv6(data: bytes, at: int) -> str:
    length, proto = unpack_from(">HB", data, at + 4)
    if len(data) < at + 40:
        raise _Cut
    source, target = (_address6(data[i : i + 16]) for i in (at + 8, at + 24))
    at += 40
    while proto in _EXTENSIONS or proto == 44:
        if proto == 44:
            proto, place = unpack_from(">BxH", data, at)
            if place >> 3:
                return f"IP6 {source} > {target}: fragment at {place & 0xFFF8}, length {length}"
            size = 8
        else:
            proto, size = data[at], 8 * (data[at + 1] + 1)
        at += size
        length -= size
    return f"IP6 {_transport(data, proto, at, max(0, length), source, target)}"


def _address6(raw: bytes) -> str:
    from _socket import AF_INET6, inet_ntop  # IPv4 inside IPv6 as tcpdump has it; `socket` brings much more

    return inet_ntop(AF_INET6, raw)


def _transport(data: bytes, proto: int, at: int, length: int, source: str, target: str) -> str:
    hosts = f"{source} > {target}"
    if proto in (6, 17, 132):
        if len(data) < at + 4:
            return f"{hosts}: {_PROTOCOLS[proto]} [cut short], length {length}"
        sport, dport = unpack_from(">HH", data, at)
        hosts = f"{source}.{sport} > {target}.{dport}"
    if proto == 6:
        if len(data) < at + 14:
            return f"{hosts}: tcp [cut short], length {length}"
        bits = data[at + 13]
        shown = "".join(letter for bit, letter in _FLAGS if bits & bit and bit != 0x10)
        flags = shown + ("." if bits & 0x10 else "") or "none"
        return f"{hosts}: tcp [{flags}], length {max(0, length - (data[at + 12] >> 4) * 4)}"
    if proto == 17:
        return f"{hosts}: UDP, length {max(0, length - 8)}"
    if proto in (1, 58):
        if len(data) <= at:
            return f"{hosts}: {_PROTOCOLS[proto]} [cut short], length {length}"
        names = _ICMP if proto == 1 else _ICMP6
        return f"{hosts}: {_PROTOCOLS[proto]} {names.get(data[at], f'type {data[at]}')}, length {length}"
    return f"{hosts}: {_PROTOCOLS.get(proto, f'protocol {proto}')}, length {length}"


def _arp(data: bytes, at: int) -> str:
    hardware, protocol, hlen, plen, operation = unpack_from(">HHBBH", data, at)
    if (hardware, protocol, hlen, plen) != (1, _IP, 6, 4):
        return f"ARP operation {operation}, hardware {hardware}, protocol {protocol:#06x}"
    if len(data) < at + 28:
        raise _Cut
    source, target = (".".join(map(str, data[i : i + 4])) for i in (at + 14, at + 24))
    if operation == 1:
        return f"ARP, who has {target}, tell {source}"
    if operation == 2:
        return f"ARP, {source} is at {_mac(data[at + 8 : at + 14])}"
    return f"ARP operation {operation}, {source} > {target}"
