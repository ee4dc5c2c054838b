"""Programs made to be slow: straight code, branches and stores that would be walked over and over again."""

from __future__ import annotations

import pytest

from skep.errors import VerifierError
from skep.isa import Insn
from skep.verifier import MapFacts, Subject, check
from tests.verifier.harness.ours import at_most

#: processor time that none of them may take (each took minutes when its walks were quadratic)
_SECONDS = 30
_END = [Insn(0xB7), Insn(0x95)]
_ARRAY = [MapFacts("m", 2, 4, 64, 4)]
#: r9 = the context, r8 = a map's value, r6 = a number below 8
_BEGIN = [
    Insn(0xBF, 9, 1),
    Insn(0x62, 10, 0, -4, 0),
    Insn(0xBF, 2, 10),
    Insn(0x07, 2, 0, 0, -4),
    Insn(0x18, 1, 1),
    Insn(0),
    Insn(0x85, 0, 0, 0, 1),
    Insn(0x55, 0, 0, 1),
    Insn(0x95),
    Insn(0xBF, 8, 0),
    Insn(0x61, 6, 9),
    Insn(0x57, 6, 0, 0, 7),
]


def _processed(code: list[Insn], maps: list[MapFacts] | None = None, most: int = 1_000_000) -> int:
    with at_most(_SECONDS):
        return check(Subject.from_insns(code, 1, maps=maps or []), max_insns=most).processed


def test_the_same_number_decides_all_along_straight_code() -> None:
    body = [Insn(0xBF, 3, 8), Insn(0x0F, 3, 6), Insn(0xB7, 3, 0, 0, 1)] * 12_000
    code = [*_BEGIN, *body, *_END]
    # All but the second slot of the map's load and the exit: index 0 of an array is there.
    assert _processed(code, _ARRAY) == len(code) - 2


def test_the_same_number_decides_between_calls() -> None:
    body = [Insn(0x85, 0, 0, 0, 5), Insn(0xBF, 3, 8), Insn(0x0F, 3, 6)] * 8_000
    code = [*_BEGIN, *body, *_END]
    assert _processed(code, _ARRAY) >= len(body)


def test_stores_to_one_of_two_slots() -> None:
    """Path by path, fewer slots are always written."""
    body = []
    for i in range(4_000):
        body += [Insn(0xBF, 2, 10), Insn(0x45, 6, 0, 1, 1 << i % 31), Insn(0x07, 2, 0, 0, -8)]
        body += [Insn(0x07, 2, 0, 0, -8), Insn(0x7A, 2, 0, 0, 1), Insn(0x61, 6, 9)]
    assert _processed([Insn(0xBF, 9, 1), Insn(0x61, 6, 1), *body, *_END]) >= len(body)


def test_a_switch_of_many_cases() -> None:
    body = []
    for i in range(10_000):
        body += [Insn(0x55, 6, 0, 2, i), *_END]
    code = [Insn(0x61, 6, 1), *body, *_END]
    assert _processed(code) == len(code)


def test_branches_without_end() -> None:
    pairs = [(Insn(0x45, 6, 0, 1, 1 << i % 31), Insn(0xB7, 7, 0, 0, i)) for i in range(0, 20_000, 2)]
    code = [Insn(0x61, 6, 1), *[insn for pair in pairs for insn in pair]]
    with pytest.raises(VerifierError, match="BPF program is too large"):
        _processed([*code, *_END], most=60_000)
