"""What the writers write, read back by tcpdump, tshark and skep."""

from __future__ import annotations

import io
import os
import resource
import signal
import struct
import subprocess
import sys
from pathlib import Path

import pytest

import skep.capture as capture
from skep.capture import Packet, PcapngWriter, PcapWriter
from skep.errors import CaptureError
from tests.capture import offline
from tests.capture.build import block, epb, frame, idb, pb, pcap_header, pcap_record, rng, shb, spb
from tests.capture.common import Read, records
from tests.capture.offline import MICRO, NANO
from tests.support.oracles import tool


def packets(count: int = 50, linktype: int = 1) -> list[Packet]:
    random = rng("packets", linktype)
    made = []
    for _ in range(count):
        data = frame(random)
        made.append(Packet(data, len(data) + random.randrange(3), random.getrandbits(60), linktype))
    return made


@pytest.mark.oracle
@pytest.mark.parametrize("order", ["little", "big"])
@pytest.mark.parametrize("precision", [6, 9])
@pytest.mark.parametrize("linktype", [1, 12, 19, 113])
def test_pcap(order: str, precision: int, linktype: int) -> None:
    made, out = packets(linktype=linktype), io.BytesIO()
    with PcapWriter(
        out, linktype=linktype, snaplen=1514, precision=precision, byteorder=order, fcs=0x14000000
    ) as writer:
        for packet in made:
            writer.write(packet)
    data = out.getvalue()
    oracle = offline.read(data, MICRO if precision == 6 else NANO)
    assert not oracle.error
    assert (oracle.linktype, oracle.snaplen) == (linktype, 1514)
    assert oracle.records == records(made, MICRO if precision == 6 else NANO)
    read = Read(data)
    assert read.reader
    assert read.reader.byteorder == order
    assert read.reader.precision == precision
    if precision == 9:
        assert read.packets == made


def test_pcap_refuses_a_second_link_type() -> None:
    with pytest.raises(CaptureError, match="one link type"), PcapWriter(io.BytesIO(), linktype=1) as writer:
        writer.write(Packet(b"", 0, 0, 12))


@pytest.mark.oracle
@pytest.mark.parametrize("order", ["little", "big"])
@pytest.mark.parametrize("precision", [3, 6, 9])
def test_pcapng_of_our_own(order: str, precision: int, tmp_path: Path) -> None:
    made = packets()
    path = tmp_path / "own.pcapng"
    with PcapngWriter(path, precision=precision, byteorder=order) as writer:  # type: ignore[arg-type]
        number = writer.interface(1, snaplen=2000, name="eth7", description="the seventh")
        for packet in made:
            writer.write(packet, interface=number, comments=["größer"])
    oracle = offline.read(path.read_bytes())
    assert not oracle.error
    assert oracle.snaplen == 2000
    step = 10 ** (9 - precision)
    expected = [packet._replace(time_ns=packet.time_ns // step * step) for packet in made]
    assert oracle.records == records(expected, NANO)
    run = subprocess.run(
        [tool("tshark"), "-r", path, "-T", "fields", "-e", "frame.comment", "-e", "frame.interface_name"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert set(run.stdout.splitlines()) == {"größer\teth7"}


def test_pcapng_holds_several_link_types() -> None:
    made = [packet for pair in zip(packets(), packets(linktype=12), strict=True) for packet in pair]
    out = io.BytesIO()
    with PcapngWriter(out) as writer:
        for packet in made:
            writer.write(packet)
    read = Read(out.getvalue())
    assert not read.error
    assert [(p.data, p.wirelen, p.time_ns, p.linktype) for p in read.packets] == [p[:4] for p in made]
    assert read.reader
    assert [interface.linktype for interface in read.reader.interfaces] == [1, 12]


def source(order: str) -> bytes:
    """A section with blocks of every kind around its packets."""
    flags = (2, struct.pack(order + "I", 0x1234))
    return b"".join(
        (
            shb(order, (1, b"section"), length=4000),
            block(order, 4, struct.pack(order + "HH", 0, 0)),
            idb(order, (2, b"lo"), (9, b"\x8a"), linktype=1, snaplen=0),
            epb(order, b"one", (1, b"first"), flags, (2988, struct.pack(order + "I", 9) + b"x"), stamp=5000),
            block(order, 10, struct.pack(order + "II", 0x544C534B, 4) + b"key\n"),
            pb(order, b"two", (1, b"second"), stamp=7000),
            spb(order, b"three", 5),
            idb(order, (2, b"raw"), linktype=101),
            epb(order, b"four", interface=1, stamp=9),
            block(order, 5, struct.pack(order + "III", 0, 0, 0)),
            block(order, 0x80001234, b"vendor  "),
        )
    )


def copied(data: bytes) -> bytes:
    out = io.BytesIO()
    with capture.open(io.BytesIO(data)) as reader, PcapngWriter(out) as writer:
        for item in reader.items():
            writer.write(item)
    return out.getvalue()


def test_copy_keeps_every_block() -> None:
    for orders in ("<", ">", "<>", "><<"):
        data = b"".join(map(source, orders))
        at, expected = 0, bytearray(data)
        for order in orders:
            expected[at + 16 : at + 24] = b"\xff" * 8
            at += len(source(order))
        assert copied(data) == bytes(expected)


@pytest.mark.parametrize("order", "<>")
def test_copy_of_changed_packets(order: str) -> None:
    """A cut packet, and one with a comment added, keep the section, the options and the interface."""
    out = io.BytesIO()
    with capture.open(io.BytesIO(source(order))) as reader, PcapngWriter(out) as writer:
        for item in reader.items():
            if isinstance(item, Packet):
                writer.write(item._replace(data=item.data[:2]), comments=["cut"])
            else:
                writer.write(item)
    before, after = Read(source(order)), Read(out.getvalue())
    assert not after.error
    assert [found.raw for found in after.blocks[1:]] == [found.raw for found in before.blocks[1:]]
    for old, new in zip(before.packets, after.packets, strict=True):
        assert new[:6] == (old.data[:2], old.wirelen, old.time_ns, old.linktype, old.interface, new.block)
        assert new.options == [*old.options, (1, b"cut")]


@pytest.mark.parametrize("order", "<>")
def test_packets_without_their_section(order: str) -> None:
    """Only packets written: a section of the writer's own, options kept and turned to its byte order."""
    out = io.BytesIO()
    with capture.open(io.BytesIO(source(order))) as reader, PcapngWriter(out, byteorder="little") as writer:
        for packet in reader:
            writer.write(packet)
    before, after = Read(source(order)), Read(out.getvalue())
    assert not after.error
    assert [packet[:4] for packet in after.packets] == [packet[:4] for packet in before.packets]
    assert after.packets[0].options == [
        (1, b"first"),
        (2, struct.pack("<I", 0x1234)),
        (2988, struct.pack("<I", 9) + b"x"),
    ]
    assert after.packets[1].comments == ["second"]


def test_pcap_after_pcapng_begins_a_section() -> None:
    out = io.BytesIO()
    with capture.open(io.BytesIO(source(">"))) as reader, PcapngWriter(out, byteorder="little") as writer:
        for item in reader.items():
            writer.write(item)
        for packet in packets(3):
            writer.write(packet)
        for item in Read(source("<")).blocks[:1]:
            writer.write(item)
    read = Read(out.getvalue())
    assert not read.error
    assert len(read.packets) == 4 + 3
    assert [found.type for found in read.blocks].count(0x0A0D0D0A) == 3


def test_pcapng_writer_refuses() -> None:
    writer = PcapngWriter(io.BytesIO())
    with pytest.raises(CaptureError, match="section header"):
        writer.write(Read(source("<")).blocks[2])
    with pytest.raises(CaptureError, match="has not been described"):
        writer.write(packets(1)[0], interface=3)
    number = writer.interface(12)
    with pytest.raises(CaptureError, match="RAW"):
        writer.write(packets(1)[0], interface=number)
    with pytest.raises(CaptureError, match="16 bits"):
        writer.interface(1 << 16)
    with pytest.raises(CaptureError, match="does not fit"):
        writer.write(Packet(b"", 0, -1, 1))
    with pytest.raises(CaptureError, match="byte order"):
        writer.write(Read(source(">")).blocks[1])
    with pytest.raises(CaptureError):
        PcapngWriter(io.BytesIO(), precision=20)
    with pytest.raises(CaptureError):
        PcapWriter(io.BytesIO(), linktype=1, precision=7)


def test_an_empty_pcapng_has_its_section() -> None:
    out = io.BytesIO()
    PcapngWriter(out).close()
    assert out.getvalue().startswith(b"\n\r\r\n")


def test_a_damaged_input_leaves_a_whole_output(tmp_path: Path) -> None:
    data = pcap_header("<", 0xA1B2C3D4) + b"".join(
        pcap_record("<", 1, 2, 100, 100, bytes(100)) for _ in range(5000)
    )
    path = tmp_path / "out.pcap"
    with (
        pytest.raises(CaptureError),
        capture.open(io.BytesIO(data[:-50])) as reader,
        PcapWriter.like(path, reader) as writer,
    ):
        for packet in reader:
            writer.write(packet)
    read = Read(path.read_bytes())
    assert not read.error
    assert len(read.packets) == 4999


FULL = """
import sys
import skep.capture as c
path, form = sys.argv[1:]
with c.PcapWriter(path, linktype=1) if form == "pcap" else c.PcapngWriter(path) as writer:
    for number in range(10000):
        writer.write(c.Packet(bytes(1000), 1000, number, 1))
"""


@pytest.mark.parametrize("form", ["pcap", "pcapng"])
def test_a_full_disk_leaves_a_whole_output(form: str, tmp_path: Path) -> None:
    """A size limit in place of a full disk: records that fit are kept, and the error names the file."""
    path = tmp_path / "out.pcap"

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_003, 1_000_003))

    run = subprocess.run(
        [sys.executable, "-c", FULL, path, form],
        capture_output=True,
        text=True,
        preexec_fn=limit,
        check=False,
    )
    assert run.returncode == 1
    assert str(path) in run.stderr.splitlines()[-1]
    read = Read(path.read_bytes())
    assert not read.error
    size = path.stat().st_size
    record = 1000 + (16 if form == "pcap" else 32)
    assert size <= 1_000_003 < size + record
    assert len(read.packets) > 960


def test_targets(tmp_path: Path) -> None:
    made, path = packets(5), tmp_path / "a.pcap"
    with PcapWriter(path, linktype=1, precision=9) as writer:
        for packet in made:
            writer.write(packet)
    expected = path.read_bytes()
    other = tmp_path / "b.pcap"
    fd = os.open(other, os.O_WRONLY | os.O_CREAT)
    with PcapWriter(fd, linktype=1, precision=9) as writer:
        for packet in made:
            writer.write(packet)
            writer.flush()
    os.close(fd)
    assert other.read_bytes() == expected
    code = (
        "import sys, skep.capture as c\n"
        "with c.open('-') as r, c.PcapWriter.like('-', r, precision=9) as w:\n"
        "    for p in r: w.write(p)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], input=expected, capture_output=True, check=True, timeout=30
    )
    assert run.stdout == expected
    with pytest.raises(FileNotFoundError):
        PcapWriter(tmp_path / "no" / "such", linktype=1)
