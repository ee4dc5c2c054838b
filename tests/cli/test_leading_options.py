"""bpftool's options before the noun, as its manual has them: `bpftool [OPTIONS] OBJECT COMMAND`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from skep.btf import BtfBuilder
from skep.btf.types import Int, Ptr
from tests.support.oracles import tool


def skep(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "skep", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def split(tmp_path: Path) -> tuple[str, str]:
    """A file of types, and one that continues it."""
    base = BtfBuilder()
    number = base.add(Int("int", 4, 1))
    more = BtfBuilder(base=base.btf())
    more.add(Ptr(number))
    (tmp_path / "base.btf").write_bytes(base.build())
    (tmp_path / "more.btf").write_bytes(more.build())
    return str(tmp_path / "base.btf"), str(tmp_path / "more.btf")


@pytest.mark.parametrize("form", [["-B", "{}"], ["--base-btf", "{}"], ["-j", "-B", "{}"], ["-p", "-B", "{}"]])
def test_a_base_before_the_noun(form: list[str], split: tuple[str, str]) -> None:
    base, more = split
    words = [*(word.format(base) for word in form), "btf", "dump", "file", more]
    ours = skep(*words)
    theirs = subprocess.run([tool("bpftool"), *words], capture_output=True, text=True, check=True)
    assert ours.returncode == 0, ours.stderr
    assert ours.stdout.strip() == theirs.stdout.strip()
    assert "PTR" in ours.stdout


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["-B"], "no command '-B'"),
        (["-B", "x"], "no command '-B'"),
        (["--no-such", "btf", "list"], "no option --no-such"),
        (["-j", "no-such"], "no command 'no-such'"),
    ],
)
def test_what_is_no_command(words: list[str], complaint: str) -> None:
    done = skep(*words)
    assert done.returncode == 2
    assert complaint in done.stderr + done.stdout


def test_letters_together(split: tuple[str, str]) -> None:
    base, _ = split
    assert (
        skep("-jp", "btf", "dump", "file", base).stdout
        == skep("btf", "dump", "file", base, "-j", "-p").stdout
    )
