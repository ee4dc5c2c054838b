"""The search for a record's beginning as x86-64 machine code.

``guess(data, size, first, limit, units)``
    The offset of the first place in ``size`` bytes that `skep.tap.layout.Guessing` finds plausible, else -1.
"""

from __future__ import annotations

from skep.tap.layout import RECORD_HEADER, Guessing
from skep.tap.x86 import code as x
from skep.tap.x86.code import Code, Mem

_DATA, _SIZE, _FIRST, _LIMIT, _UNITS = x.RDI, x.RSI, x.RDX, x.RCX, x.R8
_CANDIDATE, _PLACE, _BEFORE, _TURN, _WIRELEN = x.R9, x.R10, x.R11, x.RBX, x.RBP


def write_guess(code: Code, *, swapped: bool) -> None:
    """Write ``guess``; ``swapped``: the record headers are in the other byte order."""

    def word(reg: int, offset: int) -> None:
        code.op(x.MOV, reg, Mem(_DATA, offset, _PLACE))
        if swapped:
            code.bswap(reg)

    code.label("guess")
    code.push(_TURN)
    code.push(_WIRELEN)
    code.constant(_CANDIDATE, 0)
    code.label("candidate")
    code.op(x.MOV, _PLACE, _CANDIDATE, wide=True)
    code.op(x.MOV, _BEFORE, _FIRST)
    code.constant(_TURN, 0)
    code.label("header")
    code.op(x.LEA, x.RAX, Mem(_PLACE, RECORD_HEADER), wide=True)
    code.op(x.CMP, x.RAX, _SIZE, wide=True)
    code.jump("bytes end", x.A)
    word(x.RAX, 0)
    code.op(x.SUB, _BEFORE, x.RAX)
    code.group(x.G_ADD, _BEFORE, Guessing.FAR - 1)
    code.group(x.G_CMP, _BEFORE, 2 * Guessing.FAR - 2)
    code.jump("implausible", x.A)
    code.op(x.MOV, _BEFORE, x.RAX)
    word(x.RAX, 4)
    code.op(x.CMP, x.RAX, _UNITS)
    code.jump("implausible", x.AE)
    word(x.RAX, 8)
    code.op(x.CMP, x.RAX, _LIMIT)
    code.jump("implausible", x.A)
    word(_WIRELEN, 12)
    code.op(x.CMP, x.RAX, _WIRELEN)
    code.jump("implausible", x.A)
    code.group(x.G_CMP, _WIRELEN, Guessing.LONGEST)
    code.jump("implausible", x.A)
    code.op(x.ADD, _PLACE, x.RAX, wide=True)
    code.group(x.G_ADD, _PLACE, RECORD_HEADER, wide=True)
    code.group(x.G_ADD, _TURN, 1)
    code.group(x.G_CMP, _TURN, Guessing.CHAIN)
    code.jump("header", x.B)
    code.label("plausible")
    code.op(x.MOV, x.RAX, _CANDIDATE, wide=True)
    code.label("guessed")
    code.pop(_WIRELEN)
    code.pop(_TURN)
    code.ret()
    code.label("bytes end")
    code.group(x.G_CMP, _TURN, Guessing.LEAST)
    code.jump("plausible", x.AE)
    code.label("implausible")
    code.group(x.G_ADD, _CANDIDATE, 1, wide=True)
    code.op(x.LEA, x.RAX, Mem(_CANDIDATE, RECORD_HEADER), wide=True)
    code.op(x.CMP, x.RAX, _SIZE, wide=True)
    code.jump("candidate", x.BE)
    code.group(x.G_OR, x.RAX, 0xFFFFFFFF, wide=True)
    code.jump("guessed")
