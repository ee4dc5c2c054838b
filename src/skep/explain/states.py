"""The register states in a verifier's log: ``R1=pkt(off=14,r=34) fp-8=mmmm???? refs=2``."""

from __future__ import annotations

import re
from typing import Final

_NAME: Final = re.compile(r"(R\d+|fp-?\d+|refs|cb|async_cb|preempt|rcu)(?:_[rwD]+)?=")
#: what Linux prints after the state of a callback's frame
_FRAME: Final = re.compile(r"(?: (?:async_)?cb)+\s*$")
_NUMBER: Final = re.compile(r"-?(?:0x[0-9a-f]+|\d+)")


def parse(text: str) -> dict[str, str]:
    """The values by name. Values end at the next name outside of parentheses; old liveness marks go."""
    found: dict[str, str] = {}
    matches = []
    depth = 0
    at = 0
    for match in _NAME.finditer(text):
        between = text[at : match.start()]
        depth += between.count("(") - between.count(")")
        at = match.start()
        if depth == 0 and (match.start() == 0 or text[match.start() - 1] in " \t;"):
            matches.append(match)
    for index, match in enumerate(matches):
        end = matches[index + 1].start() if index + 1 < len(matches) else len(text)
        value = _FRAME.sub("", text[match.end() : end]).strip()
        found[match[1]] = value
    return found


class Value:
    """One value taken apart: ``kind`` ("pkt", "map_value_or_null", "scalar", "ctx", "fp") and ``fields``.

    ``number`` is the constant of a known scalar, else None; what old kernels call "inv" is a scalar.
    """

    __slots__ = ("fields", "kind", "number", "text")

    def __init__(self, text: str) -> None:
        text = text.strip()
        if text.startswith("P"):  # precise
            text = text[1:]
        self.text = text
        self.number: int | None = None
        self.fields: dict[str, str] = {}
        head, opened, inside = text.partition("(")
        if not opened and _NUMBER.fullmatch(head):
            self.kind = "scalar"
            self.number = int(head, 0)
            return
        if head.startswith("inv") and head != "invalid":
            self.kind = "scalar"
            if head[3:]:
                self.number = int(head[3:], 0) if _NUMBER.fullmatch(head[3:]) else None
        elif head.startswith("fp") and (head == "fp" or _NUMBER.fullmatch(head[2:])):
            self.kind = "fp"
            self.fields["off"] = head[2:] or "0"
        else:
            self.kind = head
        if opened:
            for part in _split(inside.removesuffix(")")):
                name, equal, value = part.partition("=")
                if equal:
                    # several names may share a value: smin=smin32=0
                    while "=" in value:
                        self.fields[name] = value.rpartition("=")[2]
                        name, _, value = value.partition("=")
                    self.fields[name] = value

    def integer(self, name: str) -> int | None:
        """A field as a number, None when it is missing or no number."""
        value = self.fields.get(name, "")
        return int(value, 0) if _NUMBER.fullmatch(value) else None

    @property
    def is_pointer(self) -> bool:
        return self.kind not in ("scalar", "unknown", "") and not self.kind.startswith("?")


def _split(text: str) -> list[str]:
    parts: list[str] = []
    depth = start = 0
    for index, char in enumerate(text):
        if char in "(;":
            depth += char == "("
        elif char == ")":
            depth -= 1
        elif char == "," and depth <= 0:
            parts.append(text[start:index].strip())
            start = index + 1
    parts.append(text[start:].strip())
    return [part for part in parts if part]
