"""bpf_asm's language, by hand: words of the kernel's own documentation, numbers worked out by hand."""

from __future__ import annotations

import pytest

from skep.asm import assemble_classic
from skep.errors import AsmError
from skep.isa import ClassicInsn as I

ARP = """
ldh [12]
jne #0x806, drop
ret #-1
drop: ret #0
"""
RANDOM_ICMP = """
ldh [12]
jne #0x800, drop
ldb [23]
jneq #1, drop
# get a random uint32 number
ld rand
mod #4
jneq #1, drop
ret #-1
drop: ret #0
"""
SECCOMP = """
ld [4]                  /* offsetof(struct seccomp_data, arch) */
jne #0xc000003e, bad    /* AUDIT_ARCH_X86_64 */
ld [0]                  ; nr
jeq #15, good
jge #231, good, bad
bad: ret #0
good: ret #0x7fff0000
"""


def test_arp() -> None:
    assert assemble_classic(ARP) == [I(0x28, 0, 0, 12), I(0x15, 0, 1, 0x806), I(6, 0, 0, 0xFFFFFFFF), I(6)]


def test_ancillary_and_modulo() -> None:
    program = assemble_classic(RANDOM_ICMP)
    assert program[4] == I(0x20, 0, 0, 0xFFFFF038)
    assert program[5:7] == [I(0x94, 0, 0, 4), I(0x15, 0, 1, 1)]


def test_comments_and_two_labels() -> None:
    program = assemble_classic(SECCOMP)
    assert program[1] == I(0x15, 0, 3, 0xC000003E)
    assert program[3:5] == [I(0x15, 2, 0, 15), I(0x35, 1, 0, 231)]


@pytest.mark.parametrize(
    ("text", "insn"),
    [
        ("ld #5", I(0x00, 0, 0, 5)),
        ("ldi #5", I(0x00, 0, 0, 5)),
        ("ldi 5", I(0x00, 0, 0, 5)),
        ("ldxi #5", I(0x01, 0, 0, 5)),
        ("ld len", I(0x80)),
        ("ld #pktlen", I(0x80)),
        ("ldx #len", I(0x81)),
        ("ld M[3]", I(0x60, 0, 0, 3)),
        ("ldx M[3]", I(0x61, 0, 0, 3)),
        ("ld [x + 4]", I(0x40, 0, 0, 4)),
        ("ldb [%x+4]", I(0x50, 0, 0, 4)),
        ("ldh [x]", I(0x48)),
        ("ldx 4*([14]&0xf)", I(0xB1, 0, 0, 14)),
        ("ldxb 4*([14]&0xf)", I(0xB1, 0, 0, 14)),
        ("ld vlan_tci", I(0x20, 0, 0, 0xFFFFF02C)),
        ("ld #vlan_avail", I(0x20, 0, 0, 0xFFFFF030)),
        ("ldh [vlan_tpid]", I(0x28, 0, 0, 0xFFFFF03C)),
        ("st M[15]", I(0x02, 0, 0, 15)),
        ("stx M[0]", I(0x03)),
        ("add x", I(0x0C)),
        ("xor #0xff", I(0xA4, 0, 0, 255)),
        ("mod %x", I(0x9C)),
        ("neg", I(0x84)),
        ("tax", I(0x07)),
        ("txa", I(0x87)),
        ("ret a", I(0x16)),
        ("ret %a", I(0x16)),
        ("ret x", I(0x0E)),
        ("ret #-1", I(0x06, 0, 0, 0xFFFFFFFF)),
        ("RET #0X10", I(0x06, 0, 0, 16)),
    ],
)
def test_forms(text: str, insn: I) -> None:
    assert assemble_classic(text) == [insn]


def test_jumps_back_and_long() -> None:
    assert assemble_classic("top: ja top") == [I(0x05, 0, 0, 0xFFFFFFFF)]
    far = "jmp end\n" + "tax\n" * 1000 + "end: ret a"
    assert assemble_classic(far)[0] == I(0x05, 0, 0, 1000)


@pytest.mark.parametrize(
    ("text", "line", "column", "words"),
    [
        ("ldq [3]", 1, 0, "expected an instruction"),
        ("ret #1\nld [3", 2, 5, "expected ']'"),
        ("ldb #4", 1, 5, "expected [OFFSET]"),
        ("ld [bogus]", 1, 4, "no ancillary data"),
        ("jeq #1", 1, 6, "expected ','"),
        ("jeq #1, nowhere", 1, 8, "no label nowhere"),
        ("back: tax\njeq #1, back\nret a", 2, 8, "only go ahead"),
        ("jeq #1, end\n" + "tax\n" * 300 + "end: ret a", 1, 8, "over 255"),
        ("a: tax\na: txa", 2, 0, "defined twice"),
        ("ret #0x100000000", 1, 5, "out of 32 bits"),
        ("st M[16]", 1, 5, "words 0 to 15"),
        ("ldx 5*([14]&0xf)", 1, 4, "only 4*"),
        ("2\n6 0 0 0", 1, 0, "promises 2"),
        ("1\n6 0 300 0", 2, 0, "four numbers"),
        ("{ 0x28, 0, 0, }, { 0x6, 0, 256, 0 },", 1, 27, "outside 0 to 255"),
        ("{ .code = 6, .kk = 1 },", 1, 13, "no field .kk"),
        ("tax ~", 1, 4, "means nothing"),
        ("/* open", 1, 0, "never closed"),
    ],
)
def test_errors_say_where(text: str, line: int, column: int, words: str) -> None:
    with pytest.raises(AsmError) as caught:
        assemble_classic(text)
    assert (caught.value.line, caught.value.column) == (line, column), caught.value
    assert words in str(caught.value)
