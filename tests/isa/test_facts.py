"""Registers, targets and versions, by hand and against LLVM's own idea of -mcpu."""

from __future__ import annotations

import pytest

from skep.asm import assemble
from skep.isa import Insn, facts
from skep.isa import opcodes as op


def mask(*registers: int) -> int:
    return sum(1 << r for r in registers)


@pytest.mark.parametrize(
    ("insn", "uses", "defs"),
    [
        (Insn(0xB7, 1), mask(), mask(1)),
        (Insn(0xBF, 1, 2), mask(2), mask(1)),
        (Insn(0x0F, 1, 2), mask(1, 2), mask(1)),
        (Insn(0x87, 3), mask(3), mask(3)),
        (Insn(0xDC, 3, imm=16), mask(3), mask(3)),
        (Insn(0x61, 1, 2), mask(2), mask(1)),
        (Insn(0x63, 1, 2), mask(1, 2), mask()),
        (Insn(0x62, 1), mask(1), mask()),
        (Insn(0x18, 4), mask(), mask(4)),
        (Insn(0x28), mask(6), mask(0, 1, 2, 3, 4, 5)),
        (Insn(0x48, src=7), mask(6, 7), mask(0, 1, 2, 3, 4, 5)),
        (Insn(0x85, imm=1), mask(1, 2, 3, 4, 5), mask(0, 1, 2, 3, 4, 5)),
        (Insn(0x8D, 7), mask(1, 2, 3, 4, 5, 7), mask(0, 1, 2, 3, 4, 5)),
        (Insn(0x95), mask(0), mask()),
        (Insn(0x05), mask(), mask()),
        (Insn(0x15, 3), mask(3), mask()),
        (Insn(0x1E, 3, 4), mask(3, 4), mask()),
        (Insn(0xDB, 1, 2, imm=0), mask(1, 2), mask()),
        (Insn(0xDB, 1, 2, imm=1), mask(1, 2), mask(2)),
        (Insn(0xDB, 1, 2, imm=op.BPF_CMPXCHG), mask(0, 1, 2), mask(0)),
        (Insn(0xDB, 1, 2, imm=op.BPF_LOAD_ACQ), mask(2), mask(1)),
        (Insn(0xDB, 1, 2, imm=op.BPF_STORE_REL), mask(1, 2), mask()),
    ],
)
def test_registers(insn: Insn, uses: int, defs: int) -> None:
    assert (facts.uses(insn), facts.defs(insn)) == (uses, defs)


def test_targets() -> None:
    assert facts.jump_target(Insn(0x05, off=-3), 10) == 8
    assert facts.jump_target(Insn(0x06, imm=100000), 10) == 100011
    assert facts.jump_target(Insn(0xE5, off=2), 0) == 3
    assert facts.jump_target(Insn(0x85, src=1, imm=4), 1) == 6
    assert facts.jump_target(Insn(0x85, imm=4), 1) is None
    assert facts.jump_target(Insn(0x95), 1) is None
    assert facts.is_conditional(Insn(0x15)) and not facts.is_conditional(Insn(0x05))


VERSIONS = [
    ("r1 = r2", 1, (3, 18)),
    ("r1 = be16 r1", 1, (3, 18)),
    ("if r1 s> 3 goto +0", 1, (3, 18)),
    ("lock *(u64 *)(r1 + 0) += r2", 1, (3, 18)),
    ("r0 = *(u16 *)skb[12]", 1, (3, 18)),
    ("if r1 < 3 goto +0", 2, (4, 14)),
    ("if r1 s<= r2 goto +0", 2, (4, 14)),
    ("call pc+0", 1, (4, 16)),
    ("w1 += w2", 3, (3, 18)),
    ("if w1 == 3 goto +0", 3, (5, 1)),
    ("r1 = map[id:3][0]+8", 1, (5, 2)),
    ("lock *(u64 *)(r1 + 0) |= r2", 3, (5, 12)),
    ("r2 = atomic64_fetch_add((u64 *)(r1 + 0), r2)", 3, (5, 12)),
    ("call kernel-function#5", 1, (5, 13)),
    ("r1 = subprog[+0]", 1, (5, 13)),
    ("r1 = (s8)r2", 4, (6, 6)),
    ("r1 = *(s16 *)(r2 + 0)", 4, (6, 6)),
    ("r1 = bswap64 r1", 4, (6, 6)),
    ("w1 s/= w2", 4, (6, 6)),
    ("r1 s%= 5", 4, (6, 6)),
    ("gotol +0", 4, (6, 6)),
    ("may_goto +0", 4, (6, 9)),
    ("r1 = addr_space_cast(r2, 0, 1)", 4, (6, 9)),
    ("r1 = load_acquire((u8 *)(r2 + 0))", 4, (6, 15)),
    ("callx r1", 1, None),
]


@pytest.mark.parametrize(("text", "version", "since"), VERSIONS)
def test_versions(text: str, version: int, since: tuple[int, int] | None) -> None:
    insn = assemble(text)[0]
    assert facts.version(insn) == version
    assert facts.since(insn) == since
