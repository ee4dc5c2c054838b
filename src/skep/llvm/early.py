"""Native code from a compiler process that is started before there is anything to compile."""

from __future__ import annotations

from skep.llvm.child import Child
from skep.llvm.compile import answer


class Early(Child):
    """One compilation in a child process that is loading LLVM already; a context manager.

    Use `compile` once, or `close` it: the process is then ended.

    Raises:
        MissingDependency: llvmlite is not installed.
        CompileError: the process cannot be started.
    """

    def __init__(self) -> None:
        super().__init__("backend.py", "basic", purpose="compiling to native code")

    def compile(self, ir: str, *, level: str = "O1", timeout: float = 120.0) -> bytes:
        """The object of the module ``ir``; see `skep.llvm.compile_native`."""
        return answer(
            *self._send(f"; level {level}\n{ir}", timeout, "use level 'quick', or split the program")
        )
