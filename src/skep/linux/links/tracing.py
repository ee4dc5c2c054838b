"""Programs that attach by BTF id: tp_btf, fentry, fexit, fmod_ret, fsession, LSM; and raw tracepoints.

What they attach to was said at load; the link (Linux 5.5; raw tracepoints 4.17) comes from
BPF_RAW_TRACEPOINT_OPEN, or for a cookie from BPF_LINK_CREATE (5.19).
"""

from __future__ import annotations

import errno

from skep.errors import KernelError
from skep.kernel.link import Link
from skep.linux.links.common import FixedLink, absent, bad, lacks
from skep.uapi.enums import AttachType, ProgType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from skep.kernel.program import Program
    from skep.kernel.protocol import Kernel

_RAW: Final = (ProgType.RAW_TRACEPOINT, ProgType.RAW_TRACEPOINT_WRITABLE)


def attach(kernel: Kernel, program: Program, name: str | None = None, *, cookie: int = 0) -> Link:
    """Attach a raw tracepoint to ``name`` (by default the section's), others to what they were loaded for.

    Raises:
        KernelError: ENOENT, no such raw tracepoint.
        NotSupported: ``cookie`` before Linux 5.19 (raw tracepoints 6.10).
    """
    if program.spec.type in _RAW:
        return _raw(kernel, program, name or program.spec.attach_to, cookie)
    if name is not None and name != program.spec.attach_to:
        bad(f"{program.name} was loaded for {program.spec.attach_to}: what it attaches to is fixed then")
    target = f"{program.spec.hook or program.spec.type.name.lower()} {program.spec.attach_to}"
    if cookie:
        where = program.spec.attach_type or AttachType.LSM_MAC
        try:
            fd = kernel.link_create(program.fd, 0, where, tracing__cookie=cookie)
        except KernelError as error:
            if lacks(kernel, error, "5.19"):
                raise absent("cookies of programs attached by BTF id", "5.19") from None
            raise
        return FixedLink(kernel, fd, target=target)
    return FixedLink(kernel, kernel.raw_tracepoint_open(program.fd), target=target)


def _raw(kernel: Kernel, program: Program, name: str, cookie: int) -> Link:
    name = name.rpartition(":")[2]
    if not name:
        bad(f"{program.name}: give the raw tracepoint: attach('sched_switch')")
    try:
        fd = kernel.raw_tracepoint_open(program.fd, name, cookie)
    except KernelError as error:
        if error.errno == errno.ENOENT:
            raise KernelError(
                errno.ENOENT, f"no raw tracepoint {name} in this kernel", cmd=error.cmd
            ) from None
        if cookie and lacks(kernel, error, "6.10"):
            raise absent("cookies of raw tracepoints", "6.10") from None
        raise
    return FixedLink(kernel, fd, target=f"raw tracepoint {name}")
