"""The optimiser's view of a graph: numbered nodes, levels, dominators, uses and definitions.

Two kinds of facts are kept side by side. Some are libpcap's own (the order of levels and edges,
``val``, ``out_use``): they decide what is *tried*, so that listings come out as tcpdump prints them.
Others are exact (``tru``, ``live_in``): they decide what is *allowed*, so that the program keeps its
meaning where libpcap's own reasoning has gaps. `values` and `branches` tell where they part.

Registers and scratch words are numbered alike ("atoms"): A, X, then those of M[0..15] in use. Sets of atoms,
of nodes and of edges are integers used as bit sets.
"""

from __future__ import annotations

from skep.filter.ir import Block, Stmt
from skep.isa.classic import (
    BPF_A,
    BPF_ABS,
    BPF_ALU,
    BPF_IND,
    BPF_JMP,
    BPF_K,
    BPF_LD,
    BPF_LDX,
    BPF_MEM,
    BPF_MISC,
    BPF_RET,
    BPF_ST,
    BPF_STX,
    BPF_TXA,
    BPF_X,
)

A = 0
X = 1
MEM = 2  # M[k] is atom MEM + k
A_BIT = 1 << A
X_BIT = 1 << X
NOP = -1  # code of a deleted statement

Values = list[int]


class Node:
    """A block while it is optimised.

    ``to`` holds the successors: ``to[1]`` when the test is true, ``to[0]`` when not, both None for a
    return. ``stmts`` are ``[code, k]`` pairs, deleted ones with code NOP; ``bare`` says that a pass
    threw away even those. Edges are numbered like libpcap's: ``number`` is a node's true edge,
    ``number + nodes`` its false edge.
    """

    __slots__ = (
        "bare",
        "code",
        "defs",
        "dom",
        "edom",
        "entry",
        "entry_tru",
        "in_edges",
        "in_use",
        "k",
        "kill",
        "level",
        "live_in",
        "number",
        "out_use",
        "oval",
        "oval_tru",
        "seen",
        "stale",
        "stmts",
        "to",
        "traps",
        "tru",
        "use",
        "val",
    )

    def __init__(self, number: int, block: Block) -> None:
        self.number = number
        self.stmts = [[s.code, s.k & 0xFFFFFFFF] for s in block.stmts]
        self.bare = not self.stmts
        self.code = block.code
        self.k = block.k & 0xFFFFFFFF
        self.to: list[Node | None] = [None, None]
        self.level = 0
        self.dom = 0
        self.edom = [0, 0]
        self.in_edges: list[tuple[Node, int]] = []
        self.use = self.kill = self.defs = 0
        self.in_use = self.out_use = self.live_in = 0
        self.val: Values = []
        self.tru: Values = []
        self.entry: Values = []
        self.entry_tru: Values = []
        self.oval = self.oval_tru = 0
        self.seen: tuple[int, Node | None, Node | None] | None = None  # what the last visit went by
        self.traps: frozenset[int] = frozenset()
        self.stale = True  # the statements have changed since use, val and tru were computed

    def __repr__(self) -> str:
        return f"Node({self.number}, {self.stmts!r}, {self.code:#x}, {self.k:#x})"


def atoms_of(nodes: list[Node]) -> int:
    """How many atoms the nodes use: A, X, and M[] up to the last word that occurs."""
    words = [
        k
        for node in nodes
        for code, k in node.stmts
        if code in (BPF_ST, BPF_STX, BPF_LD | BPF_MEM, BPF_LDX | BPF_MEM)
    ]
    return MEM + max(words, default=-1) + 1


def rejects(node: Node) -> bool:
    """Whether a node is "ret #0", which is also how a load or division that fails ends."""
    return node.code == BPF_RET | BPF_K and node.k == 0


def nodes_of(root: Block) -> list[Node]:
    """Nodes of all blocks, in depth-first order with the true side first; the root is number 0."""
    found: dict[int, Node] = {}
    order: list[Node] = []
    blocks: list[Block] = []
    stack: list[Block | None] = [root]
    while stack:
        block = stack.pop()
        if block is None or id(block) in found:
            continue
        node = Node(len(order), block)
        found[id(block)] = node
        order.append(node)
        blocks.append(block)
        stack.append(block.jf)
        stack.append(block.jt)
    for node, block in zip(order, blocks, strict=True):
        if block.jt is not None and block.jf is not None:
            node.to = [found[id(block.jf)], found[id(block.jt)]]
    return order


def blocks_of(root: Node) -> Block:
    """A fresh graph of blocks of what ``root`` reaches."""
    made: dict[int, Block] = {}
    order: list[Node] = []
    stack = [root]
    while stack:
        node = stack.pop()
        if node.number in made:
            continue
        stmts = [Stmt(code, k) for code, k in node.stmts if code != NOP]
        made[node.number] = Block(stmts, node.code, node.k)
        order.append(node)
        stack += [n for n in node.to if n is not None]
    for node in order:
        false, true = node.to
        if true is not None and false is not None:
            block = made[node.number]
            block.jt, block.jf = made[true.number], made[false.number]
    return made[root.number]


def find_levels(root: Node) -> list[list[Node]]:
    """Nodes by the length of their longest way to a return, each list last visited first."""
    levels: list[list[Node]] = []
    entered: set[int] = set()
    done: set[int] = set()
    stack = [root]
    while stack:
        node = stack[-1]
        number = node.number
        false, true = node.to
        if number not in entered:
            entered.add(number)
            if false is not None and false.number not in entered:
                stack.append(false)
            if true is not None and true.number not in entered:
                stack.append(true)
            continue
        stack.pop()
        if number in done:
            continue
        done.add(number)
        if true is None or false is None:
            level = 0
        else:
            level = (true.level if true.level > false.level else false.level) + 1
        node.level = level
        if level == len(levels):
            levels.append([])
        levels[level].append(node)
    for row in levels:
        row.reverse()
    return levels


def find_dominators(levels: list[list[Node]], count: int) -> None:
    """Set ``dom`` (nodes on every way here, itself included) and ``edom`` (edges, likewise)."""
    everything = (1 << 2 * count) - 1
    for row in levels:
        for node in row:
            node.dom = everything
            node.edom = [everything, everything]
    root = levels[-1][0]
    root.dom = 0
    root.edom = [0, 0]
    for row in reversed(levels):
        for node in row:
            node.dom = dom = node.dom | 1 << node.number
            edom = node.edom
            edom[1] |= 1 << node.number
            edom[0] |= 1 << node.number + count
            for sense in (1, 0):
                child = node.to[sense]
                if child is not None:
                    child.dom &= dom
                    mask = edom[sense]
                    child.edom[1] &= mask
                    child.edom[0] &= mask


def atoms_used(code: int, k: int) -> int:
    """Bit set of what an instruction reads."""
    kind = code & 7
    if kind in (BPF_LD, BPF_LDX):
        mode = code & 0xE0
        return X_BIT if mode == BPF_IND else 1 << MEM + k if mode == BPF_MEM else 0
    if kind in (BPF_ALU, BPF_JMP):
        return A_BIT | X_BIT if code & BPF_X else A_BIT
    if kind == BPF_ST:
        return A_BIT
    if kind == BPF_STX:
        return X_BIT
    if kind == BPF_MISC:
        return X_BIT if code & 0xF8 == BPF_TXA else A_BIT
    source = code & 0x18  # a return
    return A_BIT if source == BPF_A else X_BIT if source == BPF_X else 0


def atom_defined(code: int, k: int) -> int:
    """The atom an instruction writes, -1 for none."""
    if code == NOP:
        return -1
    kind = code & 7
    if kind in (BPF_LD, BPF_ALU):
        return A
    if kind == BPF_LDX:
        return X
    if kind in (BPF_ST, BPF_STX):
        return MEM + k
    if kind == BPF_MISC:
        return A if code & 0xF8 == BPF_TXA else X
    return -1


def find_uses(levels: list[list[Node]]) -> None:
    """Set ``use``, ``kill``, ``in_use`` and ``out_use`` of every node; ``live_in`` starts as in_use."""
    for row in levels:
        for node in row:
            if node.stale:
                _local_uses(node)
            false, true = node.to
            if true is not None and false is not None:
                node.out_use = out = true.in_use | false.in_use
                node.in_use = node.use | out & ~node.kill
            else:
                node.out_use = 0
                node.in_use = node.use
            node.live_in = node.in_use


def _local_uses(node: Node) -> None:
    use = kill = 0
    for code, k in node.stmts:
        if code == NOP:
            continue
        if code & 0xE7 == BPF_LD | BPF_ABS:  # the commonest statement by far
            if not use & A_BIT:
                kill |= A_BIT
            continue
        use |= atoms_used(code, k) & ~kill
        atom = atom_defined(code, k)
        if atom >= 0 and not use >> atom & 1:
            kill |= 1 << atom
    defs = kill
    for code, k in node.stmts:
        if code != NOP:
            atom = atom_defined(code, k)
            if atom >= 0:
                defs |= 1 << atom
    node.use = use | atoms_used(node.code, node.k) & ~defs
    node.kill = kill
    node.defs = defs


def find_in_edges(levels: list[list[Node]]) -> None:
    """Set ``in_edges``, the edge found last first (libpcap looks at the first one only, in places)."""
    for row in levels:
        for node in row:
            node.in_edges = []
    for row in reversed(levels):
        for node in row:
            false, true = node.to
            if true is not None and false is not None:
                true.in_edges.append((node, 1))
                false.in_edges.append((node, 0))
    for row in levels:
        for node in row:
            node.in_edges.reverse()
