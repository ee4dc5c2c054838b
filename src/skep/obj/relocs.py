"""References of functions: what ELF relocations, and calls that need none, lead to.

What an instruction refers to follows libbpf's reading of LLVM's relocations (Linux
Documentation/bpf/llvm_reloc.rst): a call goes to symbol + 8 * (imm + 1), a load to symbol + imm.
"""

from __future__ import annotations

import struct
from bisect import bisect_right

from skep.elf import constants as c
from skep.elf.read import Relocation, Symbol
from skep.isa.opcodes import BPF_PSEUDO_CALL, BPF_PSEUDO_FUNC, CALL, LD_IMM64
from skep.obj.source import Function, Source
from skep.obj.spec import Reloc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final


JUMP_TABLES: Final = ".jumptables"
_INSN: Final = struct.Struct("=BBhi")
_CALL: Final = bytes([CALL])
_LOAD: Final = bytes([LD_IMM64])
_NATIVE_LITTLE: Final = struct.pack("=H", 1) == b"\1\0"


def collect(source: Source) -> None:
    """Fill in `SubprogSpec.relocs`. Raises LinkError for a reference that leads nowhere."""
    for index, functions in source.functions.items():
        rows = source.elf.relocations(source.elf.sections[index])
        _section(source, index, functions, rows)


def _section(source: Source, index: int, functions: list[Function], rows: list[Relocation]) -> None:
    code = source.code[index]
    starts = [function.start for function in functions]
    found: dict[int, Reloc] = {}  # by slot of the section
    for row in rows:
        at = row.offset
        if at % 8 or at + 8 > len(code):
            raise source.error(index, at, "a relocation that is not at an instruction")
        opcode, _, _, imm = _INSN.unpack_from(code, at)
        symbol = source.symbols[row.symbol]
        if opcode == CALL:
            found[at // 8] = _call(source, index, at, symbol, row.addend, imm, _source(code, at))
        elif opcode == LD_IMM64 and at + 16 <= len(code):
            if row.addend is None:
                addend = imm
            else:
                addend = row.addend or imm
            found[at // 8] = _load(source, index, at, symbol, addend)
        elif row.type != c.R_BPF_NONE:
            raise source.error(
                index,
                at,
                f"a relocation with {symbol.name!r} of opcode {opcode:#04x}: calls and loads have them",
            )
    for at in _pseudo(code, _CALL, BPF_PSEUDO_CALL):
        if at // 8 not in found:
            imm = _INSN.unpack_from(code, at)[3]
            found[at // 8] = _to_function(source, index, at, index, at + 8 * (imm + 1), "call")
    for at in _pseudo(code, _LOAD, BPF_PSEUDO_FUNC):
        if at // 8 not in found:
            imm = _INSN.unpack_from(code, at)[3]
            found[at // 8] = _to_function(source, index, at, index, at + 8 * (imm + 1), "func")
    if not found:
        return
    specs = source.spec.functions
    for slot in sorted(found):
        number = bisect_right(starts, 8 * slot) - 1
        first = functions[number].start if number >= 0 else -1
        while number >= 0 and functions[number].start == first:  # aliases start together
            function = functions[number]
            if 8 * slot < function.end:
                _, kind, name, offset = found[slot]
                specs[function.key].relocs.append(Reloc(slot - first // 8, kind, name, offset))
            number -= 1


def _source(code: bytes, at: int) -> int:
    """The source register of the instruction at byte ``at``."""
    return code[at + 1] >> 4 if _NATIVE_LITTLE else code[at + 1] & 15


def _pseudo(code: bytes, opcode: bytes, source: int) -> list[int]:
    """Bytes of the instructions with this opcode and source register."""
    opcodes, registers = code[::8], code[1::8]
    wanted = range(source << 4, source + 1 << 4) if _NATIVE_LITTLE else range(source, 256, 16)
    found: list[int] = []
    slot = opcodes.find(opcode)
    while slot >= 0:
        if registers[slot] in wanted:
            found.append(8 * slot)
        slot = opcodes.find(opcode, slot + 1)
    return found


def _call(
    source: Source, index: int, at: int, symbol: Symbol, addend: int | None, imm: int, register: int
) -> Reloc:
    if symbol.section == c.SHN_UNDEF:
        return Reloc(at // 8, "extern_call", _extern(source, index, at, symbol))
    if symbol.section in source.functions:
        offset = 8 * (imm + 1) if addend is None or not addend else addend
        if register == 0 and addend is None:  # a call the compiler did not mark: the symbol alone says where
            offset = 0
        return _to_function(source, index, at, symbol.section, symbol.value + offset, "call")
    raise source.error(index, at, f"calls {_what(source, symbol)}, which is no code")


def _load(source: Source, index: int, at: int, symbol: Symbol, addend: int) -> Reloc:
    section = symbol.section
    if section == c.SHN_UNDEF:
        key = _extern(source, index, at, symbol)
        extern = source.spec.externs[key]
        if extern.kind == "kconfig":
            return Reloc(at // 8, "data", ".kconfig", extern.offset + addend)
        return Reloc(at // 8, "extern", key, addend)
    if section in source.functions:
        return _to_function(source, index, at, section, symbol.value + addend, "func")
    if 0 < section < len(source.names) and source.names[section] == JUMP_TABLES:
        return Reloc(at // 8, "jumptable", _jump_table(source, index, at, symbol), addend)
    name = source.data_maps.get(section)
    if name is not None:
        offset = symbol.value + addend
        data = source.spec.maps[name].data
        if data is not None and not 0 <= offset <= len(data):
            raise source.error(index, at, f"refers to byte {offset:#x} of {name}, which has {len(data):#x}")
        return Reloc(at // 8, "data", name, offset)
    known = source.map_at.get((section, symbol.value + addend)) or source.map_at.get((section, symbol.value))
    if known is not None:
        return Reloc(at // 8, "map", known)
    if section == c.SHN_COMMON - 0x10000:
        raise source.error(
            index, at, f"{symbol.name!r} is a common symbol: initialise it, or compile with -fno-common"
        )
    raise source.error(index, at, f"refers to {_what(source, symbol)}, which is neither map, data nor code")


def _jump_table(source: Source, index: int, at: int, symbol: Symbol) -> str:
    """Note the table that ``symbol`` covers: 8 bytes an entry, byte offsets in the section of the jump."""
    key = f"{symbol.name or JUMP_TABLES}@{symbol.value}"
    data = source.elf.sections[symbol.section].data
    first, size = symbol.value, symbol.size
    if first % 8 or size % 8 or not size or first + size > len(data):
        raise source.error(
            index,
            at,
            f"jump table {symbol.name!r} claims bytes {first:#x} to {first + size:#x} of {len(data):#x}",
        )
    rows = struct.unpack_from(f"{source.elf.order}{size // 8}Q", data, first)
    if any(row % 8 for row in rows):
        raise source.error(index, at, f"jump table {symbol.name!r} has an entry inside an instruction")
    source.spec.jump_tables[key] = tuple(row // 8 for row in rows)
    return key


def _to_function(source: Source, index: int, at: int, section: int, target: int, kind: str) -> Reloc:
    function = source.function_at(section, target)
    if function is None:
        verb = "calls" if kind == "call" else "takes the address of"
        name = source.names[section]
        raise source.error(index, at, f"{verb} byte {target:#x} of {name!r}, where no function starts")
    return Reloc(at // 8, kind, function.key)


def _extern(source: Source, index: int, at: int, symbol: Symbol) -> str:
    key = source.extern_keys.get(symbol.index)
    if key is None:
        raise source.error(index, at, "refers to an undefined symbol without a name")
    return key


def _what(source: Source, symbol: Symbol) -> str:
    where = source.names[symbol.section] if 0 <= symbol.section < len(source.names) else str(symbol.section)
    return f"{symbol.name!r} in section {where!r}" if symbol.name else f"section {where!r}"
