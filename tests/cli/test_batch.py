"""`skep batch` against bpftool's: the same lines, the same answers."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import skep
from skep.cli.batch import arguments, logical_lines
from skep.errors import SkepError
from skep.kernel.object import Object
from tests.cli.bpftool import Pair, compile_c
from tests.support.oracles import bpf

pytestmark = pytest.mark.live


@pytest.fixture
def loaded(tmp_path: Path) -> Iterator[Object]:
    bpf()
    with skep.load(compile_c("nouns", tmp_path)) as made:
        yield made


@pytest.fixture
def pair(capsys: pytest.CaptureFixture[str]) -> Pair:
    return Pair(capsys)


def script(folder: Path, text: str) -> str:
    path = folder / "lines"
    path.write_text(text)
    return str(path)


def test_answers_as_bpftools(loaded: Object, pair: Pair, tmp_path: Path) -> None:
    numbers = [program.id for program in loaded.programs.values()]
    array = next(map for map in loaded.maps.values() if map.type_name == "array" and map.key_size == 4)
    lines = [
        "# programs",
        *(f"prog show id {number}   # one" for number in numbers),
        "",
        f"map show \\\n   id {array.id}",
        f"map dump 'id' \"{array.id}\"",
        f"m lookup id {array.id} key 0 0 0 0",
        f"prog dump xlated id {numbers[1]}",
    ]
    value = pair.same("batch", "file", script(tmp_path, "\n".join(lines) + "\n"))
    assert len(value) == len(numbers) + 4
    assert value[0]["command"] == ["prog", "show", "id", str(numbers[0])]
    assert value[0]["output"]["id"] == numbers[0]


def test_the_first_failure_ends_it(loaded: Object, pair: Pair, tmp_path: Path) -> None:
    first = next(iter(loaded.programs.values())).id
    path = script(tmp_path, f"prog show id {first}\nprog show id 4294967295\nprog show id {first}\n")
    status, out, err = pair.ours("batch", "file", path)
    assert (status, out.count("tag ")) == (1, 1)
    assert f"{path}, line 2: " in err
    status, out, _ = pair.ours("-j", "batch", "file", path)
    answers = json.loads(out)
    assert status == 1
    assert [list(answer) for answer in answers] == [["command", "output"]] * 2
    assert "error" in answers[1]["output"]
    theirs = json.loads(pair.theirs("-j", "batch", "file", path)[1])
    assert [a["command"] for a in theirs] == [a["command"] for a in answers]


def test_standard_input_and_wrong_lines(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    for text, reason in (
        ("run x.o\n", "line 1: no command 'run'"),
        ("\nprog show id 'x\n", "line 2: a quoted string does not end"),
        ("prog show \\\n", "line 1: the line that continues it is missing"),
    ):
        monkeypatch.setattr("sys.stdin", io.StringIO(text))
        status, _, err = pair.ours("batch", "file", "-")
        assert (status, reason in err) == (1, True), err
    monkeypatch.setattr("sys.stdin", io.StringIO("prog nonsense\n"))
    assert pair.ours("batch", "file", "-")[0] == 2
    assert pair.ours("batch", "file")[0] == 2
    assert pair.ours("batch", "file", "/nonexistent")[0] == 1


def test_words() -> None:
    assert arguments(" a 'b c'\t\"d'\" e", "") == ["a", "b c", "d'", "e"]
    assert list(logical_lines(io.StringIO("a # b\nc\\\nd\n\n"))) == [(1, "a "), (2, "cd"), (4, "")]
    with pytest.raises(SkepError):
        arguments('"a', "here")
