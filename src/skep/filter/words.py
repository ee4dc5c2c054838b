"""The words of pcap-filter(7): keywords, and the names of numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_PROTOCOLS = (
    "arp rarp ip sctp tcp udp icmp igmp igrp pim vrrp carp radio ip6 icmp6 ah esp atalk aarp decnet lat sca "
    "moprc mopdl iso esis isis l1 l2 iih lsp snp csnp psnp clnp stp ipx netbeui"
)
# Spellings that mean a protocol of another name; all link layers are one.
_PROTOCOL_ALIASES = {
    "es-is": "esis",
    "is-is": "isis",
    **dict.fromkeys(("link", "ether", "ppp", "slip", "fddi", "tr", "wlan"), "link"),
}
_DIRECTIONS = {
    "src": "src",
    "dst": "dst",
    "ra": "ra",
    "ta": "ta",
    **{f"{stem}{n}": f"addr{n}" for stem in ("addr", "address") for n in "1234"},
}
_KINDS = "host net port portrange gateway proto protochain"
_PLAIN = (
    "mask type subtype less greater byte broadcast multicast and or not inbound outbound ifindex "
    "vlan mpls pppoed pppoes geneve lane llc metac bcc oam oamf4 oamf4ec oamf4sc sc ilmic vpi vci "
    "connectmsg metaconnect reason action fisu lssu msu hfisu hlssu hmsu "
    "sio opc dpc sls hsio hopc hdpc hsls"
)
_ALIASES = {
    "len": "len",
    "length": "len",
    "dir": "dir",
    "direction": "dir",
    "on": "ifname",
    "ifname": "ifname",
    "rset": "rset",
    "ruleset": "rset",
    "rnr": "rnr",
    "rulenum": "rnr",
    "srnr": "srnr",
    "subrulenum": "srnr",
    "lsu": "lssu",
}


def _keywords() -> dict[str, tuple[str, str]]:
    words = {word: ("protocol", word) for word in _PROTOCOLS.split()}
    words |= {word: ("protocol", meaning) for word, meaning in _PROTOCOL_ALIASES.items()}
    words |= {word: ("direction", meaning) for word, meaning in _DIRECTIONS.items()}
    words |= {word: ("address type", word) for word in _KINDS.split()}
    words |= {word: (word, word) for word in _PLAIN.split()}
    words |= {word: (kind, kind) for word, kind in _ALIASES.items()}
    return words


#: word -> (kind of token, value)
KEYWORDS: Final[Mapping[str, tuple[str, str]]] = _keywords()

#: Named numbers: offsets into headers, and values found there (RFC 792, 4443, 9293).
CONSTANTS: Final[Mapping[str, int]] = {
    "icmptype": 0,
    "icmpcode": 1,
    "icmp-echoreply": 0,
    "icmp-unreach": 3,
    "icmp-sourcequench": 4,
    "icmp-redirect": 5,
    "icmp-echo": 8,
    "icmp-routeradvert": 9,
    "icmp-routersolicit": 10,
    "icmp-timxceed": 11,
    "icmp-paramprob": 12,
    "icmp-tstamp": 13,
    "icmp-tstampreply": 14,
    "icmp-ireq": 15,
    "icmp-ireqreply": 16,
    "icmp-maskreq": 17,
    "icmp-maskreply": 18,
    "icmp6type": 0,
    "icmp6code": 1,
    "icmp6-destinationunreach": 1,
    "icmp6-packettoobig": 2,
    "icmp6-timeexceeded": 3,
    "icmp6-parameterproblem": 4,
    "icmp6-echo": 128,
    "icmp6-echoreply": 129,
    "icmp6-multicastlistenerquery": 130,
    "icmp6-multicastlistenerreportv1": 131,
    "icmp6-multicastlistenerdone": 132,
    "icmp6-routersolicit": 133,
    "icmp6-routeradvert": 134,
    "icmp6-neighborsolicit": 135,
    "icmp6-neighboradvert": 136,
    "icmp6-redirect": 137,
    "icmp6-routerrenum": 138,
    "icmp6-nodeinformationquery": 139,
    "icmp6-nodeinformationresponse": 140,
    "icmp6-ineighbordiscoverysolicit": 141,
    "icmp6-ineighbordiscoveryadvert": 142,
    "icmp6-multicastlistenerreportv2": 143,
    "icmp6-homeagentdiscoveryrequest": 144,
    "icmp6-homeagentdiscoveryreply": 145,
    "icmp6-mobileprefixsolicit": 146,
    "icmp6-mobileprefixadvert": 147,
    "icmp6-certpathsolicit": 148,
    "icmp6-certpathadvert": 149,
    "icmp6-multicastrouteradvert": 151,
    "icmp6-multicastroutersolicit": 152,
    "icmp6-multicastrouterterm": 153,
    "tcpflags": 13,
    "tcp-fin": 0x01,
    "tcp-syn": 0x02,
    "tcp-rst": 0x04,
    "tcp-push": 0x08,
    "tcp-ack": 0x10,
    "tcp-urg": 0x20,
    "tcp-ece": 0x40,
    "tcp-cwr": 0x80,
}
