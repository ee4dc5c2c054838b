"""`python -m bench.events.start [RUNS]`: from exec to the first event, and peak memory.

Twice: a 10-line script, and `skep run FILE -- CMD`. The object is built beforehand, the module files are
compiled. Python itself is measured beside it, since machines differ; processor time is that of the whole
process, end included. Medians and best: a shared machine only ever adds.
"""

from __future__ import annotations

import compileall
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "bench" / "out"
SCRIPT = """
import os, sys, skep
with skep.load(sys.argv[1], variables={"only_pid": os.getpid()}) as obj:
    obj.attach()
    events = obj.reader("events", "event")
    open("/dev/null").close()
    for event in events:
        print(event.pid, event.path, flush=True)
        break
"""


class Run(NamedTuple):
    """Milliseconds to the first line, of processor time; MiB at the peak, seen after the first line."""

    first: float
    cpu: float
    memory: float


def peak(pid: int) -> float:
    """A process's largest memory so far in MiB (wait4 would count ours at the fork); 0 when it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:")), 0)


def timed(*words: str) -> Run:
    start = time.perf_counter()
    command = [sys.executable, *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    line = process.stdout.readline()
    taken = time.perf_counter() - start
    memory = peak(process.pid)
    process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if status or not line:
        sys.exit(f"a run failed: {words}")
    return Run(1e3 * taken, 1e3 * (used.ru_utime + used.ru_stime), memory)


def main() -> int:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    clang = shutil.which("clang-19") or shutil.which("clang") or sys.exit("needs clang")
    OUT.mkdir(exist_ok=True)
    path = str(OUT / "opened.o")
    include = f"-I/usr/include/{os.uname().machine}-linux-gnu"
    source = str(ROOT / "tests" / "kernel" / "c" / "opened.c")
    subprocess.run([clang, "-target", "bpf", "-g", "-O2", include, "-c", source, "-o", path], check=True)
    compileall.compile_dir(str(ROOT / "src" / "skep"), quiet=1)
    kinds = (
        ("Python alone", ("-c", "print(1, flush=True)"), 0, 0),
        ("a script", ("-c", SCRIPT, path), 60, 15),
        ("skep run", ("-m", "skep", "run", path, "--no-printk", "--", "/bin/cat", "/dev/null"), 80, 20),
    )
    found: list[list[Run]] = [[] for _ in kinds]
    for _ in range(runs):
        for rows, (_, words, _, _) in zip(found, kinds, strict=True):
            rows.append(timed(*words))
    for rows, (name, _, budget, room) in zip(found, kinds, strict=True):
        first, cpu = [row.first for row in rows], [row.cpu for row in rows]
        memory = max(row.memory for row in rows)
        limits = f"   (budget {budget} ms, {room} MiB)" if budget else ""
        print(
            f"{name:13} first line: median {statistics.median(first):4.0f} ms, best {min(first):3.0f}; "
            f"processor time: best {min(cpu):3.0f} ms; peak {memory:4.1f} MiB{limits}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
