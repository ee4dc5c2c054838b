"""Running generated programs with every access checked: what an accepted program must never do.

A plain interpreter of its own, slow and strict: registers that nothing wrote may not be read, every access
lies in a live region (a frame's stack, the context, the packet, a map's value, a record not yet given back),
helpers check the memory they are given, references are given back, and r0 is in its range.

An address is ``region << 32 | offset``, the offset from the region's start, so regions are no neighbours.

With ``annotations`` (the verifier's) every instruction must be one that some path reaches, its pointers of a
kind and at an offset that were said, and what follows among what may.

With ``strict`` (the verifier's strict mode) stack may only be read where it was written, and no address may
reach the context, a packet, a map or the caller.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from skep.isa import Insn
from skep.isa import opcodes as op
from skep.uapi.enums import MapType
from skep.verifier import kinds as k
from skep.verifier.annotate import Annotation, Operand
from tests.verifier.generate_facts import SETTINGS
from tests.verifier.harness.question import Question

M32, M64 = (1 << 32) - 1, (1 << 64) - 1
BUDGET = 300_000
_MAP = 0x7000_0000  # region numbers of maps themselves, which no program may touch
_FIRST = 0x10_0000


_BASES = {
    "ctx": (k.PTR_TO_CTX,),
    "packet": (k.PTR_TO_PACKET, k.PTR_TO_PACKET_END),
    "record": (k.PTR_TO_MEM,),
    "stack": (k.PTR_TO_STACK,),
}


class Violation(Exception):
    """The program did what a verified program never does."""


def signed(value: int, bits: int) -> int:
    return value - (1 << bits) if value >> (bits - 1) & 1 else value


class Region:
    """``data`` and who may do what with it; ``unset`` marks bytes that nothing wrote yet (None: all set)."""

    __slots__ = ("data", "name", "unset", "writable")

    def __init__(self, name: str, data: bytearray, writable: bool = True) -> None:
        self.unset: bytearray | None = None
        self.name = name
        self.data = data
        self.writable = writable


class Run:
    """One run of a question on random inputs."""

    def __init__(
        self,
        question: Question,
        seed: int,
        strict: bool = False,
        annotations: Sequence[Annotation | None] = (),
    ) -> None:
        self.strict = strict
        self.annotations = annotations
        self.random = random.Random(seed)
        self.question = question
        self.setting = next(
            s for s in SETTINGS if s.prog_type == question.prog_type and s.attach_type == question.attach_type
        )
        self.regions: dict[int, Region] = {}
        self.next = _FIRST
        self.records: set[int] = set()
        self.values: dict[int, list[int]] = {}
        #: stack bytes that nothing wrote are drawn apart, so that engines with stacks of their own agree
        self.noise = random.Random(seed)
        size = self.random.choice((0, 1, 4, 7, 8, 13, 14, 20, 34, 60, 64, 100))
        self.packet = self.region("packet", self._bytes(size), self.setting.packet_write)
        self.packet_size = size
        self.ctx = self.region("ctx", self._bytes(256))
        self.registers: list[int | None] = [None] * 11
        self.registers[1] = self.ctx
        self.frames: list[tuple[int, list[int | None], int]] = []
        self.stack = self.region("stack", bytearray(self.noise.randbytes(512)))
        self.registers[10] = self.stack + 512
        self.left = BUDGET
        self.last = -1
        for insn in question.insns:  # addresses in the code are there before it runs
            if insn.opcode == op.LD_IMM64 and insn.src == op.BPF_PSEUDO_MAP_VALUE:
                self.value_at(insn.imm)

    # --- memory ---------------------------------------------------------------------------------

    def _bytes(self, count: int) -> bytearray:
        rng = self.random
        kind = rng.random()
        if kind < 0.3:
            return bytearray(rng.choice((0, 1, 4, 8, 15, 255)) for _ in range(count))
        return bytearray(rng.randbytes(count)) if kind < 0.8 else bytearray(count)

    def region(self, name: str, data: bytearray, writable: bool = True) -> int:
        number = self.next
        self.next += 1
        made = self.regions[number] = Region(name, data, writable)
        if self.strict and name == "stack":
            made.unset = bytearray(b"\1") * len(data)
        return number << 32

    def drop(self, address: int) -> None:
        """The region that starts at ``address`` is no more."""
        del self.regions[address >> 32]

    def at(self, address: int, size: int, write: bool, what: str) -> tuple[Region, int]:
        number, offset = address >> 32, address & M32
        region = self.regions.get(number)
        if region is None:
            raise Violation(f"{what} of {size} bytes at {address:#x}: no memory there")
        if offset + size > len(region.data):
            raise Violation(
                f"{what} of {size} bytes at {region.name}+{signed(offset, 32)}, {len(region.data)} long"
            )
        if write and not region.writable:
            raise Violation(f"{what}: {region.name} is read only")
        if region.unset is not None:
            if write:
                region.unset[offset : offset + size] = bytes(size)
            elif any(region.unset[offset : offset + size]):
                raise Violation(f"{what}: stack+{offset - 512} was never written")
        return region, offset

    def keep_in(self, value: int, region: Region | None) -> None:
        """A strict program gives no address away."""
        if self.strict and value >> 32 in self.regions and (region is None or region.unset is None):
            raise Violation(f"an address leaves by {'r0' if region is None else region.name}")

    def load(self, address: int, size: int) -> int:
        region, offset = self.at(address, size, False, "load")
        return int.from_bytes(region.data[offset : offset + size], "little")

    def store(self, address: int, size: int, value: int) -> None:
        region, offset = self.at(address, size, True, "store")
        if size == 8:
            self.keep_in(value & M64, region)
        region.data[offset : offset + size] = (value & ((1 << 8 * size) - 1)).to_bytes(size, "little")

    def read(self, register: int) -> int:
        value = self.registers[register]
        if value is None:
            raise Violation(f"r{register} was never written")
        return value

    # --- instructions ---------------------------------------------------------------------------

    def run(self) -> int:
        """r0; raises Violation."""
        insns, pc = self.question.insns, 0
        while True:
            self.left -= 1
            if self.left < 0:
                raise Violation("the program does not end")
            insn = insns[pc]
            kind = insn.opcode & op.CLASS_MASK
            try:
                if self.annotations:
                    self._noted(pc)
                if kind in (op.BPF_ALU, op.BPF_ALU64):
                    self._alu(insn, kind)
                elif kind in (op.BPF_JMP, op.BPF_JMP32):
                    following = self._jump(insn, kind, pc)
                    if following is None:
                        return self._end()
                    pc = following
                    continue
                elif insn.opcode == op.LD_IMM64:
                    self._wide(insn, insns[pc + 1])
                    pc += 1
                elif kind == op.BPF_LD:
                    if not self._legacy(insn):
                        return 0
                else:
                    self._memory(insn, kind)
            except Violation as error:
                raise Violation(f"insn {pc}: {error}") from None
            pc += 1

    def _noted(self, pc: int) -> None:
        """The annotation of the slot says what is true, and the one before that it follows."""
        note = self.annotations[pc]
        if note is None:
            raise Violation("annotated as never reached")
        before = self.annotations[self.last] if self.last >= 0 else None
        if before is not None and pc not in before.following:
            raise Violation(f"follows {self.last}, whose annotation has {sorted(before.following)}")
        self.last = pc
        for register, operand in note.operands.items():
            value = self.registers[register]
            if value is not None:
                self._operand(register, value, operand)

    def _operand(self, register: int, value: int, operand: Operand) -> None:
        bases = {kind & k.BASE_MASK for kind in operand.kinds}
        region = self.regions.get(value + (1 << 31) >> 32)  # pointers may lie before what they point to
        offset = signed(value & M32, 32)
        if region is None or bases & {k.NOT_INIT}:
            pointers = bases - {k.SCALAR_VALUE, k.NOT_INIT, k.CONST_PTR_TO_MAP}
            number = bases & {k.SCALAR_VALUE, k.NOT_INIT}
            null = any(kind & k.PTR_MAYBE_NULL for kind in operand.kinds)
            if pointers and not number and not null and value < _FIRST << 32:
                raise Violation(f"r{register} is {value:#x}, annotated as {operand}")
            return
        if region.name == "stack":
            offset -= 512
        said = _BASES.get(region.name.partition("[")[0], (k.PTR_TO_MAP_VALUE,))
        if not bases & set(said):
            if bases == {k.SCALAR_VALUE} and value >> 32 not in (self.ctx >> 32, self.stack >> 32):
                return  # a number that happens to look like an address
            raise Violation(f"r{register} is {region.name}+{offset}, annotated as {operand}")
        if k.PTR_TO_PACKET_END in bases or len(bases) > 1 or operand.low is None or operand.high is None:
            return
        if not operand.low <= offset <= operand.high:
            raise Violation(f"r{register} is {region.name}+{offset}, annotated as {operand}")

    def _end(self) -> int:
        result = self.read(0)
        self.keep_in(result, None)
        if self.records:
            raise Violation("a ring buffer record was not given back")
        if self.setting.returns is not None:
            low, high = self.setting.returns
            if not low <= signed(result & M32, 32) <= high:
                raise Violation(f"r0 is {result:#x}, should be in [{low}, {high}]")
        return result

    def _wide(self, insn: Insn, second: Insn) -> None:
        if insn.src == op.BPF_PSEUDO_MAP_FD:
            self.registers[insn.dst] = (_MAP + insn.imm) << 32
        elif insn.src == op.BPF_PSEUDO_MAP_VALUE:
            self.registers[insn.dst] = self._value(insn.imm, 0) + (second.imm & M32)
        else:
            self.registers[insn.dst] = (second.imm & M32) << 32 | insn.imm & M32

    def _alu(self, insn: Insn, kind: int) -> None:
        bits = 64 if kind == op.BPF_ALU64 else 32
        operation = insn.opcode & op.OP_MASK
        mask = (1 << bits) - 1
        if operation == op.BPF_END:
            value = self.read(insn.dst) & ((1 << insn.imm) - 1)
            if kind == op.BPF_ALU64 or insn.opcode & op.BPF_X:
                value = int.from_bytes(value.to_bytes(insn.imm // 8, "little"), "big")
            self.registers[insn.dst] = value
            return
        if operation == op.BPF_NEG:
            self.registers[insn.dst] = -self.read(insn.dst) & mask
            return
        b = (self.read(insn.src) if insn.opcode & op.BPF_X else insn.imm) & mask
        if operation == op.BPF_MOV:
            if insn.off:
                b = signed(b & ((1 << insn.off) - 1), insn.off) & mask
            self.registers[insn.dst] = b
            return
        a = self.read(insn.dst) & mask
        self.registers[insn.dst] = _arithmetic(operation, a, b, bits, bool(insn.off)) & mask

    def _jump(self, insn: Insn, kind: int, pc: int) -> int | None:
        opcode = insn.opcode
        if opcode == op.EXIT:
            if not self.frames:
                return None
            back, saved, stack = self.frames.pop()
            del self.regions[self.stack >> 32]
            self.registers[6:11] = saved
            self.registers[1:6] = [None] * 5
            self.stack = stack
            return back
        if opcode == op.CALL:
            if insn.src == op.BPF_PSEUDO_CALL:
                if len(self.frames) >= 7:
                    raise Violation("calls are nested too deep")
                self.frames.append((pc + 1, self.registers[6:11], self.stack))
                self.stack = self.region("stack", bytearray(self.noise.randbytes(512)))
                self.registers[6:10] = [None] * 4
                self.registers[0] = None
                self.registers[10] = self.stack + 512
                return pc + 1 + insn.imm
            self._helper(insn.imm)
            return pc + 1
        if opcode == op.JA:
            return pc + 1 + insn.off
        if opcode == op.GOTOL:
            return pc + 1 + insn.imm
        bits = 64 if kind == op.BPF_JMP else 32
        mask = (1 << bits) - 1
        a = self.read(insn.dst) & mask
        b = (self.read(insn.src) if opcode & op.BPF_X else insn.imm) & mask
        return pc + 1 + (insn.off if _compare(opcode & op.OP_MASK, a, b, bits) else 0)

    def _memory(self, insn: Insn, kind: int) -> None:
        size = op.SIZE_BYTES[insn.opcode & op.SIZE_MASK]
        mode = insn.opcode & op.MODE_MASK
        if kind == op.BPF_LDX:
            address = (self.read(insn.src) + insn.off) & M64
            value = self._context_load(address, size)
            if value is None:
                value = self.load(address, size)
            if mode == op.BPF_MEMSX:
                value = signed(value, 8 * size) & M64
            self.registers[insn.dst] = value
            return
        address = (self.read(insn.dst) + insn.off) & M64
        if kind == op.BPF_ST:
            self.store(address, size, insn.imm)
        elif mode == op.BPF_MEM:
            self.store(address, size, self.read(insn.src))
        else:
            self._atomic(insn, address, size)

    def _context_load(self, address: int, size: int) -> int | None:
        if address >> 32 != self.ctx >> 32 or self.setting.packet is None or size != 4:
            return None
        data, end = self.setting.packet
        offset = address & M32
        if offset == data:
            return self.packet
        return self.packet + self.packet_size if offset == end else None

    def _atomic(self, insn: Insn, address: int, size: int) -> None:
        mask = (1 << 8 * size) - 1
        old, given = self.load(address, size), self.read(insn.src) & mask
        if address & M32 & (size - 1):
            raise Violation("an atomic operation is not aligned")
        operation = insn.imm & ~op.BPF_FETCH
        if insn.imm == op.BPF_CMPXCHG:
            if old == self.read(0) & mask:
                self.store(address, size, given)
            self.registers[0] = old
            return
        if insn.imm == op.BPF_XCHG:
            new = given
        else:
            new = _arithmetic(operation, old, given, 8 * size, False)
        self.store(address, size, new)
        if insn.imm & op.BPF_FETCH:
            self.registers[insn.src] = old

    def _legacy(self, insn: Insn) -> bool:
        size = op.SIZE_BYTES[insn.opcode & op.SIZE_MASK]
        base = self.read(insn.src) if insn.opcode & op.MODE_MASK == op.BPF_IND else 0
        offset = (base + insn.imm) & M32
        if self.read(6) != self.ctx:
            raise Violation("r6 is not the context")
        self.registers[1:6] = [None] * 5
        data = self.regions[self.packet >> 32].data
        if offset + size > len(data):
            return False
        self.registers[0] = int.from_bytes(data[offset : offset + size], "big")
        return True

    # --- helpers --------------------------------------------------------------------------------

    def _value(self, index: int, key: int) -> int:
        spec = self.question.maps[index]
        found = self.values.setdefault(index, [])
        while len(found) <= key:
            data = bytearray(spec.data) if spec.data is not None else self._bytes(spec.value_size)
            found.append(self.region(f"{spec.name}[{len(found)}]", data, spec.data is None))
        return found[key]

    def value_at(self, index: int) -> int:
        """The address of a map's first value."""
        return self._value(index, 0)

    def _map(self, register: int) -> int:
        index = (self.read(register) >> 32) - _MAP
        if not 0 <= index < len(self.question.maps):
            raise Violation(f"r{register} is no map")
        return index

    def _buffer(self, address: int, size: int, write: bool) -> None:
        if size:
            region, offset = self.at(address, size, write, "a helper's access")
            if write:
                region.data[offset : offset + size] = self.random.randbytes(size)

    def _helper(self, number: int) -> None:
        handler = _HELPERS.get(number)
        if handler is None:
            raise Violation(f"helper {number} is not known here")
        result = handler(self)
        self.registers[1:6] = [None] * 5
        self.registers[0] = None if result is None else result & M64

    def _lookup(self) -> int:
        index = self._map(1)
        spec = self.question.maps[index]
        self._buffer(self.read(2), spec.key_size, False)
        key = self.load(self.read(2), spec.key_size)
        if spec.type in (MapType.ARRAY, MapType.PERCPU_ARRAY):
            return self._value(index, key) if key < spec.max_entries else 0
        return (
            self._value(index, self.random.randrange(spec.max_entries)) if self.random.random() < 0.7 else 0
        )

    def _update(self) -> int:
        spec = self.question.maps[self._map(1)]
        self._buffer(self.read(2), spec.key_size, False)
        self._buffer(self.read(3), spec.value_size, False)
        self.read(4)
        return self.random.choice((0, 0, -7))

    def _delete(self) -> int:
        self._buffer(self.read(2), self.question.maps[self._map(1)].key_size, False)
        return self.random.choice((0, -2))

    def _tail_call(self) -> int:
        """It fails: there is no program at any index."""
        if self.read(1) != self.ctx:
            raise Violation("r1 is not the context")
        self._map(2)
        self.read(3)
        return -2

    def _push(self) -> int:
        self._buffer(self.read(2), self.question.maps[self._map(1)].value_size, False)
        return self.random.choice((0, -7))

    def _pop(self) -> int:
        self._buffer(self.read(2), self.question.maps[self._map(1)].value_size, True)
        return self.random.choice((0, -2))

    def _any(self) -> int:
        return self.random.choice((0, 1, 5, M32, self.random.getrandbits(32), self.random.getrandbits(64)))

    def _event(self) -> int:
        if self.read(1) != self.ctx:
            raise Violation("r1 is not the context")
        self._map(2)
        self._buffer(self.read(4), self.read(5), False)
        return 0

    def _load_bytes(self) -> int:
        if self.read(1) != self.ctx:
            raise Violation("r1 is not the context")
        size = self.read(4)
        if not 0 < size < 1 << 29:
            raise Violation(f"size {size}")
        self._buffer(self.read(3), size, True)
        return self.random.choice((0, -14))

    def _checksum(self) -> int:
        for pointer, size in ((1, 2), (3, 4)):
            self._buffer(self.read(pointer), self.read(size), False)
        return self.random.getrandbits(16)

    def _probe(self) -> int:
        self._buffer(self.read(1), self.read(2), True)
        self.read(3)
        return self.random.choice((0, -14))

    def _probe_text(self) -> int:
        size = self.read(2)
        self._buffer(self.read(1), size, True)
        return self.random.choice((-14, size, min(size, 1)))

    def _reserve(self) -> int:
        spec = self.question.maps[self._map(1)]
        if self.random.random() < 0.2:
            return 0
        size = self.read(2)
        if size > spec.max_entries:  # more than the ring can hold: there is no record
            return 0
        made = self.region("record", bytearray(size))
        self.records.add(made)
        return made

    def _submit(self) -> None:
        record = self.read(1)
        if record not in self.records:
            raise Violation("what is given back was not reserved")
        self.records.remove(record)
        self.drop(record)


_HELPERS: dict[int, Callable[[Run], int | None]] = {
    1: Run._lookup, 2: Run._update, 3: Run._delete, 5: Run._any, 7: lambda run: run.random.getrandbits(32),
    8: lambda run: run.random.randrange(2), 12: Run._tail_call, 14: Run._any, 15: Run._any, 25: Run._event,
    26: Run._load_bytes, 28: Run._checksum, 87: Run._push, 88: Run._pop, 89: Run._pop,
    113: Run._probe, 115: Run._probe_text, 131: Run._reserve, 132: Run._submit, 133: Run._submit,
}  # fmt: skip


def _arithmetic(operation: int, a: int, b: int, bits: int, is_signed: bool) -> int:
    if operation in (op.BPF_LSH, op.BPF_RSH, op.BPF_ARSH):
        b &= bits - 1
    if operation == op.BPF_ADD:
        return a + b
    if operation == op.BPF_SUB:
        return a - b
    if operation == op.BPF_MUL:
        return a * b
    if operation == op.BPF_OR:
        return a | b
    if operation == op.BPF_AND:
        return a & b
    if operation == op.BPF_XOR:
        return a ^ b
    if operation == op.BPF_LSH:
        return a << b
    if operation == op.BPF_RSH:
        return a >> b
    if operation == op.BPF_ARSH:
        return signed(a, bits) >> b
    if operation == op.BPF_DIV:
        if not b:
            return 0
        if is_signed:
            x, y = signed(a, bits), signed(b, bits)
            return abs(x) // abs(y) * (1 if (x < 0) == (y < 0) else -1)
        return a // b
    if operation == op.BPF_MOD:
        if not b:
            return a
        if is_signed:
            x, y = signed(a, bits), signed(b, bits)
            return abs(x) % abs(y) * (-1 if x < 0 else 1)
        return a % b
    raise Violation(f"operation {operation:#x}")


def _compare(operation: int, a: int, b: int, bits: int) -> bool:
    x, y = signed(a, bits), signed(b, bits)
    return {
        op.BPF_JEQ: a == b, op.BPF_JNE: a != b, op.BPF_JGT: a > b, op.BPF_JGE: a >= b, op.BPF_JLT: a < b,
        op.BPF_JLE: a <= b, op.BPF_JSET: bool(a & b), op.BPF_JSGT: x > y, op.BPF_JSGE: x >= y,
        op.BPF_JSLT: x < y, op.BPF_JSLE: x <= y,
    }[operation]  # fmt: skip
