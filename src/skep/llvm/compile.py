"""Compiling LLVM IR to an object for this processor, in a child process or in this one."""

from __future__ import annotations

import os
import sys

from skep.errors import CompileError, MissingDependency
from skep.llvm import host

TYPE_CHECKING = False  # see skep.llvm.native
if TYPE_CHECKING:
    from skep.llvm.backend import Backend

#: O1 and O2: LLVM's own pipelines, both with the loop vectoriser. The others are a few passes each: basic for
#: code without vectorisable loops, flat for code without loops that are tested at their start, large for
#: thousands of instructions, quick for a fast first run; least compiles in linear time to code that is
#: several times slower.
LEVELS = ("least", "quick", "large", "flat", "basic", "O1", "O2")


def available() -> bool:
    """Whether llvmlite is installed (found, not imported)."""
    return host.llvmlite_home() is not None


def warm() -> None:
    """Load LLVM into this process (50 ms, 45 MiB), so that later compilations start no child.

    Raises:
        MissingDependency: llvmlite is not installed.
    """
    _backend()


def compile_native(
    ir: str, *, level: str = "O1", isolate: bool | None = None, timeout: float = 120.0
) -> bytes:
    """The relocatable ELF object of the module ``ir``, for exactly this processor.

    Position-independent, small code model; `skep.llvm.native` loads it. The text should name no
    triple, data layout or target features: the host's are set.

    ``isolate=True`` compiles in a short-lived child process, which contains whatever LLVM may do with
    bad input, and gives its memory back; False compiles here, with code that skep wrote itself only
    (LLVM aborts the process on some legal-looking text). None: here if LLVM is already loaded.
    ``timeout`` in seconds bounds the child.

    Raises:
        CompileError: LLVM refuses the text, dies of it or takes too long.
        MissingDependency: llvmlite is not installed.
    """
    if level not in LEVELS:
        raise CompileError(f"no optimisation level {level!r}", hint=f"one of {', '.join(LEVELS)}")
    if isolate is None:
        isolate = "llvmlite.binding" not in sys.modules
    if isolate:
        return _in_child(ir, level, timeout)
    backend = _backend()
    from skep.llvm.backend import Refused

    try:
        return backend.compile(ir, level)
    except Refused as error:
        raise CompileError(f"LLVM refuses the module: {error}") from None


def _backend() -> Backend:
    if host.llvmlite_home() is None:
        raise MissingDependency("compiling to native code", extra="llvm")
    from skep.llvm import backend

    try:
        return backend.shared()
    except ImportError as error:
        raise MissingDependency(f"compiling to native code ({error})", extra="llvm") from None


def _in_child(ir: str, level: str, timeout: float) -> bytes:
    home = host.llvmlite_home()
    if home is None:
        raise MissingDependency("compiling to native code", extra="llvm")
    import subprocess  # 5 ms, and only a miss of the cache comes here

    script = os.path.join(os.path.dirname(__file__), "backend.py")
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", script, home, level],
            input=ir.encode("utf-8", "surrogatepass"),
            capture_output=True,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise CompileError(
            f"LLVM took more than {timeout:g} seconds", hint="use level 'quick', or split the program"
        ) from None
    except OSError as error:
        raise CompileError(f"the compiler process could not start: {error.strerror}") from None
    return answer(done.returncode, done.stdout, done.stderr)


def answer(returncode: int, output: bytes, errors: bytes) -> bytes:
    """The object that a compiler process wrote, or what went wrong, told by how it ended.

    Raises `CompileError` or `MissingDependency`.
    """
    if returncode == 0 and output.startswith(b"\x7fELF"):
        return output
    lines = errors.decode("utf-8", "replace").split("\n")
    said = next((line.strip() for line in reversed(lines) if line.strip()), "")[:500]
    if "ModuleNotFoundError" in said or "ImportError" in said:
        raise MissingDependency(f"compiling to native code ({said})", extra="llvm")
    how = f"was killed by signal {-returncode}" if returncode < 0 else "failed"
    if returncode == 3:
        raise CompileError(f"LLVM refuses the module: {said}")
    first = next((line.strip() for line in lines if "LLVM ERROR" in line), said)[:500]
    raise CompileError(f"the compiler process {how}: {first or 'it said nothing'}")
