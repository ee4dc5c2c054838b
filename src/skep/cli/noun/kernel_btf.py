"""BTF that the kernel holds, by id."""

from __future__ import annotations

from skep.cli.noun.objects import by_id, closing, info, object_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from skep.btf import Btf
    from skep.kernel.protocol import Kernel

#: the types of most objects fit
_ROOM = 1 << 14


def raw(kernel: Kernel, id: int) -> tuple[bytearray, dict[str, Any]]:
    """The bytes of the BTF with this id, and what the kernel says of it; ``name`` is its name as text."""
    fd = by_id(kernel, "btf", id)
    with closing(kernel, fd):
        name = bytearray(64)
        data = bytearray(_ROOM)
        about = info(kernel, fd, "btf", btf=data, btf_size=len(data), name=name, name_len=len(name))
        if about["btf_size"] > _ROOM:
            data = bytearray(about["btf_size"])
            about = info(kernel, fd, "btf", btf=data, btf_size=len(data), name=name, name_len=len(name))
    del data[about["btf_size"] :]
    return data, about | {"name": object_name(bytes(name))}


def load(kernel: Kernel, id: int, base: Btf | None = None) -> Btf:
    """The BTF with this id; a module's is split from ``base``, which defaults to the kernel's own."""
    from skep.btf import Btf

    data, about = raw(kernel, id)
    if base is None and about["kernel_btf"] and about["name"] != "vmlinux":
        base = Btf.kernel()
    return Btf(data, base=base, path=f"BTF id {id}")
