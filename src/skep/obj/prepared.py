"""An `ObjectSpec` as bytes that load in a tenth of a millisecond: no object file's reader is imported for it.

What a cache keeps beside an object, so that a start neither takes the file apart nor decodes its types.
The bytes are `marshal`'s of plain tuples: they hold no code and name no classes, but their maker is not
proved by them. Only take them from where damage and strangers have been kept out (`skep.llvm.cache`).
"""

from __future__ import annotations

import marshal

from skep.obj.spec import BtfEdits, Extern, MapSpec, ObjectSpec, ProgramSpec, Reloc, SubprogSpec
from skep.uapi.enums import AttachType, MapType, ProgType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final, TypeVar

    _T = TypeVar("_T")

#: all that the bytes' meaning depends on here; what was written by other classes than these is not taken
SHAPE: Final = (
    "skep prepared object 1",
    *(cls.__slots__ for cls in (ObjectSpec, ProgramSpec, SubprogSpec, MapSpec, BtfEdits)),
    Reloc._fields,
    Extern._fields,
)
_new: Final = object.__new__


def freeze(spec: ObjectSpec) -> bytes:
    """The bytes of a spec, with its types also as kernels take them.

    Raises BtfError where `kernel_btf` does: such an object loads into no kernel.
    """
    from skep.obj.fixed_btf import kernel_btf

    raw = bytes(spec.btf.raw) if spec.btf is not None else None
    types = {"_btf": raw, "_kernel_btf": None}
    row = [types[name] if name in types else _plain(getattr(spec, name)) for name in ObjectSpec.__slots__]
    return marshal.dumps((SHAPE, row, kernel_btf(spec)))


def _plain(value: Any) -> Any:
    """Tuples of slots instead of specs; of each container and number just the plain one."""
    if isinstance(value, (ProgramSpec, SubprogSpec, MapSpec, BtfEdits)):
        return tuple(_plain(getattr(value, name)) for name in type(value).__slots__)
    if isinstance(value, dict):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return tuple(map(_plain, value))
    if isinstance(value, list):
        return list(map(_plain, value))
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return int(value)
    return value


def thaw(data: bytes) -> ObjectSpec | None:
    """The spec that `freeze` was given; None for bytes of another version's, or of something else."""
    try:
        shape, row, fixed = marshal.loads(data)
        if shape != SHAPE:
            return None
        spec = _filled(ObjectSpec, row)
        raw = spec._btf
        if raw is not None:
            if not isinstance(raw, bytes) or not isinstance(fixed, bytes):
                return None
            spec.put_btf(raw, fixed)
        spec.programs = {key: _program(item) for key, item in spec.programs.items()}
        spec.functions = {key: _function(item) for key, item in spec.functions.items()}
        spec.maps = {key: _map(item) for key, item in spec.maps.items()}
        spec.externs = {key: Extern(*item) for key, item in spec.externs.items()}
        spec.btf_edits = _filled(BtfEdits, spec.btf_edits)
    except (AttributeError, EOFError, TypeError, ValueError):
        return None
    return spec


def _filled(cls: type[_T], row: Any) -> _T:
    made = _new(cls)
    for name, value in zip(cls.__slots__, row, strict=True):  # type: ignore[attr-defined]  # they all have
        setattr(made, name, value)
    return made


def _program(row: Any) -> ProgramSpec:
    made = _filled(ProgramSpec, row)
    made.type = ProgType(made.type)
    if made.attach_type is not None:
        made.attach_type = AttachType(made.attach_type)
    return made


def _function(row: Any) -> SubprogSpec:
    made = _filled(SubprogSpec, row)
    made.relocs = [Reloc(*reloc) for reloc in made.relocs]
    return made


def _map(row: Any) -> MapSpec:
    made = _filled(MapSpec, row)
    try:  # noqa: SIM105 - contextlib is 5 ms of a start
        made.type = MapType(made.type)
    except ValueError:
        pass  # a kind that is newer than this table: kept as its number
    if made.data is not None:
        made.data = bytearray(made.data)
    if made.inner is not None:
        made.inner = _map(made.inner)
    return made
