"""Counting events while one loaded program runs: a program at its entry, one at its exit (Linux 5.5).

Both are written in assembly here. The one at the entry notes what the CPU's perf events have counted, the
one at the exit adds what they have counted since: all that this CPU did meanwhile, interrupts too. As
bpftool's `prog profile`, events are open on every online CPU and do not count in user mode.
"""

from __future__ import annotations

import errno
import struct

from skep.errors import KernelError, SkepError
from skep.kernel.perfevent import HARDWARE, SOFTWARE, online_cpus, open_event
from skep.linux.links.common import absent, lacks
from skep.plain import NamedTuple
from skep.uapi.attr import INFO
from skep.uapi.enums import AttachType, MapType, ProgType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Any, Final, Self

    from skep.kernel.protocol import Kernel

_CACHE: Final = 3
_READ_MISS: Final = 1 << 16
#: bit of perf_event_attr: no counting in user mode
_EXCLUDE_USER: Final = 1 << 4
#: metric -> (perf event type, config): bpftool's, then the kernel's own counters, which every machine has
METRICS: Final = {
    "cycles": (HARDWARE, 0),
    "instructions": (HARDWARE, 1),
    "l1d_loads": (_CACHE, 0),
    "llc_misses": (_CACHE, 2 | _READ_MISS),
    "itlb_misses": (_CACHE, 4 | _READ_MISS),
    "dtlb_misses": (_CACHE, 3 | _READ_MISS),
    "cpu_clock": (SOFTWARE, 0),
    "task_clock": (SOFTWARE, 1),
    "page_faults": (SOFTWARE, 2),
    "context_switches": (SOFTWARE, 3),
}
#: what perf_event_open(2) answers where the processor (or its emulation) lacks a counter
_NO_COUNTER: Final = frozenset({errno.ENOENT, errno.EOPNOTSUPP, errno.ENODEV, errno.ENXIO})
#: struct bpf_perf_event_value: counter, enabled and running (nanoseconds)
_READING: Final = 24
#: of a CPU's value: runs; whether readings were taken at the entry; then those, those at the exit, the sums
_RUNS, _TAKEN, _ENTRY = 0, 8, 16


class Reading(NamedTuple):
    """One metric's sum over all runs on all CPUs.

    ``running`` below ``enabled`` (nanoseconds): the processor had too few counters and took turns.
    """

    metric: str
    value: int
    enabled: int
    running: int


class Profiler:
    """Counts ``metrics`` (of `METRICS`) while the program ``target`` runs, until `close`.

    Args:
        target: a program's descriptor, which stays the caller's. It needs BTF.

    Raises:
        NotSupported: the kernel has no programs at the entry of programs (Linux 5.5).
        SkepError: the program has no BTF, or is of a kind that cannot be traced; the machine lacks a counter.
        PermissionDenied: tracing, or counting events of the kernel, is not allowed.
    """

    __slots__ = ("_cpus", "_fds", "_kernel", "_metrics", "_values", "name")

    def __init__(self, kernel: Kernel, target: int, metrics: Sequence[str], *, name: str = "program") -> None:
        self._kernel = kernel
        self._metrics = tuple(metrics)
        #: what messages call the program
        self.name = name
        self._fds: list[int] = []
        online = online_cpus()
        self._cpus = max(kernel.cpus, max(online) + 1)
        try:
            self._start(target, online)
        except BaseException:
            self.close()
            raise

    def _start(self, target: int, online: list[int]) -> None:
        kernel, count = self._kernel, len(self._metrics)
        function = _function(kernel, target, self.name)
        events = self._keep(
            kernel.map_create(MapType.PERF_EVENT_ARRAY, 4, 4, self._cpus * count, name="events")
        )
        for number, metric in enumerate(self._metrics):
            for cpu in online:
                event = self._keep(_opened(kernel, metric, cpu))
                place = number * self._cpus + cpu
                kernel.map_update_elem(events, struct.pack("=I", place), struct.pack("=i", event))
        size = _ENTRY + 3 * count * _READING
        self._values = self._keep(kernel.map_create(MapType.PERCPU_ARRAY, 4, size, 1, name="readings"))
        for where, text in (
            (AttachType.TRACE_FENTRY, at_entry(events, self._values, count, self._cpus)),
            (AttachType.TRACE_FEXIT, at_exit(events, self._values, count, self._cpus)),
        ):
            fd = self._keep(self._load(target, function, where, text))
            self._keep(kernel.raw_tracepoint_open(fd))

    def _keep(self, fd: int) -> int:
        self._fds.append(fd)
        return fd

    def _load(self, target: int, function: int, where: AttachType, text: str) -> int:
        from skep.asm import assemble
        from skep.isa import encode

        try:
            return self._kernel.prog_load(
                ProgType.TRACING,
                encode(assemble(text)),
                "GPL",
                name="profile_entry" if where == AttachType.TRACE_FENTRY else "profile_exit",
                expected_attach_type=where,
                attach_prog_fd=target,
                attach_btf_id=function,
            )[0]
        except KernelError as error:
            if lacks(self._kernel, error, "5.5"):
                raise absent("tracing a BPF program", "5.5", cmd=error.cmd) from None
            told = [line for line in error.log.splitlines() if line and not line.startswith("processed ")]
            if error.errno == errno.EINVAL:
                why = told[-1] if told else error.reason
                raise SkepError(f"{self.name} cannot be traced: {why}") from None
            raise

    def read(self) -> tuple[int, list[Reading]]:
        """Runs counted so far, and each metric's sums, in the order of ``metrics``."""
        count = len(self._metrics)
        size = _ENTRY + 3 * count * _READING
        value = bytearray(size * self._kernel.cpus)
        self._kernel.map_lookup_elem(self._values, bytes(4), value)
        runs, sums = 0, [0] * (3 * count)
        for start in range(0, len(value), size):
            runs += struct.unpack_from("=Q", value, start + _RUNS)[0]
            one = struct.unpack_from(f"={3 * count}Q", value, start + _ENTRY + 2 * count * _READING)
            sums = [a + b for a, b in zip(sums, one, strict=True)]
        return runs, [Reading(name, *sums[3 * i : 3 * i + 3]) for i, name in enumerate(self._metrics)]

    def close(self) -> None:
        """Detach both programs and close the events; twice is as good as once."""
        while self._fds:
            self._kernel.close(self._fds.pop())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _opened(kernel: Kernel, metric: str, cpu: int) -> int:
    kind, config = METRICS[metric]
    try:
        return open_event(kernel, cpu=cpu, type=kind, config=config, bits=_EXCLUDE_USER)
    except KernelError as error:
        # of a cache's events the kernel has a table: -1 there is EINVAL
        if error.errno in _NO_COUNTER or (kind == _CACHE and error.errno == errno.EINVAL):
            raise SkepError(
                f"this machine has no counter for {metric}"
                f" (perf_event_open on CPU {cpu}: {errno.errorcode.get(error.errno or 0, error.errno)};"
                " virtual machines seldom have any): task_clock, cpu_clock, … need none"
            ) from None
        raise


def _function(kernel: Kernel, target: int, name: str) -> int:
    """The BTF id of a program's main function: its first func_info."""
    layout = INFO["bpf_prog_info"]

    def asked(**request: int | bytearray) -> dict[str, Any]:
        data = kernel.obj_get_info_by_fd(target, "prog", {**request})
        return layout.unpack(data.ljust(layout.size, b"\0"))

    about = asked()
    if not about["btf_id"] or not about["nr_func_info"]:
        raise SkepError(f"{name} was loaded without BTF: what is at its entry cannot be said (clang -g)")
    record = bytearray(max(8, about["func_info_rec_size"]))
    asked(nr_func_info=1, func_info_rec_size=len(record), func_info=record)
    return int(struct.unpack_from("=I", record, 4)[0])


# --- the programs ------------------------------------------------------------------------------


def _read_events(events: int, values: int, count: int, cpus: int, to: int) -> str:
    """r7: this CPU's value, where from byte ``to`` on are the events' readings; else the program ends."""
    lines = [
        "call bpf_get_smp_processor_id#8",
        "w6 = w0",
        "r1 = 0",
        "*(u32 *)(r10 -4) = r1",
        "r2 = r10",
        "r2 += -4",
        f"r1 = map[id:{values}]",
        "call bpf_map_lookup_elem#1",
        "if r0 == 0 goto out",
        "r7 = r0",
    ]
    if to == _ENTRY:
        lines += ["r1 = 0", f"*(u64 *)(r7 +{_TAKEN}) = r1"]
    for number in range(count):
        lines += [
            f"r1 = map[id:{events}]",
            "r2 = r6",
            f"r2 += {number * cpus}",
            "r3 = r7",
            f"r3 += {to + number * _READING}",
            f"r4 = {_READING}",
            "call bpf_perf_event_read_value#55",
            "if r0 != 0 goto out",
        ]
    return "\n".join(lines)


def at_entry(events: int, values: int, count: int, cpus: int) -> str:
    """Assembly of the program at the entry: ``events`` and ``values`` are descriptors of its maps."""
    return f"""{_read_events(events, values, count, cpus, _ENTRY)}
r1 = 1
*(u64 *)(r7 +{_TAKEN}) = r1
out:
r0 = 0
exit
"""


def at_exit(events: int, values: int, count: int, cpus: int) -> str:
    """Assembly of the program at the exit: reads all events before it adds, to count itself little."""
    end = _ENTRY + count * _READING
    sums = end + count * _READING
    adds = "\n".join(
        f"""r1 = *(u64 *)(r7 +{end + at})
r2 = *(u64 *)(r7 +{_ENTRY + at})
r1 -= r2
r2 = *(u64 *)(r7 +{sums + at})
r2 += r1
*(u64 *)(r7 +{sums + at}) = r2"""
        for at in range(0, count * _READING, 8)
    )
    # A run that another one has interrupted on this CPU has lost its reading: it is counted, not added.
    return f"""{_read_events(events, values, count, cpus, end)}
r1 = *(u64 *)(r7 +{_RUNS})
r1 += 1
*(u64 *)(r7 +{_RUNS}) = r1
r1 = *(u64 *)(r7 +{_TAKEN})
if r1 == 0 goto out
r1 = 0
*(u64 *)(r7 +{_TAKEN}) = r1
{adds}
out:
r0 = 0
exit
"""
