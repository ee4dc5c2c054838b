"""Guessing where a record begins in the middle of a pcap file.

Only a guess: whoever uses it checks that the walk from the front arrives exactly there. So the rules
(`skep.tap.layout.Guessing`) may be as strict as ordinary captures allow, and a capture that breaks them
costs time, not packets.
"""

from __future__ import annotations

import os

from skep.tap.plain import FILE_HEADER

TYPE_CHECKING = False  # `typing` itself is not imported: it costs a warm run 5 ms
if TYPE_CHECKING:
    from skep.tap.native import ScanCode
    from skep.tap.plain import Plain

_WINDOW = 1 << 17  # bytes searched


class Guess:
    """Finds record starts in the plain pcap file ``fd``."""

    __slots__ = ("_code", "_fd", "_first", "_plain")

    def __init__(self, code: ScanCode, fd: int, plain: Plain) -> None:
        self._code, self._fd, self._plain = code, fd, plain
        head = os.pread(fd, 4, FILE_HEADER)
        #: seconds of the first packet
        self._first = int.from_bytes(head, "big" if plain.big_endian else "little")

    def at(self, offset: int) -> int | None:
        """The first plausible record start at or after ``offset``, None when none is near."""
        data = os.pread(self._fd, _WINDOW, offset)
        return self._found(offset, self._code.guess_bytes(data, self._first, self._plain))

    def mapped(self, address: int, size: int, offset: int) -> int | None:
        """The same for a file of ``size`` bytes that is mapped at ``address``."""
        window = min(_WINDOW, size - offset)
        return self._found(offset, self._code.guess(address + offset, window, self._first, self._plain))

    @staticmethod
    def _found(offset: int, place: int) -> int | None:
        return None if place < 0 else offset + place
