"""Random extended BPF programs that Linux's verifier accepts, and that end.

A program is a tree of statements (so that a failing one can be shrunk) over these invariants, which every
statement keeps: r6 of the main program is the context, all other registers and eight double words of
stack hold scalars. The result folds every register and stack slot into r0, so nothing goes unseen.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

from skep.isa import Insn, ld_imm64
from skep.isa import opcodes as op

M32, M64 = (1 << 32) - 1, (1 << 64) - 1

EDGES = (
    0, 1, 2, 3, 7, 8, 15, 16, 31, 32, 33, 63, 64, 65, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF,
    0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x100000000, 0x7FFFFFFFFFFFFFFF, 0x8000000000000000,
    0xFFFFFFFF80000000, 0xFFFFFFFFFFFFFFFF, 0xFFFFFFFFFFFFFFFE, 0x10000, 0x8000000000000001,
)  # fmt: skip

SLOTS = 8  # double words of stack that are always initialised
FETCHED = 2  # more of them below, whose contents the verifier never knows
CTX_BYTES = 192  # sizeof(struct __sk_buff)
CB = 48  # offset of cb[5], which programs may read and write in any size
CB_BYTES = 20

ALU = (
    op.BPF_ADD, op.BPF_SUB, op.BPF_MUL, op.BPF_DIV, op.BPF_OR, op.BPF_AND, op.BPF_LSH, op.BPF_RSH,
    op.BPF_MOD, op.BPF_XOR, op.BPF_MOV, op.BPF_ARSH,
)  # fmt: skip
JUMPS = (
    op.BPF_JEQ, op.BPF_JGT, op.BPF_JGE, op.BPF_JSET, op.BPF_JNE, op.BPF_JSGT, op.BPF_JSGE,
    op.BPF_JLT, op.BPF_JLE, op.BPF_JSLT, op.BPF_JSLE,
)  # fmt: skip
SIZES = {1: op.BPF_B, 2: op.BPF_H, 4: op.BPF_W, 8: op.BPF_DW}
RMW = (op.BPF_ADD, op.BPF_OR, op.BPF_AND, op.BPF_XOR)


class Plain(NamedTuple):
    """Instructions without jumps."""

    insns: tuple[Insn, ...]


class If(NamedTuple):
    """``test`` is a conditional jump without offset; it leads to ``then``."""

    test: Insn
    then: tuple[Statement, ...]
    otherwise: tuple[Statement, ...]
    long: bool  # gotol instead of ja


class Loop(NamedTuple):
    """``body`` ``turns`` times; the counter is r9."""

    turns: int
    body: tuple[Statement, ...]
    may_goto: bool


class Call(NamedTuple):
    """A call of ``function``, then new values for r1 to r5."""

    function: int
    after: tuple[Insn, ...]


Statement = Plain | If | Loop | Call


class Program(NamedTuple):
    """A program, and what it runs on. ``ctx`` is a struct __sk_buff that PROG_TEST_RUN accepts."""

    seed: int
    main: tuple[Statement, ...]
    functions: tuple[tuple[Statement, ...], ...]
    packet: bytes
    ctx: bytes

    def insns(self) -> list[Insn]:
        """The program's slots."""
        return _Emitter(self).program()

    def shrunk(self, fails: Callable[[Program], bool], rounds: int = 400) -> Program:
        """A smaller program for which ``fails`` still holds: statements removed, branches flattened."""
        best, tried = self, 0
        progress = True
        while progress and tried < rounds:
            progress = False
            for smaller in best._smaller():
                tried += 1
                if fails(smaller):
                    best, progress = smaller, True
                    break
                if tried >= rounds:
                    break
        return best

    def _smaller(self) -> Iterator[Program]:
        for main in _reductions(self.main):
            yield self._replace(main=main)
        for index, body in enumerate(self.functions):
            for reduced in _reductions(body):
                functions = (*self.functions[:index], reduced, *self.functions[index + 1 :])
                yield self._replace(functions=functions)


def _reductions(body: tuple[Statement, ...]) -> Iterator[tuple[Statement, ...]]:
    half = len(body) // 2
    while half:  # long pieces first
        for start in range(0, len(body), half):
            yield body[:start] + body[start + half :]
        half //= 2
    for index, statement in enumerate(body):
        head, tail = body[:index], body[index + 1 :]
        if isinstance(statement, If):
            yield head + statement.then + tail
            yield head + statement.otherwise + tail
            for then in _reductions(statement.then):
                yield (*head, statement._replace(then=then), *tail)
            for otherwise in _reductions(statement.otherwise):
                yield (*head, statement._replace(otherwise=otherwise), *tail)
        elif isinstance(statement, Loop):
            if statement.turns > 1:
                yield (*head, statement._replace(turns=1), *tail)
            for inner in _reductions(statement.body):
                yield (*head, statement._replace(body=inner), *tail)


class Generator:
    """Makes programs from one seed. ``kernel=False`` also makes what Linux refuses but engines must run.

    What Linux may load has no loop with ``&=`` or ``|=`` of a number that may be known to lie in [-1, 0], nor
    with calls, whose functions have some: a verifier that splits such a number in two (Linux 6.18) does not
    ask whether there is room for one more state, and a loop's states may fill it.
    """

    def __init__(self, seed: int, *, kernel: bool = True) -> None:
        self.seed = seed
        self.random = random.Random(seed)
        self.kernel = kernel
        #: inside a loop of a program for Linux
        self.careful = False

    def program(self, size: int = 25) -> Program:
        rng = self.random
        self.calls = rng.random() < 0.35
        self.packet = not self.calls and rng.random() < 0.5
        self.ctx = True
        count = rng.randint(1, 3) if self.calls else 0
        packet = bytearray(rng.randbytes(rng.choice((34, 40, 60, 61, 64, 90, 200))))
        packet[12] = 0x12  # no ethertype that PROG_TEST_RUN would look into
        ctx = bytearray(CTX_BYTES)
        struct.pack_into("=I", ctx, 8, rng.choice(EDGES) & M32)  # mark
        struct.pack_into("=I", ctx, 32, rng.choice(EDGES) & M32)  # priority
        ctx[CB : CB + CB_BYTES] = bytes(rng.choice((0, 1, 0x7F, 0x80, 0xFF, 0x55)) for _ in range(CB_BYTES))
        main = self.body(rng.randint(3, size), set(range(10)) - {6}, 0, count, first=0)
        self.ctx = self.packet = False
        functions = tuple(
            self.body(rng.randint(1, 8), set(range(10)), 1, count, first=index + 1) for index in range(count)
        )
        return Program(self.seed, main, functions, bytes(packet), bytes(ctx))

    def body(
        self, size: int, registers: set[int], depth: int, functions: int, first: int, *, loops: bool = True
    ) -> tuple[Statement, ...]:
        rng = self.random
        out: list[Statement] = []
        for _ in range(size):
            kind = rng.random()
            if kind < 0.14 and depth < 3:
                out.append(
                    If(
                        self.test(registers),
                        self.body(rng.randint(0, 5), registers, depth + 1, functions, first, loops=loops),
                        self.body(rng.randint(0, 3), registers, depth + 1, functions, first, loops=loops)
                        if rng.random() < 0.5
                        else (),
                        rng.random() < 0.2,
                    )
                )
            elif kind < 0.18 and loops and depth < 2:
                self.careful = self.kernel
                inner = self.body(
                    rng.randint(1, 5), registers - {9}, depth + 1, functions, first, loops=False
                )
                self.careful = False
                out.append(Loop(rng.randint(1, 6), inner, rng.random() < 0.3))
            elif kind < 0.26 and first < functions and not self.careful:
                out.append(Call(rng.randrange(first, functions), tuple(self.fresh(range(1, 6)))))
            else:
                out.append(Plain(tuple(self.plain(sorted(registers)))))
        return tuple(out)

    # --- statements -----------------------------------------------------------------------------

    def value(self) -> int:
        rng = self.random
        if rng.random() < 0.6:
            return (rng.choice(EDGES) * rng.choice((1, 1, 1, -1))) & M64
        return rng.getrandbits(rng.choice((8, 16, 32, 33, 64)))

    def imm(self) -> int:
        value = self.value() & M32
        return value - (1 << 32) if value >> 31 else value

    def fresh(self, registers: range | list[int]) -> Iterator[Insn]:
        for register in registers:
            if self.random.random() < 0.5:
                yield Insn(op.BPF_ALU64 | op.BPF_MOV, register, imm=self.imm())
            else:
                yield from ld_imm64(register, self.value())

    def test(self, registers: set[int]) -> Insn:
        rng = self.random
        pool = sorted(registers)
        opcode = rng.choice((op.BPF_JMP, op.BPF_JMP32)) | rng.choice(JUMPS)
        if rng.random() < 0.5:
            return Insn(opcode | op.BPF_X, rng.choice(pool), rng.choice(pool))
        return Insn(opcode, rng.choice(pool), imm=self.imm())

    def plain(self, pool: list[int]) -> Iterator[Insn]:
        rng = self.random
        kinds: list[tuple[int, Callable[[list[int]], Iterator[Insn]]]] = [
            (40, self.alu),
            (6, self.unary),
            (6, self.movsx),
            (5, self.signed_division),
            (5, self.wide),
            (12, self.stack),
            (3, self.variable_stack),
            (8, self.atomic),
        ]
        if self.ctx and 6 not in pool:
            kinds.append((8, self.context))
        if self.packet and 6 not in pool:
            kinds.append((6, self.load_packet))
        yield from rng.choices([make for _, make in kinds], [weight for weight, _ in kinds])[0](pool)

    def alu(self, pool: list[int]) -> Iterator[Insn]:
        rng = self.random
        kind, operation = rng.choice((op.BPF_ALU, op.BPF_ALU64)), rng.choice(ALU)
        if self.careful and operation in (op.BPF_AND, op.BPF_OR):
            operation = op.BPF_XOR
        if rng.random() < 0.5:
            yield Insn(kind | operation | op.BPF_X, rng.choice(pool), rng.choice(pool))
            return
        imm = self.imm()
        if operation in (op.BPF_LSH, op.BPF_RSH, op.BPF_ARSH) and (self.kernel or rng.random() < 0.8):
            imm &= 63 if kind == op.BPF_ALU64 else 31
        if operation in (op.BPF_DIV, op.BPF_MOD) and self.kernel:
            imm = imm or 3
        yield Insn(kind | operation, rng.choice(pool), imm=imm)

    def unary(self, pool: list[int]) -> Iterator[Insn]:
        rng = self.random
        dst = rng.choice(pool)
        if rng.random() < 0.4:
            yield Insn(rng.choice((op.BPF_ALU, op.BPF_ALU64)) | op.BPF_NEG, dst)
        else:
            swap = rng.choice((op.BPF_ALU | op.BPF_TO_LE, op.BPF_ALU | op.BPF_TO_BE, op.BPF_ALU64))
            yield Insn(swap | op.BPF_END, dst, imm=rng.choice((16, 32, 64)))

    def movsx(self, pool: list[int]) -> Iterator[Insn]:
        rng = self.random
        kind = rng.choice((op.BPF_ALU, op.BPF_ALU64))
        width = rng.choice((8, 16) if kind == op.BPF_ALU else (8, 16, 32))
        yield Insn(kind | op.BPF_MOV | op.BPF_X, rng.choice(pool), rng.choice(pool), width)

    def signed_division(self, pool: list[int]) -> Iterator[Insn]:
        rng = self.random
        opcode = rng.choice((op.BPF_ALU, op.BPF_ALU64)) | rng.choice((op.BPF_DIV, op.BPF_MOD))
        if rng.random() < 0.6:
            yield Insn(opcode | op.BPF_X, rng.choice(pool), rng.choice(pool), 1)
        else:
            imm = rng.choice((-1, 1, 2, -2, 7, -7, self.imm()))
            yield Insn(opcode, rng.choice(pool), 0, 1, imm or (1 if self.kernel else 0))

    def wide(self, pool: list[int]) -> Iterator[Insn]:
        yield from ld_imm64(self.random.choice(pool), self.value())

    def _place(self, size: int) -> int:
        return -8 * SLOTS + size * self.random.randrange(8 * SLOTS // size)

    def stack(self, pool: list[int]) -> Iterator[Insn]:
        rng = self.random
        size = rng.choice((1, 2, 4, 8))
        yield self._memory(pool, 10, self._place(size), size)

    def _memory(self, pool: list[int], base: int, off: int, size: int) -> Insn:
        rng = self.random
        kind = rng.random()
        if kind < 0.35:
            return Insn(op.BPF_LDX | op.BPF_MEM | SIZES[size], rng.choice(pool), base, off)
        if kind < 0.5 and size < 8 and base == 10:
            return Insn(op.BPF_LDX | op.BPF_MEMSX | SIZES[size], rng.choice(pool), base, off)
        if kind < 0.65:
            return Insn(op.BPF_ST | op.BPF_MEM | SIZES[size], base, 0, off, self.imm())
        return Insn(op.BPF_STX | op.BPF_MEM | SIZES[size], base, rng.choice(pool), off)

    def variable_stack(self, pool: list[int]) -> Iterator[Insn]:
        """A stack access at an offset computed from a scalar; the pointer does not outlive it."""
        rng = self.random
        size = rng.choice((1, 2, 4, 8))
        pointer, other = rng.sample(pool, 2)
        loads = rng.random() < 0.6
        if self.kernel and not loads:
            # A store that may meet only a part of a spilled slot leaves it half spilled, and unreadable, to
            # verifiers before the summer of 2026 (6.18.15, but not 6.18.44).
            size = 8
        mask = (8 * SLOTS - 1) & -size
        # Not index += r10: up to 6.18 at least, the verifier takes that for the main program's stack
        # wherever it stands, and removes the wrong branches.
        yield from self.masked(other, mask)
        yield Insn(op.BPF_ALU64 | op.BPF_MOV | op.BPF_X, pointer, 10)
        yield Insn(op.BPF_ALU64 | op.BPF_ADD | op.BPF_X, pointer, other)
        if loads:
            yield Insn(op.BPF_LDX | op.BPF_MEM | SIZES[size], other, pointer, -8 * SLOTS)
        else:
            yield Insn(op.BPF_STX | op.BPF_MEM | SIZES[size], pointer, other, -8 * SLOTS)
        yield from self.fresh([pointer])

    def masked(self, register: int, mask: int) -> Iterator[Insn]:
        """``register &= mask``; where it could be a number in [-1, 0], of its low half."""
        if self.careful:
            yield Insn(op.BPF_ALU | op.BPF_MOV | op.BPF_X, register, register)
        yield Insn(op.BPF_ALU64 | op.BPF_AND, register, imm=mask)

    def atomic(self, pool: list[int]) -> Iterator[Insn]:
        rng = self.random
        kind = rng.random()
        if kind < 0.25:
            size = rng.choice((1, 2, 4, 8))
            opcode, off = op.BPF_STX | op.BPF_ATOMIC | SIZES[size], self._place(size)
            if rng.random() < 0.5:
                yield Insn(opcode, rng.choice(pool), 10, off, op.BPF_LOAD_ACQ)
            else:
                yield Insn(opcode, 10, rng.choice(pool), off, op.BPF_STORE_REL)
            return
        size = rng.choice((4, 8))
        opcode, off = op.BPF_STX | op.BPF_ATOMIC | SIZES[size], self._place(size)
        if kind < 0.8:
            operation = rng.choice(RMW) | rng.choice((0, op.BPF_FETCH))
        else:
            operation = rng.choice((op.BPF_XCHG, op.BPF_CMPXCHG))
        if operation & op.BPF_FETCH and self.kernel:
            # Linux 6.18 loses track of precision when a known number is fetched from the stack by an
            # atomic operation, and removes branches that are taken.
            off = -8 * (SLOTS + FETCHED) + size * rng.randrange(8 * FETCHED // size)
        if operation == op.BPF_CMPXCHG and 0 in pool and rng.random() < 0.6:
            yield Insn(op.BPF_LDX | op.BPF_MEM | SIZES[size], 0, 10, off)  # so that it may succeed
            if rng.random() < 0.3:
                yield Insn(op.BPF_ALU64 | op.BPF_MOV | op.BPF_X, 0, 0, 32)
        yield Insn(opcode, 10, rng.choice(pool), off, operation)
        if operation == op.BPF_CMPXCHG and size == 4 and self.kernel:
            # Linux 6.18 forgets the zero extension where its verifier prunes the path that follows.
            yield Insn(op.BPF_ALU | op.BPF_MOV | op.BPF_X, 0, 0)

    def context(self, pool: list[int]) -> Iterator[Insn]:
        rng = self.random
        if rng.random() < 0.3:
            field = rng.choice((0, 8, 32))  # len, mark, priority
            yield Insn(op.BPF_LDX | op.BPF_MEM | op.BPF_W, rng.choice(pool), 6, field)
            return
        size = rng.choice((1, 2, 4, 8))
        yield self._memory(pool, 6, CB + size * rng.randrange(CB_BYTES // size), size)

    def load_packet(self, pool: list[int]) -> Iterator[Insn]:
        rng = self.random
        size = rng.choice((op.BPF_B, op.BPF_H, op.BPF_W))
        if rng.random() < 0.5:
            yield Insn(op.BPF_LD | op.BPF_ABS | size, imm=rng.choice((rng.randrange(16), rng.randrange(70))))
        else:
            index = rng.choice(pool)
            if rng.random() < 0.9:
                yield from self.masked(index, rng.choice((3, 7, 15, 31)))
            yield Insn(op.BPF_LD | op.BPF_IND | size, src=index, imm=rng.choice((0, 1, 7, -1)))
        yield from self.fresh(range(1, 6))


class _Emitter:
    """Lays a program out."""

    def __init__(self, program: Program) -> None:
        self.source = program
        self.out: list[Insn] = []
        self.calls: list[tuple[int, int]] = []  # (slot, function)

    def program(self) -> list[Insn]:
        rng = random.Random(self.source.seed ^ 0x5EED)
        out = self.out
        out.append(Insn(op.BPF_ALU64 | op.BPF_MOV | op.BPF_X, 6, 1))
        for register in (0, 1, 2, 3, 4, 5, 7, 8, 9):
            out += ld_imm64(register, rng.choice(EDGES))
        self.stack(rng)
        self.statements(self.source.main)
        self.fold((1, 2, 3, 4, 5, 7, 8, 9))
        starts = []
        for body in self.source.functions:
            starts.append(len(out))
            for register in (0, 6, 7, 8, 9):
                out.append(Insn(op.BPF_ALU64 | op.BPF_MOV | op.BPF_X, register, 1 + register % 5))
            self.stack(rng)
            self.statements(body)
            self.fold((1, 2, 3, 4, 5, 6, 7, 8, 9))
        used = {index for _, index in self.calls}
        if len(used) < len(starts):  # Linux refuses functions that nothing calls
            return _Emitter(_without_unused(self.source, used)).program()
        for slot, index in self.calls:
            out[slot] = out[slot]._replace(imm=starts[index] - slot - 1)
        return out

    def stack(self, rng: random.Random) -> None:
        for slot in range(SLOTS):
            value = rng.choice(EDGES) & M32
            self.out.append(
                Insn(op.BPF_ST | op.BPF_MEM | op.BPF_DW, 10, 0, -8 * (slot + 1), value - (value >> 31 << 32))
            )

        for slot in range(SLOTS, SLOTS + FETCHED):
            off = -8 * (slot + 1)
            self.out.append(Insn(op.BPF_ST | op.BPF_MEM | op.BPF_DW, 10, 0, off, rng.choice((0, 1, -1))))
            self.out.append(Insn(op.BPF_STX | op.BPF_ATOMIC | op.BPF_DW, 10, 0, off, op.BPF_ADD))

    def fold(self, registers: tuple[int, ...]) -> None:
        out = self.out
        for register in registers:
            out.append(Insn(op.BPF_ALU64 | op.BPF_XOR | op.BPF_X, 0, register))
            out.append(Insn(op.BPF_ALU64 | op.BPF_MUL, 0, imm=0x5BD1E995))
        for slot in range(SLOTS + FETCHED):
            out.append(Insn(op.BPF_LDX | op.BPF_MEM | op.BPF_DW, 1, 10, -8 * (slot + 1)))
            out.append(Insn(op.BPF_ALU64 | op.BPF_XOR | op.BPF_X, 0, 1))
            out.append(Insn(op.BPF_ALU64 | op.BPF_MUL, 0, imm=0x5BD1E995))
        out.append(Insn(op.BPF_ALU64 | op.BPF_MOV | op.BPF_X, 1, 0))
        out.append(Insn(op.BPF_ALU64 | op.BPF_RSH, 1, imm=32))
        out.append(Insn(op.BPF_ALU64 | op.BPF_XOR | op.BPF_X, 0, 1))
        out.append(Insn(op.EXIT))

    def statements(self, body: tuple[Statement, ...]) -> None:
        out = self.out
        for statement in body:
            if isinstance(statement, Plain):
                out.extend(statement.insns)
            elif isinstance(statement, Call):
                self.calls.append((len(out), statement.function))
                out.append(Insn(op.CALL, 0, op.BPF_PSEUDO_CALL))
                out.extend(statement.after)
            elif isinstance(statement, If):
                self.branch(statement)
            else:
                self.loop(statement)

    def branch(self, statement: If) -> None:
        out = self.out
        test = len(out)
        out.append(statement.test)
        self.statements(statement.otherwise)
        skip = len(out)
        out.append(Insn(op.GOTOL if statement.long else op.JA))
        out[test] = out[test]._replace(off=len(out) - test - 1)
        self.statements(statement.then)
        distance = len(out) - skip - 1
        out[skip] = out[skip]._replace(imm=distance) if statement.long else out[skip]._replace(off=distance)

    def loop(self, statement: Loop) -> None:
        out = self.out
        out.append(Insn(op.BPF_ALU64 | op.BPF_MOV, 9, imm=statement.turns))
        head = len(out)
        self.statements(statement.body)
        if statement.may_goto:
            out.append(Insn(op.MAY_GOTO, off=2))
        out.append(Insn(op.BPF_ALU64 | op.BPF_SUB, 9, imm=1))
        out.append(Insn(op.BPF_JMP | op.BPF_JNE, 9, off=head - len(out) - 1))


def _without_unused(program: Program, used: set[int]) -> Program:
    numbers = {old: new for new, old in enumerate(sorted(used))}

    def renumber(body: tuple[Statement, ...]) -> tuple[Statement, ...]:
        out: list[Statement] = []
        for statement in body:
            if isinstance(statement, Call):
                statement = statement._replace(function=numbers[statement.function])
            elif isinstance(statement, If):
                then, otherwise = renumber(statement.then), renumber(statement.otherwise)
                statement = statement._replace(then=then, otherwise=otherwise)
            elif isinstance(statement, Loop):
                statement = statement._replace(body=renumber(statement.body))
            out.append(statement)
        return tuple(out)

    functions = tuple(renumber(program.functions[old]) for old in sorted(used))
    return program._replace(main=renumber(program.main), functions=functions)


def listing(insns: list[Insn]) -> str:
    """Numbered slots, for messages; any code can be listed."""
    return "\n".join(
        f"{pc:4}: {i.opcode:#04x} dst=r{i.dst} src=r{i.src} off={i.off:+d} imm={i.imm:#x}"
        for pc, i in enumerate(insns)
    )
