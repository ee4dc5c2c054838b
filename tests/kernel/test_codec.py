"""Codecs alone: arrays that stay bytes until they are looked at, and many values at once."""

from __future__ import annotations

import os
import random
import struct

import pytest

from skep.kernel.codec import ArrayCodec, BoolCodec, Codec, FloatCodec, IntCodec, within
from skep.kernel.structs import Field, StructCodec

SEED = int(os.environ.get("SKEP_SEED", "11"))


def struct_of(*members: tuple[str, Codec]) -> StructCodec:
    fields, fmt, at, size = [], "", 0, 0
    for name, codec in members:
        fields.append(Field(name, at, codec))
        fmt, at, size = fmt + codec.fmt, at + codec.count, size + codec.size
    return StructCodec("made", size, fmt, at, fields)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("size", [2, 4, 8])
@pytest.mark.parametrize("length", [1, 3, 4, 5, 100, 5000])
def test_arrays_of_integers(size: int, signed: bool, length: int) -> None:
    element = IntCodec(size, signed)
    array = ArrayCodec(element, length)
    rng = random.Random(SEED)
    values = [rng.randint(element.low, element.high) for _ in range(length)]
    values[0], values[-1] = element.low, element.high
    data = struct.pack(f"={length}{element.fmt}", *values)
    assert array.encode(values) == data
    assert array.decode(data) == values
    outer = struct_of(("before", IntCodec(8, False)), ("array", array), ("after", IntCodec(4, True)))
    record = struct.pack("=Q", 7) + data + struct.pack("=i", -9)
    value = outer.decode(record)
    assert (value.before, value.array, value.after) == (7, values, -9)
    assert outer.encode(value) == record
    assert value == outer(before=7, array=values, after=-9)
    changed = value._replace(array=[0] * length)
    assert changed.array == [0] * length and (changed.before, changed.after) == (7, -9)
    assert changed != value
    with pytest.raises(ValueError, match=rf"^\.array\[{length - 1}\]: "):
        value._replace(array=[*values[:-1], element.high + 1])
    with pytest.raises(ValueError, match=f"a list of {length + 1} where {length} belong"):
        value._replace(array=[*values, 0])


def test_arrays_of_arrays_structs_bools_floats() -> None:
    grid = ArrayCodec(ArrayCodec(IntCodec(2, True), 4), 3)
    point = struct_of(("x", IntCodec(4, True)), ("y", IntCodec(4, True)))
    made = struct_of(
        ("grid", grid),
        ("points", ArrayCodec(point, 5)),
        ("flags", ArrayCodec(BoolCodec(), 6)),
        ("parts", ArrayCodec(FloatCodec(8), 7)),
    )
    rows = [[-1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, -32768]]
    points = [{"x": n, "y": -n} for n in range(5)]
    value = made(grid=rows, points=points, flags=[True, False] * 3, parts=[n / 4 for n in range(7)])
    again = made.decode(made.encode(value))
    assert again == value
    assert again.grid == rows
    assert [(p.x, p.y) for p in again.points] == [(n, -n) for n in range(5)]
    assert again.flags == [True, False] * 3
    assert again.parts == [n / 4 for n in range(7)]
    assert again._asdict()["grid"] == rows


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (".y: no", "value.y: no"),
        ("[2].y: no", "value[2].y: no"),
        ("[2]: no", "value[2]: no"),
        ("[2][3]: no", "value[2][3]: no"),
        ("[2] where a number belongs", "value: [2] where a number belongs"),
        ("[1, 2]: no", "value: [1, 2]: no"),
        ("[] where u64 belongs", "value: [] where u64 belongs"),
        ("no", "value: no"),
    ],
)
def test_places_in_what_errors_say(words: str, told: str) -> None:
    assert within("value", ValueError(words)) == told


def test_many_records_behind_headers() -> None:
    codec = struct_of(("number", IntCodec(8, False)), ("words", ArrayCodec(IntCodec(4, False), 4)))
    rows = [(n << 33, [n, n + 1, n + 2, n + 3]) for n in range(1000)]
    data = b"".join(b"headhead" + codec.encode(row) + b"pad" for row in rows)
    values = codec.decode_many(data, skip=8, stride=8 + codec.size + 3)
    assert [(value.number, value.words) for value in values] == rows
    assert {type(value) for value in values} == {codec.value_class}
    assert codec.decode_many(b"") == []
