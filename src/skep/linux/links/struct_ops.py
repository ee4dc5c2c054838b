"""Structs of functions that the kernel calls: registered by a link (Linux 6.4) or a map element (5.6)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from skep.errors import KernelError
from skep.kernel.link import Link, ManualLink
from skep.linux.links.common import absent, lacks
from skep.uapi.enums import AttachType

if TYPE_CHECKING:
    from skep.kernel.protocol import Buffer, Kernel

_KEY: Final = b"\0\0\0\0"


def attach_map(
    kernel: Kernel, map: Any, value: Buffer | None = None, *, by_link: bool, name: str = "struct_ops"
) -> Link:
    """Register a struct_ops map (or its descriptor).

    Args:
        value: the kernel's struct with descriptors of programs for its functions, written first; None
            where it was written already.
        by_link: the map was created with BPF_F_LINK (section ".struct_ops.link"): writing it does not
            register yet, a link does, and `kernel.link_update` swaps in another map atomically. Without,
            writing registers, and closing the link deletes the element.
    """
    fd: int = map if isinstance(map, int) else map.fileno()
    if value is not None:
        kernel.map_update_elem(fd, _KEY, value)
    target = f"struct_ops {name}"
    if by_link:
        try:
            return Link(kernel, kernel.link_create(fd, 0, AttachType.STRUCT_OPS), target=target)
        except KernelError as error:
            raise absent("struct_ops links", "6.4") if lacks(kernel, error, "6.4") else error from None
    kept = kernel.dup(fd)

    def undo() -> None:
        kernel.map_delete_elem(kept, _KEY)

    return ManualLink(kernel, kept, undo, kind="map", target=target)
