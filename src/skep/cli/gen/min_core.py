"""The part of a kernel's types that objects' CO-RE relocations look at.

As bpftool does it: a field's relocation keeps the structs on its path with only the members on it, and
what these members are, without following pointers; a type's keeps the type; an enumerator's the whole enum.
Structs keep their sizes, members their offsets, so answers from it are the kernel's.
"""

from __future__ import annotations

from collections import defaultdict

from skep.btf import Btf, BtfBuilder
from skep.btf import types as t
from skep.btf.types import Type, with_references
from skep.errors import CoreReloError
from skep.obj import CoreTarget, read
from skep.obj.core_match import match
from skep.obj.core_spec import FIELD_KINDS, TYPE_ID_LOCAL, TYPE_MATCHES, Spec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


_COMPOSITES = (t.STRUCT, t.UNION)


def minimal(source: str, objects: Iterable[str]) -> bytes:
    """Raw BTF with what the ``objects`` need of the types in file ``source``."""
    target = CoreTarget.open(source)
    kept = Kept(target.btf)
    for path in objects:
        spec = read(path)
        if spec.btf is None:
            continue
        resolver = target.resolver(spec.btf)
        for function in spec.functions.values():
            for _, type_id, access, kind in function.core_relos:
                local = resolver.spec((type_id, access, kind), function.name)
                if kind == TYPE_ID_LOCAL or not spec.btf[local.root][1]:
                    continue
                for btf, id in target.candidates(spec.btf[local.root]):
                    found = match(local, btf, id)
                    if not isinstance(found, str):
                        kept.add(found)
    return kept.build()


class Kept:
    """The types and members to keep."""

    def __init__(self, btf: Btf) -> None:
        self.btf = btf
        self._types: set[int] = set()
        self._members: dict[int, set[int]] = defaultdict(set)

    def add(self, spec: Spec) -> None:
        """Keep what a relocation found in the target."""
        if spec.kind in FIELD_KINDS:
            self._field(spec)
        elif spec.kind == TYPE_MATCHES:
            self._whole(spec.root, set(), behind_pointer=False)
        else:
            self._mark(spec.root, pointers=True)

    def _field(self, spec: Spec) -> None:
        self._mark(spec.root)
        id = spec.root
        for number, step in enumerate(spec.steps):
            id = self.btf.resolve(id)
            if step.name is not None:
                path = self._path(id, step.type_id)
                if path is None:
                    raise CoreReloError(f"no way to {step.name} in {self.btf.describe(id)}")
                for outer, index in [*path, (step.type_id, step.index)]:
                    self._members[outer].add(index)
                    id = self.btf[outer][3][index][1]
                    self._mark(id)
            elif number:
                id = self.btf[id][2]
                self._mark(id)

    def _path(self, id: int, wanted: int) -> list[tuple[int, int]] | None:
        """The anonymous members that lead from composite ``id`` to the one that is ``wanted``."""
        id = self.btf.resolve(id)
        if id == wanted:
            return []
        value = self.btf[id]
        for index, (name, type_id, _, _) in enumerate(value[3] if value[0] in _COMPOSITES else ()):
            if not name and (rest := self._path(type_id, wanted)) is not None:
                return [(id, index), *rest]
        return None

    def _mark(self, id: int, *, pointers: bool = False) -> None:
        """Keep a type and what its notation names: pointees only with ``pointers``, members never."""
        pending = [id]
        while pending:
            id = pending.pop()
            if not id:
                continue
            self._types.add(id)
            value = self.btf[id]
            kind = value[0]
            if kind == t.PTR:
                if pointers:
                    pending.append(value[2])
                    pointers = False
            elif kind == t.TYPEDEF or kind in t.MODIFIERS:
                pending.append(value[2])
            elif kind == t.ARRAY:
                pending += value[2:4]
            elif kind == t.FUNC_PROTO:
                pending += [value[2], *(type_id for _, type_id in value[3])]

    def _whole(self, id: int, seen: set[int], *, behind_pointer: bool) -> None:
        """Keep what a comparison of whole types looks at: members too, names only behind pointers."""
        if not id or id in seen:
            return
        if not behind_pointer:
            seen.add(id)
        self._types.add(id)
        value = self.btf[id]
        kind = value[0]
        if kind in _COMPOSITES:
            if not behind_pointer:
                for index, (_, type_id, _, _) in enumerate(value[3]):
                    self._members[id].add(index)
                    self._whole(type_id, seen, behind_pointer=False)
        elif kind == t.PTR:
            self._whole(value[2], seen, behind_pointer=True)
        elif kind == t.TYPEDEF or kind in t.MODIFIERS:
            self._whole(value[2], seen, behind_pointer=behind_pointer)
        elif kind == t.ARRAY:
            self._whole(value[2], seen, behind_pointer=False)
            self._whole(value[3], seen, behind_pointer=False)
        elif kind == t.FUNC_PROTO:
            for type_id in (value[2], *(type_id for _, type_id in value[3])):
                self._whole(type_id, seen, behind_pointer=False)

    def build(self) -> bytes:
        """The BTF, types in the order of the source; ids of what is left out become 0, void."""
        order = sorted(self._types)
        new_id: dict[int, int] = defaultdict(int, {id: number for number, id in enumerate(order, 1)})
        out = BtfBuilder(order=self.btf.order)
        for id in order:
            out.add(with_references(self._trimmed(id), new_id))
        return out.build()

    def _trimmed(self, id: int) -> Type:
        value = self.btf[id]
        if value[0] not in _COMPOSITES:
            return value
        members = [value[3][index] for index in sorted(self._members[id])]
        make = t.Struct if value[0] == t.STRUCT else t.Union
        return make(value[1], value[2], members, value[4])
