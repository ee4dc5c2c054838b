"""Guessing where a record begins in the middle of a pcap file.

Only a guess: whoever uses it checks that the walk from the front arrives exactly there. So the rules may
be as strict as ordinary captures allow, and a capture that breaks them costs time, not packets.
"""

from __future__ import annotations

import os
from struct import Struct

_WINDOWS = (1 << 14, 1 << 17)  # bytes searched; mostly the first are enough
_CHAIN = 6  # headers in a row that must look right
_TRIES = 4000
_FAR = 1 << 24  # seconds (194 days) that neighbours in a capture may be apart


class Guess:
    """Finds record starts in ``fd``: ``swapped`` and ``record_limit`` as in `skep.tap.plain.Plain`."""

    __slots__ = ("_big", "_fd", "_first", "_limit", "_tops", "_units", "_unpack")

    def __init__(self, fd: int, start: int, big_endian: bool, record_limit: int, units: int) -> None:
        self._fd = fd
        self._unpack = Struct(">IIII" if big_endian else "<IIII").unpack_from
        self._big = big_endian
        self._limit = record_limit
        self._units = units
        head = os.pread(fd, 16, start)
        self._first = self._unpack(head)[0] if len(head) == 16 else 0
        #: the most significant byte of the first packet's seconds: almost surely everybody's
        self._tops = bytes((self._first >> 24,))

    def at(self, offset: int) -> int | None:
        """The first plausible record start at or after ``offset``, None when none is near."""
        for window in _WINDOWS:
            found = self._search(os.pread(self._fd, window, offset))
            if found is not None:
                return offset + found
        return None

    def _search(self, data: bytes) -> int | None:
        step = 0 if self._big else 3  # where in a header the most significant byte of seconds is
        find, tops = data.find, self._tops
        place = find(tops, step)
        for _ in range(_TRIES):
            if place < 0:
                return None
            if self._plausible(data, place - step):
                return place - step
            place = find(tops, place + 1)
        return None

    def _plausible(self, data: bytes, place: int) -> bool:
        last = len(data) - 16
        before = self._first
        unpack, limit, units = self._unpack, self._limit, self._units
        for turn in range(_CHAIN):
            if place > last:
                return turn > 1
            sec, fraction, caplen, wirelen = unpack(data, place)
            if (
                fraction >= units
                or caplen > limit
                or caplen > wirelen
                or wirelen > 1 << 20
                or not -_FAR < sec - before < _FAR
            ):
                return False
            before = sec
            place += 16 + caplen
        return True
