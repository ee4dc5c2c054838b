"""Opening a capture of any kind."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from skep.capture import pcap
from skep.capture.packet import Block, Interface, Packet
from skep.capture.pcap import FILE_HEADER, Layout, PcapRecords
from skep.capture.source import BinaryFile, Source

if TYPE_CHECKING:
    from skep.capture.pcapng import PcapngBlocks

SECTION = b"\n\r\r\n"


class Reader:
    """A capture being read, once, from front to back: iterate over it for `Packet` values.

    A context manager. Damage raises `CaptureError` where it is met, after all packets before it.

    ``path`` names the input, ``format`` is "pcap" or "pcapng", ``compression`` None or "gzip", "zstd",
    "xz", "bzip2". ``byteorder`` is that of the file (of a pcapng file's first section). ``linktype`` (DLT),
    ``snaplen`` (bytes, never 0) and ``precision`` (decimal digits of the second worth keeping: 6 or 9) are
    those of a pcapng file's first interface. ``layout`` tells a scanner how to walk a pcap file, it is None
    for pcapng. ``interfaces`` grows as a pcapng file is read.
    """

    __slots__ = (
        "_iterator",
        "body",
        "byteorder",
        "format",
        "interfaces",
        "layout",
        "linktype",
        "precision",
        "snaplen",
        "source",
    )

    def __init__(
        self, origin: str | bytes | os.PathLike[str] | int | BinaryFile, name: str | None = None
    ) -> None:
        self.source = Source(origin, name)
        self._iterator: Generator[Any, None, None] | None = None
        self.layout: Layout | None = None
        self.interfaces: list[Interface]
        try:
            self._open()
        except BaseException:
            self.source.close()
            raise

    def _open(self) -> None:
        source = self.source
        #: the records behind the file's header: what iteration and `Stream` read from
        self.body: PcapRecords | PcapngBlocks
        start = source.unpack(source.more(b"", FILE_HEADER))
        if len(start) < FILE_HEADER:
            start = source.more(start, FILE_HEADER)
        layout = pcap.parse_header(start, source)
        if layout is not None:
            self.format = "pcap"
            self.layout = layout
            self.byteorder = layout.byteorder
            self.body = PcapRecords(layout, source, start[FILE_HEADER:], FILE_HEADER)
        elif start.startswith(SECTION):
            self._open_pcapng(start)
        else:
            raise source.error(*unknown(start))
        self.interfaces = self.body.interfaces
        first = self.interfaces[0]
        self.linktype = first.linktype
        self.snaplen = first.snaplen
        self.precision = 9 if first.units > 1_000_000 else 6

    def _open_pcapng(self, start: bytes) -> None:
        from skep.capture.blocks import order_of_section
        from skep.capture.pcapng import PcapngBlocks

        if not order_of_section(start):
            # Four odd line ends, but not the mark of a byte order behind them.
            raise self.source.error(*unknown(start))
        self.format = "pcapng"
        self.body = PcapngBlocks(self.source, start)
        self.byteorder = self.body.opening[0].byteorder

    @property
    def path(self) -> str:
        return self.source.path

    @property
    def compression(self) -> str | None:
        return self.source.compression

    def __iter__(self) -> Iterator[Packet]:
        return self._start("packets")

    def items(self) -> Iterator[Packet | Block]:
        """Packets, and between them every other block of a pcapng file, in file order.

        Writing all items to a `PcapngWriter` copies the file. Use either this or plain iteration.
        """
        return self._start("items")

    def _start(self, kind: str) -> Iterator[Any]:
        if self._iterator is None:
            self._iterator = getattr(self.body, kind)()
        return self._iterator

    def rest(self) -> PcapRecords | PcapngBlocks:
        """What follows the last packet delivered, for somebody else to read: iteration ends here."""
        if self._iterator is not None:
            self._iterator.close()
            self._iterator = None
        return self.body

    def close(self) -> None:
        """Close the input if `open` opened it. Packets already delivered stay valid."""
        self.source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open(origin: str | bytes | os.PathLike[str] | int | BinaryFile, *, name: str | None = None) -> Reader:
    """Open a capture: a path ("-" is standard input), a file descriptor, or a binary file object.

    ``name`` is what errors call a file descriptor. Formats and compression are told by the first bytes.

    Raises:
        CaptureError: this is no capture. OSError: it cannot be opened. MissingDependency: zstd without its
            library.
    """
    return Reader(origin, name)


_FOREIGN = {
    b"snoop\0\0\0": "a snoop file (RFC 1761)",
    b"TRSNIFF data": "a Sniffer file",
    b"GMBU": "a Microsoft Network Monitor file",
    b"RTSS": "a Microsoft Network Monitor file",
    b"PK\x03\x04": "a zip archive",
    b"\x7fELF": "an ELF file",
    b"btsnoop\0": "a btsnoop file",
}


def unknown(start: bytes) -> tuple[str, int]:
    """(reason, offset) for a file that is no capture skep reads."""
    for magic, what in _FOREIGN.items():
        if start.startswith(magic):
            return f"this is {what}; pcap and pcapng are read (editcap converts)", 0
    if len(start) < 4:
        return f"no capture file header, only {len(start)} bytes are there", 0
    return f"this is not a pcap or pcapng file (it begins with {start[:4].hex(' ')})", 0
