"""Bounds that the verifier does not see: of divisions, and of what is corrected on one path.

Of ``x % 10`` the compiler knows that it is below 10. The kernel's verifier knows nothing of the result of
BPF_MOD and BPF_DIV, and less of the multiplication that LLVM makes of them. Nor does it follow ``9 - n``,
which LLVM subtracts from the address, or ``if i > 9: i -= 10``, which LLVM computes before it compares.
Where such a number is an index or a size it is compared with its bound once more, in a register that LLVM
cannot see through.

Which numbers these are is read off the source: an expression of that kind, a variable that is assigned one,
a call of a function that has one. One too many costs two instructions.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any

from skep.lang.values import INT, Value

if TYPE_CHECKING:
    from skep.lang.scope import Scope
    from skep.lang.walk import Walker


#: arguments of BINARY_OP for // and %, and for += -= //= %= (Python 3.11 and later)
_DIVISIONS = frozenset((2, 6, 13, 15, 19, 23))
_MOVES = (ast.Add, ast.Sub, ast.Mult)


def bounded(c: Walker, v: Value) -> Value:
    """``v``, an index or a size, in a way that the verifier knows its interval."""
    if v.const is not None or v.lo < 0 or v.node is None or not divided(c.scope, v.node):
        return v
    got = c.opaque(v.ir)
    within = c.em.op(f"icmp ule i64 {got}, {v.hi}")
    chosen = c.em.op(f"select i1 {within}, i64 {got}, i64 {v.lo}")
    made = Value(INT, c.opaque(chosen), v.lo, v.hi)  # what is computed next is computed with the one compared
    made.node = v.node
    return made


def divided(scope: Scope, node: ast.AST) -> bool:
    """Whether an expression's value may come from a division, or from such a correction."""
    return _found(node, variables(scope), scope.globals)


def variables(scope: Scope) -> set[str]:
    """The variables of a function that may hold the result of a division."""
    if scope.divided is None:
        scope.divided = _variables(scope.node, set(scope.divided_params), scope.globals)
    return scope.divided


def _variables(tree: ast.AST, known: set[str], space: dict[str, Any]) -> set[str]:
    kinds = (ast.Assign, ast.AugAssign, ast.AnnAssign, ast.NamedExpr)
    parts = [part for part in ast.walk(tree) if isinstance(part, kinds)]
    known |= _corrected(tree)
    before = -1
    while before < len(known):  # what is assigned from a variable that is one
        before = len(known)
        for part in parts:
            value = part.value
            if isinstance(part, ast.AugAssign) and isinstance(part.op, (ast.Mod, ast.FloorDiv)):
                value = ast.BinOp(part.target, part.op, part.value)
            if value is None or not _found(value, known, space):
                continue
            targets = part.targets if isinstance(part, ast.Assign) else [part.target]
            known |= {one.id for target in targets for one in ast.walk(target) if isinstance(one, ast.Name)}
    return known


def _corrected(tree: ast.AST) -> set[str]:
    """The variables that are moved by something on one side of an ``if``."""
    found = set()
    for branch in ast.walk(tree):
        if not isinstance(branch, ast.If):
            continue
        for part in (one for stmt in [*branch.body, *branch.orelse] for one in ast.walk(stmt)):
            targets: list[ast.expr] = []
            if isinstance(part, ast.AugAssign) and isinstance(part.op, _MOVES):
                targets = [part.target]
            elif isinstance(part, ast.Assign) and _moves(part.value):
                targets = part.targets
            found |= {one.id for one in targets if isinstance(one, ast.Name)}
    return found


def _moves(node: ast.AST) -> bool:
    return isinstance(node, ast.BinOp) and isinstance(node.op, _MOVES)


def _found(node: ast.AST, known: set[str], space: dict[str, Any]) -> bool:
    for part in ast.walk(node):
        if isinstance(part, ast.Name) and part.id in known:
            return True
        if isinstance(part, ast.BinOp) and isinstance(part.op, (ast.Mod, ast.FloorDiv)):
            by = part.right.value if isinstance(part.right, ast.Constant) else 0
            if not isinstance(by, int) or by <= 0 or by & (by - 1):
                return True
        if (
            isinstance(part, ast.BinOp)
            and isinstance(part.op, ast.Sub)
            and isinstance(part.left, ast.Constant)
        ):
            return True
        if isinstance(part, ast.IfExp) and any(
            _moves(one) for side in (part.body, part.orelse) for one in ast.walk(side)
        ):
            return True
        if isinstance(part, ast.Call) and isinstance(part.func, ast.Name):
            name = part.func.id
            if name == "divmod" or _divides(space.get(name), set()):
                return True
    return False


def _divides(fn: Any, seen: set[Any]) -> bool:
    """Whether a function of the module, which is inlined, divides, or one that it calls does."""
    import opcode

    code = getattr(fn, "__code__", None)
    if code is None or code in seen:
        return False
    seen.add(code)
    binary = opcode.opmap.get("BINARY_OP")
    raw = code.co_code
    if any(raw[at] == binary and raw[at + 1] in _DIVISIONS for at in range(0, len(raw), 2)):
        return True
    return any(_divides(fn.__globals__.get(name), seen) for name in code.co_names)
