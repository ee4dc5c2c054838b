"""Programs of a network namespace: sk_lookup (Linux 5.9) and the flow dissector (link 5.8, before 4.20)."""

from __future__ import annotations

import os

from skep.errors import KernelError
from skep.kernel.link import Link
from skep.linux.links.common import Attachment, absent, lacks
from skep.linux.netlink import in_netns, open_netns
from skep.uapi.enums import AttachType, ProgType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from skep.kernel.program import Program
    from skep.kernel.protocol import Kernel


def attach(
    kernel: Kernel, program: Program, netns: str | int | None = None, *, link: bool | None = None
) -> Link:
    """Attach to a network namespace: a name, a path or a pid; by default ours.

    A flow dissector goes by BPF_PROG_ATTACH where ``link`` is False, or None and the kernel has no such
    links.
    """
    dissects = program.spec.type == ProgType.FLOW_DISSECTOR
    where = AttachType.FLOW_DISSECTOR if dissects else AttachType.SK_LOOKUP
    target = f"{where.name.lower()} of {netns if netns is not None else 'this network namespace'}"
    if link is not False or not dissects:
        fd = open_netns(netns)
        try:
            return Link(kernel, kernel.link_create(program.fd, fd, where), target=target)
        except KernelError as error:
            if not dissects:
                raise absent("sk_lookup", "5.9") if lacks(kernel, error, "5.9") else error from None
            if link or not lacks(kernel, error, "5.8"):
                raise
        finally:
            os.close(fd)
    with in_netns(netns):
        kernel.prog_attach(0, program.fd, where)

    def undo(old: int) -> None:
        with in_netns(netns):
            kernel.prog_detach(0, old, where)

    def replace(new: int, _: int) -> None:
        with in_netns(netns):
            kernel.prog_attach(0, new, where)

    return Attachment(kernel, program.fd, kind="prog_attach", target=target, undo=undo, replace=replace)
