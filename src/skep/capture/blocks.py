"""Single pcapng blocks, decoded and encoded (draft-ietf-opsawg-pcapng, section 4)."""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct
from typing import Literal

from skep.capture import linktypes, options, pseudo
from skep.capture.options import EPB, IDB, IF_TSOFFSET, IF_TSRESOL, PB, SHB, SPB
from skep.capture.packet import Interface, Option

Order = Literal["little", "big"]

BYTE_ORDER_MAGIC = 0x1A2B3C4D
SECTION = b"\n\r\r\n"
PACKETS = (EPB, SPB, PB)

WORDS = {"little": Struct("<II"), "big": Struct(">II")}
#: the fixed parts, from the start of the block
EPB_FIELDS = {"little": Struct("<IIIIIII"), "big": Struct(">IIIIIII")}
PB_FIELDS = {"little": Struct("<IIHHIIII"), "big": Struct(">IIHHIIII")}
SPB_FIELDS = {"little": Struct("<III"), "big": Struct(">III")}
IDB_FIELDS = {"little": Struct("<IIHHI"), "big": Struct(">IIHHI")}
SHB_FIELDS = {"little": Struct("<IIIHHq"), "big": Struct(">IIIHHq")}


class Refused(Exception):
    """A block that libpcap refuses; readers turn it into a `CaptureError` with file and offset."""


def order_of_section(head: bytes) -> Order | None:
    """Byte order told by the first 12 bytes of a section header, None if they are not one."""
    if head.startswith(SECTION):
        magic = head[8:12]
        if magic == options.WORD["little"].pack(BYTE_ORDER_MAGIC):
            return "little"
        if magic == options.WORD["big"].pack(BYTE_ORDER_MAGIC):
            return "big"
    return None


def block(kind: int, body: bytes, byteorder: str) -> bytes:
    """A whole block around ``body``, which is padded to a multiple of 4."""
    body += bytes(-len(body) & 3)
    size = len(body) + 12
    return WORDS[byteorder].pack(kind, size) + body + options.WORD[byteorder].pack(size)


def section(byteorder: str, found: Iterable[Option]) -> bytes:
    """A section header of unknown length, version 1.0."""
    body = SHB_FIELDS[byteorder].pack(0, 0, BYTE_ORDER_MAGIC, 1, 0, -1)[8:]
    return block(SHB, body + options.pack(found, byteorder), byteorder)


def interface(linktype: int, snaplen: int, byteorder: str, found: Iterable[Option]) -> bytes:
    """An interface description; ``linktype`` is a DLT number."""
    number = linktypes.to_file(linktype)
    if number > 0xFFFF:
        raise Refused(f"link type {number} does not fit into pcapng's 16 bits")
    body = IDB_FIELDS[byteorder].pack(0, 0, number, 0, snaplen)[8:]
    return block(IDB, body + options.pack(found, byteorder), byteorder)


def packet(
    number: int, stamp: int, data: bytes, wirelen: int, byteorder: str, found: Iterable[Option]
) -> bytes:
    """An enhanced packet block; ``stamp`` counts the interface's units."""
    size = len(data)
    body = EPB_FIELDS[byteorder].pack(0, 0, number, stamp >> 32, stamp & 0xFFFFFFFF, size, wirelen)[8:]
    return block(EPB, b"".join((body, data, bytes(-size & 3), options.pack(found, byteorder))), byteorder)


def parse_interface(raw: bytes, byteorder: Order) -> Interface:
    """The interface an IDB describes. `Refused` as libpcap refuses: too short, odd time options."""
    if len(raw) < 20:
        raise Refused("an interface description that is too short")
    _, _, number, _, snaplen = IDB_FIELDS[byteorder].unpack_from(raw)
    linktype = linktypes.from_file(number)
    units, offset = 1_000_000, 0
    found = _interface_options(raw, byteorder)
    for code, value in found:
        if code == IF_TSRESOL:
            power = value[0] & 0x7F
            base, finest = (2, 63) if value[0] & 0x80 else (10, 19)
            if power > finest:
                raise Refused(f"a time stamp resolution of {base}**-{power}, finer than {base}**-{finest}")
            units = base**power
        elif code == IF_TSOFFSET:
            offset = int.from_bytes(value, byteorder, signed=True)
    snaplen = linktypes.effective_snaplen(linktype, snaplen)
    return Interface(linktype, snaplen, units, offset, tuple(found), byteorder)


def _interface_options(raw: bytes, byteorder: Order) -> list[Option]:
    head = options.HEAD[byteorder].unpack_from
    position, end = 16, len(raw) - 4
    found: list[Option] = []
    while position < end:
        code, length = head(raw, position)
        value = raw[position + 4 : position + 4 + length]
        position += 4 + (length + 3 & ~3)
        if position > end:
            raise Refused("an interface description whose options are cut short")
        if code == options.END:
            if length:
                raise Refused("an interface description whose end mark is not empty")
            break
        if code in (IF_TSRESOL, IF_TSOFFSET):
            name, size = ("if_tsresol", 1) if code == IF_TSRESOL else ("if_tsoffset", 8)
            if length != size:
                raise Refused(f"{name} of {length} bytes, {size} expected")
            if any(other == code for other, _ in found):
                raise Refused(f"an interface description with two {name} options")
        found.append((code, value))
    return found


def interface_of_packet(raw: bytes, byteorder: Order) -> int:
    """The interface number, within its section, of a packet block of at least its fixed length."""
    kind, _ = WORDS[byteorder].unpack_from(raw)
    if kind == EPB:
        return int(EPB_FIELDS[byteorder].unpack_from(raw)[2])
    if kind == PB:
        return int(PB_FIELDS[byteorder].unpack_from(raw)[2])
    return 0


def check_packet(raw: bytes, byteorder: Order) -> None:
    """`Refused` when a packet block lacks a part of its fixed fields."""
    kind, _ = WORDS[byteorder].unpack_from(raw)
    if len(raw) < (16 if kind == SPB else 32):
        raise Refused("a packet block that is too short")


def parse_packet(raw: bytes, byteorder: Order, interface: Interface) -> tuple[bytes, int, int]:
    """(data, wire length, time in ns) of a packet block that `check_packet` found long enough."""
    kind, _ = WORDS[byteorder].unpack_from(raw)
    start = 28
    if kind == EPB:
        _, _, _, high, low, caplen, wirelen = EPB_FIELDS[byteorder].unpack_from(raw)
        time_ns = interface.time_ns(high << 32 | low)
    elif kind == PB:
        _, _, _, _, high, low, caplen, wirelen = PB_FIELDS[byteorder].unpack_from(raw)
        time_ns = interface.time_ns(high << 32 | low)
    else:
        # No time, and no captured length: as much of the packet as the interface captures.
        _, _, wirelen = SPB_FIELDS[byteorder].unpack_from(raw)
        caplen, time_ns, start = min(wirelen, interface.snaplen), interface.time_ns(0), 12
    if caplen > interface.snaplen:
        raise Refused(
            f"a packet claims {caplen} captured bytes, its interface has {interface.snaplen} at most"
        )
    room = len(raw) - 4 - start
    if caplen > room:
        raise Refused(f"a packet claims {caplen} captured bytes, its block has room for {room}")
    data = raw[start : start + caplen]
    if pseudo.applies(interface.linktype, byteorder):
        data, wirelen = pseudo.fix(interface.linktype, byteorder, data, wirelen)
    return data, wirelen, time_ns
