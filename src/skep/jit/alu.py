"""Arithmetic and comparisons of integers as LLVM IR (RFC 9669, sections 4.1 to 4.3)."""

from __future__ import annotations

from typing import Final

from skep.isa import opcodes as op
from skep.jit.body import Body, Value, signed

_PLAIN: Final = {
    op.BPF_ADD: "add",
    op.BPF_SUB: "sub",
    op.BPF_MUL: "mul",
    op.BPF_OR: "or",
    op.BPF_AND: "and",
    op.BPF_XOR: "xor",
}
#: What as second operand changes nothing.
_NEUTRAL: Final = {op.BPF_ADD: 0, op.BPF_SUB: 0, op.BPF_MUL: 1, op.BPF_OR: 0, op.BPF_AND: -1, op.BPF_XOR: 0}
_SHIFTS: Final = {op.BPF_LSH: "shl", op.BPF_RSH: "lshr", op.BPF_ARSH: "ashr"}
PREDICATES: Final = {
    op.BPF_JEQ: "eq",
    op.BPF_JNE: "ne",
    op.BPF_JGT: "ugt",
    op.BPF_JGE: "uge",
    op.BPF_JLT: "ult",
    op.BPF_JLE: "ule",
    op.BPF_JSGT: "sgt",
    op.BPF_JSGE: "sge",
    op.BPF_JSLT: "slt",
    op.BPF_JSLE: "sle",
}


def binary(body: Body, operation: int, bits: int, a: Value, b: Value, *, signed_division: bool) -> Value:
    """``a op b`` on i64 or i32 values (names or constants of that width)."""
    plain = _PLAIN.get(operation)
    if plain is not None:
        if isinstance(a, int) and isinstance(b, int):
            return signed(_fold(operation, a, b), bits)
        if b == _NEUTRAL.get(operation):
            return a
        if a == 0 and operation in (op.BPF_ADD, op.BPF_OR, op.BPF_XOR):
            return b
        return body.op(f"{plain} i{bits} {a}, {b}")
    shift = _SHIFTS.get(operation)
    if shift is not None:
        if isinstance(b, int):
            count: Value = b & (bits - 1)
            if count == 0:
                return a
        else:
            count = body.op(f"and i{bits} {b}, {bits - 1}")
        return body.op(f"{shift} i{bits} {a}, {count}")
    return _divide(body, operation == op.BPF_MOD, bits, a, b, signed_division)


def _fold(operation: int, a: int, b: int) -> int:
    if operation == op.BPF_ADD:
        return a + b
    if operation == op.BPF_SUB:
        return a - b
    if operation == op.BPF_MUL:
        return a * b
    if operation == op.BPF_OR:
        return a | b
    return a & b if operation == op.BPF_AND else a ^ b


def _divide(body: Body, modulo: bool, bits: int, a: Value, b: Value, is_signed: bool) -> Value:
    """Division by zero gives 0, modulo by zero ``a``; the smallest number by -1 does not overflow."""
    name = ("s" if is_signed else "u") + ("rem" if modulo else "div")
    ty = f"i{bits}"
    if isinstance(b, int):
        if b == 0:
            return a if modulo else 0
        if is_signed and b == -1:
            if modulo:
                return 0
            return signed(-a, bits) if isinstance(a, int) else body.op(f"sub {ty} 0, {a}")
        return body.op(f"{name} {ty} {a}, {b}")
    zero = body.op(f"icmp eq {ty} {b}, 0")
    if not is_signed:
        safe = body.op(f"select i1 {zero}, {ty} 1, {ty} {b}")
        result = body.op(f"{name} {ty} {a}, {safe}")
        return body.op(f"select i1 {zero}, {ty} {a if modulo else 0}, {ty} {result}")
    minus = body.op(f"icmp eq {ty} {b}, -1")
    either = body.op(f"or i1 {zero}, {minus}")
    safe = body.op(f"select i1 {either}, {ty} 1, {ty} {b}")
    result = body.op(f"{name} {ty} {a}, {safe}")
    special: Value = 0 if modulo else body.op(f"sub {ty} 0, {a}")
    result = body.op(f"select i1 {minus}, {ty} {special}, {ty} {result}")
    return body.op(f"select i1 {zero}, {ty} {a if modulo else 0}, {ty} {result}")


def negate(body: Body, bits: int, a: Value) -> Value:
    return signed(-a, bits) if isinstance(a, int) else body.op(f"sub i{bits} 0, {a}")


def swap(body: Body, bits: int, value: Value, *, reverse: bool) -> Value:
    """The low ``bits`` of an i64, byte-reversed or not, zero-extended to i64."""
    if isinstance(value, int):
        raw = (value & (1 << bits) - 1).to_bytes(bits // 8, "little")
        return signed(int.from_bytes(raw, "big" if reverse else "little"))
    if bits == 64:
        return body.op(f"call i64 @llvm.bswap.i64(i64 {value})") if reverse else value
    low = body.low32(value) if bits == 32 else body.op(f"trunc i64 {value} to i{bits}")
    if reverse:
        low = body.op(f"call i{bits} @llvm.bswap.i{bits}(i{bits} {low})")
    return body.widen(low) if bits == 32 else body.op(f"zext i{bits} {low} to i64")


def extend(body: Body, value: Value, width: int, bits: int) -> Value:
    """The low ``width`` bits of an i64, sign-extended to ``bits`` and then zero-extended to i64 (MOVSX)."""
    if isinstance(value, int):
        number = signed(value, width)
        return number if bits == 64 else number & 0xFFFFFFFF
    low = body.low32(value) if width == 32 else body.op(f"trunc i64 {value} to i{width}")
    wide = body.op(f"sext i{width} {low} to i{bits}")
    return wide if bits == 64 else body.widen(wide)


def compare(body: Body, operation: int, bits: int, a: Value, b: Value) -> str:
    """The i1 of a jump's condition on values of that width."""
    if operation == op.BPF_JSET:
        both = body.op(f"and i{bits} {a}, {b}")
        return body.op(f"icmp ne i{bits} {both}, 0")
    return body.op(f"icmp {PREDICATES[operation]} i{bits} {a}, {b}")
