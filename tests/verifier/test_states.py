"""Register states, instruction by instruction, beside the kernel's log of level 2.

``SKEP_SEED`` moves to other programs, ``SKEP_PROGRAMS`` changes how many.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.support import oracles
from tests.verifier import generate
from tests.verifier.harness.cases import read_file
from tests.verifier.harness.kernel import Lab, lab
from tests.verifier.harness.ours import judge
from tests.verifier.harness.question import Question
from tests.verifier.harness.states import Difference, differences
from tests.verifier.test_cases import FILES

SEED = int(os.environ.get("SKEP_SEED", "1"))
COUNT = int(os.environ.get("SKEP_PROGRAMS", "2000")) // 16
#: states that may differ, in a thousand
FEW = 5
MOST = 4_000


@pytest.fixture(scope="module")
def live() -> Iterator[Lab]:
    oracles.bpf()
    with lab() as made:
        yield made


def compared(live: Lab, question: Question) -> tuple[int, list[Difference]] | None:
    """Registers compared and those that differ; None for programs that are refused, or long."""
    short = live.ask(question)
    if not short.accepted or short.processed > MOST:
        return None
    theirs = live.ask(question, log_level=2)
    ours = judge(question, log_level=2)
    return differences(theirs.log, ours.log) if ours.accepted else None


@pytest.mark.live
def test_states_of_the_cases(live: Lab) -> None:
    total, found = 0, list[str]()
    for file in FILES:
        for case in read_file(file):
            answer = compared(live, case.question)
            if answer is not None:
                total += answer[0]
                found += [f"{case.file}:{case.line} {case.name}: {one}" for one in answer[1]]
    assert total > 4_000
    assert len(found) <= total * FEW // 1000, f"{len(found)} of {total}\n" + "\n".join(found[:30])


@pytest.mark.live
def test_states_of_generated_programs(live: Lab) -> None:
    print(f"SKEP_SEED={SEED}")
    total, found = 0, list[str]()
    for seed in range(SEED * 1_000_000 + 700_000, SEED * 1_000_000 + 700_000 + COUNT):
        question = generate.question(seed)
        answer = compared(live, question) if question is not None else None
        if answer is not None:
            total += answer[0]
            found += [f"seed {seed}: {one}" for one in answer[1]]
    assert total > 50 * COUNT
    assert len(found) <= total * FEW // 1000, f"{len(found)} of {total}\n" + "\n".join(found[:30])
