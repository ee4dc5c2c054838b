"""Integers: exact arithmetic within 64 bits, with an interval for every value.

Every operation works on i64. Its interval is computed without limit; what leaves 64 bits wraps: as u64 when
the result cannot be negative, as s64 when it cannot exceed s64, and as s64 when the operands are s64 or
smaller. The difference of two u64 is s64. What remains, a value that may be negative and may exceed s64 (a
u64 less 1), has no sign (``lo < 0`` and ``hi > S64_MAX``): it can be stored, added and masked, and is refused
where its sign matters (comparison, division, right shift).
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Final

from skep.lang.values import INT, S64_MAX, S64_MIN, U64, Value

_POWER: Final = 8

if TYPE_CHECKING:
    from skep.lang.walk import Walker


def clamp(lo: int, hi: int, *of: Value) -> tuple[int, int]:
    """The interval of a result that was computed modulo 2**64 from the operands ``of``."""
    if lo >= 0:
        return (lo, hi) if hi <= U64 else (0, U64)
    if hi <= S64_MAX:
        return (lo, hi) if lo >= S64_MIN else (S64_MIN, S64_MAX)
    if of and all(v.hi <= S64_MAX for v in of):
        return S64_MIN, S64_MAX
    return max(lo, S64_MIN), min(hi, U64)


def literal(number: int) -> str:
    """A number as an i64 operand."""
    number &= U64
    return str(number - (1 << 64) if number > S64_MAX else number)


def constant(number: int) -> Value:
    """A known number; the caller has checked that it fits 64 bits."""
    return Value(INT, literal(number), number, number)


def signless(v: Value) -> bool:
    """Whether the sign of ``v`` is not known: it may be negative, and may exceed s64."""
    return v.lo < 0 and v.hi > S64_MAX


def sign(c: Walker, v: Value, node: ast.AST) -> bool:
    """Whether ``v`` is to be read as signed. Refuses when that is not known."""
    if signless(v):
        raise c.error(
            node,
            "this may be negative and may exceed 63 bits: its sign is not known",
            "say which it is with u64(...) or s64(...)",
        )
    return v.lo < 0


def binary(c: Walker, op: ast.operator, a: Value, b: Value, node: ast.AST) -> Value:
    """``a op b`` of two integers."""
    if a.const is not None and b.const is not None:
        made = _fold(c, op, a.const, b.const, node)
        if made is not None:
            return made
    match op:
        case ast.Add():
            return _wrapped(c, "add", a, b, a.lo + b.lo, a.hi + b.hi)
        case ast.Sub():
            if a.const is None and b.const is None and max(a.hi, b.hi) > S64_MAX <= min(a.hi, b.hi):
                # Two times, two counts: what lies between them is s64, unless they are 2**63 apart. One of
                # them may be known to stay below 2**63, as bpf.ktime() does.
                return Value(INT, c.em.op(f"sub i64 {a.ir}, {b.ir}"), S64_MIN, S64_MAX)
            return _wrapped(c, "sub", a, b, a.lo - b.hi, a.hi - b.lo)
        case ast.Mult():
            ends = (a.lo * b.lo, a.lo * b.hi, a.hi * b.lo, a.hi * b.hi)
            return _wrapped(c, "mul", a, b, min(ends), max(ends))
        case ast.FloorDiv() | ast.Mod():
            return _divide(c, isinstance(op, ast.Mod), a, b, node)
        case ast.BitAnd():
            return Value(INT, c.em.op(f"and i64 {a.ir}, {b.ir}"), *_and_interval(a, b))
        case ast.BitOr() | ast.BitXor():
            word = "or" if isinstance(op, ast.BitOr) else "xor"
            return Value(INT, c.em.op(f"{word} i64 {a.ir}, {b.ir}"), *_or_interval(a, b, word == "or"))
        case ast.LShift() | ast.RShift():
            return _shift(c, isinstance(op, ast.LShift), a, b, node)
        case ast.Pow():
            if a.const == 2:
                return _shift(c, True, constant(1), b, node)
            if b.const is not None and 0 <= b.const <= _POWER:
                return _power(c, a, b.const, node)
            raise c.error(
                node,
                f"powers are computed for constants, for 2 ** n, and for x ** 0 to x ** {_POWER}",
                "multiply in a loop",
            )
        case ast.Div():
            raise c.error(node, "programs have no floating-point numbers", "// divides integers")
    raise c.error(node, "this operator does not work on integers", "+ - * // % & | ^ << >> do")


def _power(c: Walker, a: Value, times: int, node: ast.AST) -> Value:
    made = constant(1)
    for _ in range(times):
        made = binary(c, ast.Mult(), made, a, node)
    if (
        times
        and times % 2 == 0
        and made.lo < 0
        and made.hi <= S64_MAX
        and max(-a.lo, a.hi) ** times <= S64_MAX
    ):
        made = Value(INT, made.ir, max(0, made.lo), made.hi)
    return made


def _fold(c: Walker, op: ast.operator, a: int, b: int, node: ast.AST) -> Value | None:
    match op:
        case ast.Add():
            made = a + b
        case ast.Sub():
            made = a - b
        case ast.Mult():
            made = a * b
        case ast.FloorDiv() | ast.Mod():
            if b == 0:
                raise c.error(node, "division by zero", "test the divisor first")
            made = a // b if isinstance(op, ast.FloorDiv) else a % b
        case ast.BitAnd():
            made = a & b
        case ast.BitOr():
            made = a | b
        case ast.BitXor():
            made = a ^ b
        case ast.LShift() | ast.RShift():
            if not 0 <= b < 64:
                raise c.error(node, f"a shift by {b}: counts are 0 to 63", "mask it: (n & 63)")
            made = a << b if isinstance(op, ast.LShift) else a >> b
        case ast.Pow() if 0 <= b <= 64:
            made = a**b
        case _:
            return None
    if not S64_MIN <= made <= U64:
        if isinstance(op, (ast.LShift, ast.Mult, ast.Add, ast.Sub)):
            return constant(made & U64)  # wraps as the same operation on variables would
        raise c.error(node, f"the constant {made} needs more than 64 bits", "compute it in parts")
    return constant(made)


def _wrapped(c: Walker, word: str, a: Value, b: Value, lo: int, hi: int) -> Value:
    got = c.em.op(f"{word} i64 {a.ir}, {b.ir}")
    if lo >= 0 and hi <= S64_MAX and min(a.lo, b.lo) < 0 and c.unit.target == "bpf":
        # An index of what may be negative: LLVM would multiply before it adds, and kernels before 6.x forget
        # the bounds of what is negative when it is shifted.
        got = c.opaque(got)
    return Value(INT, got, *clamp(lo, hi, a, b))


def _and_interval(a: Value, b: Value) -> tuple[int, int]:
    if a.lo >= 0 and b.lo >= 0:
        return 0, min(a.hi, b.hi)
    if a.lo >= 0:
        return 0, a.hi
    if b.lo >= 0:
        return 0, b.hi
    if a.hi > S64_MAX or b.hi > S64_MAX:
        return S64_MIN, U64
    return -(1 << max((-1 - a.lo).bit_length(), (-1 - b.lo).bit_length())), max(a.hi, b.hi)


def _or_interval(a: Value, b: Value, is_or: bool) -> tuple[int, int]:
    if a.lo >= 0 and b.lo >= 0:
        return (max(a.lo, b.lo) if is_or else 0), (1 << max(a.hi.bit_length(), b.hi.bit_length())) - 1
    if a.hi > S64_MAX or b.hi > S64_MAX:
        return S64_MIN, U64
    bits = max(max(v.hi, -1 - v.lo).bit_length() for v in (a, b))
    return -(1 << bits), (1 << bits) - 1


def _shift(c: Walker, left: bool, a: Value, b: Value, node: ast.AST) -> Value:
    if b.lo < 0 or b.hi > 63:
        raise c.error(
            node,
            f"the shift count may be {b.lo if b.lo < 0 else b.hi}: counts are 0 to 63",
            "test it first, or mask it: (n & 63)",
        )
    if left:
        ends = (a.lo << b.lo, a.lo << b.hi, a.hi << b.lo, a.hi << b.hi)
        return Value(INT, c.em.op(f"shl i64 {a.ir}, {b.ir}"), *clamp(min(ends), max(ends), a))
    word = "ashr" if sign(c, a, node) else "lshr"
    shifted = (a.lo >> b.lo, a.lo >> b.hi, a.hi >> b.lo, a.hi >> b.hi)
    return Value(INT, c.em.op(f"{word} i64 {a.ir}, {b.ir}"), min(shifted), max(shifted))


def _divide(c: Walker, mod: bool, a: Value, b: Value, node: ast.AST) -> Value:
    """Floor division and modulo. By zero: 0, and the dividend, as BPF's own instructions have it."""
    if b.const == 0:
        raise c.error(node, "division by zero", "test the divisor first")
    signed = sign(c, a, node) | sign(c, b, node)
    if signed and max(a.hi, b.hi) > S64_MAX:
        raise c.error(
            node,
            "one side may be negative, the other may exceed 63 bits",
            "say what they are with u64(...) or s64(...)",
        )
    if not signed:
        return _divide_unsigned(c, mod, a, b)
    em = c.em
    if b.lo > 0:
        # Towards minus infinity, by unsigned division: ~(~a // b) where a is negative.
        side = em.op(f"ashr i64 {a.ir}, 63")
        quotient = em.op(f"udiv i64 {em.op(f'xor i64 {a.ir}, {side}')}, {b.ir}")
        floor = em.op(f"xor i64 {quotient}, {side}")
        if not mod:
            ends = (a.lo // b.lo, a.lo // b.hi, a.hi // b.lo, a.hi // b.hi)
            return Value(INT, floor, min(ends), max(ends))
        return Value(INT, em.op(f"sub i64 {a.ir}, {em.op(f'mul i64 {floor}, {b.ir}')}"), 0, b.hi - 1)
    # |a| / |b| by unsigned division (there is no signed one before -mcpu=v4), then towards minus infinity.
    size_a, size_b = _magnitude(c, a), _magnitude(c, b)
    zero = em.op(f"icmp eq i64 {size_b}, 0")
    safe = em.op(f"select i1 {zero}, i64 1, i64 {size_b}")
    quotient = em.op(f"udiv i64 {size_a}, {safe}")
    rest = em.op(f"sub i64 {size_a}, {em.op(f'mul i64 {quotient}, {safe}')}")
    differ = em.op(f"icmp slt i64 {em.op(f'xor i64 {a.ir}, {b.ir}')}, 0")
    uneven = em.op(f"icmp ne i64 {rest}, 0")
    more = em.op(f"zext i1 {em.op(f'and i1 {uneven}, {differ}')} to i64")
    up = em.op(f"add i64 {quotient}, {more}")
    floor = em.op(f"select i1 {differ}, i64 {em.op(f'sub i64 0, {up}')}, i64 {up}")
    floor = em.op(f"select i1 {zero}, i64 0, i64 {floor}")
    if not mod:
        most = max(abs(a.lo), abs(a.hi))
        return Value(INT, floor, *clamp(-most if signed else 0, most))
    got = em.op(f"sub i64 {a.ir}, {em.op(f'mul i64 {floor}, {b.ir}')}")
    limit = max(abs(b.lo), abs(b.hi), abs(a.lo) if b.lo <= 0 <= b.hi else 0, a.hi)
    return Value(INT, got, *clamp(-limit, limit))


def _magnitude(c: Walker, v: Value) -> str:
    if v.lo >= 0:
        return v.ir
    negative = c.em.op(f"icmp slt i64 {v.ir}, 0")
    return c.em.op(f"select i1 {negative}, i64 {c.em.op(f'sub i64 0, {v.ir}')}, i64 {v.ir}")


def _divide_unsigned(c: Walker, mod: bool, a: Value, b: Value) -> Value:
    em = c.em
    word = "urem" if mod else "udiv"
    if b.lo > 0:
        got = em.op(f"{word} i64 {a.ir}, {b.ir}")
        return Value(INT, got, 0, min(a.hi, b.hi - 1)) if mod else Value(INT, got, a.lo // b.hi, a.hi // b.lo)
    zero = em.op(f"icmp eq i64 {b.ir}, 0")
    safe = em.op(f"select i1 {zero}, i64 1, i64 {b.ir}")
    got = em.op(f"{word} i64 {a.ir}, {safe}")
    got = em.op(f"select i1 {zero}, i64 {a.ir if mod else 0}, i64 {got}")
    return Value(INT, got, 0, a.hi)


def negate(c: Walker, v: Value) -> Value:
    """``-v``."""
    if v.const is not None:
        return constant(-v.const) if -v.const >= S64_MIN else constant(-v.const & U64)
    return Value(INT, c.em.op(f"sub i64 0, {v.ir}"), *clamp(-v.hi, -v.lo, v))


def invert(c: Walker, v: Value) -> Value:
    """``~v``."""
    if v.const is not None:
        return constant(~v.const) if ~v.const >= S64_MIN else constant(~v.const & U64)
    return Value(INT, c.em.op(f"xor i64 {v.ir}, -1"), *clamp(~v.hi, ~v.lo, v))


_WORDS = {ast.Lt: "lt", ast.LtE: "le", ast.Gt: "gt", ast.GtE: "ge"}


def compare(c: Walker, op: ast.cmpop, a: Value, b: Value, node: ast.AST) -> Value:
    """``a op b`` of two integers, exact even where one is signed and the other needs 64 bits."""
    known = _known(op, a, b)
    if known is not None:
        return c.bool_const(known)
    em = c.em
    signed = sign(c, a, node) | sign(c, b, node)
    mixed = signed and max(a.hi, b.hi) > S64_MAX
    if isinstance(op, (ast.Eq, ast.NotEq)):
        word = "eq" if isinstance(op, ast.Eq) else "ne"
        got = em.op(f"icmp {word} i64 {a.ir}, {b.ir}")
        if mixed:  # equal bits of different numbers
            negative = em.op(f"icmp slt i64 {a.ir if a.lo < 0 else b.ir}, 0")
            if word == "eq":
                got = em.op(f"select i1 {negative}, i1 false, i1 {got}")
            else:
                got = em.op(f"select i1 {negative}, i1 true, i1 {got}")
        return c.boolean(got)
    word = _WORDS[type(op)]
    got = em.op(f"icmp {'s' if signed and not mixed else 'u'}{word} i64 {a.ir}, {b.ir}")
    if mixed:
        negative = em.op(f"icmp slt i64 {a.ir if a.lo < 0 else b.ir}, 0")
        less = (word in ("lt", "le")) == (a.lo < 0)
        got = em.op(f"select i1 {negative}, i1 {'true' if less else 'false'}, i1 {got}")
    return c.boolean(got)


def _known(op: ast.cmpop, a: Value, b: Value) -> bool | None:
    match op:
        case ast.Lt():
            return True if a.hi < b.lo else False if a.lo >= b.hi else None
        case ast.LtE():
            return True if a.hi <= b.lo else False if a.lo > b.hi else None
        case ast.Gt():
            return True if a.lo > b.hi else False if a.hi <= b.lo else None
        case ast.GtE():
            return True if a.lo >= b.hi else False if a.hi < b.lo else None
        case ast.Eq() | ast.NotEq():
            apart = a.hi < b.lo or b.hi < a.lo
            same = a.const is not None and a.const == b.const
            if apart or same:
                return same == isinstance(op, ast.Eq)
    return None


def narrowed(op: ast.cmpop, a: Value, b: Value, true: bool) -> tuple[int, int] | None:
    """The interval of ``a`` where ``a op b`` is ``true``; None when that cannot be."""
    lo, hi = a.lo, a.hi
    kind = type(op)
    if not true:
        kind = _OPPOSITE[kind]
    if kind is ast.Lt:
        hi = min(hi, b.hi - 1)
    elif kind is ast.LtE:
        hi = min(hi, b.hi)
    elif kind is ast.Gt:
        lo = max(lo, b.lo + 1)
    elif kind is ast.GtE:
        lo = max(lo, b.lo)
    elif kind is ast.Eq:
        lo, hi = max(lo, b.lo), min(hi, b.hi)
    elif b.const is not None:
        if b.const == lo:
            lo += 1
        if b.const == hi:
            hi -= 1
    return (lo, hi) if lo <= hi else None


_OPPOSITE: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.GtE,
    ast.GtE: ast.Lt,
    ast.Gt: ast.LtE,
    ast.LtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
}
MIRROR: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.Gt,
    ast.Gt: ast.Lt,
    ast.LtE: ast.GtE,
    ast.GtE: ast.LtE,
    ast.Eq: ast.Eq,
    ast.NotEq: ast.NotEq,
}
