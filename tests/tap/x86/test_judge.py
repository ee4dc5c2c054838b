"""Filters as machine code against the interpreter, which is held against libpcap elsewhere."""

from __future__ import annotations

import random

import pytest

from skep.errors import VerifierError
from skep.filter.check import check, opcodes
from skep.isa import ClassicInsn
from skep.isa import classic as c
from skep.tap.x86 import assemble
from skep.vm import classic
from tests.support import classics, libpcap
from tests.support.directed import seed
from tests.tap.support import native_code


def random_program(rng: random.Random) -> list[ClassicInsn]:
    """Every opcode, legal by libpcap's rules; jumps forward, also to instructions nobody else reaches."""
    known = sorted(opcodes() - {c.BPF_JMP | c.BPF_JA})
    size = rng.randrange(4, 40)
    program = []
    for pc in range(size):
        code = rng.choice(known)
        left = size - pc
        k = rng.choice((0, 1, 2, 5, 14, 20, 59, 60, 63, 64, 0x7FFFFFFE, 0xFFFFFFFF, rng.getrandbits(32)))
        if code & 7 in (c.BPF_ST, c.BPF_STX) or (code & 7 < 2 and code & 0xE0 == c.BPF_MEM):
            k %= c.BPF_MEMWORDS
        if code & 7 == c.BPF_ALU and not code & c.BPF_X and code & 0xF0 in (c.BPF_DIV, c.BPF_MOD):
            k = max(1, k)
        if code & 7 == c.BPF_ALU and not code & c.BPF_X and code & 0xF0 in (c.BPF_LSH, c.BPF_RSH):
            k %= 32
        if code & 7 == c.BPF_LD and code & 0xE0 == c.BPF_ABS:
            k = min(k, 0xFFFFEFFF)  # above is what only a kernel has
        if code & 7 in (c.BPF_LD, c.BPF_LDX) and code & 0xE0 in (c.BPF_ABS, c.BPF_IND, c.BPF_MSH):
            k = k % 64 if rng.random() < 0.9 else k
        if code & 7 == c.BPF_RET and rng.random() < 0.8:
            code = c.BPF_LD | c.BPF_IND | c.BPF_B
            k %= 64
        jump = code & 7 == c.BPF_JMP
        program.append(
            ClassicInsn(code, rng.randrange(left) if jump else 0, rng.randrange(left) if jump else 0, k)
        )
    program.append(ClassicInsn(c.BPF_RET | c.BPF_A))
    check(program, "pcap")
    return program


def test_random_programs() -> None:
    number = seed(81)
    rng = random.Random(number)
    results = set()
    for turn in range(1500):
        program = random_program(rng) if turn % 5 else classics.generate(rng, rng.choice((5, 20, 60)))
        judge = native_code(program, maker="x86")
        for _ in range(4):
            packet = rng.randbytes(rng.choice((0, 1, 20, 43, 62, 63, 64, 65, 200)))
            wirelen = rng.choice((len(packet), len(packet) + 7, 1500))
            expected = classic.run(program, packet, wirelen)
            results.add(expected)
            assert judge.match(packet, wirelen) == expected, (number, program, packet.hex(), wirelen)
    assert len(results) > 400


@pytest.mark.parametrize("expression", classics.EXPRESSIONS)
def test_expressions(expression: str) -> None:
    number = seed(82)
    for optimise in (True, False):
        made = libpcap.compile(expression, optimize=optimise)
        assert made.insns is not None, made.error
        program = [ClassicInsn(*quad) for quad in made.insns]
        judge = native_code(program, maker="x86")
        results = set()
        for packet in classics.packets(expression, made.insns, number, 60):
            expected = classic.run(program, packet.data, packet.wirelen)
            results.add(bool(expected))
            assert judge.match(packet.data, packet.wirelen) == expected, (number, packet)
        assert results == {True, False} or expression == "ip6 protochain 6"


def test_what_the_code_knows_of_lengths_ends_where_paths_meet() -> None:
    """The second load is in the packet on one way to it only."""
    ld, jeq, ret = c.BPF_LD | c.BPF_ABS | c.BPF_B, c.BPF_JMP | c.BPF_JEQ, c.BPF_RET
    program = [
        ClassicInsn(ld, k=0),
        ClassicInsn(jeq, 0, 1, 7),
        ClassicInsn(ld, k=40),
        ClassicInsn(ld, k=30),
        ClassicInsn(ret, k=1),
    ]
    judge = native_code(program, maker="x86")
    for first in (7, 8):
        for size in (1, 30, 31, 40, 41):
            packet = bytes((first,)) + bytes(size - 1)
            assert judge.match(packet, size) == classic.run(program, packet, size), (first, size)


def test_a_loop_without_end_ends() -> None:
    """The budget is that of the code LLVM makes."""
    body = [ClassicInsn(c.BPF_LD | c.BPF_IMM, k=number) for number in range(500)]
    back = -len(body) - 1 & 0xFFFFFFFF
    program = [*body, ClassicInsn(c.BPF_JMP | c.BPF_JA, k=back), ClassicInsn(c.BPF_RET, k=1)]
    assert native_code(program, maker="x86").match(bytes(20), 20) == 0


def test_refusals() -> None:
    with pytest.raises(VerifierError, match="empty"):
        assemble([], swapped=False)
    with pytest.raises(VerifierError, match="falls off the end"):
        assemble([ClassicInsn(c.BPF_MISC | c.BPF_TAX)], swapped=False)
    with pytest.raises(VerifierError, match="ancillary"):
        assemble([ClassicInsn(c.BPF_LD | c.BPF_ABS, k=0xFFFFF02C), ClassicInsn(c.BPF_RET)], swapped=False)


def test_pages_are_executable_and_never_writable() -> None:
    judge = native_code([ClassicInsn(c.BPF_RET, k=1)], maker="x86")
    address = judge.image.address("walk")
    with open("/proc/self/maps") as file:
        for line in file:
            start, end = (int(part, 16) for part in line.split()[0].split("-"))
            if start <= address < end:
                assert line.split()[1] == "r-xp"
                return
    raise AssertionError("not mapped")
