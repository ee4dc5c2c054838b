"""The one-line summary: right where it speaks, silent where it cannot, and never a traceback."""

from __future__ import annotations

import random
import re
import subprocess
from pathlib import Path

import pytest

from skep import capture
from skep.tap.summary import summary
from tests.support import pcapfiles
from tests.support.oracles import captures, tool

ETHER = bytes(12)


def ipv4(proto: int, above: bytes, fragment: int = 0) -> bytes:
    total = 20 + len(above)
    fields = bytes((0x45, 0)) + total.to_bytes(2, "big") + bytes(2) + fragment.to_bytes(2, "big")
    return ETHER + b"\x08\x00" + fields + bytes((64, proto, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2)) + above


TCP = (1234).to_bytes(2, "big") + (80).to_bytes(2, "big") + bytes(8) + bytes((0x50, 0x12)) + bytes(6)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (ipv4(6, TCP + b"abc"), "IP 10.0.0.1.1234 > 10.0.0.2.80: tcp [S.], length 3"),
        (ipv4(6, TCP[:9]), "IP 10.0.0.1.1234 > 10.0.0.2.80: tcp [cut short], length 9"),
        (ipv4(17, TCP[:8] + b"xy"), "IP 10.0.0.1.1234 > 10.0.0.2.80: UDP, length 2"),
        (ipv4(1, b"\x08" + bytes(7)), "IP 10.0.0.1 > 10.0.0.2: ICMP echo request, length 8"),
        (ipv4(17, b"abcd", 0x0007), "IP 10.0.0.1 > 10.0.0.2: UDP fragment at 56, length 4"),
        (
            ETHER + b"\x81\x00\x00\x05" + ipv4(1, b"\0" * 8)[12:],
            "IP 10.0.0.1 > 10.0.0.2: ICMP echo reply, length 8",
        ),
        (ETHER + b"\x88\xcc", "LLDP, length 14"),
        (ETHER + b"\x08", "[cut short], length 13"),
        (b"", "[cut short], length 0"),
        (ipv4(6, b"")[:30], "[cut short], length 30"),
    ],
)
def test_lines(data: bytes, text: str) -> None:
    assert summary(data, len(data), 1) == text


def test_any_bytes_have_a_line() -> None:
    rng = random.Random(pcapfiles.SEED)
    for _ in range(4000):
        data = rng.randbytes(rng.randint(0, 90))
        if rng.random() < 0.7 and len(data) > 14:
            data = data[:12] + rng.choice((b"\x08\x00", b"\x86\xdd", b"\x08\x06", b"\x81\x00")) + data[14:]
        for linktype in (0, 1, 12, 108, 113, 276, 127, 9999):
            line = summary(data, len(data), linktype, link_header=rng.random() < 0.5)
            assert line and "\n" not in line


@pytest.mark.oracle
@pytest.mark.parametrize("name", ["bgp-4byte-asn.pcap", "RADIUS.pcap", "dns-zlip-2.pcap", "HSRP_coup.pcap"])
def test_addresses_and_ports_are_tcpdumps(name: str) -> None:
    path: Path = captures() / name
    if not path.exists():
        pytest.skip(f"no {name}")
    shown = subprocess.run([tool("tcpdump"), "-nqt", "-r", str(path)], capture_output=True, text=True).stdout
    theirs = [line for line in shown.splitlines() if line.startswith("IP")]
    with capture.open(path) as reader:
        ours = [summary(packet.data, packet.wirelen, packet.linktype) for packet in reader]
    ours = [line for line in ours if line.startswith("IP")]
    hosts = re.compile(r"(IP6?) (\S+) > (\S+?):? ")
    assert len(ours) == len(theirs)
    for mine, their in zip(ours, theirs, strict=True):
        first, second = hosts.match(mine + " "), hosts.match(their + " ")
        assert first and second and first.groups() == second.groups(), (mine, their)


@pytest.mark.oracle
def test_ipv6_addresses_are_written_as_tcpdump_writes_them(tmp_path: Path) -> None:
    """Runs of zeros, and IPv4 addresses inside."""
    rng = random.Random(pcapfiles.SEED)

    def address() -> bytes:
        words = [rng.choice((0, 0, 0, 1, 0xFFFF, rng.randrange(1 << 16))) for _ in range(8)]
        start = rng.choice(
            ((), (0,) * 5 + (0xFFFF,), (0,) * 6, (0,) * 7, (0,) * 4 + (0xFFFF, 0), (0x64, 0xFF9B))
        )
        words[: len(start)] = start
        return b"".join(word.to_bytes(2, "big") for word in words)

    packets = [
        ETHER + b"\x86\xdd\x60\0\0\0\0\x08\x11\x40" + address() + address() + bytes((0, 5, 0, 6, 0, 8, 0, 0))
        for _ in range(1000)
    ]
    path = tmp_path / "in.pcap"
    path.write_bytes(pcapfiles.capture([(1, 0, data, len(data)) for data in packets]))
    done = subprocess.run([tool("tcpdump"), "-nqtr", str(path)], capture_output=True, text=True, check=True)
    assert [summary(data, len(data), 1) for data in packets] == done.stdout.splitlines()
