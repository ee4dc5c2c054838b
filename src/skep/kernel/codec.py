"""Between bytes and Python values: numbers, bytes and arrays of them.

A codec describes a type as the items that one `struct.unpack` of it gives ("flat" items) and how a value
is read from those. So a batch of records of any type is decoded by one `struct.iter_unpack`.

Values: integers, enums and pointers are ints, `bool` is bool, `float` and `double` floats. ``char x[N]`` is
bytes up to its first zero byte; other arrays of single bytes are bytes of full length; all other arrays
are lists; structs and unions are `StructValue`. All are in the host's byte order.
"""

from __future__ import annotations

import struct
from sys import byteorder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Final


_ORDER: Final = byteorder
_INT_FORMAT: Final = {(1, False): "B", (1, True): "b", (2, False): "H", (2, True): "h"} | {
    (4, False): "I",
    (4, True): "i",
    (8, False): "Q",
    (8, True): "q",
}
#: arrays of more items than this are kept as bytes until they are looked at; of integers, of so many
_MANY: Final = 4096
_SEVERAL: Final = 4


class Codec:
    """A type: ``size`` bytes, ``fmt`` in letters of `struct`, which unpacks to ``count`` items.

    ``is_plain``: the value is the one flat item itself.
    """

    __slots__ = ("_many", "_struct", "count", "fmt", "is_plain", "size")

    def __init__(self, size: int, fmt: str, count: int = 1, *, is_plain: bool = False) -> None:
        self.size = size
        self.fmt = fmt
        self.count = count
        self.is_plain = is_plain
        self._struct: struct.Struct | None = None
        self._many: dict[int, struct.Struct] = {}

    def get(self, flat: Sequence[Any], at: int) -> Any:
        """The value that starts at item ``at``."""
        return flat[at]

    def put(self, value: Any) -> tuple[Any, ...]:
        """The items of ``value``. Raises ValueError, in words, for one that does not fit."""
        raise NotImplementedError  # each type has its own

    def zero(self) -> tuple[Any, ...]:
        return struct.unpack("=" + self.fmt, bytes(self.size))

    # --- whole values --------------------------------------------------------------------------

    @property
    def struct(self) -> struct.Struct:
        made = self._struct
        if made is None:
            made = self._struct = struct.Struct("=" + self.fmt)
        return made

    def decode(self, data: bytes | bytearray | memoryview, at: int = 0) -> Any:
        """The value at byte ``at`` of ``data``."""
        return self.get(self.struct.unpack_from(data, at), 0)

    def encode(self, value: Any) -> bytes:
        """The bytes of ``value``; padding is zero. Raises ValueError for one that does not fit."""
        try:
            return self.struct.pack(*self.put(value))
        except struct.error as error:
            raise ValueError(str(error)) from None

    def decode_many(
        self, data: bytes | bytearray | memoryview, *, skip: int = 0, stride: int = 0
    ) -> list[Any]:
        """The values of all records of ``stride`` bytes (default: `size`), each after ``skip`` bytes."""
        stride = stride or self.size
        if not stride:
            return []
        # A stride of 2**16 or more as key's low part cannot collide: skip is a header's size, 8 or 12.
        made = self._many.get(stride << 4 | skip)
        if made is None:
            before = f"{skip}x" if skip else ""
            after = stride - skip - self.size
            made = struct.Struct(f"={before}{self.fmt}{after}x" if after else f"={before}{self.fmt}")
            self._many[stride << 4 | skip] = made
        return self.from_rows(made.iter_unpack(data))

    def decode_records(
        self, data: bytes | bytearray | memoryview, length: int, *, skip: int, stride: int
    ) -> list[Any]:
        """`decode_many` for records of ``length`` bytes each, which is `size` or more."""
        return self.decode_many(data, skip=skip, stride=stride)

    def from_rows(self, rows: Any) -> list[Any]:
        if self.is_plain:
            return [value for (value,) in rows]
        get = self.get
        return [get(row, 0) for row in rows]


class IntCodec(Codec):
    """An integer, enum or pointer of 1, 2, 4 or 8 bytes."""

    __slots__ = ("high", "low", "name")

    def __init__(self, size: int, signed: bool, name: str = "") -> None:
        super().__init__(size, _INT_FORMAT[size, signed], is_plain=True)
        self.name = name or f"{'s' if signed else 'u'}{8 * size}"
        self.low = -(1 << 8 * size - 1) if signed else 0
        self.high = (1 << 8 * size - signed) - 1

    def put(self, value: Any) -> tuple[Any, ...]:
        return (check_int(value, self.low, self.high, self.name),)


class BigCodec(Codec):
    """An unsigned integer in network order; its value is the number."""

    __slots__ = ("high", "name")

    def __init__(self, size: int) -> None:
        super().__init__(size, f"{size}s")
        self.name = f"be{8 * size}"
        self.high = (1 << 8 * size) - 1

    def get(self, flat: Sequence[Any], at: int) -> Any:
        return int.from_bytes(flat[at], "big")

    def put(self, value: Any) -> tuple[Any, ...]:
        return (check_int(value, 0, self.high, self.name).to_bytes(self.size, "big"),)


class BoolCodec(Codec):
    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(1, "?", is_plain=True)

    def put(self, value: Any) -> tuple[Any, ...]:
        if value not in (0, 1):
            raise ValueError(f"{value!r} is no bool")
        return (bool(value),)


class FloatCodec(Codec):
    __slots__ = ()

    def __init__(self, size: int) -> None:
        super().__init__(size, {4: "f", 8: "d"}[size], is_plain=True)

    def put(self, value: Any) -> tuple[Any, ...]:
        if not isinstance(value, (int, float)):
            raise ValueError(f"{value!r} is no number")
        return (float(value),)


class WideCodec(Codec):
    """``__int128``."""

    __slots__ = ("signed",)

    def __init__(self, size: int, signed: bool) -> None:
        super().__init__(size, f"{size}s")
        self.signed = signed

    def get(self, flat: Sequence[Any], at: int) -> Any:
        return int.from_bytes(flat[at], _ORDER, signed=self.signed)

    def put(self, value: Any) -> tuple[Any, ...]:
        bits = 8 * self.size
        low = -(1 << bits - 1) if self.signed else 0
        number = check_int(value, low, (1 << bits - self.signed) - 1, f"{bits}-bit integer")
        return (number.to_bytes(self.size, _ORDER, signed=self.signed),)


class BytesCodec(Codec):
    """Bytes of full length: arrays of single bytes, types that BTF does not describe, void."""

    __slots__ = ()

    def __init__(self, size: int) -> None:
        super().__init__(size, f"{size}s", is_plain=True)

    def put(self, value: Any) -> tuple[Any, ...]:
        if isinstance(value, (bytes, bytearray, memoryview)):
            data = bytes(value)
        elif isinstance(value, (list, tuple)):
            data = bytes(check_int(item, 0, 255, "byte") for item in value)
        else:
            raise ValueError(f"{value!r} where {self.size} bytes belong")
        if len(data) != self.size:
            raise ValueError(f"{len(data)} bytes where {self.size} belong")
        return (data,)


class TextCodec(Codec):
    """``char x[N]``: bytes up to the first zero byte. Takes bytes and str (UTF-8) of N bytes at most."""

    __slots__ = ()

    def __init__(self, size: int) -> None:
        super().__init__(size, f"{size}s")

    def get(self, flat: Sequence[Any], at: int) -> Any:
        return flat[at].partition(b"\0")[0]

    def put(self, value: Any) -> tuple[Any, ...]:
        data = value.encode() if isinstance(value, str) else value
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise ValueError(f"{value!r} where bytes or str belong")
        if len(data) > self.size:
            raise ValueError(f"{len(data)} bytes where at most {self.size} fit")
        return (bytes(data).ljust(self.size, b"\0"),)


class ArrayCodec(Codec):
    """An array as a list."""

    __slots__ = ("_items", "element", "length", "packed")

    def __init__(self, element: Codec, length: int) -> None:
        self.element = element
        self.length = length
        size, count = element.size * length, element.count * length
        #: one item of bytes, decoded when it is looked at
        integers = isinstance(element, IntCodec)
        self.packed = (integers and count >= _SEVERAL) or (len(element.fmt) > 1 and count > _MANY)
        self._items = struct.Struct(f"={length}{element.fmt}") if integers else None
        if self.packed:
            super().__init__(size, f"{size}s")
        else:
            each = element.fmt
            super().__init__(size, f"{length}{each}" if len(each) == 1 else each * length, count)

    def get(self, flat: Sequence[Any], at: int) -> Any:
        element = self.element
        if self.packed:
            return list(self._items.unpack(flat[at])) if self._items else element.decode_many(flat[at])
        if element.is_plain:
            return list(flat[at : at + self.count])
        step = element.count
        return [element.get(flat, at + step * i) for i in range(self.length)]

    def put(self, value: Any) -> tuple[Any, ...]:
        if isinstance(value, (str, bytes)) or not hasattr(value, "__len__"):
            raise ValueError(f"{value!r} where a list of {self.length} belongs")
        if len(value) != self.length:
            raise ValueError(f"a list of {len(value)} where {self.length} belong")
        items: list[Any] = []
        for index, item in enumerate(value):
            try:
                items += self.element.put(item)
            except ValueError as error:
                raise ValueError(within(f"[{index}]", error)) from None
        if self.packed:
            layout = self._items or struct.Struct("=" + self.element.fmt * self.length)
            return (layout.pack(*items),)
        return tuple(items)


def within(place: str, error: ValueError) -> str:
    """What is wrong, and where: places join as in C (``.path[2].y: …``)."""
    text = str(error)
    index, bracket, after = text[1:].partition("]")
    # "[2].y: …" is a place, "[2] where …" a list that is wrong
    inside = text[:1] == "." or (
        text[:1] == "[" and bracket and index.isdigit() and after[:1] in (".", "[", ":")
    )
    return f"{place}{text}" if inside else f"{place}: {text}"


def check_int(value: Any, low: int, high: int, name: str) -> int:
    """``value`` as an int. Raises ValueError when it is none, or outside ``low`` to ``high``."""
    try:
        number: int = value.__index__()
    except AttributeError:
        raise ValueError(f"{value!r} where {name} belongs") from None
    if not low <= number <= high:
        raise ValueError(f"{number} does not fit in {name} ({low} to {high})")
    return number


def by_size(size: int) -> Codec:
    """What is known without types: 1, 2, 4 and 8 bytes are unsigned integers, all else bytes."""
    return IntCodec(size, False) if size in (1, 2, 4, 8) else BytesCodec(size)
