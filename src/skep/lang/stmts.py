"""Statements."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from skep.bpf.globals import Global
from skep.bpf.types import ArrayType, BytesType, CharType
from skep.lang import emptied, loops, references, tests
from skep.lang.exprs import expr
from skep.lang.exprs import owner as owner_of
from skep.lang.scope import join
from skep.lang.values import NONE, OBJECT, TEXT, TUPLE, PtrType, Type, Value

if TYPE_CHECKING:
    from skep.lang.walk import Walker


def block(c: Walker, body: list[ast.stmt]) -> None:
    """Walk statements in order, until none can follow."""
    around = c.statement
    for node in body:
        if not c.live:
            break
        c.statement = node
        c.at(node, force=True)
        mark = c.em.temporaries()
        _TABLE.get(type(node), _refused)(c, node)
        c.em.release(mark)
    c.statement = around


def _pass(c: Walker, node: ast.stmt) -> None:
    return


def _expression(c: Walker, node: ast.Expr) -> None:
    if isinstance(node.value, ast.Constant):
        return  # a docstring, or ...
    value = expr(c, node.value)
    value.type.dropped(c, value, node)
    references.unused(c, value, node)


# --- assignment ---------------------------------------------------------------------------------------


def _assign(c: Walker, node: ast.Assign) -> None:
    value = expr(c, node.value)
    for target in node.targets:
        assign(c, target, value, node)


def assign(c: Walker, target: ast.expr, value: Value, node: ast.AST) -> None:
    """``target = value``."""
    if isinstance(target, ast.Name):
        name = target.id
        if name in c.scope.locals:
            if type(c.scope.globals.get(name)) is Global:
                raise c.error(
                    target,
                    f"{name} is a global of the program, and this would make another, local one",
                    f"say that it is meant: global {name}",
                )
            tests.assign_local(c, name, local_memory(c, value, node), node)
        else:
            c.unit.set_global(c, name, value, node)
    elif isinstance(target, ast.Attribute):
        owner = owner_of(c, target.value)
        c.at(target)
        owner.type.set_attr(c, owner, target.attr, value, target)
    elif isinstance(target, ast.Subscript):
        owner = expr(c, target.value)
        if isinstance(target.slice, ast.Slice):
            from skep.lang.slices import view

            piece = view(c, owner, target.slice)
            if not isinstance(piece.type, PtrType) or not piece.type.writable:
                raise c.error(target, f"{owner.type.name} is read-only here", "copy what you need to change")
            piece.type.of.store(c, piece.ir, value, node)
            return
        owner.type.set_item(c, owner, expr(c, target.slice), value, target)
    elif isinstance(target, (ast.Tuple, ast.List)):
        items = value.type.items(c, value, node)
        if items is None:
            where = c.blamed(value, node) if isinstance(node, ast.Assign) else target
            raise c.error(where, f"{value.type.name} cannot be unpacked", "unpack a tuple")
        stars = [i for i, one in enumerate(target.elts) if isinstance(one, ast.Starred)]
        if len(stars) == 1 and len(items) >= len(target.elts) - 1:  # what the others leave, as a tuple
            star = stars[0]
            end = star + len(items) - len(target.elts) + 1
            items = [*items[:star], c.tuple(items[star:end]), *items[end:]]
        if len(items) != len(target.elts):
            raise c.error(target, f"{len(items)} values for {len(target.elts)} names", "give each a name")
        for part, item in zip(target.elts, items, strict=True):
            assign(c, part.value if isinstance(part, ast.Starred) else part, item, node)
    else:
        raise c.error(target, "this cannot be assigned to", "assign to a name, field or element")


def local_memory(c: Walker, value: Value, node: ast.AST) -> Value:
    """``buf = bpf.array(u64, 8)`` makes zeroed memory on the stack."""
    if value.type is OBJECT and isinstance(value.obj, (ArrayType, CharType, BytesType)):
        storage = c.unit.storage(value.obj, c, node)
        c.fits(storage.size, node)
        address = c.buffer(storage.size, max(8, storage.align), ("local", c.scope.prefix, id(node)))
        c.zero(address, storage.size, 8)
        return Value(PtrType(storage, "stack"), address)
    return value


def _annotated(c: Walker, node: ast.AnnAssign) -> None:
    if not isinstance(node.target, ast.Name):
        raise c.error(node.target, "only names are annotated in a program", "leave the annotation out")
    name = node.target.id
    storage = c.unit.local_annotation(c, node.annotation)
    if storage is not None and storage.scalar:
        c.scope.declared[name] = storage
    elif storage is not None:
        c.fits(storage.size, node)
    if node.value is None:
        if storage is not None and not storage.scalar:
            address = c.buffer(storage.size, max(8, storage.align), ("local", c.scope.prefix, id(node)))
            c.zero(address, storage.size, 8)
            c.bind(c.scope.prefix + name, Value(PtrType(storage, "stack"), address), node)
        return
    value = local_memory(c, expr(c, node.value), node)
    if (
        storage is not None
        and not storage.scalar
        and not (isinstance(value.type, PtrType) and value.type.of.same(storage))
    ):
        if value.type is TEXT or value.type is TUPLE or not isinstance(value.type, PtrType):
            address = c.buffer(storage.size, max(8, storage.align), ("local", c.scope.prefix, id(node)))
            c.zero(address, storage.size, 8)
            storage.store(c, address, value, node)
            value = Value(PtrType(storage, "stack"), address)
        else:
            raise c.error(
                node.value, f"{value.type.name} is no {storage.name}", "change the annotation, or the value"
            )
    if storage is not None and storage.scalar and not c.is_number(value):
        if value.type is NONE:
            raise c.error(
                node.value, f"a {storage.name} is never None", "start with a number, or leave the type out"
            )
        if value.type.nullable:
            c.refuse_none(value, node.value)
        raise c.error(
            node.value, f"{value.type.name} is no {storage.name}", "change the annotation, or the value"
        )
    tests.assign_local(c, name, value, node)


def _augmented(c: Walker, node: ast.AugAssign) -> None:
    target = node.target
    if isinstance(target, ast.Subscript):
        owner = expr(c, target.value)
        index = expr(c, target.slice)
        by = expr(c, node.value)
        c.at(node)
        owner.type.add_item(c, owner, index, node.op, by, node)
        return
    if isinstance(target, ast.Attribute):
        owner = expr(c, target.value)
        by = expr(c, node.value)
        c.at(node)
        owner.type.add_attr(c, owner, target.attr, node.op, by, node)
        return
    if target.id not in c.scope.locals and c.unit.add_global(c, target.id, node.op, node):
        return
    old = expr(c, ast.copy_location(ast.Name(target.id, ast.Load()), target))
    if old.type.nullable:
        c.refuse_none(old, target)
    if isinstance(old.type, PtrType) and old.type.of.scalar:
        raise c.error(
            target,
            f"{target.id} refers to {old.type.of.name} in memory, and this would not change that",
            f"{target.id}.value {ast.unparse(node)[len(target.id) :].strip()}",
        )
    value = c.binary(node.op, old, expr(c, node.value), node)
    assign(c, target, value, node)


def _delete(c: Walker, node: ast.Delete) -> None:
    for target in node.targets:
        if isinstance(target, ast.Subscript):
            owner = expr(c, target.value)
            owner.type.del_item(c, owner, expr(c, target.slice), target)
        elif isinstance(target, ast.Name):
            expr(c, ast.copy_location(ast.Name(target.id, ast.Load()), target))
            c.env.pop(c.scope.prefix + target.id, None)
        else:
            raise c.error(target, "only elements of maps are deleted", "del table[key]")


def _global(c: Walker, node: ast.Global) -> None:
    # The compiler of Python itself has taken the names out of the locals already.
    for name in node.names:
        if name not in c.scope.globals:
            raise c.error(node, f"{name} is no global of the module", f"declare it: {name}: u64 = bpf.var(0)")


# --- paths --------------------------------------------------------------------------------------------


def _if(c: Walker, node: ast.If) -> None:
    yes, no, done = c.label("then"), c.label("else"), c.label("fi")
    then, other = tests.branch(c, node.test, yes, no)
    ends = []
    for label, env, body in ((yes, then, node.body), (no, other, node.orelse)):
        if env is None:
            continue
        c.em.place(label)
        c.env, c.live = env, True
        block(c, body)
        if c.live:
            c.em.br(done)
            ends.append(c.env)
    if not ends:
        c.live = False
        return
    c.em.place(done)
    c.env, c.live = join(ends, c.lost), True


def _return(c: Walker, node: ast.Return) -> None:
    value = c.none() if node.value is None else expr(c, node.value)
    give_back(c, value, node)


def give_back(c: Walker, value: Value, node: ast.AST) -> None:
    """Leave the function with ``value``."""
    scope = c.scope
    if scope.on_return:
        c.bind(f"{scope.prefix}$ret", value, node)
        leave(c, 0, node)
        c.em.br(scope.on_return)
        scope.returns.append(c.env)
    else:
        operand = c.unit.result_operand(c, value, node)
        leave(c, 0, node)
        references.leaving(c, node)
        c.em.ret(operand)
    c.live = False


def leave(c: Walker, depth: int, node: ast.AST) -> None:
    """Run the exits of open ``with`` blocks down to ``depth``, innermost first; they stay open."""
    for close in reversed(c.scope.withs[depth:]):
        close()


def _break(c: Walker, node: ast.Break) -> None:
    loop = c.scope.loops[-1]
    leave(c, loop.withs, node)
    c.em.br(loop.on_break)
    loop.breaks.append(c.env)
    c.live = False


def _continue(c: Walker, node: ast.Continue) -> None:
    loop = c.scope.loops[-1]
    leave(c, loop.turn_withs, node)
    c.em.br(loop.on_continue)
    loop.continues.append(c.env)
    c.live = False


def _with(c: Walker, node: ast.With) -> None:
    _with_items(c, node, 0)


def _with_items(c: Walker, node: ast.With, at: int) -> None:
    if at == len(node.items):
        block(c, node.body)
        return
    item = node.items[at]
    manager = expr(c, item.context_expr)
    c.at(item.context_expr)
    references.refuse_with(c, manager, item.context_expr)
    entered, test = manager.type.enter(c, manager, item.context_expr)
    after = c.label("after")
    skipped = None
    if test is not None:
        inside, outside = c.label("with"), c.label("skip")
        c.em.cond(test.ir, inside, outside)
        c.em.place(outside)
        before = dict(c.env)
        manager.type.skipped(c, manager, item.context_expr)
        c.em.br(after)
        skipped, c.env = c.env, before
        c.em.place(inside)
        manager.type.begin(c, manager, entered, item.context_expr)
    if item.optional_vars is not None:
        if not isinstance(item.optional_vars, ast.Name):
            raise c.error(item.optional_vars, "'with ... as' takes a name", "with ring.reserve() as e:")
        assign(c, item.optional_vars, entered, node)
    # The binding may be gone by the time of the exit: it works on what was entered.
    c.scope.withs.append(lambda: manager.type.exit(c, manager, entered, item.context_expr))
    _with_items(c, node, at + 1)
    close = c.scope.withs.pop()
    if c.live:
        close()
    if c.live:
        c.em.br(after)
    ends = [env for env in (c.env if c.live else None, skipped) if env is not None]
    if not ends:
        c.live = False
        return
    c.em.place(after)
    c.env, c.live = join(ends, c.lost), True
    if item.optional_vars is not None and isinstance(item.optional_vars, ast.Name):
        key = c.scope.prefix + item.optional_vars.id
        if c.env.pop(key, None) is not None or key in c.lost:
            c.lost[key] = "no longer there: its block has ended"


def _match(c: Walker, node: ast.Match) -> None:
    """``match`` on values: an if for each case."""
    name = f"$match{id(node)}"
    subject = ast.copy_location(ast.Name(name, ast.Load()), node.subject)
    c.bind(c.scope.prefix + name, expr(c, node.subject), node)
    orelse: list[ast.stmt] = []
    for case in reversed(node.cases):
        if isinstance(case.pattern, ast.MatchAs) and case.pattern.pattern is None and case.pattern.name:
            # a name takes the value, whatever it is; its guard may look at it
            taken = ast.copy_location(ast.Name(case.pattern.name, ast.Store()), case.pattern)
            bound = ast.copy_location(ast.Assign([taken], subject), case.pattern)
            if case.guard is None:
                orelse = [bound, *case.body]
            else:
                orelse = [bound, ast.copy_location(ast.If(case.guard, case.body, orelse), case.pattern)]
            continue
        test = _pattern(c, case.pattern, subject)
        if case.guard is not None:
            test = case.guard if test is None else ast.BoolOp(ast.And(), [test, case.guard])
        if test is None:
            orelse = case.body
            continue
        ast.copy_location(test, case.pattern)
        orelse = [ast.copy_location(ast.If(test, case.body, orelse), case.pattern)]
    block(c, [ast.fix_missing_locations(one) for one in orelse])
    c.env.pop(c.scope.prefix + name, None)


def _pattern(c: Walker, pattern: ast.pattern, subject: ast.expr) -> ast.expr | None:
    """The condition under which a pattern matches; None when it always does."""
    if isinstance(pattern, ast.MatchValue):
        return ast.copy_location(ast.Compare(subject, [ast.Eq()], [pattern.value]), pattern)
    if isinstance(pattern, ast.MatchSingleton):
        constant = ast.copy_location(ast.Constant(pattern.value), pattern)
        return ast.copy_location(ast.Compare(subject, [ast.Is()], [constant]), pattern)
    if isinstance(pattern, ast.MatchAs) and pattern.pattern is None and pattern.name is None:
        return None
    if isinstance(pattern, ast.MatchOr):
        tests_of = [_pattern(c, part, subject) for part in pattern.patterns]
        if None in tests_of:
            return None
        return ast.copy_location(ast.BoolOp(ast.Or(), [test for test in tests_of if test]), pattern)
    raise c.error(pattern, "match compares values only", "case 1 | 2:, case Color.RED:, case None:, case _:")


# --- refusals -----------------------------------------------------------------------------------------

_REASONS: dict[type[ast.AST], tuple[str, str]] = {
    ast.Try: ("programs have no exceptions", "test for None, or look at what the helper returns"),
    ast.TryStar: ("programs have no exceptions", "test for None, or look at what the helper returns"),
    ast.Raise: ("programs have no exceptions", "return an error value"),
    ast.Assert: ("assert is not compiled", "write: if not (...): return ..."),
    ast.FunctionDef: ("functions inside a program are not compiled", "define it at module level"),
    ast.AsyncFunctionDef: ("programs run to their end: async means nothing here", "define it with def"),
    ast.ClassDef: (
        "classes inside a program are not compiled",
        "declare it at module level with @bpf.struct",
    ),
    ast.Import: ("import inside a program is not compiled", "import at module level"),
    ast.ImportFrom: ("import inside a program is not compiled", "import at module level"),
    ast.Nonlocal: ("variables of an enclosing function cannot be set", "use a global: x: u64 = bpf.var(0)"),
    ast.AsyncFor: ("programs run to their end: async means nothing here", "write for"),
    ast.AsyncWith: ("programs run to their end: async means nothing here", "write with"),
}


def _refused(c: Walker, node: ast.stmt) -> None:
    reason, hint = _REASONS.get(type(node), (f"{type(node).__name__} is not compiled", ""))
    raise c.error(node, reason, hint)


_TABLE: dict[type[ast.stmt], Callable[[Walker, Any], None]] = {
    ast.Pass: _pass,
    ast.Expr: _expression,
    ast.Assign: _assign,
    ast.AnnAssign: _annotated,
    ast.AugAssign: _augmented,
    ast.Delete: _delete,
    ast.Global: _global,
    ast.If: _if,
    ast.While: emptied.while_,
    ast.For: loops.for_,
    ast.Return: _return,
    ast.Break: _break,
    ast.Continue: _continue,
    ast.With: _with,
    ast.Match: _match,
}

__all__ = ["Type", "assign", "block", "give_back", "leave"]
