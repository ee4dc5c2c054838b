"""tcpdump's notations against libpcap itself: its bpf_image on every opcode, its compiler's listings."""

from __future__ import annotations

import ctypes
import ctypes.util
import random
import subprocess

import pytest

from skep.asm import assemble_classic, disassemble_classic
from skep.asm.tcpdump import image
from skep.isa import ClassicInsn
from skep.isa import classic as c
from tests.asm import corpus
from tests.support import oracles

pytestmark = pytest.mark.oracle


class _Insn(ctypes.Structure):
    _fields_ = (
        ("code", ctypes.c_uint16),
        ("jt", ctypes.c_uint8),
        ("jf", ctypes.c_uint8),
        ("k", ctypes.c_uint32),
    )


def libpcap() -> ctypes.CDLL:
    name = ctypes.util.find_library("pcap")
    if name is None:
        oracles.absent("libpcap")
    found = ctypes.CDLL(name)
    found.bpf_image.restype = ctypes.c_char_p
    return found


def test_every_16_bit_opcode_and_many_numbers() -> None:
    print(f"SKEP_SEED={corpus.SEED}")
    library = libpcap()
    rng = random.Random(corpus.SEED)
    ancillary = range(c.SKF_AD_OFF - 4, c.SKF_AD_OFF + 72)
    cases = [ClassicInsn(code, 1, 2, 7) for code in range(0x10000)]
    cases += [
        ClassicInsn(code, rng.randrange(256), rng.randrange(256), k & 0xFFFFFFFF)
        for code in corpus.classic_opcodes()
        for k in [*ancillary, *(rng.randrange(1 << 32) for _ in range(50)), 0, 0x7FFFFFFF, 0x80000000]
    ]
    for insn in cases:
        pc = rng.choice((0, 9, 99, 999, 4095))
        theirs = library.bpf_image(ctypes.byref(_Insn(*insn)), pc).decode()
        assert image(insn, pc) == theirs, insn


EXPRESSIONS = [
    "", "ip", "tcp port 80", "ip and tcp port 8080", "host 10.0.0.1 and not udp", "vlan 5 and ip6",
    "tcp[tcpflags] & (tcp-syn|tcp-ack) != 0", "ether[0] & 1 != 0 or len > 1000", "ip6 protochain 6",
    "net 192.168.0.0/16 and (udp or icmp)", "ip[2:2] - 20 > tcp[12] * 4", "arp or rarp", "mpls 7 and ip",
]  # fmt: skip


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_real_listings_both_ways(expression: str) -> None:
    tool = oracles.tool("tcpdump")

    def tcpdump(*options: str) -> str:
        command = [tool, *options, "-y", "EN10MB", expression]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    program = assemble_classic(tcpdump("-ddd"))
    read = assemble_classic(tcpdump("-d"))
    assert [insn[:3] for insn in read] == [insn[:3] for insn in program]
    assert disassemble_classic(read) == disassemble_classic(program)  # libpcap leaves old numbers in unused k
    assert assemble_classic(tcpdump("-dd")) == program
    for option, notation in (("-d", "tcpdump"), ("-dd", "tcpdump-dd"), ("-ddd", "tcpdump-ddd")):
        assert "\n".join(disassemble_classic(program, notation)) + "\n" == tcpdump(option)
