"""The C-like notation: Linux's and LLVM's forms of one instruction.

r1 = *(u32 *)(r2 + 4)      if w1 s> 5 goto label       lock *(u64 *)(r1 + 0) += r2
r0 = atomic_fetch_add((u64 *)(r1 + 0), r0)             r1 = 0x1122334455667788 ll
"""

from __future__ import annotations

from typing import Final

from skep.asm.emit import Emitter
from skep.asm.helpers import HELPERS
from skep.asm.lex import Line, Token
from skep.asm.operand import (
    SIGNED,
    UNSIGNED,
    Reg,
    immediate,
    is_register,
    literal,
    offset,
    register,
    signed32,
    target,
)
from skep.isa import opcodes as op
from skep.isa.ebpf import Insn, ld_imm64

ASSIGN: Final = {
    "+=": op.BPF_ADD,
    "-=": op.BPF_SUB,
    "*=": op.BPF_MUL,
    "/=": op.BPF_DIV,
    "|=": op.BPF_OR,
    "&=": op.BPF_AND,
    "<<=": op.BPF_LSH,
    ">>=": op.BPF_RSH,
    "%=": op.BPF_MOD,
    "^=": op.BPF_XOR,
    "s>>=": op.BPF_ARSH,
    "s/=": op.BPF_DIV,
    "s%=": op.BPF_MOD,
}
COMPARE: Final = {
    "==": op.BPF_JEQ,
    ">": op.BPF_JGT,
    ">=": op.BPF_JGE,
    "&": op.BPF_JSET,
    "!=": op.BPF_JNE,
    "s>": op.BPF_JSGT,
    "s>=": op.BPF_JSGE,
    "<": op.BPF_JLT,
    "<=": op.BPF_JLE,
    "s<": op.BPF_JSLT,
    "s<=": op.BPF_JSLE,
}
_LOCK: Final = {"+=": op.BPF_ADD, "|=": op.BPF_OR, "&=": op.BPF_AND, "^=": op.BPF_XOR}
_FETCH: Final = {
    f"atomic{bits}_fetch_{name}": (operation | op.BPF_FETCH, size)
    for bits, size in (("", None), ("64", op.BPF_DW))
    for name, operation in (
        ("add", op.BPF_ADD),
        ("or", op.BPF_OR),
        ("and", op.BPF_AND),
        ("xor", op.BPF_XOR),
    )
}
#: name -> (operation, size bits, None where the type in the operand says it)
_EXCHANGE: Final = {
    "atomic_xchg": (op.BPF_XCHG, None),
    "atomic64_xchg": (op.BPF_XCHG, op.BPF_DW),
    "xchg_64": (op.BPF_XCHG, op.BPF_DW),
    "xchg32_32": (op.BPF_XCHG, op.BPF_W),
    "atomic_cmpxchg": (op.BPF_CMPXCHG, None),
    "atomic64_cmpxchg": (op.BPF_CMPXCHG, op.BPF_DW),
    "cmpxchg_64": (op.BPF_CMPXCHG, op.BPF_DW),
    "cmpxchg32_32": (op.BPF_CMPXCHG, op.BPF_W),
}
_SWAPS: Final = {
    f"{name}{bits}": (opcode, bits)
    for name, opcode in (
        ("le", op.BPF_ALU | op.BPF_END | op.BPF_TO_LE),
        ("be", op.BPF_ALU | op.BPF_END | op.BPF_TO_BE),
        ("bswap", op.BPF_ALU64 | op.BPF_END),
    )
    for bits in (16, 32, 64)
}


def statement(line: Line, out: Emitter, hint: int | None = None) -> None:
    """Emit one instruction. ``hint`` is the opcode a listing wrote before it, which settles what the words
    leave open (`r1 = 0x5` may be a move or a 64-bit load)."""
    if (reg := is_register(line.token)) is not None:
        line.take()
        _assign(line, out, reg, hint)
    elif line.token.text == "*":
        _store(line, out)
    elif line.skip("if"):
        _branch(line, out)
    elif line.skip("exit"):
        out.emit(Insn(op.EXIT))
    elif line.skip("goto"):
        out.emit(Insn(op.JA, off=target(line, out, "off")))
    elif line.skip("gotol"):
        out.emit(Insn(op.GOTOL, imm=target(line, out, "imm")))
    elif line.skip("may_goto"):
        out.emit(Insn(op.MAY_GOTO, off=target(line, out, "off")))
    elif line.skip("call"):
        call(line, out, hint)
    elif line.skip("callx"):
        out.emit(Insn(op.CALLX, register(line, half=False).number))
    elif line.skip("lock"):
        lock(line, out)
    elif line.skip("store_release"):
        _store_release(line, out)
    elif line.skip("ld_pseudo"):
        _ld_pseudo(line, out)
    else:
        line.fail(f"expected an instruction, found {line.found()}")


def _branch(line: Line, out: Emitter) -> None:
    left = register(line)
    sign = COMPARE.get(line.token.text)
    if sign is None:
        line.fail(f"expected a comparison ({' '.join(COMPARE)}), found {line.found()}")
    line.take()
    opcode = sign | (op.BPF_JMP32 if left.half else op.BPF_JMP)
    if is_register(line.token) is not None:
        right = register(line, left.half).number
        line.expect("goto")
        out.emit(Insn(opcode | op.BPF_X, left.number, right, target(line, out, "off")))
    else:
        imm = immediate(line, out, wide_register=not left.half)
        line.expect("goto")
        out.emit(Insn(opcode, left.number, 0, target(line, out, "off"), imm))


def call(line: Line, out: Emitter, hint: int | None = None) -> None:
    """A helper by number or name, a subprogram, a kernel function, a register; after the word `call`."""
    token = line.token
    if token.kind == "word" and token.text.lower() == "kernel" and line.peek().text == "-":
        line.at += 3  # kernel-function#N
        line.expect("#")
        out.emit(Insn(op.CALL, 0, op.BPF_PSEUDO_KFUNC_CALL, 0, line.number_token()))
    elif token.text.lower() == "pc" and line.peek().text in ("+", "-"):
        out.emit(Insn(op.CALL, 0, op.BPF_PSEUDO_CALL, 0, target(line, out, "imm")))
    elif token.kind == "word" and line.peek().text == "#":
        line.at += 2  # the number is what counts; listings resolve names their own way
        out.emit(Insn(hint if hint == op.CALLX else op.CALL, imm=immediate(line, out)))
    elif (reg := is_register(token)) is not None:
        line.take()
        out.emit(Insn(op.CALLX, reg.number))
    elif token.kind == "word":
        line.take()
        number = _helper(token)
        if number is not None:
            out.emit(Insn(op.CALL, imm=number))
        else:
            out.refer("imm", token, line)
            out.emit(Insn(op.CALL, src=op.BPF_PSEUDO_CALL))
    else:
        out.emit(Insn(op.CALL, imm=immediate(line, out)))


def _helper(token: Token) -> int | None:
    name = token.text[4:] if token.text.startswith("bpf_") else None
    return HELPERS.index(name) if name in HELPERS else None


def _type(line: Line, signed: bool = False) -> tuple[int, int]:
    """`(u32 *)` after its opening parenthesis: size bits, and the mode."""
    token = line.token
    if token.text in UNSIGNED:
        size, mode = UNSIGNED[token.text], op.BPF_MEM
    elif signed and token.text in SIGNED:
        size, mode = SIGNED[token.text], op.BPF_MEMSX
    else:
        names = " ".join([*UNSIGNED, *(SIGNED if signed else ())])
        line.fail(f"expected a type ({names}), found {line.found()}")
    line.take()
    line.expect("*")
    line.expect(")")
    return size, mode


def _address(line: Line) -> tuple[int, int]:
    """`(r1 + 4)`: register and offset."""
    line.expect("(")
    base = register(line, half=False).number
    off = offset(line, ")")
    line.expect(")")
    return base, off


def _typed_address(line: Line) -> tuple[int, int, int]:
    """`(u64 *)(r1 + 0)`: size bits, register, offset."""
    line.expect("(")
    size, _ = _type(line)
    base, off = _address(line)
    return size, base, off


def _store(line: Line, out: Emitter) -> None:
    line.expect("*")
    size, base, off = _typed_address(line)
    line.expect("=")
    if is_register(line.token) is not None:
        out.emit(Insn(op.BPF_STX | op.BPF_MEM | size, base, register(line).number, off))
    else:
        imm = immediate(line, out, wide_register=size == op.BPF_DW)
        out.emit(Insn(op.BPF_ST | op.BPF_MEM | size, base, 0, off, imm))


def lock(line: Line, out: Emitter) -> None:
    """`lock *(u64 *)(r1 + 0) += r2`, after its first word."""
    line.expect("*")
    size, base, off = _typed_address(line)
    operation = _LOCK.get(line.token.text)
    if operation is None:
        line.fail(f"expected an atomic operation ({' '.join(_LOCK)}), found {line.found()}")
    line.take()
    out.emit(Insn(op.BPF_STX | op.BPF_ATOMIC | size, base, register(line).number, off, operation))


def _store_release(line: Line, out: Emitter) -> None:
    line.expect("(")
    size, base, off = _typed_address(line)
    line.expect(",")
    src = register(line).number
    line.expect(")")
    out.emit(Insn(op.BPF_STX | op.BPF_ATOMIC | size, base, src, off, op.BPF_STORE_REL))


def _ld_pseudo(line: Line, out: Emitter) -> None:
    dst = register(line, half=False).number
    line.expect(",")
    kind = line.token
    src = line.number_token()
    if not 0 <= src <= 15:
        line.fail("expected a kind from 0 to 15", kind)
    line.expect(",")
    low, _ = ld_imm64(dst, literal(line, out)[0], src)
    out.emit(low, Insn(0))


def _assign(line: Line, out: Emitter, dst: Reg, hint: int | None) -> None:
    sign = line.token
    cls = op.BPF_ALU if dst.half else op.BPF_ALU64
    if sign.text in ASSIGN:
        line.take()
        signed = 1 if sign.text in ("s/=", "s%=") else 0
        opcode = cls | ASSIGN[sign.text]
        if is_register(line.token) is not None:
            src = register(line, dst.half).number
            out.emit(Insn(opcode | op.BPF_X, dst.number, src, signed))
        else:
            imm = immediate(line, out, wide_register=not dst.half)
            out.emit(Insn(opcode, dst.number, 0, signed, imm))
        return
    if not line.skip("="):
        line.fail(f"expected = or an assignment ({' '.join(ASSIGN)}), found {line.found()}")
    token = line.token
    word = token.text.lower()
    if word == "*":
        _load(line, out, dst)
    elif word == "(":
        _sign_extend(line, out, dst)
    elif word == "&":
        line.fail("the kernel's own per-CPU form cannot be assembled", token)
    elif word == "-" and is_register(line.peek()) is not None:
        line.take()
        again = register(line, dst.half)
        if again != dst:
            line.fail("negation has one register: write it on both sides", token)
        out.emit(Insn(cls | op.BPF_NEG, dst.number))
    elif (source := is_register(token)) is not None:
        if source.half and not dst.half:  # LLVM's `r1 = w2`, which zero-extends
            cls = op.BPF_ALU
        elif dst.half and not source.half:
            register(line, dst.half)
        line.take()
        out.emit(Insn(cls | op.BPF_MOV | op.BPF_X, dst.number, source.number))
    elif word in _SWAPS and is_register(line.peek()) is not None:
        line.take()
        if register(line).number != dst.number:
            line.fail("a byte swap has one register: write it on both sides", token)
        out.emit(Insn(_SWAPS[word][0], dst.number, imm=_SWAPS[word][1]))
    elif token.kind == "word" and line.peek().text in ("(", "["):
        _function(line, out, dst)
    else:
        _constant(line, out, dst, hint)


def _constant(line: Line, out: Emitter, dst: Reg, hint: int | None) -> None:
    start = line.token
    value, hexadecimal = literal(line, out)
    wide = line.skip("ll")
    if wide or hint == op.LD_IMM64:
        if dst.half:
            line.fail("a 64-bit immediate needs a 64-bit register", start)
        if not -(1 << 63) <= value < 1 << 64:
            line.fail(f"{value} is out of 64 bits", start)
        out.emit(*ld_imm64(dst.number, value))
        return
    limit = 0xFFFFFFFF if hexadecimal or dst.half else 0x7FFFFFFF
    if not -(1 << 31) <= value <= limit:
        line.fail(f"{value} is out of signed 32 bits", start, "add `ll` to load 64 bits")
    cls = op.BPF_ALU if dst.half else op.BPF_ALU64
    out.emit(Insn(cls | op.BPF_MOV, dst.number, imm=signed32(value)))


def _load(line: Line, out: Emitter, dst: Reg) -> None:
    line.expect("*")
    line.expect("(")
    size, mode = _type(line, signed=True)
    if line.skip("skb"):
        line.expect("[")
        if dst.number:
            line.fail("packet loads go to r0")
        if (reg := is_register(line.token)) is not None:
            line.take()
            imm = 0
            if line.token.text != "]":
                sign = line.take()
                if sign.text not in ("+", "-"):
                    line.fail("expected + or ] after the register", sign)
                imm = immediate(line, out) if sign.text == "+" else -immediate(line, out)
            out.emit(Insn(op.BPF_LD | op.BPF_IND | size, 0, reg.number, 0, imm))
        else:
            out.emit(Insn(op.BPF_LD | op.BPF_ABS | size, imm=immediate(line, out)))
        line.expect("]")
        return
    base, off = _address(line)
    out.emit(Insn(op.BPF_LDX | mode | size, dst.number, base, off))


def _sign_extend(line: Line, out: Emitter, dst: Reg) -> None:
    line.expect("(")
    token = line.take()
    if token.text not in SIGNED:
        line.fail(f"expected s8, s16 or s32, found {token.text!r}", token)
    line.expect(")")
    src = register(line, dst.half).number
    cls = op.BPF_ALU if dst.half else op.BPF_ALU64
    out.emit(Insn(cls | op.BPF_MOV | op.BPF_X, dst.number, src, int(token.text[1:])))


def _function(line: Line, out: Emitter, dst: Reg) -> None:
    """`map[…]`, `subprog[…]`, `addr_space_cast(…)` and the atomic forms that return a value."""
    name = line.take()
    word = name.text.lower()
    if word in ("map", "subprog"):
        _reference(line, out, dst, word)
        return
    line.expect("(")
    if word == "addr_space_cast":
        src = register(line, half=False).number
        line.expect(",")
        high = line.number_token()
        line.expect(",")
        imm = high << 16 | line.number_token()
        insn = Insn(
            op.BPF_ALU64 | op.BPF_MOV | op.BPF_X, dst.number, src, op.BPF_ADDR_SPACE_CAST, signed32(imm)
        )
    elif word == "load_acquire":
        size, base, off = _typed_address(line)
        insn = Insn(op.BPF_STX | op.BPF_ATOMIC | size, dst.number, base, off, op.BPF_LOAD_ACQ)
    elif word in _FETCH or word in _EXCHANGE:
        insn = _atomic(line, dst, word)
    else:
        line.fail(f"no operation {name.text}", name)
    line.expect(")")
    out.emit(insn)


def _atomic(line: Line, dst: Reg, word: str) -> Insn:
    operation, fixed = _FETCH[word] if word in _FETCH else _EXCHANGE[word]
    if line.token.text == "(":
        size, base, off = _typed_address(line)
        if fixed is not None and size != fixed:
            line.fail(f"{word} works on 64 bits")
    elif fixed is None:
        line.fail(f"expected a typed address, (u32 *)(r1 + 0), found {line.found()}")
    else:
        size, base = fixed, register(line, half=False).number
        off = offset(line, ",")
    line.expect(",")
    if operation == op.BPF_CMPXCHG:
        if register(line).number or dst.number:
            line.fail("compare and exchange compares with r0 and returns in r0")
        line.expect(",")
        src = register(line).number
    else:
        token = line.token
        src = register(line).number
        if src != dst.number:
            line.fail(f"the old value comes back in the source register, r{dst.number} here", token)
    return Insn(op.BPF_STX | op.BPF_ATOMIC | size, base, src, off, operation)


def _reference(line: Line, out: Emitter, dst: Reg, word: str) -> None:
    """`map[id:5]`, `map[fd 5]`, `map[id:5][0]+16`, `map[idx:2]+8`, `subprog[+3]`, `subprog[label]`."""
    if dst.half:
        line.fail("a 64-bit immediate needs a 64-bit register")
    line.expect("[")
    src, high = op.BPF_PSEUDO_MAP_FD, 0
    if word == "subprog":
        low = target(line, out, "imm")
        src = op.BPF_PSEUDO_FUNC
    else:
        index = line.token.text == "idx"
        if line.token.text in ("id", "fd", "idx"):
            line.take()
            line.skip(":")
        low = line.number_token("a map's number")
        src = op.BPF_PSEUDO_MAP_IDX if index else src
    line.expect("]")
    if word == "map":
        if line.skip("["):
            line.number_token()
            line.expect("]")
        if line.token.text in ("+", "-"):
            high = line.number_token()
            index = src == op.BPF_PSEUDO_MAP_IDX
            src = op.BPF_PSEUDO_MAP_IDX_VALUE if index else op.BPF_PSEUDO_MAP_VALUE
    out.emit(Insn(op.LD_IMM64, dst.number, src, 0, signed32(low)), Insn(0, imm=signed32(high)))
