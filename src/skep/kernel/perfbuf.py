"""Perf event arrays: a buffer for each CPU, read from its memory, with lost records counted."""

from __future__ import annotations

import errno
import gc
import os
import struct
from _thread import allocate_lock
from sys import byteorder

from skep.errors import KernelError
from skep.kernel.codec import Codec
from skep.kernel.handle import forked_from, page_size
from skep.kernel.perfevent import (
    BPF_OUTPUT,
    DISABLED,
    ENABLE,
    SAMPLE_RAW,
    SOFTWARE,
    online_cpus,
    open_event,
)
from skep.kernel.ringbuf import alike, milliseconds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType
    from typing import Any, Final, Self

    from skep.kernel.map import Map

_RECORD_LOST: Final = 2
_RECORD_SAMPLE: Final = 9
_POLLIN: Final = 1
# Words of struct perf_event_mmap_page.
_HEAD, _TAIL = 1024 // 8, 1032 // 8
_PERF_EVENT_ARRAY: Final = 4
#: of a record: type, misc, size; then of a sample the length of its data
_HEADER: Final = struct.Struct("=IHH")
_BEFORE: Final = 12
#: records looked at together; they are given back to the kernel together
_CHUNK: Final = 1 << 18
_SHORT_RUN: Final = 8


class _Ring:
    """One CPU's buffer."""

    __slots__ = ("cpu", "data", "fd", "halves", "size", "view", "words", "words32")

    def __init__(self, cpu: int, fd: int, view: memoryview, size: int) -> None:
        self.cpu = cpu
        self.fd = fd
        self.view = view
        self.size = size
        page = len(view) - size
        self.words = view[:page].cast("Q")
        self.data = view[page:]
        self.words32 = self.data.cast("I")
        self.halves = self.data.cast("H")

    def release(self) -> None:
        for view in (self.words, self.words32, self.halves, self.data):
            view.release()

    def run(self, at: int, room: int, size: int) -> int:
        """How many samples like the one at byte ``at`` follow each other in ``room`` bytes, itself too.

        Alike are type, size and length; the bits between them say where the processor was. Records are
        aligned to 8 bytes: a header never wraps.
        """
        count, step = room // size, size // 2
        for view, start in ((self.halves, at // 2 + 3), (self.words32, at // 4), (self.words32, at // 4 + 2)):
            wide = view.itemsize // 2
            count = alike(view, start, step // wide, count, view[start])
        return count


class PerfBuffer:
    """The reader of a perf event array: opens an event and a buffer of ``pages`` pages on every online CPU.

    ``lost`` counts the records that the kernel dropped because a buffer was full, ``lost_by_cpu`` where.
    Records come in order of time within a CPU, not between CPUs. The kernel pads records to 8 bytes:
    without a codec, bytes may end in up to seven zeros. ``wakeup`` is the number of records a buffer
    takes before it wakes the reader; more than 1 costs programs less.
    """

    def __init__(self, map: Map, codec: Codec | None = None, *, pages: int = 64, wakeup: int = 1) -> None:
        if map.type != _PERF_EVENT_ARRAY:
            raise KernelError(errno.EINVAL, f"map {map.name} is no perf event array but {map.type_name}")
        if pages < 1 or pages & (pages - 1):
            raise KernelError(errno.EINVAL, f"{pages} pages: a power of two is needed")
        self.map = map
        self.codec = codec
        self.count = 0
        self.lost_by_cpu: dict[int, int] = {}
        self._rings: list[_Ring] = []
        self._maker = os.getpid()
        self._fence = allocate_lock()
        kernel = map.kernel
        size = pages * page_size()
        try:
            for cpu in online_cpus():
                if cpu >= map.max_entries:
                    break
                fd = open_event(
                    kernel,
                    cpu=cpu,
                    type=SOFTWARE,
                    config=BPF_OUTPUT,
                    sample_period=1,
                    sample_type=SAMPLE_RAW,
                    wakeup_events=wakeup,
                    bits=DISABLED,
                )
                try:
                    view = kernel.mmap(fd, page_size() + size, writable=True)
                except BaseException:
                    kernel.close(fd)
                    raise
                self._rings.append(_Ring(cpu, fd, view, size))
                kernel.perf_event_ioctl(fd, ENABLE)
                map[cpu] = fd
        except BaseException:
            self.close()
            raise

    @property
    def lost(self) -> int:
        return sum(self.lost_by_cpu.values())

    def read(self, limit: int = 0) -> list[Any]:
        """All records that are there now, CPU by CPU, or the first ``limit``."""
        out: list[Any] = []
        for _ in self._each(out, limit):
            pass
        return out

    def read_with_cpu(self, limit: int = 0) -> list[tuple[int, Any]]:
        """`read`, each record with the number of its CPU."""
        records: list[Any] = []
        out: list[tuple[int, Any]] = []
        for cpu in self._each(records, limit):
            out += [(cpu, record) for record in records[len(out) :]]
        return out

    def _each(self, out: list[Any], limit: int) -> Iterator[int]:
        """Append records CPU by CPU; gives the numbers of those that had some."""
        self._own_memory()
        for ring in self._rings:
            before = len(out)
            # Collecting garbage among many new values would cost more than making them; none is garbage.
            collecting = gc.isenabled()
            gc.disable()
            try:
                self._read_ring(ring, out, limit)
            finally:
                if collecting:
                    gc.enable()
            self.count += len(out) - before
            if len(out) > before:
                yield ring.cpu
            if limit and len(out) >= limit:
                break

    def _read_ring(self, ring: _Ring, out: list[Any], limit: int) -> None:
        head = ring.words[_HEAD]
        with self._fence:  # taking a lock keeps reads before and after in order
            pass
        tail = ring.words[_TAIL]
        try:
            while tail < head and not (limit and len(out) >= limit):
                start = tail
                tail = self._chunk(ring, tail, min(head, tail + _CHUNK), head, out, limit)
                if tail - start >= _CHUNK // 2:
                    self._give_back(ring, tail)
        finally:
            self._give_back(ring, tail)

    def _give_back(self, ring: _Ring, tail: int) -> None:
        with self._fence:
            pass
        ring.words[_TAIL] = tail

    def _chunk(self, ring: _Ring, tail: int, stop: int, head: int, out: list[Any], limit: int) -> int:
        """Append what lies between ``tail`` and ``stop``, or up to ``limit``; the position reached."""
        mask, data, codec = ring.size - 1, ring.data, self.codec
        short_until = 0
        while tail < stop and not (limit and len(out) >= limit):
            at = tail & mask
            kind, _, size = _HEADER.unpack_from(data, at)
            if size < _HEADER.size or size % 8 or tail + size > head:
                raise KernelError(errno.EPROTO, f"perf buffer of CPU {ring.cpu}: a record of {size} bytes")
            if kind == _RECORD_SAMPLE and tail >= short_until and size > _BEFORE:
                count = ring.run(at, min(stop - tail, ring.size - at), size)
                if limit:
                    count = min(count, limit - len(out))
                if count >= _SHORT_RUN:
                    self._take_run(data[at : at + count * size], count, size, out)
                    tail += count * size
                    continue
                # The next few are of several kinds: look for a run again behind them.
                short_until = tail + _SHORT_RUN * size
            if at + size <= ring.size:
                record = data[at + 8 : at + size]
            else:
                record = memoryview(bytes(data[at + 8 :]) + bytes(data[: at + size - ring.size]))
            tail += size
            if kind == _RECORD_SAMPLE:
                length = int.from_bytes(record[:4], byteorder)
                payload = bytes(record[4 : 4 + length])
                out.append(payload if codec is None else codec.decode(payload.ljust(codec.size, b"\0")))
            elif kind == _RECORD_LOST:
                lost = struct.unpack_from("=QQ", record)[1]
                self.lost_by_cpu[ring.cpu] = self.lost_by_cpu.get(ring.cpu, 0) + lost
        return tail

    def _take_run(self, data: memoryview, count: int, size: int, out: list[Any]) -> None:
        """Append ``count`` samples of one size and length."""
        length = int.from_bytes(data[8:_BEFORE], byteorder)
        codec = self.codec
        length = min(length, size - _BEFORE)
        starts = range(_BEFORE, count * size, size)
        if codec is None:
            out += [bytes(data[i : i + length]) for i in starts]
        elif length >= codec.size:
            out += codec.decode_records(data, length, skip=_BEFORE, stride=size)
        else:
            fill = bytes(codec.size - length)
            out += [codec.decode(bytes(data[i : i + length]) + fill) for i in starts]

    def _own_memory(self) -> None:
        """Raises ValueError in a forked child: the kernel does not let it have the buffers' memory."""
        if self._rings and os.getpid() != self._maker:
            raise ValueError("PerfBuffer: a forked process has to open its own")

    def _ready(self) -> bool:
        return any(ring.words[_HEAD] != ring.words[_TAIL] for ring in self._rings)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until there is a record, or ``timeout`` seconds have passed (None: for ever)."""
        self._own_memory()
        if not self._ready():
            self.map.kernel.poll({ring.fd: _POLLIN for ring in self._rings}, milliseconds(timeout))
        return self._ready()

    def events(self, timeout: float | None = None) -> Iterator[Any]:
        """Records as they come; ends when none came for ``timeout`` seconds."""
        while self.wait(timeout):
            yield from self.read()

    def __iter__(self) -> Iterator[Any]:
        return self.events()

    def filenos(self) -> list[int]:
        return [ring.fd for ring in self._rings]

    def close(self) -> None:
        kernel = self.map.kernel
        ours = not forked_from(self._maker)
        while self._rings:
            ring = self._rings.pop()
            if ours and not self.map.closed:
                try:  # noqa: SIM105 - contextlib is 5 ms of a start
                    del self.map[ring.cpu]
                except (KeyError, KernelError):
                    pass
            ring.release()
            if os.getpid() == self._maker:
                kernel.munmap(ring.view)
            kernel.close(ring.fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_rings", None):
            self.close()
