"""Generated programs: our verdict against the live kernel's.

``SKEP_SEED`` moves to other programs, ``SKEP_PROGRAMS`` changes how many (a long run: 20000),
``SKEP_VERIFIER_DIFFS`` names a folder for minimised disagreements.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support import oracles
from tests.verifier import generate
from tests.verifier.harness import differ
from tests.verifier.harness.kernel import lab

SEED = int(os.environ.get("SKEP_SEED", "1"))
COUNT = int(os.environ.get("SKEP_PROGRAMS", "2000"))
FOLDER = os.environ.get("SKEP_VERIFIER_DIFFS", "")


@pytest.mark.live
def test_verdicts_on_generated_programs() -> None:
    """Nothing is accepted that the kernel rejects; at most one in a hundred is rejected that it accepts."""
    oracles.bpf()
    print(f"SKEP_SEED={SEED}")
    tally = differ.Tally()
    shown: list[str] = []
    seeds = range(SEED * 1_000_000, SEED * 1_000_000 + COUNT)
    with lab() as live:
        for name, question, found in differ.run(live, ((s, generate.question(s)) for s in seeds), tally):
            if len(shown) < 5 or FOLDER:
                small = differ.shrunk(live, question, found, generate.bounded_work)
                again = differ.compare(live, small)
                shown.append(differ.text(small, again, name))
                if FOLDER:
                    differ.save(Path(FOLDER), small, again, name)
    report = tally.table() + "\n\n" + "\n".join(shown[:5])
    print(report)
    assert tally.accepted > 0.35 * COUNT, report
    assert tally.rejected > 0.2 * COUNT, report
    assert not tally.kinds[differ.UNSAFE], report
    assert not tally.kinds[differ.BROKEN], report
    assert tally.kinds[differ.STRICT] <= 0.01 * tally.accepted, report


def test_the_same_seed_gives_the_same_program() -> None:
    assert [generate.question(seed) for seed in range(50)] == [generate.question(seed) for seed in range(50)]


def test_programs_do_many_things() -> None:
    """The generator reaches the instructions, helpers and program types it means to."""
    made = [one for seed in range(600) if (one := generate.question(seed)) is not None]
    opcodes = {insn.opcode for one in made for insn in one.insns}
    helpers = {insn.imm for one in made for insn in one.insns if insn.opcode == 0x85 and not insn.src}
    assert len(opcodes) > 110
    assert {1, 2, 3, 25, 26, 28, 113, 131, 132} <= helpers
    assert len({one.prog_type for one in made}) == len(generate.SETTINGS)
    assert any(insn.opcode == 0x85 and insn.src == 1 for one in made for insn in one.insns)
