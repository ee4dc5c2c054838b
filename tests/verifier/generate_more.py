"""More statements for generated programs: tail calls, queues, byte swaps, long jumps, packets by index.

Apart from `generate`, so that the programs of its seeds stay what they are. No ``may_goto``: loops without a
bound of their own can bring 6.18 kernels to their limit of waiting branches, where some crash.
"""

from __future__ import annotations

from skep.isa import opcodes as op
from skep.obj import MapSpec
from skep.uapi.enums import MapType, ProgType
from tests.verifier.generate import Maker, bounded_work
from tests.verifier.generate_facts import CTX, MOV64, NOTHING, NUMBER, PROGS, QUEUE, SIZES, X, meet
from tests.verifier.harness.question import Question

_TAIL_CALL, _PUSH, _POP, _PEEK = 12, 87, 88, 89


class More(Maker):
    """Every fifth statement is one of those here."""

    def block(self, count: int, only: tuple[object, ...] = ()) -> None:
        for _ in range(count):
            if only or self.chance(0.8):
                super().block(1, only)  # type: ignore[arg-type]
            else:
                self.random.choice((self.swap, self.jump, self.indirect, self.tail_call, self.queue))()

    def swap(self) -> None:
        register = self.some_number()
        self.emit(op.BPF_ALU64 | op.BPF_END, register, imm=self.random.choice((16, 32, 64)))
        self.regs[register] = NUMBER

    def jump(self) -> None:
        """A branch around a block, with a jump of 32 bits."""
        if self.depth >= 2 or self.in_loop:
            return
        self.emit(op.BPF_JMP | op.BPF_JEQ, self.some_number(), off=1, imm=self.imm())
        skip = self.emit(op.GOTOL)
        before, stack = list(self.regs), dict(self.stack)
        self.depth += 1
        self.block(self.random.randint(1, 3))
        self.depth -= 1
        self.out[skip] = self.out[skip]._replace(imm=len(self.out) - skip - 1)
        self.regs = [meet(a, b) for a, b in zip(before, self.regs, strict=True)]
        self.stack = {k: meet(v, self.stack[k]) for k, v in stack.items() if k in self.stack}
        self.stack = {k: v for k, v in self.stack.items() if v != NOTHING}

    def indirect(self) -> None:
        """LD_IND."""
        if self.setting.prog_type not in (ProgType.SOCKET_FILTER, ProgType.SCHED_CLS) or self.regs[6] != CTX:
            return
        mode = op.BPF_LD | op.BPF_IND | SIZES[self.random.choice((1, 2, 4))]
        self.emit(mode, 0, self.some_number(), imm=self.random.choice((0, 4, 14, -4)))
        for register in range(1, 6):
            self.regs[register] = NOTHING
        self.regs[0] = NUMBER

    def tail_call(self) -> None:
        """One that fails here: what comes after it is still there."""
        context = self.pick("ctx", among=range(6, 10))
        if context is None or (self.frame and self.chance(0.9)):
            return
        self.emit(MOV64, 3, imm=self.random.choice((0, 1, 3, 4, 9)))
        if self.chance(0.3):
            self.emit(MOV64 | X, 3, self.some_number())
        self.emit(MOV64 | X, 1, context)
        self.load_map(2, PROGS)
        self.call(_TAIL_CALL)

    def queue(self) -> None:
        """Push, pop or peek at a value on the stack."""
        rng = self.random
        helper = rng.choice((_PUSH, _POP, _PEEK))
        if helper == _PUSH or self.chance(0.5):
            self.emit(op.BPF_ST | op.BPF_MEM | op.BPF_DW, 10, 0, -8, self.imm())
        self.emit(MOV64 | X, 2, 10)
        self.emit(op.BPF_ALU64 | op.BPF_ADD, 2, imm=-8 if self.chance(0.96) else self.slot())
        if helper == _PUSH:
            self.emit(MOV64, 3, imm=rng.choice((0, 2)))
        self.load_map(1, QUEUE)
        self.call(helper)
        if helper != _PUSH and self.chance(0.6):
            target = self.free(6)
            self.emit(op.BPF_LDX | op.BPF_MEM | op.BPF_DW, target, 10, -8)
            self.regs[target] = NUMBER


def question(seed: int) -> Question | None:
    """The program of a seed; None where it is not fit for a live kernel."""
    made = More(seed).question()
    # A kernel's program array is for the type of the first program that names it.
    maps = list(made.maps)
    name = f"progs_{made.prog_type.name.lower()}"[:15]
    maps[PROGS] = MapSpec(name, MapType.PROG_ARRAY, 4, 4, 4)
    made = made._replace(maps=tuple(maps))
    return made if bounded_work(made.insns) and len(made.insns) < 4000 else None
