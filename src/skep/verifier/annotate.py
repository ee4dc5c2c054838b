"""What the check learned of each instruction, for those who compile or run the program.

Collected over every path: a kind is in the set when some path has it, an offset lies between the bounds on
all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from skep.isa import opcodes as op
from skep.verifier import kinds as k
from skep.verifier.ptr import Ptr

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skep.verifier.insn import Insn
    from skep.verifier.state import State
    from skep.verifier.value import Value

_ARGS: Final = (1, 2, 3, 4, 5)


class Operand:
    """A register that an instruction uses, on all paths.

    ``kinds`` are its kinds (with flags, see `kinds`). For pointers ``low`` and ``high`` bound the offset in
    bytes from the start of the object (for the stack: from the frame pointer), ``objects`` are the maps or
    types pointed to, ``aux`` what `Ptr.aux` says. Numbers have no bounds here: states that differ in
    numbers that decided nothing are taken for one, so what was seen of them need not be all.
    """

    __slots__ = ("aux", "high", "kinds", "low", "objects")

    def __init__(self) -> None:
        self.kinds: set[int] = set()
        self.low: int | None = None
        self.high: int | None = None
        self.objects: list[object] = []
        self.aux: set[int] = set()

    def add(self, value: Value) -> None:
        self.kinds.add(value.type)
        if not isinstance(value, Ptr):
            return
        low, high = value.off + value.var.smin, value.off + value.var.smax
        if not any(row is value.obj for row in self.objects):
            self.objects.append(value.obj)
        self.aux.add(value.aux)
        self.low = low if self.low is None else min(self.low, low)
        self.high = high if self.high is None else max(self.high, high)

    @property
    def base(self) -> int:
        """The one base kind (PTR_TO_STACK, SCALAR_VALUE, …), or NOT_INIT where paths differ."""
        bases = {kind & k.BASE_MASK for kind in self.kinds}
        return bases.pop() if len(bases) == 1 else k.NOT_INIT

    def __repr__(self) -> str:
        kinds = ", ".join(sorted(k.kind_name(kind) for kind in self.kinds))
        return f"Operand({kinds} {self.low}..{self.high})"


class Annotation:
    """An instruction: its operands by register number, and where control goes from it.

    A memory access has its pointer as an operand, ALU and jumps the registers they read, a call its
    arguments; ``following`` are the slots that come next on some path.
    """

    __slots__ = ("following", "operands")

    def __init__(self) -> None:
        self.operands: dict[int, Operand] = {}
        self.following: set[int] = set()

    def __repr__(self) -> str:
        return f"Annotation({self.operands}, following={sorted(self.following)})"


class Recorder:
    """Collects annotations while paths are followed. ``slots[pc]`` is None where no path went."""

    __slots__ = ("slots",)

    def __init__(self, count: int) -> None:
        self.slots: list[Annotation | None] = [None] * count

    def edge(self, prev: int, pc: int) -> None:
        """Control goes from one slot to another."""
        if prev >= 0:
            before = self.slots[prev]
            if before is not None:
                before.following.add(pc)

    def reached(self, insns: Sequence[tuple[int, int, int, int, int]]) -> list[bool]:
        """Of each slot, whether a path went there; both slots of a wide load count as one."""
        found = [row is not None for row in self.slots]
        for pc in range(1, len(found)):
            if insns[pc - 1][0] == op.LD_IMM64 and found[pc - 1]:
                found[pc] = True
        return found

    def note(self, insn: Insn, st: State, prev: int) -> None:
        """The instruction is about to be simulated, reached from ``prev``."""
        self.edge(prev, insn.pc)
        row = self.slots[insn.pc]
        if row is None:
            row = self.slots[insn.pc] = Annotation()
        for register in _registers(insn):
            if not insn.live_mask >> register & 1:
                continue  # not read: paths that differ in it count as one, so it was not seen on all
            operand = row.operands.get(register)
            if operand is None:
                operand = row.operands[register] = Operand()
            operand.add(st.regs[register])


def _registers(insn: Insn) -> tuple[int, ...]:
    opcode = insn.opcode
    cls = opcode & op.CLASS_MASK
    if cls == op.BPF_LDX:
        return (insn.src,)
    if cls == op.BPF_ST:
        return (insn.dst,)
    if cls == op.BPF_STX:
        atomic = opcode & op.MODE_MASK == op.BPF_ATOMIC
        return (insn.src,) if atomic and insn.imm == op.BPF_LOAD_ACQ else (insn.dst, insn.src)
    if cls in (op.BPF_ALU, op.BPF_ALU64):
        return (insn.dst, insn.src) if opcode & op.BPF_X else (insn.dst,)
    if opcode == op.CALL:
        return _ARGS
    if opcode == op.EXIT:
        return (0,)
    if cls in (op.BPF_JMP, op.BPF_JMP32) and opcode & op.OP_MASK not in (op.BPF_JA, op.BPF_JCOND):
        return (insn.dst, insn.src) if opcode & op.BPF_X else (insn.dst,)
    return ()
