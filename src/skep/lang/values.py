"""Values as the compiler sees them: a type, an operand, and what is known of the number.

A `Value` exists while the compiler walks an expression. Its `Type` decides what attributes, indexing,
calls and tests of it mean: every method gets the walker ``c``, emits what is needed, and returns a Value.
A method that is not overridden refuses at the span. In IR integers are i64 (whatever their width in
memory), truth values i1, everything with an address ``ptr``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

if TYPE_CHECKING:
    import ast

    from skep.lang.held import Ref
    from skep.lang.layout import Storage
    from skep.lang.walk import Walker

U64: Final = (1 << 64) - 1
S64_MIN: Final = -(1 << 63)
S64_MAX: Final = (1 << 63) - 1


class Value:
    """One value. ``ir`` is its operand ("" when it has none at run time).

    ``lo`` and ``hi`` bound an integer, inclusive; ``obj`` is what is known when compiling: a constant's
    bytes, a tuple's items, a Python object. ``place`` is the stack slot of a local variable's binding,
    ``ref`` what was acquired and has to be given back (`skep.lang.references`), ``node`` the expression
    that was walked last for it, for messages, ``origin`` the value of a map or the object that a reference
    points into, as the verifier tells them apart; None: not known.
    """

    __slots__ = ("hi", "ir", "lo", "node", "obj", "origin", "place", "ref", "type")

    def __init__(
        self,
        type: Type,
        ir: str = "",
        lo: int = 0,
        hi: int = 0,
        *,
        obj: Any = None,
        place: str = "",
        ref: Ref | None = None,
        origin: object = None,
    ) -> None:
        self.type = type
        self.ir = ir
        self.lo = lo
        self.hi = hi
        self.obj = obj
        self.place = place
        self.ref = ref
        self.origin = origin
        self.node: ast.expr | None = None

    @property
    def const(self) -> int | None:
        """The number when it is known, also of a truth value."""
        if isinstance(self.type, (IntType, BoolType)) and self.lo == self.hi:
            return self.lo
        return None

    def __repr__(self) -> str:
        return f"Value({self.type.name}, {self.ir!r}, {self.lo}..{self.hi})"


class Type:
    """What a value can do. ``name`` is for messages, ``llvm`` its type in IR ("" without a run-time part)."""

    name: str = "value"
    llvm: ClassVar[str] = ""
    #: may be None, and has to be tested before use
    nullable: bool = False

    def same(self, other: Type) -> bool:
        """Whether values of both types are of one kind (a local may hold both)."""
        return self is other

    def join(self, other: Type) -> Type | None:
        """The type of a local that holds either, None when there is none."""
        return self if self.same(other) else None

    #: what to write in place of an element, where there is none
    instead = "arrays, texts, tuples and tables have"

    def attr(self, c: Walker, v: Value, name: str, node: ast.AST) -> Value:
        hint = _METHODS.get(name, "structs and contexts have fields")
        raise c.error(node, f"{self.name} has no field {name!r}", hint)

    def set_attr(self, c: Walker, v: Value, name: str, new: Value, node: ast.AST) -> None:
        raise c.error(node, f"a field of {self.name} cannot be set", "fields of structs can")

    def item(self, c: Walker, v: Value, index: Value, node: ast.AST) -> Value:
        raise c.error(node, f"{self.name} has no elements", self.instead)

    def set_item(self, c: Walker, v: Value, index: Value, new: Value, node: ast.AST) -> None:
        raise c.error(
            node,
            f"elements of {self.name} cannot be set",
            "those of arrays and tables can, and those of buf = bpf.raw(16)",
        )

    def del_item(self, c: Walker, v: Value, index: Value, node: ast.AST) -> None:
        raise c.error(node, f"elements of {self.name} cannot be deleted", "those of tables can")

    def add_item(self, c: Walker, v: Value, index: Value, op: ast.operator, by: Value, node: ast.AST) -> None:
        """``v[index] op= by``."""
        old = self.item(c, v, index, node)
        self.set_item(c, v, index, c.binary(op, old, by, node), node)

    def add_attr(self, c: Walker, v: Value, name: str, op: ast.operator, by: Value, node: ast.AST) -> None:
        """``v.name op= by``."""
        self.set_attr(c, v, name, c.binary(op, self.attr(c, v, name, node), by, node), node)

    def contains(self, c: Walker, v: Value, item: Value, node: ast.AST) -> Value:
        raise c.error(node, f"'in' does not work with {self.name}", "it does with tables, tuples and ranges")

    def call(self, c: Walker, v: Value, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
        raise c.error(node, f"{self.name} cannot be called", "functions, types and helpers can")

    def truth(self, c: Walker, v: Value, node: ast.AST) -> Value:
        """A Value of type BOOL."""
        raise c.error(node, f"{self.name} is neither true nor false", "compare it with something")

    def compare(self, c: Walker, op: ast.cmpop, a: Value, b: Value, node: ast.AST) -> Value:
        """``a op b`` where ``a`` is of this type; a Value of type BOOL."""
        hint = "numbers are compared with numbers"
        if isinstance(b.type, BytesType) and len(b.obj) == 1:
            hint = f"one byte of a text is a number: ord({b.obj.decode('latin-1')!r})"
        raise c.error(node, f"{self.name} cannot be compared with {b.type.name}", hint)

    def length(self, c: Walker, v: Value, node: ast.AST) -> Value:
        raise c.error(node, f"{self.name} has no length", "arrays, texts and tuples have")

    def items(self, c: Walker, v: Value, node: ast.AST) -> list[Value] | None:
        """The items when their number is known while compiling and they are few: loops are unrolled."""
        return None

    def enter(self, c: Walker, v: Value, node: ast.AST) -> tuple[Value, Value | None]:
        """``with v as x``: what x is, and a BOOL on which the block is skipped when false (None: never)."""
        raise c.error(node, f"{self.name} cannot be used in 'with'", "locks and ring.reserve() are")

    def exit(self, c: Walker, v: Value, entered: Value, node: ast.AST) -> None:
        """Leave the block, on every way out."""

    def begin(self, c: Walker, v: Value, entered: Value, node: ast.AST) -> None:
        """The block of a ``with`` that may be skipped begins."""

    def escapes(self) -> None:
        """A value of the type is used as a whole: somebody may write to it."""

    def skipped(self, c: Walker, v: Value, node: ast.AST) -> None:
        """The block is skipped."""

    def dropped(self, c: Walker, v: Value, node: ast.AST) -> None:
        """The value of an expression statement is not used."""

    def write(self, c: Walker, v: Value, address: str, into: Storage, node: ast.AST) -> bool:
        """Store the value in memory laid out as ``into``, when it knows how; False when it does not."""
        return False

    def number(self, c: Walker, v: Value, node: ast.AST) -> Value | None:
        """The value as an INT where a number is wanted, None when it is none."""
        return None

    def format(self, c: Walker, v: Value, node: ast.AST) -> tuple[str, str] | None:
        """How printk prints it: a conversion ("%s") and the operand with its IR type; None: it cannot."""
        return None

    def bound(self, c: Walker, key: str, v: Value, node: ast.AST) -> Value:
        """The binding of a local variable to ``v``, for types without an IR type of their own."""
        return v

    def unbound(self, c: Walker, v: Value) -> Value:
        """The value of such a binding, now."""
        return v

    def narrowed(self, v: Value) -> Value:
        """A binding of this optional type, tested not to be None."""
        return v

    def materialise(self, c: Walker, v: Value, node: ast.AST) -> Value:
        """The value as a local variable can hold it (texts of helpers get their buffer here)."""
        return v


#: methods of Python's texts and lists -> what programs have for them
_METHODS: Final = {
    "format": 'bpf.printk(f"{x}") prints it so',
    "append": "xs = bpf.array(u64, 8), and a number that counts those in use; a map keeps what has to last",
    "extend": "xs = bpf.array(u64, 8), and a number that counts those in use; a map keeps what has to last",
    "encode": "texts are bytes here: leave it out",
    "decode": "texts are bytes here, decode them in Python, after reading",
    "split": "loop over its bytes: for i in range(16): if text[i] == ord('/'): ...",
    "find": "loop over its bytes: for i in range(16): if text[i] == ord('/'): ...",
    "endswith": 'loop over its bytes, or compare a slice: text[4:8] == b".txt"',
    "strip": "do it in Python, after reading",
    "lower": "do it in Python, after reading",
    "upper": "do it in Python, after reading",
}


class IntType(Type):
    """An integer; its interval is in the Value."""

    name = "an integer"
    llvm = "i64"

    def attr(self, c: Walker, v: Value, name: str, node: ast.AST) -> Value:
        if name == "to_bytes":
            from skep.lang.builtins import to_bytes

            return to_bytes(c, v, node)
        if name in ("name", "value"):
            hint = "enumerators are their numbers; names are given to them in Python, after reading"
            raise c.error(node, f"{self.name} has no field {name!r}", hint)
        return super().attr(c, v, name, node)


class BoolType(Type):
    """True or false."""

    name = "a truth value"
    llvm = "i1"

    def truth(self, c: Walker, v: Value, node: ast.AST) -> Value:
        return v


class NoneType(Type):
    """None."""

    name = "None"


class BytesType(Type):
    """Text or bytes known while compiling (``obj`` is the bytes)."""

    name = "a text"

    def same(self, other: Type) -> bool:
        return isinstance(other, BytesType)

    def length(self, c: Walker, v: Value, node: ast.AST) -> Value:
        return c.int_const(len(v.obj))

    def item(self, c: Walker, v: Value, index: Value, node: ast.AST) -> Value:
        at = index.const
        if at is None or not -len(v.obj) <= at < len(v.obj):
            raise c.error(
                node,
                "a constant text is indexed by a constant within it",
                "store it in a bpf.char field first",
            )
        return c.int_const(v.obj[at])


class TupleType(Type):
    """A tuple (``obj`` is a list of Values)."""

    name = "a tuple"

    def same(self, other: Type) -> bool:
        return isinstance(other, TupleType)

    def length(self, c: Walker, v: Value, node: ast.AST) -> Value:
        return c.int_const(len(v.obj))

    def items(self, c: Walker, v: Value, node: ast.AST) -> list[Value] | None:
        found: list[Value] = v.obj
        return found

    def item(self, c: Walker, v: Value, index: Value, node: ast.AST) -> Value:
        at = index.const
        if at is None:
            raise c.error(node, "a tuple is indexed by a constant", "use bpf.array for a table")
        if not -len(v.obj) <= at < len(v.obj):
            raise c.error(
                node, f"the tuple has {len(v.obj)} items, not one at {at}", f"there are 0 to {len(v.obj) - 1}"
            )
        found: Value = v.obj[at]
        return found

    def contains(self, c: Walker, v: Value, item: Value, node: ast.AST) -> Value:
        import ast as a

        found = c.bool_const(False)
        for one in v.obj:
            found = c.bool_or(found, c.compare(a.Eq(), item, one, node))
        return found


class ObjectType(Type):
    """A Python object known while compiling (``obj``): a module, class, map, function, type record."""

    name = "a Python object"

    def same(self, other: Type) -> bool:
        return isinstance(other, ObjectType)

    def attr(self, c: Walker, v: Value, name: str, node: ast.AST) -> Value:
        return c.object_attr(v, name, node)

    def call(self, c: Walker, v: Value, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
        return c.object_call(v, args, kwargs, node)

    def write(self, c: Walker, v: Value, address: str, into: Storage, node: ast.AST) -> bool:
        # bpf.array(u32, 8) as a value is eight zeros
        if not c.unit.is_type(v.obj) or not c.unit.storage(v.obj, c, node).same(into):
            return False
        c.zero(address, into.size, into.align)
        return True


class BuiltinType(Type):
    """A function of the language: ``obj`` is called as ``obj(c, args, kwargs, node) -> Value``."""

    name = "a function of the language"

    def call(self, c: Walker, v: Value, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
        made: Value = v.obj(c, args, kwargs, node)
        return made


class OptionalType(Type):
    """A number or None: ``obj`` is (flag operand or slot, the number's Value)."""

    name = "an integer or None"
    nullable = True

    def same(self, other: Type) -> bool:
        return isinstance(other, OptionalType)

    def join(self, other: Type) -> Type | None:
        return self if isinstance(other, (OptionalType, NoneType)) else None

    def truth(self, c: Walker, v: Value, node: ast.AST) -> Value:
        raise c.error(node, "None and 0 would be the same here", f"write: {c.text_of(node)} is not None")

    def present(self, v: Value) -> Value:
        """Whether it is not None, a BOOL."""
        return Value(BOOL, v.obj[0], 0, 1)

    def bound(self, c: Walker, key: str, v: Value, node: ast.AST) -> Value:
        number = v.obj[1]
        flag, place = c.em.slot("i1", key + "?"), c.em.slot(number.type.llvm, key)
        c.em.do(f"store i1 {v.obj[0]}, ptr {flag}")
        c.em.do(f"store {number.type.llvm} {number.ir}, ptr {place}")
        return Value(self, obj=(flag, Value(number.type, "", number.lo, number.hi, place=place)))

    def unbound(self, c: Walker, v: Value) -> Value:
        return Value(self, obj=(c.em.op(f"load i1, ptr {v.obj[0]}"), c.read(v.obj[1])))

    def narrowed(self, v: Value) -> Value:
        found: Value = v.obj[1]
        return Value(found.type, found.ir, found.lo, found.hi, obj=v.obj[0], place=found.place)


#: where references into maps point, global variables among them
_MAPPED = frozenset(("map", "global", "percpu"))


class Reference(Type):
    """An address of something, or None where it is ``nullable``: it must be tested then before use."""

    llvm = "ptr"

    def optional(self, nullable: bool) -> Type:
        """The same, nullable or not."""
        raise NotImplementedError  # each kind of reference has its own

    def narrowed(self, v: Value) -> Value:
        return Value(self.optional(False), v.ir, obj=v.obj, place=v.place)

    def truth(self, c: Walker, v: Value, node: ast.AST) -> Value:
        if not self.nullable:
            return c.bool_const(True)
        return c.boolean(c.em.op(f"icmp ne ptr {v.ir}, null"))


class PtrType(Reference):
    """A reference to memory laid out as ``of``, safe to read and write by plain loads and stores.

    ``space`` says where: "stack", "map", "packet", "global", "ring", "mem". ``writable`` is False for
    read-only data. A nullable one must be tested first; the walker narrows the local that was tested.
    """

    #: it is part of a packed struct: perhaps not aligned, which atomic additions have to be
    packed = False

    def __init__(self, of: Storage, space: str, *, nullable: bool = False, writable: bool = True) -> None:
        self.of = of
        self.space = space
        self.nullable = nullable
        self.writable = writable
        self.name = f"{of.name} or None" if nullable else of.name

    def same(self, other: Type) -> bool:
        return isinstance(other, PtrType) and other.of.same(self.of)

    def join(self, other: Type) -> Type | None:
        if isinstance(other, NoneType):
            return self.optional(True)
        if not isinstance(other, PtrType) or not self.of.same(other.of):
            return None
        space = self.space
        if other.space != space:  # what may be shared is shared
            space = "map" if {space, other.space} <= _MAPPED else "mem"
        made = PtrType(
            self.of,
            space,
            nullable=self.nullable or other.nullable,
            writable=self.writable and other.writable,
        )
        made.packed = self.packed or other.packed
        return made

    def optional(self, nullable: bool) -> PtrType:
        """The same, nullable or not."""
        if nullable == self.nullable:
            return self
        made = PtrType(self.of, self.space, nullable=nullable, writable=self.writable)
        made.packed = self.packed
        return made

    def _tested(self, c: Walker, v: Value, node: ast.AST) -> None:
        if self.nullable:
            c.refuse_none(v, node)

    @staticmethod
    def _within(v: Value, part: Value) -> Value:
        """``part``, which lies in what ``v`` refers to."""
        if isinstance(part.type, PtrType):
            part.origin = v.origin
        return part

    def attr(self, c: Walker, v: Value, name: str, node: ast.AST) -> Value:
        self._tested(c, v, node)
        return self._within(v, self.of.ref_attr(c, v, name, node))

    def set_attr(self, c: Walker, v: Value, name: str, new: Value, node: ast.AST) -> None:
        self._tested(c, v, node)
        if not self.writable:
            raise c.error(node, f"{self.of.name} is read-only here", "copy what you need to change")
        self.of.ref_set_attr(c, v, name, new, node)

    def add_attr(self, c: Walker, v: Value, name: str, op: ast.operator, by: Value, node: ast.AST) -> None:
        self._tested(c, v, node)
        if not (self.writable and self.of.ref_add_attr(c, v, name, op, by, node)):
            super().add_attr(c, v, name, op, by, node)

    def add_item(self, c: Walker, v: Value, index: Value, op: ast.operator, by: Value, node: ast.AST) -> None:
        self._tested(c, v, node)
        if not (self.writable and self.of.ref_add_item(c, v, index, op, by, node)):
            super().add_item(c, v, index, op, by, node)

    @property
    def shared(self) -> bool:
        """Whether other processors may change it at the same time."""
        return self.space in ("map", "global", "arena")

    def item(self, c: Walker, v: Value, index: Value, node: ast.AST) -> Value:
        self._tested(c, v, node)
        return self._within(v, self.of.ref_item(c, v, index, node))

    def set_item(self, c: Walker, v: Value, index: Value, new: Value, node: ast.AST) -> None:
        self._tested(c, v, node)
        if not self.writable:
            raise c.error(node, f"{self.of.name} is read-only here", "copy what you need to change")
        self.of.ref_set_item(c, v, index, new, node)

    def length(self, c: Walker, v: Value, node: ast.AST) -> Value:
        self._tested(c, v, node)
        return self.of.ref_length(c, v, node)

    def compare(self, c: Walker, op: ast.cmpop, a: Value, b: Value, node: ast.AST) -> Value:
        self._tested(c, a, node)
        return self.of.ref_compare(c, op, a, b, node)

    def enter(self, c: Walker, v: Value, node: ast.AST) -> tuple[Value, Value | None]:
        self._tested(c, v, node)
        return self.of.ref_enter(c, v, node)

    def exit(self, c: Walker, v: Value, entered: Value, node: ast.AST) -> None:
        self.of.ref_exit(c, v, entered, node)

    def skipped(self, c: Walker, v: Value, node: ast.AST) -> None:
        self.of.ref_skipped(c, v, node)

    def materialise(self, c: Walker, v: Value, node: ast.AST) -> Value:
        # Texts are values: a name given to a field of bytes keeps what it held then. Structs are objects.
        if v.obj is None or not self.of.is_text:
            return v
        c.fits(self.of.size, node)
        address = c.buffer(self.of.size, 8, ("text", c.scope.prefix, id(node), v.ir))
        c.copy(address, v.ir, self.of.size, 1)
        return Value(PtrType(self.of, "stack"), address)

    def write(self, c: Walker, v: Value, address: str, into: Storage, node: ast.AST, align: int = 0) -> bool:
        self._tested(c, v, node)
        if not self.of.same(into):
            return False
        loose = self.packed and self.space != "packet"
        c.copy(address, v.ir, into.size, 1 if loose else align or into.align)
        return True


INT: Final = IntType()
BOOL: Final = BoolType()
NONE: Final = NoneType()
TEXT: Final = BytesType()
TUPLE: Final = TupleType()
OBJECT: Final = ObjectType()
BUILTIN: Final = BuiltinType()
OPTIONAL: Final = OptionalType()
