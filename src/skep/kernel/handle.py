"""Ownership of descriptors: every handle closes its own, once."""

from __future__ import annotations

# `warnings` may be gone when the last handles go, and costs a start more than it does.
from _warnings import warn

from skep.kernel.protocol import Kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self


def page_size() -> int:
    """Bytes of a page, as `mmap.PAGESIZE`, without that module."""
    import os

    return os.sysconf("SC_PAGE_SIZE")


def forked_from(pid: int) -> bool:
    """Whether this process is a child of the one that made something, ``pid``, and that one is still there.

    What a process undoes when it closes is not a child's to undo. One whose parent has gone, a daemon, has
    taken over.
    """
    import os

    if os.getpid() == pid:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


class Handle:
    """Owns one descriptor of a kernel. A context manager; `close` may be called again.

    A handle that is collected while open closes itself with a ResourceWarning.
    """

    __slots__ = ("__weakref__", "_fd", "kernel")

    def __init__(self, kernel: Kernel, fd: int) -> None:
        self.kernel = kernel
        self._fd = fd

    @property
    def fd(self) -> int:
        """The descriptor.

        Raises:
            ValueError: the handle is closed.
        """
        if self._fd < 0:
            raise ValueError(f"{type(self).__name__} is closed")
        return self._fd

    def fileno(self) -> int:
        return self.fd

    @property
    def closed(self) -> bool:
        return self._fd < 0

    def detach_fd(self) -> int:
        """Give the descriptor away: the caller closes it, the handle is closed."""
        fd, self._fd = self.fd, -1
        return fd

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            self.kernel.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_fd", -1) >= 0:
            warn(f"{self!r} was not closed", ResourceWarning, source=self, stacklevel=2)
            self.close()
