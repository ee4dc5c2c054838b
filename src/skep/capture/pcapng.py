"""Reading pcapng files: every block, every section, interfaces of any mix.

libpcap refuses sections of different byte order and interfaces that differ in link type or snapshot
length; these are read here. All its other refusals hold, at the same packet.
"""

from __future__ import annotations

from collections.abc import Generator

from skep.capture import linktypes, options, pseudo
from skep.capture.blocks import (
    EPB_FIELDS,
    PACKETS,
    SECTION,
    SHB_FIELDS,
    WORDS,
    Order,
    Refused,
    check_packet,
    interface_of_packet,
    order_of_section,
    parse_interface,
    parse_packet,
)
from skep.capture.options import EPB, IDB, SHB
from skep.capture.packet import Block, Interface, Packet
from skep.capture.source import Source
from skep.errors import CaptureError

#: the longest first section header, and the longest block before link types ask for more, bytes
SECTION_LIMIT = 1 << 20
BLOCK_LIMIT = 16 << 20
#: what a block may hold beyond the packet: its own fields and 128 KiB of options
BLOCK_EXTRA = 8 + 20 + 131072 + 4
#: far beyond any real file; keeps the memory of a made-up one in bounds
INTERFACE_LIMIT = 1 << 18
#: interface descriptions are kept with their options up to this many bytes in all, then without
KEPT_LIMIT = 16 << 20


class PcapngBlocks:
    """Iterates over packets and blocks. ``buffer`` begins the file; it is read up to the first interface.

    ``interfaces`` holds the interfaces of all sections so far; `Packet.interface` indexes it.
    """

    __slots__ = (
        "_kept",
        "_shared",
        "base",
        "buffer",
        "byteorder",
        "first",
        "interfaces",
        "limit",
        "opening",
        "position",
        "source",
    )

    def __init__(self, source: Source, buffer: bytes) -> None:
        self.source = source
        #: bytes at hand, the file offset of their first, and how many are used up
        self.buffer = buffer
        self.base = 0
        self.position = 0
        self.byteorder: Order = "little"
        self.interfaces: list[Interface] = []
        #: index in ``interfaces`` of the current section's interface 0
        self.first = 0
        #: (byte order, body) -> interface: equal descriptions are kept once
        self._shared: dict[tuple[str, bytes], Interface] = {}
        self._kept = 0
        self.limit = BLOCK_LIMIT
        #: the blocks up to the first interface, read on opening
        self.opening: list[Block] = []
        size = 0
        while not self.interfaces:
            block = self._next()
            if block is None:
                raise source.error("the pcapng file ends without any interface description", self.base)
            if block.type in PACKETS:
                raise source.error("a packet comes before any interface description", block.offset)
            size += len(block.raw)
            if size > 2 * BLOCK_LIMIT:
                # These are held until the caller asks for them.
                raise source.error(f"no interface description in the first {size} bytes", block.offset)
            self.opening.append(block)
            self._note(block)

    def _error(self, reason: str) -> CaptureError:
        return self.source.error(reason, self.base + self.position)

    def _have(self, need: int) -> int:
        """Read on until ``need`` bytes are at hand from the position; returns how many are."""
        have = len(self.buffer) - self.position
        if have < need:
            self.buffer = self.source.more(self.buffer[self.position :], need)
            self.base += self.position
            self.position = 0
            have = len(self.buffer)
        return have

    def starved(self) -> bool:
        """Whether the next block is not wholly at hand."""
        have = len(self.buffer) - self.position
        if have < 12:
            return True
        return have < int(WORDS[self.byteorder].unpack_from(self.buffer, self.position)[1])

    def _next(self) -> Block | None:
        """The next block, checked as libpcap checks it; None at the end of the file."""
        have = self._have(12)
        if not have:
            return None
        if have < 8:
            raise self._error(f"the file ends inside a block header, {have} of 8 bytes are there")
        first = self.base + self.position == 0
        head = self.buffer[self.position : self.position + 12]
        if head.startswith(SECTION):
            byteorder = order_of_section(head)
            if byteorder is None:
                raise self._error("a section header without its byte-order magic")
            self.byteorder = byteorder
        kind, length = WORDS[self.byteorder].unpack_from(head)
        if kind == SHB and (length < 28 or (first and length > SECTION_LIMIT)):
            raise self._error(f"a section header of {length} bytes, 28 to {SECTION_LIMIT} are possible")
        if length < 12:
            raise self._error(f"a block of {length} bytes, 12 is the least")
        if length % 4 and not first:
            raise self._error(f"a block of {length} bytes, not a multiple of 4")
        if length > self.limit:
            raise self._error(f"a block of {length} bytes, {self.limit} is the most")
        have = self._have(length)
        if have < length:
            raise self._error(f"the file ends inside a block, {have} of {length} bytes are there")
        raw = self.buffer[self.position : self.position + length]
        if not first and raw[-4:] != raw[4:8]:
            (behind,) = options.WORD[self.byteorder].unpack_from(raw, length - 4)
            raise self._error(f"a block's two lengths differ, {length} in front and {behind} behind")
        block = Block(kind, raw, self.byteorder, self.base + self.position)
        self.position += length
        return block

    def _note(self, block: Block) -> None:
        """Take in what a block says about those that follow: a new section, a new interface."""
        if block.type == SHB:
            _, _, _, major, minor, _ = SHB_FIELDS[block.byteorder].unpack_from(block.raw)
            if major != 1 or (block.offset == 0 and minor not in (0, 2)):
                raise self.source.error(
                    f"pcapng version {major}.{minor} is not supported, 1.0 is", block.offset
                )
            self.first = len(self.interfaces)
        elif block.type == IDB:
            if len(self.interfaces) >= INTERFACE_LIMIT:
                raise self.source.error(f"more than {INTERFACE_LIMIT} interfaces", block.offset)
            key = block.byteorder, block.body
            interface = self._shared.get(key)
            if interface is None:
                try:
                    interface = parse_interface(block.raw, self.byteorder)
                except Refused as refused:
                    raise self.source.error(str(refused), block.offset) from None
                if self._kept > KEPT_LIMIT:
                    interface = interface._replace(options=())
                else:
                    self._kept += len(block.raw)
                    self._shared[key] = interface
                self.limit = max(self.limit, linktypes.record_limit(interface.linktype) + BLOCK_EXTRA)
            self.interfaces.append(interface)

    def items(self, pauses: bool = False) -> Generator[Packet | Block | None, None, None]:
        """Everything in file order. Packet blocks come as `Packet`, all others as `Block`.

        With ``pauses`` None comes whenever more input must be read, which may take long on a pipe. Another
        iteration goes on where a closed one has stopped.
        """
        while self.opening:
            yield self.opening.pop(0)
        while True:
            yield from self._everyday()
            if pauses and self.starved():
                yield None
            item = self.one()
            if item is None:
                return
            yield item

    def packets(self) -> Generator[Packet, None, None]:
        """The packets only."""
        self.opening = []
        while True:
            yield from self._everyday()
            item = self.one()
            if item is None:
                return
            if isinstance(item, Packet):
                yield item

    def one(self) -> Packet | Block | None:
        """The next block, whatever it is; None at the end of the file. Not while iterating."""
        block = self._next()
        if block is None:
            return None
        if block.type in PACKETS:
            return self._packet(block)
        self._note(block)
        return block

    def _everyday(self) -> Generator[Packet, None, None]:
        """Enhanced packet blocks that are whole in the buffer and unremarkable; stops at any other."""
        unpack = EPB_FIELDS[self.byteorder].unpack_from
        buffer, position = self.buffer, self.position
        size = len(buffer)
        limit, first = self.limit, self.first
        interfaces = self.interfaces
        new = tuple.__new__
        known, snaplen, linktype, scale, offset = -1, 0, 0, 0, 0
        try:
            while position + 32 <= size:
                kind, length, number, high, low, caplen, wirelen = unpack(buffer, position)
                end = position + length
                if kind != EPB or end > size or length & 3 or length > limit or caplen + 32 > length:
                    break
                if buffer[end - 4 : end] != buffer[position + 4 : position + 8]:
                    break
                if number != known:
                    if first + number >= len(interfaces):
                        break
                    _, snaplen, units, seconds, _, _ = interface = interfaces[first + number]
                    linktype = interface.linktype
                    scale, rest = divmod(1_000_000_000, units)
                    if rest or pseudo.applies(linktype, self.byteorder):
                        break
                    known, offset = number, seconds * 1_000_000_000
                if caplen > snaplen:
                    break
                fields = (
                    buffer[position + 28 : position + 28 + caplen],
                    wirelen,
                    (high << 32 | low) * scale + offset,
                    linktype,
                    first + number,
                    buffer[position:end],
                    0,
                )
                position = end
                yield new(Packet, fields)
        finally:
            self.position = position

    def _packet(self, block: Block) -> Packet:
        try:
            check_packet(block.raw, self.byteorder)
            number = interface_of_packet(block.raw, self.byteorder)
            index = self.first + number
            if index >= len(self.interfaces):
                described = len(self.interfaces) - self.first
                raise Refused(f"a packet of interface {number}, its section has described {described}")
            interface = self.interfaces[index]
            data, wirelen, time_ns = parse_packet(block.raw, self.byteorder, interface)
        except Refused as refused:
            raise self.source.error(str(refused), block.offset) from None
        return Packet(data, wirelen, time_ns, interface.linktype, index, block.raw)
