"""The control-flow graph between the expression compiler and classic code.

A `Block` runs its statements in order and ends in a conditional jump (to `jt` when true, `jf` when
not) or in a return. The graph has one root and no cycles between blocks. Accumulator A, index X and
scratch memory M[] carry over from block to block.

Only `protochain` needs a loop: inside one block, a `Stmt` may itself be a jump to other statements of
the same block (`jt`, `jf`; for BPF_JA only `jt`). Such a block is opaque to the optimiser.
"""

from __future__ import annotations

from collections.abc import Iterator

from skep.isa.classic import BPF_JEQ, BPF_JMP, BPF_K, BPF_RET


class Stmt:
    """One instruction that is not the end of a block. ``k`` is unsigned 32-bit."""

    __slots__ = ("code", "jf", "jt", "k")

    def __init__(self, code: int, k: int = 0, jt: Stmt | None = None, jf: Stmt | None = None) -> None:
        self.code = code
        self.k = k
        self.jt = jt
        self.jf = jf

    def __repr__(self) -> str:
        return f"Stmt({self.code:#x}, {self.k:#x})"


class Block:
    """Statements, then ``code k`` as a conditional jump (BPF_JMP class) or a return (BPF_RET class)."""

    __slots__ = ("code", "jf", "jt", "k", "stmts")

    def __init__(
        self,
        stmts: list[Stmt] | None = None,
        code: int = BPF_JMP | BPF_JEQ | BPF_K,
        k: int = 0,
        jt: Block | None = None,
        jf: Block | None = None,
    ) -> None:
        self.stmts = stmts if stmts is not None else []
        self.code = code
        self.k = k
        self.jt = jt
        self.jf = jf

    @property
    def is_return(self) -> bool:
        return self.code & 7 == BPF_RET

    def __repr__(self) -> str:
        return f"Block({self.stmts!r}, {self.code:#x}, {self.k:#x})"


def ret(k: int) -> Block:
    """A block that returns ``k`` bytes."""
    return Block([], BPF_RET | BPF_K, k)


def walk(root: Block) -> Iterator[Block]:
    """Every block that ``root`` reaches, once each, parents not necessarily first."""
    seen = {id(root)}
    stack = [root]
    while stack:
        block = stack.pop()
        yield block
        for nxt in (block.jf, block.jt):
            if nxt is not None and id(nxt) not in seen:
                seen.add(id(nxt))
                stack.append(nxt)
