"""Register states of two logs (log_level 2), instruction by instruction."""

from __future__ import annotations

import re
from typing import NamedTuple

_INSN = re.compile(r"^(\d+): \([0-9a-f]{2}\) (.*?)(?:\s*; (.*))?$")
_FROM = re.compile(r"^from (\d+) to (\d+)(?: \(speculative execution\))?: ?(.*)$")
#: what differs between machines and runs
_ADDRESS = re.compile(r"0xffff[0-9a-f]{12}")
_ID = re.compile(r"\b((?:ref_obj_|dynptr_|map_u)?id|refs)=[\d,]+,?")


class Seen(NamedTuple):
    """``where`` is "pc" or "from to"; ``state`` the registers printed, by name."""

    where: str
    state: dict[str, str]


def states(log: str) -> list[Seen]:
    """States in the order of the log; lines that carry none are left out."""
    out: list[Seen] = []
    for line in log.splitlines():
        if found := _INSN.match(line):
            out.append(Seen(found[1], _registers(found[3] or "")))
        elif found := _FROM.match(line):
            out.append(Seen(f"{found[1]} {found[2]}", _registers(found[3])))
    return out


def _registers(text: str) -> dict[str, str]:
    text = _ADDRESS.sub("ADDRESS", text)
    found: dict[str, str] = {}
    frame = ""
    for word in _words(text):
        name, mark, value = word.partition("=")
        if re.fullmatch(r"frame\d+:", word):
            frame = word
        elif mark:
            value = _ID.sub("", value).replace(",)", ")")
            found[frame + name.replace("_w", "")] = value
    return found


def _words(text: str) -> list[str]:
    """Split at spaces outside parentheses."""
    words, depth, start = [], 0, 0
    for at, char in enumerate(text + " "):
        if char == "(":
            depth += 1
        elif char == ")":
            depth -= 1
        elif char == " " and depth <= 0:
            if at > start:
                words.append(text[start:at])
            start = at + 1
    return words


class Difference(NamedTuple):
    where: str
    name: str
    kernel: str
    ours: str


def differences(kernel: str, ours: str) -> tuple[int, list[Difference]]:
    """(registers compared, those that differ); stops where the two went different ways."""
    theirs, mine = states(kernel), states(ours)
    compared, out = 0, list[Difference]()
    for a, b in zip(theirs, mine, strict=False):
        if a.where != b.where:
            out.append(Difference(a.where, "order", a.where, b.where))
            break
        for name in sorted(a.state):
            compared += 1
            if a.state.get(name) != b.state.get(name):
                out.append(Difference(a.where, name, a.state.get(name, ""), b.state.get(name, "")))
    return compared, out
