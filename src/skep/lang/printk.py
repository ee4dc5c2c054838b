"""``bpf.printk(f"...")``: a line in the trace pipe."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

from skep.lang.aggregates import TextStorage
from skep.lang.values import OPTIONAL, S64_MAX, TEXT, BoolType, PtrType, Type, Value

if TYPE_CHECKING:
    from skep.lang.walk import Walker

#: what trace_printk takes; more values need trace_vprintk, Linux 5.16
_FEW = 3
_MANY = 12


class Printk(Type):
    """The function; it looks at the f-string itself, before it would be evaluated."""

    name = "bpf.printk"

    def raw_call(self, c: Walker, v: Value, node: ast.Call) -> Value:
        if len(node.args) != 1 or node.keywords:
            raise c.error(node, "bpf.printk() takes one text", 'bpf.printk(f"pid {pid}")')
        text, operands = formatted(c, node.args[0])
        if len(operands) > _MANY:
            raise c.error(node, f"{len(operands)} values: a line prints at most {_MANY}", "print two lines")
        c.at(node, force=True)
        data = text.encode() + b"\0"
        fmt = f"ptr {c.unit.constant(data)}"
        if len(operands) <= _FEW:
            return c.int(c.helper(6, [fmt, f"i64 {len(data)}", *operands]), -4095, 1 << 31)
        room = c.buffer(8 * len(operands), 8, ("printk", len(operands)))
        for i, operand in enumerate(operands):
            c.em.do(f"store {operand}, ptr {c.offset(room, 8 * i)}, align 8")
        got = c.helper(177, [fmt, f"i64 {len(data)}", f"ptr {room}", f"i64 {8 * len(operands)}"])
        return c.int(got, -4095, 1 << 31)


def formatted(c: Walker, node: ast.expr) -> tuple[str, list[str]]:
    """(printf format, operands with their IR types) of a constant text or an f-string."""
    if not isinstance(node, ast.JoinedStr):
        value = c.expr(node)
        if value.type is not TEXT:
            raise c.error(node, f"{value.type.name} is no text", 'bpf.printk(f"{x}")')
        return _printable(c, value.obj.decode("utf-8", "replace"), node).replace("%", "%%"), []
    text, operands = "", []
    ends_in_text = False
    for part in node.values:
        if isinstance(part, ast.FormattedValue):
            piece, operand = _value(c, part)
        else:
            assert isinstance(part, ast.Constant)
            piece, operand = _printable(c, str(part.value), part).replace("%", "%%"), ""
        if ends_in_text and not operand and piece[:1].isalnum():
            # The kernel takes %s before a blank or a punctuation mark only, and %c before anything.
            operands.append(f"i64 {ord(piece[0])}")
            piece = f"%c{piece[1:]}"
        text += piece
        if operand:
            operands.append(operand)
        ends_in_text = bool(operand) and piece.endswith("s")
    return text, operands


def _printable(c: Walker, text: str, node: ast.expr) -> str:
    """``text``, when the kernel prints it (bpf_bprintf_prepare in kernel/bpf/helpers.c)."""
    bad = next(
        (char for char in text if not char.isascii() or not (char.isprintable() or char.isspace())), None
    )
    if bad is not None:
        raise c.error(
            node, f"the kernel prints no line with {bad!r}: its formats are plain ASCII", "leave it out"
        )
    return text


def _value(c: Walker, part: ast.FormattedValue) -> tuple[str, str]:
    if part.conversion not in (-1, ord("s")) and not _repeats(part):
        raise c.error(part.value, "!r and !a are not compiled", "leave it out")
    spec = ""
    if part.format_spec is not None:
        pieces = getattr(part.format_spec, "values", [])
        if not all(isinstance(p, ast.Constant) for p in pieces):
            raise c.error(part.value, "a format is constant", 'f"{x:08x}"')
        spec = "".join(str(p.value) for p in pieces)
    value = c.expr(part.value)
    kind = value.type
    if kind is TEXT:
        made = format(value.obj.decode("utf-8", "replace"), _of_text(c, part, spec, constant=True))
        return _printable(c, made, part.value).replace("%", "%%"), ""
    if kind.nullable or kind is OPTIONAL:
        c.refuse_none(value, part.value)
    if isinstance(kind, PtrType) and isinstance(kind.of, TextStorage):
        if part.conversion == ord("r"):
            raise c.error(part.value, "!r and !a are not compiled, and {x=} is {x!r}", "write {x} or {x!s}")
        width = _of_text(c, part, spec)
        if kind.space == "arena":
            value = kind.materialise(c, value, part.value)
        return f"%{width}s", f"ptr {value.ir}"
    own = kind.format(c, value, part.value)
    if own is not None:
        return own
    number = c.as_int(value, part.value, "printk prints integers and texts")
    if isinstance(kind, BoolType):
        return "%d", f"i64 {number.ir}"
    return _conversion(c, part, spec, number), f"i64 {number.ir}"


def _repeats(part: ast.FormattedValue) -> bool:
    """Whether this is ``{x=}``, which Python reads as the text of x and then ``{x!r}``."""
    return part.conversion == ord("r") and part.format_spec is None


def _of_text(c: Walker, part: ast.FormattedValue, spec: str, *, constant: bool = False) -> str:
    """A Python format of texts as printf's flags and width, or, of a ``constant``, as Python's."""
    found = re.fullmatch(r"([<>]?)(\d*)s?", spec)
    if found is None:
        raise c.error(
            part.value, f"format {spec!r} does not print a text", "a width does, on the left or right: :>16"
        )
    side, width = found.groups()
    if constant:
        return f"{side}{width}"
    return ("" if side == ">" else "-") + width if width else ""


def _conversion(c: Walker, part: ast.FormattedValue, spec: str, number: Value) -> str:
    """A Python format of integers as one of the kernel's, which has no # and no o."""
    found = re.fullmatch(r"([<>]?)([+ ]?)(#?)(0?)(\d*)([dxXc]?)", spec)
    if found is None:
        raise c.error(
            part.value, f"format {spec!r} is not compiled", "d, x, X, c, a width, <, +, # and leading 0 are"
        )
    side, plus, prefix, zero, width, kind = found.groups()
    if kind == "c":
        return "%c"
    before = f"0{kind}" if prefix and kind in ("x", "X") else ""
    if side == "<" and width:
        zero = "-"
    if before and zero and width:
        width = str(max(0, int(width) - 2))
    if kind in ("", "d"):
        kind = "d" if number.lo < 0 or (plus and number.hi <= S64_MAX) else "u"
    return f"{before}%{plus if kind == 'd' else ''}{zero}{width}ll{kind}"


__all__ = ["Printk", "formatted"]
