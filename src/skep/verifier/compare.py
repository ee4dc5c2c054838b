"""Comparisons of what is known of numbers: is the branch decided, and what does each way teach."""

from __future__ import annotations

from typing import Final

from skep.isa import opcodes as op
from skep.verifier import tnum
from skep.verifier.bounds import Bounds, s32, s64
from skep.verifier.scalar import S32_MIN, S64_MIN, U32, U64, Scalar, Scalars

#: BPF_JSET not taken, which no opcode has
NOT_SET: Final = op.BPF_JSET | 8

_FLIP: Final = {
    op.BPF_JEQ: op.BPF_JEQ,
    op.BPF_JNE: op.BPF_JNE,
    op.BPF_JSET: op.BPF_JSET,
    op.BPF_JGE: op.BPF_JLE,
    op.BPF_JGT: op.BPF_JLT,
    op.BPF_JLE: op.BPF_JGE,
    op.BPF_JLT: op.BPF_JGT,
    op.BPF_JSGE: op.BPF_JSLE,
    op.BPF_JSGT: op.BPF_JSLT,
    op.BPF_JSLE: op.BPF_JSGE,
    op.BPF_JSLT: op.BPF_JSGT,
}
_REVERSE: Final = {
    op.BPF_JEQ: op.BPF_JNE,
    op.BPF_JNE: op.BPF_JEQ,
    op.BPF_JSET: NOT_SET,
    op.BPF_JGE: op.BPF_JLT,
    op.BPF_JGT: op.BPF_JLE,
    op.BPF_JLE: op.BPF_JGT,
    op.BPF_JLT: op.BPF_JGE,
    op.BPF_JSGE: op.BPF_JSLT,
    op.BPF_JSGT: op.BPF_JSLE,
    op.BPF_JSLE: op.BPF_JSGT,
    op.BPF_JSLT: op.BPF_JSGE,
}


def flip(operation: int) -> int:
    """The comparison with its sides exchanged, 0 for none."""
    return _FLIP.get(operation, 0)


def reverse(operation: int) -> int:
    """The comparison that holds where this one does not."""
    return _REVERSE[operation]


def taken(a: Scalar, b: Scalar, operation: int, narrow: bool) -> int:
    """1: always taken, 0: never, -1: not known. ``narrow`` compares the low 32 bits."""
    if narrow:
        av, am, bv, bm = a.tv & U32, a.tm & U32, b.tv & U32, b.tm & U32
        aumin, aumax, bumin, bumax = a.u32min, a.u32max, b.u32min, b.u32max
        asmin, asmax, bsmin, bsmax = a.s32min, a.s32max, b.s32min, b.s32max
    else:
        av, am, bv, bm = a.tv, a.tm, b.tv, b.tm
        aumin, aumax, bumin, bumax = a.umin, a.umax, b.umin, b.umax
        asmin, asmax, bsmin, bsmax = a.smin, a.smax, b.smin, b.smax
    if operation == op.BPF_JEQ or operation == op.BPF_JNE:
        yes = 1 if operation == op.BPF_JEQ else 0
        if not am and not bm:
            return yes if av == bv else 1 - yes
        both = ~am & ~bm
        if av & both != bv & both:
            return 1 - yes
        if aumin > bumax or aumax < bumin or asmin > bsmax or asmax < bsmin:
            return 1 - yes
        if not narrow and (
            a.u32min > b.u32max or a.u32max < b.u32min or a.s32min > b.s32max or a.s32max < b.s32min
        ):
            return 1 - yes
        return -1
    if operation == op.BPF_JSET:
        if bm:
            av, am, bv, bm = bv, bm, av, am
        if bm:
            return -1
        if av & bv:
            return 1
        return -1 if (am | av) & bv else 0
    if operation == op.BPF_JGT:
        return 1 if aumin > bumax else 0 if aumax <= bumin else -1
    if operation == op.BPF_JSGT:
        return 1 if asmin > bsmax else 0 if asmax <= bsmin else -1
    if operation == op.BPF_JLT:
        return 1 if aumax < bumin else 0 if aumin >= bumax else -1
    if operation == op.BPF_JSLT:
        return 1 if asmax < bsmin else 0 if asmin >= bsmax else -1
    if operation == op.BPF_JGE:
        return 1 if aumin >= bumax else 0 if aumax < bumin else -1
    if operation == op.BPF_JSGE:
        return 1 if asmin >= bsmax else 0 if asmax < bsmin else -1
    if operation == op.BPF_JLE:
        return 1 if aumax <= bumin else 0 if aumin > bumax else -1
    if operation == op.BPF_JSLE:
        return 1 if asmax <= bsmin else 0 if asmin > bsmax else -1
    return -1


def taken_by_constant(a: Scalar, b: Scalar, operation: int, narrow: bool, ranges: bool) -> int:
    """`taken` as before Linux 6.8, where ``b`` is a constant; ``ranges``: they decide equality too (6.4)."""
    if operation in (op.BPF_JEQ, op.BPF_JNE):
        yes = 1 if operation == op.BPF_JEQ else 0
        mask = U32 if narrow else U64
        if not a.tm & mask:
            return yes if a.tv & mask == b.tv & mask else 1 - yes
        if not ranges:
            return -1
        value = b.tv & mask
        if narrow:
            out = not a.u32min <= value <= a.u32max or not a.s32min <= s32(value) <= a.s32max
        else:
            out = not a.umin <= value <= a.umax or not a.smin <= s64(value) <= a.smax
        return 1 - yes if out else -1
    return taken(a, b, operation, narrow)


def holds(a: int, b: int, operation: int, narrow: bool) -> bool:
    """``a operation b`` for known numbers (u64)."""
    if narrow:
        a &= U32
        b &= U32
    if operation == op.BPF_JEQ:
        return a == b
    if operation == op.BPF_JNE:
        return a != b
    if operation == op.BPF_JLT:
        return a < b
    if operation == op.BPF_JGT:
        return a > b
    if operation == op.BPF_JLE:
        return a <= b
    if operation == op.BPF_JGE:
        return a >= b
    if operation == op.BPF_JSET:
        return a & b != 0
    if narrow:
        a, b = s32(a), s32(b)
    else:
        a, b = s64(a), s64(b)
    if operation == op.BPF_JSLT:
        return a < b
    if operation == op.BPF_JSGT:
        return a > b
    return a <= b if operation == op.BPF_JSLE else a >= b


class Outcome:
    """What both sides are known to be where the branch is taken and where it is not."""

    __slots__ = ("false_a", "false_b", "true_a", "true_b")

    def __init__(self, true_a: Scalar, true_b: Scalar, false_a: Scalar, false_b: Scalar) -> None:
        self.true_a = true_a
        self.true_b = true_b
        self.false_a = false_a
        self.false_b = false_b


def refine(
    scalars: Scalars,
    a: Scalar,
    b: Scalar,
    operation: int,
    narrow: bool,
    same: bool = False,
    edges: bool = True,
) -> Outcome:
    """Both outcomes of ``a operation b``; ``same``: of one register with itself.

    ``edges``: a number unequal to the end of a range shortens the range (Linux 6.8).
    """
    x = Bounds(a)
    y = x if same else Bounds(b)
    other = reverse(operation)
    if edges or other != op.BPF_JNE:
        _refine(x, y, other, narrow)
    v = Bounds(a)
    w = v if same else Bounds(b)
    if edges or operation != op.BPF_JNE:
        _refine(v, w, operation, narrow)
    if same:  # both are synchronised, one after the other
        v.sync()
        x.sync()
        taken, not_taken = v.settle(scalars), x.settle(scalars)
        return Outcome(taken, taken, not_taken, not_taken)
    return Outcome(v.settle(scalars), w.settle(scalars), x.settle(scalars), y.settle(scalars))


def _is_const(b: Bounds, narrow: bool) -> bool:
    return not (b.tm & U32 if narrow else b.tm)


def _refine(a: Bounds, b: Bounds, operation: int, narrow: bool) -> None:
    if operation in (op.BPF_JGE, op.BPF_JGT, op.BPF_JSGE, op.BPF_JSGT):
        operation = _FLIP[operation]
        a, b = b, a
    if operation == op.BPF_JEQ:
        if narrow:
            _equal32(a, b)
        else:
            _equal64(a, b)
        return
    if operation in (op.BPF_JNE, op.BPF_JSET, NOT_SET):
        if not _is_const(b, narrow):
            a, b = b, a
        if not _is_const(b, narrow):
            return
        value = b.tv & U32 if narrow else b.tv
        if operation == op.BPF_JNE:
            _differs(a, value, narrow)
        elif operation == op.BPF_JSET:
            if not value & (value - 1) and value:
                if narrow:
                    a.subreg(*tnum.or_(a.tv & U32, a.tm & U32, value, 0))
                else:
                    a.tv, a.tm = tnum.or_(a.tv, a.tm, value, 0)
        else:
            a.unbound()
            if narrow:
                a.subreg(*tnum.and_(a.tv & U32, a.tm & U32, ~value & U64, 0))
            else:
                a.tv, a.tm = tnum.and_(a.tv, a.tm, ~value & U64, 0)
        return
    _ordered(a, b, operation, narrow)


def _equal32(a: Bounds, b: Bounds) -> None:
    a.u32min = b.u32min = max(a.u32min, b.u32min)
    a.u32max = b.u32max = min(a.u32max, b.u32max)
    a.s32min = b.s32min = max(a.s32min, b.s32min)
    a.s32max = b.s32max = min(a.s32max, b.s32max)
    v, m = tnum.intersect(a.tv & U32, a.tm & U32, b.tv & U32, b.tm & U32)
    a.subreg(v, m)
    b.subreg(v, m)


def _equal64(a: Bounds, b: Bounds) -> None:
    a.umin = b.umin = max(a.umin, b.umin)
    a.umax = b.umax = min(a.umax, b.umax)
    a.smin = b.smin = max(a.smin, b.smin)
    a.smax = b.smax = min(a.smax, b.smax)
    v, m = tnum.intersect(a.tv, a.tm, b.tv, b.tm)
    a.tv = b.tv = v
    a.tm = b.tm = m


def _differs(a: Bounds, value: int, narrow: bool) -> None:
    if narrow:
        signed = s32(value)
        if a.u32min == value:
            a.u32min = (a.u32min + 1) & U32
        if a.u32max == value:
            a.u32max = (a.u32max - 1) & U32
        if a.s32min == signed:
            a.s32min = s32(a.s32min + 1)
        if a.s32max == signed:
            a.s32max = s32(a.s32max - 1)
        return
    signed = s64(value)
    if a.umin == value:
        a.umin = (a.umin + 1) & U64
    if a.umax == value:
        a.umax = (a.umax - 1) & U64
    if a.smin == signed:
        a.smin = s64(a.smin + 1)
    if a.smax == signed:
        a.smax = s64(a.smax - 1)


def _ordered(a: Bounds, b: Bounds, operation: int, narrow: bool) -> None:
    """a <= b or a < b, signed or not."""
    less = 1 if operation in (op.BPF_JLT, op.BPF_JSLT) else 0
    if operation in (op.BPF_JLE, op.BPF_JLT):
        if narrow:
            a.u32max = min(a.u32max, (b.u32max - less) & U32)
            b.u32min = max((a.u32min + less) & U32, b.u32min)
        else:
            a.umax = min(a.umax, (b.umax - less) & U64)
            b.umin = max((a.umin + less) & U64, b.umin)
    elif narrow:
        a.s32max = min(a.s32max, b.s32max - less if b.s32max > S32_MIN else s32(b.s32max - less))
        b.s32min = max(s32(a.s32min + less), b.s32min)
    else:
        a.smax = min(a.smax, b.smax - less if b.smax > S64_MIN else s64(b.smax - less))
        b.smin = max(s64(a.smin + less), b.smin)
