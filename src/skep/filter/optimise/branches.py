"""Moving jumps: past tests whose outcome is known, and tests of one value next to each other.

Each move is one that libpcap would make at this point. It is made only if it keeps the program's
meaning, which libpcap does not always check: what the new target reads must hold the same values on the
new way (`live_in`, ``tru``), a division that may be by zero must not be lost, and tests that change
places must not depend on each other.
"""

from __future__ import annotations

from skep.filter.optimise.graph import A, Node, find_in_edges, rejects
from skep.filter.optimise.values import JEQ_K, Numbering


class EdgeIndex:
    """Which edges can tell the outcome of a test: by the code, A and operand of the test they leave."""

    __slots__ = ("_equal", "_same", "nodes")

    def __init__(self, levels: list[list[Node]], nodes: list[Node]) -> None:
        self.nodes = nodes
        self._same: dict[tuple[int, int, int], int] = {}
        self._equal: dict[int, int] = {}
        same, equal = self._same, self._equal
        count = len(nodes)
        for row in levels[1:]:
            for node in row:
                key = (node.code, node.val[A], node.oval)
                true = 1 << node.number
                same[key] = same.get(key, 0) | true | true << count
                if node.code == JEQ_K:
                    equal[node.val[A]] = equal.get(node.val[A], 0) | true

    def telling(self, node: Node) -> int:
        """Edges (a bit set) that decide the test at the end of ``node`` for whoever came over them."""
        edges = self._same.get((node.code, node.val[A], node.oval), 0)
        if node.code == JEQ_K:
            edges |= self._equal.get(node.val[A], 0)
        return edges

    def outcome(self, node: Node, edge: int) -> int | None:
        """How ``node``'s test ends after ``edge``; None when that only looked known."""
        count = len(self.nodes)
        pred = self.nodes[edge % count]
        if pred.tru[A] != node.tru[A]:
            return None
        if pred.oval == node.oval:
            return int(edge < count) if pred.oval_tru == node.oval_tru else None
        return 0  # A equals another constant


def thread(levels: list[list[Node]], nodes: list[Node], numbering: Numbering) -> None:
    """Let every edge skip the nodes after it whose tests are decided by the time it is taken."""
    index = EdgeIndex(levels, nodes)
    for row in levels[1:]:
        for node in row:
            _thread_edge(node, 1, index, numbering)
            _thread_edge(node, 0, index, numbering)
            false, true = node.to
            assert true is not None and false is not None
            node.live_in = node.use | (true.live_in | false.live_in) & ~node.kill


def _thread_edge(pred: Node, sense: int, index: EdgeIndex, numbering: Numbering) -> None:
    child = pred.to[sense]
    assert child is not None
    edom = pred.edom[sense]
    target = child.to[1]
    if target is None:
        return
    if (
        target is child.to[0]
        and not _conflict(pred, target)
        and _same_for(pred, child, target)
        and _no_trap_lost(child, target, edom, index)
    ):
        numbering.mark()
        pred.to[sense] = child = target
    while True:
        candidates = edom & index.telling(child)
        while candidates:
            low = candidates & -candidates
            candidates ^= low
            outcome = index.outcome(child, low.bit_length() - 1)
            if outcome is None:
                continue
            target = child.to[outcome]
            if (
                target is not None
                and not _conflict(pred, target)
                and _same_for(pred, child, target)
                and _no_trap_lost(child, target, edom, index)
            ):
                numbering.changed = True
                pred.to[sense] = child = target
                if target.to[1] is None:
                    return
                break
        else:
            return


def _conflict(pred: Node, target: Node) -> bool:
    """libpcap's test: a register used after ``target`` leaves it with another value than ``pred``."""
    use = target.out_use
    if not use:
        return False
    val, other = pred.val, target.val
    while use:
        atom = (use & -use).bit_length() - 1
        if val[atom] != other[atom]:
            return True
        use &= use - 1
    return False


def _same_for(pred: Node, child: Node, target: Node) -> bool:
    """Whether ``target`` finds what it reads the same when ``child`` is skipped."""
    live = target.live_in
    while live:
        atom = (live & -live).bit_length() - 1
        if pred.tru[atom] != child.tru[atom]:
            return False
        live &= live - 1
    return True


def _no_trap_lost(child: Node, target: Node, edom: int, index: EdgeIndex) -> bool:
    """Whether the divisions in ``child`` have all been made before, or make no difference."""
    if not child.traps or rejects(target):
        return True
    missing = set(child.traps)
    count = len(index.nodes)
    while missing and edom:
        low = edom & -edom
        edom ^= low
        missing -= index.nodes[(low.bit_length() - 1) % count].traps
    return not missing


def pull_up(levels: list[list[Node]], numbering: Numbering) -> None:
    """In chains of alternatives or of conditions, move tests of the value that A had before the chain up."""
    find_in_edges(levels)
    degree = {node.number: len(node.in_edges) for row in levels for node in row}
    for row in levels[1:]:
        for node in row:
            if node.in_edges:
                _pull(node, 0, degree, numbering)  # a chain of "or": goes on when false
                _pull(node, 1, degree, numbering)  # a chain of "and": goes on when true


def _pull(top: Node, on: int, degree: dict[int, int], numbering: Numbering) -> None:
    """Pull one test up in the chain that starts at ``top`` and goes on at ``to[on]``."""
    out = 1 - on
    edges = top.in_edges
    value = edges[0][0].val[A]
    for pred, _ in edges:
        if pred.val[A] != value:
            return
    goal = top.to[out]
    bit = 1 << top.number
    # Down the chain to the first test of something else.
    first = edges[0][0]
    node = first.to[1] if first.to[1] is top else first.to[0]
    above: Node | None = None
    while True:
        if node is None or node.to[out] is not goal or not node.dom & bit:
            return
        if node.val[A] != value:
            break
        above, node = node, node.to[on]
    # On to the next test of the value.
    other = node
    below, pulled = node, node.to[on]
    passed = [node]
    while True:
        if pulled is None or pulled.to[out] is not goal or not pulled.dom & bit:
            return
        if pulled.val[A] == value:
            break
        passed.append(pulled)
        below, pulled = pulled, pulled.to[on]
    if goal is None or not _may_pass(pulled, passed, goal, degree):
        return
    # A division that may be by zero must neither be made earlier nor be skipped, if that shows.
    traps = pulled.traps.union(*[node.traps for node in passed])
    if traps and not rejects(goal) and not all(traps <= pred.traps for pred, _ in edges):
        return
    if above is None:
        # Every way into the chain now starts with the pulled test.
        if other is not top or len(edges) != degree[top.number]:
            return
        if any(pred.to[sense] is not top for pred, sense in edges):
            return
        for pred, sense in edges:
            pred.to[sense] = pulled
    else:
        if degree[other.number] != 1:
            return
        above.to[on] = pulled
    degree[pulled.number], degree[other.number] = degree[other.number], 1
    below.to[on] = pulled.to[on]
    pulled.to[on] = other
    numbering.changed = True


def _may_pass(pulled: Node, passed: list[Node], goal: Node, degree: dict[int, int]) -> bool:
    """Whether ``pulled`` can be tested before the nodes it now comes after."""
    if degree[pulled.number] != 1 or any(degree[node.number] != 1 for node in passed[1:]):
        return False
    defs = use = 0
    for node in passed:
        use |= node.use
        defs |= node.defs
    after = goal.live_in
    for sense in (0, 1):
        child = pulled.to[sense]
        if child is not None:
            after |= child.live_in
    return not (pulled.use & defs or pulled.defs & use or (pulled.defs | defs) & after)
