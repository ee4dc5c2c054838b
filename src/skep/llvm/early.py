"""A compiler process that is started before there is anything to compile.

Loading LLVM takes 60 ms, about as long as making the IR text of a filter: on two processors the one hides
behind the other. Nothing here imports `subprocess`, which would cost more than the rest.
"""

from __future__ import annotations

import os
import sys

from skep.errors import CompileError, MissingDependency
from skep.llvm import host
from skep.llvm.compile import answer

_SIGKILL = 9


class Early:
    """One compilation in a child process that is loading LLVM already; a context manager.

    Use `compile` once, or `close` it: the process is then ended.

    Raises:
        MissingDependency: llvmlite is not installed.
        CompileError: the process cannot be started.
    """

    def __init__(self) -> None:
        home = host.llvmlite_home()
        if home is None:
            raise MissingDependency("compiling to native code", extra="llvm")
        script = os.path.join(os.path.dirname(__file__), "backend.py")
        fds: list[int] = []
        try:
            # Memory files instead of pipes: nobody has to read while the process writes.
            fds += (os.memfd_create("skep-object"), os.memfd_create("skep-errors"))
            fds += os.pipe()
            self._object, self._errors, read_end, self._text = fds
            self._pid = os.posix_spawn(
                sys.executable,
                [sys.executable, "-I", "-S", script, home, "basic"],
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

    def compile(self, ir: str, *, level: str = "O1", timeout: float = 120.0) -> bytes:
        """The object of the module ``ir``; see `skep.llvm.compile_native`."""
        view = memoryview(f"; level {level}\n{ir}".encode("utf-8", "surrogatepass"))
        try:
            while view:
                view = view[os.write(self._text, view) :]
        except BrokenPipeError:
            pass  # it has died; its answer says of what
        os.close(self._text)
        self._text = -1
        if not self._ended(timeout):
            self.close()
            raise CompileError(
                f"LLVM took more than {timeout:g} seconds", hint="use level 'quick', or split the program"
            )
        _, status = os.waitpid(self._pid, 0)
        self._pid = 0
        try:
            return answer(os.waitstatus_to_exitcode(status), _all(self._object), _all(self._errors))
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

    def __enter__(self) -> Early:
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
