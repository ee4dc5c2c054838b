"""ELF objects, written: sections, symbols and relocations in, the bytes of a relocatable file out."""

from __future__ import annotations

import os
import struct

from skep.elf import constants as c
from skep.elf.read import Elf
from skep.errors import ElfError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final


_MAX_ALIGN: Final = 1 << 21
_U32: Final = 0xFFFFFFFF
_U64: Final = 0xFFFFFFFFFFFFFFFF


class _Strings:
    """A string table in the making: every string once, in order of first use."""

    __slots__ = ("_at", "data")

    def __init__(self) -> None:
        self.data = bytearray(b"\0")
        self._at: dict[str, int] = {"": 0}

    def add(self, text: str) -> int:
        at = self._at.get(text)
        if at is None:
            raw = text.encode("utf-8", "surrogateescape")
            if 0 in raw:
                raise ElfError(f"the name {text!r} holds a zero byte")
            at = self._at[text] = len(self.data)
            self.data += raw + b"\0"
        return at


class _Section:
    __slots__ = ("addr", "align", "data", "entsize", "flags", "info", "link", "name", "size", "type")

    def __init__(self, name: str, type: int) -> None:
        self.name = name
        self.type = type
        self.flags = self.addr = self.size = self.link = self.info = self.entsize = 0
        self.align = 1
        self.data: bytes | bytearray | memoryview = b""


class _Symbol:
    __slots__ = ("info", "name", "other", "section", "size", "value")

    def __init__(self, name: str, section: int, value: int, size: int, info: int, other: int) -> None:
        self.name = name
        self.section = section
        self.value = value
        self.size = size
        self.info = info
        self.other = other


class ElfBuilder:
    """Builds a relocatable ELF object.

    Sections are numbered from 1 in the order they are added. The tables (relocations, symbols, strings) are
    made by `build` and come after them. ``order`` is "<" or ">".

        >>> elf = ElfBuilder()
        >>> text = elf.section("socket", program, flags=SHF_ALLOC | SHF_EXECINSTR, align=8)
        >>> elf.symbol("filter", section=text, size=len(program), type=STT_FUNC, bind=STB_GLOBAL)
        >>> elf.write("filter.o")
    """

    def __init__(self, *, order: str = "<", machine: int = c.EM_BPF, flags: int = 0) -> None:
        if order not in ("<", ">"):
            raise ElfError(f"byte order {order!r}: '<' (little-endian) or '>' (big-endian) is needed")
        self.order = order
        self.machine = machine
        self.flags = flags
        self._ident_tail = bytes(9)  # OS ABI, ABI version, padding
        self._sections: list[_Section] = [_Section("", c.SHT_NULL)]
        self._symbols: list[_Symbol] = [_Symbol("", 0, 0, 0, 0, 0)]
        self._relocations: dict[int, list[tuple[int, int, int, int | None]]] = {}
        # Tables that a rebuilt object has at numbers of their own; build() makes the others.
        self._symtab = self._strtab = self._shstrtab = self._shndx = 0
        self._rel_at: dict[int, int] = {}
        self._has_symbols = False
        self._kept = 0

    # --- what goes in --------------------------------------------------------------------------

    def section(
        self,
        name: str,
        data: bytes | bytearray | memoryview = b"",
        *,
        type: int = c.SHT_PROGBITS,
        flags: int = 0,
        align: int = 1,
        entsize: int = 0,
        link: int = 0,
        info: int = 0,
        size: int | None = None,
    ) -> int:
        """Add a section and give its number. ``size`` in bytes is for NOBITS sections, which have no data.

        Raises ElfError for an alignment that is no power of two.
        """
        if not 0 <= align <= _MAX_ALIGN or align & (align - 1):
            raise ElfError(f"section {name!r}: alignment {align} is no power of two up to {_MAX_ALIGN}")
        if size is not None and type != c.SHT_NOBITS:
            raise ElfError(f"section {name!r}: only NOBITS sections take a size, others their data's")
        made = _Section(name, type)
        made.data = data
        made.size = size or 0 if type == c.SHT_NOBITS else len(data)
        made.flags, made.align, made.entsize, made.link, made.info = flags, align, entsize, link, info
        self._sections.append(made)
        return len(self._sections) - 1

    def symbol(
        self,
        name: str = "",
        *,
        section: int = 0,
        value: int = 0,
        size: int = 0,
        type: int = c.STT_NOTYPE,
        bind: int = c.STB_LOCAL,
        visibility: int = c.STV_DEFAULT,
    ) -> int:
        """Add a symbol and give its handle for `relocation`.

        ``section`` is a section's number, 0 for undefined, or negative for a reserved index as in
        `Symbol.section`. The file lists local symbols first, so its numbers may differ from the handles.
        """
        if not (0 <= bind <= 15 and 0 <= type <= 15 and 0 <= visibility <= 255):
            raise ElfError(f"symbol {name!r}: bind, type and visibility do not fit their fields")
        if not (0 <= value <= _U64 and 0 <= size <= _U64):
            raise ElfError(f"symbol {name!r}: value {value} or size {size} is not an unsigned 64-bit number")
        self._has_symbols = True
        self._symbols.append(_Symbol(name, section, value, size, bind << 4 | type, visibility))
        return len(self._symbols) - 1

    def relocation(
        self, section: int, offset: int, type: int, symbol: int, addend: int | None = None
    ) -> None:
        """Patch ``section`` at byte ``offset`` with ``symbol`` (a handle); an ``addend`` makes the row RELA.

        Raises ElfError when a section would mix REL and RELA rows or the offset is outside it.
        """
        if not 0 < section < len(self._sections):
            raise ElfError(f"relocation of section {section}, of {len(self._sections)}")
        if not 0 <= symbol < len(self._symbols):
            raise ElfError(f"relocation with symbol {symbol}, of {len(self._symbols)}")
        target = self._sections[section]
        if not 0 <= offset < target.size:
            raise ElfError(f"relocation at byte {offset:#x} of {target.name!r}, which has {target.size}")
        rows = self._relocations.setdefault(section, [])
        if rows and (rows[0][3] is None) != (addend is None):
            raise ElfError(f"section {target.name!r}: relocations with and without addends do not mix")
        rows.append((offset, type, symbol, addend))

    @classmethod
    def from_elf(cls, elf: Elf) -> ElfBuilder:
        """A builder holding everything of a relocatable ``elf``: same section and symbol numbers.

        Raises ElfError for other types of file, or when any part of it is damaged.
        """
        if elf.type != c.ET_REL:
            raise elf.error(f"ELF type {elf.type}: only relocatable files (1) can be rebuilt", 16)
        self = cls(order=elf.order, machine=elf.machine, flags=elf.flags)
        self._ident_tail = bytes(elf.ident[7:])
        symtab = elf.symtab
        if sum(len(source.data) for source in elf.sections) > len(elf.raw):
            raise elf.error("sections overlap: together they are larger than the file", elf.shoff)
        for source in elf.sections[1:]:
            made = _Section(source.name, source.type)
            if source.addralign > _MAX_ALIGN or source.addralign & (source.addralign - 1):
                raise elf.error(
                    f"{elf.describe(source)}: alignment {source.addralign} is no power of two "
                    f"up to {_MAX_ALIGN}",
                    elf.header_offset(source) + 48,
                )
            made.flags, made.addr, made.align = source.flags, source.addr, source.addralign
            made.entsize, made.link, made.info = source.entsize, source.link, source.info
            made.data, made.size = source.data, source.size
            self._sections.append(made)
            if source.type in (c.SHT_REL, c.SHT_RELA) and source.info not in self._rel_at:
                self._rel_at[source.info] = source.index
        self._shstrtab = elf.shstrndx
        if symtab is not None:
            self._symtab, self._strtab = symtab.index, symtab.link
            for section in elf.sections:
                if section.type == c.SHT_SYMTAB_SHNDX and section.link == symtab.index:
                    self._shndx = section.index
            for symbol in elf.symbols[1:]:
                self._has_symbols = True
                self._symbols.append(
                    _Symbol(
                        symbol.name,
                        symbol.section,
                        symbol.value,
                        symbol.size,
                        symbol.bind << 4 | symbol.type,
                        symbol.other,
                    )
                )
            self._kept = len(self._symbols)
        for target, index in self._rel_at.items():  # a second table for one target stays as it is
            for row in elf.relocation_rows(elf.sections[index]):
                self.relocation(target, row.offset, row.type, row.symbol, row.addend)
        return self

    # --- what comes out ------------------------------------------------------------------------

    def build(self) -> bytes:
        """The object's bytes. Raises ElfError when a value does not fit its field."""
        try:
            return self._build()
        except struct.error as failure:
            raise ElfError(f"a value does not fit its field: {failure}") from None

    def _build(self) -> bytes:
        sections = [*self._sections]
        symtab = strtab = 0
        renumbered: list[int] = []
        if self._has_symbols or self._relocations or self._symtab:
            symtab, strtab, renumbered = self._add_symbols(sections)
        self._add_relocations(sections, symtab, renumbered)
        shstrtab = self._place(sections, self._shstrtab, ".shstrtab", c.SHT_STRTAB)
        # One table may serve both (LLVM writes it so): section names then follow the symbols'.
        shared = shstrtab == strtab and strtab != 0
        strings = self._symbol_strings(self._in_order()[0]) if shared else _Strings()
        names = [strings.add(section.name) for section in sections]
        sections[shstrtab] = table = self._copy(sections[shstrtab])
        table.data, table.size = bytes(strings.data), len(strings.data)
        return self._lay_out(sections, names, shstrtab)

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the object to ``path``: whole or not at all. Raises ElfError when it cannot be written."""
        data = self.build()
        name = os.fspath(path)
        temporary = f"{name}.{os.getpid()}.tmp"
        try:
            try:
                with open(temporary, "wb") as file:
                    file.write(data)
                os.replace(temporary, name)
            except BaseException:
                if os.path.lexists(temporary):
                    os.unlink(temporary)
                raise
        except OSError as failure:
            raise ElfError(f"cannot write: {failure.strerror}", path=name) from None

    @staticmethod
    def _copy(section: _Section) -> _Section:
        made = _Section(section.name, section.type)
        for slot in _Section.__slots__:
            setattr(made, slot, getattr(section, slot))
        return made

    def _place(self, sections: list[_Section], index: int, name: str, type: int) -> int:
        """The number of a table: its own from a rebuilt file, or a new one at the end."""
        if index:
            sections[index] = self._copy(sections[index])
            return index
        sections.append(_Section(name, type))
        return len(sections) - 1

    def _in_order(self) -> tuple[list[_Symbol], int, list[int]]:
        """Symbols as the file lists them (locals first), the number of locals, and handle -> number."""
        if self._kept == len(self._symbols):  # rebuilt: the order stays (libbpf's linker mixes them)
            return self._symbols, self._sections[self._symtab].info, [*range(self._kept)]
        local = [i for i, symbol in enumerate(self._symbols) if symbol.info >> 4 == c.STB_LOCAL]
        others = [i for i, symbol in enumerate(self._symbols) if symbol.info >> 4 != c.STB_LOCAL]
        numbers = [0] * len(self._symbols)
        for number, handle in enumerate(local + others):
            numbers[handle] = number
        return [self._symbols[i] for i in local + others], len(local), numbers

    @staticmethod
    def _symbol_strings(symbols: list[_Symbol]) -> _Strings:
        strings = _Strings()
        for symbol in symbols:
            strings.add(symbol.name)
        return strings

    def _add_symbols(self, sections: list[_Section]) -> tuple[int, int, list[int]]:
        symbols, local, numbers = self._in_order()
        symtab = self._place(sections, self._symtab, ".symtab", c.SHT_SYMTAB)
        strtab = self._place(sections, self._strtab, ".strtab", c.SHT_STRTAB)
        strings = self._symbol_strings(symbols)
        row = struct.Struct(self.order + c.SYM)
        rows: list[bytes] = []
        extended: list[int] = []
        for symbol in symbols:
            index = symbol.section
            if index >= len(self._sections):
                raise ElfError(f"symbol {symbol.name!r} lies in section {index}, of {len(self._sections)}")
            large = index >= c.SHN_LORESERVE
            extended.append(index if large else 0)
            shndx = c.SHN_XINDEX if large else index & 0xFFFF
            rows.append(
                row.pack(
                    strings.add(symbol.name), symbol.info, symbol.other, shndx, symbol.value, symbol.size
                )
            )
        table = sections[symtab]
        table.data = b"".join(rows)
        table.size, table.entsize = len(table.data), c.SYM_SIZE
        table.align = table.align if self._symtab else 8
        table.link, table.info = strtab, local
        sections[strtab].data = bytes(strings.data)
        sections[strtab].size = len(strings.data)
        if any(extended) or self._shndx:
            shndx_at = self._place(sections, self._shndx, ".symtab_shndx", c.SHT_SYMTAB_SHNDX)
            indices = sections[shndx_at]
            indices.data = struct.pack(f"{self.order}{len(extended)}I", *extended)
            indices.size, indices.link, indices.entsize, indices.align = len(indices.data), symtab, 4, 4
        return symtab, strtab, numbers

    def _add_relocations(self, sections: list[_Section], symtab: int, numbers: list[int]) -> None:
        for target, rows in self._relocations.items():
            rela = rows[0][3] is not None
            pack = struct.Struct(self.order + (c.RELA if rela else c.REL)).pack
            name = (".rela" if rela else ".rel") + sections[target].name
            at = self._place(sections, self._rel_at.get(target, 0), name, c.SHT_RELA if rela else c.SHT_REL)
            table = sections[at]
            encoded: list[bytes] = []
            for offset, type, symbol, addend in rows:
                info = numbers[symbol] << 32 | type & _U32
                encoded.append(pack(offset, info) if addend is None else pack(offset, info, addend))
            table.data = b"".join(encoded)
            table.size, table.entsize, table.align = len(table.data), c.RELA_SIZE if rela else c.REL_SIZE, 8
            table.link, table.info = symtab, target
            table.flags |= c.SHF_INFO_LINK if not self._rel_at.get(target) else 0

    def _lay_out(self, sections: list[_Section], names: list[int], shstrtab: int) -> bytes:
        count = len(sections)
        pieces: list[bytes | bytearray | memoryview] = []
        offsets: list[int] = []
        at = c.EHDR_SIZE
        for section in sections:
            align = max(section.align, 1)
            if section.type == c.SHT_NULL:
                offsets.append(0)
                continue
            if section.type == c.SHT_NOBITS:
                offsets.append(-(-at // align) * align)
                continue
            start = -(-at // align) * align
            pieces += [bytes(start - at), section.data]
            offsets.append(start)
            at = start + len(section.data)
        table = -(-at // 8) * 8
        pieces.append(bytes(table - at))
        row = struct.Struct(self.order + c.SHDR)
        for index, (section, name, offset) in enumerate(zip(sections, names, offsets, strict=True)):
            size, link = section.size, section.link
            if index == 0:  # counts that the header's 16 bits cannot hold
                size = count if count >= c.SHN_LORESERVE else 0
                link = shstrtab if shstrtab >= c.SHN_LORESERVE else 0
            pieces.append(
                row.pack(
                    name,
                    section.type,
                    section.flags,
                    section.addr,
                    offset,
                    size,
                    link,
                    section.info,
                    section.align if section.type != c.SHT_NULL else 0,
                    section.entsize,
                )
            )
        header = struct.pack(
            self.order + c.EHDR,
            b"\x7fELF" + bytes((2, 1 if self.order == "<" else 2, 1)) + self._ident_tail,
            c.ET_REL,
            self.machine,
            1,
            0,
            0,
            table,
            self.flags,
            c.EHDR_SIZE,
            0,
            0,
            c.SHDR_SIZE,
            count if count < c.SHN_LORESERVE else 0,
            shstrtab if shstrtab < c.SHN_LORESERVE else c.SHN_XINDEX,
        )
        return b"".join([header, *pieces])
