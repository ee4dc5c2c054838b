"""Loops whose bounds checks can be decided before they start.

A loop is emitted twice. The careful copy checks every access and pays for every turn. Before it stands a
guard that computes, from values known by then, a number of turns K during which every access at a steadily
moving address stays in bounds and the budget lasts; the fast copy runs at most K turns without those
checks, then goes on in the careful one. So a program is stopped at the same instruction as ever, and LLVM
sees a plain loop that it can vectorise.

Addresses are followed as linear forms: a sum of multiples of values known before the loop and of
registers that each turn changes by a constant, plus a constant.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from skep.isa import opcodes as op
from skep.jit.body import Body, Value, signed

#: A term: the name of a value from before the loop, or the number of a register at the start of a turn.
Term = str | int
Coefficients = frozenset[tuple[Term, int]]

#: Forms with more terms, or larger numbers, are not worth following.
_MAX_TERMS: Final = 4
_MAX_NUMBER: Final = 1 << 40
_WORD: Final = 1 << 32
#: More turns than any address range or budget here allows.
_UNBOUNDED: Final = 1 << 46


class Form(NamedTuple):
    """A linear form. It means the value only while every form of ``words`` is in [0, 2**32)."""

    terms: Coefficients
    const: int
    words: frozenset[tuple[Coefficients, int]] = frozenset()


class Access(NamedTuple):
    """One access: ``size`` bytes at ``form`` must lie in a region of ``length`` (a value) bytes."""

    form: Form | None
    size: int
    length: Value


def _combine(a: Form, b: Form, sign: int) -> Form | None:
    terms = dict(a.terms)
    for term, factor in b.terms:
        terms[term] = terms.get(term, 0) + sign * factor
    return _form(terms, a.const + sign * b.const, a.words | b.words)


def _form(terms: dict[Term, int], const: int, words: frozenset[tuple[Coefficients, int]]) -> Form | None:
    kept = frozenset((term, factor) for term, factor in terms.items() if factor)
    if len(kept) > _MAX_TERMS or len(words) > _MAX_TERMS or not -_MAX_NUMBER < const < _MAX_NUMBER:
        return None
    if any(not -_MAX_NUMBER < factor < _MAX_NUMBER for _, factor in kept):
        return None
    return Form(kept, const, words)


class Tracker:
    """Follows the values of one loop while its careful copy is emitted."""

    def __init__(self, registers: dict[str, int], known: Callable[[str], bool]) -> None:
        #: name of a value -> its form, or None where it has none
        self.forms: dict[str, Form | None] = {
            name: Form(frozenset(((reg, 1),)), 0) for name, reg in registers.items()
        }
        self._known = known
        self._upper: dict[str, Form | None] = {}
        #: slot of an access -> what it needs
        self.accesses: dict[int, Access] = {}

    def form(self, value: Value) -> Form | None:
        """The form of a value, if it has one."""
        if isinstance(value, int):
            return _form({}, value, frozenset())
        if value in self.forms:
            return self.forms[value]
        return Form(frozenset(((value, 1),)), 0) if self._known(value) else None

    def note(self, operation: int, bits: int, a: Value, b: Value, result: Value) -> None:
        """``result`` is ``a op b`` on i64 values; with 32 bits, their low halves, zero-extended."""
        if isinstance(result, int):
            return
        if bits == 64 and isinstance(b, int) and b == 32:
            if operation == op.BPF_LSH:
                self._upper[result] = self.form(a)
                self.forms[result] = None
                return
            if operation == op.BPF_RSH and isinstance(a, str) and a in self._upper:
                self.forms[result] = as_word(self._upper[a])
                return
        left, right = self.form(a), self.form(b)
        self.forms[result] = None
        if left is None or right is None:
            return
        made: Form | None = None
        if operation == op.BPF_ADD:
            made = _combine(left, right, 1)
        elif operation == op.BPF_SUB:
            made = _combine(left, right, -1)
        elif operation in (op.BPF_LSH, op.BPF_MUL) and not right.terms:
            factor = 1 << (right.const & (bits - 1)) if operation == op.BPF_LSH else right.const
            made = _form(
                {term: number * factor for term, number in left.terms}, left.const * factor, left.words
            )
        if bits == 32 and made is not None:
            # Both halves must be the whole values, and so must the result.
            made = as_word(made._replace(words=made.words | _word(left) | _word(right)))
        self.forms[result] = made

    def same(self, value: Value, result: Value) -> None:
        """``result`` is the low half of ``value``, zero-extended."""
        if isinstance(result, str):
            self.forms[result] = as_word(self.form(value))


def _word(form: Form) -> frozenset[tuple[Coefficients, int]]:
    return frozenset(((form.terms, form.const),)) if form.terms else frozenset()


def as_word(form: Form | None) -> Form | None:
    """The same form, on the condition that it fits in 32 bits."""
    if form is None:
        return None
    words = form.words | _word(form)
    return form._replace(words=words) if len(words) <= _MAX_TERMS else None


class Bound(NamedTuple):
    """In turn k the bytes [low + step*k, end + step*k) beside the terms must lie in [0, length)."""

    terms: Coefficients
    step: int
    low: int
    end: int
    length: Value


def bounds(accesses: Iterable[Access], steps: dict[int, int]) -> list[Bound] | None:
    """What the accesses need, merged; None if one of them does not move steadily."""
    merged: dict[tuple[Coefficients, int, Value], tuple[int, int]] = {}
    for form, size, length in accesses:
        if form is None:
            return None
        needs = [(form.terms, form.const, size, length)]
        needs += [(terms, const, 1, _WORD) for terms, const in form.words]
        for terms, const, width, room in needs:
            step = 0
            for term, factor in terms:
                if isinstance(term, int):
                    if term not in steps:
                        return None
                    step += factor * steps[term]
            if not -_MAX_NUMBER < step < _MAX_NUMBER:
                return None
            key = (terms, step, room)
            low, end = merged.get(key, (const, const + width))
            merged[key] = (min(low, const), max(end, const + width))
    return [Bound(terms, step, low, end, room) for (terms, step, room), (low, end) in merged.items()]


class Hoisted(NamedTuple):
    """Accesses (by slot) that a guard can vouch for; what it has to test; registers that each of the guarded
    turns changes by a constant."""

    slots: frozenset[int]
    limits: list[Bound]
    steps: dict[int, int]


def plan(tracker: Tracker, after: dict[int, Value]) -> Hoisted:
    """What a guard can do for a loop. ``after`` are the registers that it changes, at the end of a turn."""
    steps: dict[int, int] = {}
    conditions: dict[int, list[Access]] = {}
    for reg, value in after.items():
        form = tracker.form(value)
        if form is not None and form.terms == frozenset(((reg, 1),)):
            steps[reg] = form.const
            conditions[reg] = [Access(Form(terms, const), 1, _WORD) for terms, const in form.words]
    while True:
        unsteady = [reg for reg in steps if bounds(conditions[reg], steps) is None]
        if not unsteady:
            break
        for reg in unsteady:
            del steps[reg]
    hoisted = {pc: access for pc, access in tracker.accesses.items() if bounds([access], steps) is not None}
    if not hoisted:
        return Hoisted(frozenset(), [], {})
    needs = list(hoisted.values())
    used = {term for access in needs if access.form for term, _ in access.form.terms}
    used |= {term for access in needs if access.form for terms, _ in access.form.words for term, _ in terms}
    for reg in steps:
        if reg in used:
            needs += conditions[reg]
    sure = {reg: step for reg, step in steps.items() if reg in used or not conditions[reg]}
    return Hoisted(frozenset(hoisted), bounds(needs, steps) or [], sure)


def turns(body: Body, limits: Iterable[Bound], before: list[Value], budget: Value | None, cost: int) -> str:
    """Emit the number of turns for which all bounds hold and the budget lasts.

    ``before`` are the registers when the loop is entered.
    """
    total = f"{_UNBOUNDED}"
    if budget is not None and cost:
        # A power of two at least as large as the cost: a division would cost more than it brings.
        total = body.op(f"lshr i64 {budget}, {(cost - 1).bit_length()}")
    for bound in limits:
        start: Value = 0
        for term, factor in sorted(bound.terms, key=str):
            value: Value = before[term] if isinstance(term, int) else term
            if factor != 1:
                if isinstance(value, int):
                    value = signed(value * factor)
                else:
                    value = body.op(f"mul i64 {value}, {factor}")
            if isinstance(start, int) and isinstance(value, int):
                start = signed(start + value)
            else:
                start = value if start == 0 else body.op(f"add i64 {start}, {value}")
        low, last = body.add(start, bound.low), body.add(start, bound.end - 1)
        ok = body.op(f"icmp ult i64 {low}, {bound.length}")
        ok_last = body.op(f"icmp ult i64 {last}, {bound.length}")
        ok = body.op(f"and i1 {ok}, {ok_last}")
        if bound.step == 0:
            most: Value = _UNBOUNDED
        else:
            room: Value = low
            if bound.step > 0:
                room = body.op(f"sub i64 {bound.length}, {last}")
                room = body.op(f"sub i64 {room}, 1")
            size = abs(bound.step)
            if size & (size - 1):
                room = body.op(f"udiv i64 {room}, {size}")
            elif size > 1:
                room = body.op(f"lshr i64 {room}, {size.bit_length() - 1}")
            most = body.op(f"add i64 {room}, 1")
        chosen = body.op(f"select i1 {ok}, i64 {most}, i64 0")
        total = body.op(f"call i64 @llvm.umin.i64(i64 {total}, i64 {chosen})")
    return total
