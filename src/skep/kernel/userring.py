"""User ring buffers (Linux 6.1): records from Python to a program that drains them."""

from __future__ import annotations

import errno
import struct
from _thread import allocate_lock

from skep.errors import KernelError
from skep.kernel.codec import Codec, within
from skep.kernel.handle import page_size
from skep.kernel.ringbuf import closed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any, Final, Self

    from skep.kernel.map import Map

_USER_RINGBUF: Final = 31
_HEADER: Final = 8


class UserRingBuf:
    """The writer of a user ring buffer; one at a time. The program drains it when it runs."""

    def __init__(self, map: Map, codec: Codec | None = None) -> None:
        if map.type != _USER_RINGBUF:
            raise KernelError(errno.EINVAL, f"map {map.name} is no user ring buffer but {map.type_name}")
        self.map = map
        self.codec = codec
        page, size = page_size(), map.max_entries
        self._size = size
        self._views: list[memoryview] = []
        self._fence = allocate_lock()
        try:
            self._views.append(map.kernel.mmap(map.fd, page))
            self._views.append(map.kernel.mmap(map.fd, page + 2 * size, writable=True, offset=page))
        except BaseException:
            self.close()
            raise
        self._consumer = self._views[0].cast("Q")
        self._producer = self._views[1][:8].cast("Q")
        self._data = self._views[1][page:]

    @property
    def room(self) -> int:
        """Bytes free, records' headers included."""
        return self._size - (self._producer[0] - self._consumer[0])

    def write(self, value: Any) -> None:
        """Append one record (bytes, or a value of the codec's type).

        Raises KernelError (ENOSPC) when there is no room until the program drains, EINVAL for a value that
        does not fit its type, E2BIG for one that can never fit.
        """
        try:
            if self.codec is not None:
                data = self.codec.encode(value)
            elif isinstance(value, (bytes, bytearray, memoryview)):
                data = bytes(value)
            else:
                raise ValueError(f"{value!r:.60} where bytes belong")
        except ValueError as error:
            raise KernelError(errno.EINVAL, f"map {self.map.name}: {within('record', error)}") from None
        need = (len(data) + _HEADER + 7) & ~7
        if need > self._size:
            raise KernelError(errno.E2BIG, f"map {self.map.name}: a record of {len(data)} bytes")
        if need > self.room:
            raise KernelError(errno.ENOSPC, f"map {self.map.name}: no room: the program has not drained it")
        position = self._producer[0]
        at = position & (self._size - 1)
        self._data[at + _HEADER : at + _HEADER + len(data)] = data
        struct.pack_into("=II", self._data, at, len(data), 0)
        with self._fence:  # the record before the position that shows it
            pass
        self._producer[0] = position + need

    def close(self) -> None:
        for name in ("_data", "_producer", "_consumer"):
            view = self.__dict__.pop(name, None)
            if view is not None:
                view.release()
        while self._views:
            self.map.kernel.munmap(self._views.pop())

    if not TYPE_CHECKING:
        __getattr__ = closed

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
