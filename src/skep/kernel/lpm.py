"""Keys of longest-prefix-match tries: a prefix length in bits, then the address in network byte order."""

from __future__ import annotations

from sys import byteorder

from skep.kernel.codec import BytesCodec, Codec, check_int
from skep.plain import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any


class LpmKey(NamedTuple):
    """The first ``prefixlen`` bits of ``data``."""

    prefixlen: int
    data: bytes


class LpmCodec(Codec):
    """Over the codec of the key's struct; without one (bytes) keys are `LpmKey`."""

    __slots__ = ("inner", "length")

    def __init__(self, inner: Codec) -> None:
        super().__init__(inner.size, inner.fmt, inner.count)
        self.inner = inner
        self.length = inner.size - 4

    def get(self, flat: Sequence[Any], at: int) -> Any:
        if isinstance(self.inner, BytesCodec):
            raw: bytes = flat[at]
            return LpmKey(int.from_bytes(raw[:4], byteorder), raw[4:])
        return self.inner.get(flat, at)

    def put(self, value: Any) -> tuple[Any, ...]:
        if isinstance(value, str):
            import ipaddress

            value = ipaddress.ip_network(value)
        address = getattr(value, "network_address", None)
        if address is not None:
            value = (value.prefixlen, address.packed)
        if isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], (bytes, bytearray)):
            bits = check_int(value[0], 0, 8 * self.length, f"the {8 * self.length} bits of a key")
            if len(value[1]) != self.length:
                raise ValueError(f"an address of {len(value[1])} bytes where {self.length} belong")
            raw = bits.to_bytes(4, byteorder) + bytes(value[1])
            return self.inner.struct.unpack(raw)
        items = self.inner.put(value)
        first = self.inner.struct.pack(*items)[:4]
        check_int(int.from_bytes(first, byteorder), 0, 8 * self.length, "the bits of a key")
        return items
