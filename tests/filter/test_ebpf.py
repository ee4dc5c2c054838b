"""Classic code as extended code, without a kernel: the machine's verdict against libpcap's."""

from __future__ import annotations

import random
import struct
from collections.abc import Sequence
from typing import Any

import pytest

from skep.errors import VerifierError
from skep.filter.ebpf import Verdict, translate
from skep.isa import Insn, classic, validate
from skep.isa import opcodes as op
from skep.isa.classic import ClassicInsn
from skep.vm import Machine
from skep.vm import classic as reference
from tests.support import classics, directed, libpcap

SEED = directed.seed(1)
RET_A = ClassicInsn(classic.BPF_RET | classic.BPF_A)


def ancillary(what: int) -> ClassicInsn:
    return ClassicInsn(classic.BPF_LD | classic.BPF_ABS, k=(classic.SKF_AD_OFF + what) & 0xFFFFFFFF)


def skb(length: int, fields: dict[int, int] | None = None) -> bytearray:
    """A struct __sk_buff whose ``len`` is ``length``; ``fields`` are 32-bit words by offset."""
    ctx = bytearray(192)
    struct.pack_into("=I", ctx, 0, length)
    for offset, value in (fields or {}).items():
        struct.pack_into("=I", ctx, offset, value)
    return ctx


def verdict_of(insns: Sequence[Insn]) -> directed.Verdict:
    machine = Machine(insns, bytearray())

    def verdict(packet: bytes, wirelen: int) -> int:
        machine.reset(skb(wirelen), packet=packet)
        return machine.run()

    return verdict


def compiled(expression: str, optimize: bool = True, linktype: int = 1) -> list[ClassicInsn]:
    insns, error = libpcap.compile(expression, linktype, optimize=optimize)
    assert insns is not None, f"{expression}: {error}"
    return [ClassicInsn(*quad) for quad in insns]


@pytest.mark.oracle
@pytest.mark.parametrize("optimize", [True, False], ids=["optimised", "plain"])
@pytest.mark.parametrize("expression", classics.EXPRESSIONS)
def test_skb_form_decides_as_libpcap(expression: str, optimize: bool) -> None:
    program = compiled(expression, optimize)
    extended = translate(program)
    validate(extended, linux=True)
    expected, got = libpcap.Filter(program), verdict_of(extended)
    matched = 0
    for packet in classics.packets(expression, program, SEED, 60):
        want = expected(*packet)
        matched += want > 0
        assert got(*packet) == want, packet
    assert matched, "no packet was directed at a match"


@pytest.mark.oracle
def test_random_programs_by_both_rules() -> None:
    """libpcap's rules against libpcap; where offsets do not wrap and shifts stay below 32, Linux's too."""
    rng = random.Random(SEED)
    nonzero = 0
    for number in range(600):
        program = classics.generate(rng)
        packet = rng.randbytes(rng.choice((0, 1, 20, 40, 60, 300)))
        want = libpcap.Filter(program)(packet)
        assert reference.run(program, packet) == want
        got = verdict_of(translate(program, rules="pcap"))(packet, len(packet))
        assert got == want, (SEED, number, program, packet)
        nonzero += want > 0
    assert nonzero > 90


def test_rules_differ_where_documented() -> None:
    ldx = ClassicInsn(classic.BPF_LDX | classic.BPF_IMM, k=0xFFFFFFFC)
    wrapping = [ldx, ClassicInsn(classic.BPF_LD | classic.BPF_IND | classic.BPF_B, k=6), RET_A]
    packet = bytes(range(1, 20))
    assert verdict_of(translate(wrapping, rules="linux"))(packet, 19) == 3
    assert verdict_of(translate(wrapping, rules="pcap"))(packet, 19) == 0
    shift = [
        ClassicInsn(classic.BPF_LDX | classic.BPF_IMM, k=33),
        ClassicInsn(classic.BPF_LD | classic.BPF_IMM, k=5),
        ClassicInsn(classic.BPF_ALU | classic.BPF_LSH | classic.BPF_X),
        RET_A,
    ]
    assert verdict_of(translate(shift, rules="linux"))(b"", 0) == 10
    assert verdict_of(translate(shift, rules="pcap"))(b"", 0) == 0


@pytest.mark.parametrize(
    ("what", "offset", "word", "value"),
    [
        (classic.SKF_AD_PROTOCOL, 16, 0x0008, 0x0800),
        (classic.SKF_AD_PKTTYPE, 4, 4, 4),
        (classic.SKF_AD_IFINDEX, 40, 7, 7),
        (classic.SKF_AD_MARK, 8, 0xDEADBEEF, 0xDEADBEEF),
        (classic.SKF_AD_QUEUE, 12, 3, 3),
        (classic.SKF_AD_RXHASH, 68, 0x12345678, 0x12345678),
        (classic.SKF_AD_VLAN_TAG, 24, 0x2064, 0x2064),
        (classic.SKF_AD_VLAN_TAG_PRESENT, 20, 1, 1),
        (classic.SKF_AD_VLAN_TPID, 28, 0x0081, 0x8100),
    ],
)
def test_ancillary_fields(what: int, offset: int, word: int, value: int) -> None:
    """Fields of struct __sk_buff; those in network order are given as a little-endian host reads them."""
    if struct.pack("=H", 1)[0] == 0 and word != value:
        word = value
    program = [
        ClassicInsn(
            classic.BPF_LD | classic.BPF_ABS | classic.BPF_W, k=(classic.SKF_AD_OFF + what) & 0xFFFFFFFF
        ),
        RET_A,
    ]
    machine = Machine(translate(program), skb(60, {offset: word}), packet=bytes(60))
    assert machine.run() == value == reference.run(program, bytes(60), ancillary={what: value})


def test_ancillary_helpers_and_xor() -> None:
    program = [
        ClassicInsn(classic.BPF_LDX | classic.BPF_IMM, k=0xFF),
        ancillary(classic.SKF_AD_CPU),
        ancillary(classic.SKF_AD_ALU_XOR_X),
        RET_A,
    ]
    helpers = {8: lambda *_: 5, 7: lambda *_: 9}
    assert Machine(translate(program), skb(0), helpers=helpers).run() == 0xFA
    program[1] = ancillary(classic.SKF_AD_RANDOM)
    assert Machine(translate(program), skb(0), helpers=helpers).run() == 0xF6


@pytest.mark.parametrize("form", ["skb", "direct"])
@pytest.mark.parametrize("what", [classic.SKF_AD_NLATTR, classic.SKF_AD_HATYPE, classic.SKF_AD_PAY_OFFSET])
def test_what_has_no_equivalent_is_refused(form: str, what: int) -> None:
    k = (classic.SKF_AD_OFF + what) & 0xFFFFFFFF
    program = [
        ClassicInsn(classic.BPF_LD | classic.BPF_ABS, k=k),
        RET_A,
    ]
    with pytest.raises(VerifierError, match=r"insn 0: ancillary load SKF_AD_\w+ has no equivalent"):
        translate(program, form=form)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ([], "empty"),
        ([ClassicInsn(0xFFFF)], "opcode 0xffff is not classic BPF"),
        ([ClassicInsn(classic.BPF_LD | classic.BPF_IMM)], "falls off the end"),
        ([ClassicInsn(classic.BPF_JMP | classic.BPF_JA, k=5)], "jumps to 6"),
        ([ClassicInsn(classic.BPF_JMP | classic.BPF_JEQ, 0, 9), ClassicInsn(6)], "jumps to 10"),
        ([ClassicInsn(classic.BPF_ST, k=16), ClassicInsn(6)], r"M\[16\] does not exist"),
        ([ClassicInsn(classic.BPF_ALU | classic.BPF_DIV), ClassicInsn(6)], "division by zero"),
        ([ClassicInsn(classic.BPF_ALU | classic.BPF_LSH, k=32), ClassicInsn(6)], "shift by 32"),
    ],
)
def test_illegal_code_is_refused(program: list[ClassicInsn], message: str) -> None:
    with pytest.raises(VerifierError, match=message):
        translate(program)


def test_scratch_memory_reads_as_zero_before_it_is_written() -> None:
    program = [
        ClassicInsn(classic.BPF_LD | classic.BPF_MEM, k=3),
        RET_A,
    ]
    extended = translate(program)
    assert Insn(op.BPF_ST | op.BPF_MEM | op.BPF_DW, 10, 0, -32) in extended  # Linux's stacks are not zeroed
    assert Machine(extended, skb(0)).run() == 0


@pytest.mark.parametrize("length", [100, 9_000, 40_000])
def test_jumps_of_any_length(length: int) -> None:
    """A chain of tests with one far target; beyond 32,767 slots jumps become gotol."""
    program = [ClassicInsn(classic.BPF_LD | classic.BPF_ABS | classic.BPF_B, k=0)]
    while len(program) < length - 2:
        program.append(ClassicInsn(classic.BPF_JMP | classic.BPF_JEQ, 0, 1, len(program) & 0xFF | 0x100))
        program.append(ClassicInsn(classic.BPF_JMP | classic.BPF_JA, k=length - 2 - len(program)))
    program.append(ClassicInsn(classic.BPF_RET, k=7))
    extended = translate(program)
    validate(extended, linux=True)
    assert any(insn.opcode == op.GOTOL for insn in extended) == (len(extended) > 0x8000)
    assert verdict_of(extended)(b"\x05", 1) == 7
    assert verdict_of(extended)(b"", 0) == 0


def test_far_conditional_jumps() -> None:
    """Classic jumps reach 255 instructions, but an indexed load may take six slots: over and back again."""
    from skep.filter.ebpf_code import Code

    for opcode in (op.BPF_JEQ, op.BPF_JGT, op.BPF_JGE, op.BPF_JSET):
        for taken in (False, True):
            code = Code()
            code.op(op.BPF_ALU64 | op.BPF_MOV, 0, imm=6 if taken else 0)
            code.jump(op.BPF_JMP | opcode, 1, 0, imm=6)
            code.op(op.BPF_ALU64 | op.BPF_MOV, 0, imm=1)
            code.exit()
            for _ in range(40_000):
                code.op(op.BPF_ALU64 | op.BPF_ADD, 0, imm=1)
            code.label(1)
            code.op(op.BPF_ALU64 | op.BPF_MOV, 0, imm=2)
            code.exit()
            insns = code.assemble()
            hit = {op.BPF_JGT: False}.get(opcode, taken)
            assert Machine(insns).run() == (2 if hit else 1), (opcode, taken)


def test_direct_form_merges_comparisons() -> None:
    """`tcp port 80` over IPv4 and IPv6: one comparison where each way forks, not one a load."""
    program = compiled("tcp port 80")
    extended = translate(program, form="direct")
    loads = sum(insn.code & 7 <= 1 and insn.code & 0xE0 in (0x20, 0x40, 0xA0) for insn in program)
    comparisons = sum(
        insn.opcode == op.BPF_JMP | op.BPF_JGT | op.BPF_X and insn.src == 9 for insn in extended
    )
    assert loads == 9
    assert comparisons <= 5


def test_direct_form_parameters() -> None:
    program = compiled("arp")
    drop = translate(program, form="direct", verdict=Verdict(1, 2))
    assert {insn.imm for insn in drop if insn.opcode == op.BPF_ALU | op.BPF_MOV} >= {1, 2}
    assert 262144 not in {insn.imm for insn in drop}
    with pytest.raises(VerifierError, match="rules"):
        translate(program, form="direct", rules="linux")
    with pytest.raises(VerifierError, match="direct"):
        translate(program, verdict=Verdict(1, 2))
    with pytest.raises(VerifierError, match="kprobe"):
        translate(program, form="direct", prog_type="kprobe")  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "value"), [("form", "xdp"), ("rules", "bsd")])
def test_unknown_forms_are_refused(name: str, value: str) -> None:
    options: dict[str, Any] = {name: value}
    with pytest.raises(VerifierError, match=f"^{name} is '.*' or '.*', not '{value}'"):
        translate([ClassicInsn(6, 0, 0, 0)], **options)
