"""What the stubs of `skep.bpf` are made of."""

# ruff: noqa: N801
from collections.abc import Callable
from typing import Any, Generic, TypeVar, overload

from skep.bpf.programs import Program as Program

_T = TypeVar("_T")
_C = TypeVar("_C", contravariant=True)

class Text(bytes):
    """Text of the kernel's or of a process: printed as it is in f-strings, stored in fields of `char`."""

    def __str__(self) -> str: ...
    def __format__(self, spec: str, /) -> str: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...
    def __setitem__(self, index: int | slice, value: Any, /) -> None: ...
    # a field of this type takes plain texts as well
    @overload
    def __get__(self, instance: None, owner: Any, /) -> Text: ...
    @overload
    def __get__(self, instance: object, owner: Any, /) -> Text: ...
    def __set__(self, instance: Any, value: bytes | str, /) -> None: ...

class Raw(bytes):
    """Bytes in memory (fields of `raw`): read like bytes, written as a whole, by element or by slice."""

    def __setitem__(self, index: int | slice, value: Any, /) -> None: ...
    @overload
    def __get__(self, instance: None, owner: Any, /) -> Raw: ...
    @overload
    def __get__(self, instance: object, owner: Any, /) -> Raw: ...
    def __set__(self, instance: Any, value: Any, /) -> None: ...

class PlainHook(Generic[_C]):
    """A hook without a target: ``@bpf.xdp``. The program has one parameter, the context, or none."""

    @overload
    def __call__(self, fn: Callable[[_C], int], /) -> Program: ...
    @overload
    def __call__(self, fn: Callable[[], int], /) -> Program: ...
    @overload
    def __call__(
        self, /, *, frags: bool = ..., sleepable: bool = ..., autoload: bool = ...
    ) -> Callable[[Callable[[_C], int]], Program]: ...

class TargetHook:
    """A hook that says where to attach: ``@bpf.kprobe("do_exit")``; without, it is said when attaching."""

    @overload
    def __call__(self, fn: Callable[..., Any], /) -> Program: ...
    @overload
    def __call__(
        self, /, *targets: str, sleepable: bool = ..., autoload: bool = ...
    ) -> Callable[[Callable[..., Any]], Program]: ...

class TracepointHook:
    """``@bpf.tracepoint("sched:sched_switch")``; ``via``: "auto", "record", "tp_btf" or "raw_tp"."""

    @overload
    def __call__(self, fn: Callable[..., Any], /) -> Program: ...
    @overload
    def __call__(
        self, /, *targets: str, via: str = ..., sleepable: bool = ..., autoload: bool = ...
    ) -> Callable[[Callable[..., Any]], Program]: ...

class KernelStruct:
    """A pointer to a struct of the kernel's: fields are read where they are on the running kernel."""

    def __init__(self, address: Any = ..., **fields: Any) -> None: ...
    def __int__(self) -> int: ...
    def __index__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Any: ...

class Pointer(Generic[_T]):
    """A pointer to something that is no struct: ``p.value``, ``p[i]``, ``int(p)``."""

    value: _T
    def __int__(self) -> int: ...
    def __index__(self) -> int: ...
    def __getitem__(self, index: int, /) -> _T: ...

class Context:
    """What a program is called with."""

class Buffer:
    """A cursor over a packet, or another piece of memory whose end is checked."""

    @property
    def offset(self) -> int:
        """Bytes from the start."""
    @overload
    def take(self, of: type[int], /) -> int_ref | None: ...
    @overload
    def take(self, of: type[_T], /) -> _T | None: ...
    @overload
    def take(self, of: Any, /) -> Any:
        """What comes next, as ``of``; None beyond the end. The cursor is behind it then."""
    @overload
    def peek(self, of: type[int], /) -> int_ref | None: ...
    @overload
    def peek(self, of: type[_T], /) -> _T | None: ...
    @overload
    def peek(self, of: Any, /) -> Any:
        """What comes next, without moving."""
    def skip(self, count: int, /) -> None:
        """Move by ``count`` bytes."""
    def __len__(self) -> int:
        """Bytes of the whole, wherever the cursor is."""

class Packet(Buffer):
    """What ``ctx.packet()`` gives: ``def parse(packet: bpf.Packet) -> int``."""

class int_ref(int):
    """A number in a map or packet: ``r.value`` reads and writes it."""

    value: int

class _Reserved(Generic[_T]):
    def __enter__(self) -> _T: ...
    def __exit__(self, *args: object) -> bool: ...

class _Held(Generic[_T]):
    def __enter__(self) -> _T: ...
    def __exit__(self, *args: object) -> bool: ...

class _Section:
    def __enter__(self) -> None: ...
    def __exit__(self, *args: object) -> None: ...
