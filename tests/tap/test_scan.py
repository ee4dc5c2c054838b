"""The native scan: the same packets as libpcap's interpreter, whatever the threads, pieces and byte order."""

from __future__ import annotations

import ctypes
import os
import random
import struct
import sys
from pathlib import Path

import pytest

from skep.tap.guard import Guard
from skep.tap.layout import INDEX_ENTRY, Mode, Status
from skep.tap.native import ScanState, libc_address
from skep.tap.plain import FILE_HEADER
from skep.tap.scan import FileScan
from skep.vm import classic
from tests.support import libpcap, pcapfiles
from tests.support.pcapfiles import Record
from tests.tap.support import code, insns, plain

EXPRESSIONS = ["tcp port 80", "", "ip6 and udp", "len > 500", "ip[6:2] & 0x1fff != 0 or arp", "less 20"]
HOST = "<" if sys.byteorder == "little" else ">"


def scan(
    path: Path,
    expression: str,
    *,
    mode: int = Mode.EMIT,
    threads: int = 1,
    mapped: bool = False,
    chunk: int = 1 << 20,
    limit: int | None = None,
    big_endian: bool = False,
    nano: bool = False,
    snaplen: int = 262144,
    divisor: int = 1,
    maker: str = "",
) -> tuple[FileScan, bytes]:
    fd = os.open(path, os.O_RDONLY)
    out = bytearray()
    guard = Guard() if mapped else None
    try:
        work = FileScan(
            code(expression, swapped=big_endian != (sys.byteorder == "big"), maker=maker),
            fd,
            plain(big_endian=big_endian, nano=nano, snaplen=snaplen),
            mode=mode,
            sink=lambda *pieces: out.extend(b"".join(pieces)),
            threads=threads,
            mapped=mapped,
            chunk=chunk,
            lanes=3 if mapped else 0,
            limit=limit,
            divisor=divisor,
        )
        work.run()
    finally:
        os.close(fd)
        if guard is not None:
            guard.close()
    return work, bytes(out)


def chosen(packets: list[Record], expression: str, snaplen: int = 262144) -> list[Record]:
    """What libpcap's interpreter lets through, cut to the snapshot length."""
    program = insns(expression)
    kept = []
    for sec, fraction, data, wirelen in packets:
        cut = data[:snaplen]
        if libpcap.run(program, cut, wirelen=wirelen):
            kept.append((sec, fraction, cut, wirelen))
    return kept


def framed(packets: list[Record]) -> bytes:
    return b"".join(pcapfiles.record(*packet, order=HOST) for packet in packets)


@pytest.mark.parametrize("maker", ["x86", "llvm"])
@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_agrees_with_libpcap_and_the_interpreter(tmp_path: Path, expression: str, maker: str) -> None:
    packets = pcapfiles.records(3000)
    path = tmp_path / "in.pcap"
    path.write_bytes(pcapfiles.capture(packets))
    work, out = scan(path, expression, maker=maker)
    assert out == framed(chosen(packets, expression))
    assert (work.seen, work.finished, work.end) == (3000, True, path.stat().st_size)
    program = insns(expression)
    assert work.matched == sum(1 for _, _, data, wirelen in packets if classic.run(program, data, wirelen))


@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("chunk", [4096, 65536])
def test_threads_and_chunks_change_nothing(tmp_path: Path, threads: int, chunk: int, mapped: bool) -> None:
    packets = pcapfiles.records(4000)
    path = tmp_path / "in.pcap"
    path.write_bytes(pcapfiles.capture(packets))
    work, out = scan(path, "tcp", threads=threads, chunk=chunk, mapped=mapped)
    assert out == framed(chosen(packets, "tcp"))
    assert work.seen == 4000


@pytest.mark.parametrize("maker", ["x86", "llvm"])
@pytest.mark.parametrize("nano", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
def test_byte_orders_and_resolutions(tmp_path: Path, order: str, nano: bool, maker: str) -> None:
    packets = pcapfiles.records(500, units=10**9 if nano else 10**6)
    path = tmp_path / "in.pcap"
    path.write_bytes(pcapfiles.capture(packets, order=order, nano=nano))
    divisor = 1000 if nano else 1
    for mapped in (False, True):
        work, out = scan(
            path,
            "udp",
            big_endian=order == ">",
            nano=nano,
            threads=2,
            chunk=8192,
            divisor=divisor,
            mapped=mapped,
            maker=maker,
        )
        expected = [(sec, frac // divisor, data, size) for sec, frac, data, size in chosen(packets, "udp")]
        assert out == framed(expected)
        assert work.seen == 500


def test_snapshot_length_cuts_packets(tmp_path: Path) -> None:
    packets = pcapfiles.records(800)
    path = tmp_path / "in.pcap"
    path.write_bytes(pcapfiles.capture(packets))
    _, out = scan(path, "tcp port 80", snaplen=36)
    assert out == framed(chosen(packets, "tcp port 80", 36))


@pytest.mark.parametrize("maker", ["x86", "llvm"])
@pytest.mark.parametrize("limit", [1, 7, 100])
def test_limit_stops_after_so_many(tmp_path: Path, limit: int, maker: str) -> None:
    packets = pcapfiles.records(2000)
    path = tmp_path / "in.pcap"
    path.write_bytes(pcapfiles.capture(packets))
    work, out = scan(path, "tcp", limit=limit, chunk=4096, maker=maker)
    assert out == framed(chosen(packets, "tcp")[:limit])
    assert work.matched == limit


@pytest.mark.parametrize("maker", ["x86", "llvm"])
def test_index_entries_say_where_packets_are(tmp_path: Path, maker: str) -> None:
    packets = pcapfiles.records(700)
    path = tmp_path / "in.pcap"
    data = pcapfiles.capture(packets)
    path.write_bytes(data)
    work, out = scan(path, "tcp", mode=Mode.INDEX, maker=maker)
    entries = list(struct.iter_unpack("=QQIIII", out))
    assert len(out) == INDEX_ENTRY * work.matched
    wanted = [
        (number, record)
        for number, record in enumerate(packets)
        if libpcap.run(insns("tcp"), record[2], wirelen=record[3])
    ]
    assert len(entries) == len(wanted)
    for (number, offset, caplen, wirelen, sec, fraction), (expected, record) in zip(
        entries, wanted, strict=True
    ):
        assert (number, wirelen, sec, fraction) == (expected, record[3], record[0], record[1])
        assert data[offset : offset + caplen] == record[2]


@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize("threads", [1, 3])
def test_truncation_anywhere_ends_at_the_last_whole_record(
    tmp_path: Path, threads: int, mapped: bool
) -> None:
    packets = pcapfiles.records(300)
    whole = pcapfiles.capture(packets)
    path = tmp_path / "in.pcap"
    rng = random.Random(pcapfiles.SEED)
    ends = [FILE_HEADER]
    for packet in packets:
        ends.append(ends[-1] + 16 + len(packet[2]))
    for cut in [*rng.sample(range(FILE_HEADER, len(whole)), 25), *ends[:4], ends[1] + 3]:
        path.write_bytes(whole[:cut])
        work, out = scan(path, "", threads=threads, chunk=4096, mapped=mapped)
        count = sum(1 for end in ends[1:] if end <= cut)
        assert (work.seen, work.end, work.finished) == (count, ends[count], ends[count] == cut), cut
        assert out == framed(packets[:count])


@pytest.mark.parametrize("threads", [1, 2])
def test_an_impossible_length_stops_the_scan_there(tmp_path: Path, threads: int) -> None:
    packets = pcapfiles.records(400)
    data = bytearray(pcapfiles.capture(packets))
    at = FILE_HEADER + sum(16 + len(packet[2]) for packet in packets[:250])
    struct.pack_into("<I", data, at + 8, 262145)
    path = tmp_path / "in.pcap"
    path.write_bytes(data)
    work, out = scan(path, "", threads=threads, chunk=4096)
    assert (work.seen, work.end, work.finished) == (250, at, False)
    assert out == framed(packets[:250])


@pytest.mark.parametrize("mapped", [False, True])
def test_packets_that_hold_captures_mislead_nobody(tmp_path: Path, mapped: bool) -> None:
    """A capture of a transfer of a capture: every payload is full of plausible record headers."""
    rng = random.Random(pcapfiles.SEED)
    inner = b"".join(pcapfiles.record(1_700_000_000 + i, i, b"x" * rng.randint(0, 40)) for i in range(200))
    packets = [
        (1_700_000_000 + i, i, rng.randbytes(rng.randint(0, 9)) + inner[rng.randint(0, 60) :], 9000)
        for i in range(120)
    ]
    path = tmp_path / "in.pcap"
    path.write_bytes(pcapfiles.capture(packets))
    work, out = scan(path, "", threads=3, chunk=4096, mapped=mapped)
    assert out == framed(packets)
    assert work.seen == 120


def test_records_longer_than_chunks(tmp_path: Path) -> None:
    rng = random.Random(pcapfiles.SEED)
    packets = [
        (1_700_000_000, i, rng.randbytes(rng.choice((10, 60_000, 262_144))), 262_144) for i in range(30)
    ]
    path = tmp_path / "in.pcap"
    path.write_bytes(pcapfiles.capture(packets))
    for mapped in (False, True):
        for threads in (1, 2):
            work, out = scan(path, "", threads=threads, chunk=4096, mapped=mapped)
            assert (work.seen, work.finished) == (30, True)
            assert out == framed(packets)


def test_a_sink_that_fails_stops_all_threads(tmp_path: Path) -> None:
    path = tmp_path / "in.pcap"
    path.write_bytes(pcapfiles.capture(pcapfiles.records(3000)))
    calls = []

    def sink(data: memoryview) -> None:
        calls.append(len(data))
        if len(calls) == 3:
            raise OSError(28, "No space left on device")

    fd = os.open(path, os.O_RDONLY)
    try:
        work = FileScan(code(""), fd, plain(), mode=Mode.EMIT, sink=sink, threads=3, chunk=4096)
        with pytest.raises(OSError, match="No space"):
            work.run()
    finally:
        os.close(fd)
    assert len(calls) == 3


@pytest.mark.parametrize("maker", ["x86", "llvm"])
def test_stretches_in_turns_end_each_in_its_own_way(maker: str) -> None:
    """Done, at a limit, without room, at a damaged record, and at one that the buffer cuts."""
    packets = pcapfiles.records(50)
    whole = framed(packets)
    broken = bytearray(whole)
    struct.pack_into("=I", broken, 8 + sum(16 + len(packet[2]) for packet in packets[:20]), 262145)
    data = whole * 3 + bytes(broken) + whole[:-1]
    base = ctypes.create_string_buffer(data, len(data))
    out = ctypes.create_string_buffer(3 * len(whole))
    first = len(framed(packets[:10]))
    states = (ScanState * 5)()
    for lane, (limit, room) in zip(states, [(0, 1), (7, 1), (0, first), (0, 1), (0, 1)], strict=True):
        lane.base, lane.length = ctypes.addressof(base), len(data)
        lane.max_caplen = lane.snaplen = 262144
        lane.limit, lane.divisor, lane.mode, lane.copy = (
            limit or 1 << 62,
            1,
            Mode.EMIT,
            libc_address("memcpy"),
        )
        lane.out, lane.out_size = ctypes.addressof(out), room if room > 1 else len(whole)
    for number, lane in enumerate(states):
        lane.pos, lane.stop = number * len(whole), (number + 1) * len(whole)
    code("", maker=maker).walk(states, 5)
    assert [lane.status for lane in states] == [
        Status.DONE, Status.LIMIT, Status.FULL, Status.BAD, Status.SHORT,
    ]  # fmt: skip
    assert [(lane.seen, lane.matched) for lane in states] == [(50, 50), (7, 7), (10, 10), (20, 20), (49, 49)]
    for number, lane in enumerate(states):
        assert lane.pos - number * len(whole) == len(framed(packets[: lane.seen])) == lane.out_used
