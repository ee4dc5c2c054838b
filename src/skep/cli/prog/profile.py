"""`skep prog profile`: what is counted while a program runs."""

from __future__ import annotations

from skep.cli.noun import objects
from skep.cli.noun.command import Call
from skep.cli.noun.words import Usage, Words, is_prefix

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Final

    from skep.linux.profiler import Reading

#: metric -> (the metric it is divided by, "" the runs; times; in words)
_RATIOS: Final = {
    "instructions": ("cycles", 1, "insns per cycle"),
    "llc_misses": ("instructions", 10**6, "LLC misses per million insns"),
    "itlb_misses": ("instructions", 10**6, "itlb misses per million insns"),
    "dtlb_misses": ("instructions", 10**6, "dtlb misses per million insns"),
    "cpu_clock": ("", 1, "ns per run"),
    "task_clock": ("", 1, "ns per run"),
}
#: bpftool waits this long when no duration is given: until Ctrl-C
_FOREVER: Final = float(0xFFFF_FFFF)


def profile(call: Call, words: Words) -> None:
    """Count events of the processor and the kernel in a program, for some seconds or until Ctrl-C.

    Metrics are counted between two programs attached to the program's entry and exit (fentry, fexit: Linux
    5.5), as in bpftool. Without a metric the kernel's own statistics are taken (BPF_ENABLE_STATS, Linux
    5.8), for a second: runs and nanoseconds.
    """
    kernel = call.kernel
    fd = objects.program(kernel, words)
    with objects.closing(kernel, fd):
        duration: float | None = None
        if words.accept("duration"):
            duration = float(words.number("SECONDS"))
        wanted = words.rest()
        if wanted in ([], ["time"]):
            _statistics(call, fd, 1.0 if duration is None else duration)
        else:
            _events(call, fd, wanted, _FOREVER if duration is None else duration)


def _events(call: Call, fd: int, wanted: Sequence[str], duration: float) -> None:
    from skep.linux.profiler import METRICS, Profiler

    chosen: set[str] = set()
    for word in wanted:
        found = next((metric for metric in METRICS if is_prefix(word, metric)), None)
        if found is None:
            also = ("; time stands alone",) if word == "time" else ()
            raise Usage(f"no metric {word!r}: {', '.join(METRICS)}{''.join(also)}")
        chosen.add(found)
    kernel = call.kernel
    about = objects.info(kernel, fd, "prog")
    name = f"program {objects.object_name(about['name']) or about['id']}"
    with Profiler(kernel, fd, [metric for metric in METRICS if metric in chosen], name=name) as profiler:
        _wait(duration)
        runs, readings = profiler.read()
    if call.json:
        call.emit(
            [
                {
                    "metric": one.metric,
                    "run_cnt": runs,
                    "value": one.value,
                    "enabled": one.enabled,
                    "running": one.running,
                }
                for one in readings
            ]
        )
    else:
        call.write(table(runs, readings))


def table(runs: int, readings: Sequence[Reading]) -> str:
    """The text: counts, ratios to a metric that was counted too, the share of the time if not all of it."""
    lines = ["", f"{runs:18d} {'run_cnt':20s}"]
    values = {one.metric: one.value for one in readings} | {"": runs}
    for one in readings:
        base, times, ratio = _RATIOS.get(one.metric, ("", 0, ""))
        line = f"{one.value:18d} {one.metric:20s}"
        if ratio and values.get(base):
            line += f"# {one.value * times / values[base]:8.2f} {ratio:30s}"
        else:
            line += " " * 41
        if one.enabled > one.running:
            line += f"({one.running * 100 / one.enabled:4.2f}%)"
        lines.append(line)
    return "\n".join(lines) + "\n"


def _statistics(call: Call, fd: int, duration: float) -> None:
    kernel = call.kernel
    stats = kernel.enable_stats()
    with objects.closing(kernel, stats):
        before = objects.info(kernel, fd, "prog")
        _wait(duration)
        after = objects.info(kernel, fd, "prog")
    runs = after["run_cnt"] - before["run_cnt"]
    nanoseconds = after["run_time_ns"] - before["run_time_ns"]
    if call.json:
        row: dict[str, Any] = {"run_cnt": runs, "run_time_ns": nanoseconds}
        call.emit([row | {"mean_ns": nanoseconds // runs} if runs else row])
    else:
        mean = f" {nanoseconds / runs:.1f} ns a run" if runs else ""
        call.write(f"{runs:18d} run_cnt\n{nanoseconds:18d} run_time_ns{mean}\n")


def _wait(seconds: float) -> None:
    """Sleep; Ctrl-C ends it, not the command."""
    import contextlib
    import time

    with contextlib.suppress(KeyboardInterrupt):
        time.sleep(seconds)
