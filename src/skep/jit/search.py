"""Loops with several ways out, read back as one straight turn and the conditions under which it ends.

Such a loop looks for something: the end of a string, the first difference. As long as it stores nothing, many
turns can be asked at once whether any of them would leave (see `skep.jit.vector`); the fast copy then goes on
with the first that would.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from skep.jit.vector import Unfit


class Exit(NamedTuple):
    """The loop is left where the i1 ``name`` is ``holds``."""

    name: str
    holds: bool


def straight(lines: Sequence[Any], header: str, fork: str, asked: str | None) -> tuple[list[str], list[Exit]]:
    """The lines of a turn one after the other, and its exits.

    ``lines`` start after the phis of the block ``header``; the block ``fork`` jumps back to it, for which the
    i1 ``asked`` has to hold, if it is given. Raises `Unfit` where a turn can take more than one way.
    """
    blocks: dict[str, list[str]] = {}
    here = blocks[header] = []
    for line in lines:
        if not isinstance(line, str):
            continue  # phis of a block, to which there are then several ways
        if line[-1] == ":":
            here = blocks[line[:-1]] = []
        else:
            here.append(line)
    ways = {label: _targets(block[-1]) for label, block in blocks.items() if block}
    inside = {fork}
    work = [fork]
    while work:
        goal = work.pop()
        for label, targets in ways.items():
            if goal in targets and label not in inside and label != fork:
                inside.add(label)
                work.append(label)
    turn: list[str] = []
    exits: list[Exit] = []
    label = header
    while label != fork:
        if label not in ways:
            raise Unfit
        turn += blocks[label][:-1]
        on = [target for target in ways[label] if target in inside and target != header]
        if len(on) != 1:
            raise Unfit
        if len(ways[label]) == 2:
            condition = blocks[label][-1].split()[2].rstrip(",")
            exits.append(Exit(condition, ways[label][0] not in inside))
        label = on[0]
    turn += blocks[fork][:-1]
    if asked is not None:
        exits.append(Exit(asked, False))
    return turn, exits


def _targets(line: str) -> list[str]:
    """The labels that a block's last line leads to."""
    words = line.replace(",", "").split()
    return [words[at + 1][1:] for at, word in enumerate(words) if word == "label"]
