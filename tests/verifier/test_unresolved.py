"""Map descriptors that an object's code names itself are no maps of the object."""

from __future__ import annotations

from pathlib import Path

import pytest

from skep import obj
from skep.errors import VerifierError
from skep.isa import Insn, encode
from skep.obj.spec import MapSpec, ObjectSpec, ProgramSpec, SubprogSpec
from skep.uapi.enums import MapType, ProgType
from skep.verifier import Subject, check
from tests.obj.support import compiled


@pytest.mark.parametrize("src", [1, 2])
@pytest.mark.parametrize("fd", [0, 1, 5])
def test_a_descriptor_without_a_relocation(src: int, fd: int) -> None:
    """Index 0 of the object's maps must not be taken for descriptor 0."""
    rows = [Insn(0x18, 1, src, 0, fd), Insn(0), Insn(0xB7, 0, 0, 0, 0), Insn(0x95)]
    spec = ObjectSpec("raw")
    spec.license = "GPL"
    spec.maps["m"] = MapSpec("m", MapType.ARRAY, 4, 8, 1)
    spec.programs["p"] = ProgramSpec("p", "socket", ProgType.SOCKET_FILTER)
    spec.functions["p"] = SubprogSpec("p", "socket", 0, encode(rows))
    with pytest.raises(VerifierError, match="is not pointing to valid bpf_map"):
        check(Subject.from_object(spec, "p"))


def test_functions_that_are_linked_in_have_their_lines(tmp_path: Path) -> None:
    """memcpy's source lines are named in the types that are loaded, past the object's own strings."""
    spec = obj.read(compiled("library.c", tmp_path, "19", "v3", "-fno-builtin"))
    for name in spec.programs:
        subject = Subject.from_object(spec, name)
        assert check(subject).processed > 5
        assert "memcpy" in [row.name for row in subject.funcs.values()] or name != "copy"
        assert all(row.line > 0 for row in subject.lines)
