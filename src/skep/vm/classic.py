"""An interpreter of classic BPF that can be stepped.

It keeps the rules of libpcap's own interpreter (bpf_filter.c):

- A, X and M[0..15] are unsigned 32-bit words and start at 0; packet words are big-endian.
- A load that is not wholly within the packet ends the program with 0; the index of a load at X + k does
  not wrap around at 2**32.
- Division and modulo by zero end the program with 0. Shifts by 32 and more leave 0.
- A jump back (a negative BPF_JA, as protochain uses it) costs its length from the budget, as in
  docs/machine.md.

Linux differs in three points: it uses the low five bits of a shift's count; X + k wraps; and it refuses
jumps back. With ``ancillary`` given, loads at SKF_AD_OFF + n read the mapping's entry n (0..63), A ^= X for
SKF_AD_ALU_XOR_X, and loads at SKF_LL_OFF + n and SKF_NET_OFF + n read the packet from its first byte and
from the offset in the mapping's entry SKF_NET_OFF (14 without one). Without it they are out of range, as
in libpcap on a file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from skep.errors import ExecutionError
from skep.isa import classic as c

DEFAULT_BUDGET: Final = 1 << 32

_MASK: Final = 0xFFFFFFFF
_SIGN: Final = 0x80000000
_AD: Final = c.SKF_AD_OFF & _MASK
_NET: Final = c.SKF_NET_OFF & _MASK
_LL: Final = c.SKF_LL_OFF & _MASK
_SIZES: Final = {c.BPF_W: 4, c.BPF_H: 2, c.BPF_B: 1}

_Packet = bytes | bytearray | memoryview


class State(NamedTuple):
    """The machine after the instruction at ``pc``; ``result`` is the returned value once it has ended."""

    pc: int
    a: int
    x: int
    mem: tuple[int, ...]
    result: int | None


class _End(Exception):
    """A load or division that ends the program with 0."""


def run(
    insns: Sequence[tuple[int, int, int, int]],
    packet: _Packet,
    wirelen: int | None = None,
    ancillary: Mapping[int, int] | None = None,
    budget: int = DEFAULT_BUDGET,
) -> int:
    """The value the program returns for ``packet``: 0, or how many bytes to keep.

    ``wirelen`` is the packet's length on the wire in bytes, by default its own.

    Raises:
        ExecutionError: an illegal instruction or jump, the end of the code, or the budget is used up.
    """
    a = x = pc = 0
    mem: list[int] | None = None
    length = len(packet)
    end = len(insns)
    while 0 <= pc < end:
        code, jt, jf, k = insns[pc]
        pc += 1
        # The instructions most filters are made of; everything else, and loads that fail, are in _step().
        if code == 0x15:  # jeq #k
            pc += jt if a == k else jf
        elif code == 0x28 and k + 2 <= length:  # ldh [k]
            a = packet[k] << 8 | packet[k + 1]
        elif code == 0x30 and k < length:  # ldb [k]
            a = packet[k]
        elif code == 0x20 and k + 4 <= length:  # ld [k]
            a = int.from_bytes(packet[k : k + 4], "big")
        elif code == 0x06:  # ret #k
            return k
        elif code == 0x45:  # jset #k
            pc += jt if a & k else jf
        elif code == 0x48 and x + k + 2 <= length:  # ldh [x + k]
            a = packet[x + k] << 8 | packet[x + k + 1]
        elif code == 0xB1 and k < length:  # ldxb 4*([k]&0xf)
            x = (packet[k] & 15) << 2
        elif code == 0x54:  # and #k
            a &= k
        elif code == 0x25:  # jgt #k
            pc += jt if a > k else jf
        elif code == 0x35:  # jge #k
            pc += jt if a >= k else jf
        elif code == 0x50 and x + k < length:  # ldb [x + k]
            a = packet[x + k]
        else:
            if mem is None:
                mem = [0] * c.BPF_MEMWORDS
            try:
                a, x, to, result = _step(insns, pc - 1, a, x, mem, packet, wirelen, ancillary)
            except _End:
                return 0
            if result is not None:
                return result
            if to < pc:
                budget = _pay(budget, pc - 1, to)
            pc = to
    raise ExecutionError("the program runs past its last instruction", pc=pc)


def steps(
    insns: Sequence[tuple[int, int, int, int]],
    packet: _Packet,
    wirelen: int | None = None,
    ancillary: Mapping[int, int] | None = None,
    budget: int = DEFAULT_BUDGET,
) -> Iterator[State]:
    """The machine's state after every instruction; the last one carries the result.

    Arguments and errors are those of `run`.
    """
    a = x = pc = 0
    mem = [0] * c.BPF_MEMWORDS
    while 0 <= pc < len(insns):
        here = pc
        try:
            a, x, pc, result = _step(insns, here, a, x, mem, packet, wirelen, ancillary)
        except _End:
            result = 0
        yield State(here, a, x, tuple(mem), result)
        if result is not None:
            return
        if pc <= here:
            budget = _pay(budget, here, pc)
    raise ExecutionError("the program runs past its last instruction", pc=pc)


def _pay(budget: int, pc: int, to: int) -> int:
    cost = pc - to + 1
    if budget < cost:
        raise ExecutionError("the budget of jumps back is used up", pc=pc)
    return budget - cost


def _step(
    insns: Sequence[tuple[int, int, int, int]],
    pc: int,
    a: int,
    x: int,
    mem: list[int],
    packet: _Packet,
    wirelen: int | None,
    ancillary: Mapping[int, int] | None,
) -> tuple[int, int, int, int | None]:
    """Execute one instruction: the new A, X and pc, and the result of a return."""
    code, jt, jf, k = insns[pc]
    if code > 0xFF:
        raise _illegal(code, pc)
    kind = code & 7
    after = pc + 1
    if kind == c.BPF_JMP:
        to = after + (_signed(k) if code == c.BPF_JMP | c.BPF_JA else jt if _test(code, a, x, k, pc) else jf)
        if not 0 <= to < len(insns):
            raise ExecutionError(f"a jump to {to}, outside the program", pc=pc)
        return a, x, to, None
    if kind == c.BPF_ALU:
        return _arithmetic(code, a, x, k, pc), x, after, None
    if kind in (c.BPF_LD, c.BPF_LDX):
        value = _load(code, k, a, x, mem, packet, wirelen, ancillary, pc)
        return (value, x, after, None) if kind == c.BPF_LD else (a, value, after, None)
    if code in (c.BPF_ST, c.BPF_STX):
        if k >= c.BPF_MEMWORDS:
            raise ExecutionError(f"no scratch memory M[{k}]", pc=pc)
        mem[k] = a if kind == c.BPF_ST else x
        return a, x, after, None
    if kind == c.BPF_RET:
        source = code & 0x18
        if code & 0xE0 or source == 0x18:
            raise _illegal(code, pc)
        return a, x, after, k if source == c.BPF_K else a if source == c.BPF_A else x
    if code == c.BPF_MISC | c.BPF_TAX:
        return a, a, after, None
    if code == c.BPF_MISC | c.BPF_TXA:
        return x, x, after, None
    raise _illegal(code, pc)


def _illegal(code: int, pc: int) -> ExecutionError:
    return ExecutionError(f"no classic instruction has opcode {code:#x}", pc=pc)


def _signed(word: int) -> int:
    return word - (1 << 32) if word & _SIGN else word


def _test(code: int, a: int, x: int, k: int, pc: int) -> bool:
    operand = x if code & c.BPF_X else k
    op = code & 0xF0
    if op == c.BPF_JEQ:
        return a == operand
    if op == c.BPF_JGT:
        return a > operand
    if op == c.BPF_JGE:
        return a >= operand
    if op == c.BPF_JSET:
        return bool(a & operand)
    raise _illegal(code, pc)


def _arithmetic(code: int, a: int, x: int, k: int, pc: int) -> int:
    operand = x if code & c.BPF_X else k
    op = code & 0xF0
    if op == c.BPF_ADD:
        return (a + operand) & _MASK
    if op == c.BPF_SUB:
        return (a - operand) & _MASK
    if op == c.BPF_MUL:
        return a * operand & _MASK
    if op in (c.BPF_DIV, c.BPF_MOD):
        if operand == 0:
            raise _End
        return a // operand if op == c.BPF_DIV else a % operand
    if op == c.BPF_AND:
        return a & operand
    if op == c.BPF_OR:
        return a | operand
    if op == c.BPF_XOR:
        return a ^ operand
    if op == c.BPF_LSH:
        return a << operand & _MASK if operand < 32 else 0
    if op == c.BPF_RSH:
        return a >> operand if operand < 32 else 0
    if code == c.BPF_ALU | c.BPF_NEG:
        return -a & _MASK
    raise _illegal(code, pc)


def _load(
    code: int,
    k: int,
    a: int,
    x: int,
    mem: list[int],
    packet: _Packet,
    wirelen: int | None,
    ancillary: Mapping[int, int] | None,
    pc: int,
) -> int:
    mode = code & 0xF8
    if mode in (c.BPF_ABS, c.BPF_ABS | c.BPF_H, c.BPF_ABS | c.BPF_B) and code & 7 == c.BPF_LD:
        size = _SIZES[code & 0x18]
        if k + size <= len(packet):
            return int.from_bytes(packet[k : k + size], "big")
        if ancillary is not None:
            return _ancillary(code, k, size, a, x, packet, ancillary)
        raise _End
    if mode in (c.BPF_IND, c.BPF_IND | c.BPF_H, c.BPF_IND | c.BPF_B) and code & 7 == c.BPF_LD:
        size = _SIZES[code & 0x18]
        start = x + k
        if start + size > len(packet):
            raise _End
        return int.from_bytes(packet[start : start + size], "big")
    if code == c.BPF_LDX | c.BPF_MSH | c.BPF_B:
        if k >= len(packet):
            raise _End
        return (packet[k] & 15) << 2
    if mode == c.BPF_IMM:
        return k
    if mode == c.BPF_MEM:
        if k >= c.BPF_MEMWORDS:
            raise ExecutionError(f"no scratch memory M[{k}]", pc=pc)
        return mem[k]
    if mode == c.BPF_LEN:
        return len(packet) if wirelen is None else wirelen
    raise _illegal(code, pc)


def _ancillary(
    code: int, k: int, size: int, a: int, x: int, packet: _Packet, ancillary: Mapping[int, int]
) -> int:
    if k >= _AD:
        number = k - _AD
        if number == c.SKF_AD_ALU_XOR_X:
            return a ^ x
        if number not in ancillary:
            raise _End
        return ancillary[number] & _MASK
    if k >= _NET:
        start = ancillary.get(c.SKF_NET_OFF, 14) + k - _NET
    elif k >= _LL:
        start = k - _LL
    else:
        raise _End
    if start + size > len(packet):
        raise _End
    return int.from_bytes(packet[start : start + size], "big")
