"""The installed tcpdump, asked the way skep is asked."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import NamedTuple

from tests.support.oracles import tool


class Answer(NamedTuple):
    """Exit status, the output file's bytes (None when there is none), and standard error."""

    status: int
    output: bytes | None
    errors: str


def copy(capture: Path, target: Path, expression: str, *options: str) -> Answer:
    """``tcpdump -r capture -w target expression``."""
    # -Z root keeps the right to write where the test may.
    done = subprocess.run(
        [tool("tcpdump"), "-Z", "root", *options, "-r", str(capture), "-w", str(target), expression],
        capture_output=True,
        timeout=60,
    )
    output = target.read_bytes() if target.exists() else None
    return Answer(done.returncode, output, done.stderr.decode("utf-8", "replace"))


def count(capture: Path, expression: str) -> int:
    """How many packets of ``capture`` match."""
    done = subprocess.run(
        [tool("tcpdump"), "-Z", "root", "--count", "-r", str(capture), expression],
        capture_output=True,
        text=True,
        timeout=60,
    )
    return int(done.stdout.split()[0])
