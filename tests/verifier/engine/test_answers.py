"""What a verdict tells beside yes: annotations, stack depths; and what depends on the version."""

from __future__ import annotations

import pytest

from skep.asm import assemble
from skep.errors import VerifierError
from skep.isa import Insn
from skep.verifier import MapFacts, Subject, check
from skep.verifier import kinds as k

VALUE = 16
LOOKUP = """
    call 7
    *(u32 *)(r10 -4) = r0
    r2 = r10
    r2 += -4
    r1 = 0 ll
    call 1
    if r0 == 0 goto out
"""


def subject(code: str) -> Subject:
    insns = [i._replace(src=1) if i.opcode == 0x18 else i for i in assemble(code)]
    return Subject.from_insns(insns, 1, maps=[MapFacts("m", 2, 4, VALUE, 4)])


def test_annotations_of_a_lookup() -> None:
    found = check(
        subject(LOOKUP + "r1 = *(u32 *)(r0 +4)\nr1 &= 7\nr0 += r1\n*(u8 *)(r0 +1) = 9\nout: r0 = 0\nexit"),
        annotate=True,
    )
    rows = found.annotations
    assert found.stack_depths == (8,)
    assert len(rows) == 14 and rows[5] is None  # the second half of the 64-bit immediate
    store, load, moved = rows[1], rows[8], rows[11]
    assert store is not None and load is not None and moved is not None
    assert store.operands[10].base == k.PTR_TO_STACK and store.operands[10].low == 0
    assert load.operands[0].base == k.PTR_TO_MAP_VALUE
    assert [m.name for m in load.operands[0].objects if isinstance(m, MapFacts)] == ["m"]
    assert (moved.operands[0].low, moved.operands[0].high) == (0, 7)
    branch = rows[7]
    assert branch is not None and branch.following == {8, 12}
    assert branch.operands[0].kinds == {k.PTR_TO_MAP_VALUE_OR_NULL}


def test_annotations_of_code_that_no_path_reaches() -> None:
    rows = check(subject("r0 = 1\nif r0 == 1 goto out\nr0 = 7\nout: exit"), annotate=True).annotations
    assert [row is not None for row in rows] == [True, True, False, True]


def test_annotations_join_paths() -> None:
    """Two kinds of pointer at one load: both are in the set, and there is no one base."""
    code = LOOKUP + "if r0 != r10 goto +1\nr0 = r10\nr0 += -8\nout: r0 = 0\nexit"
    rows = check(subject(code.replace("r0 += -8", "r1 = r0")), annotate=True).annotations
    merged = rows[10]
    assert merged is not None
    assert {kind & k.BASE_MASK for kind in merged.operands[0].kinds} == {k.PTR_TO_MAP_VALUE, k.PTR_TO_STACK}
    assert merged.operands[0].base == k.NOT_INIT


@pytest.mark.parametrize(
    ("code", "first"),
    [
        # inequality at the end of a range shortens it
        (
            "r1 = *(u8 *)(r0 +0)\nr1 &= 16\nif r1 == 16 goto out\nr1 &= 31\nr0 += r1\nr1 = *(u8 *)(r0 +0)",
            (6, 8),
        ),
        # a comparison of two unknown numbers bounds both
        (
            "r1 = *(u8 *)(r0 +0)\nr2 = *(u8 *)(r0 +1)\nr2 &= 7\n"
            "if r1 > r2 goto out\nr0 += r1\nr1 = *(u8 *)(r0 +0)",
            (6, 8),
        ),
        # a negation of a range is a range
        ("r1 = *(u8 *)(r0 +0)\nr1 &= 3\nr1 = -r1\nr1 += 3\nr0 += r1\nr1 = *(u8 *)(r0 +0)", (6, 17)),
    ],
)
def test_older_verifiers_know_less(code: str, first: tuple[int, int]) -> None:
    program = LOOKUP + code + "\nout: r0 = 0\nexit"
    before = (first[0], first[1] - 1)
    assert check(subject(program), kernel=first)
    with pytest.raises(VerifierError):
        check(subject(program), kernel=before)


def test_the_stack_of_a_chain_of_calls() -> None:
    """Each function's bytes are rounded to 32 before 6.9, to 16 since: 240 + 256 fit then only."""
    insns = [
        Insn(0x7A, 10, 0, -240, 0), Insn(0x85, 0, 1, 0, 1), Insn(0x95),
        Insn(0x7A, 10, 0, -264, 0), Insn(0xB7), Insn(0x95),
    ]  # fmt: skip
    one = Subject.from_insns(insns, 1)
    assert check(one).stack_depths == (240, 264)
    with pytest.raises(VerifierError, match="combined stack size of 2 calls is 544"):
        check(one, kernel="6.8")


def test_source_lines_in_a_refusal() -> None:
    from skep.verifier import LineFacts

    program = Subject(
        assemble("r0 = 0\nr0 = r3\nexit"),
        1,
        lines=[LineFacts(0, "a.c", 3, 1, "x"), LineFacts(1, "a.c", 4, 2, " y = z;")],
    )
    with pytest.raises(VerifierError) as caught:
        check(program)
    assert caught.value.reason == "R3 !read_ok"
    assert caught.value.insn == 1
    assert caught.value.source == "a.c:4: y = z;"
    assert "processed 2 insns" in caught.value.log
