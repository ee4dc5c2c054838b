"""Pointer arithmetic: which is allowed, and where the pointer is afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from skep.isa import opcodes as op
from skep.verifier import kinds as k
from skep.verifier import tnum
from skep.verifier.bounds import Bounds
from skep.verifier.ptr import Ptr
from skep.verifier.scalar import S64_MAX, S64_MIN, U64, Scalar

if TYPE_CHECKING:
    from skep.verifier.env import Env

MAX_VAR_OFF: Final = 1 << 29
_NAMES: Final = {
    op.BPF_AND: "&=",
    op.BPF_OR: "|=",
    op.BPF_XOR: "^=",
    op.BPF_MUL: "*=",
    op.BPF_DIV: "/=",
    op.BPF_LSH: "<<=",
    op.BPF_RSH: ">>=",
    op.BPF_MOD: "%=",
    op.BPF_ARSH: "s>>=",
    op.BPF_NEG: "neg",
}
_MOVABLE: Final = frozenset(
    (
        k.PTR_TO_CTX,
        k.PTR_TO_MAP_VALUE,
        k.PTR_TO_MAP_KEY,
        k.PTR_TO_STACK,
        k.PTR_TO_PACKET_META,
        k.PTR_TO_PACKET,
        k.PTR_TO_TP_BUFFER,
        k.PTR_TO_BTF_ID,
        k.PTR_TO_MEM,
        k.PTR_TO_BUF,
        k.PTR_TO_FUNC,
        k.CONST_PTR_TO_DYNPTR,
    )
)


def is_packet_or_meta(type: int) -> bool:
    return type == k.PTR_TO_PACKET or type == k.PTR_TO_PACKET_META


def add_scalar(env: Env, dst: int, operation: int, wide: bool, p: Ptr, s: Scalar, ptr_is_dst: bool) -> None:
    """``p operation s`` into register ``dst``; ``ptr_is_dst`` tells ``p -= s`` from ``s -= p``."""
    known = s.const
    if (known and (s.smin != s.smax or s.umin != s.umax)) or s.smin > s.smax or s.umin > s.umax:
        env.set_unknown(dst)  # a path that cannot be
        return
    if not wide:
        if operation == op.BPF_SUB and env.leaks:
            env.set_unknown(dst)
            return
        env.reject(f"R{dst} 32-bit pointer arithmetic prohibited")
    if p.type & k.PTR_MAYBE_NULL:
        env.reject(f"R{dst} pointer arithmetic on {k.kind_name(p.type)} prohibited, null-check it first")
    base = p.type & k.BASE_MASK
    if base not in _MOVABLE and not (base == k.PTR_TO_FLOW_KEYS and known):
        zero = known and s.smin == 0 and operation == op.BPF_ADD
        if not (zero and base in (k.CONST_PTR_TO_MAP, k.PTR_TO_FLOW_KEYS)):
            env.reject(f"R{dst} pointer arithmetic on {k.kind_name(p.type)} prohibited")
    check_sane_scalar(env, s, p.type)
    _check_sane_pointer(env, p.off, p.var, p.type)
    if operation == op.BPF_ADD:
        new = _add(env, p, s)
    elif operation == op.BPF_SUB:
        if not ptr_is_dst:
            env.reject(f"R{dst} tried to subtract pointer from scalar")
        if p.type == k.PTR_TO_STACK:
            env.reject(f"R{dst} subtraction from stack pointer prohibited")
        new = _sub(env, p, s)
    elif operation in (op.BPF_AND, op.BPF_OR, op.BPF_XOR):
        env.reject(f"R{dst} bitwise operator {_NAMES[operation]} on pointer prohibited")
    else:
        env.reject(f"R{dst} pointer arithmetic with {_NAMES[operation]} operator prohibited")
    _check_sane_pointer(env, new.off, new.var, p.type)
    if env.speculates:
        from skep.verifier.speculation import check_pointer_bounds

        check_pointer_bounds(env, dst, p, new, s, operation, ptr_is_dst)
    env.set_reg(dst, new)


def _kept_range(env: Env, p: Ptr) -> int:
    """``aux`` of a pointer that a constant moves.

    That a packet's pointer lies at or beyond the packet's end says nothing of the one that is moved. Linux
    believed it before 7.0; what runs without a kernel must not.
    """
    if p.aux < 0 and is_packet_or_meta(p.type) and (env.kernel >= (7, 0) or env.strict is not None):
        return 0
    return p.aux


def _add(env: Env, p: Ptr, s: Scalar) -> Ptr:
    if s.const:
        off = p.off + s.smin
        if -(1 << 31) <= off < 1 << 31:
            return env.ptrs.moved(p, off, p.var, p.id, _kept_range(env, p))
    v = p.var
    b = Bounds(v)
    b.unbound32()
    low, high = v.smin + s.smin, v.smax + s.smax
    b.smin, b.smax = (low, high) if low >= S64_MIN and high <= S64_MAX else (S64_MIN, S64_MAX)
    low, high = v.umin + s.umin, v.umax + s.umax
    b.umin, b.umax = (low, high) if high <= U64 else (0, U64)
    b.tv, b.tm = tnum.add(v.tv, v.tm, s.tv, s.tm)
    b.sync()
    id, aux = p.id, p.aux
    if is_packet_or_meta(p.type):
        id, aux = env.new_id(), 0
    return env.ptrs.moved(p, p.off, b.intern(env.scalars), id, aux)


def _sub(env: Env, p: Ptr, s: Scalar) -> Ptr:
    if s.const:
        off = p.off - s.smin
        if -(1 << 31) <= off < 1 << 31:
            return env.ptrs.moved(p, off, p.var, p.id, _kept_range(env, p))
    v = p.var
    b = Bounds(v)
    b.unbound32()
    low, high = v.smin - s.smax, v.smax - s.smin
    b.smin, b.smax = (low, high) if low >= S64_MIN and high <= S64_MAX else (S64_MIN, S64_MAX)
    low, high = v.umin - s.umax, v.umax - s.umin
    b.umin, b.umax = (low, high) if low >= 0 else (0, U64)
    b.tv, b.tm = tnum.sub(v.tv, v.tm, s.tv, s.tm)
    b.sync()
    id, aux = p.id, p.aux
    if is_packet_or_meta(p.type):
        id = env.new_id()
        aux = 0 if s.smin < 0 else _kept_range(env, p)
    return env.ptrs.moved(p, p.off, b.intern(env.scalars), id, aux)


def check_sane_scalar(env: Env, s: Scalar, type: int) -> None:
    """The number added is one that cannot leave the address space around the object."""
    _check_sane(env, s, 0, type)


def _check_sane_pointer(env: Env, off: int, var: Scalar, type: int) -> None:
    _check_sane(env, var, off, type)


def _check_sane(env: Env, s: Scalar, off: int, type: int) -> None:
    if s.const:
        value = s.smin if s.smin == s.smax else s.tv - (1 << 64 if s.tv >> 63 else 0)
        if value >= MAX_VAR_OFF or value <= -MAX_VAR_OFF:
            env.reject(f"math between {k.kind_name(type)} pointer and {value} is not allowed")
    if off >= MAX_VAR_OFF or off <= -MAX_VAR_OFF:
        env.reject(f"{k.kind_name(type)} pointer offset {off} is not allowed")
    if s.smin == S64_MIN:
        env.reject(
            f"math between {k.kind_name(type)} pointer and register with unbounded min value is not allowed"
        )
    if s.smin >= MAX_VAR_OFF or s.smin <= -MAX_VAR_OFF:
        env.reject(f"value {s.smin} makes {k.kind_name(type)} pointer be out of bounds")
