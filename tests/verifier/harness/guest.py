"""What runs inside an emulated kernel: questions written down outside, a line of JSON for each answer.

    python -m tests.verifier.harness.guest FILE [--unprivileged]

FILE is what `write` made: parsing cases and compiling their types is too slow in there. ``--unprivileged``
allows programs without privileges (it is the guest's own setting), makes the maps as root and asks from a
process without any capability.
"""

from __future__ import annotations

import ctypes
import json
import os
import pickle
import resource
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from skep.errors import KernelError, SkepError
from tests.verifier.harness.kernel import Lab, lab
from tests.verifier.harness.question import Answer, Question

MARK = "@@"
_NO_NEW_PRIVS = 38


def write(path: Path, asked: Iterable[tuple[str, Question]]) -> None:
    """Put questions into a file for `main`."""
    path.write_bytes(pickle.dumps(list(asked)))


def answers(output: str) -> dict[str, Answer | None]:
    """What the guest printed: name -> answer, None where nothing could be asked (a map it does not know)."""
    found: dict[str, Answer | None] = {}
    for line in output.splitlines():
        if MARK in line:
            name, accepted, reason, processed, errno = json.loads(line.partition(MARK)[2])
            found[name] = Answer(accepted, reason, errno, processed) if accepted is not None else None
    return found


def drop_everything() -> None:
    """No capability is left, and none comes back."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0)
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)


def tell(live: Lab, name: str, question: Question) -> None:
    row: list[Any]
    try:
        answer = live.ask(question)
        row = [name, answer.accepted, answer.reason, answer.processed, answer.errno]
    except (KernelError, SkepError, ValueError) as error:
        row = [name, None, f"{type(error).__name__}: {error}"[:200], 0, getattr(error, "errno", 0) or 0]
    sys.stdout.write(f"{MARK}{json.dumps(row)}\n")
    sys.stdout.flush()


def main() -> None:
    file, *words = sys.argv[1:]
    asked: list[tuple[str, Question]] = pickle.loads(Path(file).read_bytes())
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))  # 5.10
    with lab() as live:
        if "--unprivileged" in words:
            Path("/proc/sys/kernel/unprivileged_bpf_disabled").write_text("0\n")
            ready = []
            for name, question in asked:
                try:
                    live.code(question)  # makes the maps
                except (KernelError, SkepError, ValueError):
                    continue
                ready.append((name, question))
            asked = ready
            drop_everything()
        for name, question in asked:
            tell(live, name, question)


if __name__ == "__main__":
    main()
