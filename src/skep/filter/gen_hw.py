"""Hardware addresses: ether host, broadcast, multicast, gateway, and what 802.11 makes of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from skep.filter import gen_ip
from skep.filter import gen_link as link
from skep.filter import linktypes as lt
from skep.filter.emit import LINKHDR, LINKPL, MASK32, Cond, Emitter, both, either, negate, refused
from skep.filter.gen_ip import Qual
from skep.isa.classic import BPF_B, BPF_W

ARCNETS: Final = frozenset({lt.ARCNET, lt.ARCNET_LINUX})
_BROADCAST = b"\xff" * 6
#: Where the source and the destination address are.
_PLACES = {lt.FDDI: (7, 1), lt.IEEE802: (8, 2), lt.IP_OVER_FC: (10, 2)}
_SUPPORTED = "Ethernet, FDDI, token ring, 802.11, ATM LANE and Fibre Channel have them"

# 802.11 frame control: first byte (type, subtype), second byte (directions).
_TYPE_MASK = 0x0C
_TYPE_CTL = 0x04
_SUBTYPE_MASK = 0xF0
_SUBTYPE_CTS = 0xC0
_SUBTYPE_ACK = 0xD0
_BIT_DATA = 0x08
_BIT_CTL = 0x04
_BIT_TO_DS = 0x01
_BIT_FROM_DS = 0x02


def station(g: Emitter, address: bytes, dir: str | None) -> Cond:
    """A six-byte address as source, destination or, on 802.11, in any of the four fields."""
    if g.linktype in lt.ETHERNETS:
        check = link.outer_check(g)
        cond = _fixed(g, address, dir, (6, 0))
        return cond if check is None else both(check, cond)
    if g.linktype in lt.WIRELESS:
        return _wlan(g, address, dir)
    if g.linktype in _PLACES:
        return _fixed(g, address, dir, _PLACES[g.linktype])
    raise refused("this link type has no Ethernet addresses", _SUPPORTED)


def named_station(g: Emitter, name: str, dir: str | None) -> Cond:
    """A station of /etc/ethers."""
    if g.linktype not in lt.ETHERNETS | lt.WIRELESS | _PLACES.keys():
        raise refused("this link type has no Ethernet addresses", _SUPPORTED)
    return station(g, _lookup(g, name), dir)


def _lookup(g: Emitter, name: str) -> bytes:
    address = g.names.station(name)
    if address is None:
        raise refused(f"station {name!r} is not in {g.names.paths['ethers']}")
    return address


def arcnet_station(g: Emitter, address: int, dir: str | None) -> Cond:
    """ARCNET's one-byte address."""
    return _fixed(g, bytes([address]), dir, (0, 1))


def _fixed(g: Emitter, address: bytes, dir: str | None, places: tuple[int, int]) -> Cond:
    if dir == "src" or dir == "dst":
        return g.octets(LINKHDR, places[0] if dir == "src" else places[1], address)
    if dir not in (None, "src or dst", "src and dst"):
        raise refused(f"{dir!r} is for 802.11 only")
    from_it = g.octets(LINKHDR, places[0], address)
    to_it = g.octets(LINKHDR, places[1], address)
    return both(from_it, to_it) if dir == "src and dst" else either(from_it, to_it)


# --- 802.11 ------------------------------------------------------------------------------------


def _flag(g: Emitter, byte: int, bit: int) -> Cond:
    return g.bits(LINKHDR, byte, BPF_B, bit)


def _no_flag(g: Emitter, byte: int, bit: int) -> Cond:
    return negate(_flag(g, byte, bit))


def _not_field(g: Emitter, mask: int, value: int) -> Cond:
    return negate(g.equal(LINKHDR, 0, BPF_B, value, mask))


def _wlan(g: Emitter, address: bytes, dir: str | None) -> Cond:
    """Which field holds the source and the destination depends on the frame's type and direction."""

    def at(offset: int) -> Cond:
        return g.octets(LINKHDR, offset, address)

    if dir == "src":
        # Data: address 4 between stations of a distribution system, 3 from one, else 2.
        cond = both(_flag(g, 1, _BIT_TO_DS), at(24))
        without = _no_flag(g, 1, _BIT_TO_DS)
        cond = either(both(without, at(16)), cond)
        cond = both(_flag(g, 1, _BIT_FROM_DS), cond)
        without = _no_flag(g, 1, _BIT_FROM_DS)
        cond = either(both(without, at(10)), cond)
        return _data_or_management(g, cond, lambda: at(10))
    if dir == "dst":
        return _data_or_management(g, _wlan_dst_data(g, lambda: at(16), lambda: at(4)), lambda: at(4))
    if dir in (None, "src or dst", "src and dst"):
        from_it = _wlan(g, address, "src")
        to_it = _wlan(g, address, "dst")
        return both(from_it, to_it) if dir == "src and dst" else either(from_it, to_it)
    if dir == "addr1":
        return at(4)
    if dir == "addr2":
        return both(_has_second_address(g), at(10))
    if dir == "addr3":
        return both(_not_field(g, _TYPE_MASK, _TYPE_CTL), at(16))
    if dir == "addr4":
        return both(g.equal(LINKHDR, 1, BPF_B, 0x03, 0x03), at(24))
    if dir == "ra":
        data = _flag(g, 0, _BIT_DATA)
        return both(data, at(4))
    assert dir == "ta", dir
    second = _has_second_address(g)
    cond = both(_flag(g, 0, _BIT_DATA), second)
    return both(cond, at(10))


def _has_second_address(g: Emitter) -> Cond:
    """Neither CTS nor ACK: those control frames have one address."""
    not_control = _not_field(g, _TYPE_MASK, _TYPE_CTL)
    not_cts = _not_field(g, _SUBTYPE_MASK, _SUBTYPE_CTS)
    neither = both(not_cts, _not_field(g, _SUBTYPE_MASK, _SUBTYPE_ACK))
    return either(not_control, neither)


def _wlan_dst_data(g: Emitter, third: Callable[[], Cond], first: Callable[[], Cond]) -> Cond:
    """Data: the destination is address 3 to a distribution system, else 1."""
    cond = both(_flag(g, 1, _BIT_TO_DS), third())
    without = _no_flag(g, 1, _BIT_TO_DS)
    return either(both(without, first()), cond)


def _data_or_management(g: Emitter, data: Cond, management: Callable[[], Cond]) -> Cond:
    """``data`` for data frames, ``management()`` for management frames, false for control frames."""
    cond = both(_flag(g, 0, _BIT_DATA), data)
    no_data = _no_flag(g, 0, _BIT_DATA)
    cond = either(both(no_data, management()), cond)
    return both(_no_flag(g, 0, _BIT_CTL), cond)


# --- broadcast, multicast, gateway -------------------------------------------------------------


def broadcast(g: Emitter, over: str | None) -> Cond:
    """To everyone: at the link layer, or all zeros or ones in an IPv4 address's host part."""
    if over in (None, "link"):
        if g.linktype in ARCNETS:
            return arcnet_station(g, 0, "dst")
        if g.linktype in lt.ETHERNETS | lt.WIRELESS | _PLACES.keys():
            return station(g, _BROADCAST, "dst")
        raise refused("this link type has no broadcast address")
    if over == "ip":
        if g.netmask is None:
            raise refused("'ip broadcast' needs the network's mask, and none is known")
        carried = link.linktype(g, link.IP)
        hosts = ~g.netmask & MASK32
        zeros = g.equal(LINKPL, 16, BPF_W, 0, hosts)
        return both(carried, either(zeros, g.equal(LINKPL, 16, BPF_W, hosts, hosts)))
    raise refused(f"{over!r} has no broadcast that can be filtered on", "ether broadcast, ip broadcast")


def multicast(g: Emitter, over: str | None) -> Cond:
    """To a group: the lowest bit of the first byte of a MAC address; 224.0.0.0 up; ff00::/8."""
    if over == "ip":
        carried = link.linktype(g, link.IP)
        return both(carried, g.at_least(LINKPL, 16, BPF_B, 224))
    if over == "ip6":
        carried = link.linktype(g, link.IPV6)
        return both(carried, g.equal(LINKPL, 24, BPF_B, 255))

    def group(offset: int) -> Cond:
        return g.bits(LINKHDR, offset, BPF_B, 1)

    if over in (None, "link"):
        if g.linktype in ARCNETS:
            return arcnet_station(g, 0, "dst")
        if g.linktype in lt.ETHERNETS:
            check = link.outer_check(g)
            cond = group(0)
            return cond if check is None else both(check, cond)
        if g.linktype in _PLACES:
            return group(_PLACES[g.linktype][1])
        if g.linktype in lt.WIRELESS:
            return _data_or_management(
                g, _wlan_dst_data(g, lambda: group(16), lambda: group(4)), lambda: group(4)
            )
    raise refused(
        f"no multicast{f' of {over!r}' if over else ' on this link type'} can be filtered on",
        "ether multicast, ip multicast, ip6 multicast",
    )


def gateway(g: Emitter, name: str, qual: Qual) -> Cond:
    """IPv4, ARP or RARP through the station ``name`` that is not to or from its own addresses.

    As libpcap 1.11 has it; 1.10 refuses the word wherever it is built with IPv6.
    """
    if qual.dir is not None:
        raise refused("'gateway' takes no direction")
    if qual.proto not in (None, "ip", "arp", "rarp"):
        raise refused(f"'gateway' does not go with {qual.proto!r}")
    if g.labels:
        raise refused("behind 'mpls' there is no telling IPv4 from ARP: 'gateway' cannot be asked there")
    address = _lookup(g, name)
    hosts = sorted(value for family, value in g.names.host(name) if family == 4)
    if not hosts:
        raise refused(f"host {name!r} has no IPv4 address in {g.names.paths['hosts']}")
    cond: Cond | None = None
    for over in ("ip", "arp", "rarp") if qual.proto is None else (qual.proto,):
        own: Cond | None = None
        for value in hosts:
            one = gen_ip.address4(g, value, over)
            own = one if own is None else either(own, one)
        assert own is not None
        others = both(link.linktype(g, gen_ip.LINK_PROTOCOLS[over]), negate(own))
        cond = others if cond is None else either(cond, others)
    assert cond is not None
    return both(station(g, address, "src or dst"), cond)
