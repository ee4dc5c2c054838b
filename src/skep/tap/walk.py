"""Walking a stretch of a file with the native loop: through a mapping, or in pieces read with pread."""

from __future__ import annotations

import ctypes
import mmap
import os

from skep.tap.layout import RECORD_HEADER, Status
from skep.tap.native import ScanCode, ScanState, libc_address
from skep.tap.plain import Plain

NO_LIMIT = (1 << 64) - 1
_POPULATE_READ = 22  # madvise, Linux 5.14; older kernels fault page by page
_PIECE = 1 << 18  # bytes per pread: stays in a second-level cache


class Walker:
    """One thread's share of the work: an output buffer, counters, and the state of the native loop.

    After `walk`, ``status`` is the loop's answer, ``end`` the file offset where it stopped, ``seen``
    and ``matched`` the counts of that walk, and ``output`` what it emitted.
    """

    def __init__(self, code: ScanCode, fd: int, plain: Plain, mode: int, divisor: int, room: int) -> None:
        self._code = code
        self._fd = fd
        self._slack = plain.record_limit + RECORD_HEADER
        self._out = mmap.mmap(-1, room)
        # An array type over the buffer is the only way to its address; it must go before the buffer.
        self._pin = ctypes.c_char.from_buffer(self._out)
        self._view = memoryview(self._out)
        self.state = ScanState(
            max_caplen=plain.record_limit,
            snaplen=plain.snaplen,
            limit=NO_LIMIT,
            mode=mode,
            out=ctypes.addressof(self._pin),
            out_size=room,
            divisor=divisor,
            copy=libc_address("memcpy"),
        )
        self._pieces: list[tuple[int, int]] = []
        self.status = Status.DONE
        self.end = 0
        self.shrunk = False

    @property
    def seen(self) -> int:
        return int(self.state.seen)

    @property
    def matched(self) -> int:
        return int(self.state.matched)

    @property
    def output(self) -> list[memoryview]:
        """What was emitted, in order."""
        return [
            self._view[start : start + used] for start, used in self._pieces or [(0, self.state.out_used)]
        ]

    def walk(
        self, start: int, stop: int, size: int, limit: int = NO_LIMIT, between: tuple[int, ...] = ()
    ) -> None:
        """Judge the records that begin in [start, stop) of the file, whose size was ``size``.

        ``between``: offsets in there where records probably begin, which may be used to be quicker.
        """
        state = self.state
        state.seen = state.matched = state.out_used = 0
        state.limit = limit
        self._pieces = []
        self.end, self.status, self.shrunk = start, Status.DONE, False
        if start < stop:
            self._walk(start, stop, size, between)

    def _walk(self, start: int, stop: int, size: int, between: tuple[int, ...]) -> None:
        raise NotImplementedError

    def close(self) -> None:
        del self._pin
        try:
            self._view.release()
            self._out.close()
        except BufferError:
            return  # a sink that failed still holds its piece; the buffer goes with it


class MappedWalker(Walker):
    """Maps the whole stretch: packets that the filter does not look into are never copied or touched.

    Needs `skep.tap.guard.Guard`, for files that shrink.
    """

    def __init__(self, code: ScanCode, fd: int, plain: Plain, mode: int, divisor: int, room: int) -> None:
        super().__init__(code, fd, plain, mode, divisor, room)
        libc = ctypes.CDLL(None)
        libc.mmap.restype = ctypes.c_void_p
        libc.mmap.argtypes = (
            ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int64,
        )  # fmt: skip
        libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
        libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
        self._libc = libc

    def _walk(self, start: int, stop: int, size: int, between: tuple[int, ...]) -> None:
        low = start & -mmap.PAGESIZE
        length = min(stop + self._slack, size) - low
        libc, state = self._libc, self.state
        address = libc.mmap(None, length, mmap.PROT_READ, mmap.MAP_SHARED, self._fd, low)
        if address is None or address == (1 << 64) - 1:
            raise OSError(0, "the capture cannot be mapped")
        try:
            libc.madvise(address, min(stop, size) - low, _POPULATE_READ)
            state.base, state.pos = address, start - low
            state.stop, state.length, state.file_offset = stop - low, length, low
            if not between or not self._in_lanes([start - low, *(b - low for b in between)], stop - low):
                self.status = self._code.scan(state)
            self.end = low + int(state.pos)
        finally:
            libc.munmap(address, length)
        self.shrunk = os.fstat(self._fd).st_size < low + length

    def _in_lanes(self, starts: list[int], stop: int) -> bool:
        """Walk from every one of ``starts`` to the next in turns; False, and nothing done, if one misses it.

        A lane's output goes where its records lie in the stretch: emitted ones are no longer.
        """
        state, count = self.state, len(starts)
        states = (ScanState * count).from_buffer_copy(bytes(state) * count)
        ends = [*starts[1:], stop]
        rooms = [start - starts[0] for start in starts]
        for lane, begin, end, room in zip(states, starts, ends, rooms, strict=True):
            lane.pos, lane.out = begin, state.out + room
            lane.out_size = end - begin if end != stop else state.out_size - room
        answers = self._code.scan_lanes(states, ends)
        for number, end in enumerate(ends[:-1]):
            if answers[number] != Status.DONE or states[number].pos != end:
                return False
        self._pieces = [(room, int(lane.out_used)) for room, lane in zip(rooms, states, strict=True)]
        self.status = answers[-1]
        state.pos = states[-1].pos
        state.seen = sum(int(lane.seen) for lane in states)
        state.matched = sum(int(lane.matched) for lane in states)
        return True


class ReadWalker(Walker):
    """Reads in pieces of 256 KB; a record that straddles two is read again with the second."""

    def __init__(self, code: ScanCode, fd: int, plain: Plain, mode: int, divisor: int, room: int) -> None:
        super().__init__(code, fd, plain, mode, divisor, room)
        self._grow(_PIECE)

    def _grow(self, size: int) -> None:
        self._buffer = bytearray(size)
        self._address = ctypes.addressof(ctypes.c_char.from_buffer(self._buffer))

    def _walk(self, start: int, stop: int, size: int, between: tuple[int, ...]) -> None:
        state = self.state
        at = start
        while at < stop:
            got = os.preadv(self._fd, [self._buffer], at)
            state.base, state.pos, state.length = self._address, 0, got
            state.stop, state.file_offset = stop - at, at
            self.status = self._code.scan(state)
            moved = int(state.pos)
            at += moved
            self.end = at
            if self.status == Status.SHORT:
                if got == len(self._buffer):
                    if not moved:
                        self._grow(min(2 * len(self._buffer), self._slack))
                    continue
                if moved and got:
                    continue  # the file may have grown; the next read tells
            if self.status != Status.DONE:
                return
