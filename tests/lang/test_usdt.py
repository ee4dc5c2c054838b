"""USDT in Python, fired: a library with notes of every form of argument is built, loaded here and called."""

from __future__ import annotations

import ctypes
import os
import subprocess
from pathlib import Path

import pytest

import skep
from skep.lang.compile import compile_programs
from skep.loading import programs_of
from tests.lang.support import HEADER, module
from tests.support.oracles import bpf, tool

pytestmark = pytest.mark.live

PROGRAMS = """
@bpf.struct
class Seen:
    numbers: list[s64] = bpf.array(s64, 6)
    memory: list[s64] = bpf.array(s64, 3)
    either: list[s64] = bpf.array(s64, 2)
    text: bytes = bpf.char(32)
    calls: u32
    gates: s32

seen = bpf.Array(Seen, 1)
only: u32 = bpf.const(0)

@bpf.usdt("LIBRARY:app:numbers")
def numbers(a: s32, b: s64, c: u8, d: s32, e: u64, f: s16) -> int:
    if bpf.pid() == only:
        row = seen[0]
        i = 0
        row.numbers[0] = a
        row.numbers[1] = b
        row.numbers[2] = c
        row.numbers[3] = d
        row.numbers[4] = e
        row.numbers[5] = f
    return 0

@bpf.usdt("LIBRARY:app:memory")
def memory(wide: s64, narrow: s32, element: s16, text: bytes) -> int:
    if bpf.pid() == only:
        row = seen[0]
        row.memory[0] = wide
        row.memory[1] = narrow
        row.memory[2] = element
        row.text = bpf.user_str(text)
    return 0

@bpf.usdt("LIBRARY:app:either")
def either(n: s32) -> int:
    if bpf.pid() == only:
        row = seen[0]
        row.either[row.calls & 1] = n
        row.calls += 1
    return 0

@bpf.usdt
def gate(n: s32) -> int:
    if bpf.pid() == only:
        seen[0].gates += n
    return 0
"""


def test_arguments_of_every_form(tmp_path: Path) -> None:
    bpf()
    if os.uname().machine != "x86_64":
        pytest.skip("the notes name registers of x86-64")
    library = tmp_path / "libapp.so"
    source = Path(__file__).with_name("probes.c")
    subprocess.run(
        [tool("cc", "gcc", "clang-19", "clang"), "-O1", "-shared", "-fPIC", "-o", library, source], check=True
    )
    loaded = ctypes.CDLL(str(library))
    made = module(tmp_path, HEADER + PROGRAMS.replace("LIBRARY", str(library)))
    path = tmp_path / "app.bpf.o"
    path.write_bytes(compile_programs(programs_of(made)))
    with skep.load(str(path), variables={"only": os.getpid()}) as obj:
        with obj.numbers.attach(pid=0), obj.memory.attach(pid=0), obj.either.attach(pid=0):
            loaded.fire(-3)
        row = obj.seen[0]
        assert list(row.numbers) == [-3, -300000, 200, -9, 1 << 32, -3]
        assert list(row.memory) == [-1234567890123, -77, -3]
        assert bytes(row.text).rstrip(b"\0") == b"a text of the process"
        assert (row.calls, list(row.either)) == (2, [-3, -20])
        semaphore = ctypes.c_ushort.in_dll(loaded, "gate_semaphore")
        assert (semaphore.value, loaded.gate(5)) == (0, 0)
        with obj.gate.attach(str(library), "app", "gate", pid=os.getpid()):
            assert (semaphore.value, loaded.gate(5), loaded.gate(6)) == (1, 1, 1)
        assert (semaphore.value, loaded.gate(7)) == (0, 0)
        assert obj.seen[0].gates == 11
        loaded.fire(8)  # nobody is there any more
        assert obj.seen[0].calls == 2
