"""`python -m bench.events [SECONDS]`: events a second that reach Python, and what is lost.

A program writes 64-byte events in bursts, called by BPF_PROG_TEST_RUN. Two questions. How fast can the
reader go: a full 16 MB ring (or a perf buffer of 4 MB) is drained, as typed values and as a NumPy view (the
largest number looked for, so that every record is looked at). And does it keep up: a child makes bursts at a
set pace, the parent reads meanwhile; what was offered, delivered and lost adds up. Best of several runs: the
machine is shared, and with two processors the writer takes one of them.
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import skep
from skep.kernel.perfbuf import PerfBuffer

HERE = Path(__file__).resolve().parent
OUT = HERE.parent / "out"
DTYPE = [("at", "u8"), ("number", "u8"), ("pid", "u4"), ("tid", "u4"), ("words", "u8", 5)]
FULL = (1 << 24) // 72
#: bursts a second
PACE = 500


def build() -> str:
    clang = shutil.which("clang-19") or shutil.which("clang") or sys.exit("needs clang")
    OUT.mkdir(exist_ok=True)
    out = OUT / "burst.o"
    include = f"/usr/include/{os.uname().machine}-linux-gnu"
    words = ["-target", "bpf", "-g", "-O2", f"-I{include}", "-c", str(HERE / "burst.c"), "-o", str(out)]
    subprocess.run([clang, *words], check=True)
    return str(out)


def burst(obj: Any, count: int) -> None:
    obj.kernel.prog_test_run(obj.burst.fd, ctx=struct.pack("=Q", count))


def produce(obj: Any, rate: float, seconds: float) -> None:
    """In a child: ``rate`` events a second, in bursts."""
    start = time.perf_counter()
    done = 0
    while (now := time.perf_counter() - start) < seconds:
        due = int(min(now, seconds) * rate)
        if due - done >= rate / PACE:
            burst(obj, min(due - done, FULL // 4))
            done += min(due - done, FULL // 4)
        else:
            time.sleep(0.5 / PACE)


def typed(ring: Any) -> int:
    """Deliver all there is as values, in lists of 1024."""
    count = 0
    while records := ring.read(1024):
        count += len(records)
    return count


def viewed(ring: Any) -> int:
    """Look at every record of every batch through a NumPy view."""
    count = 0
    while (batch := ring.batch()) is not None:
        with batch:
            records = batch.numpy(DTYPE)
            records["number"].max()
            count += len(records)
    return count


def drained(path: str, take: Callable[[Any], int]) -> tuple[float, float]:
    """Events a second when the ring is full: by the clock, and of the reader's own processor time."""
    with skep.load(path) as obj:
        ring = obj.reader("events", "event")
        burst(obj, FULL)
        start, cpu = time.perf_counter(), time.process_time()
        count = take(ring)
        taken, used = time.perf_counter() - start, time.process_time() - cpu
        if count < FULL - 2 or obj.bss.lost > 2:
            sys.exit(f"only {count} events came, {obj.bss.lost} were lost")
    return count / taken, count / used


class Kept(NamedTuple):
    """A run beside a writer: events a second; how many were lost; the reader's share of a processor."""

    offered: float
    delivered: float
    lost: int
    used: float


def kept_up(path: str, take: Callable[[Any], int], rate: float, seconds: float) -> Kept:
    """Read for ``seconds`` what a child writes at a pace of ``rate``."""
    with skep.load(path) as obj:
        ring = obj.reader("events", "event")
        child = os.fork()
        if not child:
            produce(obj, rate, seconds)
            os._exit(0)
        count = 0
        start, cpu = time.perf_counter(), time.process_time()
        while not os.waitpid(child, os.WNOHANG)[0]:
            if ring.wait(0.01):
                count += take(ring)
        taken, used = time.perf_counter() - start, time.process_time() - cpu
        count += take(ring)
        # `number` counts those that found room, `lost` those that did not
        written, lost = obj.bss.number, obj.bss.lost
        if count != written:
            sys.exit(f"{count} events came, {written} were written")
        return Kept((written + lost) / taken, count / taken, lost, used / taken)


def drained_perf(path: str) -> tuple[float, int]:
    """(events a second of the reader's processor time, lost) when a CPU's perf buffer of 4 MB is full."""
    with skep.load(path) as obj, PerfBuffer(obj.samples, obj.codec("event"), pages=1024) as buffer:
        obj.bss.many = (1 << 22) // 80
        obj.burst_perf.run(bytes(64))
        cpu = time.process_time()
        count = typed(buffer)
        used = time.process_time() - cpu
        if count + buffer.lost != obj.bss.number:
            sys.exit(f"{count} samples came and {buffer.lost} were lost of {obj.bss.number}")
    return count / used, buffer.lost


def main() -> int:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 1.5
    path = build()
    print("draining a full 16 MB ring, 64-byte events, best of 9:")
    for name, take, goal in (("typed values", typed, 3e6), ("NumPy view", viewed, 10e6)):
        rows = [drained(path, take) for _ in range(9)]
        best, own = max(row[0] for row in rows), max(row[1] for row in rows)
        print(
            f"  {name:13} {best / 1e6:7.2f} M events/s by the clock, {own / 1e6:.2f} M of processor time"
            f"   budget {goal / 1e6:.0f} M: {best / goal:5.2f}"
        )
    perf = [drained_perf(path) for _ in range(9)]
    print(f"  perf buffer   {max(row[0] for row in perf) / 1e6:7.2f} M typed events/s of processor time")
    print(f"keeping up for {seconds} s, a child writing at a set pace:")
    for name, take, rate in (
        ("typed values", typed, 2e6),
        ("typed values", typed, 3.2e6),
        ("NumPy view", viewed, 4e6),
        ("NumPy view", viewed, 10.5e6),
    ):
        tries = [kept_up(path, take, rate, seconds) for _ in range(4)]
        kept = min(tries, key=lambda row: (row.lost, -row.delivered))
        print(
            f"  {name:13} asked for {rate / 1e6:4.1f} M: offered {kept.offered / 1e6:5.2f} M/s, "
            f"delivered {kept.delivered / 1e6:5.2f} M/s, {kept.lost} lost; reader {kept.used:.0%} of a CPU"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
