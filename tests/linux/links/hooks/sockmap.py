"""Verdicts on the sockets of a sockmap."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager

from skep.uapi.enums import AttachType, MapType, ProgType
from tests.linux.links.rig import DEADLINE, Rig, scenario, wait


@contextmanager
def _connection() -> Iterator[tuple[socket.socket, socket.socket]]:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        with socket.create_connection(server.getsockname()) as client, server.accept()[0] as peer:
            yield client, peer


def _map(rig: Rig) -> int:
    fd = rig.kernel.map_create(MapType.SOCKMAP, 4, 4, 2, name="socks")
    rig.later(lambda: rig.kernel.close(fd))
    return fd


@scenario()
def sk_msg(rig: Rig) -> None:
    for by_link in (None, False):
        passing, dropping = (
            rig.counter(ProgType.SK_MSG, AttachType.SK_MSG_VERDICT, ret=ret) for ret in (1, 0)
        )
        socks = _map(rig)
        with rig.network(), _connection() as (client, peer), passing.attach(socks, link=by_link) as link:
            linked = by_link is None and rig.at_least("6.10")
            assert link.kind == ("bpf_link" if linked else "prog_attach")
            rig.kernel.map_update_elem(socks, b"\0\0\0\0", struct.pack("=I", client.fileno()))
            client.send(b"skep")
            peer.settimeout(DEADLINE)
            assert peer.recv(8) == b"skep" and passing.hits == 1
            link.update(dropping)
            # for sockets put in from now on
            rig.kernel.map_delete_elem(socks, b"\0\0\0\0")
            rig.kernel.map_update_elem(socks, b"\0\0\0\0", struct.pack("=I", client.fileno()))
            with contextlib.suppress(OSError):
                client.send(b"no")
            assert dropping.hits >= 1
            rig.kernel.map_delete_elem(socks, b"\0\0\0\0")


@scenario("5.13")
def sk_skb(rig: Rig) -> None:
    if not rig.at_least("5.13"):
        program = rig.counter(ProgType.SK_SKB, AttachType.SK_SKB_VERDICT, load_type=False)
        program.attach(_map(rig))
    for where in (AttachType.SK_SKB_VERDICT, AttachType.SK_SKB_STREAM_VERDICT):
        program = rig.counter(ProgType.SK_SKB, where, ret=1, load_type=False)
        socks = _map(rig)
        with rig.network(), _connection() as (client, peer), program.attach(socks):
            rig.kernel.map_update_elem(socks, b"\0\0\0\0", struct.pack("=I", peer.fileno()))
            client.send(b"skep")
            wait(lambda counter=program: counter.hits)  # type: ignore[misc]  # bound now
            rig.kernel.map_delete_elem(socks, b"\0\0\0\0")


@scenario()
def parser(rig: Rig) -> None:
    """A parser and a verdict together; the parser says how long a message is."""
    parser = rig.counter(ProgType.SK_SKB, AttachType.SK_SKB_STREAM_PARSER, ret=4, load_type=False)
    verdict = rig.counter(ProgType.SK_SKB, AttachType.SK_SKB_STREAM_VERDICT, ret=1, load_type=False)
    socks = _map(rig)
    with rig.network(), _connection() as (client, peer), parser.attach(socks), verdict.attach(socks):
        rig.kernel.map_update_elem(socks, b"\0\0\0\0", struct.pack("=I", peer.fileno()))
        client.send(b"skep")
        wait(lambda: parser.hits and verdict.hits)
        rig.kernel.map_delete_elem(socks, b"\0\0\0\0")
