"""An explanation: made from a trail, printed as a compiler prints its errors, or as plain data."""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple, TextIO

from skep.explain import families, story
from skep.explain.trail import Location, Step, Trail

_CHAPTERS: Final = 12
_PATH: Final = 40
#: the longest round that is folded, in lines
_TURN: Final = 8


class Station(NamedTuple):
    """A source line (or an instruction, without sources) that the refused path went through."""

    pc: int
    location: Location | None
    text: str
    branch: str


class Explanation:
    """Why a program was refused.

    ``family`` is a stable name ("packet-bounds"; "other" when the wording is not known), ``title`` and
    ``label`` say it in words, ``hint`` what to write instead, ``reason`` is the verifier's own wording.
    ``pc`` is the refused instruction's slot or None, ``location`` its place. ``story`` is the register's,
    ``path`` the way there.
    """

    __slots__ = (
        "family",
        "function",
        "hint",
        "insn",
        "label",
        "location",
        "path",
        "pc",
        "processed",
        "reason",
        "register",
        "report",
        "rule",
        "story",
        "title",
        "truncated",
    )

    def __init__(self, trail: Trail) -> None:
        last = trail.last
        self.reason = "; ".join(trail.messages)
        self.pc = last.pc if last is not None else None
        self.insn = last.text if last is not None else ""
        self.location = last.source if last is not None else None
        self.processed = trail.processed
        self.function = trail.subprog or trail.function
        self.truncated = trail.truncated
        self.report = trail.report
        self.register: int | None = None
        self.story: list[tuple[int, Location | None, str]] = []
        self.path = _path(trail)
        self.family = "other"
        self.title = "the verifier refused the program"
        self.label = trail.messages[-1] if trail.messages else "refused here"
        self.rule = ""
        self.hint = ""
        found = families.find(trail)
        if found is not None:
            family, finding = found
            self.family, self.title, self.rule = family.name, family.title, family.rule
            self.label, self.hint = family.tell(finding)
            self.register = finding.register
            self.story = [(c.step.pc, c.step.source, c.what) for c in finding.chapters]
        report = trail.report
        if report is not None:
            self._reported(report.suggestion, found is None)

    def _reported(self, suggestion: str, alone: bool) -> None:
        """What Linux 7.3 says itself: places with columns, and its advice where there is none of ours."""
        report = self.report
        if report is None:
            return
        at = report.at
        if at is not None:
            self.function = self.function or at.function
            if at.location is not None:
                self.location = at.location
            if self.pc is None and at.pc >= 0:
                self.pc = at.pc
        if alone:
            self.title = report.problem or report.category
            self.label = at.what if at is not None else report.reason
            self.reason = self.reason or report.reason
        if not self.hint:
            self.hint = suggestion
        if not self.story:
            self.story = [(c.pc, c.location, f"{c.label}: {c.what}") for c in report.causes]

    def as_json(self) -> dict[str, Any]:
        """The explanation as plain data."""
        return {
            "family": self.family,
            "title": self.title,
            "reason": self.reason,
            "label": self.label,
            "rule": self.rule,
            "hint": self.hint,
            "function": self.function or None,
            "insn": self.pc,
            "text": self.insn or None,
            "source": _place(self.location),
            "register": f"r{self.register}" if self.register is not None else None,
            "story": [{"insn": pc, "source": _place(where), "what": what} for pc, where, what in self.story],
            "path": [
                {"insn": s.pc, "source": _place(s.location), "text": s.text, "branch": s.branch or None}
                for s in self.path
            ],
            "processed": self.processed,
        }

    def summary(self) -> str:
        """One line: where, what, and what to do."""
        where = f"{self.location}: " if self.location is not None and self.location.file else ""
        return f"{where}{self.label}" + (f" ({self.hint})" if self.hint else "")

    def on_terminal(self, stream: TextIO) -> str:
        """`render` as fits ``stream``: its width, and colours on a terminal (unless NO_COLOR is set)."""
        if not stream.isatty():
            return self.render()
        import os
        from shutil import get_terminal_size

        return self.render(colour="NO_COLOR" not in os.environ, width=max(60, get_terminal_size().columns))

    def render(self, *, colour: bool = False, width: int = 100) -> str:
        """The explanation for a terminal of ``width`` columns, with escape sequences if ``colour``."""
        paint = _Paint(colour)
        lines = [f"{paint.bad('refused')}: {paint.bold(self.title)} [{self.family}]"]
        lines += _source(self, paint, width)
        if self.insn and self.pc is not None:
            lines.append(f"  {paint.dim('insn')}  {self.pc}: {self.insn}")
        if self.reason:
            lines += _wrapped("  says  ", self.reason, width, paint.dim("  says  "))
        if self.story:
            name = f"r{self.register}" if self.register is not None else "the reference"
            lines.append(f"  {paint.bold('the story of ' + name)}")
            shown = self.story[-_CHAPTERS:]
            if len(self.story) > len(shown):
                lines.append(f"    … {len(self.story) - len(shown)} earlier steps")
            for pc, where, what in shown:
                at = f"{where.line}" if where is not None and where.line else ""
                lines += _wrapped(f"    {at:>5} {pc:>5}: ", what, width)
        if self.path:
            lines.append(f"  {paint.bold('the way there')}")
            lines += _way(self.path, paint, width)
        if self.rule:
            lines += _wrapped("  rule  ", self.rule, width, paint.dim("  rule  "))
        if self.hint:
            lines += _wrapped("  help  ", self.hint, width, paint.good("  help  "))
        return "\n".join(lines)


def _way(path: list[Station], paint: _Paint, width: int) -> list[str]:
    """The last stations; lines that were gone round again and again stand there once."""
    lines: list[str] = []
    for turn, times in _turns(path)[-_CHAPTERS:]:
        for station in turn:
            place = station.location
            at = f"{place.line}" if place is not None and place.line else ""
            text = place.text.strip() if place is not None else station.text
            took = f"   {paint.dim('← ' + station.branch)}" if station.branch else ""
            lines.append(f"    {at:>5} | {_clip(text, width - 24)}{took}")
        if times > 1:
            what = "this line" if len(turn) == 1 else f"these {len(turn)} lines"
            lines.append(f"          : {what} {times} times")
    return lines


def _turns(path: list[Station]) -> list[tuple[list[Station], int]]:
    """The path in pieces, each with how often it was gone through in a row."""
    keys = [(s.location.line, s.location.text, s.branch) if s.location else s.pc for s in path]
    out: list[tuple[list[Station], int]] = []
    at = 0
    while at < len(path):
        period = times = 1
        for length in range(1, min(_TURN, (len(path) - at) // 2) + 1):
            count = 1
            while keys[at + count * length : at + (count + 1) * length] == keys[at : at + length]:
                count += 1
            if count > 1 and count * length > period * times:
                period, times = length, count
        out.append((path[at : at + period], times))
        at += period * times
    return out


class _Paint:
    def __init__(self, on: bool) -> None:
        self.on = on

    def _with(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.on else text

    def bad(self, text: str) -> str:
        return self._with("1;31", text)

    def good(self, text: str) -> str:
        return self._with("32", text)

    def bold(self, text: str) -> str:
        return self._with("1", text)

    def dim(self, text: str) -> str:
        return self._with("2", text)


def _source(e: Explanation, paint: _Paint, width: int) -> list[str]:
    """The source line with a caret under the place, or the label alone."""
    place = e.location
    where = f" in {e.function}" if e.function else ""
    if place is None or not place.text:
        return [f"  --> {place}{where}"] * (place is not None and bool(place.file)) + _wrapped(
            "      ", e.label, width
        )
    number = str(place.line) if place.line else ""
    pad = " " * len(number)
    text = place.text.strip().replace("\t", " ")
    # columns count the indentation, which is not shown
    indent = len(place.text) - len(place.text.lstrip())
    caret = min(max(0, place.column - 1 - indent), max(0, len(text) - 1))
    room = width - len(pad) - 6
    clipped = _clip(text, room)
    caret = min(caret, max(0, room - 40))
    head = f"   {pad} | {' ' * caret}"
    label = _wrapped(head + "^ ", e.label, width, f"{head}{paint.bad('^')} ")
    label[1:] = [f"   {pad} | {line[len(pad) + 6 :]}" for line in label[1:]]
    return [f"  --> {place}{where}", f"   {pad} |", f"   {number} | {clipped}", *label, f"   {pad} |"]


def _wrapped(head: str, text: str, width: int, painted: str | None = None) -> list[str]:
    room = max(24, width - len(head))
    lines: list[str] = []
    line = ""
    for word in text.split():
        if line and len(line) + 1 + len(word) > room:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}" if line else word
    lines.append(line)
    first = painted if painted is not None else head
    return [f"{first}{lines[0]}", *(" " * len(head) + rest for rest in lines[1:])]


def _clip(text: str, width: int) -> str:
    return text if len(text) <= width else text[: max(1, width - 1)] + "…"


def _place(where: Location | None) -> dict[str, Any] | None:
    if where is None:
        return None
    return {"file": where.file, "line": where.line, "column": where.column, "text": where.text}


def _path(trail: Trail) -> list[Station]:
    """The last source lines on the way, each once in a row, with the branches taken."""
    stations: list[Station] = []
    steps = trail.path(4000)
    for index, step in enumerate(steps):
        following = steps[index + 1] if index + 1 < len(steps) else None
        took = _branch(step, following)
        same = (
            stations
            and step.source is not None
            and stations[-1].location is not None
            and (stations[-1].location.line, stations[-1].location.text)
            == (step.source.line, step.source.text)
        )
        if same:
            if took:
                stations[-1] = stations[-1]._replace(branch=took)
        elif step.source is not None or took or step is trail.last:
            stations.append(Station(step.pc, step.source, step.text, took))
    return stations[-_PATH:]


def _branch(step: Step, following: Step | None) -> str:
    if not step.text.startswith("if ") or following is None:
        return ""
    condition = step.text.partition(" goto")[0][3:]
    register = condition[: condition.find(" ")]
    named = story.value(step.parent, "R" + register[1:])
    taken = following.pc != step.pc + 1
    what = ""
    if named is not None and named.is_pointer:
        if named.kind.endswith("_or_null") and condition.endswith(("== 0x0", "!= 0x0")):
            return f"{register} is {'NULL' if taken == ('==' in condition) else 'not NULL'}"
        what = f" ({named.kind})"
    below = _BELOW_ZERO.search(condition)
    if below:
        condition = condition[: below.start(1)] + str(int(below[1], 16) - (1 << 32))
    return f"{condition}{what}: {'yes' if taken else 'no'}"


#: a signed comparison with a negative number, as logs write it
_BELOW_ZERO: Final = re.compile(r" s[<>]=? (0x[89a-f][0-9a-f]{7})$")
