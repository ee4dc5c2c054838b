"""CO-RE relocations: answers from a target's types, written into instructions.

The rules are libbpf's (its relo_core.c is the reference all loaders follow): which types are candidates, when
fields agree, which instructions take an answer, and that an instruction without one is made invalid, so that
the verifier refuses programs that can reach it and others load.
"""

from __future__ import annotations

import os

from skep.btf import types as t
from skep.errors import BtfError, CoreReloError
from skep.obj.core_cache import Answer, AnswerFile, Key, kernel_identity
from skep.obj.core_patch import POISON, Patch, patch
from skep.obj.linked import FailedRelo

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Final

    from skep.btf import Btf
    from skep.obj.core_spec import Spec
    from skep.obj.spec import SubprogSpec

_SYSFS: Final = "/sys/kernel/btf"


class CoreTarget:
    """The types that relocations are answered from: a kernel's, or where those fail, its modules'.

    Remembers what it was asked, so use one for all programs of an object.
    """

    def __init__(
        self, btf: Btf | Callable[[], Btf], modules: Callable[[], Iterable[Btf]] | None = None
    ) -> None:
        self._types = _Types(btf, (lambda base: modules()) if modules is not None else None)
        #: what answers may be kept on disk under; b"": they are not
        self.identity = b""
        self._resolvers: dict[Btf, Resolver] = {}

    @classmethod
    def kernel(cls) -> CoreTarget:
        """The running kernel and its loaded modules; nothing is read before it is needed."""
        from skep.btf.read import Btf

        self = cls(Btf.kernel)
        self.identity = kernel_identity()
        self._types.modules = _modules
        return self

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> CoreTarget:
        """A file: raw BTF or an ELF file with a ``.BTF`` section."""
        from skep.btf.read import Btf

        return cls(Btf.open(path))

    @property
    def btf(self) -> Btf:
        """The kernel's types. Raises BtfError where there are none."""
        return self._types.btf

    def candidates(self, local: t.Type) -> list[tuple[Btf, int]]:
        """Types of the essential name of ``local`` (``x`` of ``x___flavour``) and of a kind like it."""
        return self._types.candidates(local)

    def resolver(self, local: Btf) -> Resolver:
        """What answers the relocations of an object with these types."""
        found = self._resolvers.get(local)
        if found is None:
            found = self._resolvers[local] = Resolver(local, self._types, self.identity)
        return found


class _Types:
    """The BTFs of a target, apart from what was asked of them: so nothing here refers to itself, and a
    kernel's BTF is unmapped as soon as the target is let go."""

    def __init__(self, btf: Btf | Callable[[], Btf], modules: Callable[[Btf], Iterable[Btf]] | None) -> None:
        self._btf = btf
        self.modules = modules
        self._module_btfs: list[Btf] | None = None
        self._flavours: dict[Btf, dict[str, list[str]]] = {}

    @property
    def btf(self) -> Btf:
        if callable(self._btf):
            self._btf = self._btf()
        return self._btf

    def candidates(self, local: t.Type) -> list[tuple[Btf, int]]:
        found = self._search(self.btf, local)
        if found or self.modules is None:
            return found
        if self._module_btfs is None:
            self._module_btfs = list(self.modules(self.btf))
        for module in self._module_btfs:
            found += self._search(module, local)
        return found

    def _search(self, btf: Btf, local: t.Type) -> list[tuple[Btf, int]]:
        from skep.obj.core_spec import essential, same_kind

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
    from skep.obj.core_spec import essential

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


class Resolver:
    """Answers for one object's types against one target's."""

    def __init__(self, local: Btf, types: _Types, identity: bytes) -> None:
        self.local = local
        self._types = types
        self._candidates: dict[int, list[tuple[Btf, int]]] = {}
        self._file = AnswerFile(local, identity)
        self._answers = self._file.load()
        self._is_new = False

    def resolve(self, key: Key, where: str) -> Answer:
        """The answer to relocation ``key``: type id, offset of the access string, kind.

        Raises CoreReloError, naming ``where``, where libbpf too refuses the object.
        """
        known = self._answers.get(key)
        if known is None:
            known = self._answers[key] = self._resolve(key, where)
            self._is_new = True
        return known

    def keep(self) -> None:
        """Store new answers for the next process."""
        if self._is_new:
            self._is_new = False
            self._file.save(self._answers)

    def spec(self, key: Key, where: str) -> Spec:
        """What relocation ``key`` speaks of."""
        from skep.obj.core_spec import parse

        return parse(self.local, key[0], self.local.strings[key[1]], key[2], where)

    def _resolve(self, key: Key, where: str) -> Answer:
        from skep.obj import core_spec
        from skep.obj.core_match import match
        from skep.obj.core_value import answer, compare_sizes

        spec = self.spec(key, where)
        what = core_spec.describe(spec)
        local_type = self.local[spec.root]
        if spec.kind == core_spec.TYPE_ID_LOCAL:
            return Patch(spec.root, spec.root, validate=False), what, ""
        if not local_type.name:
            raise CoreReloError(f"{where}: {what}: types without a name have no counterpart to be found")
        candidates = self._candidates.get(spec.root)
        if candidates is None:
            candidates = self._candidates[spec.root] = self._types.candidates(local_type)
        original = answer(spec, spec)
        chosen: Patch | None = None
        chosen_spec: Spec | None = None
        fitting: list[tuple[Btf, int]] = []
        reason = f"the target has no {core_spec.essential(self.local.describe(spec.root))}"
        for btf, id in candidates:
            found = match(spec, btf, id)
            if isinstance(found, str):
                reason = found
                continue
            new = answer(spec, found)
            made = Patch(
                original.value,
                new.value,
                original.validate,
                original.size,
                new.size,
                compare_sizes(spec.btf, original, btf, new),
            )
            if chosen is None or chosen_spec is None:
                chosen, chosen_spec = made, found
            elif found.bit_offset != chosen_spec.bit_offset or made.new != chosen.new:
                raise CoreReloError(
                    f"{where}: {what}: the target's types {chosen_spec.root} and {found.root} give "
                    f"different answers ({chosen.new} and {made.new})"
                )
            fitting.append((btf, id))
        if fitting:
            self._candidates[spec.root] = fitting
        if chosen is not None:
            return chosen, what, chosen.reason
        if spec.kind in core_spec.ANSWER_WITHOUT:
            return Patch(original.value, 0, original.validate), what, ""
        return POISON, what, reason


def relocate(
    code: bytearray, base: int, function: SubprogSpec, resolver: Resolver, where: str
) -> list[FailedRelo]:
    """Apply a function's relocations to its copy at slot ``base`` of ``code``.

    Gives those without an answer. Raises CoreReloError for what libbpf refuses altogether, naming ``where``.
    """
    failed: list[FailedRelo] = []
    start = 8 * function.start
    for offset, *rest in function.core_relos:
        if offset % 8:
            raise CoreReloError(f"{where}: a relocation at byte {offset}, which is inside an instruction")
        key = (rest[0], rest[1], rest[2])
        slot = base + (offset - start) // 8
        change, what, why = resolver.resolve(key, where)

        def named(slot: int = slot, key: Key = key, what: str = what) -> str:
            return f"{where}: insn {slot}, {kind_name(key[2])} of {what}"

        reason = patch(code, slot, change, named)
        if reason is not None:
            failed.append(FailedRelo(slot, kind_name(key[2]), what, function.name, why or reason))
    resolver.keep()
    return failed


def kind_name(kind: int) -> str:
    """The relocation's kind as LLVM and libbpf call it."""
    from skep.obj import core_spec

    return core_spec.kind_name(kind)
