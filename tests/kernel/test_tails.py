"""Records that end in a flexible array: as long as they are, one by one and in runs."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from collections.abc import Iterator

import pytest

import skep
from skep.kernel.object import Object
from skep.kernel.structs import TailedCodec
from tests.kernel.build import build, no_leaks
from tests.support import oracles

pytestmark = pytest.mark.live


@pytest.fixture
def obj() -> Iterator[Object]:
    oracles.bpf()
    with no_leaks(), skep.load(build("tails")) as made:
        yield made


def write(obj: Object, data: bytes, times: int = 1) -> None:
    assert 14 <= len(data) < 64
    obj.data.buffer = data
    obj.write.run(bytes(64 + len(data)), repeat=times)


def test_text(obj: Object) -> None:
    ring = obj.reader("ring", "message")
    head = struct.pack("=IH", 7, 1)
    for length in range(14, 64):
        text = bytes(range(33, 33 + length - 6))
        write(obj, head + text)
        (value,) = ring.read()
        assert (value.number, value.kind, value.text) == (7, 1, text)
    write(obj, head + b"short\0and more", 100)
    values = ring.read()
    assert len(values) == 100 and {v.text for v in values} == {b"short"}
    assert values[0] == values[99] and "text=b'short'" in repr(values[0])


def test_structs_and_bytes(obj: Object) -> None:
    points = obj.reader("ring", "points")
    data = b"\3\0\0\0" + b"".join(struct.pack("=IHxx", n, n + 1) for n in range(5))
    write(obj, data, 50)
    for value in points.read():
        assert value.count == 3
        assert [(p.x, p.y) for p in value.all] == [(n, n + 1) for n in range(5)]
        assert value._asdict()["all"][4] == {"x": 4, "y": 5}
    points.close()
    raw = obj.reader("ring", "raw")
    write(obj, struct.pack("=Q", 9) + b"\1\0\2\0\3\0\4")
    (value,) = raw.read()
    assert (value.id, value.data) == (9, b"\1\0\2\0\3\0\4")


def test_values_are_made_and_stored(obj: Object) -> None:
    codec = obj.codec("points")
    assert isinstance(codec, TailedCodec)
    made = codec(count=2, all=[{"x": 1, "y": 2}, (3, 4)])
    data = codec.encode(made)
    assert data == b"\2\0\0\0" + struct.pack("=IHxxIHxx", 1, 2, 3, 4)
    assert codec.decode(data) == made
    assert codec.encode({"count": 0}) == bytes(codec.size)
    with pytest.raises(ValueError, match="does not fit"):
        codec.encode({"all": [{"x": -1}]})
    text = obj.codec("message")
    assert text.encode({"number": 1, "text": "ab"}).startswith(struct.pack("=IH", 1, 0) + b"ab")


def test_in_run() -> None:
    """`skep run` shows them, too."""
    oracles.bpf()
    code = (
        "import sys; from skep.cli.run.types import Records; import skep, json;"
        "made = skep.load(sys.argv[1]); found = Records(made, 'ring', ['message']);"
        "print(json.dumps(dict(found.value(bytes.fromhex('0700000001006869212100')))));"
        "found = Records(made, 'ring', ['points']);"
        "print(dict(found.value(bytes.fromhex('010000000500000006000000')))['all']); made.close()"
    )
    done = subprocess.run([sys.executable, "-c", code, build("tails")], capture_output=True, text=True)
    first, second = done.stdout.splitlines()
    assert json.loads(first) == {"number": 7, "kind": 1, "text": "hi!!"}
    assert second == "[[('x', 5), ('y', 6)]]", done.stderr
