"""The search for the beginnings of records as x86-64 machine code.

``guess(places, count, data, size, first, bounds)``
    For each of ``count`` (at least one) offsets in ``places``: the next one in ``data`` (``size`` bytes) that
    `skep.tap.layout.Guessing` finds plausible, or -1, takes its place.
"""

from __future__ import annotations

from skep.tap.layout import RECORD_HEADER, Guessing
from skep.tap.x86 import code as x
from skep.tap.x86.code import Code, Mem

_PLACES, _COUNT, _DATA, _SIZE, _FIRST, _UNITS = x.RDI, x.RSI, x.RDX, x.RCX, x.R8, x.R9
_AT, _BEFORE = x.R10, x.R11
_SAVED = (x.RBX, x.RBP, x.R12, x.R13, x.R14, x.R15)
_TURN, _WIRELEN, _LIMIT, _WINDOW, _WINDOW_SIZE, _CANDIDATE = _SAVED


def write_guess(code: Code, *, swapped: bool) -> None:
    """Write ``guess``; ``swapped``: the record headers are in the other byte order."""
    code.label("guess")
    for register in _SAVED:
        code.push(register)
    code.op(x.MOV, _LIMIT, _UNITS, wide=True)
    code.op(x.SHIFT, x.G_SHR, _LIMIT, wide=True, tail=bytes((32,)))
    code.label("place")
    code.op(x.MOV, x.RAX, Mem(_PLACES), wide=True)
    code.op(x.MOV, _WINDOW_SIZE, _SIZE, wide=True)
    code.op(x.SUB, _WINDOW_SIZE, x.RAX, wide=True)
    code.jump("no place", x.B)
    code.op(x.LEA, _WINDOW, Mem(_DATA, 0, x.RAX), wide=True)
    code.group(x.G_CMP, _WINDOW_SIZE, Guessing.WINDOW, wide=True)
    code.jump("window", x.BE)
    code.constant(_WINDOW_SIZE, Guessing.WINDOW)
    code.label("window")
    code.constant(_CANDIDATE, 0)
    code.jump("first candidate")
    code.label("implausible")
    code.group(x.G_ADD, _CANDIDATE, 1, wide=True)
    code.label("first candidate")
    code.op(x.LEA, x.RAX, Mem(_CANDIDATE, RECORD_HEADER), wide=True)
    code.op(x.CMP, x.RAX, _WINDOW_SIZE, wide=True)
    code.jump("no place", x.A)
    code.op(x.MOV, _AT, _CANDIDATE, wide=True)
    code.op(x.MOV, _BEFORE, _FIRST)
    code.constant(_TURN, 0)
    _write_chain(code, swapped)
    code.label("plausible")
    code.op(x.ADD, _CANDIDATE, Mem(_PLACES), wide=True)
    code.label("next place")
    code.op(x.STORE, _CANDIDATE, Mem(_PLACES), wide=True)
    code.group(x.G_ADD, _PLACES, 8, wide=True)
    code.group(x.G_SUB, _COUNT, 1, wide=True)
    code.jump("place", x.NE)
    for register in reversed(_SAVED):
        code.pop(register)
    code.ret()
    code.label("no place")
    code.constant(_CANDIDATE, 0)
    code.group(x.G_SUB, _CANDIDATE, 1, wide=True)
    code.jump("next place")
    code.label("window ends")
    code.group(x.G_CMP, _TURN, Guessing.LEAST)
    code.jump("plausible", x.AE)
    code.jump("implausible")


def _write_chain(code: Code, swapped: bool) -> None:
    """Headers in a row from the candidate on; falls through when all are plausible."""

    def word(reg: int, offset: int) -> None:
        code.op(x.MOV, reg, Mem(_WINDOW, offset, _AT))
        if swapped:
            code.bswap(reg)

    code.label("header")
    code.op(x.LEA, x.RAX, Mem(_AT, RECORD_HEADER), wide=True)
    code.op(x.CMP, x.RAX, _WINDOW_SIZE, wide=True)
    code.jump("window ends", x.A)
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
    code.op(x.ADD, _AT, x.RAX, wide=True)
    code.group(x.G_ADD, _AT, RECORD_HEADER, wide=True)
    code.group(x.G_ADD, _TURN, 1)
    code.group(x.G_CMP, _TURN, Guessing.CHAIN)
    code.jump("header", x.B)
