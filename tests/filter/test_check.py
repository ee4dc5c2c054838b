"""`skep.filter.check` against the live kernel's SO_ATTACH_FILTER and libpcap's bpf_validate()."""

from __future__ import annotations

import ctypes
import random
import socket
import struct

import pytest

from skep.errors import VerifierError
from skep.filter.check import Mode, check, opcodes
from skep.isa import classic as c
from tests.support import libpcap
from tests.support.directed import seed

SO_ATTACH_FILTER = 26

Program = list[tuple[int, int, int, int]]


def accepted(program: Program, mode: Mode) -> bool:
    try:
        check(program, mode)
    except VerifierError as error:
        assert "\n" not in str(error)
        return False
    return True


def kernel_accepts(program: Program) -> bool:
    code = b"".join(struct.pack("=HBBI", *insn) for insn in program)
    buffer = ctypes.create_string_buffer(code, len(code) or 1)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        fprog = struct.pack("@HP", len(program) & 0xFFFF, ctypes.addressof(buffer))
        try:
            sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, fprog)
        except OSError:
            return False
    return True


def libpcap_accepts(program: Program) -> bool:
    held = libpcap.Filter(program)
    return bool(libpcap.library().bpf_validate(held._array, len(program)))


def near_miss(rng: random.Random) -> Program:
    """A program that is mostly legal."""
    known = sorted(opcodes())
    size = rng.randrange(1, 12)
    program: Program = []
    for pc in range(size):
        code = rng.choice(known)
        left = size - pc - 2
        k = rng.choice((0, 1, 3, 15, 16, 31, 32, rng.getrandbits(32)))
        jt, jf = rng.randrange(max(1, left + 1)), rng.randrange(max(1, left + 1))
        if code & 7 in (c.BPF_ST, c.BPF_STX) or (code & 7 < 2 and code & 0xE0 == c.BPF_MEM):
            k = rng.choice((0, 1, 2, 15, 16))
        if code & 0xE7 == c.BPF_ABS and rng.random() < 0.3:
            k = 0xFFFFF000 + rng.choice((0, 2, 4, 40, 60, 64, 68))
        if code == c.BPF_JMP | c.BPF_JA:
            k = rng.choice((0, max(0, left), left + 1 & 0xFFFFFFFF, -1 & 0xFFFFFFFF, -size & 0xFFFFFFFF))
        if rng.random() < 0.03:
            jt = rng.randrange(256)
        program.append((code, jt, jf, k))
    if rng.random() < 0.9:
        program[-1] = (c.BPF_RET | rng.choice((c.BPF_K, c.BPF_A)), 0, 0, 1)
    return program


def test_the_kernel_agrees() -> None:
    number = seed(1)
    rng = random.Random(number)
    verdicts = {True: 0, False: 0}
    for _ in range(4000):
        program = near_miss(rng)
        mine = accepted(program, "linux")
        verdicts[mine] += 1
        assert mine == kernel_accepts(program), (number, program)
    assert min(verdicts.values()) > 400, verdicts


def test_libpcap_agrees() -> None:
    number = seed(2)
    rng = random.Random(number)
    verdicts = {True: 0, False: 0}
    for _ in range(4000):
        program = near_miss(rng)
        mine = accepted(program, "pcap")
        verdicts[mine] += 1
        assert mine == libpcap_accepts(program), (number, program)
    assert min(verdicts.values()) > 400, verdicts


def test_every_opcode_the_kernel_knows() -> None:
    """One instruction and a return, with all 256 opcodes (and some wider ones)."""
    for code in [*range(256), 0x100, 0x106, 0x8000]:
        program: Program = [(code, 0, 0, 1), (c.BPF_RET, 0, 0, 1)]
        if code & 7 in (c.BPF_LD, c.BPF_LDX) and code & 0xE0 == c.BPF_MEM:
            program.insert(0, (c.BPF_ST, 0, 0, 1))
        if code == c.BPF_JMP | c.BPF_JA:
            program[0] = (code, 0, 0, 0)
        assert accepted(program, "linux") == kernel_accepts(program), hex(code)


@pytest.mark.parametrize(
    ("program", "mode", "insn", "reason"),
    [
        ([], "linux", None, "empty"),
        ([(6, 0, 0, 0)] * 4097, "linux", None, "4097 instructions"),
        ([(0x60, 0, 0, 2), (6, 0, 0, 0)], "linux", 0, "read before"),
        ([(0x15, 0, 1, 1), (6, 0, 0, 0)], "pcap", 0, "past the end"),
        ([(0x05, 0, 0, 0xFFFFFFFF), (6, 0, 0, 0)], "linux", 0, "jump back"),
        ([(0x05, 0, 0, 0xFFFFFFFE), (6, 0, 0, 0)], "pcap", 0, "outside"),
        ([(0x34, 0, 0, 0), (6, 0, 0, 0)], "pcap", 0, "division"),
        ([(0x28, 0, 0, 12)], "pcap", 0, "not a return"),
        ([(0x20, 0, 0, 0xFFFFF001), (6, 0, 0, 0)], "linux", 0, "ancillary"),
    ],
)
def test_errors_say_what_and_where(program: Program, mode: Mode, insn: int | None, reason: str) -> None:
    with pytest.raises(VerifierError, match=reason) as caught:
        check(program, mode)
    assert caught.value.insn == insn


def test_protochain_runs_in_libpcap_only() -> None:
    insns = libpcap.compile("ip6 protochain 6").insns
    assert insns is not None
    assert accepted(insns, "pcap")
    assert not accepted(insns, "linux")
    assert not kernel_accepts(insns)
