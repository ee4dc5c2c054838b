"""Each kind of instruction, natively, against results worked out by hand from RFC 9669."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from skep import jit
from skep.errors import DecodeError, ExecutionError
from skep.isa import Insn, ld_imm64
from skep.isa import opcodes as op
from skep.llvm import available, warm

M64 = (1 << 64) - 1
A64, A32 = op.BPF_ALU64, op.BPF_ALU
MIN32, MIN64 = 1 << 31, 1 << 63


@pytest.fixture(autouse=True, scope="module")
def llvm() -> None:
    if not available():
        pytest.skip("needs llvmlite")
    warm()


def run(*insns: Insn, ctx: bytearray | None = None, packet: bytes | None = None) -> int:
    with jit.compile([*insns, Insn(op.EXIT)], cached=False, level="basic") as program:
        return program.run(ctx, packet)


def binary(opcode: int, a: int, b: int, off: int = 0) -> tuple[int, int]:
    """(by register, by immediate) results of ``a op b``, a in r0; with values LLVM cannot see."""
    data = bytearray(a.to_bytes(8, "little") + b.to_bytes(8, "little"))
    load = [Insn(0x79, 0, 1, 0), Insn(0x79, 3, 1, 8)]
    by_register = run(*load, Insn(opcode | op.BPF_X, 0, 3, off), ctx=data)
    imm = b & 0xFFFFFFFF
    by_imm = run(load[0], Insn(opcode, 0, 0, off, imm - (1 << 32) if imm >> 31 else imm), ctx=data)
    return by_register, by_imm


@pytest.mark.parametrize(
    ("opcode", "a", "b", "off", "expected"),
    [
        (A64 | op.BPF_ADD, M64, 2, 0, 1),
        (A32 | op.BPF_ADD, 0xFFFFFFFFFFFFFFFF, 2, 0, 1),
        (A64 | op.BPF_SUB, 1, 2, 0, M64),
        (A32 | op.BPF_SUB, 1, 2, 0, 0xFFFFFFFF),
        (A64 | op.BPF_MUL, 1 << 63, 3, 0, 1 << 63),
        (A64 | op.BPF_DIV, 7, 0, 0, 0),
        (A32 | op.BPF_DIV, 0x1_0000_0007, 0, 0, 0),
        (A64 | op.BPF_MOD, 0x1_0000_0007, 0, 0, 0x1_0000_0007),
        (A32 | op.BPF_MOD, 0x1_0000_0007, 0, 0, 7),
        (A64 | op.BPF_DIV, M64, M64, 0, 1),
        (A32 | op.BPF_DIV, 0xFFFFFFFF, 0x10, 0, 0x0FFFFFFF),
        (A64 | op.BPF_DIV, MIN64, M64, 1, MIN64),
        (A64 | op.BPF_MOD, MIN64, M64, 1, 0),
        (A32 | op.BPF_DIV, MIN32, M64, 1, MIN32),
        (A32 | op.BPF_MOD, MIN32, M64, 1, 0),
        (A64 | op.BPF_DIV, M64 - 12, 3, 1, M64 - 3),  # -13 / 3 = -4
        (A64 | op.BPF_MOD, M64 - 12, 3, 1, M64),  # -13 % 3 = -1
        (A64 | op.BPF_DIV, M64 - 12, 0, 1, 0),
        (A64 | op.BPF_MOD, M64 - 12, 0, 1, M64 - 12),
        (A64 | op.BPF_LSH, 1, 65, 0, 2),
        (A32 | op.BPF_LSH, 1, 33, 0, 2),
        (A64 | op.BPF_RSH, 1 << 63, 64 + 63, 0, 1),
        (A64 | op.BPF_ARSH, 1 << 63, 63, 0, M64),
        (A32 | op.BPF_ARSH, 0x80000000, 31, 0, 0xFFFFFFFF),
        (A32 | op.BPF_ARSH, 0x80000000, 32, 0, 0x80000000),
        (A64 | op.BPF_XOR, M64, M64, 0, 0),
        (A32 | op.BPF_AND, M64, 0x7F, 0, 0x7F),
        (A64 | op.BPF_OR, 0, M64, 0, M64),
        (A64 | op.BPF_MOV, 5, M64 - 1, 0, M64 - 1),
        (A32 | op.BPF_MOV, 5, M64 - 1, 0, 0xFFFFFFFE),
    ],
)
def test_arithmetic(opcode: int, a: int, b: int, off: int, expected: int) -> None:
    assert binary(opcode, a, b, off) == (expected, expected)


def unary(insn: Insn, value: int) -> int:
    return run(Insn(0x79, 0, 1, 0), insn, ctx=bytearray(value.to_bytes(8, "little")))


def test_moves_and_swaps() -> None:
    x = 0x1122334455667788
    assert unary(Insn(A64 | op.BPF_NEG, 0), 1) == M64
    assert unary(Insn(A32 | op.BPF_NEG, 0), 1) == 0xFFFFFFFF
    assert unary(Insn(A64 | op.BPF_MOV | op.BPF_X, 0, 0, 8), 0x180) == M64 - 127
    assert unary(Insn(A32 | op.BPF_MOV | op.BPF_X, 0, 0, 16), 0x18000) == 0xFFFF8000
    assert unary(Insn(A64 | op.BPF_MOV | op.BPF_X, 0, 0, 32), 0x180000000) == M64 - 0x7FFFFFFF
    assert unary(Insn(A32 | op.BPF_END | op.BPF_TO_BE, 0, imm=16), x) == 0x8877
    assert unary(Insn(A32 | op.BPF_END | op.BPF_TO_BE, 0, imm=32), x) == 0x88776655
    assert unary(Insn(A32 | op.BPF_END | op.BPF_TO_BE, 0, imm=64), x) == 0x8877665544332211
    assert unary(Insn(A32 | op.BPF_END | op.BPF_TO_LE, 0, imm=16), x) == 0x7788
    assert unary(Insn(A32 | op.BPF_END | op.BPF_TO_LE, 0, imm=32), x) == 0x55667788
    assert unary(Insn(A32 | op.BPF_END | op.BPF_TO_LE, 0, imm=64), x) == x
    assert unary(Insn(A64 | op.BPF_END, 0, imm=32), x) == 0x88776655
    assert run(*ld_imm64(0, x)) == x


def test_loads_and_stores_of_every_size() -> None:
    data = bytearray(range(0x80, 0x90))
    for size, bits in ((op.BPF_B, 8), (op.BPF_H, 16), (op.BPF_W, 32), (op.BPF_DW, 64)):
        raw = int.from_bytes(data[3 : 3 + bits // 8], "little")
        assert run(Insn(op.BPF_LDX | op.BPF_MEM | size, 0, 1, 3), ctx=bytearray(data)) == raw
        if bits < 64:
            sign = raw - (1 << bits) if raw >> (bits - 1) else raw
            assert run(Insn(op.BPF_LDX | op.BPF_MEMSX | size, 0, 1, 3), ctx=bytearray(data)) == sign & M64
        memory = bytearray(16)
        run(Insn(op.BPF_ST | op.BPF_MEM | size, 1, 0, 5, -2), ctx=memory)
        want = ((1 << bits) - 2).to_bytes(bits // 8, "little")
        assert memory == bytes(5) + want + bytes(11 - bits // 8)
        memory = bytearray(16)
        run(*ld_imm64(3, 0x8182838485868788), Insn(op.BPF_STX | op.BPF_MEM | size, 1, 3, 8), ctx=memory)
        want = (0x8182838485868788 & ((1 << bits) - 1)).to_bytes(bits // 8, "little")
        assert memory == bytes(8) + want + bytes(8 - bits // 8)


@pytest.mark.parametrize("size", [4, 8])
def test_atomics(size: int) -> None:
    opcode = op.BPF_STX | op.BPF_ATOMIC | (op.BPF_W if size == 4 else op.BPF_DW)
    mask = (1 << 8 * size) - 1
    old, value = 0xF0F0F0F0F0F0F0F0, 0x3C3C3C3C3C3C3C3D
    cases = {
        op.BPF_ADD: old + value,
        op.BPF_OR: old | value,
        op.BPF_AND: old & value,
        op.BPF_XOR: old ^ value,
    }
    for operation, new in cases.items():
        for fetch in (0, op.BPF_FETCH):
            memory = bytearray(old.to_bytes(8, "little"))
            result = run(
                *ld_imm64(3, value),
                Insn(opcode, 1, 3, 0, operation | fetch),
                Insn(A64 | op.BPF_MOV | op.BPF_X, 0, 3),
                ctx=memory,
            )
            assert int.from_bytes(memory[:size], "little") == new & mask
            assert memory[size:] == old.to_bytes(8, "little")[size:]
            assert result == (old & mask if fetch else value)
    memory = bytearray(old.to_bytes(8, "little"))
    assert run(*ld_imm64(0, value), Insn(opcode, 1, 0, 0, op.BPF_XCHG), ctx=memory) == old & mask
    assert int.from_bytes(memory[:size], "little") == value & mask
    for expected in (old, old ^ 1, old ^ (1 << 40)):
        memory = bytearray(old.to_bytes(8, "little"))
        result = run(
            *ld_imm64(0, expected), *ld_imm64(3, value), Insn(opcode, 1, 3, 0, op.BPF_CMPXCHG), ctx=memory
        )
        assert result == old & mask
        swapped = expected & mask == old & mask
        assert int.from_bytes(memory[:size], "little") == (value if swapped else old) & mask


def test_load_acquire_and_store_release() -> None:
    for size, width in ((op.BPF_B, 1), (op.BPF_H, 2), (op.BPF_W, 4), (op.BPF_DW, 8)):
        memory = bytearray(range(0x90, 0xA0))
        opcode = op.BPF_STX | op.BPF_ATOMIC | size
        want = int.from_bytes(memory[8 : 8 + width], "little")
        assert run(Insn(opcode, 0, 1, 8, op.BPF_LOAD_ACQ), ctx=memory) == want
        run(Insn(0xB7, 3, imm=-1), Insn(opcode, 1, 3, 8, op.BPF_STORE_REL), ctx=memory)
        assert memory[8:] == b"\xff" * width + bytes(range(0x98 + width, 0xA0))


def test_jumps() -> None:
    """Every condition, 64 and 32 bits, by register and by immediate, on values around the signs."""
    values = (0, 1, 2, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x100000000, MIN64 - 1, MIN64, M64)

    def signed(x: int, bits: int) -> int:
        return x - (1 << bits) if x >> (bits - 1) else x

    for cls, bits in ((op.BPF_JMP, 64), (op.BPF_JMP32, 32)):
        mask = (1 << bits) - 1
        conditions: dict[int, Callable[[int, int, int], bool]] = {
            op.BPF_JEQ: lambda a, b, w: a == b,
            op.BPF_JNE: lambda a, b, w: a != b,
            op.BPF_JGT: lambda a, b, w: a > b,
            op.BPF_JGE: lambda a, b, w: a >= b,
            op.BPF_JLT: lambda a, b, w: a < b,
            op.BPF_JLE: lambda a, b, w: a <= b,
            op.BPF_JSET: lambda a, b, w: a & b != 0,
            op.BPF_JSGT: lambda a, b, w: signed(a, w) > signed(b, w),
            op.BPF_JSGE: lambda a, b, w: signed(a, w) >= signed(b, w),
            op.BPF_JSLT: lambda a, b, w: signed(a, w) < signed(b, w),
            op.BPF_JSLE: lambda a, b, w: signed(a, w) <= signed(b, w),
        }
        for jump, holds in conditions.items():
            program = [
                Insn(0x79, 3, 1, 0),
                Insn(0x79, 4, 1, 8),
                Insn(0xB7, 0),
                Insn(cls | jump | op.BPF_X, 3, 4, 1),
                Insn(op.JA, off=1),
                Insn(0xB7, 0, imm=1),
                Insn(cls | jump, 3, 0, 1, -2),
                Insn(op.JA, off=1),
                Insn(A64 | op.BPF_OR, 0, imm=2),
                Insn(op.EXIT),
            ]
            with jit.compile(program, cached=False, level="basic") as native:
                for a in values:
                    for b in values:
                        ctx = bytearray(a.to_bytes(8, "little") + b.to_bytes(8, "little"))
                        want = int(holds(a & mask, b & mask, bits))
                        want |= 2 * int(holds(a & mask, (M64 - 1) & mask, bits))
                        assert native.run(ctx) == want, (hex(cls | jump), hex(a), hex(b))


def test_long_jumps_and_may_goto() -> None:
    assert run(Insn(op.GOTOL, imm=1), Insn(0xB7, 0, imm=5), Insn(A64 | op.BPF_ADD, 0, imm=1)) == 1
    # An endless loop but for may_goto: 8 Mi turns.
    assert run(Insn(op.MAY_GOTO, off=2), Insn(A64 | op.BPF_ADD, 0, imm=1), Insn(op.JA, off=-3)) == 8 << 20


def test_packet_loads() -> None:
    packet = bytes(range(1, 9))
    for size, width in ((op.BPF_B, 1), (op.BPF_H, 2), (op.BPF_W, 4)):
        for off in range(9):
            inside = off + width <= len(packet)
            want = int.from_bytes(packet[off : off + width], "big") if inside else 0
            load = Insn(op.BPF_LD | op.BPF_ABS | size, imm=off)
            assert run(Insn(0xB7, 0, imm=9), load, packet=packet) == want
            indexed = [*ld_imm64(3, 0xABCD_FFFF_FFFF), Insn(op.BPF_LD | op.BPF_IND | size, 0, 3, 0, off + 1)]
            assert run(*indexed, packet=packet) == want
    assert run(Insn(0xB7, 0, imm=9), Insn(op.BPF_LD | op.BPF_ABS, imm=-4096), packet=packet) == 0
    # Without a packet the context is read.
    assert run(Insn(op.BPF_LD | op.BPF_ABS | op.BPF_H, imm=1), ctx=bytearray(packet)) == 0x203


@pytest.mark.parametrize(
    ("insn", "what"),
    [
        (Insn(op.CALL, 0, op.BPF_PSEUDO_KFUNC_CALL, 0, 1), "kernel functions"),
        (Insn(A64 | op.BPF_MOV | op.BPF_X, 1, 2, 1, 1), "arenas"),
        (Insn(0xFF), "unknown opcode"),
    ],
)
def test_what_a_userspace_machine_cannot_have(insn: Insn, what: str) -> None:
    with pytest.raises(DecodeError, match=what):
        run(Insn(0xB7, 0), insn)
    for src in (1, 2, 3, 5, 6):
        with pytest.raises(DecodeError, match="needs a kernel"):
            run(*ld_imm64(0, 1, src))


def test_out_of_bounds() -> None:
    for size, width in ((op.BPF_B, 1), (op.BPF_H, 2), (op.BPF_W, 4), (op.BPF_DW, 8)):
        for length in (1, 3, 8, 20):
            for off in (-1, 0, length - width, length - width + 1, length):
                load = Insn(op.BPF_LDX | op.BPF_MEM | size, 0, 1, off)
                if 0 <= off <= length - width:
                    assert run(load, ctx=bytearray(length)) == 0
                else:
                    with pytest.raises(ExecutionError, match="out of bounds") as caught:
                        run(Insn(0xB7, 0), load, ctx=bytearray(length))
                    assert caught.value.pc == 1
        for off in (-512, -width):
            assert run(Insn(op.BPF_LDX | op.BPF_MEM | size, 0, 10, off)) == 0
        for off in (-513, -width + 1, 0, 8):
            with pytest.raises(ExecutionError, match="out of bounds"):
                run(Insn(op.BPF_LDX | op.BPF_MEM | size, 0, 10, off))
    with pytest.raises(ExecutionError, match="not aligned"):
        run(Insn(op.BPF_STX | op.BPF_ATOMIC | op.BPF_W, 1, 0, 2, op.BPF_ADD), ctx=bytearray(8))
    with pytest.raises(ExecutionError, match="out of bounds"):
        run(Insn(op.BPF_STX | op.BPF_ATOMIC | op.BPF_W, 1, 0, 6, op.BPF_ADD), ctx=bytearray(8))
