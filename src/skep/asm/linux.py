"""Extended BPF as Linux writes it: the verifier's log and `bpftool prog dump xlated`.

``(b7) r0 = 1``: the opcode in parentheses is part of the notation, since `r1 = 0x5` alone could be a move or
a 64-bit load. Source of the forms: the kernel's disassembler as of Linux 6.18.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from skep.asm.helpers import HELPERS
from skep.isa import opcodes as op
from skep.isa.ebpf import Insn
from skep.isa.facts import is_signed

_ALU: Final = ("+=", "-=", "*=", "/=", "|=", "&=", "<<=", ">>=", "neg", "%=", "^=", "=", "s>>=", "endian")
_JUMP: Final = ("jmp", "==", ">", ">=", "&", "!=", "s>", "s>=", "call", "exit", "<", "<=", "s<", "s<=")
_UNSIGNED: Final = ("u32", "u16", "u8", "u64")
_SIGNED: Final = ("s32", "s16", "s8", "(null)")
_ATOMIC: Final = {op.BPF_ADD: "add", op.BPF_AND: "and", op.BPF_OR: "or", op.BPF_XOR: "xor"}
_WIDTHS: Final = {8: "(s8)", 16: "(s16)", 32: "(s32)"}
_NULL: Final = "(null)"  # what the kernel's printf makes of an operation without a name


def text(insns: Sequence[Insn], pc: int) -> str:
    """The instruction at slot ``pc`` with its opcode, without its number. Never fails."""
    insn = insns[pc]
    cls = insn.opcode & op.CLASS_MASK
    if cls in (op.BPF_ALU, op.BPF_ALU64):
        body = _alu(insn)
    elif cls in (op.BPF_JMP, op.BPF_JMP32):
        body = _jump(insn)
    elif cls == op.BPF_LD:
        body = _ld(insns, pc)
    else:
        body = _memory(insn, cls)
    return body if body.startswith("BUG_") else f"({insn.opcode:02x}) {body}"


def listing(insns: Sequence[Insn], *, annotate: bool = True) -> list[str]:
    """One line per instruction, numbered as bpftool numbers them.

    With ``annotate``, what the notation leaves out (the offset of a kernel function's call, the kind of
    some 64-bit immediates) follows as ``#@ field=value``, which the assembler reads back.
    """
    lines: list[str] = []
    pc = 0
    while pc < len(insns):
        extra = _left_out(insns, pc) if annotate else ""
        lines.append(f"{pc:4d}: {text(insns, pc)}{extra}")
        pc += 2 if insns[pc].opcode == op.LD_IMM64 else 1
    return lines


def _left_out(insns: Sequence[Insn], pc: int) -> str:
    insn = insns[pc]
    fields: list[str] = []
    if insn.opcode == op.CALLX:
        fields.append(f"dst={insn.dst}")
    elif insn.opcode == op.CALL and insn.src == op.BPF_PSEUDO_KFUNC_CALL and insn.off:
        fields.append(f"off={insn.off}")
    elif insn.opcode == op.LD_IMM64 and pc + 1 < len(insns):
        if insn.src in (op.BPF_PSEUDO_BTF_ID, op.BPF_PSEUDO_MAP_IDX):
            fields.append(f"src={insn.src}")
        elif insn.src == op.BPF_PSEUDO_FUNC and insns[pc + 1].imm:
            fields.append(f"high={insns[pc + 1].imm}")
    return f" #@ {' '.join(fields)}" if fields else ""


def _alu(insn: Insn) -> str:
    code, dst, src, off, imm = insn
    wide = code & op.CLASS_MASK == op.BPF_ALU64
    operation = code & op.OP_MASK
    reg = "r" if wide else "w"
    if operation == op.BPF_END:
        order = "bswap" if wide else "be" if code & op.BPF_TO_BE else "le"
        return f"r{dst} = {order}{imm} r{dst}"
    if operation == op.BPF_NEG:
        return f"{reg}{dst} = -{reg}{dst}"
    sign = _ALU[operation >> 4] if operation >> 4 < len(_ALU) else _NULL
    if is_signed(insn):
        sign = "s" + sign
    if code & op.BPF_X:
        if code == op.BPF_ALU64 | op.BPF_MOV | op.BPF_X:
            if off == op.BPF_ADDR_SPACE_CAST:
                return f"r{dst} = addr_space_cast(r{src}, {imm >> 16 & 0xFFFF}, {imm & 0xFFFF})"
            if off == -1:  # the kernel's own form, seen in translated programs
                return f"r{dst} = &(void __percpu *)(r{src})"
        cast = _WIDTHS.get(off, "") if operation == op.BPF_MOV else ""
        return f"{reg}{dst} {sign} {cast}{reg}{src}"
    return f"{reg}{dst} {sign} {imm}"


def _memory(insn: Insn, cls: int) -> str:
    code, dst, src, off, imm = insn
    mode = code & op.MODE_MASK
    size = _UNSIGNED[(code & op.SIZE_MASK) >> 3]
    if cls == op.BPF_LDX:
        if mode == op.BPF_MEMSX:
            size = _SIGNED[(code & op.SIZE_MASK) >> 3]
        elif mode != op.BPF_MEM:
            return f"BUG_ldx_{code:02x}"
        return f"r{dst} = *({size} *)(r{src} {off:+d})"
    target = f"*({size} *)(r{dst} {off:+d})"
    if cls == op.BPF_ST:
        if mode == op.BPF_MEM:
            return f"{target} = {imm}"
        return "nospec" if mode == op.BPF_ATOMIC else f"BUG_st_{code:02x}"
    if mode == op.BPF_MEM:
        return f"{target} = r{src}"
    if mode != op.BPF_ATOMIC:
        return f"BUG_{code:02x}"
    bits = "64" if code & op.SIZE_MASK == op.BPF_DW else ""
    if imm in _ATOMIC:
        return f"lock {target} {_ALU[imm >> 4]} r{src}"
    if imm & op.BPF_FETCH and imm & ~op.BPF_FETCH in _ATOMIC:
        return f"r{src} = atomic{bits}_fetch_{_ATOMIC[imm & ~op.BPF_FETCH]}({target[1:]}, r{src})"
    if imm == op.BPF_CMPXCHG:
        return f"r0 = atomic{bits}_cmpxchg({target[1:]}, r0, r{src})"
    if imm == op.BPF_XCHG:
        return f"r{src} = atomic{bits}_xchg({target[1:]}, r{src})"
    if imm == op.BPF_LOAD_ACQ:
        return f"r{dst} = load_acquire(({size} *)(r{src} {off:+d}))"
    if imm == op.BPF_STORE_REL:
        return f"store_release({target[1:]}, r{src})"
    return f"BUG_{code:02x}"


def _ld(insns: Sequence[Insn], pc: int) -> str:
    code, dst, src, _, imm = insns[pc]
    mode = code & op.MODE_MASK
    size = _UNSIGNED[(code & op.SIZE_MASK) >> 3]
    if mode == op.BPF_ABS:
        return f"r0 = *({size} *)skb[{imm}]"
    if mode == op.BPF_IND:
        return f"r0 = *({size} *)skb[r{src} + {imm}]"
    if code != op.LD_IMM64 or pc + 1 >= len(insns):
        return f"BUG_ld_{code:02x}"
    high = insns[pc + 1].imm
    if src == op.BPF_PSEUDO_MAP_FD:
        value = f"map[id:{imm}]"
    elif src == op.BPF_PSEUDO_MAP_VALUE:
        value = f"map[id:{imm}][0]+{high}"
    elif src == op.BPF_PSEUDO_MAP_IDX_VALUE:
        value = f"map[idx:{imm}]+{high}"
    elif src == op.BPF_PSEUDO_FUNC:
        value = f"subprog[{imm:+d}]"
    else:
        value = f"0x{(high & 0xFFFFFFFF) << 32 | imm & 0xFFFFFFFF:x}"
    return f"r{dst} = {value}"


def _jump(insn: Insn) -> str:
    code, dst, src, off, imm = insn
    operation = code & op.OP_MASK
    if operation == op.BPF_CALL:
        if src == op.BPF_PSEUDO_CALL:
            return f"call pc{imm:+d}"
        if src == op.BPF_PSEUDO_KFUNC_CALL:
            return f"call kernel-function#{imm}"
        name = f"bpf_{HELPERS[imm]}" if src == 0 and 0 <= imm < len(HELPERS) else "unknown"
        return f"call {name}#{imm}"
    if code == op.JA:
        return f"goto pc{off:+d}"
    if code == op.MAY_GOTO and src == op.BPF_MAY_GOTO:
        return f"may_goto pc{off:+d}"
    if code == op.GOTOL:
        return f"gotol pc{imm:+d}"
    if code == op.EXIT:
        return "exit"
    reg = "w" if code & op.CLASS_MASK == op.BPF_JMP32 else "r"
    sign = _JUMP[operation >> 4] if operation >> 4 < len(_JUMP) else _NULL
    right = f"{reg}{src}" if code & op.BPF_X else f"0x{imm & 0xFFFFFFFF:x}"
    return f"if {reg}{dst} {sign} {right} goto pc{off:+d}"
