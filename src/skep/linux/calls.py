"""Raw system calls through libc: numbers, addresses of buffers, retries. Nothing here knows BPF."""

from __future__ import annotations

import ctypes
import errno
import os

from skep.errors import NotSupported
from skep.plain import once

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final


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


@once
def _libc() -> Any:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    # Each argument is a long: numbers, addresses and descriptors alike.
    libc.syscall.argtypes = [ctypes.c_long] * 7
    return libc


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


def syscall(number: int, *args: int, retry: bool = False) -> tuple[int, int]:
    """(answer, errno): one of the two is zero or more. With ``retry``, EINTR and EAGAIN are tried again."""
    libc = _libc()
    padded = args + (0,) * (6 - len(args))
    for _ in range(_TRIES if retry else 1):
        answer: int = libc.syscall(number, *padded)
        if answer >= 0:
            return answer, 0
        code = ctypes.get_errno()
        if code not in (errno.EINTR, errno.EAGAIN):
            break
    return -1, code


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
            return ctypes.cast(ctypes.c_char_p(buffer), ctypes.c_void_p).value or 0
        view = (ctypes.c_char * len(buffer)).from_buffer(buffer)
        self._kept.append(view)
        return ctypes.addressof(view)
