"""Raw system calls through libc: numbers, addresses of buffers, retries. Nothing here knows BPF."""

from __future__ import annotations

import errno
import os

# What `ctypes` is made of: the module around it takes 3 ms to import, a twentieth of a short run.
from _ctypes import FUNCFLAG_CDECL, FUNCFLAG_USE_ERRNO, CFuncPtr, _SimpleCData, addressof, dlsym, get_errno
from _ctypes import dlopen as _dlopen
from sys import maxsize

from skep.errors import KernelError, NotSupported
from skep.plain import once

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Final

    _Simple = _SimpleCData[Any]
else:
    _Simple = _SimpleCData


#: machine -> (bpf, perf_event_open)
_NUMBERS: Final = {
    "x86_64": (321, 298),
    "aarch64": (280, 241),
    "riscv64": (280, 241),
    "loongarch64": (280, 241),
    "s390x": (351, 331),
    "ppc64le": (361, 319),
    "ppc64": (361, 319),
    "armv7l": (386, 364),
    "armv6l": (386, 364),
    "i686": (357, 336),
    "i386": (357, 336),
}
#: the verifier answers EAGAIN when a signal arrives; so often is enough
_TRIES: Final = 5
_MAP_SHARED: Final = 1
_MAP_FIXED_NOREPLACE: Final = 0x100000
_MAP_FAILED: Final = 2 * maxsize + 1


class _Long(_Simple):
    _type_ = "l"


class _Address(_Simple):
    _type_ = "P"


class _Bytes(_Simple):
    _type_ = "z"


class _Byte(_Simple):
    _type_ = "c"


class _Call(CFuncPtr):
    """syscall(2) as libc has it."""

    _flags_ = FUNCFLAG_CDECL | FUNCFLAG_USE_ERRNO
    _restype_ = _Long


def _call(arguments: int) -> Any:
    process: Any = None  # not a library's file, but all that the process has loaded
    call: Any = _Call(dlsym(_dlopen(process, 0), "syscall"))
    # Each is a long: numbers, addresses and descriptors alike.
    call.argtypes = (_Long,) * (1 + arguments)
    return call


@once
def _syscall() -> Callable[..., int]:
    call: Callable[..., int] = _call(6)
    return call


@once
def _bpf() -> tuple[Callable[..., int], int]:
    return _call(3), numbers()[0]


@once
def numbers() -> tuple[int, int]:
    """The numbers of bpf(2) and perf_event_open(2) on this machine.

    Raises:
        NotSupported: an unknown machine.
    """
    machine = os.uname().machine
    found = _NUMBERS.get(machine)
    if found is None:
        raise NotSupported(errno.ENOSYS, f"bpf(2) on {machine}")
    return found


def bpf(cmd: int, attr: int, size: int) -> tuple[int, int]:
    """bpf(2), tried again after EINTR and EAGAIN: (answer, errno), one of which is zero or more."""
    call, number = _bpf()
    for _ in range(_TRIES):
        answer = call(number, cmd, attr, size)
        if answer >= 0:
            return answer, 0
        code = get_errno()
        if code not in (errno.EINTR, errno.EAGAIN):
            break
    return -1, code


def syscall(number: int, *args: int) -> tuple[int, int]:
    """Any call, with six arguments at most: (answer, errno), one of which is zero or more."""
    answer = _syscall()(number, *args, *(0,) * (6 - len(args)))
    return (answer, 0) if answer >= 0 else (-1, get_errno())


class Pinned:
    """Addresses of buffers, and the references that keep them alive for the length of a call."""

    __slots__ = ("_kept",)

    def __init__(self) -> None:
        self._kept: list[object] = []

    def __call__(self, buffer: bytes | bytearray | memoryview) -> int:
        """Where ``buffer`` lies. Writable buffers are not copied; 0 for an empty one."""
        if not len(buffer):
            return 0
        if isinstance(buffer, memoryview) and buffer.readonly:
            buffer = bytes(buffer)
        if isinstance(buffer, bytes):
            self._kept.append(buffer)
            return _Address.from_buffer(_Bytes(buffer)).value or 0
        # its first byte will do: a type of each length would have to be made, which costs more than the call
        view = _Byte.from_buffer(buffer)
        self._kept.append(view)
        return addressof(view)


def map_at(address: int, length: int, access: int, fd: int, offset: int) -> memoryview:
    """mmap(2), shared, at ``address`` exactly. Released by `unmap`.

    Raises:
        KernelError: EEXIST, something else is there; and as mmap(2) says.
    """
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    found = libc.mmap(address, length, access, _MAP_SHARED | _MAP_FIXED_NOREPLACE, fd, offset)
    if found is None or found == _MAP_FAILED:
        code = ctypes.get_errno()
        raise KernelError(code, f"mapping {length} bytes at {address:#x}: {os.strerror(code)}", cmd="mmap")
    return memoryview((ctypes.c_ubyte * length).from_address(found)).cast("B")


def unmap(view: memoryview) -> None:
    """Undo `map_at`. What still looks at the memory must not be used any more."""
    import ctypes

    length = view.nbytes
    address = ctypes.addressof((ctypes.c_ubyte * length).from_buffer(view))
    view.release()
    libc = ctypes.CDLL(None)
    libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    libc.munmap(address, length)
