"""Running generated programs as the userspace kernel would: native code without a check, at real addresses.

The program that `concrete.Run` interprets is compiled with ``checks=False`` and ``budget=False``, its context
fields and map values made what they are in a process by what the verifier's annotations say of each
instruction. Every region ends at a page that nothing may touch, so an access beyond it kills the process.
With the same seed both engines see the same inputs and the same answers of helpers; results are compared.
"""

from __future__ import annotations

import ctypes
import mmap

from skep import jit
from skep.isa import Insn
from skep.isa import opcodes as op
from skep.jit.program import Helper
from skep.verifier import kinds as k
from skep.verifier.annotate import Annotation
from tests.verifier.harness.concrete import _HELPERS, Region, Run
from tests.verifier.harness.question import Question

_PAGE = mmap.PAGESIZE
_ROOM = 256  # bytes of a context; the packet's addresses lie behind them
_TOKEN = 0x7000_0000  # what stands for a map itself
_MAPPED = mmap.PROT_READ | mmap.PROT_WRITE


class Fenced:
    """``size`` bytes of real memory, zero at first, whose last byte lies before a forbidden page."""

    def __init__(self, size: int) -> None:
        pages = -(-max(size, 1) // _PAGE)
        self._map = mmap.mmap(-1, (pages + 2) * _PAGE, prot=_MAPPED)
        self._base = ctypes.addressof(ctypes.c_char.from_buffer(self._map))
        libc = ctypes.CDLL(None, use_errno=True)
        for page in (0, pages + 1):
            guard = ctypes.c_void_p(self._base + page * _PAGE)
            if libc.mprotect(guard, ctypes.c_size_t(_PAGE), 0):
                raise OSError(ctypes.get_errno(), "mprotect")
        # atomics need their natural alignment, so sizes are rounded up to words
        self.address = self._base + (pages + 1) * _PAGE - -(-size // 8) * 8
        self.size = size

    def view(self) -> memoryview:
        return memoryview((ctypes.c_char * self.size).from_address(self.address)).cast("B")


class Pool:
    """Fenced memory by size, used again: a mapping costs more than most programs."""

    def __init__(self) -> None:
        self._free: dict[int, list[Fenced]] = {}

    def take(self, size: int) -> Fenced:
        free = self._free.get(size)
        return free.pop() if free else Fenced(size)

    def give(self, memory: Fenced) -> None:
        self._free.setdefault(memory.size, []).append(memory)


class Native(Run):
    """One run in native code. Helpers are `Run`'s, on real addresses; ``stop`` gives the memory back."""

    def __init__(self, question: Question, seed: int, pool: Pool) -> None:
        self.pool = pool
        self.held: list[Fenced] = []
        self.starts: dict[int, Region] = {}
        super().__init__(question, seed, strict=True)
        self.context = self.starts[self.ctx]
        end = self.packet + self.packet_size
        self.context.data[_ROOM : _ROOM + 16] = self.packet.to_bytes(8, "little") + end.to_bytes(8, "little")

    def region(self, name: str, data: bytearray, writable: bool = True) -> int:
        if name == "stack":
            return super().region(name, data, writable)  # native frames are the compiler's
        memory = self.pool.take(len(data) + 16 if name == "ctx" else len(data))
        self.held.append(memory)
        view = memory.view()
        view[: len(data)] = data
        made = Region(name, view, writable)  # type: ignore[arg-type]
        self.starts[memory.address] = made
        self.regions[memory.address] = made
        return memory.address

    def drop(self, address: int) -> None:
        del self.starts[address]
        del self.regions[address]

    def at(self, address: int, size: int, write: bool, what: str) -> tuple[Region, int]:
        for start, region in self.starts.items():
            if start <= address and address + size <= start + len(region.data):
                return region, address - start
        # a frame: the interpreter has seen that it is one
        made = Region("frame", memoryview((ctypes.c_char * size).from_address(address)).cast("B"))  # type: ignore[arg-type]
        return made, 0

    def stop(self) -> None:
        for memory in self.held:
            self.pool.give(memory)


class Program:
    """A question as native code, run by `run` on inputs that a seed names."""

    def __init__(self, question: Question, annotations: list[Annotation | None]) -> None:
        self.question = question
        self.pool = Pool()
        self.current: Native | None = None
        self.values = {
            insn.imm: Fenced(question.maps[insn.imm].value_size)
            for insn in question.insns
            if insn.opcode == op.LD_IMM64 and insn.src == op.BPF_PSEUDO_MAP_VALUE
        }
        insns = self._placed(annotations)
        helpers = {i.imm: self._helper(i.imm) for i in insns if i.opcode == op.CALL and not i.src}
        self.native = jit.compile(
            insns, checks=False, budget=False, helpers=helpers, cached=False, isolate=False
        )

    def _helper(self, number: int) -> Helper:
        handler = _HELPERS[number]

        def call(*arguments: int) -> int:
            run = self.current
            assert run is not None
            run.registers[1:6] = arguments
            return handler(run) or 0

        return call

    def _placed(self, annotations: list[Annotation | None]) -> list[Insn]:
        """The code with what the annotations allow: addresses for maps, words for a packet's ends."""
        question = self.question
        insns = list(question.insns)
        packet = Run(question, 0, strict=True).setting.packet
        pc = -1
        while pc + 1 < len(insns):
            pc += 1
            insn = insns[pc]
            if insn.opcode == op.LD_IMM64:
                if insn.src == op.BPF_PSEUDO_MAP_FD:
                    insns[pc : pc + 2] = _wide(insn.dst, (_TOKEN + insn.imm) << 32)
                elif insn.src == op.BPF_PSEUDO_MAP_VALUE:
                    insns[pc : pc + 2] = _wide(insn.dst, self.values[insn.imm].address + insns[pc + 1].imm)
                pc += 1
                continue
            note = annotations[pc]
            if note is None:  # never reached, as the verifier's annotations say; need not be legal code
                insns[pc] = Insn(op.JA, off=-1)
                continue
            if insn.opcode & op.CLASS_MASK != op.BPF_LDX or note is None or packet is None:
                continue
            operand = note.operands[insn.src]
            if operand.base != k.PTR_TO_CTX:
                continue
            assert operand.low == operand.high and operand.low is not None
            field = operand.low + insn.off
            if field in packet:
                where = _ROOM + 8 * packet.index(field) - operand.low
                insns[pc] = insn._replace(opcode=op.BPF_LDX | op.BPF_MEM | op.BPF_DW, off=where)
        return insns

    def run(self, seed: int) -> tuple[int, list[tuple[str, bytes]]]:
        """(r0, what every region holds at the end)."""
        run = Native(self.question, seed, self.pool)
        for index, memory in self.values.items():  # where the code has its address
            start = run.value_at(index)
            found = run.starts.pop(start)
            view = memory.view()
            view[:] = bytes(found.data)
            made = run.starts[memory.address] = Region(found.name, view, found.writable)  # type: ignore[arg-type]
            run.regions[memory.address] = made
            run.regions.pop(start)
            run.values[index][0] = memory.address
        self.current = run
        packet = bytes(run.starts[run.packet].data)
        context = memoryview(run.context.data)
        result = self.native.run(context, packet)
        state = contents(run)
        run.stop()
        return result, state


def contents(run: Run) -> list[tuple[str, bytes]]:
    """What the regions hold that outlive a run, by name."""
    found = [
        (region.name, bytes(region.data)[:_ROOM] if region.name == "ctx" else bytes(region.data))
        for region in run.regions.values()
        if region.name not in ("stack", "record")
    ]
    return sorted(found)


def _wide(register: int, value: int) -> list[Insn]:
    low, high = value & 0xFFFFFFFF, value >> 32
    return [
        Insn(op.LD_IMM64, register, 0, 0, low - (low >> 31 << 32)),
        Insn(0, 0, 0, 0, high - (high >> 31 << 32)),
    ]
