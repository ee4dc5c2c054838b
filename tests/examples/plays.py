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
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from tests.linux.links.rig import Rig
from tests.support.lock import locked

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
        self.process.communicate(timeout=30)
        os.close(self._gate)
        return self.process.returncode


#: replaces itself by the command, so the id stays
_WAITER = """
import os, sys
print("ready", flush=True)
os.read(int(sys.argv[1]), 1)
os.execvp(sys.argv[2], sys.argv[2:])
"""


def events(reader: Any, enough: Callable[[list[Any]], bool], seconds: float = 10.0) -> list[Any]:
    """What a reader gives until it is enough."""
    found: list[Any] = []
    end = time.monotonic() + seconds
    while not enough(found) and time.monotonic() < end:
        if reader.wait(0.1):
            found += reader.read()
    return found


@contextmanager
def busy(seconds: float = 30.0) -> Iterator[int]:
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
    lock = Path("/tmp/skep-trace-pipe.lock")
    with locked(lock) if os.access("/tmp", os.W_OK) else nullcontext():
        done = subprocess.run(
            ["unshare", "-m", "sh", "-c", script, "sh", *skep, "--", *child],
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert done.returncode == 0, done.stderr
    pid = done.stdout.partition("I am ")[2].split()[0]
    assert f"Hello BPF, from process {pid}" in done.stdout, done.stdout


@play
def opensnoop(rig: Rig, load: Load) -> None:
    child = Child("/bin/cat", "/etc/hostname", "/nonexistent/skep")
    with load("opensnoop", variables={"only_pid": child.pid}) as obj:
        obj.attach()
        reader = obj.reader("events")
        child.wait()
        found = events(reader, lambda rows: any(row.path == b"/nonexistent/skep" for row in rows))
    assert {row.pid for row in found} == {child.pid}
    assert {row.comm for row in found} <= {b"cat", b"python3", b"python"}
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
        mine = lambda rows: [row for row in rows if row.pid == child.pid]  # noqa: E731
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
        end = time.monotonic() + 20
        while obj.calls.get(getppid, 0) < 1000 and time.monotonic() < end:
            time.sleep(0.1)
        took = [obj.took[slot] for slot in range(64)]
        calls = dict(obj.calls.items())
    assert calls[getppid] >= 1000
    assert 0 < sum(took) <= sum(calls.values()), (took, calls)


@play
def profile(rig: Rig, load: Load) -> None:
    with busy() as pid, load("profile", variables={"only_pid": pid}) as obj:
        link = obj.sample.attach("cpu-clock", frequency=999)
        time.sleep(0.7)
        link.close()
        rows = list(obj.counts.items())
        assert rows
        assert {row.pid for row, _ in rows} == {pid}
        assert sum(count for _, count in rows) > 20
        stacks = [obj.stacks[row.user] for row, _ in rows if row.user >= 0]
        assert stacks
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
        assert rig.ping_self() == 0
        assert sum(obj.packets[home]) == before + 1
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
        server.settimeout(10)
        port = server.getsockname()[1]
        with load("redirect") as obj, obj.redirect.attach(cgroup=group):
            wanted = {"address": int(ipaddress.IPv4Address("127.9.9.9")), "port": 80}
            given = {"address": int(ipaddress.IPv4Address("127.0.0.1")), "port": port}
            obj.targets[wanted] = given

            def connect() -> None:
                with socket.create_connection(("127.9.9.9", 80), timeout=5) as one:
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
        assert obj.bss.echoes == 2
        assert obj.bss.opened == 1
        assert obj.bss.others >= 1


@play
def subprograms(rig: Rig, load: Load) -> None:
    with rig.network():
        first, second = rig.pair()
        with load("subprograms") as obj, obj.verify.attach(second, mode="generic"):
            head = rig.mac(second) + rig.mac(first) + b"\x08\x00"
            rig.inject(first, head + _ip_header(good=True) + bytes(26))
            rig.inject(first, head + _ip_header(good=False) + bytes(26))
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
