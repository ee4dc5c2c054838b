"""Programs that are nearly valid: built over what each register is, then now and then spoilt.

The generator knows the kind of every register and writes statements that fit, mostly; a part of the programs
is then changed in one or two places. About half are accepted by Linux. A seed gives the same program always.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from skep.isa import Insn, ld_imm64
from skep.isa import opcodes as op
from skep.uapi.enums import ProgType
from tests.verifier.generate_facts import (
    ALU,
    ARRAY,
    COMPARE,
    CTX,
    EDGES,
    EVENTS,
    FP,
    HASH,
    MAPS,
    MOV64,
    NOTHING,
    NUMBER,
    PERCPU,
    RING,
    RODATA,
    SETTINGS,
    SIZES,
    SMALL,
    Kind,
    X,
    meet,
    number,
)  # fmt: skip
from tests.verifier.generate_spoil import bounded_work, spoil
from tests.verifier.harness.question import Question

__all__ = ["MAPS", "SETTINGS", "Maker", "bounded_work", "question"]


class Maker:
    """Makes one program."""

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

    # --- parts ----------------------------------------------------------------------------------

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

    # --- statements -----------------------------------------------------------------------------

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

    def access(self) -> None:
        """A load or store through a pointer that is there."""
        rng = self.random
        base = self.pick("value", "packet", "record", "value", among=range(10))
        if base is None:
            return self.lookup()
        kind = self.regs[base]
        size = rng.choice((1, 2, 4, 8))
        if kind.name == "value":
            room = MAPS[kind.a].value_size - kind.b
        elif kind.name == "packet":
            room = kind.b
        else:
            room = kind.a
        if room < size:
            size = 1
        offset = rng.randint(0, max(0, room - size))
        if self.chance(0.85):
            offset = offset // size * size
        if self.chance(0.04):
            offset += rng.choice((size, room, -1, -8, 1))
        read_only = (kind.name == "value" and kind.a == RODATA) or (
            kind.name == "packet" and not self.setting.packet_write
        )
        self._touch(base, offset, size, write=self.chance(0.45) and (not read_only or self.chance(0.05)))

    def _touch(self, base: int, offset: int, size: int, write: bool) -> None:
        rng = self.random
        if not write:
            register = self.free()
            signed = size < 8 and self.chance(0.15)
            mode = op.BPF_MEMSX if signed else op.BPF_MEM
            self.emit(op.BPF_LDX | mode | SIZES[size], register, base, offset)
            self.regs[register] = number(0, (1 << 8 * size) - 1) if size < 8 and not signed else NUMBER
        elif self.chance(0.3):
            self.emit(op.BPF_ST | op.BPF_MEM | SIZES[size], base, 0, offset, self.imm())
        elif self.chance(0.2) and size >= 4 and self.regs[base].name != "packet":
            operation = rng.choice(
                (op.BPF_ADD, op.BPF_OR, op.BPF_AND, op.BPF_XOR, op.BPF_ADD | op.BPF_FETCH, op.BPF_XCHG)
            )
            self.emit(
                op.BPF_STX | op.BPF_ATOMIC | SIZES[size],
                base,
                self.some_number(),
                offset // size * size,
                operation,
            )
        else:
            self.emit(op.BPF_STX | op.BPF_MEM | SIZES[size], base, self.some_number(), offset)

    def indexed(self) -> None:
        """A value accessed at a variable index."""
        rng = self.random
        base = self.pick("value")
        if base is None:
            return self.lookup()
        kind = self.regs[base]
        room = MAPS[kind.a].value_size - kind.b
        size = rng.choice((1, 2, 4, 8))
        if room < size:
            return
        index = self.bounded(room - size)
        if index == base:
            return
        pointer = self.free()
        if pointer in (index, base):
            return
        self.emit(MOV64 | X, pointer, base)
        if self.chance(0.8):
            self.emit(op.BPF_ALU64 | op.BPF_ADD | X, pointer, index)
        else:
            self.emit(op.BPF_ALU64 | op.BPF_MOV | X, pointer, index)
            self.emit(op.BPF_ALU64 | op.BPF_ADD | X, pointer, base)
        self.regs[pointer] = Kind("indexed", kind.a)
        offset = 0 if self.chance(0.9) else rng.choice((-1, 1, size))
        self._touch(pointer, offset, size, write=self.chance(0.4) and kind.a != RODATA)
        if self.regs[pointer].name == "indexed":
            self.regs[pointer] = NOTHING if self.chance(0.5) else Kind("odd")

    def move_pointer(self) -> None:
        """Constant arithmetic on a pointer, or a copy of one."""
        rng = self.random
        base = self.pick("value", "packet")
        if base is None:
            return
        kind = self.regs[base]
        target = self.free(6)
        if target == base:
            return
        self.emit(MOV64 | X, target, base)
        self.regs[target] = kind
        if self.chance(0.6):
            room = MAPS[kind.a].value_size - kind.b if kind.name == "value" else kind.b
            delta = rng.randint(0, max(0, room - 1)) // 4 * 4
            self.emit(op.BPF_ALU64 | op.BPF_ADD, target, imm=delta)
            if kind.name == "value":
                self.regs[target] = Kind("value", kind.a, kind.b + delta)
            else:
                self.regs[target] = Kind("packet", kind.a + delta, kind.b - delta)

    def lookup(self) -> None:
        rng = self.random
        index = rng.choice((ARRAY, HASH, PERCPU, SMALL, ARRAY))
        at = -8
        if self.chance(0.6):
            self.emit(op.BPF_ST | op.BPF_MEM | op.BPF_DW, 10, 0, at, rng.choice((0, 1, 5)))
        else:
            self.emit(op.BPF_STX | op.BPF_MEM | op.BPF_DW, 10, self.some_number(), at)
        self.emit(MOV64 | X, 2, 10)
        self.emit(op.BPF_ALU64 | op.BPF_ADD, 2, imm=at if self.chance(0.97) else self.slot())
        self.load_map(1, index)
        self.call(1)
        target = self.free(6)
        tested_first = self.chance(0.5)
        if not tested_first:
            self.emit(MOV64 | X, target, 0)
        if self.chance(0.95):
            test = 0 if tested_first or self.chance(0.2) else target
            if self.chance(0.8):
                self.leave_if(op.BPF_JMP | op.BPF_JEQ, test)
            else:
                skip = self.emit(op.BPF_JMP | op.BPF_JNE, test)
                self.emit(MOV64, 0)
                self.outs.append(self.emit(op.JA))
                self.out[skip] = self.out[skip]._replace(off=len(self.out) - skip - 1)
        if tested_first:
            self.emit(MOV64 | X, target, 0)
        self.regs[target] = Kind("value", index)
        self.regs[0] = Kind("value", index) if tested_first else NOTHING

    def direct_value(self) -> None:
        """An address in .rodata or in an array of one element."""
        rng = self.random
        index = rng.choice((RODATA, SMALL))
        register = self.free()
        offset = rng.randrange(MAPS[index].value_size) // 8 * 8 if self.chance(0.98) else 16
        self.emit(op.LD_IMM64, register, op.BPF_PSEUDO_MAP_VALUE, imm=index)
        self.emit(0, imm=offset)
        self.regs[register] = Kind("value", index, min(offset, 8))

    def packet(self) -> None:
        if self.setting.packet is None:
            return self.lookup()
        rng = self.random
        ctx = self.pick("ctx")
        if ctx is None:
            return None
        data, end, limit = self.free(6), self.free(), self.free()
        if len({data, end, limit, ctx}) < 4:
            return None
        count = rng.choice((1, 2, 4, 8, 14, 20, 34, 64))
        first, last = self.setting.packet
        self.emit(op.BPF_LDX | op.BPF_MEM | op.BPF_W, data, ctx, first)
        self.emit(op.BPF_LDX | op.BPF_MEM | op.BPF_W, end, ctx, last)
        self.emit(MOV64 | X, limit, data)
        self.emit(op.BPF_ALU64 | op.BPF_ADD, limit, imm=count)
        if self.chance(0.97):
            how = rng.randrange(4)
            if how == 0:
                self.leave_if(op.BPF_JMP | op.BPF_JGT | X, limit, end)
            elif how == 1:
                self.leave_if(op.BPF_JMP | op.BPF_JLT | X, end, limit)
            elif how == 2:
                self.leave_if(op.BPF_JMP | op.BPF_JGE | X, limit, end)
            else:
                self.emit(op.BPF_JMP | op.BPF_JLE | X, limit, end, 1)
                self.outs.append(self.emit(op.JA))
        self.regs[data], self.regs[end] = Kind("packet", 0, count), Kind("end")
        self.regs[limit] = NOTHING
        if self.chance(0.3):
            self.variable_packet(data, end, count)
        return None

    def variable_packet(self, data: int, end: int, count: int) -> None:
        """A header whose length is in the packet."""
        length, header = self.free(), self.free(6)
        limit = self.free()
        if len({data, end, length, header, limit}) < 5 or self.in_loop:
            return
        self.emit(op.BPF_LDX | op.BPF_MEM | op.BPF_B, length, data, self.random.randrange(count))
        self.regs[length] = number(0, 255)
        if self.chance(0.6):
            self.emit(op.BPF_ALU64 | op.BPF_AND, length, imm=15)
            self.emit(op.BPF_ALU64 | op.BPF_LSH, length, imm=2)
        self.emit(MOV64 | X, header, data)
        self.emit(op.BPF_ALU64 | op.BPF_ADD | X, header, length)
        self.emit(MOV64 | X, limit, header)
        self.emit(op.BPF_ALU64 | op.BPF_ADD, limit, imm=8)
        if self.chance(0.95):
            self.leave_if(op.BPF_JMP | op.BPF_JGT | X, limit, end)
        self.regs[header], self.regs[limit] = Kind("packet", 0, 8), NOTHING

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

    def variable_stack(self) -> None:
        index = self.bounded(self.random.choice((7, 15, 31)))
        pointer = self.free()
        if pointer == index:
            return
        size = self.random.choice((1, 1, 2, 8))
        self.emit(MOV64 | X, pointer, 10)
        if size > 1 and self.chance(0.9):
            self.emit(op.BPF_ALU64 | op.BPF_AND, index, imm=-size)
        self.emit(op.BPF_ALU64 | op.BPF_ADD | X, pointer, index)
        self._touch(pointer, -64, size, write=self.chance(0.4))
        self.regs[pointer] = NOTHING
        self.stack = {k: v for k, v in self.stack.items() if v.name == "number"}

    def helper_memory(self) -> None:
        """A helper that takes memory and its size."""
        rng = self.random
        most = rng.choice((8, 16, 32))
        size: int | None = None
        if self.chance(0.5):
            size = self.bounded(most)
            self.emit(MOV64 | X, 9, size)
            size = 9
        if self.setting.tracing:
            self.emit(MOV64 | X, 1, 10)
            self.emit(op.BPF_ALU64 | op.BPF_ADD, 1, imm=-64)
            value = self.pick("value", among=range(6, 10))
            if value is not None and self.regs[value].b == 0 and self.chance(0.5):
                self.emit(MOV64 | X, 1, value)
                most = min(most, MAPS[self.regs[value].a].value_size)
            if size is None:
                self.emit(MOV64, 2, imm=most if self.chance(0.9) else most + 40)
            else:
                self.emit(MOV64 | X, 2, size)
            self.emit(MOV64, 3)
            self.call(rng.choice((113, 115)))  # bpf_probe_read_kernel, bpf_probe_read_kernel_str
        elif self.setting.prog_type in (ProgType.SCHED_CLS, ProgType.XDP):
            for slot in range(1, 5):
                self.emit(op.BPF_ST | op.BPF_MEM | op.BPF_DW, 10, 0, -32 - 8 * slot)
            self.emit(MOV64, 1)
            self.emit(MOV64, 2)
            self.emit(MOV64 | X, 3, 10)
            self.emit(op.BPF_ALU64 | op.BPF_ADD, 3, imm=-64)
            if size is None:
                self.emit(MOV64, 4, imm=most)
            else:
                self.emit(MOV64 | X, 4, size)
            self.emit(MOV64, 5)
            self.call(28)  # bpf_csum_diff
        else:
            ctx = self.pick("ctx", among=range(6, 10))
            if ctx is None:
                return
            self.emit(MOV64 | X, 1, ctx)
            self.emit(MOV64, 2, imm=rng.choice((0, 14)))
            self.emit(MOV64 | X, 3, 10)
            self.emit(op.BPF_ALU64 | op.BPF_ADD, 3, imm=-64)
            if size is None:
                self.emit(MOV64, 4, imm=most if self.chance(0.9) else most + 40)
            else:
                self.emit(MOV64 | X, 4, size)
                if self.chance(0.9):
                    self.emit(op.BPF_ALU64 | op.BPF_ADD, 4, imm=1)
            self.call(26)  # bpf_skb_load_bytes
        if size is not None:
            self.regs[9] = NUMBER

    def update(self) -> None:
        rng = self.random
        index = rng.choice((ARRAY, HASH, SMALL))
        self.emit(op.BPF_ST | op.BPF_MEM | op.BPF_DW, 10, 0, -8, rng.choice((0, 1)))
        value = self.pick("value", among=range(6, 10))
        if rng.random() < 0.3:
            self.emit(MOV64 | X, 2, 10)
            self.emit(op.BPF_ALU64 | op.BPF_ADD, 2, imm=-8)
            self.load_map(1, index)
            return self.call(3)
        for slot in range(2, 8):
            self.emit(op.BPF_ST | op.BPF_MEM | op.BPF_DW, 10, 0, -8 * slot, slot)
        self.stack.clear()
        self.emit(MOV64 | X, 2, 10)
        self.emit(op.BPF_ALU64 | op.BPF_ADD, 2, imm=-8)
        if value is not None and self.chance(0.3):
            self.emit(MOV64 | X, 3, value)
        else:
            self.emit(MOV64 | X, 3, 10)
            self.emit(op.BPF_ALU64 | op.BPF_ADD, 3, imm=-56 if self.chance(0.95) else -8)
        self.emit(MOV64, 4)
        self.load_map(1, index)
        return self.call(2)

    def record(self) -> None:
        """A ring buffer record, given back most of the time."""
        if self.setting.prog_type == ProgType.RAW_TRACEPOINT and self.chance(0.5):
            return
        size = self.random.choice((8, 16, 40))
        self.load_map(1, RING)
        self.emit(MOV64, 2, imm=size)
        self.emit(MOV64, 3)
        self.call(131)
        register = self.random.choice((7, 8))
        if self.chance(0.5):
            self.leave_if(op.BPF_JMP | op.BPF_JEQ, 0)
            self.emit(MOV64 | X, register, 0)
        else:
            self.emit(MOV64 | X, register, 0)
            self.leave_if(op.BPF_JMP | op.BPF_JEQ, register)
        before = self.regs[register]
        self.regs[0], self.regs[register] = NOTHING, Kind("record", size)
        del before
        for _ in range(self.random.randrange(3)):
            offset = self.random.randrange(0, size, 8)
            self._touch(register, offset + (0 if self.chance(0.95) else size), 8, write=True)
        if self.chance(0.96):
            self.emit(MOV64 | X, 1, register)
            self.emit(MOV64, 2)
            self.call(self.random.choice((132, 133)))
            self.regs[0] = NOTHING
        self.regs[register] = NOTHING if self.chance(0.95) else Kind("record", size)

    def event(self) -> None:
        ctx = self.pick("ctx")
        if ctx is None or self.setting.prog_type == ProgType.SOCKET_FILTER:
            return
        self.emit(op.BPF_ST | op.BPF_MEM | op.BPF_DW, 10, 0, -16, 3)
        self.emit(MOV64 | X, 1, ctx)
        self.load_map(2, EVENTS)
        self.emit(MOV64, 3)
        self.emit(MOV64 | X, 4, 10)
        self.emit(op.BPF_ALU64 | op.BPF_ADD, 4, imm=-16)
        self.emit(MOV64, 5, imm=self.random.choice((8, 16)) if self.chance(0.95) else 24)
        self.call(25)

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

    def branch(self) -> None:
        rng = self.random
        register = self.some_number()
        opcode = rng.choice((op.BPF_JMP, op.BPF_JMP, op.BPF_JMP32)) | rng.choice(COMPARE)
        if self.chance(0.3):
            test = self.emit(opcode | X, register, self.some_number())
        else:
            test = self.emit(opcode, register, imm=self.imm())
        before, stack = list(self.regs), dict(self.stack)
        self.depth += 1
        self.block(rng.randint(1, 4))
        after, after_stack = self.regs, self.stack
        self.regs, self.stack = before, stack
        if self.chance(0.5):
            skip = self.emit(op.JA)
            self.out[test] = self.out[test]._replace(off=len(self.out) - test - 1)
            self.block(rng.randint(1, 4))
            self.out[skip] = self.out[skip]._replace(off=len(self.out) - skip - 1)
        else:
            self.out[test] = self.out[test]._replace(off=len(self.out) - test - 1)
        self.depth -= 1
        self.regs = [meet(a, b) for a, b in zip(self.regs, after, strict=True)]
        self.stack = {k: meet(v, after_stack[k]) for k, v in self.stack.items() if k in after_stack}
        self.stack = {k: v for k, v in self.stack.items() if v != NOTHING}

    def loop(self) -> None:
        """A bounded loop; its counter is r9, and its body keeps pointers."""
        if not self.loops or self.in_loop or self.depth:
            return
        rng = self.random
        turns = rng.choice((2, 3, 5, 8, 16))
        down = self.chance(0.4)
        self.emit(MOV64, 9, imm=turns if down else 0)
        self.regs[9] = Kind("counter")
        head = len(self.out)
        self.in_loop = True
        before = list(self.regs)
        for register in range(9):
            if self.regs[register].name == "number":
                self.regs[register] = NUMBER
        self.block(
            rng.randint(1, 3),
            (self.arithmetic, self.access, self.spill, self.fill, self.branch, self.unknown),
        )
        self.in_loop = False
        self.regs = [meet(a, b) for a, b in zip(self.regs, before, strict=True)]
        self.emit(op.BPF_ALU64 | op.BPF_ADD, 9, imm=-1 if down else 1)
        opcode = op.BPF_JNE if down else rng.choice((op.BPF_JLT, op.BPF_JNE, op.BPF_JSLT))
        self.emit(op.BPF_JMP | opcode, 9, off=head - len(self.out) - 1, imm=0 if down else turns)
        self.regs[9] = NUMBER

    def function(self) -> None:
        """A call of a static function with pointers and numbers."""
        if self.frame or self.in_loop or len(self.functions) >= 2:
            return
        arguments: list[Kind] = []
        for register in range(1, 1 + self.random.randint(1, 3)):
            source = self.pick("value", "number", "ctx", "packet", among=range(6, 10))
            if source is None:
                self.emit(MOV64, register, imm=self.imm())
                arguments.append(NUMBER)
            else:
                self.emit(MOV64 | X, register, source)
                arguments.append(self.regs[source])
        self.calls.append((len(self.out), len(self.functions)))
        self.functions.append(arguments)
        self.emit(op.CALL, 0, op.BPF_PSEUDO_CALL)
        for register in range(1, 6):
            self.regs[register] = NOTHING
        self.regs[0] = NUMBER

    def legacy(self) -> None:
        if self.setting.prog_type not in (ProgType.SOCKET_FILTER, ProgType.SCHED_CLS) or self.regs[6] != CTX:
            return
        self.emit(
            op.BPF_LD | op.BPF_ABS | SIZES[self.random.choice((1, 2, 4))], imm=self.random.choice((0, 12, 14))
        )
        for register in range(1, 6):
            self.regs[register] = NOTHING
        self.regs[0] = NUMBER

    def block(self, count: int, only: tuple[Callable[[], None], ...] = ()) -> None:
        rng = self.random
        kinds: list[tuple[int, Callable[[], None]]] = [
            (14, self.arithmetic), (6, self.constant), (7, self.unknown), (12, self.access),
            (11, self.indexed), (6, self.move_pointer), (8, self.lookup), (4, self.direct_value),
            (9, self.packet), (9, self.spill), (9, self.fill), (5, self.variable_stack),
            (7, self.helper_memory), (3, self.update), (4, self.record), (2, self.event),
            (4, self.context_write), (2, self.odd), (2, self.legacy),
            (9 if self.depth < 2 else 0, self.branch), (6, self.loop), (5, self.function),
        ]  # fmt: skip
        for _ in range(count):
            if only:
                rng.choice(only)()
            else:
                rng.choices([make for _, make in kinds], [weight for weight, _ in kinds])[0]()

    # --- the whole ------------------------------------------------------------------------------

    def question(self) -> Question:
        rng = self.random
        self.emit(MOV64 | X, 6, 1)
        self.regs[1] = self.regs[6] = CTX
        self.block(rng.choice((3, 6, 10, 16, 24, 40)))
        self._end(self.setting.returns)
        for index, arguments in enumerate(self.functions):
            for pc, which in self.calls:
                if which == index:
                    self.out[pc] = self.out[pc]._replace(imm=len(self.out) - pc - 1)
            self.frame = 1
            self.regs = [NOTHING, *arguments, *[NOTHING] * (9 - len(arguments)), FP]
            self.stack = {}
            for register, _ in enumerate(arguments, 1):
                if self.chance(0.7):
                    self.emit(MOV64 | X, 5 + register, register)
                    self.regs[5 + register] = self.regs[register]
            self.block(rng.randint(1, 6))
            self._end(None)
        insns = self.out
        if rng.random() < 0.55:
            for _ in range(rng.choice((1, 1, 2))):
                insns = spoil(rng, insns)
        return Question(insns, self.setting.prog_type, self.setting.attach_type, maps=MAPS)

    def _end(self, returns: tuple[int, int] | None) -> None:
        register = self.pick("number")
        if register is None or self.chance(0.3):
            self.emit(MOV64, 0)
        else:
            self.emit(MOV64 | X, 0, register)
            if returns is not None and self.chance(0.95):
                self.emit(op.BPF_ALU64 | op.BPF_RSH, 0, imm=63)
        self.emit(op.EXIT)
        if self.outs:
            for pc in self.outs:
                self.out[pc] = self.out[pc]._replace(off=len(self.out) - pc - 1)
            self.emit(MOV64, 0)
            self.emit(op.EXIT)
            self.outs = []


def question(seed: int) -> Question | None:
    """The program of a seed; None where it is not fit for a live kernel."""
    made = Maker(seed).question()
    return made if bounded_work(made.insns) and len(made.insns) < 4000 else None
