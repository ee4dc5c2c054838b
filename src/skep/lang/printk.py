"""``bpf.printk(f"...")``: a line in the trace pipe."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from skep.lang.aggregates import TextStorage
from skep.lang.values import OPTIONAL, TEXT, BoolType, PtrType, Type, Value

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
        return value.obj.decode("utf-8", "replace").replace("%", "%%"), []
    text, operands = "", []
    for part in node.values:
        if isinstance(part, ast.Constant):
            text += str(part.value).replace("%", "%%")
        elif isinstance(part, ast.FormattedValue):
            conversion, operand = _value(c, part)
            text += conversion
            operands += [operand] if operand else []
    return text, operands


def _value(c: Walker, part: ast.FormattedValue) -> tuple[str, str]:
    spec = ""
    if part.format_spec is not None:
        pieces = getattr(part.format_spec, "values", [])
        if not all(isinstance(p, ast.Constant) for p in pieces):
            raise c.error(part.value, "a format is constant", 'f"{x:08x}"')
        spec = "".join(str(p.value) for p in pieces)
    value = c.expr(part.value)
    kind = value.type
    if part.conversion not in (-1, ord("s")) and not c.is_number(value):
        raise c.error(part.value, "!r and !a are for numbers only: a text gets no quotes", "leave it out")
    if kind is TEXT:
        if spec:
            raise c.error(part.value, "a constant text takes no format", "write it as it is")
        return value.obj.decode("utf-8", "replace").replace("%", "%%"), ""
    if kind.nullable or kind is OPTIONAL:
        c.refuse_none(value, part.value)
    if isinstance(kind, PtrType) and isinstance(kind.of, TextStorage):
        if spec not in ("", "s"):
            raise c.error(part.value, f"format {spec!r} does not print a text", "leave the format out")
        if kind.space == "arena":
            value = kind.materialise(c, value, part.value)
        return "%s", f"ptr {value.ir}"
    own = kind.format(c, value, part.value)
    if own is not None:
        return own
    number = c.as_int(value, part.value, "printk prints integers and texts")
    if isinstance(kind, BoolType):
        return "%d", f"i64 {number.ir}"
    signed = number.lo < 0
    return _conversion(c, part, spec, signed), f"i64 {number.ir}"


def _conversion(c: Walker, part: ast.FormattedValue, spec: str, signed: bool) -> str:
    """A Python format of integers as printf's."""
    plain, prefix = spec, ""
    flags = ""
    if plain.startswith("#"):
        plain, flags = plain[1:], "#"
    if plain.startswith("0") and len(plain) > 1:
        plain, flags = plain[1:], flags + "0"
    kind = plain[-1] if plain and plain[-1].isalpha() else "d"
    width = plain[:-1] if plain and plain[-1].isalpha() else plain
    if kind not in "dxXo" or (width and not width.isdigit()):
        raise c.error(part.value, f"format {spec!r} is not compiled", "d, x, X, o, a width and leading 0 are")
    if "#" in flags:
        prefix, flags = {"x": "0x", "X": "0X", "o": "0o"}.get(kind, ""), flags.replace("#", "")
        if prefix and width:
            width = str(max(0, int(width) - 2)) if "0" in flags else width
    letter = kind if kind != "d" else ("d" if signed else "u")
    return f"{prefix}%{flags}{width}ll{letter}"


__all__ = ["Printk", "formatted"]
