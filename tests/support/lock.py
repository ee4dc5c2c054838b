"""One process at a time, among all that run tests on this machine."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path


def trace_pipe() -> AbstractContextManager[None]:
    """The kernel's one list of printed lines: each line goes to one reader only."""
    return locked(Path("/tmp/skep-trace-pipe.lock")) if os.access("/tmp", os.W_OK) else nullcontext()


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock on the file ``path``, which is made if need be; the end of the process frees it too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:  # it may be another user's, which O_CREAT is refused for in a folder like /tmp
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_CREAT, 0o644)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
