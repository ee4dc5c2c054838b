"""Loading small programs into the running kernel: its verdict and its log."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Sequence

from skep.isa import Insn, encode
from tests.support import oracles

_SYSCALL = {"x86_64": 321, "aarch64": 280}
BPF_PROG_LOAD = 5
SOCKET_FILTER = 1
SCHED_CLS = 3


def load(insns: Sequence[Insn], prog_type: int = SCHED_CLS, log_level: int = 2) -> tuple[int, str]:
    """(file descriptor or negative errno, the verifier's log)."""
    oracles.bpf()
    libc = ctypes.CDLL(None, use_errno=True)
    code = ctypes.create_string_buffer(encode(insns))
    licence = ctypes.create_string_buffer(b"GPL")
    log = ctypes.create_string_buffer(1 << 20)
    attr = ctypes.create_string_buffer(
        struct.pack(
            "<IIQQIIQII",
            prog_type, len(insns), ctypes.addressof(code), ctypes.addressof(licence),
            log_level, len(log) if log_level else 0, ctypes.addressof(log) if log_level else 0, 0, 0,
        ).ljust(128, b"\0")
    )  # fmt: skip
    fd = libc.syscall(_SYSCALL.get(os.uname().machine, 321), BPF_PROG_LOAD, attr, 128)
    result = int(fd) if fd >= 0 else -ctypes.get_errno()
    return result, log.value.decode(errors="replace")
