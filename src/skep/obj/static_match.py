"""Whether two objects speak of the same thing under one name: variables, functions, maps."""

from __future__ import annotations

from skep.btf import types as t
from skep.errors import LinkError
from skep.obj.maps import define
from skep.obj.spec import MapSpec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from skep.btf.graph import TypeGraph

_NAMED: Final = frozenset((t.STRUCT, t.UNION, t.ENUM, t.ENUM64, t.FWD, t.FUNC, t.VAR))
_SIZED: Final = frozenset((t.INT, t.FLOAT, t.ENUM, t.ENUM64))
_MAX_DEPTH: Final = 128
_MAP_FIELDS: Final = ("type", "key_size", "value_size", "max_entries", "flags", "numa_node", "pin_value")


def difference(
    ours: TypeGraph, one: int, theirs: TypeGraph, other: int, *, exact: bool = True, depth: int = 0
) -> str:
    """How two types of one symbol differ; "" where they agree.

    Names, kinds, sizes and members must agree; behind a pointer the name of a struct suffices. Qualifiers,
    typedefs, parameter names, array lengths and enumerators do not matter (libbpf's rules).
    """
    if depth > _MAX_DEPTH:
        return "types nested too deep"
    one, other = ours.resolve(one), theirs.resolve(other)
    a, b = ours[one], theirs[other]

    def inner(left: int, right: int, *, exactly: bool = exact) -> str:
        return difference(ours, left, theirs, right, exact=exactly, depth=depth + 1)

    if not exact and (a[0] == t.FWD) != (b[0] == t.FWD):
        declared, whole = (a, b) if a[0] == t.FWD else (b, a)
        fits = a.name == b.name and whole[0] == (t.UNION if declared[2] else t.STRUCT)
        return "" if fits else f"{ours.describe(one)} against {theirs.describe(other)}"
    if a[0] != b[0] or (a[0] in _NAMED and a.name != b.name):
        return f"{ours.describe(one)} against {theirs.describe(other)}"
    kind = a[0]
    if kind in _SIZED:
        return "" if a[2] == b[2] else f"{ours.describe(one)} of {a[2]} against {b[2]} bytes"
    if kind == t.PTR:
        return inner(a[2], b[2], exactly=False)
    if kind == t.ARRAY:
        return inner(a[2], b[2])
    if kind in (t.FUNC, t.VAR):
        if (a[3] == t.LINKAGE_STATIC) != (b[3] == t.LINKAGE_STATIC):
            return f"{a.name} is static in one of them"
        return inner(a[2], b[2])
    if kind in (t.STRUCT, t.UNION):
        return _members(ours, one, theirs, other, depth) if exact else ""
    if kind == t.FUNC_PROTO:
        if len(a[3]) != len(b[3]):
            return f"{len(a[3])} against {len(b[3])} parameters"
        for left, right in zip(a[3], b[3], strict=True):
            found = inner(left[1], right[1])
            if found:
                return found
        return inner(a[2], b[2])
    return ""


def _members(ours: TypeGraph, one: int, theirs: TypeGraph, other: int, depth: int) -> str:
    a, b = ours[one][3], theirs[other][3]
    name = ours.describe(one)
    if len(a) != len(b):
        return f"{name} with {len(a)} against {len(b)} members"
    for left, right in zip(a, b, strict=True):
        if left[0] != right[0] or left[2:] != right[2:]:
            return f"{name}: member {left[0] or '(anonymous)'} against {right[0] or '(anonymous)'}"
        found = difference(ours, left[1], theirs, right[1], depth=depth + 1)
        if found:
            return f"{name}.{left[0]}: {found}"
    return ""


def map_difference(
    name: str, ours: TypeGraph, one: int, theirs: TypeGraph, other: int, where: tuple[str, str]
) -> str:
    """How the declarations of a map, VARs of these ids, differ; "" where they agree."""
    values = ours[one], theirs[other]
    if not all(isinstance(value, t.Var) for value in values):
        return "one of them is no variable"
    try:
        left, _ = define(where[0], ours, name, values[0][2])
        right, _ = define(where[1], theirs, name, values[1][2])
    except LinkError as error:
        return str(error)
    return _map_difference(ours, left, theirs, right)


def _map_difference(ours: TypeGraph, left: MapSpec, theirs: TypeGraph, right: MapSpec) -> str:
    for field in _MAP_FIELDS:
        a, b = getattr(left, field) or 0, getattr(right, field) or 0
        if a != b:
            return f"{field} {int(a)} against {int(b)}"
    for what, a, b in (
        ("key", left.key_type_id, right.key_type_id),
        ("value", left.value_type_id, right.value_type_id),
    ):
        if bool(a) != bool(b):
            return f"only one has a type for its {what}"
        found = difference(ours, a, theirs, b) if a else ""
        if found:
            return f"{what}: {found}"
    if (left.inner is None) != (right.inner is None):
        return "only one has an inner map"
    if left.inner is not None and right.inner is not None:
        found = _map_difference(ours, left.inner, theirs, right.inner)
        return f"inner map: {found}" if found else ""
    return ""
