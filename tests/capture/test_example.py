"""The example capture, and the script that made it, run again."""

from __future__ import annotations

import struct
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import skep.capture as capture
from tests.support.oracles import ROOT, netns, tool

TAGGED, ARP, IP4, IP6 = 0x8100, 0x0806, 0x0800, 0x86DD
#: what `kinds` must find, and at least how often
EXPECTED = {
    "arp": 2,
    "ping": 8,
    "ipv6 ping": 8,
    "web 80": 100,
    "web 8080": 80,
    "web over ipv6": 20,
    "dns": 30,
    "vlan": 20,
    "fragment": 10,
    "ipv6 fragment": 10,
    "reset": 2,
    "unreachable": 1,
    "igmp": 1,
    "broadcast": 1,
}


def kinds(path: Path) -> Counter[str]:
    """How many packets of each kind the file holds."""
    found: Counter[str] = Counter()
    with capture.open(path) as reader:
        assert reader.linktype == 1
        for packet in reader:
            assert packet.wirelen == len(packet.data)
            frame = packet.data
            (kind,) = struct.unpack_from(">H", frame, 12)
            if kind == TAGGED:
                found["vlan"] += 1
                frame = frame[:12] + frame[16:]
                (kind,) = struct.unpack_from(">H", frame, 12)
            found["broadcast"] += frame[:6] == b"\xff" * 6 and kind == IP4
            found["arp"] += kind == ARP
            if kind == IP4:
                body, protocol = frame[14 + 4 * (frame[14] & 15) :], frame[23]
                (fragment,) = struct.unpack_from(">H", frame, 20)
                if fragment & 0x3FFF:
                    found["fragment"] += 1
                    continue
            elif kind == IP6:
                body, protocol = frame[54:], frame[20]
                found["ipv6 fragment"] += protocol == 44
            else:
                continue
            found["igmp"] += kind == IP4 and protocol == 2
            found["ping"] += protocol == 1 and body[0] in (0, 8)
            found["unreachable"] += protocol == 1 and body[0] == 3
            found["ipv6 ping"] += protocol == 58 and body[0] in (128, 129)
            if protocol in (6, 17):
                ports = struct.unpack_from(">HH", body)
                found["dns"] += protocol == 17 and 53 in ports
                if protocol == 6:
                    found["reset"] += bool(body[13] & 4)
                    found["web over ipv6"] += kind == IP6 and 80 in ports
                    found["web 80"] += 80 in ports
                    found["web 8080"] += 8080 in ports
    return found


def enough(found: Counter[str]) -> None:
    assert {kind: found[kind] for kind, least in EXPECTED.items() if found[kind] < least} == {}


def test_the_committed_one() -> None:
    path = ROOT / "examples" / "two-hosts.pcap"
    assert path.stat().st_size < 300_000
    enough(kinds(path))


@pytest.mark.live
def test_made_again(tmp_path: Path) -> None:
    netns()
    tool("ping")
    path = tmp_path / "again.pcap"
    script = ROOT / "examples" / "make_capture.py"
    run = subprocess.run(
        [sys.executable, script, path], capture_output=True, text=True, timeout=60, check=True
    )
    assert run.stderr == ""
    assert run.stdout.startswith(f"{path}: ")
    enough(kinds(path))
