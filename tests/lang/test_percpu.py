"""Per-CPU objects that programs allocate: on the live kernel, in our verifier, and what is refused."""

from __future__ import annotations

import os
import textwrap
from pathlib import Path

import pytest

import skep
from skep.errors import CompileError
from skep.lang.compile import compile_programs, to_ir
from skep.loading import programs_of
from skep.obj import read
from skep.verifier import Subject, check
from tests.lang import percpu
from tests.lang.support import HEADER, module
from tests.support.oracles import bpf


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("percpu") / "percpu.bpf.o"
    path.write_bytes(compile_programs(programs_of(percpu)))
    return path


@pytest.mark.live
def test_live(built: Path) -> None:
    """Counted on the processors that this thread is put on, one by one, and summed."""
    bpf()
    allowed = os.sched_getaffinity(0)
    with skep.load(str(built)) as obj:
        assert obj.total.run(bytes(64)).retval == 0
        try:
            for processor in sorted(allowed):
                os.sched_setaffinity(0, {processor})
                # what another program has freed may be in it: only the differences are known
                first = obj.count.run(bytes(60)).retval
                assert obj.count.run(bytes(61)).retval == (first + 1) & 0xFF
        finally:
            os.sched_setaffinity(0, allowed)
        before = obj.total.run(bytes(64)).retval
        obj.count.run(bytes(70))
        assert obj.total.run(bytes(64)).retval == (before + 70) & 0xFFFF
        assert [obj.end.run(bytes(64)).retval for _ in range(2)] == [2, 1]
        assert obj.total.run(bytes(64)).retval == 0
        assert obj.slow.run().retval == 5


def test_verifier(built: Path) -> None:
    spec = read(str(built))
    for program in programs_of(percpu):
        check(Subject.from_object(spec, program.__name__), kernel="6.18")  # raises when it is refused


_PRELUDE = (
    HEADER
    + """
@bpf.struct
class Counts:
    n: u64

@bpf.struct
class Slot:
    counts: bpf.PerCpuKptr[Counts]
    other: bpf.PerCpuKptr[Other]

slots = bpf.Array(Slot, 1)
"""
).replace("@bpf.struct\nclass Slot", "@bpf.struct\nclass Other:\n    m: u64\n\n@bpf.struct\nclass Slot")

_REFUSED = [
    ("x = bpf.new_percpu(Counts)", "return 0", "x, which bpf.new_percpu() acquired on line"),
    ("x = bpf.new_percpu(Counts)\nbpf.drop(x)", "x", "may be None"),
    ("if (x := bpf.new_percpu(Counts)) is not None:\n    x.n = 1", "x.n", "has its own Counts"),
    ("if (x := bpf.new_percpu(Counts)) is not None:\n    bpf.this_cpu_ptr(x).n = 1", "bpf.this_cpu_ptr(x)",
     "lies in the value of a map"),
    ("x = slots[0].counts.get()\nbpf.this_cpu_ptr(x).n = 1", "x", "may be None"),
    ("x = slots[0].counts.get()\nif x is not None:\n    bpf.drop(x)", "bpf.drop(x)", "this is the map's"),
    ("x = slots[0].counts.get()\nif x is not None:\n    bpf.per_cpu_ptr(x, 0).n = 1",
     "bpf.per_cpu_ptr(x, 0).n", "may be None"),
    ("if (x := bpf.new_percpu(Counts)) is not None:\n    old = slots[0].other.swap(x)",
     "slots[0].other.swap(x)", "takes a per-CPU Other, not a per-CPU Counts"),
    ("slots[0].counts = None", "slots[0].counts", "is not set, but exchanged"),
    ("x = bpf.new_percpu(Slot)", "bpf.new_percpu(Slot)", "numbers, arrays and texts only"),
    ("x = bpf.new_percpu(u64)", "bpf.new_percpu(u64)", "takes a struct"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "at", "says"), _REFUSED)
def test_refused(body: str, at: str, says: str, tmp_path: Path) -> None:
    main = "@bpf.tc\ndef main(ctx: bpf.SkBuff) -> int:\n"
    text = f"{_PRELUDE}\n{main}{textwrap.indent(body, '    ')}\n    return 0\n"
    with pytest.raises(CompileError) as caught:
        to_ir([module(tmp_path, text).main])
    error = caught.value
    assert says in error.reason
    assert error.source is not None and error.column is not None
    assert error.source.splitlines()[error.line - 1][error.column : error.end_column] == at
    assert error.hint


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("x = slots[0].counts.get()", "needs an RCU section"),
        ("with bpf.rcu_read_lock():\n    x = slots[0].counts.get()\nif x is not None:\n    return 1",
         "only safe in the RCU section"),
        ("x = bpf.new_percpu(Counts)\nif x is None:\n    return 1\nold = slots[0].counts.swap(x)\n"
         "if old is not None:\n    bpf.drop(old)\nbpf.this_cpu_ptr(x).n = 1", "put it into the map"),
    ],
)  # fmt: skip
def test_programs_that_sleep(body: str, says: str, tmp_path: Path) -> None:
    text = f"{_PRELUDE}\n@bpf.syscall\ndef main() -> int:\n{textwrap.indent(body, '    ')}\n    return 0\n"
    with pytest.raises(CompileError, match=says):
        to_ir([module(tmp_path, text).main])
