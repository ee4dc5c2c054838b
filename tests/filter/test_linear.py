"""`linearise`: libpcap's order of blocks, and its long jumps."""

from __future__ import annotations

import itertools
import random

import pytest

from skep.filter.ir import Block, Stmt, ret
from skep.filter.linear import linearise
from skep.isa import classic as c
from skep.vm.classic import run
from tests.support import libpcap
from tests.support.directed import seed
from tests.support.graphs import Looped, graph_of, listing
from tests.support.sentences import sentence

JEQ = c.BPF_JMP | c.BPF_JEQ


def test_code_comes_back_as_it_was() -> None:
    """libpcap's unoptimised code -> graph -> code."""
    number = seed(31)
    rng = random.Random(number)
    compared = 0
    for _ in range(300):
        text, linktype = sentence(rng), rng.choice((0, 1, 12, 108, 113))
        insns = libpcap.compile(text, linktype, optimize=False).insns
        if insns is None:
            continue
        try:
            root = graph_of(insns)
        except Looped:
            continue
        assert listing(root) == insns, (number, text, linktype)
        compared += 1
    assert compared > 200


@pytest.mark.parametrize("count", [20, 21, 22, 23, 40, 90])
@pytest.mark.parametrize("joint", [" or ", " and not "])
def test_long_jumps(count: int, joint: str) -> None:
    """Lists that end within, at, and beyond the reach of 255 instructions; all code is over 255 long."""
    text = joint.join(f"host 10.0.{i >> 4}.{i}" for i in range(count))
    insns = libpcap.compile(text, optimize=False).insns
    assert insns is not None
    assert any(code == c.BPF_JMP | c.BPF_JA for code, *_ in insns)
    assert listing(graph_of(insns)) == insns


@pytest.mark.parametrize("distance", range(250, 259))
@pytest.mark.parametrize("far", ["true", "false", "both"])
def test_every_jump_lands_where_it_should(distance: int, far: str) -> None:
    """Around the limit, where one side's extra jump pushes the other side out of reach."""
    load = c.BPF_LD | c.BPF_ABS | c.BPF_B
    padding = [Stmt(c.BPF_LD | c.BPF_IMM, i) for i in range(distance)]
    accept, reject = ret(1), ret(0)
    middle = Block([*padding, Stmt(load, 1)], JEQ, 7, accept, reject)
    sides = {"true": (accept, middle), "false": (middle, reject), "both": (accept, reject)}[far]
    root = Block([Stmt(load, 0)], JEQ, 3, *sides)
    if far == "both":
        root = Block([Stmt(load, 2)], JEQ, 2, root, middle)
    code = linearise(root)
    for packet in itertools.product((3, 4), (7, 8), (2, 5)):
        block = root
        while block.jt is not None and block.jf is not None:
            block = block.jt if packet[block.stmts[-1].k] == block.k else block.jf
        assert run(code, bytes(packet)) == block.k
    assert max(max(insn.jt, insn.jf) for insn in code) <= 255


def test_jumps_among_statements() -> None:
    """protochain's loop: back by BPF_JA, forward by tests, to statements of the same block."""
    last = Stmt(c.BPF_ALU | c.BPF_ADD, 0)
    load = Stmt(c.BPF_LD | c.BPF_ABS | c.BPF_B, 9)
    again = Stmt(JEQ, 59, jt=last)
    again.jf = load
    back = Stmt(c.BPF_JMP | c.BPF_JA, 0, jt=again)
    block = Block([again, load, back, last], JEQ, 6, ret(1), ret(0))
    assert linearise(block) == [
        (JEQ, 2, 0, 59),
        (c.BPF_LD | c.BPF_ABS | c.BPF_B, 0, 0, 9),
        (c.BPF_JMP | c.BPF_JA, 0, 0, 0xFFFFFFFD),
        (c.BPF_ALU | c.BPF_ADD, 0, 0, 0),
        (JEQ, 0, 1, 6),
        (6, 0, 0, 1),
        (6, 0, 0, 0),
    ]


def test_shared_blocks_are_placed_once_and_depth_does_not_matter() -> None:
    accept, block = ret(1), ret(0)
    for i in range(50_000):
        block = Block([Stmt(c.BPF_LD | c.BPF_IMM, i)], JEQ, i, accept, block)
    code = linearise(block)
    assert sum(i.code == c.BPF_RET for i in code) == 2
    assert sum(i.code == JEQ for i in code) == 50_000
