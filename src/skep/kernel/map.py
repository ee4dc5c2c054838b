"""A map in a kernel, as a mapping of typed keys and values."""

from __future__ import annotations

import errno
from _collections_abc import Mapping, MutableMapping
from sys import byteorder

from skep.errors import KernelError
from skep.kernel.handle import Handle, page_size
from skep.kernel.protocol import Buffer, Kernel
from skep.uapi.enums import MapType as T

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, Final

    from skep.kernel.codec import Codec
    from skep.kernel.raw import RawMap

    _Base = MutableMapping[Any, Any]
else:
    _Base = MutableMapping

_CODECS: Final = ("key", "value", "inner_key", "inner_value")
_NOEXIST: Final = 1
_EXIST: Final = 2
_PER_CPU: Final = frozenset((T.PERCPU_HASH, T.PERCPU_ARRAY, T.LRU_PERCPU_HASH, T.PERCPU_CGROUP_STORAGE))
_KEYLESS: Final = frozenset((T.QUEUE, T.STACK, T.BLOOM_FILTER))
_ARRAYS: Final = frozenset((T.ARRAY, T.PERCPU_ARRAY))
_OF_MAPS: Final = frozenset((T.ARRAY_OF_MAPS, T.HASH_OF_MAPS))
#: maps whose values are given as descriptors: of programs, perf events, cgroups, sockets
_OF_FDS: Final = frozenset(
    (T.PROG_ARRAY, T.PERF_EVENT_ARRAY, T.CGROUP_ARRAY, T.SOCKMAP, T.SOCKHASH, T.REUSEPORT_SOCKARRAY, T.XSKMAP)
)
_STORAGE: Final = frozenset((T.SK_STORAGE, T.INODE_STORAGE, T.TASK_STORAGE, T.CGRP_STORAGE))


class Map(Handle, _Base):
    """Keys and values by their BTF types (`skep.kernel.codec` says how); without BTF those of 1, 2, 4
    and 8 bytes are unsigned integers, all others bytes.

    - ``m[k]`` and ``del m[k]`` raise KeyError for a key that is not there; so does an index past the end
      of an array. Storing past the end, or into a full map, raises KernelError (E2BIG).
    - A key or value of the wrong kind, size or range raises KernelError (EINVAL) that says so; nothing
      is changed. `insert` refuses keys that exist (BPF_NOEXIST), `replace` those that do not (BPF_EXIST).
    - Per-CPU values are lists, one item for each possible CPU.
    - LPM tries take ``(prefixlen, bytes)``, "10.0.0.0/8", `ipaddress` networks and, with BTF, the struct.
    - Values of maps of maps are `Map`s (owned by this one); program arrays take `Program`s and give
      program ids; arrays of events, sockets and cgroups take anything with a ``fileno``.
    - Queues, stacks and Bloom filters have no keys: `push`, `pop`, `peek`.
    - ``iter`` and ``items`` read in batches where the kernel can; entries that come and go meanwhile may
      be missed or seen twice, as everywhere in BPF.
    """

    __slots__ = (
        "_arena",
        "_codecs",
        "_inner",
        "extra",
        "flags",
        "inner_key",
        "inner_value",
        "key",
        "key_size",
        "max_entries",
        "name",
        "type",
        "value",
        "value_size",
    )
    key: Codec
    value: Codec
    inner_key: Codec | None
    inner_value: Codec | None

    def __init__(
        self,
        kernel: Kernel,
        fd: int,
        type: int,
        key_size: int,
        value_size: int,
        max_entries: int,
        flags: int = 0,
        *,
        extra: int = 0,
        name: str = "",
        key: Codec | None = None,
        value: Codec | None = None,
        codecs: Callable[[], tuple[Codec | None, Codec | None, Codec | None, Codec | None]] | None = None,
    ) -> None:
        super().__init__(kernel, fd)
        self.name = name
        try:
            self.type: int = T(type)
        except ValueError:
            self.type = type
        self.key_size = key_size
        self.value_size = value_size
        self.max_entries = max_entries
        self.flags = flags
        self.extra = extra
        self._inner: dict[int, Map] = {}
        self._arena: memoryview | None = None
        #: gives the codecs of keys and values, and of those of the maps inside, when one is first needed
        self._codecs = codecs
        if codecs is None:
            self._take_codecs(key, value, None, None)

    def _take_codecs(
        self, key: Codec | None, value: Codec | None, inner_key: Codec | None, inner_value: Codec | None
    ) -> None:
        from skep.kernel.codec import by_size

        if key is None or key.size != self.key_size:
            key = by_size(self.key_size)
        if self.type == T.LPM_TRIE:
            from skep.kernel.lpm import LpmCodec

            key = LpmCodec(key)
        self.key = key
        self.value = (
            value if value is not None and value.size == self.value_size else by_size(self.value_size)
        )
        self.inner_key, self.inner_value = inner_key, inner_value
        self._codecs = None

    def __getattr__(self, name: str) -> Any:
        # Only for slots that are still empty: a start need not know how entries are read.
        if name in _CODECS:
            make = self._codecs
            if make is not None:  # else another thread has just filled them
                self._take_codecs(*make())
            return object.__getattribute__(self, name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __repr__(self) -> str:
        state = "closed" if self.closed else f"fd {self._fd}"
        return f"<Map {self.name} {self.type_name} {self.key_size}→{self.value_size} {state}>"

    def __hash__(self) -> int:
        return id(self)

    def __eq__(self, other: object) -> bool:
        """Maps are the same or not; ``dict(m)`` compares contents."""
        return self is other

    @property
    def type_name(self) -> str:
        return self.type.name.lower() if isinstance(self.type, T) else f"type {self.type}"

    @property
    def info(self) -> dict[str, int | bytes]:
        """What the kernel says of the map: struct bpf_map_info, by field."""
        from skep.uapi.attr import INFO

        return INFO["bpf_map_info"].unpack(self.kernel.obj_get_info_by_fd(self.fd, "map"))

    @property
    def id(self) -> int:
        return int(self.info["id"])

    @property
    def raw(self) -> RawMap:
        """The same map with keys and values as bytes."""
        from skep.kernel.raw import RawMap

        return RawMap(self)

    @property
    def per_cpu(self) -> bool:
        return self.type in _PER_CPU

    @property
    def raw_value_size(self) -> int:
        """Bytes of a value at the system call."""
        if self.type in _PER_CPU:
            return (self.value_size + 7 & ~7) * self.kernel.cpus
        return self.value_size

    # --- bytes and values ----------------------------------------------------------------------

    def _wrong(self, what: str, error: ValueError) -> KernelError:
        from skep.kernel.codec import within

        return KernelError(errno.EINVAL, f"map {self.name or 'without name'}: {within(what, error)}")

    def encode_key(self, key: Any) -> bytes:
        if not self.key_size:
            raise KernelError(
                errno.EINVAL, f"map {self.name}: a {self.type_name} has no keys: push, pop, peek"
            )
        if self.type in _STORAGE and hasattr(key, "fileno"):
            key = key.fileno()
        try:
            return self.key.encode(key)
        except ValueError as error:
            raise self._wrong("key", error) from None

    def decode_key(self, data: Buffer) -> Any:
        return self.key.decode(data)

    def encode_value(self, value: Any) -> bytes:
        kind = self.type
        if (kind in _OF_FDS or kind in _OF_MAPS) and hasattr(value, "fileno"):
            value = value.fileno()
        try:
            if kind not in _PER_CPU:
                return self.value.encode(value)
            cpus = self.kernel.cpus
            if not isinstance(value, (list, tuple)) or len(value) != cpus:
                raise ValueError(
                    f"{value!r} where a list of {cpus} values belongs, one for each possible CPU"
                )
            return b"".join(self.value.encode(item).ljust(self.value_size + 7 & ~7, b"\0") for item in value)
        except ValueError as error:
            raise self._wrong("value", error) from None

    def decode_value(self, data: Buffer) -> Any:
        kind = self.type
        if kind in _PER_CPU:
            return self.value.decode_many(data, stride=self.value_size + 7 & ~7)
        if kind in _OF_MAPS:
            return self._inner_map(int.from_bytes(data, byteorder))
        return self.value.decode(data)

    def _inner_map(self, id: int) -> Map:
        known = self._inner.get(id)
        if known is None:
            from skep.kernel.open import map_by_id

            known = self._inner[id] = map_by_id(self.kernel, id, key=self.inner_key, value=self.inner_value)
        return known

    # --- one at a time -------------------------------------------------------------------------

    def __getitem__(self, key: Any) -> Any:
        return self.lookup(key)

    def lookup(self, key: Any, flags: int = 0) -> Any:
        """``m[key]``, with flags (BPF_F_LOCK). Raises KeyError."""
        raw = self.encode_key(key)
        value = bytearray(self.raw_value_size)
        try:
            self.kernel.map_lookup_elem(self.fd, raw, value, flags)
        except KernelError as error:
            if error.errno == errno.ENOENT:
                raise KeyError(key) from None
            raise
        return self.decode_value(value)

    def __setitem__(self, key: Any, value: Any) -> None:
        self.store(key, value)

    def store(self, key: Any, value: Any, flags: int = 0) -> None:
        """``m[key] = value``, with flags (BPF_NOEXIST, BPF_EXIST, BPF_F_LOCK)."""
        self.kernel.map_update_elem(self.fd, self.encode_key(key), self.encode_value(value), flags)

    def insert(self, key: Any, value: Any) -> None:
        """Store under a key that does not exist yet. Raises KernelError (EEXIST) otherwise."""
        self.store(key, value, _NOEXIST)

    def replace(self, key: Any, value: Any) -> None:
        """Store under a key that exists. Raises KernelError (ENOENT) otherwise."""
        self.store(key, value, _EXIST)

    def __delitem__(self, key: Any) -> None:
        try:
            self.kernel.map_delete_elem(self.fd, self.encode_key(key))
        except KernelError as error:
            if error.errno == errno.ENOENT:
                raise KeyError(key) from None
            raise

    def __contains__(self, key: object) -> bool:
        if self.type == T.BLOOM_FILTER:
            value = bytearray(self.encode_value(key))
            try:
                self.kernel.map_lookup_elem(self.fd, b"", value)
            except KernelError as error:
                if error.errno == errno.ENOENT:
                    return False
                raise
            return True
        try:
            raw = self.encode_key(key)
            self.kernel.map_lookup_elem(self.fd, raw, bytearray(self.raw_value_size))
        except KernelError as error:
            if error.errno == errno.ENOENT:
                return False
            raise
        return True

    # --- queues, stacks, Bloom filters ---------------------------------------------------------

    def push(self, value: Any, *, force: bool = False) -> None:
        """Put into a queue, stack or Bloom filter; ``force`` drops the oldest of a full queue.

        Raises KernelError (E2BIG) when it is full.
        """
        if self.type not in _KEYLESS:
            raise KernelError(errno.EINVAL, f"map {self.name}: push is for queues, stacks and Bloom filters")
        self.kernel.map_update_elem(self.fd, b"", self.encode_value(value), _EXIST if force else 0)

    def peek(self) -> Any:
        """The next of a queue or stack, left there. Raises KeyError when it is empty."""
        return self._take(self.kernel.map_lookup_elem)

    def pop(self, *args: Any) -> Any:
        """Take out: the next of a queue or stack, or the value of a key (with a default, as of dicts)."""
        if self.type in (T.QUEUE, T.STACK):
            return self._take(self.kernel.map_lookup_and_delete_elem)
        if not args:
            raise KernelError(errno.EINVAL, f"map {self.name}: pop without a key is for queues and stacks")
        key = args[0]
        raw, value = self.encode_key(key), bytearray(self.raw_value_size)
        try:
            self.kernel.map_lookup_and_delete_elem(self.fd, raw, value)
            return self.decode_value(value)
        except KernelError as error:
            if error.errno not in (errno.ENOENT, errno.EINVAL, errno.EOPNOTSUPP, 524):
                raise
        # Linux before 5.14 takes elements out of hashes by two commands only; and for the default.
        return super().pop(*args)

    def _take(self, command: Any) -> Any:
        value = bytearray(self.raw_value_size)
        try:
            command(self.fd, b"", value)
        except KernelError as error:
            if error.errno == errno.ENOENT:
                raise KeyError(f"map {self.name} is empty") from None
            raise
        return self.decode_value(value)

    # --- all of them ---------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Any]:
        if self.type in _ARRAYS:
            yield from range(self.max_entries)
            return
        from skep.kernel import batches

        for raw in batches.keys(self):
            yield self.key.decode(raw)

    def items(self) -> Any:
        """(key, value) pairs, read in batches, as they were when their batch was read."""
        return MapItems(self)

    def values(self) -> Any:
        return MapValues(self)

    def __len__(self) -> int:
        """The number of entries: counted, but for arrays."""
        if self.type in _ARRAYS:
            return self.max_entries
        from skep.kernel import batches

        return sum(1 for _ in batches.keys(self))

    def __bool__(self) -> bool:
        """Whether there is any entry."""
        if self.type in _ARRAYS or self.type in _KEYLESS:
            return True
        from skep.kernel import batches

        return next(batches.keys(self), None) is not None

    def update(self, *args: Any, **more: Any) -> None:
        """Store all pairs of a mapping (or pairs), by batch where the kernel can.

        All are checked before any is stored. A KernelError on the way has the number stored as ``count``.
        """
        pairs: dict[Any, Any] | list[tuple[Any, Any]]
        pairs = list(args[0].items() if isinstance(args[0], Mapping) else args[0]) if args else []
        pairs += list(more.items())
        from skep.kernel import batches

        batches.update(self, [(self.encode_key(key), self.encode_value(value)) for key, value in pairs])

    def clear(self) -> None:
        """Delete all entries. Raises KernelError for arrays, whose elements cannot be deleted."""
        from skep.kernel import batches

        batches.clear(self)

    # --- as a whole ----------------------------------------------------------------------------

    def freeze(self) -> None:
        """Let no system call change it any more. Raises KernelError (EBUSY) when it is mapped writable."""
        self.kernel.map_freeze(self.fd)

    def pin(self, path: str) -> None:
        """Keep it beyond this process, under a name in bpffs."""
        self.kernel.obj_pin(self.fd, path)

    def memory(self, *, writable: bool = True) -> memoryview:
        """The values of an array with BPF_F_MMAPABLE, mapped: `Kernel.munmap` it after use.

        Each value takes its size rounded up to 8 bytes.
        """
        size = (self.value_size + 7 & ~7) * self.max_entries
        page = page_size()
        return self.kernel.mmap(self.fd, -(-size // page) * page, writable=writable)

    def arena(self) -> memoryview:
        """The whole of an arena, mapped: at the address it was made with (``map_extra``), or where there is
        room. Unmapped when the map is closed. Its pages are made as they are touched.
        """
        if self._arena is None:
            if self.type != T.ARENA:
                raise KernelError(errno.EINVAL, f"map {self.name} is no arena but {self.type_name}")
            length = self.max_entries * page_size()
            self._arena = self.kernel.mmap(self.fd, length, writable=True, address=self.extra)
        return self._arena

    def offset(self, pointer: int) -> int:
        """Where in `arena` an address lies that programs stored there or in a variable, in bytes.

        Raises KernelError (EINVAL) for one outside of it, None (0) too.
        """
        import ctypes

        memory = self.arena()
        at = pointer - ctypes.addressof(ctypes.c_char.from_buffer(memory))
        if not 0 <= at < len(memory):
            raise KernelError(errno.EINVAL, f"map {self.name}: {pointer:#x} is no address in the arena")
        return at

    def at(self, pointer: int, codec: Codec) -> Any:
        """What lies at an address of the arena, decoded: ``obj.arena.at(obj.bss.head, obj.codec("Node"))``.

        Raises KernelError (EINVAL) as `offset` does.
        """
        at = self.offset(pointer)
        return codec.decode(bytes(self.arena()[at : at + codec.size]))

    def close(self) -> None:
        arena, self._arena = self._arena, None
        if arena is not None:
            self.kernel.munmap(arena)
        inner, self._inner = self._inner, {}
        for map in inner.values():
            map.close()
        super().close()


class MapItems:
    """`Map.items`: iterable any number of times."""

    __slots__ = ("_map",)

    def __init__(self, map: Map) -> None:
        self._map = map

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        from skep.kernel import batches

        return batches.items(self._map)

    def __len__(self) -> int:
        return len(self._map)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({list(self)!r})"


class MapValues(MapItems):
    """`Map.values`."""

    __slots__ = ()

    def __iter__(self) -> Iterator[Any]:
        from skep.kernel import batches

        for _, value in batches.items(self._map):
            yield value
