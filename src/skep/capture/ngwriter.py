"""Writing pcapng files: new ones, and copies that keep every block."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from types import TracebackType
from typing import Self

from skep.capture import blocks, linktypes, options, pseudo
from skep.capture.blocks import Order, Refused
from skep.capture.options import COMMENT, EPB, IDB, IF_DESCRIPTION, IF_NAME, IF_TSRESOL, SHB
from skep.capture.packet import Block, Interface, Option, Packet
from skep.capture.writer import Output, Target
from skep.errors import CaptureError

_SHB_USERAPPL = 4


class PcapngWriter:
    """Writes a pcapng file.

    ``target`` is as for `PcapWriter`. Whatever order `Reader.items` gives can be written back: section
    headers, interfaces and all other blocks go out as they came, in their own byte order, and packets keep
    their block with its options. Only a section's length is set to "unknown", since packets may have been
    left out. Give the items of one file after those of another, not mixed.

    Packets that come without such surroundings (from pcap files, or made by hand) go into a section of the
    writer's own, in ``byteorder``, with time stamps of ``precision`` decimal digits and one interface for
    each link type, unless `interface` made others.
    """

    __slots__ = ("_copying", "_ids", "_interfaces", "_order", "_output", "byteorder", "precision")

    def __init__(self, target: Target, *, precision: int = 9, byteorder: Order = sys.byteorder) -> None:
        if not 0 <= precision <= 19 or byteorder not in ("little", "big"):
            raise CaptureError(
                f"pcapng has precision 0 to 19 and byte order little or big, not {precision} {byteorder}"
            )
        self.precision = precision
        self.byteorder = byteorder
        #: byte order of the current section, None before the first
        self._order: Order | None = None
        #: whether the current section was copied from an input
        self._copying = False
        #: interfaces of the current section, and those made here for a link type
        self._interfaces: list[Interface] = []
        self._ids: dict[int, int] = {}
        self._output = Output(target)

    @property
    def path(self) -> str:
        return self._output.path

    def section(self, found: Iterable[Option] = ()) -> None:
        """Begin a section of the writer's own; interfaces start anew. ``found`` are its options."""
        self._order, self._copying = self.byteorder, False
        self._interfaces, self._ids = [], {}
        self._output.put(blocks.section(self.byteorder, [*found, (_SHB_USERAPPL, b"skep")]))

    def interface(
        self,
        linktype: int,
        *,
        snaplen: int = 0,
        name: str = "",
        description: str = "",
        found: Iterable[Option] = (),
    ) -> int:
        """Describe an interface in the writer's own section; returns its number for `write`.

        ``linktype`` is a DLT number, ``snaplen`` in bytes (0: no limit), ``found`` further options.
        """
        if self._order is None or self._copying:
            self.section()
        listed = list(found)
        if name:
            listed.append((IF_NAME, name.encode()))
        if description:
            listed.append((IF_DESCRIPTION, description.encode()))
        listed.append((IF_TSRESOL, bytes((self.precision,))))
        try:
            self._describe(blocks.interface(linktype, snaplen, self.byteorder, listed))
        except Refused as refused:
            raise CaptureError(str(refused), path=self.path) from None
        return len(self._interfaces) - 1

    def _describe(self, raw: bytes) -> None:
        assert self._order
        self._interfaces.append(blocks.parse_interface(raw, self._order))
        self._output.put(raw)

    def write(
        self, item: Packet | Block, *, interface: int | None = None, comments: Iterable[str] = ()
    ) -> None:
        """Add a packet or a block. ``interface`` and ``comments`` (added to those it has) are for packets."""
        if isinstance(item, Block):
            self._block(item)
            return
        added: list[Option] = [(COMMENT, text.encode()) for text in comments]
        if self._copying and item.block and interface is None and self._order:
            self._copied(item, added, self._order)
            return
        if self._order is None or self._copying:
            self.section()
        if interface is None:
            interface = self._ids.get(item.linktype, -1)
            if interface < 0:
                interface = self._ids[item.linktype] = self.interface(item.linktype)
        elif not 0 <= interface < len(self._interfaces):
            raise CaptureError(f"interface {interface} has not been described", path=self.path)
        if self._interfaces[interface].linktype != item.linktype:
            raise CaptureError(
                f"a packet of {linktypes.name(item.linktype)} on an interface of "
                f"{linktypes.name(self._interfaces[interface].linktype)}",
                path=self.path,
            )
        kept = item.options
        if kept and options.byteorder_of(item.block) != self.byteorder:
            kept = options.swap_packet_options(kept)
        self._packet(item, interface, kept + added, self.byteorder)

    def _packet(self, packet: Packet, number: int, found: list[Option], byteorder: str) -> None:
        target = self._interfaces[number]
        stamp = (packet.time_ns - target.offset * 1_000_000_000) * target.units // 1_000_000_000
        if not 0 <= stamp < 1 << 64:
            raise CaptureError(f"the time {packet.time_ns} ns does not fit the interface", path=self.path)
        self._output.put(blocks.packet(number, stamp, packet.data, packet.wirelen, byteorder, found))

    def _copied(self, packet: Packet, added: list[Option], byteorder: Order) -> None:
        """A packet of the section being copied: its own block, or a new one if something was changed."""
        raw = packet.block
        kind, _, number, high, low, caplen, wirelen = blocks.EPB_FIELDS[byteorder].unpack_from(raw.ljust(28))
        if kind == EPB and number < len(self._interfaces) and not added:
            # The everyday case: nothing was changed.
            time_ns = self._interfaces[number].time_ns(high << 32 | low)
            if (
                packet[1:3] == (wirelen, time_ns)
                and caplen == len(packet.data)
                and raw.startswith(packet.data, 28)
            ):
                self._output.put(raw)
                return
        try:
            number = blocks.interface_of_packet(raw, byteorder)
            if number >= len(self._interfaces):
                raise Refused(f"a packet of interface {number}, which has not been written")
            known = self._interfaces[number]
            same = blocks.parse_packet(raw, byteorder, known) == packet[:3]
        except Refused as refused:
            raise CaptureError(str(refused), path=self.path) from None
        if same and not added:
            self._output.put(raw)
        elif same or not pseudo.applies(known.linktype, byteorder):
            self._packet(packet, number, packet.options + added, byteorder)
        else:
            raise CaptureError(
                f"a changed packet of {linktypes.name(known.linktype)} cannot go into a section of the other "
                "byte order",
                path=self.path,
            )

    def _block(self, block: Block) -> None:
        if block.type == SHB:
            self._copying = True
            self._order = "little" if block.byteorder == "little" else "big"
            self._interfaces, self._ids = [], {}
            body = block.raw[8:16] + b"\xff" * 8 + block.raw[24:-4]
            self._output.put(blocks.block(SHB, body, block.byteorder))
            return
        if self._order is None:
            raise CaptureError("a pcapng file begins with a section header", path=self.path)
        if block.byteorder != self._order:
            raise CaptureError("a block of another byte order than its section", path=self.path)
        if block.type == IDB:
            self._describe(block.raw)
        else:
            self._output.put(block.raw)

    def flush(self) -> None:
        """Hand everything written so far to the system."""
        self._output.flush()

    def close(self) -> None:
        """Finish the file; an empty one still gets its section header."""
        if self._order is None:
            self.section()
        self._output.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
