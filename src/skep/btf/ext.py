"""``.BTF.ext``: which function, source line and CO-RE relocation belong to which instruction.

Instruction offsets are in bytes from the start of the ELF section, as the file has them (the kernel counts
instructions; divide by 8).
"""

from __future__ import annotations

import os
import struct

from skep.btf.build import StringTable
from skep.btf.read import MAGIC, Btf
from skep.btf.types import Value, item, new
from skep.errors import BtfError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import Final


RELO_KINDS: Final = (
    "field_byte_offset",
    "field_byte_size",
    "field_exists",
    "field_signed",
    "field_lshift_u64",
    "field_rshift_u64",
    "local_type_id",
    "target_type_id",
    "type_exists",
    "type_size",
    "enumval_exists",
    "enumval_value",
    "type_matches",
)
"""CO-RE relocation kind number to name (Linux enum bpf_core_relo_kind)."""


class FuncInfo(Value):
    """A function starts at ``offset``; ``type`` is its Func."""

    __slots__ = ()
    _shown = ("offset", "type")
    offset: int = item(0)
    type: int = item(1)

    def __new__(cls, offset: int, type: int) -> FuncInfo:
        return new(cls, (offset, type))


class LineInfo(Value):
    """The code from ``offset`` on comes from ``file``, ``line``, ``column``; ``text`` is that line."""

    __slots__ = ()
    _shown = ("offset", "file", "text", "line", "column")
    offset: int = item(0)
    file: str = item(1)
    text: str = item(2)
    line: int = item(3)
    column: int = item(4)

    def __new__(cls, offset: int, file: str, text: str, line: int, column: int) -> LineInfo:
        return new(cls, (offset, file, text, line, column))


class CoreRelo(Value):
    """The instruction at ``offset`` depends on the layout of ``type`` at ``access`` (``0:1:2``)."""

    __slots__ = ()
    _shown = ("offset", "type", "access", "kind")
    offset: int = item(0)
    type: int = item(1)
    access: str = item(2)
    kind: int = item(3)

    def __new__(cls, offset: int, type: int, access: str, kind: int) -> CoreRelo:
        return new(cls, (offset, type, access, kind))

    @property
    def kind_name(self) -> str:
        """The kind's name."""
        return RELO_KINDS[self[3]] if self[3] < len(RELO_KINDS) else f"kind {self[3]}"


class BtfExt:
    """The records of each ELF section, by its name, in the order of the file."""

    def __init__(
        self,
        funcs: Mapping[str, Iterable[FuncInfo]] | None = None,
        lines: Mapping[str, Iterable[LineInfo]] | None = None,
        relos: Mapping[str, Iterable[CoreRelo]] | None = None,
        *,
        order: str = "<",
    ) -> None:
        self.order = order
        self.funcs = {name: list(rows) for name, rows in (funcs or {}).items()}
        self.lines = {name: list(rows) for name, rows in (lines or {}).items()}
        self.relos = {name: list(rows) for name, rows in (relos or {}).items()}

    @classmethod
    def read(
        cls,
        data: bytes | bytearray | memoryview,
        btf: Btf,
        *,
        path: str | os.PathLike[str] | None = None,
        origin: int = 0,
    ) -> BtfExt:
        """Decode the section ``data``, whose strings are in ``btf``. Raises BtfError when it is damaged."""
        reader = _Reader(memoryview(data).cast("B"), btf, os.fspath(path) if path else btf.path, origin)
        name = reader.name
        self = cls(order=reader.order)
        for section, rows in reader.part(8, 8, "function records"):
            self.funcs[section] = [FuncInfo(at, type_id) for at, type_id in rows]
        for section, rows in reader.part(16, 16, "line records"):
            self.lines[section] = [
                LineInfo(at, name(file), name(text), where >> 10, where & 0x3FF)
                for at, file, text, where in rows
            ]
        for section, rows in reader.part(24, 16, "CO-RE records"):
            self.relos[section] = [
                CoreRelo(at, type_id, name(access), kind) for at, type_id, access, kind in rows
            ]
        return self

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> tuple[Btf, BtfExt]:
        """The ``.BTF`` and ``.BTF.ext`` of an object file."""
        from skep.elf.read import Elf

        elf = Elf.open(path)
        btf_section, ext_section = elf.section(".BTF"), elf.section(".BTF.ext")
        if btf_section is None or ext_section is None:
            raise BtfError("no .BTF and .BTF.ext sections: compile with -g", path=os.fspath(path))
        btf = Btf(btf_section.data, path=path, origin=btf_section.offset)
        return btf, cls.read(ext_section.data, btf, path=path, origin=ext_section.offset)

    def encode(self, strings: StringTable) -> bytes:
        """The section's bytes; adds to ``strings``, a builder's, so encode this before building that.

        Raises BtfError for values that do not fit (lines below 4,194,304, columns below 1,024).
        """
        add = strings.add
        funcs = {name: [(row[0], row[1]) for row in rows] for name, rows in self.funcs.items()}
        lines: dict[str, list[tuple[int, ...]]] = {}
        for name, line_rows in self.lines.items():
            lines[name] = []
            for at, file, text, line, column in line_rows:
                if not (0 <= line < 1 << 22 and 0 <= column < 1 << 10):
                    raise BtfError(f"line {line} column {column} does not fit a line record")
                lines[name].append((at, add(file), add(text), line << 10 | column))
        relos = {name: [(r[0], r[1], add(r[2]), r[3]) for r in rows] for name, rows in self.relos.items()}
        parts = [self._part(2, funcs, add), self._part(4, lines, add), self._part(4, relos, add)]
        where: list[int] = []
        at = 0
        for part in parts:
            where += (at, len(part))
            at += len(part)
        return struct.pack(self.order + "HBBI6I", MAGIC, 1, 0, 32, *where) + b"".join(parts)

    def _part(
        self, width: int, sections: Mapping[str, Iterable[tuple[int, ...]]], add: Callable[[str], int]
    ) -> bytes:
        """Rows of ``width`` words, section by section; nothing at all when there are none."""
        if not sections:
            return b""
        words: list[int] = [4 * width]
        for name, rows in sections.items():
            flat = [word for row in rows for word in row]
            words += (add(name), len(flat) // width, *flat)
        try:
            return struct.pack(f"{self.order}{len(words)}I", *words)
        except struct.error as failure:
            raise BtfError(f"a record's value does not fit its field: {failure}") from None


class _Reader:
    """Reads the parts of one ``.BTF.ext``."""

    def __init__(self, raw: memoryview, btf: Btf, path: str | None, origin: int) -> None:
        self._raw = raw
        self._names = btf.strings
        self._path = path
        self._origin = origin
        if len(raw) < 24 or bytes(raw[:2]) not in (b"\x9f\xeb", b"\xeb\x9f"):
            raise self._bad("not .BTF.ext (no 0xEB9F, or less than a header)", 0)
        self.order = "<" if raw[0] == 0x9F else ">"
        version, self._length = struct.unpack_from(self.order + "2xBxI", raw)
        if version != 1:
            raise self._bad(f".BTF.ext version {version} is unknown (1 is the only one)", 2)
        if not 24 <= self._length <= len(raw):
            raise self._bad(f"a header of {self._length} bytes, of {len(raw)}", 4)

    def _bad(self, reason: str, offset: int) -> BtfError:
        return BtfError(reason, path=self._path, offset=self._origin + offset)

    def name(self, offset: int) -> str:
        """The string at ``offset`` of the BTF's strings."""
        try:
            return self._names[offset]
        except BtfError as error:
            raise self._bad(f"a record's string: {error.reason}", 0) from None

    def part(self, field: int, size: int, what: str) -> Iterator[tuple[str, list[tuple[int, ...]]]]:
        """(section, rows) of the part whose place is at byte ``field`` of the header."""
        if field + 8 > self._length:  # before Linux 5.4 the header ended here
            return
        start, length = struct.unpack_from(self.order + "II", self._raw, field)
        if not length:
            return
        start += self._length
        end = start + length
        if start % 4 or end > len(self._raw) or length < 4:
            raise self._bad(f"{what} claim bytes {start} to {end}, of {len(self._raw)}", field)
        (row,) = struct.unpack_from(self.order + "I", self._raw, start)
        if row < size or row % 4:
            raise self._bad(f"{what} of {row} bytes ({size} or more in steps of 4 needed)", start)
        layout = struct.Struct(f"{self.order}{size // 4}I{row - size}x")
        at = start + 4
        while at < end:
            if end - at < 8:
                raise self._bad(f"{what} end inside a section's head", at)
            name, count = struct.unpack_from(self.order + "II", self._raw, at)
            stop = at + 8 + count * row
            if stop > end:
                raise self._bad(f"{what} claim {count} rows where {(end - at - 8) // row} fit", at + 4)
            yield self.name(name), list(layout.iter_unpack(self._raw[at + 8 : stop]))
            at = stop
