"""Loops with conditional state: every kernel follows them, in few instructions."""

from __future__ import annotations

import pytest

from skep.lang.compile import compile_programs
from skep.loading import programs_of
from skep.obj import read
from skep.obj.spec import ObjectSpec
from skep.verifier import Subject, check
from tests.lang import state_loops

#: of the kernel's million; before the verifier was made to forget, nine of the programs passed that
MOST = 50_000


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> ObjectSpec:
    path = tmp_path_factory.mktemp("state") / "state.bpf.o"
    path.write_bytes(compile_programs(programs_of(state_loops)))
    return read(str(path))


@pytest.mark.parametrize("kernel", ["5.10", "6.1", "6.12", "6.18", "7.2"])
def test_followed(spec: ObjectSpec, kernel: str) -> None:
    programs = programs_of(state_loops)
    assert len(programs) == 13
    for program in programs:
        subject = Subject.from_object(spec, program.__name__)
        assert check(subject, kernel=kernel, max_insns=MOST).processed < MOST, program.__name__
