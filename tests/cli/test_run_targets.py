"""`skep run` on programs whose target another process, a route or a loaded program is."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.bpftool import compile_c
from tests.support.oracles import bpf, netns, tool

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> str:
    bpf()
    return str(compile_c("targets", tmp_path_factory.mktemp("targets")))


def words(file: str, *more: str) -> list[str]:
    return [sys.executable, "-m", "skep", "run", file, *more]


def hits(out: str) -> int:
    rows = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
    return int(next(row["variables"]["hits"] for row in rows if row.get("map") == ".bss"))


def test_a_socket_of_another_process(file: str) -> None:
    """The filter counts while the run lasts, and the socket is as before afterwards."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, theirs:
        place = f"{os.getpid()}:{theirs.fileno()}"
        command = words(file, "filter", "--socket", place, "--maps", "-j")
        run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            assert run.stderr is not None
            assert "filter: socket" in run.stderr.readline()
            for _ in range(25):
                ours.send(b"x")
                theirs.recv(8)
            run.send_signal(signal.SIGINT)
            out, err = run.communicate(timeout=120)
        finally:
            run.kill()
        assert run.returncode == 0, err
        assert hits(out) == 25
        ours.send(b"x")
        assert theirs.recv(8) == b"x"


def test_a_route(file: str) -> None:
    netns()
    ip, ping = tool("ip"), tool("ping")
    name = f"skep-route-{os.getpid()}"
    subprocess.run([ip, "netns", "add", name], check=True)
    try:
        for line in (
            "link add v0 type veth peer name v1",
            "addr add 10.77.0.1/24 dev v0",
            "link set v0 up",
            "link set v1 up",
        ):
            subprocess.run([ip, "-n", name, *line.split()], check=True)
        options = ["routed", "--route", "10.88.0.0/16", "-i", "v0", "--via", "10.77.0.2", "--maps", "-j"]
        sent = [ping, "-c", "2", "-i", "0.2", "-W", "1", "10.88.0.1"]
        done = subprocess.run(
            [ip, "netns", "exec", name, *words(file, *options, "--", *sent)], capture_output=True, text=True
        )
        assert hits(done.stdout) >= 1, done.stderr
        routes = subprocess.run([ip, "-n", name, "route"], capture_output=True, text=True, check=True).stdout
        assert "10.88" not in routes
    finally:
        subprocess.run([ip, "netns", "del", name], check=True)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["filter"], "needs --iface NAME"),
        (["filter", "--socket", "7"], "give PID:FD"),
        (["filter", "--socket", f"{os.getpid()}:65000"], "Bad file descriptor"),
        (["routed"], "needs --route"),
        (["routed", "--route", "nonsense", "-i", "lo"], "nonsense"),
        (["chosen"], "needs --socket PID:FD"),
        (["instead"], "needs --replace PROG"),
        (["instead", "--replace", f"none{os.getpid()}"], "no such prog"),
        (["filter", "--replace", "1"], "no freplace programs"),
    ],
)
def test_what_is_missing_is_named(file: str, options: list[str], complaint: str) -> None:
    done = subprocess.run(words(file, *options), capture_output=True, text=True)
    assert done.returncode == 1
    assert complaint in done.stderr and done.stderr.count("\n") == 1, done.stderr


def test_no_receiver(file: str) -> None:
    if any(name.startswith("lirc") for name in os.listdir("/dev")):
        pytest.skip("this machine has an infrared receiver")
    for options, complaint in (([], "no infrared receiver"), (["--lirc", "/dev/nonexistent"], "nonexistent")):
        done = subprocess.run(words(file, "receiver", *options), capture_output=True, text=True)
        without = "LIRC_MODE2, which this kernel was built without, is not supported" in done.stderr
        assert (done.returncode, complaint in done.stderr or without) == (1, True), done.stderr


def test_sockets_only(file: str) -> None:
    with Path(file).open("rb") as other:
        place = f"{os.getpid()}:{other.fileno()}"
        done = subprocess.run(words(file, "filter", "--socket", place), capture_output=True, text=True)
        assert (done.returncode, "no socket" in done.stderr) == (1, True), done.stderr


def test_an_interface_of_another_network_namespace(file: str) -> None:
    """A socket filter on --iface sees the frames of --netns."""
    netns()
    ip, ping = tool("ip"), tool("ping")
    name = f"skep-socket-{os.getpid()}"
    subprocess.run([ip, "netns", "add", name], check=True)
    try:
        subprocess.run([ip, "-n", name, "link", "set", "lo", "up"], check=True)
        command = words(file, "filter", "--iface", "lo", "--netns", name, "--maps", "-j")
        inside = ["--", ip, "netns", "exec", name, ping, "-c", "2", "-i", "0.2", "127.0.0.1"]
        done = subprocess.run([*command, *inside], capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        assert hits(done.stdout) >= 4, "two requests and two answers"
        gone = subprocess.run(
            words(file, "filter", "--iface", "d1", "--netns", name), capture_output=True, text=True
        )
        assert (gone.returncode, gone.stderr) == (1, "skep run: --iface d1: No such device\n")
    finally:
        subprocess.run([ip, "netns", "del", name], check=True)
