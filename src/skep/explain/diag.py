"""The report that Linux 7.3 and later print under a refusal: Reason, At, Causal path, Suggestion."""

from __future__ import annotations

import re
from typing import Final

from skep.explain.trail import Cause, Location, Report

_HEAD: Final = re.compile(r"Verification failed: ([^:]+)(?:: (.*))?$")
_SECTION: Final = re.compile(r"(Reason|At|Causal path|Suggestion):$")
_PLACE: Final = re.compile(r"  (?:(\S+) @ )?(\S.*?):(\d+):(\d+)$")
_INSN: Final = re.compile(r"  insn (\d+)$")
_SOURCE_LINE: Final = re.compile(r"  >>> +(\d+) \| ?(.*)$")
_NOTE: Final = re.compile(r"  +\| *\^-- (.*)$")
_MORE: Final = re.compile(r"  +\| {4,}(\S.*)$")


def parse(lines: list[str]) -> Report | None:
    """The last report among ``lines``, or None."""
    start = -1
    for number, line in enumerate(lines):
        if line.startswith("Verification failed: "):
            start = number
    if start < 0:
        return None
    head = _HEAD.match(lines[start])
    if head is None:
        return None
    sections: dict[str, list[str]] = {}
    current: list[str] = []
    for line in lines[start + 1 :]:
        section = _SECTION.match(line)
        if section:
            current = sections.setdefault(section[1], [])
        elif line.startswith("processed "):
            break
        elif line.startswith("  ") or not line.strip():
            current.append(line)
    at = _causes(sections.get("At", []))
    return Report(
        head[1],
        head[2] or "",
        _prose(sections.get("Reason", [])),
        _prose(sections.get("Suggestion", [])),
        tuple(_causes(sections.get("Causal path", []))),
        at[0] if at else None,
    )


def _prose(lines: list[str]) -> str:
    return " ".join(line.strip() for line in lines if line.strip())


def _causes(lines: list[str]) -> list[Cause]:
    found: list[Cause] = []
    for block in _blocks(lines):
        function = file = ""
        number = column = 0
        pc = -1
        text = ""
        notes: list[str] = []
        context = "source"
        for line in block:
            if place := _PLACE.match(line):
                function, file, number, column = place[1] or "", place[2], int(place[3]), int(place[4])
            elif insn := _INSN.match(line):
                pc = int(insn[1])
            elif line.strip() == "Instruction context:":
                context = "insn"
            elif marked := _SOURCE_LINE.match(line):
                if context == "source":
                    text = marked[2].rstrip()
                else:
                    pc = int(marked[1])
            elif note := _NOTE.match(line):
                notes.append(note[1])
            elif notes and context == "source" and (more := _MORE.match(line)):
                notes.append(more[1])
        if notes:
            label, _, what = " ".join(notes).partition(": ")
            location = Location(file, number, column, text) if file else None
            found.append(Cause(label, what, pc, location, function))
    return found


def _blocks(lines: list[str]) -> list[list[str]]:
    blocks: list[list[str]] = [[]]
    for line in lines:
        if line.strip():
            blocks[-1].append(line)
        elif blocks[-1]:
            blocks.append([])
    return [block for block in blocks if block]
