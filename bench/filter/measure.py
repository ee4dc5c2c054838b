"""Timing whole processes: paired runs, so that whatever else the machine does hits both sides."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import NamedTuple


class Run(NamedTuple):
    """One process: seconds of wall clock and of processor, peak resident megabytes of it and its children."""

    wall: float
    cpu: float
    memory: float


class Paired(NamedTuple):
    """Medians of both sides, the median of the ratios of neighbours (theirs / ours), and the ratios of the
    minima of wall clock and of processor time."""

    theirs: float
    ours: float
    ratio: float
    best: float
    cpu: float
    memory: float


def process(command: Sequence[str], environment: dict[str, str], stdout: str = os.devnull) -> Run:
    """Run a command to its end; a failing one is an error."""
    actions = [
        (os.POSIX_SPAWN_OPEN, 1, stdout, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644),
        (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
    ]
    start = time.perf_counter()
    pid = os.posix_spawn(command[0], list(command), environment, file_actions=actions)
    _, status, usage = os.wait4(pid, 0)
    wall = time.perf_counter() - start
    if status:
        raise SystemExit(f"{' '.join(command)[:200]}: exit status {os.waitstatus_to_exitcode(status)}")
    return Run(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def paired(theirs: Callable[[], Run], ours: Callable[[], Run], times: int) -> Paired:
    """Alternate both sides ``times`` times."""
    left, right = [], []
    for _ in range(times):
        left.append(theirs())
        right.append(ours())
    ratios = [one.wall / two.wall for one, two in zip(left, right, strict=True)]
    return Paired(
        median(run.wall for run in left),
        median(run.wall for run in right),
        median(ratios),
        min(run.wall for run in left) / min(run.wall for run in right),
        min(run.cpu for run in left) / min(run.cpu for run in right),
        max(run.memory for run in right),
    )
