"""What is known about a classic program before it is translated: reach, value bounds, scratch use.

One forward pass suffices because classic jumps go forward; where libpcap's `protochain` jumps back,
nothing is assumed at the target of that jump.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from skep.errors import VerifierError
from skep.isa.classic import (
    BPF_ABS,
    BPF_ADD,
    BPF_ALU,
    BPF_AND,
    BPF_B,
    BPF_DIV,
    BPF_H,
    BPF_IMM,
    BPF_IND,
    BPF_JA,
    BPF_JEQ,
    BPF_JGE,
    BPF_JGT,
    BPF_JMP,
    BPF_JSET,
    BPF_LD,
    BPF_LDX,
    BPF_LEN,
    BPF_LSH,
    BPF_MEM,
    BPF_MEMWORDS,
    BPF_MISC,
    BPF_MOD,
    BPF_MSH,
    BPF_MUL,
    BPF_NEG,
    BPF_OR,
    BPF_RET,
    BPF_RSH,
    BPF_ST,
    BPF_STX,
    BPF_SUB,
    BPF_TAX,
    BPF_TXA,
    BPF_W,
    BPF_X,
    BPF_XOR,
    SKF_AD_OFF,
    ClassicInsn,
)

TOP = 0xFFFFFFFF
ANCILLARY = SKF_AD_OFF & 0xFFFFFFFF
SIZES = {BPF_W: 4, BPF_H: 2, BPF_B: 1}

_LOADS = {BPF_LD | size | mode for size in (BPF_W, BPF_H, BPF_B) for mode in (BPF_ABS, BPF_IND)}
_LOADS |= {BPF_LD | BPF_IMM, BPF_LD | BPF_MEM, BPF_LD | BPF_LEN}
_LOADS |= {BPF_LDX | BPF_IMM, BPF_LDX | BPF_MEM, BPF_LDX | BPF_LEN, BPF_LDX | BPF_MSH | BPF_B}
_ALU = (BPF_ADD, BPF_SUB, BPF_MUL, BPF_DIV, BPF_MOD, BPF_AND, BPF_OR, BPF_XOR, BPF_LSH, BPF_RSH)
_LEGAL = (
    _LOADS
    | {BPF_ST, BPF_STX, BPF_ALU | BPF_NEG, BPF_JMP | BPF_JA, BPF_RET, BPF_RET | 0x10}
    | {BPF_ALU | op | src for op in _ALU for src in (0, BPF_X)}
    | {BPF_JMP | op | src for op in (BPF_JEQ, BPF_JGT, BPF_JGE, BPF_JSET) for src in (0, BPF_X)}
    | {BPF_MISC | BPF_TAX, BPF_MISC | BPF_TXA}
)
_MEMORY = frozenset({BPF_LD | BPF_MEM, BPF_LDX | BPF_MEM, BPF_ST, BPF_STX})
LEGAL = frozenset(_LEGAL)


class State(NamedTuple):
    """Upper bounds of A, X and the scratch words before an instruction; None: perhaps never written."""

    a: int
    x: int
    mem: tuple[int | None, ...]


_START = State(0, 0, (None,) * BPF_MEMWORDS)


class Facts(NamedTuple):
    """What holds for a whole program.

    ``before[pc]`` is None where no path leads. ``successors[pc]`` is empty for returns and for loads
    that lie outside every packet. ``zeroed`` are scratch words read before written.
    """

    before: tuple[State | None, ...]
    successors: tuple[tuple[int, ...], ...]
    zeroed: frozenset[int]
    loops: bool


def successors(insns: Sequence[ClassicInsn], pc: int) -> tuple[int, ...]:
    """Where control may go from ``pc``: the true target first.

    Raises:
        VerifierError: the opcode is not classic BPF, or a jump, scratch index or constant is not legal.
    """
    code, jt, jf, k = insns[pc]
    if code not in LEGAL:
        raise VerifierError(f"opcode {code:#x} is not classic BPF", insn=pc)
    kind = code & 7
    if kind == BPF_RET:
        return ()
    if code in _MEMORY and k >= BPF_MEMWORDS:
        raise VerifierError(f"scratch word M[{k}] does not exist, the last is M[15]", insn=pc)
    if kind == BPF_ALU and not code & BPF_X:
        if code & 0xF0 in (BPF_DIV, BPF_MOD) and k == 0:
            raise VerifierError("division by zero", insn=pc)
        if code & 0xF0 in (BPF_LSH, BPF_RSH) and k > 31:
            raise VerifierError(f"shift by {k} bits, the most is 31", insn=pc)
    targets: tuple[int, ...]
    if code == BPF_JMP | BPF_JA:
        targets = (pc + 1 + (k - (1 << 32) if k & 0x80000000 else k),)
    elif kind == BPF_JMP:
        targets = (pc + 1 + jt, pc + 1 + jf) if jt != jf else (pc + 1 + jt,)
    else:
        targets = (pc + 1,)
    for target in targets:
        if not 0 <= target < len(insns):
            where = "falls off the end" if kind != BPF_JMP else f"jumps to {target}"
            raise VerifierError(f"{where} of a program of {len(insns)} instructions", insn=pc)
    return targets


def beyond(insn: ClassicInsn, longest: int) -> bool:
    """Whether a packet load lies outside every packet of up to ``longest`` bytes, whatever X is."""
    code, _, _, k = insn
    if code & 7 > BPF_LDX or code & 0xE0 not in (BPF_ABS, BPF_IND, BPF_MSH):
        return False
    if code & 0xE7 == BPF_LD | BPF_ABS and k >= ANCILLARY:
        return False
    return k + SIZES[code & 0x18] > longest


def study(insns: Sequence[ClassicInsn], longest: int = 1 << 33, *, swaps: bool = True) -> Facts:
    """Facts of a whole program, for packets of at most ``longest`` bytes.

    Without ``swaps``, no bound is claimed for numbers that were put into host byte order or divided:
    the kernel's verifier has none either.

    Raises:
        VerifierError: the program is not legal classic BPF (see `successors`).
    """
    if not insns:
        raise VerifierError("the program is empty: it needs at least a return")
    following = tuple(
        () if beyond(insn, longest) else targets
        for insn, targets in [(insn, successors(insns, pc)) for pc, insn in enumerate(insns)]
    )
    back = {target for pc, targets in enumerate(following) for target in targets if target <= pc}
    before: list[State | None] = [None] * len(insns)
    before[0] = _START
    for target in back:
        before[target] = State(TOP, TOP, (None,) * BPF_MEMWORDS)
    zeroed: set[int] = set()
    for pc, insn in enumerate(insns):
        state = before[pc]
        if state is None:
            continue
        if insn.code in (BPF_LD | BPF_MEM, BPF_LDX | BPF_MEM) and state.mem[insn.k] is None:
            zeroed.add(insn.k)
        after = _step(state, insn, swaps)
        for target in following[pc]:
            if target not in back:
                before[target] = _join(before[target], after)
    if back:
        _forget_unreachable(before, following)
    return Facts(tuple(before), following, frozenset(zeroed), bool(back))


def _forget_unreachable(before: list[State | None], following: Sequence[tuple[int, ...]]) -> None:
    reached = {0}
    todo = [0]
    while todo:
        for target in following[todo.pop()]:
            if target not in reached:
                reached.add(target)
                todo.append(target)
    for pc in range(len(before)):
        if pc not in reached:
            before[pc] = None


def _join(old: State | None, new: State) -> State:
    if old is None or old is new:
        return new
    if old.mem is new.mem or old.mem == new.mem:
        mem = old.mem
    else:
        mem = tuple(
            None if a is None or b is None else max(a, b) for a, b in zip(old.mem, new.mem, strict=True)
        )
    return State(max(old.a, new.a), max(old.x, new.x), mem)


def _step(state: State, insn: ClassicInsn, swaps: bool) -> State:
    code, _, _, k = insn
    kind = code & 7
    if kind in (BPF_LD, BPF_LDX):
        mode = code & 0xE0
        if mode == BPF_IMM:
            bound = k
        elif mode == BPF_MEM:
            stored = state.mem[k]
            bound = TOP if stored is None else stored
        elif mode == BPF_MSH:
            bound = 60
        elif mode in (BPF_ABS, BPF_IND) and k < 0x80000000:
            bound = {BPF_B: 0xFF, BPF_H: 0xFFFF if swaps else TOP}.get(code & 0x18, TOP)
        else:
            bound = TOP  # a length, or an ancillary load
        return state._replace(a=bound) if kind == BPF_LD else state._replace(x=bound)
    if kind in (BPF_ST, BPF_STX):
        mem = list(state.mem)
        mem[k] = state.a if kind == BPF_ST else state.x
        return state._replace(mem=tuple(mem))
    if kind == BPF_ALU:
        return state._replace(a=_alu(code, state.a, state.x if code & BPF_X else k, swaps))
    if kind == BPF_MISC:
        return state._replace(x=state.a) if code & 0xF8 == BPF_TAX else state._replace(a=state.x)
    return state


def _alu(code: int, a: int, operand: int, swaps: bool) -> int:
    """Upper bound of the result; ``operand`` is a constant, or X's upper bound."""
    operation = code & 0xF0
    constant = not code & BPF_X
    if operation in (BPF_DIV, BPF_MOD) and not swaps:
        bound = TOP
    elif operation == BPF_ADD:
        bound = a + operand
    elif operation == BPF_MUL:
        bound = a * operand
    elif operation == BPF_AND:
        bound = min(a, operand)
    elif operation in (BPF_OR, BPF_XOR):
        bound = (1 << max(a.bit_length(), operand.bit_length())) - 1
    elif operation == BPF_DIV:
        bound = a // operand if constant else a
    elif operation == BPF_MOD:
        bound = min(a, operand - 1) if operand else a
    elif operation == BPF_RSH:
        bound = a >> operand if constant else a
    elif operation == BPF_LSH and constant:
        bound = a << operand
    else:
        bound = TOP
    return bound if bound <= TOP else TOP
