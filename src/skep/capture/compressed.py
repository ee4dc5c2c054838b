"""Unpacking compressed captures on the fly: gzip, zstd, xz and bzip2.

Output comes in bounded pieces however well the input was compressed, and everything in front of damaged
compressed data is delivered before the error (for xz: all but the last kilobyte of input).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from skep.capture.source import BZIP2, COMPRESS, GZIP, LZ4, SKIPPABLE, XZ, ZSTD
from skep.errors import CaptureError, MissingDependency

#: most bytes unpacked at a time
OUTPUT = 1 << 18
#: xz may ask for up to 4 GiB of dictionary; its strongest preset needs 65 MiB
XZ_MEMORY = 80 << 20

Read = Callable[[], bytes]


def opener(start: bytes, read: Read, path: str) -> tuple[str, Read]:
    """Name of the compression that ``start`` begins, and a ``read`` of what is inside.

    ``read()`` gives bytes, b"" at the end. Raises `CaptureError` for a compression that is known but
    not supported, `MissingDependency` for zstd without the library.
    """
    if start.startswith((LZ4, COMPRESS)):
        name, command = ("lz4", "lz4 -dc") if start.startswith(LZ4) else ("compress (.Z)", "uncompress -c")
        raise CaptureError(
            f"{name} compression is not supported: {command} FILE | skep ... -r -", path=path, offset=0
        )
    if start.startswith(GZIP):
        name, pieces = "gzip", _gzip(start, read, path)
    elif start.startswith(XZ):
        name, pieces = "xz", _xz(start, read, path)
    elif start.startswith(BZIP2):
        name, pieces = "bzip2", _bzip2(start, read, path)
    else:
        name, pieces = "zstd", _zstd(start, read, path)
    return name, lambda: next(pieces, b"")


class _Input:
    """Compressed input with a position, read in exact amounts."""

    __slots__ = ("data", "path", "position", "read")

    def __init__(self, start: bytes, read: Read, path: str) -> None:
        self.data = start
        self.read = read
        self.path = path
        self.position = 0

    def take(self, size: int) -> bytes:
        """The next ``size`` bytes, fewer only at the end of the input."""
        while len(self.data) < size and (piece := self.read()):
            self.data += piece
        taken, self.data = self.data[:size], self.data[size:]
        self.position += len(taken)
        return taken

    def some(self) -> bytes:
        """Whatever is at hand, b"" at the end of the input."""
        taken, self.data = self.data or self.read(), b""
        self.position += len(taken)
        return taken

    def back(self, unused: bytes) -> None:
        self.data = unused + self.data
        self.position -= len(unused)

    def error(self, name: str, reason: str) -> CaptureError:
        return CaptureError(f"damaged {name} data ({reason})", path=self.path, offset=self.position)


def _gzip(start: bytes, read: Read, path: str) -> Iterator[bytes]:
    import zlib

    source = _Input(start, read, path)
    while True:
        member = zlib.decompressobj(31)
        while not member.eof:
            data = member.unconsumed_tail or source.some()
            if not data:
                raise source.error("gzip", "the file ends inside it")
            before = member.copy()
            try:
                piece = member.decompress(data, OUTPUT)
            except zlib.error as error:
                # Again byte by byte from the copy, for what was whole in front of the damage.
                source.back(data)
                try:
                    while byte := source.take(1):
                        if piece := before.decompress(byte):
                            yield piece
                except zlib.error:
                    pass
                raise source.error("gzip", str(error).rpartition(": ")[2]) from None
            if piece:
                yield piece
        source.back(member.unused_data)
        # Another member may follow; gzip ignores zeros and other trailing bytes, so do we.
        magic = source.take(2)
        source.back(magic)
        if magic != GZIP:
            return


def _xz(start: bytes, read: Read, path: str) -> Iterator[bytes]:
    import lzma

    source = _Input(start, read, path)
    while True:
        stream = lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=XZ_MEMORY)
        while not stream.eof:
            data = source.take(1024) if stream.needs_input else b""
            if stream.needs_input and not data:
                raise source.error("xz", "the file ends inside it")
            try:
                piece = stream.decompress(data, OUTPUT)
            except lzma.LZMAError as error:
                raise source.error("xz", str(error)) from None
            if piece:
                yield piece
        source.back(stream.unused_data)
        # Streams may follow one another, with padding in fours of zeros between them.
        while (padding := source.take(4)) == bytes(4):
            pass
        source.back(padding)
        if not padding.startswith(XZ[:4]):
            return


def _bzip2(start: bytes, read: Read, path: str) -> Iterator[bytes]:
    import bz2

    source = _Input(start, read, path)
    while True:
        stream = bz2.BZ2Decompressor()
        while not stream.eof:
            data = source.take(1024) if stream.needs_input else b""
            if stream.needs_input and not data:
                raise source.error("bzip2", "the file ends inside it")
            try:
                piece = stream.decompress(data, OUTPUT)
            except OSError as error:
                raise source.error("bzip2", str(error)) from None
            if piece:
                yield piece
        source.back(stream.unused_data)
        magic = source.take(3)
        source.back(magic)
        if magic != BZIP2:
            return


def _zstd(start: bytes, read: Read, path: str) -> Iterator[bytes]:
    """Frame by frame and block by block (RFC 8878, section 3.1): a block unpacks to 128 KiB at most."""
    source = _Input(start, read, path)
    try:
        from zstandard import ZstdDecompressor, ZstdError
    except ImportError:
        raise MissingDependency(f"{path}: reading zstd-compressed captures", extra="zstd") from None

    def exactly(size: int) -> bytes:
        data = source.take(size)
        if len(data) < size:
            raise source.error("zstd", "the file ends inside it")
        return data

    while magic := source.take(4):
        if magic in SKIPPABLE:
            left = int.from_bytes(exactly(4), "little")
            while left:
                left -= len(exactly(min(left, OUTPUT)))
            continue
        if magic != ZSTD:
            raise source.error("zstd", "no frame where one should begin")
        flags = exactly(1)[0]
        single = flags >> 5 & 1
        rest = (1 - single) + (0, 1, 2, 4)[flags & 3] + (single, 2, 4, 8)[flags >> 6]
        frame = ZstdDecompressor().decompressobj()
        piece, last = magic + bytes((flags,)) + exactly(rest), False
        try:
            frame.decompress(piece)
            while not last:
                head = exactly(3)
                word = int.from_bytes(head, "little")
                last = bool(word & 1)
                size = 1 if word >> 1 & 3 == 1 else word >> 3
                if size > 1 << 17:
                    raise source.error("zstd", f"a block of {size} bytes")
                if piece := frame.decompress(head + exactly(size)):
                    yield piece
            if flags & 4 and (piece := frame.decompress(exactly(4))):
                yield piece
        except ZstdError as error:
            raise source.error("zstd", str(error).rpartition(": ")[2]) from None
