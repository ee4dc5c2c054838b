"""Accepted programs as native code: no violation, and the results of the checked interpreter.

    python -m tests.verifier.native [--programs 20000] [--seed N] [--inputs 4] [--again PROGRAM] [--more]

Every generated program that ``check(strict=True, annotate=True)`` accepts runs twice on each input:
interpreted with every access and annotation checked, and compiled without a check (`harness.native`). r0 and
all memory that outlives the run must agree. An access outside of memory ends this process by SIGSEGV:
``--tell`` prints each program's number before. Exit status 1 on a difference or a violation.
"""

from __future__ import annotations

import argparse
import sys
import time

from skep.asm import disassemble
from skep.errors import SkepError, VerifierError
from skep.llvm import warm
from skep.verifier import check
from tests.verifier import generate, generate_more
from tests.verifier.harness.concrete import Run, Violation
from tests.verifier.harness.native import Program, contents
from tests.verifier.harness.ours import subject_of
from tests.verifier.harness.question import Question


def difference(question: Question, seed: int, inputs: int) -> str | None:
    """What goes wrong with a program that is accepted; "" if nothing, None if it is not accepted."""
    try:
        verdict = check(subject_of(question), strict=True, annotate=True)
    except VerifierError:
        return None
    program = Program(question, verdict.annotations)
    for number in range(seed * 100, seed * 100 + inputs):
        run = Run(question, number, strict=True, annotations=verdict.annotations)
        try:
            expected = run.run()
        except Violation as error:
            return f"inputs {number}: {error}"
        result, after = program.run(number)
        if result != expected:
            return f"inputs {number}: r0 is {result:#x} in native code, {expected:#x} interpreted"
        for (name, mine), (other, theirs) in zip(after, contents(run), strict=True):
            if name != other or mine != theirs:
                return f"inputs {number}: {name} differs: {mine.hex()} in native code, {theirs.hex()}"
    return ""


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--programs", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--inputs", type=int, default=4, help="runs of each accepted program")
    parser.add_argument("--again", type=int, help="one program by its number")
    parser.add_argument("--tell", action="store_true", help="print each program's number before it runs")
    parser.add_argument("--more", action="store_true", help="programs of generate_more")
    options = parser.parse_args()
    make = generate_more.question if options.more else generate.question
    warm()
    first = options.seed * 1_000_000 + 250_000
    seeds = iter([options.again]) if options.again is not None else iter(range(first, first + (1 << 30)))
    asked = accepted = 0
    failed: list[str] = []
    start = time.monotonic()
    for seed in seeds:
        question = make(seed)
        if question is None:
            continue
        asked += 1
        if options.tell:
            sys.stdout.write(f"program {seed}\n")
            sys.stdout.flush()
        try:
            wrong = difference(question, seed, options.inputs)
        except (SkepError, AssertionError, LookupError) as error:
            wrong = f"{type(error).__name__}: {error}"
        accepted += wrong is not None
        if wrong:
            failed.append(f"program {seed}: {wrong}")
            print(failed[-1], "\n".join(disassemble(question.insns)), sep="\n", flush=True)
        if not asked % 1000:
            print(f"{asked}: {accepted} accepted, {time.monotonic() - start:.0f} s", flush=True)
        if asked >= options.programs:
            break
    print(f"{asked} programs, {accepted} accepted and run {options.inputs} times, {len(failed)} wrong")
    return 1 if failed or not accepted else 0


if __name__ == "__main__":
    sys.exit(main())
