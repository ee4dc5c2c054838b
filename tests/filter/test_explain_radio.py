"""802.11 and pflog in words, held against packets: a named field holds what the packet was built with."""

from __future__ import annotations

import itertools
import random
import re
import struct

import pytest
from scapy.layers.inet import IP, TCP, UDP, IPOption_NOP
from scapy.layers.inet6 import IPv6

from skep.filter.explain import explain
from skep.isa import classic as c
from skep.vm.classic import steps
from tests.asm import corpus
from tests.support import libpcap

_LOAD = re.compile(r"[AX] = (.*)")
_TEST = re.compile(r"(.*?) (?:is|are) (?!not |in ).*")

WLAN = (
    "ip and tcp port 80", "ip6 and udp port 53", "type mgt subtype beacon", "type data and not ip",
    "wlan addr2 02:00:00:00:00:02", "dir fromds and ip host 10.0.0.1", "type ctl or arp", "tcp",
    "wlan ra 02:00:00:00:00:01",
    "subtype qos-data and ip", "type data and udp port 80 or tcp port 53", "ip src net 10.0.0.0/24",
)  # fmt: skip
PF = (
    "action block", "action pass and tcp port 80", "on eth0 and ip6", "reason match and ip host 10.0.0.1",
    "rnr 3 and udp port 53", "ip and not tcp", "tcp or udp port 80", "reason short or on lo",
)  # fmt: skip


def _body(rng: random.Random) -> tuple[bytes, dict[str, int], int]:
    """An IP packet, its fields by name, its EtherType."""
    sport, dport = rng.choice((80, 53, 1234)), rng.choice((80, 53, 4321))
    name, layer = rng.choice((("TCP", TCP), ("UDP", UDP)))
    fields = {f"{name} source port": sport, f"{name} destination port": dport}
    if rng.random() < 0.3:
        fields["IPv6 next header"] = 6 if name == "TCP" else 17
        return bytes(IPv6(src="2001:db8::1") / layer(sport=sport, dport=dport)), fields, 0x86DD
    fields["IPv4 protocol"] = 6 if name == "TCP" else 17
    fields["IPv4 source address"] = 0x0A000001
    options: list[object] = [IPOption_NOP() for _ in range(4)] if rng.random() < 0.3 else []
    packet = IP(src="10.0.0.1", dst="10.0.0.2", options=options)
    return bytes(packet / layer(sport=sport, dport=dport)), fields, 0x0800


def _wlan(rng: random.Random, linktype: int) -> tuple[bytes, dict[str, int]]:
    control = rng.choice((0x08, 0x08, 0x88, 0x88, 0x80, 0xC4, 0xD4, 0x48))
    direction = rng.randrange(3)
    header = (
        bytes((control, direction, 0, 0)) + b"".join(bytes((2, 0, 0, 0, 0, i)) for i in (1, 2, 3)) + b"\0\0"
    )
    fields = {
        "802.11 type and subtype": control,
        "802.11 type": control & 0x0C,
        "802.11 subtype": control & 0xF0,
        "802.11 direction": direction,
        "bytes 2-5 of 802.11 address 2 (transmitter)": 2,
        "bytes 2-5 of 802.11 address 1 (receiver)": 1,
    }
    padded = linktype == 127 and rng.random() < 0.5
    if control & 0x0F == 8:
        header += b"\0\0" if control & 0x80 else b""
        header += b"\0" * (-len(header) % 4 if padded else 0)
        body, more, ethertype = _body(rng)
        fields |= more | {"SNAP EtherType": ethertype, "LLC destination": 0xAA}
        header += b"\xaa\xaa\3\0\0\0" + struct.pack(">H", ethertype) + body
    if linktype == 127:
        flags = 0x20 if padded else 0
        stamp = rng.random() < 0.5
        tail = (bytes(8) if stamp else b"") + bytes((flags,)) + bytes(rng.randrange(4))
        if padded:  # libpcap rounds up the offset in the packet, not the header's length
            tail += bytes(-len(tail) % 4)
        prefix = struct.pack("<BBHI", 0, 0, 8 + len(tail), 3 if stamp else 2) + tail
        fields["radiotap header length"] = len(prefix)
    elif linktype == 163:
        prefix = struct.pack(">II", 0x80211001, 64) + bytes(56)
        fields["AVS header length"] = 64
    else:
        prefix = b""
    return prefix + header, fields


def _pflog(rng: random.Random) -> tuple[bytes, dict[str, int]]:
    body, fields, ethertype = _body(rng)
    family = 2 if ethertype == 0x0800 else 10
    action, reason, rule = rng.randrange(2), rng.choice((0, 3)), rng.choice((3, 4))
    name = rng.choice((b"eth0", b"lo"))
    header = bytes((61, family, action, reason)) + name.ljust(16, b"\0") + bytes(16)
    header += struct.pack(">II", rule, 0) + bytes(16) + bytes((1, 0, 0, 0))
    fields |= {
        "pflog header length": 61, "pflog action": action, "pflog reason": reason, "address family": family,
        "pflog rule number": rule,
    }  # fmt: skip
    return header + body, fields


@pytest.mark.oracle
@pytest.mark.parametrize("optimised", [True, False])
@pytest.mark.parametrize("linktype", [105, 127, 163, 117])
def test_what_is_said_is_so(linktype: int, optimised: bool) -> None:
    print(f"SKEP_SEED={corpus.SEED}")
    rng = random.Random(corpus.SEED)
    packets = [_pflog(rng) if linktype == 117 else _wlan(rng, linktype) for _ in range(60)]
    every = {name for _, fields in packets for name in fields}
    loads: dict[str, int] = {}
    tests = 0
    for expression in PF if linktype == 117 else WLAN:
        program = libpcap.compile(expression, linktype, optimize=optimised).insns
        assert program is not None, expression
        said = explain([c.ClassicInsn(*insn) for insn in program], linktype)
        for data, fields in packets:
            trace = list(steps(program, data))
            for now, after in itertools.pairwise(trace):
                phrase, insn = said[now.pc], program[now.pc]
                where = (expression, now.pc, phrase, data.hex())
                if found := _LOAD.fullmatch(phrase):
                    name = found.group(1)
                    if name in every:
                        assert fields.get(name) == (now.x if phrase[0] == "X" else now.a), where
                        loads[name] = loads.get(name, 0) + 1
                elif (
                    (found := _TEST.fullmatch(phrase))
                    and insn[0] & 0xF0 == c.BPF_JEQ
                    and insn[1] != insn[2]
                    and found.group(1) in every
                ):
                    assert found.group(1) in fields, where
                    assert (fields[found.group(1)] == insn[3]) == (after.pc == now.pc + 1 + insn[1]), where
                    tests += 1
    # Also what lies behind a header whose length is in the packet was named.
    wanted = {"TCP source port", "UDP destination port", "IPv4 protocol", "IPv6 next header"}
    wanted |= (
        {"pflog action", "pflog reason"} if linktype == 117 else {"SNAP EtherType", "802.11 type and subtype"}
    )
    assert wanted <= loads.keys()
    assert sum(loads.values()) > 500 and tests > 300
