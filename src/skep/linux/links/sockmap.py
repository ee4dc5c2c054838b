"""Verdicts and parsers on a sockmap or sockhash: by bpf_link (Linux 6.10), before by BPF_PROG_ATTACH."""

from __future__ import annotations

from skep.errors import KernelError
from skep.kernel.link import Link
from skep.linux.links.common import Attachment, absent, bad, lacks
from skep.uapi.enums import SINCE, AttachType, ProgType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from skep.kernel.program import Program
    from skep.kernel.protocol import Kernel


def attach(
    kernel: Kernel,
    program: Program,
    map: Any = None,
    attach_type: AttachType | None = None,
    *,
    link: bool | None = None,
) -> Link:
    """Attach to ``map`` (a sockmap or sockhash, or its descriptor): for every socket put in afterwards.

    ``attach_type`` is needed where the section is plain "sk_skb": AttachType.SK_SKB_STREAM_PARSER,
    SK_SKB_STREAM_VERDICT or SK_SKB_VERDICT.
    """
    if map is None:
        bad(f"{program.name}: give the sockmap: attach(obj.maps['name'])")
    fd: int = map if isinstance(map, int) else map.fileno()
    where = attach_type if attach_type is not None else program.spec.attach_type
    if where is None and program.spec.type == ProgType.SK_MSG:
        where = AttachType.SK_MSG_VERDICT
    if where is None:
        bad(f"{program.name}: its section does not say which: attach(map, AttachType.SK_SKB_STREAM_VERDICT)")
    target = f"{where.name.lower()} of a sockmap"
    if link is not False:
        try:
            return Link(kernel, kernel.link_create(program.fd, fd, where), target=target)
        except KernelError as error:
            if link or not lacks(kernel, error, "6.10"):
                raise
    try:
        kernel.prog_attach(fd, program.fd, where)
    except KernelError as error:
        since = SINCE[where.c_name]
        raise absent(where.name.lower(), since) if lacks(kernel, error, since) else error from None
    kept = kernel.dup(fd)

    def undo(old: int) -> None:
        try:
            kernel.prog_detach(kept, old, where)
        finally:
            kernel.close(kept)

    def replace(new: int, _: int) -> None:
        kernel.prog_attach(kept, new, where)

    return Attachment(kernel, program.fd, kind="prog_attach", target=target, undo=undo, replace=replace)
