"""Loops that the verifier can follow: what only some paths change is forgotten.

A number that is counted up under a condition, or a cursor that moves by what lies in the packet, has another
value on every path through every turn, and the verifier follows each combination of them. Before the loop,
where such a number is assigned, where a turn begins that compares it, and behind a loop with several ends, it
is combined with a zero that the verifier does not know: all paths to the same place are then alike, and one
of them is followed. Where it is used as an index, it is compared with what the compiler knows of it
(`skep.lang.remainders`). Cursors, compared wherever they are used, are forgotten where a turn begins.

Exclusive or, since kernels remember that a sum with a constant is linked to what it was added to.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from skep.lang.scope import Env
from skep.lang.uneven import Changes, compared
from skep.lang.values import BOOL, INT, Value

if TYPE_CHECKING:
    from skep.lang.walk import Walker

#: a variable that nothing sets
_ZERO: Final = "skep_zero"
_CURSOR: Final = "%cursor"
#: so many different states of a loop's variables in all are left to the verifier
_FEW: Final = 256
#: so many in a turn are nothing
_SMALL: Final = 8


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
    cursors = [name for name in names if name.startswith(_CURSOR)]
    found = Changes(body)
    sizes = {}
    for name in names:
        own = name.removeprefix(c.scope.prefix)
        if own in found.uneven:
            domain = head[name].hi - head[name].lo + 1
            sizes[name] = min(domain, turns + 1 if own in found.counted else 1 << min(turns, 64))
            if all(isinstance(one, int) for one in found.constants[own]):
                sizes[name] = min(sizes[name], len(found.constants[own]) + 1)
    states = turns
    for size in sizes.values():
        states *= size
    return cursors + _large(sizes) if states > _FEW else cursors


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
    known = {c.scope.prefix + name for name in Changes([node]).assigned | compared(node)}
    forget(c, [key for key in c.env if key in known and c.env[key].type is INT])


def begin(c: Walker, carried: Sequence[str]) -> Callable[[], None]:
    """Forget variables before a loop, and wherever they are assigned until what is returned is called."""
    names = [name for name in carried if not name.startswith(_CURSOR)]
    forget(c, names)
    before = c.unsteady
    c.unsteady = before | set(names)

    def end() -> None:
        c.unsteady = before

    return end


def turn(c: Walker, carried: Sequence[str], loop: ast.For | ast.While) -> None:
    """Forget, where a turn begins, cursors and what the turn before compared."""
    if carried:
        tested = {c.scope.prefix + name for name in compared(loop)}
        forget(c, [name for name in carried if name.startswith(_CURSOR) or name in tested])


def forget(c: Walker, names: Sequence[str]) -> None:
    """Make the verifier forget what it knows of these variables."""
    for name in names:
        bound = c.env.get(name)
        if bound is None or not bound.place:
            continue
        value = hidden(c, name, c.read(bound))
        c.em.do(f"store {bound.type.llvm} {value.ir}, ptr {bound.place}")
        if bound.type is BOOL and isinstance(bound.obj, str):
            c.em.do(f"store i64 {c.as_int(value, c.node).ir}, ptr {bound.obj}")


def hidden(c: Walker, key: str, value: Value) -> Value:
    """A number or truth value that the variable ``key`` gets, without what the verifier knows of it."""
    if value.type is INT:
        forgotten = c.scope.forgotten
        name = key.removeprefix(c.scope.prefix)
        if name not in forgotten:
            forgotten.add(name)
            c.scope.divided = None
        return Value(INT, unknown(c, value.ir), value.lo, value.hi, obj=value.obj, place=value.place)
    if value.type is BOOL:
        flag = c.em.op(f"zext i1 {value.ir} to i64")
        now = c.em.op(f"and i64 {unknown(c, flag)}, 1")
        return Value(
            BOOL, c.em.op(f"icmp ne i64 {now}, 0"), value.lo, value.hi, obj=value.obj, place=value.place
        )
    return value


def unknown(c: Walker, operand: str) -> str:
    """The same number, of which neither LLVM nor the verifier knows anything."""
    return c.opaque(c.em.op(f"xor i64 {c.opaque(operand)}, {zero(c)}"))
