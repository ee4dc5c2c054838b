"""Handles of what is in a kernel already: by id, by pin, by descriptor."""

from __future__ import annotations

import errno

from skep.errors import KernelError, NotSupported
from skep.kernel.codec import Codec
from skep.kernel.kinds import file_of, kind_of
from skep.kernel.map import Map
from skep.kernel.protocol import Kernel
from skep.uapi.attr import INFO

_WORDS = {"map": "a map", "prog": "a program", "link": "a link"}

TYPE_CHECKING = False
if TYPE_CHECKING:
    from skep.btf import Btf
    from skep.kernel.link import Link
    from skep.kernel.program import Program


def map_by_id(kernel: Kernel, id: int, *, key: Codec | None = None, value: Codec | None = None) -> Map:
    return map_from_fd(kernel, kernel.get_fd_by_id("map", id), key=key, value=value)


def map_from_pin(kernel: Kernel, path: str) -> Map:
    """A map pinned in bpffs, typed by the BTF that it was made with."""
    return map_from_fd(kernel, _pinned(kernel, path, "map"))


def check_kind(fd: int, kind: str, where: str = "") -> None:
    """Raises KernelError (EINVAL) when a descriptor is of another kind; ``where`` it came from."""
    found = kind_of(fd)
    if found != kind:
        reason = f"{where or f'descriptor {fd}'} is {_WORDS.get(found or '', file_of(fd))}, not"
        raise KernelError(errno.EINVAL, f"{reason} {_WORDS[kind]}")


def map_from_fd(kernel: Kernel, fd: int, *, key: Codec | None = None, value: Codec | None = None) -> Map:
    """Take over a map's descriptor; its types come from its BTF where it has one."""
    try:
        check_kind(fd, "map")
        info = INFO["bpf_map_info"].unpack(kernel.obj_get_info_by_fd(fd, "map"))
        number = {name: field for name, field in info.items() if isinstance(field, int)}
        btf_id = number.get("btf_id", 0)
        if btf_id and value is None:
            from skep.kernel.typed import Codecs

            codecs = Codecs(btf_by_id(kernel, btf_id))
            key_id, value_id = number.get("btf_key_type_id", 0), number.get("btf_value_type_id", 0)
            key = codecs.of(key_id) if key_id else None
            value = codecs.of(value_id) if value_id else None
        return Map(
            kernel,
            fd,
            number["type"],
            number["key_size"],
            number["value_size"],
            number["max_entries"],
            number["map_flags"],
            extra=number.get("map_extra", 0),
            name=text(info.get("name", b"")),
            key=key,
            value=value,
        )
    except BaseException:
        kernel.close(fd)
        raise


def btf_by_id(kernel: Kernel, id: int) -> Btf:
    """BTF that is loaded in the kernel (not a module's, which needs its base)."""
    from skep.btf import Btf

    fd = kernel.get_fd_by_id("btf", id)
    try:
        info = INFO["bpf_btf_info"].unpack(kernel.obj_get_info_by_fd(fd, "btf"))
        size = info["btf_size"]
        assert isinstance(size, int)
        data = bytearray(size)
        kernel.obj_get_info_by_fd(fd, "btf", {"btf": data, "btf_size": size})
        return Btf(bytes(data))
    finally:
        kernel.close(fd)


def program_from_fd(kernel: Kernel, fd: int) -> Program:
    """Take over a program's descriptor. What it attaches to is not known to the kernel: say it on attach."""
    from skep.kernel.program import Program
    from skep.obj.spec import ProgramSpec
    from skep.uapi.enums import ProgType

    try:
        check_kind(fd, "prog")
        info = INFO["bpf_prog_info"].unpack(kernel.obj_get_info_by_fd(fd, "prog"))
        number = info["type"]
        assert isinstance(number, int)
        try:
            type = ProgType(number)
        except ValueError:
            raise NotSupported(errno.EOPNOTSUPP, f"program type {number}, newer than this skep,") from None
        return Program(kernel, fd, ProgramSpec(text(info.get("name", b"")), "", type))
    except BaseException:
        kernel.close(fd)
        raise


def program_by_id(kernel: Kernel, id: int) -> Program:
    return program_from_fd(kernel, kernel.get_fd_by_id("prog", id))


def program_from_pin(kernel: Kernel, path: str) -> Program:
    return program_from_fd(kernel, _pinned(kernel, path, "prog"))


def link_from_pin(kernel: Kernel, path: str) -> Link:
    """A link pinned in bpffs: closing it leaves the pin and the attachment."""
    from skep.kernel.link import Link

    return Link(kernel, _pinned(kernel, path, "link"), target=path)


def _pinned(kernel: Kernel, path: str, kind: str) -> int:
    fd = kernel.obj_get(path)
    try:
        check_kind(fd, kind, f"what is pinned at {path}")
    except BaseException:
        kernel.close(fd)
        raise
    return fd


def link_by_id(kernel: Kernel, id: int) -> Link:
    from skep.kernel.link import Link

    return Link(kernel, kernel.get_fd_by_id("link", id), target=f"link {id}")


def text(field: int | bytes) -> str:
    return field.split(b"\0", 1)[0].decode(errors="replace") if isinstance(field, bytes) else ""
