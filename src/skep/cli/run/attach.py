"""Where each program of an object goes, by its section and the command line."""

from __future__ import annotations

import os
import sys

from skep.errors import SkepError
from skep.uapi.enums import AttachType, MapType, ProgType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any, Self

    from skep.cli.run.options import Options
    from skep.kernel.link import Link
    from skep.kernel.object import Object
    from skep.kernel.program import Program

_CGROUP = frozenset(
    (
        ProgType.CGROUP_SKB,
        ProgType.CGROUP_SOCK,
        ProgType.CGROUP_DEVICE,
        ProgType.CGROUP_SOCK_ADDR,
        ProgType.CGROUP_SYSCTL,
        ProgType.CGROUP_SOCKOPT,
        ProgType.SOCK_OPS,
    )
)
_LWT = frozenset((ProgType.LWT_IN, ProgType.LWT_OUT, ProgType.LWT_XMIT, ProgType.LWT_SEG6LOCAL))
_SOCKMAPS = frozenset((MapType.SOCKMAP, MapType.SOCKHASH))
#: XDP programs that other programs' maps run
_IN_MAPS = frozenset((AttachType.XDP_DEVMAP, AttachType.XDP_CPUMAP))
_ETH_P_ALL = 3


class Attached:
    """The attachments of one run. A context manager; closing it detaches everything."""

    def __init__(self, made: Object, options: Options) -> None:
        self.made = made
        self.options = options
        self.described: list[str] = []
        #: whether something stays attached, and so is worth waiting for
        self.keeps = False
        self._links: list[Link] = []
        self._sockets: list[Any] = []

    def attach_all(self) -> None:
        """Attach every program and struct_ops map; what was attached before an error, `close` detaches."""
        called = {name for spec in self.made.spec.maps.values() for name in spec.contents.values()}
        for program in self.made.programs.values():
            if program.name in called:
                continue  # a tail call's target, or an operation of a struct
            self._attach(program)
        for name, spec in self.made.spec.maps.items():
            if spec.type == MapType.STRUCT_OPS:
                self._keep(self.made.attach_struct_ops(name), name)

    def _keep(self, link: Link, name: str) -> None:
        self._links.append(link)
        self.keeps = True
        self.described.append(f"{name}: {link.target or 'attached'} ({link.kind})")

    def _attach(self, program: Program) -> None:
        spec, options = program.spec, self.options
        kind = spec.type
        if kind == ProgType.STRUCT_OPS or spec.attach_type in _IN_MAPS:
            return
        if kind == ProgType.XDP:
            for iface in self._ifaces(program):
                link = program.attach(iface, mode=options.xdp_mode, netns=_netns(options))
                self._keep(link, program.name)
        elif kind in (ProgType.SCHED_CLS, ProgType.SCHED_ACT):
            direction = options.direction
            if direction is None and spec.attach_type is None:
                direction = "ingress"
            for iface in self._ifaces(program):
                link = program.attach(iface, direction, netns=_netns(options))
                self._keep(link, program.name)
        elif kind == ProgType.SOCKET_FILTER and options.socket is not None:
            self._keep(program.attach(self._socket(options.socket)), program.name)
        elif kind == ProgType.SOCKET_FILTER:
            for iface in self._ifaces(program):
                self._keep(program.attach(self._raw_socket(iface)), program.name)
        elif kind in _CGROUP or spec.attach_type == AttachType.LSM_CGROUP:
            if options.cgroup is None:
                raise self._needs(program, "--cgroup DIR")
            if not os.path.exists(os.path.join(options.cgroup, "cgroup.procs")):
                raise SkepError(f"--cgroup {options.cgroup}: no cgroup of version 2")
            where = (options.cgroup,) if options.direction is None else (options.cgroup, options.direction)
            self._keep(program.attach(*where), program.name)
        elif kind == ProgType.SYSCALL:
            answer = program.run()
            self.described.append(f"{program.name}: ran once, returned {answer.retval}")
        elif kind == ProgType.TRACING and spec.attach_type == AttachType.TRACE_ITER:
            self._iterate(program)
        elif kind in (ProgType.SK_LOOKUP, ProgType.FLOW_DISSECTOR):
            self._keep(program.attach(_netns(options)), program.name)
        elif kind == ProgType.NETFILTER:
            if options.hook is None:
                raise self._needs(program, "--hook HOOK")
            self._keep(program.attach(options.hook, netns=_netns(options)), program.name)
        elif kind in (ProgType.SK_MSG, ProgType.SK_SKB):
            self._keep(program.attach(self._sockmap(program)), program.name)
        elif kind == ProgType.PERF_EVENT:
            self._keep(self._perf_event(program), program.name)
        elif kind in _LWT:
            self._keep(self._route(program), program.name)
        elif kind == ProgType.SK_REUSEPORT:
            if options.socket is None:
                raise self._needs(program, "--socket PID:FD, a socket of the group")
            self._keep(program.attach(self._socket(options.socket)), program.name)
        elif kind == ProgType.LIRC_MODE2:
            self._keep(self._receiver(program), program.name)
        elif kind == ProgType.EXT:
            self._keep(program.attach(), program.name)
        else:
            self._keep(program.attach(**self._probe_options(program)), program.name)

    def _needs(self, program: Program, what: str) -> SkepError:
        return SkepError(f"{program.name} ({program.spec.type.name.lower()}) needs {what}")

    def _ifaces(self, program: Program) -> list[str]:
        if not self.options.iface:
            raise self._needs(program, "--iface NAME")
        return self.options.iface

    def _probe_options(self, program: Program) -> dict[str, Any]:
        hook = program.spec.hook.removesuffix(".s")
        if self.options.pid is not None and hook.startswith("u"):
            return {"pid": self.options.pid}
        if not program.spec.attach_to:
            section = program.spec.section
            raise SkepError(f"{program.name}: SEC({section!r}) does not say where it attaches")
        return {}

    def _perf_event(self, program: Program) -> Link:
        options = self.options
        pid = -1 if options.pid is None else options.pid
        event = options.event or program.spec.attach_to or "cpu-clock"
        return program.attach(event, pid=pid, frequency=options.freq)

    def _sockmap(self, program: Program) -> Any:
        found = [name for name, spec in self.made.spec.maps.items() if spec.type in _SOCKMAPS]
        if len(found) != 1:
            raise SkepError(f"{program.name}: the object has {len(found)} sockmaps; attach it from Python")
        return self.made.maps[found[0]]

    def _route(self, program: Program) -> Link:
        options = self.options
        if options.route is None:
            raise self._needs(program, "--route DESTINATION and --iface NAME (or --via ADDRESS)")
        dev = options.iface[0] if options.iface else None
        return program.attach(options.route, dev=dev, via=options.via, netns=_netns(options))

    def _receiver(self, program: Program) -> Link:
        device = self.options.lirc
        if device is None:
            found = sorted(name for name in os.listdir("/dev") if name.startswith("lirc"))
            if len(found) != 1:
                many = f"there are {', '.join(found)}" if found else "this machine has no infrared receiver"
                raise SkepError(f"{program.name} (lirc_mode2) needs --lirc DEVICE: {many}")
            device = f"/dev/{found[0]}"
        return program.attach(device)

    def _socket(self, word: str) -> Any:
        from skep.cli.run.targets import socket_of

        made = socket_of(word)
        self._sockets.append(made)
        return made

    def _raw_socket(self, iface: str) -> Any:
        import socket

        from skep.linux.netlink import in_netns

        with in_netns(_netns(self.options)):
            made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
            self._sockets.append(made)
            try:
                made.bind((iface, _ETH_P_ALL))
            except OSError as error:
                raise SkepError(f"--iface {iface}: {error.strerror}") from None
        return made

    def _iterate(self, program: Program) -> None:
        """Run an iterator once and print what it writes."""
        options: dict[str, Any] = {}
        target = program.spec.attach_to
        if target in ("bpf_map_elem", "bpf_sk_storage_map"):
            raise SkepError(
                f"{program.name}: iterators over a map's elements need it: skep iter pin … map MAP"
            )
        if target == "cgroup" and self.options.cgroup is not None:
            options["cgroup"] = self.options.cgroup
        if target.startswith("task") and self.options.pid is not None:
            options["pid"] = self.options.pid
        kernel = self.made.kernel
        with program.attach(**options) as link:
            fd = kernel.iter_create(link.fd)
            try:
                while data := kernel.read(fd, 1 << 16):
                    sys.stdout.flush()
                    _write_all(data)
            finally:
                kernel.close(fd)

    def close(self) -> None:
        for link in reversed(self._links):
            link.close()
        self._links.clear()
        for sock in self._sockets:
            sock.close()
        self._sockets.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _netns(options: Options) -> str | int | None:
    """A name or path, or a process's id."""
    netns = options.netns
    return int(netns) if netns is not None and netns.isdigit() else netns


def _write_all(data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(1, view) :]
