"""Timing native code: rounds that alternate between the candidates, so that noise hits all alike."""

from __future__ import annotations

import ctypes
import random
import statistics
from pathlib import Path
from typing import NamedTuple

CTX_BYTES = 1504


class State(ctypes.Structure):
    """What `skep.jit.lower` calls the state."""

    _fields_ = (
        ("budget", ctypes.c_int64),
        ("stopped", ctypes.c_uint64),
        ("helpers", ctypes.c_void_p),
    )


class Timing(NamedTuple):
    """Nanoseconds a call: the least, and the median of the rounds."""

    least: float
    median: float


class Driver:
    """The C loop that calls a kernel."""

    def __init__(self, path: Path) -> None:
        self.library = ctypes.CDLL(str(path))
        self._drive = self.library.drive
        self._drive.restype = ctypes.c_uint64
        word = ctypes.c_uint64
        self._drive.argtypes = (
            ctypes.c_void_p,
            ctypes.c_void_p,
            word,
            ctypes.c_void_p,
            word,
            ctypes.c_void_p,
        )
        helper = ctypes.cast(self.library.helper, ctypes.c_void_p).value
        assert helper is not None
        self.helper = helper
        self.table = (ctypes.c_void_p * 1)(helper)

    def once(self, kernel: int, ctx: ctypes.Array[ctypes.c_char], turns: int) -> tuple[int, float]:
        """(sum of the results, nanoseconds for all turns)."""
        state = State(1 << 32, 0, ctypes.addressof(self.table))
        took = ctypes.c_double()
        total = self._drive(kernel, ctx, len(ctx), ctypes.addressof(state), turns, ctypes.addressof(took))
        if state.stopped:
            raise SystemExit(f"stopped: reason {state.stopped >> 32}, insn {state.stopped & 0xFFFFFFFF}")
        return total, took.value

    def compare(self, kernels: dict[str, int], data: bytes, rounds: int) -> dict[str, Timing]:
        """Time every kernel on its own copy of ``data``; all must give the same results and memory."""
        copies = {name: _aligned(data) for name in kernels}
        results = {name: self.once(address, copies[name], 3)[0] for name, address in kernels.items()}
        if len(set(results.values())) > 1 or len({copy.raw for copy in copies.values()}) > 1:
            raise SystemExit(f"results differ: {results}")
        first = next(iter(kernels))
        _, took = self.once(kernels[first], copies[first], 100)
        turns = max(3, int(1.0e6 / max(took / 100, 1.0)))
        samples: dict[str, list[float]] = {name: [] for name in kernels}
        for _ in range(rounds):
            for name, address in kernels.items():
                samples[name].append(self.once(address, copies[name], turns)[1] / turns)
        return {name: Timing(min(times), statistics.median(times)) for name, times in samples.items()}


def _aligned(data: bytes) -> ctypes.Array[ctypes.c_char]:
    """A copy that starts with a cache line, as every candidate's does: vectors across lines cost more."""
    room = ctypes.create_string_buffer(len(data) + 63)
    start = -ctypes.addressof(room) % 64
    copy = (ctypes.c_char * len(data)).from_buffer(room, start)
    copy.raw = data
    return copy


def context(kernel: str) -> bytes:
    """The memory a kernel works on (the same for every run)."""
    rng = random.Random(kernel)
    data = bytearray(rng.randbytes(CTX_BYTES))
    if kernel == "strcmp":
        half = bytes(rng.randrange(1, 256) for _ in range(CTX_BYTES // 2))
        data[:] = half + half
    elif kernel == "parse":
        for at in range(0, CTX_BYTES - 63, 64):
            data[at + 12 : at + 15] = b"\x08\x00\x45"
            data[at + 20 : at + 22] = b"\x00\x00"
            data[at + 23] = rng.choice((6, 17, 6, 1))
    elif kernel == "log2":
        for at in range(0, CTX_BYTES, 8):
            data[at : at + 8] = (rng.getrandbits(64) >> rng.randrange(64)).to_bytes(8, "little")
    elif kernel == "prime":
        data[0] = 200
    return bytes(data)
