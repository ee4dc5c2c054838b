"""Walking a stretch of a file with the native loop: through a mapping, or in pieces read with pread."""

from __future__ import annotations

import mmap
import os
from struct import pack

from skep import foreign
from skep.tap.layout import FIELDS, RECORD_HEADER, Mode, Status
from skep.tap.native import ScanCode, ScanState, libc_address
from skep.tap.plain import Plain

TYPE_CHECKING = False  # `collections.abc` brings `collections`, which a warm run does without
if TYPE_CHECKING:
    from collections.abc import Sequence

NO_LIMIT = (1 << 64) - 1
_POS, _STOP, _SEEN, _MATCHED = (FIELDS.index(name) for name in ("pos", "stop", "seen", "matched"))
_OUT, _OUT_USED, _OUT_SIZE, _STATUS = (
    FIELDS.index(name) for name in ("out", "out_used", "out_size", "status")
)

_DONTNEED = 4  # madvise
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
        self._out = mmap.mmap(-1, room, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        # An array type over the buffer is the only way to its address; it must go before the buffer.
        self._pin = foreign.Byte.from_buffer(self._out)
        self._view = memoryview(self._out)
        self.state = ScanState(
            max_caplen=plain.record_limit,
            snaplen=plain.snaplen,
            limit=NO_LIMIT,
            mode=mode,
            out=foreign.addressof(self._pin),
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
            self._view[start : start + used]
            for start, used in self._pieces or [(0, self.state.out_used)]
            if used
        ]

    def walk(
        self, start: int, stop: int, size: int, limit: int = NO_LIMIT, between: Sequence[int] = ()
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

    def _walk(self, start: int, stop: int, size: int, between: Sequence[int]) -> None:
        raise NotImplementedError  # native and interpreted walks have their own

    def close(self) -> None:
        del self._pin
        try:
            self._view.release()
            self._out.close()
        except BufferError:
            return  # a sink that failed still holds its piece; the buffer goes with it


class Mapping:
    """A whole file mapped for reading; pages that are not needed any more can be dropped.

    Raises:
        OSError: there is no room for it.
    """

    def __init__(self, fd: int, size: int) -> None:
        address_, size_, number = foreign.Address, foreign.Size, foreign.Int
        map_ = foreign.library("mmap", address_, address_, size_, number, number, number, foreign.Long)
        self._munmap = foreign.library("munmap", number, address_, size_)
        self._madvise = foreign.library("madvise", number, address_, size_, number)
        self.size = size
        address = map_(None, size, mmap.PROT_READ, mmap.MAP_SHARED, fd, 0)
        if address is None or address == (1 << 64) - 1:
            raise OSError(foreign.get_errno(), "the capture cannot be mapped")
        self.address: int = address

    def populate(self, start: int, end: int) -> None:
        """Map the pages of [start, end) at once, which costs less than one after the other."""
        low = start & -mmap.PAGESIZE
        self._madvise(self.address + low, min(end, self.size) - low, _POPULATE_READ)

    def drop(self, start: int, end: int) -> None:
        """Unmap the whole pages of [start, end) of this process; they stay in the page cache."""
        low = start & -mmap.PAGESIZE
        high = self.size if end >= self.size else end & -mmap.PAGESIZE
        if low < high:
            self._madvise(self.address + low, high - low, _DONTNEED)

    def close(self) -> None:
        address, self.address = self.address, 0
        if address:
            self._munmap(address, self.size)


class MappedWalker(Walker):
    """Walks through a mapping: packets that the filter does not look into are never copied or touched.

    Needs `skep.tap.guard.Guard`, for files that shrink.
    """

    def __init__(
        self, code: ScanCode, fd: int, plain: Plain, mode: int, divisor: int, room: int, mapping: Mapping
    ) -> None:
        super().__init__(code, fd, plain, mode, divisor, room)
        self._mapping = mapping
        self._room = bytearray()  # of the lanes' states, once there are lanes

    def _walk(self, start: int, stop: int, size: int, between: Sequence[int]) -> None:
        mapping, state = self._mapping, self.state
        mapping.populate(start, stop)
        state.base, state.pos, state.stop, state.length, state.file_offset = (
            mapping.address,
            start,
            stop,
            size,
            0,
        )
        if not between or not self._in_lanes([start, *between], stop):
            self.status = self._code.scan(state)
        self.end = int(state.pos)
        # A file that shrank shows in its size before the pages read as zeros are trusted.
        self.shrunk = os.fstat(self._fd).st_size < size
        mapping.drop(start, self.end)

    def _in_lanes(self, starts: list[int], stop: int) -> bool:
        """Walk from every one of ``starts`` to the next in turns; False, and nothing done, if one misses it.

        A lane's output goes where its records lie in the stretch: emitted ones are no longer.
        """
        state, count = self.state, len(starts)
        state.status = Status.DONE
        size = count * foreign.sizeof(state)
        if len(self._room) != size:
            self._room = bytearray(size)
            self._lanes = (ScanState * count).from_buffer(self._room)
        self._room[:] = bytes(state) * count
        # Fields of all lanes at once, which is several times as quick as one by one.
        words = memoryview(self._room).cast("Q")
        step, out, first = len(FIELDS), int(state.out), starts[0]
        ends = [*starts[1:], stop]
        words[_POS::step] = _words(starts)
        words[_STOP::step] = _words(ends)
        if state.mode != Mode.COUNT:
            words[_OUT::step] = _words([out + start - first for start in starts])
            rooms = [end - start for start, end in zip(starts, ends, strict=True)]
            rooms[-1] = state.out_size - (starts[-1] - first)
            words[_OUT_SIZE::step] = _words(rooms)
        self._code.walk(self._lanes, count)
        where = words[_POS::step].tolist()
        if where[:-1] != ends[:-1] or any(words[_STATUS::step][:-1].tolist()):
            return False
        used = words[_OUT_USED::step].tolist()
        self._pieces = [(start - first, size) for start, size in zip(starts, used, strict=True)]
        self.status = words[_STATUS::step][-1]
        state.pos = where[-1]
        state.seen = sum(words[_SEEN::step].tolist())
        state.matched = sum(words[_MATCHED::step].tolist())
        return True


def _words(numbers: list[int]) -> memoryview:
    return memoryview(pack(f"{len(numbers)}Q", *numbers)).cast("Q")


class ReadWalker(Walker):
    """Reads in pieces of 256 KB; a record that straddles two is read again with the second."""

    def __init__(self, code: ScanCode, fd: int, plain: Plain, mode: int, divisor: int, room: int) -> None:
        super().__init__(code, fd, plain, mode, divisor, room)
        self._grow(_PIECE)

    def _grow(self, size: int) -> None:
        self._buffer = bytearray(size)
        self._address = foreign.addressof(foreign.Byte.from_buffer(self._buffer))

    def _walk(self, start: int, stop: int, size: int, between: Sequence[int]) -> None:
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
