"""Captures in large pieces, for native code that walks records itself.

A native scanner handles one framing, that of pcap. For an uncompressed pcap file it needs nothing from here:
`layout` tells it how to walk the file. Everything else (compressed files, pipes, pcapng, record headers of
other shapes, pseudo headers to turn) comes through `Stream` as buffers in pcap framing.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from struct import Struct
from typing import TYPE_CHECKING, NamedTuple

from skep.capture import linktypes
from skep.capture.packet import Block, Packet
from skep.capture.pcap import Layout, PcapRecords
from skep.capture.reader import Reader
from skep.errors import CaptureError

if TYPE_CHECKING:
    from skep.capture.pcapng import PcapngBlocks

#: bytes of records gathered into one batch
BATCH = 1 << 18

_HEAD = Struct("=IIII")


class Batch(NamedTuple):
    """A piece of a stream: pcap records of one link type (DLT number).

    ``records`` begins and ends anywhere when the stream is ``raw``, between records otherwise. In a stream
    made with ``keep``, ``packets`` are the packets the records were made of, one each in the same order,
    and ``blocks`` the other pcapng blocks as (number of packets of this batch before it, block).
    """

    linktype: int
    records: bytes
    packets: list[Packet] | None = None
    blocks: list[tuple[int, Block]] | None = None


class Stream:
    """The rest of a capture as batches. ``layout`` tells how the records are framed.

    ``raw`` streams pass a pcap file's bytes on untouched: a record may continue in the next batch, records
    are unchecked, and the scanner asks `error` for the `CaptureError` when it meets damage. Other streams
    are checked while they are made; damage is raised after the batch with the last whole record.

    ``offset`` is the (decompressed) file offset of the next batch of a raw stream.
    """

    __slots__ = ("_keep", "_reader", "layout", "offset", "raw")

    def __init__(self, reader: Reader, *, keep: bool = False, precision: int | None = None) -> None:
        self._reader = reader
        self._keep = keep
        layout = reader.layout
        digits = reader.precision if precision is None else precision
        units = 10**digits
        self.offset = 0
        self.raw = not keep and layout is not None and layout.plain and layout.units == units
        if layout is not None and self.raw:
            self.layout = layout
        else:
            self.layout = Layout(
                byteorder=sys.byteorder,
                units=units,
                record_header=16,
                lengths=0,
                version=(2, 4),
                snaplen=0x7FFFFFFF,
                record_limit=0x7FFFFFFF,
                linktype=reader.linktype,
                fcs=layout.fcs if layout else 0,
                post=False,
            )

    def error(self, head: bytes, available: int, offset: int) -> CaptureError | None:
        """The error for a damaged record of a raw stream, None if there is nothing wrong with it.

        ``head`` is the record's header, or what there is of it, ``available`` the number of bytes from its
        start to the end of the file (any number large enough if that has not been reached), ``offset`` its
        file offset.
        """
        reason = self.layout.damage(head, available)
        return self._reader.source.error(reason, offset) if reason else None

    def __iter__(self) -> Iterator[Batch]:
        body = self._reader.rest()
        if self.raw and isinstance(body, PcapRecords):
            yield from self._pieces(body)
        elif not self._keep and not isinstance(body, PcapRecords):
            yield from self._framed(body)
        else:
            yield from self._batches(body)

    def _pieces(self, body: PcapRecords) -> Iterator[Batch]:
        piece, body.buffer = body.buffer, b""
        self.offset = body.base
        linktype, read = self.layout.linktype, body.source.read
        while piece or (piece := read()):
            size = len(piece)
            yield Batch(linktype, piece)
            self.offset += size
            piece = b""

    def _framed(self, body: PcapngBlocks) -> Iterator[Batch]:
        """pcapng without keeping anything: everyday packets are framed in a loop of their own."""
        from skep.capture.framing import frame

        body.opening = []
        parts: list[bytes] = []
        linktype, size, units = self.layout.linktype, 0, self.layout.units
        try:
            while True:
                added, following = frame(body, parts, linktype, units)
                size += added
                if parts and (size >= BATCH or following != linktype or body.starved()):
                    yield Batch(linktype, b"".join(parts))
                    parts, size = [], 0
                if following != linktype:
                    linktype = following
                    continue
                if size == 0 and added >= BATCH:
                    continue
                item = body.one()
                if item is None:
                    break
                if isinstance(item, Packet):
                    if item.linktype != linktype:
                        if parts:
                            yield Batch(linktype, b"".join(parts))
                            parts, size = [], 0
                        linktype = item.linktype
                    parts += (record_header(item, units), item.data)
                    size += 16 + len(item.data)
        except CaptureError:
            if parts:
                yield Batch(linktype, b"".join(parts))
            raise
        if parts:
            yield Batch(linktype, b"".join(parts))

    def _batches(self, body: PcapRecords | PcapngBlocks) -> Iterator[Batch]:
        units = self.layout.units
        parts: list[bytes] = []
        packets: list[Packet] = []
        blocks: list[tuple[int, Block]] = []
        linktype, size = self.layout.linktype, 0

        def batch() -> Batch:
            nonlocal parts, packets, blocks, size
            kept = (packets, blocks) if self._keep else (None, None)
            made = Batch(linktype, b"".join(parts), *kept)
            parts, packets, blocks, size = [], [], [], 0
            return made

        try:
            for item in body.items(pauses=True):
                if item is None or size >= BATCH:
                    # About to wait for input: what is ready goes on.
                    if parts or blocks:
                        yield batch()
                    if item is None:
                        continue
                if isinstance(item, Block):
                    if self._keep:
                        blocks.append((len(packets), item))
                        size += len(item.raw)
                    continue
                if item.linktype != linktype:
                    if parts or blocks:
                        yield batch()
                    linktype = item.linktype
                parts += (record_header(item, units), item.data)
                size += 16 + len(item.data)
                if self._keep:
                    packets.append(item)
        except CaptureError:
            if parts or blocks:
                yield batch()
            raise
        if parts or blocks:
            yield batch()


def record_header(packet: Packet, units: int) -> bytes:
    """The 16 bytes before a packet's data, in this machine's byte order; seconds are modulo 2**32."""
    sec, frac = divmod(packet.time_ns, 1_000_000_000)
    if packet.carry:
        sec, frac = sec - packet.carry, frac + packet.carry * 1_000_000_000
    if units == 1_000_000:
        frac //= 1000
    return _HEAD.pack(sec & 0xFFFFFFFF, frac & 0xFFFFFFFF, len(packet.data), packet.wirelen)


def file_header(layout: Layout, *, linktype: int | None = None, snaplen: int | None = None) -> bytes:
    """The 24-byte pcap file header for records of this layout (version 2.4, 16-byte record headers)."""
    order = "<" if layout.byteorder == "little" else ">"
    magic = 0xA1B23C4D if layout.units == 1_000_000_000 else 0xA1B2C3D4
    number = linktypes.to_file(layout.linktype if linktype is None else linktype) | layout.fcs
    size = layout.snaplen if snaplen is None else snaplen
    return Struct(order + "IHHIIII").pack(magic, 2, 4, 0, 0, size, number)
