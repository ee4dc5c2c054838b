"""The mnemonic notation of ubpf, rbpf and bpf_conformance: `add32 r0, 5`, `ldxw r1, [r2+4]`, `jeq r1, 0, +4`.

Arithmetic without a suffix is 64 bits wide, as is `64`; `32` works on the low half. The first `exit` is a
label of that name unless another is defined.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Final

from skep.asm.emit import Emitter
from skep.asm.lex import Line
from skep.asm.operand import immediate, is_register, literal, offset, register, target
from skep.asm.statement import call, lock
from skep.isa import opcodes as op
from skep.isa.ebpf import Insn, ld_imm64

_ALU: Final = {
    "add": op.BPF_ADD,
    "sub": op.BPF_SUB,
    "mul": op.BPF_MUL,
    "div": op.BPF_DIV,
    "or": op.BPF_OR,
    "and": op.BPF_AND,
    "lsh": op.BPF_LSH,
    "rsh": op.BPF_RSH,
    "mod": op.BPF_MOD,
    "xor": op.BPF_XOR,
    "mov": op.BPF_MOV,
    "arsh": op.BPF_ARSH,
    "sdiv": op.BPF_DIV,
    "smod": op.BPF_MOD,
}
_JUMP: Final = {
    "jeq": op.BPF_JEQ,
    "jgt": op.BPF_JGT,
    "jge": op.BPF_JGE,
    "jset": op.BPF_JSET,
    "jne": op.BPF_JNE,
    "jsgt": op.BPF_JSGT,
    "jsge": op.BPF_JSGE,
    "jlt": op.BPF_JLT,
    "jle": op.BPF_JLE,
    "jslt": op.BPF_JSLT,
    "jsle": op.BPF_JSLE,
}
_SIZE: Final = {"b": op.BPF_B, "h": op.BPF_H, "w": op.BPF_W, "dw": op.BPF_DW}
_LOCK: Final = {
    "add": op.BPF_ADD,
    "or": op.BPF_OR,
    "and": op.BPF_AND,
    "xor": op.BPF_XOR,
    "xchg": op.BPF_XCHG,
    "cmpxchg": op.BPF_CMPXCHG,
}
_SWAP: Final = {
    "le": op.BPF_ALU | op.BPF_END,
    "be": op.BPF_ALU | op.BPF_END | op.BPF_TO_BE,
    "swap": op.BPF_ALU64 | op.BPF_END,
    "bswap": op.BPF_ALU64 | op.BPF_END,
}


@functools.cache
def mnemonics() -> dict[str, tuple[Callable[[Line, Emitter, int, int], None], int, int]]:
    """mnemonic -> (reader, opcode, a number that selects the variant)."""
    table: dict[str, tuple[Callable[[Line, Emitter, int, int], None], int, int]] = {}
    for suffix, cls, jump in (("", op.BPF_ALU64, op.BPF_JMP), ("32", op.BPF_ALU, op.BPF_JMP32)):
        for name, code in _ALU.items():
            table[name + suffix] = (_alu, cls | code, 1 if name in ("sdiv", "smod") else 0)
        table["neg" + suffix] = (_one, cls | op.BPF_NEG, 0)
        for name, code in _JUMP.items():
            table[name + suffix] = (_jump, jump | code, 0)
    for name in [*_ALU, "neg"]:
        table[name + "64"] = table[name]
    for width, targets in ((8, ("32", "64")), (16, ("32", "64")), (32, ("64",))):
        for into in targets:
            cls = op.BPF_ALU if into == "32" else op.BPF_ALU64
            table[f"movsx{width}{into}"] = (_alu, cls | op.BPF_MOV, width)
    for name, code in _SWAP.items():
        for bits in (16, 32, 64):
            table[f"{name}{bits}"] = (_one, code, bits)
    for suffix, size in _SIZE.items():
        table["ldx" + suffix] = (_load, op.BPF_LDX | op.BPF_MEM | size, 0)
        table["st" + suffix] = (_store_imm, op.BPF_ST | op.BPF_MEM | size, 0)
        table["stx" + suffix] = (_store, op.BPF_STX | op.BPF_MEM | size, 0)
        if suffix != "dw":
            table["ldxs" + suffix] = (_load, op.BPF_LDX | op.BPF_MEMSX | size, 0)
            table["ldabs" + suffix] = (_packet, op.BPF_LD | op.BPF_ABS | size, 0)
            table["ldind" + suffix] = (_packet, op.BPF_LD | op.BPF_IND | size, 0)
    table["stxxaddw"] = (_store, op.BPF_STX | op.BPF_ATOMIC | op.BPF_W, op.BPF_ADD)
    table["stxxadddw"] = (_store, op.BPF_STX | op.BPF_ATOMIC | op.BPF_DW, op.BPF_ADD)
    table["lddw"] = (_wide, 0, 0)
    table["ja"] = (_goto, op.JA, 0)
    table["ja32"] = (_goto, op.GOTOL, 0)
    table["call"] = (_call, 0, 0)
    table["lock"] = (_lock, 0, 0)
    return table


def mnemonic(line: Line, out: Emitter) -> None:
    """Emit one instruction whose first word is one of `mnemonics`."""
    reader, opcode, variant = mnemonics()[line.take().text.lower()]
    reader(line, out, opcode, variant)


def _alu(line: Line, out: Emitter, opcode: int, off: int) -> None:
    dst = register(line).number
    line.expect(",")
    if is_register(line.token) is not None:
        out.emit(Insn(opcode | op.BPF_X, dst, register(line).number, off))
    elif off > 1:
        line.fail(f"expected a register to extend the sign of, found {line.found()}")
    else:
        imm = immediate(line, out, wide_register=opcode & op.CLASS_MASK == op.BPF_ALU64)
        out.emit(Insn(opcode, dst, 0, off, imm))


def _one(line: Line, out: Emitter, opcode: int, imm: int) -> None:
    out.emit(Insn(opcode, register(line).number, imm=imm))


def _jump(line: Line, out: Emitter, opcode: int, _: int) -> None:
    dst = register(line).number
    line.expect(",")
    src, imm = 0, 0
    if is_register(line.token) is not None:
        opcode, src = opcode | op.BPF_X, register(line).number
    else:
        imm = immediate(line, out, wide_register=opcode & op.CLASS_MASK == op.BPF_JMP)
    line.expect(",")
    out.emit(Insn(opcode, dst, src, target(line, out, "off"), imm))


def _goto(line: Line, out: Emitter, opcode: int, _: int) -> None:
    if opcode == op.GOTOL:
        out.emit(Insn(opcode, imm=target(line, out, "imm")))
    else:
        out.emit(Insn(opcode, off=target(line, out, "off")))


def _brackets(line: Line) -> tuple[int, int]:
    """`[r1+4]`: register and offset."""
    line.expect("[")
    base = register(line).number
    off = offset(line, "]")
    line.expect("]")
    return base, off


def _load(line: Line, out: Emitter, opcode: int, _: int) -> None:
    dst = register(line).number
    line.expect(",")
    base, off = _brackets(line)
    out.emit(Insn(opcode, dst, base, off))


def _store(line: Line, out: Emitter, opcode: int, imm: int) -> None:
    base, off = _brackets(line)
    line.expect(",")
    out.emit(Insn(opcode, base, register(line).number, off, imm))


def _store_imm(line: Line, out: Emitter, opcode: int, _: int) -> None:
    base, off = _brackets(line)
    line.expect(",")
    imm = immediate(line, out, wide_register=opcode & op.SIZE_MASK == op.BPF_DW)
    out.emit(Insn(opcode, base, 0, off, imm))


def _packet(line: Line, out: Emitter, opcode: int, _: int) -> None:
    src = 0
    if opcode & op.MODE_MASK == op.BPF_IND:
        src = register(line).number
        line.expect(",")
    out.emit(Insn(opcode, 0, src, 0, immediate(line, out)))


def _wide(line: Line, out: Emitter, _: int, __: int) -> None:
    dst = register(line).number
    line.expect(",")
    start = line.token
    value, _hexadecimal = literal(line, out)
    if not -(1 << 63) <= value < 1 << 64:
        line.fail(f"{value} is out of 64 bits", start)
    out.emit(*ld_imm64(dst, value))


def _call(line: Line, out: Emitter, _: int, __: int) -> None:
    if line.skip("local"):
        out.emit(Insn(op.CALL, src=op.BPF_PSEUDO_CALL, imm=target(line, out, "imm")))
    elif line.skip("runtime"):
        out.emit(Insn(op.CALL, src=op.BPF_PSEUDO_KFUNC_CALL, imm=immediate(line, out)))
    else:
        if line.token.text == "helper" and line.peek().kind != "end":
            line.take()
        call(line, out)


def _lock(line: Line, out: Emitter, _: int, __: int) -> None:
    if line.token.text == "*":
        lock(line, out)
        return
    fetch = op.BPF_FETCH if line.skip("fetch") else 0
    token = line.take()
    name = token.text.lower()
    size = op.BPF_W if name.endswith("32") else op.BPF_DW
    operation = _LOCK.get(name.removesuffix("32").removesuffix("64"))
    if operation is None:
        line.fail(f"expected an atomic operation ({' '.join(_LOCK)}), found {token.text!r}", token)
    base, off = _brackets(line)
    line.expect(",")
    src = register(line).number
    out.emit(Insn(op.BPF_STX | op.BPF_ATOMIC | size, base, src, off, operation | fetch))
