"""Straight code in the control flow: marks of stack pass it in one step, so nothing else may lie in it."""

from __future__ import annotations

from skep.isa import opcodes as op
from skep.isa.ebpf import Insn
from skep.uapi.enums import ProgType
from skep.verifier import Subject
from skep.verifier.cfg import analyse, check_cfg
from skep.verifier.decode import decode
from skep.verifier.env import Env
from skep.verifier.subprogs import find_subprogs

MOV = op.BPF_ALU64 | op.BPF_MOV
JEQ = op.BPF_JMP | op.BPF_JEQ
JA = op.BPF_JMP | op.BPF_JA
EXIT = Insn(op.BPF_JMP | op.BPF_EXIT, 0, 0, 0, 0)


def _tops(*code: Insn) -> list[int]:
    env = Env(Subject.from_insns(list(code), ProgType.SOCKET_FILTER))
    find_subprogs(env)
    env.code = decode(env)
    check_cfg(env)
    analyse(env)
    return env.subprogs[0].tops


def test_a_jump_over_an_instruction_is_no_straight_code() -> None:
    tops = _tops(
        Insn(MOV, 0, 0, 0, 0),
        Insn(JEQ, 1, 0, 1, 0),  # to 3
        Insn(JA, 0, 0, 1, 0),  # to 4, which nothing else leads to
        Insn(JA, 0, 0, 1, 0),  # to 5
        Insn(MOV, 0, 0, 0, 1),
        EXIT,
    )
    assert tops == [0, 0, 2, 3, 4, 5]


def test_an_immediate_of_two_slots_is_straight_code() -> None:
    tops = _tops(
        Insn(MOV, 1, 0, 0, 0),
        Insn(op.LD_IMM64, 0, 0, 0, 7),
        Insn(0, 0, 0, 0, 0),
        Insn(MOV, 2, 0, 0, 0),
        EXIT,
    )
    assert tops == [0, 0, 2, 0, 0]
