"""Addresses, protocols and ports: host, net, proto, port, portrange."""

from __future__ import annotations

from typing import Final, NamedTuple

from skep.filter import gen_link as link
from skep.filter.emit import (
    AND_K,
    JEQ,
    LD_ABS_H,
    LD_ABS_W,
    LINKHDR,
    LINKPL,
    MASK32,
    NOSNAP,
    TRAN4,
    TRAN6,
    Cond,
    Emitter,
    both,
    either,
    negate,
    refused,
)
from skep.filter.ir import Block, Stmt
from skep.filter.linktypes import C_HDLC, ETHERNETS, FRELAY, HDLC, SUNATM
from skep.isa.classic import BPF_B, BPF_H, BPF_W

UNDEFINED: Final = "undefined"


class Qual(NamedTuple):
    """Qualifiers of an id; None where nothing was said, UNDEFINED where none can be inherited."""

    proto: str | None
    dir: str | None
    kind: str | None


NO_QUAL: Final = Qual(UNDEFINED, UNDEFINED, UNDEFINED)

TCP: Final = 6
UDP: Final = 17
SCTP: Final = 132
FRAGMENT: Final = 44  # IPv6 fragment header
_TRANSPORTS = (TCP, UDP, SCTP)
_WLAN_DIRS = ("addr1", "addr2", "addr3", "addr4", "ra", "ta")

#: IP protocols with a name of their own -> (number, over what: None for IPv4 and IPv6)
IP_PROTOCOLS: Final[dict[str, tuple[int, str | None]]] = {
    "sctp": (SCTP, None),
    "tcp": (TCP, None),
    "udp": (UDP, None),
    "icmp": (1, "ip"),
    "igmp": (2, "ip"),
    "igrp": (9, "ip"),
    "pim": (103, None),
    "vrrp": (112, "ip"),
    "carp": (112, "ip"),
    "icmp6": (58, "ip6"),
    "ah": (51, None),
    "esp": (50, None),
}
#: Protocols that the link layer names.
LINK_PROTOCOLS: Final[dict[str, int]] = {
    "ip": link.IP,
    "arp": link.ARP,
    "rarp": link.REVARP,
    "atalk": link.ATALK,
    "aarp": link.AARP,
    "decnet": link.DECNET,
    "sca": 0x6007,
    "lat": 0x6004,
    "mopdl": 0x6001,
    "moprc": 0x6002,
    "ip6": link.IPV6,
    "iso": link.SAP_ISO,
    "stp": link.SAP_STP,
    "ipx": link.SAP_IPX,
    "netbeui": link.SAP_NETBEUI,
}
#: OSI network-layer protocols by their identifier (ISO 9577).
NLPIDS: Final[dict[str, int]] = {"clnp": 0x81, "esis": 0x82, "isis": 0x83}
#: IS-IS packet types (ISO 10589), in the order libpcap tests them.
_ISIS_TYPES = {
    "l1": (15, 17, 18, 24, 26),
    "l2": (16, 17, 20, 25, 27),
    "iih": (15, 16, 17),
    "lsp": (18, 20),
    "snp": (24, 25, 26, 27),
    "csnp": (24, 25),
    "psnp": (26, 27),
}


# --- protocols ---------------------------------------------------------------------------------


def abbreviation(g: Emitter, name: str) -> Cond:
    """A protocol's name alone: `tcp`, `arp`, `isis`."""
    if name in IP_PROTOCOLS:
        number, over = IP_PROTOCOLS[name]
        return proto(g, number, over)
    if name in LINK_PROTOCOLS:
        return link.linktype(g, LINK_PROTOCOLS[name])
    if name in NLPIDS:
        return proto(g, NLPIDS[name], "iso")
    if name in _ISIS_TYPES:
        first, second, *others = _ISIS_TYPES[name]
        cond = either(proto(g, first, "isis"), proto(g, second, "isis"))
        for number in others:
            cond = either(proto(g, number, "isis"), cond)
        return cond
    if name == "link":
        raise refused("a link layer alone selects nothing", "write: ether proto ..., ether host ...")
    raise refused(f"{name!r} is no protocol to select packets by")


def proto(g: Emitter, number: int, over: str | None) -> Cond:
    """``over`` carries protocol ``number``: `ip proto 6`; without ``over`` IPv4 or IPv6 does."""
    if over is None:
        return either(proto(g, number, "ip"), proto(g, number, "ip6"))
    if over == "ip":
        return both(link.linktype(g, link.IP), g.equal(LINKPL, 9, BPF_B, number))
    if over == "ip6":
        if g.ipv6_transport:
            from skep.filter.gen_ipv6 import protocol_behind_extensions

            return protocol_behind_extensions(g, number)
        six = link.linktype(g, link.IPV6)
        fragment = g.equal(LINKPL, 6, BPF_B, FRAGMENT)
        cond = both(fragment, g.equal(LINKPL, 40, BPF_B, number))
        cond = either(g.equal(LINKPL, 6, BPF_B, number), cond)
        return both(six, cond)
    if over == "link":
        return link.linktype(g, number)
    if over == "iso":
        if g.linktype == FRELAY:
            return g.equal(LINKHDR, 2, BPF_H, 0x0300 | number)
        if g.linktype in (C_HDLC, HDLC):
            iso = link.linktype(g, link.SAP_ISO << 8 | link.SAP_ISO)
            return both(iso, g.equal(NOSNAP, 1, BPF_B, number))
        return both(link.linktype(g, link.SAP_ISO), g.equal(NOSNAP, 0, BPF_B, number))
    if over == "isis":
        return both(proto(g, NLPIDS["isis"], "iso"), g.equal(NOSNAP, 4, BPF_B, number))
    if over == UNDEFINED:
        raise inherits_nothing()
    raise refused(f"'{over} proto' makes no sense: no protocol number can be told there")


def proto_qualified(g: Emitter, number: int, qual: Qual) -> Cond:
    if qual.dir is not None:
        raise refused("'proto' takes no direction")
    return proto(g, number, qual.proto)


def inherits_nothing() -> Exception:
    return refused(
        "a name or number needs to be told what it is", "for example host, net, port or proto before it"
    )


# --- IPv4 and IPv6 addresses -------------------------------------------------------------------


def _wrong_direction(dir: str, what: str) -> Exception:
    return refused(f"{dir!r} is for 802.11 hardware addresses, not for {what}")


def _host_field(g: Emitter, addr: int, mask: int, dir: str | None, etype: int, src: int, dst: int) -> Cond:
    if dir == "src" or dir == "dst":
        carried = link.linktype(g, etype)
        return both(carried, g.equal(LINKPL, src if dir == "src" else dst, BPF_W, addr, mask))
    if dir in _WLAN_DIRS:
        assert dir is not None
        raise _wrong_direction(dir, "IP addresses")
    from_it = _host_field(g, addr, mask, "src", etype, src, dst)
    to_it = _host_field(g, addr, mask, "dst", etype, src, dst)
    return both(from_it, to_it) if dir == "src and dst" else either(from_it, to_it)


#: direction -> (EtherType, offset of the address) in the order of the tests
_PLAIN_SRC = ((link.IP, 12), (link.ARP, 14), (link.REVARP, 14))
_PLAIN_DST = ((link.IP, 16), (link.ARP, 24), (link.REVARP, 24))
_PLAIN_BOTH = tuple(field for pair in zip(_PLAIN_SRC, _PLAIN_DST, strict=True) for field in pair)
_PLAIN_FIELDS: Final = {"src": _PLAIN_SRC, "dst": _PLAIN_DST, None: _PLAIN_BOTH, "src or dst": _PLAIN_BOTH}


def _is_plain(g: Emitter) -> bool:
    """Each packet type is one comparison, and nothing has a variable offset."""
    return (
        g.linktype in ETHERNETS
        and not (g.labels or g.in_overlay or g.payload.variable or g.type_at.variable)
        and g.prevlinktype != SUNATM
    )


def _plain_host(g: Emitter, addr: int, mask: int, fields: tuple[tuple[int, int], ...]) -> Cond:
    """What `_host_field` and `either` make of a host, made at once: lists of hosts are long."""
    type_at = g.type_at.const & MASK32
    net = g.payload.const + g.net
    true: list[tuple[Block, bool]] = []
    pairs: list[tuple[Block, Block]] = []
    for etype, at in fields:
        stmts = [Stmt(LD_ABS_W, net + at & MASK32)]
        if mask != MASK32:
            stmts.append(Stmt(AND_K, mask))
        field = Block(stmts, JEQ, addr)
        pairs.append((Block([Stmt(LD_ABS_H, type_at)], JEQ, etype, field), field))
        true.append((field, True))
    carried, field = pairs[0]
    for following in pairs[1:]:
        carried.jf = field.jf = following[0]
        carried, field = following
    return Cond(pairs[0][0], true, [(carried, False), (field, False)])


def host4(g: Emitter, addr: int, mask: int, qual: Qual) -> Cond:
    """An IPv4 address or network, in IPv4, ARP and RARP."""
    over, dir = qual.proto, qual.dir
    if over is None:
        fields = _PLAIN_FIELDS.get(dir)
        if fields is not None and _is_plain(g):
            return _plain_host(g, addr, mask, fields)
        cond = _host_field(g, addr, mask, dir, link.IP, 12, 16)
        if not g.labels:
            cond = either(cond, _host_field(g, addr, mask, dir, link.ARP, 14, 24))
            cond = either(cond, _host_field(g, addr, mask, dir, link.REVARP, 14, 24))
        return cond
    if over == "ip":
        return _host_field(g, addr, mask, dir, link.IP, 12, 16)
    if over == "arp" or over == "rarp":
        return _host_field(g, addr, mask, dir, link.ARP if over == "arp" else link.REVARP, 14, 24)
    if over == "decnet":
        from skep.filter.gen_old import decnet_host

        return decnet_host(g, addr, dir)
    what = "net" if qual.kind == "net" else "host"
    if over == "ip6":
        raise refused(f"this is an IPv4 {what}, 'ip6' does not fit")
    if over == "link":
        raise refused(f"an IP {what} is no link-layer address")
    raise refused(f"{over!r} has no {what} addresses that can be filtered on", f"try: {over} and {what} ...")


def address4(g: Emitter, addr: int, over: str) -> Cond:
    """The source or destination of a packet that is known to be ``over`` (ip, arp or rarp)."""
    src, dst = (12, 16) if over == "ip" else (14, 24)
    return either(g.equal(LINKPL, src, BPF_W, addr), g.equal(LINKPL, dst, BPF_W, addr))


def host6(g: Emitter, addr: int, mask: int, qual: Qual) -> Cond:
    """An IPv6 address or network."""
    if qual.proto not in (None, "ip6"):
        raise refused(f"{qual.proto!r} does not go with an IPv6 address")
    return _host6_field(g, addr, mask, qual.dir)


def _host6_field(g: Emitter, addr: int, mask: int, dir: str | None) -> Cond:
    if dir == "src" or dir == "dst":
        at = 8 if dir == "src" else 24
        cond: Cond | None = None
        for offset, shift in ((12, 0), (8, 32), (4, 64), (0, 96)):
            part = g.equal(LINKPL, at + offset, BPF_W, addr >> shift & MASK32, mask >> shift & MASK32)
            cond = part if cond is None else both(part, cond)
        assert cond is not None
        return both(link.linktype(g, link.IPV6), cond)
    if dir in _WLAN_DIRS:
        assert dir is not None
        raise _wrong_direction(dir, "IP addresses")
    from_it = _host6_field(g, addr, mask, "src")
    to_it = _host6_field(g, addr, mask, "dst")
    return both(from_it, to_it) if dir == "src and dst" else either(from_it, to_it)


# --- ports -------------------------------------------------------------------------------------


def first_fragment(g: Emitter) -> Cond:
    """Not a fragment, or the first: only those have a transport header."""
    return negate(g.bits(LINKPL, 6, BPF_H, 0x1FFF))


def _port_field(g: Emitter, rel: str, off: int, low: int, high: int | None) -> Cond:
    if high is None:
        return g.equal(rel, off, BPF_H, low)
    at_least = g.at_least(rel, off, BPF_H, min(low, high))
    return both(at_least, g.at_most(rel, off, BPF_H, max(low, high)))


def _ports(g: Emitter, rel: str, low: int, high: int | None, dir: str | None) -> Cond:
    if dir == "src" or dir == "dst":
        return _port_field(g, rel, 0 if dir == "src" else 2, low, high)
    if dir in _WLAN_DIRS:
        assert dir is not None
        raise _wrong_direction(dir, "ports")
    src = _port_field(g, rel, 0, low, high)
    dst = _port_field(g, rel, 2, low, high)
    return both(src, dst) if dir == "src and dst" else either(src, dst)


def _port4_of(g: Emitter, number: int, low: int, high: int | None, dir: str | None) -> Cond:
    carried = g.equal(LINKPL, 9, BPF_B, number)
    whole = both(carried, first_fragment(g))
    return both(whole, _ports(g, TRAN4, low, high, dir))


def port4(g: Emitter, low: int, high: int | None, number: int | None, dir: str | None) -> Cond:
    """A port (``high`` None) or a range over IPv4, of one transport protocol or of TCP, UDP and SCTP."""
    four = link.linktype(g, link.IP)
    if number is not None:
        return both(four, _port4_of(g, number, low, high, dir))
    tcp = _port4_of(g, TCP, low, high, dir)
    cond = either(tcp, _port4_of(g, UDP, low, high, dir))
    return both(four, either(_port4_of(g, SCTP, low, high, dir), cond))


def _port6_of(g: Emitter, number: int, low: int, high: int | None, dir: str | None) -> Cond:
    carried = g.equal(LINKPL, 6, BPF_B, number)
    return both(carried, _ports(g, TRAN6, low, high, dir))


def port6(g: Emitter, low: int, high: int | None, number: int | None, dir: str | None) -> Cond:
    """The same over IPv6, where the transport header follows the fixed header (or extensions: opt-in)."""
    if g.ipv6_transport:
        from skep.filter.gen_ipv6 import port_behind_extensions

        numbers = _TRANSPORTS if number is None else (number,)
        return port_behind_extensions(g, low, high, numbers, dir)
    six = link.linktype(g, link.IPV6)
    if number is not None:
        return both(six, _port6_of(g, number, low, high, dir))
    tcp = _port6_of(g, TCP, low, high, dir)
    cond = either(tcp, _port6_of(g, UDP, low, high, dir))
    return both(six, either(_port6_of(g, SCTP, low, high, dir), cond))


def port(g: Emitter, low: int, high: int | None, number: int | None, dir: str | None) -> Cond:
    """A port or range over IPv6 or IPv4."""
    four = port4(g, low, high, number, dir)
    return either(port6(g, low, high, number, dir), four)
