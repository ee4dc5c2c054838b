"""Programs made to be slow: straight code, branches and stores that would be walked over and over again."""

from __future__ import annotations

import pytest

from skep.btf import BtfBuilder
from skep.btf.types import Func, FuncProto, Int
from skep.errors import VerifierError
from skep.isa import Insn
from skep.verifier import FuncFacts, MapFacts, Subject, check
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


def _functions(bodies: list[list[Insn | int]]) -> Subject:
    """Functions one after another; a number in a body is a call of that function."""
    starts: list[int] = []
    at = 0
    for body in bodies:
        starts.append(at)
        at += len(body)
    code: list[Insn] = []
    for body in bodies:
        for row in body:
            code.append(row if isinstance(row, Insn) else Insn(0x85, 0, 1, 0, starts[row] - len(code) - 1))
    types = BtfBuilder()
    proto = types.add(FuncProto(types.add(Int("int", 4, 1, 0, 32))))
    funcs = [FuncFacts(start, f"f{n}", types.add(Func(f"f{n}", proto))) for n, start in enumerate(starts)]
    return Subject(code, 6, btf=types.btf(), funcs=funcs)


def test_chains_of_calls_that_multiply() -> None:
    """Seven levels of thirty calls: 30 ** 6 chains, behind a branch that is never taken."""
    bodies: list[list[Insn | int]] = [[Insn(0xB7, 6), 1, *_END]]
    for level in range(1, 7):
        calls = [level + 1] * 30 if level < 6 else []
        bodies.append([Insn(0xB7, 6), Insn(0x15, 6, 0, len(calls)), *calls, *_END])
    with at_most(_SECONDS):
        assert check(_functions(bodies)).processed < 100


def test_registers_that_stay_live_over_one_loop_after_another() -> None:
    """Each block may go back to the one before: what the first reads is carried over one more each time."""
    blocks = [Insn(0x15, 0, 0, -2, 77), Insn(0xB7, 7)] * 15_000
    code = [Insn(0xB7), Insn(0xB7, 7), Insn(0xBF, 6, 7), Insn(0xB7, 7), *blocks, *_END]
    assert _processed(code) == len(code)


def test_slots_that_each_path_reads_another_of() -> None:
    """64 paths, each reads a slot that was written before a long way of straight code."""
    ends = [row for i in range(64) for row in (Insn(0x55, 6, 0, 3, i), Insn(0x79, 0, 10, -8 * i - 8), *_END)]
    stores = [Insn(0x7A, 10, 0, -8 * i - 8, i) for i in range(64)]
    code = [Insn(0x61, 6, 1), *stores, *[Insn(0xB7, 7)] * 60_000, *ends, *_END]
    assert _processed(code) == len(code)


def test_stack_written_somewhere_again_and_again() -> None:
    body = [Insn(0xBF, 3, 8), Insn(0x57, 3, 0, 0, 0x1FF), Insn(0xBF, 2, 10), Insn(0x07, 2, 0, 0, -512)]
    body += [Insn(0x0F, 2, 3), Insn(0x72, 2), Insn(0x07, 7, 0, 0, 1)]
    slots = [Insn(0x7A, 10, 0, -8 * i - 8) for i in range(64)]
    code = [Insn(0x61, 8, 1), Insn(0xB7, 7), *slots, *body, Insn(0xA5, 7, 0, -len(body) - 1, 200_000), *_END]
    with pytest.raises(VerifierError, match="BPF program is too large"):
        _processed(code, most=30_000)


def test_more_references_than_could_be_released() -> None:
    one = [Insn(0x18, 1, 1), Insn(0), Insn(0xB7, 2, 0, 0, 8), Insn(0xB7, 3), Insn(0x85, 0, 0, 0, 131)]
    code = [*one * 4_000, *_END]
    with at_most(_SECONDS), pytest.raises(VerifierError, match="Unreleased reference id=2 alloc_insn=4"):
        check(Subject.from_insns(code, 5, maps=[MapFacts("rb", 27, 0, 0, 4096)]))
