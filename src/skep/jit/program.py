"""A program as native code, ready to run.

The state that native code shares with its caller is three words; see `skep.jit.lower`.
"""

from __future__ import annotations

import ctypes
import struct
import sys
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from skep.errors import CompileError, ExecutionError, LinkError
from skep.isa import Insn, encode
from skep.jit import body
from skep.llvm import cache, native

if TYPE_CHECKING:
    from skep.jit.lower import Lowered

#: Instructions that a run may execute by default, in the coin of docs/machine.md.
DEFAULT_BUDGET: Final = 1 << 32
MAX_BUDGET: Final = (1 << 63) - 1

#: Sizes, in instructions, at which a cheaper optimisation level is chosen (see `skep.llvm.LEVELS`).
BASIC_TO: Final = 1_000
LARGE_FROM: Final = 4_000
LEAST_FROM: Final = 8_000

Helper = Callable[[int, int, int, int, int], int] | int

#: Raised when the code made of the same program changes: what is cached is then made anew.
REVISION: Final = b"3"
_SYMBOL: Final = "prog"
_BYTE: Final = ctypes.c_char
_address: Final = ctypes.addressof
#: Where a bytes object keeps its bytes, in CPython; elsewhere ctypes has to find them.
_BYTES_AT: Final = bytes.__basicsize__ - 1 if sys.implementation.name == "cpython" else 0
_REASONS: Final = {
    body.OUT_OF_BOUNDS: "memory access is out of bounds (not within ctx or the stack of a live frame)",
    body.UNALIGNED: "atomic operation is not aligned",
    body.NO_HELPER: "the helper called is not known here",
    body.TOO_DEEP: "calls are nested deeper than 8 frames",
    body.NO_BUDGET: "the budget of instructions is used up (give a larger one, if the program does end)",
}


#: Words of a frame: what `skep.llvm.relocate.SPREAD` takes (the five arguments and the function), then the
#: state that skep.jit.lower describes.
(
    _CTX,
    _CTX_LEN,
    _PKT,
    _PKT_LEN,
    _STATE,
    _FUNCTION,
    _BUDGET,
    _STOPPED,
    _HELPERS,
    _WORDS,
) = range(10)

#: The words of a frame, the address of its state, and the frame as an argument.
_Frame = tuple[memoryview, int, Any]


class NativeProgram:
    """Executable code of one program. `run` may be called from several threads at once.

    A context manager; `close` unmaps the code, which otherwise goes with the object.
    """

    __slots__ = ("_call", "_callbacks", "_frames", "_helpers", "_image", "_raised", "_spread", "_table")

    def __init__(self, image: native.Image, helpers: Mapping[int, Helper]) -> None:
        self._image = image
        #: frames that no run uses now
        self._frames: list[_Frame] = []
        #: address of a state -> what a helper raised in the run that uses it
        self._raised: dict[int, BaseException] = {}
        prototype = ctypes.CFUNCTYPE(
            ctypes.c_uint64,
            ctypes.c_void_p,
            ctypes.c_uint64,
            ctypes.c_void_p,
            ctypes.c_uint64,
            ctypes.c_void_p,
        )
        self._call: Callable[..., int] = prototype(image.address(_SYMBOL))
        # Without argument types, a prepared argument is passed as it is: a third of the time of a call.
        self._spread: Callable[..., int] = ctypes.CFUNCTYPE(ctypes.c_uint64)(image.spread)
        self._callbacks: list[object] = []
        self._helpers = dict(helpers)
        numbers = sorted(helpers)
        self._table = (ctypes.c_void_p * len(numbers))(*[self._entry(helpers[number]) for number in numbers])

    def _entry(self, helper: Helper) -> int:
        """The native address of a helper: itself, or a callback into Python."""
        if isinstance(helper, int):
            return helper
        raised = self._raised

        def call(a: int, b: int, c: int, d: int, e: int, state: int) -> int:
            try:
                return helper(a, b, c, d, e) & 0xFFFFFFFFFFFFFFFF
            except BaseException as error:
                raised[state] = error
                ctypes.c_uint64.from_address(state + 8).value = body.HELPER_RAISED << 32
                return 0

        callback = ctypes.CFUNCTYPE(ctypes.c_uint64, *[ctypes.c_uint64] * 6)(call)
        self._callbacks.append(callback)
        address = ctypes.cast(callback, ctypes.c_void_p).value
        assert address is not None
        return address

    def run(
        self,
        ctx: bytearray | memoryview | None = None,
        packet: bytes | None = None,
        *,
        budget: int = DEFAULT_BUDGET,
    ) -> int:
        """Run once; r0 as an unsigned 64-bit number.

        ``ctx`` is writable memory (r1 and r2 tell the program where and how long), ``packet`` what LD_ABS and
        LD_IND read (without one, ``ctx``). ``budget`` bounds the run as docs/machine.md says.

        Raises:
            ExecutionError: the program was stopped; ``pc`` says where.
        """
        try:
            frame = self._frames.pop()
        except IndexError:
            frame = self._new_frame()
        words, address, argument = frame
        base = length = 0
        view = None
        if ctx:
            view = _BYTE.from_buffer(ctx)  # while it lives, nobody (a helper, a thread) can resize ctx
            base = _address(view)
            length = len(ctx) if ctx.__class__ is bytearray else memoryview(ctx).nbytes
            if base & 7:
                self._frames.append(frame)
                return self._run_aligned(memoryview(ctx).cast("B"), packet, budget)
        elif ctx is not None:
            base = address  # memory of no bytes is somewhere, and not at 0
        words[_BUDGET] = budget if 0 <= budget <= MAX_BUDGET else max(0, min(budget, MAX_BUDGET))
        if packet is None:
            words[_CTX] = words[_PKT] = base
            words[_CTX_LEN] = words[_PKT_LEN] = length
            result = self._spread(argument)
        elif _BYTES_AT and packet.__class__ is bytes:
            words[_CTX] = base
            words[_CTX_LEN] = length
            words[_PKT] = id(packet) + _BYTES_AT
            words[_PKT_LEN] = len(packet)
            result = self._spread(argument)
        else:
            result = self._call(base, length, packet, len(packet), address)
        del view  # an error's traceback would keep it
        if words[_STOPPED]:
            self._stopped(frame)
        self._frames.append(frame)
        return result

    def _new_frame(self) -> _Frame:
        room = (ctypes.c_uint64 * _WORDS)()
        words = memoryview(room).cast("B").cast("Q")
        address = ctypes.addressof(room) + 8 * _BUDGET
        words[_STATE] = address
        words[_FUNCTION] = self.address
        words[_HELPERS] = ctypes.addressof(self._table)
        return words, address, ctypes.byref(room)

    def _run_aligned(self, ctx: memoryview, packet: bytes | None, budget: int) -> int:
        """Run on a copy that starts at a multiple of eight, as atomics need it, and copy it back."""
        room = (ctypes.c_uint64 * (len(ctx) // 8 + 1))()
        copy = memoryview(room).cast("B")[: len(ctx)]
        copy[:] = ctx
        try:
            return self.run(copy, packet, budget=budget)
        finally:
            ctx[:] = copy

    def _stopped(self, frame: _Frame) -> None:
        words, address, _ = frame
        why, pc = words[_STOPPED] >> 32, words[_STOPPED] & 0xFFFFFFFF
        words[_STOPPED] = 0
        error = self._raised.pop(address, None)
        self._frames.append(frame)
        if error is not None:
            raise error
        raise ExecutionError(_REASONS[why], pc=pc)

    @property
    def address(self) -> int:
        """Address of the native function (ABI in `skep.jit.lower`), valid until `close`."""
        return self._image.address(_SYMBOL)

    @property
    def code_size(self) -> int:
        """Bytes of code and constants."""
        return self._image.size

    def code(self) -> bytes:
        """The main program's machine code, for a listing."""
        return self._image.code(_SYMBOL)

    def close(self) -> None:
        """Unmap the code; the program cannot run afterwards."""
        self._call = self._spread = _closed
        self._image.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _closed(*_: object) -> int:
    raise ValueError("the program is closed")


def compile(
    insns: Sequence[Insn],
    *,
    checks: bool = True,
    budget: bool = True,
    level: str | None = None,
    helpers: Mapping[int, Helper] | None = None,
    blind: bool = False,
    cached: bool = True,
    isolate: bool | None = None,
) -> NativeProgram:
    """Compile a program to native code for this processor, or take it from the cache.

    ``helpers`` maps helper numbers to Python functions of five unsigned 64-bit integers that return one
    (only the low 64 bits count), or to addresses of native functions of the same type. ``checks=False``
    trusts every memory access, ``budget=False`` every loop: for code that a verifier has passed. ``blind``
    hides constants (and is never cached: the masks are new each time). ``level`` is one of
    `skep.llvm.LEVELS`, chosen by the program's size and shape if None. ``isolate`` is that of
    `skep.llvm.compile_native`.

    Raises:
        DecodeError: not a legal program, or one that needs a kernel.
        CompileError: LLVM failed.
        MissingDependency: llvmlite is not installed, and the program is not in the cache.
        LinkError: the system refuses executable memory.
    """
    helpers = helpers or {}
    numbers = sorted(helpers)
    if any(not 0 <= number < 1 << 32 for number in numbers):
        raise CompileError("helper numbers are unsigned 32-bit numbers")
    try:
        # A tenth of the time of `encode`, and as good for a key.
        content = struct.pack(f"{5 * len(insns)}i", *chain.from_iterable(insns))
    except (struct.error, TypeError):
        content = encode(insns)
    key = (
        REVISION,
        content,
        ",".join(map(str, numbers)).encode(),
        f"{checks:d}{budget:d}{level or 'auto'}".encode(),
    )
    use_cache = cached and not blind
    if use_cache and (obj := cache.lookup("jit", *key)) is not None:
        try:
            return NativeProgram(native.load(obj), helpers)
        except LinkError:
            pass  # made by an older linker's rules, or refused memory: the second try will tell
    from skep.isa.legal import validate
    from skep.jit.lower import lower
    from skep.llvm import compile_native

    validate(insns)
    lowered = lower(insns, name=_SYMBOL, helpers=numbers, checks=checks, budget=budget, blind=blind)
    obj = compile_native(lowered.text, level=level or choose_level(lowered), isolate=isolate)
    program = NativeProgram(native.load(obj), helpers)
    if use_cache:
        cache.store("jit", obj, *key)
    return program


def choose_level(lowered: Lowered) -> str:
    """The optimisation level for a program: LLVM's O1 where it pays, cheaper ones by size."""
    if lowered.size >= LEAST_FROM:
        return "least"
    if lowered.rewarding and lowered.size < LARGE_FROM:
        return "O1"
    if lowered.size >= BASIC_TO:
        return "large"
    return "basic" if lowered.turning else "flat"
