"""Everything outside the language is refused at its span, with a reason and what to write instead."""

# ruff: noqa: E501 (programs and messages stay whole)
from __future__ import annotations

import textwrap
import warnings
from pathlib import Path

import pytest

from skep.errors import CompileError
from skep.lang.compile import compile_programs, to_ir
from skep.llvm.bpf import BpfCompiler
from tests.lang.refusals import CASES, PRELUDE, Case
from tests.lang.support import HEADER, module


def compiled(folder: Path, body: str, end: str = "\n    return bpf.XDP_PASS") -> CompileError:
    """The error that a program with this body gives."""
    text = (
        f"{HEADER}{PRELUDE}\n@bpf.xdp\ndef main(ctx: bpf.Xdp) -> int:\n{textwrap.indent(body, '    ')}{end}\n"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python's own doubts about `x is 5`
        made = module(folder, text)
    with pytest.raises(CompileError) as caught:
        to_ir([made.main])
    return caught.value


@pytest.mark.parametrize("case", CASES, ids=[case.body.replace("\n", "; ")[:60] for case in CASES])
def test_refusal(case: Case, tmp_path: Path) -> None:
    ends = case.body.startswith("if limit:\n    return 1\nelse")
    error = compiled(tmp_path, case.body, "" if ends else "\n    return bpf.XDP_PASS")
    assert error.source is not None and error.column is not None and error.end_column is not None
    line = error.source.splitlines()[error.line - 1]
    assert (line[error.column : error.end_column], error.reason) == (case.at, case.says)
    assert (error.hint or "").startswith(case.hint), error.hint
    assert error.file is not None and error.file.endswith("program.py")
    assert error.pointer().splitlines()[1].strip("^ ") == ""


@pytest.mark.parametrize(
    ("text", "at", "says"),
    [
        ("@bpf.xdp\nasync def main(ctx: bpf.Xdp) -> int:\n    return 2", "async def main(ctx: bpf.Xdp) -> int:",
         "main() is async, and programs run to their end"),
        ("main = bpf.xdp(lambda ctx: 2)", "main = bpf.xdp(lambda ctx: 2)", "a lambda is no program"),
        ("@bpf.xdp\ndef main(*ctx: bpf.Xdp) -> int:\n    return 2", "def main(*ctx: bpf.Xdp) -> int:",
         "a program takes positional parameters only"),
        ("def f():\n    yield 3\n@bpf.xdp\ndef main(ctx: bpf.Xdp) -> int:\n    for i in f():\n        pass\n    return 2",
         "yield 3", "yield is not compiled"),
        ("async def f():\n    return 3\n@bpf.xdp\ndef main(ctx: bpf.Xdp) -> int:\n    return f()",
         "async def f():", "f() is async, and programs run to their end"),
    ],
)  # fmt: skip
def test_functions_that_are_no_programs(text: str, at: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(CompileError) as caught:
        to_ir([module(tmp_path, f"{HEADER}{text}\n").main])
    error = caught.value
    assert error.source is not None and error.column is not None and error.hint
    assert error.source.splitlines()[error.line - 1][error.column : error.end_column] == at
    assert error.reason == says


def test_there_are_enough_cases() -> None:
    assert len(CASES) >= 80
    assert all(case.hint for case in CASES)


def test_columns_are_characters(tmp_path: Path) -> None:
    error = compiled(tmp_path, "x = 'äöü' + nothing")
    assert error.source is not None and error.column is not None
    assert error.source.splitlines()[error.line - 1][error.column : error.end_column] == "nothing"


def test_errors_of_inlined_functions_name_their_own_file(tmp_path: Path) -> None:
    other = module(tmp_path, HEADER + "def wrong(x: u64) -> u64:\n    return x / 2\n", "other")
    made = module(tmp_path, HEADER + "@bpf.xdp\ndef main(ctx: bpf.Xdp) -> int:\n    return wrong(4)\n")
    made.wrong = other.wrong  # type: ignore[attr-defined]
    with pytest.raises(CompileError, match=r"other\.py:4:12: programs have no floating-point"):
        to_ir([made.main])


def test_too_much_stack_is_an_error_with_a_line(tmp_path: Path) -> None:
    text = """
@bpf.struct
class Big:
    cells: list[u64] = bpf.array(u64, 40)

table = bpf.Hash(u32, Big)

@bpf.xdp
def main(ctx: bpf.Xdp) -> int:
    a = Big()
    b = Big()
    table[1] = a
    table[2] = b
    return table.update(3, a) + table.update(4, b)
"""
    made = module(tmp_path, HEADER + text)
    with pytest.raises(
        CompileError, match=r"program\.py:\d+:\d+: the variables of main\(\) need more than 512"
    ):
        compile_programs([made.main])


@pytest.mark.parametrize(
    ("ir", "says"),
    [
        ("this is no IR", "LLVM refuses the module"),
        (
            "define i64 @f(i64 %a, i64 %b) {\n %c = sdiv i64 %a, %b\n ret i64 %c\n}",
            "LLVM gave up|LLVM was killed",
        ),
    ],
)
def test_what_llvm_refuses_keeps_the_ir(ir: str, says: str) -> None:
    with BpfCompiler() as compiler, pytest.raises(CompileError, match=says) as caught:
        compiler.compile(ir)
    assert caught.value.source == ir and "report" in (caught.value.hint or "")


def test_a_changed_file_is_noticed(tmp_path: Path) -> None:
    made = module(tmp_path, HEADER + "@bpf.xdp\ndef main(ctx: bpf.Xdp) -> int:\n    return 2\n")
    (tmp_path / "program.py").write_text("# another file\n" * 10)
    with pytest.raises(CompileError, match="was the file changed"):
        to_ir([made.main])
