"""Ring buffers in overwrite mode (BPF_F_RB_OVERWRITE, Linux 6.19): the newest records, whoever reads or not.

The kernel drops the oldest records for new ones, also while they are read. So records are copied first, and
then the kernel's position of what it has dropped says which of the copy still holds.
"""

from __future__ import annotations

import errno
import struct

from skep.errors import NotSupported
from skep.kernel.ringbuf import RingBuf

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final, NoReturn

_BUSY: Final = 1 << 31
_DISCARD: Final = 1 << 30
_LENGTH: Final = _DISCARD - 1
_HEADER: Final = 8
_CHUNK: Final = 1 << 18
_LEN: Final = struct.Struct("=I")


class OverwriteRingBuf(RingBuf):
    """As `RingBuf`, but reading never holds writers up: what is not read in time is gone.

    ``overwritten`` counts the bytes (headers included) that were dropped unread; how many records they were
    nobody knows.
    """

    overwritten = 0

    def batch(self, timeout: float | None = 0) -> NoReturn:
        raise NotSupported(
            errno.EOPNOTSUPP,
            "views of a ring buffer in overwrite mode (use read)",
        )

    @property
    def available(self) -> int:
        """Bytes waiting, headers included."""
        return self._producer[0] - max(self._consumer[0], self._producer[2])

    def _ready(self) -> bool:
        end = self._producer[0]
        self._order()
        start = max(self._consumer[0], self._producer[2])
        return start < end and not self._words[(start & self._mask) >> 2] & _BUSY

    def read(self, limit: int = 0) -> list[Any]:
        """The records that are there now, oldest first, or the first ``limit``."""
        out: list[Any] = []
        while not limit or len(out) < limit:
            copied = self._copy()
            if copied is None:
                break
            start, data = copied
            end = self._take(data, out, limit)
            if not end:
                break
            self._consumed(start + end)
        self.count += len(out)
        return out

    def _copy(self) -> tuple[int, bytes] | None:
        """Where the oldest record that still holds starts, and a copy from there; None when there is none."""
        size = _CHUNK
        while True:
            before = self._consumer[0]
            end = self._producer[0]
            self._order()
            start = max(before, self._producer[2])
            if start >= end:
                return None
            at = start & self._mask
            data = bytes(self._data[at : at + min(end - start, size, self._size)])
            self._order()
            dropped = self._producer[2] - start
            if dropped <= 0:
                dropped = 0
            elif dropped >= len(data):
                continue
            self.overwritten += start + dropped - before
            if start + dropped > before:
                self._consumed(start + dropped)
            record = (_LEN.unpack_from(data, dropped)[0] & _LENGTH) + _HEADER
            if record > len(data) - dropped and len(data) < end - start and size < self._size:
                size = self._size
                continue
            return start + dropped, data[dropped:]

    def _take(self, data: bytes, out: list[Any], limit: int) -> int:
        """Append the finished records of ``data``; how many bytes they are."""
        at, codec = 0, self.codec
        while at < len(data) and not (limit and len(out) >= limit):
            head = _LEN.unpack_from(data, at)[0]
            length = head & _LENGTH
            following = at + (length + _HEADER + 7 & ~7)
            if head & _BUSY or following > len(data):
                break
            if not head & _DISCARD:
                record = data[at + _HEADER : at + _HEADER + length]
                out.append(record if codec is None else codec.decode(record.ljust(codec.size, b"\0")))
            at = following
        return at
