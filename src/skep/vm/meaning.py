"""What each instruction does, as text: one Python expression an operation, one template a kind.

`maker` turns the text for an opcode into a function that binds an instruction's fields to a machine and
returns a closure; calling the closure executes the instruction and gives the slot to go on at. Text
lets each operation be written once for both widths and both kinds of operand; compiling it costs 100 µs
for each opcode that a process uses.

Names in the text: ``m`` the machine, ``r`` its registers, ``d`` and ``s`` register numbers, ``off``, ``k``
the immediate sign-extended and cut to the operation's width, ``nxt`` the next slot, ``t`` the target of a
jump and ``cost`` what taking it costs if it goes back; ``a`` and ``b`` the operands as unsigned numbers.
"""

from __future__ import annotations

import functools
import struct
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from skep.isa import opcodes as op

if TYPE_CHECKING:
    from skep.vm.machine import Machine

M32: Final = (1 << 32) - 1
M64: Final = (1 << 64) - 1

CTX_BASE: Final = 0x1000_0000_0000  # address of the context
STACK_BASE: Final = 0x2000_0000_0000  # address of the main program's stack
STACK_STRIDE: Final = 1024  # from one frame's stack to the next, so that none reaches into another

Closure = Callable[[], int]
Maker = Callable[["Machine", int, int, int, int, int, int, int], Closure]


class Fault(Exception):
    """The instruction cannot be executed; the machine says where, and names ``address`` if there is one."""

    def __init__(self, reason: str, address: int | None = None) -> None:
        super().__init__(reason)
        self.address = address


#: operation -> result from unsigned operands a and b; W is the width in bits, S(x) the signed value of x
ARITHMETIC: Final = {
    op.BPF_ADD: "a + b",
    op.BPF_SUB: "a - b",
    op.BPF_MUL: "a * b",
    op.BPF_DIV: "a // b if b else 0",
    op.BPF_OR: "a | b",
    op.BPF_AND: "a & b",
    op.BPF_LSH: "a << (b & (W - 1))",
    op.BPF_RSH: "a >> (b & (W - 1))",
    op.BPF_NEG: "-a",
    op.BPF_MOD: "a % b if b else a",
    op.BPF_XOR: "a ^ b",
    op.BPF_MOV: "b",
    op.BPF_ARSH: "S(a) >> (b & (W - 1))",
}
_NEVER_LEAVES_WIDTH: Final = {
    op.BPF_OR,
    op.BPF_AND,
    op.BPF_RSH,
    op.BPF_MOD,
    op.BPF_XOR,
    op.BPF_MOV,
    op.BPF_DIV,
}

#: operation -> whether to jump
COMPARISON: Final = {
    op.BPF_JEQ: "a == b",
    op.BPF_JGT: "a > b",
    op.BPF_JGE: "a >= b",
    op.BPF_JSET: "a & b",
    op.BPF_JNE: "a != b",
    op.BPF_JSGT: "S(a) > S(b)",
    op.BPF_JSGE: "S(a) >= S(b)",
    op.BPF_JLT: "a < b",
    op.BPF_JLE: "a <= b",
    op.BPF_JSLT: "S(a) < S(b)",
    op.BPF_JSLE: "S(a) <= S(b)",
}

#: atomic operation -> new value of the memory from its old value a and src b
ATOMIC: Final = {
    op.BPF_ADD: "a + b",
    op.BPF_OR: "a | b",
    op.BPF_AND: "a & b",
    op.BPF_XOR: "a ^ b",
    op.BPF_XCHG: "b",
    op.BPF_CMPXCHG: "b if a == r[0] & MASK else a",
}

_HEAD = (
    "def make(m, d, s, off, k, nxt, t, cost):\n    r = m.registers\n    stack = m.stacks\n    def step():\n"
)
_TAIL = "    return step\n"
_TAKE: Final = "{pad}return t\n"
_TAKE_BACK: Final = """\
{pad}left = m.budget - cost
{pad}if left < 0:
{pad}    raise over_budget(m.budget, cost)
{pad}m.budget = left
{pad}return t
"""


def _body(lines: str) -> str:
    return _HEAD + "".join(f"        {line}\n" for line in lines.splitlines()) + _TAIL


def _signed(text: str, bits: int) -> str:
    """Replace S(x), x a name, by the signed value of x."""
    sign = 1 << (bits - 1)
    for name in "ab":
        text = text.replace(f"S({name})", f"({name} - {1 << bits} if {name} & {sign} else {name})")
    return text


def sdiv(a: int, b: int, bits: int) -> int:
    """Signed division of unsigned patterns, truncated towards zero; 0 for a divisor of 0."""
    if not b:
        return 0
    sign = 1 << (bits - 1)
    x = a - (sign << 1) if a & sign else a
    y = b - (sign << 1) if b & sign else b
    quotient = abs(x) // abs(y)
    return (quotient if (x < 0) == (y < 0) else -quotient) & ((sign << 1) - 1)


def smod(a: int, b: int, bits: int) -> int:
    """Remainder with the dividend's sign; the dividend for a divisor of 0."""
    if not b:
        return a
    sign = 1 << (bits - 1)
    x = a - (sign << 1) if a & sign else a
    y = b - (sign << 1) if b & sign else b
    remainder = abs(x) % abs(y)
    return (-remainder if x < 0 else remainder) & ((sign << 1) - 1)


def bswap(value: int, size: int) -> int:
    """The low ``size`` bytes of ``value`` in opposite order, zero-extended."""
    return int.from_bytes((value & ((1 << 8 * size) - 1)).to_bytes(size, "little"), "big")


@functools.cache
def maker(opcode: int, variant: int) -> Maker:
    """The function that makes closures for ``opcode``.

    ``variant`` is what else selects the operation: the offset for DIV, MOD and MOV, the width for byte
    swaps, the operation for atomics, whether a jump goes back; 0 for the rest.
    """
    names: dict[str, Any] = {
        "Fault": Fault,
        "sdiv": sdiv,
        "smod": smod,
        "bswap": bswap,
        "STACK_BASE": STACK_BASE,
        "CTX_BASE": CTX_BASE,
        "out_of_bounds": out_of_bounds,
        "not_aligned": not_aligned,
        "over_budget": over_budget,
    }
    for size, letter in ((1, "B"), (2, "H"), (4, "I"), (8, "Q")):
        names[f"get{size}"] = struct.Struct(f"={letter}").unpack_from
        names[f"put{size}"] = struct.Struct(f"={letter}").pack_into
    exec(compile(_text(opcode, variant), f"<opcode {opcode:#04x}/{variant}>", "exec"), names)
    made: Maker = names["make"]
    return made


def out_of_bounds(what: str, size: int, address: int) -> Fault:
    return Fault(f"{what} of {size} byte{'s' if size > 1 else ''} is out of bounds", address)


def not_aligned(size: int, address: int) -> Fault:
    return Fault(f"atomic operation on {size} bytes is not aligned", address)


def over_budget(left: int, cost: int) -> Fault:
    return Fault(f"the budget of instructions is used up ({left} left, going on costs {cost})")


def _text(opcode: int, variant: int) -> str:
    kind = opcode & op.CLASS_MASK
    if kind in (op.BPF_ALU, op.BPF_ALU64):
        if opcode & op.OP_MASK == op.BPF_END:
            return _body(_swap(opcode, variant))
        return _body(_arithmetic(opcode, variant))
    if kind in (op.BPF_JMP, op.BPF_JMP32):
        return _jump(opcode, bool(variant))
    if kind == op.BPF_LD:
        return _body(_packet(opcode))
    if kind == op.BPF_LDX:
        return _body(_load(opcode))
    if opcode & op.MODE_MASK == op.BPF_ATOMIC:
        return _body(_atomic(opcode, variant))
    return _body(_store(opcode))


def _operand(opcode: int, name: str, bits: int) -> str:
    if not opcode & op.BPF_X:
        return "k"
    return f"r[{name}]" if bits == 64 else f"r[{name}] & {M32}"


def _arithmetic(opcode: int, off: int) -> str:
    bits = 64 if opcode & op.CLASS_MASK == op.BPF_ALU64 else 32
    mask = (1 << bits) - 1
    operation = opcode & op.OP_MASK
    a = "r[d]" if bits == 64 else f"r[d] & {mask}"
    b = _operand(opcode, "s", bits)
    if operation == op.BPF_MOV and opcode & op.BPF_X and off:
        low, sign = (1 << off) - 1, 1 << (off - 1)
        return f"b = r[s] & {low}\nr[d] = (b ^ {sign}) - {sign} & {mask}\nreturn nxt"
    if operation in (op.BPF_DIV, op.BPF_MOD) and off == 1:
        function = "sdiv" if operation == op.BPF_DIV else "smod"
        return f"r[d] = {function}({a}, {b}, {bits})\nreturn nxt"
    value = _signed(ARITHMETIC[operation], bits).replace("(W - 1)", str(bits - 1))
    cut = "" if operation in _NEVER_LEAVES_WIDTH else f" & {mask}"
    if value == "b":
        return f"r[d] = {b}\nreturn nxt"
    if value in ("a + b", "a - b", "a * b", "a | b", "a & b", "a ^ b"):
        return f"r[d] = (({a}) {value[2]} ({b})){cut}\nreturn nxt"
    return f"a = {a}\nb = {b}\nr[d] = ({value}){cut}\nreturn nxt"


def _swap(opcode: int, bits: int) -> str:
    size = bits // 8
    swap = opcode & op.CLASS_MASK == op.BPF_ALU64 or (
        (opcode & op.BPF_X == op.BPF_TO_BE) == (sys.byteorder == "little")
    )
    if swap:
        return f"r[d] = bswap(r[d], {size})\nreturn nxt"
    return f"r[d] &= {(1 << bits) - 1}\nreturn nxt"


def _jump(opcode: int, back: bool) -> str:
    take = _TAKE_BACK if back else _TAKE
    if opcode in (op.JA, op.GOTOL):
        return _HEAD + take.format(pad=" " * 8) + _TAIL
    if opcode == op.MAY_GOTO:
        text = "        if m.turns:\n            m.turns -= 1\n            return nxt\n"
        return _HEAD + text + take.format(pad=" " * 8) + _TAIL
    bits = 64 if opcode & op.CLASS_MASK == op.BPF_JMP else 32
    a = "r[d]" if bits == 64 else f"r[d] & {M32}"
    b = _operand(opcode, "s", bits)
    condition = COMPARISON[opcode & op.OP_MASK]
    if "S(" in condition:
        text = f"        a = {a}\n        b = {b}\n        if {_signed(condition, bits)}:\n"
    else:
        _, relation, _ = condition.split()
        text = f"        if ({a}) {relation} ({b}):\n"
    return _HEAD + text + take.format(pad=" " * 12) + "        return nxt\n" + _TAIL


def _access(size: int, what: str, address: str, on_stack: str, in_ctx: str) -> str:
    """Find the memory at ``address`` and run one of two statements on it, ``i`` the index."""
    return f"""\
x = {address} & {M64}
i = x - STACK_BASE
if 0 <= i < m.live and i & {STACK_STRIDE - 1} <= {op.STACK_SIZE - size}:
    {on_stack}
else:
    i = x - CTX_BASE
    if not 0 <= i <= m.ctx_len - {size}:
        raise out_of_bounds("{what}", {size}, x)
    {in_ctx}
"""


def _load(opcode: int) -> str:
    size = op.SIZE_BYTES[opcode & op.SIZE_MASK]
    get = "{0}[i]" if size == 1 else f"get{size}({{0}}, i)[0]"
    text = _access(size, "load", "(r[s] + off)", "v = " + get.format("stack"), "v = " + get.format("m.ctx"))
    if opcode & op.MODE_MASK == op.BPF_MEMSX:
        sign = 1 << (8 * size - 1)
        return text + f"r[d] = (v ^ {sign}) - {sign} & {M64}\nreturn nxt"
    return text + "r[d] = v\nreturn nxt"


def _store(opcode: int) -> str:
    size = op.SIZE_BYTES[opcode & op.SIZE_MASK]
    value = "k" if opcode & op.CLASS_MASK == op.BPF_ST else "r[s]"
    if size < 8 or value == "k":
        value = f"{value} & {(1 << 8 * size) - 1}"
    put = f"{{0}}[i] = {value}" if size == 1 else f"put{size}({{0}}, i, {value})"
    return _access(size, "store", "(r[d] + off)", put.format("stack"), put.format("m.ctx")) + "return nxt"


def _atomic(opcode: int, operation: int) -> str:
    size = op.SIZE_BYTES[opcode & op.SIZE_MASK]
    mask = (1 << 8 * size) - 1
    base = "s" if operation == op.BPF_LOAD_ACQ else "d"
    address = f"(r[{base}] + off)"
    check = f"if x & {size - 1}: raise not_aligned({size}, x)\n    " if size > 1 else ""
    load, put = f"{check}v = get{size}({{0}}, i)[0]", f"put{size}({{0}}, i, {{1}})"
    if operation == op.BPF_LOAD_ACQ:
        text = _access(size, "load", address, load.format("stack"), load.format("m.ctx"))
        return text + "r[d] = v\nreturn nxt"
    if operation == op.BPF_STORE_REL:
        store = check + put.format("{0}", f"r[s] & {mask}")
        return _access(size, "store", address, store.format("stack"), store.format("m.ctx")) + "return nxt"
    new = ATOMIC[operation if operation in ATOMIC else operation & ~op.BPF_FETCH].replace("MASK", str(mask))
    update = f"{check}a = get{size}({{0}}, i)[0]\n    {put.format('{0}', f'({new}) & {mask}')}"
    text = f"b = r[s] & {mask}\n" + _access(
        size, "atomic operation", address, update.format("stack"), update.format("m.ctx")
    )
    if operation == op.BPF_CMPXCHG:
        text += "r[0] = a\n"
    elif operation & op.BPF_FETCH:
        text += "r[s] = a\n"
    return text + "return nxt"


def _packet(opcode: int) -> str:
    size = op.SIZE_BYTES[opcode & op.SIZE_MASK]
    start = f"k & {M32}" if opcode & op.MODE_MASK == op.BPF_ABS else f"(r[s] + k) & {M32}"
    # Offsets are signed 32-bit numbers; one below zero is far above any packet's length here.
    return f"""\
i = {start}
packet = m.packet
if i + {size} > len(packet):
    return m.reject()
r[0] = int.from_bytes(packet[i:i + {size}], "big")
return nxt"""
