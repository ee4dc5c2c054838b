"""Native programs as objects: calls, frames, helpers, threads, the cache, sizes."""

from __future__ import annotations

import ctypes
import random
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from skep import jit
from skep.errors import ExecutionError, MissingDependency
from skep.isa import Insn
from skep.isa import opcodes as op
from skep.jit.lower import lower
from skep.llvm import available, compile_native, host, native, warm

MOV = op.BPF_ALU64 | op.BPF_MOV
ADD = op.BPF_ALU64 | op.BPF_ADD
EXIT = Insn(op.EXIT)


@pytest.fixture(autouse=True, scope="module")
def llvm() -> None:
    if not available():
        pytest.skip("needs llvmlite")
    warm()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("SKEP_CACHE", str(tmp_path / "cache"))
    yield tmp_path / "cache"


def call(target: int, pc: int) -> Insn:
    return Insn(op.CALL, 0, op.BPF_PSEUDO_CALL, 0, target - pc - 1)


def run(insns: list[Insn], *arguments: object, **how: object) -> int:
    with jit.compile(insns, cached=False, level="basic", **how) as program:  # type: ignore[arg-type]
        return program.run(*arguments)  # type: ignore[arg-type]


def test_a_callers_frame_can_be_passed_and_is_bounded() -> None:
    def program(off: int) -> list[Insn]:
        return [
            Insn(MOV | op.BPF_X, 1, 10),
            Insn(ADD, 1, imm=-16),
            call(5, 2),
            Insn(op.BPF_LDX | op.BPF_MEM | op.BPF_DW, 0, 10, -16),
            EXIT,
            Insn(op.BPF_ST | op.BPF_MEM | op.BPF_DW, 1, 0, off, 42),
            EXIT,
        ]

    assert run(program(0)) == 42
    assert run(program(-496)) == 0
    for off in (9, 16, -497, -1024, 1008, 1024):
        with pytest.raises(ExecutionError, match="out of bounds") as caught:
            run(program(off))
        assert caught.value.pc == 5


def test_a_frame_is_gone_after_its_return_and_new_ones_are_zero() -> None:
    leak = [
        call(5, 0),
        Insn(op.BPF_LDX | op.BPF_MEM | op.BPF_DW, 0, 0, -8),
        EXIT,
        EXIT,
        EXIT,
        Insn(MOV | op.BPF_X, 0, 10),
        EXIT,
    ]
    with pytest.raises(ExecutionError) as caught:
        run(leak)
    assert caught.value.pc == 1
    dirty = [
        call(4, 0),
        call(6, 1),
        EXIT,
        EXIT,
        Insn(op.BPF_ST | op.BPF_MEM | op.BPF_DW, 10, 0, -8, 7),
        EXIT,
        Insn(op.BPF_LDX | op.BPF_MEM | op.BPF_DW, 0, 10, -8),
        EXIT,
    ]
    assert run(dirty) == 0


def test_pointers_kept_in_memory_stay_pointers() -> None:
    """A frame's address and ctx's, stored and loaded again; a number is no pointer."""
    insns = [
        Insn(op.BPF_STX | op.BPF_MEM | op.BPF_DW, 10, 1, -8),
        Insn(MOV | op.BPF_X, 3, 10),
        Insn(ADD, 3, imm=-32),
        Insn(op.BPF_STX | op.BPF_MEM | op.BPF_DW, 10, 3, -16),
        Insn(op.BPF_LDX | op.BPF_MEM | op.BPF_DW, 4, 10, -16),
        Insn(op.BPF_ST | op.BPF_MEM | op.BPF_DW, 4, 0, 0, 5),
        Insn(op.BPF_LDX | op.BPF_MEM | op.BPF_DW, 5, 10, -8),
        Insn(op.BPF_LDX | op.BPF_MEM | op.BPF_B, 0, 5, 2),
        Insn(op.BPF_LDX | op.BPF_MEM | op.BPF_DW, 3, 10, -32),
        Insn(ADD | op.BPF_X, 0, 3),
        EXIT,
    ]
    assert run(insns, bytearray(b"abc")) == ord("c") + 5
    with pytest.raises(ExecutionError) as caught:
        run(insns, bytearray(b"ab"))
    assert caught.value.pc == 7
    for number in (0, 8, 4096, -1, 0x7FFFFFFF):
        with pytest.raises(ExecutionError):
            run(
                [Insn(MOV, 3, imm=number), Insn(op.BPF_LDX | op.BPF_MEM | op.BPF_B, 0, 3), EXIT], bytearray(8)
            )


def test_call_depth() -> None:
    """r1 counts calls down: seven nested ones fit beside the main program, eight do not."""
    insns = [
        Insn(op.BPF_LDX | op.BPF_MEM | op.BPF_B, 1, 1),
        call(3, 1),
        EXIT,
        Insn(ADD, 0, imm=1),
        Insn(ADD, 1, imm=-1),
        Insn(op.BPF_JMP | op.BPF_JEQ, 1, 0, 1, 0),
        call(3, 6),
        EXIT,
    ]
    assert run(insns, bytearray([7])) == 7
    with pytest.raises(ExecutionError, match="nested deeper") as caught:
        run(insns, bytearray([8]))
    assert caught.value.pc == 6


def test_saved_registers_and_what_the_callee_leaves() -> None:
    insns = [
        Insn(MOV, 6, imm=3),
        call(5, 1),
        Insn(ADD | op.BPF_X, 0, 6),
        Insn(ADD | op.BPF_X, 0, 4),
        EXIT,
        Insn(MOV, 6, imm=100),
        Insn(MOV, 4, imm=20),
        Insn(MOV, 0, imm=1000),
        EXIT,
    ]
    assert run(insns) == 1023


def test_helpers() -> None:
    seen: list[tuple[int, ...]] = []

    def helper(*numbers: int) -> int:
        seen.append(numbers)
        return -1

    insns = [Insn(MOV, reg, imm=-reg) for reg in range(1, 6)]
    insns += [Insn(op.CALL, imm=7), Insn(ADD | op.BPF_X, 0, 3), EXIT]
    assert run(insns, helpers={7: helper, 3: lambda *_: 0}) == (1 << 64) - 4
    assert seen == [tuple((1 << 64) - reg for reg in range(1, 6))]
    through = [Insn(MOV, 2, imm=7), Insn(op.CALLX, 2), EXIT]
    assert run(through, helpers={7: lambda *_: 55}) == 55
    for program in (insns, through):
        with pytest.raises(ExecutionError, match="helper") as caught:
            run(program, helpers={8: helper})
        assert caught.value.pc == (5 if program is insns else 1)
    address = ctypes.cast(ctypes.CDLL(None).labs, ctypes.c_void_p).value
    assert address is not None
    assert run([Insn(MOV, 1, imm=-9), Insn(op.CALL, imm=1), EXIT], helpers={1: address}) == 9


def test_a_helpers_exception_ends_the_program_and_comes_out() -> None:
    def helper(a: int, *_: int) -> int:
        raise LookupError("no such flower")

    memory = bytearray(8)
    insns = [
        Insn(MOV | op.BPF_X, 6, 1),
        Insn(op.CALL, imm=1),
        Insn(op.BPF_ST | op.BPF_MEM | op.BPF_B, 6, 0, 0, 1),
        EXIT,
    ]
    with jit.compile(insns, helpers={1: helper}, cached=False) as program:
        for _ in range(2):
            with pytest.raises(LookupError, match="no such flower"):
                program.run(memory)
    assert memory == bytes(8)


def test_helpers_reach_the_programs_memory() -> None:
    def helper(address: int, *_: int) -> int:
        ctypes.c_uint64.from_address(address).value += 1
        return 0

    insns = [
        Insn(op.BPF_ST | op.BPF_MEM | op.BPF_DW, 10, 0, -8, 41),
        Insn(MOV | op.BPF_X, 1, 10),
        Insn(ADD, 1, imm=-8),
        Insn(op.CALL, imm=1),
        Insn(op.BPF_LDX | op.BPF_MEM | op.BPF_DW, 0, 10, -8),
        EXIT,
    ]
    assert run(insns, helpers={1: helper}) == 42


def test_a_helper_cannot_resize_the_context() -> None:
    """Native code would go on where it was."""
    ctx = bytearray(64)

    def grow(*_: int) -> int:
        ctx.extend(bytes(1 << 20))
        return 0

    insns = [Insn(op.CALL, imm=1), Insn(op.BPF_ST | op.BPF_MEM | op.BPF_DW, 10, 0, -8, 1), EXIT]
    with pytest.raises(BufferError):
        run(insns, ctx, helpers={1: grow})
    ctx.extend(b"x")  # afterwards everybody may
    assert len(ctx) == 65


def test_contexts() -> None:
    length = [Insn(MOV | op.BPF_X, 0, 2), EXIT]
    pointer = [Insn(MOV | op.BPF_X, 0, 1), EXIT]
    with jit.compile(length, cached=False) as program:
        assert program.run() == 0
        assert program.run(bytearray()) == 0
        assert program.run(bytearray(9)) == 9
        assert program.run(memoryview(bytearray(16)).cast("Q")) == 16
        with pytest.raises(TypeError):
            program.run(b"read-only")  # type: ignore[arg-type]
    with jit.compile(pointer, cached=False) as program:
        assert program.run() == 0
        assert program.run(bytearray()) != 0
    with pytest.raises(ValueError, match="closed"):
        program.run()


def test_unaligned_buffers_work_for_atomics() -> None:
    memory = bytearray(24)
    insns = [Insn(MOV, 3, imm=5), Insn(op.BPF_STX | op.BPF_ATOMIC | op.BPF_DW, 1, 3, 8, op.BPF_ADD), EXIT]
    for start in range(8):
        memory[:] = bytes(24)
        run(insns, memoryview(memory)[start : start + 16])
        assert memory == bytes(start + 8) + b"\5" + bytes(15 - start)


def test_budget() -> None:
    insns = [Insn(ADD, 0, imm=1), Insn(op.JA, off=-2), EXIT]
    with jit.compile(insns, cached=False) as program:
        for budget in (0, 1, 1000, -5):
            with pytest.raises(ExecutionError, match="budget") as caught:
                program.run(budget=budget)
            assert caught.value.pc == 1
    calls = [call(2, 0), EXIT, EXIT, EXIT]
    assert run(calls) == 0
    with jit.compile(calls, cached=False) as program:
        assert program.run(budget=3) == 0
        with pytest.raises(ExecutionError) as caught:
            program.run(budget=2)
        assert caught.value.pc == 0


def test_threads() -> None:
    """One program, many threads: atomics lose nothing, and nobody sees another's budget or error."""
    insns = [
        Insn(MOV, 3, imm=1),
        Insn(MOV, 4, imm=20000),
        Insn(op.BPF_STX | op.BPF_ATOMIC | op.BPF_DW, 1, 3, 0, op.BPF_ADD),
        Insn(ADD, 4, imm=-1),
        Insn(op.BPF_JMP | op.BPF_JNE, 4, 0, -3, 0),
        EXIT,
    ]
    memory = bytearray(8)
    stopped: list[int] = []
    with jit.compile(insns, cached=False) as program:

        def work(budget: int) -> None:
            for _ in range(20):
                try:
                    program.run(memory, budget=budget)
                except ExecutionError as error:
                    stopped.append(error.pc)

        threads = [
            threading.Thread(target=work, args=(budget,)) for budget in (1 << 30, 1 << 30, 3000, 1 << 30)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert stopped == [4] * 20
    # Three threads count to the end; the fourth pays three a turn and makes one turn more than it can pay.
    assert int.from_bytes(memory, "little") == 20 * (3 * 20000 + 1001)


def test_unchecked_code_has_no_traps() -> None:
    insns = [Insn(op.BPF_LDX | op.BPF_MEM | op.BPF_W, 0, 1, 4), EXIT]
    assert "trap" in lower(insns).text
    assert "trap" not in lower(insns, checks=False).text
    assert run(insns, bytearray(b"1234\2\0\0\0"), checks=False, budget=False) == 2


def test_blinding_hides_constants() -> None:
    secret = 0x1337BEEF
    insns = [Insn(MOV, 0, imm=secret), Insn(op.BPF_ALU64 | op.BPF_XOR, 0, imm=secret ^ 5), EXIT]
    insns.insert(1, Insn(op.BPF_JMP | op.BPF_JEQ, 2, 0, 1, secret))
    needle = secret.to_bytes(4, "little")
    with jit.compile(insns, cached=False) as plain, jit.compile(insns, blind=True) as blind:
        assert plain.run() == blind.run() == 5
        assert needle in plain.code()
        assert needle not in blind.code()


def test_the_cache_spares_llvm(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    insns = [Insn(MOV, 0, imm=77), EXIT]
    jit.compile(insns).close()
    assert len(list(cache.iterdir())) == 1
    jit.compile(insns, helpers={1: lambda *_: 0}).close()
    jit.compile(insns, budget=False).close()
    jit.compile(insns, blind=True).close()
    assert len(list(cache.iterdir())) == 3
    monkeypatch.setattr(host, "llvmlite_home", lambda: None)
    with jit.compile(insns) as program:
        assert program.run() == 77
    with pytest.raises(MissingDependency):
        jit.compile([Insn(MOV, 0, imm=78), EXIT])


def test_damaged_cache_entries_are_made_again(cache: Path) -> None:
    insns = [Insn(MOV, 0, imm=79), EXIT]
    jit.compile(insns).close()
    (path,) = cache.iterdir()
    good = path.read_bytes()
    for damaged in (b"", good[:-1], good[:100] + b"\xff" + good[101:], b"x" * len(good)):
        path.write_bytes(damaged)
        with jit.compile(insns) as program:
            assert program.run() == 79
        assert path.read_bytes() == good


def test_embedding_in_a_larger_module() -> None:
    """Two programs inlined into a function of someone else's, with a context of their own."""
    first = lower(
        [Insn(op.BPF_LDX | op.BPF_MEM | op.BPF_W, 0, 1, 0), EXIT],
        name="first",
        attributes="internal alwaysinline",
    ).text
    second = lower(
        [Insn(op.BPF_LD | op.BPF_ABS | op.BPF_H, imm=0), EXIT],
        name="second",
        attributes="internal alwaysinline",
        declarations=False,
    ).text
    scan = """
define i64 @scan(ptr %pkt, i64 %len) nounwind {
  %skb = alloca [192 x i8], align 8
  call void @llvm.memset.p0.i64(ptr %skb, i8 0, i64 192, i1 false)
  %low = trunc i64 %len to i32
  store i32 %low, ptr %skb
  %a = call i64 @first(ptr %skb, i64 192, ptr %pkt, i64 %len, ptr null)
  %b = call i64 @second(ptr %skb, i64 192, ptr %pkt, i64 %len, ptr null)
  %r = add i64 %a, %b
  ret i64 %r
}
"""
    for level in ("quick", "basic", "O1"):
        with native.load(compile_native(first + second + scan, level=level)) as image:
            packet = ctypes.create_string_buffer(b"\1\2\3", 3)
            function = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_void_p, ctypes.c_uint64)(
                image.address("scan")
            )
            assert function(ctypes.addressof(packet), 3) == 3 + 0x102
            assert function(ctypes.addressof(packet), 1) == 1
            # The stack image of the context is gone, and with it every call.
            assert image.symbol_size("scan") < 80


def test_large_programs() -> None:
    rng = random.Random(5)
    operations = (op.BPF_ADD, op.BPF_XOR, op.BPF_OR, op.BPF_SUB)
    body = [
        Insn(op.BPF_ALU64 | rng.choice(operations) | op.BPF_X, rng.randrange(6), rng.randrange(6))
        for _ in range(30_000)
    ]
    head = [Insn(MOV, reg, imm=reg * 7 + 1) for reg in range(6)]
    want = [reg * 7 + 1 for reg in range(6)]
    for opcode, dst, src, _, _ in body:
        a, b = want[dst], want[src]
        operation = opcode & op.OP_MASK
        want[dst] = {op.BPF_ADD: a + b, op.BPF_XOR: a ^ b, op.BPF_OR: a | b, op.BPF_SUB: a - b}[operation] & (
            1 << 64
        ) - 1
    with jit.compile([*head, *body, EXIT], cached=False) as program:
        assert program.run() == want[0]


def test_many_branches() -> None:
    """Ten thousand conditional jumps, forward and back."""
    insns = [Insn(op.BPF_LDX | op.BPF_MEM | op.BPF_W, 3, 1)]
    for number in range(10_000):
        insns.append(Insn(op.BPF_JMP | op.BPF_JNE, 3, 0, 1, number))
        insns.append(Insn(ADD, 0, imm=number))
    with jit.compile([*insns, EXIT], cached=False) as program:
        assert program.run(bytearray((7777).to_bytes(4, "little"))) == 7777
