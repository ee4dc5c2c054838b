"""Functions that the kernel calls: ``bpf.loop(n, f)``, ``table.for_each(f)``, timers.

A callback is compiled like a subprogram. What its parameters mean is the helper's: a number, a reference to a
map's key or value, or what the caller gave along.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any

from skep.bpf import types as t
from skep.bpf.programs import Subprog
from skep.lang import namespace as ns
from skep.lang.layout import IntStorage, Storage
from skep.lang.scope import Scope
from skep.lang.values import INT, NONE, OBJECT, PtrType, Type, Value

if TYPE_CHECKING:
    from skep.lang.unit import Unit
    from skep.lang.walk import Walker

#: by helper, what its callback is given
KINDS: dict[str, tuple[str, ...]] = {
    "loop": ("number", "reference"),
    "for_each": ("opaque", "reference", "reference", "reference"),
    "for_each_map_elem": ("opaque", "reference", "reference", "reference"),
    "timer_set_callback": ("opaque", "reference", "reference"),
    "wq_set_callback": ("opaque", "reference", "reference"),
    "task_work_schedule_signal": ("opaque", "reference", "reference"),
    "task_work_schedule_resume": ("opaque", "reference", "reference"),
    "user_ringbuf_drain": ("sample", "reference"),
    "rbtree_add": ("node", "node"),
    "find_vma": ("task_struct", "vm_area_struct", "reference"),
}


class Opaque(Type):
    """An argument that a callback gets and can only pass on."""

    name = "an object of the kernel"
    llvm = "ptr"


#: what a function is given: a reference to this, nothing (None), or what it says itself ("any")
Given = Storage | str | None


def callback(c: Walker, value: Value, node: ast.AST, helper: str = "", given: tuple[Given, ...] = ()) -> str:
    """The operand of a function that ``helper`` (by default the one called at ``node``) will call.

    ``given`` are what its parameters are references to, where the call says it.
    """
    if not helper:
        helper = getattr(getattr(node, "func", None), "attr", "")
    fn = value.obj.fn if value.type is OBJECT and isinstance(value.obj, Subprog) else value.obj
    if value.type is not OBJECT or not hasattr(fn, "__code__"):
        raise c.error(node, f"{value.type.name} is no function", "give the name of a function")
    kinds = KINDS.get(helper)
    if kinds is None:
        raise c.error(node, f"bpf.{helper}() calls no function", "bpf.loop and table.for_each do")
    shown = tuple(getattr(one, "label", one.name) if isinstance(one, Storage) else str(one) for one in given)
    key = (id(fn), (*kinds, *shown))
    known = c.unit.callbacks.get(key)
    if known is None:
        if any(scope.fn is fn for scope in c.scopes):
            raise c.error(node, f"{fn.__name__}() calls itself: programs have no recursion", "write a loop")
        if any(one == key[0] for one, _ in c.unit.callbacks):
            raise c.error(
                node,
                f"{fn.__name__}() is given along with other types than before",
                "write a function for each, which call one",
            )
        known = c.unit.callbacks[key] = _compile(c, fn, kinds, node, given)
    return f"@{known}"


def _compile(caller: Walker, fn: Any, kinds: tuple[str, ...], node: ast.AST, given: tuple[Given, ...]) -> str:
    from skep.lang.walk import Walker

    unit: Unit = caller.unit
    file = unit.source(fn)
    tree = file.function(fn)
    params = tree.args.args
    if len(params) > len(kinds):
        raise file.error(
            params[len(kinds)],
            f"{fn.__name__}() is called with {len(kinds)} arguments",
            "leave the others out",
        )
    symbol = unit.function_symbol(fn.__name__, file, tree)
    probe = Scope(fn, tree, file, "", "")
    di = unit.di
    opaque = di.pointer("null")
    types = [di.integer(t.u32) if kind == "number" else opaque for kind in kinds]
    names = [param.arg for param in params] + [f"unused{i}" for i in range(len(params), len(kinds))]
    debug = di.subprogram(
        symbol,
        unit.file_node(file),
        tree.lineno,
        di.base("long long", 64, "signed"),
        list(zip(names, types, strict=True)),
        local=True,
    )
    c = Walker(unit, caller.program)
    scope = Scope(fn, tree, file, "", debug)
    scope.result, scope.optional_result = "i64", True
    scope.verdicts = (0, 0) if kinds == KINDS["timer_set_callback"] else (0, 1)
    c.scopes.append(scope)
    if "node" in kinds:
        c.under_lock, c.em.guard = True, c.refuse_under_lock
    c.at(tree, force=True)
    for i, (param, kind) in enumerate(zip(params, kinds, strict=False)):
        is_ = given[i] if i < len(given) else "any"
        c.bind(param.arg, _argument(c, probe, param, kind, f"%a{i}", is_), param)
    unit.body(c, tree)
    words = ", ".join(f"{'i32' if kind == 'number' else 'ptr'} %a{i}" for i, kind in enumerate(kinds))
    unit.functions.append(
        f'define internal i64 @{symbol}({words}) #1 section ".text" !dbg {debug} {{\n{c.em.text()}\n}}'
    )
    return symbol


def _argument(c: Walker, probe: Scope, param: ast.arg, kind: str, operand: str, given: Given) -> Value:
    record, _ = ns.unwrap(ns.annotation(probe, param.arg))
    if kind == "number":
        return Value(INT, c.em.op(f"zext i32 {operand} to i64"), 0, 0xFFFFFFFF)
    if kind.endswith("_struct"):
        from skep.lang.core_refs import KernelRef
        from skep.lang.kernel_types import types_of

        of = types_of(c, param).by_name(kind)
        if of is not None:
            return Value(KernelRef(of, "btf"), operand)
    if kind == "node":
        from skep.lang.graphs import seen

        return seen(c, given, record, operand, param)
    if kind == "opaque" or record is None:
        return Value(Opaque(), operand)
    storage = c.unit.storage(record, c, param)
    if given is None:
        raise c.error(
            param,
            f"nothing is given along for {param.arg!r}",
            "bpf.loop(n, f, state), table.for_each(f, state)",
        )
    if isinstance(given, Storage) and not storage.same(given):
        raise c.error(
            param, f"{param.arg!r} is {given.name} here, not {storage.name}", "change the annotation"
        )
    if kind == "sample":
        return _sample(c, storage, operand, param)
    if isinstance(storage, IntStorage):
        return storage.load(c, operand, param)
    return Value(PtrType(storage, "mem"), operand)


def _sample(c: Walker, storage: Storage, dynptr: str, param: ast.arg) -> Value:
    """A copy of what user space sent (it may change it meanwhile); what is too short is skipped."""
    room = c.buffer(storage.size, 8)
    got = c.helper(201, [f"ptr {room}", f"i64 {storage.size}", f"ptr {dynptr}", "i64 0", "i64 0"])
    fits, short = c.label("fits"), c.label("short")
    c.em.cond(c.em.op(f"icmp eq i64 {got}, 0"), fits, short)
    c.em.place(short)
    c.em.ret("i64 0")
    c.em.place(fits)
    return storage.load(c, room, param) if storage.scalar else Value(PtrType(storage, "stack"), room)


def given_along(value: Value | None) -> Given:
    """What a function gets a reference to when ``value`` is given along."""
    if value is None or value.type is NONE:
        return None
    return value.type.of if isinstance(value.type, PtrType) else "any"


def context(c: Walker, value: Value | None, node: ast.AST) -> str:
    """The operand of what is given along to a callback: a reference to a struct, or nothing."""
    if value is None or value.type is NONE:
        return "ptr null"
    if not isinstance(value.type, PtrType):
        raise c.error(
            node, f"{value.type.name} cannot be given along", "give a struct: its fields can be changed"
        )
    if value.type.nullable:
        c.refuse_none(value, node)
    if value.type.space not in ("stack", "mem"):
        raise c.error(
            node,
            f"this {value.type.of.name} lies in a map, and what is given along lies on the stack",
            "look it up in the function, or give a struct with its key",
        )
    return f"ptr {value.ir}"
