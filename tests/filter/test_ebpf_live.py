"""Translated filters in the live kernel, against libpcap and the kernel's own classic filters."""

from __future__ import annotations

import ctypes
import errno
import random
import socket
import struct
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from skep.errors import CaptureError, KernelError
from skep.filter.ebpf import Verdict, translate
from skep.isa import Insn
from skep.isa.classic import ClassicInsn
from skep.linux import sys
from tests.support import classics, directed, libpcap, live, oracles

pytestmark = pytest.mark.live

SEED = directed.seed(1)
SO_ATTACH_FILTER, SO_ATTACH_BPF = 26, 50

#: form and program type -> what bpf(2) loads it as
FORMS = {
    "skb": ("skb", "xdp", live.SOCKET_FILTER),
    "xdp": ("direct", "xdp", live.XDP),
    "tc": ("direct", "tc", live.SCHED_CLS),
}


def compiled(expression: str, optimize: bool = True) -> list[ClassicInsn]:
    insns, error = libpcap.compile(expression, optimize=optimize)
    assert insns is not None, f"{expression}: {error}"
    return [ClassicInsn(*quad) for quad in insns]


def loaded(
    program: list[ClassicInsn], name: str, verdict: Verdict | None = None
) -> AbstractContextManager[live.Loaded]:
    form, prog_type, kernel_type = FORMS[name]
    insns = translate(program, form=form, prog_type=prog_type, verdict=verdict)  # type: ignore[arg-type]
    return live.loaded(insns, kernel_type)


@pytest.mark.oracle
@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("optimize", [True, False], ids=["optimised", "plain"])
def test_forms_decide_as_libpcap(name: str, optimize: bool) -> None:
    compared = matched = 0
    for expression in classics.EXPRESSIONS:
        program = compiled(expression, optimize)
        expected = libpcap.Filter(program)
        with loaded(program, name) as run:
            for packet in classics.packets(expression, program, SEED, 25):
                # PROG_TEST_RUN has no length on the wire, and takes packets from 14 to a page's bytes.
                data = packet.data
                if len(data) > 3000 or (name != "skb" and len(data) < 14):
                    continue
                try:
                    got = run(data)
                except KernelError as error:
                    # It also looks into the headers of IP packets, and wants them whole.
                    assert name == "tc" and error.errno == errno.EINVAL and len(data) < 54, (data, error)
                    continue
                want = expected(data)
                assert got == want, (expression, name, data.hex())
                compared += 1
                matched += want > 0
    assert compared > 2000
    assert matched > 100


@pytest.mark.oracle
@pytest.mark.parametrize("name", FORMS)
def test_random_programs(name: str) -> None:
    """By libpcap's rules, every form; the results are numbers made of all registers, not only verdicts."""
    rng = random.Random(SEED)
    nonzero = 0
    for number in range(300):
        program = classics.generate(rng)
        expected = libpcap.Filter(program)
        with loaded(program, name) as run:
            for length in (14, 20, 41, 300):
                packet = bytearray(rng.randbytes(length))
                packet[12] = 0x12
                want = expected(bytes(packet))
                assert run(bytes(packet)) == want, (SEED, number, program, packet.hex())
                nonzero += want > 0
    assert nonzero > 90


# --- the kernel's own classic filters ------------------------------------------------------------


class Pair:
    def __init__(self, left: socket.socket, right: socket.socket) -> None:
        self.left = left
        self.right = right

    def __call__(self, packet: bytes) -> int:
        """How many bytes the filter kept."""
        self.left.send(packet)
        try:
            return len(self.right.recv(1 << 16))
        except BlockingIOError:
            return 0


@contextmanager
def classic_socket(program: list[ClassicInsn]) -> Iterator[Pair]:
    """A datagram pair whose receiver has the classic program attached."""
    code = b"".join(struct.pack("=HBBI", *insn) for insn in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with left, right:
        fprog = struct.pack("@HP", len(program), ctypes.addressof(buffer))
        right.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, fprog)
        right.setblocking(False)
        yield Pair(left, right)


def test_linux_rules_equal_the_kernels_classic_filters() -> None:
    """Offsets that wrap, masked shifts: the skb form with Linux's rules against SO_ATTACH_FILTER."""
    rng = random.Random(SEED + 1)
    kept = 0
    for number in range(400):
        program = classics.generate(rng, 16)
        with (
            classic_socket(program) as classic,
            live.loaded(translate(program, rules="linux"), live.SOCKET_FILTER) as run,
        ):
            for length in (1, 30, 300):
                packet = rng.randbytes(length)
                want = classic(packet)
                got = min(run(packet), length)
                assert got == want, (SEED, number, program, packet.hex())
                kept += want > 0
    assert kept > 90


def test_attached_to_a_socket() -> None:
    """The skb form does on a socket what the classic program does."""
    oracles.bpf()
    program = compiled("ether[0] = 7")
    fd = sys.prog_load(live.SOCKET_FILTER, translate(program))
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with left, right, open(fd, "rb", buffering=0):
        right.setsockopt(socket.SOL_SOCKET, SO_ATTACH_BPF, fd)
        pair = Pair(left, right)
        right.setblocking(False)
        assert pair(b"\x07abc") == 4
        assert pair(b"\x08abc") == 0


# --- size ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FORMS)
def test_a_thousand_hosts(name: str) -> None:
    from skep.filter import compile as compile_filter

    rng = random.Random(SEED)
    hosts = sorted(
        {f"10.{rng.randrange(256)}.{rng.randrange(256)}.{rng.randrange(1, 255)}" for _ in range(1000)}
    )
    program = list(compile_filter(" or ".join(f"host {host}" for host in hosts)).insns)
    with loaded(program, name) as run:
        for host in [*rng.sample(hosts, 10), "10.0.0.0", "192.168.0.1"]:
            for source in (True, False):
                pair = socket.inet_aton(host), socket.inet_aton("172.16.0.1")
                first, second = pair if source else pair[::-1]
                packet = bytes(12) + b"\x08\x00\x45" + bytes(11) + first + second + bytes(20)
                assert (run(packet) > 0) == (host in hosts), host
        assert run(bytes(12) + b"\x08\x06\x45" + bytes(13)) == 0


@pytest.mark.parametrize("name", FORMS)
def test_beyond_the_classic_limit(name: str) -> None:
    """More instructions than SO_ATTACH_FILTER takes (4,096), and jumps farther than 16 bits."""
    program = [ClassicInsn(0x28, k=20)]
    values = range(0, 60_000, 2)
    left = len(values) * 2
    for value in values:
        left -= 2
        program.append(ClassicInsn(0x15, 0, 1, value))
        program.append(ClassicInsn(0x05, k=left + 1))
    program += [ClassicInsn(0x06, k=0), ClassicInsn(0x06, k=99)]
    with loaded(program, name) as run:
        for value in (0, 2, 59_998, 1, 59_999, 60_000):
            packet = bytes(20) + value.to_bytes(2, "big") + bytes(20)
            assert run(packet) == (99 if value in values else 0)
        assert run(bytes(21)) == 0


def test_verdicts() -> None:
    program = compiled("udp or ether[0] & 1 != 0")
    udp = bytes(12) + b"\x08\x00\x45" + bytes(8) + b"\x11" + bytes(20)
    tcp = bytes(12) + b"\x08\x00\x45" + bytes(8) + b"\x06" + bytes(20)
    with loaded(program, "xdp", Verdict(match=1, other=2)) as run:
        assert (run(udp), run(tcp), run(bytes(14))) == (1, 2, 2)
    with loaded(program, "tc", Verdict(match=2, other=-1)) as run:
        assert (run(udp), run(tcp)) == (2, 0xFFFFFFFF)


def test_returned_a_becomes_a_verdict() -> None:
    program = [ClassicInsn(0x30, k=3), ClassicInsn(0x16)]
    with loaded(program, "xdp", Verdict(1, 2)) as run:
        assert run(bytes(20)) == 2
        assert run(b"\0\0\0\5" + bytes(20)) == 1


def test_ancillary_loads() -> None:
    """Protocol, packet type, mark and interface as the kernel's own classic code has them."""

    def program(what: int) -> list[ClassicInsn]:
        return [ClassicInsn(0x20, k=(what - 0x1000) & 0xFFFFFFFF), ClassicInsn(0x16)]

    packet = bytes(12) + b"\x12\x34" + bytes(40)
    ctx = bytearray(192)
    struct.pack_into("=I", ctx, 8, 0xCAFE)
    for form in ("skb", "tc"):
        for what, value in ((0, 0x1234), (4, 0), (8, 1), (20, 0xCAFE), (48, 0)):
            with loaded(program(what), form) as run:
                # A socket filter's packet starts behind a header of its own here, which has the protocol.
                data = packet if form == "tc" else packet[:14] + packet
                answer = sys.prog_test_run(run.fd, data, ctx=bytes(ctx)).retval
                assert answer == value, (form, what)
    with loaded(program(8), "xdp") as run:
        assert run(packet) == 1  # the loopback device, as PROG_TEST_RUN has it


def test_verifier_refusal_carries_its_log() -> None:
    oracles.bpf()
    with pytest.raises(KernelError, match=r"BPF_PROG_LOAD: .*R0 !read_ok") as caught:
        sys.prog_load(live.SOCKET_FILTER, [Insn(0x95)])
    assert "R0 !read_ok" in caught.value.log


@pytest.mark.oracle
@pytest.mark.parametrize("name", FORMS)
def test_real_captures(name: str) -> None:
    """Ethernet packets of the shared captures, each through many filters."""
    packets = _ethernet_packets(700)
    compared = matched = 0
    for expression in classics.EXPRESSIONS:
        program = compiled(expression)
        expected = libpcap.Filter(program)
        with loaded(program, name) as run:
            for packet in packets:
                try:
                    got = run(packet)
                except KernelError as error:
                    assert name == "tc" and error.errno == errno.EINVAL and len(packet) < 54, error
                    continue
                want = expected(packet)
                assert got == want, (expression, packet.hex())
                compared += 1
                matched += want > 0
    assert compared > 10_000
    assert matched > 1000


def _ethernet_packets(number: int) -> list[bytes]:
    """Different packets, a few of every file."""
    from skep import capture

    out: dict[bytes, None] = {}
    for path in sorted(oracles.captures().rglob("*")):
        if not path.is_file():
            continue
        taken = 0
        try:
            with capture.open(path) as reader:
                for packet in reader:
                    data = bytes(packet.data)
                    if packet.linktype == 1 and 14 <= len(data) <= 1500:
                        out[data] = None
                        taken += 1
                    if taken == 25:
                        break
        except CaptureError:
            continue
    chosen = random.Random(SEED).sample(sorted(out), min(number, len(out)))
    assert chosen
    return chosen
