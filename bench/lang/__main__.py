"""`python -m bench.lang [RUNS]`: programs in Python beside the same in C, and the compiler.

Run time is the live kernel's BPF_PROG_TEST_RUN, the two objects in turns, medians of the ratios. Compile and
start times are of whole processes; memory is the peak of the process that was started.
"""

from __future__ import annotations

import os
import resource
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import skep
from skep.cli.python import imported
from skep.loading import build

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
EXAMPLES = ROOT / "examples"
REPEAT = 1_000_000


def _ip(protocol: int, rest: bytes) -> bytes:
    words = [0x4500, 20 + len(rest), 7, 0, 0x4000 | protocol, 0, 0x0A00, 0x0001, 0x0A00, 0x0002]
    total = sum(words)
    words[5] = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
    return bytes(12) + b"\x08\x00" + struct.pack(">10H", *words) + rest


SYN = _ip(6, struct.pack(">HHIIBBHHH", 1000, 80, 1, 0, 0x50, 2, 100, 0, 0))
PING = _ip(1, b"\x08\x00" + bytes(62))
#: example -> (its program, packets)
TWINS = {
    "firewall": ("firewall", (SYN, PING)),
    "packets": ("count", (SYN, bytes(64))),
    "subprograms": ("verify", (SYN,)),
    "rate": ("limit", (SYN,)),
    "dispatch": ("dispatch", (SYN, PING)),
}


def run_times(runs: int) -> list[float]:
    """Prints a row for each example; the ratios."""
    clang = shutil.which("clang-19") or shutil.which("clang") or sys.exit("needs clang")
    print(f"{'run':24} {'C ns':>8} {'Python ns':>10} {'ratio':>7}   insns: C, Python")
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        for name, (program, packets) in TWINS.items():
            out = f"{folder}/{name}.o"
            words = [clang, "-target", "bpf", "-O2", "-g", "-mcpu=v3", "-Wno-everything", "-c"]
            subprocess.run([*words, str(HERE / "c" / f"{name}.c"), "-o", out], check=True)
            with skep.load(out) as c, skep.load(imported(str(EXAMPLES / f"{name}.py"))) as python:
                sizes = [obj.programs[program].info["xlated_prog_len"] // 8 for obj in (c, python)]
                for number, packet in enumerate(packets):
                    ratio = _beside(c.programs[program], python.programs[program], packet, runs)
                    ratios.append(ratio[2])
                    print(
                        f"{name + ' ' + 'ab'[number]:24} {ratio[0]:8.1f} {ratio[1]:10.1f} {ratio[2]:6.2f}x"
                        f"   {sizes[0]}, {sizes[1]}"
                    )
    print(f"{'geometric mean':24} {'':8} {'':10} {statistics.geometric_mean(ratios):6.2f}x (budget 1.1)")
    return ratios


def _beside(c: Any, python: Any, packet: bytes, runs: int) -> tuple[float, float, float]:
    pairs = [[program.run(packet, repeat=REPEAT).duration for program in (c, python)] for _ in range(runs)]
    medians = [statistics.median(column) for column in zip(*pairs, strict=True)]
    return medians[0], medians[1], statistics.median(two / one for one, two in pairs)


class Run(NamedTuple):
    """A process: milliseconds, those on a processor (of its children too), and its own peak in MiB."""

    wall: float
    cpu: float
    peak: float


def _timed(words: list[str], environment: dict[str, str]) -> Run:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    done = subprocess.run(
        [*words[:2], words[2] + PEAK, *words[3:]], capture_output=True, text=True, env=environment
    )
    taken = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(f"{words} failed: {done.stderr}")
    cpu = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return Run(1000 * taken, 1000 * cpu, int(done.stdout) / 1024)


PEAK = """
print(open("/proc/self/status").read().partition("VmHWM:")[2].split()[0])
"""
COLD = """
import sys, time
sys.path.insert(0, sys.argv[1])
from importlib import import_module
from skep.loading import build
module = import_module("firewall")
start = time.perf_counter()
build(module, cache=False)
sys.stderr.write(f"{1000 * (time.perf_counter() - start)}\\n")
"""
WARM = """
import sys
sys.path.insert(0, sys.argv[1])
import firewall, skep
skep.load(firewall.firewall).close()
"""
#: with what the example imports of the standard library for itself
PREBUILT = """
import sys, ipaddress, skep
skep.load(sys.argv[1]).close()
"""
EMPTY = "import ctypes"


def start_times(runs: int) -> None:
    """Compile cold, start warm, and what each takes of memory."""
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "XDG_CACHE_HOME": cache}
        python = [sys.executable, "-c"]
        built = f"{cache}/firewall.bpf.o"
        Path(built).write_bytes(build(imported(str(EXAMPLES / "firewall.py"))))
        cold = []
        for _ in range(runs):
            done = subprocess.run([*python, COLD, str(EXAMPLES)], capture_output=True, text=True, check=True)
            cold.append(float(done.stderr))
        rows: dict[str, list[Run]] = {"empty": [], "prebuilt": [], "warm": [], "cold": []}
        _timed([*python, WARM, str(EXAMPLES)], environment)
        loads = {"prebuilt": [*python, PREBUILT, built], "warm": [*python, WARM, str(EXAMPLES)]}
        for _ in range(runs):
            rows["empty"].append(_timed([*python, EMPTY], environment))
            for name, words in loads.items():
                # The kernel frees a closed object's maps later: both follow a load of the same object.
                _timed(loads["prebuilt"], environment)
                rows[name].append(_timed(words, environment))
            rows["cold"].append(_timed([*python, COLD, str(EXAMPLES)], environment))
        best = {name: min(run.wall for run in row) for name, row in rows.items()}
        middle = {name: statistics.median(run.wall for run in row) for name, row in rows.items()}
        peak = {name: max(run.peak for run in row) for name, row in rows.items()}
        print(f"\nfirewall from source to object, nothing cached: median {statistics.median(cold):.0f} ms, "
              f"best {min(cold):.0f} (budget 200)")  # fmt: skip
        pairs = list(zip(rows["warm"], rows["prebuilt"], strict=True))
        added = statistics.median(warm.wall - prebuilt.wall for warm, prebuilt in pairs)
        work = statistics.median(warm.cpu - prebuilt.cpu for warm, prebuilt in pairs)
        print(f"start from the cache beside a prebuilt object: {added:+.1f} ms median of pairs, "
              f"{best['warm'] - best['prebuilt']:+.1f} best, {work:+.1f} on the processor "
              "(budget +5)")  # fmt: skip
        for name in rows:
            more = peak[name] - peak["empty"]
            print(f"  {name:9} {middle[name]:6.0f} ms  peak {peak[name]:5.1f} MiB (+{more:.1f}; budget 15)")


def main() -> int:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 9
    run_times(runs)
    start_times(runs)
    return 0


if __name__ == "__main__":
    sys.exit(main())
