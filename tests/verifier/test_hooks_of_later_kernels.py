"""What changed for hooks that need LSM or fentry: our verdicts, which are those of emulated kernels."""

from __future__ import annotations

import pytest

from skep.isa import Insn
from skep.isa import opcodes as op
from skep.uapi.enums import AttachType, ProgType
from tests.support import oracles
from tests.verifier.harness.cases import parse
from tests.verifier.harness.kernel import kernel_types
from tests.verifier.harness.ours import judge
from tests.verifier.harness.question import Question

LOAD = op.BPF_LDX | op.BPF_MEM | op.BPF_DW


@pytest.mark.parametrize(("kernel", "accepted"), [("6.12", True), ("6.18", False), ("7.2", False)])
def test_a_dentry_may_have_no_inode(kernel: str, accepted: bool) -> None:
    """Since 6.17 (bpf: Mark dentry->d_inode as trusted_or_null)."""
    oracles.bpf()
    types = kernel_types()
    dentry = types[types.require("dentry", 4)]
    offset = next(member[2] for member in dentry[3] if member[0] == "d_inode") // 8
    insns = [
        Insn(LOAD, 1, 1, 24),
        Insn(LOAD, 1, 1, offset),
        Insn(op.BPF_LDX | op.BPF_MEM | op.BPF_H, 1, 1, 0),  # i_mode
        Insn(op.BPF_ALU64 | op.BPF_MOV, 0),
        Insn(op.EXIT),
    ]
    answer = judge(Question(insns, ProgType.LSM, AttachType.LSM_MAC, attach_to="inode_rename"), kernel=kernel)
    assert answer.accepted is accepted, answer.reason
    if not accepted:
        assert answer.first == "R1 invalid mem access 'trusted_ptr_or_null_'"


TIMER = """
type: tracing trace_fentry bpf_fentry_test1
flags: 16
btf: struct v { struct bpf_timer t; };
map: m array 4 v 1
pre: r6=value(m)
code:
    r1 = r6
    r2 = map m
    r3 = 1
    call bpf_timer_init
    r1 = r6
    r2 = func cb
    call bpf_timer_set_callback
    r0 = 0
    exit
  fn static int cb(void *map, int *key, struct v *value):
    r1 = r10
    r1 += -8
    r2 = 8
    r3 = 0
    call bpf_copy_from_user
    r0 = 0
    exit
post: reject sleep
"""


@pytest.mark.parametrize(
    ("kernel", "reason"),
    [
        ("6.18", "helper call might sleep in a non-sleepable prog"),
        ("7.2", "sleepable helper bpf_copy_from_user#148 in non-sleepable prog"),
    ],
)
def test_a_timer_of_a_program_that_sleeps_does_not(kernel: str, reason: str) -> None:
    oracles.bpf()
    question = parse("a timer that sleeps", TIMER.splitlines()[1:]).question
    assert judge(question, kernel=kernel).first == reason
