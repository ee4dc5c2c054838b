"""`skep check`: capabilities, strict rules, misuse."""

from __future__ import annotations

import json

import pytest

from skep.cli.check import main
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
