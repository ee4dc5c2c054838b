"""The native loop over a stream of buffers: pipes, compressed captures, pcapng in pcap framing."""

from __future__ import annotations

import ctypes

from skep.tap.layout import Mode, Status
from skep.tap.native import ScanCode, ScanState, libc_address
from skep.tap.walk import NO_LIMIT

TYPE_CHECKING = False  # `typing` itself is not imported: it costs a warm run 5 ms
if TYPE_CHECKING:
    from skep.capture.pcap import Layout


class BufferScan:
    """Judges the records of one buffer after another.

    ``seen`` and ``matched`` count from the start. `feed` returns what was emitted (or index entries, their
    offsets relative to the buffer) and keeps the tail of an unfinished record for the next buffer.
    ``status`` is then DONE, SHORT (a tail is kept), BAD (``tail`` begins with the damaged record) or LIMIT.
    """

    def __init__(
        self, code: ScanCode, layout: Layout, *, mode: int, divisor: int = 1, limit: int | None = None
    ) -> None:
        self._code = code
        self._out = bytearray()
        self._state = ScanState(
            max_caplen=layout.record_limit,
            snaplen=layout.snaplen,
            limit=NO_LIMIT if limit is None else limit,
            mode=mode,
            divisor=divisor,
            copy=libc_address("memcpy"),
        )
        self.tail = b""
        #: the buffer of the last `feed`: the tail before it and its records
        self.data = b""
        self.status = Status.DONE

    @property
    def seen(self) -> int:
        return int(self._state.seen)

    @property
    def matched(self) -> int:
        return int(self._state.matched)

    def feed(self, records: bytes, code: ScanCode | None = None) -> bytes:
        """Judge the next records, with other ``code`` than the usual if given."""
        data = self.data = self.tail + records if self.tail else records
        state = self._state
        room = 2 * len(data) + 64
        if state.mode != Mode.COUNT and len(self._out) < room:
            self._out = bytearray(room)
        if self._out:
            state.out = ctypes.addressof(ctypes.c_char.from_buffer(self._out))
        state.base = ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p).value
        state.pos = state.out_used = 0
        state.stop = state.length = len(data)
        state.out_size = len(self._out)
        self.status = (code or self._code).scan(state)
        self.tail = data[state.pos :] if self.status in (Status.SHORT, Status.BAD) else b""
        return bytes(memoryview(self._out)[: state.out_used])
