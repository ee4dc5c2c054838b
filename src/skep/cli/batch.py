"""`skep batch file FILE`: bpftool's batch mode, many commands of its nouns in one process."""

from __future__ import annotations

import io
import sys
from contextlib import redirect_stdout

from skep.cli.noun.command import Call, split
from skep.cli.noun.command import run as run_noun
from skep.cli.noun.words import Usage, Words
from skep.errors import SkepError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import IO, Any, Final


VERBS = {"file": "skep.cli.batch:file"}
#: what a line may start with
NOUNS: Final = ("prog", "map", "link", "cgroup", "net", "btf", "iter", "struct_ops", "gen", "feature", "perf")
_OPTIONS: Final = {"json": "-j", "pretty": "-p", "bpffs": "-f", "nomount": "-n", "pids": "-P", "all": "-a"}
_SPACE: Final = " \t\r\n"

USAGE = """\
usage: skep batch file FILE

       Runs the commands in FILE (-: standard input), one a line and without "skep", until one fails.
       '…' and "…" hold words with spaces, # starts a comment, \\ at its end continues a line.
       Options before "batch" hold for every line; with -j the answers make one array.
"""


def main(argv: Sequence[str]) -> int:
    return run_noun("batch", VERBS, USAGE, argv)


def file(call: Call, words: Words) -> int:
    path = words.take("FILE")
    words.end()
    if path == "-":
        return _Batch(call, "standard input").run(sys.stdin)
    with open(path, encoding="utf-8", errors="surrogateescape") as source:
        return _Batch(call, path).run(source)


class _Batch:
    def __init__(self, call: Call, where: str) -> None:
        self.call = call
        self.where = where
        self.options = [word for name, word in _OPTIONS.items() if name in call.options]
        self.answers: list[dict[str, Any]] = []

    def run(self, source: IO[str]) -> int:
        done, status = 0, 0
        try:
            for number, line in logical_lines(source):
                words = arguments(line, f"{self.where}, line {number}")
                if not words:
                    continue
                status = self._one(words, number)
                if status:
                    break
                done += 1
        finally:
            if self.call.json:
                self.call.emit(self.answers)
        if not status and not self.call.json:
            print(f"processed {done} commands")
        return status

    def _one(self, words: list[str], number: int) -> int:
        """Run one line; its exit status."""
        where = f"{self.where}, line {number}"
        try:
            noun = split(words)[2][0]
        except (Usage, IndexError):
            noun = words[0]
        chosen = next((name for name in NOUNS if name == noun), None) or next(
            (name for name in NOUNS if name.startswith(noun)), None
        )
        if chosen is None:
            raise SkepError(f"{where}: no command {noun!r}: {', '.join(NOUNS)}")
        rest = list(words)
        rest.remove(noun)
        module = "links" if chosen == "link" else chosen
        command = __import__(f"skep.cli.{module}", fromlist=["main"]).main
        if not self.call.json:
            try:
                return int(command([*self.options, *rest]))
            except SkepError as error:
                raise SkepError(f"{where}: {error}") from error
        out = io.StringIO()
        with redirect_stdout(out):
            status = int(command([*self.options, *rest]))
        self.answers.append({"command": words, "output": _parsed(out.getvalue())})
        return status


def _parsed(text: str) -> Any:
    """What a command said in JSON; text that is none (usage, C) as a string."""
    import json

    from skep.cli.noun.jsontext import Pairs

    if not text.strip():
        return None
    try:
        return json.loads(text, object_pairs_hook=Pairs)
    except ValueError:
        return text


def logical_lines(source: IO[str]) -> Iterator[tuple[int, str]]:
    """(number, text) of lines without comments, those that end in a backslash joined with the next."""
    whole, first = "", 0
    for number, line in enumerate(source, 1):
        text = line.partition("#")[0].rstrip("\n")
        first = first or number
        if text.endswith("\\"):
            whole += text[:-1]
            continue
        yield first, whole + text
        whole, first = "", 0
    if first:
        raise SkepError(f"line {first}: the line that continues it is missing")


def arguments(line: str, where: str) -> list[str]:
    """The words of a line, as bpftool splits them."""
    out: list[str] = []
    at = 0
    while at < len(line):
        if line[at] in _SPACE:
            at += 1
        elif line[at] in "'\"":
            end = line.find(line[at], at + 1)
            if end < 0:
                raise SkepError(f"{where}: a quoted string does not end")
            out.append(line[at + 1 : end])
            at = end + 1
        else:
            end = next((i for i in range(at, len(line)) if line[i] in _SPACE), len(line))
            out.append(line[at:end])
            at = end
    return out
