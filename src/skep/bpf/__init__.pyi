"""What type checkers and editors know of `skep.bpf`; _contexts, _events, _helpers, _hooks, _kernel are generated."""

# ruff: noqa: N801, F403
from collections.abc import Callable
from enum import IntEnum
from typing import Any, TypeAlias, TypeVar, dataclass_transform, overload

from skep.bpf._base import Buffer as Buffer
from skep.bpf._base import Context as Context
from skep.bpf._base import KernelStruct as KernelStruct
from skep.bpf._base import Pointer as Pointer
from skep.bpf._base import Text as Text
from skep.bpf._contexts import *
from skep.bpf._events import *
from skep.bpf._helpers import *
from skep.bpf._hooks import *
from skep.bpf._kernel import *
from skep.bpf._maps import *
from skep.bpf.programs import Program as Program
from skep.uapi.flags import *
from skep.uapi.network import *

_T = TypeVar("_T")
_E = TypeVar("_E", bound=IntEnum)
_F = TypeVar("_F", bound=Callable[..., Any])

u8: TypeAlias = int
u16: TypeAlias = int
u32: TypeAlias = int
u64: TypeAlias = int
s8: TypeAlias = int
s16: TypeAlias = int
s32: TypeAlias = int
s64: TypeAlias = int
be16: TypeAlias = int
be32: TypeAlias = int
be64: TypeAlias = int

class SpinLock:
    """A field that ``with value.lock:`` holds."""

    def __enter__(self) -> None: ...
    def __exit__(self, *args: object) -> None: ...

class Timer:
    """A field that is a timer (bpf_timer)."""

class Wq:
    """A field that is a work queue entry (bpf_wq)."""

class Dynptr:
    """A dynamic pointer (bpf_dynptr)."""

# --- declarations ---------------------------------------------------------------------------------------

def char(size: int) -> Any:
    """A field of ``size`` bytes that holds text: ``comm: bytes = bpf.char(16)``."""

def raw(size: int) -> Any:
    """A field of exactly ``size`` bytes: ``mac: bytes = bpf.raw(6)``."""

def array(of: Any, count: int) -> Any:
    """A field of ``count`` elements: ``slots: list[u64] = bpf.array(u64, 64)``."""

def bits(of: type[int], width: int) -> Any:
    """A bit field: ``version: u8 = bpf.bits(u8, 4)``."""

def lpm(of: Any) -> Any:
    """The key type of an `LpmTrie` over ``of``."""

def ptr(of: Any) -> Any:
    """A pointer to ``of``."""

@overload
@dataclass_transform(field_specifiers=(char, raw, array, bits, ptr, lpm))
def struct(cls: type[_T], /) -> type[_T]: ...
@overload
@dataclass_transform(field_specifiers=(char, raw, array, bits, ptr, lpm))
def struct(
    *, packed: bool = ..., kernel: str | None = ..., align: int = ...
) -> Callable[[type[_T]], type[_T]]:
    """Declare a struct; ``kernel`` is the kernel's name of the same type."""

@overload
@dataclass_transform(field_specifiers=(char, raw, array, bits, ptr, lpm))
def union(cls: type[_T], /) -> type[_T]: ...
@overload
@dataclass_transform(field_specifiers=(char, raw, array, bits, ptr, lpm))
def union(
    *, packed: bool = ..., kernel: str | None = ..., align: int = ...
) -> Callable[[type[_T]], type[_T]]:
    """Declare a union."""

@overload
def enum(of: type[_E], /) -> type[_E]: ...  # type: ignore[overload-overlap]
@overload
def enum(of: type[int], /) -> Callable[[type[_E]], type[_E]]:
    """The storage of an `enum.IntEnum`: ``@bpf.enum(u8)``."""

def var(value: Any = 0, *, section: str | None = None) -> Any:
    """A global variable that programs and Python read and write."""

def const(value: Any = 0, *, section: str | None = None) -> Any:
    """A global that can be set before loading, and is constant to the programs."""

def program(section: str) -> Callable[[Callable[..., Any]], Program]:
    """A program for any section name that libbpf knows."""

@overload
def subprog(fn: _F, /) -> _F: ...
@overload
def subprog(*, global_: bool = ...) -> Callable[[_F], _F]:
    """Keep the function a function of its own."""

# --- the language's own functions -------------------------------------------------------------------------

def printk(text: str, /) -> int:
    """A line in the trace pipe: ``bpf.printk(f"pid {pid}")``."""

def seq_printf(file: Any, text: str, /) -> int:
    """A piece of what reading an iterator gives: ``bpf.seq_printf(ctx.meta.seq, f"...")``."""

def snprintf(buffer: bytes, text: str, /) -> int:
    """Write text into a field of `char`; its length with the zero byte."""

def unroll(span: range, /) -> range:
    """A range whose loop is written out."""

def log2(value: int, /) -> int:
    """The position of the highest bit that is set; 0 for 0."""

def sizeof(of: Any, /) -> int:
    """Bytes of a type; of the kernel's types those of the running kernel."""

def offsetof(field: Any, /) -> int:
    """Byte offset of a field of the kernel's: ``bpf.offsetof(task.pid)``."""

def exists(what: Any, /) -> bool:
    """Whether the running kernel has a field or type: ``bpf.exists(task.pid)``."""

def cast(of: type[_T], value: Any, /) -> _T:
    """A pointer of another type, or a number, as a pointer to ``of``."""

def bswap16(value: int, /) -> int: ...
def bswap32(value: int, /) -> int: ...
def bswap64(value: int, /) -> int: ...
def htons(value: int, /) -> int: ...
def ntohs(value: int, /) -> int: ...
def htonl(value: int, /) -> int: ...
def ntohl(value: int, /) -> int: ...
def pid() -> int:
    """The process id (the kernel's tgid)."""

def tid() -> int:
    """The thread id (the kernel's pid)."""

def uid() -> int: ...
def gid() -> int: ...
def cpu() -> int:
    """The processor this runs on."""

def ktime() -> int:
    """Nanoseconds since boot, without suspended time."""

def random() -> int:
    """32 random bits."""

def cgroup_id() -> int:
    """The current task's cgroup."""

def comm() -> Text:
    """The current task's name."""

def current_task() -> task_struct:
    """The current task, read by bpf_probe_read_kernel; get_current_task_btf() is read by plain loads."""

def user_str(address: Any, /) -> Text:
    """The text at an address of the process, for a field of `char`."""

def kernel_str(address: Any, /) -> Text:
    """The text at an address of the kernel."""

def user_bytes(address: Any, /) -> bytes:
    """Bytes at an address of the process, for a field of `raw`."""

def kernel_bytes(address: Any, /) -> bytes:
    """Bytes at an address of the kernel."""

@overload
def read_user(of: type[_T], address: Any, /) -> _T: ...
@overload
def read_user(of: Any, address: Any, /) -> Any:
    """A copy of the value at an address of the process; zeros when it cannot be read."""

@overload
def read_kernel(of: type[_T], address: Any, /) -> _T: ...
@overload
def read_kernel(of: Any, address: Any, /) -> Any:
    """A copy of the value at an address of the kernel."""

# Every other name is a type, enumerator or kfunc of the kernel's.
def __getattr__(name: str) -> Any: ...
