"""What comparisons of states remember changes no verdict and no count; a check leaves nothing of its paths.

``SKEP_SEED`` moves to other programs.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from skep.verifier import equal, prune, verdict
from skep.verifier.env import Env
from skep.verifier.state import ALL_SPILL, Saved, Slot, State
from tests.verifier import generate
from tests.verifier.harness.cases import read_file
from tests.verifier.harness.ours import judge
from tests.verifier.harness.question import Question

SEED = int(os.environ.get("SKEP_SEED", "1200"))
CASES = Path(__file__).resolve().parents[1] / "cases"


def _questions() -> list[Question]:
    rows = [case.question for case in read_file(CASES / "branches.txt") if "million" not in case.name]
    rows += [case.question for case in read_file(CASES / "iterators.txt") if "million" not in case.name]
    made = [generate.question(seed) for seed in range(SEED, SEED + 120)]
    return rows + [question for question in made if question is not None]


def _answers(questions: list[Question]) -> list[tuple[bool, str, int]]:
    found = [judge(question) for question in questions]
    return [(row.accepted, row.reason, row.processed) for row in found]


def test_comparisons_without_memory_give_the_same_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    print(f"SKEP_SEED={SEED}")
    questions = _questions()
    remembered: list[Saved] = []
    refuse = equal._refuse

    def noted(saved: Saved, cur: State) -> None:
        remembered.append(saved)
        refuse(saved, cur)

    monkeypatch.setattr(equal, "_refuse", noted)
    first = _answers(questions)
    assert remembered  # the memory was made use of
    monkeypatch.setattr(equal, "_hint", lambda saved, frame, at: None)
    monkeypatch.setattr(prune, "_same_hint", lambda saved, other: None)
    # Nor is any slot one with another.
    monkeypatch.setattr(Env, "spilled", lambda env, value: Slot(ALL_SPILL, value, 0))
    monkeypatch.setattr(Env, "bytes_slot", lambda env, types: Slot(types))
    del remembered[:]
    assert _answers(questions) == first
    assert not remembered


def test_a_check_lets_go_of_its_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    checks: list[Env] = []
    let_go = verdict._let_go

    def noted(env: Env) -> None:
        assert any(insn.saved for insn in env.code)
        let_go(env)
        checks.append(env)

    monkeypatch.setattr(verdict, "_let_go", noted)
    for question in _questions()[:40]:
        judge(question)
        if checks:
            break
    assert checks and not checks[0].code and not checks[0].pending and not checks[0].spills
