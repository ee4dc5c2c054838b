"""Loading and test-running one program, for callers that want nothing else of bpf(2).

Every function returns plain values or a file descriptor that the caller owns and closes.
"""

from __future__ import annotations

from skep.isa import Insn, encode
from skep.kernel.protocol import TestRun
from skep.linux.kernel import LinuxKernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Final


BPF_PROG_TYPE_SOCKET_FILTER: Final = 1
BPF_PROG_TYPE_SCHED_CLS: Final = 3
BPF_PROG_TYPE_XDP: Final = 6

#: what BPF_PROG_TEST_RUN answers: r0's low 32 bits, nanoseconds a run, the packet, the context
RunResult = TestRun


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
    kernel = LinuxKernel()
    return kernel.prog_load(prog_type, code, license, name=name, log_level=log_level, prog_flags=flags)[0]


def prog_test_run(
    fd: int, data: bytes = b"", *, ctx: bytes = b"", repeat: int = 1, data_out: int = 0, flags: int = 0
) -> RunResult:
    """Run a loaded program on ``data`` as the packet (at least 14 bytes for packet programs).

    Args:
        ctx: the context structure (``struct __sk_buff`` or ``xdp_md``) to start from, or none.
        data_out: room in bytes for the packet as the program leaves it; 0 asks for none.

    Raises:
        KernelError: EINVAL (packet too short, fields of ``ctx`` that may not be set), ENOSPC
            (``data_out`` too small), and what bpf(2) refuses at all.
    """
    return LinuxKernel().prog_test_run(fd, data, ctx=ctx, repeat=repeat, data_out=data_out, flags=flags)
