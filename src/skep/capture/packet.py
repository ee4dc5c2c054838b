"""What readers deliver and writers take: packets, pcapng interfaces and the other pcapng blocks."""

from __future__ import annotations

from typing import NamedTuple

from skep.capture import options

#: an option or block value is (code, value bytes)
Option = tuple[int, bytes]


class Packet(NamedTuple):
    """One captured packet.

    ``data`` is what was captured (its length is the captured length), ``wirelen`` the length on the
    wire in bytes. ``time_ns`` counts nanoseconds since 1970-01-01 UTC. ``linktype`` is a DLT number.
    ``interface`` indexes `Reader.interfaces`.

    Two fields exist so that a copy loses nothing: ``block`` is the whole pcapng block the packet came
    in (b"" for pcap), ``carry`` the whole seconds that a pcap record's fraction field held against the
    rules (0 in any sane file; already part of ``time_ns``).
    """

    data: bytes
    wirelen: int
    time_ns: int
    linktype: int
    interface: int = 0
    block: bytes = b""
    carry: int = 0

    @property
    def caplen(self) -> int:
        """Captured length in bytes."""
        return len(self.data)

    @property
    def options(self) -> list[Option]:
        """The options of the pcapng block, in order, values as in the file; [] for pcap."""
        return options.of_packet(self.block) if self.block else []

    @property
    def comments(self) -> list[str]:
        """The comments of the packet (pcapng option 1)."""
        return options.texts(self.options, options.COMMENT)


class Interface(NamedTuple):
    """A pcapng interface (one Interface Description Block); pcap files have exactly one.

    ``linktype`` is a DLT number. ``snaplen`` is the length to go by (never 0). ``units`` is the number
    of time stamp units in a second, ``offset`` the seconds to add. ``options`` are as in the file,
    their numbers in ``byteorder``.
    """

    linktype: int
    snaplen: int
    units: int = 1_000_000
    offset: int = 0
    options: tuple[Option, ...] = ()
    byteorder: str = "little"

    @property
    def name(self) -> str:
        """``if_name`` ("eth0"), or ""."""
        return next(iter(options.texts(self.options, 2)), "")

    @property
    def description(self) -> str:
        """``if_description``, or ""."""
        return next(iter(options.texts(self.options, 3)), "")

    def time_ns(self, stamp: int) -> int:
        """Nanoseconds since the epoch of a 64-bit time stamp in this interface's units."""
        return stamp * 1_000_000_000 // self.units + self.offset * 1_000_000_000


class Block(NamedTuple):
    """A pcapng block that is no packet: section header, interface, names, statistics, secrets, any other.

    ``raw`` is the whole block with its framing, its numbers in ``byteorder`` ("little" or "big"),
    ``offset`` its place in the (decompressed) file in bytes.
    """

    type: int
    raw: bytes
    byteorder: str
    offset: int

    @property
    def body(self) -> bytes:
        """The block without type and lengths."""
        return self.raw[8:-4]
