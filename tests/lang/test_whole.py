"""Generated whole programs: what compiles, kernels take; and it computes what CPython computes."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

import skep
from skep.errors import CompileError
from skep.lang.compile import compile_programs
from skep.loading import programs_of
from skep.obj import read
from skep.verifier import Subject, alu, check
from skep.verifier.scalar import Scalar
from tests.lang.functions import LeavesS64
from tests.lang.support import HEADER, module, seed
from tests.lang.whole import DECLARED, Twin, Whole
from tests.support.oracles import bpf

COUNT = 24
#: of the kernel's million
MOST = 500_000
KERNELS = ["5.10", "6.1", "6.18"]
PACKETS = 4
ROW = 968


def generated(number: int) -> str:
    return Whole(random.Random(f"{seed()}-whole-{number}")).program(1, 3)


def compiled(folder: Path, number: int, text: str) -> Path | None:
    """The object of a program, None where the compiler refuses it."""
    made = module(folder, HEADER + DECLARED + text, f"whole{number}")
    path = folder / f"whole{number}.bpf.o"
    try:
        path.write_bytes(compile_programs(programs_of(made)))
    except CompileError as error:
        # A test that bounds a copy of a number; a sign that is not known.
        assert "index may be" in error.reason or "63 bits" in error.reason, (
            f"seed {seed()}: {number}: {error}"
        )
        return None
    return path


def inputs(rng: random.Random) -> bytes:
    """A row whose numbers of 64 bits are small: what leaves 63 bits is not compared."""
    row = bytearray(rng.choice([0, 1, 10, 32, 47, 48, 58, rng.randrange(256)]) for _ in range(ROW))
    for at in range(256, 256 + 64 * 8, 8):
        row[at + 3 : at + 8] = bytes(5)
    return bytes(row)


def test_kernels_take_what_compiles(tmp_path: Path) -> None:
    taken = 0
    for number in range(COUNT):
        path = compiled(tmp_path, number, generated(number))
        if path is None:
            continue
        subject = Subject.from_object(read(str(path)), "main")
        for kernel in KERNELS:
            print(f"seed {seed()}: program {number}, Linux {kernel}")  # shown where check() raises
            check(subject, kernel=kernel, max_insns=MOST)
        taken += 1
    assert taken > COUNT * 3 // 4


@pytest.mark.live
def test_results_are_cpythons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that take "and" or "or" of numbers in [-1, 0] stay away: Linux 6.18 fails at that in loops."""
    bpf()
    faulty: list[int] = []
    forks = alu._forks

    def noticed(value: Scalar) -> bool:
        found = forks(value)
        faulty.extend([1] * found)
        return found

    monkeypatch.setattr(alu, "_forks", noticed)
    run = 0
    for number in range(1000, 1020):
        text = generated(number)
        path = compiled(tmp_path, number, text)
        if path is None:
            continue
        faulty.clear()
        check(Subject.from_object(read(str(path)), "main"), kernel="6.18", max_insns=MOST)
        if faulty:
            continue
        rng = random.Random(f"{seed()}-inputs-{number}")
        for _ in range(PACKETS):
            packet = bytes(rng.choice([0, 1, 2, 3, 50, rng.randrange(256)]) for _ in range(100))
            row = inputs(rng)
            twin = Twin(text, row)
            try:
                want = twin.run(packet)
            except LeavesS64:
                continue
            with skep.load(str(path)) as obj:
                obj.maps["rows"].raw[bytes(4)] = row
                assert obj.main.run(packet).retval == want, f"seed {seed()}: {number}"
                assert obj.bss.result == twin.names["result"], f"seed {seed()}: {number}"
                assert obj.maps["rows"].raw[bytes(4)] == bytes(twin), f"seed {seed()}: {number}"
                run += 1
    assert run > 20
