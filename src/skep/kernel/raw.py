"""A map with keys and values as bytes."""

from __future__ import annotations

import errno

from skep.errors import KernelError
from skep.kernel import batches

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import ItemsView, Iterator, MutableMapping, ValuesView

    from skep.kernel.map import Map

    _Base = MutableMapping[bytes, bytes]
    _Items = ItemsView[bytes, bytes]
    _Values = ValuesView[bytes]
else:
    from _collections_abc import ItemsView as _Items
    from _collections_abc import MutableMapping as _Base
    from _collections_abc import ValuesView as _Values


class RawMap(_Base):
    """Keys of exactly ``key_size`` bytes, values of `Map.raw_value_size`, in host byte order."""

    __slots__ = ("map",)

    def __init__(self, map: Map) -> None:
        self.map = map

    def _key(self, key: bytes) -> bytes:
        self._bytes(key, "a key")
        if len(key) != self.map.key_size:
            raise KernelError(
                errno.EINVAL, f"map {self.map.name}: a key of {len(key)} bytes, not {self.map.key_size}"
            )
        return key

    def _bytes(self, data: object, what: str) -> None:
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise KernelError(
                errno.EINVAL, f"map {self.map.name}: {data!r:.60} where {what} belongs: `raw` takes bytes"
            )

    def __getitem__(self, key: bytes) -> bytes:
        value = bytearray(self.map.raw_value_size)
        try:
            self.map.kernel.map_lookup_elem(self.map.fd, self._key(key), value)
        except KernelError as error:
            if error.errno == errno.ENOENT:
                raise KeyError(key) from None
            raise
        return bytes(value)

    def __setitem__(self, key: bytes, value: bytes) -> None:
        size = self.map.raw_value_size
        self._bytes(value, "a value")
        if len(value) != size:
            raise KernelError(errno.EINVAL, f"map {self.map.name}: a value of {len(value)} bytes, not {size}")
        self.map.kernel.map_update_elem(self.map.fd, self._key(key), value)

    def __delitem__(self, key: bytes) -> None:
        try:
            self.map.kernel.map_delete_elem(self.map.fd, self._key(key))
        except KernelError as error:
            if error.errno == errno.ENOENT:
                raise KeyError(key) from None
            raise

    def __iter__(self) -> Iterator[bytes]:
        return batches.keys(self.map)

    def __len__(self) -> int:
        return len(self.map)

    def items(self) -> _Items:
        """(key, value) pairs, as they were when their batch was read."""
        return RawItems(self)

    def values(self) -> _Values:
        return RawValues(self)

    def clear(self) -> None:
        self.map.clear()


class RawItems(_Items):
    """`RawMap.items`: what others delete meanwhile is not looked up again."""

    _mapping: RawMap

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        return batches.raw_items(self._mapping.map)


class RawValues(_Values):
    """`RawMap.values`."""

    _mapping: RawMap

    def __iter__(self) -> Iterator[bytes]:
        for _, value in batches.raw_items(self._mapping.map):
            yield value
