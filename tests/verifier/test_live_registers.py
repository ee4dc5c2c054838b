"""What counts as read and as written decides which states are alike, as Linux has it."""

from __future__ import annotations

import pytest

from skep.isa import opcodes as op
from skep.isa.ebpf import Insn
from skep.uapi.enums import ProgType
from skep.verifier import Subject, check
from tests.support import oracles
from tests.verifier.harness.kernel import lab
from tests.verifier.harness.ours import judge
from tests.verifier.harness.question import Question

MOV = op.BPF_ALU64 | op.BPF_MOV
JEQ = op.BPF_JMP | op.BPF_JEQ
LD_ABS = op.BPF_LD | op.BPF_ABS | op.BPF_B
LDX = op.BPF_LDX | op.BPF_MEM | op.BPF_W

STX = op.BPF_STX | op.BPF_MEM
CALL = op.BPF_JMP | op.BPF_CALL
LOAD_BYTES = 26  # bpf_skb_load_bytes

LOADS = [Insn(LD_ABS, 0, 0, 0, n) for n in range(5)]
#: r8 is written on one of two paths to a packet load, and nothing reads it
CODE = [
    Insn(MOV | op.BPF_X, 6, 1, 0, 0),
    Insn(LDX, 7, 6, 0, 0),
    *[Insn(MOV, 9, 0, 0, n) for n in range(8)],
    Insn(JEQ, 7, 0, 0, 1),
    Insn(JEQ, 7, 0, 1, 2),
    Insn(MOV, 8, 0, 0, 0),
    Insn(MOV, 9, 0, 0, 5),
    *LOADS,
    Insn(MOV, 0, 0, 0, 0),
    Insn(op.BPF_JMP | op.BPF_EXIT, 0, 0, 0, 0),
]

#: one path stores four bytes more; then a helper fills all eight, which are read
FILLED = [
    Insn(MOV | op.BPF_X, 6, 1, 0, 0),
    Insn(LDX, 7, 6, 0, 0),
    *[Insn(MOV, 9, 0, 0, n) for n in range(8)],
    Insn(STX | op.BPF_DW, 10, 7, -8, 0),
    Insn(STX | op.BPF_B, 10, 7, -7, 0),
    Insn(JEQ, 7, 0, 3, 0),
    Insn(JEQ, 7, 0, 2, 1),
    Insn(MOV, 9, 0, 0, 1),
    Insn(STX | op.BPF_W, 10, 9, -8, 0),
    Insn(MOV | op.BPF_X, 1, 6, 0, 0),
    Insn(MOV, 2, 0, 0, 0),
    Insn(MOV | op.BPF_X, 3, 10, 0, 0),
    Insn(op.BPF_ALU64 | op.BPF_ADD, 3, 0, 0, -8),
    Insn(MOV, 4, 0, 0, 8),
    Insn(CALL, 0, 0, 0, LOAD_BYTES),
    Insn(op.BPF_LDX | op.BPF_MEM | op.BPF_DW, 0, 10, -8, 0),
    Insn(op.BPF_JMP | op.BPF_EXIT, 0, 0, 0, 0),
]


def test_a_packet_load_reads_all() -> None:
    """Before 6.15 reads were noted while simulating: the second path ends where it meets the first."""
    counts = [
        check(Subject.from_insns(CODE, ProgType.SOCKET_FILTER), kernel=version).processed
        for version in ("6.12", "6.18")
    ]
    assert counts[1] - counts[0] == len(CODE) - CODE.index(LOADS[0])


def test_what_a_helper_fills_stays_live() -> None:
    """It counts as eight writes of a byte: the paths differ where they meet, and both go on."""
    assert check(Subject.from_insns(FILLED, ProgType.SOCKET_FILTER)).processed == len(FILLED) + 9


@pytest.mark.live
@pytest.mark.parametrize("code", [CODE, FILLED], ids=["packet load", "filled by a helper"])
def test_as_the_running_kernel_counts(code: list[Insn]) -> None:
    oracles.bpf()
    with lab() as live:
        assert judge(Question(code)).processed == live.ask(Question(code)).processed
