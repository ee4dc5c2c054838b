"""What pasted listings carry besides instructions: headings, slot numbers, raw bytes.

llvm-objdump's text leaves some fields out (which kind of call it is, the displacement of LD_IND); the raw
bytes beside the text have them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from skep.isa import decode
from skep.isa import opcodes as op
from skep.isa.ebpf import ByteOrder, Insn

SLOT_NUMBER: Final = re.compile(r"\s*\d+:(?=\s)")
RAW_BYTES: Final = re.compile(
    r"\s*((?:[0-9a-f]{2} ){7}[0-9a-f]{2}(?: (?:[0-9a-f]{2} ){7}[0-9a-f]{2})?)(?=\s|$)"
)
OPCODE: Final = re.compile(r"\s*\(([0-9a-f]{2})\)\s")
SYMBOL: Final = re.compile(r"\s*(?:[0-9a-fA-F]{1,16} )?<([\w.$@]+)>:\s*$")
RELOCATION: Final = re.compile(r"\s*[0-9a-f]{8,16}:\s+(R_BPF_\w+)\s*(\S*)")
_HEADING: Final = re.compile(r".*:\s+file format \S+\s*$|Disassembly of section \S.*:\s*$")


def is_heading(line: str) -> bool:
    """Whether a line is llvm-objdump's ``NAME: file format …`` or ``Disassembly of section NAME:``."""
    return _HEADING.match(line) is not None


def complete(insns: list[Insn], lines: Sequence[tuple[int, str]]) -> None:
    """Take what a listing's text leaves out from the raw bytes of its lines, each (first slot, hex digits).

    The bytes may be of either order; most lines tell which. Where a line's bytes say something else than its
    text, the text counts: it was edited, and the bytes were not.
    """
    orders: tuple[ByteOrder, ...] = ("little", "big")
    readings = [[(at, decode(bytes.fromhex(digits), order)) for at, digits in lines] for order in orders]
    agreeing = [
        [(at, slots) for at, slots in reading if _blanked(slots) == _blanked(insns[at : at + len(slots)])]
        for reading in readings
    ]
    for at, slots in max(agreeing, key=len):
        insns[at : at + len(slots)] = slots


_INCOMPLETE: Final = {op.CALL, op.LD_IMM64} | {op.BPF_LD | op.BPF_IND | size for size in (0, 8, 16)}


def _blanked(insns: Sequence[Insn]) -> list[Insn]:
    """The slots without the fields that LLVM's text leaves out."""
    if not insns or insns[0].opcode not in _INCOMPLETE:
        return list(insns)
    first = insns[0]
    if first.opcode == op.CALL:
        return [first._replace(src=0, off=0)]
    if first.opcode == op.LD_IMM64:
        return [first, insns[1]._replace(imm=0)] if first.src and len(insns) > 1 else list(insns)
    return [first._replace(imm=0)]


def raw_bytes(text: str) -> str | None:
    """The hex digits of a whole pasted listing, or None if ``text`` is none.

    A listing has raw bytes after the slot number in every line that has a slot number.
    """
    digits: list[str] = []
    for line in text.splitlines():
        number = SLOT_NUMBER.match(line)
        if number is None:
            continue
        raw = RAW_BYTES.match(line, number.end())
        if raw is None:
            return None
        digits.append(raw.group(1))
    return " ".join(digits) if digits else None
