"""Classic code in words: by hand, and held against the packets themselves.

The second kind steps programs over packets built with scapy. Every phrase that names a header field is
checked: the packet must have that field, and it must hold what the phrase says.
"""

from __future__ import annotations

import random
import re
import socket
from collections.abc import Sequence

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6
from scapy.layers.l2 import ARP, CookedLinux, Dot1Q, Ether
from scapy.packet import Packet, Raw

from skep.asm import assemble_classic
from skep.filter.explain import explain
from skep.isa import classic as c
from skep.vm.classic import steps
from tests.asm import corpus
from tests.support import libpcap


def phrases(text: str, linktype: int = 1) -> list[str]:
    return explain(assemble_classic(text), linktype)


def test_tcp_port_8080() -> None:
    assert phrases(
        """
        ldh [12]
        jne #0x800, no
        ldb [23]
        jne #6, no
        ldh [20]
        jset #0x1fff, no
        ldx 4*([14]&0xf)
        ldh [x + 14]
        jeq #8080, yes
        ldh [x + 16]
        jne #8080, no
        yes: ret #262144
        no: ret #0
        """
    ) == [
        "A = EtherType",
        "EtherType is IPv4",
        "A = IPv4 protocol",
        "IPv4 protocol is TCP",
        "A = IPv4 fragment field",
        "fragment offset is not zero: no ports here",
        "X = IPv4 header length",
        "A = TCP source port",
        "TCP source port is 8080 (http-alt)",
        "A = TCP destination port",
        "TCP destination port is 8080 (http-alt)",
        "keep up to 262144 bytes",
        "reject the packet",
    ]


ON_IPV4 = "ldh [12]\njne #0x800, no\n{}\nret #1\nno: ret #0"
ON_TCP = ON_IPV4.format("ldb [23]\njne #6, no\nldxb 4*([14]&0xf)\n{}")


@pytest.mark.parametrize(
    ("program", "line", "phrase"),
    [
        (ON_IPV4.format("ld [26]\njne #0x0a000001, no"), 3, "IPv4 source address is 10.0.0.1"),
        (
            ON_IPV4.format("ld [30]\nand #0xffff0000\njne #0xc0a80000, no"),
            4,
            "IPv4 destination address is in 192.168.0.0/16",
        ),
        (ON_IPV4.format("ldh [26]\njne #0x0a00, no"), 3, "bytes 0-1 of IPv4 source address are 10.0"),
        (ON_IPV4.format("ld [27]"), 2, "A = bytes 13-16 of the IPv4 header"),
        (ON_IPV4.format("ld [34]"), 2, "A = 32 bits at byte 34"),
        (ON_IPV4.format("ldb [14]\nand #15\njeq #5, no"), 4, "IPv4 header length in words is 5"),
        (ON_IPV4.format("ldh [20]\njset #0x2000, no"), 3, "more-fragments flag is set"),
        (
            ON_IPV4.format("ldh [20]\njset #0x1fff, no"),
            3,
            "fragment offset is not zero: not the first fragment",
        ),
        (ON_TCP.format("ldb [x + 27]\njset #2, no"), 6, "TCP flags: SYN set"),
        (ON_TCP.format("ldb [x + 27]\njset #5, no"), 6, "TCP flags: any of FIN|RST set"),
        (ON_TCP.format("ldb [x + 27]\nand #0x12\njeq #0x10, no"), 7, "TCP flags & (SYN|ACK) is ACK"),
        (ON_TCP.format("ld [x + 18]\njgt #1000, no"), 6, "TCP sequence number is greater than 1000 (0x3e8)"),
        (ON_TCP.format("ldh [x + 16]\njge #1024, no"), 6, "TCP destination port is at least 1024"),
        (ON_TCP.format("ldh [x + 15]"), 5, "A = bytes 1-2 of the TCP header"),
        ("ldb [0]\njset #1, a\nret #0\na: ret #1", 1, "Ethernet destination address is multicast"),
        ("ld len\njge #100, a\nret #0\na: ret #1", 1, "packet length is at least 100"),
        (
            "ld [2]\njeq #5, a\nret #0\na: ret #1",
            1,
            "bytes 2-5 of Ethernet destination address are 00:00:00:05",
        ),
        ("ldh [20]\njeq #5, a\nret #0\na: ret #1", 0, "A = 16 bits at byte 20"),
        ("ldh [20]\njeq #5, a\nret #0\na: ret #1", 1, "16 bits at byte 20 are 5"),
        ("ld type\njeq #4, a\nret #0\na: ret #1", 1, "packet is outgoing"),
        ("ld vlan_tci\nand #0xfff\nret a", 1, "A = VLAN ID (from the kernel)"),
        ("ld rand\nmod #4\nret a", 0, "A = a random number"),
        ("ld rand\nmod #4\nret a", 1, "A = A % 4"),
        ("ret a\nret #5", 1, "never reached"),
        ("ret a", 0, "reject the packet"),
        ("ldx len\nret x", 1, "keep as many bytes as packet length says, reject if 0"),
        ("ld [x + 5]", 0, "A = bytes 5-8 of the Ethernet header"),
        ("ld #7\nst M[3]\nldx M[3]", 2, "X = 7"),
        ("ld #7\nlsh #2\ntax", 2, "X = 28"),
        ("ldb [30]\njeq #1, a\nldb [31]\na: tax\nret x", 3, "X = A"),
    ],
)
def test_phrases(program: str, line: int, phrase: str) -> None:
    assert phrases(program)[line] == phrase


def test_what_is_known_on_one_path_only_is_not_said_after_the_join() -> None:
    """The load at `both` is reached with IPv4 and without."""
    joined = phrases("ldh [12]\njeq #0x800, a\nldb [23]\na: ldb [23]\njeq #6, b\nret #0\nb: ret #1")
    assert joined[2:5] == ["A = byte 23", "A = byte 23", "byte 23 is 6"]


def test_ports_of_either_protocol() -> None:
    text = ON_IPV4.format("ldb [23]\njeq #6, t\njne #17, no\nt: ldxb 4*([14]&0xf)\nldh [x + 16]\njne #53, no")
    assert phrases(text)[7] == "TCP/UDP destination port is 53 (domain)"


@pytest.mark.parametrize(
    ("linktype", "text", "phrase"),
    [
        (
            101,
            "ldb [0]\nand #0xf0\njne #0x60, no\nldb [6]\njne #17, no\nldh [42]\njne #53, no",
            "UDP destination port is 53 (domain)",
        ),
        (229, "ldb [6]\njne #58, no\nldb [40]\njne #135, no", "ICMPv6 type is neighbour solicitation"),
        (228, "ldb [9]\njne #1, no\nldxb 4*([0]&0xf)\nldb [x + 0]\njne #8, no", "ICMP type is echo request"),
        (0, "ld [0]\njne #0x02000000, no\nld [16]\njne #0x7f000001, no", "IPv4 source address is 127.0.0.1"),
        (108, "ld [0]\njne #2, no\nld [20]\njne #0x7f000001, no", "IPv4 destination address is 127.0.0.1"),
        (113, "ldh [14]\njne #0x806, no\nldh [22]\njne #1, no", "ARP operation is request"),
        (
            276,
            "ldh [0]\njne #0x86dd, no\nldb [26]\njne #6, no\nldh [60]\njne #22, no",
            "TCP source port is 22 (ssh)",
        ),
        (
            1,
            "ldh [12]\njne #0x8100, no\nldh [16]\njne #0x8100, no\n"
            "ldh [20]\njne #0x800, no\nldb [31]\njne #6, no",
            "IPv4 protocol is TCP",
        ),
        (1, "ldh [12]\njne #0x88a8, no\nldh [14]\nand #0xfff\njne #7, no", "VLAN ID is 7"),
        (1, "ldh [12]\njne #0x8847, no\nld [14]\nand #0xfffff000\njne #0x7000, no", "MPLS label is 7"),
        (
            1,
            "ldh [12]\njne #0x8864, no\nldh [20]\njne #0x21, no\nldb [31]\njne #17, no",
            "IPv4 protocol is UDP",
        ),
        (1, "ldh [12]\njgt #1500, no\nldb [14]\njne #0x42, no", "LLC destination is spanning tree"),
        (
            105,
            "ldh [12]\njne #0x800, no",
            "bytes 2-3 of 802.11 address 2 (transmitter) are 08:00",
        ),
        (122, "ldh [12]\njne #0x800, no", "16 bits at byte 12 are 2048 (0x800)"),
    ],
)
def test_link_types(linktype: int, text: str, phrase: str) -> None:
    assert phrases(f"{text}\nret #1\nno: ret #0", linktype)[-3] == phrase


# --- held against packets ------------------------------------------------------------------------


def _packet(rng: random.Random, cooked: bool) -> Packet:
    hosts = ["10.0.0.1", "10.0.0.2", "192.168.1.9"]
    ports = [22, 53, 80, 443, 1000]
    if cooked:
        link: Packet = CookedLinux(pkttype=rng.randrange(5), lladdrtype=1, lladdrlen=6)
    else:
        macs = ["00:11:22:33:44:55", "01:00:5e:00:00:01", "ff:ff:ff:ff:ff:ff"]
        link = Ether(src=macs[0], dst=rng.choice(macs))
        for _ in range(rng.choice((0, 0, 1, 2))):
            link /= Dot1Q(vlan=rng.choice((5, 7)))
    kind = rng.random()
    if kind < 0.15:
        return link / ARP(op=rng.choice((1, 2)), psrc=rng.choice(hosts), pdst=rng.choice(hosts))
    transport: Packet = rng.choice(
        (
            TCP(
                sport=rng.choice(ports),
                dport=rng.choice(ports),
                flags=rng.choice(("S", "SA", "A", "R", "FA")),
            ),
            UDP(sport=rng.choice(ports), dport=rng.choice(ports)),
        )
    )
    if kind < 0.7:
        options = b"\x01" * rng.choice((0, 0, 4, 20))
        ip: Packet = IP(src=rng.choice(hosts), dst=rng.choice(hosts), ttl=rng.randrange(1, 256), options=[])
        ip.ihl = 5 + len(options) // 4
        ip.frag = rng.choice((0, 0, 0, 100))
        ip.flags = rng.choice((0, 1, 2))
        if rng.random() < 0.15:
            transport = ICMP(type=rng.choice((0, 8, 3)))
        ip.proto = {TCP: 6, UDP: 17, ICMP: 1}[type(transport)]
        packet = bytes(link / ip)
        return Raw(packet + options + bytes(transport / Raw(rng.randbytes(30))))
    if rng.random() < 0.2:
        transport = ICMPv6EchoRequest()
    ip6 = IPv6(src="2001:db8::1", dst=rng.choice(("2001:db8::2", "ff02::1")), hlim=rng.randrange(1, 256))
    return link / ip6 / transport / Raw(rng.randbytes(30))


def _fields(data: bytes, cooked: bool) -> dict[str, int]:
    """Names of the header fields that a packet has, and what they hold, read out by hand."""

    def number(at: int, size: int) -> int:
        return int.from_bytes(data[at : at + size], "big")

    found: dict[str, int] = {"packet length": len(data)}
    at = 14 if cooked else 12
    kind = number(at, 2)
    found["EtherType"] = kind
    at += 2
    first = True
    while not cooked and kind in (0x8100, 0x88A8, 0x9100):
        if first:
            found["VLAN tag"], found["VLAN ID"] = number(at, 2), number(at, 2) & 0xFFF
            found["EtherType after the VLAN tag"] = number(at + 2, 2)
        first = False
        kind = number(at + 2, 2)
        at += 4
    start = None
    if kind == 0x800:
        start = at + 4 * (data[at] & 15)
        found |= {
            "IPv4 version and header length": data[at],
            "IPv4 header length": 4 * (data[at] & 15),
            "IPv4 header length in words": data[at] & 15,
            "IPv4 total length": number(at + 2, 2),
            "IPv4 fragment field": number(at + 6, 2),
            "fragment offset": number(at + 6, 2) & 0x1FFF,
            "IPv4 time to live": data[at + 8],
            "IPv4 protocol": data[at + 9],
            "IPv4 source address": number(at + 12, 4),
            "IPv4 destination address": number(at + 16, 4),
        }
        protocol = data[at + 9]
    elif kind == 0x86DD:
        start = at + 40
        found |= {
            "IPv6 payload length": number(at + 4, 2),
            "IPv6 next header": data[at + 6],
            "IPv6 hop limit": data[at + 7],
        }
        for name, place in (("source", at + 8), ("destination", at + 24)):
            for word in range(4):
                key = f"bytes {4 * word}-{4 * word + 3} of IPv6 {name} address"
                found[key] = number(place + 4 * word, 4)
        protocol = data[at + 6]
    elif kind == 0x806:
        found |= {
            "ARP operation": number(at + 6, 2),
            "ARP sender address": number(at + 14, 4),
            "ARP target address": number(at + 24, 4),
        }
    if start is not None:
        if protocol in (6, 17, 132):
            for name in ("TCP", "UDP", "SCTP", "TCP/UDP", "TCP/UDP/SCTP"):
                if {6: "TCP", 17: "UDP", 132: "SCTP"}[protocol] in name.split("/"):
                    found[f"{name} source port"] = number(start, 2)
                    found[f"{name} destination port"] = number(start + 2, 2)
        if protocol == 6:
            found["TCP sequence number"] = number(start + 4, 4)
            found["TCP flags"] = data[start + 13]
            found["TCP data offset"] = data[start + 12]
        if protocol == 17:
            found["UDP length"] = number(start + 4, 2)
        if protocol in (1, 58):
            name = "ICMP" if protocol == 1 else "ICMPv6"
            found |= {f"{name} type": data[start], f"{name} code": data[start + 1]}
    return found


EXPRESSIONS = [
    "ip and tcp port 80", "port 53", "host 10.0.0.1", "src net 10.0.0.0/8 and dst port 443", "udp or icmp",
    "vlan 5 and tcp dst port 443", "vlan and vlan and ip", "vlan 5 or ip6", "ip6 host 2001:db8::2 and udp",
    "tcp[tcpflags] & (tcp-syn|tcp-ack) == tcp-syn", "tcp[13] & 4 != 0", "arp host 10.0.0.2", "ip[8] > 100",
    "icmp[icmptype] == icmp-echo", "greater 60 and portrange 50-500", "ip[2:2] > 40 and not port 22",
    "tcp[4:4] > 1000", "udp[4:2] = 38", "not ip and not arp", "ip multicast or ip[8] = 64",
    "tcp or vlan 7", "ip6[7] > 64 or icmp6", "tcp src port 80 or udp dst port 53",
    "ip[0] & 0xf != 5", "ip proto 6 or ip6 proto 17", "(host 10.0.0.1 or 10.0.0.2) and (port 53 or 80)",
    "vlan 7 and (host 10.0.0.1 or port 53)", "arp[6:2] = 2", "tcp[2:2] - tcp[0:2] > 100",
    "src net 10.0.0.0/8 or vlan 5 and host 10.0.0.1", "ip[6:2] & 0x1fff = 0",
]  # fmt: skip
LOAD = re.compile(r"(?:A|X|M\[\d+\]) = (.+)")
TEST = re.compile(r"(.+?) (?:is|are) (?!in |at |greater|not )(.+)")


@pytest.mark.oracle
@pytest.mark.parametrize("optimised", [True, False])
@pytest.mark.parametrize("cooked", [False, True])
def test_what_is_said_is_so(cooked: bool, optimised: bool) -> None:
    _check(EXPRESSIONS, cooked, optimised)


@pytest.mark.oracle
@pytest.mark.parametrize("optimised", [True, False])
def test_what_is_said_of_combinations_is_so(optimised: bool) -> None:
    """Joins of many paths, where most is easily said too much."""
    rng = random.Random(corpus.SEED)
    found: list[str] = []
    while len(found) < 30:
        parts = [
            f"{rng.choice(('', '', 'not '))}({rng.choice(EXPRESSIONS)})" for _ in range(rng.choice((2, 3)))
        ]
        expression = f" {rng.choice(('and', 'or'))} ".join(parts)
        if libpcap.compile(expression).insns:
            found.append(expression)
    _check(found, False, optimised)


def _check(expressions: Sequence[str], cooked: bool, optimised: bool) -> None:
    print(f"SKEP_SEED={corpus.SEED}")
    rng = random.Random(corpus.SEED)
    packets = [bytes(_packet(rng, cooked)) for _ in range(120)]
    every = {name for data in packets for name in _fields(data, cooked)}
    linktype = 113 if cooked else 1
    loads = tests = named = 0
    for expression in expressions:
        if cooked and "vlan" in expression:
            continue
        program = libpcap.compile(expression, linktype, optimize=optimised).insns
        assert program is not None, expression
        said = explain([c.ClassicInsn(*insn) for insn in program], linktype)
        for data in packets:
            fields = _fields(data, cooked)
            trace = list(steps(program, data))
            for now, after in zip(trace, [*trace[1:], None], strict=True):
                phrase = said[now.pc]
                if now.result is not None and after is None:
                    continue
                if found := LOAD.fullmatch(phrase):
                    name = found.group(1)
                    value = now.x if phrase[0] == "X" else now.a
                    if name in every:
                        assert fields.get(name) == value, (expression, now.pc, phrase, data.hex())
                        loads += 1
                elif (found := TEST.fullmatch(phrase)) and after is not None:
                    name = found.group(1)
                    insn = program[now.pc]
                    if name in every and insn[0] & 0xF0 == c.BPF_JEQ and insn[1] != insn[2]:
                        outcome = after.pc == now.pc + 1 + insn[1]
                        assert (fields.get(name) == insn[3]) == outcome and name in fields, (
                            expression,
                            phrase,
                        )
                        if name.startswith("IPv4") and name.endswith("address"):
                            assert found.group(2) == socket.inet_ntoa(insn[3].to_bytes(4, "big"))
                        tests += 1
        named += sum(1 for phrase in said if (m := LOAD.fullmatch(phrase)) and m.group(1) in every)
    print(f"checked {loads} loads and {tests} tests")
    assert loads > 3000 and tests > 2000 and named > 80


def test_any_program_gets_a_phrase_an_instruction() -> None:
    print(f"SKEP_SEED={corpus.SEED}")
    rng = random.Random(corpus.SEED)
    for linktype in (0, 1, 9, 12, 101, 105, 108, 113, 228, 229, 276, 9999):
        for _ in range(10):
            program = corpus.classic_program(rng, 200)
            said = explain(program, linktype)
            assert len(said) == len(program)
            assert all(phrase and phrase.isprintable() and len(phrase) < 250 for phrase in said)
    wild = [
        c.ClassicInsn(rng.randrange(256), rng.randrange(256), rng.randrange(256), rng.getrandbits(32))
        for _ in range(4096)
    ]
    assert len(explain(wild)) == 4096
    assert explain([]) == []


def test_long_lists_take_time_in_proportion() -> None:
    """2,000 hosts: every comparison is still named."""
    hosts = "".join(
        f"jeq #{0x0A000000 + n:#x}, yes{n // 200}\n"
        + (f"ja on{n // 200}\nyes{n // 200}: ret #1\non{n // 200}: txa\nld [26]\n" if n % 200 == 199 else "")
        for n in range(2000)
    )
    said = phrases(f"ldh [12]\njeq #0x800, ip\nret #0\nip: ld [26]\n{hosts}ret #0")
    assert sum(phrase.startswith("IPv4 source address is 10.") for phrase in said) == 2000
