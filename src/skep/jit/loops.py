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
from skep.jit.body import Value

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
        if isinstance(result, int) or result in (a, b):
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

    def rename(self, alias: dict[Term, Term]) -> None:
        """Put one register for another in every form."""

        def renamed(form: Form | None) -> Form | None:
            if form is None:
                return None
            words = frozenset(_renamed(terms, const) for terms, const in form.words)
            return Form(*_renamed(form.terms, form.const), words)

        def _renamed(terms: Coefficients, const: int) -> tuple[Coefficients, int]:
            made: dict[Term, int] = {}
            for term, factor in terms:
                made[alias.get(term, term)] = made.get(alias.get(term, term), 0) + factor
            return frozenset((term, factor) for term, factor in made.items() if factor), const

        self.forms = {name: renamed(form) for name, form in self.forms.items()}
        self.accesses = {
            pc: access._replace(form=renamed(access.form)) for pc, access in self.accesses.items()
        }

    def same(self, value: Value, result: Value) -> None:
        """``result`` is the low half of ``value``, zero-extended."""
        if isinstance(result, str) and result != value:
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


class Test(NamedTuple):
    """The condition for another turn, at the end of each: ``moving predicate limit``."""

    predicate: str
    moving: Form
    step: int
    limit: Form


class Plan(NamedTuple):
    """What a guard can do for a loop."""

    #: slots of the accesses it can vouch for; without any it is not worth it
    slots: frozenset[int]
    #: what it has to check
    limits: list[Bound]
    #: registers that each of the guarded turns changes by a constant
    steps: dict[int, int]
    #: the condition for another turn, if it can be decided beforehand
    test: Test | None


#: predicate -> what holds of (a, b) where it does not
NEGATED: Final = {
    "eq": "ne",
    "ne": "eq",
    "ult": "uge",
    "uge": "ult",
    "ugt": "ule",
    "ule": "ugt",
    "slt": "sge",
    "sge": "slt",
    "sgt": "sle",
    "sle": "sgt",
}
#: predicate -> what holds of (b, a) where it holds of (a, b)
_SWAPPED: Final = {
    "eq": "eq",
    "ne": "ne",
    "ult": "ugt",
    "ugt": "ult",
    "ule": "uge",
    "uge": "ule",
    "slt": "sgt",
    "sgt": "slt",
    "sle": "sge",
    "sge": "sle",
}
_UPWARD: Final = frozenset(("ult", "ule", "slt", "sle"))
_DOWNWARD: Final = frozenset(("ugt", "uge", "sgt", "sge"))

Comparison = tuple[str, int, Value, Value]  # predicate, width in bits, operands as i64


def _moves(form: Form) -> bool:
    return any(isinstance(term, int) for term, _ in form.terms)


def _test(tracker: Tracker, steps: dict[int, int], compared: Comparison) -> Test | None:
    """The loop's condition, if it compares a steadily moving value with a fixed one."""
    predicate, bits, a, b = compared
    if predicate not in NEGATED or (bits == 32 and predicate.startswith("s")):
        return None
    left, right = tracker.form(a), tracker.form(b)
    if bits == 32:
        left = as_word(left) if isinstance(a, str) else _form({}, a & 0xFFFFFFFF, frozenset())
        right = as_word(right) if isinstance(b, str) else _form({}, b & 0xFFFFFFFF, frozenset())
    if left is None or right is None:
        return None
    if _moves(right):
        left, right, predicate = right, left, _SWAPPED[predicate]
    if _moves(right):
        return None
    step = 0
    for term, factor in left.terms:
        if isinstance(term, int):
            if term not in steps:
                return None
            step += factor * steps[term]
    if (
        (predicate in _UPWARD and step > 0)
        or (predicate in _DOWNWARD and step < 0)
        or (predicate == "ne" and step)
    ):
        return Test(predicate, left, step, right)
    return None


def _conditions(*forms: Form) -> list[Access]:
    """What must hold for the forms to mean their values."""
    return [Access(Form(terms, const), 1, _WORD) for form in forms for terms, const in form.words]


def plan(tracker: Tracker, changed: dict[int, tuple[Value, Value]], compared: Comparison | None) -> Plan:
    """What a guard can do for a loop.

    ``changed`` are the registers that the loop changes: before it, and at the end of a turn; ``compared``
    is the condition for another turn, if there is one.
    """
    # Registers that start alike and go on alike are one.
    first: dict[tuple[Value, Value], int] = {}
    alias: dict[Term, Term] = {reg: first.setdefault(values, reg) for reg, values in changed.items()}
    if len(first) < len(alias):
        tracker.rename(alias)
    after = {reg: values[1] for reg, values in changed.items() if alias[reg] == reg}
    steps: dict[int, int] = {}
    conditions: dict[int, list[Access]] = {}
    for reg, value in after.items():
        form = tracker.form(value)
        if form is not None and form.terms == frozenset(((reg, 1),)):
            steps[reg] = form.const
            conditions[reg] = _conditions(form)
    while unsteady := [reg for reg in steps if bounds(conditions[reg], steps) is None]:
        for reg in unsteady:
            del steps[reg]
    hoisted = {pc: access for pc, access in tracker.accesses.items() if bounds([access], steps) is not None}
    if not hoisted:
        return Plan(frozenset(), [], {}, None)
    needs = list(hoisted.values())
    test = _test(tracker, steps, compared) if compared is not None else None
    forms = [access.form for access in needs if access.form is not None]
    if test is not None:
        extra = _conditions(test.moving, test.limit)
        if bounds(extra, steps) is None:
            test = None
        else:
            needs += extra
            forms += [test.moving, test.limit]
    used = {term for form in forms for term, _ in form.terms}
    used |= {term for form in forms for terms, _ in form.words for term, _ in terms}
    # A condition on one register's steps may name another register.
    for reg in steps:
        if reg in used:
            used |= {term for access in conditions[reg] if access.form for term, _ in access.form.terms}
    for reg in steps:
        if reg in used:
            needs += conditions[reg]
    sure = {reg: step for reg, step in steps.items() if reg in used or not conditions[reg]}
    for reg in changed:
        same = first[changed[reg]]
        if same in sure:
            sure[reg] = sure[same]
    return Plan(frozenset(hoisted), bounds(needs, steps) or [], sure, test)
