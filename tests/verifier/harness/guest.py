"""What runs inside an emulated kernel: cases and generated programs, a line of JSON for each answer.

    python -m tests.verifier.harness.guest [--unprivileged] [--generated FIRST COUNT] [--cases]

``--unprivileged`` allows programs without privileges (it is the guest's own setting), makes the maps as root
and asks from a process without any capability.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from skep.errors import KernelError, SkepError
from tests.verifier import generate
from tests.verifier.harness.cases import read_file
from tests.verifier.harness.kernel import Lab, lab
from tests.verifier.harness.question import Question

MARK = "@@"
CASES = Path(__file__).resolve().parents[1] / "cases"
_NO_NEW_PRIVS = 38


def questions(words: list[str]) -> Iterator[tuple[str, Question]]:
    """(name, question) of what the words ask for."""
    if "--cases" in words:
        for file in sorted(CASES.glob("*.txt")):
            for case in read_file(file):
                yield f"{case.file}: {case.name}", case.question
    if "--generated" in words:
        at = words.index("--generated")
        first, count = int(words[at + 1]), int(words[at + 2])
        for seed in range(first, first + count):
            made = generate.question(seed)
            if made is not None:
                yield f"seed {seed}", made


def drop_everything() -> None:
    """No capability is left, and none comes back."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0)
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)


def tell(live: Lab, name: str, question: Question) -> None:
    try:
        answer = live.ask(question)
        row = [name, answer.accepted, answer.reason, answer.processed, answer.errno]
    except (KernelError, SkepError, ValueError) as error:
        row = [name, None, f"{type(error).__name__}: {error}"[:200], 0, getattr(error, "errno", 0) or 0]
    sys.stdout.write(f"{MARK}{json.dumps(row)}\n")
    sys.stdout.flush()


def main() -> None:
    words = sys.argv[1:]
    asked = list(questions(words))
    with lab() as live:
        if "--unprivileged" in words:
            Path("/proc/sys/kernel/unprivileged_bpf_disabled").write_text("0\n")
            ready = []
            for name, question in asked:
                try:
                    live.code(question)  # makes the maps
                    ready.append((name, question))
                except (KernelError, SkepError, ValueError):
                    continue
            asked = ready
            drop_everything()
        for name, question in asked:
            tell(live, name, question)


if __name__ == "__main__":
    main()
