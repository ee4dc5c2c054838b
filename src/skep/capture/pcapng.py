"""Reading pcapng files: every block, every section, interfaces of any mix (draft-ietf-opsawg-pcapng).

libpcap refuses sections of different byte order and interfaces that differ in link type or snapshot
length; these are read here. All its other refusals hold, at the same packet.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct

from skep.capture import linktypes, options, pseudo
from skep.capture.options import EPB, IDB, IF_TSOFFSET, IF_TSRESOL, PB, SHB, SPB
from skep.capture.packet import Block, Interface, Packet
from skep.capture.source import Source
from skep.errors import CaptureError

BYTE_ORDER_MAGIC = 0x1A2B3C4D
#: the longest first section header, and the longest block before link types ask for more, bytes
SECTION_LIMIT = 1 << 20
BLOCK_LIMIT = 16 << 20
#: what a block may hold beyond the packet: its own fields and 128 KiB of options
BLOCK_EXTRA = 8 + 20 + 131072 + 4
#: far beyond any real file; keeps the memory of a made-up one in bounds
INTERFACE_LIMIT = 1 << 18

SECTION = b"\n\r\r\n"
PACKETS = (EPB, SPB, PB)

_WORDS = {"little": Struct("<II"), "big": Struct(">II")}
_EPB = {"little": Struct("<IIIIIII"), "big": Struct(">IIIIIII")}
_PB = {"little": Struct("<HHIIII"), "big": Struct(">HHIIII")}
_IDB = {"little": Struct("<HHI"), "big": Struct(">HHI")}
_SHB = {"little": Struct("<HH"), "big": Struct(">HH")}


def order_of_section(head: bytes) -> str | None:
    """Byte order told by the first 12 bytes of a section header, None if they are not one."""
    if not head.startswith(SECTION) or len(head) < 12:
        return None
    magic = head[8:12]
    for byteorder in ("little", "big"):
        if magic == _word(BYTE_ORDER_MAGIC, byteorder):
            return byteorder
    return None


def _word(value: int, byteorder: str) -> bytes:
    return options.WORD[byteorder].pack(value)


class PcapngBlocks:
    """Iterates over packets and blocks. ``buffer`` begins the file; it is read up to the first interface.

    ``interfaces`` holds the interfaces of all sections so far; `Packet.interface` indexes it.
    """

    __slots__ = (
        "_first",
        "_shared",
        "base",
        "buffer",
        "byteorder",
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
        self.byteorder = "little"
        self.interfaces: list[Interface] = []
        #: index in ``interfaces`` of the current section's interface 0
        self._first = 0
        #: (byte order, body) -> interface: equal descriptions are kept once
        self._shared: dict[tuple[str, bytes], Interface] = {}
        self.limit = BLOCK_LIMIT
        #: the blocks up to the first interface, read on opening
        self.opening: list[Block] = []
        while not self.interfaces:
            block = self._next()
            if block is None:
                raise source.error("the pcapng file ends without any interface description", self.base)
            if block.type in PACKETS:
                raise source.error("a packet comes before any interface description", block.offset)
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
        kind, length = _WORDS[self.byteorder].unpack_from(head)
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
            major, minor = _SHB[block.byteorder].unpack_from(block.raw, 12)
            if major != 1 or (block.offset == 0 and minor not in (0, 2)):
                raise self.source.error(
                    f"pcapng version {major}.{minor} is not supported, 1.0 is", block.offset
                )
            self._first = len(self.interfaces)
        elif block.type == IDB:
            key = block.byteorder, block.body
            interface = self._shared.get(key)
            if interface is None:
                interface = self._interface(block)
                self._shared[key] = interface
                self.limit = max(self.limit, linktypes.record_limit(interface.linktype) + BLOCK_EXTRA)
            if len(self.interfaces) >= INTERFACE_LIMIT:
                raise self.source.error(f"more than {INTERFACE_LIMIT} interfaces", block.offset)
            self.interfaces.append(interface)

    def _interface(self, block: Block) -> Interface:
        raw, byteorder = block.raw, block.byteorder
        if len(raw) < 20:
            raise self.source.error("an interface description that is too short", block.offset)
        number, _, snaplen = _IDB[byteorder].unpack_from(raw, 8)
        linktype = linktypes.from_file(number)
        units, offset = 1_000_000, 0
        found = self._interface_options(block)
        for code, value in found:
            if code == IF_TSRESOL:
                power = value[0] & 0x7F
                if power > (63 if value[0] & 0x80 else 19):
                    base = 2 if value[0] & 0x80 else 10
                    raise self.source.error(
                        f"a time stamp resolution of {base}**-{power} is too fine", block.offset
                    )
                units = 1 << power if value[0] & 0x80 else 10**power
            elif code == IF_TSOFFSET:
                order = "little" if byteorder == "little" else "big"
                offset = int.from_bytes(value, "little" if order == "little" else "big", signed=True)
        return Interface(
            linktype,
            linktypes.effective_snaplen(linktype, snaplen),
            units,
            offset,
            tuple(found),
            byteorder,
        )

    def _interface_options(self, block: Block) -> list[tuple[int, bytes]]:
        """The options, refused where libpcap refuses them: cut short, or a time option that is odd."""
        raw = block.raw
        head = options.HEAD[block.byteorder].unpack_from
        position, end = 16, len(raw) - 4
        found: list[tuple[int, bytes]] = []
        while position < end:
            code, length = head(raw, position)
            value = raw[position + 4 : position + 4 + length]
            position += 4 + (length + 3 & ~3)
            if position > end:
                raise self.source.error("an option of an interface description is cut short", block.offset)
            if code == options.END:
                if length:
                    raise self.source.error("an interface description's end mark is not empty", block.offset)
                break
            size = {IF_TSRESOL: 1, IF_TSOFFSET: 8}.get(code)
            if size is not None:
                name = "if_tsresol" if code == IF_TSRESOL else "if_tsoffset"
                if length != size:
                    raise self.source.error(f"{name} has {length} bytes, {size} expected", block.offset)
                if any(other == code for other, _ in found):
                    raise self.source.error(f"an interface has two {name} options", block.offset)
            found.append((code, value))
        return found

    def items(self) -> Iterator[Packet | Block]:
        """Everything in file order. Packet blocks come as `Packet`, all others as `Block`."""
        opening, self.opening = self.opening, []
        yield from opening
        while True:
            yield from self._everyday()
            block = self._next()
            if block is None:
                return
            if block.type in PACKETS:
                yield self._packet(block)
            else:
                self._note(block)
                yield block

    def packets(self) -> Iterator[Packet]:
        """The packets only."""
        self.opening = []
        while True:
            yield from self._everyday()
            block = self._next()
            if block is None:
                return
            if block.type in PACKETS:
                yield self._packet(block)
            else:
                self._note(block)

    def _everyday(self) -> Iterator[Packet]:
        """Enhanced packet blocks that are whole in the buffer and unremarkable; stops at any other."""
        unpack = _EPB[self.byteorder].unpack_from
        buffer, position = self.buffer, self.position
        size = len(buffer)
        limit, base = self.limit, self._first
        interfaces = self.interfaces
        new = tuple.__new__
        known, interface, scale, offset = -1, interfaces[0], 0, 0
        while position + 32 <= size:
            kind, length, number, high, low, caplen, wirelen = unpack(buffer, position)
            end = position + length
            if kind != EPB or end > size or length & 3 or length > limit or caplen + 32 > length:
                break
            if buffer[end - 4 : end] != buffer[position + 4 : position + 8]:
                break
            if number != known:
                if base + number >= len(interfaces):
                    break
                interface = interfaces[base + number]
                scale, odd = divmod(1_000_000_000, interface.units)
                if odd or pseudo.applies(interface.linktype, self.byteorder):
                    break
                known, offset = number, interface.offset * 1_000_000_000
            if caplen > interface.snaplen:
                break
            fields = (
                buffer[position + 28 : position + 28 + caplen],
                wirelen,
                (high << 32 | low) * scale + offset,
                interface.linktype,
                base + number,
                buffer[position:end],
                0,
            )
            self.position = position = end
            yield new(Packet, fields)

    def _packet(self, block: Block) -> Packet:
        raw, byteorder = block.raw, block.byteorder
        fixed = {EPB: 28, PB: 28, SPB: 12}[block.type]
        if len(raw) - 4 < fixed:
            raise self.source.error("a packet block that is too short", block.offset)
        if block.type == EPB:
            _, _, number, high, low, caplen, wirelen = _EPB[byteorder].unpack_from(raw)
        elif block.type == PB:
            number, _, high, low, caplen, wirelen = _PB[byteorder].unpack_from(raw, 8)
        else:
            number = high = low = 0
            (wirelen,) = options.WORD[byteorder].unpack_from(raw, 8)
            caplen = wirelen
        index = self._first + number
        if index >= len(self.interfaces):
            described = len(self.interfaces) - self._first
            raise self.source.error(
                f"a packet of interface {number}, its section has described {described}", block.offset
            )
        interface = self.interfaces[index]
        if block.type == SPB:
            caplen = min(caplen, interface.snaplen)
        elif caplen > interface.snaplen:
            raise self.source.error(
                f"a packet claims {caplen} captured bytes, its interface has {interface.snaplen} at most",
                block.offset,
            )
        if caplen > len(raw) - 4 - fixed:
            raise self.source.error(
                f"a packet claims {caplen} captured bytes, its block holds {len(raw) - 4 - fixed}",
                block.offset,
            )
        data = raw[fixed : fixed + caplen]
        if pseudo.applies(interface.linktype, byteorder):
            data, wirelen = pseudo.fix(interface.linktype, byteorder, data, wirelen)
        stamp = 0 if block.type == SPB else interface.time_ns(high << 32 | low)
        return Packet(data, wirelen, stamp, interface.linktype, index, raw)
