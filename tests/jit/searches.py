"""Random loops that look for something in memory, and memory in which they find it late, or never."""

from __future__ import annotations

import random

from skep.isa import Insn
from skep.isa import opcodes as op
from tests.jit.loops import ADD, MOV, SIZES

_TESTS = (
    op.BPF_JEQ, op.BPF_JNE, op.BPF_JGT, op.BPF_JGE, op.BPF_JLT, op.BPF_JLE, op.BPF_JSGT, op.BPF_JSGE,
    op.BPF_JSLT, op.BPF_JSLE, op.BPF_JSET,
)  # fmt: skip
_CHANGES = (
    (op.BPF_AND, 0x7F), (op.BPF_AND, -2), (op.BPF_RSH, 3), (op.BPF_ADD, 1), (op.BPF_XOR, 0x20),
    (op.BPF_LSH, 1),
)  # fmt: skip
_FILL = 0x41


def program(seed: int) -> list[Insn]:
    """r7 is ctx's length; r1 and r2 walk over ctx, r5 counts; r8, r9 are this turn's; r0 tells the end."""
    rng = random.Random(seed)
    size = rng.choice((1, 1, 1, 2, 4, 8))
    out = [Insn(MOV | op.BPF_X, 6, 1), Insn(MOV | op.BPF_X, 7, 2), Insn(MOV, 0)]
    out += [Insn(MOV | op.BPF_X, 2, 1), Insn(ADD, 2, imm=rng.choice((0, 1, 8, 40, 64)))]
    out += [Insn(MOV, 5, imm=rng.choice((0, 0, 3, -1))), Insn(MOV, 4, imm=7), Insn(MOV, 3, imm=7)]
    head = len(out)
    leaves: list[int] = []
    for _ in range(rng.randint(1, 3)):
        _look(rng, out, size)
        if rng.random() < 0.85:
            leaves.append(len(out))
            out.append(_test(rng, size))
    if rng.random() < 0.1:
        out.append(Insn(op.BPF_STX | op.BPF_MEM | SIZES[size], 1, 8, 0))
    if rng.random() < 0.1:
        out.append(Insn(ADD | op.BPF_X, 4, 8))  # a sum, or the last value
    elif rng.random() < 0.1:
        out.append(Insn(MOV | op.BPF_X, 4, 8))
    out += [Insn(ADD, 1, imm=size), Insn(ADD, 2, imm=size), Insn(ADD, 5, imm=rng.choice((1, 1, 3)))]
    if rng.random() < 0.2:
        out.append(Insn(MOV | op.BPF_X, 3, 5))
    how = rng.random()
    if how < 0.6:
        out.append(Insn(op.BPF_JMP | op.BPF_JLT | op.BPF_X, 5, 7))
    elif how < 0.8:
        out.append(Insn(op.BPF_JMP | op.BPF_JNE, 5, imm=rng.choice((90, 3 * 70, 500))))
    else:
        out.append(rng.choice((_test(rng, size), Insn(op.JA))))
    out[-1] = out[-1]._replace(off=head - len(out))
    for at in leaves:  # to the end, each by a way of its own or a common one
        out[at] = out[at]._replace(off=len(out) - at - 1)
        if rng.random() < 0.5:
            out.append(Insn(ADD, 0, imm=rng.randint(1, 1000)))
    for reg in (5, 8, 9, 4, 3):
        out += [Insn(op.BPF_ALU64 | op.BPF_MUL, 0, imm=31), Insn(ADD | op.BPF_X, 0, reg)]
    out.append(Insn(op.EXIT))
    return [Insn(MOV, 8), Insn(MOV, 9), *out]


def _look(rng: random.Random, out: list[Insn], size: int) -> None:
    """This turn's values."""
    mode = op.BPF_MEMSX if size < 8 and rng.random() < 0.25 else op.BPF_MEM
    out.append(Insn(op.BPF_LDX | mode | SIZES[size], 8, 1, rng.choice((0, 0, 0, size, -size))))
    if rng.random() < 0.5:
        out.append(Insn(op.BPF_LDX | op.BPF_MEM | SIZES[size], 9, 2))
    if rng.random() < 0.3:
        alu = rng.choice((op.BPF_ALU, op.BPF_ALU64))
        kind, imm = rng.choice(_CHANGES)
        out.append(Insn(alu | kind, 8, imm=imm))


def _test(rng: random.Random, size: int) -> Insn:
    opcode = rng.choice((op.BPF_JMP, op.BPF_JMP32)) | rng.choice(_TESTS)
    if rng.random() < 0.4:
        return Insn(opcode | op.BPF_X, 8, rng.choice((9, 9, 5)))
    fill = int.from_bytes(bytes([_FILL]) * min(size, 4), "little")
    return Insn(
        opcode, rng.choice((8, 8, 9)), imm=rng.choice((0, 1, _FILL, 0x42, 0x80, -1, fill, fill + 1, fill - 1))
    )


def memory(rng: random.Random, length: int) -> bytes:
    """The same byte all over, but in a few places."""
    data = bytearray([_FILL]) * length
    for _ in range(rng.choice((0, 0, 1, 2)) if length else 0):
        data[rng.randrange(length)] = rng.choice((0, 1, 0x40, 0x42, 0x80, 0xFF))
    return bytes(data)
