"""Filters of sockets and of reuseport groups."""

from __future__ import annotations

import socket

from skep.uapi.enums import ProgType
from tests.linux.links.rig import DEADLINE, Rig, scenario, wait


@scenario()
def filter(rig: Rig) -> None:
    passing, dropping = rig.counter(ProgType.SOCKET_FILTER, ret=-1), rig.counter(ProgType.SOCKET_FILTER)
    one, two = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with one, two:
        two.setblocking(False)
        with passing.attach(two) as link:
            assert link.kind == "socket"
            one.send(b"skep")
            assert passing.hits == 1 and two.recv(8) == b"skep"
            link.update(dropping)
            one.send(b"skep")
            assert dropping.hits == 1 and _empty(two)
        one.send(b"skep")
        assert dropping.hits == 1 and two.recv(8) == b"skep"
        link = passing.attach(two)
    link.close()  # the socket is gone: nothing to undo, and no error


def _empty(sock: socket.socket) -> bool:
    try:
        sock.recv(8)
    except BlockingIOError:
        return True
    return False


@scenario()
def reuseport(rig: Rig) -> None:
    program = rig.counter(ProgType.SK_REUSEPORT, ret=0)  # SK_DROP
    with rig.network(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        server.bind(("127.0.0.1", 0))
        server.settimeout(DEADLINE)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            with program.attach(server) as link:
                assert link.kind == "socket"
                client.sendto(b"skep", server.getsockname())
                wait(lambda: program.hits == 1)
            client.sendto(b"again", server.getsockname())
            assert server.recv(8) == b"again" and program.hits == 1


@scenario()
def reuseport_by_filter(rig: Rig) -> None:
    program = rig.counter(ProgType.SOCKET_FILTER, ret=0)
    with rig.network(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        server.bind(("127.0.0.1", 0))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            other.bind(server.getsockname())
            with (
                program.attach(server, reuseport=True),
                socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
            ):
                client.sendto(b"skep", server.getsockname())
                wait(lambda: program.hits == 1)
