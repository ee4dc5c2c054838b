"""Where the blocks of a control-flow graph go: layers, order, places, routes of edges.

Layers by longest path from the root; edges over several layers run through points of their own in each; order
by barycentres, keeping the one with the fewest crossings; places by least squares with the order as a
constraint (pool adjacent violators), so nothing overlaps.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Sequence
from itertools import pairwise

GAP_X = 34.0
GAP_Y = 46.0
_SWEEPS = 24
_TURNS = 40
#: Nodes times sweeps; graphs too big to be looked at whole are laid out with less care.
_EFFORT = 120_000


class Node:
    """A block, or a point of an edge. ``left`` and ``right`` are its extents from its centre ``x``."""

    __slots__ = ("clear", "down", "height", "key", "layer", "left", "order", "right", "up", "x", "y")

    def __init__(self, key: int, left: float, right: float, height: float) -> None:
        self.key = key  # block number, -1 for a point of an edge
        self.left = left
        self.right = right
        self.height = height
        self.layer = 0
        self.order = 0
        self.x = 0.0
        self.y = 0.0
        self.clear = 0.0  # bottom of the row: below it an edge may turn
        self.up: list[Node] = []
        self.down: list[Node] = []


class Edge:
    """From block to block; ``via`` are the points between, from top to bottom."""

    __slots__ = ("kind", "source", "target", "via")

    def __init__(self, source: int, target: int, kind: str) -> None:
        self.source = source
        self.target = target
        self.kind = kind
        self.via: list[Node] = []


def place(nodes: Sequence[Node], edges: Sequence[Edge]) -> tuple[float, float]:
    """Give every node its place and every edge its points; the size of the whole."""
    if not nodes:
        return 0.0, 0.0
    rows = _layers(nodes, edges)
    _order(rows)
    _across(rows)
    return _down(rows)


def _layers(nodes: Sequence[Node], edges: Sequence[Edge]) -> list[list[Node]]:
    """Nodes are in program order, and edges go ahead but for loops, which do not count here."""
    for edge in sorted(edges, key=lambda edge: edge.source):
        if edge.target > edge.source:
            target = nodes[edge.target]
            target.layer = max(target.layer, nodes[edge.source].layer + 1)
    rows: list[list[Node]] = [[] for _ in range(max((node.layer for node in nodes), default=0) + 1)]
    for node in nodes:
        rows[node.layer].append(node)
    for edge in edges:
        top, bottom = nodes[edge.source], nodes[edge.target]
        if edge.target <= edge.source:
            continue  # a loop: drawn beside the blocks
        above = top
        for layer in range(top.layer + 1, bottom.layer):
            point = Node(-1, 6.0, 6.0, 0.0)
            point.layer = layer
            rows[layer].append(point)
            edge.via.append(point)
            above.down.append(point)
            point.up.append(above)
            above = point
        above.down.append(bottom)
        bottom.up.append(above)
    return rows


def _order(rows: list[list[Node]]) -> None:
    def number(row: list[Node]) -> None:
        for place_, node in enumerate(row):
            node.order = place_

    for row in rows:
        number(row)
    best = [list(row) for row in rows]
    fewest = _crossings(rows)
    for sweep in range(_times(rows, _SWEEPS)):
        if fewest == 0:
            break
        downward = sweep % 2 == 0
        for row in rows if downward else reversed(rows):
            middle = {
                id(node): _mean([other.order for other in (node.up if downward else node.down)], node.order)
                for node in row
            }
            row.sort(key=lambda node: middle[id(node)])
            number(row)
        now = _crossings(rows)
        if now < fewest:
            fewest, best = now, [list(row) for row in rows]
    for row, kept in zip(rows, best, strict=True):
        row[:] = kept
        number(row)


def _times(rows: Sequence[Sequence[Node]], most: int) -> int:
    nodes = sum(len(row) for row in rows)
    return max(2, min(most, _EFFORT // max(nodes, 1)))


def _mean(values: Sequence[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise


def _crossings(rows: Sequence[Sequence[Node]]) -> int:
    total = 0
    for row in rows:
        seen: list[int] = []
        for node in row:
            targets = sorted(other.order for other in node.down)
            for target in targets:
                total += len(seen) - bisect_right(seen, target)
            for target in targets:
                insort(seen, target)
    return total


def _across(rows: Sequence[Sequence[Node]]) -> None:
    """Centres: near those of the neighbours, in order, apart."""
    for row in rows:
        at = 0.0
        for node in row:
            node.x = at + node.left
            at = node.x + node.right + GAP_X
        shift = at / 2
        for node in row:
            node.x -= shift
    turns = _times(rows, _TURNS)
    for turn in range(turns):
        downward = turn % 2 == 0 or turn > turns - 4
        for row in rows if downward else list(reversed(rows)):
            wanted, weights = [], []
            for node in row:
                near = node.up if downward else node.down
                far = node.down if downward else node.up
                pull = _mean([other.x for other in near], node.x)
                if 4 < turn <= turns - 4:
                    pull = 0.7 * pull + 0.3 * _mean([other.x for other in far], pull)
                wanted.append(pull)
                weights.append(6.0 if node.key < 0 else 1.0 + len(near))
            _apart(row, wanted, weights)


def _apart(row: Sequence[Node], wanted: Sequence[float], weights: Sequence[float]) -> None:
    """The places nearest to ``wanted`` at which neighbours keep their distance."""
    offsets = [0.0]
    for left, right in pairwise(row):
        gap = GAP_X if left.key >= 0 or right.key >= 0 else GAP_X / 2
        offsets.append(offsets[-1] + left.right + right.left + gap)
    pools: list[tuple[float, float, int]] = []  # mean, weight, members
    for want, weight, offset in zip(wanted, weights, offsets, strict=True):
        mean, total, members = want - offset, weight, 1
        while pools and pools[-1][0] > mean:
            before, heavy, count = pools.pop()
            mean = (mean * total + before * heavy) / (total + heavy)
            total, members = total + heavy, members + count
        pools.append((mean, total, members))
    at = 0
    for mean, _, members in pools:
        for place_ in range(at, at + members):
            row[place_].x = mean + offsets[place_]
        at += members


def _down(rows: Sequence[Sequence[Node]]) -> tuple[float, float]:
    """Tops, then everything moved so that the picture starts at 0, 0."""
    y = 0.0
    for row in rows:
        height = max((node.height for node in row), default=0.0)
        for node in row:
            node.y = y
            node.clear = y + height
            if node.key < 0:
                node.height = height
        y += height + GAP_Y
    every = [node for row in rows for node in row]
    least = min((node.x - node.left for node in every), default=0.0)
    for node in every:
        node.x -= least
    return max((node.x + node.right for node in every), default=0.0), max(y - GAP_Y, 0.0)
