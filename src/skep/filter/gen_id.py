"""What a name, number or address means under its qualifiers."""

from __future__ import annotations

import re
from typing import Final

from skep.filter import gen_ip
from skep.filter.addresses import decnet, ipv4, ipv6, mac
from skep.filter.emit import MASK32, Cond, Emitter, either, refused
from skep.filter.gen_ip import SCTP, TCP, UDP, UNDEFINED, Qual
from skep.filter.linktypes import NOT_SET

_TRANSPORT: Final = {"tcp": TCP, "udp": UDP, "sctp": SCTP}
_ETHER_PROTOCOLS: Final = {
    name: gen_ip.LINK_PROTOCOLS[name]
    for name in ("aarp", "arp", "atalk", "decnet", "ip", "ip6", "lat", "mopdl", "moprc", "rarp", "sca")
} | {"loopback": 0x9000, "iso": 0xFE, "stp": 0x42, "ipx": 0xE0, "netbeui": 0xF0}


def number(g: Emitter, value: int, qual: Qual) -> Cond:
    """A bare number: a port, protocol, host, or network whose leading zero octets are left out."""
    kind = qual.kind
    if kind is None or kind == "host" or kind == "net":
        if qual.proto == "link":
            raise refused("a number is no link-layer address")
        mask = MASK32
        if kind == "net" and qual.proto != "decnet":
            while value and not value & 0xFF000000:
                value <<= 8
                mask = mask << 8 & MASK32
        return gen_ip.host4(g, value, mask, qual)
    if kind == "port" or kind == "portrange":
        transport = _transport(qual)
        if value > 65535:
            raise refused(f"port {value} is over 65535")
        return gen_ip.port(g, value, value if kind == "portrange" else None, transport, qual.dir)
    if kind == "proto":
        return gen_ip.proto_qualified(g, value, qual)
    if kind == "protochain":
        from skep.filter.gen_chain import protochain

        return protochain(g, value, qual.proto)
    if kind == "gateway":
        raise refused("'gateway' takes a name, found in both /etc/hosts and /etc/ethers")
    raise gen_ip.inherits_nothing()


def dotted(g: Emitter, text: str, qual: Qual) -> Cond:
    """Two to four numbers with dots: an IPv4 address, a network's leading part, or DECnet's area.node."""
    if qual.kind in ("port", "portrange", "proto", "protochain"):
        raise refused(f"{qual.kind!r} does not take an IP address")
    if qual.proto == "decnet":
        value = decnet(text)
        if value is None:
            raise refused(f"{text} is no DECnet address", "area.node, in decimal")
        if qual.kind not in (None, "host", "net"):
            raise refused(f"{qual.kind!r} does not take a DECnet address")
        return gen_ip.host4(g, value, 0, qual)
    if qual.kind == UNDEFINED:
        raise gen_ip.inherits_nothing()
    if qual.kind == "gateway":
        raise refused("'gateway' takes a name, found in both /etc/hosts and /etc/ethers")
    if qual.proto == "link":
        raise refused("an IPv4 address is no link-layer address")
    addr, bits = _ipv4(text)
    return gen_ip.host4(g, addr << 32 - bits, MASK32 << 32 - bits & MASK32, qual)


def network4(g: Emitter, text: str, mask_text: str | None, length: int, qual: Qual) -> Cond:
    """``text/length``, or ``text mask mask_text``."""
    addr, bits = _ipv4(text)
    addr <<= 32 - bits
    if mask_text is not None:
        mask, mask_bits = _ipv4(mask_text)
        mask <<= 32 - mask_bits
        shown = f"{text} mask {mask_text}"
    else:
        if length > 32:
            raise refused(f"/{length} is longer than an IPv4 address", "at most /32")
        mask = MASK32 << 32 - length & MASK32
        shown = f"{text}/{length}"
    if addr & ~mask:
        raise refused(f"{shown} has host bits set", f"the network is {_quad(addr & mask)}")
    if qual.kind != "net":
        raise refused("a mask is for networks", f"write: net {shown}")
    return gen_ip.host4(g, addr, mask, qual)


def six(g: Emitter, text: str, length: int | None, qual: Qual) -> Cond:
    """An IPv6 address, or network when ``length`` is given."""
    addr = ipv6(text)
    if addr is None:
        raise refused(f"{text} is no IPv6 address")
    bits = 128 if length is None else length
    if bits > 128:
        raise refused(f"/{bits} is longer than an IPv6 address", "at most /128")
    mask = ((1 << bits) - 1) << 128 - bits
    if addr & ~mask:
        raise refused(f"{text}/{bits} has host bits set")
    if qual.kind not in (None, "host", "net"):
        raise (
            gen_ip.inherits_nothing()
            if qual.kind == UNDEFINED
            else refused(f"{qual.kind!r} does not take an IPv6 address")
        )
    if bits != 128 and qual.kind != "net":
        raise refused("a prefix length is for networks", f"write: net {text}/{bits}")
    return gen_ip.host6(g, addr, mask, qual)


def hardware(g: Emitter, text: str, qual: Qual) -> Cond:
    """A MAC address."""
    if qual.kind not in (None, "host") or qual.proto != "link":
        raise refused("a hardware address is an ether host", f"write: ether host {text}")
    from skep.filter.gen_hw import station

    return station(g, mac(text), qual.dir)


def arcnet(g: Emitter, text: str, qual: Qual) -> Cond:
    """``$xx``, an ARCNET address."""
    from skep.filter.gen_hw import ARCNETS, arcnet_station

    if g.linktype not in ARCNETS:
        raise refused("$ addresses are for ARCNET")
    if qual.kind not in (None, "host") or qual.proto != "link":
        raise refused("an ARCNET address is a link host", f"write: link host ${text}")
    return arcnet_station(g, int(text, 16), qual.dir)


def name(g: Emitter, text: str, qual: Qual) -> Cond:
    """A name, looked up where its qualifiers say."""
    kind = qual.kind
    if kind is None or kind == "host":
        return _host_name(g, text, qual)
    if kind == "net":
        addr = g.names.network(text)
        if not addr:
            raise refused(f"network {text!r} is not in {g.names.paths['networks']}")
        mask = MASK32
        while not addr & 0xFF000000:
            addr <<= 8
            mask = mask << 8 & MASK32
        return gen_ip.host4(g, addr, mask, qual)
    if kind == "port":
        transport = _transport(qual)
        found = g.names.port(text)
        if found is None:
            raise refused(f"port {text!r} is not in {g.names.paths['services']}")
        return gen_ip.port(g, found.number, None, _agreed(text, found.protocol, transport), qual.dir)
    if kind == "portrange":
        return _port_range(g, text, qual)
    if kind == "proto":
        value = _protocol(g, text, qual.proto)
        return gen_ip.proto_qualified(g, value, qual)
    if kind == "protochain":
        from skep.filter.gen_chain import protochain

        return protochain(g, _protocol(g, text, qual.proto), qual.proto)
    if kind == "gateway":
        from skep.filter.gen_hw import gateway

        return gateway(g, text, qual)
    raise gen_ip.inherits_nothing()


def _host_name(g: Emitter, text: str, qual: Qual) -> Cond:
    if qual.proto == "link":
        from skep.filter.gen_hw import named_station

        return named_station(g, text, qual.dir)
    if qual.proto == "decnet":
        raise refused("DECnet names cannot be looked up", "write the address: area.node")
    found = g.names.host(text)
    if not found:
        raise refused(f"host {text!r} is not in {g.names.paths['hosts']}", "name servers are not asked")
    four = six_ = qual.proto
    if qual.proto is None and g.type_at.const == NOT_SET:
        # Without a type field only the version nibble counts: neither ARP nor RARP.
        four, six_ = "ip", "ip6"
    cond: Cond | None = None
    for family, addr in found:
        if family == 4:
            if four == "ip6":
                continue
            one = gen_ip.host4(g, addr, MASK32, qual._replace(proto=four))
        else:
            if six_ == "ip":
                continue
            one = gen_ip.host6(g, addr, (1 << 128) - 1, qual._replace(proto=six_))
        cond = one if cond is None else either(cond, one)
    if cond is None:
        raise refused(f"host {text!r} has no address of {qual.proto}")
    return cond


def _transport(qual: Qual) -> int | None:
    if qual.proto is None:
        return None
    transport = _TRANSPORT.get(qual.proto)
    if transport is None:
        raise refused(f"{qual.proto!r} has no ports", "tcp, udp and sctp have")
    return transport


def _agreed(text: str, real: int | None, asked: int | None) -> int | None:
    """The protocol of a port that /etc/services knows, unless it contradicts the qualifier."""
    if asked is None:
        return real
    if real is not None and real != asked:
        owner = {number: word for word, number in _TRANSPORT.items()}[real]
        raise refused(f"port {text!r} is {owner}")
    return asked


def _port_range(g: Emitter, text: str, qual: Qual) -> Cond:
    transport = _transport(qual)
    real: int | None = None
    plain = re.match(r"\s*([+-]?[0-9]{1,18})-\s*([+-]?[0-9]{1,18})", text)
    if plain:
        low, high = int(plain[1]), int(plain[2])
    else:
        first, dash, second = text.partition("-")
        one = g.names.port(first) if dash else None
        two = g.names.port(second) if dash else None
        if one is None or two is None:
            raise refused(f"port range {text!r} is not two ports", "low-high, numbers or names")
        low, high = one.number, two.number
        real = one.protocol if one.protocol == two.protocol else None
    agreed = _agreed(text, real, transport)
    for port in (low, high):
        if not 0 <= port <= 65535:
            raise refused(f"port {port} is not between 0 and 65535")
    return gen_ip.port(g, low, high, agreed, qual.dir)


def _protocol(g: Emitter, text: str, over: str | None) -> int:
    value: int | None
    if over is None or over == "ip" or over == "ip6":
        value = g.names.protocol(text)
        if value is None:
            raise refused(f"protocol {text!r} is not in {g.names.paths['protocols']}")
    elif over == "link":
        value = _ETHER_PROTOCOLS.get(text)
        if value is None:
            raise refused(f"{text!r} is no protocol that Ethernet carries", "use its EtherType, 0x....")
    elif over == "iso":
        value = gen_ip.NLPIDS.get(text)
        if value is None:
            raise refused(f"{text!r} is no OSI protocol", "clnp, esis or isis")
    else:
        raise refused(f"{over!r} carries no protocol of its own")
    return value


def _ipv4(text: str) -> tuple[int, int]:
    found = ipv4(text)
    if found is None:
        raise refused(f"{text} is no IPv4 address", "decimal numbers up to 255")
    return found


def _quad(value: int) -> str:
    return ".".join(map(str, value.to_bytes(4, "big")))
