"""BTF, read lazily: straight from a memory map, each type decoded when it is asked for.

Types vary in length, so finding type N means walking the N - 1 before it. The walk is done as far as it is
needed and kept; names are searched for as bytes. So a few names of the kernel's 126,585 types cost a few
milliseconds, and only a question about all types pays for all.
"""

from __future__ import annotations

import os
import struct
import sys
from bisect import bisect_left
from itertools import repeat

from skep.btf import decode
from skep.btf.graph import TypeGraph
from skep.btf.strings import Strings
from skep.btf.types import KIND_NAMES, LAST_KIND, Type, Void
from skep.elf.source import file_bytes
from skep.errors import BtfError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, Final, NoReturn

MAGIC: Final = 0xEB9F
KERNEL: Final = "/sys/kernel/btf/vmlinux"
_HEADER: Final = "HBBIIIII"
_NATIVE: Final = "<" if sys.byteorder == "little" else ">"
_AHEAD: Final = 1024
_CHUNK: Final = 1 << 18
_SEARCHES: Final = 64
_SMALL: Final = 1 << 15


class Btf(TypeGraph):
    """BTF type information of either byte order.

    ``data`` is the ``.BTF`` section or a file of its contents. ``base`` is the BTF whose ids and strings
    this one counts on from (a kernel module's is the kernel's). ``path`` and ``origin`` (the byte offset
    of ``data`` in the file) only serve errors. Raises BtfError when the header is damaged; damage elsewhere
    raises when it is met (`check` meets all of it).
    """

    def __init__(
        self,
        data: bytes | bytearray | memoryview,
        *,
        base: Btf | None = None,
        path: str | os.PathLike[str] | None = None,
        origin: int = 0,
    ) -> None:
        self.path = None if path is None else os.fspath(path)
        self.base = base
        self.raw = memoryview(data).cast("B").toreadonly()
        self._origin = origin
        self._read_header()
        self.start_id: int = len(base) if base is not None else 1
        self._offsets: list[int] = []  # of types, in words; number 0 is type start_id
        self._at = 1  # word of the next type's info
        self._done = False
        self._steps: dict[int, int] = {}  # info word -> words from one type to the next
        self._ids: dict[int, int] = {}
        self._by_name: dict[str, list[int]] | None = None
        self._searches = 0

    # --- from files ----------------------------------------------------------------------------

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, base: Btf | None = None) -> Btf:
        """Read a file of raw BTF, or the ``.BTF`` section of an ELF file (object, vmlinux, module)."""
        data = file_bytes(path, BtfError)
        if bytes(data[:4]) != b"\x7fELF":
            return cls(data, base=base, path=path)
        from skep.elf.read import Elf

        elf = Elf(data, path=path)
        section = elf.section(".BTF")
        if section is None:
            raise BtfError("no .BTF section: compile with -g", path=os.fspath(path))
        return cls(section.data, base=base, path=path, origin=section.offset)

    @classmethod
    def kernel(cls) -> Btf:
        """The running kernel's own BTF, mapped. Raises BtfError without CONFIG_DEBUG_INFO_BTF (Linux 5.4)."""
        return cls.open(KERNEL)

    @classmethod
    def module(cls, name: str, *, base: Btf | None = None) -> Btf:
        """A loaded kernel module's BTF (Linux 5.11); ``base`` defaults to `kernel`."""
        if not name or "/" in name or name.startswith("."):
            raise BtfError(f"{name!r} is no module's name")
        return cls.open(f"{os.path.dirname(KERNEL)}/{name}", base=base or cls.kernel())

    # --- the header ----------------------------------------------------------------------------

    def _bad(self, reason: str, offset: int) -> BtfError:
        return BtfError(reason, path=self.path, offset=self._origin + offset)

    def _read_header(self) -> None:
        raw = self.raw
        if len(raw) < 2 or bytes(raw[:2]) not in (b"\x9f\xeb", b"\xeb\x9f"):
            raise self._bad("not BTF (no 0xEB9F at the start)", 0)
        self.order: str = "<" if raw[0] == 0x9F else ">"
        if len(raw) < 24:
            raise self._bad("the data ends inside the BTF header", len(raw))
        _, version, self.flags, length, type_off, type_len, str_off, str_len = struct.unpack_from(
            self.order + _HEADER, raw
        )
        if version != 1:
            raise self._bad(f"BTF version {version} is unknown (1 is the only one)", 2)
        if length < 24 or length > len(raw):
            raise self._bad(f"a header of {length} bytes (24 to {len(raw)} possible)", 4)
        if type_off % 4 or type_len % 4:
            raise self._bad(f"types at {type_off}, {type_len} bytes long: not in units of 4", 8)
        for at, what, start, size in ((8, "types", type_off, type_len), (16, "strings", str_off, str_len)):
            if length + start + size > len(raw):
                raise self._bad(
                    f"{what} claim bytes {start} to {start + size} after the header, of {len(raw) - length}",
                    at,
                )
        strings = raw[length + str_off : length + str_off + str_len]
        if self.base is None and (not str_len or strings[0]):
            raise self._bad("the strings do not start with the empty one", length + str_off)
        if str_len and strings[-1]:
            raise self._bad("the strings do not end with a zero byte", length + str_off + str_len - 1)
        self._layout = self._read_layout(length)
        self._type_start = length + type_off
        types = raw[length + type_off : length + type_off + type_len]
        self._type_bytes = types
        self._words: Any
        if self.order == _NATIVE:
            self._words = types.cast("I")
        else:
            from array import array

            swapped = array("I")
            swapped.frombytes(types)
            swapped.byteswap()
            self._words = memoryview(swapped)
        base = self.base.strings if self.base is not None else None
        self.strings: Strings = Strings(strings, base, self.path, self._origin + length + str_off)

    def _read_layout(self, length: int) -> memoryview:
        """The table of the kinds' lengths (headers of 32 bytes or more), to skip unknown kinds by."""
        if length < 32:
            return self.raw[:0]
        start, size = struct.unpack_from(self.order + "II", self.raw, 24)
        if length + start + size > len(self.raw):
            raise self._bad(f"the layout table claims {size} bytes at {start}", 24)
        return self.raw[length + start : length + start + size]

    # --- finding types -------------------------------------------------------------------------

    def _step(self, info: int, index: int) -> int:
        """Words from a type with this info word to the next; remembers the answer."""
        kind = info >> 24 & 0x7F
        vlen = info & 0xFFFFFF
        if 0 < kind <= LAST_KIND:
            fixed, each = decode.SIZES[kind]
        elif 4 * kind + 4 <= len(self._layout) and kind:
            fixed, each = self._layout[4 * kind] // 4, self._layout[4 * kind + 1] // 4
        else:
            at = self._type_start + 4 * index
            raise self._bad(
                f"type {self.start_id + len(self._offsets)} has kind {kind}, which is unknown", at
            )
        answer = self._steps[info] = 3 + fixed + each * vlen
        return answer

    def _walk(self, count: int) -> None:
        """Know the places of at least ``count`` types, or of all."""
        offsets, steps, words, at = self._offsets, self._steps, self._words, self._at
        add = offsets.append
        try:
            while (missing := count - len(offsets)) > 0:
                try:
                    for _ in repeat(None, missing):
                        step = steps[words[at]]
                        add(at)
                        at += step
                except KeyError:
                    self._step(words[at], at - 1)
        except IndexError:
            self._done = True
        finally:
            self._at = at
        if self._done and at != len(words) + 1:
            last = offsets[-1] - 1 if offsets else 0
            self._done = False
            if offsets and at > len(words) + 1:
                offsets.pop()
                self._at = last + 1
            id = self.start_id + len(offsets)
            raise self._bad(f"type {id} runs past the end of the types", self._type_start + 4 * last)

    def _walk_all(self) -> None:
        if not self._done:
            self._walk(len(self._words))

    def __len__(self) -> int:
        self._walk_all()
        return self.start_id + len(self._offsets)

    def _place(self, id: int) -> int:
        """The word of type ``id``'s info."""
        index = id - self.start_id
        if index >= len(self._offsets):
            if not self._done:
                self._walk(index + _AHEAD)
            if index >= len(self._offsets):
                raise BtfError(
                    f"type {id} does not exist: there are {self.start_id + len(self._offsets) - 1}",
                    path=self.path,
                )
        return self._offsets[index]

    def offset_of(self, id: int) -> int:
        """Byte offset in `raw` of one of this BTF's own types."""
        if id < self.start_id:
            reason = f"type {id} is not of this BTF, whose ids start at {self.start_id}"
            raise BtfError(reason, path=self.path)
        offset: int = self._type_start + 4 * self._place(id) - 4
        return offset

    def __getitem__(self, id: int) -> Type:
        """The type with this id. Raises BtfError for an id out of range or a damaged type."""
        if id < self.start_id:
            if id == 0:
                return Void()
            if self.base is None or id < 0:
                raise BtfError(f"type {id} does not exist: ids start at 1", path=self.path)
            return self.base[id]
        at = self._place(id)
        words = self._words
        kind = words[at] >> 24 & 0x7F
        if kind > LAST_KIND:
            raise self._bad(f"type {id} has kind {kind}, which is unknown", self._type_start + 4 * at - 4)
        try:
            value: Type = decode.DECODERS[kind](words, at, self.strings)
        except BtfError as error:
            raise self._bad(
                f"type {id} ({KIND_NAMES[kind]}): {error.reason}", self._type_start + 4 * at - 4
            ) from None
        return value

    def __iter__(self) -> Iterator[Type]:
        if self.base is not None:
            yield from self.base
        else:
            yield Void()
        for id in range(self.start_id, len(self)):
            yield self[id]

    def items(self) -> Iterator[tuple[int, Type]]:
        """(id, type) of this BTF's own types, without void and the base's."""
        for id in range(self.start_id, len(self)):
            yield id, self[id]

    def kind_of(self, id: int) -> int:
        """The kind of a type, without decoding the rest."""
        if id < self.start_id:
            return self.base.kind_of(id) if self.base is not None and id > 0 else self[id][0]
        kind: int = self._words[self._place(id)] >> 24 & 0x7F
        return kind

    def fail(self, id: int, reason: str) -> NoReturn:
        """Raise a BtfError about type ``id`` and where it is."""
        if self.start_id <= id < self.start_id + len(self._offsets):
            at = self._type_start + 4 * (self._offsets[id - self.start_id] - 1)
            raise self._bad(f"type {id}: {reason}", at)
        raise BtfError(f"type {id}: {reason}", path=self.path)

    # --- by name -------------------------------------------------------------------------------

    def ids_named(self, name: str) -> Iterator[int]:
        """Ids of the types called ``name``, ascending, the base's first."""
        if self.base is not None:
            yield from self.base.ids_named(name)
        if not name:
            for id, value in self.items():
                if not value[1]:
                    yield id
            return
        if self._by_name is None and len(self._words) > _SMALL and self._searches < _SEARCHES:
            # Searching bytes is cheaper than decoding every name. A string that is only the tail of another
            # (shared by a clever encoder) is not seen this way, so nothing found means a look at all names.
            self._searches += 1
            found = False
            for id in self._search(name):
                found = True
                yield id
            if found:
                return
        yield from self._index().get(name, ())

    def _index(self) -> dict[str, list[int]]:
        """Name -> ids, of every own type."""
        if self._by_name is None:
            self._walk_all()
            words, strings = self._words, self.strings
            by_name: dict[str, list[int]] = {}
            for id, at in enumerate(self._offsets, self.start_id):
                name = words[at - 1]
                if name:
                    by_name.setdefault(strings[name], []).append(id)
            self._by_name = by_name
        return self._by_name

    def _search(self, name: str) -> Iterator[int]:
        """Ids of the types whose name offset is one of the offsets of ``name``."""
        for target in self.strings.offsets_of(name):  # encoders store a string once: in order of ids
            yield from self._search_word(target)

    def _search_word(self, name_offset: int) -> Iterator[int]:
        wanted = name_offset.to_bytes(4, "little" if self.order == "<" else "big")
        size = len(self._type_bytes)
        for start in range(0, size, _CHUNK):
            chunk = bytes(self._type_bytes[start : start + _CHUNK])
            at = chunk.find(wanted)
            while at >= 0:
                if at % 4 == 0:
                    id = self._id_at((start + at) // 4 + 1)
                    if id is not None:
                        yield id
                at = chunk.find(wanted, at + 1)

    def _id_at(self, at: int) -> int | None:
        """The id of the type whose info is word ``at``, or None when that is inside another type."""
        words = self._words
        if at >= len(words) or not 0 < words[at] >> 24 & 0x7F <= LAST_KIND:
            return None
        offsets = self._offsets
        while not self._done and self._at <= at:
            self._walk(len(offsets) + _AHEAD)
        index = bisect_left(offsets, at)
        return self.start_id + index if index < len(offsets) and offsets[index] == at else None

    # --- everything ----------------------------------------------------------------------------

    def check(self) -> None:
        """Decode everything. Raises BtfError for the first damage, wrong reference or endless size."""
        from skep.btf.check import check

        check(self)
