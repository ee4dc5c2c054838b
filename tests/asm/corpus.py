"""Generated programs: every legal instruction with field values from the edges and in between."""

from __future__ import annotations

import os
import random

from skep.isa import ClassicInsn, Insn, ld_imm64
from skep.isa import classic as c
from skep.isa import opcodes as op
from skep.isa.facts import is_jump
from skep.isa.legal import rules

SEED = int(os.environ.get("SKEP_SEED", "20691"))
_IMMS = (0, 1, -1, 2, 7, 31, 63, 127, 255, 256, 4096, 65535, -32768, 0x7FFFFFFF, -0x80000000, 0x12345678)
_OFFS = (0, 1, -1, 4, -8, 127, -128, 32767, -32768)
_ATOMIC = [alu | fetch for alu in (op.BPF_ADD, op.BPF_OR, op.BPF_AND, op.BPF_XOR) for fetch in (0, 1)]


def _edge(rng: random.Random, values: tuple[int, ...], bits: int) -> int:
    return rng.choice(values) if rng.random() < 0.6 else rng.randrange(-(1 << bits - 1), 1 << bits - 1)


def legal(rng: random.Random, opcode: int) -> list[Insn]:
    """One legal instruction (one slot or two) with the opcode; jumps not yet aimed (offset 0)."""
    dst, src = rng.randrange(10), rng.randrange(11)
    imm, off = _edge(rng, _IMMS, 32), _edge(rng, _OFFS, 16)
    cls, operation = opcode & op.CLASS_MASK, opcode & op.OP_MASK
    if cls in (op.BPF_ALU, op.BPF_ALU64):
        wide = cls == op.BPF_ALU64
        if operation == op.BPF_END:
            return [Insn(opcode, dst, imm=rng.choice((16, 32, 64)))]
        if operation == op.BPF_NEG:
            return [Insn(opcode, dst)]
        variant = rng.choice((0, 1)) if operation in (op.BPF_DIV, op.BPF_MOD) else 0
        if opcode & op.BPF_X:
            if operation == op.BPF_MOV:
                variant = rng.choice((0, 8, 16, 32, 1) if wide else (0, 8, 16))
                cast = rng.choice((1, 1 << 16)) if variant == 1 else 0
                return [Insn(opcode, dst, src, variant, cast)]
            return [Insn(opcode, dst, src, variant)]
        if operation in (op.BPF_LSH, op.BPF_RSH, op.BPF_ARSH):
            imm = rng.randrange(64 if wide else 32)
        if operation in (op.BPF_DIV, op.BPF_MOD):
            imm = imm or 3
        return [Insn(opcode, dst, 0, variant, imm)]
    if cls in (op.BPF_JMP, op.BPF_JMP32):
        if opcode == op.CALL:
            kind = rng.randrange(3)
            return [Insn(opcode, 0, kind, off if kind == 2 else 0, rng.randrange(1, 230) if kind != 1 else 0)]
        if opcode == op.CALLX:
            return [Insn(opcode, dst)]
        if opcode in (op.JA, op.GOTOL, op.MAY_GOTO, op.EXIT):
            return [Insn(opcode)]
        return [Insn(opcode, dst, src) if opcode & op.BPF_X else Insn(opcode, dst, 0, 0, imm)]
    if opcode == op.LD_IMM64:
        kind = rng.randrange(7)
        high = 0 if kind in (1, 5) else _edge(rng, _IMMS, 32)
        return list(ld_imm64(dst, (high & 0xFFFFFFFF) << 32 | imm & 0xFFFFFFFF, kind))
    if cls == op.BPF_LD:
        return [Insn(opcode, 0, src if opcode & op.MODE_MASK == op.BPF_IND else 0, 0, imm)]
    if cls == op.BPF_LDX:
        return [Insn(opcode, dst, src, off)]
    if cls == op.BPF_ST:
        return [Insn(opcode, src, 0, off, imm)]
    if opcode & op.MODE_MASK == op.BPF_MEM:
        return [Insn(opcode, src, dst, off)]
    if opcode & op.SIZE_MASK in (op.BPF_B, op.BPF_H) or rng.random() < 0.2:
        atomic = rng.choice((op.BPF_LOAD_ACQ, op.BPF_STORE_REL))
    else:
        atomic = rng.choice([*_ATOMIC, op.BPF_XCHG, op.BPF_CMPXCHG])
    return [Insn(opcode, dst, rng.randrange(10), off, atomic)]


def opcodes() -> list[int]:
    """Every opcode that some legal instruction has."""
    return [opcode for opcode, rule in enumerate(rules()) if rule is not None]


def program(rng: random.Random, length: int, exclude: frozenset[int] = frozenset()) -> list[Insn]:
    """A legal program of about ``length`` instructions: any opcode, jumps and calls aimed at instructions."""
    choice = [opcode for opcode in opcodes() if opcode not in exclude]
    insns: list[Insn] = []
    starts: list[int] = []
    for _ in range(length):
        starts.append(len(insns))
        insns += legal(rng, rng.choice(choice))
    starts.append(len(insns))
    insns.append(Insn(op.EXIT))
    for pc in starts:
        insn = insns[pc]
        near = [slot for slot in starts if -30000 < slot - pc < 30000]
        distance = rng.choice(near) - pc - 1
        if (
            insn.opcode == op.GOTOL
            or (insn.opcode == op.CALL and insn.src == 1)
            or (insn.opcode == op.LD_IMM64 and insn.src == op.BPF_PSEUDO_FUNC)
        ):
            insns[pc] = insn._replace(imm=distance)
        elif is_jump(insn):
            insns[pc] = insn._replace(off=distance)
    return insns


def anything(rng: random.Random) -> Insn:
    """A slot with any bits."""
    if rng.random() < 0.5:
        return Insn(
            rng.randrange(256),
            rng.randrange(16),
            rng.randrange(16),
            _edge(rng, _OFFS, 16),
            _edge(rng, (*_IMMS, *_ATOMIC, 16, 32, 64, 0xE1, 0xF1, 0x100, 0x110), 32),
        )
    insn = legal(rng, rng.choice(opcodes()))[0]
    field = rng.choice(("dst", "src", "off", "imm"))
    value = {"dst": rng.randrange(16), "src": rng.randrange(16), "off": _edge(rng, _OFFS, 16)}
    return insn._replace(**{field: value.get(field, _edge(rng, _IMMS, 32))})


def classic_opcodes() -> list[int]:
    """Every classic opcode that libpcap has a name for."""
    loads = [
        c.BPF_LD | size | mode for size in (c.BPF_W, c.BPF_H, c.BPF_B) for mode in (c.BPF_ABS, c.BPF_IND)
    ]
    loads += [c.BPF_LD | c.BPF_LEN, c.BPF_LD | c.BPF_IMM, c.BPF_LD | c.BPF_MEM, c.BPF_ST, c.BPF_STX]
    loads += [c.BPF_LDX | c.BPF_IMM, c.BPF_LDX | c.BPF_MEM, c.BPF_LDX | c.BPF_MSH | c.BPF_B]
    alu = [c.BPF_ALU | o | x for o in (*range(0, 0x80, 0x10), 0x90, 0xA0) for x in (c.BPF_K, c.BPF_X)]
    jumps = [c.BPF_JMP | o | x for o in range(0x10, 0x50, 0x10) for x in (c.BPF_K, c.BPF_X)]
    return [
        *loads, *alu, *jumps, c.BPF_ALU | c.BPF_NEG, c.BPF_JMP, c.BPF_RET, c.BPF_RET | c.BPF_A,
        c.BPF_MISC | c.BPF_TAX, c.BPF_MISC | c.BPF_TXA,
    ]  # fmt: skip


def classic_program(rng: random.Random, length: int) -> list[ClassicInsn]:
    """Instructions with every opcode; unused fields 0; jumps stay within 255 ahead."""
    out: list[ClassicInsn] = []
    for pc in range(length):
        code = rng.choice(classic_opcodes())
        k = _edge(rng, (*_IMMS, *range(-0x1000, -0x1000 + 68, 4)), 32) & 0xFFFFFFFF
        cls = code & 7
        jt = jf = 0
        if cls == c.BPF_JMP:
            room = min(255, length - pc)
            if code == c.BPF_JMP:
                k = rng.randrange(room + 1)
            else:
                jt, jf = rng.randrange(room + 1), rng.randrange(room + 1)
        unused = code & c.BPF_X and cls in (c.BPF_ALU, c.BPF_JMP)
        if code in (c.BPF_ST, c.BPF_STX, c.BPF_LD | c.BPF_MEM, c.BPF_LDX | c.BPF_MEM):
            k = rng.randrange(c.BPF_MEMWORDS)
        if unused or code in (0x84, 0x07, 0x87, 0x16, 0x80):
            k = 0
        out.append(ClassicInsn(code, jt, jf, k))
    return out
