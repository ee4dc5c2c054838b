"""Random programs that move pointers about: registers, joins, spills, calls, loops.

Values that are loaded through pointers are never used, and nothing but constants is stored through them,
so a program's course does not depend on where an engine puts its memory.
"""

from __future__ import annotations

import random

from skep.isa import Insn
from skep.isa import opcodes as op

SIZES = {1: op.BPF_B, 2: op.BPF_H, 4: op.BPF_W, 8: op.BPF_DW}
MOV = op.BPF_ALU64 | op.BPF_MOV
ADD = op.BPF_ALU64 | op.BPF_ADD
SUB = op.BPF_ALU64 | op.BPF_SUB
CTX_BYTES = 48
#: Where data on the stack starts, from r10: far from the spill slots above it.
DATA = -420


class _Maker:
    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.out: list[Insn] = []
        self.calls: list[tuple[int, int]] = []

    def program(self) -> list[Insn]:
        """r6 is ctx, r7 a small number, r8 bits to branch on; r1 to r5 hold pointers, r9 what is read."""
        rng = self.rng
        out = self.out
        functions = rng.choice((0, 0, 1, 2))
        out += [
            Insn(MOV | op.BPF_X, 6, 1),
            Insn(op.BPF_LDX | op.BPF_MEM | op.BPF_B, 7, 1, 0),
            Insn(op.BPF_ALU64 | op.BPF_AND, 7, imm=7),
            Insn(op.BPF_LDX | op.BPF_MEM | op.BPF_W, 8, 1, 1),
        ]
        for reg in range(1, 6):
            self.point(reg)
        self.statements(rng.randint(4, 14), 0, functions)
        out += [Insn(MOV, 0, imm=1), Insn(op.EXIT)]
        starts = []
        for _ in range(functions):
            starts.append(len(out))
            # Of a callee's registers r1 and r2 are given; what it spills, it spills into its own frame.
            for reg in (3, 4, 5):
                out.append(Insn(MOV | op.BPF_X, reg, rng.choice((1, 2, 10))))
                if out[-1].src == 10:
                    out.append(Insn(ADD, reg, imm=DATA))
            for slot in range(1, 7):
                out.append(Insn(op.BPF_STX | op.BPF_MEM | op.BPF_DW, 10, rng.randint(1, 5), -8 * slot))
            self.statements(rng.randint(1, 6), 1, 0)
            out += [Insn(MOV, 0), Insn(op.EXIT)]
        for pc, index in self.calls:
            out[pc] = out[pc]._replace(imm=starts[index] - pc - 1)
        return out

    def point(self, reg: int) -> None:
        rng = self.rng
        if rng.random() < 0.5:
            self.out.append(Insn(MOV | op.BPF_X, reg, 6))
            self.out.append(Insn(ADD, reg, imm=rng.choice((0, 0, 8, 20, CTX_BYTES - 8, -2, CTX_BYTES))))
        else:
            self.out.append(Insn(MOV | op.BPF_X, reg, 10))
            self.out.append(Insn(ADD, reg, imm=DATA + rng.choice((0, 0, 8, -60, -92, -100))))

    def statements(self, count: int, depth: int, functions: int) -> None:
        for _ in range(count):
            self.statement(depth, functions)

    def statement(self, depth: int, functions: int) -> None:
        rng, out = self.rng, self.out
        kind = rng.random()
        reg = rng.randint(1, 5)
        if kind < 0.10:
            if depth == 0:
                self.point(reg)
        elif kind < 0.22:
            out.append(Insn(MOV | op.BPF_X, reg, rng.randint(1, 5)))
        elif kind < 0.30:
            out.append(Insn(ADD, reg, imm=rng.choice((1, 2, 4, 8, -1, -8))))
        elif kind < 0.36:
            out.append(Insn(rng.choice((ADD, ADD, SUB)) | op.BPF_X, reg, 7))
        elif kind < 0.40:  # number plus pointer
            out += [Insn(MOV, 9, imm=rng.choice((0, 3, 8))), Insn(ADD | op.BPF_X, 9, reg)]
            out.append(Insn(MOV | op.BPF_X, reg, 9))
        elif kind < 0.50:
            out.append(Insn(op.BPF_STX | op.BPF_MEM | op.BPF_DW, 10, reg, -8 * rng.randint(1, 6)))
        elif kind < 0.56:
            out.append(Insn(op.BPF_LDX | op.BPF_MEM | op.BPF_DW, reg, 10, -8 * rng.randint(1, 6)))
        elif kind < 0.78:
            size, off = rng.choice((1, 2, 4, 8)), rng.choice((0, 0, 1, 8, -4, 16))
            what = rng.random()
            if what < 0.6:
                out.append(Insn(op.BPF_LDX | op.BPF_MEM | SIZES[size], 9, reg, off))
            elif what < 0.9:
                out.append(Insn(op.BPF_ST | op.BPF_MEM | SIZES[size], reg, 0, off, rng.randint(0, 99)))
            else:
                size = rng.choice((4, 8))
                out.append(Insn(MOV, 9, imm=rng.randint(0, 9)))
                out.append(Insn(op.BPF_STX | op.BPF_ATOMIC | SIZES[size], reg, 9, off, op.BPF_ADD))
        elif kind < 0.90 and depth < 2:
            at = len(out)
            out.append(Insn(op.BPF_JMP | op.BPF_JSET, 8, imm=1 << rng.randrange(30)))
            self.statements(rng.randint(1, 4), depth + 1, functions)
            if rng.random() < 0.5:
                other = len(out)
                out.append(Insn(op.JA))
                out[at] = out[at]._replace(off=len(out) - at - 1)
                self.statements(rng.randint(1, 3), depth + 1, functions)
                out[other] = out[other]._replace(off=len(out) - other - 1)
            else:
                out[at] = out[at]._replace(off=len(out) - at - 1)
        elif kind < 0.96 and depth == 0:
            # r0 counts the turns: calls return 0, so there are none inside.
            out.append(Insn(MOV, 0, imm=rng.randint(1, 5)))
            head = len(out)
            self.statements(rng.randint(1, 4), 2, 0)
            out.append(Insn(ADD, 0, imm=-1))
            out.append(Insn(op.BPF_JMP | op.BPF_JNE, 0, 0, head - len(out) - 1, 0))
        elif functions:
            self.calls.append((len(out), rng.randrange(functions)))
            out.append(Insn(op.CALL, 0, op.BPF_PSEUDO_CALL))
            for scratch in (1, 2, 3, 4, 5):
                if depth == 0:
                    self.point(scratch)
                else:
                    out.append(Insn(MOV | op.BPF_X, scratch, 6))


def program(seed: int) -> list[Insn]:
    """The program of one seed; its ctx is `CTX_BYTES` long, the first five bytes steer it."""
    return _Maker(seed).program()
