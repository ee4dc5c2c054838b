"""What programs attach to that another process, or the kernel, has already: programs and sockets."""

from __future__ import annotations

import os

from skep.errors import KernelError, NotSupported, SkepError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket

    from skep.kernel.program import Program
    from skep.kernel.protocol import Kernel

_PIDFD_GETFD = 438


def program_of(kernel: Kernel, word: str) -> Program:
    """The loaded program that --replace names: by pinned file, id or name."""
    from skep.cli.noun import objects
    from skep.cli.noun.words import Usage, Words
    from skep.kernel.open import program_by_id, program_from_fd, program_from_pin

    if "/" in word:
        return program_from_pin(kernel, word)
    if word.isdigit():
        return program_by_id(kernel, int(word))
    try:
        return program_from_fd(kernel, objects.program(kernel, Words(["name", word])))
    except Usage as error:
        raise SkepError(f"--replace {word}: {error}") from None


def socket_of(word: str) -> socket.socket:
    """A socket of another process, ``PID:FD``, as a descriptor of ours (pidfd_getfd, Linux 5.6)."""
    import errno
    import socket

    from skep.linux.calls import syscall

    pid, mark, fd = word.partition(":")
    if not (mark and pid.isdigit() and fd.isdigit()):
        raise SkepError(f"--socket {word}: give PID:FD, a process and its descriptor (ls -l /proc/PID/fd)")
    try:
        pidfd = os.pidfd_open(int(pid))
    except OSError as error:
        raise SkepError(f"--socket {word}: process {pid}: {error.strerror}") from None
    try:
        made, code = syscall(_PIDFD_GETFD, pidfd, int(fd), 0)
    finally:
        os.close(pidfd)
    if code == errno.ENOSYS:
        raise NotSupported(code, "sockets of other processes", since="5.6", cmd="pidfd_getfd")
    if code:
        raise KernelError(code, f"--socket {word}: {os.strerror(code)}", cmd="pidfd_getfd")
    try:
        return socket.socket(fileno=made)
    except OSError:
        os.close(made)
        raise SkepError(f"--socket {word}: that descriptor is no socket") from None
