"""bpf(2) calls: what they return, what they raise, and what they leave open."""

from __future__ import annotations

import errno
import gc
import os
import struct
import subprocess
import sys as python
from pathlib import Path

import pytest

from skep.asm import assemble
from skep.errors import KernelError
from skep.isa import Insn, encode
from skep.linux import sys
from tests.support import live, oracles

pytestmark = pytest.mark.live

RETURN_5 = assemble("r0 = 5\nexit")


@pytest.fixture(autouse=True)
def _bpf() -> None:
    oracles.bpf()


def open_descriptors() -> int:
    gc.collect()  # what other tests left to the collector
    return len(os.listdir("/proc/self/fd"))


def test_load_and_run() -> None:
    fd = sys.prog_load(live.XDP, RETURN_5, name="five")
    try:
        info = Path(f"/proc/self/fdinfo/{fd}").read_text()
        assert "prog_type:\t6" in info
        answer = sys.prog_test_run(fd, bytes(60), repeat=3)
        assert (answer.retval, answer.data, answer.ctx) == (5, b"", b"")
    finally:
        os.close(fd)


def test_insns_and_bytes_are_the_same() -> None:
    for insns in (RETURN_5, encode(RETURN_5), iter(RETURN_5)):
        fd = sys.prog_load(live.SOCKET_FILTER, insns)
        os.close(fd)


def test_packet_and_context_come_back() -> None:
    """A tc program that changes a packet byte and the mark."""
    program = assemble(
        """
        r6 = r1
        r2 = *(u32 *)(r1 + 76)
        r3 = *(u32 *)(r1 + 80)
        r4 = r2
        r4 += 14
        if r4 > r3 goto out
        r5 = 0x7f
        *(u8 *)(r2 + 3) = r5
        r5 = *(u32 *)(r6 + 8)
        r5 += 1
        *(u32 *)(r6 + 8) = r5
        out:
        r0 = 0
        exit
        """
    )
    ctx = bytearray(192)
    struct.pack_into("=I", ctx, 8, 41)
    with live.loaded(program, live.SCHED_CLS) as run:
        answer = sys.prog_test_run(run.fd, bytes(40), ctx=bytes(ctx), data_out=64)
    assert answer.data == bytes(3) + b"\x7f" + bytes(36)
    assert len(answer.ctx) == 192
    assert struct.unpack_from("=I", answer.ctx, 8) == (42,)


def test_no_room_for_the_packet() -> None:
    with live.loaded(RETURN_5, live.SCHED_CLS) as run, pytest.raises(KernelError) as caught:
        sys.prog_test_run(run.fd, bytes(40), data_out=10)
    assert caught.value.errno == errno.ENOSPC
    assert str(caught.value).startswith("BPF_PROG_TEST_RUN: ")


def test_packet_too_short() -> None:
    with (
        live.loaded(RETURN_5, live.XDP) as run,
        pytest.raises(KernelError, match="Invalid argument") as caught,
    ):
        sys.prog_test_run(run.fd, bytes(13))
    assert caught.value.cmd == "BPF_PROG_TEST_RUN"


def test_refusal_says_why_in_one_line() -> None:
    with pytest.raises(KernelError) as caught:
        sys.prog_load(live.XDP, assemble("r0 = *(u64 *)(r10 - 600)\nexit"))
    assert str(caught.value).startswith("BPF_PROG_LOAD: Permission denied: invalid")
    assert "\n" not in str(caught.value)
    assert "r10 -600" in caught.value.log


def test_long_logs_are_read_whole() -> None:
    """A refusal after a path whose log is longer than the first buffer."""
    body = "\n".join(f"r1 = {n}\nif r1 > r{2 + n % 3} goto +0" for n in range(3000))
    program = assemble(f"r2 = 1\nr3 = 2\nr4 = 3\n{body}\nr0 = *(u8 *)(r9 + 0)\nexit")
    with pytest.raises(KernelError, match="R9 !read_ok") as caught:
        sys.prog_load(live.XDP, program)
    assert len(caught.value.log) > 1 << 16


def test_a_log_is_kept_when_asked_for_on_success() -> None:
    fd = sys.prog_load(live.XDP, RETURN_5, log_level=1)
    os.close(fd)


def test_no_descriptor_is_left_open() -> None:
    before = open_descriptors()
    for _ in range(5):
        with live.loaded(RETURN_5) as run:
            run(bytes(60))
            with pytest.raises(KernelError):
                sys.prog_test_run(run.fd, bytes(2))
        with pytest.raises(KernelError):
            sys.prog_load(live.XDP, [Insn(0x95)])
    assert open_descriptors() == before


def test_descriptors_are_closed_in_children() -> None:
    fd = sys.prog_load(live.XDP, RETURN_5)
    try:
        assert not os.get_inheritable(fd)
    finally:
        os.close(fd)


def test_without_the_right_to() -> None:
    """In a process without capabilities the error names what is missing (or the load is allowed to all)."""
    if os.geteuid():
        oracles.absent("root, to give it up")
    code = (
        "import os, encodings.ascii\n"
        "from skep.errors import PermissionDenied\n"
        "from skep.isa import Insn\n"
        "from skep.linux import sys\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "try: sys.prog_load(6, [Insn(0xb7), Insn(0x95)])\n"
        "except PermissionDenied as error: print(error.missing, error)\n"
    )
    result = subprocess.run([python.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.startswith("CAP_BPF BPF_PROG_LOAD: ")
    assert "lacks CAP_BPF" in result.stdout


@pytest.mark.parametrize(
    ("have", "missing"),
    [("bpf", "CAP_PERFMON or CAP_NET_ADMIN"), ("bpf,perfmon", "CAP_NET_ADMIN")],
)
def test_which_capability_is_missing(have: str, missing: str) -> None:
    """An XDP program by a process that has some of root's capabilities."""
    oracles.bpf()
    if os.geteuid():
        oracles.absent("root, to give some of it up")
    code = (
        "from skep.errors import PermissionDenied\n"
        "from skep.isa import Insn\n"
        "from skep.linux import sys\n"
        "try: sys.prog_load(6, [Insn(0xb7), Insn(0x95)])\n"
        "except PermissionDenied as error: print(error.missing, '|', error)\n"
    )
    few = ",".join(["-all", *(f"+{name}" for name in have.split(","))])
    limits = [f"--bounding-set={few}", f"--inh-caps={few}"]
    words = [oracles.tool("setpriv"), *limits, python.executable, "-c", code]
    result = subprocess.run(words, capture_output=True, text=True, check=True)
    assert result.stdout.startswith(f"{missing} | BPF_PROG_LOAD: ")
    assert f"lacks {missing.replace(' or ', ' and ')}, or else CAP_SYS_ADMIN" in result.stdout
