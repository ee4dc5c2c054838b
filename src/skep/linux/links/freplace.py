"""Replacing a function of a loaded program (Linux 5.6; of another program than at load 5.10)."""

from __future__ import annotations

import errno

from skep.errors import KernelError
from skep.kernel.link import Link
from skep.linux.links.common import FixedLink, absent, lacks
from skep.uapi.attr import INFO

TYPE_CHECKING = False
if TYPE_CHECKING:
    from skep.kernel.program import Program
    from skep.kernel.protocol import Kernel


def attach(
    kernel: Kernel, program: Program, other: Program | int | None = None, function: str | None = None
) -> Link:
    """Put ``program`` in the place of ``function`` (by default the section's) of the program ``other``.

    Without ``other`` the target is what the program was loaded for. Global functions can be replaced, by
    one with the same prototype.

    Raises:
        KernelError: ENOENT, ``other`` has no such function in its BTF.
    """
    function = function or program.spec.attach_to
    target = f"function {function}"
    if other is None:
        return FixedLink(kernel, kernel.raw_tracepoint_open(program.fd), target=target)
    fd = other if isinstance(other, int) else other.fd
    id = function_id(kernel, fd, function)
    try:
        made = kernel.link_create(program.fd, fd, 0, tracing__target_btf_id=id)
    except KernelError as error:
        if lacks(kernel, error, "5.10"):
            raise absent("freplace of another program than at load", "5.10") from None
        raise
    return FixedLink(kernel, made, target=target)


def function_id(kernel: Kernel, prog_fd: int, function: str) -> int:
    """The BTF id of a function of a loaded program, in the program's own BTF."""
    from skep.btf import Btf

    info = INFO["bpf_prog_info"].unpack(kernel.obj_get_info_by_fd(prog_fd, "prog"))
    id = info.get("btf_id", 0)
    if not isinstance(id, int) or not id:
        raise KernelError(
            errno.ENOENT, "the target program was loaded without BTF: its functions have no names"
        )
    fd = kernel.get_fd_by_id("btf", id)
    try:
        size = INFO["bpf_btf_info"].unpack(kernel.obj_get_info_by_fd(fd, "btf"))["btf_size"]
        assert isinstance(size, int)
        data = bytearray(size)
        kernel.obj_get_info_by_fd(fd, "btf", {"btf": data, "btf_size": size})
    finally:
        kernel.close(fd)
    btf = Btf(bytes(data))
    for found in btf.ids_named(function):
        if btf.kind_of(found) == _KIND_FUNC:
            return found
    raise KernelError(errno.ENOENT, f"the target program has no function {function}")


_KIND_FUNC = 12
