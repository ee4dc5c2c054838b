"""Each example at work on activity that the test makes itself.

A play takes a `Rig` and the loaded example's object or module, and asserts what the example shows. The same
plays run on the running kernel and, from objects built beforehand, in emulated ones.
"""

from __future__ import annotations

import ctypes
import ipaddress
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.linux.links.rig import DEADLINE, Rig, wait
from tests.support.lock import trace_pipe

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


class Load:
    """Loads examples: from their files, or from objects built beforehand in ``folder``."""

    def __init__(self, folder: str | None = None) -> None:
        self.folder = folder

    def __call__(self, name: str, **options: Any) -> Any:
        import skep

        if self.folder is not None:
            return skep.load(self.file(name), **options)
        from skep.cli.python import imported

        return skep.load(imported(self.file(name)), **options)

    def file(self, name: str) -> str:
        """What `skep run` is given."""
        return f"{self.folder}/{name}.bpf.o" if self.folder is not None else str(EXAMPLES / f"{name}.py")


PLAYS: dict[str, Callable[[Rig, Load], None]] = {}


def play(function: Callable[[Rig, Load], None]) -> Callable[[Rig, Load], None]:
    PLAYS[function.__name__] = function
    return function


class Child:
    """A process that waits until it is told to go on, so that programs can be told its id before."""

    def __init__(self, *command: str) -> None:
        self._gate, gate = os.pipe()[::-1]
        self.process = subprocess.Popen(
            [sys.executable, "-S", "-c", _WAITER, str(gate), *command],
            pass_fds=[gate],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        os.close(gate)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"ready\n"

    @property
    def pid(self) -> int:
        return self.process.pid

    def go(self) -> None:
        os.write(self._gate, b"x")

    def wait(self) -> int:
        self.go()
        self.process.communicate(timeout=DEADLINE)
        os.close(self._gate)
        return self.process.returncode


#: replaces itself by the command, so the id stays
_WAITER = """
import os, sys
print("ready", flush=True)
os.read(int(sys.argv[1]), 1)
os.execvp(sys.argv[2], sys.argv[2:])
"""


def events(reader: Any, enough: Callable[[list[Any]], bool], seconds: float = DEADLINE) -> list[Any]:
    """What a reader gives until it is enough."""
    found: list[Any] = []
    end = time.monotonic() + seconds
    while not enough(found) and time.monotonic() < end:
        if reader.wait(0.1):
            found += reader.read()
    return found


@contextmanager
def busy(seconds: float = 600.0) -> Iterator[int]:
    """A process that computes and makes system calls; its id."""
    code = f"import os, time\nend = time.time() + {seconds}\nwhile time.time() < end: os.getppid()"
    with subprocess.Popen([sys.executable, "-S", "-c", code]) as process:
        try:
            yield process.pid
        finally:
            process.kill()


@play
def hello(rig: Rig, load: Load) -> None:
    """In a mount namespace of its own, since tracefs may not be mounted."""
    script = 'mount -t tracefs tracefs /sys/kernel/tracing 2>/dev/null; exec "$@"'
    skep = [sys.executable, "-m", "skep", "run", load.file("hello")]
    child = ["/bin/sh", "-c", "echo I am $$; exec /bin/true"]
    with trace_pipe():
        for _ in range(20):  # other readers of the machine may take the line
            done = subprocess.run(
                ["unshare", "-m", "sh", "-c", script, "sh", *skep, "--", *child],
                capture_output=True,
                text=True,
                timeout=300,
            )
            assert done.returncode == 0, done.stderr
            pid = done.stdout.partition("I am ")[2].split()[0]
            if f"Hello BPF, from process {pid}" in done.stdout:
                return
    raise AssertionError(done.stdout)


@play
def opensnoop(rig: Rig, load: Load) -> None:
    child = Child("/bin/cat", "/etc/hostname", "/nonexistent/skep")
    with load("opensnoop", variables={"only_pid": child.pid}) as obj:
        obj.attach()
        reader = obj.reader("events")
        child.wait()
        found = events(reader, lambda rows: any(row.path == b"/nonexistent/skep" for row in rows))
    assert {row.pid for row in found} == {child.pid}
    assert {row.comm for row in found} <= {b"cat", os.path.basename(sys.executable).encode()[:15]}
    by_path = {row.path: row.result for row in found}
    assert by_path[b"/nonexistent/skep"] == -2
    assert by_path[b"/etc/hostname"] >= 3


@play
def execsnoop(rig: Rig, load: Load) -> None:
    child = Child("/bin/sh", "-c", "exit 7")
    with load("execsnoop") as obj:
        obj.attach()
        reader = obj.reader("events")
        child.wait()

        def mine(rows: list[Any]) -> list[Any]:
            return [row for row in rows if row.pid == child.pid]

        found = mine(events(reader, lambda rows: any(row.ended for row in mine(rows))))
    started, ended = found[0], found[-1]
    assert started.filename == b"/bin/sh"
    assert started.ppid == os.getpid()
    assert started.uid == os.getuid()
    assert ended.ended == 1
    assert ended.exit_code == 7
    assert ended.nanoseconds > 0


@play
def syscount(rig: Rig, load: Load) -> None:
    with busy() as pid, load("syscount", variables={"only_pid": pid}) as obj:
        obj.attach()
        getppid = 110  # x86-64
        wait(lambda: obj.calls.get(getppid, 0) >= 1000)
        took = [obj.took[slot] for slot in range(64)]
        calls = dict(obj.calls.items())
    assert calls[getppid] >= 1000
    assert 0 < sum(took) <= sum(calls.values()), (took, calls)


@play
def profile(rig: Rig, load: Load) -> None:
    with busy() as pid, load("profile", variables={"only_pid": pid}) as obj:
        link = obj.sample.attach("cpu-clock", frequency=999)
        wait(lambda: sum(obj.counts.values()) > 20)
        wait(lambda: any(row.user >= 0 for row in obj.counts))
        link.close()
        rows = list(obj.counts.items())
        assert {row.pid for row, _ in rows} == {pid}
        stacks = [obj.stacks[row.user] for row, _ in rows if row.user >= 0]
        assert any(address for stack in stacks for address in stack)


@play
def packets(rig: Rig, load: Load) -> None:
    with rig.network(), load("packets") as obj, obj.count.attach("lo", mode="generic"):
        assert rig.ping_self(3) == 3
        udp = obj.traffic[17]
        assert sum(row.packets for row in udp) == 3
        assert sum(row.bytes for row in udp) == 3 * (14 + 20 + 8 + len("skep"))
        with suppress(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", 9))
        assert sum(row.packets for row in obj.traffic[6]) == 2  # asked, refused


@play
def firewall(rig: Rig, load: Load) -> None:
    with rig.network(), load("firewall") as obj, obj.firewall.attach("lo", mode="generic"):
        assert rig.ping_self() == 1
        home = int(ipaddress.IPv4Address("127.0.0.1"))
        assert sum(obj.packets[home]) == 1
        obj.blocked[8, int(ipaddress.IPv4Address("127.0.0.0"))] = 1
        before = sum(obj.packets[home])
        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
        ):
            server.bind(("127.0.0.1", 0))
            client.sendto(b"dropped", server.getsockname())
            wait(lambda: sum(obj.packets[home]) == before + 1)
            server.settimeout(0.1)
            with suppress(TimeoutError):
                raise AssertionError(server.recv(16))
        del obj.blocked[8, int(ipaddress.IPv4Address("127.0.0.0"))]
        assert rig.ping_self() == 1


@play
def rate(rig: Rig, load: Load) -> None:
    with rig.network():
        first, second = rig.pair()
        with (
            load("rate", variables={"rate": 10_000, "burst": 5_000}) as obj,
            obj.limit.attach(first, direction="egress"),
        ):
            frame = rig.mac(second) + rig.mac(first) + b"\x88\xb5" + bytes(986)
            began = time.monotonic()
            with suppress(OSError):
                rig.inject(first, frame)  # tokens are counted from the first packet on
            time.sleep(0.6)
            for _ in range(20):
                with suppress(OSError):  # the sender is told of dropped frames
                    rig.inject(first, frame)
            bucket = obj.buckets[0]
            most = 5_000 + 10_000 * (time.monotonic() - began)
            assert 1_000 <= bucket.sent <= most, (bucket, most)
            assert bucket.sent + bucket.dropped >= 20_000, bucket


@play
def redirect(rig: Rig, load: Load) -> None:
    with rig.network(), rig.cgroup() as group, socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        server.settimeout(DEADLINE)
        port = server.getsockname()[1]
        with load("redirect") as obj, obj.redirect.attach(cgroup=group):
            wanted = {"address": int(ipaddress.IPv4Address("127.9.9.9")), "port": 80}
            given = {"address": int(ipaddress.IPv4Address("127.0.0.1")), "port": port}
            obj.targets[wanted] = given

            def connect() -> None:
                with socket.create_connection(("127.9.9.9", 80), timeout=DEADLINE) as one:
                    assert one.recv(5) == b"hello"

            def serve() -> None:
                with server.accept()[0] as one:
                    one.sendall(b"hello")

            thread = threading.Thread(target=serve)
            thread.start()
            assert rig.child(connect, group) == 0
            thread.join()


@play
def rtt(rig: Rig, load: Load) -> None:
    with rig.network(), rig.cgroup() as group, load("rtt") as obj, obj.measure.attach(cgroup=group):

        def talk() -> None:
            with socket.socket() as server:
                server.bind(("127.0.0.1", 0))
                server.listen()
                with socket.create_connection(server.getsockname()) as one, server.accept()[0] as other:
                    for _ in range(20):
                        one.sendall(b"x" * 100)
                        other.recv(100)
                        other.sendall(b"y" * 100)
                        one.recv(100)

        assert rig.child(talk, group) == 0
        assert sum(obj.rtts[slot] for slot in range(32)) > 0


@play
def latency(rig: Rig, load: Load) -> None:
    path = rig.library()
    library = ctypes.CDLL(path)
    with (
        load("latency") as obj,
        obj.entry.attach(path, "fire", pid=os.getpid()),
        obj.returned.attach(path, "fire", pid=os.getpid()),
    ):
        for number in range(50):
            library.fire(number)
        assert sum(obj.took[slot] for slot in range(64)) == 50
        assert obj.bss.slowest > 0


def _ping(count: int) -> None:
    """ICMP echo requests to ourselves."""
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, 1) as raw:
        for number in range(count):
            head = struct.pack(">BBHHH", 8, 0, 0, 7, number)
            total = sum(struct.unpack(">4H", head))
            raw.sendto(head[:2] + struct.pack(">H", ~total & 0xFFFF) + head[4:], ("127.0.0.1", 0))


@play
def dispatch(rig: Rig, load: Load) -> None:
    with rig.network(), load("dispatch") as obj, obj.dispatch.attach("lo", mode="generic"):
        _ping(2)
        with socket.socket() as server:
            server.bind(("127.0.0.1", 0))
            server.listen()
            with socket.create_connection(server.getsockname()), server.accept()[0]:
                pass
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
            one.sendto(b"x", ("127.0.0.1", 9))
        wait(lambda: obj.bss.others >= 1)
        assert obj.bss.echoes == 2
        assert obj.bss.opened == 1


@play
def subprograms(rig: Rig, load: Load) -> None:
    with rig.network():
        first, second = rig.pair()
        with load("subprograms") as obj, obj.verify.attach(second, mode="generic"):
            head = rig.mac(second) + rig.mac(first) + b"\x08\x00"
            rig.inject(first, head + _ip_header(good=True) + bytes(26))
            rig.inject(first, head + _ip_header(good=False) + bytes(26))
            wait(lambda: obj.bss.right + obj.bss.wrong >= 2)
            assert (obj.bss.right, obj.bss.wrong) == (1, 1)


def _ip_header(good: bool) -> bytes:
    words = [0x4500, 46, 7, 0, 0x4011, 0, 0x0A09, 0x0001, 0x0A09, 0x0002]
    total = sum(words)
    total = (total & 0xFFFF) + (total >> 16)
    words[5] = (~total & 0xFFFF) ^ (0 if good else 1)
    return struct.pack(">10H", *words)


@play
def tasks(rig: Rig, load: Load) -> None:
    from skep.kernel.iter import Iter

    with load("tasks", variables={"only_pid": os.getpid()}) as obj, obj.tasks.attach() as link:
        rows = [line.split() for line in Iter(link).lines()]
    mine = [row for row in rows if row[0] == str(os.getpid())]
    assert len(mine) == 1, rows
    comm = Path(f"/proc/{os.getpid()}/comm").read_text().strip()
    assert mine[0][:3] == [str(os.getpid()), str(os.getpid()), str(os.getppid())], mine
    assert " ".join(mine[0][3:]) == comm
    assert all(row[1] == str(os.getpid()) for row in rows if row[0].isdigit())


@play
def tcplife(rig: Rig, load: Load) -> None:
    with rig.network(), socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        with load("tcplife", variables={"only_port": port}) as obj:
            obj.attach()
            reader = obj.reader("connections")
            with socket.create_connection(("127.0.0.1", port)) as client, server.accept()[0] as other:
                mine = client.getsockname()[1]
                client.sendall(b"x" * 1000)
                assert len(other.recv(1000, socket.MSG_WAITALL)) == 1000
                client.shutdown(socket.SHUT_WR)
                assert other.recv(1) == b""

            def ours(rows: list[Any]) -> list[Any]:
                # other namespaces may have connections of the same port
                return [row for row in rows if {row.local_port, row.remote_port} == {port, mine}]

            found = ours(events(reader, lambda rows: len(ours(rows)) >= 2))
    rows = {row.local_port: row for row in found}
    assert set(rows) == {port, mine}, found
    asking = rows[mine]
    assert bytes(asking.local) == bytes(asking.remote) == bytes((127, 0, 0, 1)) + bytes(12)
    assert asking.remote_port == port and asking.pid == os.getpid() and asking.nanoseconds > 0
    assert 1000 <= asking.acknowledged <= 1002 and asking.received in (0, 1), asking
    assert rows[port].received in range(1000, 1003), rows[port]


@play
def runqlat(rig: Rig, load: Load) -> None:
    code = "import time\nend = time.time() + 600\nwhile time.time() < end: time.sleep(0.001)"
    with subprocess.Popen([sys.executable, "-S", "-c", code]) as process:
        try:
            with load("runqlat", variables={"only_pid": process.pid}) as obj:
                obj.attach()
                wait(lambda: sum(obj.bss.waited) >= 50)
                rows = list(obj.bss.waited)
                assert set(obj.waiting) <= {process.pid}
        finally:
            process.kill()
    assert sum(rows) >= 50 and not any(rows[44:]), rows  # none waited for hours


def _datagram(source: str, target: str, port: int, payload: bytes, protocol: int = 17) -> bytes:
    """An Ethernet frame with IPv4 and the ports 4000 and ``port``."""
    addresses = socket.inet_aton(source) + socket.inet_aton(target)
    udp = struct.pack(">HHHH", 4000, port, 8 + len(payload), 0) + payload
    head = struct.pack(">BBHHHBBH", 0x45, 8, 20 + len(udp), 0, 0, 64, protocol, 0) + addresses
    return bytes.fromhex("020000000002 020000000001 0800") + head + udp


@play
def balancer(rig: Rig, load: Load) -> None:
    with load("balancer", variables={"own_address": 0x0A000001}) as obj:
        obj.servers[3] = (0x0A000063, bytes.fromhex("020000000063"))
        obj.servers[4] = (0x0A000064, bytes.fromhex("020000000064"))
        obj.slots.update((slot, 3 + slot % 2) for slot in range(4093))
        obj.services[(0x0A0000FE, 80, 17)] = 1
        other = _datagram("10.0.0.9", "10.0.0.254", 81, b"x")
        assert obj.balance.run(other).retval == 2  # XDP_PASS
        seen = set()
        for host in range(1, 33):
            frame = _datagram(f"10.0.1.{host}", "10.0.0.254", 80, b"hello")
            for _ in range(2):
                done = obj.balance.run(frame, data_out=256)
                assert done.retval == 3, done  # XDP_TX
                head = done.data[14:34]
                assert sum(struct.unpack(">10H", head)) % 0xFFFF == 0  # the checksum is right
                assert (head[0], head[1], head[9], head[12:16]) == (0x45, 8, 4, b"\x0a\x00\x00\x01")
                assert done.data[34:] == frame[14:]
                last = head[19]
                assert done.data[:14] == bytes((2, 0, 0, 0, 0, last, 2, 0, 0, 0, 0, 2, 8, 0))
                seen.add((host, last))
        assert len(seen) == 32  # each flow went to one server
        assert {last for _, last in seen} == {0x63, 0x64}
        assert sum(obj.sent[3]) + sum(obj.sent[4]) == 64
        obj.slots.update((slot, 5) for slot in range(4093))  # flows that are known stay
        done = obj.balance.run(_datagram("10.0.1.1", "10.0.0.254", 80, b"hello"), data_out=256)
        assert (1, done.data[33]) in seen


@play
def dns(rig: Rig, load: Load) -> None:
    def name(text: str) -> bytes:
        return b"".join(bytes([len(label)]) + label for label in text.encode().split(b".")) + b"\0"

    def question(text: str, kind: int, flags: int = 0x0100) -> bytes:
        body = struct.pack(">6H", 7, flags, 1, 0, 0, 0) + name(text) + struct.pack(">HH", kind, 1)
        return _datagram("10.0.0.9", "10.0.0.1", 53, body)

    with load("dns") as obj:
        obj.blocked[name("ads.example.com").ljust(64, b"\0")] = 1

        def run(*words: Any) -> int:
            verdict: int = obj.questions.run(question(*words)).retval
            return verdict

        assert run("Www.Example.COM", 28) == 2
        assert run("www.example.com", 28) == 2
        assert run("ADS.example.com", 1) == 1  # XDP_DROP
        assert run("www.example.com", 1, 0x8180) == 2  # an answer: not counted
        assert obj.questions.run(question("www.example.com", 1)[:-8]).retval == 1  # cut short
        rows = {(bytes(q.name).rstrip(b"\0") + b"\0", q.type): count for q, count in obj.asked.items()}
    assert rows == {(name("www.example.com"), 28): 2, (name("ads.example.com"), 1): 1}
