"""What static linking works on: objects that go in, sections and symbols that come out."""

from __future__ import annotations

from skep.btf import Btf, BtfExt
from skep.btf import types as t
from skep.elf import constants as c
from skep.elf.read import Elf, Section, Symbol
from skep.errors import LinkError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final


EXTERN: Final = ".extern"


class OutSection:
    """A section of the result. One without contents (``type`` 0) stands for .kconfig, .ksyms and the like."""

    __slots__ = (
        "align",
        "data",
        "entsize",
        "flags",
        "funcs",
        "has_btf",
        "lines",
        "name",
        "relocations",
        "relos",
        "section_symbol",
        "size",
        "type",
        "variables",
    )

    def __init__(self, name: str) -> None:
        self.name = name
        self.type = self.flags = self.entsize = self.size = 0
        self.align = 1
        self.data = bytearray()
        self.section_symbol: OutSymbol | None = None
        #: (byte, type, symbol)
        self.relocations: list[tuple[int, int, OutSymbol]] = []
        self.has_btf = False
        #: [VAR or FUNC id, offset, size]
        self.variables: list[list[int]] = []
        #: records of .BTF.ext as `skep.btf.ext` has them: (offset, FUNC), (offset, file, text, line, column),
        #: (offset, type, access, kind)
        self.funcs: list[tuple[int, int]] = []
        self.lines: list[tuple[int, str, str, int, int]] = []
        self.relos: list[tuple[int, int, str, int]] = []

    def append(self, section: Section) -> int:
        """Add an object's section of the same name; the byte where it went."""
        if not self.type:
            self.type, self.flags, self.entsize = section.type, section.flags, section.entsize
        self.align = max(self.align, section.addralign, 1)
        at = -(-self.size // self.align) * self.align
        if section.type != c.SHT_NOBITS:
            self.data += bytes(at - self.size)
            self.data += section.data
        self.size = at + section.size
        return at

    @property
    def is_code(self) -> bool:
        return self.type == c.SHT_PROGBITS and bool(self.flags & c.SHF_EXECINSTR)


class OutSymbol:
    """A symbol of the result. ``section``: None undefined, negative a reserved index."""

    __slots__ = ("bind", "name", "other", "section", "size", "type", "value")

    def __init__(self, symbol: Symbol, section: OutSection | int | None, value: int) -> None:
        self.name = symbol.name
        self.section = section
        self.value = value
        self.size = symbol.size
        self.type = symbol.type
        self.bind = symbol.bind
        self.other = symbol.other


class Global:
    """What is known of a name across objects."""

    __slots__ = (
        "btf_id",
        "defined_in",
        "is_extern",
        "is_weak",
        "local_type",
        "needs_type",
        "section",
        "symbol",
        "variable",
    )

    def __init__(self, symbol: OutSymbol, section: OutSection | None, is_extern: bool, where: str) -> None:
        self.symbol = symbol
        #: where BTF puts it: .ksyms for a kernel symbol, which has no section in the ELF sense
        self.section = section
        self.is_extern = is_extern
        self.is_weak = symbol.bind == c.STB_WEAK
        #: the VAR or FUNC in the result's types
        self.btf_id = 0
        #: the object being added gives it its type: ``local_type`` there
        self.needs_type = True
        self.local_type = 0
        #: position in section.variables, -1 before
        self.variable = -1
        self.defined_in = where


class Input:
    """An object to be linked."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.elf = elf = Elf.open(path)
        if elf.machine not in (c.EM_NONE, c.EM_BPF):
            raise elf.error(f"ELF machine {elf.machine}: BPF objects have 247 (or, old ones, 0)", 18)
        if elf.type != c.ET_REL:
            raise elf.error(f"ELF type {elf.type}: a relocatable object (1) is needed", 16)
        self.names = [section.name for section in elf.sections]
        self.btf: Btf | None = None
        self.ext: BtfExt | None = None
        btf, ext = self._find(".BTF"), self._find(".BTF.ext")
        if btf is not None:
            self.btf = Btf(btf.data, path=path, origin=btf.offset)
            self.btf.check()
            if ext is not None:
                self.ext = BtfExt.read(ext.data, self.btf, path=path, origin=ext.offset)
                self._check_records(self.ext, len(self.btf))
        #: section number -> (where it went, at which byte)
        self.placed: dict[int, tuple[OutSection, int]] = {}
        #: sections whose contents another object has already
        self.skipped: set[int] = set()
        self.symbols: dict[int, OutSymbol] = {}
        #: DATASEC id -> the section in the result, and where this object's part of it starts
        self.datasecs: dict[int, tuple[OutSection, int]] = {}
        self.type_map: list[int] = []
        #: name of a global -> (DATASEC or 0, VAR or FUNC)
        self.types_of: dict[str, tuple[int, int]] = {}
        #: VAR id -> its offset where the compiler left that to the symbol table
        self.offsets: dict[int, int] = {}
        if self.btf is not None:
            self._index_types(self.btf)

    def _check_records(self, ext: BtfExt, types: int) -> None:
        named = [row.type for rows in ext.funcs.values() for row in rows]
        named += [row.type for rows in ext.relos.values() for row in rows]
        if max(named, default=0) >= types:
            raise LinkError(f"{self.path}: .BTF.ext names type {max(named)}, of {types - 1}")

    def _find(self, name: str) -> Section | None:
        for index, known in enumerate(self.names):
            if known == name and self.elf.sections[index].size:
                return self.elf.sections[index]
        return None

    def _index_types(self, btf: Btf) -> None:
        free: dict[str, int] = {}
        variables = {
            (symbol.section, symbol.name): symbol.value
            for symbol in self.elf.symbols
            if symbol.type == c.STT_OBJECT
        }
        for id, value in btf.items():
            if isinstance(value, (t.Var, t.Func)) and value.linkage != t.LINKAGE_STATIC:
                free[value.name] = id
            if not isinstance(value, t.DataSec):
                continue
            number = self.names.index(value.name) if value.name in self.names else -1
            for row in value.vars:
                var = btf[row.type]
                if not isinstance(var, (t.Var, t.Func)):
                    btf.fail(id, f"section {value.name} holds {btf.describe(row.type)}")
                if var.linkage == t.LINKAGE_STATIC:
                    continue
                self.types_of.setdefault(var.name, (id, row.type))
                if isinstance(var, t.Var) and var.linkage == t.LINKAGE_GLOBAL:
                    at = variables.get((number, var.name))
                    if at is None:
                        raise LinkError(f"{self.path}: no symbol for variable {var.name!r} of {value.name}")
                    if at > self.elf.sections[number].size:
                        raise LinkError(f"{self.path}: variable {var.name!r} lies outside {value.name}")
                    self.offsets[row.type] = at
        for name, id in free.items():
            self.types_of.setdefault(name, (0, id))


def is_ignored(section: Section, name: str) -> bool:
    """Whether a section is left out: tables that are made anew, debugging for others' debuggers."""
    if section.type in (c.SHT_NULL, c.SHT_STRTAB, c.SHT_SYMTAB, c.SHT_LLVM_ADDRSIG, c.SHT_SYMTAB_SHNDX):
        return True
    if section.type in (c.SHT_GROUP, c.SHT_NOTE):
        return True
    if name in (".BTF", ".BTF.ext", ".eh_frame") or name.startswith(".debug_"):
        return True
    return section.type == c.SHT_PROGBITS and not section.size and name == ".text"
