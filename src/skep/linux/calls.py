"""Raw system calls through libc: numbers, addresses of buffers, retries. Nothing here knows BPF."""

from __future__ import annotations

import errno
import os
from sys import maxsize

from skep.errors import KernelError, NotSupported
from skep.foreign import (
    Address,
    Byte,
    Int,
    Long,
    Size,
    address_of_bytes,
    addressof,
    get_errno,
    library,
)
from skep.plain import once

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final


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


@once
def _syscall() -> Callable[..., int]:
    return library("syscall", Long, *(Long,) * 7)


@once
def _bpf() -> tuple[Callable[..., int], int]:
    # each argument is a long: numbers, addresses and descriptors alike
    return library("syscall", Long, *(Long,) * 4), numbers()[0]


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
            return address_of_bytes(buffer)
        # its first byte will do: a type of each length would have to be made, which costs more than the call
        view = Byte.from_buffer(buffer)
        self._kept.append(view)
        return addressof(view)


def map_at(address: int, length: int, access: int, fd: int, offset: int) -> memoryview:
    """mmap(2), shared, at ``address`` exactly. Released by `unmap`.

    Raises:
        KernelError: EEXIST, something else is there; and as mmap(2) says.
    """
    mmap = library("mmap", Address, Address, Size, Int, Int, Int, Long)
    found = mmap(address, length, access, _MAP_SHARED | _MAP_FIXED_NOREPLACE, fd, offset)
    if found is None or found == _MAP_FAILED:
        code = get_errno()
        raise KernelError(code, f"mapping {length} bytes at {address:#x}: {os.strerror(code)}", cmd="mmap")
    return memoryview((Byte * length).from_address(found)).cast("B")


def unmap(view: memoryview) -> None:
    """Undo `map_at`. What still looks at the memory must not be used any more."""
    length = view.nbytes
    address = addressof(Byte.from_buffer(view))
    view.release()
    library("munmap", Int, Address, Size)(address, length)
