"""What each register points into, as far as the code itself shows.

A value is a plain integer, or an offset into a region: `ctx`, the frames that the program's
subprograms share (AREA), or the function's own frame. Keeping region and offset apart lets an access be
checked with one comparison and lets LLVM see what may overlap. Where two paths disagree a value
becomes an integer again.

Forward data flow over all functions until nothing changes; kinds only ever fall towards INT.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from skep.isa import Insn
from skep.isa import opcodes as op
from skep.jit.cfg import REGISTERS, Function

INT: Final = 0
CTX: Final = 1
AREA: Final = 2
FRAME: Final = 3  # own frame, offset not known: counted from r10
_CONST: Final = 1 << 24  # own frame at a known offset c from r10: kind _CONST + c
_LIMIT: Final = 1 << 20

Kinds = list[int]

_ADD64_K: Final = op.BPF_ALU64 | op.BPF_ADD | op.BPF_K
_ADD64_X: Final = op.BPF_ALU64 | op.BPF_ADD | op.BPF_X
_SUB64_K: Final = op.BPF_ALU64 | op.BPF_SUB | op.BPF_K
_SUB64_X: Final = op.BPF_ALU64 | op.BPF_SUB | op.BPF_X
_MOV64_X: Final = op.BPF_ALU64 | op.BPF_MOV | op.BPF_X


def frame_at(offset: int) -> int:
    """The kind of a pointer ``offset`` bytes from r10."""
    return _CONST + offset if -_LIMIT < offset < _LIMIT else FRAME


def is_frame(kind: int) -> bool:
    """Points into the function's own frame."""
    return kind >= FRAME


def is_fixed(kind: int) -> bool:
    """Points at a known offset of the function's own frame."""
    return kind > FRAME


def fixed_offset(kind: int) -> int:
    """That offset, from r10."""
    return kind - _CONST


def region(kind: int) -> int:
    """INT, CTX, AREA or FRAME."""
    return kind if kind < FRAME else FRAME


def moved(kind: int, by: int | None) -> int:
    """The kind of a pointer after adding ``by`` (None: an unknown number)."""
    if kind > FRAME:
        return FRAME if by is None else frame_at(kind - _CONST + by)
    return kind


class Analysis:
    """Kinds at the start of every block of every function, and which frames others can see."""

    def __init__(self, insns: Sequence[Insn], functions: dict[int, Function]) -> None:
        self.insns = insns
        self.functions = functions
        #: function key -> block -> kinds of r0..r9, right where they are live
        self.at: dict[int, dict[int, Kinds]] = {key: {} for key in functions}
        self.parameters: dict[int, Kinds] = {}
        #: functions whose frame's address gets out of their own loads and stores
        self.escapes: set[int] = set()
        self._entries: set[int] = set()
        start = [INT] * REGISTERS
        start[1] = CTX
        self._enter(-1, start)
        self._run()

    def _run(self) -> None:
        while self._entries:
            key = self._entries.pop()
            self._solve(key)

    def _enter(self, key: int, kinds: Kinds) -> None:
        """Join ``kinds`` into the parameters of a function; solve it (again) if they change."""
        function = self.functions[key]
        live = function.live[function.entry]
        have = self.parameters.get(key)
        if have is None:
            self.parameters[key] = list(kinds)
            self._entries.add(key)
            return
        for reg in range(10):
            if live >> reg & 1 and have[reg] != kinds[reg] and have[reg] != INT:
                have[reg] = INT
                self._entries.add(key)

    def _solve(self, key: int) -> None:
        function = self.functions[key]
        at = self.at[key]
        at.clear()
        at[function.entry] = self.parameters[key]
        work = {function.entry}
        if not function.headers:
            for start in function.order:
                self._block(key, function, at, start, work)
            return
        position = {start: index for index, start in enumerate(function.order)}
        while work:
            start = min(work, key=position.__getitem__)
            work.discard(start)
            self._block(key, function, at, start, work)

    def _block(self, key: int, function: Function, at: dict[int, Kinds], start: int, work: set[int]) -> None:
        kinds = list(at[start])
        block = function.blocks[start]
        insns = self.insns
        transfer = self.transfer
        for pc in range(start, block.end):
            transfer(key, pc, insns[pc], kinds)
        if block.targets and block.at >= block.end:
            self._compared(key, insns[block.at], kinds)
        elif not block.targets and is_frame(kinds[0]):
            self.escapes.add(key)
        for target in block.targets:
            have = at.get(target)
            if have is None:
                at[target] = list(kinds)
                work.add(target)
                continue
            live = function.live[target]
            for reg, kind in enumerate(have):
                new = kinds[reg]
                if kind == new or not live >> reg & 1:
                    continue
                if kind == INT:
                    if is_frame(new):
                        self.escapes.add(key)
                    continue
                if is_frame(kind) and is_frame(new):
                    if kind != FRAME:
                        have[reg] = FRAME
                        work.add(target)
                    continue
                if is_frame(kind) or is_frame(new):
                    self.escapes.add(key)
                have[reg] = INT
                work.add(target)

    def _compared(self, key: int, insn: Insn, kinds: Kinds) -> None:
        cls = insn.opcode & 7
        operation = insn.opcode & op.OP_MASK
        if cls not in (op.BPF_JMP, op.BPF_JMP32) or operation in (op.BPF_JA, op.BPF_JCOND):
            return
        a = self.kind(kinds, insn.dst)
        b = self.kind(kinds, insn.src) if insn.opcode & op.BPF_X else INT
        if (is_frame(a) or is_frame(b)) and not comparable(insn, a, b):
            self.escapes.add(key)

    @staticmethod
    def kind(kinds: Kinds, reg: int) -> int:
        """The kind of r0..r10."""
        return _CONST if reg == 10 else kinds[reg]

    def transfer(self, key: int, pc: int, insn: Insn, kinds: Kinds) -> None:
        """What one instruction (no jump) does to ``kinds``; notes frames that escape by it."""
        opcode, dst, src, off, imm = insn
        cls = opcode & 7
        if cls == op.BPF_ALU64:
            have = self.kind(kinds, dst)
            if opcode == _MOV64_X and off == 0:
                kinds[dst] = self.kind(kinds, src)
                return
            other = self.kind(kinds, src) if opcode & op.BPF_X else INT
            if have == INT and other == INT:
                return
            operation = opcode & op.OP_MASK
            if operation == op.BPF_MOV:
                if is_frame(other):  # movsx
                    self.escapes.add(key)
                kinds[dst] = INT
                return
            if opcode == _ADD64_K:
                kinds[dst] = moved(have, imm)
                return
            if opcode == _SUB64_K:
                kinds[dst] = moved(have, -imm)
                return
            if opcode == _ADD64_X and (have == INT or other == INT):
                kinds[dst] = moved(have or other, None)
                return
            if opcode == _SUB64_X and other == INT:
                kinds[dst] = moved(have, None)
                return
            if opcode == _SUB64_X and region(have) == region(other):
                kinds[dst] = INT
                return
            if is_frame(have) or (is_frame(other) and operation not in (op.BPF_NEG, op.BPF_END)):
                self.escapes.add(key)
            kinds[dst] = INT
        elif cls == op.BPF_ALU:
            operation = opcode & op.OP_MASK
            reads_src = opcode & op.BPF_X and operation != op.BPF_END
            if (reads_src and is_frame(self.kind(kinds, src))) or (
                operation != op.BPF_MOV and is_frame(self.kind(kinds, dst))
            ):
                self.escapes.add(key)
            kinds[dst] = INT
        elif cls == op.BPF_LDX:
            kinds[dst] = INT
        elif cls == op.BPF_STX:
            self._store(key, insn, kinds)
        elif opcode == op.CALL or opcode == op.CALLX:
            self._called(key, pc, insn, kinds)
        elif opcode == op.LD_IMM64:
            kinds[dst] = INT
        elif cls == op.BPF_LD and opcode:
            if opcode & op.MODE_MASK == op.BPF_IND and is_frame(self.kind(kinds, src)):
                self.escapes.add(key)
            kinds[0] = INT

    def _store(self, key: int, insn: Insn, kinds: Kinds) -> None:
        opcode, dst, src, _, imm = insn
        value = self.kind(kinds, src)
        if opcode & op.MODE_MASK == op.BPF_ATOMIC:
            if imm == op.BPF_LOAD_ACQ:
                kinds[dst] = INT
                return
            if is_frame(value) or (imm == op.BPF_CMPXCHG and is_frame(kinds[0])):
                self.escapes.add(key)
            if imm == op.BPF_CMPXCHG:
                kinds[0] = INT
            elif imm & op.BPF_FETCH and imm != op.BPF_STORE_REL:
                kinds[src] = INT
            return
        if is_frame(value):
            self.escapes.add(key)

    def _called(self, key: int, pc: int, insn: Insn, kinds: Kinds) -> None:
        opcode, dst, src, _, imm = insn
        if opcode == op.CALL and src == op.BPF_PSEUDO_CALL:
            entry = pc + 1 + imm
            callee = self.functions[entry]
            live = callee.live[entry]
            passed = [INT] * REGISTERS
            for reg in range(10):
                if live >> reg & 1:
                    kind = kinds[reg]
                    if is_frame(kind):
                        self.escapes.add(key)
                        kind = AREA
                    passed[reg] = kind
            self._enter(entry, passed)
            for reg in range(6):
                kinds[reg] = INT
            return
        if any(is_frame(kinds[reg]) for reg in range(1, 6)) or (
            opcode == op.CALLX and is_frame(self.kind(kinds, dst))
        ):
            self.escapes.add(key)
        kinds[0] = INT


def comparable(insn: Insn, a: int, b: int) -> bool:
    """Whether a jump may compare the offsets of pointers of kinds ``a`` and ``b`` instead of addresses.

    Unsigned order of addresses is then the signed order of offsets, as if the region's start had
    the address 2**63.
    """
    if insn.opcode & 7 != op.BPF_JMP or not insn.opcode & op.BPF_X:
        return False
    if a == INT or region(a) != region(b):
        return False
    return insn.opcode & op.OP_MASK in (
        op.BPF_JEQ,
        op.BPF_JNE,
        op.BPF_JGT,
        op.BPF_JGE,
        op.BPF_JLT,
        op.BPF_JLE,
    )
