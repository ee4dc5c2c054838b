"""A pcap file being written in large pieces that end between records."""

from __future__ import annotations

import errno
import os
import stat
import sys

from skep.tap.layout import RECORD_HEADER
from skep.tap.plain import file_header

TYPE_CHECKING = False  # `collections.abc` brings `collections`, which a warm run does without
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_MOST_PIECES = 1024  # IOV_MAX: how many one system call takes


class PcapOutput:
    """Takes records that are framed already. ``path`` "-" is standard output.

    The header is that of ``tcpdump -w``: this machine's byte order, version 2.4, microseconds unless
    ``nano``. When a write fails, a regular file is cut back to its last whole record. A context manager.
    """

    def __init__(self, path: str, *, link: int, snaplen: int, nano: bool = False, fcs: int = 0) -> None:
        self.path = path
        if path == "-":
            self.fd, self._owned = 1, False
        else:
            self.fd, self._owned = (
                os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666),
                True,
            )
        try:
            header = memoryview(file_header(link, snaplen, nano=nano, fcs=fcs))
            self._write((header,), whole=_nothing)
        except BaseException:
            self.close()
            raise

    def write(self, *pieces: memoryview) -> None:
        """Write whole records, some in each piece."""
        self._write(pieces, whole=_records)

    def _write(self, pieces: Sequence[memoryview], whole: Callable[[memoryview, int], int]) -> None:
        at = done = 0  # bytes written of the piece ``at``
        try:
            while at < len(pieces):
                left = [pieces[at][done:], *pieces[at + 1 : at + _MOST_PIECES]]
                done += os.writev(self.fd, left)
                while at < len(pieces) and done >= len(pieces[at]):
                    done -= len(pieces[at])
                    at += 1
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise
            if done and stat.S_ISREG(os.fstat(self.fd).st_mode):
                end = os.lseek(self.fd, 0, os.SEEK_CUR)
                os.ftruncate(self.fd, end - done + whole(pieces[at], done))
            raise OSError(error.errno, error.strerror, self.path) from None

    def close(self) -> None:
        if self._owned:
            self._owned = False
            os.close(self.fd)

    def __enter__(self) -> PcapOutput:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _nothing(data: memoryview, done: int) -> int:
    return 0


def _records(data: memoryview, done: int) -> int:
    """How many of the first ``done`` bytes are whole records."""
    at = 0
    while True:
        after = at + RECORD_HEADER
        if after > done:
            return at
        after += int.from_bytes(data[at + 8 : at + 12], sys.byteorder)
        if after > done:
            return at
        at = after
