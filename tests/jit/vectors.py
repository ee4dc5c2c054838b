"""Random loops over neighbouring elements: what native code does with whole vectors."""

from __future__ import annotations

import random

from skep.isa import Insn
from skep.isa import opcodes as op
from tests.jit.loops import ADD, MOV, SIZES

_OPS = (
    op.BPF_ADD, op.BPF_SUB, op.BPF_AND, op.BPF_OR, op.BPF_XOR, op.BPF_MUL,
    op.BPF_LSH, op.BPF_RSH, op.BPF_ARSH,
)  # fmt: skip
_SUMS = (op.BPF_ADD, op.BPF_ADD, op.BPF_XOR, op.BPF_OR, op.BPF_AND, op.BPF_SUB, op.BPF_MUL)


def program(seed: int) -> list[Insn]:
    """r6 is ctx, r7 its length; r1..r3 walk over it, r5 counts down, r8 is this turn's value; r0 sums."""
    rng = random.Random(seed)
    size = rng.choice((1, 1, 2, 4, 8))
    count = rng.choice((1, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100, 129))
    base = rng.choice((0, 0, 3, 40))
    apart = rng.choice((0, 1, size, 8, 32, 63, 64, 65, 100, 128, 200, 256)) * rng.choice((1, 1, -1))
    out = [
        Insn(MOV | op.BPF_X, 6, 1),
        Insn(MOV | op.BPF_X, 7, 2),
        Insn(MOV, 0, imm=rng.choice((0, 0, -1, 12345))),
        Insn(MOV | op.BPF_X, 1, 6),
        Insn(ADD, 1, imm=base + max(0, -apart)),
        Insn(MOV | op.BPF_X, 3, 1),
    ]
    if rng.random() < 0.5:
        out.append(Insn(ADD, 3, imm=apart))
    else:  # a distance that only running code knows
        out += [
            Insn(MOV | op.BPF_X, 2, 7),
            Insn(op.BPF_ALU64 | op.BPF_AND, 2, imm=0),
            Insn(ADD, 2, imm=apart),
            Insn(ADD | op.BPF_X, 3, 2),
        ]
    if rng.random() < 0.3:  # as many as the length allows
        out += [Insn(MOV | op.BPF_X, 5, 7), Insn(op.BPF_ALU64 | op.BPF_RSH, 5, imm=rng.randint(1, 3))]
        out += [Insn(ADD, 5, imm=1)]
    else:
        out.append(Insn(MOV, 5, imm=count))
    out.append(Insn(MOV, 9, imm=rng.randrange(-300, 300)))
    out.append(Insn(MOV, 4, imm=0))
    head = len(out)
    steps = {1: size, 3: size}
    order = rng.random()
    load = Insn(op.BPF_LDX | (op.BPF_MEMSX if size < 8 and order < 0.2 else op.BPF_MEM) | SIZES[size], 8, 1)
    out.append(load)
    for _ in range(rng.randint(0, 3)):
        alu = op.BPF_ALU64 if rng.random() < 0.6 else op.BPF_ALU
        operation = rng.choice(_OPS)
        if rng.random() < 0.4:
            out.append(Insn(alu | operation | op.BPF_X, 8, rng.choice((9, 9, 4, 8))))
        else:
            out.append(Insn(alu | operation, 8, imm=rng.choice((1, 3, 7, 13, 255, -1))))
    if rng.random() < 0.15:
        out.append(Insn(op.BPF_ALU | op.BPF_END | op.BPF_X, 8, imm=rng.choice((16, 32, 64))))
    if rng.random() < 0.7:
        wide = rng.choice((size, size, size, *SIZES))
        steps[3] = wide
        out.append(Insn(op.BPF_STX | op.BPF_MEM | SIZES[wide], 3, rng.choice((8, 8, 8, 9, 4))))
        if rng.random() < 0.2:
            out.append(Insn(op.BPF_LDX | op.BPF_MEM | SIZES[size], 2, 1, rng.choice((0, 0, size, 64))))
            out.append(Insn(ADD | op.BPF_X, 0, 2))
    if rng.random() < 0.6:
        alu = op.BPF_ALU64 if rng.random() < 0.6 else op.BPF_ALU
        operation = rng.choice(_SUMS)
        for _ in range(rng.choice((1, 1, 2))):
            out.append(Insn(alu | operation | op.BPF_X, 0, rng.choice((8, 8, 8, 9, 4))))
    if rng.random() < 0.1:
        out.append(Insn(MOV | op.BPF_X, 9, 8))  # the last turn's value, which the next one may need
    out += [Insn(ADD, reg, imm=step) for reg, step in steps.items()]
    out.append(Insn(ADD, 4, imm=rng.choice((1, 3, -1))))
    out.append(Insn(ADD, 5, imm=-1))
    out.append(Insn(op.BPF_JMP | op.BPF_JNE, 5, 0, head - len(out) - 1, 0))
    # What is left in the registers counts too, where it is no address.
    for reg in rng.sample((8, 9, 4), rng.randint(0, 3)):
        out.append(Insn(op.BPF_ALU64 | op.BPF_XOR | op.BPF_X, 0, reg))
    out.append(Insn(op.EXIT))
    return out
