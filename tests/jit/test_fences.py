"""Native code touches nothing outside ctx: pages that are not there lie before and behind it."""

from __future__ import annotations

import os
import subprocess
import sys

from skep.llvm import available
from tests.support.oracles import absent

SEED = os.environ.get("SKEP_SEED", "1")
COUNT = int(os.environ.get("SKEP_FENCED", "60"))


def test_nothing_outside_is_touched() -> None:
    if not available():
        absent("llvmlite")
    # In a process of its own, which such an access would end.
    ran = subprocess.run(
        [sys.executable, "-m", "tests.jit.fences", SEED, str(COUNT)],
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert ran.returncode == 0, f"SKEP_SEED={SEED}: status {ran.returncode}\n{ran.stderr}"
    returned, stopped = map(int, ran.stdout.split())
    assert returned > COUNT
    assert stopped > COUNT
