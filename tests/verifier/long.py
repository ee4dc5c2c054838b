"""The long run: generated programs to our verifier and the running kernel, and the accepted ones executed.

    python -m tests.verifier.long [--programs 20000] [--seed N] [--inputs 4] [--folder DIFFS]
                                   [--more | --families]

Every program is judged by both (`differ`); each that both accept is then run in a bounds-checked
interpreter on random inputs (`concrete`; not those of ``--families``, which call what only a kernel has,
and which are for emulated kernels alone: `python -m tests.kernels run 6.18 python -m tests.verifier.long
--families`).
Prints the tally every thousand programs, the table by reason at the end, and minimised disagreements to
``--folder``. Exit status 1 when the kernel rejects what we accept, when more than one in a hundred is
rejected that it accepts, or when a run violates what was verified.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from skep.asm import disassemble
from tests.verifier import families, generate, generate_more
from tests.verifier.harness import differ
from tests.verifier.harness.concrete import Run, Violation
from tests.verifier.harness.kernel import lab
from tests.verifier.harness.question import Question


class Soundness:
    """Accepted programs, run; ``found`` are those that did what no verified program does."""

    def __init__(self, inputs: int) -> None:
        self.inputs = inputs
        self.programs = 0
        self.runs = 0
        self.found: list[str] = []

    def add(self, seed: int, question: Question) -> None:
        self.programs += 1
        for number in range(self.inputs):
            self.runs += 1
            try:
                Run(question, seed * 100 + number).run()
            except Violation as error:
                listing = "\n".join(disassemble(question.insns))
                self.found.append(f"program {seed}, inputs {seed * 100 + number}: {error}\n{listing}")
                return


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--programs", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--inputs", type=int, default=4, help="executions of each accepted program")
    parser.add_argument("--folder", default="", help="where disagreements are kept, minimised")
    parser.add_argument("--more", action="store_true", help="programs of generate_more")
    parser.add_argument("--families", action="store_true", help="programs of families")
    options = parser.parse_args()
    make = generate_more.question if options.more else generate.question
    fit = generate.bounded_work
    if options.families:
        if "lsm=bpf" not in Path("/proc/cmdline").read_text().split():  # as tests.kernels.emulate boots it
            parser.error("--families make kernels fall over: ask an emulated one")
        make, fit = families.question, families.fit
    tally, sound = differ.Tally(), Soundness(options.inputs)
    first = options.seed * 1_000_000
    start = time.monotonic()
    with lab() as live:
        asked, seed = 0, first
        while asked < options.programs:
            question = make(seed)
            seed += 1
            if question is None:
                continue
            asked += 1
            found = differ.compare(live, question)
            tally.add(found, seed - 1)
            if found.kind in (differ.UNSAFE, differ.STRICT, differ.BROKEN):
                small = differ.shrunk(live, question, found, fit)
                again = differ.compare(live, small)
                print(differ.text(small, again, seed - 1), flush=True)
                if options.folder:
                    differ.save(Path(options.folder), small, again, seed - 1)
            elif found.kernel.accepted and found.ours.accepted and not options.families:
                sound.add(seed - 1, question)
            if not asked % 1000:
                print(f"{asked}: {dict(tally.kinds)}, {time.monotonic() - start:.0f} s", flush=True)
    print(f"\nseeds {first} to {seed - 1}: {asked} programs in {time.monotonic() - start:.0f} s")
    print(tally.table())
    print(f"{sound.programs} accepted programs executed {sound.runs} times: {len(sound.found)} violations")
    print("\n".join(sound.found[:5]))
    strict = tally.kinds[differ.STRICT] > 0.01 * tally.accepted
    return 1 if tally.kinds[differ.UNSAFE] or tally.kinds[differ.BROKEN] or strict or sound.found else 0


if __name__ == "__main__":
    sys.exit(main())
