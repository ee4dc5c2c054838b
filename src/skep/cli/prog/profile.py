"""`skep prog profile`: hardware counters while a program runs."""

from __future__ import annotations

from skep.cli.noun import objects
from skep.cli.noun.command import Call
from skep.cli.noun.words import Usage, Words
from skep.errors import SkepError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


#: metric -> (perf event type, config); those of bpftool
METRICS = {
    "cycles": (0, 0),
    "instructions": (0, 1),
    "l1d_loads": (3, 0),
    "llc_misses": (3, 2 | 1 << 16),
    "itlb_misses": (3, 4 | 1 << 16),
    "dtlb_misses": (3, 3 | 1 << 16),
}


def profile(call: Call, words: Words) -> None:
    """Count runs and time of a program for some seconds.

    bpftool counts hardware events between two programs that it attaches to the program's entry and
    exit (fentry, fexit). Here the kernel's own statistics are taken (BPF_ENABLE_STATS, Linux 5.8): runs and
    nanoseconds; metrics of hardware counters are refused.
    """
    kernel = call.kernel
    fd = objects.program(kernel, words)
    with objects.closing(kernel, fd):
        duration = 1.0
        if words.accept("duration"):
            duration = float(words.number("SECONDS"))
        wanted = words.rest()
        for word in wanted:
            if word not in (*METRICS, "time"):
                raise Usage(f"no metric {word!r}: time, {', '.join(METRICS)}")
        if any(word in METRICS for word in wanted):
            raise SkepError(
                "hardware counters of one program are not supported;"
                " `profile PROG [duration N]` counts runs and time"
            )
        before, after = _measure(call, fd, duration)
    runs = after["run_cnt"] - before["run_cnt"]
    nanoseconds = after["run_time_ns"] - before["run_time_ns"]
    if call.json:
        row: dict[str, Any] = {"run_cnt": runs, "run_time_ns": nanoseconds}
        call.emit([row | {"mean_ns": nanoseconds // runs} if runs else row])
    else:
        mean = f" {nanoseconds / runs:.1f} ns a run" if runs else ""
        call.write(f"{runs:18d} run_cnt\n{nanoseconds:18d} run_time_ns{mean}\n")


def _measure(call: Call, fd: int, duration: float) -> tuple[dict[str, Any], dict[str, Any]]:
    import contextlib
    import time

    kernel = call.kernel
    stats = kernel.enable_stats()
    with objects.closing(kernel, stats):
        before = objects.info(kernel, fd, "prog")
        with contextlib.suppress(KeyboardInterrupt):
            time.sleep(duration)
        return before, objects.info(kernel, fd, "prog")
