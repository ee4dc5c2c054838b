"""The progress bar: drawn for every kind of long input, gone at the end, and never into a file."""

from __future__ import annotations

import gzip
import os
import sys
from pathlib import Path

import pytest

from skep.cli import main
from skep.cli.filter import offline, progress
from skep.tap.input import Input
from skep.tap.prepare import Recipe
from tests.support import pcapfiles


def made(folder: Path, kind: str) -> Path:
    plain = pcapfiles.capture(pcapfiles.records(3000))
    path = folder / "in"
    path.write_bytes(gzip.compress(plain, 1) if kind == "gzip" else plain)
    return path


def terminal(monkeypatch: pytest.MonkeyPatch) -> int:
    """A pseudo terminal as standard error; its other end. (In a fixture pytest would take it away again.)"""
    mine, its = os.openpty()
    monkeypatch.setattr(sys, "stderr", os.fdopen(its, "w", buffering=1))
    monkeypatch.setattr(offline, "_LONG", 0)
    monkeypatch.setattr(offline, "_LONG_STREAM", 0)
    monkeypatch.setattr(progress, "_AFTER", 0.0)
    monkeypatch.setattr(progress.Bar, "_EVERY", 0.0)
    return mine


def shown(terminal: int) -> str:
    sys.stderr.flush()
    os.set_blocking(terminal, False)
    parts = b""
    try:
        while part := os.read(terminal, 65536):
            parts += part
    except BlockingIOError:
        pass
    return parts.decode()


@pytest.mark.parametrize("kind", ["plain", "gzip"])
@pytest.mark.parametrize("how", [["--count"], ["-w"], ["--pcapng", "-w"], ["-C", "1", "-w"]])
def test_a_bar_on_a_terminal(
    kind: str, how: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = terminal(monkeypatch)
    path = made(tmp_path, kind)
    target = [] if how == ["--count"] else [str(tmp_path / "out")]
    assert main(["filter", "-r", str(path), *how, *target, "--threads", "1", "tcp"]) == 0
    text = shown(screen)
    assert text.startswith("reading from file")
    assert "MB" in text or "%" in text
    assert text.endswith(("\x1b[2K", "\x1b[K")), "the bar was left behind"


@pytest.mark.parametrize("how", [["--count", "--no-progress"], ["--print", "-w", "/dev/null"]])
def test_no_bar_when_it_is_not_wanted(
    how: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = terminal(monkeypatch)
    assert main(["filter", "-r", str(made(tmp_path, "gzip")), *how, "tcp"]) == 0
    assert shown(screen).count("\n") == 1


@pytest.mark.parametrize("kind", ["plain", "gzip"])
def test_how_far_reading_has_come(kind: str, tmp_path: Path) -> None:
    path = made(tmp_path, kind)
    places: list[int] = []
    with Input(str(path), Recipe("tcp")) as source:
        source.watch(places.append)
        assert sum(1 for _ in source.packets()) == 3000
    assert places == sorted(places)
    assert places[-1] == path.stat().st_size
