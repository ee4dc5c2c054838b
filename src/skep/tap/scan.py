"""A plain pcap file through the native loop, on several threads, results in file order.

The file is cut into chunks, and each thread takes the next that nobody has. It guesses where the first record
of the chunk begins, walks it from there, and then waits for its turn: only if the walk of the chunk before
arrived exactly at the guess does the result count; otherwise the chunk is walked again from where it must
be. So guessing can cost time and never correctness. Within a chunk the same is done for its lanes.
"""

from __future__ import annotations

import os
from _thread import LockType, allocate_lock, start_new_thread

from skep.tap.layout import Mode, Status
from skep.tap.native import ScanCode
from skep.tap.plain import FILE_HEADER, Plain
from skep.tap.speculate import Guess
from skep.tap.walk import NO_LIMIT, MappedWalker, Mapping, ReadWalker, Walker

#: bytes that all threads together walk at a time, and so have mapped; what is emitted needs as much again
WINDOW = 64 << 20
EMIT_WINDOW = 24 << 20
#: the least bytes of a chunk, and of the part of one that is walked in turns with others ("lane")
CHUNK = 3 << 20
LANE = 1 << 20
#: more lanes than cache misses that a processor waits for at a time are of no use
LANES = 16

TYPE_CHECKING = False  # `typing` and `collections.abc` cost a warm run milliseconds
if TYPE_CHECKING:
    from collections.abc import Callable

    Sink = Callable[..., object]


class FileScan:
    """One scan of one file; `run` it once.

    ``seen`` and ``matched`` count packets. ``end`` is the file offset where the walk ended. ``finished``
    is False when it ended before the file did: at a record that is damaged or that the file's end cut,
    or because the file changed. Whoever reads on from ``end`` in the ordinary way gets the same packets, and
    the error.

    ``sink`` gets the emitted records or index entries, in order, from one thread at a time, as one or more
    memoryviews of whole ones, which are valid during the call only. ``progress`` is called with the file
    offset now and then.
    """

    def __init__(
        self,
        code: ScanCode,
        fd: int,
        plain: Plain,
        *,
        mode: int = Mode.COUNT,
        sink: Sink | None = None,
        divisor: int = 1,
        limit: int | None = None,
        threads: int = 1,
        mapped: bool = False,
        progress: Callable[[int], object] | None = None,
        chunk: int = 0,
        lanes: int = 0,
    ) -> None:
        self._code, self._fd, self._plain = code, fd, plain
        self._mode, self._sink, self._divisor = mode, sink, divisor
        self._limit = NO_LIMIT if limit is None else limit
        self._progress = progress
        self._size = os.fstat(fd).st_size
        threads = 1 if limit is not None else max(1, threads)
        window = WINDOW if mode == Mode.COUNT else EMIT_WINDOW
        chunk = chunk or max(CHUNK, window // max(2, threads))
        self._chunk = chunk
        # Index entries are numbered through, and a limit counts through: one walk, then.
        lanes = lanes or max(1, min(LANES, chunk // LANE))
        self._lanes = lanes if mapped and mode != Mode.INDEX and limit is None else 1
        self._chunks = max(1, -(-self._size // chunk))
        self._threads = min(threads, self._chunks)
        self._mapping = _mapping(fd, self._size) if mapped and self._size else None
        self._numbers = iter(range(self._chunks))
        #: for each chunk a lock that is released when all before it are committed
        self._gates: list[LockType] = []
        self._error: BaseException | None = None
        self._stopped = False
        self._guess = Guess(code, fd, plain)
        self.end = FILE_HEADER
        self.seen = 0
        self.matched = 0
        self.finished = True

    def run(self) -> None:
        """Scan; raises what the sink raises, after the records before it were delivered."""
        try:
            if self._threads == 1:
                self._alone()
            else:
                self._together()
        finally:
            if self._mapping is not None:
                self._mapping.close()
        if self._error is not None:
            raise self._error

    def _together(self) -> None:
        self._gates = [allocate_lock() for _ in range(self._chunks + 1)]
        for gate in self._gates[1:]:
            gate.acquire()
        done = []
        for _ in range(self._threads):
            lock = allocate_lock()
            lock.acquire()
            done.append(lock)
            start_new_thread(self._thread, (lock.release,))
        # This thread only waits, so that Ctrl-C never hits one whose turn it is.
        try:
            for lock in done:
                lock.acquire()
        except BaseException:
            self._stop_all()
            for lock in done:
                if lock.locked():
                    lock.acquire()
            raise

    def _walker(self) -> Walker:
        # An emitted record is no longer than the one read; an index entry is at most twice as long.
        room = 2 * self._chunk + self._plain.record_limit + 4096 if self._mode != Mode.COUNT else 4096
        if self._mapping is None:
            return ReadWalker(self._code, self._fd, self._plain, self._mode, self._divisor, room)
        return MappedWalker(self._code, self._fd, self._plain, self._mode, self._divisor, room, self._mapping)

    def _alone(self) -> None:
        walker = self._walker()
        try:
            for number in range(self._chunks):
                stop = self._stop(number)
                left = self._limit - self.matched
                walker.walk(self.end, stop, self._size, left, self._between(self.end, stop))
                self._commit(walker)
                if self._stopped:
                    break
        finally:
            walker.close()

    def _thread(self, done: Callable[[], object]) -> None:
        try:
            self._share()
        except BaseException as error:
            self._error = self._error or error
            self._stop_all()
        finally:
            done()

    def _share(self) -> None:
        """The work of one thread: chunk after chunk that nobody has taken."""
        walker: Walker | None = None
        try:
            for chunk in self._numbers:
                if self._stopped:
                    break
                walker = walker or self._walker()
                guess = self._guess_at([chunk * self._chunk])[0] if chunk else FILE_HEADER
                stop = self._stop(chunk)
                problem: BaseException | None = None
                if guess >= 0:
                    try:
                        walker.walk(guess, stop, self._size, between=self._between(guess, stop))
                    except BaseException as error:
                        problem = error
                self._gates[chunk].acquire()
                if self._stopped:
                    break
                if problem is not None:
                    raise problem
                if guess != self.end:
                    walker.walk(self.end, stop, self._size)
                self._commit(walker)
                if self._stopped:
                    self._stop_all()
                    break
                _open(self._gates[chunk + 1])
        finally:
            if walker is not None:
                walker.close()

    def _stop_all(self) -> None:
        """No more chunks; whoever waits for its turn wakes up and leaves."""
        self._stopped = True
        for gate in self._gates:
            _open(gate)

    def _commit(self, walker: Walker) -> None:
        """Take over the result of a walk that began at ``self.end``."""
        if walker.shrunk:
            self.finished, self._stopped = False, True
            return
        if self._sink is not None:
            pieces = walker.output
            if pieces:
                self._sink(*pieces)
        self.seen += walker.seen
        self.matched += walker.matched
        self.end = walker.end
        if walker.status in (Status.SHORT, Status.BAD):
            self.finished, self._stopped = False, True
        elif self.matched >= self._limit:
            self._stopped = True
        elif walker.status == Status.FULL:
            raise AssertionError("the output buffer holds what a chunk can emit")
        if self._progress is not None:
            self._progress(self.end)

    def _between(self, start: int, stop: int) -> list[int]:
        """Where the lanes of a chunk but the first probably begin, ascending; none if a guess fails."""
        lanes = self._lanes
        if lanes == 1 or stop <= start:
            return []
        found = self._guess_at([start + (stop - start) * lane // lanes for lane in range(1, lanes)])
        before = start
        for guess in found:
            if not before < guess < stop:
                return []
            before = guess
        return found

    def _guess_at(self, offsets: list[int]) -> list[int]:
        if self._mapping is None:
            return self._guess.at(offsets)
        return self._guess.mapped(self._mapping.address, self._size, offsets)

    def _stop(self, chunk: int) -> int:
        return min((chunk + 1) * self._chunk, self._size)


def _open(gate: LockType) -> None:
    try:
        gate.release()
    except RuntimeError:
        return  # it is open: the scan is being stopped


def _mapping(fd: int, size: int) -> Mapping | None:
    try:
        return Mapping(fd, size)
    except OSError:
        return None  # no room for it: it is read, then
