"""fentry, fexit and sessions on many functions by one link (Linux 7.2), by BTF id."""

from __future__ import annotations

import struct

from skep.errors import KernelError
from skep.kernel.link import Link
from skep.linux.links.common import FixedLink, absent, bad, lacks
from skep.linux.links.kprobe_multi import expand

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Final

    from skep.kernel.program import Program
    from skep.kernel.protocol import Kernel

_KIND_FUNC: Final = 12


def attach(
    kernel: Kernel,
    program: Program,
    functions: str | Sequence[str] | None = None,
    *,
    ids: Sequence[int] = (),
    cookies: Sequence[int] = (),
) -> Link:
    """Attach to ``functions`` of the kernel: names, or one pattern with "*", "?" (by default the section's).

    Args:
        ids: of FUNC types in the kernel's BTF, instead of names.
        cookies: one for each function, in their order.

    Raises:
        KernelError: ENOENT, a name is not in the kernel's BTF, or nothing matches the pattern.
        NotSupported: before Linux 7.2.
    """
    chosen = list(ids) or _ids(functions or program.spec.attach_to)
    if not chosen:
        bad(f"{program.name}: give the functions: attach(['tcp_sendmsg', 'tcp_recvmsg'])")
    if cookies and len(cookies) != len(chosen):
        bad(f"{len(cookies)} cookies for {len(chosen)} functions: one for each, in their order")
    # the kernel wants each id once, and a cookie stays with its function
    rows = sorted(zip(chosen, cookies or [0] * len(chosen), strict=True))
    fields: dict[str, Any] = {
        "tracing_multi__ids": struct.pack(f"={len(rows)}I", *[id for id, _ in rows]),
        "tracing_multi__cnt": len(rows),
    }
    if cookies:
        fields["tracing_multi__cookies"] = struct.pack(f"={len(rows)}Q", *[cookie for _, cookie in rows])
    where = program.spec.attach_type
    assert where is not None
    try:
        fd = kernel.link_create(program.fd, 0, where, **fields)
    except KernelError as error:
        raise absent(where.name.lower(), "7.2") if lacks(kernel, error, "7.2") else error from None
    return FixedLink(kernel, fd, target=f"{program.spec.hook} {len(rows)} functions")


def _ids(functions: str | Sequence[str]) -> list[int]:
    from skep.btf import Btf

    strict = not isinstance(functions, str) or not any(c in functions for c in "*?[")
    btf = Btf.kernel()
    out = []
    for name in expand(functions):
        id = btf.find(name, _KIND_FUNC)
        if id is not None:
            out.append(id)
        elif strict:
            raise KernelError(2, f"the kernel's BTF has no function {name}")
    return out
