"""Ring buffers, read from their memory in batches.

The kernel writes records behind each other: four bytes of length (with a busy and a discard bit), four of
its own, the data, padded to eight. It maps the data twice in a row, so that no record ever wraps. Where
records have one length, a batch of them is checked by one comparison and decoded by one
`struct.iter_unpack`: no Python code runs for a single event.

Every wake-up costs a program more than a microsecond. Let it write without (BPF_RB_NO_WAKEUP) until
``bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA)`` has reached a batch, and then with BPF_RB_FORCE_WAKEUP;
the reader's timeout picks up what waits below that.
"""

from __future__ import annotations

import errno
import gc
from _thread import allocate_lock
from sys import byteorder

from skep.errors import KernelError
from skep.kernel.codec import Codec
from skep.kernel.handle import page_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType
    from typing import Any, Final, NoReturn, Self

    from skep.kernel.map import Map

_BUSY: Final = 1 << 31
_DISCARD: Final = 1 << 30
_HEADER: Final = 8
_LENGTH: Final = _DISCARD - 1
_CHUNK: Final = 1 << 18
_SHORT_RUN: Final = 8
_ONE_BY_ONE: Final = 256
_RINGBUF: Final = 27
_RB_OVERWRITE: Final = 1 << 19
_POLLIN: Final = 1
#: seconds; poll(2) takes an int of milliseconds
_LONGEST_WAIT: Final = 1 << 21
#: what is mapped memory, under these names
_VIEWS: Final = ("_words", "_data", "_producer", "_consumer")


class Batch:
    """Records of one length as they lie in the ring, until `release` gives their room back.

    ``view`` holds ``count`` records of ``stride`` bytes: ``header`` bytes of the ring's own, then the
    ``size`` bytes of the record, then padding.
    """

    __slots__ = ("_end", "_ring", "count", "header", "size", "stride", "view")

    def __init__(self, ring: RingBuf, view: memoryview, count: int, size: int, stride: int, end: int) -> None:
        self._ring = ring
        self.view = view
        self.count = count
        self.size = size
        self.stride = stride
        self.header = _HEADER
        self._end = end

    def numpy(self, dtype: Any) -> Any:
        """The records as a NumPy array that shares the ring's memory; copy what must outlive `release`."""
        import numpy

        kind = numpy.dtype(dtype)
        if kind.itemsize > self.size:
            raise KernelError(errno.EINVAL, f"a dtype of {kind.itemsize} bytes for records of {self.size}")
        return numpy.ndarray((self.count,), kind, self.view, _HEADER, (self.stride,))

    def release(self) -> None:
        """Give the room back to the kernel. Arrays over it show new records from then on."""
        if self._end >= 0:
            self._ring._consumed(self._end)
            self._end = -1

    def __len__(self) -> int:
        return self.count

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def closed(self: object, name: str) -> NoReturn:
    """``__getattr__`` of readers and writers: their memory is no attribute any more once they are closed."""
    kind = type(self).__name__
    if name in _VIEWS:
        raise ValueError(f"{kind} is closed")
    raise AttributeError(f"{kind!r} object has no attribute {name!r}")


class RingBuf:
    """The reader of a ring buffer map. One reader at a time; closing it leaves the map open.

    Iterating waits for records for ever; `read` takes what is there; `batch` hands out memory. Records
    shorter than their type are filled up with zeros, longer ones cut. Without a codec they are bytes.

    ``lost``: what counts records that found no room, a callable: the kernel does not count them, the
    program has to. `lost` is None where nothing does.
    """

    def __init__(
        self, map: Map, codec: Codec | None = None, *, lost: Callable[[], int] | None = None
    ) -> None:
        if map.type != _RINGBUF:
            raise KernelError(errno.EINVAL, f"map {map.name} is no ring buffer but {map.type_name}")
        self.map = map
        self.codec = codec
        self.count = 0
        self._lost = lost
        kernel = map.kernel
        page = page_size()
        size = map.max_entries
        self._size = size
        self._mask = size - 1
        self._views: list[memoryview] = []
        try:
            self._views.append(kernel.mmap(map.fd, page, writable=True))
            self._views.append(kernel.mmap(map.fd, page + 2 * size, offset=page))
        except BaseException:
            self.close()
            raise
        self._consumer = self._views[0].cast("Q")
        producer = self._views[1]
        self._producer = producer[:24].cast("Q")
        self._data = producer[page:]
        self._words = self._data.cast("I")
        self._fence = allocate_lock()

    # --- reading -------------------------------------------------------------------------------

    @property
    def lost(self) -> int | None:
        """Records lost for want of room, as far as the program counts them."""
        return None if self._lost is None else self._lost()

    @property
    def available(self) -> int:
        """Bytes waiting, headers included."""
        return self._producer[0] - self._consumer[0]

    def read(self, limit: int = 0) -> list[Any]:
        """All records that are there now, or the first ``limit``; an empty list when there are none."""
        out: list[Any] = []
        # Collecting garbage among a million new values would cost more than making them; none is garbage.
        collecting = gc.isenabled()
        gc.disable()
        try:
            while True:
                before = len(out)
                start = self._consumer[0]
                end = self._read_chunk(start, out, limit)
                if end == start:
                    break
                self._consumed(end)
                self.count += len(out) - before
                if limit and len(out) >= limit:
                    break
        finally:
            if collecting:
                gc.enable()
        return out

    def batches(self, timeout: float | None = None, *, limit: int = 1024) -> Iterator[list[Any]]:
        """Lists of up to ``limit`` records, as they come; ends when none came for ``timeout`` seconds.

        The fastest way to typed values: small lists stay in the processor's caches.
        """
        while self.wait(timeout):
            while records := self.read(limit):
                yield records

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until there is a record, or ``timeout`` seconds have passed (None: for ever)."""
        if self._ready():
            return True
        self.map.kernel.poll({self.map.fd: _POLLIN}, milliseconds(timeout))
        return self._ready()

    def events(self, timeout: float | None = None) -> Iterator[Any]:
        """Records as they come; ends when none came for ``timeout`` seconds."""
        for records in self.batches(timeout):
            yield from records

    def __iter__(self) -> Iterator[Any]:
        return self.events()

    def batch(self, timeout: float | None = 0) -> Batch | None:
        """A run of records of one length, without a copy; None when none came within ``timeout`` seconds.

        Release each before the next.
        """
        while True:
            if not self.wait(timeout):
                return None
            start = self._consumer[0]
            available = self._checked(start)
            length, count, stride = self._run(start & self._mask, available)
            if count:
                at = start & self._mask
                self.count += count
                end = start + count * stride
                return Batch(self, self._data[at : at + count * stride], count, length, stride, end)
            # Nothing but a discarded record at the front: step over it.
            self._consumed(start + stride)

    # --- inside --------------------------------------------------------------------------------

    def _ready(self) -> bool:
        start = self._consumer[0]
        return self._producer[0] != start and not self._words[(start & self._mask) >> 2] & _BUSY

    def _order(self) -> None:
        """Keep reads before and after in order: taking a lock is a barrier on every processor."""
        with self._fence:
            pass

    def _consumed(self, position: int) -> None:
        self._order()
        self._consumer[0] = position
        # The kernel wakes a reader that has caught up: it must see this before the next look at its end.
        self._order()

    def _checked(self, start: int) -> int:
        """Bytes waiting after ``start``."""
        available: int = self._producer[0] - start
        self._order()
        if not 0 <= available <= self._size:
            raise KernelError(errno.EPROTO, f"ring buffer {self.map.name}: {available} bytes in {self._size}")
        return available

    def _run(self, at: int, available: int, most: int = 0) -> tuple[int, int, int]:
        """(length, count, stride) of the run of finished records at byte ``at``, of ``most`` if given.

        Count 0: the first one is unfinished (stride 0) or discarded (its stride).
        """
        words = self._words
        if available < _HEADER:
            return 0, 0, 0
        head = words[at >> 2]
        if head & _BUSY:
            return 0, 0, 0
        length = head & _LENGTH
        stride = (length + 15) & ~7
        if head & _DISCARD:
            return length, 0, stride
        count = available // stride
        if most and count > most:
            count = most
        count = alike(words, at >> 2, stride >> 2, count, head)
        self._order()
        return length, count, stride

    def _read_chunk(self, start: int, out: list[Any], limit: int) -> int:
        """Append records to ``out``; the position reached."""
        available = min(self._checked(start), _CHUNK) if not self._big(start) else self._checked(start)
        position, stop = start, start + available
        codec = self.codec
        while position < stop:
            at = position & self._mask
            length, count, stride = self._run(at, stop - position, limit and limit - len(out))
            if not stride:
                break
            if count < _SHORT_RUN:
                before = position
                position = self._one_by_one(position, stop, out, limit)
                if position == before or (limit and len(out) >= limit):
                    break
                continue
            part = self._data[at : at + count * stride]
            if codec is None:
                out += [bytes(part[i : i + length]) for i in range(_HEADER, count * stride, stride)]
            elif length >= codec.size:
                out += codec.decode_records(part, length, skip=_HEADER, stride=stride)
            else:
                fill = bytes(codec.size - length)
                starts = range(_HEADER, count * stride, stride)
                out += [codec.decode(bytes(part[i : i + length]) + fill) for i in starts]
            position += count * stride
            if limit and len(out) >= limit:
                break
        return position

    def _big(self, start: int) -> bool:
        """Whether the record at ``start`` alone is larger than a chunk."""
        return self._words[(start & self._mask) >> 2] & _LENGTH >= _CHUNK - _HEADER

    def _one_by_one(self, position: int, stop: int, out: list[Any], limit: int) -> int:
        words, data, mask, codec = self._words, self._data, self._mask, self.codec
        size = codec.size if codec is not None else 0
        for _ in range(_ONE_BY_ONE):
            if position >= stop or (limit and len(out) >= limit):
                break
            at = position & mask
            head = words[at >> 2]
            if head & _BUSY:
                break
            self._order()
            length = head & _LENGTH
            if position + ((length + 15) & ~7) > stop:
                break
            if not head & _DISCARD:
                record = data[at + _HEADER : at + _HEADER + length]
                if codec is None:
                    out.append(bytes(record))
                elif length >= size:
                    out.append(codec.decode(record))
                else:
                    out.append(codec.decode(bytes(record) + bytes(size - length)))
            position += (length + 15) & ~7
        return position

    # --- closing -------------------------------------------------------------------------------

    def close(self) -> None:
        for name in _VIEWS:
            view = self.__dict__.pop(name, None)
            if view is not None:
                view.release()
        while self._views:
            self.map.kernel.munmap(self._views.pop())

    if not TYPE_CHECKING:
        __getattr__ = closed

    def fileno(self) -> int:
        return self.map.fd

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_views", None):
            self.close()


def alike(words: memoryview, at: int, step: int, count: int, head: int) -> int:
    """How many of ``count`` items of a view, ``step`` apart from item ``at`` on, are ``head``."""
    if count < 2:
        return count
    size = words.itemsize
    one = head.to_bytes(size, byteorder)
    # Most runs are long or very short: look at a few before comparing all.
    if words[at + step] != head:
        return 1
    found = words[at : at + count * step : step].tobytes()
    if found == one * count:
        return count
    low, high = 1, count  # the first low headers agree, not all of the first high do
    while high - low > 1:
        middle = (low + high) // 2
        if found[size * low : size * middle] == one * (middle - low):
            low = middle
        else:
            high = middle
    return low


def ring_reader(map: Map, codec: Codec | None = None, *, lost: Callable[[], int] | None = None) -> RingBuf:
    """The reader that a ring buffer's mode asks for: a `RingBuf`, or its kind for overwrite mode."""
    if map.flags & _RB_OVERWRITE:
        from skep.kernel.overwrite import OverwriteRingBuf

        return OverwriteRingBuf(map, codec, lost=lost)
    return RingBuf(map, codec, lost=lost)


def milliseconds(timeout: float | None) -> int:
    """A number of seconds for poll(2): -1 is for ever."""
    return -1 if timeout is None else max(0, int(min(timeout, _LONGEST_WAIT) * 1000 + 0.999))


def wait_any(rings: list[RingBuf], timeout: float | None = None) -> list[RingBuf]:
    """Those of several rings that have records, once one has or ``timeout`` seconds have passed."""
    ready = [ring for ring in rings if ring._ready()]
    if ready or not rings:
        return ready
    rings[0].map.kernel.poll({ring.map.fd: _POLLIN for ring in rings}, milliseconds(timeout))
    return [ring for ring in rings if ring._ready()]
