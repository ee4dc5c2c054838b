"""Programs for another kernel than the running one: its types come from a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from skep.btf import types as t
from skep.btf.build import BtfBuilder
from skep.cli import main
from skep.errors import BtfError, CompileError
from skep.lang.compile import to_ir
from skep.loading import build
from skep.obj import read
from tests.lang.support import HEADER, module

PROGRAM = (
    HEADER
    + """
@bpf.raw_tp
def main(ctx) -> int:
    task = bpf.current_task()
    bpf.printk(f"{task.of_another_kernel} {bpf.MADE_UP_FLAG}")
    return 0
"""
)


@pytest.fixture
def types(tmp_path: Path) -> Path:
    """BTF of a kernel that nobody runs."""
    made = BtfBuilder()
    number = made.add(t.Int("int", 4, t.SIGNED))
    made.add(t.Struct("task_struct", 8, [t.Member("of_another_kernel", number, 32)]))
    made.add(t.Enum64("made_up", 8, [t.EnumValue("MADE_UP_FLAG", (1 << 63) + 2)]))
    path = tmp_path / "made-up.btf"
    path.write_bytes(made.build())
    return path


def test_types_of_a_file(tmp_path: Path, types: Path) -> None:
    program = module(tmp_path, PROGRAM).main
    with pytest.raises(CompileError, match="no member 'of_another_kernel'"):
        to_ir([program])
    data = build(program, btf=str(types))
    path = tmp_path / "made.bpf.o"
    path.write_bytes(data)
    assert list(read(path).programs)
    assert b"of_another_kernel" in data and b"MADE_UP_FLAG" in data


def test_command(tmp_path: Path, types: Path) -> None:
    module(tmp_path, PROGRAM)
    output = tmp_path / "out.bpf.o"
    order = ["build", str(tmp_path / "program.py"), "-o", str(output)]
    assert main(order) == 1
    assert main([*order, "--btf", str(types)]) == 0
    assert output.read_bytes()[:4] == b"\x7fELF"


def test_no_types(tmp_path: Path) -> None:
    program = module(tmp_path, PROGRAM).main
    with pytest.raises(BtfError):
        build(program, btf=str(tmp_path / "none.btf"))
