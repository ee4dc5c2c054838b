"""The same program, its blocks in another order: jumps lead back where no loop is, and loops pay inside."""

from __future__ import annotations

import random
from collections.abc import Sequence

from skep.isa import Insn, jump_target
from skep.isa import opcodes as op

_ENDS = (op.EXIT, op.JA, op.GOTOL)


def shuffled(insns: Sequence[Insn], seed: int) -> list[Insn]:
    """The blocks of ``insns`` in an order drawn from ``seed``; the first stays where it is."""
    targets: dict[int, int] = {}  # of jumps and calls, by slot
    leaders = {0}
    pc = 0
    while pc < len(insns):
        insn = insns[pc]
        target = jump_target(insn, pc)
        if target is not None:
            targets[pc] = target
            leaders.add(target)
        if (target is not None and insn.opcode != op.CALL) or insn.opcode == op.EXIT:
            leaders.add(pc + 1)
        pc += 2 if insn.opcode == op.LD_IMM64 else 1
    starts = sorted(leader for leader in leaders if leader < len(insns))
    after = dict(zip(starts, [*starts[1:], len(insns)], strict=True))
    rest = starts[1:]
    random.Random(seed).shuffle(rest)
    order = [0, *rest]
    out: list[Insn] = []
    place: dict[int, int] = {}
    jumps: list[tuple[int, int]] = []  # slot, block that it leads to
    for index, start in enumerate(order):
        place[start] = len(out)
        end = after[start]
        for at in range(start, end):
            if at in targets:
                jumps.append((len(out), targets[at]))
            out.append(insns[at])
        following = order[index + 1] if index + 1 < len(order) else None
        if insns[end - 1].opcode not in _ENDS and end != following:
            jumps.append((len(out), end))
            out.append(Insn(op.JA))
    for at, goal in jumps:
        distance = place[goal] - at - 1
        insn = out[at]
        long = insn.opcode in (op.CALL, op.GOTOL)
        out[at] = insn._replace(imm=distance) if long else insn._replace(off=distance)
    return out
