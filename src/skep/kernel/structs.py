"""Structs and unions as values: attributes, equality, repr, `_asdict` and `_replace`.

A value keeps the flat items that `struct.unpack` gave; what an attribute means is worked out when it is
read. So a batch of events costs no more than unpacking it, however deep the struct is.
"""

from __future__ import annotations

import struct
from itertools import starmap

from skep.kernel.codec import Codec, check_int, within
from skep.plain import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, ClassVar, Final, Literal

    Order = Literal["little", "big"]
    _Tuple = tuple[Any, ...]
else:
    _Tuple = tuple

try:
    from _collections import _tuplegetter  # type: ignore[import-not-found, unused-ignore]
except ImportError:  # pragma: no cover - other Pythons than CPython
    from operator import itemgetter

    def _tuplegetter(index: int, doc: str) -> Any:
        return property(itemgetter(index), doc=doc)


_new: Final = tuple.__new__


class Field(NamedTuple):
    """A member: its items start at ``at``; ``bits`` is (first bit, width, signed, byte order) of a bitfield
    there; ``inside`` says that the item is a union's bytes, of which the member is the first.
    """

    name: str
    at: int
    codec: Codec
    bits: tuple[int, int, bool, Order] | None = None
    inside: bool = False
    byte: int = 0


class StructValue(_Tuple):
    """A struct's value. Subclasses are made from BTF, with one attribute for each member.

    Frozen: `_replace` gives a changed copy, to be stored back into the map it came from. New ones are made
    by calling the codec (`Object.codec`) with the members' values; those left out are zero.
    """

    __slots__ = ()
    _codec: ClassVar[StructCodec]
    _fields: ClassVar[tuple[str, ...]] = ()

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={getattr(self, name)!r}" for name in self._fields)
        return f"{type(self).__name__}({shown})"

    def _asdict(self) -> dict[str, Any]:
        """Name -> value, structs inside as dicts too."""
        return {name: _plain(getattr(self, name)) for name in self._fields}

    def _replace(self, **fields: Any) -> StructValue:
        """A copy with some members changed."""
        return _new(type(self), self._codec.flat_of(fields, list(self)))

    def __reduce__(self) -> Any:
        return _Values(self._asdict()), ()


class _Values:
    """Pickles as a dict: the class is made from BTF and nobody can import it."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.values = values

    def __call__(self) -> dict[str, Any]:
        return self.values


def _plain(value: Any) -> Any:
    if isinstance(value, StructValue):
        return value._asdict()
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value


class StructCodec(Codec):
    """A struct or union. ``fields`` may name members of anonymous structs inside."""

    __slots__ = ("by_name", "fields", "is_union", "name", "value_class")

    def __init__(
        self, name: str, size: int, fmt: str, count: int, fields: Sequence[Field], *, is_union: bool = False
    ) -> None:
        super().__init__(size, fmt, count)
        self.name = name
        self.fields = tuple(fields)
        self.is_union = is_union
        self.by_name = {field.name: field for field in fields}
        body: dict[str, Any] = {"__slots__": (), "_codec": self, "_fields": tuple(self.by_name)}
        for field in self.fields:
            body[field.name] = _getter(field)
        self.value_class: type[StructValue] = type(name or "anonymous", (StructValue,), body)

    def get(self, flat: Sequence[Any], at: int) -> Any:
        return _new(
            self.value_class, flat if not at and len(flat) == self.count else flat[at : at + self.count]
        )

    def from_rows(self, rows: Any) -> list[Any]:
        # The class has no __new__ of its own, so that this is the quickest way to make many: `zip` gives
        # each row as the tuple of arguments that a call needs, and always the same tuple.
        return list(starmap(self.value_class, zip(rows, strict=False)))

    def __call__(self, *args: Any, **fields: Any) -> StructValue:
        """A new value of these members, in order or by name. Raises ValueError for what does not fit."""
        if len(args) > len(self.by_name):
            raise ValueError(f"{len(args)} values for the {len(self.by_name)} members of {self.name}")
        given = dict(zip(self.by_name, args, strict=False))
        for name in fields:
            if name in given:
                raise ValueError(f"{self.name}: {name} is given twice")
        return _new(self.value_class, self.flat_of(given | fields))

    def put(self, value: Any) -> tuple[Any, ...]:
        if isinstance(value, StructValue):
            if value._codec is self or (value._codec.fmt, value._fields) == (self.fmt, tuple(self.by_name)):
                return tuple(value)
            value = value._asdict()
        if isinstance(value, dict):
            return self.flat_of(value)
        if isinstance(value, (tuple, list)) and not self.is_union:
            if len(value) != len(self.fields):
                known = ", ".join(self.by_name)
                raise ValueError(
                    f"{len(value)} values for the {len(self.fields)} members of {self.name}: {known}"
                )
            return self.flat_of(dict(zip(self.by_name, value, strict=True)))
        if isinstance(value, (bytes, bytearray, memoryview)):
            if len(value) != self.size:
                raise ValueError(f"{len(value)} bytes where {self.size} belong ({self.name})")
            return self.struct.unpack(value)
        members = getattr(value, "_asdict", None)  # a struct class of a program's module
        if members is not None:
            return self.flat_of(members())
        raise ValueError(
            f"{value!r} where {self.name or 'a struct'} belongs: a dict of its members, or a tuple"
        )

    def flat_of(self, values: dict[str, Any], flat: list[Any] | None = None) -> tuple[Any, ...]:
        """The items with ``values`` put into ``flat`` (default: zeros)."""
        if flat is None:
            flat = list(self.zero())
        for name, value in values.items():
            field = self.by_name.get(name)
            if field is None:
                known = ", ".join(self.by_name)
                raise ValueError(f"{self.name or 'the struct'} has no member {name!r}; there are: {known}")
            try:
                _set(field, flat, value)
            except ValueError as error:
                raise ValueError(within(f".{name}", error)) from None
        return tuple(flat)


class TailCodec(Codec):
    """A flexible array (``char data[]``): as many elements as there are bytes. Its one flat item is bytes."""

    __slots__ = ("element", "is_text")

    def __init__(self, element: Codec, *, is_text: bool) -> None:
        super().__init__(0, "0s")
        self.element = element
        self.is_text = is_text

    def get(self, flat: Sequence[Any], at: int) -> Any:
        data: bytes = flat[at]
        if self.is_text:
            return data.partition(b"\0")[0]
        size = self.element.size
        if size == 1 and self.element.is_plain:
            return data
        return self.element.decode_many(data[: len(data) // size * size]) if size else []

    def put(self, value: Any) -> tuple[Any, ...]:
        if isinstance(value, str):
            return (value.encode(),)
        if isinstance(value, (bytes, bytearray, memoryview)):
            return (bytes(value),)
        if not hasattr(value, "__len__"):
            raise ValueError(f"{value!r} where a list belongs")
        return (b"".join(self.element.encode(item) for item in value),)


class TailedCodec(StructCodec):
    """A struct that ends in a flexible array, at byte ``start``; values may be longer than ``size``."""

    __slots__ = ("fixed", "start")

    def __init__(
        self, name: str, size: int, fixed: str, start: int, count: int, fields: Sequence[Field]
    ) -> None:
        super().__init__(name, size, f"{fixed}{size - start}s", count, fields)
        self.fixed = fixed
        self.start = start

    def _struct_of(self, length: int) -> struct.Struct:
        return struct.Struct(f"={self.fixed}{length - self.start}s")

    def decode(self, data: bytes | bytearray | memoryview, at: int = 0) -> Any:
        length = len(data) - at
        layout = self.struct if length <= self.size else self._struct_of(length)
        return self.get(layout.unpack_from(data, at), 0)

    def decode_records(
        self, data: bytes | bytearray | memoryview, length: int, *, skip: int, stride: int
    ) -> list[Any]:
        after = stride - skip - length
        layout = struct.Struct(f"={skip}x{self.fixed}{length - self.start}s{after}x")
        return self.from_rows(layout.iter_unpack(data))

    def encode(self, value: Any) -> bytes:
        flat = self.put(value)
        try:
            return self._struct_of(max(self.size, self.start + len(flat[-1]))).pack(*flat)
        except struct.error as error:
            raise ValueError(str(error)) from None


def _getter(field: Field) -> Any:
    at, codec = field.at, field.codec
    if field.bits is not None:
        first, width, signed, order = field.bits
        return property(lambda self: _bits(self[at], first, width, signed, order))
    if field.inside:
        byte = field.byte
        return property(lambda self: codec.decode(self[at], byte))
    if codec.is_plain:
        return _tuplegetter(at, field.name)
    get: Callable[[Sequence[Any], int], Any] = codec.get
    return property(lambda self: get(self, at))


def _set(field: Field, flat: list[Any], value: Any) -> None:
    at, codec = field.at, field.codec
    if field.bits is not None:
        first, width, signed, order = field.bits
        low = -(1 << width - 1) if signed else 0
        number = check_int(value, low, (1 << width - signed) - 1, f"{width} bits")
        data: bytes = flat[at]
        shift = first if order == "little" else 8 * len(data) - first - width
        mask = (1 << width) - 1
        whole = int.from_bytes(data, order) & ~(mask << shift) | (number & mask) << shift
        flat[at] = whole.to_bytes(len(data), order)
    elif field.inside:
        data = flat[at]
        flat[at] = data[: field.byte] + codec.encode(value) + data[field.byte + codec.size :]
    else:
        flat[at : at + codec.count] = codec.put(value)


def _bits(data: bytes, first: int, width: int, signed: bool, order: Order) -> int:
    shift = first if order == "little" else 8 * len(data) - first - width
    value = int.from_bytes(data, order) >> shift & (1 << width) - 1
    return value - (1 << width) if signed and value >> width - 1 else value
