"""What is acquired is given back on every path, or the program does not compile."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest

import skep
from skep.errors import CompileError
from skep.lang.compile import compile_programs, to_ir
from skep.loading import programs_of
from tests.lang.references import BAD, GOOD, PRELUDE, Case
from tests.lang.support import HEADER, module
from tests.support.oracles import bpf

_IMPORTS = HEADER + "from skep.net import ethhdr\n"


@pytest.mark.live
def test_what_is_given_back_loads(tmp_path: Path) -> None:
    bpf()
    text = _IMPORTS + PRELUDE
    for i, (head, body) in enumerate(GOOD.values()):
        end = "" if body.splitlines()[-1].startswith("return") else "    return 0\n"
        text += head.replace("main", f"main{i}") + textwrap.indent(body, "    ") + end + "\n"
    path = tmp_path / "good.bpf.o"
    path.write_bytes(compile_programs(programs_of(module(tmp_path, text))))
    skep.load(str(path)).close()


@pytest.mark.parametrize("case", BAD, ids=[case.body.replace("\n", "; ")[:60] for case in BAD])
def test_what_is_held_is_refused(case: Case, tmp_path: Path) -> None:
    end = "" if case.body.endswith(("return 0", "return 1")) else "\n    return 0\n"
    made = module(tmp_path, _IMPORTS + PRELUDE + case.head + textwrap.indent(case.body, "    ") + end)
    with pytest.raises(CompileError) as caught:
        to_ir([made.main])
    error = caught.value
    assert error.source is not None and error.column is not None and error.end_column is not None
    line = error.source.splitlines()[error.line - 1]
    start = len((_IMPORTS + PRELUDE + case.head).splitlines())

    def relative(found: re.Match[str]) -> str:
        return f"line +{int(found[1]) - start}" if int(found[1]) > start else "line of lookup()"

    assert line[error.column : error.end_column] == case.at
    assert re.sub(r"line (\d+)", relative, error.reason) == case.says
    assert error.hint
