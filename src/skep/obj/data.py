"""Global data: a map for each of .data, .rodata, .bss and those of the user's naming."""

from __future__ import annotations

from skep.btf import types as t
from skep.elf import constants as c
from skep.elf.read import Section
from skep.errors import ElfError, LinkError
from skep.obj.externs import KCONFIG, KSYMS, kernel_name
from skep.obj.source import Source
from skep.obj.spec import ARENA, MapSpec
from skep.uapi.enums import MapType
from skep.uapi.flags import BPF_F_MMAPABLE, BPF_F_RDONLY_PROG

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final


_MAX_BSS: Final = 1 << 30


def collect(source: Source) -> None:
    """Make the maps of global data and note what BTF must say of them."""
    for index, section in enumerate(source.elf.sections):
        name = source.names[index]
        if name == ARENA and section.size and section.type in (c.SHT_PROGBITS, c.SHT_NOBITS):
            _arena(source, section)
        elif section.type == c.SHT_PROGBITS and section.size and not section.flags & c.SHF_EXECINSTR:
            if name in (".data", ".rodata") or name.startswith((".data.", ".rodata.")):
                _add(source, section, name, bytearray(section.data))
        elif section.type == c.SHT_NOBITS and (name == ".bss" or name.startswith(".bss.")) and section.size:
            if section.size > _MAX_BSS:
                raise _too_large(source, section)
            _add(source, section, name, bytearray(section.size))


def _too_large(source: Source, section: Section) -> ElfError:
    return source.elf.error(
        f"{source.elf.describe(section)}: {section.size} bytes of data",
        source.elf.header_offset(section) + 32,
    )


def _arena(source: Source, section: Section) -> None:
    """Global variables in an arena's address space: they live in the object's one arena."""
    arenas = [spec for spec in source.spec.maps.values() if spec.type == MapType.ARENA]
    if len(arenas) != 1:
        raise LinkError(
            f"{source.where}: section {ARENA}: global variables in an arena need one map of type "
            f"BPF_MAP_TYPE_ARENA, the object has {len(arenas) or 'none'}"
        )
    arena = arenas[0]
    if section.size > _MAX_BSS:
        raise _too_large(source, section)
    if section.size > arena.max_entries << 12:
        raise LinkError(
            f"{source.where}: map {arena.name}: {arena.max_entries} pages are too few for the "
            f"{section.size} bytes of global variables in {ARENA}"
        )
    arena.data = bytearray(section.size) if section.type == c.SHT_NOBITS else bytearray(section.data)
    source.data_maps[section.index] = arena.name


def _add(source: Source, section: Section, name: str, data: bytearray) -> None:
    maps = source.spec.maps
    key = name
    number = 1
    while key in maps:  # sections of the same name, told apart by their number
        number += 1
        key = f"{name}#{number}"
    datasec = 0
    flags = BPF_F_RDONLY_PROG if name.startswith(".rodata") else 0
    if source.btf is not None:
        datasec = source.btf.find(name, t.DATASEC) or 0
        if datasec and _shared(source, datasec):
            flags |= BPF_F_MMAPABLE
    maps[key] = MapSpec(
        key,
        MapType.ARRAY,
        4,
        len(data),
        1,
        flags,
        value_type_id=datasec,
        data=data,
        section=name,
        btf_id=datasec,
        kernel_name=kernel_name(source.spec.name, name),
    )
    source.data_maps[section.index] = key


def _shared(source: Source, datasec: int) -> bool:
    """Whether user space is meant to map the data: some variable of it is not static."""
    btf, edits = source.btf, source.spec.btf_edits
    assert btf is not None
    value = btf[datasec]
    assert isinstance(value, t.DataSec)
    for row in value.vars:
        var = btf[row.type]
        if isinstance(var, t.Var) and edits.linkages.get(row.type, var.linkage) != t.LINKAGE_STATIC:
            return True
    return False


def note_layout(source: Source) -> None:
    """Note sizes and offsets of sections that compilers leave as zero in BTF, and what is hidden."""
    btf = source.btf
    if btf is None:
        return
    edits = source.spec.btf_edits
    sizes = {name: source.elf.sections[index].size for index, name in enumerate(source.names)}
    variables = {
        symbol.name: symbol
        for symbol in source.symbols
        if symbol.bind != c.STB_LOCAL and symbol.type == c.STT_OBJECT
    }
    for id in sorted({id for name in sizes for id in (btf.ids_named(name) if name else ())}):
        value = btf[id]
        if not isinstance(value, t.DataSec) or value.name in (KCONFIG, KSYMS):
            continue
        unset = value.size == 0
        if unset:
            edits.sizes[id] = sizes[value.name]
        for row in value.vars:
            var = btf[row.type]
            if not isinstance(var, t.Var):
                btf.fail(id, f"section {value.name} holds {btf.describe(row.type)}, which is no variable")
            if var.linkage != t.LINKAGE_GLOBAL:
                continue
            symbol = variables.get(var.name)
            if symbol is None:
                raise LinkError(f"{source.where}: no symbol for variable {var.name!r} of {value.name}")
            if symbol.value > min(sizes[value.name], 0xFFFFFFFF):
                raise LinkError(
                    f"{source.where}: {var.name!r} lies at {symbol.value:#x}, section {value.name} has "
                    f"{sizes[value.name]:#x} bytes"
                )
            if unset:
                edits.offsets[row.type] = symbol.value
            if symbol.visibility in (c.STV_HIDDEN, c.STV_INTERNAL):
                edits.linkages[row.type] = t.LINKAGE_STATIC
    for functions in source.functions.values():
        for function in functions:
            if function.is_hidden:
                made = source.spec.functions[function.key]
                if made.btf_id:
                    edits.linkages[made.btf_id] = t.LINKAGE_STATIC
