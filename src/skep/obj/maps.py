"""Maps declared by BTF: ``SEC(".maps")`` variables whose type says what they are."""

from __future__ import annotations

from skep.btf import types as t
from skep.elf import constants as c
from skep.errors import BtfError, LinkError
from skep.obj.source import Source
from skep.obj.spec import PIN_BY_NAME, PIN_NONE, MapSpec
from skep.uapi.enums import MapType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from skep.btf import Btf
    from skep.btf.graph import TypeGraph

SECTION: Final = ".maps"
_MAPS_OF_MAPS: Final = (MapType.ARRAY_OF_MAPS, MapType.HASH_OF_MAPS)
_NUMBERS: Final = frozenset(
    ("type", "max_entries", "map_flags", "numa_node", "key_size", "value_size", "pinning", "map_extra")
)
_U32: Final = 0xFFFFFFFF
_CILIUM_PIN_REPLACE: Final = 16


def map_type(number: int) -> MapType | int:
    """The type by name where it has one."""
    try:
        return MapType(number)
    except ValueError:
        return number


def collect(source: Source) -> None:
    """Make the maps of ``.maps``. Raises LinkError or BtfError for a declaration that says no map."""
    section = source.section_named(SECTION)
    if section is None or not section.size:
        return
    btf = source.btf
    datasec_id = btf.find(SECTION, t.DATASEC) if btf is not None else None
    if btf is None or datasec_id is None:
        raise LinkError(f"{source.where}: section .maps without BTF that describes it: compile with -g")
    datasec = btf[datasec_id]
    assert isinstance(datasec, t.DataSec)
    edits = source.spec.btf_edits
    spans: list[tuple[int, int, MapSpec, int]] = []
    for row in datasec.vars:
        var = btf[row.type]
        if not isinstance(var, t.Var):
            btf.fail(datasec_id, f"section .maps holds {btf.describe(row.type)}, which is no variable")
        if var.linkage == t.LINKAGE_EXTERN:
            raise LinkError(
                f"{source.where}: map {var.name!r} is extern: link the object that defines it (skep link)"
            )
        offset = edits.offsets.get(row.type, row.offset)
        made, values_at = define(source.where, btf, var.name, var.type)
        made.section = SECTION
        made.btf_id = row.type
        if var.name in source.spec.maps:
            raise LinkError(f"{source.where}: map {var.name!r} is declared twice")
        source.spec.maps[var.name] = made
        if var.linkage == t.LINKAGE_STATIC and not offset:
            offset = _static_offset(source, section.index, var.name, offset)
        source.map_at[section.index, offset] = var.name
        spans.append((offset, offset + (row.size or btf.size_of(var.type)), made, values_at))
    _values(source, section.index, spans)


def _static_offset(source: Source, section: int, name: str, offset: int) -> int:
    for symbol in source.symbols_in.get(section, ()):
        if symbol.name == name:
            return symbol.value
    return offset


def define(where: str, btf: TypeGraph, name: str, type_id: int, depth: int = 0) -> tuple[MapSpec, int]:
    """The map that a struct of this type declares, and the byte where its ``values`` start (-1: none).

    Raises LinkError, naming ``where`` and the map, for a declaration that says no map.
    """

    def wrong(reason: str) -> LinkError:
        return LinkError(f"{where}: map {name!r}: {reason}")

    id = btf.resolve(type_id)
    struct = btf[id]
    if not isinstance(struct, t.Struct):
        raise wrong(f"declared as {btf.describe(id)}: a struct is needed")
    numbers: dict[str, int] = {}
    types = {"key": 0, "value": 0}
    sizes = {"key": 0, "value": 0}
    inner: MapSpec | None = None
    values_at = -1
    for field, member_type, bit_offset, _ in struct.members:
        if field in _NUMBERS:
            number = numbers[field] = _number(btf, member_type, wide=field == "map_extra")
            if field in ("key_size", "value_size"):
                _agree(wrong, sizes, field[:-5], number)
        elif field in types:
            pointer = btf[member_type]
            if not isinstance(pointer, t.Ptr):
                raise wrong(f"{field} is {btf.describe(member_type)}: __type({field}, …) makes a pointer")
            types[field] = pointer.type
            _agree(wrong, sizes, field, btf.size_of(pointer.type))
        elif field == "values":
            kind = numbers.get("type", 0)
            if depth:
                raise wrong("inner maps of inner maps are not supported (by any kernel)")
            values_at = bit_offset // 8
            _agree(wrong, sizes, "value", 4)
            element = btf[btf.resolve(member_type)]
            if not isinstance(element, t.Array):
                raise wrong(f"values is {btf.describe(member_type)}: an array is needed")
            pointer = btf[btf.resolve(element.type)]
            if kind in _MAPS_OF_MAPS and isinstance(pointer, t.Ptr):
                inner, _ = define(where, btf, f"{name}.inner", pointer.type, depth + 1)
            elif kind != MapType.PROG_ARRAY:
                raise wrong("values belongs to maps of maps and program arrays, and comes last")
        else:
            raise wrong(f"unknown attribute {field!r}")
    if not numbers.get("type"):
        raise wrong("no type: __uint(type, BPF_MAP_TYPE_…) is needed")
    pin = numbers.get("pinning", 0)
    if pin and depth:
        raise wrong("an inner map's declaration cannot be pinned")
    made = MapSpec(
        name,
        map_type(numbers["type"]),
        sizes["key"],
        sizes["value"],
        numbers.get("max_entries", 0),
        numbers.get("map_flags", 0),
        key_type_id=types["key"],
        value_type_id=types["value"],
        inner=inner,
        pinning=PIN_NONE if pin in (0, _CILIUM_PIN_REPLACE) else PIN_BY_NAME,
        pin_value=pin,
        numa_node=numbers.get("numa_node"),
        extra=numbers.get("map_extra", 0),
    )
    return made, values_at


def _agree(wrong: type[LinkError] | object, sizes: dict[str, int], field: str, size: int) -> None:
    known = sizes[field]
    if known and known != size:
        assert callable(wrong)
        raise wrong(f"{field} is said to be both {known} and {size} bytes")
    sizes[field] = size


def _number(btf: TypeGraph, type_id: int, *, wide: bool) -> int:
    """``__uint(x, N)`` is a pointer to an array of N; ``__ulong(x, N)`` an enum with one value N."""
    value = btf[btf.resolve(type_id)]
    if isinstance(value, t.Ptr):
        array = btf[value.type]
        if isinstance(array, t.Array):
            return array.nelems
    if wide and isinstance(value, t.Enumeration) and len(value.values) == 1:
        number: int = value.values[0].value
        return number & (1 << 64) - 1
    btf.fail(type_id, f"{btf.describe(type_id)} where __uint(…) makes a pointer to an array")


def _values(source: Source, section: int, spans: list[tuple[int, int, MapSpec, int]]) -> None:
    """Read the relocations of ``.maps``: what goes into each slot of ``values``."""
    for row in source.elf.relocations(source.elf.sections[section]):
        symbol = source.symbols[row.symbol]
        span = next((s for s in spans if s[0] <= row.offset and row.offset + 8 <= s[1] and s[3] >= 0), None)
        if span is None:
            raise source.error(
                section, row.offset, f"a reference to {symbol.name!r} outside any values array"
            )
        start, _, made, values_at = span
        at = row.offset - start - values_at
        if at < 0 or at % 8:
            raise source.error(section, row.offset, f"a reference to {symbol.name!r} between slots")
        offset = symbol.value + (row.addend or 0)
        if made.type in _MAPS_OF_MAPS:
            target = source.map_at.get((symbol.section, offset))
        else:
            function = source.function_at(symbol.section, offset)
            target = function.key if function is not None else None
        if target is None:
            what = "map" if made.type in _MAPS_OF_MAPS else "program"
            raise source.error(section, row.offset, f"map {made.name!r}: {symbol.name!r} is no {what}")
        made.contents[at // 8] = target


def struct_ops(source: Source) -> None:
    """Make a map of each variable in ``.struct_ops`` and ``.struct_ops.link``."""
    for index, section in enumerate(source.elf.sections):
        name = source.names[index].removeprefix("?")
        if name not in (".struct_ops", ".struct_ops.link") or section.type != c.SHT_PROGBITS:
            continue
        btf = source.btf
        if btf is None:
            raise LinkError(f"{source.where}: section {name} without BTF: compile with -g")
        datasec_id = btf.find(source.names[index], t.DATASEC)
        if datasec_id is None:
            raise LinkError(f"{source.where}: BTF does not describe section {source.names[index]}")
        _struct_ops_section(source, btf, index, datasec_id, name)


def _struct_ops_section(source: Source, btf: Btf, index: int, datasec_id: int, name: str) -> None:
    datasec = btf[datasec_id]
    assert isinstance(datasec, t.DataSec)
    contents = bytes(source.elf.sections[index].data)
    spans: list[tuple[int, int, MapSpec]] = []
    for row in datasec.vars:
        var = btf[row.type]
        type_id = btf.resolve(var[2]) if isinstance(var, t.Var) else 0
        struct = btf[type_id]
        if not isinstance(struct, t.Struct) or not struct.name:
            raise LinkError(f"{source.where}: {name}: {btf.describe(row.type)} is of no named struct type")
        start = source.spec.btf_edits.offsets.get(row.type, row.offset)
        end = start + struct.size
        if end > len(contents):
            raise BtfError(f"{var.name!r} ends at {end}, section {name} at {len(contents)}", path=btf.path)
        made = MapSpec(
            var.name,
            MapType.STRUCT_OPS,
            4,
            struct.size,
            1,
            0x2000 if name == ".struct_ops.link" else 0,  # BPF_F_LINK
            value_type_id=type_id,
            data=bytearray(contents[start:end]),
            section=source.names[index],
            btf_id=row.type,
        )
        source.spec.maps[var.name] = made
        source.map_at[index, start] = var.name
        spans.append((start, end, made))
    for relocation in source.elf.relocations(source.elf.sections[index]):
        symbol = source.symbols[relocation.symbol]
        span = next((s for s in spans if s[0] <= relocation.offset < s[1]), None)
        if span is None:
            raise source.error(
                index, relocation.offset, f"a reference to {symbol.name!r} outside any variable"
            )
        start, _, made = span
        function = source.function_at(symbol.section, symbol.value + (relocation.addend or 0))
        if function is None:
            raise source.error(index, relocation.offset, f"{made.name!r}: {symbol.name!r} is no program")
        made.contents[relocation.offset - start] = function.key
