"""Arrays, texts and structs in memory."""

from __future__ import annotations

import ast
from math import gcd
from typing import TYPE_CHECKING, NamedTuple

from skep.lang import paths
from skep.lang.layout import BoolStorage, IntStorage, Storage, atomic
from skep.lang.values import BUILTIN, INT, TEXT, BytesType, IntType, PtrType, TupleType, Value

if TYPE_CHECKING:
    from skep.lang.debug import Debug
    from skep.lang.walk import Walker


def _packed(*values: Value) -> list[str]:
    """Those in a packet, where words are read at any address, as the fields of headers are."""
    return [v.ir for v in values if isinstance(v.type, PtrType) and v.type.space == "packet"]


def _align(v: Value, of: Storage) -> int:
    """How a part of what ``v`` refers to is aligned: not at all within packed structs, but for packets,
    where words are read at any address."""
    loose = isinstance(v.type, PtrType) and v.type.packed and v.type.space != "packet"
    return 1 if loose else of.align


class TextStorage(Storage):
    """``size`` bytes: text up to its first zero byte (``text``), or exactly that many bytes."""

    is_text = True

    def __init__(self, size: int, text: bool) -> None:
        self.size = size
        self.text = text
        self.name = f"{'char' if text else 'raw'}({size})"

    def same(self, other: Storage) -> bool:
        return isinstance(other, TextStorage) and other.size == self.size and other.text == self.text

    def describe(self, di: Debug) -> str:
        element = (
            di.base("char", 8, "signed_char") if self.text else di.base("unsigned char", 8, "unsigned_char")
        )
        return di.array(element, self.size * 8, self.size)

    def store(self, c: Walker, address: str, value: Value, node: ast.AST, *, align: int = 0) -> None:
        if isinstance(value.type, BytesType):
            self.store_constant(c, address, value.obj, node)
            return
        kind = value.type
        if isinstance(kind, PtrType) and isinstance(kind.of, TextStorage) and kind.of.size < self.size:
            if kind.nullable:
                c.refuse_none(value, node)
            c.copy(address, value.ir, kind.of.size, 1)
            c.zero(c.offset(address, kind.of.size), self.size - kind.of.size, 1)
            return
        super().store(c, address, value, node, align=align)

    def store_constant(self, c: Walker, address: str, data: bytes, node: ast.AST) -> None:
        """Store constant bytes, the rest zero."""
        if len(data) > self.size or (not self.text and len(data) != self.size):
            shown = "".join(f"\\x{n + 1:02x}" for n in range(min(self.size, 4)))
            hint = "make the field larger" if self.text else f'exactly {self.size} bytes: b"{shown}"'
            raise c.error(node, f"a constant of {len(data)} bytes does not fit {self.name}", hint)
        if not data.strip(b"\0"):
            c.zero(address, self.size, 1)
            return
        source = c.text_ptr(data.ljust(self.size, b"\0"), terminated=False)
        c.copy(address, source, self.size, 1)

    def ref_item(self, c: Walker, v: Value, index: Value, node: ast.AST) -> Value:
        at = c.index(index, self.size, self.name, node)
        got = c.em.op(f"load i8, ptr {c.element(v, at, 1)}, align 1")
        return Value(INT, c.em.op(f"zext i8 {got} to i64"), 0, 255)

    def ref_set_item(self, c: Walker, v: Value, index: Value, new: Value, node: ast.AST) -> None:
        at = c.index(index, self.size, self.name, node)
        byte = c.em.op(f"trunc i64 {c.as_int(new, node, 'to store it as a byte').ir} to i8")
        with paths.storing(c, True, ""):
            c.em.do(f"store i8 {byte}, ptr {c.element(v, at, 1)}, align 1")

    def ref_length(self, c: Walker, v: Value, node: ast.AST) -> Value:
        return c.text_length(v.ir, self.size) if self.text else c.int_const(self.size)

    def ref_attr(self, c: Walker, v: Value, name: str, node: ast.AST) -> Value:
        if name != "startswith":
            raise c.error(node, f"{self.name} has no {name!r}", "texts have startswith, len, == and indices")

        def starts(c: Walker, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
            from skep.lang.arguments import positional

            start = positional(c, "startswith", args, kwargs, node, 1)[0]
            if not isinstance(start.type, BytesType):
                raise c.error(node, "startswith() takes a constant text", "compare byte by byte in a loop")
            if len(start.obj) > self.size:
                return c.bool_const(False)
            return c.equal_bytes(v.ir, start.obj)

        return Value(BUILTIN, obj=starts)

    def ref_compare(self, c: Walker, op: ast.cmpop, a: Value, b: Value, node: ast.AST) -> Value:
        if not isinstance(op, (ast.Eq, ast.NotEq)):
            raise c.error(
                node, "texts are compared with == and != only", "compare single bytes: text[0] < 65"
            )
        if isinstance(b.type, BytesType):
            data: bytes = b.obj
            if self.text and len(data) < self.size:
                data += b"\0"  # the text ends there
            if len(data) > self.size or (not self.text and len(data) != self.size):
                raise c.error(
                    node,
                    f"a text of {len(b.obj)} bytes never equals {self.name}",
                    "compare with a shorter one" if self.text else f'with {self.size} bytes: b"\\x02\\0"',
                )
            same = c.equal_bytes(a.ir, data, packed=bool(_packed(a)))
        elif (
            isinstance(b.type, PtrType) and isinstance(b.type.of, TextStorage) and self.size == b.type.of.size
        ):
            if b.type.nullable:
                c.refuse_none(b, node)
            text = self.text or b.type.of.text
            same = c.equal_memory(a.ir, b.ir, self.size, until_zero=text, packed=_packed(a, b))
        elif (
            isinstance(b.type, PtrType)
            and isinstance(b.type.of, TextStorage)
            and self.text
            and b.type.of.text
        ):
            if b.type.nullable:
                c.refuse_none(b, node)
            short, size, long = (a, self.size, b) if self.size < b.type.of.size else (b, b.type.of.size, a)
            same = c.equal_memory(a.ir, b.ir, size, until_zero=True)
            ended = c.compare(ast.Lt(), c.text_length(short.ir, size), c.int_const(size), node)
            after = c.em.op(f"load i8, ptr {c.offset(long.ir, size)}, align 1")
            same = c.bool_and(same, c.bool_or(ended, c.boolean(c.em.op(f"icmp eq i8 {after}, 0"))))
        else:
            raise c.error(
                node,
                f"{self.name} cannot be compared with {b.type.name}",
                "compare texts with texts" if self.text else 'compare it with bytes: b"\\x02\\0"',
            )
        return c.bool_not(same) if isinstance(op, ast.NotEq) else same


class ArrayStorage(Storage):
    """``count`` elements one after the other."""

    def __init__(self, of: Storage, count: int) -> None:
        self.of = of
        self.count = count
        self.size = of.size * count
        self.align = of.align
        self.name = f"array({of.name}, {count})"

    def same(self, other: Storage) -> bool:
        return isinstance(other, ArrayStorage) and other.count == self.count and self.of.same(other.of)

    def describe(self, di: Debug) -> str:
        return di.array(self.of.describe(di), self.size * 8, self.count)

    def store(self, c: Walker, address: str, value: Value, node: ast.AST, *, align: int = 0) -> None:
        if isinstance(value.type, TupleType):
            if len(value.obj) != self.count:
                raise c.error(node, f"{len(value.obj)} values for {self.name}", "give one for each element")
            for i, one in enumerate(value.obj):
                at = gcd(align or self.of.align, self.of.size)
                self.of.store(c, c.offset(address, i * self.of.size), one, node, align=at)
            return
        super().store(c, address, value, node, align=align)

    def _address(self, c: Walker, v: Value, index: Value, node: ast.AST) -> str:
        return c.element(v, c.index(index, self.count, self.name, node), self.of.size)

    def ref_item(self, c: Walker, v: Value, index: Value, node: ast.AST) -> Value:
        return c.load(self.of, self._address(c, v, index, node), v, node, align=_align(v, self.of))

    def ref_set_item(self, c: Walker, v: Value, index: Value, new: Value, node: ast.AST) -> None:
        with paths.storing(c, self.of.scalar, ""):
            self.of.store(c, self._address(c, v, index, node), new, node, align=_align(v, self.of))

    def ref_add_item(
        self, c: Walker, v: Value, index: Value, op: ast.operator, by: Value, node: ast.AST
    ) -> bool:
        if not isinstance(self.of, IntStorage) or (isinstance(v.type, PtrType) and v.type.packed):
            return False
        with paths.storing(c, True, ""):
            return atomic(c, self.of, v, self._address(c, v, index, node), op, by, node)

    def ref_length(self, c: Walker, v: Value, node: ast.AST) -> Value:
        return c.int_const(self.count)


class Field(NamedTuple):
    """A field: byte offset, type; a bit field's first bit in its storage unit and its width (else -1, 0)."""

    name: str
    offset: int
    of: Storage
    bit: int = -1
    width: int = 0


class StructStorage(Storage):
    """A struct or union, laid out as C does."""

    def __init__(
        self,
        name: str,
        fields: list[tuple[str, Storage, int]],
        *,
        union: bool = False,
        packed: bool = False,
        align: int = 0,
        cls: type | None = None,
    ) -> None:
        """``fields`` are (name, type, bit-field width or 0)."""
        self.name = name
        self.cls = cls
        self.union = union
        self.packed = packed
        self.fields: dict[str, Field] = {}
        bit, most = 0, 1
        end = 0
        big = False  # whether the last bits were in network order, which counts from the highest
        for field, of, width in fields:
            step = 1 if packed else of.align
            if union:
                bit = 0
            if width:
                unit = of.size * 8
                before, big = big, isinstance(of, IntStorage) and of.record.big
                if big != before:  # a byte holds bits of one order
                    bit = -(-bit // 8) * 8
                if not packed and bit // unit != (bit + width - 1) // unit:
                    bit = -(-bit // unit) * unit
                start = bit // unit * of.size if not packed else bit // 8
                self.fields[field] = Field(field, start, of, bit - start * 8, width)
                bit += width
            else:
                start = -(-bit // (8 * step)) * step
                self.fields[field] = Field(field, start, of)
                bit = (start + of.size) * 8
            most = max(most, step)
            end = max(end, bit)
        self.align = max(most, align)
        self.size = -(-end // (8 * self.align)) * self.align

    def same(self, other: Storage) -> bool:
        if self is other:
            return True
        if not isinstance(other, StructStorage) or other.cls is not self.cls:
            return False
        if self.cls is not None:
            return True
        mine, theirs = self.fields.values(), other.fields.values()
        return len(mine) == len(theirs) and all(
            a.name == b.name and a.offset == b.offset and a.of.same(b.of)
            for a, b in zip(mine, theirs, strict=True)
        )

    def describe(self, di: Debug) -> str:
        return di.struct_of(self)

    def store(self, c: Walker, address: str, value: Value, node: ast.AST, *, align: int = 0) -> None:
        if isinstance(value.type, TupleType):
            self.fill(c, address, value.obj, {}, node, packed=0 < align < self.align)
            return
        super().store(c, address, value, node, align=align)

    def field(self, c: Walker, name: str, node: ast.AST) -> Field:
        found = self.fields.get(name)
        if found is None:
            raise c.error(node, f"struct {self.name} has no field {name!r}", c.nearest(name, self.fields))
        c.overlaid = c.overlaid or self.union
        return found

    def _align(self, v: Value, field: Field) -> int:
        if not self.packed:
            return _align(v, field.of)
        return min(field.of.align, gcd(self.align, field.offset) if field.offset else self.align)

    def ref_attr(self, c: Walker, v: Value, name: str, node: ast.AST) -> Value:
        field = self.field(c, name, node)
        address = c.offset(v.ir, field.offset)
        if field.width:
            return self._load_bits(c, v, address, field)
        made = c.load(field.of, address, v, node, align=self._align(v, field))
        if self.packed and isinstance(made.type, PtrType):
            made.type.packed = True
        return made

    def ref_set_attr(self, c: Walker, v: Value, name: str, new: Value, node: ast.AST) -> None:
        field = self.field(c, name, node)
        known = isinstance(v.obj, str) and v.obj.startswith("%")  # the field's address, see mapkinds.Entered
        address = v.obj if known else c.offset(v.ir, field.offset)
        with paths.storing(c, field.of.scalar, name):
            if field.width:
                self._store_bits(c, v, address, field, new, node)
            else:
                field.of.store(c, address, new, node, align=self._align(v, field))

    def ref_add_attr(
        self, c: Walker, v: Value, name: str, op: ast.operator, by: Value, node: ast.AST
    ) -> bool:
        field = self.field(c, name, node)
        if field.width or self.packed or (isinstance(v.type, PtrType) and v.type.packed):
            return False
        with paths.storing(c, field.of.scalar, name):
            return atomic(c, field.of, v, c.offset(v.ir, field.offset), op, by, node)

    def _unit(self, field: Field) -> tuple[int, int, bool, bool]:
        """(bits loaded, shift to the field, signed, network order)."""
        assert isinstance(field.of, (IntStorage, BoolStorage))
        record = field.of.record if isinstance(field.of, IntStorage) else None
        bits = field.of.size * 8
        if self.packed:
            bits = 8
            while bits < field.bit + field.width:
                bits *= 2
        big = record is not None and record.big
        shift = bits - field.bit - field.width if big else field.bit
        return bits, shift, record is not None and record.signed, big

    def _load_unit(self, c: Walker, v: Value, address: str, field: Field, bits: int, big: bool) -> str:
        align = 1 if self.packed else _align(v, field.of)
        got = c.em.op(f"load i{bits}, ptr {address}, align {align}")
        if big:
            got = c.swap(got, bits)
        return got if bits == 64 else c.em.op(f"zext i{bits} {got} to i64")

    def _load_bits(self, c: Walker, v: Value, address: str, field: Field) -> Value:
        bits, shift, signed, big = self._unit(field)
        got = self._load_unit(c, v, address, field, bits, big)
        up = 64 - shift - field.width
        if up:
            got = c.em.op(f"shl i64 {got}, {up}")
        if 64 - field.width:
            got = c.em.op(f"{'ashr' if signed else 'lshr'} i64 {got}, {64 - field.width}")
        lo = -(1 << field.width - 1) if signed else 0
        made = Value(INT, got, lo, (1 << field.width - int(signed)) - 1)
        return c.truth(made, ast.Pass()) if isinstance(field.of, BoolStorage) else made

    def _store_bits(self, c: Walker, v: Value, address: str, field: Field, new: Value, node: ast.AST) -> None:
        bits, shift, _, big = self._unit(field)
        mask = (1 << field.width) - 1
        number = c.as_int(new, node, f"to store it in {self.name}.{field.name}")
        old = self._load_unit(c, v, address, field, bits, big)
        kept = c.em.op(f"and i64 {old}, {c.signed(~(mask << shift))}")
        put = c.em.op(f"and i64 {number.ir}, {c.signed(mask)}")
        got = c.em.op(f"or i64 {kept}, {c.em.op(f'shl i64 {put}, {shift}')}")
        if bits < 64:
            got = c.em.op(f"trunc i64 {got} to i{bits}")
        if big:
            got = c.swap(got, bits)
        align = 1 if self.packed else _align(v, field.of)
        c.em.do(f"store i{bits} {got}, ptr {address}, align {align}")

    def ref_compare(self, c: Walker, op: ast.cmpop, a: Value, b: Value, node: ast.AST) -> Value:
        if not isinstance(op, (ast.Eq, ast.NotEq)) or not (
            isinstance(b.type, PtrType) and b.type.of.same(self)
        ):
            raise c.error(
                node, f"struct {self.name} cannot be compared with {b.type.name}", "compare its fields"
            )
        if b.type.nullable:
            c.refuse_none(b, node)
        same = c.bool_const(True)
        for name in self.fields:
            left, right = self.ref_attr(c, a, name, node), self.ref_attr(c, b, name, node)
            same = c.bool_and(same, c.compare(ast.Eq(), left, right, node))
        return c.bool_not(same) if isinstance(op, ast.NotEq) else same

    def fill(
        self,
        c: Walker,
        address: str,
        args: list[Value],
        kwargs: dict[str, Value],
        node: ast.AST,
        *,
        packed: bool = False,
    ) -> None:
        """Set the fields that a constructor call names; the memory is zero already. ``packed``: it is part of
        a packed struct."""
        names = list(self.fields)
        if len(args) > len(names):
            raise c.error(
                node,
                f"struct {self.name} has {len(names)} fields, {len(args)} values are given",
                f"they are: {', '.join(names)}",
            )
        me = PtrType(self, "stack")
        me.packed = packed
        for name, value in [*zip(names, args, strict=False), *kwargs.items()]:
            if name in kwargs and name in names[: len(args)]:
                raise c.error(node, f"field {name!r} is given twice", "name it, or give it by position")
            self.ref_set_attr(c, Value(me, address), name, value, node)


__all__ = ["TEXT", "ArrayStorage", "Field", "IntType", "StructStorage", "TextStorage"]
