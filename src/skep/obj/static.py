"""Static linking: several BPF objects made one.

Sections of one name are joined, globals resolved across objects (strong over weak, any definition over a
declaration), types merged and deduplicated, records of functions, lines and relocations moved along. What is
compatible is what libbpf's linker takes (``bpftool gen object``); it also takes objects without BTF, with
addends in their relocations, and with ``e_machine`` 0.
"""

from __future__ import annotations

import os
import struct

from skep.btf import BtfBuilder, BtfExt, FuncInfo, LineInfo, dedup
from skep.btf import CoreRelo as CoreRecord
from skep.btf import types as t
from skep.elf import constants as c
from skep.elf.read import Symbol
from skep.elf.write import ElfBuilder
from skep.errors import LinkError
from skep.isa.opcodes import CALL
from skep.obj.static_match import difference, map_difference
from skep.obj.static_parts import EXTERN, Global, Input, OutSection, OutSymbol, is_ignored

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Final


_ONCE: Final = ("license", "version")


def static_link(paths: Iterable[str | os.PathLike[str]], out: str | os.PathLike[str] | None = None) -> bytes:
    """Link the objects at ``paths`` into one; written to ``out`` if given, whole or not at all.

    Returns the object's bytes. Raises ElfError or BtfError for damaged files, LinkError for objects that do
    not fit: two strong definitions, types of a global that disagree, licenses that differ.
    """
    linker = _Linker()
    for path in paths:
        linker.add(Input(os.fspath(path)))
    elf = linker.finish()
    if out is not None:
        elf.write(out)
    return elf.build()


class _Linker:
    def __init__(self) -> None:
        self.order = ""
        self.sections: dict[str, OutSection] = {}
        self.symbols: list[OutSymbol] = []
        self.globals: dict[str, Global] = {}
        self.btf = BtfBuilder()

    # --- one object ----------------------------------------------------------------------------

    def add(self, part: Input) -> None:
        if not self.order:
            self.order = part.elf.order
            self.btf = BtfBuilder(order=self.order)
        if part.elf.order != self.order:
            raise LinkError(f"{part.path}: of another byte order than the objects before it")
        self._sections(part)
        self._datasecs(part)
        for symbol in part.elf.symbols[1:]:
            self._symbol(part, symbol)
        self._relocations(part)
        if part.btf is not None:
            self._types(part)
            self._variables(part)
            self._records(part)

    def _section(self, name: str) -> OutSection:
        found = self.sections.get(name)
        if found is None:
            found = self.sections[name] = OutSection(name)
        return found

    def _sections(self, part: Input) -> None:
        for index, section in enumerate(part.elf.sections):
            name = part.names[index]
            if is_ignored(section, name) or section.type in (c.SHT_REL, c.SHT_RELA):
                continue
            if section.type not in (c.SHT_PROGBITS, c.SHT_NOBITS):
                raise LinkError(
                    f"{part.path}: section {name!r} has type {section.type}, which cannot be linked"
                )
            made = self._section(name)
            if made.type:
                for field in ("type", "flags", "entsize"):
                    a, b = getattr(made, field), getattr(section, field)
                    if a != b:
                        raise LinkError(
                            f"{part.path}: section {name!r} has {field} {b:#x}, in objects before it {a:#x}"
                        )
                if name in _ONCE:
                    if bytes(section.data) != bytes(made.data):
                        raise LinkError(
                            f"{part.path}: its {name} {_text(section.data)} differs from "
                            f"{_text(made.data)} in objects before it"
                        )
                    part.skipped.add(index)
                    continue
            part.placed[index] = (made, made.append(section))

    def _datasecs(self, part: Input) -> None:
        if part.btf is None:
            return
        for id, value in part.btf.items():
            if not isinstance(value, t.DataSec) or value.name == EXTERN:
                continue
            if value.name not in part.names:  # .kconfig, .ksyms, or .maps of declarations only
                part.datasecs[id] = (self._section(value.name), 0)
                continue
            index = part.names.index(value.name)
            if index in part.placed:
                part.datasecs[id] = part.placed[index]

    # --- symbols -------------------------------------------------------------------------------

    def _symbol(self, part: Input, symbol: Symbol) -> None:
        index = symbol.section
        section: OutSection | None = None
        base = 0
        if index == c.SHN_COMMON - 0x10000:
            raise LinkError(f"{part.path}: {symbol.name!r} is a common symbol: compile with -fno-common")
        if index > 0:
            if index not in part.placed:  # of a section left out
                return
            section, base = part.placed[index]
            if symbol.type == c.STT_SECTION and section.section_symbol is not None:
                part.symbols[symbol.index] = section.section_symbol
                return
        if symbol.bind != c.STB_LOCAL:
            self._global(part, symbol, section, base)
            return
        made = OutSymbol(symbol, section if index >= 0 else index, base + symbol.value)
        if symbol.type == c.STT_SECTION and section is not None:
            section.section_symbol = made
            made.value = 0
        self.symbols.append(made)
        part.symbols[symbol.index] = made

    def _global(self, part: Input, symbol: Symbol, section: OutSection | None, base: int) -> None:
        name = symbol.name
        is_extern = symbol.section == c.SHN_UNDEF
        datasec, btf_id = part.types_of.get(name, (0, 0))
        home = section
        if is_extern and datasec in part.datasecs:
            home = part.datasecs[datasec][0]
        known = self.globals.get(name)
        if known is None:
            made = OutSymbol(symbol, section if symbol.section >= 0 else symbol.section, base + symbol.value)
            self.symbols.append(made)
            part.symbols[symbol.index] = made
            self.globals[name] = Global(made, home, is_extern, part.path)
            return
        part.symbols[symbol.index] = target = known.symbol
        weak = symbol.bind == c.STB_WEAK
        if not is_extern and not known.is_extern and not known.is_weak and not weak:
            raise LinkError(f"{name!r} is defined in {known.defined_in} and in {part.path}: make one __weak")
        self._agree(part, known, name, btf_id)
        if not weak:
            target.bind = c.STB_GLOBAL
            known.is_weak = False
        if symbol.visibility > target.other & 3:
            target.other = target.other & ~3 | symbol.visibility
        if is_extern or (not known.is_extern and weak):
            return
        target.type = symbol.type
        target.section = section if symbol.section >= 0 else symbol.section
        target.value = base + symbol.value
        target.size = symbol.size
        known.section = home
        known.is_extern = False
        known.defined_in = part.path
        if known.btf_id and btf_id and part.btf is not None:
            self._complete(part, known, btf_id)
        known.needs_type = True

    def _agree(self, part: Input, known: Global, name: str, btf_id: int) -> None:
        if part.btf is None or not known.btf_id or not btf_id:
            return  # without types nobody can tell
        if known.section is not None and known.section.name == ".maps":
            where = (known.defined_in, part.path)
            found = map_difference(name, self.btf, known.btf_id, part.btf, btf_id, where)
        else:
            found = difference(self.btf, known.btf_id, part.btf, btf_id)
        if found:
            raise LinkError(
                f"{name!r} in {part.path} does not agree with that in {known.defined_in}: {found}"
            )

    def _complete(self, part: Input, known: Global, btf_id: int) -> None:
        """A declaration got its definition: its type says so, and has the parameters' names."""
        assert part.btf is not None
        value = self.btf[known.btf_id]
        if isinstance(value, t.Var):
            self.btf[known.btf_id] = t.Var(value.name, value.type, t.LINKAGE_GLOBAL)
            return
        self.btf[known.btf_id] = t.Func(value.name, value[2], t.LINKAGE_GLOBAL)
        ours, theirs = self.btf[value[2]], part.btf[part.btf[btf_id][2]]
        if isinstance(ours, t.FuncProto) and isinstance(theirs, t.FuncProto):
            pairs = zip(ours.params, theirs.params, strict=True)
            params = [t.Param(b[0] or a[0], a[1]) for a, b in pairs]
            self.btf[value[2]] = t.FuncProto(ours.type, params)

    # --- relocations ---------------------------------------------------------------------------

    def _relocations(self, part: Input) -> None:
        known = part.elf.symbols
        for index, (section, base) in part.placed.items():
            for row in part.elf.relocations(part.elf.sections[index]):
                symbol = known[row.symbol]
                target = part.symbols.get(symbol.index)
                where = f"{part.path}: section {section.name!r} byte {row.offset:#x}"
                if target is None:
                    raise LinkError(f"{where}: refers to {symbol.name!r} in a section that is left out")
                at = base + row.offset
                if row.addend:
                    self._fold(section, at, row.addend, where)
                if symbol.type == c.STT_SECTION:
                    self._shift(section, at, part.placed[symbol.section][1], where)
                section.relocations.append((at, row.type, target))

    def _fold(self, section: OutSection, at: int, addend: int, where: str) -> None:
        """Put a relocation's addend where relocations without one have it."""
        if not section.is_code or at + 8 > len(section.data):
            raise LinkError(f"{where}: an addend in data cannot be linked")
        self._put(section, at, addend // 8 - 1 if section.data[at] == CALL else addend, where)

    def _shift(self, section: OutSection, at: int, moved: int, where: str) -> None:
        """A reference to a section's start: that start moved."""
        if not section.is_code or at + 8 > len(section.data):
            raise LinkError(f"{where}: data that refers to a section rather than a symbol cannot be linked")
        (imm,) = struct.unpack_from(self.order + "i", section.data, at + 4)
        self._put(section, at, imm + (moved // 8 if section.data[at] == CALL else moved), where)

    def _put(self, section: OutSection, at: int, imm: int, where: str) -> None:
        if not -(1 << 31) <= imm < 1 << 31:
            raise LinkError(f"{where}: the reference becomes {imm:#x}, more than an instruction's 32 bits")
        struct.pack_into(self.order + "i", section.data, at + 4, imm)

    # --- types ---------------------------------------------------------------------------------

    def _types(self, part: Input) -> None:
        btf = part.btf
        assert btf is not None
        mapped = part.type_map = [0] * len(btf)
        added: list[t.Type] = []
        following = len(self.btf)
        for id, value in btf.items():
            if isinstance(value, t.DataSec):
                continue
            known: Global | None = None
            if isinstance(value, (t.Var, t.Func)) and value.linkage != t.LINKAGE_STATIC:
                known = self.globals.get(value.name)
                if known is None:  # of a section that another object has already
                    continue
                if known.needs_type:
                    known.needs_type = False
                    known.local_type = value.type
                if known.btf_id:
                    mapped[id] = known.btf_id
                    continue
                known.btf_id = following + len(added)
                known.local_type = value.type
            elif value[0] == t.DECL_TAG and not mapped[value[2]] and _is_dropped(btf[value[2]]):
                continue
            mapped[id] = following + len(added)
            added.append(value)
        for value in added:
            self.btf.add(t.with_references(value, mapped))
        for known in self.globals.values():
            if known.local_type:
                value = self.btf[known.btf_id]
                made = t.Var if isinstance(value, t.Var) else t.Func
                self.btf[known.btf_id] = made(value.name, mapped[known.local_type], value[3])
                known.local_type = 0

    def _variables(self, part: Input) -> None:
        assert part.btf is not None
        for datasec, (section, base) in part.datasecs.items():
            section.has_btf = True
            for type_id, offset, size in part.btf[datasec][3]:
                id = part.type_map[type_id]
                if not id:
                    continue
                offset = part.offsets.get(type_id, offset)
                value = self.btf[id]
                known = self.globals.get(value.name) if value[3] != t.LINKAGE_STATIC else None
                if known is not None:
                    if known.section is not section:
                        there = known.section.name if known.section is not None else EXTERN
                        raise LinkError(
                            f"{part.path}: {value.name!r} belongs to section {section.name}, "
                            f"in {known.defined_in} to {there}"
                        )
                    if known.variable >= 0:
                        row = section.variables[known.variable]
                        if value[0] == t.VAR:
                            row[2] = self.btf.size_of(value[2])
                        if not known.is_extern and known.defined_in == part.path:
                            row[1] = known.symbol.value
                        continue
                    known.variable = len(section.variables)
                section.variables.append([id, base + offset, size])

    def _records(self, part: Input) -> None:
        ext = part.ext
        if ext is None:
            return
        mapped = part.type_map

        def place(name: str) -> tuple[OutSection, int]:
            found = part.placed.get(part.names.index(name)) if name in part.names else None
            if found is None:
                raise LinkError(f"{part.path}: .BTF.ext speaks of section {name!r}, which is not there")
            return found

        for name, funcs in ext.funcs.items():
            section, base = place(name)
            section.funcs += [(at + base, mapped[id]) for at, id in funcs]
        for name, lines in ext.lines.items():
            section, base = place(name)
            section.lines += [(row[0] + base, row[1], row[2], row[3], row[4]) for row in lines]
        for name, relos in ext.relos.items():
            section, base = place(name)
            section.relos += [(row[0] + base, mapped[row[1]], row[2], row[3]) for row in relos]

    # --- the result ----------------------------------------------------------------------------

    def finish(self) -> ElfBuilder:
        if not self.order:
            raise LinkError("no objects to link")
        elf = ElfBuilder(order=self.order)
        numbers: dict[OutSection, int] = {}
        for section in self.sections.values():
            if section.type:
                nobits = section.type == c.SHT_NOBITS
                numbers[section] = elf.section(
                    section.name,
                    b"" if nobits else section.data,
                    type=section.type,
                    flags=section.flags,
                    align=section.align,
                    entsize=section.entsize,
                    size=section.size if nobits else None,
                )
        handles = {symbol: self._emit(elf, symbol, numbers) for symbol in self.symbols}
        for section, number in numbers.items():
            for at, type, symbol in section.relocations:
                elf.relocation(number, at, type, handles[symbol])
        if len(self.btf) > 1:
            self._finish_types(elf)
        return elf

    def _emit(self, elf: ElfBuilder, symbol: OutSymbol, numbers: dict[OutSection, int]) -> int:
        section = symbol.section
        number = section if isinstance(section, int) else numbers[section] if section is not None else 0
        return elf.symbol(
            symbol.name,
            section=number,
            value=symbol.value,
            size=symbol.size,
            type=symbol.type,
            bind=symbol.bind,
            visibility=symbol.other,
        )

    def _finish_types(self, elf: ElfBuilder) -> None:
        for section in self.sections.values():
            if section.has_btf:
                rows = [t.SectionVar(*row) for row in section.variables]
                self.btf.add(t.DataSec(section.name, section.size, rows))
        merged, ids = dedup(self.btf)
        with_records = [s for s in self.sections.values() if s.funcs or s.lines or s.relos]
        encoded = b""
        if with_records:
            ext = BtfExt(
                {s.name: [FuncInfo(at, ids[id]) for at, id in s.funcs] for s in with_records if s.funcs},
                {s.name: [LineInfo(*row) for row in s.lines] for s in with_records if s.lines},
                {
                    s.name: [CoreRecord(row[0], ids[row[1]], row[2], row[3]) for row in s.relos]
                    for s in with_records
                    if s.relos
                },
                order=self.order,
            )
            encoded = ext.encode(merged.strings)
        elf.section(".BTF", merged.build(), align=8)
        if encoded:
            elf.section(".BTF.ext", encoded, align=8)


def _is_dropped(value: t.Type) -> bool:
    """Whether a type that was not mapped is a global of a section left out."""
    return isinstance(value, (t.Var, t.Func)) and value.linkage != t.LINKAGE_STATIC


def _text(data: bytes | bytearray | memoryview) -> str:
    return repr(bytes(data).rstrip(b"\0").decode("utf-8", "replace"))
