"""What a version of Linux takes at all: sizes, and what the instruction set and the verifier learned when."""

from __future__ import annotations

from typing import Final, NamedTuple

Version = tuple[int, int]


#: calls nested so deep at most, in any version
MAX_FRAMES: Final = 16
MORE_FRAMES: Final = (7, 2)


class Limits(NamedTuple):
    """``program``: instructions of a program, ``processed``: instructions simulated,
    ``pending``: branches that wait; ``frames`` and ``stack`` bytes are those of a chain of calls."""

    program: int
    processed: int
    pending: int
    maps: int
    subprogs: int
    frames: int
    stack: int


def limits(kernel: Version, privileged: bool = True) -> Limits:
    """The limits of Linux ``kernel``."""
    program = 1_000_000 if kernel >= (5, 2) and privileged else 4096
    if kernel >= (5, 2):
        processed = 1_000_000
    elif kernel >= (4, 15):
        processed = 131_072
    elif kernel >= (4, 14):
        processed = 98_304
    elif kernel >= (4, 7):
        processed = 65_536
    else:
        processed = 32_768
    pending = 8192 if kernel >= (5, 2) else 1024
    frames = MAX_FRAMES if kernel >= MORE_FRAMES else 8
    return Limits(program, processed, pending, 64, 256, frames, 512)


#: what a program needs -> the first version that has it
FEATURES: Final[dict[str, Version]] = {
    "bpf-to-bpf calls": (4, 16),
    "JLT, JLE, JSLT, JSLE": (4, 14),
    "32-bit jumps": (5, 1),
    "bounded loops": (5, 3),
    "global functions": (5, 6),
    "tail calls in subprograms": (5, 10),
    "atomic fetch, exchange and compare": (5, 12),
    "atomic and, or, xor": (5, 12),
    "callbacks": (5, 13),
    "kernel variables by BTF id": (5, 10),
    "calls of kernel functions": (5, 13),
    "dynptrs": (5, 19),
    "open-coded iterators": (6, 4),
    "sign-extending loads and moves": (6, 6),
    "signed division": (6, 6),
    "byte swaps of either order": (6, 6),
    "jumps with 32-bit offsets": (6, 6),
    "exceptions": (6, 7),
    "arguments of global functions with tags": (6, 8),
    "arenas": (6, 9),
    "address space casts": (6, 9),
    "may_goto": (6, 9),
    "load-acquire and store-release": (6, 15),
    "indirect jumps": (6, 19),
    "per-CPU addresses": (6, 10),
    "map values addressed directly": (5, 2),
    "maps named by index": (5, 14),
    "lookups that are known to succeed": (6, 15),
    "untrusted reads through pointers to numbers": (6, 17),
}

#: releases that differ in what they take, oldest first
VERSIONS: Final[tuple[Version, ...]] = (
    (4, 4),
    (4, 9),
    (4, 14),
    (4, 15),
    (4, 16),
    (4, 17),
    (4, 18),
    (4, 19),
    (4, 20),
    *((5, minor) for minor in range(20)),
    *((6, minor) for minor in range(20)),
    *((7, minor) for minor in range(4)),
)
