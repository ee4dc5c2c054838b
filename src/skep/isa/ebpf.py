"""Extended BPF instructions as values: one `Insn` for each 8-byte slot.

A program is a sequence of slots, as the kernel, RFC 9669 and every listing number them. The one
two-slot instruction, LD_IMM64, is a slot with opcode 0x18 followed by a slot with opcode 0 that
carries the upper half; `imm64` joins the two, `ld_imm64` makes them. Any bytes whose length is a
multiple of eight decode, and encode to the same bytes again; `validate` says what is not legal.
"""

from __future__ import annotations

import struct
from typing import Literal

from skep.errors import DecodeError
from skep.isa.opcodes import LD_IMM64
from skep.plain import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


ByteOrder = Literal["little", "big"]

SLOT_BYTES = 8
_LITTLE = struct.Struct("<BBhi")
_BIG = struct.Struct(">BBhi")


class Insn(NamedTuple):
    """One 8-byte slot: opcode (u8), registers (4 bits each), offset (s16), immediate (s32)."""

    opcode: int
    dst: int = 0
    src: int = 0
    off: int = 0
    imm: int = 0


def decode(code: bytes | bytearray | memoryview, byteorder: ByteOrder = "little") -> list[Insn]:
    """Slots of ``code``.

    Raises:
        DecodeError: the length is not a multiple of eight.
    """
    if len(code) % SLOT_BYTES:
        raise DecodeError(
            f"a program is a multiple of 8 bytes long, this one has {len(code)}",
            offset=len(code) - len(code) % SLOT_BYTES,
        )
    if byteorder == "little":
        return [Insn(op, regs & 15, regs >> 4, off, imm) for op, regs, off, imm in _LITTLE.iter_unpack(code)]
    return [Insn(op, regs >> 4, regs & 15, off, imm) for op, regs, off, imm in _BIG.iter_unpack(code)]


def encode(insns: Iterable[Insn], byteorder: ByteOrder = "little") -> bytes:
    """Bytes of the slots.

    Raises:
        DecodeError: a field does not fit its bits.
    """
    out = bytearray()
    try:
        if byteorder == "little":
            for op, dst, src, off, imm in insns:
                out += _LITTLE.pack(op, _nibbles(src, dst), off, imm)
        else:
            for op, dst, src, off, imm in insns:
                out += _BIG.pack(op, _nibbles(dst, src), off, imm)
    except (struct.error, ValueError) as error:
        raise DecodeError(f"a field does not fit its bits: {error}", offset=len(out)) from None
    return bytes(out)


def _nibbles(high: int, low: int) -> int:
    if not (0 <= high <= 15 and 0 <= low <= 15):
        raise ValueError(f"register {high if not 0 <= high <= 15 else low}")
    return high << 4 | low


def ld_imm64(dst: int, value: int, src: int = 0) -> tuple[Insn, Insn]:
    """The two slots that load a 64-bit immediate (any integer, taken modulo 2**64)."""
    low, high = value & 0xFFFFFFFF, value >> 32 & 0xFFFFFFFF
    return Insn(LD_IMM64, dst, src, 0, _signed(low)), Insn(0, 0, 0, 0, _signed(high))


def imm64(insns: Sequence[Insn], pc: int) -> int:
    """The unsigned 64-bit immediate of the LD_IMM64 at slot ``pc``."""
    return (insns[pc + 1].imm & 0xFFFFFFFF) << 32 | insns[pc].imm & 0xFFFFFFFF


def _signed(word: int) -> int:
    return word - (1 << 32) if word & 0x80000000 else word
