"""The link-level header's length: what tcpdump leaves out of -x, on captures and on made-up frames."""

from __future__ import annotations

import random
import re
import struct
import subprocess
from pathlib import Path

import pytest

import skep.capture
from skep.capture import linktypes
from skep.errors import CaptureError
from skep.tap.headers import link_length
from skep.tap.summary import summary
from tests.support.expressions import seed
from tests.support.oracles import captures, tool

_PACKET = re.compile(r"^(?=\d+\.\d{6} |\[Invalid)", re.MULTILINE)
_DUMPED = re.compile(r"^\t0x([0-9a-f]{4,}):  ([0-9a-f ]+)$", re.MULTILINE)

_IP = bytes.fromhex("4500002000010000401166ca0a0000010a000002") + bytes.fromhex("3039303a000c000001020304")
_SNAP = b"\xaa\xaa\x03\x00\x00\x00\x08\x00"
_LLC: tuple[bytes, ...] = (
    _SNAP + _IP,
    b"\xfe\xfe\x03\x83" + bytes(20),
    b"\xff\xff\x00\x22" + bytes(40),
    b"\x42\x42\x03" + bytes(35),
)
_LLC += (
    b"\xe0\xe0\x03" + bytes(40),
    b"\xf0\xf0\x01\x05",
    b"\x10\x20\x00\x02" + bytes(9),
    b"\x00\x01\xaf\x81\x01\x00",
)
_ADDRESSES = bytes.fromhex("020000000002020000000001")


def frames(linktype: int, rng: random.Random) -> list[bytes]:
    """Frames of a link type with every kind of header it has, IPv4 or something without a printer inside."""
    llc = rng.choice(_LLC)
    wired = [
        _ADDRESSES + b"\x08\x00" + _IP,
        _ADDRESSES + len(llc).to_bytes(2, "big") + llc + bytes(rng.choice((0, 3))),
        _ADDRESSES + b"\x81\x00\x00\x05\x88\xa8\x00\x06\x08\x00" + _IP,
        _ADDRESSES + b"\xd2\x8b\x00\x01\x00\x10" + bytes(8) + b"\x08\x00" + _IP,
        _ADDRESSES + b"\x88\x70" + llc,
    ]
    control = [bytes([subtype << 4 | 4, 0]) + bytes(18) for subtype in (7, 8, 9, 10, 11, 12, 13, 14, 15)]
    wireless = [
        b"\x08\x00" + bytes(22) + _SNAP + _IP,
        b"\x88\x03" + bytes(30) + _SNAP + _IP,
        b"\x48\x01" + bytes(22),
        b"\x08\x41" + bytes(22) + rng.randbytes(30),
        b"\xc0\x00" + bytes(22) + b"\x07\x00",
        *control,
    ]
    match linktype:
        case 1:
            return wired
        case 240:
            return [bytes(4) + frame for frame in wired]
        case 241:
            return [bytes(12) + frame for frame in wired]
        case 6:
            routed = b"\x10\x40" + bytes(6) + b"\x82" + bytes(5) + b"\x06\x30" + bytes(4)
            return [b"\x10\x40" + _ADDRESSES + _SNAP + _IP, routed + _SNAP + _IP]
        case 10:
            return [b"\x50" + _ADDRESSES + llc]
        case 11:
            return [_SNAP + _IP, bytes(20) + _SNAP + _IP]
        case 19:
            return [_SNAP + _IP, _IP]
        case 105:
            return wireless
        case 127:
            head = b"\x00\x00\x18\x00\x03\x00\x00\x00" + bytes(8)
            return [
                *(b"\x00\x00\x08\x00\x00\x00\x00\x00" + frame for frame in wireless),
                *(head + b"\x10" + bytes(7) + frame + b"fcs!" for frame in wireless),
                *(b"\x00\x00\x0c\x00\x02\x00\x00\x80" + bytes(4) + frame for frame in wireless[:2]),
            ]
        case 163:
            return [b"\x80\x21\x10\x01" + (64).to_bytes(4, "big") + bytes(56) + frame for frame in wireless]
        case 119:
            return [bytes(144) + frame for frame in wireless]
        case 192:
            return [
                struct.pack("<BBHI", 0, 0, 8, 105) + wireless[0],
                struct.pack("<BBHI", 0, 0, 8, 1) + wired[0],
            ]
        case 258:
            return [struct.pack("<III", 108, 1, 1) + bytes(96) + wired[0]]
        case 122:
            return [bytes(16) + llc]
        case 107:
            return [
                b"\x18\x41\x03\xcc" + _IP,
                b"\x18\x41\x08\x00" + _IP,
                b"\x18\x40\x40\x05\x03\x00\xcc" + _IP,
            ]
        case 104:
            return [b"\x0f\x00\x08\x00" + _IP]
        case 113:
            cooked = struct.pack(">HHH8s", 0, 1, 6, bytes(8))
            return [
                cooked + b"\x08\x00" + _IP,
                cooked + b"\x81\x00\x00\x05\x08\x00" + _IP,
                cooked + b"\x00\x04" + llc,
            ]
        case 276:
            cooked = struct.pack(">HIHBB8s", 0, 1, 1, 0, 6, bytes(8))
            return [b"\x08\x00" + cooked + _IP, b"\x00\x04" + cooked + llc]
        case 7:
            return [
                b"\x01\x02\xf0" + _IP,
                b"\x01\x02\xd4\x00\x00\x01" + _IP,
                b"\x01\x02\xd4\xff\x00\x00\xff\x00\x00\x01" + _IP,
            ]
        case 129:
            return [bytes(4) + b"\xf0" + _IP, bytes(4) + b"\xd4\x00\x00\x01" + _IP]
        case 50:
            return [b"\xff\x03\x00\x21" + _IP, b"\x0f\x00\x08\x00" + _IP, b"\x11\x22\x33\x44" + bytes(8)]
        case 51:
            size = len(_IP) + 2
            return [b"\x11\x00\x00\x05" + size.to_bytes(2, "big") + b"\x00\x21" + _IP]
        case 117:
            return [b"\x3d\x02" + bytes(62) + _IP]
        case 178:
            return [b"MGC\x00" + frame for frame in wired] + [b"MGC\x80\x00\x04\x01\x02\x00\x01" + wired[0]]
        case 281 | 284:
            return [frame[:12] + bytes(4) + frame[12:] for frame in wired[:3]]
        case 285:
            return [frame[:12] + bytes(8) + frame[12:] for frame in wired[:3]]
        case 282:
            return [bytes(4) + frame for frame in wired]
        case _:
            return [bytes(100) + _IP]


LINKTYPES = (
    *(
        0,
        1,
        6,
        7,
        8,
        9,
        10,
        11,
        12,
        15,
        19,
        50,
        51,
        99,
        104,
        105,
        107,
        108,
        109,
        113,
        114,
        117,
        119,
        122,
        127,
    ),
    *(129, 138, 163, 166, 178, 192, 201, 226, 228, 229, 240, 241, 242, 258, 271, 276, 281, 282, 284, 285),
)


def theirs(path: Path) -> list[tuple[str, int | None]]:
    """(text, bytes dumped by -x) of each packet of a capture; None where that cannot be told."""
    done = subprocess.run([tool("tcpdump"), "-nttx", "-r", str(path)], capture_output=True, timeout=60)
    found: list[tuple[str, int | None]] = []
    for part in _PACKET.split(done.stdout.decode("latin-1"))[1:]:
        size: int | None = 0
        for match in _DUMPED.finditer(part):
            if match[1] == "0000":
                size = 0
            assert size is not None
            size += len(match[2].replace(" ", "")) // 2
        # An unknown protocol's bytes are shown without -x, too, with characters beside them.
        unsure = "[|" in part or (not size and "\t0x" in part)
        found.append((part.partition("\n")[0], None if unsure else size))
    return found


@pytest.mark.oracle
@pytest.mark.parametrize("linktype", LINKTYPES)
def test_made_up_frames(linktype: int, tmp_path: Path) -> None:
    number = seed()
    rng = random.Random(number * 1000 + linktype)
    made = [frame for _ in range(3) for frame in frames(linktype, rng)]
    made += [frame[: rng.randrange(1, len(frame) + 1)] for frame in made]
    path = tmp_path / "in.pcap"
    head = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, linktypes.to_file(linktype))
    path.write_bytes(
        head + b"".join(struct.pack("<IIII", 1, 0, len(frame), len(frame)) + frame for frame in made)
    )
    told = compared = 0
    for frame, (line, dumped) in zip(made, theirs(path), strict=True):
        told += 1
        if dumped is not None:
            compared += 1
            left = max(0, len(frame) - link_length(frame, linktype, len(frame)))
            assert left == dumped, (number, linktype, frame.hex(), line)
    assert told == len(made)
    assert compared, "every frame was cut short to tcpdump"


@pytest.mark.oracle
def test_captures() -> None:
    """Every packet of small captures; those that a dissector found too short tell nothing."""
    compared: dict[int, int] = {}
    for path in sorted(captures().iterdir()):
        if (
            path.suffix not in {".pcap", ".pcapng"}
            or path.stat().st_size > 20_000
            or "timestamp_invalid" in path.name
        ):
            continue
        answers = theirs(path)
        try:
            with skep.capture.open(str(path)) as reader:
                for packet, (line, dumped) in zip(reader, answers, strict=False):
                    data = bytes(packet.data)
                    if dumped is None or line.startswith("[Invalid"):
                        continue
                    compared[packet.linktype] = compared.get(packet.linktype, 0) + 1
                    left = max(0, len(data) - link_length(data, packet.linktype, packet.wirelen))
                    assert left == dumped, (path.name, line, data[:40].hex())
        except CaptureError:
            continue
    assert sum(compared.values()) > 1000
    assert len(compared) > 15


def test_ip_is_found_behind_every_header(tmp_path: Path) -> None:
    """Where tcpdump sees the addresses and ports of UDP, so does the line printed here; and nowhere else."""
    found = set()
    for linktype in LINKTYPES:
        if linktype in (99, 138, 166, 201, 220, 271):
            continue  # no frames of these types are made
        rng = random.Random(linktype)
        made = [frame for frame in frames(linktype, rng) if _IP in frame]
        if linktype == 1:  # Arista's time stamps and jumbo frames are named by their EtherType
            made = [frame for frame in made if frame[12:14] not in (b"\xd2\x8b", b"\x88\x70")]
        path = tmp_path / "in.pcap"
        head = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, linktypes.to_file(linktype))
        path.write_bytes(
            head + b"".join(struct.pack("<IIII", 1, 0, len(frame), len(frame)) + frame for frame in made)
        )
        for frame, (line, _) in zip(made, theirs(path), strict=True):
            if "10.0.0.1.12345 > 10.0.0.2.12346" in line:
                ours = summary(frame, len(frame), linktype)
                assert (
                    ours.removeprefix("if1   In  ") == "IP 10.0.0.1.12345 > 10.0.0.2.12346: UDP, length 4"
                ), (linktype, line, ours)
                found.add(linktype)
                broken = frame.replace(_IP, _IP[:10] + b"\0\0" + _IP[12:])
                if linktype not in (0, 1, 12, 108, 113, 228, 229, 276):
                    assert "IP " not in summary(broken, len(broken), linktype)
    assert len(found) > 20, found
