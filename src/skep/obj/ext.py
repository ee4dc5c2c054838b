"""Rows of ``.BTF.ext`` as numbers, as the kernel takes them: no strings are decoded.

`skep.btf.BtfExt` gives the same as values; a loader only hands the numbers on.
"""

from __future__ import annotations

import struct
from bisect import bisect_left
from operator import itemgetter

from skep.btf.strings import Strings
from skep.errors import BtfError
from skep.plain import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final


Row = tuple[int, ...]
_FUNCS: Final = (8, 8, "function records")
_LINES: Final = (16, 16, "line records")
_RELOS: Final = (24, 16, "CO-RE records")


class Records(NamedTuple):
    """Section name -> rows in the order of the file; the first number of a row is a byte offset.

    funcs: (offset, FUNC id); lines: (offset, file, text, line << 10 | column); relos: (offset, type,
    access string, kind). Strings are offsets into the BTF's.
    """

    funcs: dict[str, list[Row]]
    lines: dict[str, list[Row]]
    relos: dict[str, list[Row]]


def between(rows: list[Row], start: int, end: int) -> list[Row]:
    """The rows with offsets from ``start`` up to ``end``; rows are ascending."""
    return rows[bisect_left(rows, (start,)) : bisect_left(rows, (end,))]


def read_records(data: memoryview, strings: Strings, path: str | None, origin: int) -> Records:
    """Decode the section. Raises BtfError when it is damaged; ``origin`` is its offset in the file."""

    def bad(reason: str, offset: int) -> BtfError:
        return BtfError(f".BTF.ext: {reason}", path=path, offset=origin + offset)

    if len(data) < 24 or bytes(data[:2]) not in (b"\x9f\xeb", b"\xeb\x9f"):
        raise bad("not .BTF.ext (no 0xEB9F, or less than a header)", 0)
    order = "<" if data[0] == 0x9F else ">"
    version, header = struct.unpack_from(order + "2xBxI", data)
    if version != 1:
        raise bad(f"version {version} is unknown (1 is the only one)", 2)
    if not 24 <= header <= len(data):
        raise bad(f"a header of {header} bytes, of {len(data)}", 4)

    def part(field: int, size: int, what: str) -> dict[str, list[Row]]:
        found: dict[str, list[Row]] = {}
        if field + 8 > header:  # before Linux 5.4 the header ended here
            return found
        start, length = struct.unpack_from(order + "II", data, field)
        if not length:
            return found
        at = start + header + 4
        end = start + header + length
        if start % 4 or end > len(data) or length < 4:
            raise bad(f"{what} claim bytes {start} to {start + length} of {len(data) - header}", field)
        (row,) = struct.unpack_from(order + "I", data, at - 4)
        if row < size or row % 4:
            raise bad(f"{what} of {row} bytes ({size} or more in steps of 4 needed)", at - 4)
        layout = struct.Struct(f"{order}{size // 4}I{row - size}x")
        while at < end:
            if end - at < 8:
                raise bad(f"{what} end inside a section's head", at)
            name, count = struct.unpack_from(order + "II", data, at)
            stop = at + 8 + count * row
            if stop > end:
                raise bad(f"{what} claim {count} rows where {(end - at - 8) // row} fit", at + 4)
            rows = list(layout.iter_unpack(data[at + 8 : stop]))
            rows.sort(key=itemgetter(0))  # they are in order, if the compiler is to be trusted
            found.setdefault(strings[name], []).extend(rows)
            at = stop
        return found

    return Records(part(*_FUNCS), part(*_LINES), part(*_RELOS))
