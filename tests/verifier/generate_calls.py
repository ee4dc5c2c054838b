"""Helper calls of a generated program."""

from __future__ import annotations

from skep.isa import opcodes as op
from skep.uapi.enums import ProgType
from tests.verifier.generate_facts import (
    ARRAY,
    CTX,
    EVENTS,
    HASH,
    MAPS,
    MOV64,
    NOTHING,
    NUMBER,
    RING,
    SIZES,
    SMALL,
    Kind,
    X,
)  # fmt: skip
from tests.verifier.generate_memory import Memory


class Calls(Memory):
    """Helpers with memory, maps, records."""

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

    def legacy(self) -> None:
        if self.setting.prog_type not in (ProgType.SOCKET_FILTER, ProgType.SCHED_CLS) or self.regs[6] != CTX:
            return
        self.emit(
            op.BPF_LD | op.BPF_ABS | SIZES[self.random.choice((1, 2, 4))], imm=self.random.choice((0, 12, 14))
        )
        for register in range(1, 6):
            self.regs[register] = NOTHING
        self.regs[0] = NUMBER
