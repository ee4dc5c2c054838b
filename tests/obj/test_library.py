"""memcpy and its like, linked in: what they do in the kernel against what Python does."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import pytest

from skep import obj
from tests.obj.support import compiled, load, seed
from tests.support import oracles

_HEAD = struct.Struct("=IIIIq")
_BUFFER = 128


def expected(name: str, buffer: bytes, to: int, start: int, size: int, byte: int) -> tuple[int, bytes]:
    data = bytearray(buffer)
    if name == "compare":
        one, other = buffer[to : to + size], buffer[start : start + size]
        return (one > other) - (one < other), buffer
    if name == "fill":
        data[to : to + size] = bytes([byte & 255]) * size
    elif name == "move":
        data[to : to + size] = buffer[start : start + size]
    else:
        for i in range(size):
            data[to + i] = data[start + i]
    return to, bytes(data)


@pytest.mark.parametrize("records", [True, False])
def test_against_python(records: bool, tmp_path: Path) -> None:
    oracles.bpf()
    spec = obj.read(compiled("library.c", tmp_path, "19", "v3", "-fno-builtin"))
    if not records:  # as if there were no types of functions
        for function in spec.functions.values():
            function.btf_id = 0
    chance = random.Random(seed())
    with load(spec) as loaded:
        kernel, calls = loaded.kernel, loaded.maps["calls"]
        for name in ("copy", "move", "fill", "compare"):
            for _ in range(60):
                to, start, size = chance.randint(0, 32), chance.randint(0, 32), chance.randint(0, 96)
                byte = chance.getrandbits(32)
                values = chance.choice([range(2), range(256)])
                buffer = bytes(chance.choice(values) for _ in range(_BUFFER))
                case = (name, to, start, size, byte, seed())
                kernel.map_update_elem(calls, bytes(4), _HEAD.pack(to, start, size, byte, 0) + buffer)
                assert kernel.prog_test_run(loaded.programs[name], bytes(64)).retval == 7
                value = bytearray(_HEAD.size + _BUFFER)
                kernel.map_lookup_elem(calls, bytes(4), value)
                result = _HEAD.unpack_from(value)[4]
                want, after = expected(name, buffer, to, start, size, byte)
                if name == "compare":
                    result = (result > 0) - (result < 0)
                assert (result, value[_HEAD.size :]) == (want, after), case
        assert kernel.prog_test_run(loaded.programs["stack"], bytes(64)).retval == 1


def test_each_is_linked_once(tmp_path: Path) -> None:
    spec = obj.read(compiled("library.c", tmp_path, "19", "v3", "-fno-builtin"))
    linked = obj.link_program(spec, "stack")
    assert [name for _, name in linked.subprogs] == [
        "stack",
        "memset.discarded",
        "memcpy.discarded",
        "memcmp",
    ]
    assert len(linked.func_infos) == 4
