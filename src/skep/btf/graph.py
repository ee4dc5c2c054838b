"""Questions about a set of types, whether read or being built."""

from __future__ import annotations

import gc

from skep.btf import types as t
from skep.btf.types import Composite, EnumValue, Func, FuncProto, Member, Type
from skep.errors import BtfError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Final, NoReturn

_MAX_SIZE: Final = 0xFFFFFFFF
_MAX_NESTING: Final = 200
_MAX_CHAIN: Final = 4096
_LONGS: Final = (
    "long int",
    "long unsigned int",
    "unsigned long",
    "long",
    "int long",
    "unsigned long int",
    "int long unsigned",
    "int unsigned long",
    "unsigned int long",
    "long int unsigned",
)
_SIZED: Final = frozenset((t.INT, t.STRUCT, t.UNION, t.ENUM, t.ENUM64, t.DATASEC, t.FLOAT))
_THROUGH: Final = frozenset((t.TYPEDEF, t.VOLATILE, t.CONST, t.RESTRICT, t.TYPE_TAG, t.VAR, t.DECL_TAG))


class TypeGraph:
    """Types by id, and what follows from them. ``len`` counts type 0 (void), so ids are below it."""

    path: str | None = None
    _ptr_size: int | None = None
    _aligns: dict[int, int] | None = None

    def __len__(self) -> int:
        raise NotImplementedError  # read and built types have their own

    def __getitem__(self, id: int) -> Type:
        raise NotImplementedError  # read and built types have their own

    def __iter__(self) -> Iterator[Type]:
        """Every type from 0 on: ``enumerate`` gives the ids."""
        for id in range(len(self)):
            yield self[id]

    def ids_named(self, name: str) -> Iterator[int]:
        """Ids of the types called ``name``, ascending."""
        raise NotImplementedError  # read and built types have their own

    def fail(self, id: int, reason: str) -> NoReturn:
        """Raise a BtfError about type ``id``."""
        raise BtfError(f"type {id}: {reason}", path=self.path)

    def describe(self, id: int) -> str:
        """``struct task_struct``, ``pointer type 7``, …: the type in words."""
        value = self[id]
        word = value.kind_name.lower().replace("_", " ")
        return f"{word} {value.name}" if value.name else f"{word} type {id}"

    def _fail_long(self, id: int) -> NoReturn:
        self.fail(id, f"what it stands for is a loop, or more than {_MAX_CHAIN} types long")

    # --- by name -------------------------------------------------------------------------------

    def find(self, name: str, kind: int | None = None) -> int | None:
        """The lowest id of a type called ``name`` (of ``kind``), or None."""
        for id in self.ids_named(name):
            if kind is None or self[id][0] == kind:
                return id
        return None

    def require(self, name: str, kind: int | None = None) -> int:
        """`find`, but raises BtfError when there is none."""
        id = self.find(name, kind)
        if id is None:
            what = "type" if kind is None else t.KIND_NAMES[kind].lower()
            raise BtfError(f"no {what} called {name!r} among {len(self) - 1} types", path=self.path)
        return id

    def function(self, name: str) -> tuple[Func, FuncProto] | None:
        """The function called ``name`` (a kernel function, kfunc or program) and its prototype, or None."""
        id = self.find(name, t.FUNC)
        if id is None:
            return None
        func = self[id]
        assert isinstance(func, Func)
        proto = self[self.resolve(func.type)]
        if not isinstance(proto, FuncProto):
            self.fail(id, f"function {name} has {self.describe(func.type)} for a prototype")
        return func, proto

    def enum_values(self, name: str) -> dict[str, int]:
        """The enumerators of ``enum name``. Raises BtfError when there is no such enum."""
        for id in self.ids_named(name):
            value = self[id]
            if isinstance(value, t.Enumeration) and value.values:
                return {item.name: item.value for item in value.values}
        raise BtfError(f"no enum called {name!r}", path=self.path)

    def enumerator(self, name: str) -> EnumValue | None:
        """The first enumerator called ``name`` in any enum, anonymous ones included, or None."""
        for value in self:
            if isinstance(value, t.Enumeration):
                for item in value.values:
                    if item[0] == name:
                        return item
        return None

    # --- through modifiers ---------------------------------------------------------------------

    def resolve(self, id: int, *, typedefs: bool = True) -> int:
        """The id behind ``const``, ``volatile``, ``restrict``, type tags and (by default) typedefs.

        Raises BtfError for a loop.
        """
        start = id
        steps = 0
        while True:
            value = self[id]
            kind = value[0]
            if not (kind in t.MODIFIERS or (typedefs and kind == t.TYPEDEF)):
                return id
            id = value[2]
            steps += 1
            if steps > _MAX_CHAIN:
                self._fail_long(start)

    # --- layout --------------------------------------------------------------------------------

    @property
    def ptr_size(self) -> int:
        """Bytes of a pointer: the size of ``long`` if there is one (as libbpf guesses), else 8."""
        known = self._ptr_size
        if known is None:
            known = 8
            for name in _LONGS:
                id = self.find(name, t.INT)
                if id is not None and self[id][2] in (4, 8):
                    known = self[id][2]
                    break
            self._ptr_size = known
        return known

    def size_of(self, id: int) -> int:
        """Size in bytes. Raises BtfError where there is none (void, functions), for a loop, or past 4 GiB."""
        start = id
        count = 1
        steps = 0
        while True:
            value = self[id]
            kind = value[0]
            if kind in _SIZED:
                size: int = value[2] * count
                break
            if kind == t.PTR:
                size = self.ptr_size * count
                break
            if kind == t.ARRAY:
                count *= value[4]
                if count > _MAX_SIZE:
                    self.fail(start, "an array larger than 4 GiB")
            elif kind not in _THROUGH:
                self.fail(start, f"{self.describe(id)} has no size")
            id = value[2]
            steps += 1
            if steps > _MAX_CHAIN:
                self._fail_long(start)
        if size > _MAX_SIZE:
            self.fail(start, "larger than 4 GiB")
        return size

    def align_of(self, id: int) -> int:
        """Alignment in bytes, 1 for what must be packed. Raises BtfError where there is none."""
        known = self._aligns
        if known is None:
            known = self._aligns = {}
        return self._align(id, known, 0)

    def _align(self, id: int, known: dict[int, int], depth: int) -> int:
        answer = known.get(id)
        if answer is not None:
            if answer < 0:
                self.fail(id, "a struct contains itself")
            return answer
        start = id
        steps = 0
        while True:
            value = self[id]
            kind = value[0]
            if kind == t.ARRAY or kind in _THROUGH:
                id = value[2]
                steps += 1
                if steps > _MAX_CHAIN:
                    self._fail_long(start)
                continue
            break
        if kind == t.PTR:
            answer = self.ptr_size
        elif kind in (t.INT, t.ENUM, t.ENUM64, t.FLOAT):
            answer = max(1, min(self.ptr_size, value[2]))
        elif kind in (t.STRUCT, t.UNION):
            answer = known.get(id)
            if answer is None or answer < 0:
                if answer is not None:
                    self.fail(id, "a struct contains itself")
                if depth > _MAX_NESTING:
                    self.fail(id, f"structs nested more than {_MAX_NESTING} deep")
                known[id] = -1
                try:
                    answer = self._align_composite(value, known, depth)
                finally:
                    del known[id]
                known[id] = answer
        else:
            self.fail(start, f"{self.describe(id)} has no alignment")
        known[start] = answer
        return answer

    def _align_composite(self, value: Type, known: dict[int, int], depth: int) -> int:
        largest = 1
        for _, type_id, offset, bits in value[3]:
            align = known.get(type_id, -1)
            if align < 0:
                align = self._align(type_id, known, depth + 1)
            if align > largest:
                largest = align
            if bits == 0 and offset % (8 * align):
                return 1
        return 1 if value[2] % largest else largest

    def is_packed(self, id: int) -> bool:
        """Whether struct ``id`` can only be laid out with ``__attribute__((packed))``."""
        value = self[id]
        largest = 1
        for _, type_id, offset, bits in value[3]:
            align = self.align_of(type_id)
            if bits == 0 and offset % (8 * align):
                return True
            largest = max(largest, align)
        return bool(value[2] % largest)

    def bitfield_bits(self, member: Member) -> int:
        """Bits of a bitfield member in the new or the old form, 0 when it is no bitfield."""
        if member[3]:
            bits: int = member[3]
            return bits
        value = self[self.resolve(member[1])]
        if value[0] == t.INT and (value[5] != value[2] * 8 or member[2] % 8):
            bits = value[5]
            return bits
        return 0

    def member(self, id: int, path: str) -> tuple[Member, int]:
        """The member at a dotted ``path`` (``a.b``), anonymous structs and unions looked through.

        Gives the member and its offset in bits from the start of type ``id``. Raises BtfError for a missing
        one, naming it.
        """
        offset = 0
        found: Member | None = None
        for part in path.split("."):
            outer = self.resolve(id)
            composite = self[outer]
            if not isinstance(composite, Composite):
                raise BtfError(f"{self.describe(outer)} has no members, so no {part!r}", path=self.path)
            hit = self._member(outer, part, 0)
            if hit is None:
                raise BtfError(f"{self.describe(outer)} has no member {part!r}", path=self.path)
            found, more = hit
            offset += more
            id = found.type
        assert found is not None
        return found, offset

    def _member(self, id: int, name: str, depth: int) -> tuple[Member, int] | None:
        if depth > _MAX_NESTING:
            self.fail(id, "anonymous structs nested too deep")
        for member in self[id][3]:
            if member[0] == name:
                return member, member[2]
        for member in self[id][3]:
            if not member[0]:
                inner = self.resolve(member[1])
                if isinstance(self[inner], Composite):
                    hit = self._member(inner, name, depth + 1)
                    if hit is not None:
                        return hit[0], member[2] + hit[1]
        return None


class Decoded(TypeGraph):
    """All types of another graph, decoded once: for work that looks at each many times."""

    def __init__(self, source: TypeGraph) -> None:
        self.path = source.path
        # A million tuples without a cycle among them: collecting while they are made costs a third more.
        collecting = gc.isenabled()
        gc.disable()
        try:
            self.values: list[Type] = list(source)
        finally:
            if collecting:
                gc.enable()
        self._source = source
        self._ptr_size = source.ptr_size

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, id: int) -> Type:
        return self.values[id] if 0 <= id < len(self.values) else self._source[id]

    def ids_named(self, name: str) -> Iterator[int]:
        """Ids of the types called ``name``, ascending."""
        return self._source.ids_named(name)

    def fail(self, id: int, reason: str) -> NoReturn:
        """Raise a BtfError about type ``id``."""
        self._source.fail(id, reason)
