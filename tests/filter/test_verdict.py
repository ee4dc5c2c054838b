"""Real captures, filtered here and by libpcap and tcpdump: the same packets come out."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import pytest

import skep.capture
from skep.errors import CaptureError, FilterSyntaxError
from skep.filter import compile as compile_filter
from skep.isa import ClassicInsn
from skep.vm.classic import run
from tests.filter.test_listing import on_purpose
from tests.support import libpcap
from tests.support.directed import compare, seed
from tests.support.oracles import captures, tool
from tests.support.sentences import sentence

EXPRESSIONS = """
ip
not ip
ip6
arp or rarp
tcp
udp and not port 53
icmp or icmp6
port 80 or 443
portrange 1-1023
tcp[tcpflags] & (tcp-syn|tcp-fin) != 0
ip[6:2] & 0x3fff != 0
ip[0] & 0xf != 5
net 10.0.0.0/8 or net 192.168.0.0/16 or net 172.16.0.0/12
host 127.0.0.1 or ip6 host ::1
less 100
greater 200 and udp
len > 60 and len - 14 != ip[2:2]
ip multicast or ip6 multicast
ip proto 89 or ip6 proto 89
esp or ah or udp port 500
not (tcp or udp)
ip[8] / ip[9] > 3
icmp[0] = 8 or tcp[13] = 2
vlan
vlan and ip
mpls
pppoes and ip
ether multicast
ether proto 0x88cc or stp
isis or clnp
""".strip().splitlines()
PER_FILE = 60  # packets


def files() -> list[Path]:
    return sorted(path for path in captures().iterdir() if path.suffix in {".pcap", ".pcapng"})


def first_packets(path: Path) -> list[tuple[bytes, int, int]]:
    """(bytes, length on the wire, DLT) of the first packets; as many as there are before any damage."""
    found: list[tuple[bytes, int, int]] = []
    try:
        with skep.capture.open(str(path)) as reader:
            for packet in reader:
                found.append((bytes(packet.data), packet.wirelen, packet.linktype))
                if len(found) == PER_FILE:
                    break
    except CaptureError:
        pass
    return found


def test_captures_against_libpcap() -> None:
    """Every third expression for each file, so that all meet many link types."""
    number = seed(71)
    rng = random.Random(number)
    chosen = matched = 0
    codes: dict[tuple[str, int], tuple[ClassicInsn, ...]] = {}
    for turn, path in enumerate(files()):
        taken = first_packets(path)
        for linktype in {packet[2] for packet in taken}:
            for text in [*EXPRESSIONS[turn % 3 :: 3], sentence(rng)]:
                theirs = libpcap.compile(text, linktype)
                if theirs.insns is None or on_purpose(linktype, text):
                    continue
                code = codes.get((text, linktype))
                if code is None:
                    code = codes[text, linktype] = compile_filter(text, linktype=linktype).insns
                oracle = libpcap.Filter(theirs.insns)
                for data, wirelen, its_type in taken:
                    if its_type == linktype:
                        expected, got = oracle(data, wirelen), run(code, data, wirelen)
                        if got != expected:
                            # Its optimiser drops loads that would have rejected the packet: -O tells.
                            plain = libpcap.compile(text, linktype, optimize=False).insns or []
                            expected = libpcap.Filter(plain)(data, wirelen)
                        assert got == expected, (number, path.name, text)
                        chosen += 1
                        matched += expected != 0
    assert chosen > 20_000
    assert 0.1 < matched / chosen < 0.9


@pytest.mark.oracle
def test_captures_against_tcpdump() -> None:
    """Counts of whole files, by the tool itself."""
    tcpdump = tool("tcpdump")
    compared = 0
    for turn, path in enumerate(files()[::9]):
        if path.suffix != ".pcap" or path.stat().st_size > 300_000:
            continue
        text = EXPRESSIONS[turn % len(EXPRESSIONS)]
        done = subprocess.run(
            [tcpdump, "-r", str(path), "-w", "-", text], capture_output=True, timeout=60, check=False
        )
        if done.returncode:
            continue
        mine = 0
        code = None
        try:
            with skep.capture.open(str(path)) as reader:
                for packet in reader:
                    if code is None:
                        code = compile_filter(text, linktype=packet.linktype, savefile=True).insns
                    mine += run(code, bytes(packet.data), packet.wirelen) != 0
        except (CaptureError, FilterSyntaxError):
            continue
        written = done.stdout
        count, at = 0, 24
        order = "little" if written[:4] in (b"\xd4\xc3\xb2\xa1", b"\x4d\x3c\xb2\xa1") else "big"
        while at < len(written):
            at += 16 + int.from_bytes(written[at + 8 : at + 12], order)  # type: ignore[arg-type]
            count += 1
        assert mine == count, (path.name, text)
        compared += 1
    assert compared > 15


def test_refusals_agree_with_libpcap() -> None:
    """Optimising finds what cannot match or divides by zero; so does libpcap, in the same expressions."""
    refused = {
        "ip and arp": "rejects all packets",
        "tcp and udp": "rejects all packets",
        "1 = 2": "rejects all packets",
        "udp[1:4] > (4095 % (4 & 0)) and ip proto 47": "rejects all packets",
        "ip[0] / (ip[1] & 0) = 0": "division by zero",
        "len % (4 & 0) = 1 or ip": "modulus by zero",
        "(len << (16 * 2)) = 1": "shift by more than 31 bits",
    }
    for text, why in refused.items():
        assert why in libpcap.compile(text).error
        with pytest.raises(FilterSyntaxError, match=why):
            compile_filter(text)
    # libpcap drops this division before it finds out; here the packets that reach it are rejected
    text = "udp[1:4] > (4095 % (4 & 0)) and ip proto 47 or ip host 192.0.1.1"
    assert libpcap.compile(text).insns is not None
    plain = libpcap.compile(text, optimize=False).insns
    assert plain is not None
    assert compare(plain, compile_filter(text).insns, 1) is None
