"""Perf events: software counters, clocks, watchpoints, of this process alone."""

from __future__ import annotations

import ctypes
import mmap
import os
import time

from skep.errors import KernelError
from skep.uapi.enums import ProgType
from tests.linux.links.rig import DEADLINE, Rig, scenario, wait


@scenario()
def page_faults(rig: Rig) -> None:
    for by_link in (None, False):
        program = rig.counter(ProgType.PERF_EVENT)
        with program.attach("page-faults", pid=0, link=by_link) as link:
            assert link.kind == ("bpf_link" if by_link is None and rig.at_least("5.15") else "perf")
            wait(lambda program=program: program.hits >= 16, _touch)  # type: ignore[misc]  # bound now
        hits = program.hits
        _touch()
        assert program.hits == hits


def _touch() -> None:
    memory = mmap.mmap(-1, 16 * mmap.PAGESIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_NOHUGEPAGE)
    for at in range(0, len(memory), mmap.PAGESIZE):
        memory[at] = 1
    memory.close()


@scenario()
def clock(rig: Rig) -> None:
    program = rig.counter(ProgType.PERF_EVENT)
    with program.attach("task-clock", pid=0, period=1_000_000):
        end = time.monotonic() + DEADLINE
        while program.hits < 5:
            assert time.monotonic() < end


@scenario("5.15")
def cookie(rig: Rig) -> None:
    program = rig.counter(ProgType.PERF_EVENT, cookie=rig.at_least("5.15"))
    with program.attach("page-faults", pid=0, cookie=31):
        wait(lambda: program.seen == 31, _touch)


@scenario()
def watchpoint(rig: Rig) -> None:
    word = ctypes.c_uint64(0)
    program = rig.counter(ProgType.PERF_EVENT)
    try:
        link = program.attach("watchpoint", address=ctypes.addressof(word), access="w", length=8, pid=0)
    except KernelError as error:
        from tests.linux.links.rig import Skipped

        raise Skipped(f"watchpoints ({error})") from None
    with link:
        for n in range(3):
            word.value = n
        assert program.hits == 3
    word.value = 9
    assert program.hits == 3


@scenario()
def every_cpu(rig: Rig) -> None:
    """Without a process one event for each CPU, all gone with the one link."""
    before = len(os.listdir("/proc/self/fd"))
    program = rig.counter(ProgType.PERF_EVENT, own=True)
    held = len(os.listdir("/proc/self/fd"))
    with program.attach("page-faults"):
        wait(lambda: program.hits, _touch)
    assert len(os.listdir("/proc/self/fd")) == held > before


@scenario()
def refusals(rig: Rig) -> None:
    program = rig.counter(ProgType.PERF_EVENT)
    for options, words in (
        ({"event": "no-such"}, "no-such"),
        ({"event": "cpu-clock", "period": 1, "frequency": 1}, "not both"),
        ({"event": "watchpoint"}, "address"),
    ):
        try:
            program.attach(options.pop("event"), **options)
        except KernelError as error:
            assert words in str(error), error
        else:
            raise AssertionError(f"{options} attached")
