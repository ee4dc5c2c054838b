"""Per-CPU objects that a program allocates: ``bpf.new_percpu(T)``, kept in a field ``bpf.PerCpuKptr[T]``.

What is allocated belongs to the program until it is put into the value of a map; processors' own copies are
reached through the field: ``bpf.this_cpu_ptr(value.field.get())``. Linux 6.6.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Final

from skep.lang import held as h
from skep.lang import owned, references
from skep.lang.aggregates import ArrayStorage, StructStorage
from skep.lang.arguments import positional
from skep.lang.contexts import section_of
from skep.lang.core_refs import core_of
from skep.lang.kptrs import field_of
from skep.lang.layout import IntStorage, PointerStorage, Storage
from skep.lang.owned import LocalKptrStorage, OwnRef
from skep.lang.references import RCU, derived
from skep.lang.values import BUILTIN, NONE, OBJECT, NoneType, Reference, Type, Value

if TYPE_CHECKING:
    from skep.lang.walk import Walker

#: bytes for each processor (BPF_GLOBAL_PERCPU_MA_MAX_SIZE)
_MOST: Final = 512
_HERE: Final = 154
_OTHER: Final = 153


class PerCpuRef(Reference):
    """An object of which every processor has a copy."""

    def __init__(self, of: Storage, *, nullable: bool = False) -> None:
        self.of = of
        self.nullable = nullable
        self.name = f"a per-CPU {of.name}" + (", or None" if nullable else "")

    def same(self, other: Type) -> bool:
        return isinstance(other, PerCpuRef) and other.of.same(self.of)

    def join(self, other: Type) -> Type | None:
        if isinstance(other, NoneType):
            return self.optional(True)
        if not isinstance(other, PerCpuRef) or not self.same(other):
            return None
        return self.optional(self.nullable or other.nullable)

    def optional(self, nullable: bool) -> PerCpuRef:
        """The same, nullable or not."""
        return PerCpuRef(self.of, nullable=nullable)

    def attr(self, c: Walker, v: Value, name: str, node: ast.AST) -> Value:
        raise self._many(c, v, node)

    def set_attr(self, c: Walker, v: Value, name: str, new: Value, node: ast.AST) -> None:
        raise self._many(c, v, node)

    def add_attr(self, c: Walker, v: Value, name: str, op: ast.operator, by: Value, node: ast.AST) -> None:
        raise self._many(c, v, node)

    def _many(self, c: Walker, v: Value, node: ast.AST) -> Exception:
        return c.error(
            node,
            f"every processor has its own {self.of.name} here",
            "bpf.this_cpu_ptr(x).field is this processor's, bpf.per_cpu_ptr(x, n) that of another or None",
        )


class PerCpuKptrStorage(LocalKptrStorage):
    """``counts: bpf.PerCpuKptr[Counts]``: a field that owns a per-CPU object."""

    tag = "percpu_kptr"

    def ref_attr(self, c: Walker, v: Value, name: str, node: ast.AST) -> Value:
        if name != "get":
            return super().ref_attr(c, v, name, node)

        def get(c: Walker, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
            positional(c, "get", args, kwargs, node, 0)
            if section_of(c, node).sleepable:
                references.in_rcu(c, f"{c.text_of(field_of(node))}.get", node)
            self.place(c, v, ("map", "global", "own"), node)
            got = c.em.op(f"load volatile ptr, ptr {v.ir}, align 8")
            return Value(PerCpuRef(self.of, nullable=True), got, ref=RCU)

        return Value(BUILTIN, obj=get)

    def swap(self, c: Walker, v: Value, new: Value, node: ast.AST) -> Value:
        self.place(c, v, ("map", "global", "own"), node)
        operand = "null"
        if new.type is not NONE:
            if not isinstance(new.type, PerCpuRef) or not new.type.of.same(self.of):
                raise c.error(
                    node,
                    f"{self.name} takes a per-CPU {self.of.name}, not {new.type.name}",
                    "x = bpf.new_percpu(T), or None",
                )
            held(c, new, node, "swap()")
            operand = new.ir
        got = c.em.op(f"call ptr inttoptr (i64 194 to ptr)(ptr {v.ir}, ptr {operand})")
        if new.type is not NONE:
            _given(c, new, node)
        name = f"{c.text_of(field_of(node))}.swap"
        return _acquired(c, PerCpuRef(self.of, nullable=True), got, node, name)


def _given(c: Walker, value: Value, node: ast.AST) -> None:
    """``value`` is the map's now: within an RCU section it can still be used, elsewhere it is gone."""
    assert value.ref is not None
    key = value.ref.key
    references.given(c, value, node, "swap()")
    if section_of(c, node).sleepable and not references.inside(c, "bpf_rcu_read_lock"):
        references.drop(c, key, "swap() put it into the map", getattr(node, "lineno", 0))
        return
    c.env[h.slot(key)] = h.entry(h.RELEASED, getattr(node, "lineno", 0))
    for name, bound in list(c.env.items()):
        if bound.ref is not None and bound.ref.key == key:
            c.env[name] = Value(bound.type, bound.ir, obj=bound.obj, place=bound.place, ref=RCU)


def held(c: Walker, value: Value, node: ast.AST, what: str) -> None:
    """Refuse what the program does not own here."""
    kind = value.type
    if not isinstance(kind, PerCpuRef):
        raise c.error(node, f"{what} takes what bpf.new_percpu() allocated, not {kind.name}")
    if kind.nullable:
        c.refuse_none(value, node)
    if value.ref is None or not value.ref.own:
        raise c.error(
            node,
            f"{what} takes what the program owns, and this is the map's",
            "take it out first: x = value.field.swap(None)",
        )


def _acquired(c: Walker, kind: PerCpuRef, got: str, node: ast.AST, name: str) -> Value:
    form = f"with bpf.releasing({name}(...)) as x:"
    return references.acquire(c, Value(kind, got), node, name, "bpf.drop(x)", _give_back, form=form)


def _give_back(c: Walker, operand: str) -> None:
    owned.call(c, "bpf_percpu_obj_drop_impl", [f"ptr {operand}"], c.node)


def _only_numbers(of: Storage) -> bool:
    """Whether a type has numbers only: no pointers, locks or other objects of the kernel's."""
    if isinstance(of, StructStorage):
        return all(_only_numbers(field.of) for field in of.fields.values())
    if isinstance(of, ArrayStorage):
        return _only_numbers(of.of)
    return of.is_text or (of.scalar and not isinstance(of, PointerStorage)) or isinstance(of, IntStorage)


def new(c: Walker, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
    """``bpf.new_percpu(T)``: a T for every processor, or None."""
    of = positional(c, "bpf.new_percpu", args, kwargs, node, 1)[0]
    if of.type is not OBJECT or "__bpf__" not in getattr(of.obj, "__dict__", {}) or of.obj.__bpf__.kernel:
        raise c.error(node, "bpf.new_percpu() takes a struct of the program's own", "bpf.new_percpu(Counts)")
    kind = c.unit.storage(of.obj, c, node)
    assert isinstance(kind, StructStorage)
    if kind.union or not _only_numbers(kind):
        raise c.error(
            node,
            f"a per-CPU {kind.name} has numbers, arrays and texts only",
            "keep pointers and objects of the kernel's in the value of a map",
        )
    if kind.size > _MOST:
        raise c.error(node, f"{kind.name} has {kind.size} bytes", f"up to {_MOST} for each processor can be")
    what = kind.describe(c.unit.di)
    call = f"call i64 @llvm.bpf.btf.type.id(i32 {core_of(c).number()}, i64 0)"
    number = c.em.op(f"{call}, !llvm.preserve.access.index {what}")
    got = owned.call(c, "bpf_percpu_obj_new_impl", [f"i64 {number}"], node)
    return _acquired(c, PerCpuRef(kind, nullable=True), got, node, "bpf.new_percpu")


def drop(c: Walker, value: Value, node: ast.AST) -> Value:
    """``bpf.drop(x)`` of a per-CPU object."""
    held(c, value, node, "bpf.drop()")
    _give_back(c, value.ir)
    references.release(c, value, node, "bpf.drop()")
    return c.none()


def by_name(c: Walker, kfunc: str, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
    """The same as C writes it: ``bpf.percpu_obj_new(T)``, ``bpf.percpu_obj_drop(x)``."""
    if "_new" in kfunc:
        return new(c, args, kwargs, node)
    return drop(c, positional(c, "bpf.percpu_obj_drop", args, kwargs, node, 1)[0], node)


def pointer(c: Walker, number: int, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
    """``bpf.this_cpu_ptr(x)``, ``bpf.per_cpu_ptr(x, cpu)`` of a per-CPU object."""
    name = "this_cpu_ptr" if number == _HERE else "per_cpu_ptr"
    given = positional(c, f"bpf.{name}", args, kwargs, node, 1 if number == _HERE else 2)
    value = given[0]
    kind = value.type
    assert isinstance(kind, PerCpuRef)
    if kind.nullable:
        c.refuse_none(value, node)
    if value.ref is not None and value.ref.own:
        raise c.error(
            node,
            "the copies of a per-CPU object are reached when it lies in the value of a map",
            "old = value.field.swap(x) first; x can be used after",
        )
    operands = [f"ptr {value.ir}"]
    if number != _HERE:
        operands.append(f"i64 {c.as_int(given[1], node, 'the processor').ir}")
    got = c.helper(number, operands, "ptr")
    return derived(Value(OwnRef(kind.of, nullable=number != _HERE, whole=False), got), value)


__all__ = ["PerCpuKptrStorage", "PerCpuRef", "by_name", "drop", "new", "pointer"]
