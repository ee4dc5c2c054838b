"""Programs on perf events: clocks, counters of software and hardware, watchpoints (Linux 4.9)."""

from __future__ import annotations

from skep.errors import KernelError, NotSupported
from skep.kernel.link import Link
from skep.kernel.perfevent import BREAKPOINT, FREQ, HARDWARE, SOFTWARE, online_cpus, open_event
from skep.linux.links.common import bad, close_all, group
from skep.linux.links.perf import attach_event

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final

    from skep.kernel.program import Program
    from skep.kernel.protocol import Kernel

#: the counters of PERF_TYPEHARDWARE and PERF_TYPESOFTWARE in their order, as perf-list(1) names them
HARDWARE_EVENTS: Final = (
    "cpu-cycles",
    "instructions",
    "cache-references",
    "cache-misses",
    "branch-instructions",
    "branch-misses",
    "bus-cycles",
    "stalled-cycles-frontend",
    "stalled-cycles-backend",
    "ref-cycles",
)
SOFTWARE_EVENTS: Final = (
    "cpu-clock",
    "task-clock",
    "page-faults",
    "context-switches",
    "cpu-migrations",
    "minor-faults",
    "major-faults",
    "alignment-faults",
    "emulation-faults",
    "dummy",
    "bpf-output",
    "cgroup-switches",
)
#: name -> (type, config)
EVENTS: Final = {
    **{name: (HARDWARE, n) for n, name in enumerate(HARDWARE_EVENTS)},
    "cycles": (HARDWARE, 0),
    "branches": (HARDWARE, 4),
    **{name: (SOFTWARE, n) for n, name in enumerate(SOFTWARE_EVENTS)},
    "faults": (SOFTWARE, 2),
    "cs": (SOFTWARE, 3),
}
_ACCESS: Final = {"r": 1, "w": 2, "x": 4}


def attach(
    kernel: Kernel,
    program: Program,
    event: str | int | None = None,
    *,
    pid: int = -1,
    cpu: int | Sequence[int] | None = None,
    period: int = 0,
    frequency: int = 0,
    cookie: int = 0,
    address: int = 0,
    access: str = "rw",
    length: int = 8,
    type: int | None = None,
    config: int = 0,
    link: bool | None = None,
) -> Link:
    """Run the program at samples of ``event``.

    Args:
        event: a name as of perf-list(1) ("cpu-clock", "page-faults", "cycles"), "watchpoint", or the
            descriptor of a perf event that the caller opened (it stays the caller's).
        pid: one process (0: this one); -1: all, on the CPUs given, by default every one online.
        period: a sample every so many counts; frequency: so many samples a second. One of the two;
            by default every count, or 49 a second of the clocks and cycles.
        address, access, length: of a watchpoint: a user or kernel address, any of "r", "w", "x", bytes.
        type, config: an event by its numbers in perf_event_open(2) instead of a name.

    Raises:
        NotSupported: the machine has no such counter.
    """
    if isinstance(event, int):
        return attach_event(
            kernel, program, kernel.dup(event), target=f"perf event {event}", cookie=cookie, link=link
        )
    if period and frequency:
        bad("give a period or a frequency, not both")
    fields: dict[str, int] = {}
    if event == "watchpoint":
        kind = sum(_ACCESS[c] for c in set(access) if c in _ACCESS)
        if not address or not kind or set(access) - set(_ACCESS):
            bad("a watchpoint needs an address, and access of 'r', 'w', 'x'")
        # the hardware knows no break on execution of more than one machine word
        length = 8 if kind == _ACCESS["x"] else length
        fields |= {"type": BREAKPOINT, "bp_type": kind, "bp_addr": address, "bp_len": length}
    elif type is not None:
        fields |= {"type": type, "config": config}
    elif event in EVENTS:
        fields |= {"type": EVENTS[event][0], "config": EVENTS[event][1]}
    else:
        bad(f"{program.name}: perf event {event!r} is none of {', '.join(EVENTS)}, watchpoint")
    timed = fields["type"] == HARDWARE or (fields["type"] == SOFTWARE and fields.get("config") in (0, 1))
    if timed and not period and not frequency:
        frequency = 49
    fields["sample_freq" if frequency else "sample_period"] = frequency or period or 1
    fields["bits"] = FREQ if frequency else 0
    return _open_all(kernel, program, fields, event or f"event {type}:{config:#x}", pid, cpu, cookie, link)


def _open_all(
    kernel: Kernel,
    program: Program,
    fields: dict[str, int],
    name: str,
    pid: int,
    cpu: int | Sequence[int] | None,
    cookie: int,
    link: bool | None,
) -> Link:
    if cpu is None:
        cpus: Sequence[int] = [-1] if pid != -1 else online_cpus()
    else:
        cpus = [cpu] if isinstance(cpu, int) else cpu
    links: list[Link] = []
    target = f"perf event {name}"
    try:
        for number in cpus:
            try:
                fd = open_event(kernel, pid=pid, cpu=number, **fields)
            except KernelError as error:
                if error.errno in (2, 95, 19):  # ENOENT, EOPNOTSUPP, ENODEV
                    raise NotSupported(error.errno, f"the perf event {name}", cmd=error.cmd) from None
                raise
            links.append(attach_event(kernel, program, fd, target=target, cookie=cookie, link=link))
    except BaseException:
        close_all(links)
        raise
    return group(links, target=target)
