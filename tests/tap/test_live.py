"""Live capture between two network namespaces of the test's own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from skep import capture
from tests.linux.links.rig import interface_is_up, wait
from tests.support import pcapfiles, tcpdump
from tests.support.oracles import netns, tool

pytestmark = [pytest.mark.live, pytest.mark.xdist_group("netns")]


class Net(NamedTuple):
    """Two namespaces joined by a veth pair: ``left`` is 10.77.0.1 on v0, ``right`` 10.77.0.2 on v1."""

    left: str
    right: str

    def run(self, where: str, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [tool("ip"), "netns", "exec", where, *command], capture_output=True, text=True, timeout=300
        )

    def start(self, where: str, *command: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [tool("ip"), "netns", "exec", where, *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def skep(self, where: str, *args: str) -> subprocess.Popen[str]:
        """Start `skep filter` and wait until it listens."""
        child = self.start(where, sys.executable, "-m", "skep", "filter", *args)
        assert child.stderr is not None
        line = child.stderr.readline()
        assert line.startswith("listening on"), line + child.stderr.read()
        return child


@pytest.fixture
def net() -> Iterator[Net]:
    netns()
    ip = tool("ip")
    left, right = f"skep-a-{os.getpid()}", f"skep-b-{os.getpid()}"

    def do(*words: str) -> None:
        subprocess.run([ip, *words], check=True, capture_output=True)

    try:
        for name in (left, right):
            do("netns", "add", name)
            # No neighbour discovery: only the test's packets are on the wire.
            subprocess.run(
                [ip, "netns", "exec", name, "sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1"],
                capture_output=True,
            )
        do("link", "add", "v0", "netns", left, "type", "veth", "peer", "name", "v1", "netns", right)
        for name, device, address in ((left, "v0", "10.77.0.1/24"), (right, "v1", "10.77.0.2/24")):
            do("-n", name, "addr", "add", address, "dev", device)
            do("-n", name, "link", "set", device, "up")
            do("-n", name, "link", "set", "lo", "up")
        wait(lambda: interface_is_up(left, "v0") and interface_is_up(right, "v1"))
        yield Net(left, right)
    finally:
        for name in (left, right):
            subprocess.run([ip, "netns", "del", name], capture_output=True)


SEND = """
import socket, sys
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for number in range(int(sys.argv[1])):
    for port in map(int, sys.argv[2:]):
        udp.sendto(b"%06d" % number + b"x" * 194, ("10.77.0.2", port))
"""


def arrived(net: Net) -> int:
    """How many datagrams for ports that nobody listens on came to the right; captures saw them before."""
    rows = [line.split() for line in net.run(net.right, "cat", "/proc/net/snmp").stdout.splitlines()]
    names, values = (row for row in rows if row[0] == "Udp:")
    return int(values[names.index("NoPorts")])


def send(net: Net, count: int, *ports: int) -> None:
    """Datagrams from the left to the right, until all are there."""
    before = arrived(net)
    done = net.run(net.left, sys.executable, "-c", SEND, str(count), *map(str, ports))
    assert done.returncode == 0, done.stderr
    wait(lambda: arrived(net) >= before + count * len(ports))


def finish(child: subprocess.Popen[str]) -> tuple[str, str]:
    try:
        out, err = child.communicate(timeout=120)
    except subprocess.TimeoutExpired:
        child.kill()
        raise
    assert "Traceback" not in err
    return out, err


def test_one_filter_writes_what_the_kernel_let_through(net: Net, tmp_path: Path) -> None:
    out = tmp_path / "out.pcap"
    child = net.skep(net.right, "-i", "v1", "-w", str(out), "-c", "50", "udp port 5001")
    send(net, 50, 5000, 5001)
    _, err = finish(child)
    assert child.returncode == 0
    assert "50 packets captured" in err and "50 packets received by filter" in err
    assert "0 packets dropped by kernel" in err
    with capture.open(out) as reader:
        packets = list(reader)
    assert [packet.data[42:48] for packet in packets] == [b"%06d" % number for number in range(50)]
    assert tcpdump.count(out, "udp dst port 5001") == 50
    assert all(abs(packet.time_ns / 1e9 - time.time()) < 60 for packet in packets)


def test_several_filters_each_with_its_own_length(net: Net, tmp_path: Path) -> None:
    short, whole, both = (tmp_path / name for name in ("short", "whole", "both"))
    child = net.skep(
        net.right, "-i", "v1",
        "--filter", "udp port 5001", "-w", str(short), "-s", "60", "-c", "30",
        "--filter", "udp port 5002", "-w", str(whole), "-c", "30",
        "--filter", "udp", "-w", str(both), "-s", "100", "-c", "60",
    )  # fmt: skip
    send(net, 30, 5001, 5002)
    _, err = finish(child)
    assert child.returncode == 0, err
    for path, count, length in ((short, 30, 60), (whole, 30, 242), (both, 60, 100)):
        with capture.open(path) as reader:
            packets = list(reader)
        assert len(packets) == count
        assert {(len(packet.data), packet.wirelen) for packet in packets} == {(length, 242)}
        assert f"> {path}:" in err
    assert err.count("received by filter") == 3


def test_interrupting_ends_cleanly_with_counts(net: Net, tmp_path: Path) -> None:
    out = tmp_path / "out.pcap"
    child = net.skep(net.right, "-i", "v1", "-U", "-w", str(out), "udp")
    send(net, 20, 5001)
    wait(lambda: out.stat().st_size == 24 + 20 * (16 + 242))  # a packet at a time, whole
    # The child of `ip netns exec` is the command itself: ip replaces itself by it.
    child.send_signal(signal.SIGINT)
    _, err = finish(child)
    assert child.returncode == 0
    assert "20 packets captured" in err and "seen on the interface" in err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_a_capture_that_a_script_put_in_the_background(net: Net, number: signal.Signals) -> None:
    """Such a process has SIGINT ignored; tcpdump ends all the same."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        child = net.skep(net.right, "-i", "v1", "--count", "udp")
    finally:
        signal.signal(signal.SIGINT, before)
    child.send_signal(number)
    out, err = finish(child)
    assert child.returncode == 0
    assert out == "0 packets\n" and "0 packets captured" in err


@pytest.mark.parametrize(
    ("command", "words"),
    [(("set", "v1", "down"), "the interface v1 is down"), (("del", "v1"), "the interface v1 disappeared")],
)
def test_an_interface_that_goes_ends_the_capture(
    net: Net, tmp_path: Path, command: tuple[str, ...], words: str
) -> None:
    out = tmp_path / "out.pcap"
    child = net.skep(net.right, "-i", "v1", "-w", str(out), "udp")
    send(net, 20, 5001)
    subprocess.run([tool("ip"), "-n", net.right, "link", *command], check=True, capture_output=True)
    _, err = finish(child)
    assert child.returncode == 1
    assert err.splitlines()[-1] == f"skep filter: {words}"
    assert "20 packets captured" in err
    assert tcpdump.count(out, "udp") == 20


def test_printing_and_directions(net: Net) -> None:
    child = net.skep(net.right, "-i", "v1", "-l", "-t", "-Q", "in", "-c", "3", "icmp")
    ping = net.run(net.left, tool("ping"), "-c", "3", "-i", "0.1", "10.77.0.2")
    assert ping.returncode == 0
    out, _ = finish(child)
    assert out.splitlines() == ["IP 10.77.0.1 > 10.77.0.2: ICMP echo request, length 64"] * 3


def test_all_interfaces_are_cooked(net: Net, tmp_path: Path) -> None:
    out = tmp_path / "out.pcap"
    child = net.skep(net.right, "-i", "any", "-w", str(out), "-c", "10", "udp port 5001")
    send(net, 10, 5000, 5001)
    finish(child)
    with capture.open(out) as reader:
        assert reader.linktype == 276
    assert tcpdump.count(out, "udp port 5001") == 10


LOCAL = """
import socket, time
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for _ in range(1000):
    udp.sendto(b"x", ("127.0.0.1", 5009))
    time.sleep(0.1)
"""


def test_any_sees_what_this_host_sends_itself_once(net: Net) -> None:
    child = net.skep(net.right, "-i", "any", "-l", "-t", "-c", "4", "udp dst port 5009")
    sender = net.start(net.right, sys.executable, "-c", LOCAL)
    out, _ = finish(child)
    sender.terminate()
    sender.communicate()
    ports = [line.split(".")[4].split()[0] for line in out.splitlines()]
    assert all(line.startswith("lo    In  IP 127.0.0.1.") for line in out.splitlines())
    assert len(ports) == 4


def test_files_by_the_second(net: Net, tmp_path: Path) -> None:
    """-G 1 -W 3: three files of a second each, then the end."""
    pattern = str(tmp_path / "part-%s.pcap")
    child = net.skep(net.right, "-i", "lo", "-G", "1", "-W", "3", "-w", pattern, "udp dst port 5009")
    sender = net.start(net.right, sys.executable, "-c", LOCAL)
    _, err = finish(child)
    sender.terminate()
    sender.communicate()
    paths = sorted(tmp_path.iterdir())
    assert len(paths) == 3, err
    times = []
    for path in paths:
        with capture.open(path) as reader:
            times += [packet.time_ns for packet in reader]
    assert len(times) > 3 and times == sorted(times)


TAGGED = """
import socket
raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
raw.bind(("v0", 0))
for number in (5, 6):
    addresses = b"\\xff" * 6 + b"\\x02" * 6
    raw.send(addresses + bytes((0x81, 0, 0, number, 0x88, 0xB5)) + b"payload".ljust(60, b"."))
"""


def test_vlan_tags_are_put_back(net: Net, tmp_path: Path) -> None:
    """The receiving kernel takes the tag out of the packet before anybody sees it."""
    out = tmp_path / "out.pcap"
    child = net.skep(net.right, "-i", "v1", "-w", str(out), "-c", "1", "vlan 6")
    done = net.run(net.left, sys.executable, "-c", TAGGED)
    assert done.returncode == 0, done.stderr
    finish(child)
    assert tcpdump.count(out, "vlan 6") == 1
    with capture.open(out) as reader:
        (packet,) = reader
    assert packet.data[12:25] == b"\x81\x00\x00\x06\x88\xb5payload"
    assert packet.wirelen == len(packet.data) == 78


def test_a_program_too_long_for_the_kernel_runs_here(net: Net, tmp_path: Path) -> None:
    hosts = " or ".join(f"host 10.{n % 200 + 1}.{n // 200}.{n % 250 + 1}" for n in range(4000))
    expression = tmp_path / "expression"
    expression.write_text(f"{hosts} or udp port 5001")
    out = tmp_path / "out.pcap"
    child = net.start(
        net.right, sys.executable, "-m", "skep", "filter", "-i", "v1", "-F", str(expression), "-s", "64",
        "-w", str(out), "-c", "10",
    )  # fmt: skip
    assert child.stderr is not None
    assert "filtering here, not in the kernel" in child.stderr.readline()
    assert child.stderr.readline().startswith("listening on")
    send(net, 10, 5000, 5001)
    finish(child)
    assert tcpdump.count(out, "udp port 5001") == 10
    with capture.open(out) as reader:
        assert {(len(packet.data), packet.wirelen) for packet in reader} == {(64, 242)}


def test_a_program_too_long_for_classic_code_goes_as_ebpf(net: Net, tmp_path: Path) -> None:
    from tests.support.oracles import bpf

    bpf()
    hosts = " or ".join(f"host 10.{n % 200 + 1}.{n // 200}.{n % 250 + 1}" for n in range(1300))
    expression = tmp_path / "expression"
    expression.write_text(f"{hosts} or udp port 5001")
    listing = subprocess.run(
        [sys.executable, "-m", "skep", "filter", "-ddd", "-F", str(expression)],
        capture_output=True,
        text=True,
    )
    assert int(listing.stdout.split()[0]) > 4096, "the program must be too long to mean anything"
    out = tmp_path / "out.pcap"
    child = net.skep(net.right, "-i", "v1", "-F", str(expression), "-w", str(out), "-c", "10")
    send(net, 10, 5000, 5001)
    finish(child)
    assert tcpdump.count(out, "udp port 5001") == 10


def test_sending_frames(net: Net, tmp_path: Path) -> None:
    recorded, again = tmp_path / "recorded.pcap", tmp_path / "again.pcap"
    child = net.skep(net.left, "-i", "v0", "-w", str(recorded), "-c", "40", "udp")
    send(net, 20, 5001, 5002)
    finish(child)
    child = net.skep(net.right, "-i", "v1", "-w", str(again), "-c", "40", "udp port 5002")
    sent = net.run(
        net.left, sys.executable, "-m", "skep", "filter", "-i", "v0", "--send", str(recorded),
        "--repeat", "2", "--pps", "500", "udp port 5002",
    )  # fmt: skip
    assert sent.returncode == 0, sent.stderr
    assert sent.stderr.startswith("40 packets sent, 9680 bytes")
    finish(child)
    with capture.open(recorded) as reader:
        wanted = [packet.data for packet in reader if packet.data[36:38] == (5002).to_bytes(2, "big")]
    with capture.open(again) as reader:
        assert [packet.data for packet in reader] == wanted * 2


API = """
import sys, skep.tap
with skep.tap.capture("v1", filter="udp port 5001", snaplen=48, seconds=300) as packets:
    print("ready", flush=True)
    for number, packet in enumerate(packets, 1):
        assert len(packet.data) == 48 and packet.wirelen == 242 and not packet.outgoing
        if number == 25:
            break
    counts = packets.counts()
print(number, counts.received, counts.kept, counts.dropped, counts.seen >= 25)
"""


def test_python_interface(net: Net) -> None:
    child = net.start(net.right, sys.executable, "-c", API)
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n", child.communicate()
    send(net, 25, 5000, 5001)
    out, err = finish(child)
    assert out == "25 25 25 0 True\n", err


CARELESS = """
import socket, skep, skep.tap
from skep.errors import SkepError

def refused(kind, words, call, *args, **options):
    try:
        call(*args, **options)
    except kind as error:
        assert words in str(error), error
    else:
        raise AssertionError(words)

take = skep.tap.capture
refused(ValueError, "direction 'up': in, out or inout", take, "v1", direction="up")
refused(ValueError, "are not negative", take, "v1", snaplen=-1)
refused(TypeError, "a snapshot length is an int", take, "v1", snaplen="96")
refused(TypeError, "a ring's size is an int", take, "v1", size=2.5)
refused(TypeError, "a filter is an expression or a skep.Filter, not bytes", take, "v1", filter=b"udp")
refused(TypeError, "called by its name, a str, not int", take, 1)
refused(ValueError, "could not convert", take, "v1", seconds="soon")
with skep.tap.Sender("v1") as sender:
    for pps in (0, -1):
        refused(ValueError, "more than 0", sender.send_all, [bytes(60)], pps=pps)
packets = take("v1", filter=skep.Filter("udp port 5000", snaplen=50))
with packets, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
    sock.sendto(bytes(100), ("10.77.0.1", 5000))
    first = next(iter(packets))
assert (len(first.data), first.wirelen) == (50, 142), first
assert packets.counts().kept == 1
refused(SkepError, "the capture from v1 has been closed", next, iter(packets))
print("all refused")
"""


def test_careless_arguments_are_refused_by_name(net: Net) -> None:
    done = net.run(net.right, sys.executable, "-c", CARELESS)
    assert done.stdout == "all refused\n", done.stderr


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["-i", "nothere", "tcp"], "no interface 'nothere'"),
        (["-i", "v0", "-w", "/nonexistent/out", "tcp"], "/nonexistent/out: No such file"),
        (["-i", "v0", "tcp port ("], "column 11"),
    ],
)
def test_failures_are_one_line(net: Net, args: list[str], words: str) -> None:
    done = net.run(net.left, sys.executable, "-m", "skep", "filter", *args)
    assert done.returncode == 1 and words in done.stderr.splitlines()[0]
    assert "Traceback" not in done.stderr


def test_a_frame_over_the_mtu_is_told_with_the_mtu(net: Net, tmp_path: Path) -> None:
    """What was sent before it has been sent, and is counted."""
    path = tmp_path / "in.pcap"
    path.write_bytes(pcapfiles.capture([(1, n, bytes(12) + b"\x08\x00" + bytes(46), 60) for n in range(3)]))
    path.write_bytes(
        path.read_bytes() + pcapfiles.capture([(2, 0, bytes(12) + b"\x08\x00" + bytes(3000), 3014)])[24:]
    )
    done = net.run(net.left, sys.executable, "-m", "skep", "filter", "-i", "v0", "--send", str(path))
    assert done.returncode == 1
    first, second = done.stderr.splitlines()
    assert first.startswith("3 packets sent, 180 bytes")
    assert second.startswith("skep filter: v0: longer than its MTU of 1500 allows (ip link set v0 mtu ...)")
    assert second.endswith("(frame 4, 3014 bytes)")


@pytest.mark.parametrize("link", ["LINUX_SLL", "LINUX_SLL2"])
def test_cooked_headers_of_either_version_are_tcpdumps(net: Net, tmp_path: Path, link: str) -> None:
    """On "any", tagged frames, too: version 1 has the tag in its header."""
    tagged = bytes.fromhex("ffffffffffff020000000001810000070800") + bytes(50)
    sending = (
        "import socket; s = socket.socket(17, 3, 0); s.bind(('v0', 0)); "
        f"[s.send(bytes.fromhex('{tagged.hex()}')) for _ in range(5)]"
    )
    theirs, ours = tmp_path / "theirs.pcap", tmp_path / "ours.pcap"
    dump = net.start(
        net.right, tool("tcpdump"), "-Z", "root", "-i", "any", "-y", link, "-U", "-w", str(theirs)
    )
    assert dump.stderr is not None
    while "listening on" not in dump.stderr.readline():
        pass
    child = net.skep(net.right, "-i", "any", "-y", link, "-c", "5", "-w", str(ours))
    net.run(net.left, sys.executable, "-c", sending)
    finish(child)
    wait(lambda: theirs.stat().st_size >= ours.stat().st_size)
    dump.send_signal(signal.SIGINT)
    dump.communicate(timeout=120)
    packets = []
    for path in (theirs, ours):
        with capture.open(path) as reader:
            packets.append([(bytes(packet.data), packet.wirelen) for packet in reader])
    assert len(packets[1]) == 5
    assert packets[1] == packets[0][:5]
