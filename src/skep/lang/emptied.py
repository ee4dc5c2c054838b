"""Loops that empty a queue or a stack: ``while (x := q.pop()) is not None``.

No number in their test counts, so nothing shows the verifier their end. They turn as often as the map has
room, as a ``for`` would; what others push meanwhile stays for the next time.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from skep.bpf.maps import Queue, Stack
from skep.lang import loops

if TYPE_CHECKING:
    from skep.lang.walk import Walker

_TURN = "$turn"


def while_(c: Walker, node: ast.While) -> None:
    """A ``while`` loop; one that empties a map is counted."""
    counted: ast.For | None = getattr(node, "_counted", None)  # made once: places of variables go by node
    if counted is None and c.unit.target == "bpf" and not node.orelse:
        source = _emptied(c, node)
        if source is not None:
            counted = node._counted = _for(node, source.max_entries)  # type: ignore[attr-defined]  # ours
    if counted is None:
        loops.while_(c, node)
        return
    c.scope.locals |= {_TURN}
    loops.for_(c, counted)


def _for(node: ast.While, turns: int) -> ast.For:
    test = node.test
    stop = ast.If(ast.UnaryOp(ast.Not(), test), [ast.Break()], [])
    body: list[ast.stmt] = node.body if isinstance(test, ast.Constant) else [stop, *node.body]
    span = ast.Call(ast.Name("range", ast.Load()), [ast.Constant(turns)], [])
    made = ast.For(ast.Name(_TURN, ast.Store()), span, body, [])
    for part in (made, made.target, span, span.func, span.args[0], stop, stop.test, stop.body[0]):
        ast.copy_location(part, test)
    return made


def _emptied(c: Walker, node: ast.While) -> Queue | Stack | None:
    """The map that is empty where the loop ends: by its test, or by a ``break`` of every turn."""
    if not (isinstance(node.test, ast.Constant) and node.test.value):
        return _popped(c, node, node.test, ast.IsNot)
    for part in node.body:
        if isinstance(part, ast.If) and isinstance(part.body[-1], (ast.Break, ast.Return)):
            found = _popped(c, node, part.test, ast.Is)
            if found is not None:
                return found
        if any(isinstance(one, ast.Continue) for one in ast.walk(part)):
            return None
    return None


def _popped(c: Walker, node: ast.While, test: ast.expr, op: type[ast.cmpop]) -> Queue | Stack | None:
    """The map whose ``pop()`` a test holds against None: ``op`` is the comparison that it has."""
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not) and op is ast.Is:
        test = test.operand
    elif isinstance(test, ast.Compare):
        none = test.comparators[0]
        if type(test.ops[0]) is not op or not isinstance(none, ast.Constant) or none.value is not None:
            return None
        test = test.left
    elif op is ast.Is:
        return None
    if isinstance(test, ast.Name):  # x = q.pop(); if x is None: break
        given = [
            part.value
            for part in node.body
            if isinstance(part, ast.Assign)
            and [one.id for one in part.targets if isinstance(one, ast.Name)] == [test.id]
        ]
        if len(given) != 1:
            return None
        test = given[0]
    if isinstance(test, ast.NamedExpr):
        test = test.value
    if not (isinstance(test, ast.Call) and isinstance(test.func, ast.Attribute) and test.func.attr == "pop"):
        return None
    owner = test.func.value
    if not isinstance(owner, ast.Name) or owner.id in c.scope.locals:
        return None
    found = c.scope.closure.get(owner.id, c.scope.globals.get(owner.id))
    return found if isinstance(found, (Queue, Stack)) else None
