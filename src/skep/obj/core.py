"""CO-RE relocations: answers from a target's types, written into instructions.

The rules are libbpf's (its relo_core.c is the reference all loaders follow): which types are candidates, when
fields agree, which instructions take an answer, and that an instruction without one is made invalid, so that
the verifier refuses programs that can reach it and others load.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final, NamedTuple

from skep.btf import types as t
from skep.errors import BtfError, CoreReloError
from skep.obj.core_match import match
from skep.obj.core_patch import POISON, Patch, patch
from skep.obj.core_spec import (
    ENUM_EXISTS,
    FIELD_EXISTS,
    TYPE_ID_LOCAL,
    TYPE_KINDS,
    Spec,
    describe,
    essential,
    kind_name,
    parse,
    same_kind,
)
from skep.obj.core_value import answer, compare_sizes
from skep.obj.linked import FailedRelo

if TYPE_CHECKING:
    from skep.btf import Btf
    from skep.obj.spec import SubprogSpec

_SYSFS: Final = "/sys/kernel/btf"


class CoreTarget:
    """The types that relocations are answered from: a kernel's, or where those fail, its modules'.

    Remembers what it was asked, so use one for all programs of an object.
    """

    def __init__(
        self, btf: Btf | Callable[[], Btf], modules: Callable[[], Iterable[Btf]] | None = None
    ) -> None:
        self._btf = btf
        self._modules = modules
        self._module_btfs: list[Btf] | None = None
        self._flavours: dict[Btf, dict[str, list[str]]] = {}
        self._resolvers: dict[Btf, Resolver] = {}

    @classmethod
    def kernel(cls) -> CoreTarget:
        """The running kernel and its loaded modules; nothing is read before it is needed."""
        from skep.btf.read import Btf

        self = cls(Btf.kernel)
        self._modules = lambda: _modules(self.btf)
        return self

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> CoreTarget:
        """A file: raw BTF or an ELF file with a ``.BTF`` section."""
        from skep.btf.read import Btf

        return cls(Btf.open(path))

    @property
    def btf(self) -> Btf:
        """The kernel's types. Raises BtfError where there are none."""
        if callable(self._btf):
            self._btf = self._btf()
        return self._btf

    def resolver(self, local: Btf) -> Resolver:
        """What answers the relocations of an object with these types."""
        found = self._resolvers.get(local)
        if found is None:
            found = self._resolvers[local] = Resolver(local, self)
        return found

    def candidates(self, local: t.Type) -> list[tuple[Btf, int]]:
        """Types of the essential name of ``local`` (``x`` of ``x___flavour``) and of a kind like it."""
        found = self._search(self.btf, local)
        if found or self._modules is None:
            return found
        if self._module_btfs is None:
            self._module_btfs = list(self._modules())
        for module in self._module_btfs:
            found += self._search(module, local)
        return found

    def _search(self, btf: Btf, local: t.Type) -> list[tuple[Btf, int]]:
        name = essential(local.name)
        names = [name, *self._flavours_of(btf).get(name, ())]
        ids = {id for wanted in names for id in btf.ids_named(wanted) if id >= btf.start_id}
        return [(btf, id) for id in sorted(ids) if same_kind(local, btf[id])]

    def _flavours_of(self, btf: Btf) -> dict[str, list[str]]:
        known = self._flavours.get(btf)
        if known is None:
            known = self._flavours[btf] = _flavours(bytes(btf.strings.raw))
        return known


def _flavours(strings: bytes) -> dict[str, list[str]]:
    """Essential name -> the names in a string section that are flavours of it."""
    found: dict[str, list[str]] = {}
    at = strings.find(b"___")
    while at >= 0:
        start = strings.rfind(b"\0", 0, at) + 1
        end = strings.find(b"\0", at)
        if end < 0:
            break
        name = strings[start:end].decode("utf-8", "surrogateescape")
        stem = essential(name)
        if stem != name:
            found.setdefault(stem, []).append(name)
        at = strings.find(b"___", end)
    return found


def _modules(base: Btf) -> list[Btf]:
    """BTF of the loaded modules, as far as it can be read."""
    from skep.btf.read import Btf

    found: list[Btf] = []
    try:
        names = sorted(os.listdir(_SYSFS))
    except OSError:
        return found
    for name in names:
        if name != "vmlinux":
            try:
                found.append(Btf.open(os.path.join(_SYSFS, name), base=base))
            except BtfError:  # unloaded meanwhile
                continue
    return found


class Answer(NamedTuple):
    """What to write for one relocation, and for a failed one, why."""

    patch: Patch
    reason: str
    spec: Spec


class Resolver:
    """Answers for one object's types against one target's."""

    def __init__(self, local: Btf, target: CoreTarget) -> None:
        self.local = local
        self.target = target
        self._answers: dict[tuple[int, int, int], Answer] = {}
        self._candidates: dict[int, list[tuple[Btf, int]]] = {}

    def resolve(self, type_id: int, access_at: int, kind: int, where: str) -> Answer:
        """The answer to a relocation of ``kind`` of ``type_id`` at the access string at that offset."""
        key = (type_id, access_at, kind)
        known = self._answers.get(key)
        if known is None:
            spec = parse(self.local, type_id, self.local.strings[access_at], kind, where)
            known = self._answers[key] = self._resolve(spec, where)
        return known

    def _resolve(self, spec: Spec, where: str) -> Answer:
        local_type = self.local[spec.root]
        if spec.kind == TYPE_ID_LOCAL:
            return Answer(Patch(spec.root, spec.root, validate=False), "", spec)
        if not local_type.name:
            raise CoreReloError(
                f"{where}: {kind_name(spec.kind)} of {self.local.describe(spec.root)}: "
                "types without a name have no counterpart to be found"
            )
        candidates = self._candidates.get(spec.root)
        if candidates is None:
            candidates = self._candidates[spec.root] = self.target.candidates(local_type)
        original = answer(spec, spec)
        chosen: Patch | None = None
        chosen_spec: Spec | None = None
        fitting: list[tuple[Btf, int]] = []
        reason = f"the target has no {self.local.describe(spec.root).split('___')[0]}"
        for btf, id in candidates:
            found = match(spec, btf, id)
            if isinstance(found, str):
                reason = found
                continue
            made = _patch_of(spec, found, original)
            if chosen is None or chosen_spec is None:
                chosen, chosen_spec = made, found
            elif found.bit_offset != chosen_spec.bit_offset or made.new != chosen.new:
                raise CoreReloError(
                    f"{where}: {describe(spec)}: the target's types {chosen_spec.root} and {found.root} give "
                    f"different answers ({chosen.new} and {made.new})"
                )
            fitting.append((btf, id))
        if fitting:
            self._candidates[spec.root] = fitting
        if chosen is not None:
            return Answer(chosen, chosen.reason, spec)
        if spec.kind in (FIELD_EXISTS, ENUM_EXISTS) or spec.kind in TYPE_KINDS:
            return Answer(Patch(original.value, 0, validate=original.validate), "", spec)
        return Answer(POISON, reason, spec)


def _patch_of(spec: Spec, found: Spec, original: object) -> Patch:
    from skep.obj.core_value import Value

    assert isinstance(original, Value)
    new = answer(spec, found)
    reason = compare_sizes(spec.btf, original, found.btf, new)
    return Patch(
        original.value,
        new.value,
        validate=original.validate,
        old_size=original.size,
        new_size=new.size,
        reason=reason,
    )


def relocate(
    code: bytearray, base: int, function: SubprogSpec, resolver: Resolver, where: str
) -> list[FailedRelo]:
    """Apply a function's relocations to its copy at slot ``base`` of ``code``.

    Gives those without an answer. Raises CoreReloError for what libbpf refuses altogether, naming ``where``.
    """
    failed: list[FailedRelo] = []
    start = 8 * function.start
    for offset, type_id, access_at, kind in function.core_relos:
        if offset % 8:
            raise CoreReloError(f"{where}: a relocation at byte {offset}, which is inside an instruction")
        slot = base + (offset - start) // 8
        found = resolver.resolve(type_id, access_at, kind, where)
        reason = patch(code, slot, found.patch, where, found.spec)
        if reason is not None:
            failed.append(
                FailedRelo(slot, kind_name(kind), describe(found.spec), function.name, found.reason or reason)
            )
    return failed
