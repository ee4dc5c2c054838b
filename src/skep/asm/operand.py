"""Operands that both eBPF grammars share: registers, addresses, immediates, jump targets."""

from __future__ import annotations

from typing import Final, NamedTuple

from skep.asm.emit import Emitter
from skep.asm.lex import Line, Token
from skep.isa import opcodes as op

#: type name -> size bits
UNSIGNED: Final = {"u8": op.BPF_B, "u16": op.BPF_H, "u32": op.BPF_W, "u64": op.BPF_DW}
SIGNED: Final = {"s8": op.BPF_B, "s16": op.BPF_H, "s32": op.BPF_W}


class Reg(NamedTuple):
    number: int
    half: bool  # written w0 … w10


def is_register(token: Token) -> Reg | None:
    """r0 to r10 or w0 to w10, with or without %; None for any other word."""
    text = token.text.lstrip("%").lower()
    if token.kind != "word" or len(text) not in (2, 3) or text[0] not in "rw":
        return None
    digits = text[1:]
    if not digits.isdigit() or (len(digits) > 1 and digits[0] == "0") or int(digits) > 10:
        return None
    return Reg(int(digits), text[0] == "w")


def register(line: Line, half: bool | None = None) -> Reg:
    """A register; with ``half`` given, only of that width."""
    found = is_register(line.token)
    if found is None:
        line.fail(f"expected a register, r0 to r10 or w0 to w10, found {line.found()}")
    if half is not None and found.half != half:
        want = "w" if half else "r"
        line.fail(f"expected {want}{found.number}: both sides have the same width")
    line.take()
    return found


def offset(line: Line, close: str) -> int:
    """`+ 4`, `- 0x8`, `+-4`, `+0xfffc` (which is -4) or nothing, before ``close``."""
    if line.token.text == close:
        return 0
    token = line.token
    if token.text not in ("+", "-"):
        line.fail(f"expected + or - and an offset, or {close!r}, found {line.found()}")
    negative = line.take().text == "-"
    hexadecimal = not line.token.text.isdigit()
    value = line.number_token("an offset")
    value = -value if negative else value
    if hexadecimal and 0x7FFF < value <= 0xFFFF:
        value -= 1 << 16  # as ubpf's assembler and capstone write negative ones
    if not -(1 << 15) <= value < 1 << 15:
        line.fail(f"offset {value} is out of signed 16 bits", token)
    return value


def immediate(line: Line, out: Emitter, *, wide_register: bool = True) -> int:
    """A 32-bit immediate: -2**31 to 2**31-1, hexadecimal and 32-bit operations to 2**32-1."""
    start = line.token
    value, hexadecimal = literal(line, out)
    if value > 0x7FFFFFFF and wide_register and not hexadecimal:
        line.fail(f"{value} is out of signed 32 bits", start, "write `rN = VALUE ll` to load 64 bits")
    if not -(1 << 31) <= value <= 0xFFFFFFFF:
        line.fail(f"{value} is out of 32 bits", start, "write `rN = VALUE ll` to load 64 bits")
    return signed32(value)


def literal(line: Line, out: Emitter) -> tuple[int, bool]:
    """Any integer or .equ constant, and whether it was written in base 16 or 2."""
    line.skip("+")
    sign = -1 if line.skip("-") else 1
    token = line.token
    if token.kind == "word" and token.text in out.constants:
        line.take()
        return sign * out.constants[token.text], False
    if token.kind != "number":
        line.fail(f"expected a number, found {line.found()}")
    return sign * line.number_token(), not token.text.isdigit()


def signed32(value: int) -> int:
    value &= 0xFFFFFFFF
    return value - (1 << 32) if value & 0x80000000 else value


def target(line: Line, out: Emitter, field: str) -> int:
    """`+3`, `-1`, `pc+3`, `0x3` or a label; the distance, 0 while a label is unknown."""
    start = line.token
    if line.token.text.lower() == "pc" and line.peek().text in ("+", "-"):
        line.take()
    if line.token.kind == "word":
        out.refer(field, line.token, line)
        line.take()
        return 0
    if line.token.kind == "end":
        line.fail("expected a label, or a distance as +N or -N")
    hexadecimal = "0x" in (line.token.text[:2].lower(), line.peek().text[:2].lower())
    value = line.number_token("a label, or a distance as +N or -N")
    bits = 16 if field == "off" else 32
    if hexadecimal and (1 << bits - 1) <= value < 1 << bits:
        value -= 1 << bits
    if not -(1 << bits - 1) <= value < 1 << bits - 1:
        line.fail(f"distance {value} is out of signed {bits} bits", start)
    _symbol(line)
    return value


def _symbol(line: Line) -> None:
    """llvm-objdump's `<.text+0x10>` after a distance says nothing new."""
    if line.skip("<"):
        while line.token.kind != "end" and not line.skip(">"):
            line.take()
