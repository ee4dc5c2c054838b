"""The encoder against Capstone's disassembler."""

from __future__ import annotations

import random

import pytest

from skep.tap.x86 import code as x
from skep.tap.x86.code import Code, Mem
from tests.support.directed import seed

capstone = pytest.importorskip("capstone")

_OLD = ("ax", "cx", "dx", "bx", "sp", "bp", "si", "di")
WIDE = [f"r{name}" for name in _OLD] + [f"r{number}" for number in range(8, 16)]
NARROW = [f"e{name}" for name in _OLD] + [f"r{number}d" for number in range(8, 16)]
FORMS = {
    x.ADD: "add", x.OR: "or", x.AND: "and", x.SUB: "sub", x.XOR: "xor", x.CMP: "cmp", x.MOV: "mov",
    x.IMUL: "imul", x.CMOV_A: "cmova",
}  # fmt: skip
GROUPS = {
    x.G_ADD: "add", x.G_OR: "or", x.G_AND: "and", x.G_SUB: "sub", x.G_XOR: "xor", x.G_CMP: "cmp",
}  # fmt: skip


def shown(code: Code) -> list[str]:
    engine = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    data = code.finish()
    lines = list(engine.disasm_lite(data, 0))
    assert sum(line[1] for line in lines) == len(data)
    return [f"{mnemonic} {operands}".strip() for _, _, mnemonic, operands in lines]


def memory(mem: Mem, size: str) -> str:
    inner = WIDE[mem.base]
    if mem.plus is not None:
        inner += f" + {WIDE[mem.plus]}"
    if mem.disp:
        number = abs(mem.disp)
        inner += f" {'-' if mem.disp < 0 else '+'} {number if number < 10 else hex(number)}"
    return f"{size} ptr [{inner}]"


def operand(rng: random.Random) -> Mem:
    disp = rng.choice((0, 1, -64, 127, -128, 128, -129, 0x7FFFFFFF, rng.randint(-(1 << 31), (1 << 31) - 1)))
    plus = rng.choice((None, *(register for register in range(16) if register != x.RSP)))
    return Mem(rng.randrange(16), disp, plus)


def test_operands_of_every_kind() -> None:
    number = seed(71)
    rng = random.Random(number)
    for _ in range(3000):
        code = Code()
        opcode = rng.choice(list(FORMS))
        reg, wide = rng.randrange(16), rng.random() < 0.5
        names = WIDE if wide else NARROW
        if rng.random() < 0.3:
            other = rng.randrange(16)
            code.op(opcode, reg, other, wide=wide)
            expected = f"{FORMS[opcode]} {names[reg]}, {names[other]}"
        else:
            mem = operand(rng)
            code.op(opcode, reg, mem, wide=wide)
            expected = f"{FORMS[opcode]} {names[reg]}, {memory(mem, 'qword' if wide else 'dword')}"
        assert shown(code) == [expected], number


def test_constants() -> None:
    number = seed(72)
    rng = random.Random(number)
    for _ in range(1000):
        value = rng.choice(
            (0, 1, 127, 128, 0x7FFFFFFF, 0x80000000, 0xFFFFFF80, 0xFFFFFF7F, rng.getrandbits(32))
        )
        reg, which = rng.randrange(16), rng.choice(list(GROUPS))
        code = Code()
        code.group(which, reg, value)
        code.constant(reg, value)
        first, second = (line.rsplit(", ", 1) for line in shown(code))
        assert first[0] == f"{GROUPS[which]} {NARROW[reg]}" and int(first[1], 0) & 0xFFFFFFFF == value, number
        if value:
            assert second[0] == f"mov {NARROW[reg]}" and int(second[1], 0) == value, number
        else:
            assert second == [f"xor {NARROW[reg]}", NARROW[reg]], number


def test_the_rest() -> None:
    code = Code()
    for reg in (x.RBX, x.R12):
        code.push(reg)
        code.pop(reg)
        code.bswap(reg)
    code.op(x.MOVZX_BYTE, x.RAX, Mem(x.RSI, 20))
    code.op(x.MOVZX_HALF, x.R9, Mem(x.RSI, -2, x.R9))
    code.op(x.SHIFT, x.G_ROL, x.RAX, prefix=b"\x66", tail=b"\x08")
    code.op(x.SHIFT_CL, x.G_SHR, x.RAX)
    code.op(x.GROUP_3, x.G_DIV, x.R9)
    code.op(x.GROUP_3, x.G_NEG, x.RAX)
    code.op(x.GROUP_3, x.G_TEST, x.RAX, tail=(0x1FFF).to_bytes(4, "little"))
    code.op(x.GROUP_5, x.G_CALL, Mem(x.RBX, 112))
    code.op(x.PREFETCH, 1, Mem(x.R12, 64, x.RDX))
    code.op(x.STORE, x.RAX, Mem(x.RSP, -64))
    code.op(x.STORE_IMM, 0, Mem(x.RBX, 136), wide=True, tail=bytes(4))
    assert shown(code) == [
        "push rbx", "pop rbx", "bswap ebx", "push r12", "pop r12", "bswap r12d",
        "movzx eax, byte ptr [rsi + 0x14]", "movzx r9d, word ptr [rsi + r9 - 2]", "rol ax, 8", "shr eax, cl",
        "div r9d", "neg eax", "test eax, 0x1fff", "call qword ptr [rbx + 0x70]",
        "prefetcht0 byte ptr [r12 + rdx + 0x40]", "mov dword ptr [rsp - 0x40], eax",
        "mov qword ptr [rbx + 0x88], 0",
    ]  # fmt: skip


def test_labels() -> None:
    code = Code()
    code.label("back")
    code.jump("on", x.AE)
    code.jump("back")
    code.call("on")
    code.address(x.R10, "back")
    code.label("on")
    code.ret()
    assert shown(code) == ["jae 0x17", "jmp 0", "call 0x17", "lea r10, [rip - 0x17]", "ret"]
