"""Jump tables: what the reader and the linker make of them, and what this kernel says."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

import pytest

from skep import obj
from skep.elf import Elf
from skep.errors import LinkError
from tests.kernels import objects
from tests.support import oracles


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("jumps") / "jumps.o"
    source = Path(objects.__file__).parent / "c" / "jumps.bpf.c"
    clang = oracles.tool("clang-19", "clang")
    subprocess.run([clang, "-O2", "-g", "-target", "bpf", "-c", str(source), "-o", str(out)], check=True)
    return out


def test_a_table_moves_with_its_function(path: Path) -> None:
    spec = obj.read(path)
    assert list(spec.jump_tables.values()) == [(7, 9, 11, 9)]
    linked = obj.link_program(spec, "jumps")
    base = {name: start for start, name in linked.subprogs}["choose"]
    (ref,) = linked.jump_refs
    assert (ref.pc, ref.slots) == (base + 2, tuple(base + slot for slot in (7, 9, 11, 9)))


@pytest.mark.live
def test_this_kernel_jumps_or_says_since_when(path: Path) -> None:
    oracles.bpf()
    objects.jumps(str(path))


def test_tables_that_lead_nowhere(path: Path) -> None:
    whole = path.read_bytes()
    elf = Elf.open(path)
    section = next(s for s in elf.sections if s.name == ".jumptables")

    def changed(entry: int) -> bytes:
        return whole[: section.offset] + struct.pack("<Q", entry) + whole[section.offset + 8 :]

    with pytest.raises(LinkError, match="inside an instruction"):
        obj.read(changed(57))
    for entry in (13 * 8, 1 << 40):
        with pytest.raises(LinkError, match=f"leads to insn {entry // 8} of 13"):
            obj.link_program(obj.read(changed(entry)), "jumps")
