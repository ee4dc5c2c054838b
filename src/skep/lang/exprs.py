"""Expressions."""

from __future__ import annotations

import ast
import builtins
import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from skep.bpf.globals import Global
from skep.lang import arith, calls, objects, paths, remainders, tests
from skep.lang.scope import join
from skep.lang.values import NONE, OPTIONAL, TEXT, TUPLE, BoolType, IntType, PtrType, Value

if TYPE_CHECKING:
    from skep.lang.aggregates import TextStorage
    from skep.lang.walk import Walker


def expr(c: Walker, node: ast.expr) -> Value:
    """The value of an expression; emits what computes it."""
    c.at(node)
    made = _TABLE.get(type(node), _refused)(c, node)
    made.node = node
    return made


def number(c: Walker, node: ast.expr, why: str = "") -> Value:
    """The integer an expression computes."""
    return c.as_int(expr(c, node), node, why)


# --- names and constants ------------------------------------------------------------------------------


def _constant(c: Walker, node: ast.Constant) -> Value:
    return constant(c, node.value, node)


def constant(c: Walker, value: Any, node: ast.AST) -> Value:
    """A Python constant as a Value."""
    if value is None:
        return c.none()
    if isinstance(value, bool):
        return c.bool_const(value)
    if isinstance(value, int):
        if not -(1 << 63) <= value < 1 << 64:
            raise c.error(node, f"{int(value)} needs more than 64 bits", "split it in two")
        return c.int_const(int(value))
    if isinstance(value, str):
        return c.text(value.encode())
    if isinstance(value, bytes):
        return c.text(value)
    if isinstance(value, tuple):
        return c.tuple([constant(c, item, node) for item in value])
    if isinstance(value, float):
        raise c.error(node, "programs have no floating-point numbers", "scale it to an integer")
    raise c.error(
        node,
        f"a constant of type {type(value).__name__} has no meaning in a program",
        "integers, texts and tuples of them have",
    )


def _name(c: Walker, node: ast.Name) -> Value:
    value = name(c, node.id, node)
    value.type.escapes()
    return value


def owner(c: Walker, node: ast.expr) -> Value:
    """The value whose attribute is taken or set."""
    if isinstance(node, ast.Name):
        c.at(node)
        made = name(c, node.id, node)
        made.node = node
        return made
    return expr(c, node)


def name(c: Walker, id: str, node: ast.AST) -> Value:
    """The value of a name: a local variable, else what the module or Python itself calls so."""
    scope = c.scope
    key = scope.prefix + id
    bound = c.env.get(key)
    if bound is not None:
        return c.read(bound)
    if id in scope.locals:
        why = c.lost.get(key, "unassigned")
        if why == "unassigned":
            hint = f"assign it on every path, or before: {id} = 0"
            if type(scope.globals.get(id)) is Global:
                hint = f"say that the program's own is meant: global {id}"
            elif id in scope.globals:
                hint = f"it is assigned here, so the module's {id} is another one: rename the variable"
            raise c.error(node, f"{id} may be used before it has a value", hint)
        if why.startswith(("given", "only")):
            raise c.error(node, f"{id} was {why}", "use it before, or acquire another one")
        gone = why.startswith("no longer")
        raise c.error(node, f"{id} is {why}", "use it inside the block" if gone else "use two variables")
    if id in scope.closure:
        return objects.wrap(c, scope.closure[id], node, id)
    if id in scope.globals:
        kept = paths.taken(c, node) if isinstance(node, ast.Name) else None
        if kept is not None:
            return kept
        return objects.wrap(c, scope.globals[id], node, id)
    if hasattr(builtins, id):
        return objects.wrap(c, getattr(builtins, id), node, id)
    hint = c.nearest(id, [*scope.locals, *scope.globals])
    from skep.bpf import constants

    if id.startswith("bpf_"):
        hint = f"did you mean bpf.{id.removeprefix('bpf_')}?"
    elif constants.constant(id) is not None:
        hint = f"did you mean bpf.{id}?"
    raise c.error(
        node,
        f"{id!r} is not defined",
        hint if hint.startswith("did") else "define or import it in the module",
    )


def _attribute(c: Walker, node: ast.Attribute) -> Value:
    kept = paths.taken(c, node)
    if kept is not None:
        return kept
    value = owner(c, node.value)
    c.at(node)
    return value.type.attr(c, value, node.attr, node)


def _subscript(c: Walker, node: ast.Subscript) -> Value:
    value = expr(c, node.value)
    if isinstance(node.slice, ast.Slice):
        from skep.lang.slices import view

        return view(c, value, node.slice)
    index = expr(c, node.slice)
    c.at(node)
    return value.type.item(c, value, index, node)


def _tuple(c: Walker, node: ast.Tuple | ast.List) -> Value:
    items = []
    for item in node.elts:
        if isinstance(item, ast.Starred):
            raise c.error(item, "unpacking inside a tuple is not compiled", "write the items")
        value = expr(c, item)
        items.append(value.type.materialise(c, value, item))  # a swap takes all values first
    return c.tuple(items)


# --- operators ----------------------------------------------------------------------------------------


def folded(c: Walker, node: ast.expr) -> int | None:
    """The number that an expression of constants is, however large on the way; None when it is no such."""
    if isinstance(node, ast.Constant):
        return node.value if type(node.value) is int else None
    if isinstance(node, ast.UnaryOp):
        of = folded(c, node.operand)
        if of is None or isinstance(node.op, ast.Not):
            return None
        return -of if isinstance(node.op, ast.USub) else ~of if isinstance(node.op, ast.Invert) else of
    if isinstance(node, ast.Name):
        if node.id in c.scope.locals:
            return None
        found = c.scope.closure.get(node.id, c.scope.globals.get(node.id))
        return found if type(found) is int else None
    if not isinstance(node, ast.BinOp):
        return None
    right = folded(c, node.right)  # the shorter side of a long chain
    left = None if right is None else folded(c, node.left)
    if left is None or right is None:
        return None
    if isinstance(node.op, (ast.LShift, ast.Pow)) and not 0 <= right <= _WIDEST:
        return None
    try:
        made = _PYTHON[type(node.op)](left, right)
    except (KeyError, ZeroDivisionError, ValueError):
        return None
    return made if made.bit_length() <= 8 * _WIDEST else None


#: numbers of more bits are not computed while compiling
_WIDEST = 1024
_PYTHON: dict[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.LShift: operator.lshift,
    ast.RShift: operator.rshift,
    ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_,
    ast.BitXor: operator.xor,
    ast.Pow: operator.pow,
}


def _binop(c: Walker, node: ast.BinOp) -> Value:
    known = folded(c, node)
    if known is not None:
        return constant(c, known, node)
    left = expr(c, node.left)
    if left.type is TEXT and isinstance(node.op, ast.Mod):
        raise c.error(
            node, "text is not formatted in a program", 'bpf.printk(f"...") formats, or store the values'
        )
    right = expr(c, node.right)
    c.at(node)
    return operate(c, node.op, remainders.masked(c, node, left), right, node)


def operate(c: Walker, op: ast.operator, a: Value, b: Value, node: ast.AST) -> Value:
    """``a op b``."""
    if a.type is TEXT or b.type is TEXT:
        if a.type is b.type and isinstance(op, ast.Add):
            return c.text(a.obj + b.obj)
        text, times = (a, b) if a.type is TEXT else (b, a)
        if isinstance(op, ast.Mult) and times.const is not None and 0 <= times.const * len(text.obj) <= 4096:
            return c.text(text.obj * times.const)
        raise c.error(node, "a text cannot be computed with", "texts are constants, or fields of a struct")
    if a.type is TUPLE and isinstance(op, ast.Mult):
        raise c.error(node, "a tuple is not repeated", "xs = bpf.array(u64, 8) is eight numbers, all 0")
    if isinstance(a.type, BoolType) and isinstance(b.type, BoolType):
        if isinstance(op, ast.BitAnd):
            return c.bool_and(a, b)
        if isinstance(op, ast.BitOr):
            return c.bool_or(a, b)
        if isinstance(op, ast.BitXor):
            return c.boolean(c.em.op(f"xor i1 {a.ir}, {b.ir}"))
    left_node = getattr(node, "left", node)
    right_node = getattr(node, "right", node)
    if isinstance(a.type, PtrType) and not (a.type.of.scalar or a.type.of.is_text):
        raise c.error(left_node, f"{a.type.name} is no integer", "compute with its fields")
    left = c.as_int(a, left_node)
    return arith.binary(c, op, left, c.as_int(b, right_node), node)


def _unary(c: Walker, node: ast.UnaryOp) -> Value:
    if isinstance(node.op, ast.Not):
        value = expr(c, node.operand)
        if value.type.nullable and value.type is not OPTIONAL:
            return c.bool_not(value.type.truth(c, value, node.operand))
        return c.bool_not(c.truth(value, node.operand))
    known = folded(c, node)
    if known is not None:
        return constant(c, known, node)
    value = number(c, node.operand)
    if isinstance(node.op, ast.UAdd):
        return value
    return arith.negate(c, value) if isinstance(node.op, ast.USub) else arith.invert(c, value)


def _boolop(c: Walker, node: ast.BoolOp | ast.Compare) -> Value:
    """``and``/``or`` and chained comparisons as a value: truth values only, so the result has one type."""
    yes, no, done = c.label("t"), c.label("f"), c.label("j")
    key = f"${id(node)}"
    before, c.only_bools = c.only_bools, True
    then, other = tests.branch(c, node, yes, no)
    c.only_bools = before
    return _merge(c, key, [(yes, then, c.bool_const(True)), (no, other, c.bool_const(False))], done, node)


def _ifexp(c: Walker, node: ast.IfExp, room: TextStorage | None = None) -> Value:
    room = room or _room(c, node)
    yes, no, done = c.label("t"), c.label("f"), c.label("j")
    before, c.only_bools = c.only_bools, False
    then, other = tests.branch(c, node.test, yes, no)
    c.only_bools = before
    key = f"${id(node)}"
    return _merge(c, key, [(yes, then, node.body), (no, other, node.orelse)], done, node, room)


def _room(c: Walker, node: ast.IfExp) -> TextStorage | None:
    """What holds each of several constant texts, ``"in" if x else "out"``; None for other choices."""
    from skep.lang.aggregates import TextStorage

    texts: list[bytes] = []
    sides = [node.body, node.orelse]
    whole = True
    for side in sides:
        if isinstance(side, ast.IfExp):
            sides += [side.body, side.orelse]
            continue
        found = side.value if isinstance(side, ast.Constant) else None
        if isinstance(side, ast.Name) and side.id not in c.scope.locals:
            found = c.scope.closure.get(side.id, c.scope.globals.get(side.id))
        if not isinstance(found, (str, bytes)):
            return None
        whole &= isinstance(found, bytes)
        texts.append(found if isinstance(found, bytes) else found.encode())
    if len(set(texts)) == 1:
        return None
    longest = max(map(len, texts))
    whole &= all(len(text) == longest for text in texts)
    return TextStorage(longest if whole else longest + 1, not whole)


def _merge(
    c: Walker,
    key: str,
    sides: list[tuple[str, Any, Any]],
    done: str,
    node: ast.AST,
    room: TextStorage | None = None,
) -> Value:
    """The value that one of two paths gives; ``room`` is for constant texts."""
    ends = []
    kinds = []
    only: Value | None = None
    for label, env, source in sides:
        if env is None:
            continue
        c.em.place(label)
        c.env = env
        if isinstance(source, Value):
            value = source
        else:
            value = _ifexp(c, source, room) if isinstance(source, ast.IfExp) else expr(c, source)
        if room is not None and value.type is TEXT:
            at = c.text_ptr(value.obj.ljust(room.size, b"\0"), terminated=False)
            value = Value(PtrType(room, "mem", writable=False), at)
        only = c.bind(key, value, node)
        kinds.append(value.type.name)
        c.em.br(done)
        ends.append(c.env)
    c.em.place(done)
    c.env = join(ends, c.lost)
    bound = c.env.pop(key, None)
    if len(ends) == 1 and bound is None:
        bound = only
    if bound is None:
        raise c.error(node, f"the two sides differ: {' and '.join(kinds)}", "give both the same type")
    return c.read(bound)


def _compare(c: Walker, node: ast.Compare) -> Value:
    if len(node.ops) > 1:
        return _boolop(c, node)
    return tests.compare_node(c, node)[0]


def _named(c: Walker, node: ast.NamedExpr) -> Value:
    value = expr(c, node.value)
    return c.read(tests.assign_local(c, node.target.id, value, node))


def _call(c: Walker, node: ast.Call) -> Value:
    return calls.call(c, node)


def _fstring(c: Walker, node: ast.JoinedStr) -> Value:
    words = [str(part.value) for part in node.values if isinstance(part, ast.Constant)]
    if len(words) == len(node.values):
        return c.text("".join(words).encode())
    raise c.error(
        node, 'an f-string is for bpf.printk(f"...") only', "store the values and format them in Python"
    )


_REASONS: dict[type[ast.AST], tuple[str, str]] = {
    ast.Lambda: ("lambda is not compiled here", "define a function"),
    ast.ListComp: ("comprehensions are not compiled", "write a for loop over a bpf.array"),
    ast.SetComp: ("comprehensions are not compiled", "use a map"),
    ast.DictComp: ("comprehensions are not compiled", "use a map"),
    ast.GeneratorExp: ("generator expressions are not compiled", "write a for loop"),
    ast.Dict: ("a dict does not exist inside a program", "declare a map: bpf.Hash(K, V)"),
    ast.Set: ("a set does not exist inside a program", "declare a map: bpf.Hash(K, u8)"),
    ast.Await: ("await is not compiled", "programs run to their end"),
    ast.Yield: ("yield is not compiled", "send records through a ring buffer: bpf.RingBuf"),
    ast.YieldFrom: ("yield is not compiled", "send records through a ring buffer: bpf.RingBuf"),
    ast.Starred: ("* is not compiled here", "write the values"),
}


def _refused(c: Walker, node: ast.expr) -> Value:
    reason, hint = _REASONS.get(type(node), (f"{type(node).__name__} is not compiled", ""))
    raise c.error(node, reason, hint)


_TABLE: dict[type[ast.expr], Callable[[Walker, Any], Value]] = {
    ast.Constant: _constant,
    ast.Name: _name,
    ast.Attribute: _attribute,
    ast.Subscript: _subscript,
    ast.Tuple: _tuple,
    ast.List: _tuple,
    ast.BinOp: _binop,
    ast.UnaryOp: _unary,
    ast.BoolOp: _boolop,
    ast.IfExp: _ifexp,
    ast.Compare: _compare,
    ast.NamedExpr: _named,
    ast.Call: _call,
    ast.JoinedStr: _fstring,
}

__all__ = ["NONE", "IntType", "constant", "expr", "name", "number", "operate"]
