"""Lines of assembly text as tokens with columns."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from typing import Final, NamedTuple, NoReturn

from skep.errors import AsmError

#: Longest first: ``s>>=`` before ``s>``.
_OPERATORS: Final = (
    r"s(?:>>=|/=|%=|>=|<=|>|<)|<<=|>>=|==|!=|>=|<=|\+=|-=|\*=|/=|%=|&=|\|=|\^=|[-+*/()\[\],:&<>=#!|^]"
)
#: Digits of a number in the longest notation, base 2, and some zeros.
_LONGEST: Final = 100
_ANNOTATION: Final = re.compile(r"#@\s*(.*)$")


class Token(NamedTuple):
    """``kind`` is "word", "number", "op" or "end"; ``column`` counts from 0."""

    kind: str
    text: str
    column: int


@functools.cache
def _scanner() -> re.Pattern[str]:
    return re.compile(
        r"\s*(?:(?P<number>0[xX][0-9a-fA-F]+|0[bB][01]+|[0-9]+)"
        rf"|(?P<op>{_OPERATORS})"
        r"|(?P<word>%?[A-Za-z_.$@][\w.$@]*|%(?=[ax]\b))"
        r"|(?P<bad>\S))",
        re.ASCII,
    )


def blank_comments(text: str, marks: tuple[str, ...], file: str | None) -> Iterator[tuple[int, str, str]]:
    """(line number, line without comments, annotation) of each line that has anything.

    Comments are ``/* … */``, which may span lines, and from any of ``marks`` to the end of the line.
    Columns stay as they are. An annotation is what follows ``#@``.
    """
    inside = 0  # line where an open /* began
    cut = re.compile("|".join(["/\\*", *map(re.escape, marks)]))
    for number, line in enumerate(text.splitlines(), 1):
        pieces: list[str] = []
        annotation = ""
        at = 0
        while at < len(line):
            if inside:
                close = line.find("*/", at)
                end = close + 2 if close >= 0 else len(line)
                inside = 0 if close >= 0 else inside
                pieces.append(" " * (end - at))
                at = end
                continue
            found = cut.search(line, at)
            if found is None:
                pieces.append(line[at:])
                break
            start = found.start()
            if found.group() == "/*":
                pieces += line[at:start], "  "
                inside, at = number, start + 2
            elif found.group() == "#" and _is_operand(line, start):
                pieces.append(line[at : start + 1])
                at = start + 1
            else:
                if noted := _ANNOTATION.match(line, start):
                    annotation = noted.group(1)
                pieces.append(line[at:start])
                break
        kept = "".join(pieces)
        if kept.strip():
            yield number, kept, annotation
    if inside:
        raise AsmError("a comment that is never closed", file=file, source=text, line=inside, column=0)


def _is_operand(line: str, at: int) -> bool:
    """``call bpf_x#5``: a number sign between a name and a number, in a call, is no comment."""
    before = line[max(0, at - 100) : at]
    return bool(re.search(r"\bcall\s+[\w-]+$", before) and re.match(r"-?[0-9]", line[at + 1 : at + 3]))


class Line:
    """The tokens of one statement, read from left to right."""

    __slots__ = ("_tokens", "at", "file", "number", "source")

    def __init__(self, text: str, number: int, source: str, file: str | None) -> None:
        self.number = number
        self.source = source
        self.file = file
        self.at = 0
        self._tokens: list[Token] = []
        scanner, position = _scanner(), 0
        while found := scanner.match(text, position):
            kind = found.lastgroup or "bad"
            token = Token(kind, found.group(kind), found.start(kind))
            if kind == "bad":
                self.fail(f"{token.text!r} means nothing here", token)
            if kind == "number" and len(token.text) > _LONGEST:
                self.fail("a number too long for any instruction", token)
            self._tokens.append(token)
            position = found.end()
        self._tokens.append(Token("end", "", len(text.rstrip())))

    @property
    def token(self) -> Token:
        return self._tokens[self.at]

    def peek(self, ahead: int = 1) -> Token:
        return self._tokens[min(self.at + ahead, len(self._tokens) - 1)]

    def take(self) -> Token:
        token = self._tokens[self.at]
        if token.kind != "end":
            self.at += 1
        return token

    def skip(self, text: str) -> bool:
        """Take the next token if it reads ``text`` (upper or lower case)."""
        if self.token.kind != "end" and self.token.text.lower() == text:
            self.at += 1
            return True
        return False

    def expect(self, text: str) -> Token:
        token = self.token
        if not self.skip(text):
            self.fail(f"expected {text!r}, found {self.found()}")
        return token

    def end(self) -> None:
        if self.token.kind != "end":
            self.fail(f"expected the end of the instruction, found {self.found()}")

    def found(self) -> str:
        return repr(self.token.text) if self.token.kind != "end" else "the end of the line"

    def number_token(self, what: str = "a number") -> int:
        """An integer with an optional sign, or both (listings print `+-4`)."""
        self.skip("+")
        sign = -1 if self.skip("-") else 1
        if self.token.kind != "number":
            self.fail(f"expected {what}, found {self.found()}")
        return sign * integer(self.take().text)

    def fail(self, reason: str, token: Token | None = None, hint: str | None = None) -> NoReturn:
        token = token or self.token
        raise AsmError(
            reason,
            file=self.file,
            source=self.source,
            line=self.number,
            column=token.column,
            end_column=token.column + max(1, len(token.text)),
            hint=hint,
        )


def integer(text: str) -> int:
    """Decimal (leading zeros allowed), 0x or 0b."""
    return int(text, 10) if text.isdigit() else int(text, 0)
