"""Netfilter hooks, by bpf_link (Linux 6.4)."""

from __future__ import annotations

from skep.errors import KernelError
from skep.kernel.link import Link
from skep.linux.links.common import FixedLink, absent, bad, lacks
from skep.linux.netlink import in_netns
from skep.uapi.enums import AttachType
from skep.uapi.flags import BPF_F_NETFILTER_IP_DEFRAG

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from skep.kernel.program import Program
    from skep.kernel.protocol import Kernel

FAMILIES: Final = {"ipv4": 2, "ipv6": 10}
HOOKS: Final = {"prerouting": 0, "input": 1, "forward": 2, "output": 3, "postrouting": 4}


def attach(
    kernel: Kernel,
    program: Program,
    hook: str | None = None,
    *,
    family: str = "ipv4",
    priority: int = -128,
    defrag: bool = False,
    netns: str | int | None = None,
) -> Link:
    """Attach at ``hook``: "prerouting", "input", "forward", "output" or "postrouting".

    Args:
        family: "ipv4" or "ipv6".
        priority: the place among the hook's users, lowest first; the ends of the range (of 32 bits, signed)
            are the kernel's.
        defrag: have fragments put together first.
        netns: the network namespace: a name, path or pid.
    """
    if hook not in HOOKS:
        bad(f"{program.name}: netfilter hook {hook!r} is none of {', '.join(HOOKS)}")
    if family not in FAMILIES:
        bad(f"netfilter family {family!r} is none of {', '.join(FAMILIES)}")
    if not -(1 << 31) < priority < (1 << 31) - 1:
        bad(f"netfilter priority {priority} is out of range")
    with in_netns(netns):
        try:
            fd = kernel.link_create(
                program.fd,
                0,
                AttachType.NETFILTER,
                netfilter__pf=FAMILIES[family],
                netfilter__hooknum=HOOKS[hook],
                netfilter__priority=priority,
                netfilter__flags=BPF_F_NETFILTER_IP_DEFRAG if defrag else 0,
            )
        except KernelError as error:
            raise absent("netfilter programs", "6.4") if lacks(kernel, error, "6.4") else error from None
    return FixedLink(kernel, fd, target=f"netfilter {family} {hook} at {priority}")
