"""From classic code back to the graph it came from, so that the optimiser can be tested on libpcap's code."""

from __future__ import annotations

from collections.abc import Sequence

from skep.filter.ir import Block, Stmt
from skep.filter.linear import linearise
from skep.isa import classic as c

Program = Sequence[tuple[int, int, int, int]]
_JA = c.BPF_JMP | c.BPF_JA


class Looped(Exception):
    """The code jumps within a block (802.11 headers, protochain), which libpcap does not optimise."""


def graph_of(program: Program) -> Block:
    """The blocks of unoptimised code, jumps through BPF_JA taken out."""

    def end_of(pc: int) -> int:
        while program[pc][0] == _JA:
            pc += 1 + program[pc][3]
            if pc >= len(program):
                raise Looped
        return pc

    blocks: dict[int, Block] = {}
    links: list[tuple[Block, int, int]] = []
    start: int | None = None
    stmts: list[Stmt] = []
    for pc, (code, jt, jf, k) in enumerate(program):
        if code == _JA:
            continue
        if start is None:
            start = pc
        if code & 7 not in (c.BPF_JMP, c.BPF_RET):
            stmts.append(Stmt(code, k))
            continue
        blocks[start] = block = Block(stmts, code, k)
        if code & 7 == c.BPF_JMP:
            links.append((block, end_of(pc + 1 + jt), end_of(pc + 1 + jf)))
        start, stmts = None, []
    for block, true, false in links:
        if true not in blocks or false not in blocks:
            raise Looped
        block.jt, block.jf = blocks[true], blocks[false]
    return blocks[0]


def listing(root: Block) -> list[tuple[int, int, int, int]]:
    """The linearised graph, as plain tuples."""
    return [(i.code, i.jt, i.jf, i.k) for i in linearise(root)]
