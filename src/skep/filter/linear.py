"""From the graph to an instruction array, in libpcap's order.

A block is placed in front of everything it can reach: its false side is placed first (so it ends up
last), then its true side, then the block itself. A conditional jump reaches 255 instructions; a side
that is farther away gets an unconditional jump right behind the block, the true side's first.
"""

from __future__ import annotations

from skep.errors import FilterSyntaxError
from skep.filter.ir import Block, Stmt
from skep.isa.classic import BPF_JA, BPF_JMP, ClassicInsn

_REACH = 255  # the largest distance an 8-bit jump field holds


def linearise(root: Block) -> list[ClassicInsn]:
    """The instructions of the graph. Linear in its size, whatever its depth.

    Raises:
        FilterSyntaxError: a jump between the statements of one block is too long for its field.
    """
    ahead: dict[int, int] = {}  # id(block) -> instructions from its first one to the end of the program
    backward: list[ClassicInsn] = []  # the program from its end to its start
    entered: set[int] = set()
    stack = [root]
    while stack:
        block = stack[-1]
        key = id(block)
        if key not in entered:
            entered.add(key)
            # The stack gives the false side back first.
            if block.jt is not None and id(block.jt) not in entered:
                stack.append(block.jt)
            if block.jf is not None and id(block.jf) not in entered:
                stack.append(block.jf)
            continue
        stack.pop()
        if key in ahead:
            continue
        jt, jf = block.jt, block.jf
        end = len(backward)
        if jt is None or jf is None:
            backward.append(ClassicInsn(block.code, 0, 0, block.k))
        else:
            true, false = end - ahead[id(jt)], end - ahead[id(jf)]
            if true <= _REACH and false <= _REACH:
                backward.append(ClassicInsn(block.code, true, false, block.k))
            else:
                _long(backward, block, true, false)
        if block.stmts:
            code = _statements(block.stmts)
            code.reverse()
            backward += code
        ahead[key] = len(backward)
    backward.reverse()
    return backward


def _long(backward: list[ClassicInsn], block: Block, true: int, false: int) -> None:
    """Append a jump of which at least one side is out of reach; the jumps behind it lengthen the other."""
    far_true, far_false = true > _REACH, false > _REACH
    # One more instruction in between may push the other side out of reach.
    far_true = far_true or true + far_false > _REACH
    far_false = far_false or false + far_true > _REACH
    extra = far_true + far_false
    jt = 0 if far_true else true + extra
    jf = int(far_true) if far_false else false + extra
    if far_false:
        backward.append(ClassicInsn(BPF_JMP | BPF_JA, 0, 0, false))
    if far_true:
        backward.append(ClassicInsn(BPF_JMP | BPF_JA, 0, 0, true + far_false))
    backward.append(ClassicInsn(block.code, jt, jf, block.k))


def _statements(stmts: list[Stmt]) -> list[ClassicInsn]:
    """Code of a block's statements, with the jumps among them (protochain's loop) resolved."""
    code = []
    place: dict[int, int] | None = None
    for index, stmt in enumerate(stmts):
        jt, jf = stmt.jt, stmt.jf
        if jt is None:
            code.append(ClassicInsn(stmt.code, 0, 0, stmt.k))
            continue
        if place is None:
            place = {id(s): i for i, s in enumerate(stmts)}
        true = place[id(jt)] - index - 1
        if stmt.code == BPF_JMP | BPF_JA:
            code.append(ClassicInsn(stmt.code, 0, 0, true & 0xFFFFFFFF))
            continue
        false = place[id(jf)] - index - 1
        if not (0 <= true <= _REACH and 0 <= false <= _REACH):
            raise FilterSyntaxError("a protochain loop is too long for classic BPF's jumps")
        code.append(ClassicInsn(stmt.code, true, false, stmt.k))
    return code
