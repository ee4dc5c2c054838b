"""Is a classic program fit to run? Linux's rules, and libpcap's.

``linux``: what SO_ATTACH_FILTER accepts (net/core/filter.c: bpf_check_basics_ok, bpf_check_classic,
check_load_and_stores; Linux 3.16 to 6.18). ``pcap``: what bpf_validate() accepts, with the same table of
opcodes: jumps back by BPF_JA for protochain, any packet offset, any length.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from skep.errors import VerifierError
from skep.isa import classic as c

Mode = Literal["linux", "pcap"]

_MASK = 0xFFFFFFFF
_ALU_OPS = (
    c.BPF_ADD,
    c.BPF_SUB,
    c.BPF_MUL,
    c.BPF_DIV,
    c.BPF_MOD,
    c.BPF_AND,
    c.BPF_OR,
    c.BPF_XOR,
    c.BPF_LSH,
    c.BPF_RSH,
)
_TESTS = (c.BPF_JEQ, c.BPF_JGT, c.BPF_JGE, c.BPF_JSET)
_JA = c.BPF_JMP | c.BPF_JA


def opcodes() -> frozenset[int]:
    """Every opcode of classic BPF."""
    sizes = (c.BPF_W, c.BPF_H, c.BPF_B)
    return frozenset(
        [c.BPF_LD | mode | size for mode in (c.BPF_ABS, c.BPF_IND) for size in sizes]
        + [kind | mode for kind in (c.BPF_LD, c.BPF_LDX) for mode in (c.BPF_IMM, c.BPF_MEM, c.BPF_LEN)]
        + [c.BPF_LDX | c.BPF_MSH | c.BPF_B, c.BPF_ST, c.BPF_STX]
        + [c.BPF_ALU | op | source for op in _ALU_OPS for source in (c.BPF_K, c.BPF_X)]
        + [c.BPF_ALU | c.BPF_NEG, _JA]
        + [c.BPF_JMP | op | source for op in _TESTS for source in (c.BPF_K, c.BPF_X)]
        + [c.BPF_RET | c.BPF_K, c.BPF_RET | c.BPF_A]
        + [c.BPF_MISC | c.BPF_TAX, c.BPF_MISC | c.BPF_TXA]
    )


def check(insns: Sequence[tuple[int, int, int, int]], mode: Mode = "linux") -> None:
    """Accept a program or say what is wrong with it.

    Raises:
        VerifierError: with the index of the first instruction that is refused.
    """
    count = len(insns)
    if count == 0:
        raise VerifierError("the program is empty")
    if mode == "linux" and count > c.BPF_MAXINSNS:
        raise VerifierError(
            f"{count} instructions, Linux takes {c.BPF_MAXINSNS} at most",
            hint="attach it as eBPF, which may be longer",
        )
    known = opcodes()
    for pc, (code, jt, jf, k) in enumerate(insns):
        kind = code & 7
        if code not in known:
            raise VerifierError(f"no classic instruction has opcode {code:#x}", insn=pc)
        if kind == c.BPF_JMP:
            _check_jump(pc, code, jt, jf, k, count, mode)
        elif kind == c.BPF_ALU:
            _check_arithmetic(pc, code, k, mode)
        elif kind in (c.BPF_ST, c.BPF_STX) or (kind in (c.BPF_LD, c.BPF_LDX) and code & 0xE0 == c.BPF_MEM):
            if k >= c.BPF_MEMWORDS:
                raise VerifierError(f"no scratch memory M[{k}], only M[0] to M[15]", insn=pc)
        elif mode == "linux" and kind == c.BPF_LD and code & 0xE0 == c.BPF_ABS:
            number = k - (c.SKF_AD_OFF & _MASK)
            if number >= 0 and (number % 4 or number >= c.SKF_AD_MAX):
                raise VerifierError(f"no ancillary data SKF_AD_OFF + {number}", insn=pc)
    if insns[-1][0] & 7 != c.BPF_RET:
        raise VerifierError("the last instruction is not a return", insn=count - 1)
    if mode == "linux":
        _check_memory(insns)


def _check_jump(pc: int, code: int, jt: int, jf: int, k: int, count: int, mode: Mode) -> None:
    after = pc + 1
    if code != _JA:
        for name, to in (("true", after + jt), ("false", after + jf)):
            if to >= count:
                raise VerifierError(f"the jump when {name} goes to {to}, past the end", insn=pc)
    elif mode == "pcap":
        if (after + k) & _MASK >= count:
            raise VerifierError(f"the jump goes to {after + k}, outside the program", insn=pc)
    elif after + k >= count:
        if k >> 31:
            raise VerifierError("a jump back, which Linux does not take", insn=pc, hint="protochain needs it")
        raise VerifierError(f"the jump goes to {after + k}, past the end", insn=pc)


def _check_arithmetic(pc: int, code: int, k: int, mode: Mode) -> None:
    op = code & 0xF0
    if code & c.BPF_X:
        return
    if op in (c.BPF_DIV, c.BPF_MOD) and k == 0:
        raise VerifierError("division by zero", insn=pc)
    if mode == "linux" and op in (c.BPF_LSH, c.BPF_RSH) and k >= 32:
        raise VerifierError(f"a shift by {k} bits, of 32", insn=pc)


def _check_memory(insns: Sequence[tuple[int, int, int, int]]) -> None:
    """Refuse a read of M[k] that some way reaches without a write. All jumps go forward here."""
    everything = (1 << c.BPF_MEMWORDS) - 1
    reaching = [everything] * len(insns)
    written = 0
    for pc, (code, jt, jf, k) in enumerate(insns):
        written &= reaching[pc]
        kind = code & 7
        if kind in (c.BPF_ST, c.BPF_STX):
            written |= 1 << k
        elif kind in (c.BPF_LD, c.BPF_LDX) and code & 0xE0 == c.BPF_MEM:
            if not written >> k & 1:
                raise VerifierError(f"M[{k}] is read before it is written", insn=pc)
        elif kind == c.BPF_JMP:
            for to in (pc + 1 + k,) if code == _JA else (pc + 1 + jt, pc + 1 + jf):
                reaching[to] &= written
            written = everything
