"""Pointers, and the objects that live in stack slots: immutable, pointers interned."""

from __future__ import annotations

from skep.btf.read import Btf
from skep.verifier import kinds as k
from skep.verifier.scalar import Scalar
from skep.verifier.value import Value


class Ptr(Value):
    """A pointer ``off + var`` bytes into what its kind says. Immutable and interned by `Ptrs`.

    ``id`` joins pointers that a test for NULL or a packet bound tells about together, ``ref`` is the
    reference that must be released. ``aux`` depends on the kind: packet range, frame number (stack), size
    (mem), map uid (map kinds), BTF type id (BTF kinds), subprogram number (func), dynptr type (dynptr).
    ``obj`` is the `MapFacts`, or the `Btf` of a BTF id. ``dyn`` is the id of the dynptr of a slice.
    """

    __slots__ = ("aux", "dyn", "id", "num", "obj", "off", "ref", "var")

    def __init__(
        self,
        num: int,
        type: int,
        off: int,
        var: Scalar,
        id: int,
        ref: int,
        aux: int,
        obj: object,
        dyn: int,
    ) -> None:
        self.num = num
        self.type = type
        self.off = off
        self.var = var
        self.id = id
        self.ref = ref
        self.aux = aux
        self.obj = obj
        self.dyn = dyn

    def __repr__(self) -> str:
        var = "" if self.var.const and not self.var.tv else f" var={self.var!r}"
        ids = (f" id={self.id}" if self.id else "") + (f" ref={self.ref}" if self.ref else "")
        return f"Ptr({k.kind_name(self.type)} off={self.off}{var}{ids} aux={self.aux})"


def btf_of(p: Ptr) -> Btf:
    """The types that ``aux`` of a BTF kind's pointer counts in."""
    assert isinstance(p.obj, Btf)
    return p.obj


class Dynptr(Value):
    """Half of a dynptr in a stack slot. ``kind`` is the DYNPTR_TYPE flag's number (enum bpf_dynptr_type)."""

    __slots__ = ("first", "id", "kind", "rdonly", "ref")

    def __init__(self, kind: int, first: bool, id: int, ref: int, rdonly: bool = False) -> None:
        self.type = k.CONST_PTR_TO_DYNPTR
        self.kind = kind
        self.first = first
        self.id = id
        self.ref = ref
        self.rdonly = rdonly


class IterSlot(Value):
    """One slot of an open-coded iterator. ``state``: 0 not the first slot, 1 active, 2 drained."""

    __slots__ = ("btf", "btf_id", "depth", "ref", "state")

    def __init__(self, btf: Btf, btf_id: int, state: int, depth: int, ref: int, flags: int = 0) -> None:
        self.type = k.PTR_TO_STACK | flags
        self.btf = btf
        self.btf_id = btf_id
        self.state = state
        self.depth = depth
        self.ref = ref


class IrqFlag(Value):
    """A saved interrupt state. ``kfunc_class``: 0 native, 1 of a lock."""

    __slots__ = ("kfunc_class", "ref")

    def __init__(self, ref: int, kfunc_class: int) -> None:
        self.type = k.PTR_TO_STACK
        self.ref = ref
        self.kfunc_class = kfunc_class


_Key = tuple[int, int, int, int, int, int, int, int]


class Ptrs:
    """The interned pointers of one check."""

    __slots__ = ("_keep", "_table", "zero")

    def __init__(self, zero: Scalar) -> None:
        self._table: dict[_Key, Ptr] = {}
        self._keep: dict[int, object] = {}  # objects named by id() in keys must not go away
        self.zero = zero

    def make(
        self,
        type: int,
        off: int = 0,
        var: Scalar | None = None,
        id: int = 0,
        ref: int = 0,
        aux: int = 0,
        obj: object = None,
        dyn: int = 0,
    ) -> Ptr:
        """The pointer with exactly these fields."""
        if var is None:
            var = self.zero
        number = 0
        if obj is not None:
            number = _identity(obj)
            self._keep[number] = obj
        key = (type, off, var.num, id, ref, aux, number, dyn)
        found = self._table.get(key)
        if found is None:
            found = Ptr(len(self._table), type, off, var, id, ref, aux, obj, dyn)
            self._table[key] = found
        return found

    def retype(self, p: Ptr, type: int) -> Ptr:
        """``p`` as kind ``type``."""
        return self.make(type, p.off, p.var, p.id, p.ref, p.aux, p.obj, p.dyn)

    def moved(self, p: Ptr, off: int, var: Scalar, id: int, aux: int) -> Ptr:
        """``p`` elsewhere in its object."""
        return self.make(p.type, off, var, id, p.ref, aux, p.obj, p.dyn)

    def with_ids(self, p: Ptr, id: int, ref: int) -> Ptr:
        """``p`` with other ids."""
        return self.make(p.type, p.off, p.var, id, ref, p.aux, p.obj, p.dyn)


def _identity(obj: object) -> int:
    return id(obj)
