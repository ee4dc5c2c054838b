"""Programs on a cgroup: packets, sockets, addresses, options, devices, sysctls, TCP events, LSM hooks.

By bpf_link (Linux 5.7), before that by BPF_PROG_ATTACH (4.10).
"""

from __future__ import annotations

import os
from contextlib import contextmanager

from skep.errors import KernelError
from skep.kernel.link import Link
from skep.linux.links.common import Attachment, absent, bad, lacks, older
from skep.uapi.enums import SINCE, AttachType, ProgType
from skep.uapi.flags import BPF_F_AFTER, BPF_F_ALLOW_MULTI, BPF_F_BEFORE, BPF_F_LINK, BPF_F_REPLACE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, Final

    from skep.kernel.program import Program
    from skep.kernel.protocol import Kernel

#: for sections that name a family and not the hook
_SHORT: Final = {
    "ingress": AttachType.CGROUP_INET_INGRESS,
    "egress": AttachType.CGROUP_INET_EGRESS,
}
_ONLY: Final = {
    ProgType.SOCK_OPS: AttachType.CGROUP_SOCK_OPS,
    ProgType.CGROUP_DEVICE: AttachType.CGROUP_DEVICE,
    ProgType.CGROUP_SYSCTL: AttachType.CGROUP_SYSCTL,
    ProgType.CGROUP_SOCK: AttachType.CGROUP_INET_SOCK_CREATE,
}


def attach(
    kernel: Kernel,
    program: Program,
    cgroup: str | int | None = None,
    attach_type: AttachType | str | None = None,
    *,
    link: bool | None = None,
    flags: int | None = None,
    before: Program | Link | None = None,
    after: Program | Link | None = None,
) -> Link:
    """Attach to ``cgroup`` (a directory of cgroup2, or a descriptor of one).

    Args:
        attach_type: an `AttachType`, or "ingress" or "egress" for packets; by default the section's.
        link: True insists on a bpf_link, False on BPF_PROG_ATTACH; None prefers the link.
        flags: for BPF_PROG_ATTACH, BPF_F_ALLOW_MULTI by default: beside other programs, and those of
            descendant cgroups run too (links always are so).
        before, after: the place among the programs of the cgroup, next to this link, or to this program
            where it was attached by BPF_PROG_ATTACH (Linux 6.17).
    """
    if cgroup is None:
        bad(f"{program.name}: give the cgroup: attach('/sys/fs/cgroup/name')")
    where = _where(program, attach_type)
    with opened(cgroup) as fd:
        target = f"cgroup {cgroup} {where.name.lower()}"
        order, relative = _order(before, after)
        if link is not False:
            try:
                made = kernel.link_create(program.fd, fd, where, order, **_field("cgroup__", relative))
                return Link(kernel, made, target=target)
            except KernelError as error:
                if relative and lacks(kernel, error, "6.17"):
                    raise absent("ordering the programs of a cgroup", "6.17") from None
                if link or not lacks(kernel, error, "5.7"):
                    raise _explained(kernel, error, where) from None
        return _by_prog_attach(kernel, program, fd, where, flags, order, relative, target)


def _by_prog_attach(
    kernel: Kernel,
    program: Program,
    fd: int,
    where: AttachType,
    flags: int | None,
    order: int,
    relative: dict[str, int],
    target: str,
) -> Link:
    mode = BPF_F_ALLOW_MULTI if flags is None else flags
    try:
        kernel.prog_attach(fd, program.fd, where, mode | order, **relative)
    except KernelError as error:
        raise _explained(kernel, error, where) from None
    kept = kernel.dup(fd)

    def undo(old: int) -> None:
        try:
            kernel.prog_detach(kept, old, where)
        finally:
            kernel.close(kept)

    def replace(new: int, old: int) -> None:
        if mode & BPF_F_ALLOW_MULTI:
            if older(kernel, "5.5"):
                raise absent("replacing one program of several", "5.5")
            kernel.prog_attach(kept, new, where, mode | BPF_F_REPLACE, replace_bpf_fd=old)
        else:
            kernel.prog_attach(kept, new, where, mode)

    return Attachment(kernel, program.fd, kind="prog_attach", target=target, undo=undo, replace=replace)


def _where(program: Program, given: AttachType | str | None) -> AttachType:
    if isinstance(given, str):
        name = given.upper().removeprefix("BPF_")
        if given in _SHORT:
            return _SHORT[given]
        if name in AttachType.__members__:
            return AttachType[name]
        bad(f"{given!r} is no attach type")
    where = given if given is not None else program.spec.attach_type
    if where is None:
        where = _ONLY.get(program.spec.type)
    if where is None:
        bad(
            f"{program.name}: its section does not say which hook: attach(cgroup, 'ingress') or an AttachType"
        )
    return where


def _order(before: Program | Link | None, after: Program | Link | None) -> tuple[int, dict[str, int]]:
    other = before or after
    if other is None:
        return 0, {}
    flags = BPF_F_BEFORE if before else BPF_F_AFTER
    return flags | (BPF_F_LINK if isinstance(other, Link) else 0), {"relative_fd": other.fd}


def _field(prefix: str, values: dict[str, int]) -> dict[str, Any]:
    return {prefix + name: value for name, value in values.items()}


def _explained(kernel: Kernel, error: KernelError, where: AttachType) -> KernelError:
    since = SINCE.get(where.c_name)
    if since and lacks(kernel, error, since):
        return absent(f"the cgroup hook {where.name.lower()}", since, cmd=error.cmd)
    return error


@contextmanager
def opened(cgroup: str | int) -> Iterator[int]:
    """A descriptor of the cgroup for the length of the call."""
    if isinstance(cgroup, int):
        yield cgroup
        return
    try:
        fd = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise KernelError(error.errno or 0, f"cgroup {cgroup}: {error.strerror}") from None
    try:
        yield fd
    finally:
        os.close(fd)
