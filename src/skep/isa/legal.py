"""Which instructions are legal: opcodes, reserved fields, registers, jumps.

Two readings of the law. The plain one is RFC 9669 with Linux's additions: what any engine may be asked to
run. ``linux=True`` adds what the kernel's verifier refuses before it looks at any path: division by an
immediate zero, shifts by an immediate outside the register, calls through a register, and jumps between
subprograms. Neither follows values; that is a verifier's work.

Sources: RFC 9669 sections 4 and 5; Linux 6.18 kernel/bpf/verifier.c (reserved fields, subprograms).
"""

from __future__ import annotations

import functools

from skep.errors import DecodeError
from skep.isa import opcodes as op
from skep.isa.ebpf import SLOT_BYTES, Insn
from skep.plain import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final, NoReturn


# What an opcode asks for beyond its zero fields.
_PLAIN: Final = 0
_DIV: Final = 1  # immediate or register; offset 1 makes it signed
_SHIFT32: Final = 2
_SHIFT64: Final = 3
_MOVSX32: Final = 4
_MOVSX64: Final = 5
_SWAP: Final = 6
_JUMP: Final = 7  # 16-bit offset
_JUMP_LONG: Final = 8
_CALL: Final = 9
_WIDE: Final = 10
_ATOMIC: Final = 11
_CALLX: Final = 12

# Fields: which must be zero, and how the instruction uses its registers.
_DST: Final = 1
_SRC: Final = 2
_OFF: Final = 4
_IMM: Final = 8
_WRITES_DST: Final = 16

_FIELD_NAMES: Final = ((_DST, "dst"), (_SRC, "src"), (_OFF, "offset"), (_IMM, "immediate"))
_READ_MODIFY_WRITE: Final = frozenset(
    alu | fetch for alu in (op.BPF_ADD, op.BPF_OR, op.BPF_AND, op.BPF_XOR) for fetch in (0, op.BPF_FETCH)
) | {op.BPF_XCHG, op.BPF_CMPXCHG}


class _Rule(NamedTuple):
    kind: int
    flags: int


@functools.cache
def rules() -> tuple[_Rule | None, ...]:
    """One rule for each of the 256 opcodes; None where no instruction has the opcode."""
    table: list[_Rule | None] = [None] * 256

    def put(opcode: int, flags: int, kind: int = _PLAIN) -> None:
        table[opcode] = _Rule(kind, flags)

    for cls in (op.BPF_ALU, op.BPF_ALU64):
        wide = cls == op.BPF_ALU64
        for source, idle in ((op.BPF_K, _SRC), (op.BPF_X, _IMM)):
            zero = idle | _OFF | _WRITES_DST
            for alu in (op.BPF_ADD, op.BPF_SUB, op.BPF_MUL, op.BPF_OR, op.BPF_AND, op.BPF_XOR):
                put(cls | alu | source, zero)
            for alu in (op.BPF_DIV, op.BPF_MOD):
                put(cls | alu | source, zero & ~_OFF, _DIV)
            for alu in (op.BPF_LSH, op.BPF_RSH, op.BPF_ARSH):
                by_imm = _SHIFT64 if wide else _SHIFT32
                put(cls | alu | source, zero, by_imm if source == op.BPF_K else _PLAIN)
            put(cls | op.BPF_MOV | source, zero)
        put(cls | op.BPF_MOV | op.BPF_X, _WRITES_DST, _MOVSX64 if wide else _MOVSX32)
        put(cls | op.BPF_NEG, _SRC | _OFF | _IMM | _WRITES_DST)
        put(cls | op.BPF_END, _SRC | _OFF | _WRITES_DST, _SWAP)
    put(op.BPF_ALU | op.BPF_END | op.BPF_TO_BE, _SRC | _OFF | _WRITES_DST, _SWAP)

    for cls in (op.BPF_JMP, op.BPF_JMP32):
        for jump in (*range(op.BPF_JEQ, op.BPF_JSGE + 1, 0x10), *range(op.BPF_JLT, op.BPF_JSLE + 1, 0x10)):
            put(cls | jump | op.BPF_K, _SRC, _JUMP)
            put(cls | jump | op.BPF_X, _IMM, _JUMP)
    put(op.JA, _DST | _SRC | _IMM, _JUMP)
    put(op.GOTOL, _DST | _SRC | _OFF, _JUMP_LONG)
    put(op.MAY_GOTO, _DST | _SRC | _IMM, _JUMP)
    put(op.EXIT, _DST | _SRC | _OFF | _IMM)
    put(op.CALL, _DST, _CALL)
    put(op.CALLX, _SRC | _OFF | _IMM, _CALLX)

    put(op.LD_IMM64, _OFF | _WRITES_DST, _WIDE)
    for size in (op.BPF_B, op.BPF_H, op.BPF_W, op.BPF_DW):
        if size != op.BPF_DW:
            put(op.BPF_LD | op.BPF_ABS | size, _DST | _SRC | _OFF)
            put(op.BPF_LD | op.BPF_IND | size, _DST | _OFF)
            put(op.BPF_LDX | op.BPF_MEMSX | size, _IMM | _WRITES_DST)
        put(op.BPF_LDX | op.BPF_MEM | size, _IMM | _WRITES_DST)
        put(op.BPF_ST | op.BPF_MEM | size, _SRC)
        put(op.BPF_STX | op.BPF_MEM | size, _IMM)
        put(op.BPF_STX | op.BPF_ATOMIC | size, 0, _ATOMIC)
    return tuple(table)


def validate(insns: Sequence[Insn], *, linux: bool = False) -> None:
    """Check that ``insns`` is a legal program.

    Every slot is checked, reachable or not. With ``linux``, also the kernel's own rules (see above).

    Raises:
        DecodeError: ``offset`` is eight times the slot number of the first instruction at fault; the reason
            names the slot and what is wrong with it.
    """
    count = len(insns)
    if not count:
        raise DecodeError("a program has at least one instruction", offset=0)
    table = rules()
    targets: list[tuple[int, int, str]] = []  # (from, to, what)
    tails: set[int] = set()  # second slots of wide immediates
    pc = 0
    while pc < count:
        opcode, dst, src, off, imm = insns[pc]
        rule = table[opcode]
        if rule is None:
            _refuse(pc, f"unknown opcode {opcode:#04x}")
        kind, flags = rule
        used = (dst and _DST) | (src and _SRC) | (off and _OFF) | (imm and _IMM)
        if flags & used and not (linux and opcode == op.EXIT and used == _OFF):  # Linux skips that field
            _reserved(pc, insns[pc], flags)
        if dst > 10 or (src > 10 and kind not in (_CALL, _WIDE)):
            _refuse(pc, f"register r{dst if dst > 10 else src} does not exist (r0 to r10 do)")
        if flags & _WRITES_DST and dst == 10:
            _refuse(pc, "r10, the frame pointer, cannot be written")
        if kind == _PLAIN:
            pass
        elif kind == _JUMP:
            targets.append((pc, pc + 1 + off, "jump"))
        elif kind == _WIDE:
            _wide(insns, pc, targets)
            tails.add(pc + 1)
            pc += 1
        elif kind == _CALL:
            _call(insns[pc], pc, targets)
        elif kind == _JUMP_LONG:
            targets.append((pc, pc + 1 + imm, "jump"))
        else:
            _arithmetic(insns[pc], pc, kind, linux)
        pc += 1
    for start, end, what in targets:
        if not 0 <= end < count:
            _refuse(start, f"{what} to insn {end}, outside the program's {count}")
        if end in tails:
            _refuse(start, f"{what} to insn {end}, the second half of a 64-bit immediate")
    _last(insns, count - 1)
    if linux:
        _subprograms(insns, targets)


def _refuse(pc: int, reason: str) -> NoReturn:
    raise DecodeError(f"insn {pc}: {reason}", offset=pc * SLOT_BYTES)


def _reserved(pc: int, insn: Insn, flags: int) -> NoReturn:
    values = dict(zip((_DST, _SRC, _OFF, _IMM), insn[1:], strict=True))
    field = next(name for bit, name in _FIELD_NAMES if flags & bit and values[bit])
    _refuse(pc, f"opcode {insn.opcode:#04x} does not use its {field} field, which must be 0")


def _wide(insns: Sequence[Insn], pc: int, targets: list[tuple[int, int, str]]) -> None:
    insn = insns[pc]
    if pc + 1 >= len(insns):
        _refuse(pc, "the 64-bit immediate lacks its second half")
    tail = insns[pc + 1]
    if tail[:4] != (0, 0, 0, 0):
        _refuse(pc + 1, "the second half of a 64-bit immediate holds more than an immediate")
    if insn.src > op.BPF_PSEUDO_MAP_IDX_VALUE:
        _refuse(pc, f"64-bit immediate of unknown kind {insn.src} in src (0 to 6 are known)")
    if insn.src in (op.BPF_PSEUDO_MAP_FD, op.BPF_PSEUDO_MAP_IDX) and tail.imm:
        _refuse(pc + 1, "a map reference has no upper half: its immediate must be 0")
    if insn.src == op.BPF_PSEUDO_FUNC:
        targets.append((pc, pc + 1 + insn.imm, "function reference"))


def _call(insn: Insn, pc: int, targets: list[tuple[int, int, str]]) -> None:
    if insn.src > op.BPF_PSEUDO_KFUNC_CALL:
        _refuse(pc, f"call of unknown kind {insn.src} in src (0 helper, 1 subprogram, 2 kernel function)")
    if insn.off and insn.src != op.BPF_PSEUDO_KFUNC_CALL:
        _refuse(pc, "a call does not use its offset field, which must be 0")
    if insn.src == op.BPF_PSEUDO_CALL:
        targets.append((pc, pc + 1 + insn.imm, "call"))


def _arithmetic(insn: Insn, pc: int, kind: int, linux: bool) -> None:
    """Immediates and offsets that select a variant."""
    if kind == _DIV:
        if insn.off not in (0, 1):
            _refuse(pc, f"division with offset {insn.off}: 0 is unsigned, 1 is signed")
        if insn.opcode & op.BPF_X:
            if insn.imm:
                _reserved(pc, insn, _IMM)
        elif linux and insn.imm == 0:
            _refuse(pc, "division by zero")
    elif kind in (_SHIFT32, _SHIFT64):
        bits = 64 if kind == _SHIFT64 else 32
        if linux and not 0 <= insn.imm < bits:
            _refuse(pc, f"shift by {insn.imm}, outside 0 to {bits - 1}")
    elif kind in (_MOVSX32, _MOVSX64):
        _move(insn, pc, (0, 8, 16, 32) if kind == _MOVSX64 else (0, 8, 16))
    elif kind == _SWAP:
        if insn.imm not in (16, 32, 64):
            _refuse(pc, f"byte swap of {insn.imm} bits: 16, 32 and 64 exist")
    elif kind == _ATOMIC:
        _atomic(insn, pc)
    elif kind == _CALLX and linux:
        _refuse(pc, "Linux has no calls through a register")


def _move(insn: Insn, pc: int, widths: tuple[int, ...]) -> None:
    if insn.opcode & op.CLASS_MASK == op.BPF_ALU64 and insn.off == op.BPF_ADDR_SPACE_CAST:
        if insn.imm not in (1, 1 << 16):
            _refuse(pc, "an address space cast converts 0 to 1 or 1 to 0")
        return
    if insn.off not in widths:
        _refuse(pc, f"move with offset {insn.off}: {', '.join(map(str, widths))} exist")
    if insn.imm:
        _reserved(pc, insn, _IMM)


def _atomic(insn: Insn, pc: int) -> None:
    size = op.SIZE_BYTES[insn.opcode & op.SIZE_MASK]
    if insn.imm in (op.BPF_LOAD_ACQ, op.BPF_STORE_REL):
        if insn.imm == op.BPF_LOAD_ACQ and insn.dst == 10:
            _refuse(pc, "r10, the frame pointer, cannot be written")
        return
    if insn.imm not in _READ_MODIFY_WRITE:
        _refuse(pc, f"unknown atomic operation {insn.imm:#x}")
    if size < 4:
        _refuse(pc, f"atomic operation {insn.imm:#x} on {size * 8} bits: 32 and 64 exist")
    if insn.imm & op.BPF_FETCH and insn.imm != op.BPF_CMPXCHG and insn.src == 10:
        _refuse(pc, "r10, the frame pointer, cannot be written")


def _last(insns: Sequence[Insn], pc: int) -> None:
    if insns[pc].opcode not in (op.EXIT, op.JA, op.GOTOL):
        _refuse(pc, "the last instruction is neither exit nor an unconditional jump")


def _subprograms(insns: Sequence[Insn], targets: Sequence[tuple[int, int, str]]) -> None:
    """The kernel's view: each subprogram ends in exit or a jump, and jumps stay within theirs."""
    from bisect import bisect_right

    starts = sorted({0, *(end for _, end, what in targets if what != "jump")})
    for start in starts[1:]:
        _last(insns, start - 1)
    for pc, end, what in targets:
        if what == "jump" and bisect_right(starts, pc) != bisect_right(starts, end):
            _refuse(pc, f"jump to insn {end}, in another subprogram")
