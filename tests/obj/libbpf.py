"""libbpf itself, through ctypes: to relocate against the types of other kernels, which bpftool cannot."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from skep.linux.kernel import LinuxKernel
from tests.obj.support import by_name, xlated
from tests.support import oracles


class _OpenOpts(ctypes.Structure):
    _fields_ = [
        ("sz", ctypes.c_size_t),
        ("object_name", ctypes.c_char_p),
        ("relaxed_maps", ctypes.c_bool),
        ("pin_root_path", ctypes.c_char_p),
        ("reserved", ctypes.c_long),
        ("kconfig", ctypes.c_char_p),
        ("btf_custom_path", ctypes.c_char_p),
    ]


def library() -> Any:
    try:
        lib = ctypes.CDLL("libbpf.so.1")
    except OSError:
        oracles.absent("libbpf.so.1")
    lib.libbpf_set_print(None)
    for name in ("bpf_object__open_file", "bpf_object__next_program", "bpf_object__find_map_by_name"):
        getattr(lib, name).restype = ctypes.c_void_p
    lib.bpf_program__name.restype = ctypes.c_char_p
    lib.bpf_object__open_file.argtypes = [ctypes.c_char_p, ctypes.c_void_p]
    lib.bpf_object__next_program.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    lib.bpf_object__find_map_by_name.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    for name in ("load", "close"):
        getattr(lib, f"bpf_object__{name}").argtypes = [ctypes.c_void_p]
    for name in ("bpf_program__name", "bpf_program__fd", "bpf_map__fd"):
        getattr(lib, name).argtypes = [ctypes.c_void_p]
    lib.bpf_program__set_autoload.argtypes = [ctypes.c_void_p, ctypes.c_bool]
    return lib


class Loaded:
    """An object that libbpf loaded."""

    def __init__(self, lib: Any, handle: int) -> None:
        self._lib = lib
        self._handle = handle

    def code(self, names: set[str]) -> dict[str, list[tuple[Any, ...]]]:
        """The named programs' instructions as the kernel has them, maps by their number of use."""
        kernel = LinuxKernel()
        found = {}
        program = None
        while program := self._lib.bpf_object__next_program(self._handle, program):
            name = self._lib.bpf_program__name(program).decode()
            if name in names:
                found[name] = by_name(xlated(kernel, self._lib.bpf_program__fd(program)), {})
        return found

    def map_value(self, name: str, size: int) -> bytes:
        """The value of a one-element array."""
        found = self._lib.bpf_object__find_map_by_name(self._handle, name.encode())
        value = bytearray(size)
        LinuxKernel().map_lookup_elem(self._lib.bpf_map__fd(found), bytes(4), value)
        return bytes(value)


@contextlib.contextmanager
def loaded(path: Path, programs: set[str], btf: Path | None = None) -> Iterator[Loaded]:
    """``path`` loaded, only these ``programs`` of it, relocated against the types in the file ``btf``."""
    lib = library()
    opts = _OpenOpts(sz=ctypes.sizeof(_OpenOpts))
    opts.btf_custom_path = str(btf).encode() if btf is not None else None
    handle = lib.bpf_object__open_file(str(path).encode(), ctypes.byref(opts))
    assert handle, f"libbpf cannot open {path}"
    try:
        program = None
        while program := lib.bpf_object__next_program(handle, program):
            lib.bpf_program__set_autoload(program, lib.bpf_program__name(program).decode() in programs)
        assert lib.bpf_object__load(handle) == 0, f"libbpf cannot load {path} with {btf}"
        yield Loaded(lib, handle)
    finally:
        lib.bpf_object__close(handle)
