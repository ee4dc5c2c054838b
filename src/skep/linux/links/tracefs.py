"""tracefs, mounted or not.

Where it is not mounted, a detached mount is made (fsopen, fsmount: Linux 5.2): it has a descriptor and no
place, so nothing on the machine changes and it goes with the descriptor.
"""

from __future__ import annotations

import errno
import os

from skep.errors import KernelError, NotSupported
from skep.linux.calls import Pinned, syscall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Final, Self


_PLACES: Final = ("/sys/kernel/tracing", "/sys/kernel/debug/tracing")
#: the same on every machine
_FSOPEN: Final = 430
_FSCONFIG: Final = 431
_FSMOUNT: Final = 432
_CLOEXEC: Final = 1
_CONFIG_CREATE: Final = 6


def detached_mount(filesystem: str) -> int:
    """A descriptor of a mount of ``filesystem`` that has no place in the tree.

    Raises:
        NotSupported: before Linux 5.2, or the kernel has no such filesystem.
        KernelError: EPERM, mounting needs CAP_SYS_ADMIN.
    """
    pinned = Pinned()
    context, code = syscall(_FSOPEN, pinned(filesystem.encode() + b"\0"), _CLOEXEC)
    if code in (errno.ENOSYS, errno.ENODEV):
        raise NotSupported(code, f"{filesystem}, not mounted,", since="5.2", cmd="fsopen")
    if code:
        raise KernelError(
            code, f"{filesystem} is not mounted, and cannot be: {os.strerror(code)}", cmd="fsopen"
        )
    try:
        _, code = syscall(_FSCONFIG, context, _CONFIG_CREATE)
        mount, code = syscall(_FSMOUNT, context, _CLOEXEC) if not code else (-1, code)
    finally:
        os.close(context)
    if code:
        raise KernelError(
            code, f"{filesystem} is not mounted, and cannot be: {os.strerror(code)}", cmd="fsmount"
        )
    return mount


class Tracefs:
    """An open tracefs. A context manager; paths are relative to its root."""

    def __init__(self) -> None:
        self.fd = -1
        for place in _PLACES:
            if os.path.exists(f"{place}/events"):
                self.fd = os.open(place, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
                return
        self.fd = detached_mount("tracefs")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self.fd)

    def open(self, path: str, flags: int = os.O_RDONLY) -> int:
        """A descriptor of a file.

        Raises:
            KernelError: as open(2), with the path.
        """
        try:
            return os.open(path, flags | os.O_CLOEXEC, dir_fd=self.fd)
        except OSError as error:
            raise KernelError(error.errno or 0, f"tracefs {path}: {error.strerror}") from None

    def read(self, path: str) -> str:
        fd = self.open(path)
        with os.fdopen(fd, encoding="utf-8", errors="replace") as file:
            return file.read()

    def append(self, path: str, line: str) -> None:
        """Write one command to a file of commands (kprobe_events)."""
        fd = self.open(path, os.O_WRONLY | os.O_APPEND)
        try:
            os.write(fd, line.encode() + b"\n")
        except OSError as error:
            raise KernelError(error.errno or 0, f"tracefs {path}: {line}: {error.strerror}") from None
        finally:
            os.close(fd)

    def has(self, path: str) -> bool:
        try:
            os.stat(path, dir_fd=self.fd)
        except OSError:
            return False
        return True

    def event_id(self, category: str, name: str) -> int:
        """The number that perf_event_open(2) knows a tracepoint by.

        Raises:
            KernelError: ENOENT, no such tracepoint.
        """
        try:
            return int(self.read(f"events/{category}/{name}/id"))
        except KernelError as error:
            if error.errno != errno.ENOENT:
                raise
            raise KernelError(errno.ENOENT, f"no tracepoint {category}:{name} in this kernel") from None
