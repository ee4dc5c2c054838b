"""Packets: a cursor that hands out headers which are known to lie within the packet.

The cursor's offset is a hidden variable of the walker, so that it stays a constant as long as it is one (and
the code is what one writes by hand), and joins and widens in loops as any variable does. A variable offset
is made opaque to LLVM: the verifier follows the register that was compared.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Final

from skep.lang import remainders
from skep.lang.contexts_fields import BOUNDS, PACKETS
from skep.lang.values import BUILTIN, INT, OBJECT, NoneType, PtrType, Type, Value
from skep.uapi.contexts import CONTEXTS
from skep.uapi.enums import ProgType

if TYPE_CHECKING:
    from collections.abc import Callable

    from skep.lang.contexts import ContextRef
    from skep.lang.layout import Storage
    from skep.lang.walk import Walker

#: the verifier follows offsets into a packet up to here
MAX_OFFSET: Final = 0xFFFF
#: The bound of an offset of which nothing is known. All ones: Linux 7 refuses a bound that the known low bits
#: of the offset cannot reach, when it compares the end of the header with the end of the packet.
_VARIABLE: Final = 0x7FFF
_GENERATION: Final = "%packets"


def opener(kind: ContextRef, v: Value, bounds: tuple[str, str] | None = None) -> Callable[..., Value]:
    """``ctx.packet()``, or what lies between the two fields ``bounds``."""

    def packet(c: Walker, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
        if args or kwargs:
            raise c.error(node, "this takes no arguments", "pkt = ctx.packet()")
        key = f"%cursor{c.fresh()}"
        c.bind(key, c.int_const(0), node)
        if kind.section.type == ProgType.SOCKET_FILTER:
            return Value(CopyCursor(key), obj=(v.ir, ""))
        first = next(f for f in BOUNDS if f in CONTEXTS[kind.struct].fields and BOUNDS[f])
        start, end = (_pointer(c, kind, v.ir, name) for name in bounds or (first, BOUNDS[first]))
        c.unit.declare("declare void @llvm.assume(i1)")
        c.em.do(f"call void @llvm.assume(i1 {c.em.op(f'icmp ne ptr {start}, null')})")
        writable = bounds is not None or PACKETS.get(kind.section.type, kind.struct == "bpf_sockopt")
        return Value(Cursor(key, generation(c), writable), obj=(start, end))

    return packet


def _pointer(c: Walker, kind: ContextRef, base: str, name: str) -> str:
    offset, size, _ = CONTEXTS[kind.struct].fields[name]
    if abs(size) == 8:
        return c.em.op(f"load ptr, ptr {c.within_context(base, offset)}, align 8")
    got = c.em.op(f"load i32, ptr {c.within_context(base, offset)}, align 4")
    return c.em.op(f"inttoptr i64 {c.em.op(f'zext i32 {got} to i64')} to ptr")


def generation(c: Walker) -> int:
    """A number that changes when a helper may have moved the packet; -1 when it may have on some path."""
    known = c.env.get(_GENERATION)
    if known is None:
        return 0
    return known.const if known.const is not None else -1


def moved(c: Walker, node: ast.AST) -> None:
    """A helper was called that may move the packet: what points into it is no longer good."""
    c.bind(_GENERATION, c.int_const(c.fresh()), node)


def _check(c: Walker, made: int, node: ast.AST) -> None:
    if generation(c) != made:
        raise c.error(
            node,
            "the packet may have moved since this was taken from it",
            "call ctx.packet() again after helpers that change the packet",
        )


class PacketRef(PtrType):
    """A header within the packet. Not good any more once the packet has moved."""

    def __init__(self, of: Storage, made: int, *, nullable: bool = False, writable: bool = True) -> None:
        super().__init__(of, "packet", nullable=nullable, writable=writable)
        self.made = made

    def optional(self, nullable: bool) -> PtrType:
        if nullable == self.nullable:
            return self
        return PacketRef(self.of, self.made, nullable=nullable, writable=self.writable)

    def join(self, other: Type) -> Type | None:
        if isinstance(other, NoneType):
            return self.optional(True)
        if isinstance(other, PacketRef) and other.made == self.made and self.of.same(other.of):
            return self.optional(self.nullable or other.nullable)
        return None

    def _tested(self, c: Walker, v: Value, node: ast.AST) -> None:
        _check(c, self.made, node)
        super()._tested(c, v, node)


class _CursorType(Type):
    """What direct and copying cursors share."""

    name = "a packet"
    instead = "pkt.skip(12); x = pkt.take(be16) reads the two bytes at 12"

    def __init__(self, key: str) -> None:
        self.key = key

    def same(self, other: Type) -> bool:
        return isinstance(other, _CursorType) and other.key == self.key

    def attr(self, c: Walker, v: Value, name: str, node: ast.AST) -> Value:
        if name == "offset":
            return c.read(c.env[self.key])
        method = {"take": self.take, "peek": self.peek, "skip": self.skip}.get(name)
        if method is None:
            raise c.error(node, f"a packet has no {name!r}", "there are: take, peek, skip, offset")

        def call(c: Walker, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
            if len(args) != 1 or kwargs:
                raise c.error(
                    node,
                    f"{name}() takes one argument",
                    f"pkt.{name}(iphdr)" if name != "skip" else "pkt.skip(4)",
                )
            return method(c, v, args[0], node)

        return Value(BUILTIN, obj=call)

    def offset(self, c: Walker) -> Value:
        """Where the cursor is."""
        return c.read(c.env[self.key])

    def advance(self, c: Walker, by: Value, node: ast.AST) -> None:
        """Move the cursor."""
        here = self.offset(c)
        c.bind(self.key, c.binary(ast.Add(), here, by, node), node)

    def skip(self, c: Walker, v: Value, by: Value, node: ast.AST) -> Value:
        number = c.as_int(by, node, "how many bytes to skip")
        if number.const is not None and number.const < 0:
            raise c.error(node, "a packet is not taken from backwards", "offsets count from the beginning")
        if number.lo < 0 or number.hi > MAX_OFFSET:
            # What would go back, or beyond any packet, goes beyond the end: the next take() gives None.
            number = Value(INT, c.em.op(f"and i64 {number.ir}, {MAX_OFFSET}"), 0, MAX_OFFSET)
        number = remainders.bounded(c, number)
        self.advance(c, number, node)
        return c.none()

    def take(self, c: Walker, v: Value, of: Value, node: ast.AST) -> Value:
        storage = _storage(c, of, node)
        made = self.reach(c, v, storage, node)
        self.advance(c, c.int_const(storage.size), node)
        return made

    def peek(self, c: Walker, v: Value, of: Value, node: ast.AST) -> Value:
        return self.reach(c, v, _storage(c, of, node), node)

    def reach(self, c: Walker, v: Value, of: Storage, node: ast.AST) -> Value:
        """A reference to what lies at the cursor, None beyond the end."""
        raise NotImplementedError  # each kind of packet has its own


class Cursor(_CursorType):
    """A cursor over memory that is bounded by two pointers: ``obj`` is (start, end)."""

    def __init__(self, key: str, made: int, writable: bool) -> None:
        super().__init__(key)
        self.made = made
        self.writable = writable

    def bound(self, c: Walker, key: str, v: Value, node: ast.AST) -> Value:
        places = []
        for i, operand in enumerate(v.obj):
            place = c.em.slot("ptr", f"{self.key}.{i}")
            c.em.do(f"store ptr {operand}, ptr {place}")
            places.append(place)
        return Value(self, obj=tuple(places), place="bound")

    def unbound(self, c: Walker, v: Value) -> Value:
        if v.place != "bound":
            return v
        return Value(self, obj=tuple(c.em.op(f"load ptr, ptr {place}") for place in v.obj))

    def length(self, c: Walker, v: Value, node: ast.AST) -> Value:
        _check(c, self.made, node)
        start, end = (c.em.op(f"ptrtoint ptr {p} to i64") for p in v.obj)
        # LLVM would compute with the ends themselves, say multiply each, which the verifier does not take.
        return Value(INT, c.opaque(c.em.op(f"sub i64 {end}, {start}")), 0, MAX_OFFSET)

    def reach(self, c: Walker, v: Value, of: Storage, node: ast.AST) -> Value:
        _check(c, self.made, node)
        start, end = v.obj
        here = self.offset(c)
        inside = ""
        if here.const is not None:
            at = c.offset(start, here.const)
        else:
            number = c.opaque(here.ir)
            if here.hi > MAX_OFFSET - of.size:
                inside = c.em.op(f"icmp ule i64 {number}, {_VARIABLE}")
                number = c.em.op(f"select i1 {inside}, i64 {number}, i64 0")
            at = c.em.op(f"getelementptr i8, ptr {start}, i64 {number}")
            at = c.em.op(f'call ptr asm "", "=r,0"(ptr {at})')
            c.em.do(f"call void @llvm.assume(i1 {c.em.op(f'icmp ne ptr {at}, null')})")
        fits = c.em.op(f"icmp ule ptr {c.offset(at, of.size)}, {end}")
        if inside:
            fits = c.em.op(f"and i1 {inside}, {fits}")
        made = c.em.op(f"select i1 {fits}, ptr {at}, ptr null")
        if any(isinstance(one.type, PacketRef) and one.type.nullable for one in c.env.values()):
            # Another header is not tested yet: its test comes between, after which the verifier no longer
            # knows how this comparison with the end went. So the pointer is tested, not that once more.
            made = c.em.op(f'call ptr asm "", "=r,0"(ptr {made})')
        return Value(PacketRef(of, self.made, nullable=True, writable=self.writable), made)


class CopyCursor(_CursorType):
    """A cursor for programs without direct access (socket filters): headers are copied to the stack."""

    def length(self, c: Walker, v: Value, node: ast.AST) -> Value:
        offset, _, _ = CONTEXTS["__sk_buff"].fields["len"]
        got = c.em.op(f"load i32, ptr {c.within_context(v.obj[0], offset)}, align 4")
        return Value(INT, c.em.op(f"zext i32 {got} to i64"), 0, (1 << 32) - 1)

    def reach(self, c: Walker, v: Value, of: Storage, node: ast.AST) -> Value:
        room = c.buffer(of.size, 8)
        at = c.em.op(f"trunc i64 {self.offset(c).ir} to i32")
        at = c.em.op(f"zext i32 {at} to i64")
        got = c.helper("skb_load_bytes", [f"ptr {v.obj[0]}", f"i64 {at}", f"ptr {room}", f"i64 {of.size}"])
        fits = c.em.op(f"icmp eq i64 {got}, 0")
        made = c.em.op(f"select i1 {fits}, ptr {room}, ptr null")
        return Value(PtrType(of, "stack", nullable=True), made)


def _storage(c: Walker, of: Value, node: ast.AST) -> Storage:
    if of.type is not OBJECT:
        raise c.error(node, "this takes a type: a struct class, u32, bpf.raw(6)", "pkt.take(iphdr)")
    made: Storage = c.unit.storage(of.obj, c, node)
    return made
