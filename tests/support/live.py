"""Running programs on the live kernel, by BPF_PROG_TEST_RUN."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from skep.isa import Insn
from skep.linux import sys
from tests.support import oracles

SOCKET_FILTER = sys.BPF_PROG_TYPE_SOCKET_FILTER
SCHED_CLS = sys.BPF_PROG_TYPE_SCHED_CLS
XDP = sys.BPF_PROG_TYPE_XDP


class Loaded:
    """A program in the kernel."""

    def __init__(self, fd: int, prog_type: int) -> None:
        self.fd = fd
        self.prog_type = prog_type

    def __call__(self, packet: bytes, ctx: bytes = b"") -> int:
        """r0's low 32 bits for ``packet``, which starts with its Ethernet header (or has none, as given).

        A socket filter sees what follows fourteen bytes, so those are put before; the packet has at
        least 14 bytes for the other kinds.
        """
        return self.run(packet, ctx).retval

    def run(self, packet: bytes, ctx: bytes = b"") -> sys.RunResult:
        if self.prog_type == SOCKET_FILTER:
            packet = bytes(14) + packet
        return sys.prog_test_run(self.fd, packet, ctx=ctx)


@contextmanager
def loaded(insns: Iterable[Insn], prog_type: int = SCHED_CLS) -> Iterator[Loaded]:
    """Load a program for the time of a ``with`` block (skips where bpf(2) is not allowed)."""
    oracles.bpf()
    fd = sys.prog_load(prog_type, insns)
    try:
        yield Loaded(fd, prog_type)
    finally:
        os.close(fd)
