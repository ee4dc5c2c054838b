"""The kernel-style log.

Level 1 keeps the path that was followed last (the refused one), level 2 every path. An instruction's line
ends with the registers and slots that it read or wrote, as they are after it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from skep.isa import opcodes as op
from skep.isa.ebpf import Insn as Raw
from skep.verifier import kinds as k
from skep.verifier.indirect import GOTOX
from skep.verifier.ptr import Ptr
from skep.verifier.show import state_text

if TYPE_CHECKING:
    from skep.verifier.env import Env
    from skep.verifier.insn import Insn
    from skep.verifier.state import Frame, Slot, State
    from skep.verifier.value import Value

_ALL: Final = 0x7FF
_COLUMN: Final = 40
#: no log grows beyond this (characters); the kernel's ends at the buffer it is given
_LIMIT: Final = 64 << 20


class Printer:
    """Writes ``env.log``; every method is called only when there is a log level."""

    __slots__ = (
        "_depth",
        "_frame",
        "_insn",
        "_line",
        "_places",
        "_regs",
        "_resumed",
        "_size",
        "_slots",
        "_texts",
        "env",
    )

    def __init__(self, env: Env) -> None:
        self.env = env
        self._insn: Insn | None = None
        self._line = -1  # of env.log: the instruction's, whose state is still to come
        self._depth = 0
        self._frame: Frame | None = None
        self._regs: list[Value] = []
        self._slots: list[Slot | None] = []
        self._places: dict[int, int] = {}  # waiting branch -> lines of the log that led to it
        self._texts: list[str] | None = None
        self._size = 0
        self._resumed: tuple[int, str] | None = None  # log's length and the line of the path taken up last

    # --- called by the engine -------------------------------------------------------------------

    def before(self, insn: Insn, prev: int) -> None:
        """An instruction is about to be simulated: what the one before did, and its line."""
        env = self.env
        st = env.state
        self._after(st, insn.pc)
        if prev < 0 and self._insn is None:
            self._write(f"{insn.pc}: {state_text(st, st.frame)}\n")
        self._source(insn.pc)
        self._write(f"{insn.pc}: ({insn.opcode:02x}) {self._text(insn.pc)}\n")
        self._line = len(env.log) - 1
        self._insn = insn
        self._depth = len(st.frames)
        self._frame = st.frame
        self._regs, self._slots = st.regs[:], st.frame.slots[:]

    def pushed(self, branch: State) -> None:
        """A branch waits: with level 1 the log will go on from here when it is taken up."""
        self._places[id(branch)] = len(self.env.log)

    def safe(self, pc: int) -> None:
        """The path joins one that was followed before."""
        self._after(self.env.state, pc)
        log = self.env.log
        if self._resumed and len(log) == self._resumed[0]:  # it has just been taken up
            log[-1] = f"{self._resumed[1]} safe\n"
        else:
            self._write(f"{pc}: safe\n")

    def resume(self, prev: int) -> None:
        """Another path is taken up, at ``env.state.insn``, reached from ``prev``."""
        env = self.env
        st = env.state
        self._finish(None)
        place = self._places.pop(id(st), -1)
        if env.log_level & 2 == 0 and 0 <= place < len(env.log):
            del env.log[place:]
        how = " (speculative execution)" if st.speculative else ""
        start = f"\nfrom {prev} to {st.insn}{how}:"
        before = len(env.log)
        self._write(f"{start} {state_text(st, st.frame)}\n")
        self._resumed = (len(env.log), start) if len(env.log) > before else None

    def line(self, text: str) -> None:
        """A line of its own."""
        self._write(text + "\n")

    def refused(self) -> None:
        """The current instruction is refused: its line stays as it is."""
        self._finish(None)

    # --- parts ----------------------------------------------------------------------------------

    def _write(self, text: str) -> None:
        if self._size < _LIMIT:
            self.env.log.append(text)
            self._size += len(text)

    def _after(self, st: State, pc: int) -> None:
        """End the line of the instruction before with its state."""
        insn = self._insn
        if insn is None or self._line < 0:
            return
        depth = len(st.frames)
        if depth > self._depth:  # a call: both frames
            self._finish(None)
            caller, callee = st.frames[-2], st.frames[-1]
            self._write(f"caller:\n {state_text(st, caller)}\ncallee:\n {state_text(st, callee)}\n")
        elif depth < self._depth:  # a return
            self._finish(None)
            if self._frame is not None:
                self._write(f"returning from callee:\n {state_text(st, self._frame)}\n")
            self._write(f"to caller at {pc}:\n")
            self._write(f" {state_text(st, st.frame)}\n")
            self._write(f"\nfrom {insn.pc} to {pc}: {state_text(st, st.frame)}\n")
        else:
            self._finish(
                state_text(st, st.frame, self._touched(insn, st.frame), self._changed(insn, st.frame))
            )

    def _finish(self, state: str | None) -> None:
        if state and 0 <= self._line < len(self.env.log):
            line = self.env.log[self._line].rstrip("\n")
            self.env.log[self._line] = f"{line:<{_COLUMN - 2}}; {state}\n"
        self._line = -1

    def _touched(self, insn: Insn, frame: Frame) -> int:
        """The registers that an instruction reads or writes, as a mask."""
        kind = insn.opcode & op.CLASS_MASK
        mask = 0
        for n in range(11):
            if frame is self._frame and frame.regs[n] is not self._regs[n]:
                mask |= 1 << n
        if insn.opcode == op.CALL:
            return mask | 1
        if insn.opcode in (op.EXIT, op.JA, op.GOTOL, op.MAY_GOTO):
            return 0
        if kind in (op.BPF_ALU, op.BPF_ALU64, op.BPF_JMP, op.BPF_JMP32):
            mask |= 1 << insn.dst
            if insn.opcode & op.BPF_X and insn.opcode & op.OP_MASK not in (op.BPF_NEG, op.BPF_END):
                mask |= 1 << insn.src
        elif kind == op.BPF_LDX:
            mask |= 1 << insn.dst | 1 << insn.src
        elif kind == op.BPF_ST:
            mask |= 1 << insn.dst
        elif kind == op.BPF_STX:
            mask |= 1 << insn.dst | 1 << insn.src
        elif insn.opcode == op.LD_IMM64:
            mask |= 1 << insn.dst
        else:
            mask |= 1 | 1 << 6  # LD_ABS, LD_IND
        return mask & _ALL

    def _changed(self, insn: Insn, frame: Frame) -> set[int]:
        """The stack slots that an instruction wrote, or read at a constant place."""
        changed = set[int]()
        if frame is self._frame:
            for at, slot in enumerate(frame.slots):
                if at >= len(self._slots) or slot is not self._slots[at]:
                    changed.add(at)
        kind = insn.opcode & op.CLASS_MASK
        base = insn.src if kind == op.BPF_LDX else insn.dst if kind in (op.BPF_ST, op.BPF_STX) else -1
        if base >= 0 and self._regs:
            p = self._regs[base]
            if isinstance(p, Ptr) and p.type == k.PTR_TO_STACK and p.aux == frame.frameno and p.var.const:
                low = p.off + p.var.smin + insn.off
                size = op.SIZE_BYTES[insn.opcode & op.SIZE_MASK]
                changed |= {(-byte - 1) // 8 for byte in range(low, low + size) if byte < 0}
        return changed

    def _text(self, pc: int) -> str:
        """The instruction as the kernel prints it, maps by their names."""
        if self._texts is None:
            self._texts = _listing(self.env)
        return self._texts[pc]

    def _source(self, pc: int) -> None:
        row = self.env.subject.line(pc)
        if row is not None and row.slot == pc:
            name = row.file.rpartition("/")[2]
            self._write(f"; {row.text.strip()} @ {name}:{row.line}\n")


def _listing(env: Env) -> list[str]:
    """A text for every slot."""
    from skep.asm import disassemble

    insns = env.subject.insns
    out = [""] * len(insns)
    pc = 0
    while pc < len(insns):
        wide = insns[pc].opcode == op.LD_IMM64 and pc + 1 < len(insns)
        part: list[Raw] = insns[pc : pc + 2] if wide else insns[pc : pc + 1]
        if wide and part[0].src in (1, 2, 5, 6) and 0 <= part[0].imm < len(env.subject.maps):
            offset = f"[0]+{part[1].imm}" if part[0].src in (2, 6) else ""
            text = f"r{part[0].dst} = map[name:{env.subject.maps[part[0].imm].name}]{offset}"
        elif part[0].opcode == op.CALL and part[0].src == 2:
            facts = env.subject.kfunc(part[0].imm, part[0].off)
            text = f"call {facts.name if facts is not None else 'kernel-function'}#{part[0].imm}"
        elif part[0].opcode == GOTOX:
            text = f"gotox r{part[0].dst}"
        else:
            line = disassemble(part)[0].strip()
            text = line.partition(") ")[2] if line.partition(": (")[1] else line
        out[pc] = text
        pc += 2 if wide else 1
    return out
