"""Real-world-like C programs and generated ones: instructions a second, memory, agreement with the kernel.

python -m bench.verifier [--programs N] [--corpus FOLDER]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

from tests.verifier import generate
from tests.verifier.harness import differ, large
from tests.verifier.harness.kernel import lab
from tools.verifier_corpus import kernel_verdict

from skep.obj import CoreTarget

ROOT = Path(__file__).resolve().parents[2]
#: the verdict, then the check alone (objects and types are read before it), the better of two
_ONE = """
import json, sys, time
from skep.obj import read
from skep.verifier import Subject, check
from tools.verifier_corpus import our_verdict, _target
types = _target()
row = our_verdict(sys.argv[1], sys.argv[2], 300)
if row["verdict"] == "accept":
    subject = Subject.from_object(read(sys.argv[1]), sys.argv[2], types=types)
    took = []
    for _ in range(2):
        start = time.process_time()
        check(subject)
        took.append(time.process_time() - start)
    row["seconds"] = max(min(took), 1e-6)  # the clock of a short run may not have moved
print(json.dumps(row))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--programs", type=int, default=2000, help="generated programs (default 2000)")
    parser.add_argument("--corpus", default="", help="a folder of objects to compare as well")
    options = parser.parse_args()
    CoreTarget.kernel()
    print(f"{'program':52}{'insns':>8}{'kernel':>9}{'ours':>9}{'ratio':>7}{'s':>8}{'k/s':>7}{'MiB':>6}")
    speeds: list[float] = []
    ratios: list[float] = []
    for what in (*large.SMALL, *large.MIDDLE, *large.LARGE):
        path = large.build(what)
        for name in large.programs(what):
            row = _measure(path, name, f"{what} {name}")
            if row is None:
                continue
            ratios.append(row[0])
            if row[1] > 10_000:
                speeds.append(row[1] / row[2])
    print(
        f"processed, ours / kernel's, geometric mean {statistics.geometric_mean(ratios):.2f}, "
        f"most {max(ratios):.2f}; instructions a second on programs of 10,000 and more: "
        f"median {statistics.median(speeds):,.0f}"
    )
    tally = differ.Tally()
    with lab() as live:
        questions = ((seed, generate.question(seed)) for seed in range(options.programs))
        for _ in differ.run(live, questions, tally):
            pass
    print(f"\n{options.programs} generated programs")
    print(tally.table())
    if options.corpus:
        _corpus(options.corpus)


def _measure(path: str, name: str, label: str) -> tuple[float, int, float] | None:
    from skep.obj import link_program, read

    theirs = kernel_verdict(path, name)
    done = subprocess.run([sys.executable, "-c", _ONE, path, name], capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        print(f"{label:52} {done.stderr.strip().splitlines()[-1]}")
        return None
    ours = json.loads(done.stdout)
    insns = len(link_program(read(path), name).code) // 8
    if ours["verdict"] != "accept" or theirs["verdict"] != "accept":
        print(f"{label:52} kernel {theirs['verdict']}, ours {ours['verdict']}: {ours['reason'][:200]}")
        return None
    ratio = ours["processed"] / theirs["processed"]
    print(
        f"{label:52}{insns:8}{theirs['processed']:9}{ours['processed']:9}{ratio:7.2f}{ours['seconds']:8.2f}"
        f"{ours['processed'] / ours['seconds'] / 1000:7.0f}{ours['peak_kib'] // 1024:6}"
    )
    return ratio, ours["processed"], ours["seconds"]


def _corpus(folder: str) -> None:
    import tempfile

    command = [sys.executable, "-m", "tools.verifier_corpus"]
    with tempfile.TemporaryDirectory() as out:
        ours, kernel = f"{out}/ours.json", f"{out}/kernel.json"
        subprocess.run([*command, "ours", folder, ours], cwd=ROOT, check=True)
        subprocess.run([*command, "kernel", folder, kernel, "--skip", ours], cwd=ROOT, check=True)
        subprocess.run([*command, "table", kernel, ours], cwd=ROOT, check=True)


if __name__ == "__main__":
    main()
