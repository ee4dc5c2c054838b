"""Types of the kernel, as its BTF has them or as the program declares them.

A `KernelType` says what memory of the kernel's looks like: integers, enums, pointers, arrays, structs. How
it is read (which load or helper, which CO-RE relocation) is `skep.lang.core_refs`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from skep.btf import types as t
from skep.errors import BtfError

if TYPE_CHECKING:
    import ast

    from skep.bpf.struct import StructInfo
    from skep.btf import Btf
    from skep.lang.walk import Walker

_MAX_DEPTH: Final = 16
_NETWORK_ORDER: Final = frozenset(("__be16", "__be32", "__be64"))


class KernelType:
    """Base. ``size`` is in bytes, 0 where there is none; ``name`` is for messages."""

    name: str = "void"
    size: int = 0


class KInt(KernelType):
    """An integer (``char`` and ``_Bool`` included) of ``size`` bytes; ``big`` ones lie in network order."""

    big = False

    def __init__(
        self, name: str, size: int, signed: bool, *, char: bool = False, boolean: bool = False
    ) -> None:
        self.name = name
        self.size = size
        self.signed = signed
        self.char = char
        self.boolean = boolean

    @property
    def bounds(self) -> tuple[int, int]:
        """The least and the greatest value."""
        bits = 1 if self.boolean else 8 * self.size
        if self.signed:
            return -(1 << bits - 1), (1 << bits - 1) - 1
        return 0, (1 << bits) - 1


class KEnum(KInt):
    """An enum: an integer whose BTF kind matters to relocations."""


class KPtr(KernelType):
    """A pointer. ``tags`` are its type tags: "user", "percpu", "rcu"."""

    size = 8

    def __init__(self, to: KernelType | Callable[[], KernelType], tags: frozenset[str] = frozenset()) -> None:
        self._to: Any = to
        self.tags = tags

    @property
    def to(self) -> KernelType:
        """What it points to."""
        if callable(self._to):
            self._to = self._to()
        found: KernelType = self._to
        return found

    @property
    def name(self) -> str:  # type: ignore[override]  # made when asked: types point in circles
        """``task_struct *``."""
        return f"{self.to.name} *"


class KArray(KernelType):
    """``count`` elements of a type; 0 for a flexible array."""

    def __init__(self, of: KernelType, count: int) -> None:
        self.of = of
        self.count = count
        self.name = f"{of.name}[{count}]"
        self.size = of.size * count


class KFunc(KernelType):
    """Code; ``proto`` gives (parameters, result)."""

    name = "a function"

    def __init__(
        self, proto: Callable[[], tuple[list[tuple[str, KernelType]], KernelType]] | None = None
    ) -> None:
        self.proto = proto


class KField(NamedTuple):
    """A member: its type, offset in bits in the struct, width in bits of a bit field, else 0."""

    name: str
    type: KernelType
    bit_offset: int
    width: int


class KStruct(KernelType):
    """A struct or union. ``local`` is the name that it has in the object (a flavour keeps its suffix)."""

    union: bool = False
    local: str = ""
    #: members have no name in C that a relocation could go by
    anonymous: bool = False

    def field(self, name: str) -> KField | None:
        """The member ``name``, anonymous structs and unions looked through."""
        raise NotImplementedError  # of kernels and of programs: their own

    def names(self) -> list[str]:
        """Names of members, for messages."""
        raise NotImplementedError  # of kernels and of programs: their own


class Types:
    """The types of one kernel; every type is made once."""

    def __init__(self, btf: Btf) -> None:
        self.btf = btf
        self._made: dict[int, KernelType] = {}
        self._flavours: dict[str, KStruct] = {}
        self._big: dict[str, KInt] = {}
        self._strings: bytes | None = None
        self._present: dict[str, bool] = {}

    def by_name(self, name: str) -> KernelType | None:
        """A struct, union, typedef or enum by name; of ``x___old`` the kernel's ``x`` under that name."""
        essential = name.split("___")[0] or name
        if not self.present(essential):
            return None
        for kind in (t.STRUCT, t.UNION, t.TYPEDEF, t.ENUM, t.ENUM64):
            id = self._defined(essential, kind)
            if id is not None:
                found = self.of(id)
                if essential != name and isinstance(found, BtfStruct):
                    known = self._flavours.get(name)
                    if known is None:
                        known = self._flavours[name] = BtfStruct(self, found.id, name)
                    return known
                return found
        return None

    def present(self, name: str) -> bool:
        """Whether anything may be called ``name``: what nothing is called is expensive to search for."""
        found = self._present.get(name)
        if found is None:
            if self._strings is None:
                self._strings = bytes(self.btf.strings.raw)
            found = self._present[name] = f"{name}\0".encode() in self._strings
        return found

    def _defined(self, name: str, kind: int) -> int | None:
        best: int | None = None
        for id in self.btf.ids_named(name):
            value = self.btf[id]
            if value[0] == kind and (best is None or (kind in (t.STRUCT, t.UNION) and not self.btf[best][2])):
                best = id
        return best

    def of(self, id: int) -> KernelType:
        """The type behind an id, modifiers and typedefs looked through. Type tags count for pointers only."""
        big = ""
        while (kind := (value := self.btf[id])[0]) in t.MODIFIERS or kind == t.TYPEDEF:
            if value.name in _NETWORK_ORDER:
                big = value.name
            id = value[2]
        if big:
            return self._network_order(big, id)
        found = self._made.get(id)
        if found is None:
            found = self._made[id] = self._make(id)
        return found

    def _network_order(self, name: str, id: int) -> KernelType:
        found = self._big.get(name)
        if found is None:
            found = self._big[name] = KInt(name, self.btf.size_of(id), False)
            found.big = True
        return found

    def _make(self, id: int) -> KernelType:
        value = self.btf[id]
        match value:
            case t.Int():
                encoding = value[3]
                name = value.name
                return KInt(
                    name,
                    value.size,
                    value.signed,
                    char=name in ("char", "signed char"),
                    boolean=bool(encoding & t.BOOL),
                )
            case t.Enumeration():
                return KEnum(f"enum {value.name}", value.size, value.signed)
            case t.Ptr():
                target, tags = self._through_tags(value.type)
                return KPtr(lambda: self.of(target), tags)
            case t.Array():
                return KArray(self.of(value.type), value.nelems)
            case t.Composite():
                return BtfStruct(self, id, value.name)
            case t.FuncProto():
                return KFunc(lambda: self.proto(value))
            case t.Func():
                return KFunc()
            case t.Float():
                made = KernelType()
                made.name, made.size = value.name, value.size
                return made
        return KernelType()

    def _through_tags(self, id: int) -> tuple[int, frozenset[str]]:
        tags: set[str] = set()
        while True:
            value = self.btf[id]
            if isinstance(value, t.TypeTag):
                tags.add(value.name)
            elif value[0] not in t.MODIFIERS:
                return id, frozenset(tags)
            id = value[2]

    def function(self, name: str) -> tuple[list[tuple[str, KernelType]], KernelType] | None:
        """(parameters, result) of the function ``name``; None when the kernel has none of that name."""
        if not self.present(name):
            return None
        try:
            found = self.btf.function(name)
        except BtfError:
            return None
        return None if found is None else self.proto(found[1])

    def proto(self, proto: t.FuncProto) -> tuple[list[tuple[str, KernelType]], KernelType]:
        """(parameters, result) of a function type."""
        params = [(p.name, self.of(p.type)) for p in proto.params]
        return params, self.of(proto.type) if proto.type else KernelType()

    def function_pointer(self, id: int) -> tuple[list[tuple[str, KernelType]], KernelType] | None:
        """(parameters, result) behind a pointer to a function (or a typedef of one), None when it is none."""
        value = self.btf[self.btf.resolve(id)]
        if isinstance(value, t.Ptr):
            value = self.btf[self.btf.resolve(value.type)]
        return self.proto(value) if isinstance(value, t.FuncProto) else None

    def typedef_proto(self, name: str) -> tuple[list[tuple[str, KernelType]], KernelType] | None:
        """`function_pointer` of the typedef ``name`` (``btf_trace_EVENT``)."""
        id = self.btf.find(name, t.TYPEDEF) if self.present(name) else None
        return None if id is None else self.function_pointer(id)

    def enumerator(self, name: str) -> tuple[str, int, int, bool] | None:
        """(enum's name or "", value, size in bytes, signed) of an enumerator of any enum."""
        found = _enumerator(self.btf, name)
        if found is None:
            return None
        enum, value = found
        return enum.name, value, enum.size, enum.signed


def types_of(c: Walker, node: ast.AST) -> Types:
    """The types that this module is compiled with: those of the running kernel.

    Refuses where the kernel has none.
    """
    unit: Any = c.unit
    if unit.types is None:
        from skep.btf.read import Btf

        try:
            unit.types = Types(Btf.kernel())
        except BtfError as error:
            raise c.error(
                node,
                f"this needs the kernel's types, and the running kernel has none ({error.reason})",
                "declare what you use: @bpf.struct(kernel=...)",
            ) from None
    made: Types = unit.types
    return made


class BtfStruct(KStruct):
    """A struct or union of the kernel's BTF."""

    def __init__(self, types: Types, id: int, local: str) -> None:
        value = types.btf[id]
        assert isinstance(value, t.Composite)
        self.types = types
        self.id = id
        self.union = value[0] == t.UNION
        self.local = local
        self.anonymous = not value.name
        self.name = f"{'union' if self.union else 'struct'} {local or '(anonymous)'}"
        self.size = value.size
        self._fields: dict[str, KField] | None = None

    def _all(self) -> dict[str, KField]:
        if self._fields is None:
            self._fields = {}
            for field in self._walk(self.id, 0, 0):
                self._fields.setdefault(field.name, field)
        return self._fields

    def _walk(self, id: int, base: int, depth: int) -> Iterator[KField]:
        btf = self.types.btf
        if depth > _MAX_DEPTH:
            return
        inner: list[tuple[int, int]] = []
        for member in btf[id][3]:
            if not member.name:
                outer = btf.resolve(member.type)
                if isinstance(btf[outer], t.Composite):
                    inner.append((outer, base + member.offset))
                continue
            yield KField(
                member.name, _Lazy(self.types, member.type), base + member.offset, btf.bitfield_bits(member)
            )
        for outer, at in inner:
            yield from self._walk(outer, at, depth + 1)

    def field(self, name: str) -> KField | None:
        found = self._all().get(name)
        if found is not None and isinstance(found.type, _Lazy):
            found = self._all()[name] = found._replace(type=self.types.of(found.type.id))
        return found

    def names(self) -> list[str]:
        return list(self._all())


class _Lazy(KernelType):
    """A member's type, not looked at yet: struct task_struct has 250 of them."""

    def __init__(self, types: Types, id: int) -> None:
        self.types = types
        self.id = id


class DeclaredStruct(KStruct):
    """A struct that the program declares for one of the kernel's: ``@bpf.struct(kernel="task_struct")``.

    Only the members that are used need to be there, in any order: their offsets come from the running kernel.
    """

    def __init__(self, info: StructInfo, types: Types | None) -> None:
        self.local = info.kernel or info.name
        self.union = info.union
        self.name = f"{'union' if self.union else 'struct'} {self.local}"
        self._types = types
        self._fields: dict[str, KField] = {}
        at = 0
        for name, record in info.fields:
            made, width = _declared(record, types)
            if not width:
                at = -(-at // 64) * 64
            self._fields[name] = KField(name, made, 0 if self.union else at, width)
            at += width or made.size * 8
        self.size = -(-at // 64) * 8

    def field(self, name: str) -> KField | None:
        return self._fields.get(name)

    def names(self) -> list[str]:
        return list(self._fields)


def _declared(record: Any, types: Types | None) -> tuple[KernelType, int]:
    """(type, bit-field width or 0) of a type record of `skep.bpf`."""
    from skep.bpf import types as b

    if isinstance(record, b.IntType):
        made = KInt(record.name, record.bits // 8, record.signed)
        made.big = record.big
        return made, 0
    if record is bool:
        return KInt("bool", 1, False, boolean=True), 0
    if record is int:
        return KInt("s64", 8, True), 0
    if isinstance(record, b.BitsType):
        return _declared(record.of, types)[0], record.width
    if isinstance(record, (b.CharType, b.BytesType)):
        return KArray(KInt("char", 1, True, char=True), record.size), 0
    if isinstance(record, b.ArrayType):
        return KArray(_declared(record.of, types)[0], record.count), 0
    if isinstance(record, b.PointerType):
        return KPtr(_declared(record.of, types)[0], frozenset(("user",) if record.user else ())), 0
    if isinstance(record, b.Named):
        # A name of the kernel's as a member is a pointer to it, as everywhere in the language.
        found = types.by_name(record.name) if types is not None else None
        return KPtr(found or KernelType()), 0
    info = getattr(record, "__bpf__", None)
    if info is not None:
        return DeclaredStruct(info, types), 0
    return KernelType(), 0


def _enumerator(btf: Btf, name: str) -> tuple[t.Enumeration, int] | None:
    """Find an enumerator by the place of its name: looking at every enum takes a second."""
    from bisect import bisect_right

    raw = bytes(btf.strings.raw)
    needle = b"\0" + name.encode() + b"\0"
    at = raw.find(needle)
    len(btf)  # all places are known now
    types_ = btf._type_bytes.tobytes()
    offsets = btf._offsets
    while at >= 0:
        word = (at + 1).to_bytes(4, "little" if btf.order == "<" else "big")
        hit = types_.find(word)
        while hit >= 0:
            if hit % 4 == 0:
                index = bisect_right(offsets, hit // 4 + 1) - 1
                if index >= 0:
                    value = btf[btf.start_id + index]
                    if isinstance(value, t.Enumeration):
                        for item in value.values:
                            if item.name == name:
                                return value, item.value
            hit = types_.find(word, hit + 1)
        at = raw.find(needle, at + 1)
    return None
