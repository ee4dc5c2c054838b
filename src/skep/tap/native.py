"""The native scan loop as a Python object: its state, and calls into loaded machine code.

Imports only what a warm run needs: ctypes.
"""

from __future__ import annotations

import ctypes

from skep.tap.layout import FIELDS, Status

TYPE_CHECKING = False  # `typing` itself is not imported: it costs a warm run 5 ms
if TYPE_CHECKING:
    from skep.llvm.native import Image
    from skep.tap.plain import Plain


class ScanState(ctypes.Structure):
    """The words of `skep.tap.layout.FIELDS`."""

    _fields_ = [(name, ctypes.c_uint64) for name in FIELDS]


class ScanCode:
    """The functions of a scan module in memory. Calls release the interpreter lock."""

    def __init__(self, image: Image) -> None:
        self.image = image  # keeps the pages mapped
        self._walk = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_uint64)(image.address("walk"))
        self._guess = ctypes.CFUNCTYPE(
            None,
            ctypes.c_void_p,
            ctypes.c_uint64,
            ctypes.c_void_p,
            ctypes.c_uint64,
            ctypes.c_uint32,
            ctypes.c_uint64,
        )(image.address("guess"))
        self._match = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_char_p, ctypes.c_uint64, ctypes.c_uint64)(
            image.address("match")
        )

    def scan(self, state: ScanState) -> int:
        """Walk the stretch that ``state`` describes; one of `skep.tap.layout.Status`."""
        state.status = Status.DONE
        self._walk(ctypes.addressof(state), 1)
        return int(state.status)

    def walk(self, states: ctypes.Array[ScanState], count: int) -> None:
        """Walk the first ``count`` stretches, a record of each in turns.

        They share the first one's buffer, ``mode``, ``max_caplen``, ``snaplen``, ``divisor``. Their
        ``status`` must be DONE before.
        """
        self._walk(ctypes.addressof(states), count)

    def guess(self, offsets: list[int], address: int, size: int, first: int, plain: Plain) -> list[int]:
        """For each of ``offsets`` the next plausible record header (`skep.tap.layout.Guessing`), -1 for none.

        ``first``: seconds of the file's first packet.
        """
        count = len(offsets)
        places = (ctypes.c_int64 * count)(*offsets)
        bounds = plain.record_limit << 32 | plain.units
        self._guess(ctypes.addressof(places), count, address, size, first, bounds)
        return places[:]

    def match(self, packet: bytes, wirelen: int) -> int:
        """The filter's return value for one packet: 0, or how many bytes to keep."""
        kept: int = self._match(packet, len(packet), wirelen)
        return kept & 0xFFFFFFFF


def libc_address(name: str) -> int:
    """Address of a C library function."""
    function = getattr(ctypes.CDLL(None), name)
    return ctypes.cast(function, ctypes.c_void_p).value or 0
