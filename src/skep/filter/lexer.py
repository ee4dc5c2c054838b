"""Words of the filter language: one compiled pattern, one pass, no backtracking worth the name.

The rules are flex's: the longest match wins, and of equally long ones the first in this order:
keyword, hardware address, number, dotted numbers, IPv6 address, named constant, name. So `len-1`
is one name, `1-2` too, and `1 - 2` is arithmetic; `tcp[0:2]` stays what it looks like.
"""

from __future__ import annotations

import re
from functools import cache
from typing import NamedTuple

from skep.errors import FilterSyntaxError
from skep.filter.words import CONSTANTS, KEYWORDS

# Kinds of token that carry text or a number. Keywords and signs are their own kind.
NUM = "number"
NAME = "name"
DOTTED = "IPv4 address"
HEX6 = "IPv6 address"
MAC = "hardware address"
ARCNET = "ARCNET address"
PROTO = "protocol"
DIR = "direction"
KIND = "address type"
IN = "in"  # `host in FILE`: two tokens
FILE = "file"
END = "end"

#: What a word that is all hex digits may start: a MAC or IPv6 address, when a colon follows.
_HEX = frozenset("0123456789abcdefABCDEF")

# A word ends in a letter, digit or dot; dashes and underscores before that belong to it.
_PATTERN = (
    r"[ \r\n\t]*(?:([A-Za-z0-9](?:[-_.A-Za-z0-9]*[.A-Za-z0-9])?)"
    r"|(<<|>>|>=|<=|!=|==|&&|\|\||[-+*/%\[\]!<>()&|^=])|(:)|(\\[^ !()\n\t]+)|(\$[0-9A-Fa-f]{1,2})|())"
)
_N = r"(?:0[xX][0-9A-Fa-f]+|[0-9]+)"
_NO_FILE = ("and", "or", "&&", "||")  # what follows a host that is named "in"
_SPELLED = {"&&": "and", "||": "or", "!": "not", "==": "="}


class Tokens(NamedTuple):
    """Parallel lists; the last token is END. ``starts`` and ``ends`` are offsets in characters."""

    kinds: list[str]
    values: list[str | int]
    starts: list[int]
    ends: list[int]


@cache
def _scanner() -> re.Pattern[str]:
    return re.compile(_PATTERN)


@cache
def _number() -> re.Pattern[str]:
    return re.compile(_N)


@cache
def _dotted() -> re.Pattern[str]:
    return re.compile(rf"{_N}(?:\.{_N}){{1,3}}")


@cache
def _mac_word() -> re.Pattern[str]:
    b = "[0-9A-Fa-f]"
    return re.compile(
        rf"{b}{b}?(?:(?:-{b}{b}?){{5}}|(?:\.{b}{b}?){{5}})|{b}{{4}}\.{b}{{4}}\.{b}{{4}}|{b}{{12}}"
    )


@cache
def _mac_colons() -> re.Pattern[str]:
    return re.compile(r"[0-9A-Fa-f]{1,2}(?::[0-9A-Fa-f]{1,2}){5}")


@cache
def _colon_run() -> re.Pattern[str]:
    """At least two groups of one or two hex digits that end in colons: meant as an address, and wrong."""
    return re.compile(r"[0-9A-Fa-f]{1,2}:+(?:[0-9A-Fa-f]{1,2}:+)+")


@cache
def _group() -> re.Pattern[str]:
    return re.compile(r"[0-9A-Fa-f]{1,4}")


@cache
def _file_name() -> re.Pattern[str]:
    return re.compile(r"[ \r\n\t]+([^ \r\n\t()]+)")


@cache
def _quad() -> re.Pattern[str]:
    return re.compile(rf"{_N}\.{_N}\.{_N}\.{_N}")


def lex(text: str) -> Tokens:
    """Tokens of ``text``.

    Raises:
        FilterSyntaxError: a character that starts no word, a number over 32 bits, a wrong octal
            number, or a colon-separated address that is none.
    """
    kinds: list[str] = []
    values: list[str | int] = []
    starts: list[int] = []
    ends: list[int] = []
    # The same words come again and again: each is looked at once.
    known: dict[str, tuple[str, str | int]] = dict(KEYWORDS)
    scan = _scanner().match
    pos, size = 0, len(text)
    while True:
        match = scan(text, pos)
        assert match is not None  # the last alternative is empty
        group = match.lastindex or 0
        start, end = match.span(group)
        if group == 1:
            word = text[start:end]
            if end < size and text[end] == ":" and len(word) <= 4 and _HEX.issuperset(word):
                kind, value, end = _with_colons(text, start, end, word, known)
            else:
                found = known.get(word)
                if found is None:
                    found = known[word] = _classify(text, word, start, end)
                kind, value = found
                if word == "in" and kinds and kinds[-1] == KIND and values[-1] in ("host", "net"):
                    file = _file_name().match(text, end)
                    if file is not None and file[1] not in _NO_FILE:
                        kinds.append(IN)
                        values.append(word)
                        starts.append(start)
                        ends.append(end)
                        kind, value = FILE, file[1]
                        start, end = file.span(1)
        elif group == 2:
            kind = text[start:end]
            kind = value = _SPELLED.get(kind, kind)
        elif group == 3:
            if text.startswith("::", start):
                kind, value, end = _with_colons(text, start, start, "", known)
            else:
                kind = value = ":"
        elif group == 4:
            kind, value = NAME, text[start + 1 : end]
        elif group == 5:
            kind, value = ARCNET, text[start + 1 : end]
        elif start == size:
            kinds.append(END)
            values.append("")
            starts.append(size)
            ends.append(size)
            return Tokens(kinds, values, starts, ends)
        else:
            raise FilterSyntaxError(
                f"{text[start]!r} starts no word of the filter language",
                source=text,
                column=start,
                end_column=start + 1,
                hint="a name with odd characters is written after a backslash" if text[start] > " " else None,
            )
        kinds.append(kind)
        values.append(value)
        starts.append(start)
        ends.append(end)
        pos = end


def _classify(text: str, word: str, start: int, end: int) -> tuple[str, str | int]:
    """Kind and value of a word that is no keyword."""
    if word[0] in _HEX:
        if _mac_word().fullmatch(word):
            return MAC, word
        if word[0].isdigit():
            if _number().fullmatch(word):
                return NUM, _to_number(text, word, start, end)
            if _dotted().fullmatch(word):
                return DOTTED, word
    constant = CONSTANTS.get(word)
    if constant is not None:
        return NUM, constant
    return NAME, word


def _to_number(text: str, word: str, start: int, end: int) -> int:
    """C's notations: 0x for hexadecimal, a leading 0 for octal."""
    problem = f"number {word if len(word) < 40 else word[:40] + '...'} does not fit 32 bits"
    if word[1:2] in ("x", "X"):
        digits, base = word[2:].lstrip("0"), 16
    elif word[0] == "0":
        digits, base = word.lstrip("0"), 8
        if not set(digits) <= set("01234567"):
            raise FilterSyntaxError(
                f"a number that starts with 0 is octal, {word[:40]} is not",
                source=text,
                column=start,
                end_column=end,
            )
    else:
        digits, base = word, 10
    # Converting a long run of digits is quadratic; none longer than this fits.
    value = int(digits or "0", base) if len(digits) <= 11 else 1 << 32
    if value >> 32:
        raise FilterSyntaxError(problem, source=text, column=start, end_column=end)
    return value


def _with_colons(
    text: str, start: int, end: int, word: str, known: dict[str, tuple[str, str | int]]
) -> tuple[str, str | int, int]:
    """The longest of: an address with colons that starts at ``start``, or ``word`` alone."""
    mac = _mac_colons().match(text, start)
    run = _colon_run().match(text, start)
    mac_end = mac.end() if mac else -1
    run_end = run.end() if run else -1
    six_end = _ipv6_end(text, start)
    if max(mac_end, run_end, six_end) <= end:
        if not word:
            return ":", ":", start + 1
        found = known.get(word) or _classify(text, word, start, end)
        return (*found, end)
    if mac_end >= six_end and mac_end >= run_end:
        return MAC, text[start:mac_end], mac_end
    if six_end >= run_end:
        return HEX6, text[start:six_end], six_end
    raise FilterSyntaxError(
        f"{text[start:run_end][:60]} is no Ethernet address",
        source=text,
        column=start,
        end_column=run_end,
        hint="six groups of one or two hex digits, or an IPv6 address",
    )


def _ipv6_end(text: str, start: int) -> int:
    """End of the longest text that has the shape of an IPv6 address, -1 for none."""
    group, quad = _group(), _quad()
    pos, before, best = start, 0, -1
    # Groups up to "::" or up to eight.
    while True:
        match = group.match(text, pos)
        if match is None:
            break
        before += 1
        pos = match.end()
        if before == 8:
            return pos
        if not text.startswith(":", pos):
            return best
        if text.startswith("::", pos):
            break
        if before == 6:
            tail = quad.match(text, pos + 1)
            if tail:
                best = tail.end()
        pos += 1
    if not text.startswith("::", pos) or before > 7:
        return best
    pos += 2
    best = max(best, pos)
    after = 0
    while before + after <= 7:
        if before + after <= 5:
            tail = quad.match(text, pos)
            if tail:
                best = max(best, tail.end())
        match = group.match(text, pos)
        if match is None or before + after == 7:
            break
        after += 1
        pos = match.end()
        best = max(best, pos)
        if not text.startswith(":", pos):
            break
        pos += 1
    return best
