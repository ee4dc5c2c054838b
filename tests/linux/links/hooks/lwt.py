"""Programs on routes."""

from __future__ import annotations

import socket
import struct
from pathlib import Path

from skep.uapi.enums import ProgType
from tests.linux.links.rig import Rig, scenario, wait


@scenario()
def out_and_xmit(rig: Rig) -> None:
    for type in (ProgType.LWT_OUT, ProgType.LWT_XMIT):
        program, other = rig.counter(type), rig.counter(type)
        with rig.network():
            first, _ = rig.pair()
            with program.attach("10.77.0.0/16", via="10.9.0.2", dev=first, metric=5, headroom=64) as link:
                assert link.kind == "netlink"
                _send("10.77.1.2")
                assert program.hits >= 1
                link.update(other)
                hits = program.hits
                _send("10.77.1.2")
                assert other.hits >= 1 and program.hits == hits
            try:
                _send("10.77.1.2")
            except OSError:
                pass  # no route is left
            else:
                raise AssertionError("the route is still there")


def _send(to: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"skep", (to, 9))


@scenario()
def into(rig: Rig) -> None:
    """lwt_in runs when a forwarded packet's route is found."""
    program = rig.counter(ProgType.LWT_IN, ret=2)  # BPF_DROP
    with rig.network():
        first, second = rig.pair()
        for name in ("all", "default", first):
            Path(f"/proc/sys/net/ipv4/conf/{name}/rp_filter").write_text("0")
            Path(f"/proc/sys/net/ipv4/conf/{name}/forwarding").write_text("1")
        with program.attach("10.77.0.0/16", via="10.9.0.2", dev=first):
            header = struct.pack(
                ">BBHHHBBH4s4s", 0x45, 0, 28, 1, 0, 64, 17, 0, bytes((10, 8, 0, 9)), bytes((10, 77, 1, 2))
            )
            total = sum(struct.unpack(">10H", header))
            total = (total & 0xFFFF) + (total >> 16)
            total = (total & 0xFFFF) + (total >> 16)
            header = header[:10] + struct.pack(">H", ~total & 0xFFFF) + header[12:]
            frame = rig.mac(first) + rig.mac(second) + b"\x08\x00" + header + struct.pack(">HHHH", 5, 9, 8, 0)
            wait(lambda: program.hits, lambda: rig.inject(second, frame))


@scenario()
def seg6local(rig: Rig) -> None:
    program = rig.counter(ProgType.LWT_SEG6LOCAL, ret=2)  # BPF_DROP
    with rig.network():
        first, second = rig.pair()
        Path("/proc/sys/net/ipv6/conf/all/forwarding").write_text("1")
        for name in ("all", first):
            Path(f"/proc/sys/net/ipv6/conf/{name}/seg6_enabled").write_text("1")
        here, there = (
            socket.inet_pton(socket.AF_INET6, "fc00:77::1"),
            socket.inet_pton(socket.AF_INET6, "fc00:77::2"),
        )
        with program.attach("fc00:77::1/128", dev=first):
            routing = struct.pack(">BBBBBBH", 59, 4, 4, 1, 1, 0, 0) + there + here
            header = struct.pack(">IHBB", 6 << 28, len(routing), 43, 64) + socket.inet_pton(
                socket.AF_INET6, "fc00:9::9"
            )
            frame = rig.mac(first) + rig.mac(second) + b"\x86\xdd" + header + here + routing
            wait(lambda: program.hits, lambda: rig.inject(second, frame))
