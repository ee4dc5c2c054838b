"""Fields that hold an object of the kernel's: ``task: bpf.Kptr[bpf.task_struct]`` in the value of a map.

The map owns what is put there and gives it back itself when the value goes. Taking it out acquires it.
Linux 5.19.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any

from skep.lang import references
from skep.lang.arguments import named
from skep.lang.contexts import section_of
from skep.lang.core_refs import KernelRef
from skep.lang.helpers import check
from skep.lang.kernel_types import KernelType, KPtr, KStruct
from skep.lang.layout import Storage
from skep.lang.values import BUILTIN, NONE, PtrType, Value

if TYPE_CHECKING:
    from skep.lang.debug import Debug
    from skep.lang.unit import Unit
    from skep.lang.walk import Walker

_XCHG = 194


class Exchanged(Storage):
    """A field that owns an object: eight bytes that only ``swap`` may touch."""

    size = align = 8
    #: what becomes of the object that was there before
    give_back = "give old back"
    #: the kernel's word for such fields
    tag = "kptr"

    def __init__(self, unit: Unit, of: str) -> None:
        self.unit = unit
        self.name = f"a field for a {of}"

    def target(self, di: Debug) -> str:
        """The debug node of what the field points to."""
        raise NotImplementedError  # each kind of object has its own

    def swap(self, c: Walker, v: Value, new: Value, node: ast.AST) -> Value:
        """Put ``new`` (or None) there; what was there before, acquired, or None."""
        raise NotImplementedError  # each kind of object has its own

    def describe(self, di: Debug) -> str:
        to = self.target(di)
        tag = di.node("!{" + di.node('!{!"btf_type_tag", !"' + self.tag + '"}') + "}")
        return di.node(
            f"!DIDerivedType(tag: DW_TAG_pointer_type, baseType: {to}, size: 64, annotations: {tag})"
        )

    def store(self, c: Walker, address: str, value: Value, node: ast.AST, *, align: int = 0) -> None:
        raise c.error(
            node,
            f"{self.name} is not set, but exchanged",
            f"old = value.field.swap(new), and {self.give_back}",
        )

    def ref_attr(self, c: Walker, v: Value, name: str, node: ast.AST) -> Value:
        if name != "swap":
            raise c.error(
                node,
                f"{self.name} has no {name!r}",
                "take it out: x = value.field.swap(None); put it back after",
            )

        def swap(c: Walker, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
            return self.swap(c, v, named(c, "swap", ("new",), 1, args, kwargs, node)["new"], node)

        return Value(BUILTIN, obj=swap)

    def place(self, c: Walker, v: Value, spaces: tuple[str, ...], node: ast.AST) -> None:
        """Refuse fields that lie where the kernel does not look for them, or lacks the helper."""
        check(c, _XCHG, "kptr_xchg", node)
        kind = v.type
        if not isinstance(kind, PtrType) or kind.space not in spaces:
            raise c.error(node, f"{self.name} works in the value of a map only", "look the value up first")

    def exchange(self, c: Walker, v: Value, new: Value, operand: str, node: ast.AST, how_to_have: str) -> str:
        """The call; ``new`` is given away by it. The address that was there before."""
        got = c.em.op(f"call ptr inttoptr (i64 {_XCHG} to ptr)(ptr {v.ir}, ptr {operand})")
        if new.type is not NONE:
            references.release(c, new, node, "swap()", "put it into the map", how_to_have)
        return got


class KptrStorage(Exchanged):
    """The field of an object of the kernel's."""

    def __init__(self, unit: Unit, kind: KernelType) -> None:
        super().__init__(unit, kind.name)
        self.kind = kind

    def same(self, other: Storage) -> bool:
        return isinstance(other, KptrStorage) and other.kind.name == self.kind.name

    def target(self, di: Debug) -> str:
        if not isinstance(self.kind, KStruct):
            return "null"
        core: Any = self.unit
        if core.core is None:
            from skep.lang.core import Core

            core.core = Core(self.unit)
        node: str = core.core.struct(self.kind).node
        return node

    def ref_attr(self, c: Walker, v: Value, name: str, node: ast.AST) -> Value:
        if name != "get":
            return super().ref_attr(c, v, name, node)

        def get(c: Walker, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
            named(c, "get", (), 0, args, kwargs, node)
            self.place(c, v, ("map", "percpu"), node)
            got = c.em.op(f"load volatile ptr, ptr {v.ir}, align 8")
            safe = not section_of(c, node).sleepable or references.inside(c, "bpf_rcu_read_lock")
            kind = KernelRef(self.kind, "btf" if safe else "kernel", nullable=True)
            return Value(kind, got, ref=references.RCU if safe else None)

        return Value(BUILTIN, obj=get)

    def swap(self, c: Walker, v: Value, new: Value, node: ast.AST) -> Value:
        from skep.lang.kfuncs import acquired

        self.place(c, v, ("map", "percpu"), node)
        operand = "null"
        if new.type is not NONE:
            kind = new.type
            if not isinstance(kind, KernelRef) or kind.kind.name != self.kind.name:
                raise c.error(node, f"{self.name} takes no {kind.name}", f"give a {self.kind.name}, or None")
            operand = kind.address(c, new, node)
        task = "task_struct" in self.kind.name
        hint = "acquire it: bpf.task_acquire(...)" if task else "acquire it before"
        made = Value(
            KernelRef(self.kind, "btf", nullable=True), self.exchange(c, v, new, operand, node, hint)
        )
        return acquired(c, f"{c.text_of(field_of(node))}.swap", KPtr(self.kind), made, node)


def field_of(node: ast.AST) -> ast.AST:
    """The field of a call of its ``swap``."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        return node.func.value
    return node
