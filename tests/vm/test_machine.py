"""The interpreter against docs/machine.md, rule by rule; results here are computed by hand from RFC 9669."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest

from skep.asm import assemble
from skep.errors import DecodeError, ExecutionError
from skep.isa import Insn, ld_imm64
from skep.isa import opcodes as op
from skep.vm import Machine, run

M64 = (1 << 64) - 1
SWAPPED = struct.pack("=H", 1)[0] == 1  # this machine is little-endian


def binary(opcode: int, a: int, b: int, off: int = 0) -> int:
    """``r0 = a; r1 = b; opcode r0, r1``."""
    return run([*ld_imm64(0, a), *ld_imm64(1, b), Insn(opcode, 0, 1, off), Insn(op.EXIT)])


X64, X32 = op.BPF_ALU64 | op.BPF_X, op.BPF_ALU | op.BPF_X


@pytest.mark.parametrize(
    ("opcode", "off", "a", "b", "result"),
    [
        (X64 | op.BPF_ADD, 0, M64, 2, 1),
        (X32 | op.BPF_ADD, 0, 0xFFFFFFFF_FFFFFFFF, 2, 1),
        (X64 | op.BPF_SUB, 0, 0, 1, M64),
        (X32 | op.BPF_SUB, 0, 0, 1, 0xFFFFFFFF),
        (X64 | op.BPF_MUL, 0, 1 << 63, 2, 0),
        (X32 | op.BPF_MUL, 0, 0x1_0001_0000, 0x10000, 0),
        (X64 | op.BPF_DIV, 0, M64, 2, M64 >> 1),
        (X64 | op.BPF_DIV, 0, 5, 0, 0),
        (X32 | op.BPF_DIV, 0, 0x1_00000009, 0xFFFFFFFF_00000002, 4),
        (X64 | op.BPF_DIV, 1, M64 - 6, 2, M64 - 2),  # -7 / 2 = -3
        (X64 | op.BPF_DIV, 1, 1 << 63, M64, 1 << 63),
        (X32 | op.BPF_DIV, 1, 0x80000000, 0xFFFFFFFF, 0x80000000),
        (X32 | op.BPF_DIV, 1, 0x5_FFFFFFF9, 2, 0xFFFFFFFD),
        (X64 | op.BPF_DIV, 1, 5, 0, 0),
        (X64 | op.BPF_MOD, 0, 7, 0, 7),
        (X32 | op.BPF_MOD, 0, 0x5_00000007, 0, 7),
        (X64 | op.BPF_MOD, 1, M64 - 6, 2, M64),  # -7 % 2 = -1
        (X64 | op.BPF_MOD, 1, 7, M64 - 1, 1),  # 7 % -2 = 1
        (X64 | op.BPF_MOD, 1, 1 << 63, M64, 0),
        (X32 | op.BPF_MOD, 1, 0x80000000, 0xFFFFFFFF, 0),
        (X64 | op.BPF_LSH, 0, 1, 65, 2),
        (X32 | op.BPF_LSH, 0, 1, 33, 2),
        (X64 | op.BPF_RSH, 0, 1 << 63, 64 + 63, 1),
        (X64 | op.BPF_ARSH, 0, 1 << 63, 63, M64),
        (X32 | op.BPF_ARSH, 0, 0x80000000, 31, 0xFFFFFFFF),
        (X32 | op.BPF_ARSH, 0, 0xF_40000000, 30, 1),
        (X64 | op.BPF_XOR, 0, M64, 0xFF, M64 ^ 0xFF),
        (X32 | op.BPF_OR, 0, 0xF0_0000_0000, 1, 1),
        (X64 | op.BPF_AND, 0, M64, 0x1234, 0x1234),
        (X64 | op.BPF_MOV, 8, 0, 0x80, M64 - 0x7F),
        (X64 | op.BPF_MOV, 32, 0, 0x80000000, 0xFFFFFFFF_80000000),
        (X32 | op.BPF_MOV, 16, 0, 0x18000, 0xFFFF8000),
        (X32 | op.BPF_MOV, 0, 0, M64, 0xFFFFFFFF),
    ],
)
def test_arithmetic(opcode: int, off: int, a: int, b: int, result: int) -> None:
    assert binary(opcode, a, b, off) == result


@pytest.mark.parametrize(
    ("opcode", "bits", "result"),
    [
        (op.BPF_ALU64 | op.BPF_END, 16, 0x8877),
        (op.BPF_ALU64 | op.BPF_END, 32, 0x88776655),
        (op.BPF_ALU64 | op.BPF_END, 64, 0x8877665544332211),
        (op.BPF_ALU | op.BPF_END | op.BPF_TO_LE, 32, 0x55667788 if SWAPPED else 0x88776655),
        (op.BPF_ALU | op.BPF_END | op.BPF_TO_BE, 32, 0x88776655 if SWAPPED else 0x55667788),
        (op.BPF_ALU | op.BPF_END | op.BPF_TO_BE, 16, 0x8877 if SWAPPED else 0x7788),
    ],
)
def test_byte_order(opcode: int, bits: int, result: int) -> None:
    assert run([*ld_imm64(0, 0x1122334455667788), Insn(opcode, 0, imm=bits), Insn(op.EXIT)]) == result


def test_immediates_are_sign_extended() -> None:
    assert run([Insn(op.BPF_ALU64 | op.BPF_MOV, 0, imm=-1), Insn(op.EXIT)]) == M64
    assert run([Insn(op.BPF_ALU | op.BPF_MOV, 0, imm=-1), Insn(op.EXIT)]) == 0xFFFFFFFF
    stored = [
        Insn(op.BPF_ST | op.BPF_MEM | op.BPF_DW, 10, 0, -8, -2),
        Insn(op.BPF_LDX | op.BPF_MEM | op.BPF_DW, 0, 10, -8),
        Insn(op.EXIT),
    ]
    assert run(stored) == M64 - 1


@pytest.mark.parametrize(
    ("opcode", "a", "b", "jumps"),
    [
        (op.BPF_JMP | op.BPF_JSGT, 1, M64, True),
        (op.BPF_JMP | op.BPF_JGT, 1, M64, False),
        (op.BPF_JMP32 | op.BPF_JEQ, 0x1_00000005, 5, True),
        (op.BPF_JMP | op.BPF_JEQ, 0x1_00000005, 5, False),
        (op.BPF_JMP32 | op.BPF_JSLT, 0x80000000, 0, True),
        (op.BPF_JMP | op.BPF_JSLT, 0x80000000, 0, False),
        (op.BPF_JMP | op.BPF_JSET, 6, 4, True),
        (op.BPF_JMP32 | op.BPF_JSET, 1 << 32, 1 << 32, False),
        (op.BPF_JMP | op.BPF_JLE, 5, 5, True),
        (op.BPF_JMP | op.BPF_JSGE, 1 << 63, 0, False),
    ],
)
def test_comparisons(opcode: int, a: int, b: int, jumps: bool) -> None:
    program = [
        *ld_imm64(1, a),
        *ld_imm64(2, b),
        Insn(opcode | op.BPF_X, 1, 2, 1),
        Insn(op.EXIT),
        Insn(op.BPF_ALU64 | op.BPF_MOV, 0, imm=1),
        Insn(op.EXIT),
    ]
    assert run(program) == jumps


def test_inputs() -> None:
    ctx = bytearray(b"\x01\x02\x03\x04\x05")
    code = assemble("r0 = *(u8 *)(r1 + 4)\nr0 <<= 8\nr0 |= r2\n*(u8 *)(r1 + 0) = r2\nexit")
    assert run(code, ctx) == 0x505
    assert ctx[0] == 5
    assert run(assemble("r0 = r1\nr0 |= r2\nexit")) == 0
    with pytest.raises(TypeError, match="writable"):
        Machine(code, memoryview(b"const"))


def test_packet_loads() -> None:
    packet = bytes.fromhex("0102030405")
    word = [Insn(op.BPF_LD | op.BPF_ABS | op.BPF_W, imm=1), Insn(op.EXIT)]
    assert run(word, packet=packet) == 0x02030405
    assert run(word, bytearray(packet)) == 0x02030405  # without a packet the context is read
    assert run([word[0]._replace(imm=2), word[1]], packet=packet) == 0
    assert run([word[0]._replace(imm=-4), word[1]], packet=packet) == 0
    program = [
        *ld_imm64(3, 0xFFFFFFFF_FFFFFFFF),
        Insn(op.BPF_LD | op.BPF_IND | op.BPF_H, src=3, imm=2),
        Insn(op.EXIT),
    ]
    assert run(program, packet=packet) == 0x0203


def test_packet_load_outside_ends_all_frames() -> None:
    program = assemble("call f\nr0 = 7\nexit\nf:\nr0 = *(u8 *)skb[100]\nr0 = 1\nexit")
    assert run(program, packet=b"short") == 0


def test_frames() -> None:
    program = assemble(
        """
        r6 = 6
        *(u64 *)(r10 - 8) = r6
        r1 = 3
        call f
        r0 += r6
        r1 = *(u64 *)(r10 - 8)
        r0 += r1
        exit
        f:
        r6 = *(u64 *)(r10 - 8)
        r6 += 100
        *(u64 *)(r10 - 8) = r6
        r0 = r6
        if r1 == 0 goto out
        r1 -= 1
        call f
        r0 += r6
        out:
        exit
        """
    )
    # Four frames of f, each with a zeroed stack and its own r6 = 100.
    assert run(program) == 400 + 6 + 6


def test_pointers_into_a_callers_frame() -> None:
    program = assemble(
        "r1 = r10\nr1 += -16\ncall f\nr0 = *(u64 *)(r10 - 16)\nexit\nf:\nr2 = 9\n*(u64 *)(r1 + 0) = r2\nexit"
    )
    assert run(program) == 9


def test_depth() -> None:
    def nested(depth: int) -> list[Insn]:
        text = "".join(f"f{n}:\ncall f{n + 1}\nexit\n" for n in range(1, depth))
        return assemble(f"call f1\nexit\n{text}f{depth}:\nr0 = {depth}\nexit")

    assert run(nested(7)) == 7  # eight frames with the main program
    with pytest.raises(ExecutionError, match="deeper than 8 frames") as caught:
        run(nested(8))
    assert caught.value.pc == 14


def test_helpers() -> None:
    seen: list[tuple[int, ...]] = []

    def helper(*arguments: int) -> int:
        seen.append(arguments)
        return -1

    program = assemble("r1 = 1\nr2 = -1\nr3 = 3\nr4 = 4\nr5 = 5\ncall 77\nr0 += r1\nexit")
    assert run(program, helpers={77: helper}) == 0
    assert seen == [(1, M64, 3, 4, 5)]
    with pytest.raises(ExecutionError, match="insn 5: helper 77 is not known here"):
        run(program)
    by_register = [Insn(op.BPF_ALU64 | op.BPF_MOV, 6, imm=77), Insn(op.CALLX, 6), Insn(op.EXIT)]
    assert run(by_register, helpers={77: lambda *_: 5}) == 5


def test_what_a_helper_raises_comes_out() -> None:
    def helper(*_: int) -> int:
        raise KeyError("mine")

    machine = Machine(assemble("r1 = 1\ncall 1\nexit"), helpers={1: helper})
    with pytest.raises(KeyError, match="mine"):
        machine.run()
    assert machine.pc == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("r0 = *(u64 *)(r10 + 0)", r"0: load of 8 bytes is out of bounds at fp"),
        ("r0 = *(u8 *)(r10 - 513)", r"0: load of 1 byte is out of bounds"),
        ("r0 = *(u32 *)(r10 - 2)", r"0: load of 4 bytes is out of bounds at fp-2"),
        ("r0 = *(u16 *)(r1 + 3)", r"0: load of 2 bytes is out of bounds at ctx\+3 \(ctx has 4 bytes\)"),
        ("*(u8 *)(r1 - 1) = 0", r"0: store of 1 byte is out of bounds at ctx-1"),
        ("r2 = 0\n*(u8 *)(r2 + 0) = r2", r"1: store of 1 byte is out of bounds at 0x0"),
        ("r2 = 1\nlock *(u64 *)(r10 - 12) += r2", r"1: atomic operation on 8 bytes is not aligned at fp-12"),
        ("lock *(u32 *)(r1 + 4) += r2", r"0: atomic operation of 4 bytes is out of bounds at ctx\+4"),
    ],
)  # fmt: skip
def test_memory_errors(text: str, message: str) -> None:
    with pytest.raises(ExecutionError, match=f"insn {message}") as caught:
        run(assemble(f"{text}\nexit"), bytearray(4))
    assert caught.value.registers is not None
    assert len(caught.value.registers) == 11


def test_a_callees_stack_ends_with_it() -> None:
    program = assemble("call f\nr0 = *(u64 *)(r0 - 8)\nexit\nf:\nr0 = r10\nexit")
    with pytest.raises(ExecutionError, match="insn 1: load of 8 bytes is out of bounds"):
        run(program)


@pytest.mark.parametrize(
    ("insn", "message"),
    [
        (Insn(op.CALL, 0, op.BPF_PSEUDO_KFUNC_CALL, 0, 5), "kernel function 5 needs a kernel"),
        (Insn(op.BPF_ALU64 | op.BPF_MOV | op.BPF_X, 0, 1, 1, 1), "address space casts"),
        (Insn(0xFF), "unknown opcode 0xff"),
    ],
)
def test_what_only_a_kernel_has(insn: Insn, message: str) -> None:
    with pytest.raises(DecodeError, match=message) as caught:
        Machine([Insn(op.BPF_ALU64 | op.BPF_MOV), insn, Insn(op.EXIT)])
    assert caught.value.offset == 8
    with pytest.raises(DecodeError, match="need a kernel"):
        Machine([*ld_imm64(1, 3, op.BPF_PSEUDO_MAP_FD), Insn(op.EXIT)])


def test_numbers_that_do_not_fit_are_refused() -> None:
    with pytest.raises(DecodeError, match="does not fit"):
        Machine([Insn(op.BPF_ALU64 | op.BPF_MOV, 0, imm=0xFFFFFFFF), Insn(op.EXIT)])


# --- the budget ----------------------------------------------------------------------------------


def test_budget_of_jumps_back() -> None:
    """The loop's jump at slot 2 leads to slot 1: two a turn, nine turns taken."""
    program = assemble("r1 = 10\nl: r1 -= 1\nif r1 != 0 goto l\nr0 = 1\nexit")
    assert run(program, budget=18) == 1
    with pytest.raises(ExecutionError, match="budget") as caught:
        run(program, budget=17)
    assert caught.value.pc == 2


def test_budget_of_calls() -> None:
    """A call costs one and the callee's length, up to the next subprogram: 1 + 3."""
    program = assemble("call f\nexit\nf: r0 = 1\nr0 = 2\nexit")
    assert run(program, budget=4) == 2
    with pytest.raises(ExecutionError, match="insn 0: the budget"):
        run(program, budget=3)


def test_endless_loops_end() -> None:
    with pytest.raises(ExecutionError, match="budget"):
        run(assemble("l: goto l"), budget=1000)
    machine = Machine(assemble("l: r0 += 1\ngoto l"), budget=1001)
    with pytest.raises(ExecutionError):
        machine.run()
    assert machine.registers[0] == 501
    assert machine.budget == 1


def test_may_goto_counts_turns_of_its_frame() -> None:
    program = assemble("l: may_goto out\nr0 += 1\ngoto l\nout: exit")
    machine = Machine(program)
    machine.turns = 5
    assert machine.run() == 5
    assert Machine(program).turns == 8_388_608
    both = assemble("l: may_goto out\nr0 += 1\nmay_goto out\ngoto l\nout: exit")
    machine = Machine(both)
    machine.turns = 5
    assert machine.run() == 3


# --- atomics ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("operation", "size", "src", "memory", "fetched"),
    [
        (op.BPF_ADD, 8, 2, 3, None),
        (op.BPF_ADD | op.BPF_FETCH, 8, M64, 0, 1),
        (op.BPF_ADD | op.BPF_FETCH, 4, 0xFFFFFFFF_FFFFFFFF, 0, 1),
        (op.BPF_XOR | op.BPF_FETCH, 8, 1, 0, 1),
        (op.BPF_OR, 8, 6, 7, None),
        (op.BPF_AND, 4, 0xF0, 0, None),
        (op.BPF_XCHG, 8, 99, 99, 1),
    ],
)
def test_atomics(operation: int, size: int, src: int, memory: int, fetched: int | None) -> None:
    width = {4: op.BPF_W, 8: op.BPF_DW}[size]
    machine = Machine(
        [
            Insn(op.BPF_ST | op.BPF_MEM | op.BPF_DW, 10, 0, -8, 1),
            *ld_imm64(3, src),
            Insn(op.BPF_STX | op.BPF_ATOMIC | width, 10, 3, -8, operation),
            Insn(op.BPF_LDX | op.BPF_MEM | op.BPF_DW, 0, 10, -8),
            Insn(op.EXIT),
        ]
    )
    assert machine.run() == memory
    assert machine.registers[3] == (src if fetched is None else fetched)


@pytest.mark.parametrize(
    ("width", "expected", "memory", "r0"),
    [
        (op.BPF_DW, 0x1_00000001, 5, 0x1_00000001),
        (op.BPF_DW, 1, 0x1_00000001, 0x1_00000001),
        (op.BPF_W, 0x7_00000001, 0x1_00000005, 1),
        (op.BPF_W, 2, 0x1_00000001, 1),
    ],
)
def test_compare_and_exchange(width: int, expected: int, memory: int, r0: int) -> None:
    if not SWAPPED:
        pytest.skip("the halves lie the other way round")
    machine = Machine(
        [
            *ld_imm64(0, 0x1_00000001),
            Insn(op.BPF_STX | op.BPF_MEM | op.BPF_DW, 10, 0, -8),
            *ld_imm64(0, expected),
            Insn(op.BPF_ALU64 | op.BPF_MOV, 3, imm=5),
            Insn(op.BPF_STX | op.BPF_ATOMIC | width, 10, 3, -8, op.BPF_CMPXCHG),
            Insn(op.BPF_LDX | op.BPF_MEM | op.BPF_DW, 4, 10, -8),
            Insn(op.EXIT),
        ]
    )
    assert machine.run() == r0
    assert machine.registers[4] == memory


# --- stepping --------------------------------------------------------------------------------------


def test_steps_show_what_each_instruction_did() -> None:
    ctx = bytearray(b"\x0a\x0b")
    program = assemble(
        """
        r3 = *(u8 *)(r1 + 1)
        *(u32 *)(r10 - 4) = r3
        r0 = *(u16 *)skb[1]
        if r0 > 5 goto +1
        r0 = 1
        exit
        """
    )
    machine = Machine(program, ctx, packet=b"\x00\x12\x34")
    load, store, packet, jump, end = machine.steps()
    assert load.read is not None
    assert (machine.where(load.read[0]), load.read[1], load.changed) == ("ctx+1", b"\x0b", (3,))
    assert store.written == (machine.registers[10] - 4, struct.pack("=I", 0x0B))
    assert machine.where(store.written[0]) == "fp-4"
    assert packet.packet == (1, b"\x12\x34")
    assert packet.registers[0] == 0x1234
    assert (jump.pc, jump.next_pc, jump.changed) == (3, 5, ())
    assert (end.next_pc, machine.ended, machine.registers[0]) == (-1, True, 0x1234)
    with pytest.raises(ExecutionError, match="has ended"):
        machine.step()


def test_stepping_into_calls() -> None:
    machine = Machine(assemble("r6 = 5\ncall f\nexit\nf: r6 = 1\n*(u8 *)(r10 - 1) = 7\nexit"))
    machine.step()
    machine.step()
    assert machine.pc == 3
    assert [(frame.return_pc, frame.saved[0]) for frame in machine.frames] == [(2, 5)]
    machine.step()
    written = machine.step().written
    assert written is not None
    assert machine.where(written[0]) == "fp-1"
    assert machine.stack[511] == 7
    machine.step()
    assert (machine.registers[6], len(machine.frames)) == (5, 0)
    assert machine.stack[511] == 0


def test_a_stopped_machine_shows_where() -> None:
    machine = Machine(assemble("r0 = 1\nr0 = *(u8 *)(r0 + 0)\nexit"))
    machine.step()
    with pytest.raises(ExecutionError, match="insn 1") as caught:
        machine.step()
    assert machine.pc == 1
    assert caught.value.registers is not None
    assert caught.value.registers[0] == 1


def test_reset_starts_over() -> None:
    machine = Machine(assemble("r0 = *(u64 *)(r10 - 8)\n*(u64 *)(r10 - 8) = r2\nr0 += r2\nexit"))
    assert machine.run() == 0
    machine.reset(bytearray(3))
    assert machine.run() == 3
    machine.reset(bytearray(4))
    assert machine.run() == 4


def test_run_goes_on_where_steps_stopped() -> None:
    machine = Machine(assemble("r0 = 1\nr0 += 1\nr0 += 1\nexit"))
    machine.step()
    assert machine.run() == 3


@pytest.mark.parametrize("make", [bytearray, lambda size: memoryview(bytearray(size))])
def test_contexts_may_be_any_writable_buffer(make: Callable[[int], bytearray]) -> None:
    ctx = make(16)
    run(assemble("*(u64 *)(r1 + 8) = r2\nexit"), ctx)
    assert struct.unpack("=2Q", ctx) == (0, 16)
