"""Equal blocks become one; tests without consequence at the root go."""

from __future__ import annotations

from skep.filter.optimise.graph import NOP, Node, atom_defined, find_levels, find_uses, rejects
from skep.isa.classic import BPF_ALU, BPF_DIV, BPF_JMP, BPF_MOD, BPF_RET, BPF_X

_Key = tuple[int, int, int, int, tuple[tuple[int, int], ...]]


def intern(root: Node) -> None:
    """Share nodes that do the same and go on to the same nodes, from the returns up."""
    first: dict[_Key, Node] = {}
    twin: dict[int, Node] = {}
    for row in find_levels(root):
        for node in row:
            false, true = node.to
            if true is not None and false is not None:
                true, false = twin[true.number], twin[false.number]
                node.to = [false, true]
            key = (
                node.code,
                node.k,
                true.number if true is not None else -1,
                false.number if false is not None else -1,
                tuple([(code, k) for code, k in node.stmts if code != NOP]),
            )
            twin[node.number] = first.setdefault(key, node)


def settle_root(root: Node) -> tuple[Node, bool]:
    """Skip tests at the root that lead to one place; what they compute moves into the new root.

    Like libpcap this keeps what the first of them computes. libpcap drops what the others do, though the
    new root may rely on it (which is what goes wrong in ``1/2=1/3&&1>4/5&&1>6/7``); here it is kept then.
    Gives the new root, and whether there is more to simplify, because of that.
    """
    first = root.stmts
    between: list[list[int]] = []
    while root.code & 7 == BPF_JMP and root.to[0] is root.to[1]:
        target = root.to[0]
        assert target is not None
        root = target
        between += root.stmts
    if len(root.stmts):
        del between[-len(root.stmts) :]
    again = False
    if root.stmts is not first:
        find_uses(find_levels(root))
        if _divides(between) or any(
            root.in_use >> atom & 1 for code, k in between if (atom := atom_defined(code, k)) >= 0
        ):
            first = first + between
            again = True
        root.stmts = first + root.stmts
        root.bare = not root.stmts
        root.stale = True
    if rejects(root) or (root.code == BPF_RET and not _divides(root.stmts)):
        root.stmts = []  # a constant: nothing before it matters
        root.bare = True
    return root, again


def _divides(stmts: list[list[int]]) -> bool:
    """Whether a division by X is left, which may be by zero and then rejects."""
    return any(code in (BPF_ALU | BPF_DIV | BPF_X, BPF_ALU | BPF_MOD | BPF_X) for code, _ in stmts)
