"""Codecs from BTF."""

from __future__ import annotations

from sys import byteorder

from skep.errors import BtfError
from skep.kernel.codec import (
    ArrayCodec,
    BigCodec,
    BoolCodec,
    BytesCodec,
    Codec,
    FloatCodec,
    IntCodec,
    TextCodec,
    WideCodec,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from skep.btf import Btf
    from skep.kernel.structs import Field, Order

# Kinds of BTF (skep.btf.types), by number: the module itself is not needed for plain integers.
_TYPEDEF: Final = 8
_QUALIFIERS: Final = (9, 10, 11)  # volatile, const, restrict
#: names that programs written in Python give to numbers in network order (C's __be32 is an int as it lies)
_BIG: Final = ("be16", "be32", "be64")
_INT, _PTR, _ARRAY, _STRUCT, _UNION, _ENUM, _FLOAT, _ENUM64 = 1, 2, 3, 4, 5, 6, 16, 19
_SIGNED: Final = 1
_BOOL: Final = 4
_CHARS: Final = ("char", "__char")
_DEEPEST: Final = 32


class Codecs:
    """The codecs of one object's types; made when first asked for, and kept."""

    def __init__(self, btf: Btf) -> None:
        self.btf = btf
        self._made: dict[int, Codec] = {}

    def of(self, type_id: int, depth: int = 0) -> Codec:
        """The codec of a type.

        Raises BtfError for a type without a size (void, functions) or that contains itself.
        """
        made = self._made.get(type_id)
        if made is None:
            made = self._made[type_id] = self._make(type_id, depth)
        return made

    def _make(self, type_id: int, depth: int) -> Codec:
        btf = self.btf
        if depth > _DEEPEST:
            btf.fail(type_id, f"structs nested more than {_DEEPEST} deep")
        outer = btf[type_id]
        while outer[0] in _QUALIFIERS:  # of variables that are set before loading: const volatile
            outer = btf[outer[2]]
        if outer[0] == _TYPEDEF and outer[1] in _BIG:
            return BigCodec(btf.size_of(type_id))
        id = btf.resolve(type_id)
        value = btf[id]
        kind = value[0]
        if kind == _INT:
            size, encoding = value[2], value[3]
            if encoding & _BOOL and size == 1:
                return BoolCodec()
            if size in (1, 2, 4, 8):
                return IntCodec(size, bool(encoding & _SIGNED))
            return WideCodec(size, bool(encoding & _SIGNED))
        if kind == _PTR:
            return IntCodec(btf.ptr_size, False, "pointer")
        if kind in (_ENUM, _ENUM64):
            return IntCodec(value[2], bool(value[4]), value[1] and f"enum {value[1]}")
        if kind == _FLOAT:
            return FloatCodec(value[2]) if value[2] in (4, 8) else BytesCodec(value[2])
        if kind == _ARRAY:
            return self._array(value[2], value[4], depth)
        if kind in (_STRUCT, _UNION):
            return self._composite(id, depth)
        return BytesCodec(btf.size_of(id))

    def _array(self, element: int, length: int, depth: int) -> Codec:
        inner = self.of(element, depth + 1)
        if inner.size == 1 and isinstance(inner, IntCodec):
            name = self.btf[self.btf.resolve(element)][1]
            return TextCodec(length) if name in _CHARS else BytesCodec(length)
        return ArrayCodec(inner, length)

    def _composite(self, id: int, depth: int) -> Codec:
        from skep.kernel.structs import Field, StructCodec, TailedCodec

        btf = self.btf
        value = btf[id]
        size: int = value[2]
        if value[0] == _UNION:
            union_fields: list[Field] = []
            self._overlaid(id, 0, 0, union_fields, depth)
            return StructCodec(value[1], size, f"{size}s", 1, union_fields, is_union=True)
        parts: list[str] = []
        fields: list[Field] = []
        at = end = 0
        members = list(value[3])
        index = 0
        while index < len(members):
            name, member_type, offset, _ = members[index]
            if btf.bitfield_bits(members[index]):
                index, stop = self._bitfields(members, index, size, at, end, fields)
                parts.append(f"{stop - end}s")
                at, end = at + 1, stop
                continue
            index += 1
            start = offset // 8
            if index == len(members) and index > 1 and name and end <= start <= size:
                element = self._flexible(member_type)
                if element is not None:
                    parts.append(f"{start - end}x" if start > end else "")
                    fields.append(Field(name, at, self._tail(element, depth)))
                    return TailedCodec(value[1], size, "".join(parts), start, at + 1, fields)
            codec = self.of(member_type, depth + 1)
            if start < end or start + codec.size > size:
                raise BtfError(
                    f"member {name!r} of {btf.describe(id)} overlaps or lies outside", path=btf.path
                )
            if start > end:
                parts.append(f"{start - end}x")
            parts.append(codec.fmt)
            if name:
                fields.append(Field(name, at, codec))
            elif isinstance(codec, StructCodec):
                fields += [inner._replace(at=at + inner.at) for inner in codec.fields]
            at, end = at + codec.count, start + codec.size
        if size > end:
            parts.append(f"{size - end}x")
        return StructCodec(value[1], size, "".join(parts), at, fields)

    def _flexible(self, type_id: int) -> int | None:
        """The element's type when this is an array without a length."""
        value = self.btf[self.btf.resolve(type_id)]
        return value[2] if value[0] == _ARRAY and not value[4] else None

    def _tail(self, element: int, depth: int) -> Codec:
        from skep.kernel.structs import TailCodec

        name = self.btf[self.btf.resolve(element)][1]
        return TailCodec(self.of(element, depth + 1), is_text=name in _CHARS)

    def _bitfields(
        self,
        members: list[tuple[str, int, int, int]],
        index: int,
        size: int,
        at: int,
        end: int,
        fields: list[Field],
    ) -> tuple[int, int]:
        """Take a run of bitfields as one item of bytes from ``end`` on; the next member, and its end."""
        from skep.kernel.structs import Field

        btf = self.btf
        stop = end
        while index < len(members):
            member = members[index]
            width = btf.bitfield_bits(member)  # type: ignore[arg-type]  # a row of four, as a Member is
            if not width:
                break
            name, member_type, offset, _ = member
            stop = max(stop, (offset + width + 7) // 8)
            if offset // 8 < end or stop > size:
                raise BtfError(f"bitfield {name!r} overlaps or lies outside its struct", path=btf.path)
            if name:
                kind = btf[btf.resolve(member_type)]
                signed = bool(
                    kind[3] & _SIGNED if kind[0] == _INT else kind[4] if kind[0] in (_ENUM, _ENUM64) else 0
                )
                bits = (offset - 8 * end, width, signed, self._order(member_type))
                fields.append(Field(name, at, BytesCodec(0), bits=bits))
            index += 1
        return index, stop

    def _order(self, type_id: int) -> Order:
        """How the bits of a bitfield of this type are numbered: in network order from the highest of each
        byte on, which BTF cannot say (its offsets are those that the compiler counted)."""
        value = self.btf[type_id]
        while value[0] in _QUALIFIERS:
            value = self.btf[value[2]]
        return "big" if value[0] == _TYPEDEF and value[1] in _BIG else byteorder

    def _overlaid(self, id: int, base: int, at: int, fields: list[Field], depth: int) -> None:
        """Members that lie in one item of bytes, anonymous structs and unions looked through."""
        from skep.kernel.structs import Field

        btf = self.btf
        if depth > _DEEPEST:
            btf.fail(id, f"structs nested more than {_DEEPEST} deep")
        for member in btf[id][3]:
            name, member_type, offset, _ = member
            width = btf.bitfield_bits(member)
            inner = btf.resolve(member_type)
            if width:
                kind = btf[inner]
                signed = kind[0] == _INT and bool(kind[3] & _SIGNED)
                order = self._order(member_type)
                if name:
                    fields.append(
                        Field(name, at, BytesCodec(0), bits=(8 * base + offset, width, signed, order))
                    )
            elif not name and btf[inner][0] in (_STRUCT, _UNION):
                self._overlaid(inner, base + offset // 8, at, fields, depth + 1)
            elif name:
                codec = self.of(member_type, depth + 1)
                fields.append(Field(name, at, codec, inside=True, byte=base + offset // 8))
