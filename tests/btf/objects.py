"""What the BTF tests read: clang's objects, and what bpftool says of them."""

from __future__ import annotations

import ctypes
import functools
import os
import subprocess
from pathlib import Path

from skep.btf import Btf
from tests.elf.clang import compile_c
from tests.support import oracles

SOURCES = sorted((Path(__file__).parent / "c").glob("*.c"))
NAMES = [path.stem for path in SOURCES]
KERNEL = Path("/sys/kernel/btf/vmlinux")


def compiled(name: str, folder: Path, *flags: str, target: str = "bpfel") -> Path:
    """The object of tests/btf/c/``name``.c."""
    source = Path(__file__).parent / "c" / f"{name}.c"
    every = ("-O2", "-g", "-Wno-everything", *flags)
    return compile_c(source, folder / f"{name}-{target}.o", *every, target=target)


def kernel() -> Path:
    """The running kernel's BTF file."""
    if not KERNEL.exists():
        oracles.absent(f"{KERNEL} (CONFIG_DEBUG_INFO_BTF)")
    return KERNEL


def bpftool(*args: str | Path) -> str:
    """What bpftool prints."""
    done = subprocess.run([oracles.tool("bpftool"), *map(str, args)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@functools.cache
def bpftool_knows_modes() -> bool:
    """Whether the installed bpftool prints ``mode(byte)`` on one-byte enums (libbpf 1.1 and later do)."""
    from skep.btf import BtfBuilder
    from skep.btf.types import Enum, EnumValue

    builder = BtfBuilder()
    builder.add(Enum("probe", 1, [EnumValue("PROBE", 1)]))
    path = Path(f"/tmp/skep-btf-probe-{os.getpid()}")
    path.write_bytes(builder.build())
    try:
        return "mode(byte)" in bpftool("btf", "dump", "file", path, "format", "c")
    finally:
        path.unlink()


def load_btf(data: bytes) -> str:
    """Give BTF to the kernel: "" when it takes it, else the kernel's log. Needs bpf(2)."""
    libc = ctypes.CDLL(None, use_errno=True)
    number = {"x86_64": 321, "aarch64": 280}[os.uname().machine]
    blob = ctypes.create_string_buffer(data, len(data))
    log = ctypes.create_string_buffer(1 << 20)
    attr = (ctypes.c_uint64 * 4)(ctypes.addressof(blob), ctypes.addressof(log), len(data) | len(log) << 32, 1)
    fd = libc.syscall(number, 18, ctypes.byref(attr), 28)
    if fd >= 0:
        os.close(fd)
        return ""
    error = ctypes.get_errno()
    return f"{os.strerror(error)}: {log.value.decode(errors='replace')}"


def all_types(btf: Btf) -> list[object]:
    """Every own type, decoded."""
    return [value for _, value in btf.items()]
