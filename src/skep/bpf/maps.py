"""Maps, declared at module level: ``seen = bpf.Hash(u32, u64, max_entries=1024)``.

A declaration only records. The map's name in the object is the variable's; after `skep.load` it is
``obj.NAME``. What programs do with maps is `skep.lang`'s; docs/language.md lists it.
"""

from __future__ import annotations

from skep.errors import SkepError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_NO_PREALLOC = 1


def _is_name(name: object) -> bool:
    """Whether kernels take it as the name of a map."""
    return isinstance(name, str) and name.isascii() and name.replace("_", "a").isalnum()


class Map:
    """Base of the declarations.

    ``kind`` is the name of the map type (`skep.uapi.enums.MapType`), ``key`` and ``value`` types or None,
    ``flags`` BPF_F_* bits, ``extra`` the map_extra number, ``inner`` the declaration of a map of maps'
    elements, ``initial`` what slots hold when the object is loaded (programs, maps).
    """

    __slots__ = ("extra", "flags", "initial", "inner", "key", "max_entries", "name", "numa", "pin", "value")
    kind = ""

    def __class_getitem__(cls, of: object) -> type[Map]:
        """``bpf.Hash[int, Event]``, as type checkers want a map's annotation."""
        return cls

    def __init__(
        self,
        key: Any = None,
        value: Any = None,
        max_entries: int = 0,
        *,
        flags: int = 0,
        extra: int = 0,
        inner: Map | None = None,
        initial: Any = None,
        pin: bool = False,
        name: str | None = None,
        numa: int | None = None,
    ) -> None:
        if not isinstance(max_entries, int) or not 0 <= max_entries < 1 << 32:
            raise SkepError(f"{type(self).__name__}: max_entries={max_entries!r} is no count of elements")
        if not isinstance(flags, int):
            raise SkepError(f"{type(self).__name__}: flags={flags!r} is no number: bpf.BPF_F_NAME is one")
        if inner is not None and not isinstance(inner, Map):
            raise SkepError(f"{type(self).__name__}: {inner!r} is no map: bpf.Array(u64, 4) would be one")
        if name is not None and not _is_name(name):
            raise SkepError(f"{type(self).__name__}: name={name!r} is not of ASCII letters, digits and _")
        self.key = key
        self.value = value
        self.max_entries = max_entries
        self.flags = flags
        self.extra = extra
        self.inner = inner
        self.initial = initial
        self.pin = pin
        self.name = name
        self.numa = numa

    def __repr__(self) -> str:
        return f"<bpf.{type(self).__name__} {self.name or ''}>"

    def _outside(self, *_: Any) -> Any:
        raise SkepError(
            f"bpf.{type(self).__name__} is a declaration: elements are there in programs, "
            "and in the loaded object (obj.NAME)"
        )

    __getitem__ = __setitem__ = __delitem__ = __contains__ = get = _outside


class _Keyed(Map):
    __slots__ = ()

    def __init__(self, key: Any, value: Any, max_entries: int = 10240, **options: Any) -> None:
        super().__init__(key, value, max_entries, **options)


class Hash(_Keyed):
    __slots__ = ()
    kind = "hash"


class LruHash(_Keyed):
    __slots__ = ()
    kind = "lru_hash"


class PerCpuHash(_Keyed):
    __slots__ = ()
    kind = "percpu_hash"


class LruPerCpuHash(_Keyed):
    __slots__ = ()
    kind = "lru_percpu_hash"


class LpmTrie(_Keyed):
    """Longest prefix match; ``key`` is ``bpf.lpm(T)``."""

    __slots__ = ()
    kind = "lpm_trie"

    def __init__(self, key: Any, value: Any, max_entries: int = 10240, **options: Any) -> None:
        from skep.bpf.types import IntType

        if isinstance(key, IntType):
            raise SkepError(f"LpmTrie: the key is bpf.lpm({key.name}), a length and an address")
        options["flags"] = options.get("flags", 0) | _NO_PREALLOC
        super().__init__(key, value, max_entries, **options)


class _Indexed(Map):
    __slots__ = ()

    def __init__(self, value: Any, max_entries: int = 1, **options: Any) -> None:
        from skep.bpf.types import u32

        super().__init__(u32, value, max_entries, **options)


class Array(_Indexed):
    __slots__ = ()
    kind = "array"


class PerCpuArray(_Indexed):
    __slots__ = ()
    kind = "percpu_array"


class _Slots(Map):
    """Maps from an index to something of the kernel's, four bytes each."""

    __slots__ = ()

    def __init__(self, max_entries: int = 0, initial: Any = None, **options: Any) -> None:
        from skep.bpf.types import u32

        super().__init__(u32, options.pop("value", u32), max_entries, initial=initial, **options)


class ProgArray(_Slots):
    """Programs to jump to; ``initial`` maps an index to a program of the same object."""

    __slots__ = ()
    kind = "prog_array"


class PerfEventArray(Map):
    """Per-CPU buffers of records of type ``record`` (or bytes)."""

    __slots__ = ("record",)
    kind = "perf_event_array"

    def __init__(self, record: Any = None, max_entries: int = 0, **options: Any) -> None:
        from skep.bpf.types import u32

        super().__init__(u32, u32, max_entries, **options)
        self.record = record


class CgroupArray(_Slots):
    __slots__ = ()
    kind = "cgroup_array"


class SockMap(_Slots):
    __slots__ = ()
    kind = "sockmap"


class ReuseportSockArray(_Slots):
    __slots__ = ()
    kind = "reuseport_sockarray"


class DevMap(_Slots):
    __slots__ = ()
    kind = "devmap"


class DevMapHash(_Slots):
    __slots__ = ()
    kind = "devmap_hash"


class CpuMap(_Slots):
    __slots__ = ()
    kind = "cpumap"


class XskMap(_Slots):
    __slots__ = ()
    kind = "xskmap"


class SockHash(Map):
    __slots__ = ()
    kind = "sockhash"

    def __init__(self, key: Any, max_entries: int = 10240, **options: Any) -> None:
        from skep.bpf.types import u32

        super().__init__(key, options.pop("value", u32), max_entries, **options)


class ArrayOfMaps(Map):
    __slots__ = ()
    kind = "array_of_maps"

    def __init__(self, inner: Map, max_entries: int = 1, initial: Any = None, **options: Any) -> None:
        from skep.bpf.types import u32

        super().__init__(u32, u32, max_entries, inner=inner, initial=initial, **options)


class HashOfMaps(Map):
    __slots__ = ()
    kind = "hash_of_maps"

    def __init__(
        self, key: Any, inner: Map, max_entries: int = 1024, initial: Any = None, **options: Any
    ) -> None:
        from skep.bpf.types import u32

        super().__init__(key, u32, max_entries, inner=inner, initial=initial, **options)


class StackTrace(Map):
    """Stacks by id, up to ``depth`` addresses each."""

    __slots__ = ("depth",)
    kind = "stack_trace"

    def __init__(self, max_entries: int = 10240, depth: int = 127, **options: Any) -> None:
        from skep.bpf.types import array, u32, u64

        super().__init__(u32, array(u64, depth), max_entries, **options)
        self.depth = depth


class _Keyless(Map):
    __slots__ = ()

    def __init__(self, value: Any, max_entries: int = 1024, **options: Any) -> None:
        super().__init__(None, value, max_entries, **options)


class Queue(_Keyless):
    __slots__ = ()
    kind = "queue"


class Stack(_Keyless):
    __slots__ = ()
    kind = "stack"


class BloomFilter(_Keyless):
    """Sets that may answer yes by mistake, never no; ``hashes`` functions (1 to 15)."""

    __slots__ = ()
    kind = "bloom_filter"

    def __init__(self, value: Any, max_entries: int = 1024, hashes: int = 5, **options: Any) -> None:
        super().__init__(value, max_entries, extra=hashes, **options)


class RingBuf(Map):
    """A ring of records of type ``record`` (None: bytes), ``size`` bytes."""

    __slots__ = ("record",)
    kind = "ringbuf"

    def __init__(self, record: Any = None, size: int = 1 << 18, **options: Any) -> None:
        if "max_entries" in options:
            raise SkepError(f"{type(self).__name__}: a ring has bytes: write size={options['max_entries']!r}")
        super().__init__(None, None, size, **options)
        self.record = record


class UserRingBuf(Map):
    """A ring that user space writes and programs drain."""

    __slots__ = ("record",)
    kind = "user_ringbuf"

    def __init__(self, record: Any = None, size: int = 1 << 18, **options: Any) -> None:
        if "max_entries" in options:
            raise SkepError(f"{type(self).__name__}: a ring has bytes: write size={options['max_entries']!r}")
        super().__init__(None, None, size, **options)
        self.record = record


class _Storage(Map):
    """Values that live and die with an object of the kernel."""

    __slots__ = ()

    def __init__(self, value: Any, **options: Any) -> None:
        from skep.bpf.types import s32

        options["flags"] = options.get("flags", 0) | _NO_PREALLOC
        super().__init__(s32, value, 0, **options)


class SkStorage(_Storage):
    __slots__ = ()
    kind = "sk_storage"


class TaskStorage(_Storage):
    __slots__ = ()
    kind = "task_storage"


class InodeStorage(_Storage):
    __slots__ = ()
    kind = "inode_storage"


class CgrpStorage(_Storage):
    __slots__ = ()
    kind = "cgrp_storage"


class StructOps(Map):
    """A struct of the kernel's whose functions are programs: ``obj.NAME`` registers it.

        reno = bpf.StructOps("tcp_congestion_ops", ssthresh=ssthresh, cong_avoid=avoid, name=b"skep_reno")

    Members are programs decorated with ``@bpf.struct_ops("tcp_congestion_ops:ssthresh")``, numbers and texts.
    ``linked=False`` is for kernels before 6.4, without links.
    """

    __slots__ = ("linked", "members", "struct")
    kind = "struct_ops"

    def __init__(self, struct: str, *, linked: bool = True, **members: Any) -> None:
        super().__init__()
        self.struct = struct
        self.linked = linked
        self.members = members
