"""Logs as people paste them: what loggers, terminals, mail and issue forms put around a line is taken off.

Known are: libbpf, Go's library (its one-line errors too), logfmt and JSON loggers, strace, Rust's aya, the
kernel's and systems' journals, docker compose, kubectl, CI runners, quoted mail, indented code, colours.
"""

from __future__ import annotations

import re
from typing import Final

_COLOUR: Final = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_STEP: Final = re.compile(r"\d+: \([0-9a-f]{2}\) ")
_QUOTED: Final = re.compile(r'(?:^|\s)msg="((?:\\.|[^"\\])*)"')
_ESCAPES: Final = {
    "n": "\n",
    "t": "\t",
    '"': '"',
    "\\": "\\",
    "r": "",
    "u003c": "<",
    "u003e": ">",
    "u0026": "&",
}
_ESCAPE: Final = re.compile(r"\\(u003[ce]|u0026|.)")
#: what stands before a line; taken off again and again
_PREFIX: Final = re.compile(
    r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d[\d.,]*(?:Z|[+-]\d\d:?\d\d)? ?|"  # a time
    r"\d{4}/\d\d/\d\d \d\d:\d\d:\d\d(?:\.\d+)? |"
    r"[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \S+ [\w./-]+(?:\[\d+\])?: |"  # a journal
    r"\[ *\d+\.\d+\] |"  # the kernel's
    r"libbpf: |"
    r"(?:> ?)+|"
    r"[\w.-]+ +\| "
)
_AFTER: Final = re.compile(r"[Vv]erifier output: *|[Vv]erifier log: *(?=\d+: |R\d+[ =!]|func#|Live regs)")
#: "load program: permission denied: 12: (61) r1 = …: R1 invalid mem access …: more (200 line(s) omitted)"
_SHORT: Final = re.compile(
    r"load program: (?:permission denied|invalid argument|argument list too long|operation not permitted|"
    r"no space left on device|bad address|(?:operation )?not supported|no such file or directory): (.+)$"
)
_OMITTED: Final = re.compile(r" \((?:truncated, )?\d+ line\(s\) omitted\).*$| \(BTF disabled\).*$")
_SHORT_STEP: Final = re.compile(r"(\d+: \([0-9a-f]{2}\) .+?)(?:: (?=[A-Za-z])(.*))?$")


_INSIDE: Final = re.compile(r'log_buf="|"error": ?"|"msg": ?"[^"]*\n|[Vv]erifier (?:log|error)[^\n]*: ?')


def lines(text: str) -> list[str]:
    """The lines of a log, bare."""
    if "\x1b" in text:
        text = _COLOUR.sub("", text)
    if "\\n" in text:
        text = "\n".join(_spread(line) for line in text.split("\n"))
    out: list[str] = []
    for line in text.splitlines():
        line = _bare(line.rstrip())
        split = _AFTER.search(line)
        if split:
            out.append(line[: split.end()].rstrip())
            line = line[split.end() :]
        out.append(line)
    out = _outdented(out)
    if not any(_STEP.match(line) for line in out):
        for line in reversed(out):
            short = _SHORT.search(line)
            if short:
                return [line[: short.start()], *_one_line(short[1])]
    return out


def _spread(line: str) -> str:
    """A line that holds a whole log with its line ends escaped (strace, JSON)."""
    if not (_STEP.search(line) and line.count("\\n") >= 3) and not (
        "processed " in line and _INSIDE.search(line)
    ):
        return line
    text = _unescaped(line)
    at = text.find('"', text.rfind("processed ")) if "processed " in text else -1
    start = _INSIDE.search(text)
    return (text[:at] if at > 0 else text)[start.end() if start and start.end() < at else 0 :]


def _unescaped(text: str) -> str:
    return _ESCAPE.sub(lambda found: _ESCAPES.get(found[1], found[0]), text)


def _bare(line: str) -> str:
    """The line without what a logger wrote before and behind it."""
    for _ in range(4):
        quoted = _QUOTED.search(line)
        if quoted and ("level=" in line or "time=" in line or "subsys=" in line):
            line = _unescaped(quoted[1])
            continue
        found = _PREFIX.match(line)
        if not found:
            break
        line = line[found.end() :]
    return line


def _outdented(found: list[str]) -> list[str]:
    """Without the indentation that the instructions have, so far as lines have it."""
    margins = {len(line) - len(line.lstrip()) for line in found if _STEP.match(line.lstrip())}
    margin = max(margins, default=0)
    if not margin:
        return found
    out = []
    for line in found:
        indent = len(line) - len(line.lstrip())
        out.append(line[min(indent, margin) :])
    return out


def _one_line(text: str) -> list[str]:
    """Go's summary of a log, its last lines joined by colons."""
    text = _OMITTED.sub("", text)
    out: list[str] = []
    step = _SHORT_STEP.match(text)
    if step:
        out.append(step[1])
        text = step[2] or ""
    out += [part for part in re.split(r": (?=R\d+ |processed \d)", text) if part]
    return out
