"""What strict=True accepts runs as unchecked native code with the results of the checked interpreter.

Annotations are held against every instruction that is executed. ``SKEP_SEED`` moves to other programs;
``python -m tests.verifier.native`` is the long form. An access outside of memory ends the child by a signal.
"""

from __future__ import annotations

import os
import subprocess
import sys

from skep.isa import Insn
from skep.isa import opcodes as op
from skep.uapi.enums import ProgType
from skep.verifier import check
from tests.support.oracles import ROOT
from tests.verifier.harness.concrete import Run, Violation
from tests.verifier.harness.ours import subject_of
from tests.verifier.harness.question import Question

SEED = int(os.environ.get("SKEP_SEED", "1"))
COUNT = int(os.environ.get("SKEP_PROGRAMS", "2000")) // 20


def test_accepted_programs_as_native_code() -> None:
    print(f"SKEP_SEED={SEED}")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "tests.verifier.native", "--tell"),
            *("--programs", str(COUNT), "--seed", str(SEED), "--inputs", "3"),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    lines = done.stdout.splitlines()
    assert not done.returncode, f"status {done.returncode}, last: {lines[-3:]}\n{done.stderr[-1500:]}"
    accepted = int(lines[-1].split(" programs, ")[1].split()[0])
    assert accepted > COUNT // 8, lines[-1]


def test_a_wrong_annotation_is_found() -> None:
    """The checks of annotations are no formality: each kind of lie is noticed."""
    store = Insn(op.BPF_ST | op.BPF_MEM | op.BPF_DW, 10, 0, -8, 1)
    load = Insn(op.BPF_LDX | op.BPF_MEM | op.BPF_DW, 0, 10, -8, 0)
    question = Question([store, load, Insn(op.EXIT)], ProgType.SOCKET_FILTER)

    def outcome(change: str) -> str:
        notes = check(subject_of(question), strict=True, annotate=True).annotations
        first, second = notes[0], notes[1]
        assert first is not None and second is not None
        if change == "kind":
            second.operands[10].kinds = {int(first.operands[10].base) - 1}
        elif change == "offset":
            second.operands[10].low = second.operands[10].high = -8
        elif change == "edge":
            first.following = {2}
        elif change == "reached":
            notes[1] = None
        try:
            Run(question, 1, strict=True, annotations=notes).run()
        except Violation as error:
            return str(error)
        return ""

    assert not outcome("")
    assert "annotated as" in outcome("kind")
    assert "annotated as" in outcome("offset")
    assert "follows" in outcome("edge")
    assert "never reached" in outcome("reached")
