"""Loading and test-running one program, for callers that want nothing else of bpf(2).

`skep.linux.kernel` is the whole of it; this is the part that a filter needs, without tables of attributes,
maps or BTF, which cost start-up time. Every function returns plain values or a file descriptor that the
caller owns and closes.
"""

from __future__ import annotations

import ctypes
import errno
import struct

from skep.errors import KernelError, NotSupported, PermissionDenied
from skep.isa import Insn, encode
from skep.linux.calls import numbers, syscall
from skep.linux.reasons import refused
from skep.plain import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Final


BPF_PROG_LOAD: Final = 5
BPF_PROG_TEST_RUN: Final = 10

BPF_PROG_TYPE_SOCKET_FILTER: Final = 1
BPF_PROG_TYPE_SCHED_CLS: Final = 3
BPF_PROG_TYPE_XDP: Final = 6

_COMMANDS = {BPF_PROG_LOAD: "BPF_PROG_LOAD", BPF_PROG_TEST_RUN: "BPF_PROG_TEST_RUN"}
_LOG_BYTES: Final = 1 << 16
_LOG_BYTES_MAX: Final = 1 << 24

# prog_type, insn_cnt, insns, license, log_level, log_size, log_buf, kern_version, prog_flags, prog_name
_PROG_LOAD = struct.Struct("=IIQQIIQII16s")
# prog_fd, retval, data_size_in, data_size_out, data_in, data_out, repeat, duration,
# ctx_size_in, ctx_size_out, ctx_in, ctx_out, flags, cpu, batch_size
_TEST_RUN = struct.Struct("=IIIIQQIIIIQQIII")


class RunResult(NamedTuple):
    """What BPF_PROG_TEST_RUN answers: r0's low 32 bits, nanoseconds a run, the packet, the context."""

    retval: int
    duration: int
    data: bytes
    ctx: bytes


def bpf(command: int, attr: ctypes.Array[ctypes.c_char], size: int) -> int:
    """One bpf(2) call; EINTR and EAGAIN are tried again. Returns its non-negative answer.

    Raises:
        NotSupported: the kernel or this machine has no bpf(2).
        PermissionDenied: the caller lacks CAP_BPF, or lockdown forbids it.
        KernelError: everything else.
    """
    answer, code = syscall(numbers()[0], command, ctypes.addressof(attr), size, retry=True)
    if answer < 0:
        raise refused(code, _COMMANDS[command])
    return answer


def prog_load(
    prog_type: int,
    insns: Iterable[Insn] | bytes,
    *,
    license: str = "GPL",
    name: str = "",
    log_level: int = 0,
    flags: int = 0,
) -> int:
    """Load a program; returns its file descriptor.

    Without ``log_level`` the verifier's log is asked for only when the kernel refuses.

    Raises:
        KernelError (and its kinds): the kernel refused; ``log`` is the verifier's log, and the message
            carries its last telling line.
    """
    code = insns if isinstance(insns, bytes) else encode(insns)
    text = ctypes.create_string_buffer(code, max(1, len(code)))
    terms = ctypes.create_string_buffer(license.encode())
    log: ctypes.Array[ctypes.c_char] | None = None
    size = _LOG_BYTES
    while True:
        if log_level:
            log = ctypes.create_string_buffer(size)
        attr = ctypes.create_string_buffer(
            _PROG_LOAD.pack(
                prog_type,
                len(code) // 8,
                ctypes.addressof(text),
                ctypes.addressof(terms),
                log_level,
                size if log is not None else 0,
                ctypes.addressof(log) if log is not None else 0,
                0,
                flags,
                name.encode()[:15],
            ),
            _PROG_LOAD.size,
        )
        try:
            return bpf(BPF_PROG_LOAD, attr, _PROG_LOAD.size)
        except KernelError as error:
            if error.errno == errno.ENOSPC and log is not None and size < _LOG_BYTES_MAX:
                size *= 16
                continue
            if log is None and not isinstance(error, PermissionDenied | NotSupported):
                log_level = 1
                continue
            raise _with_log(error, log.value.decode(errors="replace") if log is not None else "") from None


def _with_log(error: KernelError, log: str) -> KernelError:
    """The same error, carrying ``log`` and, in its message, the line of it that says why."""
    lines = [
        line
        for line in log.splitlines()
        if line.strip() and not line.startswith(("processed ", "verification time", "stack depth"))
    ]
    if lines:
        fuller = KernelError(error.errno or 0, f"{error.reason}: {lines[-1].strip()}", cmd=error.cmd)
    else:
        fuller = error
    fuller.log = log
    return fuller


def prog_test_run(
    fd: int, data: bytes = b"", *, ctx: bytes = b"", repeat: int = 1, data_out: int = 0, flags: int = 0
) -> RunResult:
    """Run a loaded program on ``data`` as the packet (at least 14 bytes for packet programs).

    Args:
        ctx: the context structure (``struct __sk_buff`` or ``xdp_md``) to start from, or none.
        data_out: room in bytes for the packet as the program leaves it; 0 asks for none.

    Raises:
        KernelError: EINVAL (packet too short, fields of ``ctx`` that may not be set), ENOSPC
            (``data_out`` too small), and what `bpf` raises.
    """
    packet = ctypes.create_string_buffer(data, max(1, len(data)))
    out = ctypes.create_string_buffer(max(1, data_out))
    context = ctypes.create_string_buffer(ctx, max(1, len(ctx)))
    context_out = ctypes.create_string_buffer(max(1, len(ctx)))
    attr = ctypes.create_string_buffer(
        _TEST_RUN.pack(
            fd,
            0,
            len(data),
            data_out,
            ctypes.addressof(packet) if data else 0,
            ctypes.addressof(out) if data_out else 0,
            repeat,
            0,
            len(ctx),
            len(ctx),
            ctypes.addressof(context) if ctx else 0,
            ctypes.addressof(context_out) if ctx else 0,
            flags,
            0,
            0,
        ),
        _TEST_RUN.size,
    )
    bpf(BPF_PROG_TEST_RUN, attr, _TEST_RUN.size)
    answer = _TEST_RUN.unpack(attr.raw[: _TEST_RUN.size])
    return RunResult(
        answer[1], answer[7], out.raw[: min(answer[3], data_out)], context_out.raw[: min(answer[9], len(ctx))]
    )
