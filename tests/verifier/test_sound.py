"""What our verifier accepts runs without a violation, on random inputs, with every access checked.

``SKEP_SEED`` moves to other programs, ``SKEP_PROGRAMS`` changes how many.
"""

from __future__ import annotations

import os

import pytest

from skep.asm import disassemble
from tests.verifier import generate
from tests.verifier.harness.concrete import Run, Violation
from tests.verifier.harness.ours import judge

SEED = int(os.environ.get("SKEP_SEED", "1"))
COUNT = int(os.environ.get("SKEP_PROGRAMS", "2000")) // 8
INPUTS = 12


def test_accepted_programs_keep_to_their_memory() -> None:
    print(f"SKEP_SEED={SEED}")
    accepted = 0
    for seed in range(SEED * 1_000_000 + 500_000, SEED * 1_000_000 + 500_000 + COUNT):
        question = generate.question(seed)
        if question is None or not judge(question).accepted:
            continue
        accepted += 1
        for number in range(INPUTS):
            try:
                Run(question, seed * 100 + number).run()
            except Violation as error:
                listing = "\n".join(disassemble(question.insns))
                pytest.fail(f"program {seed}, inputs {seed * 100 + number}: {error}\n{listing}")
    assert accepted > 0.3 * COUNT


def test_the_engine_finds_violations() -> None:
    """Of the programs that are refused, many do run into one: the engine sees what it is there for."""
    found: set[str] = set()
    for seed in range(150):
        question = generate.question(seed)
        if question is None or judge(question).accepted:
            continue
        for number in range(6):
            try:
                Run(question, number).run()
            except Violation as error:
                found.add(str(error).partition(": ")[2].split(" ")[0])
            except (IndexError, KeyError, ValueError):
                break  # code that is not even legal
    assert {"load", "store", "a"} <= found, found
