"""uprobes at many places of one binary by one link (Linux 6.6), and sessions (6.13)."""

from __future__ import annotations

import struct

from skep.errors import KernelError
from skep.kernel.link import Link
from skep.linux.links.common import FixedLink, absent, bad, lacks
from skep.linux.links.elfsym import ElfFile, find_binary, function_offset
from skep.linux.links.uprobe import place
from skep.uapi.enums import AttachType
from skep.uapi.flags import BPF_F_UPROBE_MULTI_RETURN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from skep.kernel.program import Program
    from skep.kernel.protocol import Kernel


def attach(
    kernel: Kernel,
    program: Program,
    binary: str | None = None,
    functions: str | Sequence[str] | None = None,
    *,
    offsets: Sequence[int] = (),
    pid: int = -1,
    ret: bool | None = None,
    cookies: Sequence[int] = (),
    ref_ctr_offsets: Sequence[int] = (),
) -> Link:
    """Attach to ``functions`` of ``binary``; by default what the section says ("PATH:PATTERN").

    Args:
        functions: names, or one pattern with "*", "?".
        offsets: in the file, instead of names.
        pid: one process (0: this one); -1: all.
        ret: at the functions' return; by default what the section says. Sessions run at both.
        cookies, ref_ctr_offsets: one for each place, in order.

    Raises:
        KernelError: no such file or function, or nothing matches the pattern.
        NotSupported: before Linux 6.6 (sessions 6.13).
    """
    if offsets:
        path, places = find_binary(binary or program.spec.attach_to), list(offsets)
    else:
        path, places = _places(program, binary, functions)
    return attach_offsets(
        kernel, program, path, places, pid=pid, ret=ret, cookies=cookies, ref_ctr_offsets=ref_ctr_offsets
    )


def attach_offsets(
    kernel: Kernel,
    program: Program,
    path: str,
    offsets: Sequence[int],
    *,
    pid: int = -1,
    ret: bool | None = None,
    cookies: Sequence[int] = (),
    ref_ctr_offsets: Sequence[int] = (),
) -> Link:
    session = program.spec.attach_type == AttachType.TRACE_UPROBE_SESSION
    is_ret = program.spec.hook.startswith("uret") if ret is None else ret
    total = len(offsets)
    for what, values in (("cookies", cookies), ("ref_ctr_offsets", ref_ctr_offsets)):
        if values and len(values) != total:
            bad(f"{len(values)} {what} for {total} places: one for each, in their order")
    if pid == 0:
        from os import getpid

        pid = getpid()
    fields: dict[str, Any] = {
        "uprobe_multi__path": path.encode() + b"\0",
        "uprobe_multi__offsets": struct.pack(f"={total}Q", *offsets),
        "uprobe_multi__cnt": total,
        "uprobe_multi__flags": BPF_F_UPROBE_MULTI_RETURN if is_ret and not session else 0,
        "uprobe_multi__pid": max(pid, 0),
    }
    if cookies:
        fields["uprobe_multi__cookies"] = struct.pack(f"={total}Q", *cookies)
    if ref_ctr_offsets:
        fields["uprobe_multi__ref_ctr_offsets"] = struct.pack(f"={total}Q", *ref_ctr_offsets)
    where = AttachType.TRACE_UPROBE_SESSION if session else AttachType.TRACE_UPROBE_MULTI
    since = "6.13" if session else "6.6"
    try:
        fd = kernel.link_create(program.fd, 0, where, **fields)
    except KernelError as error:
        raise (
            absent("uprobe.session" if session else "uprobe.multi", since)
            if lacks(kernel, error, since)
            else error
        ) from None
    return FixedLink(
        kernel, fd, target=f"{'uretprobe' if is_ret else 'uprobe'}.multi {path} ({total} places)"
    )


def _places(
    program: Program, binary: str | None, functions: str | Sequence[str] | None
) -> tuple[str, list[int]]:
    if functions is None or isinstance(functions, str):
        path, pattern, offset = place(program, binary, functions)
        if not any(c in pattern for c in "*?["):
            if not pattern and not offset:
                bad(f"{program.name}: give the functions: attach('/bin/bash', 'read*')")
            return path, [offset + (function_offset(path, pattern) if pattern else 0)]
        with ElfFile(path) as elf:
            found = sorted({elf.file_offset(symbol.address) for symbol in elf.matching(pattern)})
        if not found:
            raise KernelError(2, f"no function of {path} matches {pattern}")
        return path, found
    path = find_binary(binary or program.spec.attach_to)
    return path, [function_offset(path, name) for name in functions]
