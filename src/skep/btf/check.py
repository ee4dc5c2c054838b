"""The whole of a BTF, checked: every type decoded, every reference followed."""

from __future__ import annotations

from skep.btf import types as t
from skep.btf.types import Type

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final

    from skep.btf.read import Btf

_VALUES: Final = (
    frozenset((t.INT, t.PTR, t.ARRAY, t.STRUCT, t.UNION, t.ENUM, t.ENUM64, t.FLOAT, t.TYPEDEF)) | t.MODIFIERS
)

_CHAIN: Final = t.MODIFIERS | {t.TYPEDEF, t.ARRAY}


def check(btf: Btf) -> None:
    """Raise BtfError for the first thing that is wrong (rules: Linux kernel/bpf/btf.c, but for names)."""
    count = len(btf)
    kinds = bytes(btf.kind_of(id) for id in range(count))
    for id in range(btf.start_id, count):
        value = btf[id]
        for reference in t.references(value):
            if reference >= count:
                btf.fail(id, f"names type {reference}, of {count - 1}")
        _CHECKS.get(value[0], _nothing)(btf, id, value, kinds)
    _no_loops(btf, count, _by_value)
    _no_loops(btf, count, _by_reference)
    for id in range(btf.start_id, count):
        if kinds[id] in (t.STRUCT, t.UNION, t.ARRAY):
            btf.size_of(id)


def _nothing(btf: Btf, id: int, value: Type, kinds: bytes) -> None:
    return


def _int(btf: Btf, id: int, value: Type, kinds: bytes) -> None:
    _, _, size, encoding, offset, bits = value
    if size not in (1, 2, 4, 8, 16) or offset + bits > size * 8 or bits == 0:
        btf.fail(id, f"an integer of {size} bytes with {bits} bits at bit {offset}")
    if encoding not in (0, t.SIGNED, t.CHAR, t.BOOL):
        btf.fail(id, f"integer encoding {encoding}")


def _array(btf: Btf, id: int, value: Type, kinds: bytes) -> None:
    if kinds[value[2]] not in _VALUES or kinds[value[3]] not in _VALUES:
        btf.fail(id, f"an array of {btf.describe(value[2])} counted by {btf.describe(value[3])}")


def _composite(btf: Btf, id: int, value: Type, kinds: bytes) -> None:
    for number, (name, type_id, offset, bits) in enumerate(value[3]):
        if kinds[type_id] not in _VALUES:
            btf.fail(id, f"member {number} ({name or 'anonymous'}) is {btf.describe(type_id)}")
        if offset + bits > value[2] * 8:
            btf.fail(
                id, f"member {number} ({name or 'anonymous'}) at bit {offset} lies outside {value[2]} bytes"
            )


def _enum(btf: Btf, id: int, value: Type, kinds: bytes) -> None:
    if value[2] not in (1, 2, 4, 8):
        btf.fail(id, f"an enum of {value[2]} bytes")


def _func(btf: Btf, id: int, value: Type, kinds: bytes) -> None:
    if kinds[value[2]] != t.FUNC_PROTO:
        btf.fail(id, f"function {value[1]} has {btf.describe(value[2])} for a prototype")
    if value[3] > t.LINKAGE_EXTERN:
        btf.fail(id, f"function {value[1]} has linkage {value[3]}")


def _datasec(btf: Btf, id: int, value: Type, kinds: bytes) -> None:
    for number, (type_id, _, _) in enumerate(value[3]):
        if kinds[type_id] not in (t.VAR, t.FUNC):
            btf.fail(id, f"entry {number} of section {value[1]} is {btf.describe(type_id)}")


_CHECKS: Final[dict[int, Callable[[Btf, int, Type, bytes], None]]] = {
    t.INT: _int,
    t.ARRAY: _array,
    t.STRUCT: _composite,
    t.UNION: _composite,
    t.ENUM: _enum,
    t.ENUM64: _enum,
    t.FUNC: _func,
    t.DATASEC: _datasec,
}


def _by_value(btf: Btf, id: int) -> list[int]:
    """What type ``id`` holds by value: its size is theirs."""
    value = btf[id]
    if value[0] in (t.STRUCT, t.UNION):
        return [member[1] for member in value[3]]
    return [value[2]] if value[0] in _CHAIN else []


def _by_reference(btf: Btf, id: int) -> list[int]:
    """What type ``id`` stands for or points to, up to the next struct or function: C needs an end to it."""
    value = btf[id]
    return [value[2]] if value[0] in _CHAIN or value[0] == t.PTR else []


def _no_loops(btf: Btf, count: int, inside: Callable[[Btf, int], list[int]]) -> None:
    """Refuse a type that ``inside`` leads back to."""
    done = bytearray(count)  # 0 not seen, 1 on the path, 2 free of loops
    for root in range(btf.start_id, count):
        if done[root]:
            continue
        path = [(root, iter(inside(btf, root)))]
        done[root] = 1
        while path:
            id, rest = path[-1]
            for next_id in rest:
                if done[next_id] == 1:
                    btf.fail(next_id, f"{btf.describe(next_id)} leads back to itself")
                if done[next_id] == 0:
                    done[next_id] = 1
                    path.append((next_id, iter(inside(btf, next_id))))
                    break
            else:
                done[id] = 2
                path.pop()
