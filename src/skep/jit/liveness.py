"""Which registers are live where, across calls between subprograms.

A subprogram's parameters are the registers live at its start; what it gives back is r0 and those of
r1..r5 that some caller reads after the call (compilers never do, but they hold what the callee left).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from skep.isa import Insn
from skep.isa import opcodes as op
from skep.jit.cfg import BRANCH, BUDGET, EXIT, MAY, TURNS, Function

_ARGUMENTS: Final = 0b111110
_RETURNED: Final = 0b111111


def uses_defs(insn: Insn) -> tuple[int, int]:
    """Masks of the registers that an instruction other than a call within the program reads and writes.

    r10 counts as none: it is a constant of the frame.
    """
    opcode, dst, src, _off, imm = insn
    cls = opcode & 7
    if cls == op.BPF_ALU64 or cls == op.BPF_ALU:
        operation = opcode & 0xF0
        bit = 1 << dst
        if operation == op.BPF_MOV:
            return (1 << src & 0x3FF if opcode & op.BPF_X else 0), bit
        if opcode & op.BPF_X and operation != op.BPF_END:
            return bit | (1 << src & 0x3FF), bit
        return bit, bit
    if cls == op.BPF_LDX:
        return 1 << src & 0x3FF, 1 << dst
    if cls == op.BPF_ST:
        return 1 << dst & 0x3FF, 0
    if cls == op.BPF_STX:
        both = (1 << dst | 1 << src) & 0x3FF
        if opcode & op.MODE_MASK != op.BPF_ATOMIC:
            return both, 0
        if imm == op.BPF_LOAD_ACQ:
            return 1 << src & 0x3FF, 1 << dst
        if imm == op.BPF_CMPXCHG:
            return both | 1, 1
        return both, (1 << src if imm & op.BPF_FETCH else 0)
    if cls == op.BPF_LD:
        if opcode == op.LD_IMM64:
            return 0, 1 << dst
        return (1 << src & 0x3FF if opcode & op.MODE_MASK == op.BPF_IND else 0), 1
    if opcode == op.CALL:
        return _ARGUMENTS, 1
    if opcode == op.CALLX:
        return _ARGUMENTS | (1 << dst & 0x3FF), 1
    if opcode in (op.JA, op.GOTOL, op.MAY_GOTO):
        return 0, 0
    if opcode == op.EXIT:
        return 1, 0
    return (1 << dst | (1 << src if opcode & op.BPF_X else 0)) & 0x3FF, 0


class Liveness:
    """Solves all functions together; fills in ``Function.live`` and ``Function.results``."""

    def __init__(self, insns: Sequence[Insn], functions: dict[int, Function], *, budget: bool) -> None:
        self.insns = insns
        self.functions = functions
        self.budget = budget
        #: (function, block) -> registers written in it
        self.written: dict[tuple[int, int], int] = {}
        changed = True
        while changed:
            changed = False
            for function in functions.values():
                before = function.live.get(function.entry)
                self._solve(function)
                changed |= self._note_results(function) or before != function.live[function.entry]

    def parameters(self, entry: int) -> int:
        """Registers live where the subprogram at ``entry`` starts."""
        function = self.functions[entry]
        return function.live.get(entry, 0)

    def _call(self, pc: int) -> tuple[int, int]:
        """Uses and definitions of the call within the program at slot ``pc``."""
        entry = pc + 1 + self.insns[pc].imm
        callee = self.functions[entry]
        uses = self.parameters(entry) & 0x3FF
        extra = 1 << BUDGET if self.budget else 0
        return uses | extra, callee.results | extra

    def _solve(self, function: Function) -> None:
        insns = self.insns
        local: dict[int, tuple[int, int]] = {}
        pays = self.budget and not function.is_main and function.pays
        exits = function.results | (1 << BUDGET if pays else 0)
        for start in function.order:
            block = function.blocks[start]
            use = define = 0
            for pc in range(start, block.end):
                insn = insns[pc]
                if not insn.opcode:  # the second slot of an immediate
                    continue
                if insn.opcode == op.CALL and insn.src == op.BPF_PSEUDO_CALL:
                    u, d = self._call(pc)
                else:
                    u, d = uses_defs(insn)
                use |= u & ~define
                define |= d
            if block.kind == EXIT:
                use |= exits & ~define
            elif block.kind == BRANCH:
                use |= uses_defs(insns[block.at])[0] & ~define
            elif block.kind == MAY:
                use |= 1 << TURNS & ~define
                define |= 1 << TURNS
            if self.budget and any(t <= block.at for t in block.targets):
                use |= 1 << BUDGET & ~define
                define |= 1 << BUDGET
            local[start] = (use, define)
            self.written[function.entry if not function.is_main else -1, start] = define
        live = dict.fromkeys(function.order, 0)
        work = list(function.order)
        queued = set(work)
        while work:
            start = work.pop()
            queued.discard(start)
            out = 0
            for target in function.blocks[start].targets:
                out |= live[target]
            use, define = local[start]
            new = use | out & ~define
            if new != live[start]:
                live[start] = new
                for pred in function.preds[start]:
                    if pred not in queued:
                        queued.add(pred)
                        work.append(pred)
        function.live = live

    def _note_results(self, function: Function) -> bool:
        """Tell callees which registers are read after their calls; whether that is news to one."""
        if not function.calls:
            return False
        news = False
        for start in function.order:
            block = function.blocks[start]
            live = 0
            for target in block.targets:
                live |= function.live[target]
            if block.kind == EXIT:
                live |= function.results
            elif block.kind == BRANCH:
                live |= uses_defs(self.insns[block.at])[0]
            for pc in range(block.end - 1, start - 1, -1):
                insn = self.insns[pc]
                if insn.opcode == op.CALL and insn.src == op.BPF_PSEUDO_CALL:
                    callee = self.functions[pc + 1 + insn.imm]
                    wanted = callee.results | live & _RETURNED
                    if wanted != callee.results:
                        callee.results = wanted
                        news = True
                    u, d = self._call(pc)
                elif insn.opcode:
                    u, d = uses_defs(insn)
                else:
                    continue
                live = live & ~d | u
        return news
