"""What a BPF program in Python is written with.

    from skep import bpf
    from skep.bpf import be32, u64

    packets = bpf.PerCpuHash(be32, u64, max_entries=65_536)

    @bpf.xdp
    def count(ctx: bpf.Xdp) -> int: ...

Types, struct and map declarations, hook decorators and global variables are records (this package is
light: no compiler, no kernel types). Every other name, ``bpf.task_struct``, ``bpf.pid``,
``bpf.XDP_PASS``, is looked up when first used: constants are numbers here too, the rest means something
inside programs only, and the compiler (`skep.lang`) resolves it. docs/language.md is the reference.
"""

from __future__ import annotations

from skep.bpf.globals import const, var
from skep.bpf.programs import program, subprog
from skep.bpf.struct import Struct, enum, struct, union, zero
from skep.bpf.types import (
    ArenaPtr,
    Dynptr,
    Kptr,
    ListHead,
    ListNode,
    Named,
    PerCpuKptr,
    RbNode,
    RbRoot,
    Refcount,
    ResSpinLock,
    SpinLock,
    TaskWork,
    Timer,
    Wq,
    array,
    be16,
    be32,
    be64,
    bits,
    char,
    lpm,
    ptr,
    raw,
    s8,
    s16,
    s32,
    s64,
    u8,
    u16,
    u32,
    u64,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = [
    "ArenaPtr",
    "Dynptr",
    "Kptr",
    "ListHead",
    "ListNode",
    "PerCpuKptr",
    "RbNode",
    "RbRoot",
    "Refcount",
    "ResSpinLock",
    "SpinLock",
    "Struct",
    "TaskWork",
    "Timer",
    "Wq",
    "array",
    "be16",
    "be32",
    "be64",
    "bits",
    "char",
    "const",
    "enum",
    "lpm",
    "program",
    "ptr",
    "raw",
    "s8",
    "s16",
    "s32",
    "s64",
    "struct",
    "subprog",
    "u8",
    "u16",
    "u32",
    "u64",
    "union",
    "var",
    "zero",
]

#: submodules: for these the import system must be told that there is no such attribute yet
_MODULES = ("arenas", "cgroups", "constants", "contexts", "globals", "maps", "programs", "types")
_MAPS = """
Array ArrayOfMaps BloomFilter CgroupArray CgrpStorage CpuMap DevMap DevMapHash Hash HashOfMaps InodeStorage
LpmTrie LruHash LruPerCpuHash Map PerCpuArray PerCpuHash PerfEventArray ProgArray Queue ReuseportSockArray
RingBuf SkStorage SockHash SockMap Stack StackTrace StructOps TaskStorage UserRingBuf XskMap
"""
#: those with a module of their own
_OTHER_MAPS = {"Arena": "arenas", "CgroupStorage": "cgroups", "PerCpuCgroupStorage": "cgroups"}


def __getattr__(name: str) -> Any:
    if name.startswith("__") or name in _MODULES:
        raise AttributeError(f"module 'skep.bpf' has no attribute {name!r}")
    if name in _MAPS.split():
        from skep.bpf import maps

        return getattr(maps, name)
    if name in _OTHER_MAPS:
        from importlib import import_module

        return getattr(import_module(f"skep.bpf.{_OTHER_MAPS[name]}"), name)
    if name.isupper():
        from skep.bpf.constants import constant

        value = constant(name)
        return Named(name) if value is None else value
    from skep.bpf.programs import hook

    return hook(name) or Named(name)
