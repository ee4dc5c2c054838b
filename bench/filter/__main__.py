"""`python -m bench.filter [MEGABYTES]`: throughput, compile time and memory beside tcpdump's.

Whole processes on a generated capture of 1 GiB (bench/out, made once), page cache warm, output files on
the same disk and compared. Medians of paired runs; "best" is the ratio of the minima, which a busy
machine disturbs least, "cpu" that of the processor time of all threads.
"""

from __future__ import annotations

import compileall
import filecmp
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

from bench.filter.generate import capture
from bench.filter.measure import Paired, Run, paired, process

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "bench" / "out"
TIMES = 9


def hosts(count: int) -> str:
    """An or-list of hosts, some of which the capture has."""
    rng = random.Random(count)
    servers = [
        f"host 10.{rng.randint(1, 60)}.{rng.randint(0, 255)}.{rng.randint(1, 254)}" for _ in range(count)
    ]
    return " or ".join(servers)


class Bench:
    def __init__(self, size: int) -> None:
        tcpdump = shutil.which("tcpdump", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
        if tcpdump is None:
            raise SystemExit("bench.filter compares with tcpdump, which is not installed")
        # An installed package has its bytecode; a checkout may not (PYTHONDONTWRITEBYTECODE).
        compileall.compile_dir(str(ROOT / "src" / "skep"), quiet=2)
        self.tcpdump = tcpdump
        self.big = str(capture(OUT, size))
        self.cache = OUT / "cache"
        self.environment = {**os.environ, "SKEP_CACHE": str(self.cache)}
        script = Path(sys.executable).with_name("skep")
        self.skep = [str(script)] if script.exists() else [sys.executable, "-m", "skep"]
        with open(self.big, "rb") as file:
            while file.read(1 << 22):
                pass

    def theirs(self, *args: str) -> Run:
        return process([self.tcpdump, "-Z", "root", "-r", self.big, *args], self.environment)

    def ours(self, *args: str, cold: bool = False) -> Run:
        if cold:
            shutil.rmtree(self.cache, ignore_errors=True)
        return process([*self.skep, "filter", "-r", self.big, *args], self.environment)

    def line(self, what: str, result: Paired, wanted: float) -> None:
        verdict = "ok" if result.ratio >= wanted else "BELOW"
        print(
            f"{what:<36} {result.theirs * 1e3:9.1f} {result.ours * 1e3:9.1f} {result.ratio:7.2f}x "
            f"{result.best:7.2f}x {result.cpu:7.2f}x {wanted:6.1f}x {verdict:<6} {result.memory:6.1f}",
            flush=True,
        )

    def throughput(self) -> None:
        heads = ("ratio", "best", "cpu")
        columns = " ".join(f"{head:>8}" for head in heads)
        print(f"{'':36} {'tcpdump':>9} {'skep':>9} {columns} {'wanted':>7} {'':6} {'peak':>6}")
        print(f"{'whole process':36} {'ms':>9} {'ms':>9} {'':8} {'':8} {'':8} {'':7} {'':6} {'MB':>6}")
        simple, many = "tcp port 80", hosts(200)
        their_file, our_file = str(OUT / "theirs.pcap"), str(OUT / "ours.pcap")
        for cold, wanted in ((False, 3.5), (True, 2.0)):
            name = "cold" if cold else "warm"
            self.ours("--count", simple)

            def counted(cold: bool = cold) -> Run:
                return self.ours("--count", simple, cold=cold)

            result = paired(lambda: self.theirs("--count", simple), counted, TIMES)
            self.line(f"count, 'tcp port 80', {name}", result, wanted)

            def fresh(path: str) -> None:
                Path(path).unlink(missing_ok=True)

            def written_theirs() -> Run:
                fresh(their_file)
                return self.theirs("-w", their_file, simple)

            def written_ours(cold: bool = cold) -> Run:
                fresh(our_file)
                return self.ours("-w", our_file, simple, cold=cold)

            self.line(f"-w, 'tcp port 80', {name}", paired(written_theirs, written_ours, TIMES), wanted)
            same = filecmp.cmp(their_file, our_file, shallow=False)
            print(f"{'':36} output {'identical' if same else 'DIFFERS'}, {os.path.getsize(our_file)} bytes")
        self.ours("--count", many)
        result = paired(lambda: self.theirs("--count", many), lambda: self.ours("--count", many), 3)
        self.line("count, or-list of 200 hosts, warm", result, 10.0)
        for path in (their_file, our_file):
            Path(path).unlink(missing_ok=True)

    def compiling(self) -> None:
        from skep import filter

        print("\ncompiling to classic code, in process (best of 5)                ms   insns")
        for count in (1, 10, 200, 1000):
            text = hosts(count)
            best = float("inf")
            for _ in range(5):
                start = time.perf_counter()
                program = filter.compile(text)
                best = min(best, time.perf_counter() - start)
            print(f"  {count:>5} hosts {best * 1e3:54.1f} {len(program.insns):7}")
        listing = OUT / "hosts"
        listing.write_text(hosts(1000))
        command = [*self.skep, "filter", "-ddd", "-F", str(listing)]
        walls = sorted(process(command, self.environment).wall for _ in range(5))
        print(f"   1000 hosts, whole process {walls[0] * 1e3:37.1f}")
        theirs = OUT / "hosts200"
        theirs.write_text(hosts(200))
        start = time.perf_counter()
        subprocess.run(
            [self.tcpdump, "-y", "EN10MB", "-ddd", "-F", str(theirs)], capture_output=True, check=True
        )
        print(f"    200 hosts, tcpdump, whole process {(time.perf_counter() - start) * 1e3:28.1f}")


def main() -> int:
    size = int(sys.argv[1]) << 20 if len(sys.argv) > 1 else 1 << 30
    bench = Bench(size)
    print(
        f"{bench.big}: {os.path.getsize(bench.big) / 1e6:.0f} MB, {len(os.sched_getaffinity(0))} processors"
    )
    bench.throughput()
    bench.compiling()
    return 0


if __name__ == "__main__":
    sys.exit(main())
