"""Arenas: memory that programs and processes share (BPF_MAP_TYPE_ARENA, Linux 6.9)."""

from __future__ import annotations

from skep.bpf.maps import Map
from skep.errors import SkepError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_MMAPABLE = 1 << 10


class Arena(Map):
    """``pages`` pages of 4096 bytes at most, which are made when they are allocated or touched.

    In a program ``arena.alloc(T)`` gives memory; pointers into it (`skep.bpf.ArenaPtr`) are kept in the arena
    itself and in global variables. In Python ``obj.NAME.arena()`` is the whole of it as a buffer, and
    ``obj.NAME.at(pointer, size)`` what a pointer points to. ``address`` is where processes map it, a multiple
    of the page size (0: where there is room).
    """

    __slots__ = ()
    kind = "arena"

    def __init__(self, pages: int = 1, *, address: int = 0, **options: Any) -> None:
        if not isinstance(pages, int) or not 0 < pages <= 1 << 20:
            raise SkepError(f"Arena: pages={pages!r} is no number from 1 to 1048576 (4 GiB)")
        if not isinstance(address, int) or address % 4096 or not 0 <= address < 1 << 63:
            raise SkepError(f"Arena: address={address!r} is no address of a page")
        options["flags"] = options.get("flags", 0) | _MMAPABLE
        super().__init__(None, None, pages, extra=address, **options)
