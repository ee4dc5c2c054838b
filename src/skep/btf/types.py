"""The kinds of BTF type as immutable values (Linux Documentation/bpf/btf.rst).

Every value is a tuple whose first item is its kind and second its name, so that equal values of different
kinds never compare equal, and values hash and compare at the speed of tuples. Types name each other by id.
"""

from __future__ import annotations

from operator import itemgetter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, ClassVar, Final

    _Tuple = tuple[Any, ...]
else:
    _Tuple = tuple

VOID: Final = 0
INT: Final = 1
PTR: Final = 2
ARRAY: Final = 3
STRUCT: Final = 4
UNION: Final = 5
ENUM: Final = 6
FWD: Final = 7
TYPEDEF: Final = 8
VOLATILE: Final = 9
CONST: Final = 10
RESTRICT: Final = 11
FUNC: Final = 12
FUNC_PROTO: Final = 13
VAR: Final = 14
DATASEC: Final = 15
FLOAT: Final = 16
DECL_TAG: Final = 17
TYPE_TAG: Final = 18
ENUM64: Final = 19
LAST_KIND: Final = 19

KIND_NAMES: Final = (
    "UNKNOWN",
    "INT",
    "PTR",
    "ARRAY",
    "STRUCT",
    "UNION",
    "ENUM",
    "FWD",
    "TYPEDEF",
    "VOLATILE",
    "CONST",
    "RESTRICT",
    "FUNC",
    "FUNC_PROTO",
    "VAR",
    "DATASEC",
    "FLOAT",
    "DECL_TAG",
    "TYPE_TAG",
    "ENUM64",
)
"""Kind number to the name bpftool prints."""

SIGNED: Final = 1
CHAR: Final = 2
BOOL: Final = 4
"""Encodings of an Int."""

LINKAGE_STATIC: Final = 0
LINKAGE_GLOBAL: Final = 1
LINKAGE_EXTERN: Final = 2


def item(index: int) -> Any:
    return property(itemgetter(index))


class Value(_Tuple):
    """A tuple with named items."""

    __slots__ = ()
    _shown: ClassVar[tuple[str, ...]] = ()

    def __repr__(self) -> str:
        items = ", ".join(f"{name}={getattr(self, name)!r}" for name in self._shown)
        return f"{type(self).__name__}({items})"

    def __init_subclass__(cls) -> None:
        if cls._shown:
            setattr(cls, "__match_args__", cls._shown)  # noqa: B010 (mypy takes __match_args__ for final)


new = tuple.__new__


# --- parts of types ----------------------------------------------------------------------------


class Member(Value):
    """A member of a struct or union.

    ``offset`` is in bits from the start; ``bitfield_size`` in bits, 0 when the member is no bitfield (or is
    one in the old form, whose Int says how many bits it has).
    """

    __slots__ = ()
    _shown: ClassVar[tuple[str, ...]] = ("name", "type", "offset", "bitfield_size")
    name: str = item(0)
    type: int = item(1)
    offset: int = item(2)
    bitfield_size: int = item(3)

    def __new__(cls, name: str, type: int, offset: int, bitfield_size: int = 0) -> Member:
        return new(cls, (name, type, offset, bitfield_size))


class EnumValue(Value):
    """One enumerator."""

    __slots__ = ()
    _shown: ClassVar[tuple[str, ...]] = ("name", "value")
    name: str = item(0)
    value: int = item(1)

    def __new__(cls, name: str, value: int) -> EnumValue:
        return new(cls, (name, value))


class Param(Value):
    """A parameter. The last one of type 0 and no name stands for ``...``."""

    __slots__ = ()
    _shown: ClassVar[tuple[str, ...]] = ("name", "type")
    name: str = item(0)
    type: int = item(1)

    def __new__(cls, name: str, type: int) -> Param:
        return new(cls, (name, type))


class SectionVar(Value):
    """Where a Var lies in its section: ``offset`` and ``size`` in bytes."""

    __slots__ = ()
    _shown: ClassVar[tuple[str, ...]] = ("type", "offset", "size")
    type: int = item(0)
    offset: int = item(1)
    size: int = item(2)

    def __new__(cls, type: int, offset: int, size: int) -> SectionVar:
        return new(cls, (type, offset, size))


# --- types -------------------------------------------------------------------------------------


class Type(Value):
    """Any BTF type. ``name`` is "" for an anonymous one."""

    __slots__ = ()
    kind: int = item(0)
    name: str = item(1)

    @property
    def kind_name(self) -> str:
        """The kind as bpftool prints it."""
        return KIND_NAMES[self[0]]


class Void(Type):
    """Type number 0."""

    __slots__ = ()

    def __new__(cls) -> Void:
        return new(cls, (VOID, ""))


class Int(Type):
    """An integer of ``size`` bytes. ``bits`` and ``bits_offset`` differ from the whole in old bitfields."""

    __slots__ = ()
    _shown: ClassVar[tuple[str, ...]] = ("name", "size", "encoding", "bits_offset", "bits")
    size: int = item(2)
    encoding: int = item(3)
    bits_offset: int = item(4)
    bits: int = item(5)

    def __new__(
        cls, name: str, size: int, encoding: int = 0, bits_offset: int = 0, bits: int | None = None
    ) -> Int:
        return new(cls, (INT, name, size, encoding, bits_offset, size * 8 if bits is None else bits))

    @property
    def signed(self) -> bool:
        """Whether the integer is signed."""
        return bool(self[3] & SIGNED)


class Reference(Type):
    """A type that stands for, or points to, another: ``type`` is that one's id."""

    __slots__ = ()
    _shown: ClassVar[tuple[str, ...]] = ("name", "type")
    type: int = item(2)


class Ptr(Reference):
    """A pointer."""

    __slots__ = ()
    _shown: ClassVar[tuple[str, ...]] = ("type",)

    def __new__(cls, type: int) -> Ptr:
        return new(cls, (PTR, "", type))


class Typedef(Reference):
    """A typedef."""

    __slots__ = ()

    def __new__(cls, name: str, type: int) -> Typedef:
        return new(cls, (TYPEDEF, name, type))


class Volatile(Reference):
    """``volatile``."""

    __slots__ = ()
    _shown: ClassVar[tuple[str, ...]] = ("type",)

    def __new__(cls, type: int) -> Volatile:
        return new(cls, (VOLATILE, "", type))


class Const(Reference):
    """``const``."""

    __slots__ = ()
    _shown: ClassVar[tuple[str, ...]] = ("type",)

    def __new__(cls, type: int) -> Const:
        return new(cls, (CONST, "", type))


class Restrict(Reference):
    """``restrict``."""

    __slots__ = ()
    _shown: ClassVar[tuple[str, ...]] = ("type",)

    def __new__(cls, type: int) -> Restrict:
        return new(cls, (RESTRICT, "", type))


class TypeTag(Reference):
    """``btf_type_tag("name")``, or with ``attribute`` any attribute (kind flag 1, Linux 6.15)."""

    __slots__ = ()
    _shown: ClassVar[tuple[str, ...]] = ("name", "type", "attribute")
    attribute: bool = item(3)

    def __new__(cls, name: str, type: int, attribute: bool = False) -> TypeTag:
        return new(cls, (TYPE_TAG, name, type, attribute))


class DeclTag(Reference):
    """``btf_decl_tag("name")`` of a type, or of its member or parameter number ``component`` (-1: itself)."""

    __slots__ = ()
    _shown: ClassVar[tuple[str, ...]] = ("name", "type", "component", "attribute")
    component: int = item(3)
    attribute: bool = item(4)

    def __new__(cls, name: str, type: int, component: int = -1, attribute: bool = False) -> DeclTag:
        return new(cls, (DECL_TAG, name, type, component, attribute))


class Func(Reference):
    """A function; ``type`` is its FuncProto, ``linkage`` 0 static, 1 global, 2 extern."""

    __slots__ = ()
    _shown: ClassVar[tuple[str, ...]] = ("name", "type", "linkage")
    linkage: int = item(3)

    def __new__(cls, name: str, type: int, linkage: int = LINKAGE_STATIC) -> Func:
        return new(cls, (FUNC, name, type, linkage))


class Var(Reference):
    """A variable; ``linkage`` 0 static, 1 global, 2 extern."""

    __slots__ = ()
    _shown: ClassVar[tuple[str, ...]] = ("name", "type", "linkage")
    linkage: int = item(3)

    def __new__(cls, name: str, type: int, linkage: int = LINKAGE_GLOBAL) -> Var:
        return new(cls, (VAR, name, type, linkage))


class FuncProto(Reference):
    """A function type; ``type`` is what it returns."""

    __slots__ = ()
    _shown: ClassVar[tuple[str, ...]] = ("type", "params")
    params: tuple[Param, ...] = item(3)

    def __new__(cls, type: int, params: Iterable[Param] = ()) -> FuncProto:
        return new(cls, (FUNC_PROTO, "", type, tuple(params)))


class Array(Type):
    """``nelems`` elements of ``type``; ``index_type`` is some integer's id."""

    __slots__ = ()
    _shown: ClassVar[tuple[str, ...]] = ("type", "index_type", "nelems")
    type: int = item(2)
    index_type: int = item(3)
    nelems: int = item(4)

    def __new__(cls, type: int, index_type: int, nelems: int) -> Array:
        return new(cls, (ARRAY, "", type, index_type, nelems))


class Composite(Type):
    """A struct or union of ``size`` bytes. ``bitfields`` is the kind flag: members carry bitfield sizes."""

    __slots__ = ()
    _shown: ClassVar[tuple[str, ...]] = ("name", "size", "members", "bitfields")
    size: int = item(2)
    members: tuple[Member, ...] = item(3)
    bitfields: bool = item(4)


class Struct(Composite):
    """A struct."""

    __slots__ = ()

    def __new__(
        cls, name: str, size: int, members: Iterable[Member] = (), bitfields: bool | None = None
    ) -> Struct:
        return new(cls, (STRUCT, name, size, *_bitfields(members, bitfields)))


class Union(Composite):
    """A union."""

    __slots__ = ()

    def __new__(
        cls, name: str, size: int, members: Iterable[Member] = (), bitfields: bool | None = None
    ) -> Union:
        return new(cls, (UNION, name, size, *_bitfields(members, bitfields)))


def _bitfields(members: Iterable[Member], flag: bool | None) -> tuple[tuple[Member, ...], bool]:
    made = tuple(members)
    return made, any(member[3] for member in made) if flag is None else flag


class Enumeration(Type):
    """An enum of ``size`` bytes."""

    __slots__ = ()
    _shown: ClassVar[tuple[str, ...]] = ("name", "size", "values", "signed")
    size: int = item(2)
    values: tuple[EnumValue, ...] = item(3)
    signed: bool = item(4)


class Enum(Enumeration):
    """An enum whose values fit in 32 bits. Without values and with a name it is a forward declaration."""

    __slots__ = ()

    def __new__(cls, name: str, size: int, values: Iterable[EnumValue] = (), signed: bool = False) -> Enum:
        return new(cls, (ENUM, name, size, tuple(values), signed))


class Enum64(Enumeration):
    """An enum with 64-bit values (Linux 6.0)."""

    __slots__ = ()

    def __new__(cls, name: str, size: int, values: Iterable[EnumValue] = (), signed: bool = False) -> Enum64:
        return new(cls, (ENUM64, name, size, tuple(values), signed))


class Fwd(Type):
    """The forward declaration of a struct, or of a union."""

    __slots__ = ()
    _shown: ClassVar[tuple[str, ...]] = ("name", "is_union")
    is_union: bool = item(2)

    def __new__(cls, name: str, is_union: bool = False) -> Fwd:
        return new(cls, (FWD, name, is_union))


class Float(Type):
    """A floating-point type of ``size`` bytes."""

    __slots__ = ()
    _shown: ClassVar[tuple[str, ...]] = ("name", "size")
    size: int = item(2)

    def __new__(cls, name: str, size: int) -> Float:
        return new(cls, (FLOAT, name, size))


class DataSec(Type):
    """A section of variables: ``size`` in bytes (0 in a relocatable object until it is linked)."""

    __slots__ = ()
    _shown: ClassVar[tuple[str, ...]] = ("name", "size", "vars")
    size: int = item(2)
    vars: tuple[SectionVar, ...] = item(3)

    def __new__(cls, name: str, size: int, vars: Iterable[SectionVar] = ()) -> DataSec:
        return new(cls, (DATASEC, name, size, tuple(vars)))


def references(value: Type) -> list[int]:
    """The ids of the types that ``value`` names, in the order of its fields."""
    kind = value[0]
    if kind in (STRUCT, UNION):
        return [member[1] for member in value[3]]
    if kind == ARRAY:
        return [value[2], value[3]]
    if kind == FUNC_PROTO:
        return [value[2], *(param[1] for param in value[3])]
    if kind == DATASEC:
        return [var[0] for var in value[3]]
    if kind in HAS_TYPE:
        return [value[2]]
    return []


def with_references(value: Type, map_id: dict[int, int] | list[int]) -> Type:
    """``value`` with every id that it names replaced by ``map_id[id]``."""
    kind = value[0]
    if kind in (STRUCT, UNION):
        members = tuple(new(Member, (m[0], map_id[m[1]], m[2], m[3])) for m in value[3])
        return new(type(value), (*value[:3], members, value[4]))
    if kind == ARRAY:
        return new(Array, (ARRAY, value[1], map_id[value[2]], map_id[value[3]], value[4]))
    if kind == FUNC_PROTO:
        params = tuple(new(Param, (p[0], map_id[p[1]])) for p in value[3])
        return new(FuncProto, (FUNC_PROTO, value[1], map_id[value[2]], params))
    if kind == DATASEC:
        section = tuple(new(SectionVar, (map_id[v[0]], v[1], v[2])) for v in value[3])
        return new(DataSec, (*value[:3], section))
    if kind in HAS_TYPE:
        return new(type(value), (kind, value[1], map_id[value[2]], *value[3:]))
    return value


HAS_TYPE: Final = frozenset(
    (PTR, TYPEDEF, VOLATILE, CONST, RESTRICT, FUNC, FUNC_PROTO, VAR, DECL_TAG, TYPE_TAG)
)
"""Kinds whose third item is a type id."""

MODIFIERS: Final = frozenset((VOLATILE, CONST, RESTRICT, TYPE_TAG))
"""Kinds that qualify a type without changing its size."""
