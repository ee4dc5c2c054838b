"""Whether a ``while`` loop has an end that the verifier sees: a number that goes one way, turn by turn.

The verifier follows the turns of a loop one by one and refuses one in which it does not see progress. What it
sees is a variable that every turn changes by a constant, and that the condition (or that of a ``break``)
compares with something the loop does not change; or one that every turn shifts right or divides.
"""

from __future__ import annotations

import ast
from math import prod
from typing import TYPE_CHECKING, NamedTuple

from skep.lang.layout import IntStorage
from skep.lang.scope import Env, join
from skep.lang.values import INT, S64_MAX, S64_MIN, Value

if TYPE_CHECKING:
    from skep.lang.walk import Walker

#: the verifier gives up at a million instructions, and a turn takes four at least
MOST = 1 << 18
#: the step of a variable that is multiplied or shifted left
_GROWS = 1 << 64
_UP = (ast.Lt, ast.LtE)
_DOWN = (ast.Gt, ast.GtE)
_NEGATED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.GtE, ast.LtE: ast.Gt, ast.Gt: ast.LtE, ast.GtE: ast.Lt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
}  # fmt: skip
_MIRRORED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.Gt, ast.LtE: ast.GtE, ast.Gt: ast.Lt, ast.GtE: ast.LtE,
}  # fmt: skip


class Progress(NamedTuple):
    """How a variable changes each turn: by at least ``step`` up or down, or it shrinks (0)."""

    name: str
    step: int
    #: what it goes towards
    limit: ast.expr
    #: how it is compared with that
    kind: type[ast.cmpop]


def check(c: Walker, node: ast.While, back: list[Env]) -> None:
    """Refuse a loop without a visible end. ``back`` are the variables with which its turns end."""
    if c.unit.target == "host" or not back:
        return
    after = join(back, {})
    found = [one for one in _all(c, node) if not _wraps(c, one, after)]
    turns = [_turns(c, one, after) for one in found]
    around = prod(loop.turns for scope in c.scopes for loop in scope.loops)
    if not turns:
        name = _candidate(node)
        raise c.error(
            node.test,
            "nothing bounds this loop: "
            + (
                f"{name} does not go one way by a constant in every turn"
                if name
                else "no number in its test counts"
            )
            + ", and the verifier would not see its end",
            "count: for i in range(N): if ...: break",
        )
    if min(turns) * around > MOST:
        others = ", with those around it" if around > 1 else ""
        raise c.error(
            node.test,
            f"this loop may turn {min(turns) * around:,} times{others}: "
            "the verifier follows at most about a million instructions",
            "bound it: for i in range(min(n, 256)), or use bpf.loop(n, function)",
        )


def turns(c: Walker, node: ast.While, back: list[Env]) -> int:
    """How often the body may be followed, 1 where that is not known (yet)."""
    after = join(back, {}) if back else {}
    return min([_turns(c, one, after) for one in _all(c, node)], default=1)


def divided(c: Walker, node: ast.While) -> int:
    """How often a loop turns that ends only because a number is divided, which the verifier does not see to
    shrink; 0 for other loops."""
    found = _all(c, node)
    if c.unit.target == "host" or not found or any(one.step for one in found):
        return 0
    most = 0
    for part in (one for stmt in node.body for one in ast.walk(stmt)):
        by: ast.expr | None = None
        if isinstance(part, ast.AugAssign) and isinstance(part.op, ast.FloorDiv):
            by = part.value
        elif isinstance(part, ast.BinOp) and isinstance(part.op, ast.FloorDiv):
            by = part.right
        if by is None:
            continue
        value = by.value if isinstance(by, ast.Constant) and isinstance(by.value, int) else 2
        turns, left = 1, 1 << 64
        while left and value > 1:
            turns, left = turns + 1, left // value
        most = max(most, turns)
    return most


def _all(c: Walker, node: ast.While) -> list[Progress]:
    """What ends the loop."""
    found = _ends(c, node.test, True, node.body)
    for test in _breaks(node.body):
        found += _ends(c, test, False, node.body)
    return found


def progressing(c: Walker, node: ast.While) -> set[str]:
    """The variables by which the verifier sees that the loop ends."""
    return {one.name for one in _all(c, node)}


def counters(c: Walker, node: ast.For, turns: int) -> dict[str, tuple[int, int]]:
    """What variables can be where a turn of a loop begins that only adds constants to them.

    ``i = 0``, ``for _ in range(63)``, ``i += 1``: 0 to 62. The verifier follows the turns, and sees it too.
    """
    steps: dict[str, tuple[int, int]] = {}
    inner = {id(n) for part in node.body for loop in ast.walk(part) if isinstance(loop, (ast.For, ast.While))
             for n in ast.walk(loop)}  # fmt: skip
    counts = {}
    for part in [n for one in node.body for n in ast.walk(one)]:
        if (
            isinstance(part, ast.AugAssign)
            and isinstance(part.target, ast.Name)
            and isinstance(part.op, (ast.Add, ast.Sub))
            and isinstance(part.value, ast.Constant)
            and type(part.value.value) is int
            and id(part) not in inner
        ):
            by = part.value.value if isinstance(part.op, ast.Add) else -part.value.value
            down, up = steps.get(part.target.id, (0, 0))
            steps[part.target.id] = (down + min(by, 0), up + max(by, 0))
            counts[id(part.target)] = part.target.id
    stores = [n for one in [node.target, *node.body] for n in ast.walk(one) if isinstance(n, ast.Name)]
    others = {n.id for n in stores if _stores(n) and id(n) not in counts}
    made = {}
    for name, (down, up) in steps.items():
        key = c.scope.prefix + name
        bound = c.env.get(key)
        if name in others or name in c.scope.declared or bound is None or bound.type is not INT:
            continue
        lo, hi = bound.lo + down * (turns - 1), bound.hi + up * (turns - 1)
        if lo >= S64_MIN and hi <= S64_MAX:
            made[key] = (lo, hi)
    return made


def within(env: Env, limits: dict[str, tuple[int, int]]) -> Env:
    """The variables, those in ``limits`` within them."""
    made = dict(env)
    for key, (lo, hi) in limits.items():
        v = env[key]
        if v.type is INT:
            made[key] = Value(INT, v.ir, max(v.lo, lo), min(v.hi, hi), obj=v.obj, place=v.place)
    return made


def _wraps(c: Walker, progress: Progress, after: Env) -> bool:
    """Whether a variable of a narrow type goes round before it reaches its limit."""
    declared = c.scope.declared.get(progress.name)
    limit = _interval(c, progress.limit, after)
    if not isinstance(declared, IntStorage) or limit is None or progress.step == 0:
        return False
    over = int(progress.kind in (ast.LtE, ast.GtE))
    if progress.step > 0:
        return limit[1] + over > declared.hi
    return limit[0] - over < declared.lo


def _turns(c: Walker, progress: Progress, after: Env) -> int:
    """A bound of the turns: from the variable's interval, or from where it starts to its limit."""
    bound = after.get(c.scope.prefix + progress.name)
    if progress.step == 0:
        return 64
    if bound is None or bound.type is not INT:
        return MOST
    if progress.step == _GROWS:
        return 64 if bound.lo > 0 else 1 << 64  # zero stays zero
    step = abs(progress.step)
    turns = (bound.hi - bound.lo) // step + 2
    limit = _interval(c, progress.limit, after)
    if limit is None:
        return turns
    way = limit[1] - bound.lo if progress.step > 0 else bound.hi - limit[0]
    return min(turns, max(0, way) // step + 3)


def _interval(c: Walker, node: ast.expr, env: Env) -> tuple[int, int] | None:
    """The interval of a constant or variable."""
    if isinstance(node, ast.Constant) and type(node.value) is int:
        return node.value, node.value
    bound = env.get(c.scope.prefix + node.id) if isinstance(node, ast.Name) else None
    return (bound.lo, bound.hi) if bound is not None and bound.type is INT else None


def _candidate(node: ast.While) -> str:
    """The variable that the loop seems to be about, for the message."""
    stored = {n.id for part in node.body for n in ast.walk(part) if isinstance(n, ast.Name) and _stores(n)}
    tests = [node.test, *_breaks(node.body)]
    return next((n.id for t in tests for n in ast.walk(t) if isinstance(n, ast.Name) and n.id in stored), "")


def _stores(name: ast.Name) -> bool:
    return isinstance(name.ctx, ast.Store)


def _breaks(body: list[ast.stmt]) -> list[ast.expr]:
    """Tests that every turn meets and that leave the loop where they hold."""
    found = []
    for part in body:
        if isinstance(part, ast.If) and isinstance(part.body[-1], (ast.Break, ast.Return)):
            found.append(part.test)
        if any(isinstance(one, ast.Continue) for one in ast.walk(part)):
            break
    return found


def _ends(c: Walker, test: ast.expr, holds: bool, body: list[ast.stmt]) -> list[Progress]:
    """What makes ``test`` turn to ``not holds`` in the end."""
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        return _ends(c, test.operand, not holds, body)
    if isinstance(test, ast.BoolOp):
        parts = [_ends(c, part, holds, body) for part in test.values]
        if isinstance(test.op, ast.And) == holds:  # one part is enough
            return [one for part in parts for one in part]
        return [one for part in parts for one in part] if all(parts) else []
    if isinstance(test, ast.Compare):
        found = []
        left = test.left
        for op, right in zip(test.ops, test.comparators, strict=True):
            kind = type(op) if holds else _NEGATED.get(type(op), type(op))
            if holds or len(test.ops) == 1:
                found += _side(left, kind, right, body)
                found += _side(right, _MIRRORED.get(kind, kind), left, body)
            left = right
        return found
    if isinstance(test, ast.Name) and holds:
        bound = c.env.get(c.scope.prefix + test.id)
        if bound is not None and bound.type is INT:
            return _side(test, ast.NotEq, ast.Constant(0), body)
    return []


def _side(side: ast.expr, kind: type[ast.cmpop], other: ast.expr, body: list[ast.stmt]) -> list[Progress]:
    """Whether ``side`` goes towards ``other``: while (side kind other)."""
    if isinstance(side, ast.NamedExpr):
        side = side.target
    plain = isinstance(side, ast.BinOp) and isinstance(side.op, (ast.Add, ast.Sub))
    if isinstance(side, ast.BinOp) and plain and isinstance(side.right, ast.Constant):
        return _side(side.left, kind, other, body)  # i + 4 < n ends as i < n does
    if not isinstance(side, ast.Name) or _changed(other, body):
        return []
    step = _progress(side.id, body)
    if step is None:
        return []
    towards = kind is ast.NotEq and step in (0, 1, -1)
    if step <= 0:
        towards |= kind in _DOWN
    if step > 0:
        towards |= kind in _UP
    return [Progress(side.id, step, other, kind)] if towards else []


def _changed(other: ast.expr, body: list[ast.stmt]) -> bool:
    names = {one.id for one in ast.walk(other) if isinstance(one, ast.Name)}
    return any(
        isinstance(one, ast.Name) and _stores(one) and one.id in names
        for part in body
        for one in ast.walk(part)
    )


def _progress(name: str, body: list[ast.stmt]) -> int | None:
    """The smallest step of a variable that every turn changes one way; 0: it shrinks; None: neither."""
    steps: list[int] = []
    kept = set()
    for part in body:
        for one in ast.walk(part):
            if isinstance(one, (ast.AugAssign, ast.Assign)):
                step = _step(one, name)
                if step is not None:
                    steps.append(step)
                    kept.add(id(one.target if isinstance(one, ast.AugAssign) else one.targets[0]))
    others = any(
        isinstance(one, ast.Name) and one.id == name and _stores(one) and id(one) not in kept
        for part in body
        for one in ast.walk(part)
    )
    if not steps or others or _skips(body, name)[0] or _skips(body, name)[1]:
        return None
    if all(step == 0 for step in steps):
        return 0
    if all(step > 0 for step in steps):
        return min(steps)
    return max(steps) if all(step < 0 for step in steps) else None


def _step(node: ast.AugAssign | ast.Assign, name: str) -> int | None:
    """By what a statement changes ``name``: a constant, 0 when it is shifted right or divided; else None."""
    target: ast.expr
    if isinstance(node, ast.AugAssign):
        target, op, by = node.target, node.op, node.value
    else:
        value = node.value
        if len(node.targets) != 1 or not isinstance(value, ast.BinOp):
            return None
        target, op, by = node.targets[0], value.op, value.right
        left = value.left
        if isinstance(op, ast.Add) and isinstance(left, ast.Constant):
            left, by = by, left
        if not (isinstance(left, ast.Name) and left.id == name):
            return None
    if not (isinstance(target, ast.Name) and target.id == name):
        return None
    if not isinstance(by, ast.Constant) or type(by.value) is not int or by.value <= 0:
        return None
    if isinstance(op, ast.Add):
        return by.value
    if isinstance(op, ast.Sub):
        return -by.value
    if isinstance(op, ast.LShift) or (isinstance(op, ast.Mult) and by.value > 1):
        return _GROWS
    if isinstance(op, ast.RShift) or (isinstance(op, ast.FloorDiv) and by.value > 1):
        return 0
    return None


def _skips(body: list[ast.stmt], name: str) -> tuple[bool, bool]:
    """Whether some path through ``body`` (to its end; to a ``continue``) leaves the variable as it is."""
    going, continues = True, False
    for part in body:
        if not going:
            break
        if isinstance(part, (ast.AugAssign, ast.Assign)) and _step(part, name) is not None:
            going = False
        elif isinstance(part, ast.Continue):
            return False, True
        elif isinstance(part, (ast.Break, ast.Return)):
            return False, continues
        elif isinstance(part, ast.If):
            sides = [_skips(part.body, name), _skips(part.orelse, name)]
            going = any(end for end, _ in sides)
            continues |= any(turn for _, turn in sides)
        elif isinstance(part, ast.With):
            going, turn = _skips(part.body, name)
            continues |= turn
        elif isinstance(part, ast.Match):
            sides = [_skips(case.body, name) for case in part.cases]
            continues |= any(turn for _, turn in sides)
    return going, continues
