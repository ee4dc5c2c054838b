"""Where a USDT probe's arguments are: the strings of .note.stapsdt, and libbpf's way of telling a program.

A string is "SIZE@OPERAND" for each argument, SIZE in bytes and negative for signed ones, OPERAND in the
machine's assembly. `Arg.pack` gives `struct __bpf_usdt_arg_spec` as <bpf/usdt.bpf.h> reads it.
"""

from __future__ import annotations

import re
import struct

from skep.errors import FormatError
from skep.plain import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final


MAX_ARGS: Final = 12
SPEC_BYTES: Final = 12 * 16 + 16

CONST, REG, REG_DEREF, SIB = 0, 1, 2, 3

#: x86-64 struct pt_regs, in units of 8 bytes
_X86: Final = {
    name: 8 * n
    for n, names in enumerate(
        (
            "r15 r15d r15w r15b",
            "r14 r14d r14w r14b",
            "r13 r13d r13w r13b",
            "r12 r12d r12w r12b",
            "rbp ebp bp bpl",
            "rbx ebx bx bl",
            "r11 r11d r11w r11b",
            "r10 r10d r10w r10b",
            "r9 r9d r9w r9b",
            "r8 r8d r8w r8b",
            "rax eax ax al",
            "rcx ecx cx cl",
            "rdx edx dx dl",
            "rsi esi si sil",
            "rdi edi di dil",
            "orig_rax",
            "rip eip",
            "cs",
            "eflags",
            "rsp esp sp spl",
        )
    )
    for name in names.split()
}
_ARM: Final = {
    **{f"{letter}{n}": 8 * n for n in range(31) for letter in "xw"},
    "sp": 248,
    "wsp": 248,
    "pc": 256,
}
_NUMBER = r"[-+]?(?:0x[0-9a-fA-F]+|[0-9]+)"
_X86_OPERANDS: Final[tuple[tuple[int, str], ...]] = (
    (CONST, rf"\$(?P<val>{_NUMBER})"),
    (REG, r"%(?P<reg>\w+)"),
    (REG_DEREF, rf"(?P<val>{_NUMBER})?\(%(?P<reg>\w+)\)"),
    (SIB, rf"(?P<val>{_NUMBER})?\(%(?P<reg>\w+),%(?P<idx>\w+)(?:,(?P<scale>[1248]))?\)"),
)
_ARM_OPERANDS: Final[tuple[tuple[int, str], ...]] = (
    (CONST, rf"(?P<val>{_NUMBER})"),
    (REG, r"(?P<reg>[a-z]\w*)"),
    (REG_DEREF, rf"\[(?P<reg>[a-z]\w*)(?:,\s*#?(?P<val>{_NUMBER}))?\]"),
)
_EM_X86_64: Final = 62
_EM_AARCH64: Final = 183


class Arg(NamedTuple):
    """One argument of ``size`` bytes.

    ``kind`` CONST: ``value``. REG: the register at byte ``reg`` of struct pt_regs. REG_DEREF: the memory at
    that register plus ``value``. SIB: plus register ``index_reg`` shifted left by ``scale`` as well.
    """

    kind: int
    size: int
    signed: bool
    value: int = 0
    reg: int = 0
    index_reg: int = 0
    scale: int = 0

    def pack(self) -> bytes:
        """16 bytes: value, kind and index, register, signed, shift that brings the value to its size."""
        word = self.kind | (self.index_reg & 0xFFF) << 8 | self.scale << 20
        value = self.value & 0xFFFFFFFFFFFFFFFF
        return struct.pack("=QIhBb", value, word, self.reg, self.signed, 64 - 8 * self.size)


def parse(text: str, machine: int = _EM_X86_64) -> list[Arg]:
    """The arguments that a note's string describes, for the ELF machine ``machine``.

    Raises:
        FormatError: an operand that cannot be read from a program (a symbol, a vector register), or more
            than twelve.
    """
    if machine == _EM_X86_64:
        registers, operands = _X86, _X86_OPERANDS
    elif machine == _EM_AARCH64:
        registers, operands = _ARM, _ARM_OPERANDS
    else:
        raise FormatError(f"USDT arguments of ELF machine {machine} are not known")
    out: list[Arg] = []
    at = 0
    while at < len(text):
        if text[at].isspace():
            at += 1
            continue
        arg, at = _argument(text, at, registers, operands)
        out.append(arg)
    if len(out) > MAX_ARGS:
        raise FormatError(f"{len(out)} USDT arguments, at most {MAX_ARGS} can be told to a program")
    return out


def _argument(
    text: str, at: int, registers: dict[str, int], operands: tuple[tuple[int, str], ...]
) -> tuple[Arg, int]:
    head = re.compile(r"(-?)([1248])f?@").match(text, at)
    if head is None:
        raise FormatError(f"USDT arguments {text!r}: no size at column {at + 1}")
    for kind, pattern in operands:
        found = re.compile(pattern + r"(?=\s|$)").match(text, head.end())
        if found is None:
            continue
        named = found.groupdict()
        reg = index = scale = 0
        if named.get("reg"):
            if named["reg"] not in registers:
                continue
            reg = registers[named["reg"]]
        if named.get("idx"):
            if named["idx"] not in registers:
                continue
            index = registers[named["idx"]]
            scale = {"1": 0, "2": 1, "4": 2, "8": 3}[named["scale"] or "1"]
        value = int(named["val"], 0) if named.get("val") else 0
        return Arg(kind, int(head[2]), bool(head[1]), value, reg, index, scale), found.end()
    raise FormatError(f"USDT arguments {text!r}: an operand no program can read at column {at + 1}")


def pack_spec(args: list[Arg], cookie: int = 0) -> bytes:
    """`struct __bpf_usdt_spec`: twelve argument slots, the user's cookie, how many there are.

    The last byte, padding there, is 1: so a slot in use is told from a free one.
    """
    slots = b"".join(arg.pack() for arg in args).ljust(12 * 16, b"\0")
    return slots + struct.pack("=Qh5xB", cookie, len(args), 1)
