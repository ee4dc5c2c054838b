"""The command line of `skep filter`: tcpdump's letters, and every wrong use told with exit status 2."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path

import pytest

from skep.cli import main
from skep.cli.filter.options import Usage, help_text, parse, table
from skep.cli.filter.request import nanoseconds
from tests.support import pcapfiles
from tests.support.oracles import tool


def test_letters_bundle_and_mix_with_the_expression() -> None:
    args = parse(["tcp", "-nnr", "in.pcap", "-c5", "port", "--snapshot-length=96", "-wout", "80"])
    assert args.words == ["tcp", "port", "80"]
    assert args.list("inputs") == ["in.pcap"]
    assert args.flag("numeric") == 2
    assert (args.groups[0].limit, args.groups[0].write, args.groups[0].snaplen) == (5, "out", 96)


def test_two_dashes_end_the_options() -> None:
    assert parse(["-d", "--", "len", "-", "14", ">", "-5"]).words == ["len", "-", "14", ">", "-5"]


def test_long_options_may_be_shortened() -> None:
    assert parse(["--interf", "eth0"]).value("interface") == "eth0"
    with pytest.raises(Usage, match="ambiguous"):
        parse(["--no"])


def test_options_after_filter_are_its() -> None:
    args = parse(
        ["-i", "lo", "--filter", "tcp", "-w", "a", "-s", "96", "--filter", "udp", "-w", "b", "-c", "3"]
    )
    shown = [(group.expression, group.write, group.snaplen, group.limit) for group in args.groups[1:]]
    assert shown == [("tcp", "a", 96, None), ("udp", "b", None, 3)]


@pytest.mark.parametrize(
    "argv",
    [
        ["-k"],
        ["-w", "x", "tcp"],
        ["--count", "tcp"],
        ["-c", "5", "tcp"],
        ["--filter", "tcp"],
        ["--nothing"],
        ["-r"],
        ["-c", "none", "-r", "x"],
        ["-c", "0", "-r", "x"],
        ["--count=3"],
        ["-r", "x", "-i", "lo"],
        ["-r", "-", "-r", "-"],
        ["-r", "-", "-F", "-"],
        ["-V", "-", "-F", "-"],
        ["-r", "x", "--pcapng"],
        ["-r", "x", "--filter", "tcp"],
        ["-y", "NOSUCH", "tcp"],
        ["--send", "x"],
        ["--send", "x", "-i", "lo", "-w", "y"],
        ["--send", "x", "-i", "lo", "-r", "y"],
        ["--send", "x", "-i", "lo", "-d"],
        ["--send", "x", "-i", "lo", "--pps", "none"],
        ["-F", "x", "tcp"],
        ["-j", "pico", "-r", "x", "-w", "y"],
        ["-d", "-r", "x", "-r", "y"],
        ["-tttttt", "-r", "x"],
        ["--print", "tcp"],
        ["--lengths", "-r", "x"],
        ["--relinquish-privileges=nobody", "-i", "lo"],
        ["-s", "262145", "-r", "x"],
        ["-i", "lo", "--filter", "tcp", "-s", "262145"],
        ["-B", "2097152", "-i", "lo"],
        ["-Q", "inward", "-r", "x"],
    ],
)
def test_wrong_usage_exits_with_2(argv: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["filter", *argv]) == 2
    shown = capfd.readouterr()
    assert shown.out == "" and len(shown.err.splitlines()) == 1
    assert shown.err.startswith("skep filter: ")


def test_the_largest_values_that_tcpdump_takes() -> None:
    args = parse(["-s", "262144", "-B", "2097151"])
    assert (args.groups[0].snaplen, args.number("buffer", 0)) == (262144, 2097151)


def test_the_last_precision_counts() -> None:
    for argv, wanted in (
        (["--nano"], True),
        (["--nano", "--micro"], False),
        (["--time-stamp-precision=micro", "--nano"], True),
        (["--nano", "--time-stamp-precision", "micro"], False),
        ([], False),
    ):
        assert nanoseconds(parse(argv)) is wanted


def test_an_interface_gives_its_own_link_types(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["filter", "-L", "-i", "any"]) == 0
    assert "LINUX_SLL2 (Linux cooked v2)\n  LINUX_SLL (Linux cooked v1)\n" in capfd.readouterr().out
    assert main(["filter", "-d", "-i", "any", "-y", "LINUX_SLL", "ip"]) == 0
    assert "ldh      [14]" in capfd.readouterr().out
    assert main(["filter", "-d", "-i", "lo", "-y", "RAW", "ip"]) == 1
    assert "lo gives EN10MB packets, not RAW" in capfd.readouterr().err


@pytest.mark.parametrize("text", ["inbound", "ifindex 3", "tcp and not outbound"])
def test_there_is_no_machine_code_for_metadata(text: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["filter", "--native", text]) == 1
    assert "in the kernel, which has them; --ebpf shows it" in capfd.readouterr().err


def test_help_names_every_option(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["filter", "--help"]) == 0
    shown = capfd.readouterr().out
    assert shown == help_text() + "\n"
    for _, options in table():
        for option in options:
            assert all(name in shown for name in option.names)
    assert max(map(len, shown.splitlines())) <= 110


@pytest.mark.oracle
@pytest.mark.parametrize("letters", ["-d", "-dd", "-ddd", "-Od"])
@pytest.mark.parametrize(
    "expression", ["ip and tcp port 8080", "vlan and arp", "", "host 10.0.0.1 or net 10.2"]
)
def test_listings_are_tcpdumps(letters: str, expression: str, capfd: pytest.CaptureFixture[str]) -> None:
    theirs = subprocess.run(
        [tool("tcpdump"), "-y", "EN10MB", letters, expression], capture_output=True, text=True
    )
    assert main(["filter", letters, expression]) == 0
    assert capfd.readouterr().out == theirs.stdout


@pytest.mark.oracle
@pytest.mark.parametrize("link", [1, 113, 12 + 89, 0])
def test_a_listing_for_a_capture_is_for_its_link_type(
    tmp_path: Path, link: int, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "in.pcap"
    path.write_bytes(pcapfiles.capture([], link=link, snaplen=1500))
    theirs = subprocess.run(
        [tool("tcpdump"), "-Z", "root", "-r", str(path), "-d", "ip6 or tcp port 80"],
        capture_output=True,
        text=True,
    )
    assert main(["filter", "-r", str(path), "-d", "ip6 or tcp port 80"]) == 0
    assert capfd.readouterr().out == theirs.stdout


def test_every_form_of_a_program(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["filter", "--ebpf", "tcp port 80"]) == 0
    assert "r0 = *(u16 *)skb[12]" in capfd.readouterr().out
    assert main(["filter", "--explain", "tcp port 80"]) == 0
    explained = capfd.readouterr().out
    assert len(explained.splitlines()) == 20 and "IPv4" in explained
    pytest.importorskip("capstone")
    assert main(["filter", "--native", "tcp port 80"]) == 0
    assert "ret" in capfd.readouterr().out
    svg = tmp_path / "graph.svg"
    assert main(["filter", "--graph", str(svg), "tcp port 80"]) == 0
    assert capfd.readouterr().out == ""
    assert svg.read_text().lstrip().startswith("<") and list(tmp_path.iterdir()) == [svg]


def test_link_types_and_interfaces_are_listed(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["filter", "-L"]) == 0
    assert "EN10MB" in capfd.readouterr().out
    assert main(["filter", "-D"]) == 0
    listed = capfd.readouterr().out
    number = socket.if_nametoindex("lo")
    assert f"{number}.lo [Up, Running, Loopback]\n" in listed
    assert "any" in listed
    assert main(["filter", "-i", str(number), "-L"]) == 0
    assert capfd.readouterr().out.startswith("Data link types for lo ")
    assert main(["filter", "-i", "99999", "-L"]) == 1
    shown = capfd.readouterr()
    assert shown.out == "" and "no interface '99999'" in shown.err


def test_every_extra_that_an_error_names_exists(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import re
    import sys
    import tomllib

    from tests.support.oracles import ROOT

    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    sources = "\n".join(path.read_text() for path in (ROOT / "src").rglob("*.py"))
    named = set(re.findall(r'extra="(\w+)"', sources))
    assert named and named <= extras.keys() - {"dev"}
    monkeypatch.setitem(sys.modules, "capstone", None)
    assert main(["filter", "--native", "tcp"]) == 1
    assert "pip install 'skep[native]'" in capsys.readouterr().err


@pytest.mark.parametrize("columns", [0, 80, 60, 40])
def test_explanations_fit_the_terminal(columns: int) -> None:
    """Jumps have a tab in tcpdump's listings: the words start in one column all the same."""
    from skep.filter import compile
    from skep.filter.listing import explained

    program = compile("vlan and host 10.0.0.1 and tcp[tcpflags] & tcp-syn != 0 or port 53")
    lines = explained(program.insns, 1, columns)
    assert len({line.index(";") for line in lines}) == 1
    assert not any("\t" in line for line in lines)
    starts = [line for line in lines if line.startswith("(")]
    assert len(starts) == len(program.insns)
    if columns == 80:
        assert max(map(len, lines)) <= 80
    if columns:
        assert len(lines) > len(starts)
        apart = explained(program.insns, 1)
        joined: list[str] = []
        for line in lines:
            if line.startswith("("):
                joined.append(line)
            else:
                joined[-1] += " " + line.partition(";")[2].strip()
        assert joined == apart
