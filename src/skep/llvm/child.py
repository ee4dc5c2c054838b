"""A process that loads LLVM while there is nothing to compile yet, and then compiles one module.

Loading LLVM takes 60 ms, about as long as making the IR text: on two processors the one hides behind the
other. Nothing here imports `subprocess`, which would cost more than the rest.
"""

from __future__ import annotations

import os
import sys

from skep.errors import CompileError, MissingDependency
from skep.llvm import host

TYPE_CHECKING = False  # see skep.llvm.native
if TYPE_CHECKING:
    from typing import Self

_SIGKILL = 9


class Child:
    """The process; a context manager. Give it one text with `_send`, or `close` it: it is then ended.

    ``script`` is a file beside this one, run as ``script LLVMLITE_HOME ARGUMENTS``; ``purpose`` says in an
    error what llvmlite is missed for.

    Raises:
        MissingDependency: llvmlite is not installed.
        CompileError: the process cannot be started.
    """

    def __init__(self, script: str, *arguments: str, purpose: str) -> None:
        home = host.llvmlite_home()
        if home is None:
            raise MissingDependency(purpose, extra="llvm")
        path = os.path.join(os.path.dirname(__file__), script)
        fds: list[int] = []
        try:
            # Memory files instead of pipes: nobody has to read while the process writes.
            fds += (os.memfd_create("skep-object"), os.memfd_create("skep-errors"))
            fds += os.pipe()
            self._object, self._errors, read_end, self._text = fds
            self._pid = os.posix_spawn(
                sys.executable,
                [sys.executable, "-I", "-S", path, home, *arguments],
                os.environ,
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, read_end, 0),
                    (os.POSIX_SPAWN_DUP2, self._object, 1),
                    (os.POSIX_SPAWN_DUP2, self._errors, 2),
                ],
            )
        except OSError as error:
            for fd in fds:
                os.close(fd)
            raise CompileError(f"the compiler process could not start: {error.strerror}") from None
        os.close(read_end)

    def _send(self, text: str, timeout: float, hint: str) -> tuple[int, bytes, bytes]:
        """The process's exit code (a signal's number, negative), output and errors, for ``text``.

        Raises:
            CompileError: it takes longer than ``timeout`` seconds; ``hint`` says what may help. It is ended.
        """
        view = memoryview(text.encode("utf-8", "surrogatepass"))
        try:
            while view:
                view = view[os.write(self._text, view) :]
        except BrokenPipeError:
            pass  # it has died; its answer says of what
        os.close(self._text)
        self._text = -1
        try:
            if not self._ended(timeout):
                raise CompileError(f"LLVM took more than {timeout:g} seconds", hint=hint)
            _, status = os.waitpid(self._pid, 0)
            self._pid = 0
            return os.waitstatus_to_exitcode(status), _all(self._object), _all(self._errors)
        finally:
            self.close()

    def _ended(self, timeout: float) -> bool:
        import select

        try:
            watch = os.pidfd_open(self._pid)
        except OSError:
            return True  # before Linux 5.3: wait without a limit
        try:
            return bool(select.select([watch], [], [], timeout)[0])
        finally:
            os.close(watch)

    def close(self) -> None:
        """End the process if it is still there. Closing twice is harmless."""
        if self._pid:
            os.kill(self._pid, _SIGKILL)
            os.waitpid(self._pid, 0)
            self._pid = 0
        for fd in (self._text, self._object, self._errors):
            if fd >= 0:
                os.close(fd)
        self._text = self._object = self._errors = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _all(fd: int) -> bytes:
    size = os.fstat(fd).st_size
    data = b""
    while len(data) < size:
        piece = os.pread(fd, size - len(data), len(data))
        if not piece:
            break
        data += piece
    return data
