"""The number that answers a relocation: an offset, a size, a shift, an id or an enumerator's value."""

from __future__ import annotations

from skep.btf import types as t
from skep.errors import BtfError, CoreReloError
from skep.obj.core_spec import (
    ENUM_EXISTS,
    FIELD_EXISTS,
    FIELD_KINDS,
    FIELD_LSHIFT,
    FIELD_OFFSET,
    FIELD_RSHIFT,
    FIELD_SIGNED,
    FIELD_SIZE,
    TYPE_ID_TARGET,
    TYPE_KINDS,
    TYPE_SIZE,
    Spec,
    describe,
    kind_name,
)
from skep.plain import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from skep.btf import Btf

_U64: Final = (1 << 64) - 1


class Value(NamedTuple):
    """``value``, unsigned 64 bits. ``validate``: the instruction must hold it before it is patched.

    For offsets of whole fields: ``size`` in bytes of what a load takes (of an array, an element), and its
    ``type_id``.
    """

    value: int
    validate: bool = True
    size: int = 0
    type_id: int = 0


def answer(local: Spec, spec: Spec) -> Value:
    """What ``spec`` (of the target, or ``local`` itself) gives for the relocation that ``local`` is."""
    kind = local.kind
    try:
        if kind in TYPE_KINDS:
            if kind == TYPE_SIZE:
                return Value(spec.btf.size_of(spec.root))
            return Value(spec.root, validate=False) if kind == TYPE_ID_TARGET else Value(1)
        if kind in FIELD_KINDS:
            return _field(spec, kind)
        if kind == ENUM_EXISTS:
            return Value(1)
        step = spec.steps[0]
        return Value(spec.btf[step.type_id][3][step.index][1] & _U64)
    except BtfError as error:
        raise CoreReloError(f"{describe(spec)}: {error.reason}") from None


def _element_size(btf: Btf, id: int) -> int:
    """The size of a type; of arrays of arrays, of an element."""
    id = btf.resolve(id)
    while isinstance(array := btf[id], t.Array):
        id = btf.resolve(array.type)
    return btf.size_of(id)


def _field(spec: Spec, kind: int) -> Value:
    if kind == FIELD_EXISTS:
        return Value(1)
    btf = spec.btf
    step = spec.steps[-1]
    if step.name is None:
        if kind == FIELD_OFFSET:
            return Value(spec.bit_offset // 8, size=_element_size(btf, step.type_id), type_id=step.type_id)
        if kind == FIELD_SIZE:
            return Value(btf.size_of(step.type_id))
        raise CoreReloError(f"{kind_name(kind)} of {describe(spec)}: array elements have none")
    member = btf[step.type_id][3][step.index]
    id = btf.resolve(member[1])
    bit, bits = spec.bit_offset, member[3]
    is_bitfield = bits > 0
    if is_bitfield:
        byte, size = _bitfield(spec, btf[id][2], bits)
    else:
        size = btf.size_of(id)
        byte, bits = bit // 8, 8 * size
    if kind == FIELD_OFFSET:
        if is_bitfield:
            return Value(byte, validate=False)
        return Value(byte, size=_element_size(btf, id), type_id=id)
    if kind == FIELD_SIZE:
        return Value(size, validate=not is_bitfield)
    if kind == FIELD_SIGNED:
        value = btf[id]
        if isinstance(value, t.Enumeration):
            return Value(int(value.signed))
        return Value(int(isinstance(value, t.Int) and value.signed))
    if kind == FIELD_LSHIFT:
        shift = 64 - (bit + bits - 8 * byte) if btf.order == "<" else (8 - size) * 8 + (bit - 8 * byte)
        return Value(shift & _U64, validate=not is_bitfield)
    assert kind == FIELD_RSHIFT
    return Value(64 - bits & _U64)


def _bitfield(spec: Spec, size: int, bits: int) -> tuple[int, int]:
    """Byte offset and size of the smallest aligned integer that holds the whole bitfield."""
    bit = spec.bit_offset
    if size not in (1, 2, 4, 8):
        raise CoreReloError(f"{describe(spec)}: a bitfield of a type of {size} bytes")
    byte = bit // 8 // size * size
    while bit + bits - 8 * byte > 8 * size:
        if size >= 8:
            raise CoreReloError(f"{describe(spec)}: a bitfield that no 64-bit load can read")
        size *= 2
        byte = bit // 8 // size * size
    return byte, size


def compare_sizes(local: Btf, old: Value, btf: Btf, new: Value) -> str:
    """Why a load of the field cannot take the target's size instead; "" where it can.

    Pointers can (a 32-bit kernel's are half as wide), and unsigned integers: both are extended by zeros.
    """
    if old.size == new.size:
        return ""
    ours, theirs = local[old.type_id], btf[new.type_id]
    if ours[0] == theirs[0] == t.PTR:
        return ""
    if isinstance(ours, t.Int) and isinstance(theirs, t.Int) and t.SIGNED not in (ours[3], theirs[3]):
        return ""
    return f"it has {old.size} bytes here and {new.size} in the target, and is no unsigned integer"
