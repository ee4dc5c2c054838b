"""Damage everywhere: cut at each byte, each byte changed, random bytes. libpcap decides what is damage."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from tests.capture import offline
from tests.capture.build import SEED, block, epb, idb, pb, pcap_header, pcap_record, rng, shb, spb
from tests.capture.common import Read, agree, records, wrapped
from tests.capture.offline import NANO

#: refusals of libpcap that skep does not share: see docs/captures.md
BEYOND_LIBPCAP = (
    "different byte orders",
    "different from the type of the first interface",
    "different from the snapshot length of the first interface",
)


def small_pcap(order: str, magic: int = 0xA1B2C3D4) -> bytes:
    header = 24 if magic == 0xA1B2CD34 else 16
    parts = [pcap_header(order, magic, snaplen=100)]
    parts += [
        pcap_record(order, 5, 6, size, size + 1, bytes(range(size)), header=header)
        for size in (3, 0, 20, 110)
    ]
    return b"".join(parts)


def small_pcapng(order: str) -> bytes:
    return b"".join(
        (
            shb(order, (1, b"comment")),
            idb(order, (9, b"\x09"), (14, bytes(8)), snaplen=100),
            epb(order, b"hello", (1, b"comment"), stamp=5),
            spb(order, b"simple", 6),
            block(order, 5, bytes(12)),
            pb(order, b"old one", stamp=77),
            shb(order),
            idb(order, snaplen=100),
            idb(order, (9, b"\x8a"), snaplen=100),
            epb(order, b"second", interface=1, stamp=1025),
        )
    )


FILES = {
    "pcap le": small_pcap("<"),
    "pcap be": small_pcap(">"),
    "pcap ns": small_pcap("<", 0xA1B23C4D),
    "pcap modified": small_pcap(">", 0xA1B2CD34),
    "pcapng le": small_pcapng("<"),
    "pcapng be": small_pcapng(">"),
}


def judge(data: bytes, name: str) -> None:
    """libpcap's packets and verdict, but for the refusals that skep does not share."""
    oracle, read = offline.read(data), Read(data)
    # At a section of the other byte order libpcap takes the length in the old order, and says various things.
    mixed = len({found.byteorder for found in read.blocks}) == 2
    if oracle.error and (mixed or any(text in oracle.error for text in BEYOND_LIBPCAP)):
        assert wrapped(records(read.packets, NANO))[: len(oracle.records)] == wrapped(oracle.records), name
    else:
        agree(read, oracle, NANO)


@pytest.mark.oracle
@pytest.mark.parametrize("name", FILES)
def test_cut_at_every_byte(name: str) -> None:
    data = FILES[name]
    assert not Read(data).error
    for end in range(len(data)):
        judge(data[:end], name)


@pytest.mark.oracle
@pytest.mark.parametrize("name", FILES)
def test_every_byte_changed(name: str) -> None:
    data = FILES[name]
    random = rng("changed", name)
    for place in range(len(data)):
        for value in {0, 0xFF, data[place] ^ 1, data[place] ^ 0x80, random.randrange(256)}:
            judge(data[:place] + bytes((value,)) + data[place + 1 :], name)


@pytest.mark.oracle
@pytest.mark.parametrize("name", FILES)
@seed(SEED)
@settings(max_examples=150, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(edits=st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=6), st.integers(0, 8)), max_size=6))
def test_edits(name: str, edits: list[tuple[float, bytes, int]]) -> None:
    """Pieces put in, taken out and overwritten."""
    data = FILES[name]
    for where, put, taken in edits:
        place = int(where * len(data))
        data = data[:place] + put + data[place + taken :]
    judge(data, name)


@seed(SEED)
@settings(max_examples=150, deadline=None, database=None)
@given(
    data=st.binary(max_size=300),
    start=st.sampled_from([b"", b"\x1f\x8b", b"\xd4\xc3\xb2\xa1\2\0\4\0", b"\n\r\r\n"]),
)
def test_random_bytes(data: bytes, start: bytes) -> None:
    """Nothing but `CaptureError` comes out of them (`Read` lets everything else through)."""
    Read(start + data)


LIES = {
    "pcap": pcap_header("<", 0xA1B2C3D4, link=231, snaplen=0)
    + pcap_record("<", 0, 0, 128 << 20, 1, bytes(99)),
    "pcapng": shb("<") + idb("<", linktype=231, snaplen=0) + b"\6\0\0\0" + (100 << 20).to_bytes(4, "little"),
    "pcapng, 4 GiB": shb("<") + idb("<") + b"\6\0\0\0\xfc\xff\xff\xff",
    "gzip": b"\x1f\x8b\x08" + bytes(100),
    "xz": b"\xfd7zXZ\0" + bytes(100),
    "zstd": b"\x28\xb5\x2f\xfd\xff" + b"\xff" * 100,
}


@pytest.mark.parametrize("name", LIES)
def test_memory_follows_the_file_not_its_claims(name: str, tmp_path: Path) -> None:
    """Read under a limit of 64 MiB of further memory, on a file that claims more."""
    path = tmp_path / "lie"
    path.write_bytes(LIES[name])
    code = (
        "import sys, skep.capture as c\n"
        "from skep.errors import CaptureError\n"
        "import skep.capture.pcapng, zlib, lzma, zstandard\n"
        "try:\n"
        "    for _ in c.open(sys.argv[1]): pass\n"
        "except CaptureError as error: print(error)\n"
    )

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_DATA, (64 << 20, 64 << 20))

    run = subprocess.run(
        [sys.executable, "-c", code, path],
        capture_output=True,
        text=True,
        preexec_fn=limit,
        env={**os.environ, "PYTHONMALLOC": "malloc"},
        check=False,
    )
    assert run.stderr == ""
    assert run.stdout.startswith(str(path))
    assert run.stdout.count("\n") == 1
