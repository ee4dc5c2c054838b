"""Programs that are none: refused with a VerifierError, never another exception, never for long."""

from __future__ import annotations

import os
import random

import pytest

from skep.asm import assemble
from skep.errors import VerifierError
from skep.isa import Insn, decode, encode
from skep.verifier import MapFacts, Subject, check
from tests.verifier import generate
from tests.verifier.harness.ours import subject_of

SEED = int(os.environ.get("SKEP_SEED", "1"))


def verdict(insns: list[Insn], prog_type: int = 1, **options: object) -> str:
    """The reason of a refusal, "" when it is accepted."""
    maps = [MapFacts(f"m{i}", 2, 4, 16, 4) for i in range(3)]
    try:
        check(Subject.from_insns(insns, prog_type, maps=maps), max_insns=20_000, **options)  # type: ignore[arg-type]
    except VerifierError as error:
        assert error.reason and str(error)
        return error.reason
    return ""


def test_random_slots() -> None:
    rng = random.Random(SEED)
    print(f"SKEP_SEED={SEED}")
    for _ in range(500):
        code = rng.randbytes(8 * rng.randint(1, 12))
        assert verdict(decode(code))


def test_random_slots_of_real_opcodes() -> None:
    rng = random.Random(SEED)
    questions = [generate.question(seed) for seed in range(60)]
    opcodes = sorted({i.opcode for one in questions if one is not None for i in one.insns})
    refused = 0
    for _ in range(500):
        insns = [
            Insn(
                rng.choice(opcodes),
                rng.randrange(11),
                rng.randrange(11),
                rng.randint(-4, 4),
                rng.randint(-9, 40),
            )
            for _ in range(rng.randint(1, 12))
        ]
        insns += [Insn(0xB7), Insn(0x95)]
        refused += bool(verdict(insns, rng.choice((1, 3, 6)), privileged=rng.random() < 0.8))
    assert refused > 170


def test_damaged_programs() -> None:
    """Bytes of programs that are nearly right, changed; and cut short."""
    rng = random.Random(SEED)
    for seed in range(80):
        question = generate.question(seed)
        if question is None:
            continue
        subject = subject_of(question)
        code = bytearray(encode(subject.insns))
        for _ in range(3):
            code[rng.randrange(len(code))] ^= 1 << rng.randrange(8)
        subject.insns = decode(
            bytes(code[: 8 * rng.randint(1, len(code) // 8)] if rng.random() < 0.3 else code)
        )
        try:
            check(subject, max_insns=20_000)
        except VerifierError as error:
            assert error.reason


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("", "a program has 1 to 1000000 instructions, this one has 0"),
        ("r0 = 0", "last insn is not an exit or jmp"),
        ("goto +7\nexit", "jump out of range from insn 0 to 8"),
        ("r0 = 0\nexit\nexit", "unreachable insn 2"),
        ("r0 = 5\nl: goto l", "unreachable insn"),
    ],
)
def test_wording(code: str, reason: str) -> None:
    insns = assemble(code) if code else []
    found = verdict(insns)
    assert reason in found or (reason == "unreachable insn" and "infinite loop" in found)


def test_too_many_maps() -> None:
    insns = [i for n in range(65) for i in (Insn(0x18, 1, 1, 0, n), Insn(0))] + [Insn(0xB7), Insn(0x95)]
    subject = Subject.from_insns(insns, 1, maps=[MapFacts(f"m{n}", 2) for n in range(65)])
    with pytest.raises(VerifierError, match="limit of 64"):
        check(subject)


def test_too_many_instructions() -> None:
    insns = [Insn(0xB7)] * 1_000_001 + [Insn(0x95)]
    with pytest.raises(VerifierError, match="1 to 1000000"):
        check(Subject.from_insns(insns, 1))


def test_a_long_program() -> None:
    insns = [Insn(0xB7), *[Insn(0x07, 0, 0, 0, 1)] * 50_000, Insn(0xB7), Insn(0x95)]
    assert check(Subject.from_insns(insns, 1)).processed == 50_003


def test_the_versions_text() -> None:
    subject = Subject.from_insns(assemble("r0 = 0\nexit"), 1)
    with pytest.raises(VerifierError, match="not of the form"):
        check(subject, kernel="six")
    assert check(subject, kernel=(6, 12)).processed == 2
