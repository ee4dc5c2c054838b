"""What is no program at all: always a VerifierError, as the kernel has it, never another exception.

``SKEP_SEED`` moves to other programs, ``SKEP_PROGRAMS`` changes how many.
"""

from __future__ import annotations

import os
import random

import pytest

from skep.errors import VerifierError
from skep.isa import Insn, decode, encode, ld_imm64
from skep.isa import opcodes as op
from skep.obj import MapSpec
from skep.uapi.enums import MapType, ProgType
from skep.verifier import MapFacts, Subject, check
from tests.support import oracles
from tests.verifier import generate
from tests.verifier.generate_spoil import bounded_work
from tests.verifier.harness import differ
from tests.verifier.harness.kernel import lab
from tests.verifier.harness.ours import judge
from tests.verifier.harness.question import Question

SEED = int(os.environ.get("SKEP_SEED", "1"))
COUNT = int(os.environ.get("SKEP_PROGRAMS", "2000")) // 4


def damaged(seed: int) -> Question:
    """Random bytes, or a generated program cut short, with bytes changed, or its slots shuffled a little."""
    rng = random.Random(seed)
    how = rng.randrange(5)
    if how == 0:
        code = rng.randbytes(8 * rng.randint(1, 30))
        return Question(decode(code), rng.choice((ProgType.XDP, ProgType.SOCKET_FILTER, ProgType.KPROBE)))
    question = generate.Maker(seed).question()
    insns = list(question.insns)
    if how == 1:
        insns = insns[: rng.randint(1, len(insns))]
    elif how == 2:
        raw = bytearray(encode(insns))
        for _ in range(rng.choice((1, 2, 4))):
            raw[rng.randrange(len(raw))] = rng.randrange(256)
        insns = decode(bytes(raw))
    elif how == 3:
        a, b = rng.randrange(len(insns)), rng.randrange(len(insns))
        insns[a], insns[b] = insns[b], insns[a]
    else:
        at = rng.randrange(len(insns))
        insns[at] = Insn(rng.randrange(256), rng.randrange(16), rng.randrange(16), rng.randint(-3, 3), 0)
    return question._replace(insns=insns)


@pytest.mark.live
def test_damaged_programs_are_judged_like_by_the_kernel() -> None:
    oracles.bpf()
    print(f"SKEP_SEED={SEED}")
    tally = differ.Tally()
    shown: list[str] = []
    seeds = range(SEED * 1_000_000 + 800_000, SEED * 1_000_000 + 800_000 + COUNT)
    questions = ((seed, one) for seed in seeds if bounded_work((one := damaged(seed)).insns))
    with lab() as live:
        for name, question, found in differ.run(live, questions, tally):
            shown.append(differ.text(question, found, name))
    report = tally.table() + "\n\n" + "\n".join(shown[:4])
    assert tally.rejected > 0.5 * COUNT, report
    assert not tally.kinds[differ.UNSAFE], report
    assert not tally.kinds[differ.BROKEN], report
    assert tally.kinds[differ.STRICT] <= 0.01 * COUNT, report


def refused(insns: list[Insn], **more: object) -> str:
    with pytest.raises(VerifierError) as caught:
        check(Subject(insns, ProgType.SOCKET_FILTER, **more))  # type: ignore[arg-type]
    return caught.value.reason


def test_no_instructions() -> None:
    assert refused([])


def test_a_single_slot_of_each_opcode() -> None:
    """Nothing but a VerifierError, whatever the opcode and its fields."""
    for opcode in range(256):
        for fields in ((0, 0, 0, 0), (11, 15, -1, -1), (1, 2, 1, 5)):
            first = Insn(opcode, *fields)
            for insns in ([first], [first, Insn(0), Insn(op.EXIT)]):
                judge(Question(insns))


def test_more_than_64_maps() -> None:
    maps = [MapFacts(f"m{n}", MapType.ARRAY, 4, 8, 1) for n in range(65)]
    insns = [slot for n in range(65) for slot in ld_imm64(1, n, op.BPF_PSEUDO_MAP_FD)]
    insns += [Insn(op.BPF_ALU64 | op.BPF_MOV, 0), Insn(op.EXIT)]
    assert "maps" in refused(insns, maps=maps)


def test_64_maps() -> None:
    maps = tuple(MapSpec(f"m{n}", MapType.ARRAY, 4, 8, 1) for n in range(64))
    insns = [slot for n in range(64) for slot in ld_imm64(1, n, op.BPF_PSEUDO_MAP_FD)]
    insns += [Insn(op.BPF_ALU64 | op.BPF_MOV, 0), Insn(op.EXIT)]
    assert judge(Question(insns, maps=maps)).accepted


def test_more_than_a_million_instructions() -> None:
    insns = [Insn(op.BPF_ALU64 | op.BPF_MOV, 0)] * 1_000_001 + [Insn(op.EXIT)]
    refused(insns)
