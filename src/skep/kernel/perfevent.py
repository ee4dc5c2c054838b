"""Perf events, as perf_event_open(2) has them: opened for programs to run on, and for buffers."""

from __future__ import annotations

import errno

from skep.errors import KernelError
from skep.uapi.attr import INFO

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from skep.kernel.protocol import Kernel

#: ioctl(2) on an event
ENABLE: Final = 0x2400
SET_BPF: Final = 0x40042408

#: perf_event_attr.type
HARDWARE, SOFTWARE, TRACEPOINT, CACHE, RAW, BREAKPOINT = range(6)
BPF_OUTPUT: Final = 10
SAMPLE_RAW: Final = 1 << 10
#: bits of the field after read_format
DISABLED: Final = 1 << 0
FREQ: Final = 1 << 10

_FD_CLOEXEC: Final = 8


def open_event(kernel: Kernel, *, pid: int = -1, cpu: int = -1, bits: int = 0, **fields: int) -> int:
    """Open an event; the descriptor is the caller's.

    Args:
        pid: one process's (0: this one's), -1 all processes' on CPU ``cpu``.
        bits: of the bit field after read_format.
        fields: of struct perf_event_attr, by name.

    Raises:
        KernelError: as perf_event_open(2) says; EINVAL for both ``pid`` and ``cpu`` -1.
    """
    layout = INFO["perf_event_attr"]
    try:
        attr = layout.pack({"size": layout.size, **fields})
    except OverflowError as error:
        raise KernelError(errno.EINVAL, str(error), cmd="perf_event_open") from None
    start = layout.fields["read_format"][0] + 8
    attr[start : start + 8] = bits.to_bytes(8, "little")
    return kernel.perf_event_open(bytes(attr), pid=pid, cpu=cpu, flags=_FD_CLOEXEC)


def online_cpus() -> list[int]:
    """Numbers of the CPUs that are online: /sys says "0-3,6"."""
    try:
        with open("/sys/devices/system/cpu/online", encoding="utf-8") as file:
            parts = file.read().strip().split(",")
    except OSError:
        import os

        return list(range(os.cpu_count() or 1))
    found: list[int] = []
    for part in parts:
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found
