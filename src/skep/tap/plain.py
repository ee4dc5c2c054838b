"""What the native loop must know of a plain pcap file, packed small enough to be cached with its code."""

from __future__ import annotations

import sys
from struct import Struct

_PACKED = Struct("<BBIIIII")

MICRO, NANO = 0xA1B2C3D4, 0xA1B23C4D
FILE_HEADER = 24


class Plain:
    """A pcap file of the everyday kind: 16-byte record headers, captured length first.

    ``big_endian`` numbers, ``units`` to the second (10**6 or 10**9), ``record_limit``: a longer record is
    damage, ``snaplen``: a longer packet is cut, ``linktype`` (DLT), ``fcs``: upper bits of the link type
    field that outputs keep, ``link``: the number that stands for ``linktype`` in a file.
    """

    __slots__ = ("big_endian", "fcs", "link", "linktype", "record_limit", "snaplen", "units")

    def __init__(
        self,
        *,
        big_endian: bool,
        units: int,
        snaplen: int,
        record_limit: int,
        linktype: int,
        link: int,
        fcs: int = 0,
    ) -> None:
        self.big_endian = big_endian
        self.units = units
        self.snaplen = snaplen
        self.record_limit = record_limit
        self.linktype = linktype
        self.link = link
        self.fcs = fcs

    @property
    def swapped(self) -> bool:
        """Whether the record headers are in the other byte order than this machine's."""
        return self.big_endian != (sys.byteorder == "big")

    def pack(self) -> bytes:
        """For `unpack`: the same fields as bytes."""
        return _PACKED.pack(
            self.big_endian,
            self.units == 10**9,
            self.snaplen,
            self.record_limit,
            self.linktype,
            self.link,
            self.fcs,
        )

    @classmethod
    def unpack(cls, data: bytes) -> Plain:
        big, nano, snaplen, limit, linktype, link, fcs = _PACKED.unpack_from(data)
        return cls(
            big_endian=bool(big),
            units=10**9 if nano else 10**6,
            snaplen=snaplen,
            record_limit=limit,
            linktype=linktype,
            link=link,
            fcs=fcs,
        )

    @staticmethod
    def packed_size() -> int:
        return _PACKED.size


def file_header(link: int, snaplen: int, *, nano: bool = False, fcs: int = 0) -> bytes:
    """A pcap file header as ``tcpdump -w`` writes it: this machine's byte order, version 2.4."""
    order = sys.byteorder
    magic = (NANO if nano else MICRO).to_bytes(4, order)
    version = (2).to_bytes(2, order) + (4).to_bytes(2, order)
    return magic + version + bytes(8) + snaplen.to_bytes(4, order) + (link | fcs).to_bytes(4, order)
