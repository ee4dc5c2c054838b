"""The stream in pcap framing: joined, it is a pcap file with the same packets."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import threading
from pathlib import Path

import pytest

import skep.capture as capture
from skep.capture import Packet, Stream
from skep.capture.stream import file_header
from skep.errors import CaptureError
from tests.capture.build import epb, frame, idb, pcap_header, pcap_record, rng, shb
from tests.capture.common import Pieces, Read
from tests.capture.test_pcap import sample
from tests.capture.test_pcapng import mixed
from tests.support.oracles import captures, tool


def joined(data: bytes, precision: int | None = None, size: int = 1 << 18) -> tuple[bytes, str]:
    """The stream of one link type as a pcap file, and the error it ended in."""
    out, error = [], ""
    with capture.open(Pieces(data, size)) as reader:
        stream = Stream(reader, precision=precision)
        out.append(file_header(stream.layout, snaplen=reader.snaplen))
        try:
            for batch in stream:
                assert batch.linktype == reader.linktype
                assert batch.records
                out.append(batch.records)
        except CaptureError as damage:
            error = str(damage)
    return b"".join(out), error


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("form", ["pcap", "modified pcap", "pcapng"])
@pytest.mark.parametrize("read", [0, 1, 2, 5, 40])
def test_a_stream_is_what_iteration_has_left(form: str, read: int, keep: bool) -> None:
    """No packet of those that were read ahead is lost, none comes twice."""
    bodies = [bytes([number]) * (number + 1) for number in range(40)]
    if form == "pcapng":
        data = shb("<") + idb("<") + b"".join(epb("<", body) for body in bodies)
    else:
        magic, header = (0xA1B2CD34, 24) if form == "modified pcap" else (0xA1B2C3D4, 16)
        records = (pcap_record("<", 1, 2, len(body), len(body), body, header=header) for body in bodies)
        data = pcap_header("<", magic) + b"".join(records)
    with capture.open(Pieces(data, 300)) as reader:
        begun = iter(reader)
        taken = [next(begun).data for _ in range(read)]
        stream = Stream(reader, keep=keep)
        rest = file_header(stream.layout) + b"".join(batch.records for batch in stream)
        assert not list(begun)
    assert taken + [packet.data for packet in Read(rest).packets] == bodies


@pytest.mark.oracle
@pytest.mark.parametrize("precision", [6, 9])
def test_captures(precision: int) -> None:
    for path in captures().iterdir():
        data = path.read_bytes()
        read = Read(data)
        if read.reader is None:
            continue
        made, _ = joined(data, precision)
        again = Read(made)
        assert not again.error
        # pcap's seconds end in 2106; one of the files goes beyond.
        step, end = 10 ** (9 - precision), (1 << 32) * 10**9
        assert [p[:4] for p in again.packets] == [
            (p.data, p.wirelen, p.time_ns // step * step % end, p.linktype) for p in read.packets
        ]


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("magic", [0xA1B2C3D4, 0xA1B23C4D, 0xA1B2CD34])
@pytest.mark.parametrize("version", [(2, 2), (2, 3), (2, 4)])
def test_unusual_pcap(order: str, magic: int, version: tuple[int, int]) -> None:
    data = sample(order, magic, version, 1000, 1)
    read = Read(data)
    made, error = joined(data)
    again = Read(made)
    assert not error
    assert not again.error
    assert [p[:4] for p in again.packets] == [p[:4] for p in read.packets]
    raw = version == (2, 4) and magic != 0xA1B2CD34
    assert made.endswith(data[24:]) is raw
    with capture.open(io.BytesIO(data)) as reader:
        assert Stream(reader).raw is raw
        assert reader.layout
        assert reader.layout.plain is raw


def test_kept_packets_and_blocks_go_to_pcapng() -> None:
    """A scanner's choice of every third record, written with all blocks between."""
    for case in range(5):
        data = mixed(rng("kept", case))
        out, expected = io.BytesIO(), io.BytesIO()
        with capture.open(io.BytesIO(data)) as reader, capture.PcapngWriter(out) as writer:
            seen = 0
            for batch in Stream(reader, keep=True):
                assert batch.packets is not None
                assert batch.blocks is not None
                blocks = iter([*batch.blocks, (1 << 60, None)])
                at, found = next(blocks)
                for index, packet in enumerate(batch.packets):
                    while at <= index and found:
                        writer.write(found)
                        at, found = next(blocks)
                    assert packet.linktype == batch.linktype
                    if seen % 3 == 0:
                        writer.write(packet)
                    seen += 1
                while found:
                    writer.write(found)
                    _, found = next(blocks)
                walk(batch.records, batch.packets)
        with capture.open(io.BytesIO(data)) as reader, capture.PcapngWriter(expected) as writer:
            seen = 0
            for item in reader.items():
                if isinstance(item, Packet):
                    if seen % 3 == 0:
                        writer.write(item)
                    seen += 1
                else:
                    writer.write(item)
        assert out.getvalue() == expected.getvalue()


def walk(records: bytes, packets: list[Packet]) -> None:
    """Records and packets are the same, one by one."""
    at = 0
    for packet in packets:
        _, _, caplen, wirelen = struct.unpack_from("=IIII", records, at)
        assert records[at + 16 : at + 16 + caplen] == packet.data
        assert wirelen == packet.wirelen
        at += 16 + caplen
    assert at == len(records)


def test_damage_comes_after_the_last_whole_record() -> None:
    packet = epb("<", bytes(60))
    data = shb("<") + idb("<") + packet * 10 + packet[:-3]
    made, error = joined(data)
    assert len(Read(made).packets) == 10
    assert f"at byte {len(data) - len(packet) + 3}" in error


def test_errors_of_a_raw_stream_are_the_readers() -> None:
    good = pcap_header("<", 0xA1B2C3D4) + pcap_record("<", 1, 1, 4, 4, b"good")
    for tail in (b"\0" * 5, struct.pack("<IIII", 0, 0, 262145, 1), struct.pack("<IIII", 0, 0, 99, 1) + b"x"):
        expected = Read(good + tail).error
        assert expected
        with capture.open(io.BytesIO(good + tail)) as reader:
            stream = Stream(reader)
            assert stream.raw
            assert b"".join(batch.records for batch in stream) == (good + tail)[24:]
            assert stream.offset == len(good + tail)
            error = stream.error(tail, len(tail), len(good))
            assert (str(error), type(error)) == (str(expected).replace("pieces", reader.path), CaptureError)
            assert stream.error(good[24:], 20, 24) is None


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("form", ["pcap", "pcap modified", "pcapng"])
@pytest.mark.parametrize("keep", [False, True])
def test_a_pipe_is_not_waited_for(order: str, form: str, keep: bool) -> None:
    """Packets that have arrived are delivered though the writer holds the pipe open."""
    random = rng("pipe", form)
    data = frame(random, 60)
    if form == "pcapng":
        head, record = shb(order) + idb(order), epb(order, data)
    else:
        magic, size = (0xA1B2CD34, 24) if form == "pcap modified" else (0xA1B2C3D4, 16)
        head = pcap_header(order, magic)
        record = pcap_record(order, 1, 2, 60, 60, data, header=size)
    reading, writing = os.pipe()
    timer = threading.Timer(20, os.close, (writing,))
    timer.start()
    try:
        os.write(writing, head + record * 3 + record[:-1])
        with capture.open(reading) as reader:
            batches = iter(Stream(reader, keep=keep))
            got = b""
            while len(got) < 3 * 76:
                got += next(batches).records
        assert timer.is_alive(), "waited for the end of the pipe"
    finally:
        if timer.is_alive():
            timer.cancel()
            os.close(writing)
        os.close(reading)


def test_packets_from_a_pipe_are_not_waited_for() -> None:
    record = pcap_record("<", 1, 2, 5, 5, b"12345")
    reading, writing = os.pipe()
    timer = threading.Timer(20, os.close, (writing,))
    timer.start()
    try:
        os.write(writing, pcap_header("<", 0xA1B2C3D4) + record * 2)
        with capture.open(reading) as reader:
            packets = iter(reader)
            assert next(packets) == next(packets)
        assert timer.is_alive(), "waited for the end of the pipe"
    finally:
        if timer.is_alive():
            timer.cancel()
            os.close(writing)
        os.close(reading)


@pytest.mark.oracle
def test_a_joined_stream_is_what_tcpdump_reads(tmp_path: Path) -> None:
    path = tmp_path / "a.pcap"
    random = rng("joined")
    data = b"".join(
        [shb(">"), idb(">", (9, b"\x09")), *(epb(">", frame(random), stamp=n) for n in range(500))]
    )
    path.write_bytes(joined(data, 9)[0])
    original = tmp_path / "a.pcapng"
    original.write_bytes(data)
    copies = [
        subprocess.run(
            [tool("tcpdump"), "-r", name, "-w", "-", "--time-stamp-precision=nano"],
            capture_output=True,
            check=True,
        ).stdout
        for name in (path, original)
    ]
    assert copies[0] == copies[1]
    assert len(copies[0]) > 10_000
