"""XDP: programs at a network interface's receive path.

By bpf_link (Linux 5.9), before that by netlink (4.8). A link goes with its last descriptor or pin; netlink's
attachment is taken back by `Link.close`.
"""

from __future__ import annotations

import struct

from skep.errors import KernelError
from skep.kernel.link import Link
from skep.linux.links.common import Attachment, bad, lacks, older
from skep.linux.netlink import Netlink, in_netns, interface_index, nest, s32, u32
from skep.uapi.enums import AttachType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from skep.kernel.program import Program
    from skep.kernel.protocol import Kernel

MODES: Final = {"auto": 0, "generic": 2, "native": 4, "offload": 8}

_UPDATE_IF_NOEXIST: Final = 1
_REPLACE: Final = 16
_RTM_SETLINK: Final = 19
_IFLA_XDP: Final = 43
_IFLA_XDP_FD: Final = 1
_IFLA_XDP_FLAGS: Final = 3
_IFLA_XDP_EXPECTED_FD: Final = 8


def attach(
    kernel: Kernel,
    program: Program,
    interface: str | int | None = None,
    *,
    mode: str = "auto",
    link: bool | None = None,
    netns: str | int | None = None,
) -> Link:
    """Attach to ``interface`` (a name or index).

    Args:
        mode: "native" (the driver), "generic" (the stack), "auto" of the two, or "offload" (the card), for a
            program that was loaded for it: ``skep.load(…, offload=interface)``.
        link: True insists on a bpf_link, False on netlink; None prefers the link.
        netns: the network namespace of the interface: a name, path or pid.
    """
    if interface is None:
        bad(f"{program.name}: XDP needs an interface: attach('eth0')")
    if mode not in MODES:
        bad(f"XDP mode {mode!r} is none of {', '.join(MODES)}")
    if program.spec.attach_type in (AttachType.XDP_DEVMAP, AttachType.XDP_CPUMAP):
        bad(f"{program.name} runs from an entry of a device or CPU map: put it there")
    flags = MODES[mode]
    with in_netns(netns):
        index = interface_index(interface)
        target = f"xdp {interface}"
        if link is not False:
            try:
                fd = kernel.link_create(program.fd, index, AttachType.XDP, flags)
                return Link(kernel, fd, target=target)
            except KernelError as error:
                if link or not lacks(kernel, error, "5.9"):
                    raise
        _set(index, program.fd, flags | _UPDATE_IF_NOEXIST)
    return _by_netlink(kernel, program, index, flags, netns, target)


def _by_netlink(
    kernel: Kernel, program: Program, index: int, flags: int, netns: str | int | None, target: str
) -> Link:
    # With an expected program (5.7) someone else's in our place stays.
    expects = not older(kernel, "5.7")

    def undo(fd: int) -> None:
        replace(-1, fd)

    def replace(new: int, old: int) -> None:
        with in_netns(netns):
            _set(index, new, flags | (_REPLACE if expects else 0), old if expects else None)

    return Attachment(kernel, program.fd, kind="netlink", target=target, undo=undo, replace=replace)


def _set(index: int, fd: int, flags: int, expected: int | None = None) -> None:
    what = [s32(_IFLA_XDP_FD, fd), u32(_IFLA_XDP_FLAGS, flags)]
    if expected is not None:
        what.append(s32(_IFLA_XDP_EXPECTED_FD, expected))
    message = struct.pack("=BxHiII", 0, 0, index, 0, 0) + nest(_IFLA_XDP, what)
    with Netlink() as netlink:
        netlink.request("RTM_SETLINK (XDP)", _RTM_SETLINK, message)
