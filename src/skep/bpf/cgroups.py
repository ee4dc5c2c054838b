"""Maps whose values belong to a cgroup and the programs attached to it (BPF_MAP_TYPE_CGROUP_STORAGE).

A program has the value of the cgroup that it was attached to: the kernel makes it when the program is
attached, and takes it away with the cgroup or the map (before Linux 5.9, when the program is detached). It is
always there, which values of `skep.bpf.maps.CgrpStorage` are not; those belong to any cgroup that a program
comes across, and need Linux 6.2.
"""

from __future__ import annotations

from skep.bpf.maps import Map
from skep.bpf.struct import struct
from skep.bpf.types import u32, u64

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


@struct
class bpf_cgroup_storage_key:  # noqa: N801 - the kernel's name
    """A cgroup by its id (that of its directory, ``os.stat(path).st_ino``) and an AttachType."""

    cgroup_inode_id: u64  # type: ignore[valid-type]  # records here, integers in the stubs
    attach_type: u32  # type: ignore[valid-type]  # a record here, an integer in the stubs


class CgroupStorage(Map):
    """One value for each cgroup and kind of attachment; ``shared=True``: for each cgroup (Linux 5.9).

    In Python the key is ``(cgroup id, attach type)``, or the id alone when shared. Linux 4.19.
    """

    __slots__ = ()
    kind = "cgroup_storage"

    def __init__(self, value: Any, *, shared: bool = False, **options: Any) -> None:
        super().__init__(u64 if shared else bpf_cgroup_storage_key, value, 0, **options)


class PerCpuCgroupStorage(CgroupStorage):
    """The same with a value for each processor. Linux 4.20."""

    __slots__ = ()
    kind = "percpu_cgroup_storage"
