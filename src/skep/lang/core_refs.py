"""References to the kernel's memory (and to user space's): what ``task.real_parent.tgid`` compiles to.

A reference is a pointer and the members that follow it, which are not read before their value is needed. Its
mode says how it is read: "btf" by plain loads, where the verifier knows the pointer's type; "kernel" and
"user" through bpf_probe_read_kernel and bpf_probe_read_user. A NULL or wild pointer reads as zeros in every
mode.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any

from skep.lang import core as co
from skep.lang.aggregates import TextStorage
from skep.lang.kernel_types import KArray, KernelType, KField, KFunc, KInt, KPtr, KStruct
from skep.lang.layout import Storage
from skep.lang.references import derived
from skep.lang.values import INT, U64, BytesType, NoneType, PtrType, Reference, Type, Value
from skep.uapi.enums import ProgType

if TYPE_CHECKING:
    from skep.lang.walk import Walker

Step = tuple[KernelType, KField | int]
#: their pointers to the kernel's structs are for reading only
_READ_ONLY = (ProgType.TRACING, ProgType.LSM, ProgType.RAW_TRACEPOINT, ProgType.KPROBE, ProgType.TRACEPOINT)
_READ = {"kernel": 113, "user": 112}
_READ_STR = {"btf": 115, "kernel": 115, "user": 114}


def core_of(c: Walker) -> co.Core:
    """The module's relocations."""
    unit: Any = c.unit
    if unit.core is None:
        unit.core = co.Core(unit)
    made: co.Core = unit.core
    return made


_COPY_FIRST = "it is read when it is stored: e.path = p, then len(e.path)"


class KernelRef(Reference):
    """A reference to memory of type ``kind``; the operand points to where ``steps`` start.

    ``pointer``: the operand came from a pointer, so that elements before and after may follow.
    """

    llvm = "ptr"
    #: it is (part of) a context, which is read at constant offsets only
    context = False

    def __init__(
        self,
        kind: KernelType,
        mode: str,
        steps: tuple[Step, ...] = (),
        *,
        nullable: bool = False,
        pointer: bool = True,
    ) -> None:
        self.kind = kind
        self.mode = mode
        self.steps = steps
        self.nullable = nullable
        self.pointer = pointer
        self.name = f"{kind.name} or None" if nullable else kind.name

    def same(self, other: Type) -> bool:
        return (
            isinstance(other, KernelRef)
            and other.mode == self.mode
            and (other.kind is self.kind or other.kind.name == self.kind.name)
            and other.steps == self.steps
        )

    def join(self, other: Type) -> Type | None:
        if isinstance(other, NoneType):
            return self.optional(True) if not self.steps else None
        if not isinstance(other, KernelRef) or other.kind.name != self.kind.name or other.steps != self.steps:
            return None
        if {self.mode, other.mode} == {"btf", "kernel"}:
            mode = "kernel"
        elif self.mode == other.mode:
            mode = self.mode
        else:
            return None
        nullable = self.nullable or other.nullable
        return KernelRef(
            self.kind, mode, self.steps, nullable=nullable, pointer=self.pointer and other.pointer
        )

    def optional(self, nullable: bool) -> KernelRef:
        """The same, nullable or not."""
        if nullable == self.nullable:
            return self
        return KernelRef(self.kind, self.mode, self.steps, nullable=nullable, pointer=self.pointer)

    # --- where it is ------------------------------------------------------------------------------

    def address(self, c: Walker, v: Value, node: ast.AST) -> str:
        """The operand that points to it."""
        if self.nullable:
            c.refuse_none(v, node)
        at = v.ir
        core = core_of(c) if self.steps else None
        if self.context and core is not None:
            # An address of its own for each access: LLVM is not to make one of two, or to choose one.
            c.unit.declare("declare ptr @llvm.bpf.passthrough.p0.p0(i32, ptr)")
            at = c.em.op(f"call ptr @llvm.bpf.passthrough.p0.p0(i32 {core.number()}, ptr {at})")
        for kind, step in self.steps:
            assert core is not None
            if isinstance(kind, KStruct):
                assert isinstance(step, KField)
                if not kind.local and not kind.anonymous:
                    raise c.error(
                        node, f"{kind.name} has no name to relocate by", "name the struct around it"
                    )
                at = c.em.op(core.member_access(at, kind, step))
            else:
                assert isinstance(kind, KArray) and isinstance(step, int)
                at = c.em.op(core.element_access(at, kind, step))
        return at

    def number(self, c: Walker, v: Value, node: ast.AST) -> Value | None:
        """A pointer as an integer; None for a struct or text within another."""
        if not self.pointer:
            return None
        return Value(INT, c.em.op(f"ptrtoint ptr {self.address(c, v, node)} to i64"), 0, U64)

    # --- going on ---------------------------------------------------------------------------------

    def _part(self, c: Walker, v: Value, kind: KernelType, step: Step, width: int, node: ast.AST) -> Value:
        ref = KernelRef(kind, self.mode, (*self.steps, step), pointer=False)
        ref.context = self.context
        part = derived(Value(ref, v.ir), v)
        if width:
            assert isinstance(kind, KInt)
            return _bit_field(c, part, kind, width, node)
        return load(c, part, node)

    def attr(self, c: Walker, v: Value, name: str, node: ast.AST) -> Value:
        if self.nullable:
            c.refuse_none(v, node)
        if name == "value" and not isinstance(self.kind, KStruct):
            return read(c, v, node)
        field = self.field(c, name, node)
        return self._part(c, v, field.type, (self.kind, field), field.width, node)

    def field(self, c: Walker, name: str, node: ast.AST) -> KField:
        """The member ``name``; refuses where there is none."""
        if not isinstance(self.kind, KStruct):
            raise c.error(
                node,
                f"{self.kind.name} has no members, so no {name!r}",
                "copy the text first: name = bpf.char(64); bpf.probe_read_user_str(name, p)"
                if self.is_text
                else "bpf.cast(bpf.task_struct, p) says what it points to",
            )
        field = self.kind.field(name)
        if field is None:
            raise c.error(
                node, f"{self.kind.name} has no member {name!r}", c.nearest(name, self.kind.names())
            )
        return field

    def item(self, c: Walker, v: Value, index: Value, node: ast.AST) -> Value:
        if self.nullable:
            c.refuse_none(v, node)
        if isinstance(self.kind, KArray):
            element, count = self.kind.of, self.kind.count
            if index.const is not None:
                if index.const < 0 or (count and index.const >= count):
                    raise c.error(
                        node,
                        f"{self.kind.name} has no element {index.const}",
                        "indices begin at 0, and end before the array does",
                    )
                return self._part(c, v, element, (self.kind, index.const), 0, node)
        elif self.pointer and not self.steps:
            element = self.kind
        else:
            raise c.error(node, f"{self.name} has no elements", "name a member")
        number = c.as_int(index, node, "an index")
        at = self.address(c, v, node)
        size = element.size
        if not size:
            raise c.error(
                node,
                f"{element.name} has no size, so there are no elements of it",
                "bpf.cast(bpf.task_struct, p) says what it points to",
            )
        by = c.em.op(f"mul i64 {number.ir}, {size}") if size > 1 else number.ir
        at = c.em.op(f"getelementptr i8, ptr {at}, i64 {by}")
        # The verifier takes no variable offset from a typed pointer.
        mode = "kernel" if self.mode == "btf" else self.mode
        return load(c, Value(KernelRef(element, mode, pointer=False), at), node)

    def set_attr(self, c: Walker, v: Value, name: str, new: Value, node: ast.AST) -> None:
        if self.mode != "btf":
            raise c.error(
                node, f"{self.kind.name} is the kernel's and read-only here", "keep what you change in a map"
            )
        if c.section is not None and c.section.type in _READ_ONLY:
            raise c.error(
                node, f"programs of this type cannot change a {self.kind.name}", "only some struct_ops can"
            )
        field = self.field(c, name, node)
        if field.width or not isinstance(field.type, KInt) or field.type.big:
            raise c.error(
                node,
                f"{name} cannot be set: only plain integers of some structs can",
                "keep what you change in a map",
            )
        at = KernelRef(field.type, self.mode, (*self.steps, (self.kind, field))).address(c, v, node)
        bits = 8 * field.type.size
        got = c.as_int(new, node, f"to store it in {name}").ir
        if bits < 64:
            got = c.em.op(f"trunc i64 {got} to i{bits}")
        c.em.do(f"store i{bits} {got}, ptr {at}, align {field.type.size}")

    def length(self, c: Walker, v: Value, node: ast.AST) -> Value:
        if isinstance(self.kind, KArray) and self.kind.count:
            return c.int_const(self.kind.count)
        raise c.error(node, f"{self.kind.name} has no length", _COPY_FIRST if self.is_text else "")

    # --- as a value -------------------------------------------------------------------------------

    def truth(self, c: Walker, v: Value, node: ast.AST) -> Value:
        at = v.ir if not self.steps else self.address(c, v, node)
        return c.boolean(c.em.op(f"icmp ne ptr {at}, null"))

    def compare(self, c: Walker, op: ast.cmpop, a: Value, b: Value, node: ast.AST) -> Value:
        if not isinstance(op, (ast.Eq, ast.NotEq)):
            raise c.error(node, f"{self.name} is compared with == and != only", "compare its members")
        if isinstance(b.type, BytesType):
            if not self.is_text:
                raise c.error(
                    node, f"{self.kind.name} is no text", "compare it with a pointer, a number or None"
                )
            same = self._equals(c, a, b.obj, node)
        elif isinstance(b.type, PtrType) and isinstance(b.type.of, TextStorage) and self.is_text:
            size = b.type.of.size
            mine = c.buffer(size, 8)
            TextStorage(size, True).store(c, mine, a, node)
            return c.compare(op, Value(PtrType(TextStorage(size, True), "stack"), mine), b, node)
        elif isinstance(b.type, KernelRef):
            left, right = self.address(c, a, node), b.type.address(c, b, node)
            same = c.boolean(c.em.op(f"icmp eq ptr {left}, {right}"))
        else:
            number = c.as_int(b, node, "to compare it with an address")
            at = c.em.op(f"ptrtoint ptr {self.address(c, a, node)} to i64")
            same = c.boolean(c.em.op(f"icmp eq i64 {at}, {number.ir}"))
        return c.bool_not(same) if isinstance(op, ast.NotEq) else same

    @property
    def is_text(self) -> bool:
        """Whether it is (or points to) characters."""
        kind = self.kind.of if isinstance(self.kind, KArray) else self.kind
        return isinstance(kind, KInt) and (kind.char or (kind.size == 1 and not kind.boolean))

    def _equals(self, c: Walker, v: Value, data: bytes, node: ast.AST) -> Value:
        """Whether the text is ``data``."""
        size = len(data) + 2  # room to see that the text does not go on
        room = c.buffer(size, 8)
        c.zero(room, size, 1)
        c.helper(_READ_STR[self.mode], [f"ptr {room}", f"i64 {size}", f"ptr {self.address(c, v, node)}"])
        return c.equal_bytes(room, data + b"\0")

    def write(self, c: Walker, v: Value, address: str, into: Storage, node: ast.AST) -> bool:
        if self.nullable:
            c.refuse_none(v, node)
        if isinstance(into, TextStorage):
            copy_text(c, v, address, into, node)
            return True
        if isinstance(self.kind, (KStruct, KArray)) and into.size == self.kind.size and not into.scalar:
            copy_memory(c, self.address(c, v, node), self.mode, address, into.size)
            return True
        return False

    def materialise(self, c: Walker, v: Value, node: ast.AST) -> Value:
        if isinstance(self.kind, KArray) and self.is_text and self.kind.count:
            of = TextStorage(self.kind.count, True)
            room = c.buffer(of.size, 8)
            copy_text(c, v, room, of, node)
            return Value(PtrType(of, "stack"), room)
        return v

    def format(self, c: Walker, v: Value, node: ast.AST) -> tuple[str, str] | None:
        """How printk shows it: (conversion, operand)."""
        at = self.address(c, v, node)
        if self.is_text:
            return ("%pus" if self.mode == "user" else "%s"), f"ptr {at}"
        return "%px", f"ptr {at}"


def load(c: Walker, part: Value, node: ast.AST) -> Value:
    """The value of a part: numbers and pointers are read now, structs and arrays when they are used."""
    kind = part.type
    assert isinstance(kind, KernelRef)
    if isinstance(kind.kind, (KStruct, KArray, KFunc)):
        return part
    return read(c, part, node)


def read(c: Walker, part: Value, node: ast.AST) -> Value:
    """Read a number or pointer."""
    ref = part.type
    assert isinstance(ref, KernelRef)
    kind = ref.kind
    at = ref.address(c, part, node)
    if isinstance(kind, KPtr):
        if ref.mode == "btf":
            got = c.em.op(f"load ptr, ptr {at}, align 8")
            if ref.context:
                got = c.em.op(f'call ptr asm "", "=r,0"(ptr {got})')
        else:
            got = c.em.op(f"load ptr, ptr {probed(c, at, ref.mode, 8)}, align 8")
        return pointer(kind, ref.mode, got)
    if not isinstance(kind, KInt):
        raise c.error(node, f"{kind.name} cannot be read as a value", "read one of its members")
    source = at if ref.mode == "btf" else probed(c, at, ref.mode, kind.size)
    return _number(c, source, kind, node, opaque=ref.context)


def pointer(kind: KPtr, mode: str, operand: str) -> Value:
    """The value of a pointer that was read."""
    to = kind.to
    if "user" in kind.tags:
        mode = "user"
    elif "percpu" in kind.tags or not isinstance(to, KStruct):
        # The verifier follows typed pointers to structs only.
        mode = "kernel" if mode == "btf" else mode
    return Value(KernelRef(to, mode), operand)


def _number(c: Walker, address: str, kind: KInt, node: ast.AST, *, opaque: bool = False) -> Value:
    if kind.size not in (1, 2, 4, 8):
        raise c.error(
            node, f"{kind.name} has {kind.size} bytes: no number of the language", "read its members"
        )
    bits = 8 * kind.size
    got = c.em.op(f"load i{bits}, ptr {address}, align {kind.size}")
    if kind.big:
        got = c.swap(got, bits)
    if kind.boolean:
        return c.boolean(c.em.op(f"icmp ne i{bits} {got}, 0"))
    if bits < 64:
        got = c.em.op(f"{'sext' if kind.signed else 'zext'} i{bits} {got} to i64")
    if opaque:
        got = c.opaque(got)
    return Value(INT, got, *kind.bounds)


def probed(c: Walker, at: str, mode: str, size: int) -> str:
    """Where ``size`` bytes (at most 8) that were at ``at`` are after reading; zeros when that failed."""
    room = c.buffer(8, 8, "probed")
    c.helper(_READ[mode], [f"ptr {room}", f"i64 {size}", f"ptr {at}"])
    return room


def copy_memory(c: Walker, at: str, mode: str, to: str, size: int) -> None:
    """Copy ``size`` bytes of the kernel's or the user's memory to ``to``."""
    c.helper(_READ["kernel" if mode == "btf" else mode], [f"ptr {to}", f"i64 {size}", f"ptr {at}"])


def copy_text(c: Walker, v: Value, address: str, into: TextStorage, node: ast.AST) -> None:
    """Copy a text into a field: up to its zero byte, the rest zero."""
    ref = v.type
    assert isinstance(ref, KernelRef)
    at = ref.address(c, v, node)
    if not into.text or not ref.is_text:
        size = min(into.size, ref.kind.size) if isinstance(ref.kind, (KArray, KStruct)) else into.size
        if size < into.size:
            c.zero(address, into.size, 1)
        copy_memory(c, at, ref.mode, address, size)
        return
    size = into.size
    if isinstance(ref.kind, KArray) and 0 < ref.kind.count < size:
        size = ref.kind.count
    c.zero(address, into.size, 1)
    c.helper(_READ_STR[ref.mode], [f"ptr {address}", f"i64 {size}", f"ptr {at}"])


def _bit_field(c: Walker, part: Value, kind: KInt, width: int, node: ast.AST) -> Value:
    """A bit field, wherever and however wide the running kernel has it."""
    ref = part.type
    assert isinstance(ref, KernelRef)
    core = core_of(c)
    at = ref.address(c, part, node)
    first = c.em.op(f"zext i32 {c.em.op(core.field_info(at, co.BYTE_OFFSET))} to i64")
    # The offset of the unit that holds the bits counts from the struct that the steps started at.
    unit = c.em.op(f"getelementptr i8, ptr {part.ir}, i64 {first}")
    size = kind.size
    if ref.mode != "btf":
        unit = probed(c, unit, ref.mode, size)
    got = c.em.op(f"load i{8 * size}, ptr {unit}, align {size}")
    if size < 8:
        got = c.em.op(f"zext i{8 * size} {got} to i64")
    for word, what in (("shl", co.LSHIFT), ("ashr" if kind.signed else "lshr", co.RSHIFT)):
        by = c.em.op(f"zext i32 {c.em.op(core.field_info(at, what))} to i64")
        got = c.em.op(f"{word} i64 {got}, {by}")
    if kind.boolean:
        return c.boolean(c.em.op(f"icmp ne i64 {got}, 0"))
    lo = -(1 << width - 1) if kind.signed else 0
    return Value(INT, got, lo, (1 << width - int(kind.signed)) - 1)
