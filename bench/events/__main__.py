"""`python -m bench.events [SECONDS]`: ring-buffer events a second that reach Python, and what is lost.

Two questions. How fast can the reader go: a full 16 MB ring is drained, as typed values and as a NumPy view
(the values summed, so that every record is looked at). And does it keep up: a child makes getppid calls
at a set pace, the program (filtered by its pid) writes 64-byte events, the parent reads for some seconds.
Best of several runs: the machine is shared.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import skep

HERE = Path(__file__).resolve().parent
OUT = HERE.parent / "out"
DTYPE = [("at", "u8"), ("number", "u8"), ("pid", "u4"), ("tid", "u4"), ("words", "u8", 5)]
PER_CALL = 8
FULL = (1 << 24) // 72
#: a child that waits for a line, then makes CALLS calls a second (0: as many as it can) for SECONDS
CHILD = """
import os, sys, time
calls, seconds = float(sys.argv[1]), float(sys.argv[2])
print(os.getpid(), flush=True)
sys.stdin.readline()
getppid = os.getppid
start = time.perf_counter()
done = 0
if not seconds:
    for _ in range(int(calls)):
        getppid()
while (now := time.perf_counter() - start) < seconds:
    due = int(now * calls)
    for _ in range(min(due - done, 20000)):
        getppid()
    done = due
print("done", flush=True)
"""


def build(per_call: int) -> str:
    clang = shutil.which("clang-19") or shutil.which("clang") or sys.exit("needs clang")
    OUT.mkdir(exist_ok=True)
    out = OUT / f"events-{per_call}.o"
    include = f"/usr/include/{os.uname().machine}-linux-gnu"
    words = ["-target", "bpf", "-g", "-O2", f"-DEVENTS={per_call}", f"-I{include}", "-c"]
    subprocess.run([clang, *words, str(HERE / "getppid.c"), "-o", str(out)], check=True)
    return str(out)


class Child:
    def __init__(self, calls: float, seconds: float) -> None:
        words = [sys.executable, "-c", CHILD, str(calls), str(seconds)]
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.pid = int(self.process.stdout.readline())

    def go(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def end(self) -> None:
        self.process.communicate(timeout=60)


def typed(ring: Any) -> int:
    """Deliver all there is as values, in lists of 4096."""
    count = 0
    while records := ring.read(4096):
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
    child = Child(FULL // PER_CALL, 0)
    with skep.load(path, variables={"only_pid": child.pid}) as obj:
        ring = obj.reader("events", "event")
        with obj.enter.attach():
            child.go()
            child.end()
        start, cpu = time.perf_counter(), time.process_time()
        count = take(ring)
        taken, used = time.perf_counter() - start, time.process_time() - cpu
        if count < FULL // 2:
            sys.exit(f"only {count} events came")
    return count / taken, count / used


def kept_up(path: str, take: Callable[[Any], int], rate: float, seconds: float) -> tuple[float, int, float]:
    """(events a second, lost, share of a CPU that the reader took) at a pace of ``rate``."""
    child = Child(rate / PER_CALL, seconds)
    with skep.load(path, variables={"only_pid": child.pid}) as obj:
        ring = obj.reader("events", "event")
        with obj.enter.attach():
            child.go()
            count = 0
            start, cpu = time.perf_counter(), time.process_time()
            while time.perf_counter() - start < seconds + 0.2:
                if ring.wait(0.01):
                    count += take(ring)
            used = time.process_time() - cpu
            child.end()
            count += take(ring)
        produced = count + obj.bss.lost
        return produced / seconds, obj.bss.lost, used / seconds


def main() -> int:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 1.5
    path = build(PER_CALL)
    print("draining a full 16 MB ring, 64-byte events, best of 7:")
    for name, take, goal in (("typed values", typed, 3e6), ("NumPy view", viewed, 10e6)):
        rows = [drained(path, take) for _ in range(7)]
        best, own = max(row[0] for row in rows), max(row[1] for row in rows)
        print(
            f"  {name:13} {best / 1e6:7.2f} M events/s by the clock, {own / 1e6:.2f} M of processor time"
            f"   budget {goal / 1e6:.0f} M: {best / goal:5.2f}"
        )
    print(f"keeping up for {seconds} s:")
    for name, take, rate in (
        ("typed values", typed, 2e6),
        ("typed values", typed, 3.2e6),
        ("NumPy view", viewed, 4e6),
    ):
        tries = [kept_up(path, take, rate, seconds) for _ in range(3)]
        made, lost, used = min(tries, key=lambda row: row[1])
        print(f"  {name:13} {made / 1e6:7.2f} M events/s, {lost} lost, reader {used:.0%} of a CPU")
    return 0


if __name__ == "__main__":
    sys.exit(main())
