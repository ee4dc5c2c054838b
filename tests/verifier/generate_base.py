"""Registers and numbers of a generated program: constants, arithmetic, bounds, spills."""

from __future__ import annotations

import random

from skep.isa import Insn, ld_imm64
from skep.isa import opcodes as op
from tests.verifier.generate_facts import (
    ALU,
    COMPARE,
    EDGES,
    FP,
    MOV64,
    NOTHING,
    NUMBER,
    SETTINGS,
    SIZES,
    Kind,
    X,
    number,
)  # fmt: skip


class Base:
    """A program in the making, and what its registers hold."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.setting = self.random.choice(SETTINGS)
        self.out: list[Insn] = []
        self.regs: list[Kind] = [NOTHING] * 10 + [FP]
        self.stack: dict[int, Kind] = {}
        self.calls: list[tuple[int, int]] = []
        self.functions: list[list[Kind]] = []
        self.outs: list[int] = []  # jumps to the end, where r0 is 0
        self.depth = 0
        self.in_loop = False
        self.frame = 0
        self.loops = self.random.random() < 0.3

    def emit(self, opcode: int, dst: int = 0, src: int = 0, off: int = 0, imm: int = 0) -> int:
        self.out.append(Insn(opcode, dst, src, off, imm))
        return len(self.out) - 1

    def chance(self, of: float) -> bool:
        return self.random.random() < of

    def pick(self, *names: str, among: range = range(10)) -> int | None:
        found = [r for r in among if self.regs[r].name in names]
        return self.random.choice(found) if found else None

    def free(self, low: int = 0) -> int:
        """A register to write: rather one that holds nothing dear."""
        rng = self.random
        top = 8 if self.in_loop or self.depth else 9
        found = [
            r for r in range(low, top + 1) if self.regs[r].name in ("nothing", "number") or self.chance(0.1)
        ]
        found = [r for r in found if self.regs[r].name != "record" and not (r == 6 and self.chance(0.9))]
        return rng.choice(found or [0])

    def imm(self) -> int:
        rng = self.random
        return rng.choice(EDGES) if rng.random() < 0.8 else rng.randint(-1000, 1000)

    def slot(self, size: int = 8) -> int:
        rng = self.random
        if rng.random() < 0.006:
            return rng.choice((-520, 0, -4, -12, -512, -516))
        return -8 * rng.randint(3, 12) + (size * rng.randrange(8 // size) if rng.random() < 0.5 else 0)

    def some_number(self) -> int:
        found = self.pick("number")
        if found is None:
            found = self.free()
            self.emit(MOV64, found, imm=abs(self.imm()) & 0xFF)
            self.regs[found] = NUMBER
        return found

    def call(self, helper: int) -> None:
        self.emit(op.CALL, imm=helper)
        for register in range(1, 6):
            self.regs[register] = NOTHING
        self.regs[0] = NUMBER

    def load_map(self, register: int, index: int) -> None:
        self.emit(op.LD_IMM64, register, op.BPF_PSEUDO_MAP_FD, imm=index)
        self.emit(0)
        self.regs[register] = Kind("map", index)

    def leave_if(self, opcode: int, dst: int, src: int = 0, imm: int = 0) -> None:
        self.outs.append(self.emit(opcode, dst, src, 0, imm))

    def constant(self) -> None:
        register = self.free()
        value = self.imm()
        if self.chance(0.2):
            wide = self.random.choice((value, self.random.getrandbits(64), 1 << self.random.randrange(64)))
            self.out += ld_imm64(register, wide)
            self.regs[register] = NUMBER
            return
        opcode = op.BPF_MOV | (op.BPF_ALU64 if self.chance(0.7) else op.BPF_ALU)
        self.emit(opcode, register, imm=value)
        self.regs[register] = number(value, value) if value >= 0 else NUMBER

    def unknown(self) -> None:
        rng = self.random
        if self.chance(0.5):
            self.call(rng.choice((7, 5, 8)))
            register = self.free(6)
            self.emit(MOV64 | X, register, 0)
            self.regs[register] = NUMBER
            return
        ctx = self.pick("ctx")
        if ctx is None:
            return
        offset, size = rng.choice(self.setting.fields)
        register = self.free()
        self.emit(op.BPF_LDX | op.BPF_MEM | SIZES[size], register, ctx, offset)
        self.regs[register] = number(0, (1 << 32) - 1) if size == 4 else NUMBER

    def arithmetic(self) -> None:
        rng = self.random
        dst = self.some_number()
        kind = rng.choice((op.BPF_ALU64, op.BPF_ALU64, op.BPF_ALU))
        operation = rng.choice(ALU)
        how = rng.random()
        if how < 0.1:
            self.emit(kind | op.BPF_NEG, dst)
        elif how < 0.16:
            self.emit(op.BPF_ALU | op.BPF_END | rng.choice((0, 8)), dst, imm=rng.choice((16, 32, 64)))
        elif how < 0.24:
            width = rng.choice((8, 16) if kind == op.BPF_ALU else (8, 16, 32))
            self.emit(kind | op.BPF_MOV | X, dst, self.some_number(), width)
        elif how < 0.28 and operation in (op.BPF_DIV, op.BPF_MOD):
            self.emit(kind | operation | X, dst, self.some_number(), 1)
        elif how < 0.6:
            self.emit(kind | operation | X, dst, self.some_number())
        else:
            value = self.imm()
            if operation in (op.BPF_LSH, op.BPF_RSH, op.BPF_ARSH) and self.chance(0.98):
                value &= 63 if kind == op.BPF_ALU64 else 31
            if operation in (op.BPF_DIV, op.BPF_MOD) and self.chance(0.98):
                value = value or 5
            self.emit(kind | operation, dst, imm=value)
            if operation == op.BPF_AND and value >= 0:
                self.regs[dst] = number(0, value)
                return
        self.regs[dst] = NUMBER

    def bounded(self, most: int) -> int:
        """A register with a number from 0 to ``most``, by one of the ways people write it."""
        rng = self.random
        register = self.some_number()
        if self.regs[register].a >= 0 and self.regs[register].b <= most and self.chance(0.7):
            return register
        if self.chance(0.04):
            most += rng.choice((1, -1, 8))  # off by a little
        mask = (1 << most.bit_length()) - 1
        mask = mask if mask <= most else mask >> 1
        how = rng.randrange(9)
        if how == 0:
            self.emit(op.BPF_ALU64 | op.BPF_AND, register, imm=mask)
        elif how == 1:
            self.leave_if(op.BPF_JMP | op.BPF_JGT, register, imm=most)
        elif how == 2:
            self.leave_if(op.BPF_JMP | op.BPF_JGE, register, imm=most + 1)
        elif how == 3:
            self.leave_if(op.BPF_JMP | op.BPF_JSGT, register, imm=most)
            self.leave_if(op.BPF_JMP | op.BPF_JSLT, register, imm=0)
        elif how == 4:
            self.emit(op.BPF_ALU | op.BPF_MOV | X, register, register)
            self.leave_if(op.BPF_JMP32 | op.BPF_JGT, register, imm=most)
        elif how == 5:
            self.emit(op.BPF_ALU64 | op.BPF_RSH, register, imm=64 - mask.bit_length())
        elif how == 6:
            self.emit(op.BPF_ALU | op.BPF_AND, register, imm=mask)
        elif how == 7:
            other = self.free()
            if other != register:
                self.emit(MOV64, other, imm=most)
                self.regs[other] = number(most, most)
                self.leave_if(op.BPF_JMP | op.BPF_JGT | X, register, other)
            else:
                self.leave_if(op.BPF_JMP | op.BPF_JGT, register, imm=most)
        else:
            skip = self.emit(op.BPF_JMP | op.BPF_JLE, register, off=1, imm=most)
            self.emit(MOV64, register, imm=rng.randint(0, max(0, most)))
            del skip
        self.regs[register] = number(0, max(0, most))
        return register

    def spill(self) -> None:
        rng = self.random
        at = -8 * rng.randint(3, 12)
        if self.chance(0.5):
            register = rng.choice(
                [r for r in range(10) if self.regs[r].name not in ("nothing", "record")] or [10]
            )
            self.emit(op.BPF_STX | op.BPF_MEM | op.BPF_DW, 10, register, at)
            self.stack[at] = self.regs[register]
        elif self.chance(0.5):
            size = rng.choice((1, 2, 4))
            self.emit(op.BPF_STX | op.BPF_MEM | SIZES[size], 10, self.some_number(), self.slot(size))
            self.stack = {k: v for k, v in self.stack.items() if v.name == "number"}
        else:
            size = rng.choice((1, 2, 4, 8))
            self.emit(op.BPF_ST | op.BPF_MEM | SIZES[size], 10, 0, self.slot(size), self.imm())
            self.stack = {k: v for k, v in self.stack.items() if v.name == "number"}

    def fill(self) -> None:
        rng = self.random
        if self.stack and self.chance(0.7):
            at = rng.choice(sorted(self.stack))
            register = self.free()
            self.emit(op.BPF_LDX | op.BPF_MEM | op.BPF_DW, register, 10, at)
            self.regs[register] = self.stack[at]
            return
        size = rng.choice((1, 2, 4, 8))
        register = self.free()
        self.emit(op.BPF_LDX | op.BPF_MEM | SIZES[size], register, 10, self.slot(size))
        self.regs[register] = NUMBER if self.chance(0.9) else NOTHING

    def context_write(self) -> None:
        ctx = self.pick("ctx")
        if ctx is None or not self.setting.writable:
            return
        offset, size = self.random.choice(self.setting.writable)
        if self.chance(0.05):
            offset += 4
        self.emit(op.BPF_STX | op.BPF_MEM | SIZES[size], ctx, self.some_number(), offset)

    def odd(self) -> None:
        """Pointer arithmetic and comparisons of the strange kinds."""
        rng = self.random
        held = [r for r in range(11) if self.regs[r].name != "nothing"]
        a, b = rng.choice(held), rng.choice(held)
        how = rng.randrange(7)
        if how == 0 and a < 10:
            self.emit(op.BPF_ALU64 | op.BPF_SUB | X, a, b)
            self.regs[a] = NUMBER if self.regs[a].name != "nothing" else NOTHING
        elif how == 1:
            self.emit(op.BPF_JMP | rng.choice(COMPARE) | X, a, b, 0)
        elif how == 2 and a < 10:
            self.emit(op.BPF_ALU | op.BPF_MOV | X, a, b)
            self.regs[a] = NUMBER
        elif how == 3 and a < 10:
            self.emit(op.BPF_ALU64 | op.BPF_ADD | X, a, b)
        elif how == 4 and a < 10:
            self.emit(op.BPF_ALU64 | op.BPF_ADD, a, imm=self.imm())
        elif how == 5:
            self.emit(op.BPF_JMP | rng.choice(COMPARE), a, 0, 0, self.imm())
        else:
            self.emit(
                op.BPF_LDX | op.BPF_MEM | SIZES[rng.choice((4, 8))], min(a, 9), b, rng.choice((0, 8, -8))
            )
            self.regs[min(a, 9)] = NUMBER
