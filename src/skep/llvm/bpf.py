"""LLVM IR to BPF objects, in a process of its own.

with BpfCompiler() as compiler:      # LLVM starts loading, 60 ms
    ir = ...                         # meanwhile
    obj = compiler.compile(ir)
"""

from __future__ import annotations

from skep.errors import CompileError, MissingDependency
from skep.llvm.child import Child

#: processor levels LLVM knows: docs/language.md says which kernels load them
CPUS = ("v1", "v2", "v3", "v4")


class BpfCompiler(Child):
    """One compilation in a child process that loads LLVM from the start; a context manager.

    Use `compile` once, or `close` it: the process is then ended.

    Raises:
        MissingDependency: llvmlite is not installed.
        CompileError: the process cannot be started.
    """

    def __init__(self) -> None:
        super().__init__("bpf_child.py", purpose="compiling programs written in Python")

    def compile(self, ir: str, *, cpu: str = "v3", kind: str = "obj", timeout: float = 120.0) -> bytes:
        """What LLVM makes of the module ``ir``: an object, or "asm" or optimised "ir" as text.

        Raises:
            CompileError: LLVM refuses the text, dies of it or takes too long. ``source`` is the IR then,
                for a report.
        """
        if cpu not in CPUS:
            raise CompileError(f"no processor {cpu!r}", hint=f"one of {', '.join(CPUS)}")
        code, output, errors = self._send(f"{cpu} {kind}\n{ir}", timeout, "split the program")
        if code == 0 and output:
            return output
        raise _failure(code, errors, ir)


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
