"""CO-RE relocations: small local copies of the kernel's structs, and intrinsics that LLVM makes records of.

A struct of the kernel is described to LLVM with the members that the module uses, no more: relocations go by
name, so nothing else matters: the loader fills in the running kernel's offsets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from skep.lang.debug import quote
from skep.lang.kernel_types import KArray, KEnum, KernelType, KField, KInt, KPtr, KStruct

if TYPE_CHECKING:
    from skep.lang.debug import Debug

STRUCT_ACCESS: Final = "llvm.preserve.struct.access.index.p0.p0"
UNION_ACCESS: Final = "llvm.preserve.union.access.index.p0.p0"
ARRAY_ACCESS: Final = "llvm.preserve.array.access.index.p0.p0"
_DECLARATIONS: Final = (
    f"declare ptr @{STRUCT_ACCESS}(ptr, i32 immarg, i32 immarg)",
    f"declare ptr @{UNION_ACCESS}(ptr, i32 immarg)",
    f"declare ptr @{ARRAY_ACCESS}(ptr, i32 immarg, i32 immarg)",
    "declare i32 @llvm.bpf.preserve.field.info.p0(ptr, i64 immarg)",
    "declare i32 @llvm.bpf.preserve.type.info(i32, i64 immarg)",
    "declare i64 @llvm.bpf.preserve.enum.value(i32, ptr, i64 immarg)",
    "declare i64 @llvm.bpf.btf.type.id(i32, i64 immarg)",
)
# llvm.bpf.preserve.field.info
BYTE_OFFSET, BYTE_SIZE, EXISTS, SIGNED, LSHIFT, RSHIFT = range(6)
# llvm.bpf.preserve.type.info, and btf.type.id
TYPE_EXISTS, TYPE_SIZE = 0, 1
TYPE_ID_TARGET: Final = 1
# llvm.bpf.preserve.enum.value
ENUM_EXISTS, ENUM_VALUE = 0, 1


class LocalStruct:
    """The part of one of the kernel's structs that this module uses.

    Members are numbered in the order of their use, for intrinsics name them by number, and lie one after the
    other: the kernel refuses BTF whose offsets do not ascend.
    """

    def __init__(self, kind: KStruct, node: str) -> None:
        self.kind = kind
        self.node = node
        self.members: dict[str, KField] = {}

    def index(self, field: KField) -> int:
        """The number of a member, which is there from now on."""
        self.members.setdefault(field.name, field)
        return list(self.members).index(field.name)


class Core:
    """The relocations of one module. ``di`` is its debug metadata, ``declare`` adds a declaration once."""

    def __init__(self, unit: Any) -> None:
        self.di: Debug = unit.di
        self._unit = unit
        self._structs: dict[str, LocalStruct] = {}
        self._anonymous: dict[KStruct, LocalStruct] = {}
        self._sequence = 0
        for line in _DECLARATIONS:
            unit.declare(line)

    # --- descriptions ----------------------------------------------------------------------------

    def struct(self, kind: KStruct) -> LocalStruct:
        """The local struct that stands for ``kind``: one per name."""
        made = self._anonymous.get(kind) if kind.anonymous else self._structs.get(kind.local)
        if made is None:
            made = LocalStruct(kind, self.di.reserve())
            if kind.anonymous:
                self._anonymous[kind] = made
            else:
                self._structs[kind.local] = made
        return made

    def describe(self, kind: KernelType, size: int = 0) -> str:
        """A debug type that relocations take for ``kind``; arrays of structs have ``size`` bytes here."""
        di = self.di
        if isinstance(kind, KStruct):
            return self.struct(kind).node
        if isinstance(kind, KEnum):
            sign = "signed" if kind.signed else "unsigned"
            word = "int" if kind.size <= 4 else "long long"
            base = di.base(word if kind.signed else f"unsigned {word}", 8 * kind.size, sign)
            return di.node(
                f"!DICompositeType(tag: DW_TAG_enumeration_type, baseType: {base}, size: {8 * kind.size}, "
                f"elements: {di.empty})"
            )
        if isinstance(kind, KInt):
            encoding = "signed" if kind.signed else "unsigned"
            if kind.boolean:
                encoding = "boolean"
            elif kind.size == 1:
                encoding += "_char"
            return di.base(kind.name, 8 * kind.size, encoding)
        if isinstance(kind, KArray):
            return di.array(self.describe(kind.of), 8 * (size or kind.size), kind.count)
        return di.pointer("null")

    def finish(self) -> None:
        """Write the structs down: every member that is used is known."""
        sizes: dict[str, int] = {}
        while waiting := [s for s in self._all() if s.node not in sizes]:
            for struct in waiting:
                self._define(struct, sizes)

    def _all(self) -> list[LocalStruct]:
        return [*self._structs.values(), *self._anonymous.values()]

    def _size(self, kind: KernelType, sizes: dict[str, int]) -> int:
        """Bytes of a type as it is described here."""
        if isinstance(kind, KStruct):
            struct = self.struct(kind)
            if struct.node not in sizes:
                self._define(struct, sizes)
            return sizes[struct.node]
        if isinstance(kind, KArray):
            return kind.count * self._size(kind.of, sizes)
        return kind.size or 8

    def _define(self, struct: LocalStruct, sizes: dict[str, int]) -> None:
        kind = struct.kind
        end = 0
        members = []
        for field in struct.members.values():
            size = self._size(field.type, sizes)
            node = self._member(struct, field, 0 if kind.union else end, size)
            members.append(node)
            after = (0 if kind.union else end) + -(-size // 8) * 8
            end = max(end, after)
        sizes[struct.node] = end or 8
        elements = self.di.node("!{" + ", ".join(members) + "}")
        name = "" if kind.anonymous else f"name: {quote(kind.local)}, "
        tag = "union" if kind.union else "structure"
        self.di.define(
            struct.node,
            f"distinct !DICompositeType(tag: DW_TAG_{tag}_type, {name}file: {self.di.main}, "
            f"size: {8 * sizes[struct.node]}, elements: {elements})",
        )

    def _member(self, owner: LocalStruct, field: KField, offset: int, size: int) -> str:
        """The node of a member at ``offset`` bytes."""
        extra = f", flags: DIFlagBitField, extraData: i64 {8 * offset}" if field.width else ""
        return self.di.node(
            f"!DIDerivedType(tag: DW_TAG_member, name: {quote(field.name)}, scope: {owner.node}, "
            f"baseType: {self.describe(field.type, size)}, size: {field.width or 8 * size}, "
            f"offset: {8 * offset}{extra})"
        )

    # --- intrinsics: the text of instructions ------------------------------------------------------

    def member_access(self, base: str, kind: KStruct, field: KField) -> str:
        """The address of a member, relocated."""
        struct = self.struct(kind)
        index = struct.index(field)
        what = f", !llvm.preserve.access.index {struct.node}"
        if kind.union:
            return f"call ptr @{UNION_ACCESS}(ptr {base}, i32 {index}){what}"
        return f"call ptr @{STRUCT_ACCESS}(ptr elementtype({{ i8 }}) {base}, i32 0, i32 {index}){what}"

    def element_access(self, base: str, kind: KArray, index: int) -> str:
        """The address of an element of an array member, at a constant index."""
        node = self.describe(kind)
        return (
            f"call ptr @{ARRAY_ACCESS}(ptr elementtype([0 x i8]) {base}, i32 1, i32 {index})"
            f", !llvm.preserve.access.index {node}"
        )

    def field_info(self, address: str, what: int) -> str:
        """A fact (i32) about the field that ``address`` was made of."""
        return f"call i32 @llvm.bpf.preserve.field.info.p0(ptr {address}, i64 {what})"

    def number(self) -> int:
        """A number that no other call has."""
        self._sequence += 1
        return self._sequence

    def type_info(self, kind: KStruct, what: int) -> str:
        """Size or existence (i32) of a type."""
        return (
            f"call i32 @llvm.bpf.preserve.type.info(i32 {self.number()}, i64 {what})"
            f", !llvm.preserve.access.index {self.struct(kind).node}"
        )

    def type_id(self, kind: KStruct) -> str:
        """The id (i64) of a type in the kernel's BTF."""
        return (
            f"call i64 @llvm.bpf.btf.type.id(i32 {self.number()}, i64 {TYPE_ID_TARGET})"
            f", !llvm.preserve.access.index {self.struct(kind).node}"
        )

    def enum_value(self, enum: str, name: str, value: int, size: int, signed: bool, what: int) -> str:
        """Value or existence (i64) of an enumerator of ``enum``."""
        di = self.di
        word = "int" if size <= 4 else "long long"
        base = di.base(word if signed else f"unsigned {word}", 8 * size, "signed" if signed else "unsigned")
        unsigned = "" if signed else ", isUnsigned: true"
        elements = di.node(
            "!{" + di.node(f"!DIEnumerator(name: {quote(name)}, value: {value}{unsigned})") + "}"
        )
        node = di.node(
            f"!DICompositeType(tag: DW_TAG_enumeration_type, name: {quote(enum)}, file: {di.main}, "
            f"baseType: {base}, size: {8 * size}, elements: {elements})"
        )
        as_read = value - (1 << 64) if value >> 63 == 1 else value  # LLVM reads 63 bits and a sign
        text = self._unit.constant(f"{name}:{as_read}".encode() + b"\0")
        return (
            f"call i64 @llvm.bpf.preserve.enum.value(i32 {self.number()}, ptr {text}, i64 {what})"
            f", !llvm.preserve.access.index {node}"
        )


def unknown_field(name: str) -> KField:
    """A member that the types at hand do not have: to ask whether another kernel's do."""
    return KField(name, KPtr(KernelType()), 0, 0)
