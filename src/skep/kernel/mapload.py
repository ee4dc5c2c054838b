"""Creating the maps of an object, or finding them pinned."""

from __future__ import annotations

import errno
import struct

from skep.errors import KernelError, LinkError, MapIncompatible
from skep.kernel.handle import page_size
from skep.kernel.protocol import Kernel
from skep.obj.linked import MapRef
from skep.obj.spec import PIN_BY_NAME, MapSpec
from skep.uapi.attr import INFO
from skep.uapi.enums import MapType as T

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    from skep.obj.linked import LinkedProgram

_NUMA_NODE: Final = 4
_MMAPABLE: Final = 1 << 10
#: kernel.perf_event_max_stack, as kernels come
_STACK_DEPTH: Final = 127
_OF_MAPS: Final = (T.ARRAY_OF_MAPS, T.HASH_OF_MAPS)
_RINGS: Final = (T.RINGBUF, T.USER_RINGBUF)
#: types that kernels take no BTF of
_UNTYPED: Final = frozenset(
    (
        T.PERF_EVENT_ARRAY,
        T.CGROUP_ARRAY,
        T.STACK_TRACE,
        *_OF_MAPS,
        T.DEVMAP,
        T.DEVMAP_HASH,
        T.CPUMAP,
        T.XSKMAP,
        T.SOCKMAP,
        T.SOCKHASH,
        T.QUEUE,
        T.STACK,
        T.ARENA,
        *_RINGS,
    )
)


class Shape:
    """The numbers to create a map with: a spec's, with those filled in that it leaves to the kernel."""

    __slots__ = ("extra", "flags", "key_size", "max_entries", "type", "value_size")

    def __init__(self, kernel: Kernel, spec: MapSpec) -> None:
        self.type = int(spec.type)
        self.key_size = spec.key_size
        self.value_size = spec.value_size
        self.max_entries = spec.max_entries
        self.flags = spec.flags
        self.extra = spec.extra
        if spec.type == T.PERF_EVENT_ARRAY:
            # A type for its values says what the records are, not what the slots hold.
            self.key_size = self.key_size or 4
            self.value_size = 4 if spec.value_type_id else self.value_size or 4
            self.max_entries = self.max_entries or kernel.cpus
        elif spec.type == T.STACK_TRACE:
            self.value_size = self.value_size or 8 * _STACK_DEPTH
        elif spec.type == T.CPUMAP:
            self.max_entries = self.max_entries or kernel.cpus
        elif spec.type in _OF_MAPS:
            self.value_size = self.value_size or 4
        elif spec.type in _RINGS:
            self.key_size = self.value_size = 0
            self.max_entries = ring_size(spec.max_entries)


def ring_size(wanted: int) -> int:
    """The smallest power of two, of a page at least, that holds ``wanted`` bytes."""
    size = page_size()
    while size < wanted:
        size *= 2
    return size


def create(
    kernel: Kernel,
    spec: MapSpec,
    btf_fd: int = -1,
    *,
    struct_type: int = 0,
    btf_obj: int = -1,
    ifindex: int = 0,
) -> int:
    """A new map's descriptor.

    ``struct_type``: for struct_ops the kernel's value type, of module BTF ``btf_obj``. ``ifindex``: the
    network device that holds the map, 0 for none. Raises NotSupported or
    KernelError that names the map.
    """
    shape = Shape(kernel, spec)
    attr: dict[str, int] = {}
    if ifindex:
        attr["map_ifindex"] = ifindex
    if shape.extra:
        attr["map_extra"] = shape.extra
    if shape.flags & _NUMA_NODE and spec.numa_node is not None:
        attr["numa_node"] = spec.numa_node
    inner = -1
    try:
        if spec.type in _OF_MAPS:
            if spec.inner is None:
                raise LinkError(f"map {spec.name}: a map of maps without the declaration of its inner maps")
            inner = attr["inner_map_fd"] = create(kernel, spec.inner, btf_fd)
        types: dict[str, int] = {}
        if btf_fd >= 0 and spec.type not in _UNTYPED and (spec.value_type_id or spec.key_type_id):
            types = {
                "btf_fd": btf_fd,
                "btf_key_type_id": spec.key_type_id,
                "btf_value_type_id": spec.value_type_id,
            }
        if struct_type:
            types = {"btf_fd": btf_fd, "btf_vmlinux_value_type_id": struct_type}
            if btf_obj >= 0:
                types["value_type_btf_obj_fd"] = btf_obj
                shape.flags |= 1 << 15  # BPF_F_VTYPE_BTF_OBJ_FD
        return _try(kernel, spec, shape, attr, types)
    except KernelError as error:
        from skep.kernel.refusal import of_map

        raise of_map(kernel, spec, error) from None
    finally:
        if inner >= 0:
            kernel.close(inner)


def jump_tables(kernel: Kernel, linked: LinkedProgram, made: list[int]) -> None:
    """Make the instruction arrays of a program's indirect jumps (Linux 6.19), and refer to them.

    Their descriptors are appended to ``made``. Raises NotSupported where the kernel has none.
    """
    known: dict[tuple[int, ...], int] = {}
    for ref in linked.jump_refs:
        fd = known.get(ref.slots)
        if fd is None:
            spec = MapSpec(".jumptables", T.INSN_ARRAY, 4, 16, len(ref.slots))
            fd = known[ref.slots] = create(kernel, spec)
            made.append(fd)
            for index, slot in enumerate(ref.slots):
                kernel.map_update_elem(fd, struct.pack("=I", index), struct.pack("=IIII", slot, 0, 0, 0))
            kernel.map_freeze(fd)
        linked.set_map(MapRef(ref.pc, ".jumptables", ref.offset), fd)


def _try(kernel: Kernel, spec: MapSpec, shape: Shape, attr: dict[str, int], types: dict[str, int]) -> int:
    """With all that is known; then without what older kernels refuse."""

    def made(flags: int, more: dict[str, int]) -> int:
        return kernel.map_create(
            shape.type,
            shape.key_size,
            shape.value_size,
            shape.max_entries,
            flags,
            name=spec.kernel_name,
            **attr,
            **more,
        )

    try:
        return made(shape.flags, types)
    except KernelError as error:
        required = spec.type == T.STRUCT_OPS or error.errno in (errno.EPERM, errno.ENOMEM, errno.ENOSYS)
        if required or not (types or (spec.data is not None and shape.flags & _MMAPABLE)):
            raise
        first = error
    if types:
        try:
            return made(shape.flags, {})
        except KernelError:
            pass
    if spec.data is not None and shape.flags & _MMAPABLE:
        try:
            return made(shape.flags & ~_MMAPABLE, types)
        except KernelError:
            pass
    raise first


def pin_path(root: str, spec: MapSpec) -> str:
    """Where a map pinned by name lies. libbpf keeps dots out of pins, which mean something in bpffs."""
    return f"{root.rstrip('/')}/{spec.name.replace('.', '_')}"


def pinned(kernel: Kernel, spec: MapSpec, path: str) -> int | None:
    """The map pinned at ``path``, None when there is none. Raises MapIncompatible when it is another."""
    if spec.pinning != PIN_BY_NAME:
        return None
    try:
        fd = kernel.obj_get(path)
    except KernelError as error:
        if error.errno == errno.ENOENT:
            return None
        raise
    try:
        check_same(kernel, spec, fd, path)
    except BaseException:
        kernel.close(fd)
        raise
    return fd


def check_same(kernel: Kernel, spec: MapSpec, fd: int, what: str) -> None:
    """Raise MapIncompatible unless the map can be used for ``spec``."""
    info: dict[str, Any] = INFO["bpf_map_info"].unpack(kernel.obj_get_info_by_fd(fd, "map"))
    shape = Shape(kernel, spec)
    want = {
        "type": shape.type,
        "key_size": shape.key_size,
        "value_size": shape.value_size,
        "max_entries": shape.max_entries,
        "map_flags": shape.flags,
        "map_extra": shape.extra,
    }
    differences = {
        name: (info.get(name, 0), value) for name, value in want.items() if info.get(name, 0) != value
    }
    if differences:
        words = ", ".join(f"{name} is {have}, not {asked}" for name, (have, asked) in differences.items())
        raise MapIncompatible(
            errno.EINVAL,
            f"map {spec.name}: {what} is another map: {words}; remove it or load under another pin_root",
            differences=differences,
        )
