"""LLVM IR to BPF objects, in a process of its own.

with BpfCompiler() as compiler:      # LLVM starts loading, 60 ms
    ir = ...                         # meanwhile
    obj = compiler.compile(ir)
"""

from __future__ import annotations

import os
import sys

from skep.errors import CompileError, MissingDependency
from skep.llvm import host

#: processor levels LLVM knows: docs/language.md says which kernels load them
CPUS = ("v1", "v2", "v3", "v4")
_SIGKILL = 9


class BpfCompiler:
    """One compilation in a child process that loads LLVM from the start; a context manager.

    Use `compile` once, or `close` it: the process is then ended.

    Raises:
        MissingDependency: llvmlite is not installed.
        CompileError: the process cannot be started.
    """

    def __init__(self) -> None:
        home = host.llvmlite_home()
        if home is None:
            raise MissingDependency("compiling programs written in Python", extra="llvm")
        script = os.path.join(os.path.dirname(__file__), "bpf_child.py")
        fds: list[int] = []
        try:
            # Memory files instead of pipes: nobody has to read while the process writes.
            fds += (os.memfd_create("skep-object"), os.memfd_create("skep-errors"))
            fds += os.pipe()
            self._object, self._errors, read_end, self._text = fds
            self._pid = os.posix_spawn(
                sys.executable,
                [sys.executable, "-I", "-S", script, home],
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

    def compile(self, ir: str, *, cpu: str = "v3", kind: str = "obj", timeout: float = 120.0) -> bytes:
        """What LLVM makes of the module ``ir``: an object, or "asm" or optimised "ir" as text.

        Raises:
            CompileError: LLVM refuses the text, dies of it or takes too long. ``source`` is the IR then,
                for a report.
        """
        if cpu not in CPUS:
            raise CompileError(f"no processor {cpu!r}", hint=f"one of {', '.join(CPUS)}")
        view = memoryview(f"{cpu} {kind}\n{ir}".encode("utf-8", "surrogatepass"))
        try:
            while view:
                view = view[os.write(self._text, view) :]
        except BrokenPipeError:
            pass  # it has died; its answer says of what
        os.close(self._text)
        self._text = -1
        if not self._ended(timeout):
            raise CompileError(f"LLVM took more than {timeout:g} seconds", hint="split the program")
        _, status = os.waitpid(self._pid, 0)
        self._pid = 0
        code = os.waitstatus_to_exitcode(status)
        output = _all(self._object)
        if code == 0 and output:
            return output
        raise _failure(code, _all(self._errors), ir)

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

    def __enter__(self) -> BpfCompiler:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _failure(code: int, errors: bytes, ir: str) -> CompileError | MissingDependency:
    lines = [line.strip() for line in errors.decode("utf-8", "replace").split("\n") if line.strip()]
    said = lines[-1][:500] if lines else "it said nothing"
    if "ModuleNotFoundError" in said or "ImportError" in said:
        return MissingDependency(f"compiling programs ({said})", extra="llvm")
    said = next((line for line in lines if "LLVM ERROR" in line or "error:" in line), said)[:500]
    if code == 3:
        how = "LLVM refuses the module"
    elif code < 0:
        how = f"LLVM was killed by signal {-code}"
    else:
        how = "LLVM gave up"
    made = CompileError(
        f"{how}: {said}", hint="this is a defect of skep: report it with the IR (error.source)"
    )
    made.source = ir
    return made


def _all(fd: int) -> bytes:
    size = os.fstat(fd).st_size
    data = b""
    while len(data) < size:
        piece = os.pread(fd, size - len(data), len(data))
        if not piece:
            break
        data += piece
    return data
