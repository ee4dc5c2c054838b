"""Memory of a generated program: values, packets, indexes, stack."""

from __future__ import annotations

from skep.isa import opcodes as op
from tests.verifier.generate_base import Base
from tests.verifier.generate_facts import (
    ARRAY,
    HASH,
    MAPS,
    MOV64,
    NOTHING,
    NUMBER,
    PERCPU,
    RODATA,
    SIZES,
    SMALL,
    Kind,
    X,
    number,
)  # fmt: skip


class Memory(Base):
    """Accesses through pointers."""

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

    def converge(self) -> None:
        """Paths that join with different numbers, one of which may be too large for what follows.

        Only a verifier that knows which numbers matter sees the last path; the number goes through registers,
        spills, arithmetic and a function on its way.
        """
        rng = self.random
        base = self.pick("value", among=range(6, 10))
        if base is None:
            return self.lookup()
        index = rng.choice([r for r in (0, 1, 2, 3, 4, 7, 8) if r != base])
        self.regs[index] = NOTHING
        coin = rng.choice([r for r in (0, 1, 2, 3, 4, 5) if r not in (base, index)])
        room = MAPS[self.regs[base].a].value_size - self.regs[base].b
        size = rng.choice((1, 2, 4))
        forks = rng.randint(1, 5)
        most = max(1, room - size)
        steps = [rng.randint(0, max(1, most // forks)) for _ in range(forks)]
        if self.chance(0.5):
            steps[rng.randrange(forks)] += max(0, most - sum(steps)) + rng.choice((0, 0, 1, size))
        at = -8 * rng.randint(3, 12)
        self.emit(MOV64, index)
        spilled = False
        for step in steps:
            if spilled:
                self.emit(op.BPF_LDX | op.BPF_MEM | op.BPF_DW, index, 10, at)
            self.emit(op.BPF_LDX | op.BPF_MEM | op.BPF_B, coin, base, 0)
            self.emit(
                op.BPF_JMP | rng.choice((op.BPF_JEQ, op.BPF_JGT, op.BPF_JSET)), coin, 0, 1, rng.randrange(9)
            )
            how = rng.randrange(3)
            if how == 0:
                self.emit(op.BPF_ALU64 | op.BPF_ADD, index, imm=step)
            elif how == 1:
                self.emit(op.BPF_ALU64 | op.BPF_OR, index, imm=step)
            else:
                self.emit(op.BPF_ALU | op.BPF_ADD, index, imm=step)
            spilled = self.chance(0.3)
            if spilled:
                self.emit(op.BPF_STX | op.BPF_MEM | op.BPF_DW, 10, index, at)
                self.stack.pop(at, None)
                self.emit(MOV64, index, imm=rng.choice((0, 500)))
            if self.chance(0.2):
                self.emit(MOV64 | X, coin, index)
                self.emit(MOV64 | X, index, coin)
        if spilled:
            self.emit(op.BPF_LDX | op.BPF_MEM | op.BPF_DW, index, 10, at)
        if self.chance(0.25) and not self.frame and not self.in_loop and len(self.functions) < 2:
            self.emit(MOV64 | X, 1, index)
            self.calls.append((len(self.out), len(self.functions)))
            self.functions.append([])
            self.emit(op.CALL, 0, op.BPF_PSEUDO_CALL)
            for register in range(6):
                self.regs[register] = NOTHING
            index = 0
        pointer = rng.choice([r for r in (0, 1, 2, 3, 4, 5) if r != index])
        self.emit(MOV64 | X, pointer, base)
        self.emit(op.BPF_ALU64 | op.BPF_ADD | X, pointer, index)
        self.regs[pointer] = self.regs[coin] = NOTHING
        self.regs[index] = NUMBER
        self.emit(op.BPF_LDX | op.BPF_MEM | SIZES[size], pointer, pointer)
        self.regs[pointer] = NUMBER
        return None

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
