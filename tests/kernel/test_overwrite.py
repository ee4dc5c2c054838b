"""The reader of overwriting ring buffers, against a writer that follows the kernel's rules."""

from __future__ import annotations

import errno
import os
import random
import struct
from typing import Any

import pytest

from skep.errors import NotSupported
from skep.kernel.codec import IntCodec
from skep.kernel.handle import page_size
from skep.kernel.overwrite import OverwriteRingBuf
from skep.kernel.ringbuf import ring_reader

SEED = int(os.environ.get("SKEP_SEED", "5"))
SIZE = 4096
BUSY, DISCARD = 1 << 31, 1 << 30


class Writer:
    """The memory of a ring, and bpf_ringbuf_reserve and submit in overwrite mode (Linux 7.2)."""

    def __init__(self) -> None:
        page = page_size()
        self.consumer = bytearray(page)
        self.producer = self.over = self.pending = 0
        self.data = bytearray(SIZE)

    # the kernel that the reader sees: data twice in a row, kept so by `publish`
    def mmap(self, fd: int, length: int, *, writable: bool = False, offset: int = 0) -> memoryview:
        if not offset:
            return memoryview(self.consumer)
        self.window = bytearray(length)
        self.publish()
        return memoryview(self.window)

    def munmap(self, view: memoryview) -> None:
        view.release()

    def poll(self, fds: dict[int, int], timeout_ms: int) -> list[tuple[int, int]]:
        return []

    def publish(self) -> None:
        page = page_size()
        struct.pack_into("=QQQ", self.window, 0, self.producer, self.pending, self.over)
        self.window[page : page + 2 * SIZE] = self.data * 2

    def head(self, at: int) -> int:
        return int(struct.unpack_from("=I", self.data, at % SIZE)[0])

    def reserve(self, size: int) -> int | None:
        length = size + 8 + 7 & ~7
        while self.producer > self.pending and not self.head(self.pending) & BUSY:
            self.pending += ((self.head(self.pending) & ~DISCARD) + 8 + 7) & ~7
        following = self.producer + length
        if following - self.pending > SIZE - 1:
            return None
        while following - self.over > SIZE - 1:
            self.over += ((self.head(self.over) & ~DISCARD) + 8 + 7) & ~7
        at = self.producer
        self.put(at, struct.pack("=II", size | BUSY, 0))
        self.producer = following
        return at

    def put(self, at: int, data: bytes) -> None:
        for index, byte in enumerate(data):
            self.data[(at + index) % SIZE] = byte

    def commit(self, at: int, payload: bytes, *, discard: bool = False) -> None:
        self.put(at + 8, payload)
        self.put(at, struct.pack("=II", len(payload) | (DISCARD if discard else 0), 0))

    def write(self, number: int, rng: random.Random) -> bool:
        payload = struct.pack("=Q", number) + bytes([number % 256]) * rng.choice((0, 3, 8, 200, 1500))
        at = self.reserve(len(payload))
        if at is None:
            return False
        self.commit(at, payload)
        self.publish()
        return True


class Map:
    type, type_name, name, fd = 27, "ringbuf", "ring", -1
    flags, max_entries = 1 << 19, SIZE

    def __init__(self, kernel: Any) -> None:
        self.kernel = kernel


def reader(writer: Writer) -> OverwriteRingBuf:
    made = ring_reader(Map(writer))  # type: ignore[arg-type]
    assert isinstance(made, OverwriteRingBuf)
    return made


def numbers(records: list[bytes]) -> list[int]:
    out = []
    for record in records:
        number = struct.unpack_from("=Q", record)[0]
        assert record[8:] == bytes([number % 256]) * (len(record) - 8), "torn"
        out.append(number)
    return out


def test_the_newest_are_there_in_order() -> None:
    writer, rng = Writer(), random.Random(SEED)
    print(f"SKEP_SEED={SEED}")
    ring = reader(writer)
    seen: list[int] = []
    written = 0
    for _ in range(400):
        for _ in range(rng.randrange(12)):
            assert writer.write(written, rng)
            written += 1
        found = numbers(ring.read(rng.choice((0, 0, 1, 3))))
        assert found == sorted(set(found)) and (not seen or not found or found[0] > seen[-1])
        seen += found
    seen += numbers(ring.read())
    assert seen[-1] == written - 1
    assert 0 < len(seen) < written and ring.overwritten > 0
    assert ring.read() == [] and ring.available == 0 and not ring.wait(0)
    assert ring.count == len(seen)


def test_writers_that_overtake_the_reader_while_it_copies() -> None:
    """The reader's barriers are where others' writes show: write there, and nothing torn is delivered."""
    writer, rng = Writer(), random.Random(SEED + 1)
    ring = reader(writer)
    written = 0
    order = ring._order
    busy = False

    def overtaken() -> None:
        nonlocal written, busy
        order()
        if not busy and rng.random() < 0.5:
            busy = True
            for _ in range(rng.randrange(1, 9)):
                written += writer.write(written, rng)
            busy = False

    ring._order = overtaken  # type: ignore[method-assign]
    seen: list[int] = []
    for _ in range(300):
        written += writer.write(written, rng)
        seen += numbers(ring.read(4))
    ring._order = order  # type: ignore[method-assign]
    seen += numbers(ring.read())
    assert seen == sorted(set(seen)) and seen[-1] == written - 1
    assert len(seen) < written


def test_unfinished_and_discarded_records() -> None:
    writer = Writer()
    ring = reader(writer)
    first, second = writer.reserve(16), writer.reserve(16)
    assert first is not None and second is not None
    writer.commit(second, bytes(16))
    writer.publish()
    assert ring.read() == [] and not ring.wait(0)
    writer.commit(first, b"x" * 16, discard=True)
    writer.publish()
    assert ring.wait(0) and ring.read() == [bytes(16)]
    with pytest.raises(NotSupported) as caught:
        ring.batch()
    assert caught.value.errno == errno.EOPNOTSUPP


def test_values() -> None:
    writer, rng = Writer(), random.Random(SEED)
    made = OverwriteRingBuf(Map(writer), IntCodec(8, False))  # type: ignore[arg-type]
    for number in range(3):
        writer.write(number, rng)
    assert made.read(2) + made.read() == [0, 1, 2]
    made.close()
