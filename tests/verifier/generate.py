"""Programs that are nearly valid: built over what each register is, then now and then spoilt.

The generator knows the kind of every register and writes statements that fit, mostly; a part of the programs
is then changed in one or two places. About half are accepted by Linux. A seed gives the same program always.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from skep.isa import opcodes as op
from tests.verifier.generate_calls import Calls
from tests.verifier.generate_facts import (
    COMPARE,
    CTX,
    FP,
    MAPS,
    MOV64,
    NOTHING,
    NUMBER,
    SETTINGS,
    Kind,
    X,
    meet,
)  # fmt: skip
from tests.verifier.generate_spoil import bounded_work, spoil
from tests.verifier.harness.question import Question

__all__ = ["MAPS", "SETTINGS", "Maker", "bounded_work", "question"]


class Maker(Calls):
    """Makes one program: statements, branches, loops, functions."""

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

    def block(self, count: int, only: tuple[Callable[[], None], ...] = ()) -> None:
        rng = self.random
        kinds: list[tuple[int, Callable[[], None]]] = [
            (14, self.arithmetic), (6, self.constant), (7, self.unknown), (12, self.access),
            (11, self.indexed), (6, self.move_pointer), (8, self.lookup), (4, self.direct_value),
            (9, self.packet), (9, self.spill), (9, self.fill), (5, self.variable_stack),
            (7, self.helper_memory), (3, self.update), (4, self.record), (2, self.event),
            (4, self.context_write), (2, self.odd), (2, self.legacy),
            (9 if self.depth < 2 else 0, self.branch), (6, self.loop), (6, self.converge), (5, self.function),
        ]  # fmt: skip
        for _ in range(count):
            if only:
                rng.choice(only)()
            else:
                rng.choices([make for _, make in kinds], [weight for weight, _ in kinds])[0]()

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
            if not arguments:  # a number comes in, and goes out again
                self._through(rng)
                continue
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

    def _through(self, rng: random.Random) -> None:
        """A function that gives back its first argument, by some way."""
        how = rng.randrange(4)
        if how == 0:
            self.emit(MOV64 | X, 0, 1)
        elif how == 1:
            self.emit(op.BPF_STX | op.BPF_MEM | op.BPF_DW, 10, 1, -8)
            self.emit(op.BPF_LDX | op.BPF_MEM | op.BPF_DW, 0, 10, -8)
        elif how == 2:
            self.emit(MOV64 | X, 6, 1)
            self.emit(op.CALL, imm=7)
            self.emit(MOV64 | X, 0, 6)
        else:
            self.emit(MOV64, 0, imm=rng.choice((0, 0, 1)))
            self.emit(op.BPF_ALU64 | op.BPF_ADD | X, 0, 1)
        self.emit(op.EXIT)

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
