"""Random filter expressions for the optimiser's tests: protocols, addresses, ports, tunnels, arithmetic."""

from __future__ import annotations

import random

_WORDS = (
    ["tcp", "udp", "icmp", "ip", "ip6", "arp", "rarp", "sctp", "igmp", "ah", "esp", "icmp6", "pim", "vrrp"]
    + ["broadcast", "multicast", "vlan", "mpls", "pppoes"]
    + ["ip multicast", "ip6 multicast", "ether multicast", "vlan 10", "mpls 7"]
    + ["less 60", "less 100", "greater 60", "greater 1500"]
    + [f"{p} proto {n}" for p in ("ip", "ip6") for n in (1, 6, 17, 47)]
    + [f"ether proto {n:#x}" for n in (0x800, 0x86DD, 0x806, 0x8100, 1500)]
)
_FIELDS = (
    "tcp[tcpflags] & tcp-syn != 0",
    "tcp[13] = 2",
    "icmp[icmptype] = icmp-echo",
    "ip[6:2] & 0x1fff = 0",
    "tcp[tcpflags] & (tcp-syn|tcp-fin) != 0",
    "udp[4:2] > 100",
    "ip[0] & 0xf != 5",
    "ip[8] < 5",
    "tcp[((tcp[12:1] & 0xf0) >> 2):4] = 0x47455420",
)


def primitive(rng: random.Random) -> str:
    """One condition."""
    side = rng.choice(("", "", "", "src ", "dst ", "src or dst ", "src and dst "))
    kind = rng.randrange(12)
    if kind < 2:
        host = ".".join(str(rng.choice(part)) for part in ((10, 192), (0, 168), (0, 1), (1, 2, 3)))
        return rng.choice(("", "ip ", "arp ")) + f"{side}host {host}"
    if kind < 4:
        return rng.choice(("", "tcp ", "udp ")) + f"{side}port {rng.choice((22, 53, 80, 443))}"
    if kind == 4:
        return f"{side}net " + rng.choice(("10.0.0.0/8", "192.168.0.0/16", "10.1", "192.168.1"))
    if kind == 5:
        return rng.choice((f"ip6 host fe80::{rng.randrange(3)}", f"{side}portrange 1-1024"))
    if kind == 6:
        return rng.choice(_FIELDS)
    if kind == 7:
        return relation(rng)
    if kind == 8:
        return "not " + primitive(rng)
    if kind == 9:
        return f"({sentence(rng)})"
    return rng.choice(_WORDS)


def arithmetic(rng: random.Random, depth: int = 2) -> str:
    """A number."""
    if depth == 0 or rng.random() < 0.25:
        kind = rng.randrange(6)
        if kind < 2:
            return str(rng.choice((0, 1, 2, 3, 4, 7, 15, 16, 255, 0xFFF, 0xFFFFFFFF)))
        if kind == 2:
            return "len"
        index = arithmetic(rng, depth - 1) if depth and rng.random() < 0.3 else str(rng.randrange(20))
        size = rng.choice(("", ":1", ":2", ":4"))
        return f"{rng.choice(('ip', 'tcp', 'udp', 'ether', 'ip6', 'icmp'))}[{index}{size}]"
    if rng.random() < 0.06:
        return "-" + arithmetic(rng, depth - 1)
    if rng.random() < 0.1:
        return f"({arithmetic(rng, depth - 1)}{rng.choice(('<<', '>>'))}{rng.randrange(9)})"
    return f"({arithmetic(rng, depth - 1)}{rng.choice('+-*/%&|^')}{arithmetic(rng, depth - 1)})"


def relation(rng: random.Random) -> str:
    """A comparison of numbers."""
    return f"{arithmetic(rng)} {rng.choice(('=', '!=', '<', '>', '<=', '>='))} {arithmetic(rng)}"


def sentence(rng: random.Random, length: int = 0) -> str:
    """A few conditions joined by and / or."""
    count = length or rng.choice((1, 2, 2, 3, 3, 4, 5))
    text = primitive(rng)
    for _ in range(count - 1):
        text += rng.choice((" and ", " or ", " or ")) + primitive(rng)
    return text
