"""Functions that stay functions in the object: ``@bpf.subprog``."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any, NamedTuple

from skep.bpf.programs import Subprog
from skep.bpf.types import u64
from skep.lang import namespace as ns
from skep.lang.arena import ArenaPointerStorage
from skep.lang.layout import BoolStorage, IntStorage, Storage
from skep.lang.scope import Scope
from skep.lang.values import INT, NONE, PtrType, Type, Value

if TYPE_CHECKING:
    from skep.lang.unit import Unit
    from skep.lang.walk import Walker


class Made(NamedTuple):
    """A compiled subprogram: its parameters' storage (None: the context) and what it returns."""

    symbol: str
    params: list[tuple[str, Storage | None, bool]]
    result: str
    storage: Storage | None
    nullable: bool


def call(c: Walker, obj: Subprog, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
    """Call a subprogram, compiled the first time."""
    from skep.lang.calls import bind_arguments

    if any(scope.fn is obj.fn for scope in c.scopes) or obj in c.unit.compiling:
        raise c.error(node, f"{obj.__name__}() calls itself: programs have no recursion", "write a loop")
    given = bind_arguments(c, obj.fn, args, kwargs, node)
    made = c.unit.subprog(obj) or compile_subprog(c.unit, obj, c, dict(given))
    operands = []
    for (name, storage, nullable), (_, value) in zip(made.params, given, strict=True):
        if storage is None:
            if value.type.llvm != "ptr":
                raise c.error(
                    node, f"{value.type.name} is no pointer of the kernel's", f"see parameter {name!r}"
                )
            if value.type.nullable and not nullable:
                c.refuse_none(value, node, f"what is given for {name!r}")
            operands.append(f"ptr {value.ir}")
        elif isinstance(storage, ArenaPointerStorage):
            operands.append(f"i64 {storage.as_number(c, value, node)}")
        elif storage.scalar:
            number = c.as_int(value, node, f"parameter {name!r} of {obj.__name__}()")
            number = c.as_int(c.unit.convert(c, number, storage, node), node)
            operands.append(f"i64 {number.ir}")
        else:
            operands.append(f"ptr {_reference(c, value, storage, nullable, name, node)}")
    got = f"call {made.result} @{made.symbol}({', '.join(operands)})"
    if made.result == "void":
        c.em.do(got)
        return c.none()
    result = c.em.op(got)
    if made.result == "ptr":
        assert made.storage is not None
        return Value(PtrType(made.storage, "mem", nullable=made.nullable), result)
    return _number(c, made.storage, result)


def _number(c: Walker, storage: Storage | None, operand: str) -> Value:
    if isinstance(storage, ArenaPointerStorage):
        return storage.of_number(c, Value(INT, operand))
    if isinstance(storage, BoolStorage):
        return c.boolean(c.em.op(f"icmp ne i64 {operand}, 0"))
    lo, hi = getattr(storage, "lo", -(1 << 63)), getattr(storage, "hi", (1 << 63) - 1)
    return Value(INT, operand, lo, hi)


def _reference(c: Walker, value: Value, storage: Storage, nullable: bool, name: str, node: ast.AST) -> str:
    kind = value.type
    if kind is NONE and nullable:
        return "null"
    if not isinstance(kind, PtrType) or not kind.of.same(storage):
        raise c.error(
            node, f"parameter {name!r} is {storage.name}, {kind.name} is given", f"give a {storage.name}"
        )
    if kind.nullable and not nullable:
        c.refuse_none(value, node, f"what is given for {name!r}")
    return value.ir


def compile_subprog(
    unit: Unit, obj: Subprog, caller: Walker | None, kinds: dict[str, Value] | None = None
) -> Made:
    """Compile a subprogram into the unit. ``kinds`` are the arguments of its first call: contexts and objects
    of the kernel are of their types."""
    from skep.lang.contexts import ContextRef
    from skep.lang.core_refs import KernelRef
    from skep.lang.walk import Walker

    fn: Any = obj.fn
    file = unit.source(fn)
    tree = file.function(fn)
    symbol = unit.function_symbol(fn.__name__, file, tree)
    c = Walker(unit, caller.program if caller is not None else None)
    probe = Scope(fn, tree, file, "", "")
    params: list[tuple[str, Storage | None, bool]] = []
    described: list[tuple[str, str]] = []
    for arg in tree.args.args:
        record, nullable = ns.unwrap(ns.annotation(probe, arg.arg))
        if record is None:
            raise file.error(arg, f"parameter {arg.arg!r} of a subprogram needs a type", f"{arg.arg}: u64")
        if type(record).__name__ == "Named":
            if kinds is None or obj.global_:
                raise file.error(
                    arg,
                    f"parameter {arg.arg!r} is the kernel's, and only its callers know what it is",
                    "leave global_=True out",
                )
            params.append((arg.arg, None, nullable))
            described.append((arg.arg, unit.di.pointer("null")))
            continue
        c.scopes.append(probe)
        of = unit.storage(record, c, arg)
        c.scopes.pop()
        params.append((arg.arg, of, nullable))
        # The kernel takes an address in the arena for a number.
        kind = unit.di.integer(u64) if isinstance(of, ArenaPointerStorage) else of.describe(unit.di)
        described.append((arg.arg, kind if of.scalar else unit.di.pointer(kind)))
    if len(params) > 5:
        raise file.error(tree.args.args[5], "a subprogram takes at most 5 parameters", "pass a struct")
    record, nullable = ns.unwrap(ns.annotation(probe, "return"))
    result, kind = "void", "null"
    storage: Storage | None = None
    if tree.returns is None:
        raise file.error(tree, f"{fn.__name__}() needs a result type", f"def {fn.__name__}(...) -> u64:")
    if record is not None and record is not type(None):
        c.scopes.append(probe)
        storage = unit.storage(record, c, tree.returns)
        c.scopes.pop()
        arena = isinstance(storage, ArenaPointerStorage)
        kind = unit.di.integer(u64) if arena else storage.describe(unit.di)
        result = "i64" if storage.scalar else "ptr"
        kind = kind if storage.scalar else unit.di.pointer(kind)
    if obj.global_ and result != "i64":
        raise file.error(
            tree.returns,
            "a function that is verified by itself gives a number back",
            "write -> int and return 0, or leave global_=True out",
        )
    local = not obj.global_
    debug = unit.di.subprogram(symbol, unit.file_node(file), tree.lineno, kind, described, local=local)
    scope = Scope(fn, tree, file, "", debug)
    scope.result, scope.result_storage = result, storage
    made = Made(symbol, params, result, storage, nullable)
    unit.compiling.append(obj)
    c.scopes.append(scope)
    c.at(tree, force=True)
    for i, (name, kept, optional) in enumerate(params):
        if kept is None:
            assert kinds is not None and caller is not None
            if kinds[name].ir == caller.ctx:
                c.ctx = f"%a{i}"
            given = kinds[name].type
            if isinstance(given, (KernelRef, ContextRef)):
                given = given.optional(optional)
            c.bind(name, Value(given, f"%a{i}", obj=kinds[name].obj), tree)
            continue
        _bind(c, name, kept, optional, f"%a{i}", tree, own=obj.global_)
    unit.body(c, tree)
    unit.compiling.pop()
    types = ", ".join(
        f"{'i64' if kept is not None and kept.scalar else 'ptr'} %a{i}"
        for i, (_, kept, _) in enumerate(params)
    )
    if unit.target == "host":
        linkage, where = "", "#0"
    else:
        linkage, where = "internal " if local else "", f'#1 section ".text" !dbg {debug}'
    unit.functions.append(f"define {linkage}{result} @{symbol}({types}) {where} {{\n{c.em.text()}\n}}")
    unit.keep_subprog(obj, made)
    return made


def _bind(
    c: Walker, name: str, of: Storage | None, optional: bool, operand: str, node: ast.AST, *, own: bool
) -> None:
    assert of is not None
    if isinstance(of, ArenaPointerStorage):
        c.bind(name, of.of_number(c, Value(INT, operand)), node)
        return
    if of.scalar:
        # The verifier knows nothing of an argument's bounds: wrap it again here.
        value = Value(INT, operand, -(1 << 63), (1 << 64) - 1)
        if isinstance(of, BoolStorage):
            value = c.boolean(c.em.op(f"icmp ne i64 {operand}, 0"))
        else:
            assert isinstance(of, IntStorage)
            value = of.wrap(c, value, node)
        c.scope.declared[name] = of
        c.bind(name, value, node)
        return
    if own and not optional:
        # Verified apart from its callers, it could be given NULL as far as the kernel knows.
        c.abort_unless(c.em.op(f"icmp ne ptr {operand}, null"))
    kind: Type = PtrType(of, "mem", nullable=optional)
    c.bind(name, Value(kind, operand), node)


def pointer_result(c: Walker, value: Value, node: ast.AST) -> str:
    """The operand of a returned reference."""
    if value.type is NONE:
        return "ptr null"
    kind = value.type
    storage = c.scope.result_storage
    if not isinstance(kind, PtrType) or storage is None or not kind.of.same(storage):
        raise c.error(
            node,
            f"{c.scope.fn.__name__}() returns {storage.name if storage else 'nothing'}, not {kind.name}",
            "change what is returned, or the annotation: -> T",
        )
    if kind.space == "stack":
        raise c.error(
            node, "this lives on the stack of the function and ends with it", "return its fields, or inline"
        )
    if kind.space not in ("map", "global", "percpu"):
        raise c.error(
            node,
            "this may lie on the stack of the caller, and the verifier lets no such reference back",
            "return its fields, or inline: leave @bpf.subprog out",
        )
    return f"ptr {value.ir}"
