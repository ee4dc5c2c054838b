"""Huge graphs: near-linear, and search trees instead of lists.

An or-list of a thousand hosts is some twelve thousand blocks, nearly all of which ask again what is known
by then ("is this IPv4?"). Three steps:

1. *Follow.* Tests that recur all over the graph (the guards: EtherType, protocol) are decided once. A
   world is what is known about all guards; each world is followed through the graph, over every test it
   decides. What remains are states: a block in a world.
2. *Chain.* States that go to the same place when true, one after the other when false, may be tested in
   any order.
3. *Search.* In a chain, comparisons of one value with many constants become one load and a balanced
   search.

All this treats a block as a pure question about the packet: same statements, same answer. `_Questions`
makes sure of it: no block may read a register or scratch word that another block sets, but for words set
by the root alone (the offsets of variable-length link layers).
"""

from __future__ import annotations

from skep.filter.ir import Block, Stmt
from skep.filter.optimise.graph import atom_defined, atoms_used
from skep.filter.optimise.relations import shorten
from skep.isa.classic import (
    BPF_ALU,
    BPF_DIV,
    BPF_JEQ,
    BPF_JGT,
    BPF_JMP,
    BPF_MOD,
    BPF_RET,
    BPF_X,
)

_JEQ_K = BPF_JMP | BPF_JEQ
_JGT_K = BPF_JMP | BPF_JGT
_MOST_CONSTANTS = 16  # a value compared with more is no guard
_LEAF = 4  # constants compared one by one at the end of a search
_NEAR = 128  # constants of a search that are within reach (255 instructions) of one another


def optimise_large(root: Block) -> Block | None:
    """An equivalent graph; None when the blocks are not pure questions."""
    questions = _Questions.of(root)
    if questions is None:
        return None
    states = _States(questions, guards=True)
    if not states.follow_all():
        states = _States(questions, guards=False)
        states.follow_all()
    return _Emitter(questions, states).emit()


class _Questions:
    """The blocks as arrays, by number: successors, and the question each asks.

    ``load`` numbers the statements that make the tested value; equal statements have equal numbers.
    """

    __slots__ = ("code", "dropped", "jf", "jt", "k", "load", "loads", "needed", "root", "trapping")

    def __init__(self) -> None:
        self.code: list[int] = []
        self.k: list[int] = []
        self.jt: list[int] = []
        self.jf: list[int] = []
        self.load: list[int] = []
        self.loads: list[list[Stmt]] = []
        self.trapping: set[int] = set()
        self.dropped = 0  # atoms that blocks set for themselves, which `shorten` found they need not
        self.needed = False  # whether blocks read what the root's statements set
        self.root = 0

    @classmethod
    def of(cls, root: Block) -> _Questions | None:
        """The questions of a graph, or None when a block depends on another one's registers."""
        self = cls()
        number: dict[int, int] = {}
        blocks: list[Block] = []
        stack: list[Block | None] = [root]
        pop, push, see = stack.pop, stack.append, blocks.append
        while stack:
            block = pop()
            if block is None or id(block) in number:
                continue
            number[id(block)] = len(blocks)
            see(block)
            push(block.jf)
            push(block.jt)
        self.code = [block.code for block in blocks]
        self.k = [block.k for block in blocks]
        self.jt = [number[id(block.jt)] if block.jt is not None else -1 for block in blocks]
        self.jf = [number[id(block.jf)] if block.jf is not None else -1 for block in blocks]
        known: dict[object, int] = {}
        load = self.load
        for place, block in enumerate(blocks):
            stmts = block.stmts
            key: object
            if len(stmts) > 5:
                stmts, self.code[place], self.k[place], dropped = shorten(stmts, block.code, block.k)
                self.dropped |= dropped
            if len(stmts) == 1:
                only = stmts[0]
                key = only.code << 32 | only.k
            else:
                key = tuple([(s.code, s.k) for s in stmts])
            found = known.get(key)
            if found is None:
                known[key] = found = len(self.loads)
                self.loads.append(stmts)
            load.append(found)
        return self if self._pure(blocks) else None

    def _pure(self, blocks: list[Block]) -> bool:
        """Whether no block reads what another one sets, the root's own words excepted."""
        used, defined, rooted = 0, self.dropped, 0
        for number, stmts in enumerate(self.loads):
            use, defs = _uses(stmts)
            used |= use
            if number == self.load[0]:
                rooted = defs
            else:
                defined |= defs
            if any(
                s.code in (BPF_ALU | BPF_DIV | BPF_X, BPF_ALU | BPF_MOD | BPF_X) or s.code & 7 == BPF_JMP
                for s in stmts
            ):
                self.trapping.add(number)
            if any(s.code & 7 == BPF_JMP for s in stmts):
                return False
        # Tests read A, and X when they compare with it; their own statements must have set those.
        for load, code in set(zip(self.load, self.code, strict=True)):
            used |= atoms_used(code, 0) & ~_uses(self.loads[load])[1]
        if not used:
            return True
        self.needed = True
        return self.load.count(self.load[0]) == 1 and not used & ~rooted and not used & defined


def _uses(stmts: list[Stmt]) -> tuple[int, int]:
    """Atoms read before they are set, and atoms set."""
    use = defs = 0
    for stmt in stmts:
        use |= atoms_used(stmt.code, stmt.k) & ~defs
        atom = atom_defined(stmt.code, stmt.k)
        if atom >= 0:
            defs |= 1 << atom
    return use, defs


class _States:
    """Blocks in worlds. ``true`` and ``false`` hold the numbers of the states that follow, -1 at a return."""

    __slots__ = ("_bit", "_effects", "_limit", "_q", "block", "false", "true")

    def __init__(self, questions: _Questions, guards: bool) -> None:
        self._q = questions
        self._bit = [0] * len(questions.code)
        self._effects: dict[int, tuple[int, int]] = {}
        # More states than blocks, and the worlds have done more harm than good.
        self._limit = len(questions.code) + 1
        self.block: list[int] = []
        self.true: list[int] = []
        self.false: list[int] = []
        if guards:
            self._find_guards()

    def _find_guards(self) -> None:
        """Give each recurring test of a value with few constants a bit; note what its being true tells."""
        q = self._q
        keys = [load << 40 | code << 32 | k for load, code, k in zip(q.load, q.code, q.k, strict=True)]
        tests: dict[int, set[int]] = {}
        for key in set(keys):
            if key >> 32 & 7 == BPF_JMP and not key >> 32 & BPF_X:
                tests.setdefault(key >> 40, set()).add(key)
        often: dict[int, int] = {}
        for load in q.load:
            often[load] = often.get(load, 0) + 1
        bits: dict[int, int] = {}
        for load, found in tests.items():
            if len(found) <= _MOST_CONSTANTS and often[load] >= 2 * len(found):
                members = [(key, 1 << len(bits) + place) for place, key in enumerate(sorted(found))]
                everything = sum(bit for _, bit in members)
                for key, bit in members:
                    bits[key] = bit
                    if key >> 32 & 0xFF == _JEQ_K:
                        constant = key & 0xFFFFFFFF
                        told = sum(b for other, b in members if _holds(other, constant))
                        self._effects[bit] = everything, told
        for number, key in enumerate(keys):
            if key in bits:
                self._bit[number] = bits[key]

    def follow_all(self) -> bool:
        """Find all states from the root, number 0, on; False when there are too many."""
        q, bit = self._q, self._bit
        jt, jf = q.jt, q.jf
        block, true, false = self.block, self.true, self.false
        seen: dict[tuple[int, int], dict[int, int]] = {}  # world -> block -> state
        returns: dict[int, int] = {}
        block.append(0)
        true.append(-1)
        false.append(-1)
        here: dict[int, int] = {}
        seen[0, 0] = here
        if jt[0] < 0:
            return True
        here[0] = 0
        stack = [(0, 0, 0)]  # state, and its world: guards known, and those known to be true
        while stack:
            state, known, value = stack.pop()
            here = seen[known, value]
            # Down the false side in a loop; true sides wait on the stack.
            while True:
                at = block[state]
                mine = bit[at]
                if mine:
                    everything, told = self._effects.get(mine, (mine, mine))
                    t_known, t_value = known | everything, value & ~everything | told
                    f_known = known | mine
                else:
                    t_known, t_value, f_known = known, value, known
                to = jt[at]
                while t_known & bit[to]:
                    to = jt[to] if t_value & bit[to] else jf[to]
                if jt[to] < 0:
                    there = returns
                elif mine:
                    there = seen.setdefault((t_known, t_value), {})
                else:
                    there = here
                found = there.get(to)
                if found is None:
                    there[to] = found = len(block)
                    block.append(to)
                    true.append(-1)
                    false.append(-1)
                    if there is not returns:
                        stack.append((found, t_known, t_value))
                true[state] = found
                if mine:
                    known = f_known
                    here = seen.setdefault((known, value), {})
                to = jf[at]
                while known & bit[to]:
                    to = jt[to] if value & bit[to] else jf[to]
                there = returns if jt[to] < 0 else here
                found = there.get(to)
                fresh = found is None
                if found is None:
                    there[to] = found = len(block)
                    block.append(to)
                    true.append(-1)
                    false.append(-1)
                false[state] = found
                if not fresh or there is returns:
                    break
                state = found
            if len(block) > self._limit:
                return False
        return True


def _holds(key: int, a: int) -> bool:
    """Whether a test (load, code, k in one number) is true of A."""
    op, k = key >> 32 & 0xF0, key & 0xFFFFFFFF
    if op == BPF_JEQ:
        return a == k
    if op == BPF_JGT:
        return a > k
    return a >= k if op == 0x30 else bool(a & k)


class _Emitter:
    """From states back to blocks, from the returns up, equal ones shared."""

    __slots__ = ("_blocks", "_q", "_shared", "_states", "_ways")

    def __init__(self, questions: _Questions, states: _States) -> None:
        self._q = questions
        self._states = states
        self._blocks: dict[int, Block] = {}
        self._shared: dict[object, Block] = {}
        self._ways = [0] * len(states.block)
        ways = self._ways
        for to in states.true:
            if to >= 0:
                ways[to] += 1
        for to in states.false:
            if to >= 0:
                ways[to] += 1

    def emit(self) -> Block:
        """The block of state 0."""
        q, states, blocks = self._q, self._states, self._blocks
        chains: dict[int, list[int]] = {}
        stack = [0]
        while stack:
            state = stack[-1]
            if state in blocks:
                stack.pop()
                continue
            true = states.true[state]
            if true < 0:
                blocks[state] = self._return(states.block[state])
                stack.pop()
                continue
            chain = chains.get(state)
            if chain is None:
                chains[state] = chain = self._chain(state)
                stack.append(true)
                stack.append(states.false[chain[-1]])
                continue
            stack.pop()
            blocks[state] = self._links(chain, blocks[true], blocks[states.false[chain[-1]]])
        entry = blocks[0]
        if q.needed and entry.stmts[: len(q.loads[q.load[0]])] != q.loads[q.load[0]]:
            entry = Block(q.loads[q.load[0]] + entry.stmts, entry.code, entry.k, entry.jt, entry.jf)
        return entry

    def _return(self, number: int) -> Block:
        q = self._q
        key = (q.code[number], q.k[number])
        found = self._shared.get(key)
        if found is None:
            stmts = [] if q.code[number] == BPF_RET else q.loads[q.load[number]]
            self._shared[key] = found = Block(stmts, *key)
        return found

    def _chain(self, state: int) -> list[int]:
        """States from ``state`` on that ask for equality and go to the same place when true."""
        q, states, ways = self._q, self._states, self._ways
        goal = states.true[state]
        chain = [state]
        at = states.block[state]
        if q.code[at] != _JEQ_K or q.load[at] in q.trapping:
            return chain
        while True:
            state = states.false[state]
            at = states.block[state]
            if (
                ways[state] != 1
                or states.true[state] != goal
                or q.code[at] != _JEQ_K
                or q.load[at] in q.trapping
            ):
                return chain
            chain.append(state)

    def _links(self, chain: list[int], goal: Block, after: Block) -> Block:
        """Blocks of a chain: each value's constants together."""
        q, block = self._q, self._states.block
        if len(chain) == 1:
            at = block[chain[0]]
            test = (q.load[at], q.code[at], q.k[at], id(goal), id(after))
            found = self._shared.get(test)
            if found is None:
                found = Block(q.loads[q.load[at]], q.code[at], q.k[at], goal, after)
                self._shared[test] = found
            return found
        constants: dict[int, list[int]] = {}
        for state in chain:
            at = block[state]
            constants.setdefault(q.load[at], []).append(q.k[at])
        for load in reversed(constants):
            wanted = sorted(set(constants[load]))
            key = (load, tuple(wanted), id(goal), id(after))
            found = self._shared.get(key)
            if found is None:
                # The same search of another value differs only in what its first block loads.
                rest = self._shared.get(key[1:])
                if rest is None:
                    self._shared[key[1:]] = rest = _search(wanted, goal, after)
                found = Block(q.loads[load], rest.code, rest.k, rest.jt, rest.jf)
                self._shared[key] = found
            after = found
        return after


def _search(wanted: list[int], goal: Block, after: Block) -> Block:
    """A search for A in sorted constants; its first block is fresh."""
    count = len(wanted)
    if count <= _LEAF:
        for k in reversed(wanted):
            after = Block([], _JEQ_K, k, goal, after)
        return after
    if _NEAR // 2 < count <= _NEAR:
        goal, after = _copy(goal), _copy(after)
    middle = count // 2
    low = _search(wanted[:middle], goal, after)
    high = _search(wanted[middle:], goal, after)
    return Block([], _JGT_K, wanted[middle - 1], high, low)


def _copy(block: Block) -> Block:
    """A copy of a small block, to be placed within reach of the jumps to it."""
    if len(block.stmts) > 3:
        return block
    return Block(block.stmts, block.code, block.k, block.jt, block.jf)
