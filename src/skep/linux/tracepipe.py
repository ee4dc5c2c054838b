"""What programs print with bpf_printk: tracefs's trace_pipe."""

from __future__ import annotations

import errno
import os
import select

from skep.errors import KernelError
from skep.plain import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType
    from typing import Final, Self


_PLACES: Final = ("/sys/kernel/tracing", "/sys/kernel/debug/tracing")


class Printed(NamedTuple):
    """A line: the task's name and pid, its CPU, seconds since boot, the text."""

    comm: str
    pid: int
    cpu: int
    time: float
    text: str


class TracePipe:
    """Lines as they are printed, by any program of the machine; every reader takes lines from the others.

    ``path`` is tracefs, by default where it is mounted. Raises KernelError when it is not mounted or busy.
    """

    def __init__(self, path: str | None = None) -> None:
        places = (path,) if path is not None else _PLACES
        place = next((p for p in places if os.path.exists(f"{p}/trace_pipe")), None)
        if place is None:
            raise KernelError(
                errno.ENOENT,
                f"tracefs is not mounted: mount -t tracefs tracefs {_PLACES[0]}",
                cmd="trace_pipe",
            )
        try:
            self._fd = os.open(f"{place}/trace_pipe", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise KernelError(error.errno or 0, f"{place}/trace_pipe: {error.strerror}", cmd="open") from None
        self._rest = b""

    def fileno(self) -> int:
        return self._fd

    def lines(self, timeout: float | None = None) -> Iterator[str]:
        """Lines as tracefs prints them; ends when none came for ``timeout`` seconds."""
        poller = select.poll()
        poller.register(self._fd, select.POLLIN)
        while True:
            try:
                data = os.read(self._fd, 1 << 16)
            except BlockingIOError:
                if not poller.poll(-1 if timeout is None else timeout * 1000):
                    return
                continue
            if not data:
                return
            *whole, self._rest = (self._rest + data).split(b"\n")
            for line in whole:
                yield line.decode(errors="replace")

    def events(self, timeout: float | None = None) -> Iterator[Printed]:
        """What bpf_printk wrote; other lines of the trace are left out."""
        for line in self.lines(timeout):
            found = parse(line)
            if found is not None:
                yield found

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def parse(line: str) -> Printed | None:
    """A line of bpf_printk, or None: ``  task-123 [001] d..31 45.678901: bpf_trace_printk: text``."""
    head, mark, text = line.partition(": bpf_trace_printk: ")
    if not mark:
        return None
    left, _, when = head.rpartition(" ")
    task, _, rest = left.rpartition(" [")
    comm, _, pid = task.strip().rpartition("-")
    cpu = rest.partition("]")[0]
    try:
        return Printed(comm, int(pid.split()[0]), int(cpu), float(when), text)
    except (ValueError, IndexError):
        return None
