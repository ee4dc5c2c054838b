"""x86-64 machine code being written: the few instruction forms that filters need, and labels.

Encodings: Intel SDM, volume 2. Registers are their numbers in encodings; a memory operand is a `Mem`.
"""

from __future__ import annotations

from skep.plain import NamedTuple

RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R9, R10, R11, R12, R13, R14, R15 = range(16)

# Condition codes, as in the opcodes of jcc: unsigned below, not below, equal, not equal, not above, above.
B, AE, E, NE, BE, A = 2, 3, 4, 5, 6, 7

# Opcodes of the form "register, register or memory" unless said otherwise.
ADD, OR, AND, SUB, XOR, CMP, MOV = 0x03, 0x0B, 0x23, 0x2B, 0x33, 0x3B, 0x8B
LEA, STORE, TEST, IMUL = 0x8D, 0x89, 0x85, 0x0FAF
MOVZX_BYTE, MOVZX_HALF, PREFETCH, CMOV_A = 0x0FB6, 0x0FB7, 0x0F18, 0x0F47
#: group 1 with a constant: the operation is in the register field, as are those of groups 2, 3 and 5
GROUP_1, GROUP_1_BYTE, SHIFT, SHIFT_CL, GROUP_3, GROUP_5, STORE_IMM = 0x81, 0x83, 0xC1, 0xD3, 0xF7, 0xFF, 0xC7
CMP_BYTE = 0x80
G_ADD, G_OR, G_AND, G_SUB, G_XOR, G_CMP = 0, 1, 4, 5, 6, 7
G_ROL, G_SHL, G_SHR = 0, 4, 5
G_TEST, G_NEG, G_DIV = 0, 3, 6
G_INC, G_CALL = 0, 2


class Mem(NamedTuple):
    """``[base + plus + disp]``, ``plus`` another register."""

    base: int
    disp: int = 0
    plus: int | None = None


class Code:
    """Bytes and labels. A label is any hashable; `finish` fills the distances in."""

    __slots__ = ("_fixups", "_places", "data")

    def __init__(self) -> None:
        self.data = bytearray()
        self._places: dict[object, int] = {}
        self._fixups: list[tuple[int, object]] = []

    def label(self, name: object) -> None:
        """The next byte is ``name``."""
        self._places[name] = len(self.data)

    def place(self, name: object) -> int:
        """Where a label is."""
        return self._places[name]

    def raw(self, data: bytes) -> None:
        self.data += data

    def align(self, to: int) -> None:
        """Padding that is never executed (int3)."""
        self.data += b"\xcc" * (-len(self.data) % to)

    def jump(self, target: object, condition: int | None = None) -> None:
        """Go to a label, always or on a condition."""
        self.data += b"\xe9" if condition is None else bytes((0x0F, 0x80 | condition))
        self._distance(target)

    def call(self, target: object) -> None:
        self.data.append(0xE8)
        self._distance(target)

    def address(self, reg: int, target: object) -> None:
        """``reg`` = address of a label."""
        self.data += bytes((0x48 | (reg >> 3) << 2, 0x8D, 5 | (reg & 7) << 3))
        self._distance(target)

    def _distance(self, target: object) -> None:
        self._fixups.append((len(self.data), target))
        self.data += bytes(4)

    def push(self, reg: int) -> None:
        self.data += bytes((0x41, 0x50 | reg & 7)) if reg > 7 else bytes((0x50 | reg,))

    def pop(self, reg: int) -> None:
        self.data += bytes((0x41, 0x58 | reg & 7)) if reg > 7 else bytes((0x58 | reg,))

    def ret(self) -> None:
        self.data.append(0xC3)

    def bswap(self, reg: int) -> None:
        """Turn the four bytes of a 32-bit register around."""
        self.data += bytes((0x41, 0x0F, 0xC8 | reg & 7)) if reg > 7 else bytes((0x0F, 0xC8 | reg))

    def constant(self, reg: int, value: int) -> None:
        """A 32-bit constant; the upper half of the register becomes 0. May change the flags."""
        if not value:
            self.op(XOR, reg, reg)
            return
        self.data += bytes((0x41, 0xB8 | reg & 7)) if reg > 7 else bytes((0xB8 | reg,))
        self.data += value.to_bytes(4, "little")

    def group(self, which: int, rm: int | Mem, value: int, *, wide: bool = False) -> None:
        """``rm`` = ``rm`` (operation ``which``) a constant of 32 bits (sign-extended when ``wide``)."""
        signed = value - (1 << 32) if value >= 1 << 31 else value
        if -128 <= signed < 128:
            self.op(GROUP_1_BYTE, which, rm, wide=wide, tail=bytes((signed & 0xFF,)))
        else:
            self.op(GROUP_1, which, rm, wide=wide, tail=(value & 0xFFFFFFFF).to_bytes(4, "little"))

    def op(
        self,
        opcode: int,
        reg: int,
        rm: int | Mem,
        *,
        wide: bool = False,
        prefix: bytes = b"",
        tail: bytes = b"",
    ) -> None:
        """One instruction: ``reg`` (or an extension of the opcode), a register or memory, 32 or 64 bits wide.

        ``prefix`` comes before everything (0x66: 16 bits), ``tail`` is a constant after the operands.
        """
        rex = wide << 3 | (reg >> 3) << 2
        low = (reg & 7) << 3
        if isinstance(rm, int):
            rex |= rm >> 3
            operand = bytes((0xC0 | low | rm & 7,))
        else:
            base, disp, plus = rm
            rex |= base >> 3
            if disp == 0 and base & 7 != RBP:
                mode, number = 0, b""
            elif -128 <= disp < 128:
                mode, number = 0x40, bytes((disp & 0xFF,))
            else:
                mode, number = 0x80, (disp & 0xFFFFFFFF).to_bytes(4, "little")
            if plus is not None:
                rex |= (plus >> 3) << 1
                operand = bytes((mode | low | 4, (plus & 7) << 3 | base & 7)) + number
            elif base & 7 == RSP:
                operand = bytes((mode | low | 4, 0x24)) + number
            else:
                operand = bytes((mode | low | base & 7,)) + number
        data = self.data
        data += prefix
        if rex:
            data.append(0x40 | rex)
        if opcode > 0xFF:
            data.append(opcode >> 8)
        data.append(opcode & 0xFF)
        data += operand
        data += tail

    def finish(self) -> bytes:
        """The code, which runs at any address."""
        data = self.data
        for at, target in self._fixups:
            data[at : at + 4] = (self._places[target] - at - 4).to_bytes(4, "little", signed=True)
        self._fixups.clear()
        return bytes(data)
