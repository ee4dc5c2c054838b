"""Conditions: where they branch, and what each side learns."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from skep.lang import arith, locks, paths, references
from skep.lang.scope import Env, join
from skep.lang.values import INT, NONE, OPTIONAL, S64_MAX, TEXT, TUPLE, BoolType, IntType, PtrType, Value

if TYPE_CHECKING:
    from skep.lang.walk import Walker

#: (variable key, its new binding) for the side where a condition is true, and where it is false;
#: None: that side cannot be
Facts = tuple[list[tuple[str, Value]] | None, list[tuple[str, Value]] | None]


def branch(c: Walker, node: ast.expr, yes: str, no: str) -> tuple[Env | None, Env | None]:
    """Jump to ``yes`` or ``no``; the variables there, None where that side cannot be reached.

    The caller places the labels it gets an environment for.
    """
    c.at(node)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        false, true = branch(c, node.operand, no, yes)
        return true, false
    if isinstance(node, ast.BoolOp):
        return _boolop(c, node, yes, no)
    if isinstance(node, ast.Compare):
        if isinstance(node.ops[0], ast.NotIn) and len(node.ops) == 1:
            inside = ast.copy_location(ast.Compare(node.left, [ast.In()], node.comparators), node)
            if _within(c, inside) is not inside:
                false, true = branch(c, inside, no, yes)
                return true, false
        node = _within(c, node)
        if len(node.ops) > 1:
            return _chain(c, node, yes, no)
        value, facts = compare_node(c, node)
    else:
        value, facts = _plain(c, node)
    return _jump(c, value, facts, yes, no)


def _jump(c: Walker, value: Value, facts: Facts, yes: str, no: str) -> tuple[Env | None, Env | None]:
    if value.const is not None:
        c.em.br(yes if value.const else no)
        return (dict(c.env), None) if value.const else (None, dict(c.env))
    sides: list[Env | None] = []
    for fact in facts:
        if fact is None:
            sides.append(None)
        else:
            sides.append({**c.env, **dict(fact)})
    if sides[0] is None or sides[1] is None:
        c.em.br(yes if sides[0] is not None else no)
    else:
        c.em.cond(value.ir, yes, no)
    return sides[0], sides[1]


def _boolop(c: Walker, node: ast.BoolOp, yes: str, no: str) -> tuple[Env | None, Env | None]:
    is_and = isinstance(node.op, ast.And)
    early: list[Env] = []
    late: Env | None = None
    for i, part in enumerate(node.values):
        last = i == len(node.values) - 1
        onward = (yes if is_and else no) if last else c.label("n")
        true, false = branch(c, part, onward, no) if is_and else branch(c, part, yes, onward)
        goes, leaves = (true, false) if is_and else (false, true)
        if leaves is not None:
            early.append(leaves)
        late = goes
        if goes is None:
            break
        if not last:
            c.em.place(onward)
            c.env = goes
    out = join(early, c.lost) if early else None
    return (late, out) if is_and else (out, late)


def _chain(c: Walker, node: ast.Compare, yes: str, no: str) -> tuple[Env | None, Env | None]:
    """``0 < n <= 256``: every operand is evaluated once."""
    early: list[Env] = []
    left_node: ast.expr = node.left
    left = _operand(c, left_node, node.ops[0])
    late: Env | None = None
    for i, (op, right_node) in enumerate(zip(node.ops, node.comparators, strict=True)):
        right = _operand(c, right_node, op)
        last = i == len(node.ops) - 1
        onward = yes if last else c.label("n")
        value, facts = _compare(c, op, left, right, left_node, right_node, node)
        late, false = _jump(c, value, facts, onward, no)
        if false is not None:
            early.append(false)
        if late is None:
            break
        if not last:
            c.em.place(onward)
            c.env = late
        left, left_node = right, right_node
        key = _variable(c, left_node)
        if not last and key is not None and left.type is INT and c.env[key].type is INT:
            bound = c.env[key]  # what the test so far says of it
            # Of two comparisons of one register LLVM would make a subtraction and one.
            again = c.barrier(bound) if _bounds(c, left, left_node) else left.ir
            left = Value(INT, again, bound.lo, bound.hi, obj=left.obj, place=left.place)
    return late, join(early, c.lost) if early else None


def _within(c: Walker, node: ast.Compare) -> ast.Compare:
    """``n in range(a, b)`` as ``a <= n < b``, which tells more of n."""
    of = node.comparators[0]
    if not isinstance(node.ops[0], ast.In) or len(node.ops) > 1 or not isinstance(of, ast.Call):
        return node
    scope = c.scope
    if not isinstance(of.func, ast.Name) or of.func.id != "range" or of.keywords:
        return node
    if "range" in scope.locals or "range" in scope.globals or "range" in scope.closure:
        return node
    if not 1 <= len(of.args) <= 2 or not all(isinstance(one, (ast.Constant, ast.Name)) for one in of.args):
        return node
    low = of.args[0] if len(of.args) > 1 else ast.copy_location(ast.Constant(0), of)
    made = ast.Compare(low, [ast.LtE(), ast.Lt()], [node.left, of.args[-1]])
    return ast.copy_location(made, node)


def _variable(c: Walker, node: ast.expr) -> str | None:
    """The key of the local variable that ``node`` names or assigns."""
    target = node.target if isinstance(node, ast.NamedExpr) else node
    if isinstance(target, ast.Name):
        key = c.scope.prefix + target.id
        if key in c.env:
            return key
    return paths.key(c, node)


def _plain(c: Walker, node: ast.expr) -> tuple[Value, Facts]:
    """``if x``: not None for references, not zero for numbers."""
    value = c.expr(node)
    paths.keep(c, node, value)
    key = _variable(c, node)
    if c.only_bools and not isinstance(value.type, BoolType):
        raise c.error(
            node,
            f"'and' and 'or' give truth values here, and this is {value.type.name}",
            "say the default: table.get(key, 0)"
            if value.type is OPTIONAL
            else "test it (x != 0), or choose: x if test else y",
        )
    if value.type.nullable and value.type is not OPTIONAL:
        test = value.type.truth(c, value, node)
        return test, _optional_facts(c, key)
    test = c.truth(value, node)
    more = locks.facts(c, ast.NotEq(), value, arith.constant(0))
    if key is not None and value.type is INT:
        zero = arith.constant(0)
        sides = _interval_facts(c, key, ast.NotEq(), value, zero)
        test = _at_end(c, ast.NotEq(), value, zero, node) or test
        return test, (_both(sides[0], more[0]), _both(sides[1], more[1]))
    return test, more


def _optional_facts(c: Walker, key: str | None) -> Facts:
    """True: it is there. False: it is None."""
    if key is None:
        return [], []
    bound = c.env[key]
    there, not_there = references.facts(bound)
    narrowed = bound.type.narrowed(bound)
    if bound.ref is not None:
        narrowed.ref = bound.ref
    narrowed.origin = bound.origin
    return [(key, narrowed), *there], [(key, Value(NONE, place=bound.place)), *not_there]


def _interval_facts(c: Walker, key: str, op: ast.cmpop, a: Value, b: Value) -> Facts:
    bound = c.env[key]
    if bound.type is not INT or arith.signless(a) or arith.signless(b):
        return [], []
    sides: list[list[tuple[str, Value]] | None] = []
    for true in (True, False):
        found = arith.narrowed(op, a, b, true)
        narrow = None if found is None else Value(INT, "", *found, obj=bound.obj, place=bound.place)
        sides.append(None if narrow is None else [(key, narrow)])
    return sides[0], sides[1]


def compare_node(c: Walker, node: ast.Compare) -> tuple[Value, Facts]:
    """One comparison, and what its sides learn."""
    op = node.ops[0]
    left = _operand(c, node.left, op)
    right = _operand(c, node.comparators[0], op)
    c.at(node)
    return _compare(c, op, left, right, node.left, node.comparators[0], node)


def _operand(c: Walker, node: ast.expr, op: ast.cmpop) -> Value:
    """A side of a comparison; the verifier is to learn about a variable that bounds something."""
    value = c.expr(node)
    paths.keep(c, node, value)
    if isinstance(op, (ast.Lt, ast.LtE, ast.Gt, ast.GtE)) and _bounds(c, value, node):
        key = _variable(c, node)
        assert key is not None
        return Value(INT, c.barrier(c.env[key]), value.lo, value.hi, place=value.place)
    return value


def _bounds(c: Walker, value: Value, node: ast.expr) -> bool:
    """Whether ``node`` is a variable that bounds something, of which the verifier has to learn."""
    return (
        value.type is INT
        and value.const is None
        and c.unit.target == "bpf"
        and (not isinstance(node, ast.Name) or node.id in c.scope.sensitive)
        and (key := _variable(c, node)) is not None
        and c.env[key].type is INT
    )


def _at_end(c: Walker, op: ast.cmpop, mine: Value, other: Value, node: ast.expr) -> Value | None:
    """A comparison that takes away the least or greatest value a variable may have, as one of order.

    From "not equal" the verifier learns no bound before Linux 6.8, and LLVM says it for "greater than zero"
    too, unless that is a signed comparison of something it knows nothing of.
    """
    if other.const is None or mine.hi > S64_MAX or not _bounds(c, mine, node):
        return None
    true, false = arith.narrowed(op, mine, other, True), arith.narrowed(op, mine, other, False)
    if true is None or false is None:
        return None
    if true[0] == true[1] == mine.lo or false[0] == false[1] == mine.lo:
        at, words = mine.lo, ("sle", "sgt")
    elif true[0] == true[1] == mine.hi or false[0] == false[1] == mine.hi:
        at, words = mine.hi, ("sge", "slt")
    else:
        return None
    key = _variable(c, node)
    assert key is not None
    word = words[0] if true == (at, at) else words[1]
    return c.boolean(c.em.op(f"icmp {word} i64 {c.barrier(c.env[key])}, {at}"))


def _compare(
    c: Walker, op: ast.cmpop, a: Value, b: Value, left: ast.expr, right: ast.expr, node: ast.AST
) -> tuple[Value, Facts]:
    if isinstance(op, (ast.Is, ast.IsNot)):
        return _is_none(c, isinstance(op, ast.Is), a, b, left, right, node)
    value = compare_values(c, op, a, b, node)
    if value.const is not None:
        return value, ([], [])
    if type(op) in arith.MIRROR and a.type is INT and b.type is INT:
        value = _at_end(c, op, a, b, left) or _at_end(c, arith.MIRROR[type(op)](), b, a, right) or value
    facts: Facts = ([], [])
    for mine, other, part, direct in ((a, b, left, True), (b, a, right, False)):
        if type(op) in arith.MIRROR and isinstance(other.type, IntType):
            taken = locks.facts(c, op if direct else arith.MIRROR[type(op)](), mine, other)
            facts = (_both(facts[0], taken[0]), _both(facts[1], taken[1]))
        key = _variable(c, part)
        if key is None or mine.type is not INT or not c.is_number(other) or other.type is not INT:
            continue
        if type(op) not in arith.MIRROR:
            continue
        how = op if direct else arith.MIRROR[type(op)]()
        more = _interval_facts(c, key, how, mine, other)
        facts = (_both(facts[0], more[0]), _both(facts[1], more[1]))
    return value, facts


def _both(
    a: list[tuple[str, Value]] | None, b: list[tuple[str, Value]] | None
) -> list[tuple[str, Value]] | None:
    return None if a is None or b is None else a + b


def _is_none(
    c: Walker, is_: bool, a: Value, b: Value, left: ast.expr, right: ast.expr, node: ast.AST
) -> tuple[Value, Facts]:
    if b.type is not NONE and a.type is NONE:
        a, b, left = b, a, right
    if b.type is not NONE:
        if isinstance(a.type, BoolType) and b.const is not None:
            value = compare_values(c, ast.Eq() if is_ else ast.NotEq(), a, b, node)
            return value, ([], [])
        raise c.error(node, "'is' compares with None only", "use == for values")
    if a.type is NONE:
        return c.bool_const(is_), ([], [])
    if not a.type.nullable:
        if a.type.llvm and a.type is not INT and not isinstance(a.type, (BoolType, PtrType)):
            there = a.type.truth(c, a, node)  # a pointer of the kernel's, which may always be null
            return (c.bool_not(there) if is_ else there), ([], [])
        return c.bool_const(not is_), ([], [])
    there = OPTIONAL.present(a) if a.type is OPTIONAL else a.type.truth(c, a, node)
    yes, no = _optional_facts(c, _variable(c, left))
    if is_:
        return c.bool_not(there), (no, yes)
    return there, (yes, no)


def compare_values(c: Walker, op: ast.cmpop, a: Value, b: Value, node: ast.AST) -> Value:
    """``a op b``, a BOOL."""
    if isinstance(op, (ast.In, ast.NotIn)):
        found = b.type.contains(c, b, a, node)
        return c.bool_not(found) if isinstance(op, ast.NotIn) else found
    if a.type is TEXT and b.type is TEXT:
        if not isinstance(op, (ast.Eq, ast.NotEq)):
            raise c.error(
                node, "texts are compared with == and != only", "compare single bytes: text[0] < 65"
            )
        return c.bool_const((a.obj == b.obj) == isinstance(op, ast.Eq))
    if a.type is TUPLE and b.type is TUPLE:
        if isinstance(op, (ast.Eq, ast.NotEq)) and len(a.obj) == len(b.obj):
            same = c.bool_const(True)
            for x, y in zip(a.obj, b.obj, strict=True):
                same = c.bool_and(same, compare_values(c, ast.Eq(), x, y, node))
            return c.bool_not(same) if isinstance(op, ast.NotEq) else same
        if not isinstance(op, (ast.Lt, ast.LtE, ast.Gt, ast.GtE)) or len(a.obj) != len(b.obj):
            raise c.error(node, "tuples of one length are compared", "compare the items")
        # The last items decide, where none before does.
        rank = c.bool_const(isinstance(op, (ast.LtE, ast.GtE)))
        before: ast.cmpop = ast.Lt() if isinstance(op, (ast.Lt, ast.LtE)) else ast.Gt()
        for x, y in zip(reversed(a.obj), reversed(b.obj), strict=True):
            same = compare_values(c, ast.Eq(), x, y, node)
            rank = c.bool_or(compare_values(c, before, x, y, node), c.bool_and(same, rank))
        return rank
    if a.type is NONE or b.type is NONE:
        raise c.error(node, "None is compared with 'is' and 'is not'", "x is None")
    if c.is_number(a) and c.is_number(b):
        if (
            isinstance(a.type, BoolType)
            and isinstance(b.type, BoolType)
            and a.const is None
            and b.const is None
        ) and isinstance(op, (ast.Eq, ast.NotEq)):
            word = "eq" if isinstance(op, ast.Eq) else "ne"
            return c.boolean(c.em.op(f"icmp {word} i1 {a.ir}, {b.ir}"))
        parts = node if isinstance(node, ast.Compare) and len(node.ops) == 1 else None
        left = c.as_int(a, parts.left if parts else node)
        right = c.as_int(b, parts.comparators[0] if parts else node)
        return arith.compare(c, op, left, right, node)
    if isinstance(b.type, PtrType) and not isinstance(a.type, PtrType) and a.type is TEXT:
        return b.type.compare(c, op, b, a, node)
    single = isinstance(node, ast.Compare) and len(node.ops) == 1
    for i, (side, other) in enumerate(((a, b), (b, a))):
        if other.type is INT and side.type.nullable:
            part = [node.left, node.comparators[0]][i] if single and isinstance(node, ast.Compare) else node
            c.refuse_none(side, part)
    return a.type.compare(c, op, a, b, node)


def assign_local(c: Walker, name: str, value: Value, node: ast.AST) -> Value:
    """``name = value``, wrapped when the variable is annotated with a narrow type."""
    declared = c.scope.declared.get(name)
    if declared is not None and declared.scalar:
        value = c.unit.convert(c, value, declared, node)
    return c.bind(c.scope.prefix + name, value, node)
