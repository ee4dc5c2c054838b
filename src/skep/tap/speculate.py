"""Guessing where a record begins in the middle of a pcap file.

Only a guess: whoever uses it checks that the walk from the front arrives exactly there. So the rules
(`skep.tap.layout.Guessing`) may be as strict as ordinary captures allow, and a capture that breaks them
costs time, not packets.
"""

from __future__ import annotations

import os

from skep import foreign
from skep.tap.layout import Guessing
from skep.tap.plain import FILE_HEADER

TYPE_CHECKING = False  # `typing` itself is not imported: it costs a warm run 5 ms
if TYPE_CHECKING:
    from skep.tap.native import ScanCode
    from skep.tap.plain import Plain


class Guess:
    """Finds record starts in the plain pcap file ``fd``."""

    __slots__ = ("_code", "_fd", "_first", "_plain")

    def __init__(self, code: ScanCode, fd: int, plain: Plain) -> None:
        self._code, self._fd, self._plain = code, fd, plain
        head = os.pread(fd, 4, FILE_HEADER)
        #: seconds of the first packet
        self._first = int.from_bytes(head, "big" if plain.big_endian else "little")

    def at(self, offsets: list[int]) -> list[int]:
        """The first plausible record start at or after each of ``offsets``, -1 where none is near."""
        return [self._one(offset) for offset in offsets]

    def _one(self, offset: int) -> int:
        data = os.pread(self._fd, Guessing.WINDOW, offset)
        address = foreign.address_of_bytes(data)
        place = self._code.guess([0], address, len(data), self._first, self._plain)[0]
        return -1 if place < 0 else offset + place

    def mapped(self, address: int, size: int, offsets: list[int]) -> list[int]:
        """The same for a file of ``size`` bytes that is mapped at ``address``."""
        return self._code.guess(offsets, address, size, self._first, self._plain)
