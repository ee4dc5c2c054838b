"""`skep.vm.classic` against libpcap's interpreter, and its own additions: steps, budget, ancillary data."""

from __future__ import annotations

import random

import pytest

from skep.errors import ExecutionError
from skep.filter.check import check, opcodes
from skep.isa import classic as c
from skep.vm.classic import State, run, steps
from tests.support import libpcap
from tests.support.directed import packets, seed
from tests.support.sentences import relation, sentence

Program = list[tuple[int, int, int, int]]


def random_program(rng: random.Random) -> Program:
    """Every opcode, legal by libpcap's rules; forward jumps, and shifts and indexes of every kind."""
    known = sorted(opcodes() - {c.BPF_JMP | c.BPF_JA})
    size = rng.randrange(4, 24)
    # libpcap leaves scratch words that are not set to chance.
    program: Program = [(c.BPF_ST, 0, 0, word) for word in range(4)]
    for pc in range(size):
        code = rng.choice(known)
        left = size - pc
        jt, jf = rng.randrange(left), rng.randrange(left)
        k = rng.choice((0, 1, 2, 5, 12, 14, 20, 40, 59, 60, 63, 64, rng.getrandbits(32)))
        if code & 7 in (c.BPF_ST, c.BPF_STX) or (code & 7 < 2 and code & 0xE0 == c.BPF_MEM):
            k = rng.randrange(4)
        if code & 7 == c.BPF_ALU and not code & c.BPF_X and code & 0xF0 in (c.BPF_DIV, c.BPF_MOD):
            k = max(1, k)
        if code & 7 == c.BPF_ALU and not code & c.BPF_X and code & 0xF0 in (c.BPF_LSH, c.BPF_RSH):
            k %= 32
        if code & 7 == c.BPF_RET and rng.random() < 0.8:
            code = c.BPF_LD | c.BPF_IND | c.BPF_B
        program.append((code, jt if code & 7 == c.BPF_JMP else 0, jf if code & 7 == c.BPF_JMP else 0, k))
    program.append((c.BPF_RET | c.BPF_A, 0, 0, 0))
    check(program, "pcap")
    return program


def test_random_programs() -> None:
    number = seed(61)
    rng = random.Random(number)
    results = set()
    for _ in range(3000):
        program = random_program(rng)
        theirs = libpcap.Filter(program)
        for _ in range(3):
            packet = rng.randbytes(rng.choice((0, 1, 20, 62, 64, 80)))
            wirelen = rng.choice((len(packet), len(packet) + 7, 1500))
            expected = theirs(packet, wirelen)
            results.add(expected)
            assert run(program, packet, wirelen) == expected, (number, program, packet.hex(), wirelen)
            assert list(steps(program, packet, wirelen))[-1].result == expected
    assert len(results) > 500


def test_compiled_expressions() -> None:
    number = seed(62)
    rng = random.Random(number)
    compared = 0
    for turn in range(150):
        text = sentence(rng) if turn % 2 else relation(rng)
        linktype = rng.choice((1, 12, 113, 105, 127))
        insns = libpcap.compile(text, linktype, optimize=bool(turn % 3)).insns
        if insns is None:
            continue
        theirs = libpcap.Filter(insns)
        for data, wirelen in packets([insns], turn, 60):
            for cut in (len(data), rng.randrange(len(data))):
                assert run(insns, data[:cut], wirelen) == theirs(data[:cut], wirelen), (number, text, data)
        compared += 1
    assert compared > 80


@pytest.mark.parametrize("packet_type", [bytes, bytearray, memoryview])
def test_any_buffer(packet_type: type) -> None:
    packet = packet_type(bytes(range(64)))
    assert run([(0x20, 0, 0, 8), (0x16, 0, 0, 0)], packet) == 0x08090A0B
    assert run([(0x28, 0, 0, 62), (0x16, 0, 0, 0)], packet) == 0x3E3F
    assert run([(0x28, 0, 0, 63), (0x16, 0, 0, 0)], packet) == 0
    assert run([(0xB1, 0, 0, 21), (0x87, 0, 0, 0), (0x16, 0, 0, 0)], packet) == 20


def test_steps_show_the_machine() -> None:
    program = [
        (c.BPF_LD | c.BPF_IMM, 0, 0, 7),
        (c.BPF_ST, 0, 0, 2),
        (c.BPF_MISC | c.BPF_TAX, 0, 0, 0),
        (c.BPF_ALU | c.BPF_LSH | c.BPF_X, 0, 0, 0),
        (c.BPF_JMP | c.BPF_JEQ, 0, 1, 896),
        (c.BPF_RET, 0, 0, 5),
        (c.BPF_RET, 0, 0, 0),
    ]
    mem = (0, 0, 7, *[0] * 13)
    assert list(steps(program, b"")) == [
        State(0, 7, 0, (0,) * 16, None),
        State(1, 7, 0, mem, None),
        State(2, 7, 7, mem, None),
        State(3, 896, 7, mem, None),
        State(4, 896, 7, mem, None),
        State(5, 896, 7, mem, 5),
    ]


def test_a_failing_load_is_the_last_step() -> None:
    states = list(steps([(0x30, 0, 0, 9), (6, 0, 0, 1)], b"short"))
    assert [(state.pc, state.result) for state in states] == [(0, 0)]


def test_the_budget_stops_a_loop() -> None:
    loop = [(c.BPF_LD | c.BPF_IMM, 0, 0, 0), (c.BPF_JMP | c.BPF_JA, 0, 0, 0xFFFFFFFE), (6, 0, 0, 1)]
    with pytest.raises(ExecutionError, match="budget") as caught:
        run(loop, b"", budget=1000)
    assert caught.value.pc == 1
    # a jump back costs its length in slots: 2 here
    counted = 0
    with pytest.raises(ExecutionError, match="budget"):
        for _ in steps(loop, b"", budget=10):
            counted += 1
    assert counted == 2 * (10 // 2) + 2


def test_protochain_loops_like_libpcap() -> None:
    insns = libpcap.compile("ip6 protochain 6").insns
    assert insns is not None
    theirs = libpcap.Filter(insns)
    header = bytes(12) + b"\x86\xdd" + b"\x60" + bytes(5)
    verdicts = set()
    for chain in ([0, 6], [0, 60, 43, 6], [6], [17], [0, 17], [51, 6], [44, 6], [59]):
        packet = bytearray(header + bytes([chain[0], 64]) + bytes(32))
        for following in [*chain[1:], 59]:
            packet += bytes([following, 0]) + bytes(6)
        verdicts.add(theirs(bytes(packet)))
        assert run(insns, packet) == theirs(bytes(packet)), chain
    assert len(verdicts) == 2


def test_ancillary_data() -> None:
    def load(number: int, size: int = c.BPF_W) -> Program:
        return [(c.BPF_LD | c.BPF_ABS | size, 0, 0, (c.SKF_AD_OFF + number) & 0xFFFFFFFF), (0x16, 0, 0, 0)]

    packet = bytes(range(40))
    data = {c.SKF_AD_PKTTYPE: 4, c.SKF_AD_IFINDEX: 3, c.SKF_AD_VLAN_TAG: 0x1005}
    for size in (c.BPF_W, c.BPF_H, c.BPF_B):
        assert run(load(c.SKF_AD_PKTTYPE, size), packet, ancillary=data) == 4
        assert run(load(c.SKF_AD_PKTTYPE, size), packet) == 0
    assert run(load(c.SKF_AD_VLAN_TAG), packet, ancillary=data) == 0x1005
    assert run([*load(c.SKF_AD_MARK)[:1], (6, 0, 0, 9)], packet, ancillary=data) == 0
    xor = [(0x00, 0, 0, 5), (0x01, 0, 0, 6), load(c.SKF_AD_ALU_XOR_X)[0], (0x16, 0, 0, 0)]
    assert run(xor, packet, ancillary={}) == 3
    link = (c.SKF_LL_OFF + 2) & 0xFFFFFFFF
    network = (c.SKF_NET_OFF + 2) & 0xFFFFFFFF
    for code, size in ((0x20, 4), (0x28, 2), (0x30, 1)):
        assert run([(code, 0, 0, link), (0x16, 0, 0, 0)], packet, ancillary={}) == int.from_bytes(
            packet[2 : 2 + size], "big"
        )
        assert run([(code, 0, 0, network), (0x16, 0, 0, 0)], packet, ancillary={}) == int.from_bytes(
            packet[16 : 16 + size], "big"
        )
        assert run([(code, 0, 0, network), (0x16, 0, 0, 0)], packet, ancillary={c.SKF_NET_OFF: 20}) == (
            int.from_bytes(packet[22 : 22 + size], "big")
        )


@pytest.mark.parametrize(
    ("program", "reason", "pc"),
    [
        ([(0xFF, 0, 0, 0)], "opcode 0xff", 0),
        ([(0x106, 0, 0, 0)], "opcode 0x106", 0),
        ([(0x1E, 0, 0, 0)], "opcode 0x1e", 0),
        ([(0x60, 0, 0, 16)], r"M\[16\]", 0),
        ([(0x02, 0, 0, 16)], r"M\[16\]", 0),
        ([(0x05, 0, 0, 5)], "outside the program", 0),
        ([(0x05, 0, 0, 0xFFFFFFFE)], "outside the program", 0),
        ([(0x4D, 3, 3, 0)], "outside the program", 0),
        ([(0x00, 0, 0, 0)], "past its last", 1),
        ([(0x15, 3, 3, 0)], "past its last|outside", None),
        ([(0x25, 3, 3, 0)], "past its last|outside", None),
        ([], "past its last", 0),
    ],
)
def test_illegal_programs_stop_with_an_error(program: Program, reason: str, pc: int | None) -> None:
    for execute in (lambda: run(program, b""), lambda: list(steps(program, b""))):
        with pytest.raises(ExecutionError, match=reason) as caught:
            execute()
        assert pc is None or caught.value.pc == pc
