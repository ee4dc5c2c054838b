"""Packets of every shape, whole and cut short: the program finds what a reader written in Python finds."""

from __future__ import annotations

import random
import struct
from pathlib import Path
from typing import Any

import pytest

import skep
from skep.lang.compile import compile_programs
from tests.lang.support import HEADER, module, seed
from tests.support.oracles import bpf

PARSER = (
    HEADER
    + """
from skep.net import (ETH_P_8021AD, ETH_P_8021Q, ETH_P_IP, ETH_P_IPV6, ethhdr, frag_hdr, iphdr, ipv6_opt_hdr,
                      ipv6hdr, tcphdr, udphdr, vlan_hdr)

@bpf.struct
class Flow:
    proto: u32
    sport: u32
    dport: u32
    offset: u32
    vlan: u32
    mss: u32
    length: u32
    saddr: bytes = bpf.raw(16)

flows = bpf.Array(Flow, 1)

def look(pkt: bpf.Buffer) -> int:
    f = flows[0]
    f.proto, f.sport, f.dport, f.offset, f.vlan, f.mss = 0, 0, 0, 0, 0, 0
    f.length = len(pkt)
    f.saddr = bytes(16)
    eth = pkt.take(ethhdr)
    if eth is None:
        return 1
    proto = eth.proto
    for _ in range(2):
        if proto == ETH_P_8021Q or proto == ETH_P_8021AD:
            tag = pkt.take(vlan_hdr)
            if tag is None:
                return 2
            f.vlan = (f.vlan << 12) | (tag.tci & 0xFFF)
            proto = tag.encapsulated_proto
    nh = 0
    if proto == ETH_P_IP:
        ip = pkt.take(iphdr)
        if ip is None:
            return 3
        f.saddr = b"\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0"
        f.mss = ip.saddr & 0xFFFF
        pkt.skip(ip.ihl * 4 - 20)
        nh = ip.protocol
    elif proto == ETH_P_IPV6:
        ip6 = pkt.take(ipv6hdr)
        if ip6 is None:
            return 3
        nh = ip6.nexthdr
        f.saddr = ip6.saddr
        for _ in range(4):
            if nh == 44:
                frag = pkt.take(frag_hdr)
                if frag is None:
                    return 4
                nh = frag.nexthdr
            elif nh in (0, 43, 60):
                ext = pkt.take(ipv6_opt_hdr)
                if ext is None:
                    return 4
                pkt.skip(ext.hdrlen * 8 + 6)
                nh = ext.nexthdr
            else:
                break
    else:
        return 5
    f.proto = nh
    f.offset = pkt.offset
    if nh == 6:
        tcp = pkt.take(tcphdr)
        if tcp is None:
            return 6
        f.sport, f.dport = tcp.source, tcp.dest
        if tcp.syn and not tcp.ack and tcp.doff > 5:
            kind = pkt.take(u8)
            size = pkt.take(u8)
            value = pkt.peek(be16)
            if kind is not None and size is not None and value is not None and kind == 2 and size == 4:
                f.mss = value
    elif nh == 17:
        udp = pkt.take(udphdr)
        if udp is None:
            return 6
        f.sport, f.dport = udp.source, udp.dest
    return 0

@bpf.xdp
def parse_xdp(ctx: bpf.Xdp) -> int:
    return look(ctx.packet())

@bpf.tc
def parse_tc(skb: bpf.SkBuff) -> int:
    return look(skb.packet())

@bpf.socket_filter
def parse_copy(skb: bpf.SkBuff) -> int:
    return look(skb.packet())
"""
).replace("bytes(16)\n    eth", 'b"\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0"\n    eth')


class Short(Exception):
    pass


def reference(data: bytes) -> tuple[int, dict[str, Any]]:
    """The same, in Python."""
    f: dict[str, Any] = dict.fromkeys(("proto", "sport", "dport", "offset", "vlan", "mss"), 0)
    f["length"], f["saddr"] = len(data), bytes(16)
    at = 0

    def take(size: int) -> bytes:
        nonlocal at
        at += size
        if at > len(data):
            raise Short
        return data[at - size : at]

    step = 1
    try:
        proto = struct.unpack("!12xH", take(14))[0]
        step = 2
        for _ in range(2):
            if proto in (0x8100, 0x88A8):
                tci, proto = struct.unpack("!HH", take(4))
                f["vlan"] = f["vlan"] << 12 | tci & 0xFFF
        step = 3
        if proto == 0x800:
            ip = take(20)
            f["mss"] = int.from_bytes(ip[14:16], "big")
            skip = (ip[0] & 15) * 4 - 20
            at += skip if skip >= 0 else skip & 0xFFFF
            nh = ip[9]
        elif proto == 0x86DD:
            ip = take(40)
            nh, f["saddr"] = ip[6], ip[8:24]
            step = 4
            for _ in range(4):
                if nh == 44:
                    nh = take(8)[0]
                elif nh in (0, 43, 60):
                    nh, length = take(2)
                    at += length * 8 + 6
                else:
                    break
        else:
            return 5, f
        f["proto"], f["offset"] = nh, at
        step = 6
        if nh == 6:
            tcp = take(20)
            f["sport"], f["dport"] = struct.unpack("!HH", tcp[:4])
            if tcp[13] & 2 and not tcp[13] & 16 and tcp[12] >> 4 > 5:
                option = data[at : at + 4]
                if len(option) == 4 and option[:2] == b"\2\4":
                    f["mss"] = int.from_bytes(option[2:], "big")
        elif nh == 17:
            f["sport"], f["dport"] = struct.unpack("!HH", take(8)[:4])
    except Short:
        return step, f
    return 0, f


def packet(r: random.Random) -> bytes:
    """A packet of one of many shapes, sometimes cut short or with one byte changed."""
    data = r.randbytes(12)
    for _ in range(r.choice((0, 0, 0, 1, 2, 3))):
        data += struct.pack("!HH", r.choice((0x8100, 0x88A8)), r.randrange(1 << 16))
    flags = r.choice((2, 2, 18, 16, 17))
    options = r.choice((b"", b"\2\4" + r.randbytes(2), b"\2\4\5\xb4\1\1\4\2", b"\1\1\1\0"))
    ports, words = r.randbytes(4), 5 + len(options) // 4
    tcp = ports + struct.pack("!IIBBHHH", 1, 2, words << 4, flags, 3, 4, 5) + options
    udp = struct.pack("!HHHH", r.randrange(1 << 16), r.randrange(1 << 16), 8, 0)
    proto, inner = r.choice(
        ((6, tcp), (6, tcp), (17, udp), (1, r.randbytes(8)), (r.randrange(256), r.randbytes(30)))
    )
    if r.random() < 0.5:
        words = r.choice((0, 0, 0, 1, 5, 10))
        data += (
            b"\x08\0"
            + bytes([0x40 | 5 + words])
            + bytes(8)
            + bytes([proto])
            + r.randbytes(10)
            + bytes(4 * words)
        )
    else:
        chain = [r.choice((0, 43, 44, 60)) for _ in range(r.choice((0, 0, 1, 2, 4, 5)))]
        following = [*chain[1:], proto][: len(chain)]
        data += b"\x86\xdd\x60" + bytes(5) + bytes([chain[0] if chain else proto, 64]) + r.randbytes(32)
        for kind, after in zip(chain, following, strict=True):
            size = r.choice((0, 0, 1, 3)) if kind != 44 else 0
            data += bytes([after, size]) + r.randbytes(6 + 8 * size)
    data += inner + r.randbytes(r.choice((0, 0, 20)))
    if r.random() < 0.3:
        data = data[: r.randrange(14, len(data) + 1)]
    if r.random() < 0.2:
        changed = bytearray(data)
        changed[r.randrange(12, len(data))] = r.randrange(256)
        data = bytes(changed)
    return data


@pytest.mark.live
def test_parsers_agree(tmp_path: Path) -> None:
    """XDP and tc by direct access, a socket filter by copies, and Python: the same of 400 packets."""
    bpf()
    program = module(tmp_path, PARSER)
    r = random.Random(seed())
    print("seed", seed())
    with skep.load([program.parse_xdp, program.parse_tc, program.parse_copy]) as obj:
        for _ in range(400):
            data = packet(r)
            want, flow = reference(data)
            for run in (obj.parse_xdp, obj.parse_tc, obj.parse_copy):
                if run is obj.parse_tc and len(data) < 14 + {8: 20, 0x86: 40}.get(data[12], 1):
                    continue  # the kernel makes no socket buffer of less than a header
                # A socket filter is given what follows the first Ethernet header.
                result = run.run(bytes(14) + data if run is obj.parse_copy else data)
                got = obj.flows[0]
                seen = {name: getattr(got, name) for name in flow}
                assert result.retval == want, (data.hex(), run, seen, flow)
                assert seen == flow, (data.hex(), run)


@pytest.mark.live
def test_writing(tmp_path: Path) -> None:
    """What is written goes into the packet: addresses moved, TTL and a bit changed."""
    bpf()
    program = module(
        tmp_path,
        HEADER
        + """
from skep.net import ethhdr, iphdr, tcphdr

@bpf.xdp
def reflect(ctx: bpf.Xdp) -> int:
    pkt = ctx.packet()
    eth = pkt.take(ethhdr)
    ip = pkt.take(iphdr)
    tcp = pkt.take(tcphdr)
    if eth is None or ip is None or tcp is None:
        return bpf.XDP_DROP
    eth.source = eth.dest
    eth.dest = b"\\x02\\x00\\x00\\x00\\x00\\x01"
    ip.saddr, ip.daddr = ip.daddr, ip.saddr
    ip.ttl -= 1
    tcp.ack = 1
    tcp.doff = 7
    return bpf.XDP_TX
""",
    )
    data = (
        bytes(range(12))
        + b"\x08\0"
        + bytes([0x45])
        + bytes(7)
        + bytes([64, 6, 0, 0])
        + bytes(range(100, 108))
    )
    data += bytes(12) + bytes([0x50, 0x02]) + bytes(6)
    with skep.load(program) as obj:
        result = obj.reflect.run(data, data_out=len(data))
    assert result.retval == 3
    out = result.data
    assert out[:6] == b"\2\0\0\0\0\1" and out[6:12] == data[:6]
    assert out[22] == 63 and out[26:34] == bytes(range(104, 108)) + bytes(range(100, 104))
    assert out[46] == 0x70 and out[47] == 0x12


ANYWHERE = """
@bpf.struct
class Name:
    raw: bpf.Raw = bpf.raw(16)

@bpf.struct
class Rule:
    name: bpf.Raw = bpf.raw(16)
    verdict: u32

rules = bpf.Array(Rule, 4)

@bpf.xdp
def main(ctx: bpf.Xdp) -> int:
    pkt = ctx.packet()
    skip = pkt.take(u8)
    if skip is None:
        return 1
    pkt.skip(skip.value)
    name = pkt.take(Name)
    if name is None:
        return 1
    if name.raw == b"sixteen bytes ok":
        return 2
    for i in range(4):
        if rules[i].name == name.raw:
            return rules[i].verdict
    return 3
"""


@pytest.mark.live
def test_bytes_of_packets_are_compared_in_words(tmp_path: Path) -> None:
    """Wherever they begin: kernels whose processors cannot do that refuse the fields of headers as well."""
    bpf()
    made = module(tmp_path, HEADER + ANYWHERE)
    text = compile_programs([made.main], kind="asm").decode()
    assert text.count("*(u8 *)") < 4, text
    with skep.load(made) as obj:
        obj.rules[2] = (b"0123456789abcdef", 77)
        for skip in range(9):
            for name, verdict in ((b"sixteen bytes ok", 2), (b"0123456789abcdef", 77), (bytes(15) + b"f", 3)):
                packet = bytes([skip]) + bytes(skip) + name + bytes(40)
                assert obj.main.run(packet).retval == verdict, (skip, name)
