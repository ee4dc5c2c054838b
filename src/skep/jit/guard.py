"""The guard before a loop as LLVM IR: for how many turns nothing can go wrong. See `skep.jit.loops`."""

from __future__ import annotations

from typing import Final

from skep.jit.body import Body, Value, signed
from skep.jit.loops import Bound, Coefficients, Plan, Test

#: More turns than any address range or budget here allows.
_UNBOUNDED: Final = 1 << 46


def turns(
    body: Body, plan: Plan, before: list[Value], budget: Value | None, cost: int, *, last: bool
) -> Value:
    """Emit the number of turns for which all bounds hold, the budget lasts and the test asks for another.

    With ``last``, also the turn after which it does not.

    ``before`` are the registers when the loop is entered, ``cost`` that of a turn.
    """
    total: Value = _UNBOUNDED
    if budget is not None and cost:
        # A power of two at least as large as the cost: a division would cost more than it brings.
        total = body.op(f"lshr i64 {budget}, {(cost - 1).bit_length()}")
    for bound in plan.limits:
        total = _least(body, total, _inside(body, bound, before))
    if plan.test is not None:
        total = _least(body, total, body.add(_lasting(body, plan.test, before), int(last)))
    return total


def asks(body: Body, test: Test, before: list[Value], turn: Value) -> str:
    """Emit the condition for another turn as it is at the end of turn ``turn`` (from 0)."""
    value = start(body, test.moving.terms, test.moving.const, before)
    limit = start(body, test.limit.terms, test.limit.const, before)
    return body.op(f"icmp {test.predicate} i64 {body.plus(value, body.times(turn, test.step))}, {limit}")


def _least(body: Body, a: Value, b: Value) -> Value:
    return body.op(f"call i64 @llvm.umin.i64(i64 {a}, i64 {b})")


def start(body: Body, terms: Coefficients, const: int, before: list[Value]) -> Value:
    """The sum of the terms and the constant when the loop is entered."""
    value: Value = 0
    for term, factor in sorted(terms, key=str):
        value = body.plus(value, body.times(before[term] if isinstance(term, int) else term, factor))
    return body.add(value, const)


def _divided(body: Body, value: Value, by: int) -> Value:
    if isinstance(value, int):
        return signed((value & (1 << 64) - 1) // by)
    if by & (by - 1):
        return body.op(f"udiv i64 {value}, {by}")
    return body.op(f"lshr i64 {value}, {by.bit_length() - 1}") if by > 1 else value


def _inside(body: Body, bound: Bound, before: list[Value]) -> Value:
    """Turns during which a moving range stays inside its region."""
    low = start(body, bound.terms, bound.low, before)
    last = body.add(low, bound.end - 1 - bound.low)
    # Where both are known and the last byte is inside, so is the first.
    needs_low = low != last and not (isinstance(low, int) and isinstance(last, int) and 0 <= low < last)
    if bound.step > 0:
        # Rounded up, and 0 where the last byte is outside already.
        room = bound.length
        if last != 0:
            room = body.op(f"call i64 @llvm.usub.sat.i64(i64 {room}, i64 {last})")
        most = _divided(body, body.add(room, bound.step - 1), bound.step)
        if not needs_low:
            return most
        ok = body.op(f"icmp ult i64 {low}, {bound.length}")
    else:
        most = body.add(_divided(body, low, -bound.step), 1) if bound.step else _UNBOUNDED
        ok = body.op(f"icmp ult i64 {last}, {bound.length}")
        if needs_low:
            ok_low = body.op(f"icmp ult i64 {low}, {bound.length}")
            ok = body.op(f"and i1 {ok_low}, {ok}")
    return body.op(f"select i1 {ok}, i64 {most}, i64 0")


def _lasting(body: Body, test: Test, before: list[Value]) -> Value:
    """Turns at whose end the condition for another one is sure to hold."""
    value = start(body, test.moving.terms, test.moving.const, before)
    limit = start(body, test.limit.terms, test.limit.const, before)
    first, second = (value, limit) if test.step < 0 else (limit, value)
    size = abs(test.step)
    if size == 1 and test.predicate in ("ult", "ugt"):
        return body.op(f"call i64 @llvm.usub.sat.i64(i64 {first}, i64 {second})")
    gap = body.less(first, second)
    if test.predicate == "ne":
        return _divided(body, gap, size)
    holds = body.op(f"icmp {test.predicate} i64 {value}, {limit}")
    if not test.predicate.endswith("e"):
        gap = body.add(gap, -1)
    count = body.add(_divided(body, gap, size), 1)
    return body.op(f"select i1 {holds}, i64 {count}, i64 0")
