"""A machine for extended BPF that can be stepped: the reference for every other engine.

docs/machine.md is its contract. Each instruction becomes a closure (`skep.vm.meaning`) when a machine is
made; running calls one after the other. Addresses are virtual: the context starts at `CTX_BASE`, the
stack of frame n at `STACK_BASE` + 1024 * n; nothing else can be reached.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from skep.errors import DecodeError, ExecutionError
from skep.isa import Insn, encode, imm64, validate
from skep.isa import opcodes as op
from skep.vm.meaning import (
    CTX_BASE,
    M32,
    M64,
    STACK_BASE,
    STACK_STRIDE,
    Closure,
    Fault,
    maker,
    over_budget,
)

DEFAULT_BUDGET: Final = 1 << 32
MAX_TURNS: Final = (
    8 * 1024 * 1024
)  # may_goto falls out of a frame's loops after so many (Linux: BPF_MAX_LOOPS)
ENDED: Final = -1
_NEAR: Final = 1 << 16  # addresses this close to the context are named after it

Helper = Callable[[int, int, int, int, int], int]
Buffer = bytearray | memoryview


class Frame(NamedTuple):
    """A caller's saved state: where it goes on, its r6 to r9, its turns of may_goto left."""

    return_pc: int
    saved: tuple[int, int, int, int]
    turns: int


class Step(NamedTuple):
    """What one instruction did.

    ``registers`` are r0 to r10 after it, ``changed`` those that differ from before. ``read`` and
    ``written`` are (address, bytes) of memory, ``packet`` is (offset, bytes) of LD_ABS and LD_IND.
    ``next_pc`` is -1 when the program has ended.
    """

    pc: int
    insn: Insn
    registers: tuple[int, ...]
    changed: tuple[int, ...]
    read: tuple[int, bytes] | None
    written: tuple[int, bytes] | None
    packet: tuple[int, bytes] | None
    next_pc: int


class Machine:
    """One program with its memory, ready to run or to be stepped.

    Attributes:
        registers: r0 to r10, live.
        pc: slot of the next instruction, -1 once the program has ended.
        budget: what is left of it.
        frames: saved frames of the callers, outermost first.
        ctx: the context's bytes. packet: the packet's.
    """

    def __init__(
        self,
        insns: Sequence[Insn],
        ctx: Buffer | None = None,
        *,
        packet: bytes | bytearray | memoryview | None = None,
        helpers: Mapping[int, Helper] | None = None,
        budget: int = DEFAULT_BUDGET,
    ) -> None:
        """Decode ``insns``.

        Raises:
            DecodeError: the code is not legal, a field does not fit its bits, or it names what only a
                kernel has (maps, kfuncs, arenas).
        """
        validate(insns)
        encode(insns)  # numbers that no instruction can hold would run, but nowhere else
        self.insns = tuple(insns)
        self.helpers = dict(helpers or {})
        self.registers = [0] * 11
        self.stacks = bytearray(STACK_STRIDE * op.MAX_FRAMES)
        self.frames: list[Frame] = []
        self._starts = _function_starts(self.insns)
        self._code = self._decode()
        self.reset(ctx, packet=packet, budget=budget)

    def reset(
        self,
        ctx: Buffer | None = None,
        *,
        packet: bytes | bytearray | memoryview | None = None,
        budget: int = DEFAULT_BUDGET,
    ) -> None:
        """Back to the start with other inputs."""
        view = memoryview(ctx if ctx is not None else b"").cast("B")
        if view.readonly and ctx is not None:
            raise TypeError("ctx must be writable: a bytearray, or a memoryview of one")
        self.ctx = view
        self.ctx_len = len(view)
        self.packet: bytes | memoryview = (
            view if packet is None else packet if isinstance(packet, bytes) else memoryview(packet).cast("B")
        )
        self.budget = budget
        self.frames.clear()
        self.stacks[: op.STACK_SIZE] = bytes(op.STACK_SIZE)
        self.live = STACK_STRIDE
        self.turns = MAX_TURNS
        self.registers[:] = [0] * 11
        if ctx is not None:
            self.registers[1] = CTX_BASE
            self.registers[2] = len(view)
        self.registers[10] = STACK_BASE + op.STACK_SIZE
        self.pc = 0

    # --- running --------------------------------------------------------------------------------

    def run(self) -> int:
        """Run to the end; returns r0.

        Raises:
            ExecutionError: see docs/machine.md; ``pc`` and ``registers`` are those of the instruction.
        """
        code, pc = self._code, self.pc
        try:
            while pc >= 0:
                pc = code[pc]()
        except Fault as fault:
            self.pc = pc
            raise self._stopped(fault) from None
        except BaseException:  # a helper's own
            self.pc = pc
            raise
        self.pc = ENDED
        return self.registers[0]

    def step(self) -> Step:
        """Execute one instruction.

        Raises:
            ExecutionError: the instruction cannot be executed, or the program has ended.
        """
        pc = self.pc
        if pc < 0:
            raise ExecutionError("the program has ended", pc=len(self.insns) - 1, registers=self.registers)
        insn = self.insns[pc]
        before = tuple(self.registers)
        loads, stores, size, address = _memory_access(insn, before)
        read = (address, self.peek(address, size) or b"") if loads else None
        packet = self._packet_access(insn, before)
        try:
            self.pc = self._code[pc]()
        except Fault as fault:
            raise self._stopped(fault) from None
        written = (address, self.peek(address, size) or b"") if stores else None
        after = tuple(self.registers)
        changed = tuple(n for n in range(11) if after[n] != before[n])
        return Step(pc, insn, after, changed, read, written, packet, self.pc)

    def steps(self) -> Iterator[Step]:
        """Execute to the end, one `Step` after each instruction.

        Raises:
            ExecutionError: as `step`.
        """
        while self.pc >= 0:
            yield self.step()

    # --- looking in -----------------------------------------------------------------------------

    @property
    def ended(self) -> bool:
        """Whether the program has returned; r0 is its result then."""
        return self.pc < 0

    @property
    def stack(self) -> memoryview:
        """The 512 bytes of the current frame's stack, its lowest address first."""
        start = self.live - STACK_STRIDE
        return memoryview(self.stacks)[start : start + op.STACK_SIZE]

    def peek(self, address: int, size: int) -> bytes | None:
        """``size`` bytes at a virtual address, None where an access is out of bounds."""
        at = address - STACK_BASE
        if 0 <= at < self.live and at % STACK_STRIDE <= op.STACK_SIZE - size:
            return bytes(self.stacks[at : at + size])
        at = address - CTX_BASE
        if 0 <= at <= self.ctx_len - size:
            return bytes(self.ctx[at : at + size])
        return None

    def where(self, address: int) -> str:
        """A virtual address in words: ``ctx+4``, ``fp-8``, ``fp0-8`` in frame 0; other numbers in hex."""
        at = address - STACK_BASE
        if 0 <= at < self.live:
            frame, inside = divmod(at, STACK_STRIDE)
            name = "fp" if frame == len(self.frames) else f"fp{frame}"
            return f"{name}{inside - op.STACK_SIZE:+d}" if inside != op.STACK_SIZE else name
        at = address - CTX_BASE
        if -_NEAR <= at < self.ctx_len + _NEAR:
            return f"ctx{at:+d}"
        return f"{address:#x}"

    def _stopped(self, fault: Fault) -> ExecutionError:
        reason = str(fault)
        if fault.address is not None:
            reason += f" at {self.where(fault.address)}"
            if abs(fault.address - CTX_BASE) < self.ctx_len + _NEAR:
                reason += f" (ctx has {self.ctx_len} byte{'s' if self.ctx_len != 1 else ''})"
        return ExecutionError(reason, pc=self.pc, registers=self.registers)

    def _packet_access(self, insn: Insn, before: Sequence[int]) -> tuple[int, bytes] | None:
        if insn.opcode & op.CLASS_MASK != op.BPF_LD or insn.opcode & op.MODE_MASK == op.BPF_IMM:
            return None
        base = before[insn.src] if insn.opcode & op.MODE_MASK == op.BPF_IND else 0
        at = (base + insn.imm) & M32
        size = op.SIZE_BYTES[insn.opcode & op.SIZE_MASK]
        return at - (1 << 32) if at >> 31 else at, bytes(self.packet[at : at + size])

    # --- decoding -------------------------------------------------------------------------------

    def reject(self) -> int:
        """End the program with 0, as a packet load outside the packet does."""
        self.frames.clear()
        self.registers[0] = 0
        return ENDED

    def _decode(self) -> list[Closure]:
        code: list[Closure] = []
        pc = 0
        while pc < len(self.insns):
            insn = self.insns[pc]
            if insn.opcode == op.LD_IMM64:
                closure = self._wide(pc)
                code += [closure, closure]  # nothing can jump to the second
                pc += 2
                continue
            if insn.opcode == op.EXIT:
                code.append(self._exit)
            elif insn.opcode in (op.CALL, op.CALLX):
                code.append(self._call(pc))
            else:
                code.append(self._plain(pc))
            pc += 1
        return code

    def _plain(self, pc: int) -> Closure:
        opcode, dst, src, off, imm = self.insns[pc]
        kind = opcode & op.CLASS_MASK
        variant = target = cost = 0
        if kind in (op.BPF_ALU, op.BPF_ALU64):
            operation = opcode & op.OP_MASK
            if operation == op.BPF_END:
                variant = imm
            elif operation in (op.BPF_DIV, op.BPF_MOD, op.BPF_MOV):
                variant = off
                if operation == op.BPF_MOV and off == op.BPF_ADDR_SPACE_CAST:
                    raise DecodeError(f"insn {pc}: address space casts need a kernel's arena", offset=8 * pc)
            imm &= M64 if kind == op.BPF_ALU64 else M32
        elif kind in (op.BPF_JMP, op.BPF_JMP32):
            imm &= M64 if kind == op.BPF_JMP else M32
            target = pc + 1 + (self.insns[pc].imm if opcode == op.GOTOL else off)
            variant, cost = int(target <= pc), pc - target + 1
        elif kind == op.BPF_STX and opcode & op.MODE_MASK == op.BPF_ATOMIC:
            variant = imm
        return maker(opcode, variant)(self, dst, src, off, imm, pc + 1, target, cost)

    def _wide(self, pc: int) -> Closure:
        insn, registers, following = self.insns[pc], self.registers, pc + 2
        if insn.src:
            raise DecodeError(f"insn {pc}: maps, symbols and function addresses need a kernel", offset=8 * pc)
        dst, value = insn.dst, imm64(self.insns, pc)

        def step() -> int:
            registers[dst] = value
            return following

        return step

    def _exit(self) -> int:
        frames = self.frames
        if not frames:
            return ENDED
        back, saved, self.turns = frames.pop()
        self.registers[6:10] = saved
        self.registers[10] -= STACK_STRIDE
        self.live -= STACK_STRIDE
        return back

    def _call(self, pc: int) -> Closure:
        insn = self.insns[pc]
        registers, following = self.registers, pc + 1
        if insn.opcode == op.CALLX:
            dst = insn.dst

            def through_register() -> int:
                self._helper(registers[dst])
                return following

            return through_register
        if insn.src == op.BPF_PSEUDO_CALL:
            target = pc + 1 + insn.imm

            def local() -> int:
                return self._enter(target, following)

            return local
        if insn.src == op.BPF_PSEUDO_KFUNC_CALL:
            raise DecodeError(f"insn {pc}: kernel function {insn.imm} needs a kernel", offset=8 * pc)
        number = insn.imm & M32

        def helper() -> int:
            self._helper(number)
            return following

        return helper

    def _helper(self, number: int) -> None:
        function = self.helpers.get(number)
        if function is None:
            raise Fault(f"helper {number} is not known here")
        registers = self.registers
        registers[0] = function(registers[1], registers[2], registers[3], registers[4], registers[5]) & M64

    def _enter(self, target: int, following: int) -> int:
        frames, registers = self.frames, self.registers
        if len(frames) + 1 >= op.MAX_FRAMES:
            raise Fault(f"calls are nested deeper than {op.MAX_FRAMES} frames")
        cost = 1 + self._starts[target]
        if self.budget < cost:
            raise over_budget(self.budget, cost)
        self.budget -= cost
        r6, r7, r8, r9 = registers[6:10]
        frames.append(Frame(following, (r6, r7, r8, r9), self.turns))
        self.turns = MAX_TURNS
        start = self.live
        self.stacks[start : start + op.STACK_SIZE] = bytes(op.STACK_SIZE)
        self.live = start + STACK_STRIDE
        registers[10] += STACK_STRIDE
        return target


def _function_starts(insns: Sequence[Insn]) -> dict[int, int]:
    """First slot of every function -> its length in slots."""
    starts = {0}
    for pc, insn in enumerate(insns):
        if insn.opcode == op.CALL and insn.src == op.BPF_PSEUDO_CALL:
            starts.add(pc + 1 + insn.imm)
    order = [*sorted(starts), len(insns)]
    return {start: end - start for start, end in itertools.pairwise(order)}


def _memory_access(insn: Insn, registers: Sequence[int]) -> tuple[bool, bool, int, int]:
    """Whether ``insn`` reads and writes memory, how many bytes, and at which address."""
    kind, mode = insn.opcode & op.CLASS_MASK, insn.opcode & op.MODE_MASK
    if kind not in (op.BPF_LDX, op.BPF_ST, op.BPF_STX):
        return False, False, 0, 0
    loads, stores = kind == op.BPF_LDX, kind != op.BPF_LDX
    if mode == op.BPF_ATOMIC:
        loads, stores = insn.imm != op.BPF_STORE_REL, insn.imm != op.BPF_LOAD_ACQ
    base = insn.dst if stores else insn.src
    return loads, stores, op.SIZE_BYTES[insn.opcode & op.SIZE_MASK], (registers[base] + insn.off) & M64


def run(
    insns: Sequence[Insn],
    ctx: Buffer | None = None,
    *,
    packet: bytes | bytearray | memoryview | None = None,
    helpers: Mapping[int, Helper] | None = None,
    budget: int = DEFAULT_BUDGET,
) -> int:
    """Run a program once by interpretation; returns r0, unsigned 64 bits.

    Args:
        ctx: writable bytes that r1 points to, r2 holding their number; the program may change them.
        packet: what LD_ABS and LD_IND read; ``ctx`` without one.
        helpers: helper number -> function of r1 to r5 that returns r0.
        budget: bounds the instructions executed (docs/machine.md).

    Raises:
        DecodeError: the code is not legal.
        ExecutionError: the program was stopped.
    """
    return Machine(insns, ctx, packet=packet, helpers=helpers, budget=budget).run()
