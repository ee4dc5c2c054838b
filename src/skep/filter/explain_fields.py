"""Which header field a load reads, given what is known of the packet: link type, EtherType, protocols."""

from __future__ import annotations

from typing import Final, NamedTuple

from skep.filter import explain_radio as radio
from skep.filter.explain_flow import Const, Header, Load, Op, State, Value
from skep.filter.explain_names import IP_PROTOCOLS
from skep.isa import classic as c

# Link types, by LINKTYPE_ and by DLT_ numbers where they differ.
NULL: Final = 0
ETHERNET: Final = 1
PPP: Final = 9
RAW: Final = frozenset((12, 14, 101))
LOOP: Final = 108
LINUX_SLL: Final = 113
IPV4: Final = 228
IPV6: Final = 229
LINUX_SLL2: Final = 276

_VLAN_TYPES: Final = frozenset((0x8100, 0x88A8, 0x9100))
_PORTS: Final = frozenset((6, 17, 132, 136, 33))


class Field(NamedTuple):
    """``size`` bytes from ``start`` of the field ``name``, which has ``whole`` bytes of kind ``kind``."""

    name: str
    kind: str
    whole: int
    start: int
    size: int

    @property
    def text(self) -> str:
        if self.size == self.whole:
            return self.name
        last = self.start + self.size - 1
        if self.size == 1:
            return f"byte {self.start} of {self.name}"
        return f"bytes {self.start}-{last} of {self.name}"


class Layer(NamedTuple):
    """A header at ``offset``; with ``base``, at ``offset`` beyond that value."""

    kind: str
    offset: int
    base: Value | None = None
    protocols: frozenset[int] = frozenset()


class _Spec(NamedTuple):
    start: int
    size: int
    name: str
    kind: str = "number"


_FIELDS: Final[dict[str, tuple[_Spec, ...]]] = {
    "ethernet": (
        _Spec(0, 6, "Ethernet destination address", "mac"),
        _Spec(6, 6, "Ethernet source address", "mac"),
        _Spec(12, 2, "EtherType", "ethertype"),
    ),
    "llc": (
        _Spec(0, 1, "LLC destination", "lsap"),
        _Spec(1, 1, "LLC source", "lsap"),
        _Spec(2, 1, "LLC control"),
    ),
    "sll": (
        _Spec(0, 2, "packet type", "packettype"),
        _Spec(2, 2, "hardware type"),
        _Spec(4, 2, "link address length"),
        _Spec(6, 8, "link address", "mac"),
        _Spec(14, 2, "EtherType", "ethertype"),
    ),
    "sll2": (
        _Spec(0, 2, "EtherType", "ethertype"),
        _Spec(4, 4, "interface index"),
        _Spec(8, 2, "hardware type"),
        _Spec(10, 1, "packet type", "packettype"),
        _Spec(11, 1, "link address length"),
        _Spec(12, 8, "link address", "mac"),
    ),
    "null": (_Spec(0, 4, "address family", "family"),),
    "ppp": (_Spec(2, 2, "PPP protocol", "pppproto"),),
    "raw": (_Spec(0, 1, "IP version and header length", "version"),),
    "vlan": (_Spec(0, 2, "VLAN tag", "vlan"), _Spec(2, 2, "EtherType after the VLAN tag", "ethertype")),
    "inner vlan": (
        _Spec(0, 2, "inner VLAN tag", "vlan"),
        _Spec(2, 2, "EtherType after the inner VLAN tag", "ethertype"),
    ),
    "mpls": (_Spec(0, 4, "MPLS label entry", "mpls"),),
    "mplsbody": (_Spec(0, 1, "IP version and header length", "version"),),
    "pppoe": (
        _Spec(2, 2, "PPPoE session"),
        _Spec(0, 4, "PPPoE version, code and session", "pppoe"),
        _Spec(6, 2, "PPP protocol", "pppproto"),
    ),
    "ipv4": (
        _Spec(0, 1, "IPv4 version and header length", "version"),
        _Spec(1, 1, "IPv4 type of service"),
        _Spec(2, 2, "IPv4 total length"),
        _Spec(4, 2, "IPv4 identification"),
        _Spec(6, 2, "IPv4 fragment field", "fragment"),
        _Spec(8, 1, "IPv4 time to live"),
        _Spec(9, 1, "IPv4 protocol", "ipproto"),
        _Spec(10, 2, "IPv4 header checksum"),
        _Spec(12, 4, "IPv4 source address", "ip4"),
        _Spec(16, 4, "IPv4 destination address", "ip4"),
    ),
    "ipv6": (
        _Spec(0, 4, "IPv6 version, class and flow"),
        _Spec(4, 2, "IPv6 payload length"),
        _Spec(6, 1, "IPv6 next header", "ipproto"),
        _Spec(7, 1, "IPv6 hop limit"),
        _Spec(8, 16, "IPv6 source address", "ip6"),
        _Spec(24, 16, "IPv6 destination address", "ip6"),
    ),
    "ipv6fragment": (_Spec(0, 1, "next header after the fragment header", "ipproto"),),
    "arp": (
        _Spec(0, 2, "ARP hardware type"),
        _Spec(2, 2, "ARP protocol type", "ethertype"),
        _Spec(4, 1, "ARP hardware address length"),
        _Spec(5, 1, "ARP protocol address length"),
        _Spec(6, 2, "ARP operation", "arpop"),
        _Spec(8, 6, "ARP sender hardware address", "mac"),
        _Spec(14, 4, "ARP sender address", "ip4"),
        _Spec(18, 6, "ARP target hardware address", "mac"),
        _Spec(24, 4, "ARP target address", "ip4"),
    ),
    "ports": (_Spec(0, 2, "source port", "port"), _Spec(2, 2, "destination port", "port")),
    "tcp": (
        _Spec(0, 2, "TCP source port", "port"),
        _Spec(2, 2, "TCP destination port", "port"),
        _Spec(4, 4, "TCP sequence number"),
        _Spec(8, 4, "TCP acknowledgement number"),
        _Spec(12, 1, "TCP data offset", "dataoffset"),
        _Spec(13, 1, "TCP flags", "flags"),
        _Spec(14, 2, "TCP window"),
        _Spec(16, 2, "TCP checksum"),
        _Spec(18, 2, "TCP urgent pointer"),
    ),
    "udp": (
        _Spec(0, 2, "UDP source port", "port"),
        _Spec(2, 2, "UDP destination port", "port"),
        _Spec(4, 2, "UDP length"),
        _Spec(6, 2, "UDP checksum"),
        _Spec(8, 1 << 16, "UDP payload", "text"),
    ),
    "sctp": (
        _Spec(0, 2, "SCTP source port", "port"),
        _Spec(2, 2, "SCTP destination port", "port"),
        _Spec(4, 4, "SCTP verification tag"),
        _Spec(8, 4, "SCTP checksum"),
        _Spec(12, 1, "SCTP first chunk type"),
    ),
    "icmp": (
        _Spec(0, 1, "ICMP type", "icmp"),
        _Spec(1, 1, "ICMP code"),
        _Spec(2, 2, "ICMP checksum"),
    ),
    "icmp6": (
        _Spec(0, 1, "ICMPv6 type", "icmp6"),
        _Spec(1, 1, "ICMPv6 code"),
        _Spec(2, 2, "ICMPv6 checksum"),
    ),
    "igmp": (_Spec(0, 1, "IGMP type"), _Spec(4, 4, "IGMP group address", "ip4")),
    "payload": (_Spec(0, 1 << 16, "TCP payload", "text"),),
    **{kind: tuple(_Spec(*spec) for spec in specs) for kind, specs in radio.FIELDS.items()},
}
_TITLES: Final = {
    "ethernet": "Ethernet", "llc": "LLC", "sll": "Linux cooked", "sll2": "Linux cooked v2",
    "null": "loopback", "ppp": "PPP", "vlan": "VLAN", "mpls": "MPLS", "pppoe": "PPPoE", "ipv4": "IPv4",
    "ipv6": "IPv6", "arp": "ARP", "tcp": "TCP", "udp": "UDP", "sctp": "SCTP", "icmp": "ICMP",
    "icmp6": "ICMPv6", "igmp": "IGMP", **radio.TITLES,
}  # fmt: skip
#: Header sizes, where loads past them are not in the header any more.
_SIZES: Final = {
    "ethernet": 14,
    "sll": 16,
    "sll2": 20,
    "ipv4": 20,
    "ipv6": 40,
    "tcp": 20,
    "arp": 28,
    "vlan": 4,
    "wlan": 24,
    "snap": 8,
    "pflog": 64,
}


def layers(state: State, linktype: int) -> list[Layer]:
    """The headers whose place is certain in this state, outermost first."""
    if linktype == ETHERNET:
        found = [Layer("ethernet", 0)]
        types = state.among(Load(12, 2))
        if types is None and _at_most_1500(state):
            return [*found, Layer("llc", 14)]
        return found + _after_type(state, types, 14)
    if linktype == LINUX_SLL:
        return [Layer("sll", 0), *_after_type(state, state.among(Load(14, 2)), 16)]
    if linktype == LINUX_SLL2:
        return [Layer("sll2", 0), *_after_type(state, state.among(Load(0, 2)), 20)]
    if linktype == PPP:
        return [Layer("ppp", 0), *_after_ppp(state, state.among(Load(2, 2)), 4)]
    if linktype in (NULL, LOOP):
        return [Layer("null", 0), *_after_family(state)]
    if linktype == IPV4:
        return _ipv4(state, 0)
    if linktype == IPV6:
        return _ipv6(state, 0)
    if linktype in RAW:
        return [Layer("raw", 0), *_by_version(state, 0)]
    if linktype == radio.PFLOG:
        family = state.among(Load(1, 1))
        inner: list[Layer] = []
        if _only(family, 2):
            inner = _ipv4(state, 0, radio.PFLOG_LENGTH)
        elif family and family <= {10, 24, 28, 30}:
            inner = _ipv6(state, 0, radio.PFLOG_LENGTH)
        return [Layer("pflog", 0), *inner]
    if linktype == radio.IEEE802_11 or linktype in radio.PREFIXES:
        return _wlan(state, linktype)
    return []


def _wlan(state: State, linktype: int) -> list[Layer]:
    """The prefix, the 802.11 header, LLC and SNAP behind it, and what SNAP's EtherType says."""
    found = [Layer(radio.PREFIX_KINDS[linktype], 0)] if linktype in radio.PREFIXES else []
    found.append(Layer("wlan", 0, radio.PREFIXES.get(linktype)))
    for offset, base in radio.bodies(state, linktype):
        found.append(Layer("snap", offset, base))
        types = state.among(Load(offset + 6, 2, base))
        if _only(types, 0x0800):
            found += _ipv4(state, offset + 8, base)
        elif _only(types, 0x86DD):
            found += _ipv6(state, offset + 8, base)
        elif types and types <= {0x0806, 0x8035}:
            found.append(Layer("arp", offset + 8, base))
    return found


def _only(numbers: frozenset[int] | None, number: int) -> bool:
    return numbers is not None and len(numbers) == 1 and number in numbers


def _at_most_1500(state: State) -> bool:
    """The test that tells an 802.3 length from an EtherType has been passed."""
    test = state.facts.get(Op(c.BPF_JGT | 0x100, Load(12, 2), Const(1500)))
    return test is not None and 1 in test.without


def _after_type(state: State, types: frozenset[int] | None, offset: int) -> list[Layer]:
    """What follows an EtherType that is one of ``types``."""
    found: list[Layer] = []
    while types and types <= _VLAN_TYPES:
        found.append(Layer("inner vlan" if found else "vlan", offset))
        types = state.among(Load(offset + 2, 2))
        offset += 4
    if _only(types, 0x0800):
        return found + _ipv4(state, offset)
    if _only(types, 0x86DD):
        return found + _ipv6(state, offset)
    if types and types <= {0x0806, 0x8035}:
        return [*found, Layer("arp", offset)]
    if types and types <= {0x8847, 0x8848}:
        return found + _mpls(state, offset)
    if _only(types, 0x8864):
        inner = _after_ppp(state, state.among(Load(offset + 6, 2)), offset + 8)
        return [*found, Layer("pppoe", offset), *inner]
    return found


def _after_ppp(state: State, types: frozenset[int] | None, offset: int) -> list[Layer]:
    if _only(types, 0x21):
        return _ipv4(state, offset)
    return _ipv6(state, offset) if _only(types, 0x57) else []


def _after_family(state: State) -> list[Layer]:
    families = state.among(Load(0, 4))
    if not families:
        return []
    low = frozenset(f if f <= 0xFFFF else int.from_bytes(f.to_bytes(4, "big"), "little") for f in families)
    if _only(low, 2):
        return _ipv4(state, 4)
    return _ipv6(state, 4) if low <= {10, 24, 28, 30} else []


def _by_version(state: State, offset: int) -> list[Layer]:
    version = state.among(Op(c.BPF_AND, Load(offset, 1), Const(0xF0)))
    if _only(version, 0x40):
        return _ipv4(state, offset)
    return _ipv6(state, offset) if _only(version, 0x60) else []


def _mpls(state: State, offset: int) -> list[Layer]:
    """Label entries; what follows the one known to be the last is told by its first byte."""
    found = [Layer("mpls", offset)]
    while True:
        bottom = state.facts.get(Op(c.BPF_AND, Load(offset + 2, 1), Const(1)))
        if bottom is None:
            return found
        offset += 4
        if _only(bottom.among, 1):
            return [*found, Layer("mplsbody", offset), *_by_version(state, offset)]
        if 1 not in bottom.without and not _only(bottom.among, 0):
            return found
        found.append(Layer("mpls", offset))


def _ipv4(state: State, offset: int, base: Value | None = None) -> list[Layer]:
    found = [Layer("ipv4", offset, base)]
    inner = state.among(Load(offset + 9, 1, base))
    if not inner:
        return found
    if base is not None:
        words = Op(c.BPF_AND, Load(offset, 1, base), Const(0x0F))
        beyond = Op(c.BPF_ADD, Op(c.BPF_LSH, words, Const(2)), base)
        return [*found, Layer(_transport(inner), offset, beyond, inner)]
    found.append(Layer(_transport(inner), offset, Header(offset), inner))
    if _only(inner, 6):
        start = Op(c.BPF_RSH, Op(c.BPF_AND, Load(offset + 12, 1, Header(offset)), Const(0xF0)), Const(2))
        found.append(Layer("payload", offset, Op(c.BPF_ADD, start, Header(offset))))
        found.append(Layer("payload", offset, Op(c.BPF_ADD, Header(offset), start)))
    return found


def _ipv6(state: State, offset: int, base: Value | None = None) -> list[Layer]:
    found = [Layer("ipv6", offset, base)]
    inner = state.among(Load(offset + 6, 1, base))
    if _only(inner, 44):
        found.append(Layer("ipv6fragment", offset + 40, base))
    elif inner:
        found.append(Layer(_transport(inner), offset + 40, base, inner))
    return found


def _transport(protocols: frozenset[int]) -> str:
    """The header of one of ``protocols``, as far as all of them share it; "" if they do not."""
    if len(protocols) == 1:
        names = {1: "icmp", 2: "igmp", 6: "tcp", 17: "udp", 58: "icmp6", 132: "sctp"}
        return names.get(next(iter(protocols)), "")
    return "ports" if protocols <= _PORTS else ""


def field(load: Load, state: State, linktype: int) -> Field | None:
    """The field that ``load`` reads; None if that is not certain or not in one field."""
    for layer in reversed(layers(state, linktype)):
        at = load.offset - layer.offset
        if layer.base != load.base or at < 0 or layer.kind not in _FIELDS:
            continue
        for spec in _FIELDS[layer.kind]:
            if spec.start <= at and at + load.size <= spec.start + spec.size:
                name = spec.name
                if layer.kind == "ports":
                    name = f"{_joined(layer.protocols)} {name}"
                return Field(name, spec.kind, spec.size, at - spec.start, load.size)
    return None


def place(load: Load, state: State, linktype: int) -> str | None:
    """`bytes 12-13 of the TCP header` where the header is certain, but no single field is."""
    for layer in reversed(layers(state, linktype)):
        at = load.offset - layer.offset
        size = _SIZES.get(layer.kind)
        if size is None or layer.base != load.base or at < 0 or at + load.size > size:
            continue
        which = f"byte {at}" if load.size == 1 else f"bytes {at}-{at + load.size - 1}"
        return f"{which} of the {_TITLES[layer.kind]} header"
    return None


def is_ipv4_header(value: Header, state: State, linktype: int) -> bool:
    """The byte that ``value`` reads is the first of an IPv4 header."""
    return any(layer.kind == "ipv4" and layer.offset == value.offset for layer in layers(state, linktype))


def _joined(protocols: frozenset[int]) -> str:
    return "/".join(IP_PROTOCOLS.get(number, str(number)) for number in sorted(protocols))
