"""The string section: names by offset, decoded when asked for, and offsets by name."""

from __future__ import annotations

from skep.errors import BtfError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Final

_WINDOW: Final = 1 << 16
_OVERLAP: Final = 512
_LONGEST: Final = 1 << 16
_KEPT: Final = 512
_LONG_NAME: Final = 1024
_LONG_NAMES: Final = 1 << 20


class Strings(dict[int, str]):
    """Offset -> name. Bytes are copied out of the mapping a window at a time, only where names are read.

    ``start`` is the offset of the first byte: split BTF counts on from its base's strings.
    """

    __slots__ = ("_base", "_long_names", "_path", "_windows", "end", "origin", "raw", "start")

    def __init__(self, raw: memoryview, base: Strings | None, path: str | None, origin: int) -> None:
        super().__init__()
        self.raw = raw
        self._base = base
        self._path = path
        self._long_names = 0
        self._windows: dict[int, bytes] = {}
        self.origin = origin  # in the file, for messages
        self.start: int = base.end if base is not None else 0
        self.end: int = self.start + len(raw)
        self[0] = ""

    def __missing__(self, offset: int) -> str:
        if offset < self.start:
            assert self._base is not None
            return self._base[offset]
        at = offset - self.start
        window = self._window(at >> 16)
        low = at & (_WINDOW - 1)
        end = window.find(b"\0", low)
        if end >= 0 and low < len(window):
            text = window[low:end].decode("utf-8", "surrogateescape")
            if end - low <= _KEPT:
                self[offset] = text
            elif end - low > _LONG_NAME:
                self._count_long(end - low, offset)
            return text
        return self._long(at, offset)

    def _window(self, number: int) -> bytes:
        window = self._windows.get(number)
        if window is None:
            start = number * _WINDOW
            window = bytes(self.raw[start : start + _WINDOW + _OVERLAP])
            if window:
                self._windows[number] = window
        return window

    def _long(self, at: int, offset: int) -> str:
        if at >= len(self.raw):
            raise BtfError(
                f"name offset {offset} lies outside the {self.end} bytes of strings",
                path=self._path,
                offset=self.origin,
            )
        text = bytes(self.raw[at : at + _LONGEST])
        end = text.find(b"\0")
        if end < 0:
            reason = "longer than 64 KiB" if len(text) == _LONGEST else "not ended before the strings are"
            raise BtfError(
                f"the name at offset {offset} is {reason}", path=self._path, offset=self.origin + at
            )
        self._count_long(end, offset)
        return text[:end].decode("utf-8", "surrogateescape")

    def _count_long(self, size: int, offset: int) -> None:
        """Long names may overlap only so far: a few megabytes could otherwise spell out terabytes."""
        self._long_names += size
        if self._long_names > 8 * len(self.raw) + _LONG_NAMES:
            raise BtfError(
                f"the name at offset {offset} is one of too many long ones that overlap",
                path=self._path,
                offset=self.origin,
            )

    def holds(self, text: str) -> bool:
        """Whether some name here has ``text`` in it (those of a base do not count)."""
        wanted = text.encode("utf-8", "surrogateescape")
        size = _WINDOW + len(wanted)
        return any(
            wanted in bytes(self.raw[start : start + size]) for start in range(0, len(self.raw), _WINDOW)
        )

    def offsets_of(self, name: str) -> Iterator[int]:
        """Offsets of strings that are exactly ``name``, ascending; not those that end another string."""
        if self._base is not None:
            yield from self._base.offsets_of(name)
        if not name:
            return
        wanted = b"\0" + name.encode("utf-8", "surrogateescape") + b"\0"
        if self.start and bytes(self.raw[: len(wanted) - 1]) == wanted[1:]:
            yield self.start  # split BTF may start without the empty string
        for number in range(-(-len(self.raw) // _WINDOW)):
            window = self._window(number)
            if len(wanted) > _OVERLAP:
                start = number * _WINDOW
                window = bytes(self.raw[start : start + _WINDOW + len(wanted)])
            at = window.find(wanted)
            while 0 <= at < _WINDOW:
                yield self.start + number * _WINDOW + at + 1
                at = window.find(wanted, at + 1)
