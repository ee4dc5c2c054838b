"""Reading BPF iterators: the text or records that an iterator program writes."""

from __future__ import annotations

from skep.kernel.codec import Codec
from skep.kernel.handle import Handle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from skep.kernel.link import Link

_AT_ONCE = 1 << 16


class Iter(Handle):
    """One pass over an iterator. ``link`` is what attaching an ``iter/…`` program gave.

    Each `Iter` starts from the beginning and sees the kernel as it is while it reads.
    """

    __slots__ = ()

    def __init__(self, link: Link) -> None:
        super().__init__(link.kernel, link.kernel.iter_create(link.fd))

    def read(self) -> bytes:
        """Everything up to the end."""
        parts: list[bytes] = []
        while part := self.kernel.read(self.fd, _AT_ONCE):
            parts.append(part)
        return b"".join(parts)

    def lines(self) -> Iterator[str]:
        """Lines of text, without their ends."""
        rest = b""
        while part := self.kernel.read(self.fd, _AT_ONCE):
            *whole, rest = (rest + part).split(b"\n")
            for line in whole:
                yield line.decode(errors="replace")
        if rest:
            yield rest.decode(errors="replace")

    def records(self, codec: Codec) -> list[Any]:
        """Records that the program wrote with bpf_seq_write."""
        data = self.read()
        return codec.decode_many(data[: len(data) // codec.size * codec.size]) if codec.size else []
