"""memcpy, memmove, memset and memcmp as BPF subprograms, for objects whose compiler called them.

LLVM calls these where a size is large or not constant, and no kernel helper answers. The loops are written
for the verifier: one counter whose bounds it can follow, bytes only (the alignment of a pointer is unknown to
it), eight of them a round.
"""

from __future__ import annotations

from sys import byteorder

from skep.isa import Insn, encode
from skep.isa import opcodes as op
from skep.isa.facts import defs, is_conditional, is_jump, jump_target, uses

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final


_STEP: Final = 8
_MOV: Final = op.BPF_ALU64 | op.BPF_MOV | op.BPF_X
_ADD: Final = op.BPF_ALU64 | op.BPF_ADD | op.BPF_K
_SUB: Final = op.BPF_ALU64 | op.BPF_SUB | op.BPF_X
_ADD_REG: Final = op.BPF_ALU64 | op.BPF_ADD | op.BPF_X
_LOAD: Final = op.BPF_LDX | op.BPF_MEM | op.BPF_B
_STORE: Final = op.BPF_STX | op.BPF_MEM | op.BPF_B
_JLT: Final = op.BPF_JMP | op.BPF_JLT | op.BPF_K
_JLT_REG: Final = op.BPF_JMP | op.BPF_JLT | op.BPF_X
_JEQ: Final = op.BPF_JMP | op.BPF_JEQ | op.BPF_K
_JNE_REG: Final = op.BPF_JMP | op.BPF_JNE | op.BPF_X
_EXIT: Final = Insn(op.EXIT)
_RESULT: Final = Insn(_MOV, 0, 1)


DISCARDED: Final = ".discarded"
"""Ends the name of a variant that returns 0: no function may return a pointer to its caller's stack."""


def code(name: str) -> bytes:
    """The instructions of library function ``name``, in host byte order."""
    plain = name.removesuffix(DISCARDED)
    insns = {"memcpy": _memcpy, "memmove": _memmove, "memset": _memset, "memcmp": _memcmp}[plain]()
    if plain != name:
        zero = Insn(op.BPF_ALU64 | op.BPF_MOV | op.BPF_K, 0, 0, 0, 0)
        insns = [zero if insn == _RESULT else insn for insn in insns]
    return encode(insns, byteorder)


def variant(name: str, caller: list[Insn], pc: int) -> str:
    """The variant for the call at slot ``pc`` of ``caller``: does anything read what it returns?"""
    if name == "memcmp":
        return name
    seen: set[int] = set()
    pending = [pc + 1]
    while pending:
        at = pending.pop()
        if at in seen or at >= len(caller):
            continue
        seen.add(at)
        insn = caller[at]
        if uses(insn) & 1:
            return name
        if defs(insn) & 1 or insn.opcode == op.EXIT:
            continue
        if is_jump(insn):
            target = jump_target(insn, at)
            if target is not None:
                pending.append(target)
            if not is_conditional(insn):
                continue
        pending.append(at + (2 if insn.opcode == op.LD_IMM64 else 1))
    return name + DISCARDED


def _loop(body: list[list[Insn]], advance: list[Insn]) -> list[Insn]:
    """``body`` (the work on byte 0, 1, …) for r3 bytes: eight a round, then one by one; falls out at the end.

    ``advance`` moves the pointers by ``imm`` of its instructions times the bytes done.
    """
    round_ = [insn for part in body for insn in part]
    pointers = [*advance, Insn(_ADD, 3, 0, 0, -1)]
    eight = [*round_, *(insn._replace(imm=insn.imm * _STEP) for insn in pointers)]
    one = [*body[0], *pointers]
    return [
        Insn(_JLT, 3, 0, len(eight) + 1, _STEP),
        *eight,
        Insn(op.JA, 0, 0, -len(eight) - 2),
        Insn(_JEQ, 3, 0, len(one) + 1, 0),
        *one,
        Insn(op.JA, 0, 0, -len(one) - 2),
    ]


def _memcpy() -> list[Insn]:
    return [_RESULT, *_copy_up(), _EXIT]


def _copy_up() -> list[Insn]:
    """Copy r3 bytes from r2 to r1, upwards."""
    body = [[Insn(_LOAD, 4, 2, off), Insn(_STORE, 1, 4, off)] for off in range(_STEP)]
    return _loop(body, [Insn(_ADD, 1, 0, 0, 1), Insn(_ADD, 2, 0, 0, 1)])


def _copy_down() -> list[Insn]:
    """Copy r3 bytes from r2 to r1, downwards: addresses come from what is left, whose bounds are known."""

    def piece(size: int) -> list[Insn]:
        place = [
            Insn(_ADD, 3, 0, 0, -size),
            Insn(_MOV, 4, 2),
            Insn(_ADD_REG, 4, 3),
            Insn(_MOV, 5, 1),
            Insn(_ADD_REG, 5, 3),
        ]
        work = [[Insn(_LOAD, 0, 4, off), Insn(_STORE, 5, 0, off)] for off in reversed(range(size))]
        return place + [insn for part in work for insn in part]

    eight, one = piece(_STEP), piece(1)
    return [
        Insn(_JLT, 3, 0, len(eight) + 1, _STEP),
        *eight,
        Insn(op.JA, 0, 0, -len(eight) - 2),
        Insn(_JEQ, 3, 0, len(one) + 1, 0),
        *one,
        Insn(op.JA, 0, 0, -len(one) - 2),
    ]


def _memmove() -> list[Insn]:
    # Upwards is right unless the destination starts inside the source: (dst - src), unsigned, below n.
    up = _copy_up()
    return [
        _RESULT,
        Insn(_MOV, 5, 1),
        Insn(_SUB, 5, 2),
        Insn(_JLT_REG, 5, 3, len(up) + 1),
        *up,
        _EXIT,
        *_copy_down(),
        _RESULT,
        _EXIT,
    ]


def _memset() -> list[Insn]:
    body = [[Insn(_STORE, 1, 2, off)] for off in range(_STEP)]
    return [_RESULT, *_loop(body, [Insn(_ADD, 1, 0, 0, 1)]), _EXIT]


def _memcmp() -> list[Insn]:
    compare = [Insn(_LOAD, 0, 1), Insn(_LOAD, 4, 2), Insn(_SUB, 0, 4), Insn(op.BPF_JMP | 0x50, 0, 0, 0, 0)]
    move = [Insn(_ADD, 1, 0, 0, 1), Insn(_ADD, 2, 0, 0, 1), Insn(_ADD, 3, 0, 0, -1)]
    size = len(compare) + len(move)
    compare[3] = compare[3]._replace(off=len(move) + 2)
    return [
        Insn(_JEQ, 3, 0, size + 1, 0),
        *compare,
        *move,
        Insn(op.JA, 0, 0, -size - 2),
        Insn(op.BPF_ALU64 | op.BPF_MOV | op.BPF_K, 0, 0, 0, 0),
        _EXIT,
    ]
