"""Names of the kernel's types as values: what casts and questions about types take."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import TYPE_CHECKING

from skep.lang.arguments import positional
from skep.lang.core_refs import KernelRef
from skep.lang.kernel_types import DeclaredStruct, KernelType, KStruct, types_of
from skep.lang.references import derived
from skep.lang.values import OBJECT, PtrType, Type, Value

if TYPE_CHECKING:
    from skep.lang.walk import Walker


class KernelName(Type):
    """``bpf.task_struct`` in an expression. Called, it makes a pointer of a number."""

    def __init__(self, kind: KernelType) -> None:
        self.kind = kind
        self.name = f"the type {kind.name}"

    def same(self, other: Type) -> bool:
        return isinstance(other, KernelName) and other.kind is self.kind

    def call(self, c: Walker, v: Value, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
        if not args and isinstance(self.kind, KStruct):
            from skep.lang.helpers_structs import construct
            from skep.uapi.contexts import CONTEXTS

            if self.kind.local in CONTEXTS:
                return construct(c, self.kind.local, args, kwargs, node)
        value = positional(c, self.kind.name, args, kwargs, node, 1)[0]
        return cast(c, self.kind, value, node)


class FunctionName(Type):
    """A function of `skep.bpf`. Some of the kernel's structs are called like one (``tcp_sock``)."""

    def __init__(self, name: str, call: Callable[..., Value]) -> None:
        self.called = name
        self.name = f"bpf.{name}"
        self._call = call

    def same(self, other: Type) -> bool:
        return isinstance(other, FunctionName) and other.called == self.called

    def call(self, c: Walker, v: Value, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
        return self._call(c, args, kwargs, node)


def kind_argument(c: Walker, value: Value, node: ast.AST) -> KernelType | None:
    """The kernel's type that an argument names; None when it is not one."""
    if isinstance(value.type, KernelName):
        return value.type.kind
    if isinstance(value.type, FunctionName):
        return types_of(c, node).by_name(value.type.called)
    if value.type is OBJECT:
        info = getattr(value.obj, "__bpf__", None)
        if info is not None and info.kernel:
            return DeclaredStruct(info, c.unit.types)
    return None


def cast(c: Walker, kind: KernelType, value: Value, node: ast.AST) -> Value:
    """``value`` (a number, or a pointer of another type) as a pointer to ``kind``.

    Pointers that the verifier follows stay so when the type is the same but for its flavour.
    """
    ref = value.type
    if isinstance(ref, KernelRef):
        mode = ref.mode
        if mode == "btf" and _stem(ref.kind) != _stem(kind) and not _one_socket(c, ref.kind, kind):
            mode = "kernel"
        return derived(Value(KernelRef(kind, mode), ref.address(c, value, node)), value)
    if ref.nullable:
        c.refuse_none(value, node)
    if ref.llvm == "ptr" and not (isinstance(ref, PtrType) and ref.of.scalar):
        return Value(KernelRef(kind, "kernel"), value.ir)
    number = c.as_int(value, node, "as an address")
    return Value(KernelRef(kind, "kernel"), c.em.op(f"inttoptr i64 {number.ir} to ptr"))


def _one_socket(c: Walker, have: KernelType, want: KernelType) -> bool:
    """Whether the kernel gives a tcp_sock where both types say a part of one: in congestion control."""
    hook = c.program.section if c.program is not None else ""
    return "tcp_congestion_ops" in hook and {_stem(have), _stem(want)} <= _SOCKETS


_SOCKETS = frozenset(("sock", "inet_sock", "inet_connection_sock", "tcp_sock"))


def _stem(kind: KernelType) -> str:
    return kind.name.split(" ")[-1].split("___")[0]
