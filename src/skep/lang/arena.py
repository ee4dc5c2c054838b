"""Arenas: memory that programs and processes share, in which pointers are pointers (Linux 6.9).

A reference into an arena is kept as the address that processes see, also in variables, so None is address 0
and what is stored in the arena or in a global variable can be followed by both sides. Where memory is read
or written it is a pointer of address space 1, which LLVM casts (``addr_space_cast``) to what the kernel maps
it at; the verifier lets every address within an arena through, so nothing is checked there.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from skep.errors import SkepError
from skep.lang.aggregates import ArrayStorage, StructStorage
from skep.lang.arguments import named
from skep.lang.layout import OpaqueStorage, ScalarStorage, Storage
from skep.lang.maps import MapType, holding
from skep.lang.values import NONE, OBJECT, TEXT, U64, NoneType, PtrType, Reference, Type, Value

if TYPE_CHECKING:
    from skep.lang.debug import Debug
    from skep.lang.walk import Walker

_ALLOC: Final = "bpf_arena_alloc_pages"
_FREE: Final = "bpf_arena_free_pages"
_PAGE: Final = 4096
_SPACES: Final = {"p0": "", "p1": " addrspace(1)"}
#: any NUMA node
_NO_NODE: Final = "-1"


class ArenaRef(Reference):
    """A reference to a ``of`` in the arena, or to the first of several."""

    def __init__(self, of: Storage, *, nullable: bool = False) -> None:
        self.of = of
        self.nullable = nullable
        self.name = f"a {of.name} in the arena" + (", or None" if nullable else "")

    def same(self, other: Type) -> bool:
        return isinstance(other, ArenaRef) and other.of.same(self.of)

    def join(self, other: Type) -> Type | None:
        if isinstance(other, NoneType):
            return self.optional(True)
        if not isinstance(other, ArenaRef) or not other.of.same(self.of):
            return None
        return self.optional(self.nullable or other.nullable)

    def optional(self, nullable: bool) -> ArenaRef:
        """The same, nullable or not."""
        return ArenaRef(self.of, nullable=nullable)

    def plain(self, c: Walker, v: Value, node: ast.AST) -> Value:
        """The same as a reference that loads and stores work with."""
        if self.nullable:
            c.refuse_none(v, node)
        return Value(PtrType(self.of, "arena"), cast(c, v.ir, node))

    def _part(self, c: Walker, v: Value, found: Value, at: str) -> Value:
        """A part that is an object itself is reached from the arena's own address."""
        kind = found.type
        if isinstance(kind, PtrType) and isinstance(kind.of, (StructStorage, ArrayStorage)):
            return Value(ArenaRef(kind.of), at)
        return found

    def attr(self, c: Walker, v: Value, name: str, node: ast.AST) -> Value:
        plain = self.plain(c, v, node)
        found = plain.type.attr(c, plain, name, node)
        if not isinstance(self.of, StructStorage) or name not in self.of.fields:
            return found
        return self._part(c, v, found, c.offset(v.ir, self.of.fields[name].offset))

    def set_attr(self, c: Walker, v: Value, name: str, new: Value, node: ast.AST) -> None:
        plain = self.plain(c, v, node)
        if isinstance(self.of, StructStorage) and name in self.of.fields:
            new = _made(c, new, self.of.fields[name].of, node)
        plain.type.set_attr(c, plain, name, new, node)

    def add_attr(self, c: Walker, v: Value, name: str, op: ast.operator, by: Value, node: ast.AST) -> None:
        plain = self.plain(c, v, node)
        plain.type.add_attr(c, plain, name, op, by, node)

    def _element(self, c: Walker, v: Value, index: Value, node: ast.AST) -> tuple[Storage, str]:
        """(type, address) of an element: of an array one that it has, else the next such object but i."""
        if self.nullable:
            c.refuse_none(v, node)
        if isinstance(self.of, ArrayStorage):
            at = c.index(index, self.of.count, self.of.name, node)
            return self.of.of, c.element(v, at, self.of.of.size)
        if self.of.is_text:
            raise c.error(node, f"{self.name} has no elements", "allocate an array")
        number = c.as_int(index, node, "an index")
        by = c.em.op(f"mul i64 {number.ir}, {self.of.size}")
        return self.of, c.em.op(f"getelementptr i8, ptr {v.ir}, i64 {by}")

    def item(self, c: Walker, v: Value, index: Value, node: ast.AST) -> Value:
        of, at = self._element(c, v, index, node)
        if isinstance(of, (StructStorage, ArrayStorage)):
            return Value(ArenaRef(of), at)
        return c.load(of, cast(c, at, node), Value(PtrType(of, "arena"), ""), node)

    def set_item(self, c: Walker, v: Value, index: Value, new: Value, node: ast.AST) -> None:
        of, at = self._element(c, v, index, node)
        of.store(c, cast(c, at, node), _made(c, new, of, node), node)

    def length(self, c: Walker, v: Value, node: ast.AST) -> Value:
        plain = self.plain(c, v, node)
        return plain.type.length(c, plain, node)

    def number(self, c: Walker, v: Value, node: ast.AST) -> Value | None:
        if not self.of.scalar:
            return None
        return c.as_int(self.of.load(c, cast(c, v.ir, node), node), node)

    def compare(self, c: Walker, op: ast.cmpop, a: Value, b: Value, node: ast.AST) -> Value:
        other = b.type.plain(c, b, node) if isinstance(b.type, ArenaRef) else b
        plain = self.plain(c, a, node)
        return plain.type.compare(c, op, plain, other, node)

    def write(self, c: Walker, v: Value, address: str, into: Storage, node: ast.AST) -> bool:
        plain = self.plain(c, v, node)
        return plain.type.write(c, plain, address, into, node)


def _made(c: Walker, value: Value, of: Storage, node: ast.AST) -> Value:
    """A text that a helper makes (``bpf.comm()``) is made on the stack, for helpers reach no arena."""
    if not of.is_text or value.type is TEXT or isinstance(value.type, PtrType):
        return value
    c.fits(of.size, node)
    room = c.em.temporary(of.size, 8)
    c.zero(room, of.size, 8)
    of.store(c, room, value, node)
    return Value(PtrType(of, "stack"), room)


def cast(c: Walker, address: str, node: ast.AST) -> str:
    """An address of the arena as the kernel has it."""
    if c.unit.arena is None:
        raise c.error(
            node, "this follows a pointer into an arena, and there is none", "arena = bpf.Arena(pages=100)"
        )
    # The verifier wants a program that casts to name its arena, which following a pointer alone does not.
    named = f'  call void asm sideeffect "", "r"(ptr @{c.unit.arena})'
    if named not in c.em.slots:
        c.em.slots.append(named)
    number = c.em.op(f"ptrtoint ptr {address} to i64")
    made = c.em.op(f"inttoptr i64 {number} to ptr addrspace(1)")
    c.em.shared.add(made)
    c.em.refuse_shared = lambda: _refuse(c)
    for to in ("p0", "p1"):
        c.unit.declare(f"declare void @llvm.memset.{to}.i64(ptr{_SPACES[to]}, i8, i64, i1 immarg)")
        for source in ("p0", "p1"):
            c.unit.declare(
                f"declare void @llvm.memcpy.{to}.{source}.i64"
                f"(ptr{_SPACES[to]}, ptr{_SPACES[source]}, i64, i1 immarg)"
            )
    return made


def _refuse(c: Walker) -> None:
    raise c.error(
        c.node,
        "memory of an arena cannot be given to the kernel",
        "copy it to a variable first: text = node.text; or give the address of what has it",
    )


class ArenaPointerStorage(ScalarStorage):
    """A pointer into the arena, kept in memory: ``next: bpf.ArenaPtr[Node]``. It may be None."""

    size = align = 8

    def __init__(self, name: str, of: Callable[[], Storage]) -> None:
        self.name = f"pointer to a {name} in the arena"
        self._of = of

    @property
    def of(self) -> Storage:
        """What it points to; only now, for structs point to themselves."""
        return self._of()

    def same(self, other: Storage) -> bool:
        return isinstance(other, ArenaPointerStorage) and other.name == self.name

    def describe(self, di: Debug) -> str:
        known = di.arena_pointers.get(self.name)
        if known is None:
            known = di.arena_pointers[self.name] = di.reserve()
            to = self.of.describe(di)
            di.define(known, f"!DIDerivedType(tag: DW_TAG_pointer_type, baseType: {to}, size: 64)")
        return known

    def load(self, c: Walker, address: str, node: ast.AST, *, align: int = 0, space: str = "mem") -> Value:
        got = c.em.op(f"load ptr, ptr {address}, align {align or 8}")
        return Value(ArenaRef(self.of, nullable=True), got)

    def number(self, c: Walker, address: str, node: ast.AST) -> Value:
        return c.int(c.em.op(f"load i64, ptr {address}, align 8"), 0, U64)

    def of_number(self, c: Walker, number: Value) -> Value:
        return Value(ArenaRef(self.of, nullable=True), c.em.op(f"inttoptr i64 {number.ir} to ptr"))

    def operand(self, c: Walker, value: Value, node: ast.AST) -> str:
        """The address that ``value`` is, as a ``ptr``; refuses what points elsewhere."""
        kind = value.type
        if kind is NONE:
            return "null"
        if not isinstance(kind, ArenaRef):
            raise c.error(
                node,
                f"a {self.name} cannot be {kind.name}",
                "what it points to is made by arena.alloc(T), or reached from there",
            )
        if not kind.of.same(self.of):
            raise c.error(node, f"this is {kind.name}, kept as a {self.name}", "give one of that type")
        return value.ir

    def as_number(self, c: Walker, value: Value, node: ast.AST) -> str:
        """The same as an ``i64``, as subprograms take and give it."""
        return c.em.op(f"ptrtoint ptr {self.operand(c, value, node)} to i64")

    def store(self, c: Walker, address: str, value: Value, node: ast.AST, *, align: int = 0) -> None:
        got = self.operand(c, value, node)
        c.em.do(f"store ptr {got}, ptr {address}, align {align or 8}")


class ArenaType(MapType):
    """The arena itself: ``alloc`` and ``free``."""

    def do_alloc(
        self, c: Walker, v: Value, args: list[Value], kwargs: dict[str, Value], node: ast.AST
    ) -> Value:
        """``count`` objects of type T one after the other, in pages of their own, all zero; or None."""
        given = named(c, "alloc", ("type", "count"), 1, args, kwargs, node)
        if given["type"].type is not OBJECT:
            raise c.error(node, "alloc() takes a type", "arena.alloc(Node)")
        of = c.unit.storage(given["type"].obj, c, node)
        held = holding(of)
        if held is not None:
            raise c.error(node, f"a {held} cannot be in an arena", "it can be in the value of a map")
        if isinstance(of, StructStorage):
            c.unit.maps.name_type(f"{self.symbol}__{of.name}", of)
        pages = self._pages(c, of, given.get("count"), node)
        operands = f"ptr {v.ir}, ptr null, i32 {pages}, i32 {_NO_NODE}, i64 0"
        _declared(c, _ALLOC, node)
        return Value(ArenaRef(of, nullable=True), c.em.op(f"call ptr @{_ALLOC}({operands})"))

    def do_free(
        self, c: Walker, v: Value, args: list[Value], kwargs: dict[str, Value], node: ast.AST
    ) -> Value:
        """Give the pages back that `alloc` gave for that many; what points there reads zeros then."""
        given = named(c, "free", ("object", "count"), 1, args, kwargs, node)
        what = given["object"]
        if not isinstance(what.type, ArenaRef):
            raise c.error(node, f"{what.type.name} is not of the arena", "give what arena.alloc(T) gave")
        if what.type.nullable:
            c.refuse_none(what, node, "what is given back")
        pages = self._pages(c, what.type.of, given.get("count"), node)
        _declared(c, _FREE, node)
        c.em.do(f"call void @{_FREE}(ptr {v.ir}, ptr {what.ir}, i32 {pages})")
        return c.none()

    def _pages(self, c: Walker, of: Storage, count: Value | None, node: ast.AST) -> str:
        """How many pages ``count`` objects take, as an i32."""
        most = self.map.max_entries
        number = c.as_int(count, node, "how many") if count is not None else c.int_const(1)
        if number.const is not None:
            pages = -(-of.size * number.const // _PAGE)
            if not 0 < pages <= most:
                raise c.error(
                    node,
                    f"{number.const} of {of.size} bytes take {pages} pages, {self.symbol} has {most}",
                    f"{self.symbol} = bpf.Arena(pages={pages})" if pages > 0 else "give 1 or more",
                )
            return str(pages)
        limit = most * _PAGE // of.size
        if number.lo < 1 or number.hi > limit:
            worst = number.lo if number.lo < 1 else number.hi
            raise c.error(
                node,
                f"count may be {worst}, {self.symbol} has room for 1 to {limit}",
                f"test it first: if 1 <= n <= {limit}",
            )
        size = c.em.op(f"mul i64 {number.ir}, {of.size}")
        pages_of = c.em.op(f"lshr i64 {c.em.op(f'add i64 {size}, {_PAGE - 1}')}, 12")
        return c.em.op(f"trunc i64 {pages_of} to i32")


def _declared(c: Walker, name: str, node: ast.AST) -> None:
    """Declare a function of the kernel's; refuses where it cannot be called."""
    from skep.lang import kfuncs
    from skep.lang.kernel_types import types_of

    found = types_of(c, node).function(name)
    if found is None:
        raise c.error(node, f"this kernel has no {name}", "arenas need Linux 6.9")
    kfuncs.check(c, name, node)
    kfuncs.declare(c, name, *found)


def only(known: str | None, symbol: str) -> str:
    """The arena of an object. Raises SkepError when there is one already."""
    if known is not None:
        raise SkepError(f"{known} and {symbol} are two arenas, and programs have one: put all in one")
    return symbol


__all__ = ["ArenaPointerStorage", "ArenaRef", "ArenaType", "OpaqueStorage", "cast", "only"]
