"""The case suite: every case by the live kernel, and by our verifier, in the kernel's words."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import oracles
from tests.verifier.harness.cases import Case, read_file
from tests.verifier.harness.differ import KERNEL_BUG
from tests.verifier.harness.kernel import Lab, lab
from tests.verifier.harness.ours import judge
from tests.verifier.harness.question import Answer

FILES = sorted(Path(__file__).with_name("cases").glob("*.txt"))
LEAST = 500
#: a million instructions take our verifier long: `SKEP_LONG=1`
LONG = bool(os.environ.get("SKEP_LONG"))


@pytest.fixture(scope="module")
def live() -> Iterator[Lab]:
    oracles.bpf()
    with lab() as made:
        yield made


def wrong(case: Case, answer: Answer, which: str = "") -> str:
    """What an answer has of its own, or "" when it is the case's verdict."""
    want = case.verdicts[which]
    where = f"{case.file}:{case.line}: {case.name}"
    if answer.accepted != want.accepted:
        said = "accepted" if answer.accepted else f"rejected: {answer.reason or answer.log[-300:]}"
        return f"{where}: {said}, should be {'accepted' if want.accepted else f'rejected: {want.text}'}"
    if not want.accepted and want.text not in answer.reason:
        return f"{where}: {answer.reason!r} does not say {want.text!r}"
    return ""


def told(failures: list[str]) -> str:
    return f"{len(failures)} cases\n" + "\n".join(failures)


@pytest.mark.live
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_kernel_agrees_with_the_cases(file: Path, live: Lab) -> None:
    """A case that the kernel does not agree with is no case.

    Those that show a bug of the kernel's verifier are for emulated kernels (test_other_kernels).
    """
    cases = [case for case in read_file(file) if KERNEL_BUG not in case.verdicts[""].text]
    failures = [text for case in cases if (text := wrong(case, live.ask(case.question)))]
    assert not failures, told(failures)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_our_verifier_agrees_with_the_cases(file: Path) -> None:
    failures = []
    for case in read_file(file):
        if "million" in case.name and not LONG:
            continue
        try:
            text = wrong(case, judge(case.question))
        except Exception as error:
            text = f"{case.file}:{case.line}: {case.name}: {type(error).__name__}: {error}"
        if text:
            failures.append(text)
    assert not failures, told(failures)


def test_without_privileges() -> None:
    """Linux's side of these is asked by test_other_kernels, in a kernel that allows them."""
    cases = [case for file in FILES for case in read_file(file) if "unprivileged" in case.verdicts]
    failures = [
        text
        for case in cases
        if (text := wrong(case, judge(case.question, privileged=False), "unprivileged"))
    ]
    assert not failures, told(failures)
    assert len(cases) > 10


def test_later_kernels_and_strict() -> None:
    """``post[7.2]`` and ``post[strict]``; what Linux 7.2 says of them is asked by test_other_kernels."""
    asked = 0
    failures = []
    for case in (case for file in FILES for case in read_file(file)):
        for which in case.verdicts.keys() - {"", "unprivileged"}:
            asked += 1
            options: dict[str, Any] = {"strict": True} if which == "strict" else {"kernel": which}
            text = wrong(case, judge(case.question, **options), which)
            failures += [f"{which}: {text}"] if text else []
    assert not failures, told(failures)
    assert asked > 8


def test_there_are_many_cases_of_both_verdicts() -> None:
    cases = [case for file in FILES for case in read_file(file)]
    names = [(case.file, case.name) for case in cases]
    assert len(set(names)) == len(names) >= LEAST
    assert all(case.rule and (case.verdict.accepted or case.verdict.text) for case in cases)
    accepted = sum(case.verdict.accepted for case in cases)
    assert 0.3 < accepted / len(cases) < 0.7, accepted
