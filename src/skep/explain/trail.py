"""What a verifier's log tells, as data: the instructions on the way to the refusal, and the messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple


class Location(NamedTuple):
    """A place in a source file. ``line`` and ``column`` are 1-based, 0 where unknown."""

    file: str
    line: int
    column: int
    text: str

    def __str__(self) -> str:
        where = self.file or "source"
        if self.line:
            where += f":{self.line}"
            if self.column:
                where += f":{self.column}"
        return where


#: no register or stack slot is known
NOTHING: Final[Mapping[str, str]] = {}


class Step:
    """One instruction as the verifier went through it.

    ``pc`` counts slots; ``text`` is the listing's (``r1 = *(u8 *)(r1 +12)``). ``before`` and ``after`` hold
    what the log says of registers and stack slots ("R1" -> "pkt(r=0)", "fp-8" -> "mmmm????"), only those it
    names. ``frame`` is the depth of BPF-to-BPF calls. ``parent`` is the step before on the same path.
    """

    __slots__ = ("after", "before", "code", "frame", "parent", "pc", "source", "text")

    def __init__(self, pc: int, code: int, text: str, parent: Step | None, source: Location | None) -> None:
        self.pc = pc
        #: the opcode
        self.code = code
        self.text = text
        self.parent = parent
        self.source = source
        self.before: Mapping[str, str] = NOTHING
        self.after: Mapping[str, str] = NOTHING
        self.frame = 0

    def __repr__(self) -> str:
        return f"Step({self.pc}: {self.text})"


class Report(NamedTuple):
    """What Linux 7.3 adds to a refusal: a headline and sections of prose."""

    category: str
    problem: str
    reason: str
    suggestion: str
    #: (what happened there, label, instruction slot or -1, location or None), first to last
    causes: tuple[Cause, ...]
    #: where it was refused
    at: Cause | None


class Cause(NamedTuple):
    """A station of a 7.3 report: ``label`` is its word ("branch", "update", "invalidated", "error")."""

    label: str
    what: str
    pc: int
    location: Location | None
    function: str


class Trail:
    """A whole log.

    ``last`` is the refused instruction's step (follow ``parent`` for its path) or None when the program
    was refused before its instructions were looked at. ``messages`` are the lines that say why, first to
    last; ``accepted`` when the log ends without any. ``processed`` is the number of instructions, or None.
    """

    __slots__ = ("accepted", "function", "last", "messages", "processed", "report", "subprog", "truncated")

    def __init__(self) -> None:
        self.last: Step | None = None
        self.messages: list[str] = []
        self.processed: int | None = None
        self.accepted = False
        self.report: Report | None = None
        #: the name of the program, when the text around the log gives it
        self.function = ""
        #: the global function that was being checked by itself, or ""
        self.subprog = ""
        #: the log begins in the middle
        self.truncated = False

    def path(self, limit: int = 100_000) -> list[Step]:
        """The steps to the refusal, first to last; the last ``limit`` of them."""
        steps: list[Step] = []
        step = self.last
        while step is not None and len(steps) < limit:
            steps.append(step)
            step = step.parent
        steps.reverse()
        return steps
