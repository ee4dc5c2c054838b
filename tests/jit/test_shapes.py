"""Programs whose shape is hard on LLVM: loops with several entries, very long blocks."""

from __future__ import annotations

import os
import random
from functools import partial

import pytest

from skep import jit, vm
from skep.errors import ExecutionError
from skep.isa import Insn
from skep.isa import opcodes as op
from skep.jit.lower import lower
from skep.jit.program import choose_level
from skep.llvm import LEVELS, available, compile_native, warm

SEED = int(os.environ.get("SKEP_SEED", "1"))

#: Loops that share blocks and can be entered at several. LLVM's new_gvn pass fails an assertion on it.
TANGLED = [
    Insn(0xC3, 10, 4, -64, 241),
    Insn(0x6F, 4, 8),
    Insn(0x2F, 6, 4),
    Insn(0xDD, 0, 6, 3),
    Insn(0x74, 2, imm=15),
    Insn(0x7E, 3, 4, -6),
    Insn(0xB5, 7, 0, 1, 32),
    Insn(0x3E, 9, 3, -2),
    Insn(0x84, 7),
    Insn(0xA6, 9, 0, -9, 2),
    Insn(op.EXIT),
]


@pytest.fixture(autouse=True)
def llvm() -> None:
    if not available():
        pytest.skip("needs llvmlite")


@pytest.mark.parametrize("level", LEVELS)
def test_loops_with_several_entries(level: str) -> None:
    """In a child process, which an assertion would end."""

    def end(run: object) -> tuple[object, int]:
        try:
            assert callable(run)
            return run(), -1
        except ExecutionError as error:
            return None, error.pc

    with jit.compile(TANGLED, level=level, cached=False, isolate=True) as native:
        for budget in (0, 7, 100, 1000):
            expected = end(vm.Machine(TANGLED, bytearray(8), budget=budget).run)
            assert end(lambda budget=budget: native.run(bytearray(8), budget=budget)) == expected


def test_long_blocks_are_split_and_compute_the_same() -> None:
    rng = random.Random(SEED)
    insns = [Insn(op.BPF_LDX | op.BPF_MEM | op.BPF_DW, reg, 1, 8 * reg) for reg in (3, 4, 5, 6)]
    insns.append(Insn(op.BPF_ALU64 | op.BPF_MOV, 0))
    operations = (
        op.BPF_ADD,
        op.BPF_SUB,
        op.BPF_MUL,
        op.BPF_XOR,
        op.BPF_OR,
        op.BPF_AND,
        op.BPF_RSH,
        op.BPF_LSH,
    )
    while len(insns) < 1500:
        dst, src = rng.choice((0, 3, 4, 5, 6)), rng.choice((0, 3, 4, 5, 6))
        kind = rng.randrange(10)
        if kind == 0:
            insns.append(Insn(op.BPF_STX | op.BPF_MEM | op.BPF_DW, 1, src, 8 * rng.randrange(16)))
        elif kind == 1:
            insns.append(Insn(op.BPF_LDX | op.BPF_MEM | op.BPF_W, dst, 1, 4 * rng.randrange(32)))
        else:
            cls = rng.choice((op.BPF_ALU64, op.BPF_ALU))
            insns.append(Insn(cls | rng.choice(operations) | op.BPF_X, dst, src))
    insns.append(Insn(op.EXIT))
    text = lower(insns).text
    longest = max(len(block.splitlines()) for block in text.split("label"))
    assert longest < 100, "LLVM's time grows faster than a block"
    with jit.compile(insns, cached=False) as native:
        for length in (128, 128, 128, 100):
            data = rng.randbytes(length)
            ours, theirs = bytearray(data), bytearray(data)
            try:
                expected: object = vm.Machine(insns, ours).run()
            except ExecutionError as error:
                expected = error.pc
            try:
                got: object = native.run(theirs)
            except ExecutionError as error:
                got = error.pc
            assert (got, theirs) == (expected, ours), f"SKEP_SEED={SEED}, {length} bytes"


def test_a_may_goto_whose_sides_meet() -> None:
    """Both lead to the next slot, where one has spent a turn; it is in a loop with several entries."""
    insns = [
        Insn(0x76, 0, 0, 4, -2),
        Insn(0x05, 0, 0, 10),
        Insn(0xE5),
        Insn(0x7D, 5, 9, -1),
        Insn(0x14, 4, imm=9),
        Insn(0xDE, 2, 2, -5),
        Insn(0x6E, 4, 9, 2),
        Insn(0x56, 4, 0, 4),
        Insn(0xA5, 8, 0, -7, 0x20),
        Insn(0x4F, 7, 4),
        Insn(0x2F, 0, 7),
        Insn(0xDE, 4, 0, -8),
        Insn(op.EXIT),
    ]
    with jit.compile(insns, cached=False, isolate=True) as native:
        for budget in (0, 3, 50, 1000):
            ends: list[tuple[int | None, int]] = []
            for run in (vm.Machine(insns, bytearray(8), budget=budget).run, partial(_run, native, budget)):
                try:
                    ends.append((run(), -1))
                except ExecutionError as error:
                    ends.append((None, error.pc))
            assert ends[0] == ends[1], budget


def _run(native: jit.NativeProgram, budget: int) -> int:
    return native.run(bytearray(8), budget=budget)


def _loops(count: int, step: int = 2) -> list[Insn]:
    """So many loops, one after the other, each of which sums eight bytes of ctx, ``step`` apart."""
    add = op.BPF_ALU64 | op.BPF_ADD
    body = [
        Insn(op.BPF_ALU64 | op.BPF_MOV, 3),
        Insn(op.BPF_ALU64 | op.BPF_MOV | op.BPF_X, 4, 1),
        Insn(add | op.BPF_X, 4, 3),
        Insn(op.BPF_LDX | op.BPF_MEM | op.BPF_B, 5, 4),
        Insn(add | op.BPF_X, 0, 5),
        Insn(add, 3, imm=step),
        Insn(op.BPF_JMP | op.BPF_JLT, 3, 0, -6, 8 * step),
    ]
    return [Insn(op.BPF_ALU64 | op.BPF_MOV, 0), *body * count, Insn(op.EXIT)]


def test_many_loops_are_not_vectorised() -> None:
    """LLVM's pipelines take a time that grows like the square of their number."""
    assert choose_level(lower(_loops(3))) == "O1"
    assert choose_level(lower(_loops(3, step=1))) == "flat"  # neighbours: vectors are made here
    assert choose_level(lower(_loops(100))) == "flat"
    assert choose_level(lower(_loops(500))) == "large"
    with jit.compile(_loops(100), cached=False) as native:
        assert native.run(bytearray(range(16))) == 5600


def test_many_subprograms() -> None:
    """Each returns its number; the last result stays."""
    count = 1500
    calls = [Insn(op.CALL, 0, op.BPF_PSEUDO_CALL, imm=count + at) for at in range(count)]
    functions = [
        insn for at in range(count) for insn in (Insn(op.BPF_ALU64 | op.BPF_MOV, 0, imm=at), Insn(op.EXIT))
    ]
    insns = [*calls, Insn(op.EXIT), *functions]
    lowered = lower(insns)
    assert not lowered.rewarding
    assert lowered.text.count("define ") == count + 1


def test_llvm_is_left_as_it_was() -> None:
    """An option that saves time here is set back: other users of LLVM in this process get what they had."""
    warm()
    import llvmlite.binding as llvm

    text = """
define i64 @f(ptr %p, i64 %n) {
entry:
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %next, %loop ]
  %s = phi i64 [ 0, %entry ], [ %t, %loop ]
  %k = mul i64 %i, 24
  %a = getelementptr i8, ptr %p, i64 %k
  %v = load i64, ptr %a
  %t = add i64 %s, %v
  %next = add i64 %i, 1
  %more = icmp ult i64 %next, %n
  br i1 %more, label %loop, label %out
out:
  ret i64 %t
}
"""
    target = llvm.Target.from_triple(llvm.get_default_triple())
    machine = target.create_target_machine(opt=2, reloc="pic", codemodel="small")

    def emitted() -> bytes:
        code: bytes = machine.emit_object(llvm.parse_assembly(text))
        return code

    before = emitted()
    llvm.set_option("test", "-disable-lsr=true")
    without = emitted()
    llvm.set_option("test", "-disable-lsr=false")
    assert without != before
    compile_native(text, level="basic", isolate=False)
    assert emitted() == before
