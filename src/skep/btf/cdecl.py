"""C text for BTF types: declarations, definitions, padding.

What C demands and BTF does not say is made up the way libbpf's btf_dump does it, so that headers come out the
same: ``___2`` after a name that another type has already, explicit ``long: 0`` members where the compiler
would not pad by itself, ``packed`` where offsets cannot come about otherwise.
"""

from __future__ import annotations

from skep.btf import types as t
from skep.btf.graph import Decoded, TypeGraph
from skep.btf.types import Type
from skep.errors import BtfError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final


_DEEPEST: Final = 120
_MODIFIER_WORDS: Final = {t.VOLATILE: "volatile", t.CONST: "const", t.RESTRICT: "restrict"}
_THROUGH: Final = frozenset((t.PTR, t.VOLATILE, t.CONST, t.RESTRICT, t.FUNC_PROTO, t.TYPE_TAG, t.ARRAY))


class CText:
    """Writes C for the types of a graph; remembers the names it has given out."""

    def __init__(self, graph: TypeGraph, *, enum_modes: bool = True) -> None:
        self.graph = graph
        self._enum_modes = enum_modes
        self.out: list[str] = []
        self.value: Callable[[int], Type] = (
            graph.values.__getitem__ if isinstance(graph, Decoded) else graph.__getitem__
        )
        self._tags: dict[str, int] = {}  # struct, union and enum tags: name -> times used
        self._idents: dict[str, int] = {}  # typedefs and enumerators share a namespace
        self._names: dict[int, str] = {}
        self._pads = (("long", graph.ptr_size * 8), ("int", 32), ("short", 16), ("char", 8))
        self._depth = 0
        self._budget = 0

    def spend(self, id: int, steps: int = 1) -> None:
        """Count steps of work; types wired so that C for them has no end raise BtfError."""
        self._budget += steps
        if self._budget > self.limit:
            self.graph.fail(id, "its C text is too long: the types expand into each other without end")

    # --- names ---------------------------------------------------------------------------------

    @staticmethod
    def _another(names: dict[str, int], name: str) -> str:
        count = names[name] = names.get(name, 0) + 1
        return f"{name}___{count}" if count > 1 else name

    def _name(self, id: int, value: Type, names: dict[str, int]) -> str:
        name = value[1]
        if not name:
            return ""
        known = self._names.get(id)
        if known is None:
            forward = value[0] == t.FWD or (value[0] == t.ENUM and not value[3])
            known = self._names[id] = name if forward else self._another(names, name)
        return known

    def tag(self, id: int, value: Type) -> str:
        """The tag of a struct, union, enum or forward declaration; "" when anonymous."""
        return self._name(id, value, self._tags)

    def ident(self, id: int, value: Type) -> str:
        """The name of a typedef."""
        return self._name(id, value, self._idents)

    # --- structs and enums ---------------------------------------------------------------------

    def composite_head(self, id: int, value: Type) -> str:
        """``struct name``"""
        word = "struct" if value[0] == t.STRUCT else "union"
        return f"{word} {self.tag(id, value)}" if value[1] else word

    def _align(self, id: int) -> int:
        try:
            return self.graph.align_of(id)
        except BtfError:
            return 0

    def _size(self, id: int) -> int:
        try:
            return self.graph.size_of(id)
        except BtfError:
            return 0

    def composite(self, id: int, value: Type, level: int) -> None:
        """A struct's or union's definition, without the semicolon."""
        members = value[3]
        is_struct = value[0] == t.STRUCT
        packed = is_struct and self._packed(value)
        align = self._align(id)
        out = self.out
        out.append(self.composite_head(id, value) + " {")
        indent = "\n" + "\t" * (level + 1)
        at = 0
        in_bitfields = False
        for name, type_id, offset, bits in members:
            if at < offset:
                member_align = 1 if packed else self._align(type_id)
                self._pad(at, offset, member_align, in_bitfields and bits != 0, indent)
            out.append(indent)
            self.declaration(type_id, name, level + 1)
            if bits:
                out.append(f": {bits};")
                at = offset + bits
                in_bitfields = True
            else:
                at = offset + self._size(type_id) * 8
                in_bitfields = False
                out.append(";")
        if is_struct:
            self._pad(at, value[2] * 8, align, False, indent)
        if members or value[2]:
            out.append("\n" + "\t" * level + "}")
        else:
            out.append("}")
        if packed:
            out.append(" __attribute__((packed))")

    def _packed(self, value: Type) -> bool:
        largest = 1
        for _, type_id, offset, bits in value[3]:
            align = self._align(type_id)
            if align and bits == 0 and offset % (8 * align):
                return True
            if align > largest:
                largest = align
        return bool(value[2] % largest)

    def _pad(self, at: int, to: int, align: int, in_bitfields: bool, indent: str) -> None:
        """Unnamed bitfields from bit ``at`` to bit ``to``, unless the compiler leaves that gap by itself."""
        if at >= to:
            return
        word, width, start = "char", 8, at
        for pad in self._pads:
            word, width = pad
            start = -(-at // width) * width
            if start <= to:
                break
        if at < start <= to:
            lands = start == to and -(-at // (align * 8)) * (align * 8) != start if align else start == to
            fits = start != to and to - start <= start - at
            if in_bitfields or lands or fits:
                self.out.append(f"{indent}{word}: {start - at if in_bitfields else 0};")
            at = start
        whole, rest = divmod(to - at, width)
        if whole:
            self.spend(0, whole)
            self.out.append(f"{indent}{word}: {width};" * whole)
        if rest:
            for small, bits in reversed(self._pads):
                if bits >= rest:
                    self.out.append(f"{indent}{small}: {rest};")
                    break

    limit = 1 << 20
    """Steps of work allowed in all; raised for large graphs."""

    def enum_head(self, id: int, value: Type) -> str:
        """``enum name``"""
        return f"enum {self.tag(id, value)}" if value[1] else "enum"

    def enum(self, id: int, value: Type, level: int) -> None:
        """An enum's definition, without the semicolon; the head alone when it has no values."""
        out = self.out
        out.append(self.enum_head(id, value))
        values = value[3]
        if not values:
            return
        out.append(" {")
        wide = value[0] == t.ENUM64
        suffix = ("LL" if value[4] else "ULL") if wide else ""
        indent = "\n" + "\t" * (level + 1)
        for name, number in values:
            out.append(f"{indent}{self._another(self._idents, name)} = {number}{suffix},")
        out.append("\n" + "\t" * level + "}")
        if not self._enum_modes:
            return
        if value[2] == 1:
            out.append(" __attribute__((mode(byte)))")
        elif (
            value[2] == 8
            and self.graph.ptr_size == 8
            # Values that need 64 bits make the enum that wide by themselves.
            and (not wide or all(0 <= number >> 32 < 1 for _, number in values))
        ):
            out.append(" __attribute__((mode(word)))")

    @staticmethod
    def forward(value: Type, name: str) -> str:
        """``struct name`` for a forward declaration."""
        return f"union {name}" if value[2] else f"struct {name}"

    def typedef(self, id: int, value: Type) -> None:
        """A typedef, without the semicolon."""
        name = self.ident(id, value)
        if value[2] == 0 and name == "__gnuc_va_list":  # old GCC says void
            self.out.append("typedef __builtin_va_list __gnuc_va_list")
            return
        self.out.append("typedef ")
        self.declaration(value[2], name, 0)

    # --- declarations --------------------------------------------------------------------------

    def declaration(self, id: int, name: str, level: int) -> None:
        """``name`` declared to be of type ``id``; just the type when ``name`` is ""."""
        chain = [id]
        while id:
            value = self.value(id)
            if value[0] not in _THROUGH:
                break
            id = value[2]
            chain.append(id)
            if len(chain) > 4096:
                self.graph.fail(id, "a declaration that is a loop, or more than 4,096 types long")
        self.spend(id)
        self._depth += 1
        if self._depth > _DEEPEST:
            self.graph.fail(id, f"declarations nested more than {_DEEPEST} deep")
        self._chain(chain, name, level)
        self._depth -= 1

    def _leading_modifiers(self, chain: list[int]) -> None:
        """Modifiers of what comes next: C has them to the left of anything but a pointer."""
        while chain:
            word = _MODIFIER_WORDS.get(self.value(chain[-1])[0])
            if word is None:
                return
            self.out.append(word + " ")
            chain.pop()

    def _drop_modifiers(self, chain: list[int]) -> None:
        """Modifiers of arrays and functions are GCC's invention and mean nothing."""
        while chain and self.value(chain[-1])[0] in t.MODIFIERS:
            chain.pop()

    def _chain(self, chain: list[int], name: str, level: int) -> None:
        """The declarator: types from the innermost (the end of ``chain``) outwards, around ``name``."""
        after_pointer = True
        out = self.out
        while chain:
            id = chain.pop()
            value = self.value(id)
            kind = value[0]
            if kind == t.PTR:
                out.append("*" if after_pointer else " *")
                after_pointer = True
                continue
            if kind == t.ARRAY:
                self._array(value, chain, name, level, after_pointer)
                return
            if kind == t.FUNC_PROTO:
                self._function(value, chain, name, level, after_pointer)
                return
            if kind in _MODIFIER_WORDS:
                out.append(" " + _MODIFIER_WORDS[kind])
            else:
                self._leading_modifiers(chain)
                self._terminal(id, value, level)
            after_pointer = False
        self._put_name(name, after_pointer)

    def _put_name(self, name: str, after_pointer: bool) -> None:
        if name:
            self.out.append(name if after_pointer else " " + name)

    def _terminal(self, id: int, value: Type, level: int) -> None:
        kind = value[0]
        if kind in (t.INT, t.FLOAT):
            self.out.append(value[1])
        elif kind == t.VOID:
            self.out.append("void")
        elif kind in (t.STRUCT, t.UNION):
            if value[1]:
                self.out.append(self.composite_head(id, value))
            else:
                self.composite(id, value, level)
        elif kind in (t.ENUM, t.ENUM64):
            if value[1]:
                self.out.append(self.enum_head(id, value))
            else:
                self.enum(id, value, level)
        elif kind == t.FWD:
            self.out.append(self.forward(value, self.tag(id, value)))
        elif kind == t.TYPEDEF:
            self.out.append(self.ident(id, value))
        elif kind == t.TYPE_TAG:
            text = value[1] if value[3] else f'btf_type_tag("{value[1]}")'
            self.out.append(f" __attribute__(({text}))")
        else:
            self.graph.fail(id, f"a {value.kind_name} has no place in a declaration")

    def _array(self, value: Type, chain: list[int], name: str, level: int, after_pointer: bool) -> None:
        self._drop_modifiers(chain)
        if not chain:
            self._put_name(name, after_pointer)
        else:
            nested = self.value(chain[-1])[0] == t.ARRAY
            if name and not after_pointer:
                self.out.append(" ")
            if not nested:
                self.out.append("(")
            self._inner(chain, name, level)
            if not nested:
                self.out.append(")")
        self.out.append(f"[{value[4]}]")

    def _inner(self, chain: list[int], name: str, level: int) -> None:
        self._depth += 1
        if self._depth > _DEEPEST:
            self.graph.fail(chain[-1], f"declarations nested more than {_DEEPEST} deep")
        self._chain(chain, name, level)
        self._depth -= 1

    def _function(self, value: Type, chain: list[int], name: str, level: int, after_pointer: bool) -> None:
        out = self.out
        self._drop_modifiers(chain)
        if chain:
            out.append(" (")
            self._inner(chain, name, level)
            out.append(")")
        else:
            self._put_name(name, after_pointer)
        params = value[3]
        if not params or (len(params) == 1 and params[0][1] == 0):  # the compilers differ in saying none
            out.append("(void)")
            return
        out.append("(")
        for number, (param, type_id) in enumerate(params):
            if number:
                out.append(", ")
            if type_id == 0 and number == len(params) - 1:
                out.append("...")
            else:
                self.declaration(type_id, param, level)
        out.append(")")
