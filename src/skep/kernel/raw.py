"""A map with keys and values as bytes."""

from __future__ import annotations

import errno

from skep.errors import KernelError
from skep.kernel import batches

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, MutableMapping

    from skep.kernel.map import Map

    _Base = MutableMapping[bytes, bytes]
else:
    from _collections_abc import MutableMapping as _Base


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
