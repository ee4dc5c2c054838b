"""How values lie in memory: sizes, offsets, loads and stores.

A `Storage` belongs to one type record (`skep.bpf.types`) or struct class. Scalars load as values, aggregates
as references (`values.PtrType`). The rules are C's on a 64-bit little-endian machine (System V ABI), as
the kernel's BTF describes them. `aggregates` has arrays, texts and structs.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any

from skep.bpf.types import IntType as IntRecord
from skep.lang import arith
from skep.lang.values import BOOL, INT, PtrType, Value

if TYPE_CHECKING:
    from skep.lang.debug import Debug
    from skep.lang.walk import Walker


class Storage:
    """A type in memory. ``size`` and ``align`` are bytes; ``name`` is for messages."""

    name: str = "storage"
    size: int = 0
    align: int = 1
    #: a bare load gives a value, not a reference
    scalar: bool = False
    #: bytes, which are copied when a name is given to them
    is_text: bool = False

    def same(self, other: Storage) -> bool:
        """Whether both are laid out alike and mean the same."""
        return self is other

    def describe(self, di: Debug) -> str:
        """The debug type, as ``!12``."""
        raise NotImplementedError  # each layout has its own

    def load(self, c: Walker, address: str, node: ast.AST, *, align: int = 0, space: str = "mem") -> Value:
        """The value at ``address``; a reference for aggregates. ``align`` 0 is the type's own."""
        return Value(PtrType(self, space), address)

    def number(self, c: Walker, address: str, node: ast.AST) -> Value:
        """The number that lies there, of a scalar."""
        return c.as_int(self.load(c, address, node), node)

    def of_number(self, c: Walker, number: Value) -> Value | None:
        """What such a number stands for, when that is no number."""
        return None

    def store(self, c: Walker, address: str, value: Value, node: ast.AST, *, align: int = 0) -> None:
        """Store ``value`` at ``address``, converted; refuses what does not fit the type."""
        kind = value.type
        if type(kind) is PtrType and 0 < align < self.align:
            done = kind.write(c, value, address, self, node, align)
        else:
            done = kind.write(c, value, address, self, node)
        if not done:
            raise c.error(
                c.blamed(value, node),
                f"{value.type.name} cannot be stored as {self.name}",
                'bytes, as b"\\x02\\0", or another field'
                if self.is_text and self.name.startswith("raw")
                else 'a text: "abc", bpf.comm(), bpf.user_str(p), another field'
                if self.is_text
                else f"give a value of type {self.name}",
            )

    # --- what references to it can do: see values.PtrType -----------------------------------------

    def ref_attr(self, c: Walker, v: Value, name: str, node: ast.AST) -> Value:
        raise c.error(node, f"{self.name} has no field {name!r}", "index its elements")

    def ref_set_attr(self, c: Walker, v: Value, name: str, new: Value, node: ast.AST) -> None:
        raise c.error(node, f"{self.name} has no field {name!r}", "index its elements")

    def ref_item(self, c: Walker, v: Value, index: Value, node: ast.AST) -> Value:
        raise c.error(node, f"{self.name} has no elements", self._instead())

    def ref_set_item(self, c: Walker, v: Value, index: Value, new: Value, node: ast.AST) -> None:
        raise c.error(node, f"{self.name} has no elements", self._instead())

    def _instead(self) -> str:
        return "the number is p.value" if self.scalar else "name a field"

    def ref_add_attr(
        self, c: Walker, v: Value, name: str, op: ast.operator, by: Value, node: ast.AST
    ) -> bool:
        """``v.name op= by`` in one step; False when it takes a load and a store."""
        return False

    def ref_add_item(
        self, c: Walker, v: Value, index: Value, op: ast.operator, by: Value, node: ast.AST
    ) -> bool:
        """``v[index] op= by`` in one step; False when it takes a load and a store."""
        return False

    def ref_length(self, c: Walker, v: Value, node: ast.AST) -> Value:
        raise c.error(node, f"{self.name} has no length", "bpf.sizeof() gives its size")

    def ref_compare(self, c: Walker, op: ast.cmpop, a: Value, b: Value, node: ast.AST) -> Value:
        raise c.error(node, f"{self.name} cannot be compared", "compare its fields")

    def ref_enter(self, c: Walker, v: Value, node: ast.AST) -> tuple[Value, Value | None]:
        raise c.error(node, f"{self.name} cannot be used in 'with'", "locks and reservations can")

    def ref_exit(self, c: Walker, v: Value, entered: Value, node: ast.AST) -> None:
        return

    def ref_skipped(self, c: Walker, v: Value, node: ast.AST) -> None:
        return


class ScalarStorage(Storage):
    """A type that loads as a number; a reference to one has the attribute ``value``."""

    scalar = True

    def ref_attr(self, c: Walker, v: Value, name: str, node: ast.AST) -> Value:
        if name != "value":
            raise c.error(node, f"a reference to {self.name} has only the field 'value'", "x.value")
        return self.load(c, v.ir, node)

    def ref_set_attr(self, c: Walker, v: Value, name: str, new: Value, node: ast.AST) -> None:
        if name != "value":
            raise c.error(node, f"a reference to {self.name} has only the field 'value'", "x.value")
        self.store(c, v.ir, new, node)

    def ref_add_attr(
        self, c: Walker, v: Value, name: str, op: ast.operator, by: Value, node: ast.AST
    ) -> bool:
        return name == "value" and atomic(c, self, v, v.ir, op, by, node)


class IntStorage(ScalarStorage):
    """An integer of 8 to 64 bits; network-order ones are swapped on the way."""

    def __init__(self, record: IntRecord) -> None:
        self.record = record
        self.name = record.name
        self.size = self.align = record.bits // 8
        self.lo = -(1 << record.bits - 1) if record.signed else 0
        self.hi = (1 << record.bits - int(record.signed)) - 1

    def same(self, other: Storage) -> bool:
        return type(other) is IntStorage and other.record is self.record

    def describe(self, di: Debug) -> str:
        return di.integer(self.record)

    def load(self, c: Walker, address: str, node: ast.AST, *, align: int = 0, space: str = "mem") -> Value:
        bits = self.record.bits
        got = c.em.op(f"load i{bits}, ptr {address}, align {align or self.align}")
        return self.widen(c, got)

    def widen(self, c: Walker, got: str) -> Value:
        """A number of this type from an operand of its width."""
        bits = self.record.bits
        if self.record.big:
            got = c.swap(got, bits)
        if bits < 64:
            got = c.em.op(f"{'sext' if self.record.signed else 'zext'} i{bits} {got} to i64")
        return Value(INT, got, self.lo, self.hi)

    def narrow(self, c: Walker, value: Value, node: ast.AST) -> str:
        """The operand of this type's width, wrapped, in memory order."""
        self._whole(c, value, node)
        number = c.as_int(value, node, f"to store it as {self.name}")
        bits = self.record.bits
        if number.const is not None:
            plain = number.const & (1 << bits) - 1
            if self.record.big:
                plain = int.from_bytes(plain.to_bytes(bits // 8, "little"), "big")
            return str(plain - (1 << bits) if plain >> bits - 1 else plain)
        got = number.ir
        if bits < 64:
            got = c.em.op(f"trunc i64 {got} to i{bits}")
        return c.swap(got, bits) if self.record.big else got

    def store(self, c: Walker, address: str, value: Value, node: ast.AST, *, align: int = 0) -> None:
        got = self.narrow(c, value, node)
        c.em.do(f"store i{self.record.bits} {got}, ptr {address}, align {align or self.align}")

    def _whole(self, c: Walker, value: Value, node: ast.AST) -> None:
        """Refuse part of an address of the kernel's: the verifier lets no pointer be cut."""
        if self.record.bits < 64 and getattr(value.type, "pointer", False) is True:
            raise c.error(
                c.blamed(value, node),
                f"{value.type.name} is an address, which does not fit {self.name}",
                "keep it as u64, or one of its members",
            )

    def wrap(self, c: Walker, value: Value, node: ast.AST) -> Value:
        """``u32(x)``: the number as this type would hold it."""
        self._whole(c, value, node)
        number = c.as_int(value, node, f"for {self.name}()")
        if number.const is not None:
            return c.int_const(self.record(number.const))
        if self.lo <= number.lo and number.hi <= self.hi:
            return number
        bits = self.record.bits
        if bits == 64:
            return Value(INT, number.ir, self.lo, self.hi)
        got = c.em.op(f"trunc i64 {number.ir} to i{bits}")
        got = c.em.op(f"{'sext' if self.record.signed else 'zext'} i{bits} {got} to i64")
        return Value(INT, got, self.lo, self.hi)


_ATOMIC = {ast.Add: "add", ast.Sub: "sub", ast.BitAnd: "and", ast.BitOr: "or", ast.BitXor: "xor"}


def atomic(
    c: Walker, of: Storage, base: Value, address: str, op: ast.operator, by: Value, node: ast.AST
) -> bool:
    """``*address op= by`` as one atomic operation, where other processors may write it too.

    False where no other can (per-CPU values, the stack, under a lock), or where the machine has no such
    operation: below 32 bits, in network order, and for other operators than + - & | ^.
    """
    word = _ATOMIC.get(type(op))
    if (
        word is None
        or not isinstance(of, IntStorage)
        or of.size < 4
        or of.record.big
        or not (isinstance(base.type, PtrType) and base.type.shared)
        or c.locked
        or (word not in ("add", "sub") and c.unit.cpu in ("v1", "v2"))
    ):
        return False
    bits = of.record.bits
    number = c.as_int(by, node, f"to store it as {of.name}")
    if number.const == 0 and word != "and":
        return True
    if word == "sub":  # there is an atomic addition only
        word, number = "add", arith.negate(c, number)
    if number.const is None and c.unit.target == "bpf":
        # An addition that LLVM finds to be one of 0 becomes an `or`, which Linux 5.10 does not know.
        number = Value(INT, c.opaque(number.ir), number.lo, number.hi)
    operand = of.narrow(c, number, node)
    c.em.op(f"atomicrmw {word} ptr {address}, i{bits} {operand} monotonic, align {of.size}")
    return True


class EnumStorage(IntStorage):
    """An `enum.IntEnum`, stored as u32 or as `bpf.enum` says; it loads as a number."""

    def __init__(self, cls: Any, record: IntRecord) -> None:
        super().__init__(record)
        self.cls = cls
        self.name = cls.__name__

    def same(self, other: Storage) -> bool:
        return isinstance(other, EnumStorage) and other.cls is self.cls

    def describe(self, di: Debug) -> str:
        members = [(name, int(member)) for name, member in self.cls.__members__.items()]
        return di.enum(self.name, self.size, self.record.signed, members)


class BoolStorage(ScalarStorage):
    """A truth value in a byte."""

    name = "bool"
    size = align = 1

    def same(self, other: Storage) -> bool:
        return isinstance(other, BoolStorage)

    def describe(self, di: Debug) -> str:
        return di.boolean()

    def load(self, c: Walker, address: str, node: ast.AST, *, align: int = 0, space: str = "mem") -> Value:
        got = c.em.op(f"load i8, ptr {address}, align 1")
        return Value(BOOL, c.em.op(f"icmp ne i8 {got}, 0"), 0, 1)

    def store(self, c: Walker, address: str, value: Value, node: ast.AST, *, align: int = 0) -> None:
        truth = c.truth(value, node)
        c.em.do(f"store i8 {c.em.op(f'zext i1 {truth.ir} to i8')}, ptr {address}, align 1")


class PointerStorage(ScalarStorage):
    """An address, which loads as a number; ``of`` is what it points to, or None."""

    size = align = 8

    def __init__(self, of: Storage | None) -> None:
        self.of = of
        self.name = f"pointer to {of.name}" if of is not None else "pointer"

    def same(self, other: Storage) -> bool:
        return isinstance(other, PointerStorage) and (
            other.of is self.of or (self.of is not None and other.of is not None and self.of.same(other.of))
        )

    def describe(self, di: Debug) -> str:
        return di.pointer(self.of.describe(di) if self.of is not None else "null")

    def load(self, c: Walker, address: str, node: ast.AST, *, align: int = 0, space: str = "mem") -> Value:
        got = c.em.op(f"load i64, ptr {address}, align {align or 8}")
        return Value(INT, got, 0, (1 << 64) - 1)

    def store(self, c: Walker, address: str, value: Value, node: ast.AST, *, align: int = 0) -> None:
        if value.type.llvm == "ptr":
            c.em.do(f"store ptr {value.ir}, ptr {address}, align {align or 8}")
            return
        number = c.as_int(value, node, "to store it as an address")
        c.em.do(f"store i64 {number.ir}, ptr {address}, align {align or 8}")


class OpaqueStorage(Storage):
    """An object of the kernel in a map value: a lock, a timer. It is used by its own operations only."""

    def __init__(self, name: str, size: int, align: int) -> None:
        self.name = name
        self.size = size
        self.align = align

    def same(self, other: Storage) -> bool:
        return isinstance(other, OpaqueStorage) and other.name == self.name

    def describe(self, di: Debug) -> str:
        if self.name == "bpf_spin_lock":
            return di.struct(self.name, 4, [("val", di.base("unsigned int", 32, "unsigned"), 0, 32, -1)])
        word = di.base("unsigned long long", 64, "unsigned")
        fields = [(f"__opaque{i}", word, i * 64, 64, -1) for i in range(self.size // 8)]
        if self.name != "bpf_list_head" and fields:
            fields = [("__opaque", di.array(word, 64 * len(fields), len(fields)), 0, self.size * 8, -1)]
        return di.struct(self.name, self.size, fields)

    def store(self, c: Walker, address: str, value: Value, node: ast.AST, *, align: int = 0) -> None:
        raise c.error(node, f"a {self.name} cannot be copied or set", "it is zero when the value is made")

    def ref_enter(self, c: Walker, v: Value, node: ast.AST) -> tuple[Value, Value | None]:
        if self.name not in ("bpf_spin_lock", "bpf_res_spin_lock"):
            return super().ref_enter(c, v, node)
        from skep.lang import locks

        return locks.enter(c, v, node)

    def ref_exit(self, c: Walker, v: Value, entered: Value, node: ast.AST) -> None:
        from skep.lang import locks

        locks.leave(c, v, node)

    def ref_skipped(self, c: Walker, v: Value, node: ast.AST) -> None:
        from skep.lang import locks

        locks.skipped(c, node)
