"""BTF printed as Python: a module of plain classes that read the C types' bytes, without ctypes or skep."""

from __future__ import annotations

import keyword
from collections.abc import Iterable
from typing import Final

from skep.btf import types as t
from skep.btf.cdecl import CText
from skep.btf.graph import TypeGraph
from skep.btf.types import Type

_DEEPEST: Final = 100
_MOST_MEMBERS: Final = 1 << 16
_CODES: Final = {1: "b", 2: "h", 4: "i", 8: "q"}
_PYTHON: Final = {"?": "bool", "f": "float", "d": "float"}
_CHARS: Final = ("char", "signed char", "unsigned char")
_TAKEN: Final = frozenset(
    ("Layout", "bool", "bytes", "cls", "float", "int", "len", "memoryview", "range", "tuple", "type")
)
_PRELUDE: Final = '''\
"""C types as Python classes, generated from BTF.

`Type.unpack(data, at=0)` reads one value from bytes; `Type.SIZE` says how many it takes. Integers, pointers
and enums are ints, char arrays bytes, other arrays tuples. Members of anonymous structs and unions are
members of the type around them, as in C.
"""

from __future__ import annotations

from struct import unpack_from as _read
from typing import Any, ClassVar, TypeVar

_T = TypeVar("_T", bound="Layout")


class Layout:
    """A C type of SIZE bytes."""

    SIZE: ClassVar[int] = 0

    @classmethod
    def unpack(cls: type[_T], data: bytes | memoryview, at: int = 0) -> _T:
        """Read one value at byte ``at``. Raises ValueError when the data ends before it does."""
        if at < 0 or len(data) - at < cls.SIZE:
            raise ValueError(f"{cls.__name__} takes {cls.SIZE} bytes, {max(0, len(data) - at)} are there")
        self = cls.__new__(cls)
        cls._fill(self, data, at)
        return self

    @staticmethod
    def _fill(self: Any, data: bytes | memoryview, at: int) -> None:
        raise NotImplementedError  # every class that is printed gets its own, below it

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in vars(self).items())})"

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and vars(other) == vars(self)
'''


def py_dump(btf: TypeGraph, names: Iterable[str]) -> str:
    """The source of a module with a class for each struct, union, enum or typedef in ``names``.

    Types embedded in them come along; types only pointed to do not (a pointer is an int). Enums become
    classes of int constants. Raises BtfError for a name that no such type has.
    """
    dump = _PyDump(btf)
    for name in names:
        id = next(
            (
                id
                for kind in (t.STRUCT, t.UNION, t.ENUM, t.ENUM64, t.TYPEDEF)
                if (id := btf.find(name, kind)) is not None
            ),
            None,
        )
        dump.want(btf.require(name, t.STRUCT) if id is None else id, name)
    return _PRELUDE + "".join(dump.parts)


class _PyDump:
    def __init__(self, graph: TypeGraph) -> None:
        self.graph = graph
        self.parts: list[str] = []
        self._names: dict[int, str] = {}
        self._used: set[str] = set(_TAKEN)
        self.order = getattr(graph, "order", "<")

    def c_text(self, id: int) -> str:
        """The type in C, for a comment; in words where C takes more than a line."""
        text = CText(self.graph)
        text.declaration(id, "", 0)
        line = "".join(text.out)
        return line if "\n" not in line else self.graph.describe(self.graph.resolve(id))

    # --- classes -------------------------------------------------------------------------------

    def want(self, id: int, name: str, depth: int = 0) -> str:
        """The name of the class for type ``id``; writes the class, and those it embeds first, once."""
        id = self.graph.resolve(id)
        known = self._names.get(id)
        if known is not None:
            return known
        if depth > _DEEPEST:
            self.graph.fail(id, f"structs nested more than {_DEEPEST} deep")
        value = self.graph[id]
        known = self._names[id] = self._free_name(value[1] or name)
        if value[0] in (t.ENUM, t.ENUM64):
            self._enum(known, value)
        elif value[0] in (t.STRUCT, t.UNION):
            self._composite(known, id, value, depth)
        else:
            self.graph.fail(id, f"{name}: a class needs a struct, union or enum, not {value.kind_name}")
        return known

    def _free_name(self, name: str) -> str:
        free = base = safe(name)
        number = 2
        while free in self._used:
            free = f"{base}___{number}"
            number += 1
        self._used.add(free)
        return free

    def _enum(self, name: str, value: Type) -> None:
        lines = [f'\n\nclass {name}:\n    """enum {value[1] or "(anonymous)"}, {value[2]} bytes."""\n']
        lines += [f"    {safe(item)} = {number}" for item, number in value[3]]
        self.parts.append("\n".join(lines) + "\n")

    def _composite(self, name: str, id: int, value: Type, depth: int) -> None:
        word = "struct" if value[0] == t.STRUCT else "union"
        fields = _Fields(self, name, depth)
        fields.add(id, 0, 0)
        lines = [
            f'\n\nclass {name}(Layout):\n    """{word} {value[1] or "(anonymous)"}, {value[2]} bytes."""\n'
        ]
        lines.append(f"    SIZE = {value[2]}\n")
        lines += fields.notes
        # Outside the class: a name that starts with two underscores would be mangled in it.
        lines.append(f"\n\ndef _fill_{name}(self: {name}, data: bytes | memoryview, at: int) -> None:")
        lines += fields.code or ["    pass"]
        lines.append(f"\n\n{name}._fill = staticmethod(_fill_{name})  # type: ignore[method-assign]")
        self.parts.append("\n".join(lines) + "\n")


def safe(name: str) -> str:
    """``name`` as a Python identifier."""
    if name.isidentifier():
        return name + "_" if keyword.iskeyword(name) else name
    made = "".join(letter if letter.isidentifier() or letter.isdigit() else "_" for letter in name)
    return made if made.isidentifier() else "_" + made


class _Fields:
    """The members of one class: annotations, and the statements that read them."""

    def __init__(self, dump: _PyDump, owner: str, depth: int) -> None:
        self.dump = dump
        self.graph = dump.graph
        self.owner = owner
        self.depth = depth
        self.notes: list[str] = []
        self.code: list[str] = []
        self._used = {"SIZE", "unpack", "_fill"}

    def add(self, id: int, base: int, depth: int) -> None:
        """Add the members of composite ``id``, which starts at bit ``base``."""
        if depth > _DEEPEST:
            self.graph.fail(id, f"anonymous structs nested more than {_DEEPEST} deep")
        for member in self.graph[id][3]:
            name, type_id, offset, _ = member
            offset += base
            bits = self.graph.bitfield_bits(member)
            target = self.graph.resolve(type_id)
            if not name and not bits and self.graph[target][0] in (t.STRUCT, t.UNION):
                self.add(target, offset, depth + 1)
                continue
            if not name:
                continue
            if len(self.notes) > _MOST_MEMBERS:
                self.graph.fail(id, "anonymous members expand without end")
            self._field(self._free(safe(name)), type_id, offset, bits)

    def _free(self, name: str) -> str:
        while name in self._used:
            name += "_"
        self._used.add(name)
        return name

    def _field(self, name: str, type_id: int, offset: int, bits: int) -> None:
        where = f"byte {offset // 8}" + (f" bit {offset % 8}, {bits} bits" if bits else "")
        if bits:
            value = self.graph[self.graph.resolve(type_id)]
            kind, read = "int", self._bitfield(value, offset, bits)
        else:
            kind, read = self._read(type_id, f"at + {offset // 8}", f"{self.owner}_{name}")
        self.notes.append(f"    {name}: {kind}  # {where}: {self.dump.c_text(type_id)}")
        self.code.append(f"    self.{name} = {read}")

    def _bitfield(self, value: Type, offset: int, bits: int) -> str:
        first, last = offset // 8, (offset + bits + 7) // 8
        little = self.dump.order == "<"
        # Bits count from the least significant on little-endian machines, from the most on big-endian ones.
        shift = offset % 8 if little else last * 8 - offset - bits
        order = "little" if little else "big"
        text = f"int.from_bytes(data[at + {first} : at + {last}], {order!r})"
        text = f"({text} >> {shift} & {(1 << bits) - 1:#x})" if shift else f"({text} & {(1 << bits) - 1:#x})"
        signed = value[3] & t.SIGNED if value[0] == t.INT else value[0] in (t.ENUM, t.ENUM64) and value[4]
        if signed:
            sign = 1 << (bits - 1)
            return f"({text} ^ {sign:#x}) - {sign:#x}"
        return text

    def _read(self, type_id: int, where: str, name: str) -> tuple[str, str]:
        """(annotation, expression) for a value of type ``type_id`` at the byte that ``where`` computes."""
        id = self.graph.resolve(type_id)
        value = self.graph[id]
        kind = value[0]
        if kind in (t.STRUCT, t.UNION):
            made = self.dump.want(id, name, self.depth + 1)
            return made, f"{made}.unpack(data, {where})"
        if kind == t.ARRAY:
            return self._array(id, where, name)
        code = self._code(value)
        if code is not None:
            return _PYTHON.get(code, "int"), f'_read("{self.dump.order}{code}", data, {where})[0]'
        piece = f"data[{where} : {where} + {self.graph.size_of(id)}]"
        if kind == t.INT:
            order = "little" if self.dump.order == "<" else "big"
            sign = ", signed=True" if value[3] & t.SIGNED else ""
            return "int", f"int.from_bytes({piece}, {order!r}{sign})"
        return "bytes", f"bytes({piece})"

    def _code(self, value: Type) -> str | None:
        """The struct module's letter for a scalar, or None where it has none."""
        kind = value[0]
        if kind == t.PTR:
            return "Q" if self.graph.ptr_size == 8 else "I"
        if kind == t.INT:
            if value[3] & t.BOOL and value[2] == 1:
                return "?"
            code = _CODES.get(value[2])
            return code.upper() if code and not value[3] & t.SIGNED else code
        if kind in (t.ENUM, t.ENUM64):
            code = _CODES.get(value[2])
            return code.upper() if code and not value[4] else code
        if kind == t.FLOAT:
            return {4: "f", 8: "d"}.get(value[2])
        return None

    def _array(self, id: int, where: str, name: str) -> tuple[str, str]:
        """A (multi-dimensional) array: bytes for char, else tuples."""
        counts: list[int] = []
        while (value := self.graph[id])[0] == t.ARRAY:
            counts.append(value[4])
            if len(counts) > _DEEPEST:
                self.graph.fail(id, f"an array of more than {_DEEPEST} dimensions")
            id = self.graph.resolve(value[2])
        size = self.graph.size_of(id)
        inner = counts.pop()
        stride = inner * size
        strides: list[int] = []  # of each outer dimension, the outermost last
        for count in reversed(counts):
            strides.append(stride)
            stride *= count
        for number, step in enumerate(reversed(strides)):
            where += f" + i{number} * {step}"
        code = self._code(value)
        if code in ("b", "B") and value[1] in _CHARS:
            python, text = "bytes", f"bytes(data[{where} : {where} + {inner}])"
        elif code is not None:
            python = f"tuple[{_PYTHON.get(code, 'int')}, ...]"
            text = f'_read("{self.dump.order}{inner}{code}", data, {where})'
        else:
            element, text = self._read(id, f"{where} + j * {size}", name)
            python, text = f"tuple[{element}, ...]", f"tuple({text} for j in range({inner}))"
        for number in range(len(counts) - 1, -1, -1):
            python = f"tuple[{python}, ...]"
            text = f"tuple({text} for i{number} in range({counts[number]}))"
        return python, text
