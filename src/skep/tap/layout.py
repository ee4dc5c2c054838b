"""Numbers that the native scan loop and its Python side share."""

from __future__ import annotations

RECORD_HEADER = 16  # bytes of a pcap record header: sec, fraction, caplen, wirelen
INDEX_ENTRY = 32  # bytes: u64 packet number, u64 offset of its data, u32 caplen, wirelen, sec, fraction


class Status:
    """How the walk of a stretch ended."""

    DONE = 0  # every record that starts before ``stop`` was judged
    SHORT = 1  # the record at ``pos`` is not whole in the buffer
    BAD = 2  # the record at ``pos`` claims more than ``max_caplen`` bytes
    FULL = 3  # no room in ``out`` for the record at ``pos``
    LIMIT = 4  # ``limit`` packets have matched


class Mode:
    """What is done with a packet that matches."""

    COUNT = 0
    EMIT = 1  # copy it to ``out`` as a pcap record in host byte order
    INDEX = 2  # append an index entry to ``out``


class Guessing:
    """What makes a place in a capture a plausible record header.

    Its seconds are less than FAR from those of the record before it (of the file, for the first), the
    fraction is below the file's units, the captured length no more than the wire length and the file's
    limit, the wire length no more than LONGEST, and CHAIN headers in a row are like that; where the
    bytes end before, LEAST are enough.
    """

    FAR = 1 << 24  # seconds (194 days)
    LONGEST = 1 << 20  # bytes
    CHAIN = 6
    LEAST = 2
    WINDOW = 1 << 17  # bytes searched from an offset on


#: The 64-bit words of the state, in order.
FIELDS = (
    "base",  # address of the buffer
    "pos",  # in and out: offset of the next record in the buffer
    "stop",  # records that start here or later are somebody else's
    "length",  # bytes in the buffer
    "max_caplen",  # a record that claims more is damaged
    "snaplen",  # longer packets are cut to this
    "limit",  # stop after so many matches
    "seen",  # in and out: packets judged
    "matched",  # in and out: packets matched
    "mode",  # see Mode
    "out",  # address of the output buffer
    "out_used",  # in and out: bytes in it
    "out_size",  # bytes it can hold
    "divisor",  # of the time's fraction when emitting: 1000 turns ns into µs
    "copy",  # address of memcpy
    "file_offset",  # of the buffer, added to an index entry's offset
    "first",  # number of the first packet of the buffer, added to seen for an index entry
    "status",  # out: see Status; unless DONE, stop is 0 afterwards
)
