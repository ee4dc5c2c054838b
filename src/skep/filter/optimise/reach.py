"""Whether a division by a constant zero can be come to at all.

libpcap refuses such a division only when its optimiser still has it: in a part of the graph that no packet
can reach, because the tests before it contradict one another, there is nothing to refuse. The optimiser here
may have to keep such a part, when cutting it off would change a register that is read later.
"""

from __future__ import annotations

from skep.filter.ir import Block
from skep.filter.optimise.values import MAX, fold
from skep.isa import classic as c

#: What is known where a block starts: absolute loads (code, offset) whose value is known.
_Known = dict[tuple[int, int], int]


def divides_by_zero(root: Block) -> bool:
    """Whether some path from ``root`` that contradicts no test of its own divides by a constant zero."""
    known: dict[int, _Known] = {id(root): {}}
    for block in _downwards(root):
        here = known.get(id(block))
        if here is None:
            continue  # no way leads here
        if _by_zero(block):
            return True
        jt, jf = block.jt, block.jf
        if jt is None or jf is None:
            continue
        asked = _asked(block)
        if asked is None:
            sides = [(jt, here), (jf, here)]
        elif asked in here:
            sides = [(jt if here[asked] == block.k else jf, here)]
        else:
            sides = [(jt, {**here, asked: block.k}), (jf, here)]
        for to, told in sides:
            before = known.get(id(to))
            if before is not None:
                told = {load: value for load, value in told.items() if before.get(load) == value}
            known[id(to)] = told
    return False


def _downwards(root: Block) -> list[Block]:
    """All blocks, each behind all that lead to it."""
    order: list[Block] = []
    seen: set[int] = set()
    stack: list[tuple[Block, bool]] = [(root, False)]
    while stack:
        block, done = stack.pop()
        if done:
            order.append(block)
        elif id(block) not in seen:
            seen.add(id(block))
            stack.append((block, True))
            stack += [(to, False) for to in (block.jt, block.jf) if to is not None]
    return order[::-1]


def _asked(block: Block) -> tuple[int, int] | None:
    """The absolute load that the block compares with its constant for equality, if it is that simple."""
    if block.code != c.BPF_JMP | c.BPF_JEQ | c.BPF_K or not block.stmts:
        return None
    last = block.stmts[-1]
    return (last.code, last.k) if last.code & 0xE7 == c.BPF_LD | c.BPF_ABS else None


def _by_zero(block: Block) -> bool:
    """Whether a statement divides by what is zero for certain."""
    x: int | None = None
    a: int | None = None
    words: dict[int, int | None] = {}
    for stmt in block.stmts:
        code, k, kind = stmt.code, stmt.k, stmt.code & 7
        if kind == c.BPF_ALU:
            right = x if code & c.BPF_X else k
            if code & 0xF0 in (c.BPF_DIV, c.BPF_MOD) and right == 0:
                return True
            a = _result(code, a, right)
        elif kind in (c.BPF_LD, c.BPF_LDX):
            mode = code & 0xE0
            value = k if mode == c.BPF_IMM else words.get(k) if mode == c.BPF_MEM else None
            a, x = (value, x) if kind == c.BPF_LD else (a, value)
        elif kind in (c.BPF_ST, c.BPF_STX):
            words[k] = a if kind == c.BPF_ST else x
        elif code == c.BPF_MISC | c.BPF_TAX:
            x = a
        else:
            a = x
    return False


def _result(code: int, a: int | None, right: int | None) -> int | None:
    """What arithmetic on constants gives, or None."""
    op = code & 0xF0
    if op in (c.BPF_AND, c.BPF_MUL) and 0 in (a, right):
        return 0
    if a is None:
        return None
    if op == c.BPF_NEG:
        return -a & MAX
    return None if right is None else fold(op, a, right)
