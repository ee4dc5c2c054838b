"""Extended BPF as `llvm-objdump -d --no-show-raw-insn` writes it (LLVM 19).

Without ``--mcpu`` llvm-objdump names loads and stores of up to 32 bits by 64-bit registers and does not
know 32-bit atomics; from v3 on it uses w registers. ``alu32`` chooses the second way. What LLVM 19 has no
words for (load_acquire, store_release) is written as LLVM 20 does; what it cannot decode is ``<unknown>``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from skep.isa import opcodes as op
from skep.isa.ebpf import Insn

_ALU: Final = {
    op.BPF_ADD: "+=",
    op.BPF_SUB: "-=",
    op.BPF_MUL: "*=",
    op.BPF_DIV: "/=",
    op.BPF_OR: "|=",
    op.BPF_AND: "&=",
    op.BPF_LSH: "<<=",
    op.BPF_RSH: ">>=",
    op.BPF_MOD: "%=",
    op.BPF_XOR: "^=",
    op.BPF_MOV: "=",
    op.BPF_ARSH: "s>>=",
}
_JUMP: Final = {
    op.BPF_JEQ: "==",
    op.BPF_JGT: ">",
    op.BPF_JGE: ">=",
    op.BPF_JSET: "&",
    op.BPF_JNE: "!=",
    op.BPF_JSGT: "s>",
    op.BPF_JSGE: "s>=",
    op.BPF_JLT: "<",
    op.BPF_JLE: "<=",
    op.BPF_JSLT: "s<",
    op.BPF_JSLE: "s<=",
}
_SIZE: Final = ("u32", "u16", "u8", "u64")
_ATOMIC: Final = {op.BPF_ADD: "add", op.BPF_AND: "and", op.BPF_OR: "or", op.BPF_XOR: "xor"}
_UNKNOWN: Final = "<unknown>"


def text(insns: Sequence[Insn], pc: int, *, alu32: bool = False, symbol: str | None = None) -> str:
    """The instruction at slot ``pc``; ``<unknown>`` where LLVM would say so. Never fails.

    ``symbol`` names the code for jump targets, which llvm-objdump adds: ``goto +0x1 <.text+0x10>``.
    """
    insn = insns[pc]
    cls = insn.opcode & op.CLASS_MASK
    if cls in (op.BPF_ALU, op.BPF_ALU64):
        body = _alu(insn)
    elif cls in (op.BPF_JMP, op.BPF_JMP32):
        body = _jump(insn, pc, symbol)
    elif cls == op.BPF_LD:
        body = _ld(insns, pc)
    else:
        body = _memory(insn, cls, alu32)
    for reg in (insn.dst, insn.src):  # LLVM counts r11, which programs may not use, and none after it
        if reg > 11 and (f"r{reg}" in body or f"w{reg}" in body):
            return _UNKNOWN
    return body


def listing(
    insns: Sequence[Insn], *, alu32: bool = False, symbol: str | None = ".text", annotate: bool = True
) -> list[str]:
    """One line per instruction, numbered as llvm-objdump numbers them.

    With ``annotate``, what LLVM leaves out (the kind of a call, the displacement of LD_IND) follows as a
    comment ``#@ field=value``, which the assembler reads back.
    """
    lines: list[str] = []
    pc = 0
    while pc < len(insns):
        body = text(insns, pc, alu32=alu32, symbol=symbol)
        extra = _left_out(insns, pc) if annotate and body != _UNKNOWN else ""
        lines.append(f"{pc:8d}:\t{body}{extra}")
        wide = insns[pc].opcode == op.LD_IMM64 and body != _UNKNOWN
        pc += 2 if wide else 1
    return lines


def _left_out(insns: Sequence[Insn], pc: int) -> str:
    insn = insns[pc]
    fields: list[str] = []
    if insn.opcode == op.CALL:
        fields += [f"src={insn.src}"] if insn.src else []
        fields += [f"off={insn.off}"] if insn.off else []
    elif insn.opcode & (op.CLASS_MASK | op.MODE_MASK) == op.BPF_LD | op.BPF_IND and insn.imm:
        fields.append(f"imm={insn.imm}")
    elif insn.opcode == op.LD_IMM64 and insn.src and insns[pc + 1].imm:
        fields.append(f"high={insns[pc + 1].imm}")
    return f" #@ {' '.join(fields)}" if fields else ""


def _hex(number: int) -> str:
    return f"-0x{-number:x}" if number < 0 else f"0x{number:x}"


def _signed_hex(number: int) -> str:
    return f"-0x{-number:x}" if number < 0 else f"+0x{number:x}"


def _alu(insn: Insn) -> str:
    code, dst, src, off, imm = insn
    wide = code & op.CLASS_MASK == op.BPF_ALU64
    operation = code & op.OP_MASK
    reg = "r" if wide else "w"
    if operation == op.BPF_END:
        if imm not in (16, 32, 64) or (wide and code & op.BPF_TO_BE):
            return _UNKNOWN
        order = "bswap" if wide else "be" if code & op.BPF_TO_BE else "le"
        return f"r{dst} = {order}{imm} r{dst}"
    if operation == op.BPF_NEG:
        return _UNKNOWN if code & op.BPF_X else f"{reg}{dst} = -{reg}{dst}"
    sign = _ALU.get(operation)
    if sign is None:
        return _UNKNOWN
    cast = ""
    if off:
        if off == 1 and operation in (op.BPF_DIV, op.BPF_MOD):
            sign = f"s{sign}"
        elif operation == op.BPF_MOV and code & op.BPF_X:
            if off == op.BPF_ADDR_SPACE_CAST and wide:
                return f"r{dst} = addr_space_cast(r{src}, {_hex(imm >> 16 & 0xFFFF)}, {_hex(imm & 0xFFFF)})"
            if off not in (8, 16, 32) or (off == 32 and not wide):
                return _UNKNOWN
            cast = f"(s{off})"
        else:
            return _UNKNOWN
    if code & op.BPF_X:
        return f"{reg}{dst} {sign} {cast}{reg}{src}"
    return f"{reg}{dst} {sign} {_hex(imm)}"


def _address(reg: int, off: int) -> str:
    return f"r{reg} {'-' if off < 0 else '+'} 0x{abs(off):x}"


def _memory(insn: Insn, cls: int, alu32: bool) -> str:
    code, dst, src, off, imm = insn
    mode = code & op.MODE_MASK
    bits = code & op.SIZE_MASK
    size = _SIZE[bits >> 3]
    reg = "w" if alu32 and bits != op.BPF_DW else "r"
    if cls == op.BPF_LDX:
        if mode == op.BPF_MEMSX and bits != op.BPF_DW:
            return f"r{dst} = *(s{size[1:]} *)({_address(src, off)})"
        return f"{reg}{dst} = *({size} *)({_address(src, off)})" if mode == op.BPF_MEM else _UNKNOWN
    where = _address(dst, off)
    if cls == op.BPF_ST:
        return f"*({size} *)({where}) = {_hex(imm)}" if mode == op.BPF_MEM else _UNKNOWN
    if mode == op.BPF_MEM:
        return f"*({size} *)({where}) = {reg}{src}"
    return _atomic(insn, size, where, alu32) if mode == op.BPF_ATOMIC else _UNKNOWN


def _atomic(insn: Insn, size: str, where: str, alu32: bool) -> str:
    _, dst, src, off, imm = insn
    reg = "r" if size == "u64" else "w"
    if imm == op.BPF_LOAD_ACQ:
        return f"{reg}{dst} = load_acquire(({size} *)({_address(src, off)}))"
    if imm == op.BPF_STORE_REL:
        return f"store_release(({size} *)({where}), {reg}{src})"
    if size not in ("u32", "u64"):
        return _UNKNOWN
    legal = imm & 0xFF if imm & 0xF == 1 else imm & 0xF0  # LLVM looks at no other bits
    if size == "u32" and not alu32 and legal != imm:
        legal = imm & 0xF0
        if legal:
            return _UNKNOWN
    imm = legal
    if imm in _ATOMIC:
        if imm == op.BPF_ADD and not alu32 and size == "u32":
            reg = "r"
        return f"lock *({size} *)({where}) {_ALU[imm]} {reg}{src}"
    if imm & op.BPF_FETCH and imm & ~op.BPF_FETCH in _ATOMIC:
        name = _ATOMIC[imm & ~op.BPF_FETCH]
        return f"{reg}{src} = atomic_fetch_{name}(({size} *)({where}), {reg}{src})"
    name = "_64" if size == "u64" else "32_32"
    if imm == op.BPF_XCHG:
        return f"{reg}{src} = xchg{name}({where}, {reg}{src})"
    if imm == op.BPF_CMPXCHG:
        return f"{reg}0 = cmpxchg{name}({where}, {reg}0, {reg}{src})"
    return _UNKNOWN


def _ld(insns: Sequence[Insn], pc: int) -> str:
    code, dst, src, off, imm = insns[pc]
    size = _SIZE[(code & op.SIZE_MASK) >> 3]
    mode = code & op.MODE_MASK
    if code == op.LD_IMM64:
        if pc + 1 >= len(insns) or off:
            return _UNKNOWN
        if src:
            return f"ld_pseudo\tr{dst}, {_hex(src)}, {_hex(imm & 0xFFFFFFFF)}"
        value = (insns[pc + 1].imm & 0xFFFFFFFF) << 32 | imm & 0xFFFFFFFF
        return f"r{dst} = {_hex(value - (1 << 64) if value >> 63 else value)} ll"
    if code & op.SIZE_MASK == op.BPF_DW:
        return _UNKNOWN
    if mode == op.BPF_ABS:
        return f"r0 = *({size} *)skb[{_hex(imm)}]"
    return f"r0 = *({size} *)skb[r{src}]" if mode == op.BPF_IND else _UNKNOWN


def _jump(insn: Insn, pc: int, symbol: str | None) -> str:
    code, dst, src, off, imm = insn
    if code == op.EXIT:
        return _UNKNOWN if imm else "exit"
    if code == op.CALL:
        return f"call {_hex(imm)}"
    if code == op.CALLX:
        return f"callx r{dst}"
    if code == op.GOTOL:
        return f"gotol {_signed_hex(imm)}{_target(pc + 1 + imm, symbol)}"
    where = f"{_signed_hex(off)}{_target(pc + 1 + off, symbol)}"
    if code == op.JA:
        return f"goto {where}"
    if code == op.MAY_GOTO:
        return f"may_goto {where}"
    sign = _JUMP.get(code & op.OP_MASK)
    if sign is None:
        return _UNKNOWN
    reg = "w" if code & op.CLASS_MASK == op.BPF_JMP32 else "r"
    right = f"{reg}{src}" if code & op.BPF_X else _hex(imm)
    return f"if {reg}{dst} {sign} {right} goto {where}"


def _target(slot: int, symbol: str | None) -> str:
    if symbol is None:
        return ""
    return f" <{symbol}+0x{slot * 8 & 0xFFFFFFFFFFFFFFFF:x}>" if slot else f" <{symbol}>"
