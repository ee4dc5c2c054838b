"""Random programs made of small loops over memory: what the guards of native code reason about."""

from __future__ import annotations

import random

from skep.isa import Insn
from skep.isa import opcodes as op

SIZES = {1: op.BPF_B, 2: op.BPF_H, 4: op.BPF_W, 8: op.BPF_DW}
MOV = op.BPF_ALU64 | op.BPF_MOV
ADD = op.BPF_ALU64 | op.BPF_ADD
TESTS = (
    op.BPF_JEQ, op.BPF_JNE, op.BPF_JGT, op.BPF_JGE, op.BPF_JLT, op.BPF_JLE,
    op.BPF_JSGT, op.BPF_JSGE, op.BPF_JSLT, op.BPF_JSLE,
)  # fmt: skip


def program(seed: int) -> list[Insn]:
    """r6 keeps ctx, r7 its length; one or two loops, some of them one in the other; r0 sums what was read."""
    rng = random.Random(seed)
    out = [Insn(MOV | op.BPF_X, 6, 1), Insn(MOV | op.BPF_X, 7, 2), Insn(MOV, 0)]
    for _ in range(rng.randint(1, 2)):
        _loop(rng, out, nested=rng.random() < 0.25)
    out.append(Insn(op.EXIT))
    return out


def _loop(rng: random.Random, out: list[Insn], *, nested: bool) -> None:
    word = rng.random() < 0.3  # a 32-bit counter
    add = (op.BPF_ALU if word else op.BPF_ALU64) | op.BPF_ADD
    step = rng.choice((1, 1, 1, 2, 3, 4, 8, -1, -1, -2, -4, 5, 0))
    start = rng.choice((0, 0, 0, 1, 3, 8, 30, -1, -8, 0x7FFFFFFF, -0x80000000))
    counter, pointer, limit = 3, 4, 5
    if rng.random() < 0.2:
        out.append(Insn(MOV | op.BPF_X, counter, 7))  # from the length
    else:
        out.append(Insn((op.BPF_ALU if word else op.BPF_ALU64) | op.BPF_MOV, counter, imm=start))
    out.append(Insn(MOV | op.BPF_X, limit, 7))
    if rng.random() < 0.5:
        out.append(Insn(ADD, limit, imm=rng.choice((-1, -3, -8, 1, 40))))
    if rng.random() < 0.2:
        out.append(Insn(MOV, limit, imm=rng.choice((0, 5, 16, -1, 100))))
    walking = rng.random() < 0.5  # a pointer that moves by itself
    if walking:
        out.append(Insn(MOV | op.BPF_X, pointer, 6))
        if rng.random() < 0.3:
            out.append(Insn(ADD | op.BPF_X, pointer, counter))
    if nested:
        out.append(Insn(MOV, 9, imm=rng.randint(1, 4)))
        outer = len(out)
    head = len(out)
    if not walking:
        if rng.random() < 0.3 and not word:
            out.append(Insn(MOV | op.BPF_X, pointer, counter))
            out.append(Insn(op.BPF_ALU64 | op.BPF_LSH, pointer, imm=rng.choice((0, 1, 2, 3))))
            out.append(Insn(ADD | op.BPF_X, pointer, 6))
        elif rng.random() < 0.2:
            out.append(Insn(MOV | op.BPF_X, pointer, counter))
            out.append(Insn(op.BPF_ALU64 | op.BPF_LSH, pointer, imm=32))
            out.append(Insn(op.BPF_ALU64 | op.BPF_RSH, pointer, imm=32))
            out.append(Insn(ADD | op.BPF_X, pointer, 6))
        else:
            out.append(Insn(MOV | op.BPF_X, pointer, 6))
            out.append(
                Insn(
                    (op.BPF_ALU64 | rng.choice((op.BPF_ADD, op.BPF_ADD, op.BPF_SUB))) | op.BPF_X,
                    pointer,
                    counter,
                )
            )
    escape = None
    for _ in range(rng.randint(1, 3)):
        size = rng.choice((1, 1, 2, 4, 8))
        off = rng.choice((0, 0, 0, 1, 2, 7, -1, -4, 12))
        base = rng.choice((pointer, pointer, pointer, 6))
        kind = rng.random()
        if kind < 0.6:
            out.append(Insn(op.BPF_LDX | op.BPF_MEM | SIZES[size], 8, base, off))
            out.append(Insn(ADD | op.BPF_X, 0, 8))
        elif kind < 0.9:
            out.append(Insn(op.BPF_STX | op.BPF_MEM | SIZES[size], base, rng.choice((0, counter)), off))
        else:
            out.append(Insn(op.BPF_ST | op.BPF_MEM | SIZES[size], base, 0, off, rng.randint(0, 9)))
    if rng.random() < 0.3:
        escape = len(out)
        out.append(Insn(op.BPF_JMP | op.BPF_JEQ, 8, imm=rng.randrange(256)))
    if rng.random() < 0.3:
        out.append(Insn(op.BPF_JMP | op.BPF_JGT, 8, 0, 1, 100))
        out.append(Insn(ADD, 0, imm=7))
    if walking:
        out.append(Insn(ADD, pointer, imm=rng.choice((1, 1, 2, 4, 8, -1, 3))))
    out.append(Insn(add, counter, imm=step))
    test = (op.BPF_JMP32 if rng.random() < 0.3 else op.BPF_JMP) | rng.choice(TESTS)
    shape = rng.random()
    if shape < 0.7:
        back = head - len(out) - 1
        if rng.random() < 0.5:
            out.append(Insn(test | op.BPF_X, counter, limit, back))
        elif rng.random() < 0.3:
            out.append(Insn(test | op.BPF_X, limit, counter, back))
        else:
            out.append(Insn(test, counter, 0, back, rng.choice((0, 4, 16, 33, -1, 7))))
    else:  # the test leaves, a jump goes back
        out.append(Insn(test | op.BPF_X, counter, limit, 1))
        out.append(Insn(op.JA, off=head - len(out) - 1))
    if escape is not None:
        out[escape] = out[escape]._replace(off=len(out) - escape - 1)
    if nested:
        out.append(Insn(ADD, 9, imm=-1))
        out.append(Insn(op.BPF_JMP | op.BPF_JNE, 9, 0, outer - len(out) - 1, 0))
