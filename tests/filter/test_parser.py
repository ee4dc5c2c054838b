"""The grammar: nesting without limit, inherited qualifiers, precedence, and where errors point."""

from __future__ import annotations

import pytest

from skep.errors import FilterSyntaxError
from skep.filter import compile
from skep.isa.classic import ClassicInsn
from tests.support import libpcap


def code(text: str, **options: object) -> list[tuple[int, int, int, int]]:
    return [tuple(insn) for insn in compile(text, optimise=False, **options).insns]  # type: ignore[arg-type, misc]


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("ip and tcp or udp", "(ip and tcp) or udp"),
        ("ip or tcp and udp", "(ip or tcp) and udp"),
        ("not ip and tcp", "(not ip) and tcp"),
        ("not (ip) or tcp", "(not ip) or tcp"),
        ("port 80 or 443", "port 80 or port 443"),
        (
            "tcp src port 80 or 443 and not 22",
            "(tcp src port 80 or tcp src port 443) and not tcp src port 22",
        ),
        ("host 10.0.0.1 or 10.0.0.2", "host 10.0.0.1 or host 10.0.0.2"),
        ("1 + 2 % 3 * 4 = 5", "1 + (2 % (3 * 4)) = 5"),
        ("2 * 3 + 4 = 5", "(2 * 3) + 4 = 5"),
        ("2 ^ 3 + 4 = 5", "2 ^ (3 + 4) = 5"),
        ("1 | 2 & 3 << 4 = 5", "1 | (2 & (3 << 4)) = 5"),
        ("7 - 2 - 1 = 4", "(7 - 2) - 1 = 4"),
        ("- 5 % 3 = 1", "-(5 % 3) = 1"),
        ("- 5 + 3 = 1", "(-5) + 3 = 1"),
        ("direction fromds", "dir fromds"),
    ],
)
def test_groupings(text: str, same: str) -> None:
    linktype = 105 if "fromds" in text else 1
    assert code(text, linktype=linktype) == code(same, linktype=linktype)


@pytest.mark.parametrize(
    ("text", "column", "end", "reason"),
    [
        ("", None, None, ""),
        ("tcp prot 80", 4, 8, "'prot' is out of place, expected 'and' or 'or'"),
        ("tcp and", 7, 8, "the expression ends, expected a primitive"),
        ("(tcp or udp", 11, 12, "the expression ends, expected 'and', 'or' or ')'"),
        ("tcp)", 3, 4, "out of place"),
        ("ospf", 0, 4, "'ospf' is no word of the filter language a name has host"),
        ("host 10.0.0.300 or tcp", 5, 15, "10.0.0.300 is no IPv4 address"),
        ("tcp and net 10.0.0.1/8", 12, 22, "host bits set"),
        ("tcp or 80", 7, 9, "needs to be told what it is"),
        ("icmp port 7", 10, 11, "'icmp' has no ports"),
        ("port 70000", 5, 10, "over 65535"),
        ("port nosuch", 5, 11, "/etc/services"),
        ("host nosuch.invalid", 5, 19, "name servers are not asked"),
        ("tcp[0:3] = 1", 0, 8, "3 bytes cannot be loaded"),
        ("tcp[0", 5, 6, "expected ]"),
        ("ip[0] = ", 8, 9, "the expression ends, expected a number"),
        ("1 / 0 = 5", 4, 5, "division by zero"),
        ("src foo dst", 4, 7, "/etc/hosts"),
        ("src or 10.0.0.1", 7, 15, "expected dst, as in src or dst"),
        ("src proto 6", 4, 9, "takes no direction"),
        ("vlan 5000", 0, 9, "over 4095"),
        ("type mgt", 0, 8, "802.11"),
        ("wlan type foo", 0, 13, "no 802.11 frame type"),
        ("byte 5 + 3", 7, 8, "expected one of"),
        ("port 80 + 1 = 81", 8, 9, "no arithmetic with qualifiers"),
        ("1 = 2 and ip = 3", 13, 14, "out of place"),
        ("ip and 1 = 2 and arp", None, None, "rejects all packets"),
    ],
)
def test_errors_point_at_the_place(text: str, column: int | None, end: int | None, reason: str) -> None:
    if not text:
        assert compile(text).insns == (ClassicInsn(6, 0, 0, 262144),)
        return
    with pytest.raises(FilterSyntaxError) as caught:
        compile(text)
    error = caught.value
    assert reason in error.reason + " " + (error.hint or "")
    assert error.source == text
    if column is not None:
        assert (error.column, error.end_column) == (column, end)
        caret = error.pointer().splitlines()[1]
        assert caret.index("^") == column
    assert libpcap.compile(text).insns is None


@pytest.mark.parametrize("depth", [10, 10_000])
def test_deep_nesting(depth: int) -> None:
    nested = code("(" * depth + "ip" + ")" * depth)
    assert nested == code("ip")
    assert code("not " * depth + "ip") == code("ip")
    assert len(code("(ip or " * depth + "tcp" + ")" * depth)) > depth
    assert len(code("tcp[" * depth + "0" + "]" * depth + " = 5")) > depth
    total = code("(" * depth + "ip[0]" + " + 1)" * depth + " = 5")
    assert len(total) > depth
    with pytest.raises(FilterSyntaxError, match="expression ends"):
        compile("(" * depth)


@pytest.mark.parametrize(
    "text",
    [
        "a" * 1_000_000,
        "1" * 1_000_000,
        "1." * 500_000,
        "1:" * 500_000,
        "a-" * 500_000,
        "a" + "-" * 1_000_000,
        "::" * 500_000,
        "(" * 1_000_000,
        "not " * 250_000,
        "\\" * 1_000_000,
        "host 1.2.3.4/" * 70_000,
        "tcp[" * 250_000,
        "host " + "a" * 1_000_000,
        "port " + "a" * 1_000_000,
        "ether host " + "a" * 1_000_000,
        "host in " + "a" * 1_000_000,
        "net 1." + "0" * 1_000_000 + "1/8",
        "llc " + "a" * 1_000_000,
        "portrange " + "x-" * 500_000 + "1",
        "ip proto \\" + "a" * 1_000_000,
        "wlan type " + "a" * 1_000_000,
    ],
)
def test_a_megabyte_of_nonsense_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(FilterSyntaxError) as caught:
        compile(text)
    assert len(str(caught.value)) < 300
    assert "\n" not in caught.value.pointer().splitlines()[0]


def test_a_megabyte_that_makes_sense() -> None:
    text = " or ".join(f"host 10.{n >> 16}.{n >> 8 & 255}.{n & 255}" for n in range(46_000))
    assert len(text) > 900_000
    assert len(compile(text, optimise=False).insns) > 12 * 46_000


def test_scratch_registers_run_out_with_an_error() -> None:
    text = "1+(" * 20 + "1" + ")" * 20 + " = 5"
    with pytest.raises(FilterSyntaxError, match="16"):
        compile(text)
    assert libpcap.compile(text).insns is None


def test_snaplen() -> None:
    assert compile("ip", snaplen=96).insns[-2] == ClassicInsn(6, 0, 0, 96)
    with pytest.raises(FilterSyntaxError, match="rejects all packets"):
        compile("ip", snaplen=0)


def test_unknown_link_type() -> None:
    with pytest.raises(FilterSyntaxError, match="link type 2 "):
        compile("ip", linktype=2)


@pytest.mark.parametrize(
    ("text", "where", "pointed"),
    [
        (
            "port 80\nor port\n443 or port foo",
            "line 3 column 13: port 'foo'",
            "443 or port foo\n            ^^^",
        ),
        ("ip\nand\n", "line 2 column 4: the expression ends", "and\n   ^"),
        ("(tcp\r\nor foo", "line 2 column 4: a name or number needs", "or foo\n   ^^^"),
    ],
)
def test_errors_in_several_lines_tell_the_line(text: str, where: str, pointed: str) -> None:
    with pytest.raises(FilterSyntaxError) as caught:
        compile(text)
    assert str(caught.value).startswith(where)
    assert caught.value.pointer() == pointed
