"""Which type the records of a buffer have, and how they are shown."""

from __future__ import annotations

from skep.btf import types as t
from skep.cli.noun.jsontext import Pairs
from skep.cli.noun.typed import Shown
from skep.errors import LinkError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from skep.btf import Btf
    from skep.kernel.object import Object

_TAG_KINDS = (t.STRUCT, t.UNION)


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
        self._found: dict[int, int] = {}
        self._tails: dict[int, tuple[int, int] | None] = {}
        self._candidates: dict[int, int] | None = None
        self._made = made
        self._given = self._asked_for(types)
        if not self._given and made.spec.maps[name].value_type_id and self._exact:
            self._given = made.spec.maps[name].value_type_id
        if not self._given and self.btf is not None:
            # what programs written in Python say: a variable that points to the record
            named = self.btf.find(f"{name}__record", t.VAR)
            self._given = self.btf[self.btf[named][2]][2] if named is not None else 0

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
        id = self._given or self._by_length(len(record))
        if not id or self.shown is None or self.btf is None:
            return record.hex()
        size = self.btf.size_of(id)
        if len(record) < size:
            record = record.ljust(size, b"\0")
        shown = self.shown.value(id, record)
        tail = self._tail(id)
        if tail is not None and isinstance(shown, Pairs) and shown:
            shown[-1] = (shown[-1][0], self.shown.elements(tail[0], record[tail[1] :]))
        return shown

    def _tail(self, id: int) -> tuple[int, int] | None:
        """The element's type and the start of the flexible array that the struct ends in."""
        if id not in self._tails:
            btf = self.btf
            assert btf is not None
            value = btf[btf.resolve(id)]
            found: tuple[int, int] | None = None
            if value[0] == t.STRUCT and value[3]:
                _, type_id, offset, _ = value[3][-1]
                array = btf[btf.resolve(type_id)]
                if array[0] == t.ARRAY and not array[4] and btf.size_of(array[2]):
                    found = array[2], offset // 8
            self._tails[id] = found
        return self._tails[id]

    def _by_length(self, length: int) -> int:
        id = self._found.get(length)
        if id is None:
            id = self._found[length] = self._choose(length)
        return id

    def _choose(self, length: int) -> int:
        """The one struct that fits; of several the one that sounds like this map's."""
        if self.btf is None:
            return 0
        fits = [
            (name, id)
            for name, id, size in self._structs()
            if size == length or (not self._exact and size <= length < size + 8)
        ]
        if len(fits) > 1:
            stem = self.name.rstrip("s")
            named = [row for row in fits if stem in row[0] or row[0].removesuffix("_t") in self.name]
            fits = named or [row for row in fits if "event" in row[0]] or fits
        return fits[0][1] if len(fits) == 1 else 0

    def _structs(self) -> list[tuple[str, int, int]]:
        """(name, id, size) of the object's own structs: not contexts, not what CO-RE relocates."""
        btf = self.btf
        assert btf is not None
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
            if value[0] in _TAG_KINDS and value[1] and value[2] and id not in foreign
        ]


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
