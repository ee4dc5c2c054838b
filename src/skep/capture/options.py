"""pcapng options: the (code, value) lists at the end of blocks (draft-ietf-opsawg-pcapng, section 3.5)."""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct

END = 0
COMMENT = 1
EPB_FLAGS = 2
EPB_HASH = 3
EPB_DROPCOUNT = 4
EPB_PACKETID = 5
EPB_QUEUE = 6
EPB_VERDICT = 7
IF_NAME = 2
IF_DESCRIPTION = 3
IF_TSRESOL = 9
IF_TSOFFSET = 14

SHB = 0x0A0D0D0A
IDB = 1
PB = 2
SPB = 3
NRB = 4
ISB = 5
EPB = 6
DSB = 10

HEAD = {"little": Struct("<HH"), "big": Struct(">HH")}
WORD = {"little": Struct("<I"), "big": Struct(">I")}


def byteorder_of(block: bytes) -> str:
    """Byte order of a whole packet block: its type is a small number, so the bytes tell."""
    return "little" if block[0] else "big"


def parse(data: bytes, start: int, end: int, byteorder: str) -> list[tuple[int, bytes]]:
    """Options in ``data[start:end]``, in order, without the end mark.

    A damaged list ends at the damage: nothing after it can be trusted, and libpcap does not refuse the
    packet for it.
    """
    head = HEAD[byteorder].unpack_from
    found = []
    while start + 4 <= end:
        code, length = head(data, start)
        start += 4
        if code == END or start + length > end:
            break
        found.append((code, data[start : start + length]))
        start += length + 3 & ~3
    return found


def pack(options: Iterable[tuple[int, bytes]], byteorder: str) -> bytes:
    """The list as file bytes, padded, with its end mark; b"" for no options."""
    head = HEAD[byteorder].pack
    parts: list[bytes] = []
    for code, value in options:
        parts += (head(code, len(value)), value, bytes(-len(value) & 3))
    if parts:
        parts.append(head(END, 0))
    return b"".join(parts)


def of_packet(block: bytes) -> list[tuple[int, bytes]]:
    """The options of a whole EPB or PB; a Simple Packet Block has none."""
    byteorder = byteorder_of(block)
    word = WORD[byteorder].unpack_from
    if word(block, 0)[0] == SPB:
        return []
    return parse(block, 28 + (word(block, 20)[0] + 3 & ~3), len(block) - 4, byteorder)


def texts(options: Iterable[tuple[int, bytes]], code: int) -> list[str]:
    """The values of one text option; bytes that are not UTF-8 are shown as U+FFFD."""
    return [value.rstrip(b"\0").decode("utf-8", "replace") for found, value in options if found == code]


def swap_packet_options(options: Iterable[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
    """Packet options with the numbers among them in the other byte order.

    ``epb_flags``, ``epb_dropcount``, ``epb_packetid`` and ``epb_queue`` are numbers; so is the private
    enterprise number at the front of custom options (2988, 2989, 19372, 19373). The rest is bytes.
    """
    swapped = []
    for code, value in options:
        if code in (EPB_FLAGS, EPB_DROPCOUNT, EPB_PACKETID, EPB_QUEUE):
            value = value[::-1]
        elif code in (2988, 2989, 19372, 19373):
            value = value[:4][::-1] + value[4:]
        swapped.append((code, value))
    return swapped
