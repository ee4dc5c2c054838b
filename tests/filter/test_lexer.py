"""Words: longest match, flex's order, and no garbage that hangs or crashes."""

from __future__ import annotations

import random
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skep.errors import FilterSyntaxError
from skep.filter import Names, compile
from skep.filter.lexer import lex
from tests.support import libpcap
from tests.support.expressions import seed

MAC = "hardware address"
SIX = "IPv6 address"
FOUR = "IPv4 address"


def words(text: str) -> list[tuple[str, str | int]]:
    tokens = lex(text)
    return list(zip(tokens.kinds, tokens.values, strict=True))[:-1]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10", [("number", 10)]),
        ("010", [("number", 8)]),
        ("0x1F", [("number", 31)]),
        ("0", [("number", 0)]),
        ("4294967295", [("number", 0xFFFFFFFF)]),
        ("00000000000000000000000000017", [("number", 15)]),
        ("tcp-syn", [("number", 2)]),
        ("icmp6-routeradvert", [("number", 134)]),
        ("10.1", [(FOUR, "10.1")]),
        ("10.1.2.3", [(FOUR, "10.1.2.3")]),
        ("10.1.2.3.4", [("name", "10.1.2.3.4")]),
        ("1-2", [("name", "1-2")]),
        ("1 - 2", [("number", 1), ("-", "-"), ("number", 2)]),
        ("len-1", [("name", "len-1")]),
        ("80-90", [("name", "80-90")]),
        ("foo-", [("name", "foo"), ("-", "-")]),
        ("a_b", [("name", "a_b")]),
        ("es-is", [("protocol", "esis")]),
        ("wlan", [("protocol", "link")]),
        ("\\tcp", [("name", "tcp")]),
        ("\\a,b", [("name", "a,b")]),
        ("$1f", [("ARCNET address", "1f")]),
        ("&&", [("and", "and")]),
        ("a||b", [("name", "a"), ("or", "or"), ("name", "b")]),
        ("==", [("=", "=")]),
        ("<<=", [("<<", "<<"), ("=", "=")]),
        ("0:1:2:3:4:5", [(MAC, "0:1:2:3:4:5")]),
        ("00-11-22-33-44-55", [(MAC, "00-11-22-33-44-55")]),
        ("0.1.2.3.4.5", [(MAC, "0.1.2.3.4.5")]),
        ("0011.2233.4455", [(MAC, "0011.2233.4455")]),
        ("001122334455", [(MAC, "001122334455")]),
        ("123456789012", [(MAC, "123456789012")]),
        ("::", [(SIX, "::")]),
        ("::1", [(SIX, "::1")]),
        ("fe80::", [(SIX, "fe80::")]),
        ("fe80::1", [(SIX, "fe80::1")]),
        ("1:2:3:4:5:6:7:8", [(SIX, "1:2:3:4:5:6:7:8")]),
        ("1:2:3:4:5:6:7::", [(SIX, "1:2:3:4:5:6:7::")]),
        ("::ffff:10.0.0.1", [(SIX, "::ffff:10.0.0.1")]),
        ("1:2:3:4:5:6:10.0.0.1", [(SIX, "1:2:3:4:5:6:10.0.0.1")]),
        ("tcp[0:2]", [("protocol", "tcp"), ("[", "["), ("number", 0), (":", ":"), ("number", 2), ("]", "]")]),
        ("host in x.txt", [("address type", "host"), ("in", "in"), ("file", "x.txt")]),
        ("host in or", [("address type", "host"), ("name", "in"), ("or", "or")]),
        ("net in ./a~b,c or", [("address type", "net"), ("in", "in"), ("file", "./a~b,c"), ("or", "or")]),
    ],
)
def test_words(text: str, expected: list[tuple[str, str | int]]) -> None:
    assert words(text) == expected


@pytest.mark.parametrize(
    ("text", "column", "end", "reason"),
    [
        ("tcp ; udp", 4, 5, "starts no word"),
        ("host caf\u00e9", 8, 9, "starts no word"),
        ("ip\x00", 2, 3, "starts no word"),
        ("port 4294967296", 5, 15, "32 bits"),
        ("port 0x100000000", 5, 16, "32 bits"),
        ("port 089", 5, 8, "octal"),
        ("ether host 1:2:3:4:5", 11, 19, "no Ethernet address"),
    ],
)
def test_refused_words(text: str, column: int, end: int, reason: str) -> None:
    with pytest.raises(FilterSyntaxError, match=reason) as caught:
        lex(text)
    assert (caught.value.column, caught.value.end_column) == (column, end)
    assert str(caught.value).startswith(f"column {column + 1}: ")


def test_offsets_are_those_of_the_text() -> None:
    text = "  tcp[0:2]\t=  0x50 or host fe80::1"
    tokens = lex(text)
    shown = [text[a:b] for a, b in zip(tokens.starts, tokens.ends, strict=True)]
    assert shown == ["tcp", "[", "0", ":", "2", "]", "=", "0x50", "or", "host", "fe80::1", ""]


@given(st.text(alphabet=string.printable + "é\x00\u2028", max_size=60))
@settings(max_examples=400, deadline=None, derandomize=True)
def test_any_text_compiles_or_is_refused(text: str) -> None:
    try:
        compile(text, names=Names(hosts="/nonexistent"))
    except FilterSyntaxError as error:
        assert "\n" not in str(error)
        assert error.column is None or 0 <= error.column <= len(text)


def test_address_like_words_as_libpcap_reads_them() -> None:
    """Runs of hex digits, dots and colons, accepted or refused like libpcap's."""
    number = seed(5)
    rng = random.Random(number)
    names = Names()
    accepted = 0
    for _ in range(4000):
        pieces = [
            rng.choice(("1", "ab", "10", "fe80", "0", "255", "12345", "::", ":", ".", "-", "x"))
            for _ in range(rng.randint(1, 14))
        ]
        if rng.randrange(3):
            pieces = [piece + rng.choice(":::.-") if piece.isalnum() else piece for piece in pieces]
        word = "".join(pieces).strip(rng.choice(("", ".:-", ":")))
        text = f"{rng.choice(('ether host', 'net', 'ip6 src net'))} {word}{rng.choice(('', '', '/64'))}"
        theirs = libpcap.compile(text, optimize=False)
        try:
            mine = [(i.code, i.jt, i.jf, i.k) for i in compile(text, optimise=False, names=names).insns]
        except FilterSyntaxError as error:
            assert theirs.insns is None, (number, text, str(error))
        else:
            assert mine == theirs.insns, (number, text, theirs.error)
            accepted += 1
    assert accepted > 20
