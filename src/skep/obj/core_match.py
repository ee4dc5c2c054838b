"""Whether a target's type answers a spec: by member names, and types that agree as libbpf asks."""

from __future__ import annotations

from skep.btf import types as t
from skep.errors import BtfError, CoreReloError
from skep.obj.core_spec import (
    ENUM_EXISTS,
    ENUM_VALUE,
    MAX_DEPTH,
    TYPE_KINDS,
    TYPE_MATCHES,
    Spec,
    Step,
    essential,
    is_flexible,
    same_kind,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from skep.btf import Btf

_ENUMS: Final = (t.ENUM, t.ENUM64)
_COMPOSITES: Final = (t.STRUCT, t.UNION)
MAX_LEVELS: Final = 32


def match(local: Spec, btf: Btf, id: int) -> Spec | str:
    """The path in target type ``id`` that corresponds to ``local``, or why there is none."""
    found = Spec(btf, id, local.kind)
    if local.kind in TYPE_KINDS:
        if local.kind == TYPE_MATCHES:
            fits = _types_match(local.btf, local.root, btf, id, False, MAX_LEVELS)
        else:
            fits = types_agree(local.btf, local.root, btf, id, MAX_LEVELS)
        return found if fits else f"the target's {btf.describe(id)} differs"
    if local.kind in (ENUM_EXISTS, ENUM_VALUE):
        return _match_enumerator(local, found)
    try:
        return _match_path(local, found)
    except BtfError as error:
        raise CoreReloError(f"the target's {btf.describe(id)}: {error.reason}") from None


def _match_enumerator(local: Spec, found: Spec) -> Spec | str:
    btf = found.btf
    id = btf.resolve(found.root)
    value = btf[id]
    wanted = essential(local.steps[0].name or "")
    if isinstance(value, t.Enumeration):
        for index, item in enumerate(value.values):
            if essential(item.name) == wanted:
                found.steps.append(Step(id, index, item.name))
                return found
    return f"the target's {btf.describe(found.root)} has no {wanted}"


def _match_path(local: Spec, found: Spec) -> Spec | str:
    btf = found.btf
    id = found.root
    for number, step in enumerate(local.steps):
        id = btf.resolve(id)
        if step.name is not None:
            member = local.btf[step.type_id][3][step.index]
            outer = id
            result = _find_member(local.btf, member, btf, id, found)
            if result is None:
                return f"the target's {btf.describe(outer)} has no {step.name}"
            if result < 0:
                return f"the target's {btf.describe(outer)} has a {step.name} of another kind of type"
            id = result
            continue
        if number:
            value = btf[id]
            if not isinstance(value, t.Array):
                return f"the target's {btf.describe(id)} is no array"
            if step.index >= value.nelems and not is_flexible(btf, found.steps[-1], value):
                return f"the target's array has {value.nelems} elements"
            id = btf.resolve(value.type)
        if found.depth >= MAX_DEPTH:
            raise CoreReloError(f"more than {MAX_DEPTH} steps to a field")
        found.depth += 1
        found.steps.append(Step(id, step.index))
        found.bit_offset += 8 * step.index * btf.size_of(id)
    return found


def _find_member(local: Btf, member: t.Member, btf: Btf, id: int, found: Spec) -> int | None:
    """Go to the member of that name, anonymous ones looked through: the id of its type.

    None when there is none, -1 when its type does not agree.
    """
    id = btf.resolve(id)
    value = btf[id]
    if not isinstance(value, t.Composite):
        return None
    name = member.name
    if found.depth >= MAX_DEPTH:
        raise CoreReloError(f"more than {MAX_DEPTH} steps to {name}")
    for index, (other, type_id, bit_offset, _) in enumerate(value.members):
        if other and other != name:
            continue
        found.depth += 1
        found.bit_offset += bit_offset
        if not other:
            inner = _find_member(local, member, btf, type_id, found)
            if inner is not None:
                return inner
        else:
            found.steps.append(Step(id, index, other))
            if _fields_agree(local, member.type, btf, type_id):
                return int(type_id)
            found.steps.pop()
            return -1
        found.depth -= 1
        found.bit_offset -= bit_offset
    return None


def _plain_int(value: t.Type) -> bool:
    return isinstance(value, t.Int) and value.bits_offset == 0


def _fields_agree(local: Btf, local_id: int, btf: Btf, id: int) -> bool:
    """Whether fields of these types stand for each other: sizes and signs do not matter, kinds do."""
    while True:
        ours, theirs = local[local.resolve(local_id)], btf[btf.resolve(id)]
        kind = ours[0]
        if kind in _COMPOSITES and theirs[0] in _COMPOSITES:
            return True
        if not same_kind(ours, theirs):
            return False
        if kind in (t.PTR, t.FLOAT):
            return True
        if kind == t.FWD or kind in _ENUMS:
            one, other = essential(ours.name), essential(theirs.name)
            return not one or not other or one == other
        if kind == t.INT:
            return _plain_int(ours) and _plain_int(theirs)
        if kind != t.ARRAY:
            return False
        local_id, id = ours[2], theirs[2]


def types_agree(
    local: Btf, local_id: int, btf: Btf, id: int, level: int = MAX_LEVELS, *, forward: bool = False
) -> bool:
    """Whether root types stand for each other (existence and size): kinds, through pointers and arrays.

    With ``forward`` a struct that is only declared stands for one that is defined, which libbpf refuses.
    """
    if level <= 0:
        raise CoreReloError(f"types nested more than {MAX_LEVELS} deep cannot be compared")
    if not same_kind(local[local_id], btf[id]):
        return False
    for _ in range(MAX_LEVELS):
        ours, theirs = local[local.resolve(local_id)], btf[btf.resolve(id)]
        kind = ours[0]
        if forward and t.FWD in (kind, theirs[0]) and {kind, theirs[0]} <= {t.FWD, t.STRUCT, t.UNION}:
            return True
        if not same_kind(ours, theirs):
            return False
        if kind in (t.VOID, t.STRUCT, t.UNION, t.FWD) or kind in _ENUMS:
            return True
        if kind == t.INT:
            return _plain_int(ours) and _plain_int(theirs)
        if kind in (t.PTR, t.ARRAY):
            local_id, id = ours[2], theirs[2]
        elif isinstance(ours, t.FuncProto) and isinstance(theirs, t.FuncProto):
            if len(ours.params) != len(theirs.params):
                return False
            for one, other in zip(ours.params, theirs.params, strict=True):
                mine, other_id = local.resolve(one.type), btf.resolve(other.type)
                if not types_agree(local, mine, btf, other_id, level - 1, forward=forward):
                    return False
            local_id, id = ours.type, theirs.type
        else:
            return False
    raise CoreReloError(f"types nested more than {MAX_LEVELS} deep cannot be compared")


def _same_name(ours: str, theirs: str) -> bool:
    if not theirs:
        return not ours
    return essential(ours) == essential(theirs)


def _types_match(local: Btf, local_id: int, btf: Btf, id: int, behind: bool, level: int) -> bool:
    """Whether types are the same in all that the local one has (``bpf_core_type_matches``).

    ``behind`` a pointer, names and kinds of structs suffice.
    """
    if level <= 0:
        raise CoreReloError(f"types nested more than {MAX_LEVELS} deep cannot be compared")
    for _ in range(MAX_LEVELS):
        ours, theirs = local[local.resolve(local_id)], btf[btf.resolve(id)]
        if not _same_name(ours.name, theirs.name):
            return False
        kind, other = ours[0], theirs[0]
        if kind in _ENUMS:
            return other in _ENUMS and _enums_match(ours, theirs)
        if kind == t.FWD:
            if other == t.FWD:
                return bool(ours[2] == theirs[2])
            return behind and bool(other == (t.UNION if ours[2] else t.STRUCT))
        if kind in _COMPOSITES:
            if behind:
                return bool(other == kind or (other == t.FWD and theirs[2] == (kind == t.UNION)))
            return other == kind and _members_match(local, ours, btf, theirs, level)
        if kind != other:
            return False
        if kind == t.VOID:
            return True
        if isinstance(ours, t.Int) and isinstance(theirs, t.Int):
            return ours.size == theirs.size and ours.signed == theirs.signed
        if kind == t.PTR:
            behind = True
            local_id, id = ours[2], theirs[2]
        elif isinstance(ours, t.Array):
            if ours.nelems != theirs[4]:
                return False
            local_id, id = ours.type, theirs[2]
        elif isinstance(ours, t.FuncProto) and isinstance(theirs, t.FuncProto):
            if len(ours.params) != len(theirs.params):
                return False
            for one, two in zip(ours.params, theirs.params, strict=True):
                if not _types_match(local, one.type, btf, two.type, behind, level - 1):
                    return False
            local_id, id = ours.type, theirs.type
        else:
            return False
    raise CoreReloError(f"types nested more than {MAX_LEVELS} deep cannot be compared")


def _enums_match(ours: t.Type, theirs: t.Type) -> bool:
    if ours[2] != theirs[2] or len(ours[3]) > len(theirs[3]):
        return False
    names = {essential(item[0]) for item in theirs[3]}
    return all(essential(item[0]) in names for item in ours[3])


def _members_match(local: Btf, ours: t.Type, btf: Btf, theirs: t.Type, level: int) -> bool:
    if len(ours[3]) > len(theirs[3]):
        return False
    for member in ours[3]:
        if not any(
            _same_name(member[0], other[0])
            and _types_match(local, member[1], btf, other[1], False, level - 1)
            for other in theirs[3]
        ):
            return False
    return True
