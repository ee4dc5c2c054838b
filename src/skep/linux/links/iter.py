"""Iterators: programs that write a file about kernel objects, one call for each (Linux 5.8)."""

from __future__ import annotations

import struct

from skep.errors import KernelError
from skep.kernel.link import Link
from skep.linux.links.cgroup import opened
from skep.linux.links.common import absent, bad, lacks
from skep.uapi.enums import AttachType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    from skep.kernel.program import Program
    from skep.kernel.protocol import Kernel

ORDERS: Final = {"self": 1, "pre": 2, "post": 3, "up": 4}


def attach(
    kernel: Kernel,
    program: Program,
    *,
    map: Any = None,
    cgroup: str | int | None = None,
    order: str = "pre",
    pid: int = 0,
    tid: int = 0,
    pidfd: int = 0,
) -> Link:
    """Make the iterator's link; `Kernel.iter_create` on it opens one pass over the objects.

    Args:
        map: the map (or its descriptor) that map element iterators walk.
        cgroup, order: where cgroup iterators start, and how they walk: "self", "pre" and "post" (the
            descendants), "up" (the ancestors); Linux 6.1.
        pid, tid, pidfd: task iterators of one process or thread; Linux 6.1.
    """
    if sum(bool(given) for given in (map is not None, cgroup is not None, pid or tid or pidfd)) > 1:
        bad(f"{program.name}: an iterator has one parameter: map, cgroup or task")
    target = f"iter {program.spec.attach_to}"
    if map is not None:
        fd = map if isinstance(map, int) else map.fileno()
        return _make(kernel, program, struct.pack("=I", fd), target, "5.9")
    if cgroup is not None:
        if order not in ORDERS:
            bad(f"order {order!r} is none of {', '.join(ORDERS)}")
        with opened(cgroup) as fd:
            return _make(kernel, program, struct.pack("=IIQ", ORDERS[order], fd, 0), target, "6.1")
    if pid or tid or pidfd:
        return _make(kernel, program, struct.pack("=III", tid, pid, pidfd), target, "6.1")
    return _make(kernel, program, b"", target, "5.8")


def _make(kernel: Kernel, program: Program, info: bytes, target: str, since: str) -> Link:
    fields: dict[str, Any] = {"iter_info": info, "iter_info_len": len(info)} if info else {}
    try:
        fd = kernel.link_create(program.fd, 0, AttachType.TRACE_ITER, **fields)
    except KernelError as error:
        raise absent(f"this kind of {target}", since) if lacks(kernel, error, since) else error from None
    return Link(kernel, fd, target=target)
