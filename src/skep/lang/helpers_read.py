"""Reading memory, and questions about the kernel's types: ``bpf.user_str(p)``, ``bpf.exists(task.field)``."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from skep.lang import core as co
from skep.lang.aggregates import Field, StructStorage, TextStorage
from skep.lang.arguments import positional
from skep.lang.core_refs import KernelRef, copy_memory, core_of
from skep.lang.helpers_types import KernelName, cast, kind_argument
from skep.lang.kernel_types import KernelType, KInt, KStruct
from skep.lang.layout import Storage
from skep.lang.values import INT, OBJECT, PtrType, Type, Value

if TYPE_CHECKING:
    from skep.lang.walk import Walker

Function = Callable[["Walker", list[Value], dict[str, Value], ast.AST], Value]
_CHAR: Final = KInt("char", 1, True, char=True)


def address(c: Walker, value: Value, node: ast.AST) -> str:
    """An address given as a number or as any pointer, as a ``ptr`` operand."""
    if isinstance(value.type, KernelRef):
        return value.type.address(c, value, node)
    if value.type.nullable:
        c.refuse_none(value, node)
    if value.type.llvm == "ptr" and not (isinstance(value.type, PtrType) and value.type.of.scalar):
        return value.ir
    number = c.as_int(value, node, "as an address")
    return c.em.op(f"inttoptr i64 {number.ir} to ptr")


def _text(name: str, mode: str, helper: int) -> Function:
    """``bpf.user_str(p)``: a text somewhere else, which is copied when it is stored or compared."""

    def function(c: Walker, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
        from skep.lang.helpers import check

        value = positional(c, f"bpf.{name}", args, kwargs, node, 1)[0]
        check(c, helper, name, node)
        return Value(KernelRef(_CHAR, mode), address(c, value, node))

    return function


def _bytes(name: str, mode: str, helper: int) -> Function:
    """``bpf.user_bytes(p)``: memory somewhere else, copied as it is."""

    def function(c: Walker, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
        from skep.lang.helpers import check

        value = positional(c, f"bpf.{name}", args, kwargs, node, 1)[0]
        check(c, helper, name, node)
        return Value(KernelRef(KernelType(), mode), address(c, value, node))

    return function


def _read(name: str, mode: str, helper: int) -> Function:
    """``bpf.read_user(T, p)``: a copy of a T; zeros when it cannot be read."""

    def function(c: Walker, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
        from skep.lang.helpers import check

        of, value = positional(c, f"bpf.{name}", args, kwargs, node, 2)
        check(c, helper, name, node)
        if isinstance(of.type, KernelName):
            ref = cast(c, of.type.kind, value, node)
            assert isinstance(ref.type, KernelRef)
            return Value(KernelRef(of.type.kind, mode), ref.ir)
        if of.type is not OBJECT:
            raise c.error(node, f"bpf.{name}() takes a type and an address", f"bpf.{name}(u64, p)")
        storage = c.unit.storage(of.obj, c, node)
        room = c.buffer(storage.size, 8)
        at = address(c, value, node)
        if isinstance(storage, TextStorage) and storage.text:
            from skep.lang.core_refs import copy_text

            copy_text(c, Value(KernelRef(_CHAR, mode), at), room, storage, node)
        else:
            copy_memory(c, at, mode, room, storage.size)
        return storage.load(c, room, node) if storage.scalar else Value(PtrType(storage, "stack"), room)

    return function


def _cast(c: Walker, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
    of, value = positional(c, "bpf.cast", args, kwargs, node, 2)
    kind = kind_argument(c, of, node)
    if kind is None:
        raise c.error(
            node,
            "bpf.cast() takes a type of the kernel's",
            "bpf.task_struct, or a class with @bpf.struct(kernel=...)",
        )
    return cast(c, kind, value, node)


# --- questions about types ----------------------------------------------------------------------------


def _own_field(c: Walker, base: Value, node: ast.Attribute) -> Field | None:
    """The field that ``T.field`` or ``x.field`` names, of a struct that the module declares."""
    kind: Storage | None = None
    if isinstance(base.type, PtrType):
        kind = base.type.of
    elif base.type is OBJECT and isinstance(base.obj, type) and hasattr(base.obj, "__bpf__"):
        kind = c.unit.storage(base.obj, c, node)
    return kind.field(c, node.attr, node) if isinstance(kind, StructStorage) else None


class _Question(Type):
    """A function whose argument is looked at, not evaluated: ``bpf.exists(task.field)``."""

    def __init__(self, name: str) -> None:
        self.name = f"bpf.{name}()"
        self.what = name

    def raw_call(self, c: Walker, v: Value, node: ast.Call) -> Value:
        if len(node.args) != 1 or node.keywords:
            raise c.error(node, f"{self.name} takes one argument", f"bpf.{self.what}(task.pid)")
        arg = node.args[0]
        if isinstance(arg, ast.Attribute):
            base = c.expr(arg.value)
            if isinstance(base.type, KernelRef):
                return self._field(c, base, arg)
            if isinstance(base.type, KernelName) and isinstance(base.type.kind, KStruct):
                ref = Value(KernelRef(base.type.kind, "btf"), "null")
                return self._field(c, ref, arg)
            own = _own_field(c, base, arg)
            if own is not None and self.what != "exists":
                return c.int_const(own.of.size if self.what == "sizeof" else own.offset)
        value = c.expr(arg)
        kind = kind_argument(c, value, arg)
        if isinstance(value.type, KernelRef):
            kind = value.type.kind
        if self.what == "sizeof":
            if kind is None:
                raise c.error(
                    arg, "bpf.sizeof() takes a type", "bpf.sizeof(T) of a struct, an integer type, an array"
                )
            return self._size(c, kind)
        if self.what == "exists" and isinstance(kind, KStruct):
            return _flag(c, core_of(c).type_info(kind, co.TYPE_EXISTS))
        raise c.error(arg, f"{self.name} takes a field of a kernel's type", f"{self.name[:-1]}task.pid)")

    def call(self, c: Walker, v: Value, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
        value = positional(c, self.name[:-2], args, kwargs, node, 1)[0]
        kind = value.type.kind if isinstance(value.type, KernelRef) else kind_argument(c, value, node)
        if kind is None or self.what != "sizeof":
            raise c.error(node, f"{self.name} takes a type of the kernel's", f"bpf.{self.what}(T)")
        return self._size(c, kind)

    def _size(self, c: Walker, kind: KernelType) -> Value:
        if not isinstance(kind, KStruct):
            return c.int_const(kind.size)
        got = c.em.op(core_of(c).type_info(kind, co.TYPE_SIZE))
        return Value(INT, c.em.op(f"zext i32 {got} to i64"), 0, (1 << 32) - 1)

    def _field(self, c: Walker, base: Value, node: ast.Attribute) -> Value:
        ref = base.type
        assert isinstance(ref, KernelRef)
        if not isinstance(ref.kind, KStruct):
            raise c.error(node, f"{ref.kind.name} has no members", "name a member of a struct")
        field = ref.kind.field(node.attr)
        if field is None:
            if self.what != "exists":
                raise c.error(
                    node,
                    f"{ref.kind.name} has no member {node.attr!r}",
                    c.nearest(node.attr, ref.kind.names()),
                )
            # Not here; another kernel may have it: its type does not matter to the question.
            field = co.unknown_field(node.attr)
        steps = (*ref.steps, (ref.kind, field))
        at = KernelRef(field.type, ref.mode, steps).address(c, Value(ref, base.ir), node)
        core = core_of(c)
        if self.what == "exists":
            return _flag(c, core.field_info(at, co.EXISTS))
        what = co.BYTE_SIZE if self.what == "sizeof" else co.BYTE_OFFSET
        got = c.em.op(core.field_info(at, what))
        return Value(INT, c.em.op(f"zext i32 {got} to i64"), 0, (1 << 32) - 1)


def _flag(c: Walker, text: str) -> Value:
    return c.boolean(c.em.op(f"icmp ne i32 {c.em.op(text)}, 0"))


SPECIAL: Final[dict[str, Type]] = {name: _Question(name) for name in ("exists", "sizeof", "offsetof")}

FUNCTIONS: Final[dict[str, Function]] = {
    "user_str": _text("user_str", "user", 114),
    "kernel_str": _text("kernel_str", "kernel", 115),
    "user_bytes": _bytes("user_bytes", "user", 112),
    "kernel_bytes": _bytes("kernel_bytes", "kernel", 113),
    "read_user": _read("read_user", "user", 112),
    "read_kernel": _read("read_kernel", "kernel", 113),
    "cast": _cast,
}
