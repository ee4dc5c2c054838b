"""The native scan loop as a Python object: its state, and calls into loaded machine code.

Imports only what a warm run needs: ctypes.
"""

from __future__ import annotations

import ctypes

from skep.tap.layout import FIELDS

TYPE_CHECKING = False  # `typing` itself is not imported: it costs a warm run 5 ms
if TYPE_CHECKING:
    from skep.llvm.native import Image


class ScanState(ctypes.Structure):
    """The words of `skep.tap.layout.FIELDS`."""

    _fields_ = [(name, ctypes.c_uint64) for name in FIELDS]


class ScanCode:
    """The functions of a scan module in memory. Calls release the interpreter lock."""

    def __init__(self, image: Image) -> None:
        self.image = image  # keeps the pages mapped
        self._scan = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)(image.address("scan"))
        self._lanes = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint64)(
            image.address("scan_lanes")
        )
        self._match = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_char_p, ctypes.c_uint64, ctypes.c_uint64)(
            image.address("match")
        )

    def scan(self, state: ScanState) -> int:
        """Walk the buffer that ``state`` describes; one of `skep.tap.layout.Status`."""
        status: int = self._scan(ctypes.addressof(state))
        return status

    def scan_lanes(self, states: ctypes.Array[ScanState], ends: list[int]) -> list[int]:
        """Walk several stretches in turns, each to its end (an offset like ``pos``); the status of each."""
        count = len(ends)
        lanes = (ctypes.c_uint64 * (2 * count))()
        for number, end in enumerate(ends):
            lanes[2 * number] = end
        self._lanes(ctypes.addressof(states), ctypes.addressof(lanes), count)
        return [int(lanes[2 * number + 1]) for number in range(count)]

    def match(self, packet: bytes, wirelen: int) -> int:
        """The filter's return value for one packet: 0, or how many bytes to keep."""
        kept: int = self._match(packet, len(packet), wirelen)
        return kept & 0xFFFFFFFF


def libc_address(name: str) -> int:
    """Address of a C library function."""
    function = getattr(ctypes.CDLL(None), name)
    return ctypes.cast(function, ctypes.c_void_p).value or 0
