"""What A, X and M[] hold at each instruction of classic code, on every path: the facts behind `explain`.

Values are expressions over the packet. A packet does not change, so a test that has been passed stays true:
each state carries, for the values tested so far, the constants they may still be and those they are not.
States from different paths are kept apart as long as they are few, and two that differ in one value's
constants become one without loss.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from skep.isa import classic as c
from skep.isa.classic import ClassicInsn

_U32: Final = 0xFFFFFFFF
#: Paths kept apart at one instruction, of long and of short programs: the work grows with the square.
_MOST_STATES: Final = 12
_MOST_STATES_SHORT: Final = 40
_SHORT: Final = 200  # instructions
#: Constants remembered for one value; beyond, less is known.
_MOST_CONSTANTS: Final = 40
#: Operations within a value; what is deeper is not known.
_DEEPEST: Final = 14


class Const(NamedTuple):
    number: int


class Load(NamedTuple):
    """``size`` bytes of the packet at ``offset``, plus the value ``base`` where there is one."""

    offset: int
    size: int
    base: Value | None = None


class Header(NamedTuple):
    """4 * (byte at ``offset`` & 15): LDX MSH, made for the length of an IPv4 header."""

    offset: int


class Length(NamedTuple):
    """The packet's length on the wire."""

    tag: str = "length"


class Ancillary(NamedTuple):
    """A property of the packet that Linux knows: SKF_AD_OFF + ``number``."""

    number: int


class Op(NamedTuple):
    """``left`` ``operation`` ``right``, unsigned 32 bits; the operation is BPF_ADD, …"""

    operation: int
    left: Value
    right: Value


Value = Const | Load | Header | Length | Ancillary | Op


class Known(NamedTuple):
    """The constants a value may be (None: any), and those it is not."""

    among: frozenset[int] | None
    without: frozenset[int]


class State:
    """One way to arrive at an instruction. A None value is not known."""

    __slots__ = ("a", "facts", "memory", "x")

    def __init__(
        self,
        a: Value | None = None,
        x: Value | None = None,
        memory: Mapping[int, Value | None] | None = None,
        facts: Mapping[Value, Known] | None = None,
    ) -> None:
        self.a = a
        self.x = x
        self.memory: Mapping[int, Value | None] = memory or {}
        self.facts: Mapping[Value, Known] = facts or {}

    def among(self, value: Value) -> frozenset[int] | None:
        """The constants ``value`` may be, if they are known."""
        if isinstance(value, Const):
            return frozenset((value.number,))
        known = self.facts.get(value)
        return known.among if known else None

    def same_values(self, other: State) -> bool:
        return self.a == other.a and self.x == other.x and self.memory == other.memory

    def knowing(self, value: Value, known: Known) -> State:
        return State(self.a, self.x, self.memory, {**self.facts, value: known})


def states(insns: Sequence[ClassicInsn]) -> list[list[State]]:
    """For each instruction, the states it can be reached in; empty where it cannot be reached."""
    arriving: list[list[State]] = [[] for _ in insns]
    loops = _loop_heads(insns)
    most = _MOST_STATES if len(insns) > _SHORT else _MOST_STATES_SHORT
    if insns:
        arriving[0] = [State(Const(0), Const(0))]
    for pc, insn in enumerate(insns):
        here = _merge(arriving[pc], most)
        if pc in loops:  # facts hold in every turn; what the registers hold does not
            here = _merge([State(facts=state.facts) for state in here], most)
        arriving[pc] = here
        for state in here:
            for target, after in step(insn, pc, state):
                if pc < target < len(insns):
                    arriving[target].append(after)
    return arriving


def _loop_heads(insns: Sequence[ClassicInsn]) -> set[int]:
    """Targets of jumps back, which only JA can be (libpcap's protochain)."""
    jumps = ((pc, jump(insn, pc)) for pc, insn in enumerate(insns) if insn.code == c.BPF_JMP | c.BPF_JA)
    return {target for pc, target in jumps if target <= pc}


def jump(insn: ClassicInsn, pc: int) -> int:
    """Where the JA at ``pc`` goes."""
    return pc + 1 + (insn.k - (1 << 32) if insn.k & 0x80000000 else insn.k)


def step(insn: ClassicInsn, pc: int, state: State) -> list[tuple[int, State]]:
    """(next instruction, state) of every way on from ``pc``; none after a return."""
    cls = insn.code & 7
    if cls == c.BPF_RET:
        return []
    if cls == c.BPF_JMP:
        if insn.code & 0xF0 == c.BPF_JA:
            return [(jump(insn, pc), state)]
        ways = []
        for offset, outcome in ((insn.jt, True), (insn.jf, False)):
            after = _branch(insn, state, outcome)
            if after is not None:
                ways.append((pc + 1 + offset, after))
        return ways
    if cls in (c.BPF_ST, c.BPF_STX):
        stored = state.a if cls == c.BPF_ST else state.x
        return [(pc + 1, State(state.a, state.x, {**state.memory, insn.k: stored}, state.facts))]
    value = result(insn, state)
    if cls == c.BPF_LDX or insn.code == c.BPF_MISC | c.BPF_TAX:
        return [(pc + 1, State(state.a, value, state.memory, state.facts))]
    return [(pc + 1, State(value, state.x, state.memory, state.facts))]


def result(insn: ClassicInsn, state: State) -> Value | None:
    """What a load, arithmetic or register move leaves in its register."""
    code, k = insn.code, insn.k
    cls, mode = code & 7, code & 0xE0
    if cls == c.BPF_ALU:
        return arithmetic(insn, state)
    if cls == c.BPF_MISC:
        return state.a if code == c.BPF_MISC | c.BPF_TAX else state.x
    size = {c.BPF_W: 4, c.BPF_H: 2, c.BPF_B: 1}.get(code & 0x18)
    if mode == c.BPF_IMM:
        return Const(k)
    if mode == c.BPF_MEM:
        return state.memory.get(k)
    if mode == c.BPF_LEN:
        return Length()
    if mode == c.BPF_MSH:
        return Header(k)
    if size is None:
        return None
    if mode == c.BPF_ABS:
        ancillary = k - (c.SKF_AD_OFF & _U32)
        if 0 <= ancillary < c.SKF_AD_MAX:
            # Some read A or X as well, one is new each time.
            changing = (c.SKF_AD_NLATTR, c.SKF_AD_NLATTR_NEST, c.SKF_AD_ALU_XOR_X, c.SKF_AD_RANDOM)
            return None if ancillary in changing else Ancillary(ancillary)
        return Load(k, size) if k < 0x80000000 else None
    if mode == c.BPF_IND and state.x is not None:
        if isinstance(state.x, Const):
            at = state.x.number + k
            return Load(at, size) if at < 0x80000000 else None
        return Load(k, size, state.x) if _depth(state.x) < _DEEPEST else None
    return None


def arithmetic(insn: ClassicInsn, state: State) -> Value | None:
    """A after an ALU instruction; constants folded, `+ 0` and masks over masks simplified."""
    operation = insn.code & 0xF0
    left = state.a
    if left is None:
        return None
    if operation == c.BPF_NEG:
        return Op(c.BPF_SUB, Const(0), left) if _depth(left) < _DEEPEST else None
    right = state.x if insn.code & c.BPF_X else Const(insn.k)
    if right is None or max(_depth(left), _depth(right)) >= _DEEPEST:
        return None
    if isinstance(left, Const) and isinstance(right, Const):
        folded = _fold(operation, left.number, right.number)
        return None if folded is None else Const(folded)
    if right == Const(0) and operation in (c.BPF_ADD, c.BPF_SUB, c.BPF_OR, c.BPF_LSH, c.BPF_RSH, c.BPF_XOR):
        return left
    return Op(operation, left, right)


def _depth(value: Value | None) -> int:
    if isinstance(value, Op):
        return 1 + max(_depth(value.left), _depth(value.right))
    return 1 + _depth(value.base) if isinstance(value, Load) and value.base is not None else 0


def _fold(operation: int, left: int, right: int) -> int | None:
    if operation in (c.BPF_DIV, c.BPF_MOD) and not right:
        return None
    if operation in (c.BPF_LSH, c.BPF_RSH) and right > 31:
        return None  # libpcap and Linux differ
    answers = {
        c.BPF_ADD: left + right,
        c.BPF_SUB: left - right,
        c.BPF_MUL: left * right,
        c.BPF_DIV: left // max(right, 1),
        c.BPF_MOD: left % max(right, 1),
        c.BPF_OR: left | right,
        c.BPF_AND: left & right,
        c.BPF_XOR: left ^ right,
        c.BPF_LSH: left << (right & 31),
        c.BPF_RSH: left >> (right & 31),
    }
    found = answers.get(operation)
    return None if found is None else found & _U32


class Question(NamedTuple):
    """A jump as a question about a value: is it, masked by what `value` says, one of `constants`?"""

    value: Value
    constant: int
    inverted: bool  # the jump's "true" means: is not


def question(insn: ClassicInsn, state: State) -> Question | None:
    """The jump as a test for one constant; None for orderings and what is not known."""
    operation = insn.code & 0xF0
    right = state.x if insn.code & c.BPF_X else Const(insn.k)
    if state.a is None or not isinstance(right, Const):
        return None
    if operation == c.BPF_JEQ:
        return Question(state.a, right.number, False)
    if operation == c.BPF_JSET:
        masked = Op(c.BPF_AND, state.a, right)
        if right.number & (right.number - 1) == 0 and right.number:
            return Question(masked, right.number, False)  # one bit: set means the mask itself
        return Question(masked, 0, True)
    if operation in (c.BPF_JGT, c.BPF_JGE):
        return Question(Op(operation | 0x100, state.a, right), 1, False)
    return None


def _branch(insn: ClassicInsn, state: State, outcome: bool) -> State | None:
    """The state after the jump went one way; None if it cannot."""
    asked = question(insn, state)
    if asked is None:
        return state
    is_it = outcome != asked.inverted
    if isinstance(asked.value, Const):
        return state if (asked.value.number == asked.constant) == is_it else None
    if isinstance(asked.value, Op) and isinstance(asked.value.left, Const):
        return state
    known = state.facts.get(asked.value, Known(None, frozenset()))
    one = frozenset((asked.constant,))
    if is_it:
        if (known.among is not None and asked.constant not in known.among) or asked.constant in known.without:
            return None
        return state.knowing(asked.value, Known(one, frozenset()))
    if known.among is not None:
        rest = known.among - one
        return state.knowing(asked.value, Known(rest, frozenset())) if rest else None
    if len(known.without) >= _MOST_CONSTANTS:
        return state
    return state.knowing(asked.value, Known(None, known.without | one))


def _merge(found: list[State], most: int) -> list[State]:
    """Fewer states that say the same, or, past the limit ``most``, one that says less."""
    kept: list[State] = []
    for state in found:
        for place, other in enumerate(kept):
            joined = _exactly(other, state)
            if joined is not None:
                kept[place] = joined
                break
        else:
            kept.append(state)
        if len(kept) > most:
            kept = [_loosely(kept)]
    return kept


def _exactly(one: State, two: State) -> State | None:
    """A state that means "either", where one can say so."""
    if not one.same_values(two):
        return None
    if one.facts == two.facts:
        return one
    different = [
        value for value in one.facts.keys() | two.facts.keys() if one.facts.get(value) != two.facts.get(value)
    ]
    if len(different) > 1:
        smaller, larger = (one, two) if len(one.facts) < len(two.facts) else (two, one)
        # A state that knows less includes one that knows the same and more.
        if all(larger.facts.get(value) == known for value, known in smaller.facts.items()):
            return smaller
        return None
    value = different[0]
    rest = {key: known for key, known in one.facts.items() if key != value}
    joined = _either(one.facts.get(value), two.facts.get(value))
    return State(one.a, one.x, one.memory, {**rest, value: joined} if joined else rest)


def _either(one: Known | None, two: Known | None) -> Known | None:
    if one is None or two is None:
        return None
    if one.among is not None and two.among is not None:
        both = one.among | two.among
        return Known(both, frozenset()) if len(both) <= _MOST_CONSTANTS else None
    if one.among is None and two.among is None:
        without = one.without & two.without
    else:
        without = (
            two.without - one.among if one.among is not None else one.without - (two.among or frozenset())
        )
    return Known(None, without) if without else None


def _loosely(found: Sequence[State]) -> State:
    """One state that all of ``found`` fit."""
    first = found[0]
    a = first.a if all(state.a == first.a for state in found) else None
    x = first.x if all(state.x == first.x for state in found) else None
    memory = {
        slot: value
        for slot, value in first.memory.items()
        if all(slot in state.memory and state.memory[slot] == value for state in found)
    }
    facts: dict[Value, Known] = {}
    for value, known in first.facts.items():
        joined: Known | None = known
        for state in found[1:]:
            joined = _either(joined, state.facts.get(value))
        if joined is not None:
            facts[value] = joined
    return State(a, x, memory, facts)
