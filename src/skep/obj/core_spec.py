"""What a CO-RE relocation speaks of: a type, a member or an enumerator, parsed from its access string."""

from __future__ import annotations

from skep.btf import types as t
from skep.btf.ext import RELO_KINDS
from skep.errors import BtfError, CoreReloError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from skep.btf import Btf

FIELD_OFFSET: Final = 0
FIELD_SIZE: Final = 1
FIELD_EXISTS: Final = 2
FIELD_SIGNED: Final = 3
FIELD_LSHIFT: Final = 4
FIELD_RSHIFT: Final = 5
TYPE_ID_LOCAL: Final = 6
TYPE_ID_TARGET: Final = 7
TYPE_EXISTS: Final = 8
TYPE_SIZE: Final = 9
ENUM_EXISTS: Final = 10
ENUM_VALUE: Final = 11
TYPE_MATCHES: Final = 12

FIELD_KINDS: Final = frozenset(
    (FIELD_OFFSET, FIELD_SIZE, FIELD_EXISTS, FIELD_SIGNED, FIELD_LSHIFT, FIELD_RSHIFT)
)
TYPE_KINDS: Final = frozenset((TYPE_ID_LOCAL, TYPE_ID_TARGET, TYPE_EXISTS, TYPE_SIZE, TYPE_MATCHES))
ANSWER_WITHOUT: Final = TYPE_KINDS | {FIELD_EXISTS, ENUM_EXISTS}
"""Kinds whose answer is 0 where the target has no counterpart."""
MAX_DEPTH: Final = 64
_ENUMS: Final = (t.ENUM, t.ENUM64)


def kind_name(kind: int) -> str:
    """The kind as LLVM and libbpf call it."""
    return RELO_KINDS[kind] if kind < len(RELO_KINDS) else f"kind {kind}"


def essential(name: str) -> str:
    """``x`` of ``x___flavour``: the last three underscores in a row that have other characters around."""
    at = name.rfind("___", 1, len(name) - 1)
    while at > 0:
        if name[at - 1] != "_" and name[at + 3] != "_":
            return name[:at]
        at = name.rfind("___", 1, at + 2)
    return name


def same_kind(local: t.Type, other: t.Type) -> bool:
    """Whether types are of one kind; enums of 32 and 64 bits are."""
    return local[0] == other[0] or (local[0] in _ENUMS and other[0] in _ENUMS)


class Step:
    """One meaningful step: a named member ``name``, number ``index`` of ``type_id``, or element ``index``."""

    __slots__ = ("index", "name", "type_id")

    def __init__(self, type_id: int, index: int, name: str | None = None) -> None:
        self.type_id = type_id
        self.index = index
        self.name = name


class Spec:
    """A path into type ``root``: its steps, and where it ends, in bits from the start."""

    __slots__ = ("bit_offset", "btf", "depth", "kind", "root", "steps")

    def __init__(self, btf: Btf, root: int, kind: int) -> None:
        self.btf = btf
        self.root = root
        self.kind = kind
        self.steps: list[Step] = []
        self.bit_offset = 0
        #: steps counting those through anonymous members
        self.depth = 0


def parse(btf: Btf, type_id: int, access: str, kind: int, where: str) -> Spec:
    """The spec of an access string, ``0:1:2`` for ``&p[0].member1.member2``.

    Raises CoreReloError for one that does not fit the type.
    """

    def wrong(reason: str) -> CoreReloError:
        return CoreReloError(f"{where}: {kind_name(kind)} of {btf.describe(type_id)} at {access!r}: {reason}")

    spec = Spec(btf, type_id, kind)
    if kind in TYPE_KINDS:
        if access != "0":
            raise wrong("type relocations have access string 0")
        return spec
    indices = _numbers(access)
    if not indices or len(indices) > MAX_DEPTH:
        raise wrong(f"the access string is not 1 to {MAX_DEPTH} numbers")
    id = btf.resolve(type_id)
    first = indices[0]
    spec.depth = len(indices)
    if kind in (ENUM_EXISTS, ENUM_VALUE):
        value = btf[id]
        if not isinstance(value, t.Enumeration) or len(indices) > 1 or first >= len(value.values):
            raise wrong("there is no such enumerator")
        spec.steps.append(Step(id, first, value.values[first].name))
        return spec
    if kind not in FIELD_KINDS:
        raise wrong("this kind of relocation is unknown")
    spec.steps.append(Step(id, first))
    try:
        spec.bit_offset = 8 * first * btf.size_of(id)
        for index in indices[1:]:
            id = btf.resolve(id)
            value = btf[id]
            if isinstance(value, t.Composite):
                if index >= len(value.members):
                    raise wrong(f"{btf.describe(id)} has {len(value.members)} members")
                name, member_type, bit_offset, _ = value.members[index]
                spec.bit_offset += bit_offset
                if name:
                    spec.steps.append(Step(id, index, name))
                id = member_type
            elif isinstance(value, t.Array):
                if index >= value.nelems and not is_flexible(btf, spec.steps[-1], value):
                    raise wrong(f"an array of {value.nelems}")
                id = btf.resolve(value.type)
                spec.steps.append(Step(id, index))
                spec.bit_offset += 8 * index * btf.size_of(id)
            else:
                raise wrong(f"{btf.describe(id)} has no members")
    except BtfError as error:
        raise wrong(error.reason) from None
    return spec


def _numbers(access: str) -> list[int]:
    parts = access.split(":")
    if not all(part.isascii() and part.isdigit() and len(part) < 10 for part in parts):
        return []
    return [int(part) for part in parts]


def is_flexible(btf: Btf, step: Step, array: t.Array) -> bool:
    """Whether an array is a last member without elements, whose length is known at run time only."""
    if step.name is None or array.nelems:
        return False
    return step.index == len(btf[step.type_id][3]) - 1


def describe(spec: Spec) -> str:
    """``struct task_struct.comm[3]``, ``enum bpf_cmd::BPF_MAP_CREATE``: the spec as C has it."""
    root = spec.btf.describe(spec.root)
    if spec.kind in TYPE_KINDS:
        return root
    if spec.kind in (ENUM_EXISTS, ENUM_VALUE):
        return f"{root}::{spec.steps[0].name}"
    text = root
    for number, step in enumerate(spec.steps):
        if step.name is not None:
            text += f".{step.name}"
        elif number or step.index:
            text += f"[{step.index}]"
    return text
