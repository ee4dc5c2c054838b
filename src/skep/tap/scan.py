"""A plain pcap file through the native loop, on several threads, results in file order.

The file is cut into chunks. Each thread guesses where the first record of its chunk begins, walks the
chunk from there, and then waits for its turn: only if the walk of the chunk before arrived exactly at
the guess does the result count; otherwise the chunk is walked again from where it must be. So guessing
can cost time and never correctness.
"""

from __future__ import annotations

import os
from _thread import allocate_lock, start_new_thread
from collections.abc import Callable

from skep.tap.layout import Mode, Status
from skep.tap.native import ScanCode
from skep.tap.plain import FILE_HEADER, Plain
from skep.tap.speculate import Guess
from skep.tap.walk import NO_LIMIT, MappedWalker, ReadWalker, Walker

#: bytes of a chunk that one thread has mapped at a time, and of those it walks in turns as one lane; what is
#: emitted needs as much again, so chunks are smaller then
CHUNK = 32 << 20
EMIT_CHUNK = 16 << 20
LANE = 4 << 20

Sink = Callable[[memoryview], object]


class FileScan:
    """One scan of one file; `run` it once.

    ``seen`` and ``matched`` count packets. ``end`` is the file offset where the walk ended. ``finished``
    is False when it ended before the file did: at a record that is damaged or that the file's end cut,
    or because the file changed. Whoever reads on from ``end`` in the ordinary way gets the same packets, and
    the error.

    ``sink`` gets the emitted records or index entries, in order, from one thread at a time; the
    buffer is valid during the call only. ``progress`` is called with the file offset now and then.
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
        self._walker_type: type[Walker] = MappedWalker if mapped else ReadWalker
        self._progress = progress
        chunk = chunk or (CHUNK if mode == Mode.COUNT else EMIT_CHUNK)
        lanes = lanes or max(1, chunk // LANE)
        self._chunk = chunk
        # Index entries are numbered through, and a limit counts through: one walk, then.
        self._lanes = lanes if mapped and mode != Mode.INDEX and limit is None else 1
        self._size = os.fstat(fd).st_size
        chunks = max(1, -(-self._size // chunk))
        self._chunks = chunks
        self._threads = 1 if limit is not None else max(1, min(threads, chunks))
        self._turns = [allocate_lock() for _ in range(self._threads)]
        self._error: BaseException | None = None
        self._stopped = False
        self._guess = Guess(fd, FILE_HEADER, plain.big_endian, plain.record_limit, plain.units)
        self.end = FILE_HEADER
        self.seen = 0
        self.matched = 0
        self.finished = True

    def run(self) -> None:
        """Scan; raises what the sink raises, after the records before it were delivered."""
        if self._threads == 1:
            self._alone()
            return
        for turn in self._turns[1:]:
            turn.acquire()
        done = []
        for number in range(self._threads):
            lock = allocate_lock()
            lock.acquire()
            done.append(lock)
            start_new_thread(self._thread, (number, lock.release))
        # This thread only waits, so that Ctrl-C never hits one that holds the turn.
        try:
            for lock in done:
                lock.acquire()
        except BaseException:
            self._stopped = True
            for lock in done:
                if lock.locked():
                    lock.acquire()
            raise
        if self._error is not None:
            raise self._error

    def _walker(self) -> Walker:
        # An emitted record is no longer than the one read; an index entry is at most twice as long.
        room = 2 * self._chunk + self._plain.record_limit + 4096 if self._mode != Mode.COUNT else 4096
        return self._walker_type(self._code, self._fd, self._plain, self._mode, self._divisor, room)

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

    def _thread(self, number: int, done: Callable[[], object]) -> None:
        try:
            self._share(number)
        finally:
            done()

    def _share(self, number: int) -> None:
        """The work of thread ``number``: every so-many-th chunk. There is one turn, passed around."""
        mine, following = self._turns[number], self._turns[(number + 1) % self._threads]
        walker: Walker | None = None
        for chunk in range(number, self._chunks, self._threads):
            guess = None
            problem: BaseException | None = None
            if not self._stopped:
                try:
                    walker = walker or self._walker()
                    guess = FILE_HEADER if chunk == 0 else self._guess.at(chunk * self._chunk)
                    if guess is not None:
                        stop = self._stop(chunk)
                        walker.walk(guess, stop, self._size, between=self._between(guess, stop))
                except BaseException as error:
                    problem = error
            mine.acquire()
            try:
                if not self._stopped:
                    if problem is not None:
                        raise problem
                    assert walker is not None
                    if guess != self.end:
                        walker.walk(self.end, self._stop(chunk), self._size)
                    self._commit(walker)
            except BaseException as error:
                self._error = self._error or error
                self._stopped = True
            # Whoever sees the end while holding the turn passes it on and leaves, so everybody does.
            last = self._stopped
            following.release()
            if last:
                break
        if walker is not None:
            walker.close()

    def _commit(self, walker: Walker) -> None:
        """Take over the result of a walk that began at ``self.end``."""
        if walker.shrunk:
            self.finished, self._stopped = False, True
            return
        if self._sink is not None:
            for piece in walker.output:
                if piece:
                    self._sink(piece)
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

    def _between(self, start: int, stop: int) -> tuple[int, ...]:
        """Where the lanes of a chunk but the first probably begin, ascending; none if a guess fails."""
        found: list[int] = []
        for lane in range(1, self._lanes if stop > start else 1):
            guess = self._guess.at(start + (stop - start) * lane // self._lanes)
            if guess is None or not (found[-1] if found else start) < guess < stop:
                return ()
            found.append(guess)
        return tuple(found)

    def _stop(self, chunk: int) -> int:
        return min((chunk + 1) * self._chunk, self._size)
