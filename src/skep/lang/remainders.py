"""Bounds that the verifier does not see: of divisions, and of what is corrected on one path.

Of ``x % 10`` the compiler knows that it is below 10. The kernel's verifier knows nothing of the result of
BPF_MOD and BPF_DIV, and less of the multiplication that LLVM makes of them; nor, before 5.11, of BPF_XOR. Nor
does it follow ``9 - n``, which LLVM subtracts from the address, or ``if i > 9: i -= 10``, which LLVM computes
before it compares. Where such a number is an index or a size it is compared with its bound once more, in a
register that LLVM cannot see through. A number that a test chooses is only kept from LLVM: it stays the one
that was tested.

Which numbers these are is read off the source: an expression of that kind, a variable that is assigned one,
a call of a function that has one. One too many costs two instructions.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from skep.lang.values import INT, Value

if TYPE_CHECKING:
    from skep.lang.scope import Scope
    from skep.lang.walk import Walker


#: arguments of BINARY_OP for // % and ^, and for += -= //= %= ^= (Python 3.11 and later)
_DIVISIONS = frozenset((2, 6, 12, 13, 15, 19, 23, 25))
#: a few registers outlive calls, and a few more are for what is computed
_CROWD = 10
_MOVES = (ast.Add, ast.Sub, ast.Mult)


def bounded(c: Walker, v: Value) -> Value:
    """``v``, an index or a size, in a way that the verifier knows its interval."""
    if v.const is not None or v.lo < 0 or v.node is None:
        return v
    if not divided(c.scope, v.node) and not (crowded(c.scopes) and tested(c.scope, v.node)):
        if not by_test(c.scope, v.node):
            return v
        made = Value(INT, c.opaque(v.ir), v.lo, v.hi)
        made.node = v.node
        return made
    got = c.opaque(v.ir)
    within = c.em.op(f"icmp ule i64 {got}, {v.hi}")
    chosen = c.em.op(f"select i1 {within}, i64 {got}, i64 {v.lo}")
    made = Value(INT, c.opaque(chosen), v.lo, v.hi)  # what is computed next is computed with the one compared
    made.node = v.node
    return made


def divided(scope: Scope, node: ast.AST) -> bool:
    """Whether an expression's value may come from a division, or from such a correction."""
    return _found(node, variables(scope), scope.globals)


def crowded(scopes: list[Scope]) -> bool:
    """Whether there are more variables than registers for them.

    LLVM keeps some on the stack then, loads them again after a test of what it stored, and kernels before 6.8
    do not take what a test says of a register for what is on the stack.
    """
    return sum(len(scope.locals) for scope in scopes) > _CROWD


def tested(scope: Scope, node: ast.AST) -> bool:
    """Whether a test bounds an index: it is neither a mask nor counted by a loop."""
    if is_mask(node):
        return False
    counted = {
        name.id
        for loop in ast.walk(scope.node)
        if isinstance(loop, ast.For)
        for name in ast.walk(loop.target)
        if isinstance(name, ast.Name)
    }
    return any(isinstance(one, ast.Name) and one.id not in counted for one in ast.walk(node))


def by_test(scope: Scope, node: ast.AST) -> bool:
    """Whether an expression's value is chosen by a test: LLVM would multiply both sides before it tests."""
    if scope.chosen is None:
        scope.chosen = {
            one.id
            for branch in ast.walk(scope.node)
            if isinstance(branch, (ast.If, ast.Match)) or (_assigns(branch) and _chooses(branch))
            for part in ast.walk(branch)
            if _assigns(part)
            for one in ast.walk(part)
            if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store)
        }
    return _chooses(node) or any(isinstance(n, ast.Name) and n.id in scope.chosen for n in ast.walk(node))


def _chooses(node: ast.AST) -> bool:
    return any(isinstance(n, (ast.IfExp, ast.Call)) for n in ast.walk(node))


def _assigns(node: ast.AST) -> bool:
    return isinstance(node, (ast.Assign, ast.AugAssign, ast.AnnAssign, ast.NamedExpr))


def variables(scope: Scope) -> set[str]:
    """The variables of a function that may hold the result of a division."""
    if scope.divided is None:
        scope.divided = _variables(scope.node, scope.divided_params | scope.forgotten, scope.globals)
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
            if isinstance(part, ast.AugAssign) and isinstance(part.op, (ast.Mod, ast.FloorDiv, ast.BitXor)):
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


def is_mask(node: ast.AST) -> bool:
    """``x & 63``: a bound that stays one (see `masked`)."""
    return (
        isinstance(node, ast.BinOp)
        and isinstance(node.op, ast.BitAnd)
        and any(
            isinstance(side, ast.Constant) and type(side.value) is int for side in (node.left, node.right)
        )
    )


def masked(c: Walker, node: ast.BinOp, left: Value) -> Value:
    """The left side of a mask: LLVM drops one that it finds to be implied, where the verifier does not."""
    if c.unit.target != "bpf" or not is_mask(node) or left.type is not INT or left.const is not None:
        return left
    if not divided(c.scope, node.left):
        return left
    return Value(INT, c.opaque(left.ir), left.lo, left.hi)


def _parts(node: ast.AST) -> Iterator[ast.AST]:
    """What an expression is made of, but for what a mask bounds."""
    yield node
    if not is_mask(node):
        for one in ast.iter_child_nodes(node):
            yield from _parts(one)


def _found(node: ast.AST, known: set[str], space: dict[str, Any]) -> bool:
    for part in _parts(node):
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
        if isinstance(part, ast.BinOp) and isinstance(part.op, ast.BitXor):  # unknown before Linux 5.11
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
    loop = opcode.opmap.get("FOR_ITER")  # behind one, what it found is forgotten
    if any(
        raw[at] == loop or (raw[at] == binary and raw[at + 1] in _DIVISIONS) for at in range(0, len(raw), 2)
    ):
        return True
    return any(_divides(fn.__globals__.get(name), seen) for name in code.co_names)
