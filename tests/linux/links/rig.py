"""What the hooks' scenarios stand on: programs that count, networks and cgroups of their own.

A scenario is a function of a `Rig`, the same on the running kernel (test_hooks.py) and in emulated ones
(tests/kernels), so nothing here imports pytest.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from skep.errors import KernelError
from skep.isa import Insn, encode
from skep.kernel.link import Link
from skep.kernel.program import Program
from skep.linux import netlink as nl
from skep.linux.kernel import LinuxKernel
from skep.linux.links.tracefs import detached_mount
from skep.obj.spec import ProgramSpec
from skep.uapi.attr import INFO
from skep.uapi.enums import AttachType, MapType, ProgType

FUNC, TYPEDEF = 12, 8
_EXIT = Insn(0x95)
HERE = Path(__file__).resolve().parent
#: seconds; only what never happens takes them, on machines however slow
DEADLINE = 120.0


def wait(done: Callable[[], object], deed: Callable[[], object] | None = None) -> None:
    """Until ``done()`` is true. ``deed``, when given, is done again every second, for what may get lost.

    Packets are delivered after the call that sent them returns, when another thread of the kernel does that.
    """
    end = time.monotonic() + DEADLINE
    again = 0.0
    while not done():
        now = time.monotonic()
        assert now < end, f"not within {DEADLINE:.0f} seconds"
        if deed is not None and now >= again:
            deed()
            again = now + 1
        else:
            time.sleep(0.002)


def interface_is_up(netns: str, name: str) -> bool:
    """Whether a named namespace's interface sends: some time after its other end is up, too."""
    words = ["ip", "-n", netns, "-o", "link", "show", "dev", name]
    return " state UP " in subprocess.run(words, capture_output=True, text=True, check=True).stdout


class Skipped(Exception):
    """The scenario cannot be played here; the message says what is missing."""


class Scenario:
    """A function of a rig. ``since``: the first Linux where the hook exists; before, NotSupported is right.

    ``refused``: what the test machine's own kernel may lack or refuse, so that only emulated kernels count.
    """

    def __init__(self, play: Callable[[Rig], None], since: str, refused: str, early: str = "") -> None:
        self.play = play
        self.name = f"{play.__module__.rpartition('.')[2]}.{play.__name__}"
        self.since = tuple(map(int, since.split(".")))
        self.refused = refused
        #: from this version on a stable kernel may have it before ``since``, by a fix carried back
        self.early = tuple(map(int, (early or since).split(".")))


def scenario(
    since: str = "0.0", refused: str = "", early: str = ""
) -> Callable[[Callable[[Rig], None]], Scenario]:
    return lambda play: Scenario(play, since, refused, early)


class Gone(Link):
    """A link that is gone when it has been closed.

    Others who list the machine's links or descriptors hold each for a moment, and until then it fires.
    """

    __slots__ = ()

    def close(self) -> None:
        if self.closed:
            return
        id = INFO["bpf_link_info"].unpack(self.kernel.obj_get_info_by_fd(self.fd, "link"))["id"]
        super().close()
        assert isinstance(id, int)
        wait(lambda: not self._there(id))

    def _there(self, id: int) -> bool:
        try:
            self.kernel.close(self.kernel.get_fd_by_id("link", id))
        except KernelError:
            return False
        return True


class Counter(Program):
    """A program that counts its runs in an array map. `hits` reads it, `seen` the cookie it found."""

    __slots__ = ("map_fd",)

    map_fd: int

    def attach(self, *where: Any, **options: Any) -> Link:
        link = super().attach(*where, **options)
        if type(link) is Link:
            link.__class__ = Gone
        return link

    def _value(self) -> tuple[int, int]:
        value = bytearray(16)
        self.kernel.map_lookup_elem(self.map_fd, b"\0\0\0\0", value)
        hits, cookie = struct.unpack("=QQ", value)
        return hits, cookie

    @property
    def hits(self) -> int:
        return self._value()[0]

    @property
    def seen(self) -> int:
        return self._value()[1]


class Rig:
    """One scenario's kernel, and what it opened."""

    def __init__(self, folder: str | None = None) -> None:
        self.kernel = LinuxKernel()
        self.folder = folder or tempfile.mkdtemp(prefix=f"skep-rig-{os.getpid()}-")
        self._open: list[Callable[[], None]] = []

    def close(self) -> None:
        while self._open:
            self._open.pop()()

    def later(self, undo: Callable[[], None]) -> None:
        self._open.append(undo)

    def at_least(self, version: str) -> bool:
        major, minor = version.split(".")
        return self.kernel.version >= (int(major), int(minor))

    def require(self, version: str, what: str) -> None:
        if not self.at_least(version):
            raise Skipped(f"{what} needs Linux {version}")

    # --- programs -----------------------------------------------------------------------------

    def counter(
        self,
        type: ProgType,
        attach_type: AttachType | None = None,
        *,
        ret: int = 0,
        own: bool = False,
        cookie: bool = False,
        hook: str = "",
        to: str = "",
        load_type: bool = True,
        flags: int = 0,
        **attr: int,
    ) -> Counter:
        """A loaded program that adds one to its counter and returns ``ret``.

        ``own``: only when this process runs it, so that machine-wide hooks count nothing else.
        ``cookie``: also keeps what bpf_get_attach_cookie() says.
        """
        kernel = self.kernel
        map_fd = kernel.map_create(MapType.ARRAY, 4, 16, 1, name="count")
        self.later(lambda: kernel.close(map_fd))
        value = [Insn(0x18, 1, 2, 0, map_fd), Insn(0)]
        body = [Insn(0xBF, 6, 1)]
        tail = [Insn(0xB7, 2, 0, 0, 1), Insn(0xDB, 1, 2)]
        if cookie:
            tail = [Insn(0xBF, 1, 6), Insn(0x85, imm=174), *value, Insn(0x7B, 1, 0, 8), *tail]
        else:
            tail = [*value, *tail]
        if own:
            place = os.stat("/proc/self/ns/pid")
            device = os.major(place.st_dev) << 20 | os.minor(place.st_dev)
            body += [
                Insn(0xB7, 1, 0, 0, device),
                Insn(0x18, 2, 0, 0, _s32(place.st_ino)),
                Insn(0, imm=_s32(place.st_ino >> 32)),
                Insn(0xBF, 3, 10),
                Insn(0x07, 3, 0, 0, -8),
                Insn(0xB7, 4, 0, 0, 8),
                Insn(0x85, imm=120),  # bpf_get_ns_current_pid_tgid
                Insn(0x55, 0, 0, len(tail) + 2, 0),
                Insn(0x61, 1, 10, -4),
                Insn(0x55, 1, 0, len(tail), os.getpid()),
            ]
        code = encode([*body, *tail, Insn(0xB7, 0, 0, 0, ret), _EXIT])
        fd, _ = kernel.prog_load(
            type,
            code,
            "GPL",
            name="count",
            expected_attach_type=attach_type or 0 if load_type else 0,
            prog_flags=flags,
            **attr,
        )
        program = Counter(kernel, fd, ProgramSpec("count", hook, type, attach_type, hook=hook, attach_to=to))
        program.map_fd = map_fd
        self.later(program.close)
        return program

    def btf_id(self, name: str, kind: int = FUNC) -> int:
        from skep.btf import Btf

        try:
            btf = Btf.kernel()
        except Exception as error:
            raise Skipped(f"kernel BTF: {error}") from None
        for id in btf.ids_named(name):
            if btf.kind_of(id) == kind:
                return id
        raise Skipped(f"{name} in the kernel's BTF")

    # --- networks -----------------------------------------------------------------------------

    @contextmanager
    def network(self) -> Iterator[None]:
        """A new network namespace for the calling thread, with lo up at 127.0.0.1."""
        libc = ctypes.CDLL(None, use_errno=True)
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        try:
            if libc.unshare(0x40000000):
                raise Skipped(f"network namespaces: {os.strerror(ctypes.get_errno())}")
            try:
                self.up("lo")
                yield
            finally:
                libc.setns(home, 0x40000000)
        finally:
            os.close(home)

    def up(self, name: str) -> None:
        with nl.Netlink() as link:
            link.request("up", 16, struct.pack("=BxHiII", 0, 0, socket.if_nametoindex(name), 1, 1))

    def pair(self, kind: str = "veth", mode: int | None = None) -> tuple[str, str]:
        """Two joined interfaces, up, at 10.9.0.1 and 10.9.0.2; ``mode`` of netkit: 0 layer 2, 1 layer 3."""
        head = struct.pack("=BxHiII", 0, 0, 0, 0, 0)
        data = [nl.attr(1, head + nl.text(3, "s1"))]
        if mode is not None:
            data.append(nl.u32(4, mode))  # after the peer's info: IFLA_NETKIT_MODE
        info = nl.nest(18, [nl.text(1, kind), nl.nest(2, data)])
        with nl.Netlink() as link:
            try:
                link.request("add", 16, head + nl.text(3, "s0") + info, nl.NLM_F_CREATE | nl.NLM_F_EXCL)
            except KernelError as error:
                raise Skipped(f"{kind} devices ({error})") from None
            for name, last in (("s0", 1), ("s1", 2)):
                self.up(name)
                address = bytes((10, 9, 0, last))
                message = struct.pack("=BBBBI", 2, 24, 0, 0, socket.if_nametoindex(name))
                message += nl.attr(1, address) + nl.attr(2, address)
                link.request("address", 20, message, nl.NLM_F_CREATE)
        return "s0", "s1"

    def ping_self(self, count: int = 1, *, dropped: Counter | None = None) -> int:
        """Send ``count`` UDP packets to ourselves over lo; how many arrived.

        All of them are waited for; or, with ``dropped``, until that program, which drops them, has run for
        each.
        """
        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
        ):
            server.bind(("127.0.0.1", 0))
            server.settimeout(DEADLINE)
            before = dropped.hits if dropped is not None else 0
            for _ in range(count):
                client.sendto(b"skep", server.getsockname())
            if dropped is not None:
                wait(lambda: dropped.hits >= before + count)
                server.settimeout(0.1)
            arrived = 0
            try:
                for _ in range(count):
                    server.recv(16)
                    arrived += 1
            except TimeoutError:
                pass
            return arrived

    def inject(self, interface: str, frame: bytes) -> None:
        """Send a raw frame out of ``interface``."""
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
            raw.bind((interface, 0x0800))
            raw.send(frame)

    def mac(self, interface: str) -> bytes:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            answer = fcntl.ioctl(sock, 0x8927, struct.pack("16s24x", interface.encode()))  # SIOCGIFHWADDR
        return answer[18:24]

    # --- cgroups ------------------------------------------------------------------------------

    @contextmanager
    def cgroup(self) -> Iterator[str]:
        """A new cgroup of the unified hierarchy."""
        mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
        root = next((place for _, place, kind, *_ in mounts if kind == "cgroup2"), None)
        if root is None:
            try:
                fd = detached_mount("cgroup2")
            except KernelError as error:
                raise Skipped(f"cgroup2 ({error})") from None
            self.later(lambda: os.close(fd))
            root = f"/proc/self/fd/{fd}"
        try:
            path = tempfile.mkdtemp(prefix=f"skep-{os.getpid()}-", dir=root)
        except OSError as error:
            raise Skipped(f"the right to make cgroups ({error})") from None
        try:
            yield path
        finally:
            wait(lambda: _removed(path))

    def child(self, act: Callable[[], None], cgroup: str | None = None) -> int:
        """Run ``act`` in a forked child, in ``cgroup``; its exit status: 0, or 1 when it raised."""
        pid = os.fork()
        if not pid:
            status = 1
            try:
                if cgroup is not None:
                    Path(f"{cgroup}/cgroup.procs").write_text("0")
                act()
                status = 0
            except OSError:
                pass
            finally:
                os._exit(status)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    # --- binaries -----------------------------------------------------------------------------

    def library(self) -> str:
        """The shared object that probes.c makes, built here or beforehand."""
        path = f"{self.folder}/probes.so"
        if not os.path.exists(path):
            build_library(path)
        return path


def build_library(path: str) -> None:
    """Compile probes.c."""
    script = HERE / "probes.map"
    subprocess.run(
        [
            "cc",
            "-O1",
            "-g",
            "-shared",
            "-fPIC",
            f"-Wl,--version-script={script}",
            "-o",
            path,
            HERE / "probes.c",
        ],
        check=True,
    )


def _removed(path: str) -> bool:
    """A cgroup is busy until the last process that ended in it has been switched away from."""
    try:
        os.rmdir(path)
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        return False
    return True


def _s32(value: int) -> int:
    value &= 0xFFFFFFFF
    return value - (1 << 32) if value & 0x80000000 else value


def scenarios() -> list[Scenario]:
    """Every scenario of the modules in hooks/, by file and in the order they are written."""
    from importlib import import_module

    out: list[Scenario] = []
    for file in sorted((HERE / "hooks").glob("*.py")):
        if file.stem != "__init__":
            module = import_module(f"tests.linux.links.hooks.{file.stem}")
            out += [value for value in vars(module).values() if isinstance(value, Scenario)]
    return out


def main() -> None:
    """Play the scenarios named (all without names), for looking at one by hand."""
    for one in scenarios():
        if len(sys.argv) < 2 or any(word in one.name for word in sys.argv[1:]):
            rig = Rig()
            try:
                one.play(rig)
                print(one.name, "ok")
            except Exception as error:
                print(one.name, type(error).__name__, error)
            finally:
                rig.close()


if __name__ == "__main__":
    main()
