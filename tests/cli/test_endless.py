"""Inputs that never end are refused in one line, not read until memory is full."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "words",
    [
        ["asm", "/dev/zero"],
        ["disasm", "/dev/zero"],
        ["exec"],
        ["filter", "-d", "-F", "/dev/zero"],
        ["filter", "-d", "-F", "-"],
        ["filter", "-d", "host in /dev/zero"],
    ],
    ids=" ".join,
)
def test_endless_input(words: list[str]) -> None:
    with open("/dev/zero", "rb") as zero:
        done = subprocess.run(
            [sys.executable, "-m", "skep", *words], stdin=zero, capture_output=True, text=True, timeout=120
        )
    assert done.returncode == 1, done.stderr
    assert "larger than 64 MiB" in done.stderr
    assert "Traceback" not in done.stderr
