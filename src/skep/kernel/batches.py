"""All entries of a map: by batch commands (Linux 5.6), or key by key where the kernel cannot."""

from __future__ import annotations

import errno

from skep.errors import KernelError
from skep.uapi.enums import MapType as T

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, Final

    from skep.kernel.map import Map

_BYTES: Final = 1 << 20
_AT_ONCE: Final = 4096
#: what kernels answer for a map type without batch commands (524 is the kernel's own ENOTSUPP)
_CANNOT: Final = frozenset((errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS, 524))

#: arrays whose slots may be empty, and whose kernels say so when asked
_SLOTS: Final = frozenset((T.PROG_ARRAY, T.ARRAY_OF_MAPS, T.DEVMAP, T.CPUMAP, T.REUSEPORT_SOCKARRAY))


def chunks(map: Map, *, delete: bool = False) -> Iterator[tuple[int, bytearray, bytearray]]:
    """(count, keys, values) of each batch. Raises KernelError of `_CANNOT` before the first one.

    Where others delete meanwhile, some kernels start again: at most twice the map's size comes.
    """
    key_size, value_size = map.key_size, map.raw_value_size
    count = max(16, min(map.max_entries, _AT_ONCE, _BYTES // (key_size + value_size)))
    position: bytearray | None = None
    left = 2 * map.max_entries + 16
    while left > 0:
        keys, values = bytearray(key_size * count), bytearray(value_size * count)
        reached = bytearray(max(8, key_size))
        try:
            found, end = map.kernel.map_lookup_batch(
                map.fd, position, reached, keys, values, count, delete=delete
            )
        except KernelError as error:
            if error.errno != errno.ENOSPC:
                raise
            # A bucket of the hash holds more than was asked for.
            count *= 2
            continue
        left -= found
        if found:
            yield found, keys, values
        if end:
            return
        position = reached


def _batched(map: Map) -> Iterator[tuple[int, bytearray, bytearray]] | None:
    """`chunks` with the first one tried, or None where the kernel has no batches for this map."""
    if not map.key_size:
        raise KernelError(errno.EINVAL, f"map {map.name}: a {map.type_name} cannot be listed")
    source = chunks(map)
    try:
        first = next(source, None)
    except KernelError as error:
        if error.errno not in _CANNOT:
            raise
        return None
    return _chain(first, source)


def _chain(
    first: tuple[int, bytearray, bytearray] | None, rest: Iterator[tuple[int, bytearray, bytearray]]
) -> Iterator[tuple[int, bytearray, bytearray]]:
    if first is not None:
        yield first
        yield from rest


def raw_items(map: Map) -> Iterator[tuple[bytes, bytes]]:
    """(key, value) as bytes."""
    key_size, value_size = map.key_size, map.raw_value_size
    batched = _batched(map)
    if batched is not None:
        for count, keys, values in batched:
            for i in range(count):
                yield (
                    bytes(keys[i * key_size : (i + 1) * key_size]),
                    bytes(values[i * value_size : (i + 1) * value_size]),
                )
        return
    for key in keys_one_by_one(map):
        value = bytearray(value_size)
        try:
            map.kernel.map_lookup_elem(map.fd, key, value)
        except KernelError as error:
            if error.errno == errno.ENOENT:
                continue  # deleted meanwhile, or an empty slot of an array of maps, programs, events
            raise
        yield key, bytes(value)


def items(map: Map) -> Iterator[tuple[Any, Any]]:
    """(key, value) as values; whole batches are decoded at once."""
    batched = None if map.per_cpu or map.value.size != map.raw_value_size else _batched(map)
    if batched is None or map.type in (12, 13):
        for key, value in raw_items(map):
            yield map.decode_key(key), map.decode_value(value)
        return
    for count, keys, values in batched:
        view, value_view = memoryview(keys)[: count * map.key_size], memoryview(values)
        decoded = map.value.decode_many(value_view[: count * map.value_size])
        yield from zip(map.key.decode_many(view), decoded, strict=True)


def keys(map: Map) -> Iterator[bytes]:
    if map.type in _SLOTS:  # the kernel lists empty slots, too
        for key, _ in raw_items(map):
            yield key
        return
    batched = _batched(map)
    if batched is None:
        yield from keys_one_by_one(map)
        return
    size = map.key_size
    for count, found, _ in batched:
        for i in range(count):
            yield bytes(found[i * size : (i + 1) * size])


def keys_one_by_one(map: Map) -> Iterator[bytes]:
    """By BPF_MAP_GET_NEXT_KEY. A key deleted meanwhile makes kernels start again: at most twice the size."""
    key: bytes | None = None
    for _ in range(2 * map.max_entries + 16):
        found = bytearray(map.key_size)
        try:
            map.kernel.map_get_next_key(map.fd, key, found)
        except KernelError as error:
            if error.errno == errno.ENOENT:
                return
            raise
        key = bytes(found)
        yield key


def update(map: Map, pairs: list[tuple[bytes, bytes]]) -> None:
    done = 0
    if len(pairs) > 1:
        try:
            for start in range(0, len(pairs), _AT_ONCE):
                part = pairs[start : start + _AT_ONCE]
                keys, values = b"".join(p[0] for p in part), b"".join(p[1] for p in part)
                done += map.kernel.map_update_batch(map.fd, keys, values, len(part))
            return
        except KernelError as error:
            if done or error.errno not in _CANNOT:
                error.count = done + min(error.count, _AT_ONCE)
                raise
    for key, value in pairs:
        try:
            map.kernel.map_update_elem(map.fd, key, value)
        except KernelError as error:
            error.count = done
            raise
        done += 1


def clear(map: Map) -> None:
    all_keys = list(keys(map))
    if len(all_keys) > 1:
        try:
            for start in range(0, len(all_keys), _AT_ONCE):
                part = all_keys[start : start + _AT_ONCE]
                map.kernel.map_delete_batch(map.fd, b"".join(part), len(part))
            return
        except KernelError as error:
            if error.errno not in _CANNOT and error.errno != errno.ENOENT:
                raise
    for key in all_keys:
        try:
            map.kernel.map_delete_elem(map.fd, key)
        except KernelError as error:
            if error.errno != errno.ENOENT:
                raise
