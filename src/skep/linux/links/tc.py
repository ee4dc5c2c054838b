"""Classifiers at a network interface: TCX (Linux 6.6), netkit devices (6.7), and the clsact qdisc (4.5).

TCX and netkit attach by bpf_link. Before them a classifier is a filter of the clsact qdisc, made by
netlink; the qdisc is added when it is missing, and goes again when we added it and nothing else uses it.
"""

from __future__ import annotations

import errno
import struct

from skep.errors import KernelError
from skep.kernel.link import Link
from skep.linux.links.common import Attachment, absent, bad, lacks
from skep.linux.netlink import (
    NLM_F_CREATE,
    NLM_F_DUMP,
    NLM_F_ECHO,
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
from skep.plain import NamedTuple
from skep.uapi.enums import AttachType, ProgType
from skep.uapi.flags import BPF_F_AFTER, BPF_F_BEFORE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from skep.kernel.program import Program
    from skep.kernel.protocol import Kernel

_DIRECTIONS: Final = {
    "ingress": AttachType.TCX_INGRESS,
    "egress": AttachType.TCX_EGRESS,
    "primary": AttachType.NETKIT_PRIMARY,
    "peer": AttachType.NETKIT_PEER,
}
_NETKIT: Final = (AttachType.NETKIT_PRIMARY, AttachType.NETKIT_PEER)

_RTM_NEWQDISC: Final = 36
_RTM_DELQDISC: Final = 37
_RTM_NEWTFILTER: Final = 44
_RTM_DELTFILTER: Final = 45
_RTM_GETTFILTER: Final = 46
_TC_H_CLSACT: Final = 0xFFFFFFF1
_HANDLE: Final = 0xFFFF0000
_PARENTS: Final = {AttachType.TCX_INGRESS: 0xFFFFFFF2, AttachType.TCX_EGRESS: 0xFFFFFFF3}
_TCA_KIND: Final = 1
_TCA_OPTIONS: Final = 2
_TCA_BPF_FD: Final = 6
_TCA_BPF_NAME: Final = 7
_TCA_BPF_FLAGS: Final = 8
_ACT_DIRECT: Final = 1
_MATCHALL_ACT: Final = 2
_ACT_BPF_PARMS: Final = 2
_ACT_BPF_FD: Final = 5
_ACT_BPF_NAME: Final = 6
_TC_ACT_PIPE: Final = 3
_ETH_P_ALL: Final = 3

#: struct tcmsg: family, ifindex, handle, parent, info (priority << 16 | protocol, big-endian)
_TCMSG = struct.Struct("=BxxxiIII")


class _Place(NamedTuple):
    """Where a filter is: its interface's index, the clsact hook, its handle and priority."""

    ifindex: int
    parent: int
    handle: int
    priority: int

    def message(self) -> bytes:
        protocol = int.from_bytes(_ETH_P_ALL.to_bytes(2, "big"), "little")
        return _TCMSG.pack(0, self.ifindex, self.handle, self.parent, self.priority << 16 | protocol)


def attach(
    kernel: Kernel,
    program: Program,
    interface: str | int | None = None,
    direction: str | None = None,
    *,
    link: bool | None = None,
    netns: str | int | None = None,
    priority: int = 0,
    handle: int = 0,
    before: Program | Link | None = None,
    after: Program | Link | None = None,
) -> Link:
    """Attach to ``interface`` (a name or index).

    Args:
        direction: "ingress", "egress", or of a netkit device "primary", "peer"; by default the section's.
        link: True insists on a bpf_link, False on the clsact qdisc; None prefers the link.
        netns: the network namespace of the interface: a name, path or pid.
        priority, handle: of the clsact filter; 0 lets the kernel choose.
        before, after: the place among other TCX or netkit programs, next to this program or link.
    """
    if interface is None:
        bad(f"{program.name}: a classifier needs an interface: attach('eth0')")
    where = _where(program, direction)
    action = program.spec.type == ProgType.SCHED_ACT
    with in_netns(netns):
        index = interface_index(interface)
        target = f"{'netkit' if where in _NETKIT else 'tc'} {interface} {where.name.split('_')[1].lower()}"
        if link is not False and not action:
            try:
                return Link(kernel, _link(kernel, program, index, where, before, after), target=target)
            except KernelError as error:
                if where in _NETKIT:
                    raise absent("netkit", "6.7") if lacks(kernel, error, "6.7") else error from None
                if (before or after) and lacks(kernel, error, "6.6"):
                    raise absent("ordering classifiers (TCX)", "6.6") from None
                if link or not lacks(kernel, error, "6.6"):
                    raise
        if where in _NETKIT:
            bad("netkit devices take programs by bpf_link only")
        return _clsact(kernel, program, index, where, priority, handle, netns, target)


def _where(program: Program, direction: str | None) -> AttachType:
    if direction is not None:
        if direction not in _DIRECTIONS:
            bad(f"direction {direction!r} is none of {', '.join(_DIRECTIONS)}")
        return _DIRECTIONS[direction]
    if program.spec.attach_type not in _DIRECTIONS.values():
        bad(f"{program.name}: its section does not say which way: attach('eth0', 'ingress') or 'egress'")
    assert program.spec.attach_type is not None
    return program.spec.attach_type


def _link(
    kernel: Kernel,
    program: Program,
    index: int,
    where: AttachType,
    before: Program | Link | None,
    after: Program | Link | None,
) -> int:
    other = before or after
    flags = (BPF_F_BEFORE if before else BPF_F_AFTER) if other else 0
    if isinstance(other, Link):
        from skep.uapi.flags import BPF_F_LINK

        flags |= BPF_F_LINK
    name = "netkit__relative_fd" if where in _NETKIT else "tcx__relative_fd"
    return kernel.link_create(program.fd, index, where, flags, **({name: other.fd} if other else {}))


def _clsact(
    kernel: Kernel,
    program: Program,
    index: int,
    where: AttachType,
    priority: int,
    handle: int,
    netns: str | int | None,
    target: str,
) -> Link:
    action = program.spec.type == ProgType.SCHED_ACT
    with Netlink() as netlink:
        added = _add_qdisc(netlink, index)
        place = _Place(index, _PARENTS[where], handle, priority)
        try:
            place = _put(netlink, place, program.fd, program.name, action, NLM_F_CREATE | NLM_F_EXCL)
        except KernelError:
            if added:
                _remove_qdisc(netlink, index)
            raise

    def undo(_: int) -> None:
        with in_netns(netns), Netlink() as netlink:
            netlink.request("RTM_DELTFILTER", _RTM_DELTFILTER, place.message())
            if added and not _in_use(netlink, index):
                _remove_qdisc(netlink, index)

    def replace(new: int, _: int) -> None:
        with in_netns(netns), Netlink() as netlink:
            _put(netlink, place, new, program.name, action, NLM_F_REPLACE)

    return Attachment(
        kernel, program.fd, kind="netlink", target=target, undo=undo, replace=None if action else replace
    )


def _add_qdisc(netlink: Netlink, index: int) -> bool:
    """Make sure of the clsact qdisc; whether it was added."""
    message = _TCMSG.pack(0, index, _HANDLE, _TC_H_CLSACT, 0) + text(_TCA_KIND, "clsact")
    try:
        netlink.request("RTM_NEWQDISC (clsact)", _RTM_NEWQDISC, message, NLM_F_CREATE | NLM_F_EXCL)
    except KernelError as error:
        if error.errno != errno.EEXIST:
            raise
        return False
    return True


def _remove_qdisc(netlink: Netlink, index: int) -> None:
    netlink.request("RTM_DELQDISC (clsact)", _RTM_DELQDISC, _TCMSG.pack(0, index, _HANDLE, _TC_H_CLSACT, 0))


def _in_use(netlink: Netlink, index: int) -> bool:
    """Whether a filter is left at either hook of the clsact qdisc."""
    return any(
        netlink.request("RTM_GETTFILTER", _RTM_GETTFILTER, _TCMSG.pack(0, index, 0, parent, 0), NLM_F_DUMP)
        for parent in _PARENTS.values()
    )


def _put(netlink: Netlink, place: _Place, fd: int, name: str, action: bool, flags: int) -> _Place:
    """Make or replace the filter; where the kernel put it."""
    if action:
        # an action needs a classifier to hang on: the one that takes everything
        parms = attr(_ACT_BPF_PARMS, struct.pack("=IIiii", 0, 0, _TC_ACT_PIPE, 0, 0))
        options = nest(_TCA_OPTIONS, [parms, u32(_ACT_BPF_FD, fd), text(_ACT_BPF_NAME, name)])
        first = nest(1, [text(_TCA_KIND, "bpf"), options])
        what = [text(_TCA_KIND, "matchall"), nest(_TCA_OPTIONS, [nest(_MATCHALL_ACT, [first])])]
    else:
        fields = [u32(_TCA_BPF_FD, fd), text(_TCA_BPF_NAME, name), u32(_TCA_BPF_FLAGS, _ACT_DIRECT)]
        what = [text(_TCA_KIND, "bpf"), nest(_TCA_OPTIONS, fields)]
    replies = netlink.request(
        "RTM_NEWTFILTER", _RTM_NEWTFILTER, place.message() + b"".join(what), flags | NLM_F_ECHO
    )
    for reply in replies:
        if reply.type == _RTM_NEWTFILTER:
            _, _, handle, _, info = _TCMSG.unpack_from(reply.payload)
            # a classifier that holds one filter only (matchall) has no handle to tell
            place = place._replace(handle=handle or place.handle, priority=info >> 16 or place.priority)
    return place
