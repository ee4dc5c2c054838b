"""Reading pcap files, by libpcap's rules: refused is what it refuses, at the same packet.

The rules follow libpcap 1.10 (pcap-savefile(5) and sf-pcap.c): magic numbers for micro- and nanoseconds
in both byte orders, versions 2.0 to 2.4 and 543.0, lengths in the other order before version 2.3, and the
longer record headers of Kuznetsov's modified format.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Generator
from struct import Struct
from typing import NamedTuple

from skep.capture import linktypes, pseudo
from skep.capture.packet import Interface, Packet
from skep.capture.source import Source

MICRO = 0xA1B2C3D4
NANO = 0xA1B23C4D
MODIFIED = 0xA1B2CD34
#: known, but nobody reads them: libpcap reserves the numbers only
RESERVED = {0xA1B234CD: "Mesquita's", 0xA12B3C4D: "Navtel's"}

FILE_HEADER = 24

#: `Layout.lengths`: caplen then wirelen; wirelen then caplen; the larger of the two is wirelen
CAPLEN_FIRST = 0
WIRELEN_FIRST = 1
EITHER = 2


class Layout(NamedTuple):
    """Everything a scanner needs to walk the records of a pcap file by itself.

    A record is ``record_header`` bytes (16 or 24) and the captured bytes. The header begins with four
    unsigned 32-bit numbers in ``byteorder``: seconds, fraction (``units`` to the second, 10**6 or 10**9)
    and two lengths, their order told by ``lengths``. A captured length over ``record_limit`` is damage.
    One over ``snaplen`` is not: the packet is its first ``snaplen`` bytes, the rest of the record is
    skipped. A record that the file's end cuts short is damage.

    ``linktype`` is the DLT number; ``fcs`` holds the upper six bits of the file's link type field
    (0xFC000000), which say how long the frame check sequences are and are copied to outputs.
    ``post`` is True when records of this link type and byte order are changed on reading (pseudo headers in
    the writer's byte order): a scanner must leave such a file to `Reader`.
    """

    byteorder: str
    units: int
    record_header: int
    lengths: int
    version: tuple[int, int]
    snaplen: int
    record_limit: int
    linktype: int
    fcs: int
    post: bool

    @property
    def plain(self) -> bool:
        """True when records are the usual ones: 16 bytes of header, captured length first, no changes."""
        return self.record_header == 16 and self.lengths == CAPLEN_FIRST and not self.post

    def fields(self, data: bytes, position: int = 0) -> tuple[int, int, int, int]:
        """(seconds, fraction, captured length, wire length) of the record header at ``position``."""
        sec, frac, caplen, wirelen = HEAD[self.byteorder].unpack_from(data, position)
        if self.lengths == WIRELEN_FIRST or (self.lengths == EITHER and caplen > wirelen):
            caplen, wirelen = wirelen, caplen
        return sec, frac, caplen, wirelen

    def damage(self, head: bytes, available: int) -> str | None:
        """Why the record that begins with ``head`` is damaged, or None.

        ``head`` holds its first bytes (all of its header if there are as many), ``available`` is the
        number of bytes from the record's start to the end of the file.
        """
        if available < self.record_header:
            return (
                f"the file ends inside a record header, {available} of {self.record_header} bytes are there"
            )
        _, _, caplen, _ = self.fields(head)
        if caplen > self.record_limit:
            kind = linktypes.name(self.linktype)
            return f"a packet claims {caplen} captured bytes, {kind} has {self.record_limit} at most"
        if available < self.record_header + caplen:
            got = available - self.record_header
            return f"the file ends inside a packet, {got} of {caplen} captured bytes are there"
        return None


HEAD = {"little": Struct("<IIII"), "big": Struct(">IIII")}


def parse_header(data: bytes, source: Source) -> Layout | None:
    """The layout told by a file's first 24 bytes; None when they are not those of a pcap file.

    Raises `CaptureError` for a pcap file that cannot be read.
    """
    for byteorder in ("little", "big"):
        magic = int.from_bytes(data[:4], "little" if byteorder == "little" else "big")
        if magic in (MICRO, NANO, MODIFIED):
            break
        if magic in RESERVED:
            raise source.error(f"{RESERVED[magic]} variant of pcap ({magic:#x}) is not supported", 0)
    else:
        return None
    if len(data) < FILE_HEADER:
        raise source.error(
            f"the file ends inside the pcap file header, {len(data)} of {FILE_HEADER} bytes are there", 0
        )
    order = "<" if byteorder == "little" else ">"
    major, minor, _, _, snaplen, link = Struct(order + "HHIIII").unpack_from(data, 4)
    if (major, minor) != (543, 0) and not (major == 2 and minor <= 4):
        raise source.error(f"pcap version {major}.{minor} is not supported, 2.0 to 2.4 are", 4)
    linktype = linktypes.from_file(link & 0x03FFFFFF)
    snaplen = linktypes.effective_snaplen(linktype, snaplen)
    if magic == MODIFIED and linktype == linktypes.EN10MB:
        # Cooked captures of that time gained a made-up Ethernet header after the cut.
        snaplen = min(snaplen + 14, (1 << 31) - 1)
    if major == 543 or minor < 3:
        lengths = WIRELEN_FIRST
    else:
        lengths = EITHER if minor == 3 else CAPLEN_FIRST
    return Layout(
        byteorder=byteorder,
        units=1_000_000_000 if magic == NANO else 1_000_000,
        record_header=24 if magic == MODIFIED else 16,
        lengths=lengths,
        version=(major, minor),
        snaplen=snaplen,
        record_limit=linktypes.record_limit(linktype),
        linktype=linktype,
        fcs=link & 0xFC000000,
        post=pseudo.applies(linktype, byteorder),
    )


def layout(origin: str | bytes | os.PathLike[str] | int) -> Layout | None:
    """How to walk the file natively; None unless it is an uncompressed pcap file that can be read by offset.

    ``origin`` is a path or a file descriptor, whose position stays as it is. Raises `CaptureError` for a
    pcap file whose header cannot be read, `OSError` for a file that cannot be opened.
    """
    source = Source(origin)
    try:
        head = os.pread(source.fd, FILE_HEADER, 0)
    except OSError as error:
        if error.errno == errno.ESPIPE:
            return None
        raise OSError(error.errno, error.strerror, source.path) from None
    else:
        return parse_header(head, source) if len(head) >= 4 else None
    finally:
        source.close()


class PcapRecords:
    """Iterates over the packets after the file header. ``base`` is the file offset of ``buffer``."""

    __slots__ = ("base", "buffer", "interfaces", "layout", "source")

    def __init__(self, layout: Layout, source: Source, buffer: bytes, base: int) -> None:
        self.layout = layout
        self.source = source
        self.buffer = buffer
        self.base = base
        self.interfaces = [Interface(layout.linktype, layout.snaplen, layout.units)]

    def packets(self) -> Generator[Packet, None, None]:
        """The packets, in file order."""
        return self.items()  # type: ignore[return-value]  # no None without pauses

    def items(self, pauses: bool = False) -> Generator[Packet | None, None, None]:
        """The packets; with ``pauses`` None comes whenever more input must be read, which may take long.

        When it is closed, ``buffer`` begins with the record after the last one delivered.
        """
        layout = self.layout
        buffer, base, position = self.buffer, self.base, 0
        self.buffer = b""
        new = tuple.__new__
        unpack = HEAD[layout.byteorder].unpack_from
        linktype, units = layout.linktype, layout.units
        scale = 1_000_000_000 // units
        # Records that are not everyday ones fail the first test below and take the slow way.
        limit = min(layout.snaplen, layout.record_limit) if layout.plain else -1
        try:
            while True:
                size = len(buffer)
                last = size - 16
                while position <= last:
                    sec, frac, caplen, wirelen = unpack(buffer, position)
                    start = position + 16
                    end = start + caplen
                    if end > size or caplen > limit or frac >= units:
                        break
                    position = end
                    yield new(
                        Packet,
                        (
                            buffer[start:end],
                            wirelen,
                            sec * 1_000_000_000 + frac * scale,
                            linktype,
                            0,
                            b"",
                            0,
                        ),
                    )
                if pauses and not self._at_hand(buffer, position):
                    yield None
                buffer, base, position, packet = self._one(buffer, base, position)
                if packet is None:
                    return
                yield packet
        finally:
            self.buffer, self.base = buffer[position:], base + position

    def _at_hand(self, buffer: bytes, position: int) -> bool:
        """Whether the whole record at ``position`` is in the buffer."""
        have = len(buffer) - position
        header = self.layout.record_header
        return have >= header and have >= header + self.layout.fields(buffer, position)[2]

    def _one(self, buffer: bytes, base: int, position: int) -> tuple[bytes, int, int, Packet | None]:
        """The record at ``position``, whatever it is like; more is read if it is not all there.

        Returns the buffer, its file offset, the position of the record's end, and the packet, or None at
        the end of the file.
        """
        layout = self.layout
        header = layout.record_header
        if len(buffer) - position < header:
            buffer, base, position = self.source.more(buffer[position:], header), base + position, 0
            if not buffer:
                return b"", base, 0, None
        sec = frac = wirelen = caplen = 0
        if len(buffer) - position >= header:
            sec, frac, caplen, wirelen = layout.fields(buffer, position)
            need = header + caplen
            if caplen <= layout.record_limit and len(buffer) - position < need:
                buffer, base, position = self.source.more(buffer[position:], need), base + position, 0
        if reason := layout.damage(buffer[position : position + header], len(buffer) - position):
            raise self.source.error(reason, base + position)
        start = position + header
        data = buffer[start : start + min(caplen, layout.snaplen)]
        if layout.post:
            data, wirelen = pseudo.fix(layout.linktype, layout.byteorder, data, wirelen)
        time_ns = sec * 1_000_000_000 + frac * (1_000_000_000 // layout.units)
        packet = Packet(data, wirelen, time_ns, layout.linktype, 0, b"", frac // layout.units)
        return buffer, base, start + caplen, packet


__all__ = ["Layout", "PcapRecords", "layout", "parse_header"]
