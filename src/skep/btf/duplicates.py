"""Deduplication: one type for each meaning, whatever number of compilation units described it.

The passes and what counts as the same are those of libbpf's btf__dedup, so the same types come out:

1. integers, enums, floats, forward declarations: equal values are one type; an enum's forward declaration is
   the full enum of that name;
2. structs, unions, typedefs: the graphs that hang on two of the same shape are compared by assuming them
   equal and looking for a contradiction, so loops end. A forward declaration equals a struct of its name;
3. forward declarations left over stand for the struct of their name if only one has it;
4. references (pointers, modifiers, arrays, functions, tags): equal once what they refer to is settled;
5. what is left moves together, and every id is renewed.

Variables and sections are never merged.
"""

from __future__ import annotations

from skep.btf import types as t
from skep.btf.build import BtfBuilder
from skep.btf.read import Btf
from skep.btf.types import Type, references, with_references

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final


_COMPARED_DEPTH: Final = 16
_OUTLINE_DEPTH: Final = 6
_MOST_COMPARISONS: Final = 1_000_000
_UNKNOWN: Final = -1
_BUSY: Final = -2
_ENUMS: Final = (t.ENUM, t.ENUM64)
_COMPOSITES: Final = (t.STRUCT, t.UNION)
_PRIMITIVE: Final = frozenset((t.INT, t.ENUM, t.ENUM64, t.FWD, t.FLOAT))
_GRAPH: Final = frozenset((t.STRUCT, t.UNION, t.TYPEDEF))
_FIXED: Final = frozenset((t.VAR, t.DATASEC))


def dedup(source: BtfBuilder | Btf, *, guess_forwards: bool = True) -> tuple[BtfBuilder, list[int]]:
    """The types of ``source`` without duplicates, and the new id of each old one.

    ``guess_forwards=False`` leaves out pass 3, as libbpf did before 1.1.

    Types keep the order of their first appearance; those of a base stay as they are. Raises BtfError for
    references out of range, for references that form a loop, and for graphs made to be hard to compare.
    """
    work = _Dedup(source)
    work.primitives()
    work.composites()
    if guess_forwards:
        work.forwards()
    work.references()
    return work.result()


def shape(value: Type) -> tuple[Any, ...]:
    """What two structs, unions or typedefs must share before their graphs are worth comparing."""
    if value[0] == t.TYPEDEF:
        return (t.TYPEDEF, value[1])
    return (*value[:3], value[4], tuple((m[0], m[2], m[3]) for m in value[3]))


def outline(types: list[Type], id: int) -> tuple[Any, ...]:
    """What every type equivalent to ``id`` has too, a few references deep: rules out most comparisons."""
    parts: list[Any] = []
    for _ in range(_OUTLINE_DEPTH):
        value = types[id]
        kind = value[0]
        if kind in (t.FWD, t.STRUCT, t.UNION):  # a forward declaration equals the struct
            parts.append(("struct", value[1]))
            break
        if kind in _ENUMS:
            parts.append(("enum", value[1]))
            break
        if kind == t.ARRAY:
            parts.append((t.ARRAY, value[4]))
        elif kind == t.FUNC_PROTO:
            parts.append((t.FUNC_PROTO, tuple(param[0] for param in value[3])))
        elif kind in t.HAS_TYPE:
            parts.append((kind, value[1], value[3:]))
        else:
            parts.append(value)
            break
        id = value[2]
    return tuple(parts)


def is_enum_forward(value: Type) -> bool:
    """Whether ``value`` is an enum without values."""
    return value[0] in _ENUMS and not value[3]


def compatible_enums(one: Type, other: Type) -> bool:
    """Equal, or a forward declaration and an enum of the same name (of any size)."""
    if one[0] not in _ENUMS or other[0] not in _ENUMS:
        return False
    if is_enum_forward(one) or is_enum_forward(other):
        return bool(one[1] == other[1])
    return one == other


class _Dedup:
    def __init__(self, source: BtfBuilder | Btf) -> None:
        self.source = source
        self.start = source.start_id
        self.types: list[Type] = list(source)
        count = len(self.types)
        for id in range(self.start, count):
            for reference in references(self.types[id]):
                if not 0 <= reference < count:
                    source.fail(id, f"names type {reference}, of {count - 1}")
        self.map = [_UNKNOWN] * count
        self._values: dict[Type, int] = {}
        self._enums: dict[str, list[int]] = {}
        self._shapes: dict[tuple[Any, ...], list[int]] = {}
        self._outlines: dict[int, tuple[Any, ...]] = {}
        self._assumed: dict[int, int] = {}  # canonical id -> candidate taken to be equal
        self._touches_base = False
        self._comparisons = 0
        self._populate()

    def _populate(self) -> None:
        """Void, variables and the base's types are settled from the start."""
        for id, value in enumerate(self.types):
            kind = value[0]
            if id < self.start or kind in _FIXED:
                self.map[id] = id
            if 0 < id < self.start:
                if kind in _ENUMS:
                    self._enums.setdefault(value[1], []).append(id)
                elif kind in _GRAPH:
                    self._shapes.setdefault(self._key(value), []).append(id)
                elif kind not in _FIXED:
                    self._values.setdefault(value, id)

    def _key(self, value: Type) -> tuple[Any, ...]:
        outlines = []
        for id in references(value):
            known = self._outlines.get(id)
            if known is None:
                known = self._outlines[id] = outline(self.types, id)
            outlines.append(known)
        return (*shape(value), tuple(outlines))

    def _resolve(self, id: int) -> int:
        target = self.map[id]
        while target >= 0 and target != id:
            id = target
            target = self.map[id]
        return id

    # --- pass 1 --------------------------------------------------------------------------------

    def primitives(self) -> None:
        for id in range(self.start, len(self.types)):
            value = self.types[id]
            if value[0] in _ENUMS:
                self._enum(id, value)
            elif value[0] in _PRIMITIVE:
                self.map[id] = self._values.setdefault(value, id)

    def _enum(self, id: int, value: Type) -> None:
        same_name = self._enums.setdefault(value[1], [])
        for other in same_name:
            if self.types[other] == value:
                self.map[id] = other
                return
            if compatible_enums(value, self.types[other]):
                if is_enum_forward(value):
                    self.map[id] = other
                    return
                self.map[other] = id
        self.map[id] = id
        same_name.append(id)

    # --- pass 2 --------------------------------------------------------------------------------

    def composites(self) -> None:
        for id in range(self.start, len(self.types)):
            value = self.types[id]
            if value[0] not in _GRAPH or self.map[id] != _UNKNOWN:
                continue
            same_shape = self._shapes.setdefault(self._key(value), [])
            for other in same_shape:
                if self._comparisons > _MOST_COMPARISONS + 100 * len(self.types):
                    self.source.fail(id, f"{len(same_shape)} types of its shape take too long to compare")
                if self._equivalent(id, other):
                    self._adopt()
                    if not self._touches_base:
                        self.map[id] = other
                        break
            else:
                self.map[id] = id
                same_shape.append(id)

    def _equivalent(self, candidate: int, canonical: int) -> bool:
        """Whether the graphs of two types are the same; leaves the pairs assumed equal in ``_assumed``."""
        assumed = self._assumed = {}
        self._touches_base = False
        todo = [(candidate, canonical)]
        while todo:
            one, other = todo.pop()
            self._comparisons += 1
            if self._resolve(one) == self._resolve(other):
                continue
            other = self._forward_target(other)
            before = assumed.get(other)
            if before is not None:
                # A compiler may describe one array or struct twice in one unit.
                if before != one and not self._identical(before, one, _COMPARED_DEPTH):
                    return False
                continue
            assumed[other] = one
            pairs = self._compare(one, other)
            if pairs is None:
                return False
            todo += reversed(pairs)
        return True

    def _forward_target(self, id: int) -> int:
        """What a forward declaration has been resolved to, else ``id``."""
        if self.types[id][0] != t.FWD:
            return id
        target = self._resolve(id)
        return target if self.types[target][0] != t.FWD else id

    def _compare(self, one_id: int, other_id: int) -> list[tuple[int, int]] | None:
        """The pairs that must be equivalent for these two to be; None when they differ themselves."""
        one, other = self.types[one_id], self.types[other_id]
        if one[1] != other[1]:
            return None
        kinds = one[0], other[0]
        if t.FWD in kinds and kinds[0] != kinds[1]:
            forward, real = (one, kinds[1]) if kinds[0] == t.FWD else (other, kinds[0])
            if real != (t.UNION if forward[2] else t.STRUCT):
                return None
            if forward is other and other_id < self.start:
                self._touches_base = True
            return []
        if kinds[0] in _ENUMS and kinds[1] in _ENUMS:
            return [] if compatible_enums(one, other) else None
        if kinds[0] != kinds[1] or not same_but_references(one, other):
            return None
        return list(zip(references(one), references(other), strict=True))

    def _identical(self, one_id: int, other_id: int, depth: int) -> bool:
        """Equality without assumptions, to a depth."""
        while True:
            one, other = self.types[one_id], self.types[other_id]
            if depth <= 0 or one[1] != other[1]:
                return False
            if one[0] in _ENUMS and one[0] == other[0]:
                return compatible_enums(one, other)
            if one[0] != other[0] or one[0] in _FIXED or not same_but_references(one, other):
                return False
            pairs = [
                pair for pair in zip(references(one), references(other), strict=True) if pair[0] != pair[1]
            ]
            if not pairs:
                return True
            if len(pairs) > 1 or one[0] in _COMPOSITES:
                return all(self._identical(a, b, depth - 1) for a, b in pairs)
            # A chain of single references costs no depth, so it is bounded here.
            one_id, other_id = pairs[0]
            depth -= 1 if one[0] in (t.ARRAY, t.FUNC_PROTO) else 0
            if self._chain_loops(one_id):
                return False

    def _chain_loops(self, id: int) -> bool:
        for _ in range(4096):
            value = self.types[id]
            if value[0] not in t.MODIFIERS and value[0] not in (t.PTR, t.TYPEDEF, t.FUNC):
                return False
            id = value[2]
        return True

    def _adopt(self) -> None:
        """Two graphs are equivalent: keep what that says about forward declarations and structs."""
        for canonical, candidate in self._assumed.items():
            one, other = self._resolve(candidate), self._resolve(canonical)
            kind, canonical_kind = self.types[one][0], self.types[other][0]
            if kind != t.FWD and canonical_kind == t.FWD:
                self.map[other] = one
            if self._touches_base:
                continue
            if kind == t.FWD and canonical_kind != t.FWD:
                self.map[one] = other
            if kind in _COMPOSITES and canonical_kind != t.FWD and self.map[other] >= 0 and self.map[one] < 0:
                self.map[one] = other

    # --- pass 3 --------------------------------------------------------------------------------

    def forwards(self) -> None:
        only: dict[str, int] = {}
        for id, value in enumerate(self.types):
            if value[0] in _COMPOSITES and self.map[id] == id:
                only[value[1]] = 0 if value[1] in only else id
        for id in range(self.start, len(self.types)):
            value = self.types[id]
            if value[0] == t.FWD and self.map[id] == id:
                found = only.get(value[1], 0)
                if found and self.types[found][0] == (t.UNION if value[2] else t.STRUCT):
                    self.map[id] = found

    # --- pass 4 --------------------------------------------------------------------------------

    def references(self) -> None:
        for root in range(self.start, len(self.types)):
            if self.map[root] != _UNKNOWN:
                continue
            path = [root]
            self.map[root] = _BUSY
            while path:
                id = path[-1]
                waiting = [r for r in references(self.types[id]) if self.map[r] < 0]
                if waiting:
                    if self.map[waiting[0]] == _BUSY:
                        self.source.fail(waiting[0], "the types that it refers to refer back to it")
                    self.map[waiting[0]] = _BUSY
                    path.append(waiting[0])
                    continue
                path.pop()
                value = self.types[id]
                settled = {r: self._resolve(r) for r in references(value)}
                value = self.types[id] = with_references(value, settled)
                self.map[id] = self._values.setdefault(value, id)

    # --- pass 5 --------------------------------------------------------------------------------

    def result(self) -> tuple[BtfBuilder, list[int]]:
        kept = [id for id in range(self.start, len(self.types)) if self.map[id] == id]
        renewed = list(range(len(self.types)))
        for new, id in enumerate(kept, self.start):
            renewed[id] = new
        final = [renewed[self._resolve(id)] for id in range(len(self.types))]
        made = BtfBuilder(order=self.source.order, base=self.source.base)
        for id in kept:
            made.add(with_references(self.types[id], final))
        return made, final


def same_but_references(one: Type, other: Type) -> bool:
    """Whether two types of one kind and name differ at most in the ids that they name."""
    kind = one[0]
    if kind in _COMPOSITES:
        return shape(one) == shape(other)
    if kind == t.ARRAY:
        return bool(one[4] == other[4])
    if kind == t.FUNC_PROTO:
        return [p[0] for p in one[3]] == [p[0] for p in other[3]]
    if kind in t.HAS_TYPE:
        return one[3:] == other[3:]
    return one == other
