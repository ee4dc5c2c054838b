"""Nearly right programs are compiled or refused, never a crash; the verifier takes what is compiled."""

from __future__ import annotations

import random
import re
import warnings
from pathlib import Path

import pytest

import skep
from skep.bpf.programs import Program
from skep.errors import CompileError
from skep.lang.compile import to_ir
from skep.loading import programs_of
from tests.lang.mutants import mutant
from tests.lang.support import HEADER, module, seed
from tests.support.oracles import bpf

HERE = Path(__file__).parent


def bases() -> list[str]:
    """The sources of `test_features`."""
    text = (HERE / "test_features.py").read_text()
    found = re.findall(r'text = """\n(.*?)"""', text, re.DOTALL)
    return [HEADER + source.replace("\\\\x", "\\x") for source in found]


def mutants(start: int, count: int) -> list[tuple[int, str]]:
    made = []
    sources = bases()
    for number in range(start, start + count):
        rng = random.Random(f"{seed()}-{number}")
        try:
            made.append((number, mutant(rng.choice(sources), rng)))
        except ValueError:  # a text in pieces that cannot be written down
            continue
    return made


def accepted(folder: Path, number: int, text: str) -> list[Program] | None:
    """The programs if the compiler takes them; None for a module that Python itself refuses."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            programs = programs_of(module(folder, text, f"m{number}"))
    except Exception:
        return None
    try:
        to_ir(programs)
    except CompileError as error:
        assert error.reason and error.line
        return None
    return programs


def test_nothing_crashes(tmp_path: Path) -> None:
    taken = 0
    for number, text in mutants(0, 150):
        try:
            taken += accepted(tmp_path, number, text) is not None
        except Exception as error:
            raise AssertionError(f"seed {seed()}, mutant {number}:\n{text}") from error
    assert taken > 10


@pytest.mark.live
def test_the_verifier_takes_what_is_compiled(tmp_path: Path) -> None:
    bpf()
    loaded = 0
    for number, text in mutants(10_000, 40):
        programs = accepted(tmp_path, number, text)
        if programs is not None:
            try:
                skep.load(programs).close()
            except skep.SkepError as error:
                raise AssertionError(f"seed {seed()}, mutant {number}:\n{text}") from error
            loaded += 1
    assert loaded > 3
