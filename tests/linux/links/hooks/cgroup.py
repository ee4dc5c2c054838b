"""Every hook of a cgroup fires for a child that is in it, by link and by BPF_PROG_ATTACH."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable
from pathlib import Path

from skep.errors import KernelError
from skep.linux.links.cgroup import opened
from skep.uapi.enums import SINCE, AttachType, ProgType
from tests.linux.links.rig import DEADLINE, Rig, Scenario, scenario

A, P = AttachType, ProgType


def _udp(family: int = socket.AF_INET, connect: bool = True) -> None:
    host = "127.0.0.1" if family == socket.AF_INET else "::1"
    with (
        socket.socket(family, socket.SOCK_DGRAM) as server,
        socket.socket(family, socket.SOCK_DGRAM) as client,
    ):
        server.bind((host, 0))
        server.settimeout(DEADLINE)
        client.sendto(b"skep", server.getsockname())
        server.recvfrom(8)
        if connect:
            client.connect(server.getsockname())
            client.getpeername()


def _udp6() -> None:
    _udp(socket.AF_INET6)


def _tcp() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        with socket.create_connection(server.getsockname()):
            server.accept()[0].close()


def _unix() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(b"\0skep-%d" % os.getpid())
        server.settimeout(DEADLINE)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
            client.sendto(b"skep", server.getsockname())
            client.bind(b"\0skep-c%d" % os.getpid())
            client.connect(server.getsockname())
            client.getpeername()
            client.send(b"more")
            server.recvfrom(8)
            server.recvfrom(8)


def _options() -> None:
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


def _device() -> None:
    Path("/dev/null").write_bytes(b"")


def _sysctl() -> None:
    Path("/proc/sys/kernel/ostype").read_text()


_HOOKS: list[tuple[ProgType, AttachType, Callable[[], None]]] = [
    (P.CGROUP_SKB, A.CGROUP_INET_INGRESS, _udp),
    (P.CGROUP_SKB, A.CGROUP_INET_EGRESS, _udp),
    (P.CGROUP_SOCK, A.CGROUP_INET_SOCK_CREATE, _udp),
    (P.CGROUP_SOCK, A.CGROUP_INET_SOCK_RELEASE, _udp),
    (P.CGROUP_SOCK, A.CGROUP_INET4_POST_BIND, _udp),
    (P.CGROUP_SOCK, A.CGROUP_INET6_POST_BIND, _udp6),
    (P.CGROUP_SOCK_ADDR, A.CGROUP_INET4_BIND, _udp),
    (P.CGROUP_SOCK_ADDR, A.CGROUP_INET6_BIND, _udp6),
    (P.CGROUP_SOCK_ADDR, A.CGROUP_INET4_CONNECT, _tcp),
    (P.CGROUP_SOCK_ADDR, A.CGROUP_INET6_CONNECT, _udp6),
    (P.CGROUP_SOCK_ADDR, A.CGROUP_UDP4_SENDMSG, _udp),
    (P.CGROUP_SOCK_ADDR, A.CGROUP_UDP6_SENDMSG, _udp6),
    (P.CGROUP_SOCK_ADDR, A.CGROUP_UDP4_RECVMSG, _udp),
    (P.CGROUP_SOCK_ADDR, A.CGROUP_UDP6_RECVMSG, _udp6),
    (P.CGROUP_SOCK_ADDR, A.CGROUP_INET4_GETPEERNAME, _udp),
    (P.CGROUP_SOCK_ADDR, A.CGROUP_INET6_GETPEERNAME, _udp6),
    (P.CGROUP_SOCK_ADDR, A.CGROUP_INET4_GETSOCKNAME, _udp),
    (P.CGROUP_SOCK_ADDR, A.CGROUP_INET6_GETSOCKNAME, _udp6),
    (P.CGROUP_SOCK_ADDR, A.CGROUP_UNIX_CONNECT, _unix),
    (P.CGROUP_SOCK_ADDR, A.CGROUP_UNIX_SENDMSG, _unix),
    (P.CGROUP_SOCK_ADDR, A.CGROUP_UNIX_RECVMSG, _unix),
    (P.CGROUP_SOCK_ADDR, A.CGROUP_UNIX_GETPEERNAME, _unix),
    (P.CGROUP_SOCK_ADDR, A.CGROUP_UNIX_GETSOCKNAME, _unix),
    (P.CGROUP_SOCKOPT, A.CGROUP_SETSOCKOPT, _options),
    (P.CGROUP_SOCKOPT, A.CGROUP_GETSOCKOPT, _options),
    (P.CGROUP_DEVICE, A.CGROUP_DEVICE, _device),
    (P.CGROUP_SYSCTL, A.CGROUP_SYSCTL, _sysctl),
    (P.SOCK_OPS, A.CGROUP_SOCK_OPS, _tcp),
]
#: what a failing program does to the deed: all these return 1, "go on"
_GO_ON = 1


def _make(type: ProgType, where: AttachType, act: Callable[[], None]) -> Scenario:
    since = SINCE[where.c_name]

    def play(rig: Rig) -> None:
        known = rig.at_least(since)
        program = rig.counter(
            type,
            where,
            ret=_GO_ON,
            load_type=known and type not in (P.CGROUP_SKB, P.CGROUP_DEVICE, P.SOCK_OPS),
        )
        with rig.network(), rig.cgroup() as path:
            for link in (None, False):
                with program.attach(path, link=link) as attached:
                    if link is None:
                        assert attached.kind == ("bpf_link" if rig.at_least("5.7") else "prog_attach")
                    else:
                        assert attached.kind == "prog_attach"
                    assert rig.child(act, path) == 0, "the deed failed"
                    hits = program.hits
                    assert hits, f"{where.name} did not fire by {attached.kind}"
                assert rig.child(act, path) == 0
                assert program.hits == hits, f"{where.name} fires although its link is closed"

    play.__name__ = where.name.lower()
    play.__module__ = __name__
    return Scenario(play, since, "")


for _row in _HOOKS:
    globals()[_row[1].name.lower()] = _make(*_row)


@scenario()
def update(rig: Rig) -> None:
    """A program is replaced in one step by either mechanism, and the new one's verdict counts."""
    for link in (None, False):
        yes, no = (rig.counter(P.CGROUP_SOCK_ADDR, A.CGROUP_INET4_CONNECT, ret=ret) for ret in (1, 0))
        with rig.network(), rig.cgroup() as path, yes.attach(path, link=link) as attached:
            assert rig.child(_tcp, path) == 0
            attached.update(no)
            assert rig.child(_tcp, path) == 1 and no.hits == 1


@scenario("6.0", "LSM programs")
def lsm(rig: Rig) -> None:
    id = rig.btf_id("bpf_lsm_socket_create")
    try:
        program = rig.counter(P.LSM, A.LSM_CGROUP, ret=1, attach_btf_id=id)
    except KernelError:
        if rig.at_least("6.0"):
            raise
        program = rig.counter(P.LSM, A.LSM_MAC, ret=0, attach_btf_id=id)
        program.spec.attach_type = A.LSM_CGROUP
    with rig.network(), rig.cgroup() as path:
        with program.attach(path):
            assert rig.child(_udp, path) == 0 and program.hits
        hits = program.hits
        assert rig.child(_udp, path) == 0 and program.hits == hits


@scenario()
def refusals(rig: Rig) -> None:
    program = rig.counter(P.CGROUP_SKB, ret=1)
    with rig.cgroup() as path, contextlib.ExitStack() as stack:
        for arguments, words in (
            ((), "cgroup"),
            (("/nowhere", "ingress"), "/nowhere"),
            ((path,), "which hook"),
        ):
            try:
                stack.enter_context(program.attach(*arguments))
            except KernelError as error:
                assert words in str(error), error
            else:
                raise AssertionError(f"{arguments} attached")


@scenario("6.17", early="6.12")
def ordered(rig: Rig) -> None:
    """A program put before or after another is listed there, which is the order they run in."""
    from skep.uapi.attr import INFO

    first, middle, last = (
        rig.counter(P.CGROUP_SKB, A.CGROUP_INET_EGRESS, ret=1, load_type=False) for _ in "123"
    )
    with (
        rig.cgroup() as path,
        middle.attach(path) as link,
        first.attach(path, before=link),
        last.attach(path, after=link),
        opened(path) as fd,
    ):
        ids = [
            INFO["bpf_prog_info"].unpack(rig.kernel.obj_get_info_by_fd(one.fd, "prog"))["id"]
            for one in (first, middle, last)
        ]
        assert rig.kernel.prog_query(fd, A.CGROUP_INET_EGRESS)["prog_ids"] == ids
