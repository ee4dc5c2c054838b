"""Perf event arrays: a buffer for each CPU, read from its memory, with lost records counted."""

from __future__ import annotations

import errno
import struct
from _thread import allocate_lock
from contextlib import suppress

from skep.errors import KernelError
from skep.kernel.codec import Codec
from skep.kernel.ringbuf import page_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType
    from typing import Any, Final, Self

    from skep.kernel.map import Map

_SOFTWARE: Final = 1
_BPF_OUTPUT: Final = 10
_SAMPLE_RAW: Final = 1 << 10
_RECORD_LOST: Final = 2
_RECORD_SAMPLE: Final = 9
_ENABLE: Final = 0x2400
_POLLIN: Final = 1
# Words of struct perf_event_mmap_page.
_HEAD, _TAIL = 1024 // 8, 1032 // 8
_PERF_EVENT_ARRAY: Final = 4
# type, size, config, sample_period, sample_type, read_format, flags, wakeup_events, bp_type, bp_addr
_ATTR: Final = struct.Struct("=IIQQQQQIIQ")
_HEADER: Final = struct.Struct("=IHH")


class _Ring:
    """One CPU's buffer."""

    __slots__ = ("cpu", "data", "fd", "size", "view", "words")

    def __init__(self, cpu: int, fd: int, view: memoryview, size: int) -> None:
        self.cpu = cpu
        self.fd = fd
        self.view = view
        self.size = size
        page = len(view) - size
        self.words = view[:page].cast("Q")
        self.data = view[page:]


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
        self._fence = allocate_lock()
        kernel = map.kernel
        attr = _ATTR.pack(
            _SOFTWARE, _ATTR.size, _BPF_OUTPUT, 1, _SAMPLE_RAW, 0, 1 << 0, wakeup, 0, 0
        )  # flags: disabled until enabled
        size = pages * page_size()
        try:
            for cpu in online_cpus():
                if cpu >= map.max_entries:
                    break
                fd = kernel.perf_event_open(attr, -1, cpu, -1, 1 << 3)  # PERF_FLAG_FD_CLOEXEC
                try:
                    view = kernel.mmap(fd, page_size() + size, writable=True)
                except BaseException:
                    kernel.close(fd)
                    raise
                self._rings.append(_Ring(cpu, fd, view, size))
                kernel.perf_event_ioctl(fd, _ENABLE)
                map[cpu] = fd
        except BaseException:
            self.close()
            raise

    @property
    def lost(self) -> int:
        return sum(self.lost_by_cpu.values())

    def read(self, limit: int = 0) -> list[Any]:
        """All records that are there now, CPU by CPU, or about the first ``limit``."""
        return [record for _, record in self.read_with_cpu(limit)]

    def read_with_cpu(self, limit: int = 0) -> list[tuple[int, Any]]:
        """`read`, each record with the number of its CPU."""
        out: list[tuple[int, Any]] = []
        for ring in self._rings:
            self._read_ring(ring, out, limit)
            if limit and len(out) >= limit:
                break
        self.count += len(out)
        return out

    def _read_ring(self, ring: _Ring, out: list[tuple[int, Any]], limit: int) -> None:
        head = ring.words[_HEAD]
        with self._fence:  # taking a lock keeps reads before and after in order
            pass
        tail = ring.words[_TAIL]
        mask, data, codec = ring.size - 1, ring.data, self.codec
        try:
            while tail < head and not (limit and len(out) >= limit):
                at = tail & mask
                kind, _, size = _HEADER.unpack_from(data, at)  # headers are aligned: they do not wrap
                if size < _HEADER.size or tail + size > head:
                    raise KernelError(
                        errno.EPROTO, f"perf buffer of CPU {ring.cpu}: a record of {size} bytes"
                    )
                if at + size <= ring.size:
                    record = data[at + 8 : at + size]
                else:
                    record = memoryview(bytes(data[at + 8 :]) + bytes(data[: at + size - ring.size]))
                tail += size
                if kind == _RECORD_SAMPLE:
                    length = struct.unpack_from("=I", record)[0]
                    payload = bytes(record[4 : 4 + length])
                    if codec is None:
                        out.append((ring.cpu, payload))
                    else:
                        out.append((ring.cpu, codec.decode(payload.ljust(codec.size, b"\0"))))
                elif kind == _RECORD_LOST:
                    lost = struct.unpack_from("=QQ", record)[1]
                    self.lost_by_cpu[ring.cpu] = self.lost_by_cpu.get(ring.cpu, 0) + lost
        finally:
            with self._fence:
                pass
            ring.words[_TAIL] = tail

    def _ready(self) -> bool:
        return any(ring.words[_HEAD] != ring.words[_TAIL] for ring in self._rings)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until there is a record, or ``timeout`` seconds have passed (None: for ever)."""
        if not self._ready():
            milliseconds = -1 if timeout is None else max(0, int(timeout * 1000 + 0.999))
            self.map.kernel.poll({ring.fd: _POLLIN for ring in self._rings}, milliseconds)
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
        while self._rings:
            ring = self._rings.pop()
            if not self.map.closed:
                with suppress(KeyError, KernelError):
                    del self.map[ring.cpu]
            ring.words.release()
            ring.data.release()
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


def online_cpus() -> list[int]:
    """Numbers of the CPUs that are online: /sys says "0-3,6"."""
    try:
        with open("/sys/devices/system/cpu/online", encoding="utf-8") as file:
            parts = file.read().strip().split(",")
    except OSError:
        import os

        return list(range(os.cpu_count() or 1))
    found: list[int] = []
    for part in parts:
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found
