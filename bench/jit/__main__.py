"""Native code against the same C compiled by clang -O2 for the host. ``python -m bench.jit``"""

from __future__ import annotations

import argparse
import ctypes
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from bench.jit import build, measure
from skep import jit
from skep.isa import Insn
from skep.jit.lower import lower
from skep.jit.program import choose_level
from skep.llvm import compile_native, native, warm

PEERS = ("clang-14", "clang-19", "clang")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="bench.jit", description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--level", help="one level for all (default: each program's own)")
    parser.add_argument("--only", help="one kernel")
    options = parser.parse_args(argv)
    peers = [name for name in PEERS if shutil.which(name)][:2]
    if not peers:
        print("bench.jit: needs clang", file=sys.stderr)
        return 1
    for name in peers:
        version = subprocess.run([name, "--version"], capture_output=True, text=True, check=True).stdout
        print(f"{name}: {version.splitlines()[0]}")
    warm()
    sources = build.sources()
    driver = measure.Driver(build.host(peers[-1], build.HERE / "kernels" / "driver.c"))
    programs = {
        (name, cpu): build.bpf(peers[-1], source, cpu)
        for name, source in sources.items()
        for cpu in ("v1", "v3")
    }
    _speed(options, peers, sources, driver, programs)
    if not options.only:
        _compile_times(programs, options.level)
        _call_times(programs["two", "v3"])
    return 0


def _native(insns: Sequence[Insn], level: str | None, **how: Any) -> native.Image:
    lowered = lower(insns, helpers=(1,), **how)
    return native.load(compile_native(lowered.text, level=level or choose_level(lowered)))


def _speed(
    options: argparse.Namespace,
    peers: Sequence[str],
    sources: Mapping[str, Path],
    driver: measure.Driver,
    programs: dict[tuple[str, str], list[Insn]],
) -> None:
    names = [name for name in build.KERNELS if options.only in (None, name)]
    variants = {
        "v1": ("v1", {}),
        "v3": ("v3", {}),
        "v3, no budget": ("v3", {"budget": False}),
        "v3, unchecked": ("v3", {"budget": False, "checks": False}),
    }
    columns = [*variants, *peers[1:]]
    level = options.level or "by shape and size"
    print(f"\nns a call of the peer ({peers[0]} -O2), and the ratios to it; level {level}\n")
    print(f"{'kernel':<10}{'insns':>7}{peers[0]:>11}" + "".join(f"{name:>15}" for name in columns))
    ratios: dict[str, list[float]] = {name: [] for name in columns}
    for name in names:
        kernels: dict[str, int] = {}
        keep: list[object] = []
        for peer in peers:
            library = ctypes.CDLL(str(build.host(peer, sources[name])))
            keep.append(library)
            kernels[peer] = ctypes.cast(library.kernel, ctypes.c_void_p).value or 0
        for label, (cpu, how) in variants.items():
            image = _native(programs[name, cpu], options.level, **how)
            keep.append(image)
            kernels[label] = image.address("prog")
        times = driver.compare(kernels, measure.context(name), options.rounds)
        base = times[peers[0]].least
        for label in columns:
            ratios[label].append(times[label].least / base)
        print(
            f"{name:<10}{len(programs[name, 'v3']):>7}{base:>11.1f}"
            + "".join(f"{ratios[label][-1]:>15.2f}" for label in columns)
        )
    both = [math.sqrt(a * b) for a, b in zip(ratios["v1"], ratios["v3"], strict=True)]
    print(f"{'geo. mean':<28}" + "".join(f"{_mean(ratios[label]):>15.2f}" for label in columns))
    print(f"checks and budget on, v1 and v3 together: {_mean(both):.2f} (must reach 0.90)")


def _mean(values: Sequence[float]) -> float:
    return math.exp(statistics.fmean(map(math.log, values)))


def _best(work: Callable[[], object], rounds: int) -> tuple[float, float]:
    """Milliseconds: least time of the processor, least of the clock on the wall."""
    cpu, wall = [], []
    for _ in range(rounds):
        start, began = time.perf_counter(), time.process_time()
        work()
        cpu.append((time.process_time() - began) * 1e3)
        wall.append((time.perf_counter() - start) * 1e3)
    return min(cpu), min(wall)


#: Milliseconds that compiling and running from the cache may take.
COMPILE_SMALL, COMPILE_LARGE, CACHED = 8.0, 140.0, 1.0


def _compile_times(programs: dict[tuple[str, str], list[Insn]], level: str | None) -> None:
    print(
        f"\nms, least of processor time and of wall time; must reach: {COMPILE_SMALL:g} for 21 insns, "
        f"{COMPILE_LARGE:g} for 3,168, {CACHED:g} from the cache\n"
    )
    parts = ("text", "LLVM", "in all", "cached, called")
    print(f"{'kernel':<10}{'insns':>7}  {'level':<6}" + "".join(f"{part:>20}" for part in parts))
    for name in ("helper", "strcmp", "prime", "copy", "checksum", "log2", "switch", "parse", "straight"):
        insns = programs[name, "v3"]
        rounds = 60 if len(insns) < 1000 else 10  # the least: what the code costs, not its neighbours
        lowered = lower(insns, helpers=(1,))
        chosen = level or choose_level(lowered)
        times = [
            _best(partial(lower, insns, helpers=(1,)), rounds),
            _best(partial(compile_native, lowered.text, level=chosen), rounds),
            _best(partial(_compile, insns, level), rounds),
        ]
        with tempfile.TemporaryDirectory() as folder:
            before = os.environ.get("SKEP_CACHE")
            os.environ["SKEP_CACHE"] = folder
            try:
                times.append(_best(_cached_call(insns), 50))
            finally:
                if before is None:
                    del os.environ["SKEP_CACHE"]
                else:
                    os.environ["SKEP_CACHE"] = before
        cells = "".join(f"{cpu:>11.2f} {wall:>8.2f}" for cpu, wall in times)
        print(f"{name:<10}{len(insns):>7}  {chosen:<6}{cells}")


def _call_times(insns: Sequence[Insn]) -> None:
    """What it costs to call a program from Python, beside a ctypes function of as many arguments."""
    memory, packet = bytearray(64), bytes(64)
    with jit.compile(insns, cached=False) as program:
        prototype = ctypes.CFUNCTYPE(ctypes.c_uint64, *[ctypes.c_void_p] * 5)
        state = measure.State(1, 0, 0)
        bare = partial(prototype(program.address), 0, 0, 0, 0, ctypes.addressof(state))
        calls: dict[str, Callable[[], object]] = {
            "run()": program.run,
            "run(ctx)": partial(program.run, memory),
            "run(ctx, packet)": partial(program.run, memory, packet),
            "bare ctypes call": bare,
        }
        turns = 20_000
        cells = []
        for label, call in calls.items():
            cpu, _ = _best(partial(_repeat, call, turns), 20)
            cells.append(f"{label} {cpu / turns * 1e6:.0f}")
    print(f"\nns of processor time a call from Python (kernel two): {', '.join(cells)}")


def _repeat(call: Callable[[], object], turns: int) -> None:
    for _ in range(turns):
        call()


def _compile(insns: Sequence[Insn], level: str | None) -> None:
    jit.compile(insns, helpers={1: 0}, level=level, cached=False).close()


def _cached_call(insns: list[Insn]) -> Callable[[], None]:
    memory = bytearray(measure.CTX_BYTES)
    helpers = {1: lambda a, b, c, d, e: a}
    jit.compile(insns, helpers=helpers).close()

    def load_and_call() -> None:
        with jit.compile(insns, helpers=helpers) as program:
            program.run(memory)

    return load_and_call


if __name__ == "__main__":
    raise SystemExit(main())
