"""The command line of `skep run`: every option, and every wrong use told in one line with exit status 2."""

from __future__ import annotations

import pytest

from skep.cli import main
from skep.cli.run.options import Options, Usage, help_text, parse, table


def test_words_and_options_mix() -> None:
    made = parse(
        ["-i", "a", "x.o", "--iface=b", "one", "-jq", "two", "--count", "0", "--pid", "0x10", "--", "-z"]
    )
    assert (made.file, made.programs) == ("x.o", ["one", "two", "-z"])
    assert made.iface == ["a", "b"]
    assert (made.json, made.quiet, made.maps) == (True, True, False)
    assert (made.count, made.pid) == (0, 16)


def test_what_is_not_given() -> None:
    made = parse(["x.o"])
    assert vars(made) == vars(Options()) | {"file": "x.o"}
    assert (made.freq, made.xdp_mode, made.pin_root) == (99, "auto", "/sys/fs/bpf")


def test_values() -> None:
    made = parse(
        [
            "x.o",
            "--duration",
            "1.5",
            "--xdp-mode",
            "native",
            "--direction=egress",
            "--set",
            "a=1",
            "--set",
            "b=2",
        ]
    )
    assert (made.duration, made.xdp_mode, made.direction, made.set) == (
        1.5,
        "native",
        "egress",
        ["a=1", "b=2"],
    )


def test_each_option_has_its_attribute() -> None:
    known = vars(Options())
    for _, options in table():
        for option in options:
            assert option.dest in known, option.names


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        ([], "FILE is missing"),
        (["-j"], "FILE is missing"),
        (["x.o", "--"], "a command is missing after --"),
        (["x.o", "--nothing"], "option --nothing is not known; skep run --help"),
        (["x.o", "-z"], "option -z is not known"),
        (["x.o", "--m"], "option --m is ambiguous"),
        (["x.o", "--json=1"], "takes no value"),
        (["x.o", "--iface"], "--iface needs a value"),
        (["x.o", "--count", "x"], "--count takes a number from 0, not 'x'"),
        (["x.o", "--pid", "-1"], "--pid takes a number from 1"),
        (["x.o", "--freq", "0"], "--freq takes a number from 1"),
        (["x.o", "--duration", "soon"], "--duration takes seconds, not 'soon'"),
        (["x.o", "--duration", "nan"], "--duration takes seconds"),
        (["x.o", "--xdp-mode", "x"], "takes auto, native, generic, offload, not 'x'"),
    ],
)
def test_wrong_usage(argv: list[str], complaint: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["run", *argv]) == 2
    shown = capfd.readouterr()
    assert shown.out == ""
    assert len(shown.err.splitlines()) == 1
    assert shown.err.startswith("skep run: ") and complaint in shown.err


def test_help_names_every_option(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--help"]) == 0
    shown = capfd.readouterr().out
    assert shown == help_text() + "\n"
    for _, options in table():
        for option in options:
            assert all(name in shown for name in option.names)
    assert max(map(len, shown.splitlines())) <= 110


def test_usage_error() -> None:
    with pytest.raises(Usage):
        parse(["--count"])
