"""Text that programs write: lines of iterators (`bpf.seq_printf`), texts in buffers (`bpf.snprintf`)."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Final

from skep.lang.aggregates import TextStorage
from skep.lang.core_refs import KernelRef
from skep.lang.values import PtrType, Type, Value

if TYPE_CHECKING:
    from skep.lang.walk import Walker

_MANY: Final = 12


def _format(c: Walker, node: ast.expr, what: str) -> tuple[str, int, list[str]]:
    """(address of the format, its length with the zero byte, operands)."""
    from skep.lang.printk import formatted

    text, operands = formatted(c, node)
    if len(operands) > _MANY:
        raise c.error(node, f"{len(operands)} values: {what} prints at most {_MANY}", "print two lines")
    data = text.encode() + b"\0"
    return c.unit.constant(data), len(data), operands


def _values(c: Walker, operands: list[str]) -> tuple[str, int]:
    """The values as the array of 64-bit words that the kernel wants: (address, bytes)."""
    if not operands:
        return "null", 0
    room = c.buffer(8 * len(operands), 8, ("values", len(operands)))
    for i, operand in enumerate(operands):
        c.em.do(f"store {operand}, ptr {c.offset(room, 8 * i)}, align 8")
    return room, 8 * len(operands)


class SeqPrintf(Type):
    """``bpf.seq_printf(ctx.meta.seq, f"...")``: a piece of what reading the iterator gives."""

    name = "bpf.seq_printf"

    def raw_call(self, c: Walker, v: Value, node: ast.Call) -> Value:
        from skep.lang.helpers import check

        if len(node.args) != 2 or node.keywords:
            raise c.error(
                node, "bpf.seq_printf() takes a file and a text", 'bpf.seq_printf(ctx.meta.seq, f"{x}")'
            )
        check(c, 126, "seq_printf", node)
        seq = c.expr(node.args[0])
        if not isinstance(seq.type, KernelRef) or seq.type.kind.name != "struct seq_file":
            raise c.error(node.args[0], f"this is {seq.type.name}, not a seq_file", "ctx.meta.seq is it")
        file = seq.type.address(c, seq, node)
        fmt, size, operands = _format(c, node.args[1], "a line")
        c.at(node, force=True)
        data, length = _values(c, operands)
        args = [f"ptr {file}", f"ptr {fmt}", f"i64 {size}", f"ptr {data}", f"i64 {length}"]
        return c.int(c.helper(126, args), -4095, 0)


class Snprintf(Type):
    """``bpf.snprintf(buffer, f"...")``: text into a field of bpf.char; its length with the zero byte."""

    name = "bpf.snprintf"

    def raw_call(self, c: Walker, v: Value, node: ast.Call) -> Value:
        from skep.lang.helpers import check

        if len(node.args) != 2 or node.keywords:
            raise c.error(node, "bpf.snprintf() takes a buffer and a text", 'bpf.snprintf(e.name, f"{x}")')
        check(c, 165, "snprintf", node)
        into = c.expr(node.args[0])
        if (
            not isinstance(into.type, PtrType)
            or not isinstance(into.type.of, TextStorage)
            or not into.type.writable
        ):
            raise c.error(
                node.args[0], f"{into.type.name} is no buffer for text", "name: bytes = bpf.char(32)"
            )
        if into.type.nullable:
            c.refuse_none(into, node.args[0])
        fmt, _, operands = _format(c, node.args[1], "a text")
        c.at(node, force=True)
        data, length = _values(c, operands)
        args = [f"ptr {into.ir}", f"i64 {into.type.of.size}", f"ptr {fmt}", f"ptr {data}", f"i64 {length}"]
        return c.int(c.helper(165, args), -4095, 1 << 31)


SPECIAL: Final[dict[str, Type]] = {"seq_printf": SeqPrintf(), "snprintf": Snprintf()}
