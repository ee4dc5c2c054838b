"""The native loop over a stream of buffers: pipes, compressed captures, pcapng in pcap framing."""

from __future__ import annotations

import ctypes
import fcntl
import os
from contextlib import suppress

from skep.tap.layout import RECORD_HEADER, Mode, Status
from skep.tap.native import ScanCode, ScanState, libc_address
from skep.tap.walk import NO_LIMIT

TYPE_CHECKING = False  # `typing` itself is not imported: it costs a warm run 5 ms
if TYPE_CHECKING:
    from skep.capture.pcap import Layout

_PIPE_BUFFER = 1 << 20  # bytes; the most that an ordinary user may ask for
_F_SETPIPE_SZ = 1031


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
        base = ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p).value or 0
        out = self._judge(code or self._code, base, len(data))
        self.tail = data[self._state.pos :] if self.status in (Status.SHORT, Status.BAD) else b""
        return out

    def _judge(self, code: ScanCode, base: int, length: int) -> bytes:
        state = self._state
        room = 2 * length + 64
        if state.mode != Mode.COUNT and len(self._out) < room:
            self._out = bytearray(room)
        if self._out:
            state.out = ctypes.addressof(ctypes.c_char.from_buffer(self._out))
        state.base = base
        state.pos = state.out_used = 0
        state.stop = state.length = length
        state.out_size = len(self._out)
        self.status = code.scan(state)
        return bytes(memoryview(self._out)[: state.out_used])


class PipeScan(BufferScan):
    """Reads a descriptor into one buffer that stays: a pipe at the speed of its system calls.

    ``start`` is what has been read of the records already; ``offset`` the offset of the first byte that
    has not been judged.
    """

    def __init__(
        self,
        code: ScanCode,
        layout: Layout,
        fd: int,
        start: bytes,
        offset: int,
        *,
        mode: int,
        divisor: int = 1,
        limit: int | None = None,
    ) -> None:
        super().__init__(code, layout, mode=mode, divisor=divisor, limit=limit)
        self._fd = fd
        self._in = bytearray(max(_PIPE_BUFFER, len(start)))
        self._in[: len(start)] = start
        self._have = len(start)
        self._most = layout.record_limit + RECORD_HEADER
        self._read = bool(start)
        self.offset = offset
        with suppress(OSError):  # not a pipe, or the user has many
            fcntl.fcntl(fd, _F_SETPIPE_SZ, _PIPE_BUFFER)

    def step(self) -> bytes | None:
        """Read and judge what is there; None at the end of the input (``tail`` is then what is left over)."""
        if not self._read:
            if self._have == len(self._in):
                grown = bytearray(min(2 * len(self._in), max(self._most, len(self._in) + 1)))
                grown[: self._have] = self._in
                self._in = grown
            got = os.readv(self._fd, [memoryview(self._in)[self._have :]])
            if not got:
                self.tail = bytes(self._in[: self._have])
                return None
            self._have += got
        self._read = False
        base = ctypes.addressof(ctypes.c_char.from_buffer(self._in))
        out = self._judge(self._code, base, self._have)
        used = int(self._state.pos)
        self._in[: self._have - used] = self._in[used : self._have]
        self._have -= used
        self.offset += used
        if self.status == Status.BAD:
            self.tail = bytes(self._in[: self._have])
        return out
