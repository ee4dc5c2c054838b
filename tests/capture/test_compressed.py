"""Compressed captures: members and frames in a row, damage anywhere, bombs."""

from __future__ import annotations

import bz2
import gzip
import io
import itertools
import lzma
import struct
import subprocess
import sys
import tracemalloc
import zlib
from collections.abc import Callable

import pytest
import zstandard

import skep.capture as capture
from tests.capture.build import frame, pcap_header, pcap_record, rng
from tests.capture.common import Read


def pcap(count: int, salt: object = 0) -> bytes:
    random = rng("compressed", salt)
    parts = [pcap_header("<", 0xA1B2C3D4)]
    for number in range(count):
        data = frame(random)
        parts.append(pcap_record("<", number, 0, len(data), len(data), data))
    return b"".join(parts)


def zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(write_checksum=True).compress(data)


def zstd_streamed(data: bytes) -> bytes:
    """A frame without its size in front, as a pipe makes it."""
    return zstandard.ZstdCompressor(level=1, write_content_size=False).compress(data)


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "zstd": zstd,
    "zstd streamed": zstd_streamed,
    "xz": lzma.compress,
    "bzip2": bz2.compress,
}


@pytest.mark.parametrize("name", PACKERS)
@pytest.mark.parametrize("size", [1, 3, 1000, 1 << 18])
def test_whole(name: str, size: int) -> None:
    data = pcap(40 if size < 10 else 2000)
    plain = Read(data)
    assert not plain.error
    read = Read(PACKERS[name](data), size=size)
    assert not read.error
    assert read.packets == plain.packets
    assert read.reader
    assert read.reader.compression == name.split()[0]


@pytest.mark.parametrize("name", PACKERS)
def test_several_in_a_row(name: str) -> None:
    data = pcap(300)
    cuts = [0, 10, 24, 5000, 5001, len(data)]
    pieces = [PACKERS[name](data[start:end]) for start, end in itertools.pairwise(cuts)]
    if name == "zstd":
        pieces.insert(2, b"\x5a\x2a\x4d\x18" + struct.pack("<I", 7) + b"skipped")
    if name == "xz":
        pieces.insert(2, bytes(8))
    if name in {"gzip", "bzip2"}:
        pieces.append(b"anything behind is ignored")
    read = Read(b"".join(pieces), size=777)
    assert not read.error
    assert read.packets == Read(data).packets


def test_zstd_that_begins_with_a_skippable_frame() -> None:
    data = pcap(3)
    read = Read(b"\x50\x2a\x4d\x18" + struct.pack("<I", 3) + b"abc" + zstd(data))
    assert not read.error
    assert len(read.packets) == 3


@pytest.mark.parametrize("name", PACKERS)
def test_cut_anywhere(name: str) -> None:
    """Cut short: an error, and never a packet that was not there; gzip and zstd lose nothing before it."""
    data = pcap(120)
    packed, whole = PACKERS[name](data), Read(data).packets
    for end in range(6, len(packed) - 1, 97):
        read = Read(packed[:end])
        assert read.error, end
        assert read.packets == whole[: len(read.packets)]
        if name == "gzip":
            there = len(zlib.decompressobj(31).decompress(packed[:end]))
            assert len(read.packets) == len(Read(data[:there]).packets)


@pytest.mark.parametrize("name", ["gzip", "zstd", "xz", "bzip2"])
def test_flipped_anywhere(name: str) -> None:
    """A flipped bit that changes anything is found, by a checksum at the latest."""
    data = pcap(60)
    packed, whole = PACKERS[name](data), Read(data).packets
    random = rng("flip", name)
    for _ in range(60):
        place = random.randrange(8, len(packed))
        damaged = bytearray(packed)
        damaged[place] ^= 1 << random.randrange(8)
        read = Read(bytes(damaged))
        assert read.error or read.packets == whole, place


def test_gzip_delivers_everything_before_a_wrong_checksum() -> None:
    data = pcap(500)
    packed = bytearray(gzip.compress(data))
    packed[-6] ^= 1
    read = Read(bytes(packed))
    assert read.packets == Read(data).packets
    assert read.error
    assert "gzip" in str(read.error)


def test_zstd_delivers_every_block_before_the_damage() -> None:
    """Incompressible blocks of 128 KiB each; the third one's header is spoiled."""
    random = rng("zstd blocks")
    size = 1000
    records = [pcap_record("<", number, 0, size, size, random.randbytes(size)) for number in range(500)]
    data = b"".join([pcap_header("<", 0xA1B2C3D4), *records])
    packed = bytearray(zstd(data))
    # Frame header of 4 + 1 + 4 (size) bytes, then blocks with 3-byte headers.
    place = 4 + 1 + 4
    if packed[4] >> 5 & 1 == 0:
        place += 1
    for _ in range(2):
        place += 3 + (int.from_bytes(packed[place : place + 3], "little") >> 3)
    packed[place] |= 6
    read = Read(bytes(packed))
    assert read.error
    assert len(read.packets) == (2 * (1 << 17) - 24) // (size + 16)


@pytest.mark.parametrize("name", ["gzip", "zstd", "xz", "bzip2"])
def test_bombs_stay_small(name: str) -> None:
    """Hundreds of megabytes of zeros in a small file: read as records, never held."""
    head = pcap_header("<", 0xA1B2C3D4)
    size = 200 << 20 if name != "bzip2" else 40 << 20
    stream: io.BytesIO = io.BytesIO()
    zeros = bytes(1 << 20)
    pack = {
        "gzip": lambda: zlib.compressobj(9, wbits=31),
        "zstd": lambda: zstandard.ZstdCompressor().compressobj(),
        "xz": lambda: lzma.LZMACompressor(preset=0),
        "bzip2": lambda: bz2.BZ2Compressor(),
    }[name]()
    stream.write(
        pack.compress(head + pcap_record("<", 0, 0, 3, 3, b"abc") + struct.pack("<IIII", 0, 0, 9, 9))
    )
    for _ in range(size >> 20):
        stream.write(pack.compress(zeros))
    stream.write(pack.flush())
    packed = stream.getvalue()
    tracemalloc.start()
    try:
        count = 0
        with capture.open(io.BytesIO(packed)) as reader:
            for _ in reader:
                count += 1
                if count > 50_000:
                    break
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count > 50_000
    assert peak < 24 << 20


@pytest.mark.parametrize("magic, name", [(b"\x04\x22\x4d\x18", "lz4"), (b"\x1f\x9d", "compress")])
def test_named_when_not_supported(magic: bytes, name: str) -> None:
    error = Read(magic + bytes(100)).error
    assert error
    assert name in str(error)


def test_zstd_library_missing(tmp_path: object) -> None:
    path = f"{tmp_path}/a.zst"
    with open(path, "wb") as file:
        file.write(zstd(pcap(1)))
    code = (
        "import sys; sys.modules['zstandard'] = None\n"
        "from skep.errors import MissingDependency\n"
        "import skep.capture as c\n"
        f"try: c.open({path!r})\n"
        "except MissingDependency as error: print(error.extra, error)\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.startswith("zstd ")
    assert "skep[zstd]" in run.stdout


def test_no_capture_inside() -> None:
    error = Read(gzip.compress(b"hello, this is no capture")).error
    assert error
    assert "not a pcap" in str(error)
