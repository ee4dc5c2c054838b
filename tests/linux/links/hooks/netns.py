"""Programs of a network namespace."""

from __future__ import annotations

import os
import socket

from skep.uapi.enums import AttachType, ProgType
from tests.linux.links.rig import Rig, scenario


@scenario("5.9")
def sk_lookup(rig: Rig) -> None:
    passing, dropping = (rig.counter(ProgType.SK_LOOKUP, AttachType.SK_LOOKUP, ret=ret) for ret in (1, 0))
    with rig.network():
        with passing.attach() as link:
            assert link.kind == "bpf_link"
            assert rig.ping_self() == 1 and passing.hits == 1
            link.update(dropping)
            assert rig.ping_self(dropped=dropping) == 0
            hits = dropping.hits
        assert rig.ping_self() == 1 and dropping.hits == hits
    with rig.network():
        assert rig.ping_self() == 1 and passing.hits == 1


@scenario()
def flow_dissector(rig: Rig) -> None:
    """It runs where a packet's hash is asked for: at a socket with a fanout by hash."""
    for by_link in (None, False):
        program = rig.counter(ProgType.FLOW_DISSECTOR, AttachType.FLOW_DISSECTOR, ret=2)  # BPF_DROP
        other = rig.counter(ProgType.FLOW_DISSECTOR, AttachType.FLOW_DISSECTOR, ret=2)
        with rig.network(), socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0x0300) as raw:
            raw.bind(("lo", 3))
            raw.setsockopt(263, 18, os.getpid() & 0xFFFF)  # SOL_PACKET, PACKET_FANOUT by hash
            with program.attach(link=by_link) as link:
                assert link.kind == (
                    "prog_attach" if by_link is False or not rig.at_least("5.8") else "bpf_link"
                )
                rig.ping_self()
                assert program.hits
                link.update(other)
                rig.ping_self()
                assert other.hits
            hits = other.hits
            rig.ping_self()
            assert other.hits == hits
