"""Objects that a program allocates itself: ``bpf.new(T)``, ``bpf.drop(x)``, ``bpf.refcount_acquire(x)``.

T is a struct of the program's own. What is allocated is held (`references`) until it is dropped, put into a
field ``bpf.Kptr[T]`` of a map's value, or given to a list or tree (`graphs`). Linux 6.2.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from skep.bpf.types import PerCpuKptr
from skep.lang import held as h
from skep.lang import kfuncs, references
from skep.lang.aggregates import ArrayStorage, StructStorage
from skep.lang.arguments import positional
from skep.lang.core_refs import core_of
from skep.lang.kernel_types import types_of
from skep.lang.kptrs import Exchanged, field_of
from skep.lang.layout import OpaqueStorage, Storage
from skep.lang.maps import unfit
from skep.lang.references import derived
from skep.lang.values import NONE, OBJECT, NoneType, PtrType, Reference, Type, Value
from skep.uapi.enums import ProgType
from skep.verifier.facts import kfuncs as kf

if TYPE_CHECKING:
    from skep.lang.debug import Debug
    from skep.lang.unit import Unit
    from skep.lang.walk import Walker

#: what was given to a list or tree can be seen until the lock is released
SEEN: Final = h.Ref("%seen", False)
_MOST: Final = 4096


class OwnRef(Reference):
    """A reference to an object that a program allocated, or to a part of one (``whole`` is False)."""

    def __init__(self, of: Storage, *, nullable: bool = False, whole: bool = True) -> None:
        self.of = of
        self.nullable = nullable
        self.whole = whole
        self.name = f"an allocated {of.name}" + (", or None" if nullable else "")

    def same(self, other: Type) -> bool:
        return isinstance(other, OwnRef) and other.of.same(self.of) and other.whole == self.whole

    def join(self, other: Type) -> Type | None:
        if isinstance(other, NoneType):
            return self.optional(True)
        if not isinstance(other, OwnRef) or not self.same(other):
            return None
        return self.optional(self.nullable or other.nullable)

    def optional(self, nullable: bool) -> OwnRef:
        """The same, nullable or not."""
        return OwnRef(self.of, nullable=nullable, whole=self.whole)

    def plain(self, c: Walker, v: Value, node: ast.AST) -> Value:
        """The same as a reference that loads and stores work with."""
        if self.nullable:
            c.refuse_none(v, node)
        origin = v.ref.key if v.ref is not None and v.ref.own else None
        return Value(PtrType(self.of, "own"), v.ir, origin=origin)

    def _part(self, v: Value, found: Value) -> Value:
        kind = found.type
        if isinstance(kind, PtrType) and isinstance(kind.of, (StructStorage, ArrayStorage)):
            found = Value(OwnRef(kind.of, whole=False), found.ir)
        elif isinstance(kind, PtrType) and kind.of.is_text:
            found = Value(OwnRef(kind.of, whole=False), found.ir, obj=found.obj)
        return derived(found, v) if found.type.llvm == "ptr" else found

    def attr(self, c: Walker, v: Value, name: str, node: ast.AST) -> Value:
        plain = self.plain(c, v, node)
        return self._part(v, plain.type.attr(c, plain, name, node))

    def set_attr(self, c: Walker, v: Value, name: str, new: Value, node: ast.AST) -> None:
        plain = self.plain(c, v, node)
        put(c, plain, name, new, node)

    def _constant(self, c: Walker, index: Value, node: ast.AST) -> None:
        if index.const is None:
            raise c.error(
                node,
                "an element of what a program allocated is reached by a constant index only",
                "for i in bpf.unroll(range(n)), or keep the table in a map",
            )

    def item(self, c: Walker, v: Value, index: Value, node: ast.AST) -> Value:
        self._constant(c, index, node)
        plain = self.plain(c, v, node)
        return self._part(v, plain.type.item(c, plain, index, node))

    def set_item(self, c: Walker, v: Value, index: Value, new: Value, node: ast.AST) -> None:
        self._constant(c, index, node)
        plain = self.plain(c, v, node)
        plain.type.set_item(c, plain, index, new, node)
        apart(c)

    def length(self, c: Walker, v: Value, node: ast.AST) -> Value:
        if self.of.is_text:
            return self._copy(c, v, node).type.length(c, self._copy(c, v, node), node)
        plain = self.plain(c, v, node)
        return plain.type.length(c, plain, node)

    def items(self, c: Walker, v: Value, node: ast.AST) -> list[Value] | None:
        if isinstance(self.of, ArrayStorage):
            raise c.error(
                node,
                "an element of what a program allocated is reached by a constant index only",
                f"for i in bpf.unroll(range({self.of.count})): ...[i]",
            )
        return super().items(c, v, node)

    def compare(self, c: Walker, op: ast.cmpop, a: Value, b: Value, node: ast.AST) -> Value:
        if not self.of.is_text:
            return super().compare(c, op, a, b, node)
        copy = self._copy(c, a, node)
        return copy.type.compare(c, op, copy, b, node)

    def materialise(self, c: Walker, v: Value, node: ast.AST) -> Value:
        return self._copy(c, v, node) if self.of.is_text else v

    def format(self, c: Walker, v: Value, node: ast.AST) -> tuple[str, str] | None:
        if not self.of.is_text:
            return None
        return "%s", f"ptr {self._copy(c, v, node).ir}"

    def _copy(self, c: Walker, v: Value, node: ast.AST) -> Value:
        """A text on the stack: nothing but loads and stores reaches what was allocated."""
        c.fits(self.of.size, node)
        room = c.buffer(self.of.size, 8, ("own", c.scope.prefix, id(node), v.ir))
        c.copy(room, v.ir, self.of.size, 1)
        return Value(PtrType(self.of, "stack"), room)

    def write(self, c: Walker, v: Value, address: str, into: Storage, node: ast.AST) -> bool:
        if not self.of.is_text:
            raise c.error(node, f"{self.name} is not copied as a whole", "copy its fields")
        copy = self._copy(c, v, node)
        into.store(c, address, copy, node)
        return True

    def enter(self, c: Walker, v: Value, node: ast.AST) -> tuple[Value, Value | None]:
        plain = self.plain(c, v, node)
        return plain.type.enter(c, plain, node)


def put(c: Walker, v: Value, name: str, new: Value, node: ast.AST) -> None:
    """``v.name = new``; texts by way of the stack, for a helper fills no allocated memory."""
    of = v.type.of if isinstance(v.type, PtrType) else None
    if isinstance(of, StructStorage) and name in of.fields and of.fields[name].of.is_text:
        text = of.fields[name].of
        c.fits(text.size, node)
        room = c.buffer(text.size, 8, ("put", c.scope.prefix, id(node), name))
        text.store(c, room, new, node)
        c.copy(c.offset(v.ir, of.fields[name].offset), room, text.size, 1)
    else:
        v.type.set_attr(c, v, name, new, node)
    apart(c)


def apart(c: Walker) -> None:
    """Keep the store before from being merged with the next: the verifier lets each write one field."""
    c.em.do('call void asm sideeffect "", "~{memory}"()')


# --- calls of the kernel ---------------------------------------------------------------------------------


def call(c: Walker, name: str, operands: list[str], node: ast.AST, *, locked: bool = False) -> str:
    """Call kfunc ``name``; ``operands`` without those that the verifier puts in. ``locked``: also then."""
    kfuncs.check(c, name, node, locked=locked)
    found = types_of(c, node).function(name)
    if found is None:
        firsts = min((f for p in ProgType if (f := kf.first(name, int(p))) is not None), default=(6, 2))
        since = (6, 16) if firsts == (6, 18) else firsts  # asked were 6.12 and 6.18
        raise c.error(
            node,
            f"the kernel that this is compiled for has no {name}",
            f"Linux {since[0]}.{since[1]} is the first with it",
        )
    params, result = found
    kfuncs.declare(c, name, params, result)
    rest = list(operands)
    given = [
        "ptr null" if param.endswith(("__ign", "__prog")) else "i64 0" if param == "off" else rest.pop(0)
        for param, _ in params
    ]
    ret = kfuncs._ir(result)
    if ret == "void":
        c.em.do(f"call void @{name}({', '.join(given)})")
        return ""
    return c.em.op(f"call {ret} @{name}({', '.join(given)})")


def held(c: Walker, value: Value, node: ast.AST, what: str) -> h.Ref:
    """The reference of an object that the program owns here; refuses others."""
    kind = value.type
    if not isinstance(kind, OwnRef) or not kind.whole:
        raise c.error(node, f"{what} takes what bpf.new() allocated, not {kind.name}", "x = bpf.new(T)")
    if kind.nullable:
        c.refuse_none(value, node)
    ref = value.ref
    if ref is not None and ref.key == SEEN.key:
        raise c.error(
            node,
            f"{what} takes what the program owns, and a list or tree owns this",
            "take it out first: pop_front(), remove()",
        )
    if ref is None or not ref.own:
        raise c.error(node, f"{what} takes what the program owns, and this is not its own", "x = bpf.new(T)")
    return ref


def acquired(c: Walker, kind: OwnRef, got: str, node: ast.AST, name: str) -> Value:
    """What ``name`` gave, held from here on."""
    # What is taken out of a list or tree comes while a lock is held, when nothing can be dropped.
    form = "" if c.locked else f"with bpf.releasing({name}(...)) as x:"
    return references.acquire(c, Value(kind, got), node, name, "bpf.drop(x)", give_back, form=form)


def give_back(c: Walker, operand: str) -> None:
    call(c, "bpf_obj_drop_impl", [f"ptr {operand}"], c.node)


# --- the language's functions ----------------------------------------------------------------------------


def new(c: Walker, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
    """``bpf.new(T, field=...)``: an object, zero where nothing is said, or None."""
    of = positional(c, "bpf.new", args, {}, node, 1)[0]
    if of.type is not OBJECT or "__bpf__" not in getattr(of.obj, "__dict__", {}) or of.obj.__bpf__.kernel:
        raise c.error(node, "bpf.new() takes a struct of the program's own", "bpf.new(Item, key=1)")
    kind = c.unit.storage(of.obj, c, node)
    assert isinstance(kind, StructStorage)
    if kind.union:
        raise c.error(node, f"{kind.name} is a union, and structs are allocated", "put it in a struct")
    if (why := unfit(kind)) is not None:
        text, _, hint = why.partition(": ")
        raise c.error(node, text, hint)
    pieces = list(_pieces(kind, 0))
    if len(pieces) > _MOST:
        raise c.error(node, f"{kind.name} has {kind.size} bytes", f"allocate up to {_MOST * 8}")
    core = core_of(c)
    what = kind.describe(c.unit.di)
    number = c.em.op(
        f"call i64 @llvm.bpf.btf.type.id(i32 {core.number()}, i64 0), !llvm.preserve.access.index {what}"
    )
    got = call(c, "bpf_obj_new_impl", [f"i64 {number}"], node)
    made, over = c.label("made"), c.label("over")
    c.em.cond(c.em.op(f"icmp ne ptr {got}, null"), made, over)
    c.em.place(made)
    for at, size in pieces:
        c.em.do(f"store volatile i{8 * size} 0, ptr {c.offset(got, at)}, align {size}")
    for name, value in kwargs.items():
        put(c, Value(PtrType(kind, "own"), got), name, value, node)
    c.em.place(over)
    return acquired(c, OwnRef(kind, nullable=True), got, node, "bpf.new")


def _pieces(of: Storage, at: int) -> Iterator[tuple[int, int]]:
    """(offset, size) of the stores that zero what is the program's own of a type: each within a field."""
    if isinstance(of, (OpaqueStorage, Exchanged)):
        return
    if isinstance(of, StructStorage):
        done = set()
        for field in of.fields.values():
            for piece in _pieces(field.of, at + field.offset):
                if piece not in done:  # bit fields share theirs
                    done.add(piece)
                    yield piece
    elif isinstance(of, ArrayStorage) and not of.of.scalar:
        for i in range(of.count):
            yield from _pieces(of.of, at + i * of.of.size)
    else:
        end = at + of.size
        while at < end:
            size = next(n for n in (8, 4, 2, 1) if at % n == 0 and at + n <= end)
            yield at, size
            at += size


def drop(c: Walker, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
    """``bpf.drop(x)``."""
    value = positional(c, "bpf.drop", args, kwargs, node, 1)[0]
    if value.type.name.startswith("a per-CPU "):
        from skep.lang import percpu

        return percpu.drop(c, value, node)
    held(c, value, node, "bpf.drop()")
    call(c, "bpf_obj_drop_impl", [f"ptr {value.ir}"], node)
    references.release(c, value, node, "bpf.drop()")
    return c.none()


def refcount_acquire(c: Walker, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
    """``bpf.refcount_acquire(x)``: x once more, to be dropped on its own."""
    value = positional(c, "bpf.refcount_acquire", args, kwargs, node, 1)[0]
    kind = value.type
    if not isinstance(kind, OwnRef) or not kind.whole or not isinstance(kind.of, StructStorage):
        raise c.error(
            node, f"bpf.refcount_acquire() takes what bpf.new() allocated, not {kind.name}", "x = bpf.new(T)"
        )
    if kind.nullable:
        c.refuse_none(value, node)
    if not any(field.of.name == "bpf_refcount" for field in kind.of.fields.values()):
        raise c.error(
            node,
            f"{kind.of.name} counts no references",
            f"give struct {kind.of.name} a field refs: bpf.Refcount",
        )
    got = call(c, "bpf_refcount_acquire_impl", [f"ptr {value.ir}"], node, locked=True)
    return acquired(c, OwnRef(kind.of, nullable=True), got, node, "bpf.refcount_acquire")


# --- kept in maps ----------------------------------------------------------------------------------------


class LocalKptrStorage(Exchanged):
    """``item: bpf.Kptr[Item]``: a field that owns what a program allocated. Linux 6.4."""

    give_back = "drop old"

    def __init__(self, unit: Unit, of: Storage) -> None:
        super().__init__(unit, of.name)
        self.of = of

    def same(self, other: Storage) -> bool:
        return isinstance(other, LocalKptrStorage) and other.of.same(self.of)

    def target(self, di: Debug) -> str:
        named(self.unit, self.of)
        return self.of.describe(di)

    def swap(self, c: Walker, v: Value, new: Value, node: ast.AST) -> Value:
        self.place(c, v, ("map", "percpu", "global", "own"), node)
        if types_of(c, node).by_name(self.of.name) is not None:
            raise c.error(
                node, f"the kernel has a {self.of.name} too, and takes the field for one", "rename the struct"
            )
        operand = "null"
        if new.type is not NONE:
            if isinstance(new.type, OwnRef) and not new.type.of.same(self.of):
                raise c.error(
                    node, f"{self.name} takes no {new.type.of.name}", f"give a {self.of.name}, or None"
                )
            held(c, new, node, "swap()")
            operand = new.ir
        got = self.exchange(c, v, new, operand, node, "x = bpf.new(T)")
        name = f"{c.text_of(field_of(node))}.swap"
        return acquired(c, OwnRef(self.of, nullable=True), got, node, name)


def named(unit: Unit, of: Storage) -> None:
    """Keep a type in the object's BTF, where the kernel looks it up."""
    unit.maps.name_type(f"{of.name}__allocated", of)


def storage(unit: Any, record: Any) -> Storage | None:
    """The storage of a ``bpf.Kptr`` of the program's own struct; None when that is none."""
    of = record.of
    if not isinstance(of, type) or "__bpf__" not in of.__dict__ or of.__dict__["__bpf__"].kernel:
        return None
    made: Storage = unit.namespace.storage(of)
    if isinstance(record, PerCpuKptr):
        from skep.lang.percpu import PerCpuKptrStorage

        return PerCpuKptrStorage(unit, made)
    return LocalKptrStorage(unit, made)
