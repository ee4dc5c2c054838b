"""`skep.plain` against the standard library's classes, and that nothing heavy is loaded for an object."""

from __future__ import annotations

import copy
import enum
import pickle
import subprocess
import sys
import typing
from typing import Any

import pytest

from skep import plain
from skep.uapi.enums import MapType

HEAVY = {"typing", "enum", "re", "collections", "functools", "contextlib", "dataclasses", "inspect", "ast"}


class Point(plain.NamedTuple):
    """Two numbers."""

    x: int
    y: int = 7

    @property
    def both(self) -> int:
        return self.x + self.y


class TheirPoint(typing.NamedTuple):
    x: int
    y: int = 7


class Colour(plain.IntEnum):
    RED = 1
    GREEN = 2
    VERT = 2

    @property
    def c_name(self) -> str:
        return f"COLOUR_{self.name}"


class TheirColour(enum.IntEnum):
    RED = 1
    GREEN = 2
    VERT = 2


def test_named_tuples_are_as_typings() -> None:
    ours: Any = Point(1)
    theirs: Any = TheirPoint(1)
    assert ours == theirs == (1, 7)
    assert (ours.x, ours.y, ours.both, Point(y=2, x=3)) == (1, 7, 8, (3, 2))
    assert repr(ours) == repr(theirs).removeprefix("Their")
    assert ours._asdict() == theirs._asdict()
    assert ours._replace(y=9) == theirs._replace(y=9)
    assert (Point._fields, Point._field_defaults) == (TheirPoint._fields, TheirPoint._field_defaults)
    assert Point._make((4, 5)) == (4, 5)
    assert Point.__doc__ == "Two numbers."
    assert isinstance(Point._make((4, 5)), Point)
    assert pickle.loads(pickle.dumps(ours)) == ours
    assert type(copy.deepcopy(ours)) is Point
    match ours:
        case Point(x, y=y):
            assert (x, y) == (1, 7)
    wrong: Any = Point
    with pytest.raises(TypeError, match="missing"):
        wrong()
    with pytest.raises(TypeError, match="takes"):
        wrong(1, 2, 3)
    with pytest.raises(TypeError, match="'z'"):
        wrong(1, z=3)
    with pytest.raises(TypeError):
        Point._make((1,))
    with pytest.raises(ValueError, match="z"):
        wrong(1)._replace(z=1)


def test_enums_are_as_enums() -> None:
    assert [*Colour] == [*TheirColour] == [1, 2]
    assert repr(Colour.VERT) == repr(TheirColour.VERT).replace("Their", "") == "<Colour.GREEN: 2>"
    assert Colour(2) is Colour["VERT"] is Colour.GREEN
    assert (str(Colour.RED), f"{Colour.RED:03d}", f"{Colour.RED}") == ("1", "001", "1")
    assert (Colour.RED.name, Colour.RED.value, Colour.RED.c_name) == ("RED", 1, "COLOUR_RED")
    values: Any = Colour
    assert (2 in values, 3 in values, len(values)) == (True, False, 2)
    assert list(Colour.__members__) == list(TheirColour.__members__)
    assert pickle.loads(pickle.dumps(Colour.RED)) is Colour.RED is copy.deepcopy(Colour.RED)
    assert isinstance(Colour.RED, int) and isinstance(Colour.RED, Colour)
    assert hash(Colour.RED) == hash(1)
    with pytest.raises(ValueError, match="9 is not a valid Colour"):
        Colour(9)
    with pytest.raises(AttributeError):
        _ = Colour.BLUE  # type: ignore[attr-defined]
    with pytest.raises(KeyError):
        _ = Colour["BLUE"]
    assert MapType.HASH.c_name == "BPF_MAP_TYPE_HASH"
    assert "HASH" in dir(MapType)


def test_properties_and_functions_are_computed_once() -> None:
    calls: list[int] = []

    class Thing:
        @plain.cached_property
        def value(self) -> int:
            """The value."""
            calls.append(1)
            return 5

    @plain.once
    def answer() -> int:
        """The answer."""
        calls.append(2)
        return 42

    thing = Thing()
    assert (thing.value, thing.value, answer(), answer()) == (5, 5, 42, 42)
    assert calls == [1, 2]
    assert (Thing.value.__doc__, answer.__doc__, answer.__name__) == ("The value.", "The answer.", "answer")


def test_loading_an_object_needs_no_heavy_module() -> None:
    code = (
        "import skep.kernel.loader, skep.linux.kernel, skep.obj.reader, skep.obj.link, skep.kernel.globals, "
        "skep.kernel.structs, skep.kernel.btfload, skep.linux.links.tracepoint, skep.linux.links.tracing;"
        f"print(*sorted(set(sys.modules) & {HEAVY!r}))"
    )
    command = [sys.executable, "-I", "-S", "-c", f"import sys; sys.path[:0] = {sys.path!r}; {code}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
