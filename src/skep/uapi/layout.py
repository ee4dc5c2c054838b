"""C struct layouts as tables, and packing by name: the one place where attribute bytes are made."""

from __future__ import annotations

import struct
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Final, Literal

    _Fields = Mapping[str, tuple[int, int, int]]

_LETTERS: Final = {1: "B", -1: "b", 2: "H", -2: "h", 4: "I", -4: "i", 8: "Q", -8: "q"}


class Layout:
    """A struct of ``size`` bytes.

    ``fields`` maps a name (dotted for members of nested structs) to (byte offset, element size,
    count): the size is negative for signed integers, the count 0 for a single integer.
    Host byte order, as everywhere in bpf(2).
    """

    __slots__ = ("_passes", "fields", "size")

    def __init__(self, size: int, fields: _Fields) -> None:
        self.size = size
        self.fields = fields
        self._passes: list[tuple[struct.Struct, tuple[str, ...]]] = []

    def pack(self, values: Mapping[str, int | bytes], byteorder: str = "little") -> bytearray:
        """The struct with ``values`` set and every other byte zero.

        An array takes bytes no longer than itself.

        Raises:
            KeyError: no field of that name.
            OverflowError: a value does not fit; the message names the field.
        """
        out = bytearray(self.size)
        for name, value in values.items():
            offset, size, count = self.fields[name]
            width = abs(size)
            if isinstance(value, int):
                try:
                    data = value.to_bytes(width, _order(byteorder), signed=size < 0)
                except OverflowError:
                    kind = f"{'s' if size < 0 else 'u'}{width * 8}"
                    raise OverflowError(f"{name}: {value} does not fit {kind}") from None
            else:
                data = bytes(value)
                if len(data) > width * max(count, 1):
                    raise OverflowError(f"{name}: {len(data)} bytes do not fit {width * max(count, 1)}")
            out[offset : offset + len(data)] = data
        return out

    def unpack(
        self, data: bytes | bytearray | memoryview, byteorder: str = "little"
    ) -> dict[str, int | bytes]:
        """Every field that ``data`` (possibly shorter, from an older kernel) holds whole."""
        if len(data) >= self.size and byteorder == sys.byteorder:
            if not self._passes:
                self._passes = _passes(self.fields)
            whole: dict[str, int | bytes] = {}
            for layout, names in self._passes:
                whole.update(zip(names, layout.unpack_from(data), strict=True))
            return whole
        out: dict[str, int | bytes] = {}
        order = _order(byteorder)
        number = int.from_bytes
        data = bytes(data)
        room = len(data)
        for name, (offset, size, count) in self.fields.items():
            if count:
                end = offset + abs(size) * count
                if end <= room:
                    out[name] = data[offset:end]
            elif size > 0:
                end = offset + size
                if end <= room:
                    out[name] = number(data[offset:end], order)
            elif (end := offset - size) <= room:
                out[name] = number(data[offset:end], order, signed=True)
        return out


def _passes(fields: _Fields) -> list[tuple[struct.Struct, tuple[str, ...]]]:
    """The fields as structs to unpack, more than one where members of unions overlap."""
    out: list[tuple[struct.Struct, tuple[str, ...]]] = []
    left = sorted(fields.items(), key=lambda item: item[1][0])
    while left:
        later: list[tuple[str, tuple[int, int, int]]] = []
        parts, names, end = ["="], [], 0
        for name, (offset, size, count) in left:
            width = abs(size) * max(count, 1)
            if offset < end:
                later.append((name, (offset, size, count)))
                continue
            plain = not count and size in _LETTERS
            parts.append(f"{offset - end}x{_LETTERS[size]}" if plain else f"{offset - end}x{width}s")
            names.append(name)
            end = offset + width
        out.append((struct.Struct("".join(parts)), tuple(names)))
        left = later
    return out


def _order(byteorder: str) -> Literal["little", "big"]:
    return "little" if byteorder == "little" else "big"
