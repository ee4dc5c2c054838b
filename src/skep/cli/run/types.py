"""Which type the records of a buffer have, and how they are shown."""

from __future__ import annotations

from skep.btf import types as t
from skep.cli.noun.jsontext import Pairs
from skep.cli.noun.typed import Shown
from skep.errors import LinkError, SkepError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final, Literal

    from skep.btf import Btf
    from skep.btf.dwarf import DebugTypes
    from skep.kernel.object import Object

_TAG_KINDS = (t.STRUCT, t.UNION)
#: what programs are given, which is no record
_CONTEXTS: Final = frozenset(("xdp_md", "__sk_buff", "pt_regs", "bpf_perf_event_data", "bpf_sock_ops"))


class Readable(Shown):
    """Values for people and programs: any char array is text, bitfields are numbers."""

    __slots__ = ()

    def _string(self, element: int, data: bytes) -> str | None:
        value = self.btf[element]
        while value[0] in t.MODIFIERS:
            value = self.btf[value[2]]
        if value[0] == t.INT and value[2] == 1 and value[1] in ("char", "__char"):
            return data.partition(b"\0")[0].decode(errors="backslashreplace")
        return None

    def _hex(self, number: int) -> Any:
        return number

    def elements(self, element: int, data: bytes) -> Any:
        """As many elements of this type as ``data`` holds; chars as text."""
        text = self._string(element, data)
        if text is not None:
            return text
        size = self.btf.size_of(element)
        return [self._value(element, data, at, 0, 1) for at in range(0, len(data) - size + 1, size)]


class Records:
    """The type of each record of one map, by its length."""

    def __init__(self, made: Object, name: str, types: list[str]) -> None:
        self.name = name
        self.btf: Btf | None = made.spec.btf
        self.shown = Readable(self.btf) if self.btf is not None else None
        self._exact = made.maps[name].type_name != "perf_event_array"
        self._found: dict[int, tuple[Readable, int] | None] = {}
        self._tails: dict[tuple[Btf, int], tuple[int, int] | None] = {}
        #: False where there is none
        self._debug: DebugTypes | Literal[False] | None = None
        self._made = made
        self._given = self._asked_for(types)
        declared = made.spec.maps[name].value_type_id
        if not self._given and declared and (self._exact or self._is_struct(declared)):
            self._given = declared
        if not self._given and self.btf is not None:
            # what programs written in Python say: a variable that points to the record
            named = self.btf.find(f"{name}__record", t.VAR)
            self._given = self.btf[self.btf[named][2]][2] if named is not None else 0

    def _is_struct(self, id: int) -> bool:
        return self.btf is not None and self.btf[self.btf.resolve(id)][0] in _TAG_KINDS

    def _asked_for(self, types: list[str]) -> int:
        """The type that ``--type`` names for this map, 0 without."""
        answer = 0
        for word in types:
            map_name, mark, type_name = word.rpartition("=")
            if mark and map_name not in self._made.maps:
                raise LinkError(f"--type {word}: the object has no map {map_name!r}")
            if mark and map_name != self.name:
                continue
            wanted = type_name.removeprefix("struct ").removeprefix("union ").strip()
            id = self.btf.find(wanted) if self.btf is not None else None
            if id is None:
                raise LinkError(
                    f"--type {word}: the object's BTF has no type {wanted!r};"
                    f" a global `struct {wanted} *unused;` brings it in"
                )
            answer = id
        return answer

    def value(self, record: bytes) -> Any:
        """The record as its type shows it; hex digits without one."""
        found = self._typed(len(record))
        if found is None:
            return record.hex()
        shown, id = found
        size = shown.btf.size_of(id)
        if len(record) < size:
            record = record.ljust(size, b"\0")
        value = shown.value(id, record)
        tail = self._tail(shown.btf, id)
        if tail is not None and isinstance(value, Pairs) and value:
            value[-1] = (value[-1][0], shown.elements(tail[0], record[tail[1] :]))
        return value

    def _tail(self, btf: Btf, id: int) -> tuple[int, int] | None:
        """The element's type and the start of the flexible array that the struct ends in."""
        key = (btf, id)
        if key not in self._tails:
            value = btf[btf.resolve(id)]
            found: tuple[int, int] | None = None
            if value[0] == t.STRUCT and value[3]:
                _, type_id, offset, _ = value[3][-1]
                array = btf[btf.resolve(type_id)]
                if array[0] == t.ARRAY and not array[4] and btf.size_of(array[2]):
                    found = array[2], offset // 8
            self._tails[key] = found
        return self._tails[key]

    def _typed(self, length: int) -> tuple[Readable, int] | None:
        if length not in self._found:
            self._found[length] = self._choose(length)
        return self._found[length]

    def _choose(self, length: int) -> tuple[Readable, int] | None:
        """The type given; else the one struct that fits, of the object's BTF or its DWARF.

        BTF has kernel types, too: those that do not sound like the map's come after the sources' own.
        """
        if self._given and self.shown is not None:
            return self.shown, self._given
        structs = self._structs()
        exact = self._fitting(structs, length)
        if exact is not None and self._sounds(exact[0]):
            return self._in_btf(exact)
        own = self._fitting(self._own(), length)
        if own is None and exact is not None and not _in_kernel(exact[0]):
            return self._in_btf(exact)
        longer = self._longer(structs, length)
        if own is None and longer is not None:
            return self._in_btf(longer)
        return self._in_dwarf(own or self._longer(self._own(), length))

    def _in_btf(self, row: tuple[str, int, int]) -> tuple[Readable, int] | None:
        return (self.shown, row[1]) if self.shown is not None else None

    def _in_dwarf(self, row: tuple[str, int, int] | None) -> tuple[Readable, int] | None:
        if row is None or not self._debug:
            return None
        try:
            btf, id = self._debug.btf(row[1])
        except SkepError:
            self._debug = False  # damaged
            return None
        return Readable(btf), id

    def _sounds(self, name: str) -> bool:
        """Whether a struct is called like this map, or an event."""
        stem = self.name.rstrip("s")
        return stem in name or name.removesuffix("_t") in self.name or "event" in name

    def _fitting(self, structs: list[tuple[str, int, int]], length: int) -> tuple[str, int, int] | None:
        """The one struct of this length; of several the one that sounds like this map's."""
        fits = [
            row for row in structs if row[2] == length or (not self._exact and row[2] <= length < row[2] + 8)
        ]
        if len({name for name, _, _ in fits}) > 1:
            stem = self.name.rstrip("s")
            named = [row for row in fits if stem in row[0] or row[0].removesuffix("_t") in self.name]
            fits = named or [row for row in fits if "event" in row[0]] or fits
        return fits[0] if len({name for name, _, _ in fits}) == 1 else None

    def _longer(self, structs: list[tuple[str, int, int]], length: int) -> tuple[str, int, int] | None:
        """The struct that is called as the map is ("event" of "events"), if it is longer than the record.

        Programs leave out the end of a record that they did not fill.
        """
        stem = self.name.rstrip("s")
        names = (stem, f"{stem}_t", f"{stem}_data")
        return next((row for row in structs if row[0] in names and row[2] > length), None)

    def _own(self) -> list[tuple[str, int, int]]:
        """The structs of the object's sources, of its debugging information if it has any that is whole."""
        path = self._made.spec.path
        if self._debug is None:
            self._debug = False
            from skep.btf.dwarf import DebugTypes
            from skep.elf import Elf

            try:
                if path is not None:
                    self._debug = DebugTypes(Elf.open(path))
            except SkepError:
                pass
        if not self._debug:
            return []
        return [row for row in self._debug.structs if row[0] not in _CONTEXTS]

    def _structs(self) -> list[tuple[str, int, int]]:
        """(name, id, size) of the object's own structs: not contexts, not what CO-RE relocates."""
        btf = self.btf
        if btf is None:
            return []
        spec = self._made.spec
        foreign = {
            btf.resolve(relo[1]) for function in spec.functions.values() for relo in function.core_relos
        }
        for function in spec.functions.values():
            if function.btf_id and btf[function.btf_id][0] == t.FUNC and function.name in spec.programs:
                for _, param in btf[btf[function.btf_id][2]][3]:
                    id = btf.resolve(param)
                    if btf[id][0] == t.PTR:
                        foreign.add(btf.resolve(btf[id][2]))
        return [
            (value[1], id, value[2])
            for id, value in btf.items()
            if value[0] in _TAG_KINDS
            and value[1]
            and value[2]
            and id not in foreign
            and value[1] not in _CONTEXTS
        ]


def _in_kernel(name: str) -> bool:
    """Whether the running kernel has a struct of this name."""
    from skep.btf import Btf

    try:
        return Btf.kernel().find(name, t.STRUCT) is not None
    except SkepError:
        return False


def line(value: Any) -> str:
    """A value on one line: ``pid=7 comm="sh"``."""
    if isinstance(value, (Pairs, dict)):
        items = value.items() if isinstance(value, dict) else value
        return " ".join(f"{name}={inner(part)}" if name else line(part) for name, part in items)
    return inner(value)


def inner(value: Any) -> str:
    if isinstance(value, (Pairs, dict)):
        return "{" + line(value) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(inner(part) for part in value) + "]"
    if isinstance(value, str):
        from skep.cli.noun.jsontext import quoted

        return quoted(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
