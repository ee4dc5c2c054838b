"""struct_ops: kernel interfaces (a TCP congestion control, a scheduler) implemented by programs."""

from __future__ import annotations

import errno
import struct

from skep.errors import LinkError, NotSupported
from skep.kernel.link import Link, ManualLink
from skep.uapi.enums import AttachType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, Final

    from skep.btf import Btf
    from skep.kernel.map import Map
    from skep.kernel.program import Program
    from skep.obj import CoreTarget
    from skep.obj.spec import MapSpec, ObjectSpec, ProgramSpec

_STRUCT: Final = 4
_PREFIX: Final = "bpf_struct_ops_"


class StructOps:
    """How a struct of the object becomes the kernel's: members by name, offsets the kernel's.

    The struct is the kernel's own or a module's (Linux 6.9); ``modules`` gives those that are loaded.
    """

    def __init__(
        self,
        spec: ObjectSpec,
        map: MapSpec,
        target: CoreTarget,
        modules: Callable[[], list[tuple[str, int, Btf]]] | None = None,
    ) -> None:
        assert spec.btf is not None
        self.map = map
        self.local: Btf = spec.btf
        local_type = self.local[self.local.resolve(map.value_type_id)]
        self.name: str = local_type[1].split("___")[0]
        #: the types that have the struct, and the descriptor of a module's (-1: the kernel's own)
        self.kernel: Btf
        self.kernel, self.btf_obj = self._home(target.btf, modules)
        kernel_id = self.kernel.find(self.name, _STRUCT)
        value_type = self.kernel.find(_PREFIX + self.name, _STRUCT)
        assert kernel_id is not None and value_type is not None
        self.kernel_id = kernel_id
        self.value_type = value_type
        #: bytes of the kernel's value, which holds more than the struct
        self.size: int = self.kernel[value_type][2]
        self.members: list[tuple[str, int, int, int]] = list(local_type[3])

    def _home(self, own: Btf, modules: Callable[[], list[tuple[str, int, Btf]]] | None) -> tuple[Btf, int]:
        value = _PREFIX + self.name
        if own.find(value, _STRUCT) is not None and own.find(self.name, _STRUCT) is not None:
            return own, -1
        for _, fd, btf in modules() if modules is not None else ():
            id = btf.find(value, _STRUCT)
            if id is not None and id >= btf.start_id and btf.find(self.name, _STRUCT) is not None:
                return btf, fd
        raise NotSupported(
            errno.ESRCH,
            f"struct_ops map {self.map.name}: implementing {self.name}"
            " (neither in the kernel's BTF nor in that of a loaded module)",
        )

    def _data_offset(self) -> int:
        for _, type_id, offset, _ in self.kernel[self.value_type][3]:
            if self.kernel.resolve(type_id) == self.kernel_id:
                return int(offset) // 8
        raise LinkError(f"struct_ops map {self.map.name}: the kernel's value has no {self.name}")

    def member_index(self, offset: int) -> int:
        """The index in the kernel's struct of the object's member at a byte offset."""
        name = next((m[0] for m in self.members if m[2] == 8 * offset), None)
        for index, member in enumerate(self.kernel[self.kernel_id][3]):
            if member[0] == name:
                return index
        raise LinkError(f"struct_ops map {self.map.name}: the kernel's {self.name} has no member {name!r}")

    def value(self, programs: Mapping[str, Program]) -> bytes:
        """The kernel's value: data members copied, programs as their descriptors."""
        data = self.map.data or bytearray()
        out = bytearray(self.size)
        base = self._data_offset()
        theirs: dict[str, Any] = {m[0]: m for m in self.kernel[self.kernel_id][3]}
        for name, type_id, offset, _ in self.members:
            at, size = offset // 8, self.local.size_of(type_id)
            chunk = bytes(data[at : at + size])
            member = theirs.get(name)
            program = self.map.contents.get(at)
            if member is None:
                if program is None and not chunk.strip(b"\0"):
                    continue  # a member that this kernel does not have, and nobody set
                raise LinkError(
                    f"struct_ops map {self.map.name}: the kernel's {self.name} has no member {name!r}"
                )
            to = base + member[2] // 8
            if program is not None:
                loaded = programs.get(program)
                struct.pack_into("=Q", out, to, loaded.fd if loaded is not None else 0)
            elif chunk.strip(b"\0"):
                if self.kernel.size_of(member[1]) != size:
                    raise LinkError(
                        f"struct_ops map {self.map.name}: member {name!r} has {size} bytes, in the kernel "
                        f"{self.kernel.size_of(member[1])}"
                    )
                out[to : to + size] = chunk
        return bytes(out)


def member_of(
    spec: ObjectSpec,
    program: ProgramSpec,
    target: CoreTarget,
    modules: Callable[[], list[tuple[str, int, Btf]]] | None = None,
) -> dict[str, Any]:
    """The fields of a load that say which member of which struct a program implements."""
    for map in spec.maps.values():
        for offset, name in map.contents.items():
            if name == program.name and map.value_type_id and map.type == 26:
                ops = StructOps(spec, map, target, modules)
                attr = {
                    "attach_btf_id": ops.kernel_id,
                    "expected_attach_type": ops.member_index(offset),
                }
                return attr if ops.btf_obj < 0 else attr | {"attach_btf_obj_fd": ops.btf_obj}
    raise LinkError(f"program {program.name}: no struct_ops map uses it")


def register(map: Map, value: bytes, *, linked: bool) -> Link:
    """Hand the operations to the kernel: by a link (6.4), else until the map's element is deleted."""
    map.kernel.map_update_elem(map.fd, bytes(4), value)
    if linked:
        fd = map.kernel.link_create(map.fd, 0, AttachType.STRUCT_OPS)
        return Link(map.kernel, fd, target=map.name)
    owned = map.kernel.dup(map.fd)
    return ManualLink(
        map.kernel,
        owned,
        lambda: map.kernel.map_delete_elem(owned, bytes(4)),
        kind="struct_ops",
        target=map.name,
    )
