"""The eBPF grammars by hand: spellings, labels, constants, errors and their places."""

from __future__ import annotations

import re

import pytest

from skep.asm import assemble
from skep.errors import AsmError
from skep.isa import Insn
from tests.support.oracles import ROOT

#: spellings of one instruction
SAME = [
    (
        Insn(0xB7, 0, 0, 0, 5),
        ["r0 = 5", "r0 = 0x5", "mov r0, 5", "mov64 r0, 5", "mov %r0, 0x5", "(b7) r0 = 5", "R0 = 0b101"],
    ),
    (Insn(0xB4, 3, 0, 0, -1), ["w3 = -1", "w3 = 0xffffffff", "w3 = 4294967295", "mov32 r3, -1"]),
    (Insn(0xBF, 1, 2), ["r1 = r2", "mov r1, r2", "mov %r1, %r2", "12: (bf) r1 = r2"]),
    (Insn(0xBC, 1, 2), ["w1 = w2", "r1 = w2", "mov32 r1, r2"]),
    (Insn(0xBF, 1, 2, 8), ["r1 = (s8)r2", "r1 = (s8) r2", "movsx864 r1, r2"]),
    (Insn(0xBC, 1, 2, 16), ["w1 = (s16)w2", "movsx1632 r1, r2"]),
    (Insn(0x0F, 1, 2), ["r1 += r2", "add r1, r2", "add64 %r1, %r2"]),
    (Insn(0x14, 1, 0, 0, 7), ["w1 -= 7", "sub32 r1, 7"]),
    (Insn(0xC7, 1, 0, 0, 3), ["r1 s>>= 3", "arsh r1, 3"]),
    (Insn(0x3F, 1, 2, 1), ["r1 s/= r2", "sdiv r1, r2"]),
    (Insn(0x94, 1, 0, 1, 9), ["w1 s%= 9", "smod32 r1, 9"]),
    (Insn(0x87, 4), ["r4 = -r4", "neg r4", "neg64 %r4"]),
    (Insn(0xDC, 4, 0, 0, 16), ["r4 = be16 r4", "be16 r4", "be16 %r4"]),
    (Insn(0xD7, 4, 0, 0, 32), ["r4 = bswap32 r4", "swap32 r4", "bswap32 r4"]),
    (
        Insn(0x61, 1, 2, 4),
        [
            "r1 = *(u32 *)(r2 + 4)",
            "r1 = *(u32 *)(r2 +4)",
            "w1 = *(u32*)(r2+0x4)",
            "ldxw r1, [r2+4]",
            "ldxw %r1, [%r2 + 4]",
        ],
    ),
    (Insn(0x91, 1, 2, -4), ["r1 = *(s8 *)(r2 - 4)", "r1 = *(s8 *)(r2 -4)", "ldxsb r1, [r2-4]"]),
    (
        Insn(0x7B, 10, 3, -8),
        ["*(u64 *)(r10 - 8) = r3", "*(u64 *)(r10 -8) = r3", "stxdw [r10-8], r3", "stxdw [%r10-0x8], %r3"],
    ),
    (Insn(0x6A, 1, 0, 0, 7), ["*(u16 *)(r1 + 0) = 7", "*(u16 *)(r1) = 7", "sth [r1], 7"]),
    (
        Insn(0xDB, 1, 2, 0, 0),
        ["lock *(u64 *)(r1 + 0) += r2", "lock add [r1+0], r2", "lock add [%r1], %r2", "stxxadddw [r1], r2"],
    ),
    (
        Insn(0xC3, 1, 2, 8, 0x41),
        [
            "w2 = atomic_fetch_or((u32 *)(r1 + 8), w2)",
            "r2 = atomic_fetch_or((u32 *)(r1 +8), r2)",
            "lock fetch or32 [r1+8], r2",
        ],
    ),
    (
        Insn(0xDB, 1, 2, 8, 0xE1),
        ["r2 = xchg_64(r1 + 8, r2)", "r2 = atomic64_xchg((u64 *)(r1 +8), r2)", "lock xchg [r1+8], r2"],
    ),
    (
        Insn(0xC3, 1, 2, 8, 0xF1),
        [
            "w0 = cmpxchg32_32(r1 + 8, w0, w2)",
            "r0 = atomic_cmpxchg((u32 *)(r1 +8), r0, r2)",
            "lock cmpxchg32 [r1+8], r2",
        ],
    ),
    (Insn(0xD3, 1, 2, 8, 0x100), ["w1 = load_acquire((u8 *)(r2 + 8))", "r1 = load_acquire((u8 *)(r2 +8))"]),
    (Insn(0xDB, 1, 2, 8, 0x110), ["store_release((u64 *)(r1 + 8), r2)"]),
    (Insn(0x30, 0, 0, 0, 12), ["r0 = *(u8 *)skb[12]", "r0 = *(u8 *)skb[0xc]", "ldabsb 12"]),
    (Insn(0x48, 0, 7, 0, -2), ["r0 = *(u16 *)skb[r7 + -2]", "r0 = *(u16 *)skb[r7 - 2]", "ldindh r7, -2"]),
    (Insn(0x05, 0, 0, 3), ["goto +3", "goto pc+3", "ja +3", "goto +0x3 <.text+0x20>"]),
    (Insn(0x06, 0, 0, 0, -3), ["gotol -3", "gotol pc-3", "ja32 -3"]),
    (Insn(0xE5, 0, 0, 4), ["may_goto +4", "may_goto pc+4"]),
    (Insn(0x65, 1, 0, 3, 5), ["if r1 s> 5 goto +3", "if r1 s> 0x5 goto pc+3", "jsgt r1, 5, +3"]),
    (Insn(0x4E, 1, 2, -1), ["if w1 & w2 goto -1", "jset32 r1, r2, -1"]),
    (Insn(0x15, 1, 0, 0, -5), ["if r1 == -5 goto +0", "if r1 == 0xfffffffb goto pc+0", "jeq %r1, -5, +0"]),
    (
        Insn(0x85, 0, 0, 0, 1),
        [
            "call 1",
            "call 0x1",
            "call bpf_map_lookup_elem",
            "call bpf_map_lookup_elem#1",
            "call unknown#1",
            "call helper 1",
        ],
    ),
    (Insn(0x85, 0, 1, 0, 3), ["call pc+3", "call local +3"]),
    (Insn(0x85, 0, 2, 0, 99), ["call kernel-function#99", "call runtime 99"]),
    (Insn(0x8D, 2), ["callx r2", "call r2", "call %r2"]),
    (Insn(0x95), ["exit", "  exit  ; done", "exit # done", "exit // done", "/* a */ exit /* b */", "EXIT"]),
    (Insn(0xBF, 1, 2, 1, 1), ["r1 = addr_space_cast(r2, 0, 1)", "r1 = addr_space_cast(r2, 0x0, 0x1)"]),
]

WIDE = [
    (
        (Insn(0x18, 1, 0, 0, 0x55667788), Insn(0, imm=0x11223344)),
        ["r1 = 0x1122334455667788 ll", "lddw r1, 0x1122334455667788", "(18) r1 = 0x1122334455667788"],
    ),
    (
        (Insn(0x18, 1, 0, 0, -1), Insn(0, imm=-1)),
        ["r1 = -1 ll", "lddw r1, -1", "r1 = 18446744073709551615 ll"],
    ),
    (
        (Insn(0x18, 1, 1, 0, 5), Insn(0)),
        ["r1 = map[id:5]", "r1 = map[fd 5]", "r1 = map[5]", "ld_pseudo r1, 1, 5"],
    ),
    ((Insn(0x18, 1, 2, 0, 5), Insn(0, imm=16)), ["r1 = map[id:5][0]+16", "r1 = map[fd 5] + 16"]),
    ((Insn(0x18, 1, 6, 0, 5), Insn(0, imm=16)), ["r1 = map[idx:5]+16"]),
    ((Insn(0x18, 1, 4, 0, 5), Insn(0)), ["r1 = subprog[+5]"]),
]


@pytest.mark.parametrize(("insn", "spellings"), SAME)
def test_spellings(insn: Insn, spellings: list[str]) -> None:
    for text in spellings:
        assert assemble(text) == [insn], text


@pytest.mark.parametrize(("insns", "spellings"), WIDE)
def test_wide_spellings(insns: tuple[Insn, Insn], spellings: list[str]) -> None:
    for text in spellings:
        assert assemble(text) == list(insns), text


def test_labels_count_slots() -> None:
    program = assemble(
        """
        start: r1 = 7 ll        ; two slots
        if r1 > 3 goto done
        goto start
    other:
    done:
        call func
        r2 = subprog[func]
        gotol other
        exit
    func: r0 = 1
        exit
        """
    )
    assert program[2] == Insn(0x25, 1, 0, 1, 3)
    assert program[3] == Insn(0x05, off=-4)
    assert program[4] == Insn(0x85, src=1, imm=4)
    assert program[5].src == 4 and program[5].imm == 3
    assert program[7] == Insn(0x06, imm=-4)


def test_the_first_exit_is_a_label_unless_one_is_defined() -> None:
    assert assemble("jeq r0, 0, exit\nmov r0, 1\nexit\nexit")[0].off == 1
    assert assemble("jeq r0, 0, exit\nexit\nexit:\nexit")[0].off == 1


def test_a_far_label_needs_gotol() -> None:
    filler = "r0 = r0\n" * 40_000
    with pytest.raises(AsmError, match="use gotol"):
        assemble(f"goto end\n{filler}end: exit")
    assert assemble(f"gotol end\n{filler}end: exit")[0].imm == 40_000


def test_constants_and_slots() -> None:
    assert assemble(".equ SIZE, 0x10\nr1 = SIZE\nr2 += -SIZE\n.slot 0xff, 1, 2, -3, 4") == [
        Insn(0xB7, 1, imm=16), Insn(0x07, 2, imm=-16), Insn(0xFF, 1, 2, -3, 4),
    ]  # fmt: skip


def test_pasted_listings() -> None:
    objdump = "0000000000000000 <f>:\n       0:\tb7 00 00 00 05 00 00 00\tr0 = 0x5\n       1:\texit\n"
    assert assemble(objdump) == [Insn(0xB7, imm=5), Insn(0x95)]
    assert assemble("9: (85) call bpf_ktime_get_ns#5       ; R0_w=scalar()") == [Insn(0x85, imm=5)]


@pytest.mark.parametrize(
    ("text", "line", "column", "words"),
    [
        ("r11 = 5", 1, 0, "expected an instruction"),
        ("r0 = r11", 1, 5, "expected a number"),
        ("r0 = 1\nr0 == 2", 2, 3, "expected = or"),
        ("r0 += w1", 1, 6, "same width"),
        ("w0 += r1", 1, 6, "same width"),
        ("r1 = -r2", 1, 5, "one register"),
        ("r1 = be16 r2", 1, 5, "one register"),
        ("r0 = 4294967295", 1, 5, "add `ll`"),
        ("r0 = 0x100000000", 1, 5, "add `ll`"),
        ("r0 += 2147483648", 1, 6, "signed 32 bits"),
        ("w0 = 5 ll", 1, 5, "64-bit register"),
        ("r0 = 0x10000000000000000 ll", 1, 5, "64 bits"),
        ("r1 = *(u24 *)(r2 + 0)", 1, 7, "expected a type"),
        ("r1 = *(u32 *)(r2 + 40000)", 1, 17, "16 bits"),
        ("r1 = *(u32 *)(w2 + 0)", 1, 14, "expected r2"),
        ("*(u32 *)(r1 + 0 = 5", 1, 16, "expected ')'"),
        ("if r1 ~ 3 goto +1", 1, 6, "means nothing"),
        ("if r1 = 3 goto +1", 1, 6, "expected a comparison"),
        ("if r1 == 3 go +1", 1, 11, "expected 'goto'"),
        ("if r1 == 3 goto", 1, 15, "expected a label"),
        ("goto nowhere", 1, 5, "no label nowhere"),
        ("goto +40000", 1, 5, "16 bits"),
        ("a: exit\na: exit", 2, 0, "defined twice"),
        ("lock *(u64 *)(r1 + 0) -= r2", 1, 22, "expected an atomic"),
        ("r3 = atomic_fetch_add((u64 *)(r1 + 0), r2)", 1, 39, "comes back"),
        ("r1 = frobnicate(r2)", 1, 5, "no operation"),
        ("ldxw r1, r2", 1, 9, "expected '['"),
        ("add r1", 1, 6, "expected ','"),
        ("add r1, 2, 3", 1, 9, "end of the instruction"),
        ("movsx832 r1, 5", 1, 13, "expected a register"),
        (".bogus 1", 1, 0, "not known"),
        (".slot 300, 0, 0, 0, 0", 1, 6, "an opcode"),
        ("exit #@ imm=x", 1, 4, "FIELD=NUMBER"),
        ("exit /* open", 1, 0, "never closed"),
        ('r1 = "x"', 1, 5, "means nothing"),
        ("{ .code = 256 },", 1, 2, "outside 0 to 255"),
    ],
)
def test_errors_say_where(text: str, line: int, column: int, words: str) -> None:
    with pytest.raises(AsmError) as caught:
        assemble(text)
    assert (caught.value.line, caught.value.column) == (line, column), caught.value
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_examples_of_the_documentation() -> None:
    """Every row of docs/assembly.md's table is one instruction, the same in each column."""
    text = (ROOT / "docs" / "assembly.md").read_text()
    table = text[text.index("| move |") : text.index("\n\n", text.index("| move |"))]
    compared = 0
    for row in table.splitlines():
        columns = [re.findall(r"`([^`]+)`", cell) for cell in row.split("|")[2:-1]]
        for column in columns:
            for example in column:
                assemble(example + "\nlabel: exit")
        if all(len(column) == 1 for column in columns) and "r1, 5, +3" not in row:
            assert len({tuple(assemble(column[0])) for column in columns}) == 1, row
            compared += 1
    assert compared >= 8
