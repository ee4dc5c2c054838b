"""kprobes on many functions by one link (Linux 5.18), and sessions (6.10): entry and return in one."""

from __future__ import annotations

import struct

from skep.errors import KernelError
from skep.kernel.link import Link
from skep.linux.calls import Pinned
from skep.linux.links.common import FixedLink, absent, bad, lacks
from skep.linux.links.tracefs import Tracefs
from skep.uapi.enums import AttachType
from skep.uapi.flags import BPF_F_KPROBE_MULTI_RETURN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Final

    from skep.kernel.program import Program
    from skep.kernel.protocol import Kernel

_WILD: Final = "*?["


def attach(
    kernel: Kernel,
    program: Program,
    functions: str | Sequence[str] | None = None,
    *,
    addresses: Sequence[int] = (),
    ret: bool | None = None,
    cookies: Sequence[int] = (),
) -> Link:
    """Attach to ``functions``: names, or one pattern with "*", "?" (by default the section's).

    Args:
        addresses: of functions, instead of names.
        ret: at the functions' return; by default what the section says. Sessions run at both.
        cookies: one for each function, in their order, what bpf_get_attach_cookie() gives the program.

    Raises:
        KernelError: ENOENT, nothing matches the pattern; ESRCH, a name is unknown.
        NotSupported: before Linux 5.18 (sessions 6.10), or without CONFIG_FPROBE.
    """
    session = program.spec.attach_type == AttachType.TRACE_KPROBE_SESSION
    is_ret = program.spec.hook.startswith("kret") if ret is None else ret
    names = [] if addresses else expand(functions or program.spec.attach_to)
    total = len(addresses) or len(names)
    if cookies and len(cookies) != total:
        bad(f"{len(cookies)} cookies for {total} functions: one for each, in their order")
    if not total:
        bad(f"{program.name}: give the functions to probe: attach('vfs_*')")
    pinned = Pinned()
    places = addresses or [pinned(name.encode() + b"\0") for name in names]
    fields: dict[str, Any] = {
        "kprobe_multi__cnt": total,
        "kprobe_multi__addrs" if addresses else "kprobe_multi__syms": struct.pack(f"={total}Q", *places),
        "kprobe_multi__flags": BPF_F_KPROBE_MULTI_RETURN if is_ret and not session else 0,
    }
    if cookies:
        fields["kprobe_multi__cookies"] = struct.pack(f"={total}Q", *cookies)
    where = AttachType.TRACE_KPROBE_SESSION if session else AttachType.TRACE_KPROBE_MULTI
    try:
        fd = kernel.link_create(program.fd, 0, where, **fields)
    except KernelError as error:
        if lacks(kernel, error, "6.10" if session else "5.18"):
            raise absent(
                "kprobe.session" if session else "kprobe.multi", "6.10" if session else "5.18"
            ) from None
        if error.errno == 95:  # EOPNOTSUPP: the stub of a kernel built without it
            raise absent("kprobe.multi (CONFIG_FPROBE)") from None
        raise
    del pinned
    what = names[0] if len(names) == 1 else f"{total} functions"
    return FixedLink(kernel, fd, target=f"{'kretprobe' if is_ret else 'kprobe'}.multi {what}")


def expand(functions: str | Sequence[str]) -> list[str]:
    """Names as they are; a pattern becomes every function that can be traced and matches it."""
    if not isinstance(functions, str):
        return list(functions)
    if not any(c in functions for c in _WILD):
        return [functions] if functions else []
    from fnmatch import fnmatchcase

    with Tracefs() as tracefs:
        text = tracefs.read("available_filter_functions")
    found: dict[str, int] = {}
    for line in text.splitlines():
        name = line.partition(" ")[0]
        if fnmatchcase(name, functions):
            found[name] = found.get(name, 0) + 1
    # A name that several functions share cannot be resolved; modules' functions need no other handling.
    names = [name for name, times in found.items() if times == 1]
    if not names:
        raise KernelError(2, f"no function that can be traced matches {functions}")
    return names
