"""The first release that takes a program: cases with ``since``, accepted there and refused by the one before.

The kernels that can be asked (the running one, and those of test_other_kernels) are asked the same cases; for
the releases between them the commit that a case names is the source.
"""

from __future__ import annotations

import pytest

from tests.verifier.harness.cases import Case, read_file
from tests.verifier.harness.ours import judge
from tests.verifier.test_cases import FILES

CASES = [case for file in FILES for case in read_file(file) if case.since]
#: the last release of each major number
LAST = {3: 19, 4: 20, 5: 19, 6: 19}


def before(version: tuple[int, int]) -> tuple[int, int]:
    major, minor = version
    return (major, minor - 1) if minor else (major - 1, LAST[major - 1])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_program_loads_from_its_release_on(case: Case) -> None:
    assert case.since is not None
    first = judge(case.question, kernel=case.since)
    assert first.accepted, f"{case.since}: {first.reason}"
    old = before(case.since)
    refused = judge(case.question, kernel=old)
    assert not refused.accepted, f"{old}: accepted"
    release = f"Linux {case.since[0]}.{case.since[1]} "
    assert release in refused.first, f"{old}: {refused.first!r} does not name {release}"


def test_there_are_many() -> None:
    assert len(CASES) >= 125
    assert len({case.since for case in CASES}) >= 30
