"""Programs on routes: lightweight tunnels (Linux 4.10) and segment routing's End.BPF (4.18), by netlink."""

from __future__ import annotations

import ipaddress
import socket
import struct
from itertools import count

from skep.kernel.link import Link
from skep.linux.links.common import Attachment, bad
from skep.linux.netlink import (
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    Netlink,
    attr,
    in_netns,
    interface_index,
    nest,
    text,
    u32,
)
from skep.uapi.enums import ProgType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from skep.kernel.program import Program
    from skep.kernel.protocol import Kernel

_RTM_NEWROUTE: Final = 24
_RTM_DELROUTE: Final = 25
_RTA_DST: Final = 1
_RTA_OIF: Final = 4
_RTA_GATEWAY: Final = 5
_RTA_PRIORITY: Final = 6
_RTA_TABLE: Final = 15
_RTA_ENCAP_TYPE: Final = 21
_RTA_ENCAP: Final = 22
_ENCAP_BPF: Final = 6
_ENCAP_SEG6_LOCAL: Final = 7
_LWT_BPF_XMIT_HEADROOM: Final = 4
_SEG6_LOCAL_ACTION: Final = 1
_SEG6_LOCAL_BPF: Final = 8
_END_BPF: Final = 15
_PROG_FD: Final = 1
_PROG_NAME: Final = 2
_SLOT: Final = {ProgType.LWT_IN: 1, ProgType.LWT_OUT: 2, ProgType.LWT_XMIT: 3}


def attach(
    kernel: Kernel,
    program: Program,
    destination: str | None = None,
    *,
    dev: str | int | None = None,
    via: str | None = None,
    table: int = 254,
    metric: int = 0,
    headroom: int = 0,
    netns: str | int | None = None,
) -> Link:
    """Add a route to ``destination`` ("10.1.0.0/16") that runs the program; closing the link removes it.

    Args:
        dev, via: where the route leads: an interface, a gateway, or both.
        table, metric: of the route.
        headroom: bytes that an lwt_xmit program may push in front, 0 to 256.
        netns: the network namespace: a name, path or pid.

    Raises:
        KernelError: EEXIST, there is such a route already; what the routing code refuses.
    """
    if destination is None:
        bad(f"{program.name}: give the route: attach('10.1.0.0/16', dev='eth0')")
    try:
        net = ipaddress.ip_network(destination)
        gateway = ipaddress.ip_address(via) if via else None
    except ValueError as error:
        bad(f"{program.name}: {error}")
    family = socket.AF_INET if net.version == 4 else socket.AF_INET6
    with in_netns(netns):
        route = [attr(_RTA_DST, net.network_address.packed), u32(_RTA_TABLE, table)]
        if dev is not None:
            route.append(u32(_RTA_OIF, interface_index(dev)))
        if gateway is not None:
            route.append(attr(_RTA_GATEWAY, gateway.packed))
        if metric:
            route.append(u32(_RTA_PRIORITY, metric))
        # family, prefix, source prefix, tos, table, protocol (static), scope, type (unicast), flags
        scope = 253 if gateway is None and net.version == 4 else 0
        head = struct.pack(
            "=BBBBBBBBI", family, net.prefixlen, 0, 0, table if table < 256 else 0, 4, scope, 1, 0
        )
        base = head + b"".join(route)
        with Netlink() as netlink:
            message = base + _encap(program, program.fd, headroom)
            netlink.request("RTM_NEWROUTE", _RTM_NEWROUTE, message, NLM_F_CREATE | NLM_F_EXCL)

    def undo(_: int) -> None:
        with in_netns(netns), Netlink() as netlink:
            netlink.request("RTM_DELROUTE", _RTM_DELROUTE, base)

    turns = count(1)

    def replace(new: int, _: int) -> None:
        # The kernel compares routes' programs by name alone: under the same name nothing would change.
        message = base + _encap(program, new, headroom, f"~{next(turns)}")
        with in_netns(netns), Netlink() as netlink:
            netlink.request("RTM_NEWROUTE", _RTM_NEWROUTE, message, NLM_F_CREATE | NLM_F_REPLACE)

    target = f"route {destination}"
    return Attachment(kernel, program.fd, kind="netlink", target=target, undo=undo, replace=replace)


def _encap(program: Program, fd: int, headroom: int, mark: str = "") -> bytes:
    run = [u32(_PROG_FD, fd), text(_PROG_NAME, program.name + mark)]
    if program.spec.type == ProgType.LWT_SEG6LOCAL:
        what = nest(_RTA_ENCAP, [u32(_SEG6_LOCAL_ACTION, _END_BPF), nest(_SEG6_LOCAL_BPF, run)])
        kind = _ENCAP_SEG6_LOCAL
    else:
        inner = [nest(_SLOT[program.spec.type], run)]
        if headroom:
            inner.append(u32(_LWT_BPF_XMIT_HEADROOM, headroom))
        what = nest(_RTA_ENCAP, inner)
        kind = _ENCAP_BPF
    return what + attr(_RTA_ENCAP_TYPE, struct.pack("=H", kind))
