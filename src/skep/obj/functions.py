"""Which functions an object has: by their symbols, or where symbols say little, by what is there.

libbpf takes symbols of type FUNC only. Assemblers and other compilers leave NOTYPE labels, or nothing but the
section's own symbol; those are functions here too.
"""

from __future__ import annotations

from bisect import bisect_right

from skep.elf import constants as c
from skep.elf.read import Section, Symbol
from skep.obj.ext import between
from skep.obj.sections import lookup
from skep.obj.source import NATIVE, Function, Source
from skep.obj.spec import SubprogSpec

_DATA_PREFIXES = (
    ".data",
    ".rodata",
    ".bss",
    ".maps",
    ".struct_ops",
    "?.struct_ops",
    ".debug",
    ".BTF",
    ".rel",
)


def is_code(section: Section, name: str) -> bool:
    """Whether a section holds instructions."""
    if section.type != c.SHT_PROGBITS or not section.size:
        return False
    if section.flags & c.SHF_EXECINSTR:
        return True
    # Old objects made without the flag: known program sections are still programs.
    return (
        not section.flags & c.SHF_WRITE
        and section.size % 8 == 0
        and not name.startswith(_DATA_PREFIXES)
        and lookup(name) is not None
    )


def collect(source: Source) -> None:
    """Fill in the functions of every section of instructions. Raises ElfError for symbols out of range."""
    taken: set[str] = set()
    for index, section in enumerate(source.elf.sections):
        name = source.names[index]
        if not is_code(section, name):
            continue
        data = bytes(section.data)
        if len(data) % 8:
            raise source.elf.error(
                f"{source.elf.describe(section)}: {len(data)} bytes, no multiple of the 8 of an instruction",
                section.offset,
            )
        if source.elf.order != NATIVE:
            from skep.isa import decode, encode

            data = encode(decode(data, "big"), "little") if NATIVE == "<" else encode(decode(data), "big")
        source.code[index] = data
        functions = _functions(source, section, name)
        for function in functions:
            function.key = _unique(function.name, name, taken)
        source.functions[index] = functions
        for function in functions:
            source.spec.functions[function.key] = _subprog(source, function, name, data)


def _unique(name: str, section: str, taken: set[str]) -> str:
    """A key for a function: its name, with the section's when two static ones share it."""
    key = name
    number = 1
    while key in taken:
        number += 1
        key = f"{name}@{section}" if number == 2 else f"{name}@{section}#{number}"
    taken.add(key)
    return key


def _subprog(source: Source, function: Function, section: str, data: bytes) -> SubprogSpec:
    start, end = function.start, function.end
    made = SubprogSpec(
        function.key,
        section,
        start // 8,
        data[start:end],
        is_global=function.is_global,
        is_weak=function.is_weak,
    )
    if source.ext is not None:
        funcs = between(source.ext.funcs.get(section, []), start, start + 1)
        made.btf_id = funcs[0][1] if funcs else 0
        made.line_infos = between(source.ext.lines.get(section, []), start, end)
        made.core_relos = between(source.ext.relos.get(section, []), start, end)
    return made


def _functions(source: Source, section: Section, name: str) -> list[Function]:
    symbols = source.symbols_in.get(section.index, [])
    chosen = [symbol for symbol in symbols if symbol.type == c.STT_FUNC]
    known = {symbol.value for symbol in chosen}
    chosen += [
        symbol
        for symbol in symbols
        if symbol.type == c.STT_NOTYPE
        and symbol.bind != c.STB_LOCAL
        and symbol.name
        and symbol.value not in known
        and symbol.value < section.size
    ]
    if not chosen:
        chosen = [
            symbol
            for symbol in symbols
            if symbol.type == c.STT_NOTYPE
            and symbol.name
            and not symbol.name.startswith((".L", "LBB", "L."))
            and symbol.value < section.size
        ]
    chosen.sort(key=lambda symbol: (symbol.value, symbol.bind == c.STB_LOCAL, -symbol.size))
    starts = sorted({symbol.value for symbol in chosen} | {section.size})
    found: list[Function] = []
    if starts[0] > 0:  # nothing names the beginning but the section's own symbol
        found.append(Function(_name_of(name), 0, starts[0], bind=c.STB_GLOBAL, visibility=0, is_func=False))
    for symbol in chosen:
        end = symbol.value + symbol.size
        if not symbol.size and symbol.value < section.size:
            end = starts[bisect_right(starts, symbol.value)]
        _check(source, section, symbol, end)
        found.append(
            Function(
                symbol.name or _name_of(name),
                symbol.value,
                end,
                bind=symbol.bind,
                visibility=symbol.visibility,
                is_func=symbol.type == c.STT_FUNC,
            )
        )
    return found


def _check(source: Source, section: Section, symbol: Symbol, end: int) -> None:
    if symbol.value % 8 or end % 8 or end > section.size or symbol.value >= section.size:
        raise source.elf.error(
            f"{source.elf.describe(section)}: function {symbol.name!r} claims bytes {symbol.value:#x} to "
            f"{end:#x} of {section.size:#x}",
            section.offset,
        )


def _name_of(section: str) -> str:
    """A function's name made of its section's."""
    last = section.removeprefix("?").strip(".").rsplit("/", 1)[-1] or section
    return "".join(char if char.isalnum() or char in "_." else "_" for char in last) or "main"
