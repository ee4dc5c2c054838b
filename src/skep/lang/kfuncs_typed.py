"""Kernel functions whose result has a type that their prototype does not tell."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from skep.lang import kfuncs, references
from skep.lang.arguments import named, positional
from skep.lang.contexts import section_of
from skep.lang.core_refs import KernelRef, core_of
from skep.lang.helpers_read import address
from skep.lang.helpers_types import kind_argument
from skep.lang.kernel_types import KStruct, types_of
from skep.lang.values import OBJECT, PtrType, Value

if TYPE_CHECKING:
    from skep.lang.walk import Walker

Function = Callable[["Walker", list[Value], dict[str, Value], ast.AST], Value]


def _declare(c: Walker, name: str, node: ast.AST) -> None:
    kfuncs.check(c, name, node)
    found = types_of(c, node).function(name)
    assert found is not None
    kfuncs.declare(c, name, *found)


def _kern_ctx(c: Walker, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
    """``bpf.cast_to_kern_ctx(ctx)``: the kernel's own struct of it, struct sk_buff in a tc program."""
    positional(c, "bpf.cast_to_kern_ctx", args, kwargs, node, 0, 1)
    name = "bpf_cast_to_kern_ctx"
    _declare(c, name, node)
    if not c.ctx:
        raise c.error(node, "bpf.cast_to_kern_ctx() needs the context, which only a program has")
    # The kernel lists all contexts as members of one struct.
    listed = types_of(c, node).by_name("bpf_ctx_convert")
    kind = section_of(c, node).type.name
    field = listed.field(f"BPF_PROG_TYPE_{kind}_kern") if isinstance(listed, KStruct) else None
    if field is None or not isinstance(field.type, KStruct):
        raise c.error(
            node, f"the kernel lists no struct of its own for the context of {kind.lower()} programs"
        )
    return Value(KernelRef(field.type, "btf"), c.em.op(f"call ptr @{name}(ptr {c.ctx})"))


def _rdonly_cast(c: Walker, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
    """``bpf.rdonly_cast(p, bpf.task_struct)``: any address, read as that type by plain loads."""
    given = named(c, "bpf.rdonly_cast", ("pointer", "type"), 2, args, kwargs, node)
    name = "bpf_rdonly_cast"
    kind = kind_argument(c, given["type"], node)
    if not isinstance(kind, KStruct):
        raise c.error(
            node,
            "bpf.rdonly_cast() takes a pointer and a struct of the kernel's",
            "bpf.rdonly_cast(p, bpf.sock)",
        )
    _declare(c, name, node)
    core = core_of(c)
    number = c.em.op(f"trunc i64 {c.em.op(core.type_id(kind))} to i32")
    got = c.em.op(f"call ptr @{name}(ptr {address(c, given['pointer'], node)}, i32 {number})")
    return Value(KernelRef(kind, "btf"), got)


def _slice(name: str, writable: bool) -> Function:
    """``bpf.dynptr_slice(d, offset, room)``: a piece of a dynptr, in place or copied to ``room``.

    ``room`` is a local struct or array, or the type of one.
    """
    shown = references.shown(name)

    def call(c: Walker, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
        given = named(c, shown, ("dynptr", "offset", "buffer"), 3, args, kwargs, node)
        _declare(c, name, node)
        dynptr, room = given["dynptr"], given["buffer"]
        if not isinstance(dynptr.type, PtrType) or dynptr.type.of.name != "bpf_dynptr":
            raise c.error(node, f"{shown}() takes a dynptr, not {dynptr.type.name}", "d = bpf.Dynptr()")
        references.used(c, dynptr, node)
        if room.type is OBJECT:
            of = c.unit.storage(room.obj, c, node)
            c.fits(of.size, node)
            at = c.buffer(of.size, 8, ("slice", c.scope.prefix, id(node)))
            c.zero(at, of.size, 8)
        elif isinstance(room.type, PtrType) and room.type.space == "stack" and not room.type.nullable:
            of, at = room.type.of, room.ir
        else:
            raise c.error(
                node,
                f"{shown}() takes room for a copy, not {room.type.name}",
                f"a local struct or array, or its type: {shown}(d, 0, ethhdr)",
            )
        offset = c.as_int(given["offset"], node, "the offset")
        wide = c.em.op(f"trunc i64 {offset.ir} to i32") if offset.const is None else str(offset.const)
        found = types_of(c, node).function(name)
        assert found is not None
        bits = [getattr(kind, "size", 4) * 8 for _, kind in found[0]]
        if bits[1] == 64:
            wide = offset.ir
        got = c.em.op(f"call ptr @{name}(ptr {dynptr.ir}, i{bits[1]} {wide}, ptr {at}, i{bits[3]} {of.size})")
        return Value(PtrType(of, "mem", nullable=True, writable=writable), got)

    return call


FUNCTIONS: Final[dict[str, Function]] = {
    "bpf_cast_to_kern_ctx": _kern_ctx,
    "bpf_rdonly_cast": _rdonly_cast,
    "bpf_dynptr_slice": _slice("bpf_dynptr_slice", False),
    "bpf_dynptr_slice_rdwr": _slice("bpf_dynptr_slice_rdwr", True),
}
