"""Loops that the verifier can follow: what only some paths change is forgotten, but for its bounds.

A cursor that moves by what lies in the packet, or a number that is counted up under a condition, has another
value on every path through every turn, and the verifier follows each combination of them. Where such a turn
begins, and behind a loop with several ends, those variables are combined with a zero that the verifier does
not know, and are bounded again by what the compiler knows of them: all paths to the same place are then
alike, and one of them is followed.

Exclusive or, since kernels remember that a sum with a constant is linked to what it was added to.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from skep.lang.scope import Env
from skep.lang.uneven import Changes, compared, loaded_after
from skep.lang.values import BOOL, INT, Value

if TYPE_CHECKING:
    from skep.lang.walk import Walker

#: a variable that nothing sets
_ZERO: Final = "skep_zero"
_CURSOR: Final = "%cursor"
_MOST: Final = 1 << 32
#: so many different states of a loop's variables in all are left to the verifier
_FEW: Final = 256
#: so many in a turn are nothing
_SMALL: Final = 4


def zero(c: Walker) -> str:
    """A zero that the verifier does not know."""
    return c.zero_known or c.em.op(f"load i64, ptr {c.unit.zero_variable(_ZERO)}, align 8")


def carried(c: Walker, head: Env, back: list[Env], body: list[ast.stmt], turns: int) -> list[str]:
    """The variables that turns of a loop hand on, and that have to be forgotten for it to be followed.

    ``head`` are the variables where a turn begins, ``back`` where one ends; ``turns`` how often the
    verifier follows the body, with the loops around it.
    """
    if c.unit.target != "bpf":
        return []
    names = [
        name
        for name, value in head.items()
        if value.type in (INT, BOOL)
        and value.place
        and value.const is None
        and any(env.get(name) is not value for env in back)
    ]
    if any(name.startswith(_CURSOR) for name in names):
        return [name for name in names if head[name].type is INT]
    found = Changes(body)
    sizes = {}
    for name in names:
        own = name.removeprefix(c.scope.prefix)
        if own in found.uneven:
            domain = head[name].hi - head[name].lo + 1
            sizes[name] = min(domain, turns + 1 if own in found.counted else 1 << min(turns, 64))
    states = turns
    for size in sizes.values():
        states *= size
    return _large(sizes) if states > _FEW else []


def _large(sizes: dict[str, int]) -> list[str]:
    """The variables without the smallest, of which a few values may stay known."""
    made, states = [], 1
    for name, size in sorted(sizes.items(), key=lambda item: item[1]):
        states *= size
        if states > _SMALL:
            made.append(name)
    return made


def behind(c: Walker, node: ast.For | ast.While) -> None:
    """Forget, behind a loop that ends in different turns, in which turn it was."""
    if c.unit.target != "bpf" or not c.live:
        return
    known = Changes([node]).assigned | compared(node)
    names = known & loaded_after(c.scope.node, node)
    forget(c, [key for key in c.env if key.removeprefix(c.scope.prefix) in names and c.env[key].type is INT])


def forget(c: Walker, names: Sequence[str]) -> None:
    """Make the verifier forget what it knows of these variables but for the bounds that are known here."""
    for name in names:
        bound = c.env.get(name)
        if bound is None or not bound.place or bound.const is not None:
            continue
        if bound.type is INT:
            now = unknown(c, c.em.op(f"load i64, ptr {bound.place}"))
            c.em.do(f"store i64 {now}, ptr {bound.place}")
            bounded(c, bound, now)
        elif bound.type is BOOL:
            flag = c.em.op(f"zext i1 {c.em.op(f'load i1, ptr {bound.place}')} to i64")
            now = c.em.op(f"and i64 {unknown(c, flag)}, 1")
            c.em.do(f"store i1 {c.em.op(f'icmp ne i64 {now}, 0')}, ptr {bound.place}")
            if isinstance(bound.obj, str):
                c.em.do(f"store i64 {now}, ptr {bound.obj}")


def unknown(c: Walker, operand: str) -> str:
    """The same number, of which neither LLVM nor the verifier knows anything."""
    return c.opaque(c.em.op(f"xor i64 {c.opaque(operand)}, {zero(c)}"))


def bounded(c: Walker, bound: Value, now: str) -> None:
    """Compare a number with its bounds, where the verifier could use them."""
    lo, hi = bound.lo, bound.hi
    if lo >= 0 and hi < _MOST:
        c.abort_unless(c.em.op(f"icmp ule i64 {now}, {hi}"))
        if lo:
            c.abort_unless(c.em.op(f"icmp uge i64 {_again(c, bound)}, {lo}"))
    elif -_MOST < lo < 0 and hi < _MOST:
        c.abort_unless(c.em.op(f"icmp sle i64 {now}, {hi}"))
        c.abort_unless(c.em.op(f"icmp sge i64 {_again(c, bound)}, {lo}"))


def _again(c: Walker, bound: Value) -> str:
    """The number in a register of its own: of two comparisons LLVM would make a subtraction and one."""
    return c.barrier(bound)
