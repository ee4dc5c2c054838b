"""BTF, built: values of `skep.btf.types` in, the bytes that the kernel takes out."""

from __future__ import annotations

import struct
import sys
from array import array

from skep.btf import types as t
from skep.btf.graph import TypeGraph
from skep.btf.read import MAGIC, Btf
from skep.btf.types import Type, Void, references, with_references
from skep.errors import BtfError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Final


_NATIVE: Final = "<" if sys.byteorder == "little" else ">"
_MAX_VLEN: Final = 0xFFFF


class StringTable:
    """Strings in order of first use, each once; those of a base are used where they are."""

    def __init__(self, base: Btf | None = None) -> None:
        self._at: dict[str, int] = {"": 0}
        self._data = bytearray() if base is not None else bytearray(b"\0")
        self._start = base.strings.end if base is not None else 0
        while base is not None:
            start = base.strings.start
            for raw in bytes(base.strings.raw).split(b"\0")[:-1]:
                self._at.setdefault(raw.decode("utf-8", "surrogateescape"), start)
                start += len(raw) + 1
            base = base.base

    def add(self, text: str) -> int:
        """The offset of ``text``, added if it is new. Raises BtfError for a zero byte in it."""
        at = self._at.get(text)
        if at is None:
            raw = text.encode("utf-8", "surrogateescape")
            if 0 in raw:
                raise BtfError(f"the name {text!r} holds a zero byte")
            at = self._at[text] = self._start + len(self._data)
            self._data += raw
            self._data.append(0)
        return at

    @property
    def data(self) -> bytes:
        """The section's bytes."""
        return bytes(self._data)


class BtfBuilder(TypeGraph):
    """A set of types in the making.

    Types get ids in the order they are added, from 1 (or from the end of ``base``). A type may name ids that
    come later; `build` checks them. ``order`` is "<" or ">".

        >>> btf = BtfBuilder()
        >>> u32 = btf.add(Int("unsigned int", 4))
        >>> node = btf.reserve()
        >>> btf[node] = Struct("node", 16, [Member("next", btf.add(Ptr(node)), 0), Member("n", u32, 64)])
        >>> data = btf.build()
    """

    def __init__(self, *, order: str = "<", base: Btf | None = None) -> None:
        if order not in ("<", ">"):
            raise BtfError(f"byte order {order!r}: '<' (little-endian) or '>' (big-endian) is needed")
        self.order = order
        self.base = base
        self.start_id = len(base) if base is not None else 1
        self.strings = StringTable(base)
        self._types: list[Type | None] = []
        self._by_value: dict[Type, int] = {}

    # --- as a graph ----------------------------------------------------------------------------

    def __len__(self) -> int:
        return self.start_id + len(self._types)

    def __getitem__(self, id: int) -> Type:
        """The type with this id. Raises BtfError for an id out of range or not yet given a type."""
        if 0 < id < self.start_id and self.base is not None:
            return self.base[id]
        if id == 0:
            return Void()
        if not self.start_id <= id < len(self):
            raise BtfError(f"type {id} does not exist: there are {len(self) - 1}")
        value = self._types[id - self.start_id]
        if value is None:
            raise BtfError(f"type {id} was reserved and never given")
        return value

    def ids_named(self, name: str) -> Iterator[int]:
        """Ids of the types called ``name``, ascending, the base's first."""
        if self.base is not None:
            yield from self.base.ids_named(name)
        for id, value in enumerate(self._types, self.start_id):
            if value is not None and value[1] == name:
                yield id

    def items(self) -> Iterator[tuple[int, Type]]:
        """(id, type) of the types added here, without void and the base's."""
        for id in range(self.start_id, len(self)):
            yield id, self[id]

    # --- what goes in --------------------------------------------------------------------------

    def add(self, value: Type) -> int:
        """Add a type and give its id."""
        self._check(value)
        self._types.append(value)
        return len(self) - 1

    def intern(self, value: Type) -> int:
        """The id of an equal type added by `intern` before, or of ``value`` added now."""
        id = self._by_value.get(value)
        if id is None:
            id = self._by_value[value] = self.add(value)
        return id

    def reserve(self) -> int:
        """An id whose type is given later, by ``builder[id] = value``: for types that name each other."""
        self._types.append(None)
        return len(self) - 1

    def __setitem__(self, id: int, value: Type) -> None:
        if not self.start_id <= id < len(self):
            raise BtfError(f"type {id} was not reserved here")
        self._check(value)
        self._types[id - self.start_id] = value
        self._ptr_size = self._aligns = None

    def extend(self, btf: Btf) -> int:
        """Append all types of ``btf``; type N of it gets id N plus what this returns. Bases must agree."""
        if btf.base is not self.base:
            raise BtfError("BTF with another base cannot be appended", path=btf.path)
        shift = len(self) - btf.start_id
        start = btf.start_id
        mapped = [id if id < start else id + shift for id in range(len(btf))]
        for id, value in btf.items():
            for reference in references(value):
                if reference >= len(mapped):
                    btf.fail(id, f"names type {reference}, of {len(mapped) - 1}")
            self.add(with_references(value, mapped))
        return shift

    def _check(self, value: Type) -> None:
        if not isinstance(value, Type) or not 0 < value[0] <= t.LAST_KIND:
            raise BtfError(f"{value!r} is no BTF type to add")
        self.strings.add(value[1])

    # --- what comes out ------------------------------------------------------------------------

    def build(self) -> bytes:
        """The BTF. Raises BtfError for references that lead nowhere and values that do not fit."""
        words = array("I")
        count = len(self)
        for id, value in self.items():
            for reference in references(value):
                if not 0 <= reference < count:
                    self.fail(id, f"names type {reference}, of {count - 1}")
            try:
                words.extend(self._encode(value))
            except (OverflowError, TypeError) as failure:
                self.fail(id, f"{value.kind_name} {value.name}: a value does not fit its field: {failure}")
        if self.order != _NATIVE:
            words.byteswap()
        types = words.tobytes()
        strings = self.strings.data
        header = struct.pack(
            self.order + "HBBIIIII", MAGIC, 1, 0, 24, 0, len(types), len(types), len(strings)
        )
        return header + types + strings

    def btf(self) -> Btf:
        """What was built, read back."""
        return Btf(self.build(), base=self.base)

    def _encode(self, value: Type) -> list[int]:
        kind = value[0]
        add = self.strings.add
        name = add(value[1])
        third = 0
        vlen = 0
        flag = False
        rest: list[int] = []
        if kind == t.INT:
            third = value[2]
            for item, limit in ((value[3], 15), (value[4], 255), (value[5], 255)):
                if not 0 <= item <= limit:
                    raise OverflowError(f"{item} (at most {limit})")
            rest = [value[3] << 24 | value[4] << 16 | value[5]]
        elif kind == t.ARRAY:
            rest = [value[2], value[3], value[4]]
        elif kind in (t.STRUCT, t.UNION):
            third, flag, vlen = value[2], value[4], len(value[3])
            for member, type_id, offset, bits in value[3]:
                if flag:
                    if not (0 <= offset < 1 << 24 and 0 <= bits < 256):
                        raise OverflowError(f"member {member} at bit {offset}, {bits} bits wide")
                    offset |= bits << 24
                elif bits:
                    raise OverflowError(f"member {member} is a bitfield of a struct without bitfields")
                rest += (add(member), type_id, offset)
        elif kind in (t.ENUM, t.ENUM64):
            third, flag, vlen = value[2], value[4], len(value[3])
            wide = 64 if kind == t.ENUM64 else 32
            low, high = (-(1 << (wide - 1)), 1 << (wide - 1)) if flag else (0, 1 << wide)
            for item, number in value[3]:
                if not low <= number < high:
                    raise OverflowError(f"{item} = {number}")
                rest += (add(item), number & 0xFFFFFFFF)
                if kind == t.ENUM64:
                    rest.append(number >> 32 & 0xFFFFFFFF)
        elif kind == t.FWD:
            flag = value[2]
        elif kind == t.FUNC:
            third, vlen = value[2], value[3]
        elif kind == t.FUNC_PROTO:
            third, vlen = value[2], len(value[3])
            for param, type_id in value[3]:
                rest += (add(param), type_id)
        elif kind == t.VAR:
            third, rest = value[2], [value[3]]
        elif kind == t.DATASEC:
            third, vlen = value[2], len(value[3])
            for row in value[3]:
                rest += row
        elif kind == t.DECL_TAG:
            third, flag, rest = value[2], value[4], [value[3] & 0xFFFFFFFF]
        elif kind == t.TYPE_TAG:
            third, flag = value[2], value[3]
        else:  # references and floats: a type id or a size
            third = value[2]
        if not 0 <= vlen <= _MAX_VLEN:
            raise OverflowError(f"{vlen} parts (at most {_MAX_VLEN})")
        return [name, (1 << 31 if flag else 0) | kind << 24 | vlen, third, *rest]
