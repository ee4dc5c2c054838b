"""Filters as x86-64 machine code, written here: no compiler to load, so a first run is as quick as the next.

`skep.tap.scanir` does the same through LLVM for other processors, with the same functions and states.
"""

from __future__ import annotations

TYPE_CHECKING = False  # `typing` itself is not imported: it costs a warm run 5 ms
if TYPE_CHECKING:
    from collections.abc import Sequence

    from skep.isa import ClassicInsn


FUNCTIONS = ("walk", "guess", "match")


def assemble(insns: Sequence[ClassicInsn], *, swapped: bool) -> tuple[bytes, dict[str, int]]:
    """Position-independent code, and where in it its FUNCTIONS are.

    ``swapped``: the record headers are not in this machine's byte order.

    Raises:
        VerifierError: the program is not legal, or reads data that captured packets do not have.
    """
    from skep.tap.x86.code import Code
    from skep.tap.x86.guess import write_guess
    from skep.tap.x86.judge import Judge
    from skep.tap.x86.walk import write_match, write_walk

    code = Code()
    write_walk(code, swapped=swapped)
    write_guess(code, swapped=swapped)
    write_match(code)
    Judge(code, insns).write()
    data = code.finish()
    return data, {name: code.place(name) for name in FUNCTIONS}
