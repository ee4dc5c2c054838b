"""Maps of before BTF: arrays of structs in ``SEC("maps")``.

Every loader had a struct of its own; its size tells which:

    16  type, key_size, value_size, max_entries
    20  … and map_flags (libbpf before 1.0)
    28  … and inner_map_idx, numa_node (the kernel's samples), or id, pinning (iproute2 before 2017)
    36  … and id, pinning, inner_id, inner_idx (iproute2's bpf_elf_map)
   280  the first four, then pinning after the flags, and a name space of 256 bytes (gobpf)
"""

from __future__ import annotations

import struct

from skep.elf import constants as c
from skep.elf.read import Section, Symbol
from skep.errors import LinkError
from skep.obj.maps import map_type
from skep.obj.source import Source
from skep.obj.spec import PIN_BY_NAME, PIN_NONE, MapSpec
from skep.uapi.enums import MapType
from skep.uapi.flags import BPF_F_NUMA_NODE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final


_OF_MAPS: Final = (MapType.ARRAY_OF_MAPS, MapType.HASH_OF_MAPS)
_GOBPF: Final = 280
_IPROUTE2: Final = 36
_SAMPLES: Final = 28


class _Row:
    """One definition: its spec, and the numbers by which others refer to it."""

    __slots__ = ("id", "inner_id", "inner_idx", "made", "sample_inner")

    def __init__(self, made: MapSpec) -> None:
        self.made = made
        self.id = 0
        self.inner_id = 0
        self.inner_idx = -1
        #: position of the inner map among the definitions, of the kernel's samples
        self.sample_inner: int | None = None


def collect(source: Source) -> dict[int, str]:
    """Make the maps of ``maps`` sections; returns iproute2's ids of program arrays, with their names."""
    rows: list[_Row] = []
    for index, section in enumerate(source.elf.sections):
        name = source.names[index]
        if (name == "maps" or name.startswith("maps/")) and section.type == c.SHT_PROGBITS and section.size:
            rows += _section(source, section)
    _inner_maps(source, rows)
    return {row.id: row.made.name for row in rows if row.id and row.made.type == MapType.PROG_ARRAY}


def _section(source: Source, section: Section) -> list[_Row]:
    symbols = [
        symbol
        for symbol in source.symbols_in.get(section.index, [])
        if symbol.name and symbol.type in (c.STT_NOTYPE, c.STT_OBJECT)
    ]
    symbols = sorted({symbol.value: symbol for symbol in reversed(symbols)}.values(), key=lambda s: s.value)
    if not symbols:
        raise LinkError(
            f"{source.where}: section {source.names[section.index]!r} without symbols for its maps"
        )
    if symbols[-1].value >= section.size:
        raise source.elf.error(f"map {symbols[-1].name!r} lies outside its section", section.offset)
    data = section.data
    order = source.elf.order
    ends = [symbol.value for symbol in symbols[1:]] + [section.size]
    return [
        _row(source, section, symbol, bytes(data[symbol.value : end]), order)
        for symbol, end in zip(symbols, ends, strict=True)
    ]


def _row(source: Source, section: Section, symbol: Symbol, data: bytes, order: str) -> _Row:
    size = symbol.size or len(data)
    if size > len(data) or size < 16 or size % 4:
        raise source.error(
            section.index,
            symbol.value,
            f"map {symbol.name!r} is defined in {size} bytes: 16, 20, 28 and 36 are known",
        )
    words = struct.unpack_from(f"{order}{min(size, _IPROUTE2) // 4}I", data)
    type, key, value, entries = words[:4]
    flags = words[4] if size >= 20 else 0
    made = MapSpec(symbol.name, map_type(type), key, value, entries, flags, section="maps")
    row = _Row(made)
    pin = 0
    if size == _GOBPF:
        pin = words[5] & 0xFF
    elif size == _SAMPLES and (type in _OF_MAPS or flags & BPF_F_NUMA_NODE):
        row.sample_inner = words[5] if type in _OF_MAPS else None
        made.numa_node = words[6] if flags & BPF_F_NUMA_NODE else None
    elif size in (_SAMPLES, _IPROUTE2):
        row.id, pin = words[5], words[6]
        if size == _IPROUTE2:
            row.inner_id, row.inner_idx = words[7], words[8] - (1 << 32 if words[8] >> 31 else 0)
    elif any(data[20:size]):
        raise source.error(
            section.index,
            symbol.value,
            f"map {symbol.name!r}: the meaning of a {size}-byte definition is unknown",
        )
    made.pinning = PIN_BY_NAME if pin else PIN_NONE
    made.pin_value = pin
    name = symbol.name
    if name in source.spec.maps:
        raise LinkError(f"{source.where}: map {name!r} is declared twice")
    source.spec.maps[name] = made
    source.map_at[section.index, symbol.value] = name
    return row


def _inner_maps(source: Source, rows: list[_Row]) -> None:
    """Find the templates of maps of maps, and what starts out in them (``inner_idx``)."""
    for row in rows:
        if row.made.type not in _OF_MAPS:
            continue
        inner: _Row | None = None
        if row.sample_inner is not None:
            if row.sample_inner < len(rows):
                inner = rows[row.sample_inner]
        elif row.inner_id:
            inner = next((other for other in rows if other.id == row.inner_id and other is not row), None)
            for other in rows:
                if other.id == row.inner_id and other is not row and other.inner_idx >= 0:
                    row.made.contents[other.inner_idx] = other.made.name
        if inner is None:
            if row.inner_id or row.sample_inner is not None:
                raise LinkError(f"{source.where}: map {row.made.name!r}: there is no inner map of its number")
            continue
        row.made.inner = inner.made
