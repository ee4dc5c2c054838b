"""`python -m bench.events.start [RUNS]`: from exec to the first event, and peak memory, of a 10-line script.

The object is built beforehand, the module files are compiled. Python itself is measured beside it, since
machines differ.
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
    print(open("/proc/self/status").read().split("VmHWM:")[1].split()[0])
"""


def timed(*words: str) -> tuple[float, str]:
    """Milliseconds to the first line, and the last line."""
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    taken = time.perf_counter() - start
    rest = process.stdout.read()
    if process.wait():
        sys.exit("a run failed")
    return 1000 * taken, rest.strip()


def main() -> int:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    clang = shutil.which("clang-19") or shutil.which("clang") or sys.exit("needs clang")
    OUT.mkdir(exist_ok=True)
    path = str(OUT / "opened.o")
    include = f"-I/usr/include/{os.uname().machine}-linux-gnu"
    source = str(ROOT / "tests" / "kernel" / "c" / "opened.c")
    subprocess.run([clang, "-target", "bpf", "-g", "-O2", include, "-c", source, "-o", path], check=True)
    compileall.compile_dir(str(ROOT / "src" / "skep"), quiet=1)
    rows = [(timed("-c", SCRIPT, path), timed("-c", "print(1, flush=True)")) for _ in range(runs)]
    ours, bare = [row[0][0] for row in rows], [row[1][0] for row in rows]
    memory = max(int(row[0][1]) for row in rows) / 1024
    print(f"exec to first event: median {statistics.median(ours):.0f} ms, best {min(ours):.0f} (budget 60)")
    print(f"Python alone:        median {statistics.median(bare):.0f} ms, best {min(bare):.0f}")
    print(f"peak memory:         {memory:.1f} MiB (budget 15)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
