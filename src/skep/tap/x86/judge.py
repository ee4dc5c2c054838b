"""A classic program as x86-64 machine code.

The function made here is called by the other two and not from outside: rsi points to the packet, rdi is how
many bytes are there, r8d how many it had on the wire; eax becomes the program's return value. It keeps
rsi, rdi and r8. A is eax, X ecx; M[i] lies below the stack pointer, where leaf functions may write
(System V ABI, "red zone").

The rules are libpcap's, as in `skep.vm.classic`: a load outside the packet and a division by zero end the
program with 0, offsets do not wrap, a shift by 32 or more gives 0.
"""

from __future__ import annotations

from collections.abc import Sequence

from skep.errors import VerifierError
from skep.filter.ebpf_facts import ANCILLARY, SIZES, beyond, study
from skep.isa import classic as c
from skep.tap.x86 import code as x
from skep.tap.x86.code import Code, Mem

LONGEST = 0x7FFFFFFF  # bytes of a packet; the offsets of instructions are signed numbers of 32 bits
BUDGET = 1 << 32  # what jumps back may cost (protochain)

_A, _X = x.RAX, x.RCX
_REJECT, _JUDGE = "reject", "judge"
_ARITHMETIC = {
    c.BPF_ADD: (x.G_ADD, x.ADD),
    c.BPF_SUB: (x.G_SUB, x.SUB),
    c.BPF_AND: (x.G_AND, x.AND),
    c.BPF_OR: (x.G_OR, x.OR),
    c.BPF_XOR: (x.G_XOR, x.XOR),
}
_CONDITIONS = {
    c.BPF_JEQ: (x.E, x.NE),
    c.BPF_JGT: (x.A, x.BE),
    c.BPF_JGE: (x.AE, x.B),
    c.BPF_JSET: (x.NE, x.E),
}


class Judge:
    """Writes one program; `write` once."""

    def __init__(self, code: Code, insns: Sequence[c.ClassicInsn]) -> None:
        self.code = code
        self.insns = insns
        self.facts = study(insns, LONGEST)
        #: how many bytes the packet has for certain when control comes to an instruction
        self.known: list[int | None] = [None] * len(insns)
        self.known[0] = 0
        for pc, following in enumerate(self.facts.successors):
            for target in following:
                if target <= pc:
                    self.known[target] = 0

    def write(self) -> None:
        """Write the function; its label is "judge".

        Raises:
            VerifierError: the program is not legal, or reads data that captured packets do not have.
        """
        code = self.code
        code.label(_JUDGE)
        code.constant(_A, 0)
        code.constant(_X, 0)
        if self.facts.loops:
            code.constant(x.R11, 1)
            code.op(x.SHIFT, x.G_SHL, x.R11, wide=True, tail=bytes((BUDGET.bit_length() - 1,)))
        for word in sorted(self.facts.zeroed):
            code.op(x.STORE, _A, _slot(word))
        for pc in range(len(self.insns)):
            if self.facts.before[pc] is not None:
                code.label(pc)
                self._insn(pc)
        code.label(_REJECT)
        self._leave(0)

    def _leave(self, value: int) -> None:
        self.code.constant(_A, value)
        self.code.ret()

    def _insn(self, pc: int) -> None:
        insn = self.insns[pc]
        opcode, _, _, k = insn
        kind = opcode & 7
        known = self.known[pc] or 0
        if kind in (c.BPF_LD, c.BPF_LDX):
            known = self._load(pc, insn, known)
        elif kind == c.BPF_ST:
            self.code.op(x.STORE, _A, _slot(k))
        elif kind == c.BPF_STX:
            self.code.op(x.STORE, _X, _slot(k))
        elif kind == c.BPF_ALU:
            self._arithmetic(opcode, k)
        elif kind == c.BPF_JMP:
            self._jump(pc, opcode, k)
        elif kind == c.BPF_RET:
            if opcode & 0x18 == c.BPF_A:
                self.code.ret()
            else:
                self._leave(k)
        elif opcode & 0xF8 == c.BPF_TAX:
            self.code.op(x.MOV, _X, _A)
        else:
            self.code.op(x.MOV, _A, _X)
        for target in self.facts.successors[pc]:
            before = self.known[target]
            self.known[target] = known if before is None else min(before, known)

    def _load(self, pc: int, insn: c.ClassicInsn, known: int) -> int:
        """A load; how many bytes the packet is known to have afterwards."""
        code, k = self.code, insn.k
        mode = insn.code & 0xE0
        to = _A if insn.code & 7 == c.BPF_LD else _X
        if mode == c.BPF_IMM:
            code.constant(to, k)
        elif mode == c.BPF_MEM:
            code.op(x.MOV, to, _slot(k))
        elif mode == c.BPF_LEN:
            code.op(x.MOV, to, x.R8)
        elif mode == c.BPF_ABS and k >= ANCILLARY:
            raise VerifierError("captured packets have no ancillary data", insn=pc)
        elif beyond(insn, LONGEST):
            code.jump(_REJECT)
        elif mode == c.BPF_IND:
            size = SIZES[insn.code & 0x18]
            code.op(x.LEA, x.R9, Mem(_X, k + size), wide=True)  # X is below 2**32, so this is exact
            code.op(x.CMP, x.R9, x.RDI, wide=True)
            code.jump(_REJECT, x.A)
            self._fetch(size, Mem(x.RSI, -size, x.R9))
        else:
            size = 1 if mode == c.BPF_MSH else SIZES[insn.code & 0x18]
            if k + size > known:
                known = k + size
                code.group(x.G_CMP, x.RDI, known, wide=True)
                code.jump(_REJECT, x.B)
            if mode == c.BPF_MSH:
                code.op(x.MOVZX_BYTE, _X, Mem(x.RSI, k))
                code.group(x.G_AND, _X, 15)
                code.op(x.SHIFT, x.G_SHL, _X, tail=b"\2")
            else:
                self._fetch(size, Mem(x.RSI, k))
        return known

    def _fetch(self, size: int, where: Mem) -> None:
        """A = bytes of the packet in network order."""
        code = self.code
        if size == 1:
            code.op(x.MOVZX_BYTE, _A, where)
        elif size == 2:
            code.op(x.MOVZX_HALF, _A, where)
            code.op(x.SHIFT, x.G_ROL, _A, prefix=b"\x66", tail=b"\x08")
        else:
            code.op(x.MOV, _A, where)
            code.bswap(_A)

    def _arithmetic(self, opcode: int, k: int) -> None:
        code = self.code
        operation, by_x = opcode & 0xF0, opcode & c.BPF_X
        if operation in _ARITHMETIC:
            constant, register = _ARITHMETIC[operation]
            if by_x:
                code.op(register, _A, _X)
            else:
                code.group(constant, _A, k)
        elif operation == c.BPF_NEG:
            code.op(x.GROUP_3, x.G_NEG, _A)
        elif operation == c.BPF_MUL:
            if not by_x:
                code.constant(x.R9, k)
            code.op(x.IMUL, _A, _X if by_x else x.R9)
        elif operation in (c.BPF_DIV, c.BPF_MOD):
            self._divide(operation == c.BPF_MOD, None if by_x else k)
        else:
            self._shift(x.G_SHL if operation == c.BPF_LSH else x.G_SHR, None if by_x else k)

    def _divide(self, rest: bool, k: int | None) -> None:
        """A = A / k or the rest of it; by X when ``k`` is None."""
        code = self.code
        if k is None:
            code.op(x.TEST, _X, _X)
            code.jump(_REJECT, x.E)
        elif k & (k - 1) == 0:
            if rest:
                code.group(x.G_AND, _A, k - 1)
            elif k > 1:
                code.op(x.SHIFT, x.G_SHR, _A, tail=bytes((k.bit_length() - 1,)))
            return
        else:
            code.constant(x.R9, k)
        code.constant(x.RDX, 0)
        code.op(x.GROUP_3, x.G_DIV, _X if k is None else x.R9)
        if rest:
            code.op(x.MOV, _A, x.RDX)

    def _shift(self, which: int, k: int | None) -> None:
        code = self.code
        if k is not None:
            code.op(x.SHIFT, which, _A, tail=bytes((k,)))
            return
        code.op(x.SHIFT_CL, which, _A)  # the processor takes the count modulo 32
        code.constant(x.RDX, 0)
        code.group(x.G_CMP, _X, 31)
        code.op(x.CMOV_A, _A, x.RDX)

    def _jump(self, pc: int, opcode: int, k: int) -> None:
        code, targets = self.code, self.facts.successors[pc]
        if len(targets) == 1:
            if targets[0] <= pc:
                # What a turn costs is how far it goes back, as in the interpreter.
                code.group(x.G_SUB, x.R11, pc - targets[0] + 1, wide=True)
                code.jump(_REJECT, x.B)
            if targets[0] != pc + 1:
                code.jump(targets[0])
            return
        true, false = targets
        if opcode & 0xF0 == c.BPF_JSET:
            if opcode & c.BPF_X:
                code.op(x.TEST, _X, _A)
            else:
                code.op(x.GROUP_3, x.G_TEST, _A, tail=k.to_bytes(4, "little"))
        elif opcode & c.BPF_X:
            code.op(x.CMP, _A, _X)
        else:
            code.group(x.G_CMP, _A, k)
        holds, fails = _CONDITIONS[opcode & 0xF0]
        if true == pc + 1:
            code.jump(false, fails)
            return
        code.jump(true, holds)
        if false != pc + 1:
            code.jump(false)


def _slot(word: int) -> Mem:
    return Mem(x.RSP, -4 * (c.BPF_MEMWORDS - word))
