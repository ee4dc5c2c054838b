"""Giving handles to other processes over a Unix socket, so that they need neither bpffs nor rights."""

from __future__ import annotations

import errno
import json
import socket

from skep.errors import KernelError
from skep.kernel.handle import Handle
from skep.kernel.kinds import file_of, kind_of
from skep.kernel.open import map_from_fd, program_from_fd
from skep.kernel.protocol import Kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from skep.kernel.map import Map
    from skep.kernel.program import Program

_MOST = 64
_LONGEST = 1 << 16


def send(sock: socket.socket, **handles: Handle) -> None:
    """Send handles by name; they stay open here."""
    if not 0 < len(handles) <= _MOST:
        raise KernelError(errno.EINVAL, f"{len(handles)} handles: 1 to {_MOST} go at once")
    names = json.dumps(list(handles)).encode()
    socket.send_fds(sock, [len(names).to_bytes(4, "big") + names], [h.fd for h in handles.values()])


def receive(sock: socket.socket, kernel: Kernel) -> dict[str, Map | Program]:
    """The handles that `send` sent, typed by what the kernel knows of them. The receiver closes them.

    Raises KernelError (EPROTO) when what comes is something else.
    """
    data, fds, _, _ = socket.recv_fds(sock, 1 << 16, _MOST)
    made: dict[str, Map | Program] = {}
    left = list(fds)
    try:
        size = int.from_bytes(data[:4], "big")
        if not fds or size > _LONGEST:
            raise KernelError(errno.EPROTO, f"{len(fds)} descriptors came, with no such list of names")
        while 4 + size > len(data) and (more := sock.recv(4 + size - len(data))):
            data += more
        try:
            names = json.loads(data[4 : 4 + size])
        except ValueError:
            names = None
        if not isinstance(names, list) or len(set(map(str, names))) != len(fds):
            raise KernelError(errno.EPROTO, f"{len(fds)} descriptors came, with no such list of names")
        for name in names:
            fd = left.pop(0)
            made[str(name)] = _handle(kernel, fd)
        return made
    except BaseException:
        for fd in left:
            kernel.close(fd)
        for handle in made.values():
            handle.close()
        raise


def _handle(kernel: Kernel, fd: int) -> Map | Program:
    """A map or a program, by what /proc says the descriptor is."""
    kind = kind_of(fd)
    if kind == "map":
        return map_from_fd(kernel, fd)
    if kind == "prog":
        return program_from_fd(kernel, fd)
    what = file_of(fd)
    kernel.close(fd)
    raise KernelError(errno.EPROTO, f"a descriptor of {what} came: maps and programs can be sent")
