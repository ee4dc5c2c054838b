"""Building the C inputs of these tests, and watching descriptors."""

from __future__ import annotations

import atexit
import functools
import gc
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support import oracles

HERE = Path(__file__).resolve().parent


def build(name: str, *flags: str) -> str:
    """Compile ``c/NAME.c``, once for each set of flags in a test run; the object's path."""
    clang = oracles.tool("clang-19", "clang")
    out = _folder() / f"{name}{''.join(flags)}.o"
    if not out.exists():
        include = f"/usr/include/{os.uname().machine}-linux-gnu"
        words = ["-target", "bpf", "-g", "-O2", "-mcpu=v3", "-Wno-ignored-attributes", f"-I{include}", *flags]
        subprocess.run([clang, *words, "-c", str(HERE / "c" / f"{name}.c"), "-o", str(out)], check=True)
    return str(out)


@functools.cache
def _folder() -> Path:
    """This process's, which nobody has written to before."""
    folder = Path(tempfile.mkdtemp(prefix=f"skep-kernel-tests-{os.getpid()}-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def descriptors() -> dict[str, str]:
    """Every open descriptor and what it is."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[name] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue  # that of the listing
    return found


@contextmanager
def no_leaks() -> Iterator[None]:
    """Fail when a ``with`` block leaves a descriptor of BPF or perf open, or any mapping of one."""
    before, maps_before = descriptors(), _mappings()
    yield
    gc.collect()
    left = {fd: what for fd, what in descriptors().items() if before.get(fd) != what}
    assert not left, f"left open: {left}"
    assert _mappings() <= maps_before, f"left mapped: {_mappings() - maps_before}"


def _mappings() -> set[str]:
    lines = Path("/proc/self/maps").read_text().splitlines()
    return {line for line in lines if "anon_inode" in line or "bpf" in line.rsplit(" ", 1)[-1]}
