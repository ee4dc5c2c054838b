"""Two object specs beside each other, field by field."""

from __future__ import annotations

from typing import Any

from skep.btf.read import Btf
from skep.obj.spec import BtfEdits, MapSpec, ObjectSpec, ProgramSpec, SubprogSpec

_SPECS = (ObjectSpec, ProgramSpec, SubprogSpec, MapSpec, BtfEdits)


def differences(one: Any, two: Any, where: str = "spec") -> list[str]:
    """The places at which two specs differ in value or in type; those of what slots hold too."""
    if type(one) is not type(two):
        return [f"{where}: {type(one).__name__} {one!r}, {type(two).__name__} {two!r}"]
    if isinstance(one, _SPECS):
        names = [name.removeprefix("_") for name in type(one).__slots__ if name != "_kernel_btf"]
        pairs = [(f"{where}.{name}", getattr(one, name), getattr(two, name)) for name in names]
    elif isinstance(one, Btf):
        return [] if bytes(one.raw) == bytes(two.raw) else [f"{where}: other types"]
    elif isinstance(one, dict):
        if list(one) != list(two):
            return [f"{where}: {list(one)}, {list(two)}"]
        pairs = [(f"{where}[{key!r}]", one[key], two[key]) for key in one]
    elif isinstance(one, (list, tuple)):
        if len(one) != len(two):
            return [f"{where}: {len(one)}, {len(two)} items"]
        pairs = [(f"{where}[{i}]", a, b) for i, (a, b) in enumerate(zip(one, two, strict=True))]
    else:
        return [] if one == two else [f"{where}: {one!r}, {two!r}"]
    return [found for place, a, b in pairs for found in differences(a, b, place)]
