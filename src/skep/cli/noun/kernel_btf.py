"""BTF that the kernel holds, by id."""

from __future__ import annotations

from skep.cli.noun.objects import by_id, closing, info, object_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from skep.btf import Btf
    from skep.kernel.protocol import Kernel


def load(kernel: Kernel, id: int, base: Btf | None = None) -> Btf:
    """The BTF with this id; a module's is split from ``base``, which defaults to the kernel's own."""
    from skep.btf import Btf

    fd = by_id(kernel, "btf", id)
    with closing(kernel, fd):
        about = info(kernel, fd, "btf")
        name = bytearray(64)
        data = bytearray(about["btf_size"])
        about = info(kernel, fd, "btf", btf=data, btf_size=len(data), name=name, name_len=len(name))
    if base is None and about["kernel_btf"] and object_name(bytes(name)) != "vmlinux":
        base = Btf.kernel()
    return Btf(data, base=base, path=f"BTF id {id}")
