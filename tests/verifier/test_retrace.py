"""Long refusals: the way there, walked alone, is explained as by a walk over everything."""

from __future__ import annotations

import pytest

from skep.asm import assemble
from skep.errors import VerifierError
from skep.uapi.enums import ProgType
from skep.verifier import Subject, check, verdict
from tests.verifier import generate
from tests.verifier.harness.cases import read_file
from tests.verifier.harness.ours import subject_of
from tests.verifier.harness.question import Question
from tests.verifier.test_cases import FILES


def explained(question: Question) -> tuple[str, str]:
    """(log, explanation) of a refusal."""
    with pytest.raises(VerifierError) as caught:
        check(subject_of(question))
    found = caught.value.explanation
    return caught.value.log, found.render() if found is not None else ""


def test_the_same_as_when_all_is_walked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    questions = [
        case.question
        for file in FILES
        for case in read_file(file)
        if not case.verdict.accepted and "million" not in case.name
    ]
    questions += [made for seed in range(120) if (made := generate.question(seed)) is not None]
    refused = logs = same = 0
    for question in questions[::3]:
        try:
            check(subject_of(question))
        except VerifierError as error:
            if "processed" not in error.log:
                continue  # refused before any path was followed
        else:
            continue
        refused += 1
        whole = explained(question)
        with monkeypatch.context() as patch:
            patch.setattr(verdict, "WALK_AGAIN", -1)
            alone = explained(question)
        logs += bool(alone[0])
        same += alone[1] == whole[1]
    assert refused > 70
    assert logs > 0.95 * refused, (logs, refused)
    assert same > 0.95 * refused, (same, refused)


LOOP = """
r6 = r1
r7 = 0
r8 = *(u32 *)(r1 +0)
again: r7 += 1
call bpf_get_prandom_u32
if r7 < {turns} goto again
r0 = *(u8 *)(r8 +0)
exit
"""


def test_a_refusal_after_100000_instructions() -> None:
    with pytest.raises(VerifierError) as caught:
        check(Subject.from_insns(assemble(LOOP.format(turns=40_000)), ProgType.SCHED_CLS))
    error = caught.value
    assert "R8 invalid mem access 'scalar'" in error.reason
    assert "processed 120004 insns" in error.log
    assert "R7=0x9c40" in error.log
    assert error.explanation is not None
    assert error.explanation.family == "lost-pointer"
    assert len(error.explanation.path) > 5


def test_a_budget_used_up_tells_where() -> None:
    text = "again: call bpf_get_prandom_u32\nr6 = r0\nif r6 != 7 goto again\nr0 = 0\nexit"
    with pytest.raises(VerifierError) as caught:
        check(Subject.from_insns(assemble(text), ProgType.SCHED_CLS), max_insns=70_000)
    assert caught.value.reason == "BPF program is too large. Processed 70001 insn"
    assert "from 2 to 0" in caught.value.log or "2: (55) if r6 != 0x7 goto pc-3" in caught.value.log
    assert caught.value.explanation is not None
    assert caught.value.explanation.family == "too-complex"
