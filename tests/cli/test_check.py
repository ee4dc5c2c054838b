"""`skep check`: capabilities, strict rules, misuse."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from skep.cli.check import main
from skep.errors import SkepError
from tests.obj.support import compiled, written

SOURCE = """
__attribute__((section("xdp"), used)) int keeps(void *ctx)
{
	return 2;
}

__attribute__((section("tc"), used)) int tells(void *ctx)
{
	return (int)(long)ctx;
}
"""


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("check")
    return str(compiled(written(folder, "check.c", SOURCE), folder))


def test_capabilities(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([path, "-p", "keeps", "--capabilities", "bpf,net_admin"]) == 0
    assert main([path, "-p", "keeps", "--capabilities", "CAP_BPF"]) == 1
    assert "programs of type xdp need CAP_NET_ADMIN" in capsys.readouterr().out


def test_strict(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([path]) == 0
    capsys.readouterr()
    assert main([path, "--strict", "--json"]) == 1
    keeps, tells = json.loads(capsys.readouterr().out)
    assert keeps["accepted"] and not tells["accepted"]
    assert "leaks addr" in tells["reason"] or "partial copy of pointer" in tells["reason"]
    assert main([path, "--strict", "-p", "tells"]) == 1
    assert "refused by the strict rules: " in capsys.readouterr().out


@pytest.mark.parametrize(
    "words",
    [
        ["--capabilities", "bpf,wings"],
        ["--capabilities", "bpf", "--unprivileged"],
        ["--kernel", "6"],
        ["--kernel", "2.6"],
    ],
)
def test_misuse(path: str, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main([path, *words])
    assert left.value.code == 2
    assert words[0] in capsys.readouterr().err


PLACE = {"file": str, "line": int, "column": int, "text": str}
EXPLANATION = {
    **dict.fromkeys(("family", "title", "reason", "label", "rule", "hint"), str),
    "function": str | None,
    "insn": int | None,
    "text": str | None,
    "source": dict | None,
    "register": str | None,
    "story": list,
    "path": list,
    "processed": int | None,
}
OUTER = """
struct { int (*type)[12]; unsigned *key; unsigned *value; int (*max_entries)[4]; } outer
    __attribute__((section(".maps"), used));
static void *(*lookup)(void *, const void *) = (void *)1;

__attribute__((section("tc"), used)) int looks(void *ctx)
{
	unsigned zero = 0;
	void *inner = lookup(&outer, &zero);
	return inner && lookup(inner, &zero);
}
"""


def test_a_map_of_maps_without_inner_maps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As the loader has it: nobody can make this map."""
    path = str(compiled(written(tmp_path, "outer.c", OUTER), tmp_path))
    assert main([path]) == 1
    said = capsys.readouterr().out
    assert "map outer: a map of maps without the declaration of its inner maps" in said
    assert "__array(values" in said


#: what --json promises (docs/explaining.md), with the types of each
ROW = {"file": str, "program": str, "kernel": str, "accepted": bool}
ACCEPTED = ROW | {"processed": int, "states": int, "peak_states": int, "log": str | None}
REFUSED = ROW | {
    "error": str,
    "reason": str,
    "insn": int | None,
    "source": str | None,
    "hint": str,
    "log": str | None,
    "explanation": dict,
}


def shaped(row: dict[str, object], shape: dict[str, object]) -> None:
    assert set(row) == set(shape)
    for name, kind in shape.items():
        assert isinstance(row[name], kind), (name, row[name])  # type: ignore[arg-type]  # classes and unions


def test_the_shape_of_json(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([path, "--json", "-p", "keeps"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    shaped(row, ACCEPTED)
    assert main([path, "--json", "--strict", "-p", "tells"]) == 1
    (row,) = json.loads(capsys.readouterr().out)
    shaped(row, REFUSED)
    explained = row["explanation"]
    shaped(explained, EXPLANATION)
    shaped(explained["source"], PLACE)
    for station in explained["path"]:
        shaped(station, {"insn": int, "source": dict | None, "text": str, "branch": str | None})
    assert main([path, "--json", "--kernel", "all", "-p", "keeps"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    shaped(row, ACCEPTED | {"oldest": str, "before": dict} if "before" in row else ACCEPTED | {"oldest": str})


def test_what_cannot_be_read_is_a_row_too(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([__file__ + ".nothing", "--json"]) == 1
    out, err = capsys.readouterr()
    (row,) = json.loads(out)
    assert set(row) == {"file", "error"}
    assert "No such file" in row["error"] and "No such file" in err
    assert main([path, "-p", "nobody", "--json"]) == 1
    (row,) = json.loads(capsys.readouterr().out)
    assert "no program 'nobody'" in row["error"]


@pytest.mark.parametrize(("name", "advice"), [("x.bpf.c", "clang"), ("x.s", "llvm-mc"), ("x.bt", "bpftrace")])
def test_a_source_is_told_how_to_become_an_object(name: str, advice: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("int x;\n")
    with pytest.raises(SkepError, match=advice):
        main([str(tmp_path / name)])
