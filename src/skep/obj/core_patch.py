"""Writing an answer into an instruction, or making the instruction invalid where there is none."""

from __future__ import annotations

import struct
from sys import byteorder

from skep.errors import CoreReloError
from skep.isa import opcodes as op
from skep.plain import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final


_INSN: Final = struct.Struct("=BBhi")
_U64: Final = (1 << 64) - 1
_SIZE_CODES: Final = {1: op.BPF_B, 2: op.BPF_H, 4: op.BPF_W, 8: op.BPF_DW}
_CALL_NOTHING: Final = _INSN.pack(op.CALL, 0, 0, 0xBAD2310)  # "bad relo": a helper that there never is


class Patch(NamedTuple):
    """``old`` stands in the instruction where ``validate`` holds, ``new`` goes there.

    ``old_size`` and ``new_size`` are bytes a load or store of the field takes; ``reason`` says why it cannot
    change between them. ``poison``: there is no answer.
    """

    old: int
    new: int
    validate: bool = True
    old_size: int = 0
    new_size: int = 0
    reason: str = ""
    poison: bool = False


POISON: Final = Patch(0, 0, poison=True)


def patch(code: bytearray, slot: int, change: Patch, what: Callable[[], str]) -> str | None:
    """Change the instruction at ``slot``; a reason when it was made invalid instead.

    Raises CoreReloError, naming ``what()``, for an instruction that does not hold what the compiler recorded.
    """
    at = 8 * slot

    def wrong(reason: str) -> CoreReloError:
        return CoreReloError(f"{what()}: {reason}")

    if at + 8 > len(code):
        raise wrong("it lies outside the program")
    opcode, regs, off, imm = _INSN.unpack_from(code, at)
    if opcode == op.LD_IMM64 and at + 16 > len(code):
        raise wrong("half of its instruction lies outside the program")
    if change.poison:
        return _poison(code, at, opcode, "there is no answer")
    kind = opcode & op.CLASS_MASK
    if kind in (op.BPF_ALU, op.BPF_ALU64):
        if opcode & op.BPF_X:
            raise wrong(f"opcode {opcode:#04x} takes no constant")
        _expect(change, imm, wrong)
        _INSN.pack_into(code, at, opcode, regs, off, _signed(change.new & 0xFFFFFFFF))
    elif kind in (op.BPF_LDX, op.BPF_ST, op.BPF_STX):
        _expect(change, off, wrong)
        if change.new > 0x7FFF:
            raise wrong(f"{change.new} does not fit the 16 bits of a load's offset")
        if change.reason:
            return _poison(code, at, opcode, change.reason)
        if change.old_size != change.new_size:
            opcode = _resized(change, opcode, wrong)
        _INSN.pack_into(code, at, opcode, regs, change.new, imm)
    elif opcode == op.LD_IMM64:
        second = _INSN.unpack_from(code, at + 8)
        source = regs >> 4 if byteorder == "little" else regs & 15
        if source or off or second[:3] != (0, 0, 0):
            raise wrong("its 64-bit load is no plain one")
        _expect(change, (second[3] & 0xFFFFFFFF) << 32 | imm & 0xFFFFFFFF, wrong)
        struct.pack_into("=I", code, at + 4, change.new & 0xFFFFFFFF)
        struct.pack_into("=I", code, at + 12, change.new >> 32 & 0xFFFFFFFF)
    else:
        raise wrong(f"opcode {opcode:#04x} takes no relocation")
    return None


def _expect(change: Patch, found: int, wrong: object) -> None:
    if change.validate and found & _U64 != change.old:
        assert callable(wrong)
        raise wrong(f"it holds {found} where the compiler's types give {change.old}")


def _resized(change: Patch, opcode: int, wrong: object) -> int:
    assert callable(wrong)
    size = op.SIZE_BYTES[opcode & op.SIZE_MASK]
    if size != change.old_size:
        raise wrong(f"it loads {size} bytes of a field of {change.old_size}")
    if change.new_size not in _SIZE_CODES:
        raise wrong(f"no load takes the {change.new_size} bytes that the target has there")
    return opcode & ~op.SIZE_MASK | _SIZE_CODES[change.new_size]


def _poison(code: bytearray, at: int, opcode: int, reason: str) -> str:
    code[at : at + 8] = _CALL_NOTHING
    if opcode == op.LD_IMM64:
        code[at + 8 : at + 16] = _CALL_NOTHING
    return reason


def _signed(word: int) -> int:
    return word - (1 << 32) if word >> 31 else word
