"""Putting a filter on a socket: classic code, or eBPF where classic code is too long for the kernel."""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
from collections.abc import Sequence

from skep.errors import KernelError, PermissionDenied
from skep.isa import ClassicInsn, classic

SO_ATTACH_FILTER = 26
SO_DETACH_FILTER = 27
SO_ATTACH_BPF = 50


def attach(sock: socket.socket, insns: Sequence[ClassicInsn], *, drain: bool = True) -> str:
    """Attach a program; "classic" or "ebpf", the form it took.

    Programs of more than 4,096 instructions are translated and loaded with bpf(2). ``drain``: what the
    socket received before was not filtered; throw it away (with a filter in place that lets nothing in).

    Raises:
        KernelError: the kernel refuses the program (`PermissionDenied` without the right to bpf(2)). The
            socket has no filter then, whatever it had before.
    """
    if not drain:
        return _attach(sock, insns)
    _set_classic(sock, [ClassicInsn(classic.BPF_RET | classic.BPF_K)])
    try:
        _drain(sock)
        return _attach(sock, insns)
    except BaseException:
        detach(sock)
        raise


def _attach(sock: socket.socket, insns: Sequence[ClassicInsn]) -> str:
    if len(insns) <= classic.BPF_MAXINSNS and not _jumps_back(insns):
        _set_classic(sock, insns)
        return "classic"
    from skep.filter.ebpf import translate
    from skep.linux.sys import BPF_PROG_TYPE_SOCKET_FILTER, prog_load

    translated = translate(insns, form="skb", rules="linux")
    program = prog_load(BPF_PROG_TYPE_SOCKET_FILTER, translated, name="skep_filter")
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_BPF, program)
    except OSError as error:
        reason = None
        if error.errno == errno.ENOMEM:
            reason = (
                f"a filter of {len(translated)} instructions takes more memory than the kernel lets a socket "
                "have (sysctl net.core.optmem_max)"
            )
        raise KernelError(error.errno or errno.EINVAL, reason, cmd="SO_ATTACH_BPF") from None
    finally:
        os.close(program)
    return "ebpf"


def detach(sock: socket.socket) -> None:
    """Take off the program that a socket has, of either form.

    Raises:
        KernelError: it has none; `PermissionDenied` if it is locked.
    """
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, 0)
    except PermissionError:
        raise PermissionDenied(errno.EPERM, "the socket's filter is locked", cmd="SO_DETACH_FILTER") from None
    except OSError as error:
        reason = "the socket has no filter" if error.errno == errno.ENOENT else None
        raise KernelError(error.errno or errno.EINVAL, reason, cmd="SO_DETACH_FILTER") from None


def _jumps_back(insns: Sequence[ClassicInsn]) -> bool:
    """Linux takes classic code with forward jumps only (protochain jumps back)."""
    return any(insn.code == classic.BPF_JMP | classic.BPF_JA and insn.k & 0x80000000 for insn in insns)


def _set_classic(sock: socket.socket, insns: Sequence[ClassicInsn]) -> None:
    code = ctypes.create_string_buffer(classic.encode(insns))
    # struct sock_fprog: a count, padding to a pointer's alignment, the pointer.
    program = struct.pack("HP", len(insns), ctypes.addressof(code))
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)
    except PermissionError:
        raise PermissionDenied(errno.EPERM, "the socket's filter is locked", cmd="SO_ATTACH_FILTER") from None
    except OSError as error:
        raise KernelError(error.errno or errno.EINVAL, cmd="SO_ATTACH_FILTER") from None


def _drain(sock: socket.socket) -> None:
    if sock.type == socket.SOCK_STREAM:
        return
    patience = sock.gettimeout()
    sock.settimeout(0)  # MSG_DONTWAIT is not enough: a socket with a timeout waits for it all the same
    try:
        while True:
            try:
                sock.recv(1, socket.MSG_TRUNC)
            except (BlockingIOError, InterruptedError, ConnectionError):
                return
            except OSError as error:
                if error.errno in (errno.EAGAIN, errno.ENOTCONN, errno.EINVAL, errno.ENETDOWN):
                    return
                raise
    finally:
        sock.settimeout(patience)
