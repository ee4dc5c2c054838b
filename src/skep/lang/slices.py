"""Slices: ``buffer[a:b]`` is a view of part of a text, of bytes or of an array, without a copy.

How long a view is is known while compiling: constant ends, ``[i : i + 16]``, or ``[i:]``, which reaches from
the last place that ``i`` may have to the end.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from skep.lang.aggregates import ArrayStorage, TextStorage
from skep.lang.layout import Storage
from skep.lang.values import TEXT, PtrType, Value

if TYPE_CHECKING:
    from skep.lang.walk import Walker


def view(c: Walker, value: Value, piece: ast.Slice) -> Value:
    """The part of ``value`` that a slice names; refuses what has no parts, or what may lie outside."""
    if piece.step is not None:
        raise c.error(piece, "a slice takes neighbours only", "take single elements in a loop")
    lower, upper = (None if one is None else c.expr(one) for one in (piece.lower, piece.upper))
    if value.type is TEXT:
        return _constant(c, value, lower, upper, piece)
    if not isinstance(value.type, PtrType):  # an address in a context: a copy of it
        value = value.type.materialise(c, value, piece)
    kind = value.type
    if not isinstance(kind, PtrType) or not isinstance(kind.of, (TextStorage, ArrayStorage)):
        raise c.error(
            piece,
            f"{kind.name} has no slices",
            "texts, bytes and arrays in memory have: store it in one first",
        )
    if kind.nullable:
        c.refuse_none(value, piece)
    each = kind.of.of.size if isinstance(kind.of, ArrayStorage) else 1
    count = kind.of.size // each if each else 0
    start = _place(c, lower, count, piece) if lower is not None else c.int_const(0)
    length = _length(c, start, upper, count, piece)
    if start.lo < 0 or start.hi + length > count:
        worst = start.lo if start.lo < 0 else start.hi
        raise c.error(
            piece,
            f"the slice may begin at {worst}, and {length} elements from there are not all within "
            f"{kind.of.name}",
            c.how_to_bound(piece.lower, f"<= {count - length}") if count >= length else "take fewer",
        )
    of: Storage = (
        ArrayStorage(kind.of.of, length)
        if isinstance(kind.of, ArrayStorage)
        else TextStorage(length, kind.of.text)
    )
    return Value(PtrType(of, kind.space, writable=kind.writable), c.element(value, start, each))


def _constant(c: Walker, value: Value, lower: Value | None, upper: Value | None, piece: ast.Slice) -> Value:
    """Part of a text that is known while compiling."""
    ends = [None if one is None else one.const for one in (lower, upper)]
    if any(one is not None and end is None for one, end in zip((lower, upper), ends, strict=True)):
        raise c.error(
            piece, "a constant text is cut at constant places", "store it in a bpf.char field first"
        )
    return c.text(value.obj[ends[0] : ends[1]])


def _place(c: Walker, value: Value, count: int, node: ast.AST) -> Value:
    number = c.as_int(value, node, "the end of a slice")
    if number.const is not None and number.const < 0:
        return c.int_const(number.const + count)
    return number


def _length(c: Walker, start: Value, upper: Value | None, count: int, piece: ast.Slice) -> int:
    if upper is None:
        if start.lo < 0 or start.hi >= count:
            worst = start.lo if start.lo < 0 else start.hi
            raise c.error(
                piece,
                f"the slice may begin at {worst}, there are {count} elements",
                c.how_to_bound(piece.lower, f"< {count}") + "; what is left after the largest is taken",
            )
        return count - start.hi
    end = _place(c, upper, count, piece)
    if start.const is not None and end.const is not None:
        length = end.const - start.const
    else:
        length = _step(c, piece)
    if length < 1:
        raise c.error(piece, "the slice is empty", "its end comes after its beginning")
    return length


def _step(c: Walker, piece: ast.Slice) -> int:
    """n of ``[i : i + n]``."""
    end = piece.upper
    if isinstance(end, ast.BinOp) and isinstance(end.op, ast.Add) and piece.lower is not None:
        first = ast.dump(piece.lower)
        for one, other in ((end.left, end.right), (end.right, end.left)):
            if ast.dump(one) == first:
                length = c.as_int(c.expr(other), piece, "the length of a slice").const
                if length is not None:
                    return length
    raise c.error(
        piece,
        "how long the slice is must be known while compiling",
        "write [i : i + 16]; for fewer bytes helpers take size=n",
    )
