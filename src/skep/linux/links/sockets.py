"""Filters on sockets, and choosing among sockets that share a port: setsockopt(2), no links."""

from __future__ import annotations

import os

from skep.errors import KernelError
from skep.kernel.link import Link
from skep.linux.links.common import Attachment, bad
from skep.uapi.enums import ProgType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    from skep.kernel.program import Program
    from skep.kernel.protocol import Kernel

# asm-generic/socket.h; Linux on SPARC, MIPS and PA-RISC numbers them otherwise.
_SOL_SOCKET: Final = 1
_SO_DETACH_FILTER: Final = 27
_SO_ATTACH_BPF: Final = 50
_SO_ATTACH_REUSEPORT_EBPF: Final = 52
_SO_DETACH_REUSEPORT_BPF: Final = 68


def attach(kernel: Kernel, program: Program, sock: Any = None, *, reuseport: bool | None = None) -> Link:
    """Attach to ``sock`` (a socket, or a descriptor).

    With ``reuseport`` (an SK_REUSEPORT program always) the program chooses the receiver for the whole
    group of sockets bound with SO_REUSEPORT. A new program replaces the one there, atomically. The link
    does not keep the socket: once the socket is closed, closing the link changes nothing.
    """
    if sock is None:
        bad(f"{program.name}: a socket program needs a socket: attach(sock)")
    fd = sock if isinstance(sock, int) else sock.fileno()
    group = program.spec.type == ProgType.SK_REUSEPORT or bool(reuseport)
    put = _SO_ATTACH_REUSEPORT_EBPF if group else _SO_ATTACH_BPF
    take = _SO_DETACH_REUSEPORT_BPF if group else _SO_DETACH_FILTER
    try:
        inode = os.fstat(fd).st_ino
    except OSError as error:
        raise KernelError(error.errno or 0, f"{program.name}: descriptor {fd}: {error.strerror}") from None

    def same() -> bool:
        try:
            return os.fstat(fd).st_ino == inode
        except OSError:
            return False

    def undo(_: int) -> None:
        if same():
            kernel.setsockopt(fd, _SOL_SOCKET, take, 0)

    def replace(new: int, _: int) -> None:
        if not same():
            bad("the socket is closed")
        kernel.setsockopt(fd, _SOL_SOCKET, put, new)

    kernel.setsockopt(fd, _SOL_SOCKET, put, program.fd)
    target = f"{'reuseport group of socket' if group else 'socket'} {fd}"
    return Attachment(kernel, program.fd, kind="socket", target=target, undo=undo, replace=replace)
