"""Structs that only the compiler's debugging information knows: types of local variables, say.

Compilers put into a BPF object's BTF what maps, globals and functions name. `DebugTypes` finds the others in
DWARF (versions 4 and 5, 32-bit offsets), where the object has not been stripped of it, and makes BTF of them.
"""

from __future__ import annotations

import struct

from skep.btf import types as t
from skep.btf.build import BtfBuilder
from skep.errors import BtfError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    from skep.btf.read import Btf
    from skep.elf.read import Elf

_ARRAY: Final = 0x01
_ENUM: Final = 0x04
_MEMBER: Final = 0x0D
_POINTER: Final = 0x0F
_UNIT: Final = 0x11
_STRUCT: Final = 0x13
_TYPEDEF: Final = 0x16
_UNION: Final = 0x17
_SUBRANGE: Final = 0x21
_BASE: Final = 0x24
_ENUMERATOR: Final = 0x28
#: const, volatile, restrict, atomic: no part of a layout
_MODIFIERS: Final = frozenset((0x26, 0x35, 0x37, 0x47))

_NAME: Final = 0x03
_BYTE_SIZE: Final = 0x0B
_OLD_BIT_OFFSET: Final = 0x0C
_BIT_SIZE: Final = 0x0D
_STMT_LIST: Final = 0x10
_CONST_VALUE: Final = 0x1C
_UPPER_BOUND: Final = 0x2F
_COUNT: Final = 0x37
_LOCATION: Final = 0x38
_DECL_FILE: Final = 0x3A
_DECLARATION: Final = 0x3C
_ENCODING: Final = 0x3E
_TYPE: Final = 0x49
_BIT_OFFSET: Final = 0x6B
_STR_OFFSETS_BASE: Final = 0x72

#: forms of one size: bytes
_FIXED: Final = {
    **dict.fromkeys((0x19, 0x21), 0),
    **dict.fromkeys((0x0B, 0x0C, 0x11, 0x25, 0x29), 1),
    **dict.fromkeys((0x05, 0x12, 0x26, 0x2A), 2),
    **dict.fromkeys((0x27, 0x2B), 3),
    **dict.fromkeys((0x06, 0x0E, 0x10, 0x13, 0x17, 0x1F, 0x28, 0x2C), 4),
    **dict.fromkeys((0x01, 0x07, 0x14, 0x20), 8),
    0x1E: 16,
}
_ULEB: Final = frozenset((0x0F, 0x15, 0x1A, 0x1B, 0x22, 0x23))
_STRX: Final = frozenset((0x1A, 0x25, 0x26, 0x27, 0x28))
_DEPTH: Final = 64
#: entries looked at to make types, so that damaged references cost bounded time
_BUDGET: Final = 200_000
_BOOLEAN: Final = 2
_SIGNED: Final = frozenset((5, 6, 13))
_FLOAT: Final = 4


class _Unit:
    """A compilation unit: where it starts, its abbreviations, and where its strings and files are."""

    __slots__ = ("abbrevs", "files", "start", "strings")

    def __init__(self, start: int, abbrevs: dict[int, _Abbrev]) -> None:
        self.start = start
        self.abbrevs = abbrevs
        self.strings = 8
        self.files: list[str] = []


class _Abbrev:
    __slots__ = ("children", "rows", "size", "tag")

    def __init__(self, tag: int, children: bool, rows: list[tuple[int, int, int]]) -> None:
        self.tag = tag
        self.children = children
        self.rows = rows
        sizes = [_FIXED.get(form, -1) for _, form, _ in rows]
        #: bytes of the attributes, -1 where that depends on them
        self.size = -1 if -1 in sizes else sum(sizes)


class DebugTypes:
    """The structs and unions of an object's DWARF that its own sources define.

    ``structs`` has (name, where, bytes), those of vmlinux.h and of the system's headers left out; `btf` makes
    types of one. Raises BtfError for damaged or unknown DWARF.
    """

    def __init__(self, elf: Elf) -> None:
        self._path = elf.path
        self.order = elf.order
        self.structs: list[tuple[str, int, int]] = []
        self._units: dict[int, _Unit] = {}
        self._budget = _BUDGET
        self._sections = {
            name: bytes(section.data) if (section := elf.section(f".debug_{name}")) is not None else b""
            for name in ("info", "abbrev", "str", "str_offsets", "line", "line_str")
        }
        self._info = self._sections["info"]
        try:
            self._walk()
        except (struct.error, IndexError, KeyError) as error:
            raise self._damaged() from error

    def _damaged(self, what: str = "ends early, or refers outside itself") -> BtfError:
        return BtfError(f"the debugging information (DWARF) {what}", path=self._path)

    # --- reading -------------------------------------------------------------------------------

    def _uleb(self, data: bytes, at: int) -> tuple[int, int]:
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value, at
            if shift > 70:
                raise self._damaged("has a number without end")

    def _sleb(self, data: bytes, at: int) -> tuple[int, int]:
        value, end = self._uleb(data, at)
        bits = 7 * (end - at)
        return (value - (1 << bits) if value >> (bits - 1) & 1 else value), end

    def _number(self, data: bytes, at: int, size: int) -> int:
        if at + size > len(data):
            raise self._damaged()
        return int.from_bytes(data[at : at + size], "little" if self.order == "<" else "big")

    def _text(self, section: str, at: int) -> str:
        data = self._sections[section]
        end = data.find(b"\0", at)
        if end < 0:
            raise self._damaged("has a name outside its strings")
        return data[at:end].decode("utf-8", "replace")

    def _abbreviations(self, at: int) -> dict[int, _Abbrev]:
        data = self._sections["abbrev"]
        found: dict[int, _Abbrev] = {}
        while True:
            code, at = self._uleb(data, at)
            if not code:
                return found
            tag, at = self._uleb(data, at)
            children = bool(data[at])
            at += 1
            rows = []
            while True:
                name, at = self._uleb(data, at)
                form, at = self._uleb(data, at)
                implicit = 0
                if form == 0x21:
                    implicit, at = self._sleb(data, at)
                if not name and not form:
                    break
                rows.append((name, form, implicit))
            found[code] = _Abbrev(tag, children, rows)

    def _attribute(self, unit: _Unit, data: bytes, form: int, implicit: int, at: int) -> tuple[Any, int]:
        """An attribute's value (None where it is of no use here), and where the next starts."""
        if form == 0x16:  # DW_FORM_indirect
            form, at = self._uleb(data, at)
        size = _FIXED.get(form)
        if form in _ULEB or size is not None:
            number, end = self._uleb(data, at) if size is None else (self._number(data, at, size), at + size)
            if form in _STRX:
                where = self._number(self._sections["str_offsets"], unit.strings + 4 * number, 4)
                return self._text("str", where), end
            if form == 0x0E:
                return self._text("str", number), end
            if form == 0x1F:
                return self._text("line_str", number), end
            if form in (0x11, 0x12, 0x13, 0x14, 0x15):
                return unit.start + number, end
            if form == 0x19:
                return 1, end
            return (implicit if form == 0x21 else number), end
        if form == 0x0D:
            return self._sleb(data, at)
        if form == 0x08:
            end = data.find(b"\0", at)
            if end < 0:
                raise self._damaged()
            return data[at:end].decode("utf-8", "replace"), end + 1
        if form in (0x09, 0x18):
            length, at = self._uleb(data, at)
        elif form in (0x03, 0x04, 0x0A):
            width = {0x0A: 1, 0x03: 2, 0x04: 4}[form]
            length, at = self._number(data, at, width), at + width
        else:
            raise self._damaged(f"has the unknown form {form:#x}")
        return None, at + length

    def _skip(self, unit: _Unit, abbrev: _Abbrev, at: int) -> int:
        if abbrev.size >= 0:
            return at + abbrev.size
        info = self._info
        for _, form, _ in abbrev.rows:
            size = _FIXED.get(form)
            if size is not None:
                at += size
            elif form in _ULEB or form == 0x0D:
                while info[at] & 0x80:
                    at += 1
                at += 1
            else:
                at = self._attribute(unit, info, form, 0, at)[1]
        return at

    def _die(self, unit: _Unit, at: int) -> tuple[int, dict[int, Any], bool, int]:
        """Tag, attributes, whether children follow, and where the next entry starts."""
        code, at = self._uleb(self._info, at)
        if not code:
            return 0, {}, False, at
        abbrev = unit.abbrevs[code]
        found: dict[int, Any] = {}
        for name, form, implicit in abbrev.rows:
            found[name], at = self._attribute(unit, self._info, form, implicit, at)
        return abbrev.tag, found, abbrev.children, at

    # --- what there is -------------------------------------------------------------------------

    def _walk(self) -> None:
        info = self._info
        at = 0
        known: dict[int, dict[int, _Abbrev]] = {}
        while at < len(info):
            length = self._number(info, at, 4)
            version = self._number(info, at + 4, 2)
            end = at + 4 + length
            if length >= 0xFFFFFFF0 or version not in (4, 5) or end > len(info):
                raise self._damaged(f"is of a form not known here (version {version})")
            where = self._number(info, at + (8 if version == 5 else 6), 4)
            if where not in known:
                known[where] = self._abbreviations(where)
            unit = _Unit(at, known[where])
            self._units[at] = unit
            self._entries(unit, at + (12 if version == 5 else 11), end)
            at = end

    def _entries(self, unit: _Unit, at: int, end: int) -> None:
        info = self._info
        first = True
        while at < end:
            start = at
            code, at = self._uleb(info, at)
            if not code:
                continue
            abbrev = unit.abbrevs[code]
            if first:
                first = False
                names = [name for name, _, _ in abbrev.rows]
                if _STR_OFFSETS_BASE in names:  # strings can be read once it is known
                    unit.strings = self._base(unit, abbrev, at)
                _, found, _, at = self._die(unit, start)
                line = found.get(_STMT_LIST)
                unit.files = self._files(unit, line) if isinstance(line, int) else []
            elif abbrev.tag in (_STRUCT, _UNION):
                _, found, _, at = self._die(unit, start)
                name, size = found.get(_NAME), found.get(_BYTE_SIZE)
                if name and size and not found.get(_DECLARATION) and self._is_own(unit, found):
                    self.structs.append((name, start, size))
            else:
                at = self._skip(unit, abbrev, at)

    def _base(self, unit: _Unit, abbrev: _Abbrev, at: int) -> int:
        for name, form, _ in abbrev.rows:
            if name == _STR_OFFSETS_BASE:
                return self._number(self._info, at, _FIXED.get(form, 4))
            size = _FIXED.get(form)
            if size is not None:
                at += size
            elif form in _ULEB:
                at = self._uleb(self._info, at)[1]
            else:
                at = self._attribute(unit, self._info, form, 0, at)[1]
        return unit.strings

    def _is_own(self, unit: _Unit, found: dict[int, Any]) -> bool:
        file = found.get(_DECL_FILE)
        name = unit.files[file] if isinstance(file, int) and file < len(unit.files) else ""
        return not (name.rpartition("/")[2].startswith("vmlinux") or name.startswith("/usr/include/"))

    def _files(self, unit: _Unit, at: int) -> list[str]:
        """The names of a version 5 line table's files; of older ones none."""
        data = self._sections["line"]
        if len(data) < at + 18 or self._number(data, at + 4, 2) != 5:
            return []
        at += 17  # unit length, version, sizes of addresses and segments, header length, five bytes
        at += data[at]
        directories, at = self._names(unit, data, at)
        files, at = self._names(unit, data, at)
        return [
            name if name.startswith("/") or index >= len(directories) else f"{directories[index][0]}/{name}"
            for name, index in files
        ]

    def _names(self, unit: _Unit, data: bytes, at: int) -> tuple[list[tuple[str, int]], int]:
        rows: list[tuple[int, int]] = []
        columns, at = data[at], at + 1
        for _ in range(columns):
            kind, at = self._uleb(data, at)
            form, at = self._uleb(data, at)
            rows.append((kind, form))
        count, at = self._uleb(data, at)
        found: list[tuple[str, int]] = []
        for _ in range(count):
            name, index = "", 0
            start = at
            for kind, form in rows:
                value, at = self._attribute(unit, data, form, 0, at)
                if kind == 1 and isinstance(value, str):
                    name = value
                elif kind == 2 and isinstance(value, int):
                    index = value
            if at == start:
                raise self._damaged("has files without names")
            found.append((name, index))
        return found, at

    # --- making types --------------------------------------------------------------------------

    def btf(self, where: int) -> tuple[Btf, int]:
        """Types that hold the struct at ``where`` (of `structs`), and its id there."""
        try:
            maker = _Maker(self)
            id = maker.type_of(where)
        except (struct.error, IndexError, KeyError, TypeError) as error:
            raise self._damaged() from error
        return maker.builder.btf(), id

    def unit_of(self, where: int) -> _Unit:
        return self._units[max(start for start in self._units if start <= where)]

    def entry(self, where: int) -> tuple[int, dict[int, Any], list[tuple[int, dict[int, Any]]]]:
        """An entry's tag and attributes, and those of its children."""
        unit = self.unit_of(where)
        if not unit.start < where < len(self._info):
            raise self._damaged()
        tag, found, has_children, at = self._die(unit, where)
        self._budget -= 1
        children: list[tuple[int, dict[int, Any]]] = []
        depth = int(has_children)
        while depth:
            child, attributes, deeper, at = self._die(unit, at)
            self._budget -= 1
            if self._budget < 0:
                raise self._damaged("has more types in one than can be told")
            if not child:
                depth -= 1
                continue
            if depth == 1:
                children.append((child, attributes))
            depth += deeper
        return tag, found, children


class _Maker:
    """Makes BTF of entries, those that they refer to included."""

    def __init__(self, debug: DebugTypes) -> None:
        self.debug = debug
        self.builder = BtfBuilder(order=debug.order)
        self.made: dict[int, int] = {}
        self.depth = 0

    def type_of(self, where: int | None) -> int:
        if where is None:
            return 0
        id = self.made.get(where)
        if id is None:
            self.depth += 1
            if self.depth > _DEPTH:
                raise self.debug._damaged("nests types too deep")
            id = self._make(where)
            self.depth -= 1
            self.made[where] = id
        return id

    def _make(self, where: int) -> int:
        tag, found, children = self.debug.entry(where)
        add = self.builder.add
        name = found.get(_NAME) or ""
        size = found.get(_BYTE_SIZE) or 0
        if tag in (_STRUCT, _UNION):
            return self._struct(where, t.Struct if tag == _STRUCT else t.Union, name, size, children)
        if tag == _BASE:
            encoding = found.get(_ENCODING)
            if encoding == _FLOAT:
                return add(t.Float(name, size))
            flags = t.BOOL if encoding == _BOOLEAN else t.SIGNED if encoding in _SIGNED else 0
            return add(t.Int(name, size, flags, 0, 8 * size))
        if tag == _TYPEDEF:
            return add(t.Typedef(name, self.type_of(found.get(_TYPE))))
        if tag in _MODIFIERS:
            return self.type_of(found.get(_TYPE))
        if tag == _ARRAY:
            return self._array(self.type_of(found.get(_TYPE)), children)
        if tag == _ENUM:
            values = [
                t.EnumValue(row.get(_NAME) or "", row.get(_CONST_VALUE) or 0)
                for kind, row in children
                if kind == _ENUMERATOR
            ]
            signed = any(value.value < 0 for value in values)
            return add((t.Enum64 if size == 8 else t.Enum)(name, size or 4, values, signed))
        return add(t.Ptr(0))  # pointers' targets are of no use in a record

    def _struct(
        self,
        where: int,
        kind: type[t.Struct] | type[t.Union],
        name: str,
        size: int,
        children: list[tuple[int, dict[int, Any]]],
    ) -> int:
        id = self.made[where] = self.builder.reserve()
        members = []
        for tag, row in children:
            if tag != _MEMBER:
                continue
            bits = row.get(_BIT_SIZE) or 0
            at = 8 * (row.get(_LOCATION) or 0)
            if _BIT_OFFSET in row:
                at = row[_BIT_OFFSET]
            elif _OLD_BIT_OFFSET in row:  # clang 14: counted from the most significant bit of the unit
                at += row[_OLD_BIT_OFFSET]
                if self.debug.order == "<":
                    at += 8 * (row.get(_BYTE_SIZE) or 0) - bits - 2 * row[_OLD_BIT_OFFSET]
            members.append(t.Member(row.get(_NAME) or "", self.type_of(row.get(_TYPE)), at, bits))
        self.builder[id] = kind(name, size, members)
        return id

    def _array(self, element: int, children: list[tuple[int, dict[int, Any]]]) -> int:
        counts = []
        for tag, row in children:
            if tag == _SUBRANGE:
                count = row.get(_COUNT)
                if count is None:
                    bound = row.get(_UPPER_BOUND)
                    count = bound + 1 if isinstance(bound, int) else 0
                counts.append(count)
        index = self.builder.intern(t.Int("__ARRAY_SIZE_TYPE__", 4, 0, 0, 32))
        for count in reversed(counts):
            element = self.builder.add(t.Array(element, index, count & 0xFFFFFFFF))
        return element
