"""What an instruction is and does: kind, jump target, registers, version.

Register sets are bit masks: bit n stands for rn.
"""

from __future__ import annotations

from skep.isa import opcodes as op
from skep.isa.ebpf import Insn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final


#: r1 to r5: arguments of a call, unknown after it.
CALLER_SAVED: Final = 0b111110

_V2_JUMPS: Final = frozenset((op.BPF_JLT, op.BPF_JLE, op.BPF_JSLT, op.BPF_JSLE))


def is_wide(insn: Insn) -> bool:
    """The first of two slots (LD_IMM64)."""
    return insn.opcode == op.LD_IMM64


def is_jump(insn: Insn) -> bool:
    """Goes, or may go, elsewhere in the same frame: no calls, no exit."""
    opcode = insn.opcode
    if opcode & op.CLASS_MASK not in (op.BPF_JMP, op.BPF_JMP32):
        return False
    return opcode & op.OP_MASK not in (op.BPF_CALL, op.BPF_EXIT)


def is_conditional(insn: Insn) -> bool:
    """A jump that may fall through (may_goto included)."""
    return is_jump(insn) and insn.opcode & op.OP_MASK != op.BPF_JA


def is_subprogram_call(insn: Insn) -> bool:
    """A call whose target is in the program itself."""
    return insn.opcode == op.CALL and insn.src == op.BPF_PSEUDO_CALL


def is_signed(insn: Insn) -> bool:
    """SDIV or SMOD: a division with offset 1 (v4)."""
    return (
        insn.off == 1
        and insn.opcode & op.CLASS_MASK in (op.BPF_ALU, op.BPF_ALU64)
        and insn.opcode & op.OP_MASK in (op.BPF_DIV, op.BPF_MOD)
    )


def jump_target(insn: Insn, pc: int) -> int | None:
    """Slot that the jump, subprogram call or function reference at slot ``pc`` names; None for others."""
    if insn.opcode == op.GOTOL or is_subprogram_call(insn):
        return pc + 1 + insn.imm
    if insn.opcode == op.LD_IMM64 and insn.src == op.BPF_PSEUDO_FUNC:
        return pc + 1 + insn.imm
    return pc + 1 + insn.off if is_jump(insn) else None


def uses(insn: Insn) -> int:
    """Registers read. A call may read all of r1 to r5."""
    opcode = insn.opcode
    cls = opcode & op.CLASS_MASK
    dst, src = 1 << insn.dst, 1 << insn.src
    if cls in (op.BPF_ALU, op.BPF_ALU64):
        operation = opcode & op.OP_MASK
        if operation in (op.BPF_NEG, op.BPF_END):
            return dst
        from_src = src if opcode & op.BPF_X else 0
        return from_src if operation == op.BPF_MOV else dst | from_src
    if cls in (op.BPF_JMP, op.BPF_JMP32):
        if opcode == op.CALL:
            return CALLER_SAVED
        if opcode == op.CALLX:
            return CALLER_SAVED | dst
        if opcode == op.EXIT:
            return 1
        if opcode in (op.JA, op.GOTOL, op.MAY_GOTO):
            return 0
        return dst | (src if opcode & op.BPF_X else 0)
    if cls == op.BPF_LDX:
        return src
    if cls == op.BPF_ST:
        return dst
    if cls == op.BPF_STX:
        if opcode & op.MODE_MASK == op.BPF_ATOMIC:
            if insn.imm == op.BPF_LOAD_ACQ:
                return src
            return dst | src | (1 if insn.imm == op.BPF_CMPXCHG else 0)
        return dst | src
    mode = opcode & op.MODE_MASK
    if mode == op.BPF_ABS:
        return 1 << 6
    return 1 << 6 | src if mode == op.BPF_IND else 0


def defs(insn: Insn) -> int:
    """Registers written or, by a call or a packet load, left unknown."""
    opcode = insn.opcode
    cls = opcode & op.CLASS_MASK
    if cls in (op.BPF_ALU, op.BPF_ALU64, op.BPF_LDX):
        return 1 << insn.dst
    if cls == op.BPF_LD:
        return 1 << insn.dst if opcode == op.LD_IMM64 else 1 | CALLER_SAVED
    if opcode in (op.CALL, op.CALLX):
        return 1 | CALLER_SAVED
    if cls == op.BPF_STX and opcode & op.MODE_MASK == op.BPF_ATOMIC:
        if insn.imm == op.BPF_LOAD_ACQ:
            return 1 << insn.dst
        if insn.imm == op.BPF_CMPXCHG:
            return 1
        if insn.imm & op.BPF_FETCH:
            return 1 << insn.src
    return 0


def version(insn: Insn) -> int:
    """Instruction set version, 1 to 4, as LLVM's -mcpu=v… numbers them."""
    opcode = insn.opcode
    cls, operation = opcode & op.CLASS_MASK, opcode & op.OP_MASK
    if cls in (op.BPF_ALU, op.BPF_ALU64):
        if is_signed(insn) or (cls == op.BPF_ALU64 and operation == op.BPF_END):
            return 4
        if operation == op.BPF_MOV and opcode & op.BPF_X and insn.off:
            return 4
        return 3 if cls == op.BPF_ALU and operation != op.BPF_END else 1
    if cls == op.BPF_JMP32:
        return 4 if opcode == op.GOTOL else 3
    if cls == op.BPF_JMP:
        if opcode == op.MAY_GOTO:
            return 4
        return 2 if operation in _V2_JUMPS else 1
    if cls == op.BPF_LDX:
        return 4 if opcode & op.MODE_MASK == op.BPF_MEMSX else 1
    if cls == op.BPF_STX and opcode & op.MODE_MASK == op.BPF_ATOMIC:
        if insn.imm in (op.BPF_LOAD_ACQ, op.BPF_STORE_REL):
            return 4
        return 1 if insn.imm == op.BPF_ADD else 3
    return 1


def since(insn: Insn) -> tuple[int, int] | None:
    """First Linux version that takes the instruction; None where none does (callx)."""
    opcode = insn.opcode
    cls, operation = opcode & op.CLASS_MASK, opcode & op.OP_MASK
    if opcode == op.CALLX:
        return None
    if opcode == op.MAY_GOTO:
        return (6, 9)
    if opcode == op.CALL:
        return {op.BPF_PSEUDO_CALL: (4, 16), op.BPF_PSEUDO_KFUNC_CALL: (5, 13)}.get(insn.src, (3, 18))
    if opcode == op.LD_IMM64:
        return {
            op.BPF_PSEUDO_MAP_VALUE: (5, 2),
            op.BPF_PSEUDO_BTF_ID: (5, 10),
            op.BPF_PSEUDO_FUNC: (5, 13),
            op.BPF_PSEUDO_MAP_IDX: (5, 14),
            op.BPF_PSEUDO_MAP_IDX_VALUE: (5, 14),
        }.get(insn.src, (3, 18))
    if opcode == op.BPF_ALU64 | op.BPF_MOV | op.BPF_X and insn.off == op.BPF_ADDR_SPACE_CAST:
        return (6, 9)
    if cls == op.BPF_JMP32:
        return (6, 6) if opcode == op.GOTOL else (5, 1)
    if cls == op.BPF_JMP and operation in _V2_JUMPS:
        return (4, 14)
    if cls == op.BPF_STX and opcode & op.MODE_MASK == op.BPF_ATOMIC:
        if insn.imm in (op.BPF_LOAD_ACQ, op.BPF_STORE_REL):
            return (6, 15)
        return (3, 18) if insn.imm == op.BPF_ADD else (5, 12)
    return (6, 6) if version(insn) == 4 else (3, 18)
