"""Whole vectors for loops that a guard has decided beforehand.

The fast copy of a loop (see `skep.jit.loops`) that is one block is read back as lines of IR. Where each turn
does the same to neighbouring elements, a third copy does it to many of them at once. LLVM's own vectoriser
finds the same, and more, but it and the passes that it needs take three times as long as all the rest.

Two shapes. Where turns may be done twice (what is stored depends on nothing that the loop stores), the last
vector overlaps the one before it and there is no remainder. Elsewhere (sums, an array changed in its place)
the last turns are left to the fast copy, at least one, which then also makes what only the end needs. So are
those from the first on that leaves a loop with several ways out (see `skep.jit.search`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from skep.jit.body import Value
from skep.jit.loops import NEGATED, Access, Form

#: Bits of the widest values in a vector: where the last one overlaps (short loops want few), and where turns
#: remain (several sums at a time hide what one costs); and the most elements there.
_BITS: Final = 512
_BITS_OF_SUMS: Final = 1024
_MOST: Final = 32
#: More pairs of accesses that have to be compared at run time are not worth it.
_MOST_PAIRS: Final = 4

_CLOSED: Final = frozenset(("add", "sub", "and", "or", "xor", "mul"))
_SHIFTS: Final = frozenset(("shl", "lshr", "ashr"))
_CASTS: Final = frozenset(("zext", "sext", "trunc"))
#: operation that adds something to a sum -> the operation that adds sums
_SUMS: Final = {"add": "add", "sub": "add", "and": "and", "or": "or", "xor": "xor"}


class Unfit(Exception):
    """The loop is not for whole vectors; ``hopeless`` if LLVM cannot make any of it either."""

    def __init__(self, *, hopeless: bool = False) -> None:
        super().__init__()
        self.hopeless = hopeless


class Turn(NamedTuple):
    """One turn of the fast copy."""

    lines: list[str]
    #: register -> name of its phi
    phis: Mapping[int, str]
    #: registers before the first turn, and at the end of one
    before: list[Value]
    after: list[Value]
    #: register -> what each turn adds to it
    steps: Mapping[int, int]
    #: name of an address -> the access that the guard has vouched for
    places: Mapping[str, Access]
    #: values that somebody reads after the loop
    left: set[Value]
    #: the i1 names, and what they are where the loop is left, beside the end of the guarded turns
    exits: Sequence[tuple[str, bool]] = ()


class Line(NamedTuple):
    """An instruction: ``bits`` is the width of its operands, ``wide`` that of its result."""

    name: str
    op: str
    bits: int
    wide: int
    args: tuple[str, ...]
    predicate: str = ""  # of icmp


class Sum(NamedTuple):
    """A register that turns add to: the names on the way from its phi to its new value."""

    reg: int
    bits: int
    kind: str
    chain: frozenset[str]


class Question(NamedTuple):
    """A comparison of ``bits`` wide values that holds in a turn that leaves the loop."""

    predicate: str
    bits: int
    line: Line


class Place(NamedTuple):
    """The elements that an access goes through: where the first is, bytes each, and the region's length."""

    form: Form
    size: int
    length: Value


def _parsed(line: str) -> Line | None:
    """One line; None for addresses, which the guard's forms describe."""
    name, equals, rest = line.strip().partition(" = ")
    words = (rest if equals else name).replace(",", "").split()
    op = words[0]
    if not equals:
        if op != "store" or words[1] == "atomic":
            raise Unfit
        bits = int(words[1][1:])
        return Line("", "store", bits, bits, (words[2], words[4]))
    if op == "getelementptr":
        return None
    if op == "load" and words[1] != "atomic":
        return Line(name, op, int(words[1][1:]), int(words[1][1:]), (words[3],))
    if op in _CASTS:
        return Line(name, op, int(words[1][1:]), int(words[4][1:]), (words[2],))
    if op in _CLOSED or op in _SHIFTS:
        bits = int(words[-3][1:])
        return Line(name, op, bits, bits, (words[-2], words[-1]))
    if op == "call" and words[2].startswith("@llvm.bswap."):
        bits = int(words[1][1:])
        return Line(name, "bswap", bits, bits, (words[3][:-1],))
    if op == "icmp" and words[2].startswith("i"):
        return Line(name, op, int(words[2][1:]), 1, (words[3], words[4]), words[1])
    if op in ("icmp", "select"):
        return Line(name, op, 0, 0, tuple(word for word in words if word.startswith("%")))
    if op in ("udiv", "sdiv", "urem", "srem"):
        raise Unfit(hopeless=True)
    raise Unfit


class Vectors:
    """What is known of one loop that is fit for vectors; `skep.jit.lanes` emits it. Raises `Unfit`."""

    def __init__(self, turn: Turn) -> None:
        self.turn = turn
        lines = (_parsed(line) for line in turn.lines)
        self.lines = [line for line in lines if line is not None]
        self.by_name = {line.name: line for line in self.lines if line.name}
        self.constant = {name: turn.before[reg] for reg, name in turn.phis.items() if turn.after[reg] == name}
        self.moving = {name: reg for reg, name in turn.phis.items() if reg in turn.steps}
        #: phi -> what its turns add to it, and the names on the way -> the phi
        self.sums: dict[str, Sum] = {}
        self.links: dict[str, str] = {}
        #: name -> how many of its low bits anybody asks for
        self.need: dict[str, int] = {}
        self._find_sums()
        #: what tells the turns that leave the loop
        self.questions: list[Question] = []
        for name_, holds in turn.exits:
            self._question(name_, holds=holds)
        self._find_needs()
        for name, sum_ in self.sums.items():
            if name in self.need or any(member in self.need for member in sum_.chain):
                raise Unfit(hopeless=True)
        widest = max((self._width(line) for line in self.lines if self.wanted(line)), default=0)
        stores = [line for line in self.lines if line.op == "store"]
        if not widest or not (stores or self.sums or self.questions):
            raise Unfit(hopeless=not stores)
        if self.questions and (stores or not self._only_moves()):
            raise Unfit
        #: elements in a vector
        self.lanes = _BITS // max(widest, 8)
        #: whether the last vector may overlap, so that no turns remain
        self.whole = (
            not self.sums
            and not self.questions
            and turn.left.isdisjoint((*self.by_name, *turn.phis.values()))
        )
        #: accesses that must not meet within the elements of a vector
        self.pairs: list[tuple[Place, Place]] = []
        self._compare()
        if not self.whole and not self.questions:
            self.lanes = min(_BITS_OF_SUMS // max(widest, 8), _MOST)
            self._compare()

    def wanted(self, line: Line) -> bool:
        """Whether the line is one that the vectors need."""
        return line.op == "store" or line.name in self.need or line.name in self.links

    def _width(self, line: Line) -> int:
        return line.bits if line.op == "store" else self.need.get(line.name, line.bits)

    # --- what depends on what

    def _find_sums(self) -> None:
        """Tell sums, values that only the end needs, and true recurrences apart."""
        turn = self.turn
        used = {arg for line in self.lines for arg in line.args}
        for reg, phi in turn.phis.items():
            after = turn.after[reg]
            if phi in self.moving or phi in self.constant or phi not in used:
                continue
            if not isinstance(after, str) or after not in self.by_name:
                raise Unfit(hopeless=True)
            found = self._chain(reg, phi, after)
            self.sums[phi] = found
            for name in found.chain:
                self.links[name] = phi

    def _chain(self, reg: int, phi: str, after: str) -> Sum:
        """The links from ``phi`` to ``after`` if each adds something of this turn."""
        depends = {phi}
        for line in self.lines:
            if line.name and any(arg in depends for arg in line.args):
                depends.add(line.name)
        here, bits, kind, chain = after, 64, "", []
        last = self.by_name[after]
        if last.op == "zext" and last.bits == 32:
            here, bits = last.args[0], 32
        while here != phi:
            if here not in self.by_name or here not in depends:
                raise Unfit(hopeless=True)
            line = self.by_name[here]
            if line.op == "trunc" and bits == 32 and line.wide == 32 and line.args[0] == phi:
                break
            if line.op not in _SUMS or line.bits != bits:
                raise Unfit(hopeless=True)
            a, b = line.args
            kind = kind or _SUMS[line.op]
            if kind != _SUMS[line.op] or (b in depends and (a in depends or line.op == "sub")):
                raise Unfit(hopeless=True)
            chain.append(here)
            here = b if b in depends else a
        if not chain:
            raise Unfit(hopeless=True)
        return Sum(reg, bits, kind, frozenset(chain))

    def _find_needs(self) -> None:
        """How many low bits of each value are asked for, from the ends backwards."""
        for line in reversed(self.lines):
            if line.op == "store":
                self._ask(line.args[0], line.bits)
            elif line.name in self.links:
                phi = self.links[line.name]
                for arg in line.args:
                    # What another sum has come to is no value of this turn: asking for it is refused.
                    if arg != phi and self.links.get(arg) != phi and not self.is_half(arg, phi):
                        self._ask(arg, line.bits)
            elif line.name in self.need:
                self._ask_for(line)

    # --- which turns leave

    def _only_moves(self) -> bool:
        """Whether registers that turns hand on move steadily, or not at all; and something is loaded."""
        steady = all(phi in self.moving or phi in self.constant for phi in self.turn.phis.values())
        return steady and any(line.op == "load" and self.wanted(line) for line in self.lines)

    def _question(self, name: str, *, holds: bool) -> None:
        line = self.by_name.get(name)
        if line is not None and line.op == "xor" and line.args[1] == "true":
            line, holds = self.by_name.get(line.args[0]), not holds
        if line is None or line.op != "icmp" or not line.predicate:
            raise Unfit
        predicate = line.predicate if holds else NEGATED[line.predicate]
        bits = line.bits
        needed = max(self._known(arg, bits) for arg in line.args)
        if needed < bits:
            # Both are small and not negative: their low halves compare as they do, as numbers without sign.
            predicate = predicate.replace("s", "u")
            bits = max(8, 1 << (needed - 1).bit_length()) if needed > 1 else 8
        for arg in line.args:
            self._ask(arg, bits)
        self.questions.append(Question(predicate, bits, line))

    def _known(self, arg: str, bits: int) -> int:
        """How many low bits of a value of ``bits`` may be other than 0."""
        if not arg.startswith("%"):
            return int(arg).bit_length() if int(arg) >= 0 else bits
        line = self.by_name.get(arg)
        if line is None:
            return bits
        if line.op == "zext":
            return self._known(line.args[0], line.bits)
        if line.op == "trunc":
            return min(line.wide, self._known(line.args[0], line.bits))
        if line.op == "and":
            return min(self._known(other, line.bits) for other in line.args)
        if line.op == "lshr" and not line.args[1].startswith("%"):
            return max(0, self._known(line.args[0], line.bits) - int(line.args[1]))
        return line.wide

    def is_half(self, arg: str, phi: str) -> bool:
        """Whether it is the low half of the sum so far."""
        line = self.by_name.get(arg)
        return line is not None and line.op == "trunc" and line.args[0] == phi

    def _ask(self, arg: str, bits: int) -> None:
        if arg in self.turn.phis.values() and arg not in self.moving and arg not in self.constant:
            raise Unfit(hopeless=True)
        self.need[arg] = max(self.need.get(arg, 0), bits)

    def _ask_for(self, line: Line) -> None:
        need = self.need[line.name]
        if line.op in _CLOSED:
            if line.op == "mul" and need > 32:
                raise Unfit
            for arg in line.args:
                self._ask(arg, need)
        elif line.op in _SHIFTS:
            value, count = line.args
            if not (line.op == "shl" and not count.startswith("%") and int(count) < need):
                need = self.need[line.name] = line.bits
            self._ask(value, need)
            self._ask(count, need)
        elif line.op in ("zext", "sext"):
            self._ask(line.args[0], min(need, line.bits))
        elif line.op == "trunc":
            self._ask(line.args[0], need)
        elif line.op == "load":
            self.need[line.name] = line.bits
        elif line.op == "bswap":
            self.need[line.name] = line.bits
            self._ask(line.args[0], line.bits)
        else:
            raise Unfit

    # --- memory

    def _place(self, line: Line) -> Place:
        """Where a load or store goes: to neighbouring elements, turn by turn."""
        access = self.turn.places.get(line.args[-1])
        if access is None or access.form is None:
            raise Unfit
        form = access.form
        step = sum(factor * self.turn.steps[term] for term, factor in form.terms if isinstance(term, int))
        if step != access.size:
            raise Unfit
        return Place(form._replace(words=frozenset()), access.size, access.length)

    def _compare(self) -> None:
        """Which accesses must be told apart at run time, and whether turns may be done twice."""
        self.pairs = []
        #: of each load and store that the vectors need
        self.places = {
            line: self._place(line)
            for line in self.lines
            if line.op in ("load", "store") and self.wanted(line)
        }
        places = [(line.op == "store", place) for line, place in self.places.items()]
        for index, (stores, one) in enumerate(places):
            for other_stores, other in places[index + 1 :]:
                if not (stores or other_stores) or one.length != other.length:
                    continue  # two loads, or ctx and the private frame
                if one.form.terms != other.form.terms:
                    if (one, other) not in self.pairs:
                        self.pairs.append((one, other))
                    continue
                apart = abs(one.form.const - other.form.const)
                if one.size == other.size and apart == 0:
                    self.whole = False
                elif one.size != other.size or apart < self.lanes * one.size:
                    raise Unfit
        if len(self.pairs) > _MOST_PAIRS:
            raise Unfit
