"""The bytes of a capture, wherever they come from: a file, a pipe, a file object, compressed or not.

Reading is in pieces of a few hundred kilobytes. A pipe is read as data arrives, so packets of a live
``tcpdump -w -`` are delivered at once.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Protocol

from skep.errors import CaptureError, SkepError

#: bytes asked for at a time; about what stays in a second-level cache
PIECE = 1 << 18

GZIP = b"\x1f\x8b"
ZSTD = b"\x28\xb5\x2f\xfd"
XZ = b"\xfd7zXZ\0"
BZIP2 = b"BZh"
LZ4 = b"\x04\x22\x4d\x18"
COMPRESS = b"\x1f\x9d"
#: zstd and lz4 share "skippable" frames, 0x184D2A50 to 0x184D2A5F
SKIPPABLE = tuple(bytes((0x50 | low, 0x2A, 0x4D, 0x18)) for low in range(16))
COMPRESSED = (GZIP, ZSTD, XZ, BZIP2, LZ4, COMPRESS, *SKIPPABLE)


class BinaryFile(Protocol):
    """Anything with a ``read(n)`` that returns bytes."""

    def read(self, size: int, /) -> bytes: ...


class Source:
    """A stream of (decompressed) bytes. ``path`` is what errors call it, ``compression`` a name or None."""

    __slots__ = ("_owned", "compression", "fd", "path", "read")

    def __init__(
        self, origin: str | bytes | os.PathLike[str] | int | BinaryFile, name: str | None = None
    ) -> None:
        self._owned = -1
        self.compression: str | None = None
        #: ``read()`` returns some bytes, b"" only at the end.
        self.read: Callable[[], bytes]
        #: file descriptor read from, -1 for a file object
        self.fd = -1
        if isinstance(origin, int):
            fd, self.path = origin, name or f"<fd {origin}>"
        elif isinstance(origin, (str, bytes, os.PathLike)):
            self.path = os.fsdecode(origin)
            if self.path == "-":
                fd, self.path = 0, "<stdin>"
            else:
                fd = self._owned = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        else:
            self.path = str(getattr(origin, "name", "<stream>"))
            read: Callable[[int], object] = getattr(origin, "read1", origin.read)

            def read_object() -> bytes:
                piece = read(PIECE)
                if not isinstance(piece, bytes):
                    raise TypeError(
                        f"{self.path}: a capture is read from a binary file object ('rb'): its read() gave "
                        f"{type(piece).__name__}, not bytes"
                    )
                return piece

            self.read = read_object
            return

        self.fd = fd

        def read_fd() -> bytes:
            try:
                return os.read(fd, PIECE)
            except OSError as error:
                raise OSError(error.errno, error.strerror, self.path) from None

        self.read = read_fd

    def more(self, rest: bytes, need: int) -> bytes:
        """``rest`` and fresh bytes after it: at least ``need`` in all unless the input ends first.

        Memory grows only with bytes that arrive, whatever length a file claims.
        """
        piece = self.read()
        have = len(rest) + len(piece)
        if have >= need or not piece:
            return rest + piece
        parts = [rest, piece]
        while have < need:
            piece = self.read()
            if not piece:
                break
            parts.append(piece)
            have += len(piece)
        return b"".join(parts)

    def unpack(self, start: bytes) -> bytes:
        """Put the right decompressor in place if ``start``, the first bytes, asks for one.

        Returns the first bytes of the capture itself. Compression inside compression is not unpacked.
        """
        if not start.startswith(COMPRESSED):
            return start
        from skep.capture.compressed import opener

        self.compression, self.read = opener(start, self.read, self.path)
        return self.read()

    def error(self, reason: str, offset: int | None) -> CaptureError:
        if self.compression and offset is not None:
            reason += f" (offset in the {self.compression}-decompressed data)"
        return CaptureError(reason, path=self.path, offset=offset)

    def close(self) -> None:
        self.read = self._closed
        if self._owned >= 0:
            os.close(self._owned)
            self._owned = -1

    def _closed(self) -> bytes:
        raise SkepError(f"{self.path}: the capture has been closed")
