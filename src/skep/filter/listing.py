"""The listing of tcpdump -d with what each instruction means beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from skep.asm import disassemble_classic
from skep.filter.explain import explain
from skep.isa import ClassicInsn

_NARROWEST: Final = 20  # columns that the words get at least


def explained(insns: Sequence[ClassicInsn], linktype: int, columns: int = 0) -> list[str]:
    """The listing of -d with each instruction's meaning beside it, in ``columns`` (0: without end)."""
    lines = [line.expandtabs() for line in disassemble_classic(insns, "tcpdump")]
    width = max(map(len, lines))
    room = max(_NARROWEST, columns - width - 4) if columns else 0
    shown = []
    for line, words in zip(lines, explain(insns, linktype), strict=True):
        first, *others = _wrapped(words, room)
        shown.append(f"{line:<{width}}  ; {first}" if words else line)
        shown += [f"{'':{width}}  ;   {other}" for other in others]
    return shown


def _wrapped(text: str, room: int) -> list[str]:
    """``text`` in lines of at most ``room`` characters (0: one line), those after the first two shorter."""
    if not room or len(text) <= room:
        return [text]
    lines: list[str] = []
    line = ""
    for word in text.split(" "):
        if line and len(line) + 1 + len(word) > room - 2 * bool(lines):
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}" if line else word
    return [*lines, line]
