"""Reading members of kernel structs through BTF: what lies at an offset, and which structs are nested.

The rules are those of btf_struct_walk in Linux 6.18 (kernel/bpf/btf.c).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from skep.btf import types as t
from skep.errors import BtfError
from skep.verifier import kinds as k

if TYPE_CHECKING:
    from skep.btf import Btf

SCALAR: Final = 0
POINTER: Final = 1
STRUCT: Final = 2
ERROR: Final = 3
#: a pointer to no struct: memory that may be read, and faults quietly (Linux 6.17)
UNTRUSTED: Final = 4

_TAGS: Final = {"user": k.MEM_USER, "percpu": k.MEM_PERCPU, "rcu": k.MEM_RCU}


class Found(NamedTuple):
    """What an access meets. ``what`` is SCALAR, POINTER, STRUCT, ERROR or UNTRUSTED.

    ``btf_id`` is the struct (pointed to), ``flags`` what its pointer's kind gets, ``field`` the
    member's name, ``reason`` the kernel's words for an error.
    """

    what: int
    btf_id: int = 0
    flags: int = 0
    field: str = ""
    reason: str = ""


_SCALAR: Final = Found(SCALAR)
_MODIFIERS: Final = (t.TYPEDEF, t.VOLATILE, t.CONST, t.RESTRICT, t.TYPE_TAG)


def skip_modifiers(btf: Btf, id: int) -> int:
    """The id behind typedefs, qualifiers and tags."""
    for _ in range(64):
        value = btf[id]
        if value[0] not in _MODIFIERS:
            return id
        id = value[2]
    return 0


def is_struct(btf: Btf, id: int) -> bool:
    return btf[id][0] in (t.STRUCT, t.UNION)


def struct_name(btf: Btf, id: int) -> str:
    """A struct's name, through typedefs."""
    name: str = btf[skip_modifiers(btf, id)][1]
    return name


def _shown(name: str) -> str:
    return name or "(anon)"


def _element(btf: Btf, id: int) -> tuple[int, int, int]:
    """(element's id behind modifiers, its id before them, elements) of a possibly nested array."""
    count = 1
    at = skip_modifiers(btf, id)
    before = id
    for _ in range(64):
        value = btf[at]
        if value[0] != t.ARRAY:
            break
        count *= value[4]
        before = value[2]
        at = skip_modifiers(btf, before)
    return at, before, count


def walk(btf: Btf, id: int, off: int, size: int, flags: int, flexible: bool) -> Found:
    """What ``size`` bytes at ``off`` of struct ``id`` are; a nested struct that starts there is a STRUCT.

    ``flags`` is PTR_UNTRUSTED when the walk has gone through a union before. ``flexible``: the elements of a
    trailing array without a size may be reached.
    """
    for _ in range(256):
        id = skip_modifiers(btf, id)
        value = btf[id]
        if value[0] not in (t.STRUCT, t.UNION):
            return Found(ERROR, reason=f"Type '{_shown(value[1])}' is not a struct")
        members = value[3]
        if value[0] == t.UNION and len(members) != 1:
            flags |= k.PTR_UNTRUSTED
        if off + size > value[2]:
            inner = _flexible(btf, value, off) if flexible else None
            if inner is None:
                return Found(
                    ERROR, reason=f"access beyond struct {_shown(value[1])} at off {off} size {size}"
                )
            if btf[inner[0]][0] == t.INT:
                return Found(SCALAR, flags=flags)
            id, off = inner
            continue
        step = _member(btf, value, off, size, flags)
        if isinstance(step, Found):
            return step
        id, off = step
    return Found(ERROR, reason=f"Type '{_shown(btf[id][1])}' is not a struct")


def _flexible(btf: Btf, value: t.Type, off: int) -> tuple[int, int] | None:
    """(element type, offset into it) when ``off`` is in a struct's trailing array without a size."""
    members = value[3]
    if not members:
        return None
    last = members[-1]
    array = btf[skip_modifiers(btf, last[1])]
    if array[0] != t.ARRAY or array[4]:
        return None
    start = last[2] // 8
    if off < start:
        return None
    element = skip_modifiers(btf, array[2])
    row = btf[element]
    if row[0] == t.INT:
        return element, 0
    if row[0] not in (t.STRUCT, t.UNION) or not row[2]:
        return None
    return element, (off - start) % row[2]


def _member(btf: Btf, value: t.Type, off: int, size: int, flags: int) -> Found | tuple[int, int]:
    """The answer, or (nested struct, offset in it)."""
    tname = _shown(value[1])
    for name, type_id, bit_offset, bits in value[3]:
        start = bit_offset // 8
        if off + size <= start:
            break
        if bits:
            if off <= start and (bit_offset + bits + 7) // 8 <= off + size:
                return Found(SCALAR, flags=flags)
            continue
        if off < start:
            break
        member = skip_modifiers(btf, type_id)
        try:
            length = btf.size_of(type_id)
        except BtfError as error:
            return Found(ERROR, reason=f"field {_shown(name)} doesn't have size ({error})")
        end = start + length
        if off >= end:
            continue
        before = type_id
        if btf[member][0] == t.ARRAY:
            member, before, count = _element(btf, type_id)
            if start == end:
                continue
            length //= count
            start += (off - start) // length * length
        kind = btf[member][0]
        if kind in (t.STRUCT, t.UNION):
            if off == start:
                return Found(STRUCT, _named(btf, before), flags, name)
            return member, off - start
        if kind == t.PTR:
            if length != size or off != start:
                return Found(
                    ERROR,
                    reason=f"cannot access ptr member {_shown(name)} with moff {start} in struct {tname} "
                    f"with off {off} size {size}",
                )
            target = btf[member][2]
            tag = btf[target]
            pointed = skip_modifiers(btf, target)
            if btf[pointed][0] in (t.STRUCT, t.UNION):
                more = _TAGS.get(tag[1], 0) if tag[0] == t.TYPE_TAG else 0
                return Found(POINTER, pointed, flags | more, name)
            return Found(UNTRUSTED, flags=flags)
        if off + size > end and not flags & k.PTR_UNTRUSTED:
            return Found(
                ERROR,
                reason=f"access beyond the end of member {_shown(name)} (mend:{end}) in struct {tname} "
                f"with off {off} size {size}",
            )
        return Found(SCALAR, flags=flags)
    return Found(ERROR, reason=f"struct {tname} doesn't have field at offset {off}")


def _named(btf: Btf, id: int) -> int:
    return skip_modifiers(btf, id)


def struct_access(
    btf: Btf, id: int, off: int, size: int, alloc: bool = False, kernel: tuple[int, int] = (6, 18)
) -> Found:
    """What a read of ``size`` bytes at ``off`` of struct ``id`` yields: anything but STRUCT.

    ``alloc``: the object is the program's own (`bpf_obj_new`), whose pointers are only numbers.
    """
    flags = 0
    for _ in range(64):
        found = walk(btf, id, off, size, flags, not alloc)
        if (found.what == POINTER and alloc) or (found.what == UNTRUSTED and kernel < (6, 17)):
            return _SCALAR
        if found.what != STRUCT:
            return found
        id, off, flags = found.btf_id, 0, found.flags
    return Found(ERROR, reason=f"struct {_shown(btf[id][1])} doesn't have field at offset {off}")


def ids_match(
    btf: Btf, id: int, off: int, want_btf: Btf, want: int, strict: bool, flexible: bool = True
) -> bool:
    """Whether a ``want`` starts ``off`` bytes into struct ``id``; with ``strict``, whether ``id`` is one."""
    if off == 0 and same_type(btf, id, want_btf, want):
        return True
    if strict:
        return False
    flags = 0
    for _ in range(64):
        found = walk(btf, id, off, 1, flags, flexible)
        if found.what != STRUCT:
            return False
        id, flags = found.btf_id, found.flags
        if same_type(btf, id, want_btf, want):
            return True
        off = 0
    return False


def same_type(btf: Btf, id: int, other: Btf, other_id: int) -> bool:
    """Whether two ids are one type: the same id, of one BTF or of a module's base."""
    if id != other_id:
        return False
    return btf is other or btf[id] == other[other_id]
