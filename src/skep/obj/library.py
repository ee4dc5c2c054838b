"""memcpy, memmove, memset and memcmp as BPF subprograms, for objects whose compiler called them.

LLVM calls these where a size is large or not constant, and no kernel helper answers. The loops are written
for the verifier: one counter whose bounds it can follow, bytes only (the alignment of a pointer is unknown to
it), eight of them a round.
"""

from __future__ import annotations

from sys import byteorder
from typing import Final

from skep.isa import Insn, encode
from skep.isa import opcodes as op

NAMES: Final = ("memcpy", "memmove", "memset", "memcmp")
"""In the order of the FUNCs that `kernel_btf` appends."""

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


def code(name: str) -> bytes:
    """The instructions of library function ``name``, in host byte order."""
    insns = {"memcpy": _memcpy, "memmove": _memmove, "memset": _memset, "memcmp": _memcmp}[name]()
    return encode(insns, byteorder)


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


def _copy(step: int) -> list[Insn]:
    """Copy r3 bytes from r2 to r1: upwards from their first bytes, or downwards from behind their last."""
    offsets = range(_STEP) if step > 0 else range(-1, -_STEP - 1, -1)
    body = [[Insn(_LOAD, 4, 2, off), Insn(_STORE, 1, 4, off)] for off in offsets]
    return _loop(body, [Insn(_ADD, 1, 0, 0, step), Insn(_ADD, 2, 0, 0, step)])


def _memcpy() -> list[Insn]:
    return [Insn(_MOV, 0, 1), *_copy(1), _EXIT]


def _memmove() -> list[Insn]:
    # Upwards is right unless the destination starts inside the source: (dst - src), unsigned, below n.
    up = _copy(1)
    return [
        Insn(_MOV, 0, 1),
        Insn(_MOV, 5, 1),
        Insn(_SUB, 5, 2),
        Insn(_JLT_REG, 5, 3, len(up) + 1),
        *up,
        _EXIT,
        Insn(_ADD_REG, 1, 3),
        Insn(_ADD_REG, 2, 3),
        *_copy(-1),
        _EXIT,
    ]


def _memset() -> list[Insn]:
    body = [[Insn(_STORE, 1, 2, off)] for off in range(_STEP)]
    return [Insn(_MOV, 0, 1), *_loop(body, [Insn(_ADD, 1, 0, 0, 1)]), _EXIT]


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
