"""ELF objects, read lazily: the header and the section table at once, everything else when asked for."""

from __future__ import annotations

import os
import struct

from skep.elf import constants as c
from skep.elf.source import file_bytes
from skep.errors import ElfError
from skep.plain import cached_property

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final


_MAGIC: Final = b"\x7fELF"
_LONG_NAME: Final = 1024
_LONG_NAMES: Final = 1 << 20
"""Names longer than the first may overlap in the string table only so far: a few megabytes of file could
otherwise spell out terabytes of names."""


class Section:
    """One row of the section table. Offsets and sizes are in bytes; nothing is checked until it is used."""

    __slots__ = (
        "addr",
        "addralign",
        "elf",
        "entsize",
        "flags",
        "index",
        "info",
        "link",
        "name_offset",
        "offset",
        "size",
        "type",
    )

    def __init__(self, elf: Elf, index: int, row: Sequence[int]) -> None:
        self.elf = elf
        self.index = index
        (
            self.name_offset,
            self.type,
            self.flags,
            self.addr,
            self.offset,
            self.size,
            self.link,
            self.info,
            self.addralign,
            self.entsize,
        ) = row

    @property
    def name(self) -> str:
        """The section's name. Raises ElfError when the name lies outside the section name table."""
        return self.elf.section_name(self)

    @property
    def data(self) -> memoryview:
        """The contents, without a copy; empty for a section that takes no room in the file (``.bss``).

        Raises ElfError when the file ends before the section does, or the contents are compressed.
        """
        return self.elf.section_data(self)

    def __repr__(self) -> str:
        return f"<Section {self.index} {self.elf.describe(self)} type {self.type} size {self.size}>"


class Symbol:
    """One symbol.

    ``section`` is the index of the section it lies in, 0 when undefined, or negative for the reserved
    indices (``SHN_ABS - 0x10000`` for an absolute value); extended indices are already looked up.
    """

    __slots__ = ("bind", "index", "name", "other", "section", "size", "type", "value")

    def __init__(
        self, index: int, name: str, section: int, value: int, size: int, info: int, other: int
    ) -> None:
        self.index = index
        self.name = name
        self.section = section
        self.value = value
        self.size = size
        self.type = info & 15
        self.bind = info >> 4
        self.other = other

    @property
    def visibility(self) -> int:
        """STV_DEFAULT, STV_HIDDEN, …"""
        return self.other & 3

    def __repr__(self) -> str:
        return f"<Symbol {self.index} {self.name!r} section {self.section} value {self.value:#x}>"


class Relocation:
    """One relocation: patch ``offset`` bytes into the target section with symbol number ``symbol``.

    ``addend`` is None where it is stored in the patched bytes (REL).
    """

    __slots__ = ("addend", "offset", "symbol", "type")

    def __init__(self, offset: int, type: int, symbol: int, addend: int | None) -> None:
        self.offset = offset
        self.type = type
        self.symbol = symbol
        self.addend = addend

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Relocation) and (
            (self.offset, self.type, self.symbol, self.addend)
            == (other.offset, other.type, other.symbol, other.addend)
        )

    def __hash__(self) -> int:
        return hash((self.offset, self.type, self.symbol, self.addend))

    def __repr__(self) -> str:
        extra = "" if self.addend is None else f" addend {self.addend:#x}"
        return f"<Relocation at {self.offset:#x} type {self.type} symbol {self.symbol}{extra}>"


class Elf:
    """A 64-bit ELF file of either byte order: a BPF object, a kernel image or a module.

    ``data`` is any buffer; ``path`` only names it in errors. Raises ElfError when the header or the section
    table is damaged; damage elsewhere raises when it is met.
    """

    def __init__(
        self, data: bytes | bytearray | memoryview, *, path: str | os.PathLike[str] | None = None
    ) -> None:
        self.path = None if path is None else os.fspath(path)
        self.raw = memoryview(data).cast("B").toreadonly()
        self._long_names = 0  # bytes of them decoded so far
        self._read_header()
        self._read_sections()

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Elf:
        """Read the file at ``path``. Raises ElfError when it cannot be read or is not a 64-bit ELF file."""
        return cls(file_bytes(path, ElfError), path=path)

    def error(self, reason: str, offset: int | None = None) -> ElfError:
        """An ElfError about this file."""
        return ElfError(reason, path=self.path, offset=offset)

    # --- header and section table --------------------------------------------------------------

    def _read_header(self) -> None:
        raw = self.raw
        if bytes(raw[:4]) != _MAGIC:
            raise self.error("not an ELF file (no \\x7fELF at the start)", 0)
        if len(raw) < 16:
            raise self.error("the file ends inside the ELF header", len(raw))
        if raw[4] != 2:
            raise self.error(f"ELF class {raw[4]}: only 64-bit files (class 2) hold BPF", 4)
        if raw[5] not in (1, 2):
            raise self.error(f"ELF data encoding {raw[5]} is neither little-endian (1) nor big-endian (2)", 5)
        if len(raw) < c.EHDR_SIZE:
            raise self.error("the file ends inside the ELF header", len(raw))
        self.order = "<" if raw[5] == 1 else ">"
        (
            self.ident,
            self.type,
            self.machine,
            version,
            self.entry,
            self.phoff,
            self.shoff,
            self.flags,
            self.ehsize,
            self.phentsize,
            self.phnum,
            self.shentsize,
            self._shnum,
            self._shstrndx,
        ) = struct.unpack_from(self.order + c.EHDR, raw)
        if raw[6] != 1 or version != 1:
            raise self.error(f"ELF version {max(raw[6], version)} is unknown (1 is the only one)", 6)

    def _read_sections(self) -> None:
        self.sections: list[Section] = []
        self.shstrndx = 0
        if self.shoff == 0:
            if self._shnum:
                raise self.error(f"{self._shnum} sections but no section table", 40)
            return
        if self.shentsize != c.SHDR_SIZE:
            raise self.error(f"section headers of {self.shentsize} bytes (64 expected)", 58)
        size = len(self.raw)
        if self.shoff > size - c.SHDR_SIZE:
            raise self.error(f"the section table at {self.shoff:#x} lies beyond the file's {size} bytes", 40)
        row = struct.Struct(self.order + c.SHDR)
        first = row.unpack_from(self.raw, self.shoff)
        count: int = self._shnum or first[5]  # more than 0xfeff sections: the count is section 0's size
        if count > (size - self.shoff) // c.SHDR_SIZE:
            raise self.error(
                f"{count} section headers at {self.shoff:#x} do not fit in the file's {size} bytes", 60
            )
        table = self.raw[self.shoff : self.shoff + count * c.SHDR_SIZE]
        self.sections = [Section(self, index, values) for index, values in enumerate(row.iter_unpack(table))]
        self.shstrndx = first[6] if self._shstrndx == c.SHN_XINDEX else self._shstrndx
        if self.shstrndx >= max(count, 1):
            raise self.error(f"the section name table is section {self.shstrndx}, of {count} in the file", 62)

    # --- sections ------------------------------------------------------------------------------

    def header_offset(self, section: Section) -> int:
        """Byte offset in the file of the section's header."""
        offset: int = self.shoff + section.index * c.SHDR_SIZE
        return offset

    def describe(self, section: Section) -> str:
        """The section's name for a message, or its number where the name cannot be read."""
        try:
            name = self.section_name(section)
        except ElfError:
            name = ""
        return f"section {section.index} ({name})" if name else f"section {section.index}"

    def section_at(self, index: int, what: str, offset: int | None = None) -> Section:
        """Section number ``index``; ``what`` names the reference in the ElfError."""
        if not 0 <= index < len(self.sections):
            raise self.error(f"{what} is section {index}, of {len(self.sections)} in the file", offset)
        return self.sections[index]

    def section(self, name: str) -> Section | None:
        """The first section called ``name``, or None."""
        for section in self.sections:
            if section.name == name:
                return section
        return None

    def section_name(self, section: Section) -> str:
        """See `Section.name`."""
        if self.shstrndx == 0:
            return ""
        return self._string(
            self._section_strings,
            section.name_offset,
            self.sections[self.shstrndx],
            f"section {section.index}'s name",
            self.header_offset(section),
        )

    def section_data(self, section: Section) -> memoryview:
        """See `Section.data`."""
        if section.type in (c.SHT_NOBITS, c.SHT_NULL):
            return self.raw[:0]
        start, size = section.offset, section.size
        if start > len(self.raw) or size > len(self.raw) - start:
            raise self.error(
                f"{self._plain(section)} claims {size} bytes at {start:#x}, the file has {len(self.raw)}",
                self.header_offset(section) + 24,
            )
        if section.flags & c.SHF_COMPRESSED:
            raise self.error(
                f"{self._plain(section)} is compressed: decompress the file first "
                "(objcopy --decompress-debug-sections)",
                start,
            )
        return self.raw[start : start + size]

    def _plain(self, section: Section) -> str:
        """`describe`, but safe while the name table itself is being read."""
        return f"section {section.index}" if section.index == self.shstrndx else self.describe(section)

    @cached_property
    def _section_strings(self) -> bytes:
        return self._strings(self.sections[self.shstrndx])

    def _strings(self, section: Section) -> bytes:
        if section.type != c.SHT_STRTAB:
            raise self.error(
                f"section {section.index} has type {section.type}: a string table (3) is needed",
                self.header_offset(section) + 4,
            )
        return bytes(self.section_data(section))

    def _string(self, table: bytes, start: int, section: Section, what: str, offset: int) -> str:
        end = table.find(b"\0", start)
        if start >= len(table) or end < 0:
            if start == 0:
                return ""
            raise self.error(
                f"{what} at {start:#x} lies outside the string table (section {section.index}, "
                f"{len(table)} bytes)",
                offset,
            )
        if end - start > _LONG_NAME:
            self._long_names += end - start
            if self._long_names > 8 * len(self.raw) + _LONG_NAMES:
                raise self.error(f"{what}: long names that overlap, more than this file can mean", offset)
        return table[start:end].decode("utf-8", "surrogateescape")

    # --- symbols -------------------------------------------------------------------------------

    @cached_property
    def symtab(self) -> Section | None:
        """The symbol table's section, or None."""
        for section in self.sections:
            if section.type == c.SHT_SYMTAB:
                return section
        return None

    @cached_property
    def symbols(self) -> list[Symbol]:
        """Every symbol, the unnamed number 0 included; empty without a symbol table.

        Raises ElfError when the table, a name or a section index is out of range.
        """
        table = self.symtab
        if table is None:
            return []
        data = self._rows(table, c.SYM_SIZE)
        names_in = self.section_at(
            table.link, f"the string table of {self.describe(table)}", self.header_offset(table) + 40
        )
        strings = self._strings(names_in)
        extended = self._extended_indices(table, len(data) // c.SYM_SIZE)
        found: list[Symbol] = []
        count = len(self.sections)
        for index, (name, info, other, shndx, value, size) in enumerate(
            struct.iter_unpack(self.order + c.SYM, data)
        ):
            at = table.offset + index * c.SYM_SIZE
            if shndx < c.SHN_LORESERVE:
                section = shndx
            elif shndx == c.SHN_XINDEX:
                if extended is None:
                    raise self.error(f"symbol {index} needs a .symtab_shndx section and there is none", at)
                section = extended[index]
            else:
                section = shndx - 0x10000
            if section >= count:
                raise self.error(f"symbol {index} lies in section {section}, of {count} in the file", at + 6)
            text = self._string(strings, name, names_in, f"symbol {index}'s name", at) if name else ""
            found.append(Symbol(index, text, section, value, size, info, other))
        return found

    def _extended_indices(self, symtab: Section, count: int) -> Sequence[int] | None:
        for section in self.sections:
            if section.type == c.SHT_SYMTAB_SHNDX and section.link == symtab.index:
                data = self.section_data(section)
                if len(data) < 4 * count:
                    raise self.error(
                        f"{self.describe(section)} has {len(data)} bytes for {count} symbols",
                        self.header_offset(section) + 32,
                    )
                return struct.unpack(f"{self.order}{count}I", data[: 4 * count])
        return None

    def _rows(self, section: Section, row: int) -> memoryview:
        if section.entsize not in (0, row):
            raise self.error(
                f"{self.describe(section)} has entries of {section.entsize} bytes ({row} expected)",
                self.header_offset(section) + 56,
            )
        data = self.section_data(section)
        if len(data) % row:
            raise self.error(
                f"{self.describe(section)} is {len(data)} bytes, no multiple of its {row}-byte entries",
                self.header_offset(section) + 32,
            )
        return data

    # --- relocations ---------------------------------------------------------------------------

    @cached_property
    def _relocation_sections(self) -> dict[int, list[Section]]:
        by_target: dict[int, list[Section]] = {}
        for section in self.sections:
            if section.type in (c.SHT_REL, c.SHT_RELA):
                self.section_at(
                    section.info,
                    f"the target of {self.describe(section)}",
                    self.header_offset(section) + 44,
                )
                by_target.setdefault(section.info, []).append(section)
        return by_target

    def relocations(self, target: Section) -> list[Relocation]:
        """The relocations that patch ``target``, in file order. Raises ElfError for any out of range."""
        found: list[Relocation] = []
        for section in self._relocation_sections.get(target.index, ()):
            found.extend(self.relocation_rows(section))
        return found

    def relocation_rows(self, section: Section) -> list[Relocation]:
        """The rows of one REL or RELA section. Raises ElfError for an offset or symbol out of range."""
        rela = section.type == c.SHT_RELA
        row = c.RELA_SIZE if rela else c.REL_SIZE
        data = self._rows(section, row)
        known = len(self.symbols)
        table = self.symtab
        if data and (table is None or section.link != table.index):
            raise self.error(
                f"{self.describe(section)} names symbols of section {section.link}, which is no symbol table",
                self.header_offset(section) + 40,
            )
        # In a relocatable file offsets count from the target's start; elsewhere they are addresses.
        target = self.sections[section.info] if section.info < len(self.sections) else None
        limit = target.size if target is not None and self.type == c.ET_REL else None
        found: list[Relocation] = []
        for index, values in enumerate(struct.iter_unpack(self.order + (c.RELA if rela else c.REL), data)):
            offset, info = values[0], values[1]
            symbol = info >> 32
            if symbol >= known or (limit is not None and offset >= limit):
                at = section.offset + index * row
                what = (
                    f"names symbol {symbol}, of {known}"
                    if symbol >= known
                    else f"patches byte {offset:#x} of a section of {limit} bytes"
                )
                raise self.error(f"relocation {index} of {self.describe(section)} {what}", at)
            found.append(Relocation(offset, info & 0xFFFFFFFF, symbol, values[2] if rela else None))
        return found
