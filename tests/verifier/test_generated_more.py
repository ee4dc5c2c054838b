"""Tail calls, queues, byte swaps, long jumps and LD_IND in generated programs: verdicts and runs.

``SKEP_SEED`` moves to other programs, ``SKEP_PROGRAMS`` changes how many.
"""

from __future__ import annotations

import os

import pytest

from skep.asm import disassemble
from skep.isa import opcodes as op
from tests.support import oracles
from tests.verifier import generate, generate_more
from tests.verifier.harness import differ
from tests.verifier.harness.concrete import Run, Violation
from tests.verifier.harness.kernel import lab
from tests.verifier.harness.ours import judge

SEED = int(os.environ.get("SKEP_SEED", "1"))
COUNT = int(os.environ.get("SKEP_PROGRAMS", "2000")) // 8


@pytest.mark.live
def test_verdicts_and_runs() -> None:
    oracles.bpf()
    print(f"SKEP_SEED={SEED}")
    tally = differ.Tally()
    first = SEED * 1_000_000 + 700_000
    shown: list[str] = []
    with lab() as live:
        for seed in range(first, first + COUNT):
            question = generate_more.question(seed)
            if question is None:
                continue
            found = differ.compare(live, question)
            tally.add(found, seed)
            if found.kind in (differ.UNSAFE, differ.STRICT, differ.BROKEN) and len(shown) < 4:
                small = differ.shrunk(live, question, found, generate.bounded_work)
                shown.append(differ.text(small, differ.compare(live, small), seed))
            elif found.kernel.accepted and found.ours.accepted:
                for number in range(seed * 100, seed * 100 + 3):
                    try:
                        Run(question, number).run()
                    except Violation as error:
                        listing = "\n".join(disassemble(question.insns))
                        pytest.fail(f"program {seed}, inputs {number}: {error}\n{listing}")
    report = tally.table() + "\n\n" + "\n".join(shown)
    print(report)
    assert tally.accepted > 0.25 * COUNT and tally.rejected > 0.2 * COUNT, report
    assert not tally.kinds[differ.UNSAFE] and not tally.kinds[differ.BROKEN], report
    assert tally.kinds[differ.STRICT] <= 0.01 * tally.accepted, report


def test_what_is_made() -> None:
    made = [one for seed in range(150) if (one := generate_more.question(seed)) is not None]
    opcodes = {insn.opcode for one in made for insn in one.insns}
    helpers = {insn.imm for one in made for insn in one.insns if insn.opcode == op.CALL and not insn.src}
    assert {12, 87, 88, 89} <= helpers
    assert {op.GOTOL, op.BPF_ALU64 | op.BPF_END, op.BPF_LD | op.BPF_IND | op.BPF_B} <= opcodes


def test_strict_takes_some_of_them() -> None:
    """strict=True has rules of its own for tail calls and queues, and takes programs with them."""
    taken = 0
    for seed in range(60):
        question = generate_more.question(seed)
        if question is not None and judge(question, strict=True).accepted:
            taken += 1
            Run(question, seed, strict=True).run()
    assert taken > 5
