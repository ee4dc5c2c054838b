"""Programs whose ctx lies between pages that nobody may touch: ``python -m tests.jit.fences SEED COUNT``.

An access of native code outside ctx, also one that changes nothing, ends this process by a signal.
"""

from __future__ import annotations

import ctypes
import mmap
import random
import sys
from collections.abc import Callable

from skep import jit
from skep.errors import ExecutionError
from skep.isa import Insn
from skep.llvm import warm
from tests.jit import loops, pointers, searches, vectors
from tests.jit.shuffle import shuffled

MAKERS: tuple[Callable[[int], list[Insn]], ...] = (
    loops.program, vectors.program, searches.program, pointers.program,
)  # fmt: skip
PAGE = mmap.PAGESIZE


class Fenced:
    """A page of memory between two that are not there."""

    def __init__(self) -> None:
        self.map = mmap.mmap(-1, 3 * PAGE)
        libc = ctypes.CDLL(None, use_errno=True)
        base = ctypes.addressof(ctypes.c_char.from_buffer(self.map))
        for fence in (base, base + 2 * PAGE):
            if libc.mprotect(ctypes.c_void_p(fence), ctypes.c_size_t(PAGE), 0):
                raise OSError(ctypes.get_errno(), "mprotect")

    def ctx(self, data: bytes, *, at_end: bool) -> memoryview:
        """``data`` at the page's start or end."""
        start = 2 * PAGE - len(data) if at_end else PAGE
        view = memoryview(self.map)[start : start + len(data)]
        view[:] = data
        return view


def main(seed: int, count: int) -> int:
    warm()
    rng = random.Random(seed)
    fenced = Fenced()
    ends = {"result": 0, "stopped": 0}
    for number in range(count):
        insns = MAKERS[number % len(MAKERS)](seed * 1_000_000 + number)
        if rng.random() < 0.3:
            insns = shuffled(insns, number)
        with jit.compile(insns, cached=False, level=rng.choice(("flat", "basic", "O1"))) as native:
            for length in (8, 48, 200, 504, 904, 8 * rng.randrange(1, PAGE // 8)):
                data = searches.memory(rng, length) if rng.random() < 0.5 else rng.randbytes(length)
                for at_end in (True, False):
                    try:
                        native.run(
                            fenced.ctx(data, at_end=at_end), budget=rng.choice((1 << 62, 1 << 18, 400))
                        )
                        ends["result"] += 1
                    except ExecutionError:
                        ends["stopped"] += 1
    print(*ends.values())
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))
