"""Programs spoilt in one place, and which are fit for a live kernel."""

from __future__ import annotations

import random

from skep.isa import Insn, jump_target
from skep.isa import opcodes as op
from tests.verifier.generate_facts import ALU, COMPARE, EDGES, SIZES, X


def spoil(rng: random.Random, insns: list[Insn]) -> list[Insn]:
    """One place changed: an immediate, an offset, a register, a size, an operation; an instruction less."""
    out = list(insns)
    pc = rng.randrange(len(out))
    insn = out[pc]
    if insn.opcode in (0, op.LD_IMM64) or (pc and out[pc - 1].opcode == op.LD_IMM64):
        return out
    kind = insn.opcode & op.CLASS_MASK
    memory = kind in (op.BPF_LDX, op.BPF_ST, op.BPF_STX)
    jump = jump_target(insn, pc) is not None
    how = rng.randrange(7)
    uses_source = (memory and kind != op.BPF_ST) or (insn.opcode & X and kind not in (op.BPF_LD, op.BPF_LDX))
    near = [other.dst for other in out[max(0, pc - 6) : pc + 6]] + [6, 10, rng.randrange(11)]
    if how == 0 and not jump and not uses_source and insn.opcode != op.EXIT and kind != op.BPF_LDX:
        out[pc] = insn._replace(imm=rng.choice(EDGES))
    elif how == 0 and jump:
        uses = not insn.opcode & X and insn.opcode not in (op.CALL, op.JA)
        out[pc] = insn._replace(imm=rng.choice(EDGES)) if uses else insn
    elif how == 1 and memory:
        out[pc] = insn._replace(off=insn.off + rng.choice((1, -1, 4, 8, -8, 16)))
    elif how == 2 and insn.opcode not in (op.CALL, op.EXIT, op.JA) and kind != op.BPF_LD:
        out[pc] = insn._replace(dst=rng.choice(near))
    elif how == 3 and uses_source and insn.opcode not in (op.CALL, op.EXIT, op.JA):
        out[pc] = insn._replace(src=rng.choice(near))
    elif how == 4 and memory:
        out[pc] = insn._replace(opcode=insn.opcode & ~op.SIZE_MASK | rng.choice(tuple(SIZES.values())))
    elif how == 5 and kind in (op.BPF_JMP, op.BPF_JMP32) and insn.opcode not in (op.CALL, op.EXIT, op.JA):
        out[pc] = insn._replace(opcode=insn.opcode & ~op.OP_MASK | rng.choice(COMPARE))
    elif how == 5 and kind in (op.BPF_ALU, op.BPF_ALU64):
        out[pc] = insn._replace(opcode=insn.opcode & ~op.OP_MASK | rng.choice(ALU))
    elif how == 6 and not jump and insn.opcode != op.EXIT:
        out[pc] = Insn(op.JA)  # as if it were not there
    return out


def bounded_work(insns: list[Insn]) -> bool:
    """Whether a program is harmless to a live kernel's verifier: without jumps back it ends soon; with
    some it must not mask or combine numbers: Linux 6.18 may crash over that when 8,192 branches wait."""
    back = any((target := jump_target(insn, pc)) is not None and target <= pc and insn.opcode != op.CALL
               for pc, insn in enumerate(insns))  # fmt: skip
    masks = any(
        insn.opcode & op.CLASS_MASK in (op.BPF_ALU, op.BPF_ALU64)
        and insn.opcode & op.OP_MASK in (op.BPF_AND, op.BPF_OR)
        for insn in insns
    )
    return not (back and masks)
