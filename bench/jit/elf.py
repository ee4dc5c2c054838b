"""The instructions of one function out of an object that clang made for BPF.

Just enough ELF for the kernels of this benchmark: .text, with calls between its functions.
"""

from __future__ import annotations

import struct
from pathlib import Path

from skep.isa import Insn, decode
from skep.isa import opcodes as op

_R_BPF_64_32 = 10


def program(path: Path, symbol: str) -> list[Insn]:
    """The slots of ``symbol`` first, then of whatever it calls; local calls resolved."""
    data = path.read_bytes()
    shoff = struct.unpack_from("<Q", data, 40)[0]
    shnum = struct.unpack_from("<H", data, 60)[0]
    sections = [struct.unpack_from("<IIQQQQIIQQ", data, shoff + 64 * i) for i in range(shnum)]
    symtab = next(section for section in sections if section[1] == 2)
    strings = sections[symtab[6]]

    def name(at: int) -> str:
        start = strings[4] + at
        return data[start : data.index(b"\0", start)].decode()

    symbols = [struct.unpack_from("<IBBHQQ", data, symtab[4] + at) for at in range(0, symtab[5], 24)]
    main = next(entry for entry in symbols if name(entry[0]) == symbol)
    index = main[3]
    code = sections[index]
    insns = decode(data[code[4] : code[4] + code[5]])
    for section in sections:
        if section[1] != 9 or section[7] != index:
            continue
        for at in range(0, section[5], 16):
            offset, info = struct.unpack_from("<QQ", data, section[4] + at)
            target, kind = symbols[info >> 32], info & 0xFFFFFFFF
            pc = offset // 8
            if kind != _R_BPF_64_32 or target[3] != index:
                raise SystemExit(f"{path}: relocation {kind} against {name(target[0])}")
            # The immediate holds (slots into the symbol) - 1; the symbol may be the section.
            goal = target[4] // 8 + insns[pc].imm + 1
            insns[pc] = insns[pc]._replace(imm=goal - pc - 1)
    return _from(insns, main[4] // 8, main[5] // 8)


def _from(insns: list[Insn], start: int, count: int) -> list[Insn]:
    """Move the function at ``start`` to the front."""
    if start == 0:
        return insns
    order = [*range(start, start + count), *range(start), *range(start + count, len(insns))]
    place = {old: new for new, old in enumerate(order)}
    moved = []
    for new, old in enumerate(order):
        insn = insns[old]
        if insn.opcode == op.CALL and insn.src == op.BPF_PSEUDO_CALL:
            insn = insn._replace(imm=place[old + 1 + insn.imm] - new - 1)
        moved.append(insn)
    return moved
