"""What docs/language.md and docs/language-hooks.md show is compiled, and run where it runs something."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import skep
from skep import bpf as language
from skep.lang.compile import compile_programs
from skep.loading import programs_of
from tests.lang.support import module
from tests.support import oracles

DOCS = oracles.ROOT / "docs"
#: what the pieces in the text take as given
GIVEN = """
import skep
from skep import bpf
from skep.bpf import be16, be32, be64, s8, s16, s32, s64, u8, u16, u32, u64
from skep.net import ETH_P_IP, ethhdr, iphdr

@bpf.struct
class Other:
    x: u32

@bpf.struct
class Opened:
    pid: u32
    comm: bpf.Text = bpf.char(16)

@bpf.struct
class Counts:
    packets: u64

events = bpf.RingBuf(Opened)
own_pid: u32 = bpf.const(0)
"""
#: around pieces that are statements of a program
PROGRAM = """
@bpf.tp_btf("sched_switch")
def piece(preempt: bool, task: bpf.task_struct, next: bpf.task_struct) -> int:
"""


def blocks() -> list[tuple[str, str]]:
    """(document and line, code) of every block of Python."""
    found = []
    for name in ("language.md", "language-hooks.md"):
        text = (DOCS / name).read_text()
        found += [
            (f"{name}:{text[: block.start()].count(chr(10)) + 2}", block[1])
            for block in re.finditer(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        ]
    return found


def parted(code: str) -> tuple[str, str, str]:
    """(declarations, statements of a program, what is run in Python) of a block."""
    declared, inside, outside = [], [], []
    for node in ast.parse(code).body:
        text = ast.get_source_segment(code, node) or ""
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            first = min([node.lineno, *(one.lineno for one in node.decorator_list)])
            declared.append("\n".join(code.split("\n")[first - 1 : node.end_lineno]))
        elif isinstance(node, (ast.Import, ast.ImportFrom)) or re.match(
            r"\w+(: .+)? = bpf\.([A-Z]|var)", text
        ):
            declared.append(text)
        elif "skep.load" in text:
            outside.append(text)
        else:
            inside.append(text)
    return "\n".join(declared), "\n".join(inside), "\n".join(outside)


def compiled(folder: Path, code: str) -> object:
    """The module of a block, which has been compiled."""
    declared, inside, _ = parted(code)
    text = f"{GIVEN}\n{declared}\n"
    if inside:
        text += PROGRAM + "".join(f"    {line}\n" for line in inside.split("\n")) + "    return 0\n"
    elif "def " not in declared:  # structs: one of each
        names = re.findall(r"^class (\w+)", declared, re.MULTILINE)
        text += "\n".join(f"of_{name} = bpf.Hash(u32, {name})" for name in names) + PROGRAM + "    return 0\n"
    made = module(folder, text)
    assert compile_programs(programs_of(made)).startswith(b"\x7fELF")
    return made


def test_there_are_blocks() -> None:
    assert len(blocks()) >= 7


@pytest.mark.parametrize(("place", "code"), blocks(), ids=[place for place, _ in blocks()])
def test_block(place: str, code: str, tmp_path: Path) -> None:
    if parted(code)[0] or parted(code)[1]:
        compiled(tmp_path, code)


@pytest.mark.live
def test_trying_a_program(tmp_path: Path) -> None:
    """The block that runs the firewall on a packet, with the firewall of the first block."""
    oracles.bpf()
    first, *_, last = [code for place, code in blocks() if place.startswith("language.md")]
    made = compiled(tmp_path, first)
    address = (10 << 24 | 1).to_bytes(4, "big")
    frame = bytes(12) + b"\x08\x00" + b"\x45" + bytes(11) + address + bytes(4)
    outside = parted(last)[2]
    assert "assert obj.firewall.run(frame).retval" in outside
    firewall = made.firewall  # type: ignore[attr-defined]  # what the document's module defines
    exec(outside, {"skep": skep, "bpf": language, "firewall": firewall, "frame": frame})
