"""The optimiser: `optimise` makes the graph of an expression smaller and faster.

It follows libpcap's optimiser (McCanne and Jacobson 1993; Begel, McCanne and Graham 1999, "BPF+") pass by
pass, so that its listings are those of ``tcpdump -d``, but for two things: each step must keep the
program's verdict (see `values` and `branches`), and nothing in it is cubic. Graphs beyond
`EXACT_BLOCKS` blocks are left to `large`.

What it may change is what libpcap changes too: a load outside the packet rejects the packet, and a load
that is found to be needless, or that moves behind another test, no longer does so. Verdicts on packets
that are cut short can differ from the unoptimised program's; on packets that hold every byte that the
expression asks for they do not.
"""

from __future__ import annotations

from skep.errors import FilterSyntaxError
from skep.filter.ir import Block, walk
from skep.filter.optimise.branches import pull_up, thread
from skep.filter.optimise.graph import (
    Node,
    blocks_of,
    find_dominators,
    find_in_edges,
    find_levels,
    find_uses,
    nodes_of,
)
from skep.filter.optimise.intern import intern, settle_root
from skep.filter.optimise.reach import divides_by_zero
from skep.filter.optimise.simplify import Simplifier
from skep.isa.classic import BPF_JMP

#: graphs up to this size come out as libpcap's listings
EXACT_BLOCKS = 400

#: more statements than this, a hundred times what any kernel loads, stay as they are
MOST_STATEMENTS = 400_000

_FRUITLESS_PASSES = 100  # libpcap's: passes that only move jumps may go round in circles


def optimise(root: Block) -> Block:
    """An equivalent graph, newly made; ``root``'s own blocks are not touched.

    A graph with a loop inside a block (protochain) is returned as it is, and so is one of more than
    `MOST_STATEMENTS`.

    Raises:
        FilterSyntaxError: arithmetic on constants divides by zero or shifts by more than 31 bits.
    """
    if _exceeds(root, EXACT_BLOCKS):
        from skep.filter.optimise.large import optimise_large

        return optimise_large(root) or root
    if any(stmt.code & 7 == BPF_JMP for block in walk(root) for stmt in block.stmts):
        return root
    if sum(len(block.stmts) for block in walk(root)) > MOST_STATEMENTS:
        return root
    try:
        return _exact(root)
    except FilterSyntaxError:
        # libpcap may have dropped what is refused here, by dropping a division that had to stay, or a part
        # of the graph that had to stay although no packet reaches the division in it.
        if divides_by_zero(root):
            _exact(root, careless=True)
        return _exact(root, patient=True)


def _exact(root: Block, careless: bool = False, patient: bool = False) -> Block:
    nodes = nodes_of(root)
    numbering = Simplifier(nodes, careless, patient)
    _loop(nodes[0], nodes, numbering, alter=False)
    _loop(nodes[0], nodes, numbering, alter=True)
    intern(nodes[0])
    first, again = settle_root(nodes[0])
    while again:
        _loop(first, nodes, numbering, alter=True)
        intern(first)
        first, again = settle_root(first)
    return blocks_of(first)


def _loop(root: Node, nodes: list[Node], numbering: Simplifier, alter: bool) -> None:
    """Passes over the graph from ``root`` until one finds nothing to do."""
    fruitless = 0
    while True:
        numbering.changed = numbering.progress = False
        levels = find_levels(root)
        find_dominators(levels, len(nodes))
        find_uses(levels)
        find_in_edges(levels)
        for row in reversed(levels):
            for node in row:
                numbering.visit(node, alter)
        if not alter:
            thread(levels, nodes, numbering)
            pull_up(levels, numbering)
        if not numbering.changed:
            return
        fruitless = 0 if numbering.progress else fruitless + 1
        if fruitless >= _FRUITLESS_PASSES:
            return


def _exceeds(root: Block, limit: int) -> bool:
    """Whether a graph has more blocks than ``limit``."""
    return any(count >= limit for count, _ in enumerate(walk(root)))
