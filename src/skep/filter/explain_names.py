"""Numbers as people say them: protocols, ports, addresses, flags."""

from __future__ import annotations

from typing import Final

ETHERTYPES: Final = {
    0x0800: "IPv4", 0x0806: "ARP", 0x86DD: "IPv6", 0x8035: "RARP", 0x8100: "802.1Q VLAN",
    0x88A8: "802.1ad VLAN", 0x9100: "VLAN (0x9100)", 0x8847: "MPLS", 0x8848: "MPLS multicast",
    0x8863: "PPPoE discovery", 0x8864: "PPPoE session", 0x809B: "AppleTalk", 0x80F3: "AppleTalk ARP",
    0x6003: "DECnet", 0x6004: "LAT", 0x6002: "MOP remote console", 0x6001: "MOP dump/load", 0x6007: "LAVC",
    0x8137: "IPX", 0x9000: "loopback", 0x88CC: "LLDP", 0x888E: "EAPOL", 0x88E5: "MACsec", 0x88F7: "PTP",
    0x8809: "slow protocols", 0x880B: "PPP", 0x0600: "XNS IDP", 0x88DC: "WSMP",
}  # fmt: skip
IP_PROTOCOLS: Final = {
    0: "hop-by-hop options", 1: "ICMP", 2: "IGMP", 4: "IP-in-IP", 6: "TCP", 8: "EGP", 9: "IGRP", 17: "UDP",
    41: "IPv6", 43: "routing header", 44: "fragment header", 46: "RSVP", 47: "GRE", 50: "ESP", 51: "AH",
    58: "ICMPv6", 59: "no next header", 60: "destination options", 88: "EIGRP", 89: "OSPF", 103: "PIM",
    112: "VRRP", 115: "L2TP", 132: "SCTP", 136: "UDP-Lite", 137: "MPLS-in-IP",
}  # fmt: skip
PPP_PROTOCOLS: Final = {
    0x21: "IPv4", 0x57: "IPv6", 0x281: "MPLS", 0x2B: "IPX", 0xC021: "LCP", 0xC023: "PAP", 0xC223: "CHAP",
    0x8021: "IPCP", 0x8057: "IPv6CP",
}  # fmt: skip
LSAPS: Final = {0x42: "spanning tree", 0xAA: "SNAP", 0xE0: "IPX", 0xF0: "NetBEUI", 0xFE: "ISO", 0x06: "IP"}
ICMP_TYPES: Final = {
    0: "echo reply", 3: "destination unreachable", 4: "source quench", 5: "redirect", 8: "echo request",
    9: "router advertisement", 10: "router solicitation", 11: "time exceeded", 12: "parameter problem",
    13: "timestamp request", 14: "timestamp reply", 15: "information request", 16: "information reply",
    17: "address mask request", 18: "address mask reply",
}  # fmt: skip
ICMP6_TYPES: Final = {
    1: "destination unreachable", 2: "packet too big", 3: "time exceeded", 4: "parameter problem",
    128: "echo request", 129: "echo reply", 130: "multicast listener query", 131: "multicast listener report",
    132: "multicast listener done", 133: "router solicitation", 134: "router advertisement",
    135: "neighbour solicitation", 136: "neighbour advertisement", 137: "redirect",
    143: "multicast listener report v2",
}  # fmt: skip
ARP_OPERATIONS: Final = {1: "request", 2: "reply", 3: "reverse request", 4: "reverse reply"}
PACKET_TYPES: Final = {
    0: "to this host", 1: "broadcast", 2: "multicast", 3: "to another host", 4: "outgoing",
}  # fmt: skip
TCP_FLAGS: Final = (
    (0x02, "SYN"), (0x10, "ACK"), (0x01, "FIN"), (0x04, "RST"), (0x08, "PSH"), (0x20, "URG"), (0x40, "ECE"),
    (0x80, "CWR"),
)  # fmt: skip
#: The same on every machine, unlike /etc/services.
SERVICES: Final = {
    20: "ftp-data", 21: "ftp", 22: "ssh", 23: "telnet", 25: "smtp", 43: "whois", 53: "domain", 67: "bootps",
    68: "bootpc", 69: "tftp", 80: "http", 88: "kerberos", 110: "pop3", 111: "sunrpc", 119: "nntp", 123: "ntp",
    137: "netbios-ns", 138: "netbios-dgm", 139: "netbios-ssn", 143: "imap", 161: "snmp", 162: "snmp-trap",
    179: "bgp", 194: "irc", 389: "ldap", 443: "https", 445: "microsoft-ds", 465: "submissions", 500: "isakmp",
    514: "syslog", 515: "printer", 520: "rip", 546: "dhcpv6-client", 547: "dhcpv6-server", 554: "rtsp",
    587: "submission", 631: "ipp", 636: "ldaps", 853: "domain-s", 873: "rsync", 989: "ftps-data", 990: "ftps",
    993: "imaps", 995: "pop3s", 1080: "socks", 1194: "openvpn", 1433: "ms-sql-s", 1701: "l2tp", 1723: "pptp",
    1812: "radius", 1813: "radius-acct", 1883: "mqtt", 2049: "nfs", 3128: "squid", 3260: "iscsi",
    3306: "mysql", 3389: "rdp", 4500: "ipsec-nat-t", 4789: "vxlan", 5060: "sip", 5061: "sips", 5353: "mdns",
    5432: "postgresql", 5672: "amqp", 6081: "geneve", 6379: "redis", 8080: "http-alt", 9418: "git",
    51820: "wireguard",
}  # fmt: skip
#: SKF_AD_… number -> name, and whether its values are packet types or flags
ANCILLARY: Final = {
    0: "EtherType (from the kernel)", 4: "packet type", 8: "interface index", 20: "mark", 24: "queue",
    28: "hardware type", 32: "receive hash", 36: "CPU", 44: "VLAN tag (from the kernel)",
    48: "VLAN tag present (from the kernel)", 52: "payload offset", 56: "a random number",
    60: "VLAN protocol (from the kernel)",
}  # fmt: skip


def flags(mask: int) -> str:
    """TCP flags by name, joined by |."""
    names = [name for bit, name in TCP_FLAGS if mask & bit]
    return "|".join(names) if names else "none"


def ipv4(number: int, size: int = 4) -> str:
    """Dotted bytes of an IPv4 address or of ``size`` bytes of one."""
    return ".".join(map(str, number.to_bytes(size, "big")))


def mac(number: int, size: int) -> str:
    return number.to_bytes(size, "big").hex(":")


def ipv6(number: int, size: int) -> str:
    """Groups of four hex digits as they stand in an address."""
    return number.to_bytes(size, "big").hex(":", 2) if size > 1 else f"{number:02x}"


def prefix_length(mask: int) -> int | None:
    """Length of a 32-bit netmask; None if its ones are not all in front."""
    inverse = ~mask & 0xFFFFFFFF
    return 32 - inverse.bit_length() if inverse & (inverse + 1) == 0 else None


def number(value: int) -> str:
    """Decimal, with hexadecimal beside it from 256 on."""
    return str(value) if value < 256 else f"{value} (0x{value:x})"


def constant(kind: str, value: int, size: int) -> str:
    """``value`` of ``size`` bytes, read out of a field of that kind."""
    tables = {
        "ipproto": IP_PROTOCOLS, "icmp": ICMP_TYPES, "icmp6": ICMP6_TYPES, "arpop": ARP_OPERATIONS,
        "packettype": PACKET_TYPES, "lsap": LSAPS,
    }  # fmt: skip
    if kind == "ethertype":
        return ETHERTYPES.get(value, f"0x{value:04x}")
    if kind == "pppproto":
        return PPP_PROTOCOLS.get(value, f"0x{value:04x}")
    if kind in tables:
        return tables[kind].get(value, str(value))
    if kind == "family":
        return _family(value)
    if kind == "port":
        return f"{value} ({SERVICES[value]})" if value in SERVICES else str(value)
    if kind == "ip4" and value < 1 << 8 * size:
        return ipv4(value, size)
    if kind == "mac" and value < 1 << 8 * size:
        return mac(value, size)
    if kind == "ip6" and value < 1 << 8 * size:
        return ipv6(value, size)
    if kind == "flags" and value < 256:
        return flags(value) if value else "none"
    if kind == "text":
        return text(value, size)
    if kind.startswith(("wlan", "pf")):
        from skep.filter.explain_radio import constant as radio_constant

        return radio_constant(kind, value) or number(value)
    return number(value)


def _family(value: int) -> str:
    """An address family in either byte order: the recording machine's is not known."""
    low = int.from_bytes(value.to_bytes(4, "big"), "little") if value > 0xFFFF else value
    return {2: "IPv4", 10: "IPv6", 24: "IPv6", 28: "IPv6", 30: "IPv6", 7: "ISO", 23: "IPX"}.get(
        low, number(low)
    )


def text(value: int, size: int) -> str:
    """Printable bytes in quotes, others in hex."""
    data = value.to_bytes(4, "big")[-size:] if value < 1 << 32 else b""
    if data and all(32 <= byte < 127 for byte in data):
        return f"0x{value:x} ({data.decode()!r})"
    return number(value)
