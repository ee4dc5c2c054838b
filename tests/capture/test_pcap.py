"""pcap files against libpcap: every combination of what a header can say, and records that lie."""

from __future__ import annotations

import itertools
import os
import struct
from pathlib import Path

import pytest

import skep.capture as capture
from skep.capture import linktypes
from skep.errors import CaptureError, SkepError
from tests.capture import offline
from tests.capture.build import PCAP_MAGICS, frame, pcap_header, pcap_record, rng
from tests.capture.common import Read, agree
from tests.capture.offline import MICRO, NANO

VERSIONS = [(2, 0), (2, 1), (2, 2), (2, 3), (2, 4), (543, 0)]
REFUSED_VERSIONS = [(1, 4), (2, 5), (3, 0), (0, 0), (543, 1), (544, 0)]
SNAPLENS = [0, 1, 60, 65535, 262144, 262145, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]
LINKS = [
    0,
    1,
    12,
    19,
    101,
    100,
    106,
    113,
    147,
    228,
    231,
    249,
    276,
    290,
    65535,
    0x03FFFFFF,
    0x14000001,
    0xF8000065,
]


def sample(order: str, magic: int, version: tuple[int, int], snaplen: int, link: int) -> bytes:
    """A file of a dozen records: times sane and not, lengths in both orders."""
    random = rng(order, magic, version, snaplen, link)
    units, header = PCAP_MAGICS[magic]
    parts = [pcap_header(order, magic, version, snaplen, link)]
    for number in range(12):
        data = frame(random)
        wirelen = len(data) + random.choice((0, 0, 0, 1, 1000))
        sec = random.choice((0, 1, 1_700_000_000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF))
        # Sane fractions, and some beyond the second (below 2**31, see wrapped()).
        frac = random.choice((0, 1, units - 1, random.randrange(units), random.randrange(units, 1 << 31)))
        lengths = (wirelen, len(data)) if version[0] == 543 or version[1] < 3 else (len(data), wirelen)
        if version == (2, 3) and number % 2:
            lengths = lengths[::-1]
        parts.append(pcap_record(order, sec, frac, *lengths, data, header=header))
    return b"".join(parts)


@pytest.mark.oracle
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("magic", PCAP_MAGICS, ids=hex)
@pytest.mark.parametrize("version", VERSIONS)
def test_matrix(order: str, magic: int, version: tuple[int, int]) -> None:
    pairs = list(itertools.product(SNAPLENS, LINKS))
    for snaplen, link in rng("pairs", order, magic, version).sample(pairs, 30):
        data = sample(order, magic, version, snaplen, link)
        for precision in (MICRO, NANO):
            oracle = offline.read(data, precision)
            read = Read(data, size=97 if precision == MICRO else 1 << 18)
            agree(read, oracle, precision)
            assert not oracle.error
            assert len(read.packets) == 12
            assert read.reader
            assert (read.reader.linktype, read.reader.snaplen) == (oracle.linktype, oracle.snaplen)
            layout = read.reader.layout
            assert layout
            assert layout.fcs | linktypes.to_file(layout.linktype) == link & ~0x03FFFFFF | linktypes.to_file(
                linktypes.from_file(link & 0x03FFFFFF)
            )


@pytest.mark.oracle
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("version", REFUSED_VERSIONS)
def test_refused_versions(order: str, version: tuple[int, int]) -> None:
    data = pcap_header(order, 0xA1B2C3D4, version) + pcap_record(order, 1, 2, 3, 3, b"abc")
    assert offline.read(data).error
    error = Read(data).error
    assert error is not None
    assert f"{version[0]}.{version[1]}" in str(error)


@pytest.mark.oracle
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("magic", [0xA1B234CD, 0xA12B3C4D, 0xA1B2C3D5])
def test_refused_magics(order: str, magic: int) -> None:
    data = pcap_header(order, magic) + pcap_record(order, 1, 2, 3, 3, b"abc")
    assert offline.read(data).error
    assert Read(data).error is not None


@pytest.mark.oracle
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("magic", PCAP_MAGICS, ids=hex)
@pytest.mark.parametrize("snaplen", [0, 96, 262144, 300_000, 0x7FFFFFFF])
@pytest.mark.parametrize("link", [1, 231, 249, 279])
def test_lying_lengths(order: str, magic: int, snaplen: int, link: int) -> None:
    """Captured lengths around every limit, with and without the bytes they promise."""
    _, header = PCAP_MAGICS[magic]
    good = pcap_record(order, 1, 2, 60, 60, bytes(60), header=header)
    for caplen in (
        96,
        97,
        262144,
        262145,
        300_001,
        1 << 20,
        (1 << 20) + 1,
        (8 << 20) + 1,
        0x7FFFFFFF,
        0xFFFFFFFF,
    ):
        for present in {0, 50, min(caplen, 2 << 20)}:
            lie = pcap_record(order, 3, 4, caplen, 9, bytes(present), header=header)
            data = pcap_header(order, magic, snaplen=snaplen, link=link) + good + lie
            if present == caplen:
                data += good
            read = Read(data)
            agree(read, offline.read(data), NANO)
            if read.error:
                assert len(read.packets) == 1
                assert read.error.offset == 24 + len(good)


@pytest.mark.oracle
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("magic", PCAP_MAGICS, ids=hex)
def test_every_truncation(order: str, magic: int) -> None:
    data = sample(order, magic, (2, 4), 65535, 1)[:700]
    for end in range(len(data)):
        agree(Read(data[:end], size=50), offline.read(data[:end]), NANO)


@pytest.mark.parametrize("seconds, fraction", [(5, 1_999_999), (0xFFFFFFFF, 0x7FFFFFFF), (7, 999_999)])
def test_time(seconds: int, fraction: int) -> None:
    """Times are whole nanoseconds; a fraction of more than a second counts as what it says."""
    data = pcap_header("<", 0xA1B2C3D4) + pcap_record("<", seconds, fraction, 1, 1, b"x")
    (packet,) = Read(data).packets
    assert packet.time_ns == seconds * 10**9 + fraction * 1000


def test_layout(tmp_path: Path) -> None:
    path = tmp_path / "a.pcap"
    path.write_bytes(sample(">", 0xA1B23C4D, (2, 3), 96, 0x14000065))
    layout = capture.layout(path)
    assert layout == ("big", 10**9, 16, 2, (2, 3), 96, 262144, 12, 0x14000000, False)
    assert not layout.plain
    fd = os.open(path, os.O_RDONLY)
    try:
        assert capture.layout(fd) == layout
        assert os.lseek(fd, 0, os.SEEK_CUR) == 0
    finally:
        os.close(fd)
    path.write_bytes(b"\x1f\x8b" + bytes(100))
    assert capture.layout(path) is None
    path.write_bytes(b"")
    assert capture.layout(path) is None
    reading, writing = os.pipe()
    try:
        assert capture.layout(reading) is None
    finally:
        os.close(reading)
        os.close(writing)
    path.write_bytes(struct.pack("<I", 0xA1B2C3D4))
    with pytest.raises(CaptureError):
        capture.layout(path)


def test_closed_and_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        capture.open(f"{tmp_path}/none.pcap")
    with pytest.raises(IsADirectoryError) as caught:
        capture.open(str(tmp_path))
    assert caught.value.filename == str(tmp_path)
    path = f"{tmp_path}/a.pcap"
    with open(path, "wb") as file:
        file.write(pcap_header("<", 0xA1B2C3D4))
    reader = capture.open(path)
    reader.close()
    with pytest.raises(SkepError, match="closed"):
        list(reader)
