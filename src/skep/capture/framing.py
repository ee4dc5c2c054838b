"""Enhanced packet blocks straight to pcap records, without a `Packet` in between."""

from __future__ import annotations

from struct import Struct

from skep.capture import pseudo
from skep.capture.blocks import EPB_FIELDS
from skep.capture.options import EPB, WORD
from skep.capture.pcapng import PcapngBlocks

#: stop after this many bytes of records
ENOUGH = 1 << 18

_HEAD = Struct("=IIII")


def frame(body: PcapngBlocks, parts: list[bytes], linktype: int, units: int) -> tuple[int, int]:
    """Append the everyday packets at the body's position to ``parts``, as records in host byte order.

    ``units`` are those of the records' fractions, 10**6 or 10**9. Returns the number of bytes appended and
    the link type that comes next: it differs from ``linktype`` when that is why this stopped. Otherwise it
    stopped at a block that is not whole in the buffer, is no everyday packet, or is damaged.
    """
    byteorder = body.byteorder
    unpack = EPB_FIELDS[byteorder].unpack_from
    behind = WORD[byteorder].unpack_from
    pack, append = _HEAD.pack, parts.append
    buffer, position = body.buffer, body.position
    size = len(buffer)
    limit, interfaces, first = body.limit, body.interfaces, body.first
    known, snaplen, down, up, per, seconds = -1, 0, 1, 1, 1, 0
    total, following = 0, linktype
    while position + 32 <= size and total < ENOUGH:
        kind, length, number, high, low, caplen, wirelen = unpack(buffer, position)
        end = position + length
        if kind != EPB or end > size or length & 3 or length > limit or caplen + 32 > length:
            break
        if behind(buffer, end - 4)[0] != length:
            break
        if number != known:
            if first + number >= len(interfaces):
                break
            interface = interfaces[first + number]
            if interface.linktype != linktype:
                following = interface.linktype
                break
            per, seconds, snaplen = interface.units, interface.offset, interface.snaplen
            down, up = max(1, per // units), max(1, units // per)
            if per * up != units * down or pseudo.applies(linktype, byteorder):
                break
            known = number
        if caplen > snaplen:
            break
        sec, frac = divmod(high << 32 | low, per)
        append(pack(sec + seconds & 0xFFFFFFFF, frac // down * up, caplen, wirelen))
        start = position + 28
        append(buffer[start : start + caplen])
        total += 16 + caplen
        position = end
    body.position = position
    return total, following
