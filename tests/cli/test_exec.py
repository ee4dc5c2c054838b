"""`skep exec`: input forms, output, exit status."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from skep.asm import assemble
from skep.cli import main
from skep.cli.exec import DEFAULT_BUDGET
from skep.isa import encode
from tests.support.oracles import ROOT

SUM = "r0 = *(u8 *)(r1 + 0)\nr3 = *(u8 *)(r1 + 1)\nr0 += r3\nr0 += r2\nexit"


def code(text: str) -> str:
    return encode(assemble(text)).hex(" ")


class Result:
    def __init__(self, status: int, out: str, err: str) -> None:
        self.status = status
        self.out = out
        self.err = err


class Skep:
    """Runs `skep exec` in this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.monkeypatch = monkeypatch
        self.capsys = capsys

    def __call__(self, *args: str, stdin: str | bytes = b"") -> Result:
        data = stdin.encode() if isinstance(stdin, str) else stdin
        self.monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        try:
            status = main(["exec", *args])
        except SystemExit as end:
            status = int(end.code or 0)
        return Result(status, *self.capsys.readouterr())


@pytest.fixture
def skep(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Skep:
    return Skep(monkeypatch, capsys)


@pytest.fixture(params=["interp", "jit"])
def engine(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "jit":
        pytest.importorskip("llvmlite")
        monkeypatch.setenv("SKEP_CACHE", str(tmp_path))
    return str(request.param)


def test_hex_and_memory(skep: Skep, engine: str) -> None:
    result = skep("--hex", "--memory", "0a 0b", "--engine", engine, stdin=code(SUM) + "\n")
    assert (result.status, result.out, result.err) == (0, "17\n", "")


def test_sixty_four_bits_without_a_sign(skep: Skep, engine: str) -> None:
    assert skep("--hex", "--engine", engine, stdin=code("r0 = -2\nexit")).out == "fffffffffffffffe\n"


def test_raw_bytes(skep: Skep, tmp_path: Path) -> None:
    raw = encode(assemble("r0 = 42\nexit"))
    assert skep(stdin=raw).out == "2a\n"
    assert skep("-", stdin=raw).out == "2a\n"
    path = tmp_path / "prog.bin"
    path.write_bytes(raw)
    assert skep(str(path)).out == "2a\n"
    path.write_text("0x" + raw.hex())
    assert skep("--hex", str(path)).out == "2a\n"


def test_packet(skep: Skep, engine: str) -> None:
    result = skep(
        "--hex", "--packet", "00010203", "--engine", engine, stdin=code("r0 = *(u16 *)skb[2]\nexit")
    )
    assert result.out == "203\n"


def test_helpers_that_need_no_kernel(skep: Skep, engine: str) -> None:
    assert int(skep("--hex", "--engine", engine, stdin=code("call 5\nexit")).out, 16) > 0
    assert skep("--hex", "--engine", engine, stdin=code("call 8\nexit")).status == 0


def test_trace(skep: Skep) -> None:
    text = (
        "r3 = *(u8 *)(r1 + 1)\n*(u16 *)(r10 - 8) = r3\nr0 = *(u8 *)skb[0]\nif r0 != 0 goto +1\nr0 = 1\nexit"
    )
    result = skep("--hex", "--trace", "--memory", "0a0b", stdin=code(text))
    assert result.out == "a\n"
    lines = [line.split(None, 2)[2] for line in result.err.splitlines()]
    assert [" ".join(line.split()) for line in lines] == [
        "r3 = *(u8 *)(r1 +1) read ctx+1: 0b r3=0xb",
        "*(u16 *)(r10 -8) = r3 wrote fp-8: 0b 00",
        "r0 = *(u8 *)skb[0] packet 0: 0a r0=0xa",
        "if r0 != 0x0 goto pc+1 -> 5",
        "exit",
    ]


def test_trace_shows_the_steps_before_a_fault(skep: Skep) -> None:
    result = skep("--hex", "--trace", stdin=code("r0 = 1\nr0 = *(u8 *)(r0 + 0)\nexit"))
    assert result.status == 1
    assert result.out == ""
    assert [line.split()[0] for line in result.err.splitlines()] == ["0:", "skep"]


@pytest.mark.parametrize(
    ("args", "stdin", "message"),
    [
        (["--hex"], "95000000000000zz", "standard input at byte 14: expected hexadecimal digits, found 'z'"),
        (["--hex"], "950", "3 hexadecimal digits, half a byte at the end"),
        (["--hex"], "", "there is no program"),
        ([], "", "there is no program"),
        (["--hex"], "9500", "a multiple of 8 bytes"),
        (["--hex"], "ff00000000000000", "insn 0: unknown opcode 0xff"),
        (["--hex", "--memory", "0g"], "9500000000000000", "--memory at byte 1: expected hexadecimal digits"),
        (["/nowhere/at/all"], "", "/nowhere/at/all: No such file or directory"),
    ],
)
def test_bad_input_is_one_line(skep: Skep, args: list[str], stdin: str, message: str) -> None:
    result = skep(*args, stdin=stdin)
    assert result.status == 1
    assert result.out == ""
    assert message in result.err
    assert result.err.startswith("skep exec: ")
    assert result.err.count("\n") == 1


def test_stopped_programs(skep: Skep, engine: str) -> None:
    for text, message in (
        ("r0 = *(u8 *)(r1 + 2)\nexit", "insn 0: "),
        ("call 9999\nexit", "insn 0: "),
        ("l: r0 += 1\ngoto l", "insn 1: the budget"),
    ):
        result = skep("--hex", "--memory", "0102", "--budget", "0x1000", "--engine", engine, stdin=code(text))
        assert (result.status, result.out) == (1, "")
        assert result.err.startswith(f"skep exec: {message}")
        assert result.err.count("\n") == 1


def test_an_endless_loop_ends_without_being_told_to(skep: Skep) -> None:
    pytest.importorskip("llvmlite")
    # The budget that nobody gave; the interpreter takes the same one, which costs it seconds.
    result = skep("--hex", "--engine", "jit", stdin=code("l: r0 += 1\ngoto l"))
    assert result.status == 1
    assert result.err == (
        f"skep exec: insn 1: the budget of {DEFAULT_BUDGET} instructions is used up: an endless loop? "
        "--budget N allows more\n"
    )
    assert DEFAULT_BUDGET <= 1 << 26


def test_both_engines_spend_alike(skep: Skep) -> None:
    """A loop of three instructions and 40 turns, with every budget around what it costs."""
    text = code("r3 = 40\nl: r3 += -1\nr0 += 2\nif r3 != 0 goto l\nexit")
    for budget in range(110, 125):
        interp, jit = (
            skep("--hex", "--budget", str(budget), "--engine", name, stdin=text) for name in ("interp", "jit")
        )
        assert (interp.status, interp.out, interp.err) == (jit.status, jit.out, jit.err)
        assert (interp.status == 0) == (budget >= 117)


def test_as_a_plugin_of_bpf_conformance() -> None:
    """The runner's way to call: memory, if any, as the first argument, then the plugin's options."""
    plugin = str(ROOT / "tools" / "bpf_conformance_plugin")
    environment = {**os.environ, "SKEP": f"{sys.executable} -m skep", "PYTHONPATH": str(ROOT / "src")}
    for args, text, out in (
        (["0a 0b ", "--engine", "interp"], SUM, "17\n"),
        (["--engine", "interp"], "r0 = 42\nexit", "2a\n"),
        ([], "r0 = r1\nexit", "0\n"),
    ):
        result = subprocess.run(
            [plugin, *args], input=code(text) + " ", capture_output=True, text=True, env=environment
        )
        assert (result.returncode, result.stdout, result.stderr) == (0, out, "")
    result = subprocess.run([plugin], input="zz", capture_output=True, text=True, env=environment)
    assert result.returncode == 1
    assert result.stderr.startswith("skep exec: ")


@pytest.mark.parametrize(
    "args",
    [
        ["--budget", "x"],
        ["--budget", "-1"],
        ["--engine", "gpu"],
        ["a", "b"],
        ["--trace", "--engine", "jit"],
    ],
)
def test_usage_errors(skep: Skep, args: list[str]) -> None:
    result = skep(*args)
    assert result.status == 2
    assert "skep exec: error: " in result.err
