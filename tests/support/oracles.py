"""Finding the tools and kernel features that tests compare with.

An absent one skips the test by name on a developer's machine and fails it under CI=true.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import shutil
import subprocess
from pathlib import Path
from typing import NoReturn

import pytest

CI = os.environ.get("CI", "").lower() in {"1", "true", "yes"}
ROOT = Path(__file__).resolve().parents[2]
_EXTRA_PATH = ["/usr/sbin", "/sbin", "/usr/local/sbin"]


def absent(what: str) -> NoReturn:
    """Skip by name, or fail under CI."""
    if CI:
        pytest.fail(f"CI requires {what}", pytrace=False)
    pytest.skip(f"needs {what}")


def tool(*names: str) -> str:
    """Path of the first of ``names`` that is installed (`tool("llvm-mc-19", "llvm-mc")`)."""
    path = os.pathsep.join([os.environ.get("PATH", ""), *_EXTRA_PATH])
    for name in names:
        found = shutil.which(name, path=path)
        if found:
            return found
    absent(" or ".join(names))


def captures() -> Path:
    """The folder of shared capture files."""
    folder = Path(os.environ.get("SKEP_CAPTURES", ROOT.parent / "shared" / "captures"))
    if not folder.is_dir():
        absent(f"the capture files in {folder} (SKEP_CAPTURES)")
    return folder


@functools.cache
def _bpf_answer() -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    # BPF_PROG_GET_NEXT_ID (11) from id 2**31 - 2: ENOENT where bpf(2) is allowed, EPERM/ENOSYS where not.
    attr = (ctypes.c_uint32 * 4)((1 << 31) - 2, 0, 0, 0)
    number = {"x86_64": 321, "aarch64": 280}.get(os.uname().machine, 321)
    libc.syscall(number, 11, ctypes.byref(attr), 16)
    return ctypes.get_errno()


def bpf() -> None:
    """Skip (fail under CI) unless bpf(2) is allowed here."""
    if _bpf_answer() != errno.ENOENT:
        absent("bpf(2) and the capabilities for it")


def netns() -> None:
    """Skip (fail under CI) unless network namespaces can be made here."""
    ip = tool("ip")
    name = f"skep-probe-{os.getpid()}"
    if subprocess.run([ip, "netns", "add", name], capture_output=True).returncode:
        absent("the right to make network namespaces")
    subprocess.run([ip, "netns", "del", name], capture_output=True, check=True)
