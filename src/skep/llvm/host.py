"""What this machine is, without LLVM: the facts that decide whether cached native code fits it."""

from __future__ import annotations

import os
import sys

try:  # what `importlib.machinery` has it from, which takes a warm start 1 ms
    from _frozen_importlib_external import PathFinder
except ImportError:
    from importlib.machinery import PathFinder

_MODALIAS = "/sys/devices/system/cpu/modalias"
_CPUINFO = "/proc/cpuinfo"
_CPUINFO_KEYS = (b"vendor_id", b"cpu family", b"model\t", b"flags", b"Features", b"CPU ")


def processor() -> bytes | None:
    """Bytes that name the processor's architecture, model and features; None when they cannot be read.

    The kernel's ``modalias`` line carries every feature bit and costs one short read;
    ``/proc/cpuinfo`` (up to 10 ms on some kernels) is the second choice.
    """
    machine = os.uname().machine.encode()
    try:
        with open(_MODALIAS, "rb", buffering=0) as file:
            text = file.read(1 << 16)
        if text:
            return machine + b"\n" + text
    except OSError:
        pass
    try:
        with open(_CPUINFO, "rb") as file:
            first = file.read(1 << 14).split(b"\n\n", 1)[0]
    except OSError:
        return None
    lines = [line for line in first.split(b"\n") if line.startswith(_CPUINFO_KEYS)]
    return machine + b"\n" + b"\n".join(lines) if lines else None


def llvmlite_home() -> str | None:
    """The directory that holds the llvmlite package, found without importing it; None without one."""
    loaded = sys.modules.get("llvmlite")
    if loaded is not None and loaded.__file__:
        return os.path.dirname(os.path.dirname(loaded.__file__))
    spec = PathFinder.find_spec("llvmlite")
    if spec is None or not spec.origin:
        return None
    return os.path.dirname(os.path.dirname(spec.origin))


def llvm_version() -> bytes | None:
    """Bytes that change with the installed llvmlite, and so with its LLVM; None without one."""
    home = llvmlite_home()
    if home is None:
        return None
    try:
        with open(os.path.join(home, "llvmlite", "_version.py"), "rb") as file:
            return file.read()
    except OSError:
        return None
