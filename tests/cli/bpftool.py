"""bpftool and skep side by side: the same words, the same answer."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from skep.cli import main
from tests.support.oracles import tool

C = Path(__file__).parent / "c"


def compile_c(name: str, folder: Path, *flags: str) -> Path:
    """An object built from tests/cli/c by clang."""
    out = folder / f"{name}.bpf.o"
    clang = tool("clang-19", "clang")
    include = "/usr/include/x86_64-linux-gnu"
    words = [clang, "-O2", "-g", "-target", "bpf", "-mcpu=v3", *flags, f"-I{include}", "-c"]
    subprocess.run([*words, str(C / f"{name}.bpf.c"), "-o", str(out)], check=True, capture_output=True)
    return out


class Pair:
    """Runs both; bpftool as a process, skep in this one."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys
        self.bpftool = tool("bpftool")

    def theirs(self, *words: str) -> tuple[int, str]:
        done = subprocess.run([self.bpftool, *words], capture_output=True, text=True, check=False)
        return done.returncode, done.stdout

    def ours(self, *words: str) -> tuple[int, str, str]:
        self.capsys.readouterr()
        status = main(list(words))
        got = self.capsys.readouterr()
        return status, got.out, got.err

    def same(self, *words: str, text: bool = True) -> Any:
        """Both print the same JSON, compact and pretty, and text, letter by letter; the JSON's value.

        An answer may name other processes and objects, which come and go between the two: a difference is
        one when it stays.
        """
        for again in range(8):
            try:
                return self._same(words, text)
            except AssertionError:
                time.sleep(0.02 * 2**again)
        return self._same(words, text)

    def _same(self, words: tuple[str, ...], text: bool) -> Any:
        value: Any = None
        for option in ("-j", "-p"):
            status, out = self.theirs(option, *words)
            our_status, our_out, err = self.ours(option, *words)
            assert our_out == out, f"{option} {words}\nbpftool: {out}\nskep:    {our_out}{err}"
            assert (our_status == 0) == (status == 0)
            value = json.loads(out)
        if text:
            status, out = self.theirs(*words)
            our_status, our_out, err = self.ours(*words)
            assert our_out == out, f"{words}\nbpftool: {out}\nskep:    {our_out}{err}"
            assert (our_status == 0) == (status == 0)
        return value

    def json(self, *words: str) -> Any:
        status, out, err = self.ours("-j", *words)
        assert status == 0, (words, out, err)
        return json.loads(out)


@contextmanager
def bpffs(folder: Path) -> Iterator[Path]:
    """A bpffs of the test's own, mounted in this mount namespace for a while."""
    place = folder / "bpffs"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "bpf", "bpf", str(place)], capture_output=True, check=False)
    if mounted.returncode:
        from tests.support.oracles import absent

        absent("the right to mount bpffs")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)  # others may look into all file systems
