"""Without privileges: pointer arithmetic that a mispredicting processor cannot be led astray with.

Linux masks the offset that is added, which it can only where every path adds to the same kind of pointer
with the same limit. Paths that only a misprediction takes cannot refuse a program (Linux 6.17 and later put
a barrier where such a path would break a rule), so they are not followed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from skep.errors import VerifierError
from skep.isa import opcodes as op
from skep.verifier import kinds as k
from skep.verifier import tnum
from skep.verifier.ptr import Ptr
from skep.verifier.scalar import U32, Scalar
from skep.verifier.subject import MapFacts

if TYPE_CHECKING:
    from skep.verifier.env import Env

_MAX_STACK: Final = 512
_PLAIN: Final = 1 << 4  # the instruction adds numbers only
_NEGATIVE: Final = 1
_IMMEDIATE: Final = 2
_TO_POINTER: Final = 4  # the pointer is the destination
_FROM_POINTER: Final = 8
_TAIL: Final = "pointer arithmetic with it prohibited for !root"


def speculate(env: Env, pc: int, prev: int) -> None:
    """A decided branch may be mispredicted: nothing to check, see above."""


def sanitize_value(env: Env) -> None:
    """Two numbers are added by an instruction that must not add pointers on another path."""
    _remember(env, env.pc, _PLAIN, 0)


def _remember(env: Env, pc: int, state: int, limit: int) -> None:
    known = env.alu_states.get(pc)
    if known is not None and known != (state, limit):
        insn = env.code[pc]
        word = "add" if insn.opcode & op.OP_MASK == op.BPF_ADD else "sub"
        env.reject(f"R{insn.dst} tried to {word} from different maps, paths or scalars, {_TAIL}")
    env.alu_states[pc] = (state, limit)


def check_pointer_bounds(
    env: Env, dst: int, p: Ptr, new: Ptr, s: Scalar, operation: int, ptr_is_dst: bool
) -> None:
    """``p operation s`` gave ``new`` in register ``dst``."""
    insn = env.code[env.pc]
    by_register = bool(insn.opcode & op.BPF_X)
    to_left = False
    before = 0
    if by_register:
        if not s.const and (s.smin < 0) != (s.smax < 0):
            reg = dst if not ptr_is_dst else insn.src
            env.reject(f"R{reg} has unknown scalar with mixed signed bounds, {_TAIL}")
        to_left = (s.smin < 0) == (operation == op.BPF_ADD)
        before = _limit(env, dst, p, to_left, operation, insn.src if not ptr_is_dst else dst)
    _check_result(env, dst, new)
    if by_register:
        after = _limit(env, dst, new, to_left, operation, insn.src if not ptr_is_dst else dst)
        state = (
            (_NEGATIVE if s.smin < 0 else 0)
            | (_IMMEDIATE if s.const else 0)
            | (_TO_POINTER if ptr_is_dst else _FROM_POINTER)
        )
        _remember(env, env.pc, state, abs(before - after))


def _limit(env: Env, dst: int, p: Ptr, to_left: bool, operation: int, reg: int) -> int:
    """How far the pointer may go towards the end of its object."""
    if p.type == k.PTR_TO_STACK:
        most = _MAX_STACK + (1 if to_left else 0)
        limit = -(p.var.tv + p.off) & U32
    elif p.type == k.PTR_TO_MAP_VALUE and isinstance(p.obj, MapFacts):
        most = p.obj.value_size
        limit = ((p.var.smin if to_left else p.var.umax) + p.off) & U32
    else:
        env.reject(f"R{reg} has pointer with unsupported alu operation, {_TAIL}")
    if limit >= most:
        word = "add" if operation == op.BPF_ADD else "sub"
        env.reject(f"R{dst} tried to {word} beyond pointer bounds, {_TAIL}")
    return limit


def _check_result(env: Env, dst: int, p: Ptr) -> None:
    if p.type == k.PTR_TO_STACK:
        off = p.off + p.var.smin
        if not p.var.const:
            text = tnum.text(p.var.tv, p.var.tm)
            env.reject(f"R{dst} variable stack access prohibited for !root, var_off={text} off={p.off}")
        if not -_MAX_STACK <= off < 0:
            env.reject(f"R{dst} stack pointer arithmetic goes out of range, prohibited for !root; off={off}")
    elif p.type == k.PTR_TO_MAP_VALUE and isinstance(p.obj, MapFacts):
        from skep.verifier.mem import check_range

        try:
            check_range(env, dst, p, p.off, 1, p.obj.value_size, False)
        except VerifierError as error:
            text = f"R{dst} pointer arithmetic of map value goes out of range, prohibited for !root"
            more = f"{env.more}\n{text}" if env.more else text
            env.reject(error.reason, more=more)
