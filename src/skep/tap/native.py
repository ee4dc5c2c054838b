"""The native scan loop as a Python object: its state, and calls into loaded machine code.

Imports only what a warm run needs.
"""

from __future__ import annotations

from skep import foreign
from skep.tap.layout import FIELDS, Status

TYPE_CHECKING = False  # `typing` itself is not imported: it costs a warm run 5 ms
if TYPE_CHECKING:
    import ctypes

    from skep.llvm.native import Image
    from skep.tap.plain import Plain


class ScanState(foreign.Structure):
    """The words of `skep.tap.layout.FIELDS`."""

    _fields_ = tuple((name, foreign.Size) for name in FIELDS)


class ScanCode:
    """The functions of a scan module in memory. Calls release the interpreter lock."""

    def __init__(self, image: Image) -> None:
        self.image = image  # keeps the pages mapped
        address, size, word = foreign.Address, foreign.Size, foreign.Word
        self._walk = foreign.function(image.address("walk"), None, address, size)
        self._guess = foreign.function(image.address("guess"), None, address, size, address, size, word, size)
        self._match = foreign.function(image.address("match"), size, foreign.Bytes, size, size)

    def scan(self, state: ScanState) -> int:
        """Walk the stretch that ``state`` describes; one of `skep.tap.layout.Status`."""
        state.status = Status.DONE
        self._walk(foreign.addressof(state), 1)
        return int(state.status)

    def walk(self, states: ctypes.Array[ScanState], count: int) -> None:
        """Walk the first ``count`` stretches, a record of each in turns.

        They share the first one's buffer, ``mode``, ``max_caplen``, ``snaplen``, ``divisor``. Their
        ``status`` must be DONE before.
        """
        self._walk(foreign.addressof(states), count)

    def guess(self, offsets: list[int], address: int, size: int, first: int, plain: Plain) -> list[int]:
        """For each of ``offsets`` the next plausible record header (`skep.tap.layout.Guessing`), -1 for none.

        ``first``: seconds of the file's first packet.
        """
        count = len(offsets)
        places = (foreign.Long * count)(*offsets)
        bounds = plain.record_limit << 32 | plain.units
        self._guess(foreign.addressof(places), count, address, size, first, bounds)
        return places[:]

    def match(self, packet: bytes, wirelen: int) -> int:
        """The filter's return value for one packet: 0, or how many bytes to keep."""
        kept: int = self._match(packet, len(packet), wirelen)
        return kept & 0xFFFFFFFF


def libc_address(name: str) -> int:
    """Address of a C library function."""
    return foreign.address_of(name)
