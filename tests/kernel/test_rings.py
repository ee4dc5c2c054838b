"""Ring buffers, perf buffers and user ring buffers: every record once, in order, whatever its length."""

from __future__ import annotations

import errno
import os
import random
import threading
from collections.abc import Iterator

import pytest

import skep
from skep.errors import KernelError
from skep.kernel.object import Object
from skep.kernel.perfbuf import PerfBuffer
from skep.kernel.ringbuf import RingBuf, wait_any
from skep.kernel.structs import StructCodec
from skep.kernel.userring import UserRingBuf
from tests.kernel.build import build, no_leaks
from tests.support import oracles

pytestmark = pytest.mark.live
SEED = int(os.environ.get("SKEP_SEED", "11"))
PACKET = bytes(60)


@pytest.fixture
def obj() -> Iterator[Object]:
    oracles.bpf()
    with no_leaks(), skep.load(build("rings")) as made:
        yield made


def ring_of(obj: Object, type: str | None = "record") -> RingBuf:
    ring = obj.reader("ring", type)
    assert isinstance(ring, RingBuf)
    return ring


def test_typed_records(obj: Object) -> None:
    ring = ring_of(obj)
    assert ring.read() == []
    obj.bss.number = 99
    obj.typed.run(PACKET)
    (record,) = ring.read()
    assert (record.number, record.tag, record.name) == (100, 100, b"a record")
    codec = obj.codec("record")
    assert isinstance(codec, StructCodec)
    assert record == codec(number=100, tag=100, name="a record")
    assert (ring.count, ring.lost, ring.available) == (1, 0, 0)


def test_round_and_round_with_losses_counted(obj: Object) -> None:
    """The 4096-byte ring takes 128 records of 32 bytes; what is more is lost and counted."""
    ring = ring_of(obj)
    rng = random.Random(SEED)
    print(f"SKEP_SEED={SEED}")
    got: list[int] = []
    for _ in range(300):
        obj.data.count = rng.choice((1, 2, 7, 8, 9, 60, 128, 200))
        obj.typed.run(PACKET)
        limit = rng.choice((0, 0, 1, 5, 100))
        records = ring.read(limit)
        assert not limit or len(records) <= limit
        got += [record.number for record in records]
    got += [record.number for record in ring.read()]
    assert got == sorted(set(got))
    assert len(got) + obj.bss.lost == obj.bss.number
    assert ring.lost == obj.bss.lost > 0
    assert ring.count == len(got)


@pytest.mark.parametrize("every", [1, 2, 3, 17])
def test_discarded_records_are_stepped_over(obj: Object, every: int) -> None:
    ring = ring_of(obj)
    obj.bss.discard_every = every
    obj.data.count = 100
    for turn in range(5):
        obj.typed.run(PACKET)
        want = [n for n in range(100 * turn + 1, 100 * turn + 101) if n % every]
        if turn % 2:
            assert [record.number for record in ring.read()] == want
            continue
        seen: list[int] = []
        while (batch := ring.batch()) is not None:
            with batch:
                seen += [
                    int.from_bytes(batch.view[i + 8 : i + 16], "little")
                    for i in range(0, len(batch.view), batch.stride)
                ]
        assert seen == want


def test_records_of_all_lengths(obj: Object) -> None:
    ring = ring_of(obj, None)
    rng = random.Random(SEED)
    print(f"SKEP_SEED={SEED}")
    obj.bss.scratch = bytes(n % 251 for n in range(1024))
    for _ in range(200):
        lengths = [rng.choice((1, 7, 8, 9, 16, 24, 100, 333)) for _ in range(rng.randint(1, 9))]
        for length in lengths:
            obj.data.length = length
            obj.varied.run(PACKET)
        assert ring.read() == [bytes(n % 251 for n in range(length)) for length in lengths]
    assert obj.bss.lost == 0


def test_records_shorter_and_longer_than_their_type(obj: Object) -> None:
    ring = ring_of(obj)
    obj.bss.scratch = b"\x01" * 1024
    for length in (8, 24, 40):
        for times in (1, 20):
            obj.data.length = length
            for _ in range(times):
                obj.varied.run(PACKET)
            records = ring.read()
            assert len(records) == times
            want = 0x01010101 if length > 8 else 0
            assert {(r.number, r.tag) for r in records} == {(0x0101010101010101, want)}


def test_numpy_views(obj: Object) -> None:
    numpy = pytest.importorskip("numpy")
    ring = ring_of(obj)
    obj.data.count = 100
    for turn in range(4):
        obj.typed.run(PACKET)
        with ring.batch() as batch:  # type: ignore[union-attr]
            records = batch.numpy([("number", "u8"), ("tag", "u4"), ("name", "S12")])
            assert len(batch) == len(records) == 100
            assert numpy.array_equal(records["number"], numpy.arange(100 * turn + 1, 100 * turn + 101))
            assert set(records["name"]) == {b"a record"}
            assert not records.flags.owndata
            assert not records.flags.writeable
            with pytest.raises(KernelError, match="a dtype of 40 bytes for records of 24"):
                batch.numpy("S40")
        del records
    assert ring.batch() is None


def test_waiting(obj: Object) -> None:
    ring = ring_of(obj)
    assert not ring.wait(0)
    assert wait_any([ring], 0.01) == []
    thread = threading.Timer(0.05, lambda: obj.typed.run(PACKET))
    thread.start()
    assert ring.wait(120)
    thread.join()
    assert wait_any([ring]) == [ring]
    assert [record.number for record in ring.events(0.01)] == [1]


def test_only_ring_buffers_are_read_as_such(obj: Object) -> None:
    with pytest.raises(KernelError, match=r"map \.bss is no ring buffer but array"):
        RingBuf(obj.maps[".bss"])
    with pytest.raises(KernelError, match="no perf event array"):
        PerfBuffer(obj.ring)


@pytest.fixture
def one_cpu() -> Iterator[None]:
    """On one processor: each has a buffer of its own, which tells its losses with its own next record."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


@pytest.mark.usefixtures("one_cpu")
def test_perf_buffer(obj: Object) -> None:
    buffer = obj.reader("perf", "record")
    assert isinstance(buffer, PerfBuffer)
    for turn in range(100):
        obj.data.count = 40
        obj.perfed.run(PACKET)
        records = buffer.read()
        assert [r.number for r in records] == list(range(40 * turn + 1, 40 * turn + 41))
        assert {(r.tag, r.name) for r in records} == {(5, b"perf")}
    assert buffer.lost == 0


@pytest.mark.usefixtures("one_cpu")
@pytest.mark.parametrize("kind", ["record", None])
def test_perf_buffer_records_of_all_lengths(obj: Object, kind: str | None) -> None:
    """Runs of one length and single records, over the buffer's end many times; limits anywhere."""
    rng = random.Random(SEED)
    print(f"SKEP_SEED={SEED}")
    codec = obj.codec(kind) if kind else None
    with PerfBuffer(obj.perf, codec, pages=4) as buffer:
        obj.bss.scratch = bytes(n % 251 for n in range(1024))
        expected: list[tuple[int, int]] = []
        got: list[tuple[int, int]] = []

        def take(limit: int) -> int:
            records = (
                buffer.read_with_cpu(limit) if rng.random() < 0.5 else [(-1, r) for r in buffer.read(limit)]
            )
            assert not limit or len(records) <= limit
            for cpu, record in records:
                assert cpu in (-1, *os.sched_getaffinity(0))
                if codec is not None:
                    got.append((record.number, -1))
                    continue
                number, length = int.from_bytes(record[:8], "little"), expected[len(got)][1]
                # padded to 8 bytes behind the length, which takes 4
                assert len(record) == (length + 4 + 7 & ~7) - 4
                assert record[8:length] == bytes(n % 251 for n in range(8, length))
                got.append((number, length))
            return len(records)

        for _ in range(150):
            length, count = rng.choice((8, 9, 16, 20, 24, 60, 333)), rng.choice((1, 2, 7, 8, 9, 40))
            obj.data.length, obj.data.count = length, min(count, 2000 // length + 1)
            start = obj.bss.number
            obj.perf_varied.run(PACKET)
            expected += [(n, length) for n in range(start, obj.bss.number)]
            if rng.random() < 0.8:
                take(rng.choice((0, 0, 1, 5, 30)))
            while len(expected) - len(got) > 20:
                assert take(0)
        while take(0):
            pass
        if codec is not None:
            expected = [(number, -1) for number, _ in expected]
        assert (got, buffer.lost) == (expected, 0)
        assert buffer.count == len(expected)


@pytest.mark.usefixtures("one_cpu")
def test_perf_buffer_counts_what_is_lost(obj: Object) -> None:
    with PerfBuffer(obj.perf, obj.codec("record"), pages=1) as buffer:
        made = 0
        got = 0
        for _ in range(3):
            obj.data.count = 500
            obj.perfed.run(PACKET)
            made += 500
            got += len(buffer.read())
        # Losses are told with the next record that fits.
        obj.data.count = 1
        obj.perfed.run(PACKET)
        got += len(buffer.read())
        assert buffer.lost > 0
        assert got + buffer.lost == made + 1
    with pytest.raises(KernelError, match="a power of two"):
        PerfBuffer(obj.perf, pages=3)


def test_closed_readers_and_writers_say_so(obj: Object) -> None:
    ring = ring_of(obj)
    batch_source = ring_of(obj)
    obj.typed.run(PACKET)
    ring.close()
    for use in (
        ring.read,
        ring.batch,
        lambda: ring.wait(0),
        lambda: ring.available,
        lambda: wait_any([ring], 0),
    ):
        with pytest.raises(ValueError, match="RingBuf is closed"):
            use()
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        ring.nothing  # type: ignore[attr-defined]  # noqa: B018
    ring.close()
    assert len(batch_source.read()) == 1
    orders = UserRingBuf(obj.orders)
    orders.write(b"bytes")
    with pytest.raises(KernelError, match="record: 5 where bytes belong"):
        orders.write(5)
    orders.close()
    with pytest.raises(ValueError, match="UserRingBuf is closed"):
        orders.write(b"bytes")
    buffer = PerfBuffer(obj.perf)
    buffer.close()
    assert (buffer.read(), buffer.wait(0), buffer.filenos()) == ([], False, [])
    with pytest.raises(KernelError, match="wakeup_events: -1 does not fit u32"):
        PerfBuffer(obj.perf, wakeup=-1)


def test_user_ring_buffer(obj: Object) -> None:
    with UserRingBuf(obj.orders, obj.codec("record")) as orders:
        total = 0
        for turn in range(200):
            for n in range(turn % 7):
                orders.write((turn, n, "x"))
                total += turn
            obj.order.run(PACKET)
        assert (obj.bss.sum, obj.bss.drained) == (total, sum(turn % 7 for turn in range(200)))
        with pytest.raises(KernelError, match=r"record\.number: -1 does not fit"):
            orders.write((-1, 0, ""))
        with pytest.raises(KernelError, match="has not drained it") as caught:
            for n in range(1000):
                orders.write((n, 0, ""))
        assert caught.value.errno == errno.ENOSPC
