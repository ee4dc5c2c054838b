"""A mapped file that shrinks while it is read must not kill the reader."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from pathlib import Path

import pytest

from skep.tap.guard import Guard

SCRIPT = """
import ctypes, mmap, os, sys
from skep.tap.guard import Guard
guard = Guard()
if not guard.active:
    sys.exit(77)
fd = os.open(sys.argv[1], os.O_RDWR)
memory = mmap.mmap(fd, 0, mmap.MAP_SHARED, mmap.PROT_READ)
os.ftruncate(fd, 5000)
print(memory[0], memory[4999], memory[8192], memory[len(memory) - 1])
guard.close()
if len(sys.argv) > 2:
    memory[12288]
"""


def run(path: Path, *more: str) -> subprocess.CompletedProcess[str]:
    path.write_bytes(b"\x07" * 40960)
    done = subprocess.run([sys.executable, "-c", SCRIPT, str(path), *more], capture_output=True, text=True)
    if done.returncode == 77:
        pytest.skip("no SIGBUS handler for this processor")
    return done


def test_lost_pages_read_as_zeros(tmp_path: Path) -> None:
    done = run(tmp_path / "file")
    assert (done.returncode, done.stdout) == (0, "7 7 0 0\n"), done.stderr


def test_without_the_guard_the_process_dies(tmp_path: Path) -> None:
    """So the test above tests something, and close() puts the default back."""
    assert run(tmp_path / "file", "die").returncode == -7


def test_opening_and_closing_leaves_no_descriptor() -> None:
    gc.collect()  # what other tests left to the collector
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        Guard().close()
    assert len(os.listdir("/proc/self/fd")) == before
