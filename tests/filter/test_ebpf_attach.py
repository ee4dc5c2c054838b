"""The direct form attached for real: XDP and tc on a veth pair between two network namespaces."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from skep.filter.ebpf import Verdict, translate
from skep.isa import encode
from skep.isa.classic import ClassicInsn
from tests.support import libpcap, oracles

pytestmark = pytest.mark.live

BPF_XDP, BPF_TCX_INGRESS = 37, 46

#: In the receiver's namespace: attach, then say how many bytes each of two connections brought.
RECEIVER = """
import socket, sys
from skep.linux.kernel import LinuxKernel
from skep.linux.sys import prog_load
code, prog_type, attach_type = bytes.fromhex(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
link = LinuxKernel().link_create(prog_load(prog_type, code), socket.if_nametoindex("right"), attach_type)
server = socket.create_server(("10.9.9.2", 8080))
server.settimeout(10)
print("ready", flush=True)
for _ in range(2):
    connection, _ = server.accept()
    connection.settimeout(1)
    try:
        data = connection.recv(100)
    except TimeoutError:
        data = b""
    print(len(data), flush=True)
"""

SENDER = """
import socket, sys, time
first, second = (socket.create_connection(("10.9.9.2", 8080), timeout=5) for _ in range(2))
first.sendall(b"GET /" + bytes(20_000))
second.sendall(b"PUT /" + bytes(20_000))
time.sleep(2.5)
"""


@pytest.fixture
def namespaces() -> Iterator[tuple[str, str]]:
    """Two namespaces joined by a veth pair: left (10.9.9.1) and right (10.9.9.2)."""
    oracles.bpf()
    oracles.netns()
    ip = oracles.tool("ip")
    names = f"skep-l-{os.getpid()}", f"skep-r-{os.getpid()}"

    def run(*words: str) -> None:
        subprocess.run([ip, *words], check=True, capture_output=True)

    try:
        for name in names:
            run("netns", "add", name)
        run("-n", names[0], "link", "add", "left", "type", "veth", "peer", "name", "right", "netns", names[1])
        for name, device, address in ((names[0], "left", "10.9.9.1"), (names[1], "right", "10.9.9.2")):
            run("-n", name, "address", "add", f"{address}/24", "dev", device)
            run("-n", name, "link", "set", device, "up")
        yield names
    finally:
        for name in names:
            subprocess.run([ip, "netns", "del", name], capture_output=True)


@contextlib.contextmanager
def inside(name: str, script: str, *args: str) -> Iterator[subprocess.Popen[str]]:
    """A Python process in a namespace, ended with the block."""
    command = [oracles.tool("ip"), "netns", "exec", name, sys.executable, "-c", script, *args]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=oracles.ROOT) as process:
        try:
            yield process
        finally:
            process.terminate()


@pytest.mark.oracle
@pytest.mark.parametrize(
    ("prog_type", "number", "attach_type", "verdict"),
    [("xdp", 6, BPF_XDP, Verdict(1, 2)), ("tc", 3, BPF_TCX_INGRESS, Verdict(2, 0))],
    ids=["xdp", "tc"],
)
def test_dropping_by_payload(
    namespaces: tuple[str, str], prog_type: str, number: int, attach_type: int, verdict: Verdict
) -> None:
    """The payload of TCP over veth lies in fragments of the socket buffer; tc must fetch it first."""
    expression = "tcp dst port 8080 and tcp[((tcp[12] & 0xf0) >> 2):4] = 0x47455420"
    insns = libpcap.compile(expression).insns
    assert insns is not None
    program = [ClassicInsn(*quad) for quad in insns]
    code = encode(translate(program, form="direct", prog_type=prog_type, verdict=verdict))  # type: ignore[arg-type]
    with inside(namespaces[1], RECEIVER, code.hex(), str(number), str(attach_type)) as receiver:
        assert receiver.stdout is not None
        assert receiver.stdout.readline() == "ready\n"
        time.sleep(0.1)
        with inside(namespaces[0], SENDER):
            assert [receiver.stdout.readline() for _ in range(2)] == ["0\n", "100\n"]
