"""Indirect jumps: tables of instructions, and where a jump through one may lead (Linux 6.19).

The messages are those of Linux 7.3's own tests (verifier_gotox), whose 28 programs get the same verdicts.
"""

from __future__ import annotations

import pytest

from skep.errors import VerifierError
from skep.isa import Insn
from skep.isa import opcodes as op
from skep.uapi.enums import MapType
from skep.verifier import MapFacts, Subject, check

MOV = op.BPF_ALU64 | op.BPF_MOV
ADD = op.BPF_ALU64 | op.BPF_ADD
LOAD = op.BPF_LDX | op.BPF_MEM | op.BPF_DW
NARROW = op.BPF_LDX | op.BPF_MEM | op.BPF_W
GOTOX = op.BPF_JMP | op.BPF_JA | op.BPF_X
RANDOM = 7
READ_ONLY = 1 << 7


def table(*slots: int) -> MapFacts:
    return MapFacts("t", MapType.INSN_ARRAY, 4, 16, len(slots), READ_ONLY, table=slots)


def address(register: int, offset: int = 0) -> list[Insn]:
    """The table's address in ``register``: two slots."""
    return [Insn(op.LD_IMM64, register, 2, 0, 0), Insn(0, imm=offset)]


#: slots 0 to 3, and two cases at 4 and 6; the second returns more
CASES = [Insn(MOV, 0, imm=1), Insn(op.EXIT), Insn(MOV, 0, imm=2), Insn(op.EXIT)]


def said(insns: list[Insn], *maps: MapFacts, kernel: str = "7.3") -> str:
    """The refusal's first line, "" for accepted."""
    try:
        check(Subject.from_insns(insns, maps=maps), kernel=kernel)
    except VerifierError as error:
        return error.reason
    return ""


def jump(offset: int = 0, load: Insn | None = None) -> list[Insn]:
    return [*address(1, offset), load or Insn(LOAD, 1, 1), Insn(GOTOX, 1), *CASES]


def test_a_jump_through_a_table() -> None:
    verdict = check(Subject.from_insns(jump(8), maps=[table(4, 6)]), kernel="6.19", log_level=2)
    assert "(0d) gotox r1" in verdict.log
    assert "R1=insn(" in verdict.log
    assert verdict.processed == 5  # one case alone


def test_before_there_were_any() -> None:
    text = said(jump(), table(4, 6), kernel="6.18")
    assert text == "indirect jumps are unknown (Linux 6.19 has them)"


def test_an_entry_that_is_not_known_leads_to_each() -> None:
    code = [
        Insn(op.CALL, imm=RANDOM),
        Insn(op.BPF_ALU64 | op.BPF_AND, 0, imm=8),
        *address(1),
        Insn(ADD | op.BPF_X, 1, 0),
        Insn(LOAD, 1, 1),
        Insn(GOTOX, 1),
        *CASES,
    ]
    verdict = check(Subject.from_insns(code, maps=[table(7, 9)]), kernel="7.3")
    assert verdict.processed == 6 + 4
    code[9] = Insn(LOAD, 0, 5)
    assert said(code, table(7, 9)) == "R5 !read_ok"
    code[1] = Insn(op.BPF_ALU64 | op.BPF_AND, 0, imm=24)
    assert said(code, table(7, 9)).startswith("invalid access to map value, value_size=16 off=24 size=8")


#: the address is moved after it was loaded
MOVED = [*jump()[:3], Insn(ADD, 1, imm=8), Insn(GOTOX, 1), Insn(MOV, 0), Insn(op.EXIT)]


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (jump(load=Insn(MOV, 1, imm=42)), "R1 has type scalar, expected PTR_TO_INSN"),
        (
            jump(load=Insn(op.BPF_LDX | op.BPF_MEM | op.BPF_W, 1, 1)),
            "Invalid read of 4 bytes from insn_array",
        ),
        (jump(load=Insn(LOAD, 1, 1, 1)), "misaligned value access off 0+0+1 size 8"),
        (jump(load=Insn(LOAD, 1, 1, 16)), "invalid access to map value, value_size=16 off=16 size=8"),
        (jump(16), "invalid access to map value pointer, value_size=16 off=16"),
        (jump(4), "invalid access to map value pointer, value_size=16 off=4"),
        (
            jump(load=Insn(op.BPF_ST | op.BPF_MEM | op.BPF_DW, 1)),
            "write into map forbidden, value_size=16 off=0 size=8",
        ),
        (MOVED, "R1 pointer arithmetic on insn prohibited"),
        ([*jump()[:3], Insn(GOTOX, 1, 0, 1), *CASES], "BPF_JA|BPF_X uses reserved fields"),
        ([Insn(GOTOX, 1), *CASES], "no jump tables found for subprog starting at 0"),
    ],
    ids=["number", "narrow", "misaligned", "beyond", "far", "between", "store", "sum", "reserved", "none"],
)
def test_what_is_refused(code: list[Insn], text: str) -> None:
    assert said(code, table(4, 6) if code is not MOVED else table(5)) == text


def test_tables_name_instructions() -> None:
    for slots in ((4, 9), (4, 1), (4,)):
        row = table(*slots)
        row.max_entries = 2
        assert said(jump(), row) == "Failed to properly initialize insn array"


def test_tables_stay_in_their_function() -> None:
    code = [*jump(), Insn(MOV, 0, imm=1), Insn(op.EXIT)]
    code[4] = Insn(op.CALL, src=1, imm=3)
    text = said(code, table(4, 8))
    assert text == "jump table for insn 3 points outside of the subprog [0,8]"


def test_a_jump_back_for_ever() -> None:
    text = said([*address(1), Insn(LOAD, 1, 1), Insn(GOTOX, 1), *CASES], table(2, 6), kernel="7.3")
    assert text  # a load from an instruction: no state is like the one before
    code = [*address(2), Insn(LOAD, 1, 2), Insn(GOTOX, 1)]
    assert said(code, table(2)) == "infinite loop detected at insn 3"
