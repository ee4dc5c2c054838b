"""What functions that call each other need together.

LLVM looks at one function at a time; the kernel adds up along each chain of calls (check_max_stack_depth in
kernel/bpf/verifier.c): 512 bytes of stack, each frame rounded up, and eight frames. Functions that helpers
call are left to the verifier, and so is the stack of programs that Linux 6.13 and later may give a stack to
themselves.
"""

from __future__ import annotations

import ast
import struct
from collections.abc import Iterable
from typing import Final, NamedTuple

from skep.errors import CompileError
from skep.lang.source import SourceFile
from skep.obj import read
from skep.uapi.enums import ProgType

_STACK: Final = 512
_ROUND: Final = 16
_FRAMES: Final = 8
_FP: Final = 10
#: program types that may have stacks of their own (bpf_enable_priv_stack)
_PRIVATE: Final = (
    ProgType.KPROBE,
    ProgType.TRACEPOINT,
    ProgType.PERF_EVENT,
    ProgType.RAW_TRACEPOINT,
    ProgType.TRACING,
    ProgType.LSM,
    ProgType.STRUCT_OPS,
)


class _Chain(NamedTuple):
    """A function and what is called below it, the worst way."""

    bytes: int
    functions: tuple[str, ...]


def check(obj: bytes, sources: Iterable[SourceFile]) -> None:
    """Refuse an object in which a chain of calls is too deep, or needs too much stack.

    Raises:
        CompileError: at the function of the chain that has most, or that is called too deep.
    """
    spec = read(obj)
    calls = {
        name: {reloc.symbol for reloc in one.relocs if reloc.kind == "call"} & spec.functions.keys()
        for name, one in spec.functions.items()
    }
    stacks = {name: stack_of(one.code) for name, one in spec.functions.items()}
    ones = dict.fromkeys(stacks, 1)
    for program in spec.programs.values():
        deep = _worst(program.name, ones, calls, {})
        if deep.bytes > _FRAMES:
            raise _at(
                sources,
                deep.functions[_FRAMES],
                f"{_arrows(deep.functions)} are {deep.bytes} calls deep, and kernels have {_FRAMES} frames",
                "inline some of them: leave @bpf.subprog out",
            )
        whole = _worst(program.name, stacks, calls, {})
        if whole.bytes > _STACK and len(whole.functions) > 1 and program.type not in _PRIVATE:
            raise _at(
                sources,
                max(whole.functions, key=lambda name: stacks[name]),
                f"{_arrows(whole.functions)} need {whole.bytes} bytes of stack together, "
                f"and a chain of calls has {_STACK}",
                "keep large variables in a map: scratch = bpf.PerCpuArray(T, 1); x = scratch[0]",
            )


def stack_of(code: bytes) -> int:
    """The stack that a function uses, rounded up as kernels with a JIT do."""
    lowest = 0
    copies: set[int] = set()  # registers that hold the frame pointer
    wide = False
    for opcode, registers, off, imm in struct.iter_unpack("=BBhi", code):
        if wide:
            wide = False
            continue
        wide = opcode == 0x18
        dst, src, kind = registers & 15, registers >> 4, opcode & 7
        if (dst if kind in (2, 3) else src if kind == 1 else 0) == _FP:
            lowest = min(lowest, off)
        if opcode == 0xBF and src == _FP:
            copies.add(dst)
        elif opcode == 0x07 and dst in copies:
            lowest = min(lowest, imm)
            copies.discard(dst)
        elif kind in (0, 1, 4, 7):
            copies.discard(dst)
    return -(lowest // _ROUND * _ROUND)


def _worst(
    name: str, costs: dict[str, int], calls: dict[str, set[str]], known: dict[str, _Chain | None]
) -> _Chain:
    """The dearest chain of calls from ``name`` on."""
    found = known.get(name)
    if found is not None:
        return found
    known[name] = _Chain(0, ())  # recursion is refused elsewhere
    below = [_worst(callee, costs, calls, known) for callee in sorted(calls[name])]
    deepest = max(below, default=_Chain(0, ()), key=lambda chain: chain.bytes)
    made = known[name] = _Chain(costs[name] + deepest.bytes, (name, *deepest.functions))
    return made


def _arrows(functions: tuple[str, ...]) -> str:
    return ", ".join(f"{name}()" for name in functions)


def _at(sources: Iterable[SourceFile], name: str, reason: str, hint: str) -> CompileError:
    for file in sources:
        for (called, _), tree in file.functions.items():
            if called == name and isinstance(tree, ast.FunctionDef):
                return file.error(tree, reason, hint)
    return CompileError(reason, hint=hint)
