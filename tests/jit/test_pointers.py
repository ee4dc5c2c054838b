"""Pointers on their way through registers, joins, memory and calls, natively and interpreted."""

from __future__ import annotations

import os
import random

import pytest

from skep import jit, vm
from skep.errors import ExecutionError
from skep.llvm import available, warm
from tests.jit.pointers import CTX_BYTES, program

SEED = int(os.environ.get("SKEP_SEED", "1"))
COUNT = int(os.environ.get("SKEP_POINTERS", "150"))


def test_random_pointers() -> None:
    if not available():
        pytest.skip("needs llvmlite")
    warm()
    rng = random.Random(SEED)
    ended = stopped = 0
    for number in range(COUNT):
        seed = SEED * 1_000_000 + number
        insns = program(seed)
        level = rng.choice(("basic", "basic", "quick", "O1"))
        with jit.compile(insns, cached=False, level=level) as native:
            for _ in range(6):
                data = rng.randbytes(CTX_BYTES)
                results = []
                for engine in ("vm", "jit"):
                    ctx = bytearray(data)
                    try:
                        end: object = vm.run(insns, ctx) if engine == "vm" else native.run(ctx)
                        ended += 1
                    except ExecutionError as error:
                        end = (error.pc, "bounds" in error.reason, "aligned" in error.reason)
                        stopped += 1
                    results.append((end, bytes(ctx)))
                assert results[0] == results[1], f"SKEP_SEED={SEED}, program {seed}, {level}, {data.hex()}"
    assert min(ended, stopped) > COUNT, (ended, stopped)
