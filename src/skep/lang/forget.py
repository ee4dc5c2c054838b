"""Loops through packets that the verifier can follow: what a turn leaves behind is forgotten.

A cursor that moves by what lies in the packet has another range of offsets on every path through every turn,
and the verifier follows each combination of them. Where such a turn begins, the cursor and the other numbers
that turns hand on get a zero added that the verifier does not know, and are bounded again by what the
compiler knows of them: all paths to the same turn are then alike, and one of them is followed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from skep.lang.scope import Env
from skep.lang.values import INT

if TYPE_CHECKING:
    from skep.lang.walk import Walker

#: a variable that nothing sets
_ZERO: Final = "skep_zero"
_CURSOR: Final = "%cursor"
_MOST: Final = 1 << 32


def carried(c: Walker, head: Env, back: list[Env]) -> list[str]:
    """The numbers that turns of a loop hand on, where a cursor is among them; else none."""
    names = [
        name
        for name, value in head.items()
        if value.type is INT
        and value.place
        and value.const is None
        and any(env.get(name) is not value for env in back)
    ]
    if c.unit.target != "bpf" or not any(name.startswith(_CURSOR) for name in names):
        return []
    return names


def forget(c: Walker, names: list[str]) -> None:
    """Make the verifier forget what it knows of these variables but for the bounds that are known here."""
    for name in names:
        bound = c.env.get(name)
        if bound is None or bound.type is not INT or not bound.place:
            continue
        zero = c.em.op(f"load volatile i64, ptr {c.unit.zero_variable(_ZERO)}, align 8")
        now = c.opaque(c.em.op(f"add i64 {c.em.op(f'load i64, ptr {bound.place}')}, {zero}"))
        c.em.do(f"store i64 {now}, ptr {bound.place}")
        if bound.lo >= 0 and bound.hi < _MOST:
            c.abort_unless(c.em.op(f"icmp ule i64 {now}, {bound.hi}"))
