"""Extended code under construction: instructions, labels, and jumps that find their length themselves.

A 16-bit jump reaches 32,767 slots. A jump that is farther becomes `gotol` (Linux 6.6), a far
conditional jump its opposite over a `gotol`. Only programs that large need it.
"""

from __future__ import annotations

from skep.isa import Insn
from skep.isa.opcodes import (
    BPF_JEQ,
    BPF_JGE,
    BPF_JGT,
    BPF_JLE,
    BPF_JLT,
    BPF_JMP32,
    BPF_JNE,
    EXIT,
    GOTOL,
    JA,
    OP_MASK,
)

_OPPOSITE = {BPF_JEQ: BPF_JNE, BPF_JGT: BPF_JLE, BPF_JGE: BPF_JLT}
_OPPOSITE |= {there: here for here, there in list(_OPPOSITE.items())}


def opposite(opcode: int) -> int | None:
    """The opcode that jumps exactly when ``opcode`` does not, or None (JSET has none)."""
    operation = _OPPOSITE.get(opcode & OP_MASK)
    return None if operation is None else opcode & ~OP_MASK | operation


def signed(word: int) -> int:
    """A 32-bit pattern as the signed immediate that carries it."""
    return word - (1 << 32) if word & 0x80000000 else word


class Code:
    """A growing program. Labels are integers of the caller's choosing."""

    __slots__ = ("_items", "_wanted")

    def __init__(self) -> None:
        # (instruction, None), a jump (instruction without offset, label), or a label (None, label).
        self._items: list[tuple[Insn | None, int | None]] = []
        self._wanted: set[int] = set()

    def op(self, opcode: int, dst: int = 0, src: int = 0, off: int = 0, imm: int = 0) -> None:
        """Append an instruction; ``imm`` may be given as an unsigned 32-bit pattern."""
        self._items.append((Insn(opcode, dst, src, off, signed(imm)), None))

    def jump(self, opcode: int, label: int, dst: int = 0, src: int = 0, imm: int = 0) -> None:
        """Append a jump to ``label``."""
        self._wanted.add(label)
        self._items.append((Insn(opcode, dst, src, 0, signed(imm)), label))

    def goto(self, label: int) -> None:
        """Append an unconditional jump."""
        self.jump(JA, label)

    def exit(self) -> None:
        self.op(EXIT)

    def wants(self, label: int) -> bool:
        """Whether any jump goes to ``label``."""
        return label in self._wanted

    def label(self, label: int) -> None:
        """Define ``label`` here."""
        self._items.append((None, label))

    def assemble(self) -> list[Insn]:
        """The program, every jump resolved with the shortest form that reaches."""
        items = self._drop_jumps_to_next()
        far: set[int] = set()
        while True:
            places, labels = self._layout(items, far)
            grown = {
                index
                for index, (insn, label) in enumerate(items)
                if insn is not None
                and label is not None
                and index not in far
                and not -0x8000 <= labels[label] - places[index] - 1 <= 0x7FFF
            }
            if not grown:
                break
            far |= grown
        out: list[Insn] = []
        for index, (insn, label) in enumerate(items):
            if insn is None:
                continue
            if label is None:
                out.append(insn)
            elif index not in far:
                out.append(insn._replace(off=labels[label] - len(out) - 1))
            else:
                self._far_jump(out, insn, labels[label])
        return out

    @staticmethod
    def _far_jump(out: list[Insn], insn: Insn, target: int) -> None:
        if insn.opcode != JA:
            inverse = opposite(insn.opcode)
            if inverse is not None:
                out.append(insn._replace(opcode=inverse, off=1))
            else:
                out.append(insn._replace(off=1))
                out.append(Insn(JA, off=1))
        out.append(Insn(GOTOL, imm=target - len(out) - 1))

    def _drop_jumps_to_next(self) -> list[tuple[Insn | None, int | None]]:
        kept: list[tuple[Insn | None, int | None]] = []
        following: set[int] = set()  # labels between here and the next instruction
        for item in reversed(self._items):
            insn, label = item
            if insn is None:
                assert label is not None
                following.add(label)
            else:
                if insn.opcode == JA and label in following:
                    continue
                following.clear()
            kept.append(item)
        kept.reverse()
        return kept

    @staticmethod
    def _layout(
        items: list[tuple[Insn | None, int | None]], far: set[int]
    ) -> tuple[list[int], dict[int, int]]:
        places: list[int] = []
        labels: dict[int, int] = {}
        at = 0
        for index, (insn, label) in enumerate(items):
            places.append(at)
            if insn is None:
                assert label is not None
                labels[label] = at
            elif label is None or index not in far or insn.opcode == JA:
                at += 1
            else:
                at += 2 if opposite(insn.opcode) is not None else 3
        return places, labels


#: `opposite` must never be asked about JMP32's unconditional form, which has another meaning there.
assert opposite(GOTOL) is None and GOTOL == BPF_JMP32
