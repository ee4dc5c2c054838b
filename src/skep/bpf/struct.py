"""Structs and unions: classes whose annotations are their fields.

The decorator records the class and gives it a constructor; the layout is C's, made by the compiler.
"""

from __future__ import annotations

import sys

from skep.bpf.types import ArrayType, BitsType, BpfType, BytesType, CharType, IntType, LpmType
from skep.errors import SkepError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class StructInfo:
    """What a decorated class declares: kept in its ``__bpf__``. ``fields`` resolves when first asked."""

    __slots__ = ("_fields", "align", "cls", "kernel", "name", "packed", "union")

    def __init__(self, cls: type, *, union: bool, packed: bool, kernel: str | None, align: int) -> None:
        self.cls = cls
        self.name = kernel or cls.__name__
        self.union = union
        self.packed = packed
        #: the kernel's own name of this type when it is one of the kernel's
        self.kernel = kernel
        self.align = align
        self._fields: list[tuple[str, Any]] | None = None

    @property
    def fields(self) -> list[tuple[str, Any]]:
        """(name, type record or class) in order. Raises SkepError for an annotation that is no type."""
        if self._fields is None:
            self._fields = _fields_of(self.cls)
        return self._fields


def annotations_of(owner: Any, scope: dict[str, Any]) -> dict[str, Any]:
    """Annotations of a class or module, those that are text evaluated in ``scope``."""
    found = owner.__dict__.get("__annotations__")  # noqa: RUF063 - inspect is 20 ms of a warm start
    if found is None:  # Python 3.14 makes them when asked
        found = getattr(owner, "__annotations__", None) or {}
    made = {}
    for name, value in found.items():
        if isinstance(value, str):
            try:
                value = eval(value, scope)
            except Exception as error:  # the user's own text
                raise SkepError(
                    f"{getattr(owner, '__name__', owner)}.{name}: {value!r} names no type ({error})"
                ) from None
        made[name] = value
    return made


def _fields_of(cls: type) -> list[tuple[str, Any]]:
    scope = vars(sys.modules[cls.__module__]) if cls.__module__ in sys.modules else {}
    fields: list[tuple[str, Any]] = []
    for base in reversed(cls.__mro__):
        if base is object:
            continue
        for name, annotation in annotations_of(base, scope).items():
            given = base.__dict__.get(name)
            fields.append((name, given if isinstance(given, BpfType) else annotation))
    if not fields:
        raise SkepError(f"struct {cls.__name__} has no fields: write them as annotations (pid: u32)")
    return fields


def _zero(kind: Any) -> Any:
    if isinstance(kind, (IntType, BitsType)):
        return 0
    if isinstance(kind, (CharType, BytesType)):
        return b""
    if isinstance(kind, ArrayType):
        return [_zero(kind.of) for _ in range(kind.count)]
    if isinstance(kind, LpmType):
        return (0, _zero(kind.of))
    if isinstance(kind, type) and "__bpf__" in kind.__dict__:
        return kind()
    return 0


class _Methods:
    """What every struct class can do in Python itself; copied into the class by `struct`."""

    def __init__(self, *args: Any, **values: Any) -> None:
        info = type(self).__dict__["__bpf__"]
        names = [name for name, _ in info.fields]
        if len(args) > len(names):
            raise SkepError(f"{info.name} has {len(names)} fields, {len(args)} values were given")
        given = dict(zip(names, args, strict=False))
        for name, value in values.items():
            if name not in names or name in given:
                raise SkepError(f"{info.name}: {'given twice' if name in given else 'no field'}: {name!r}")
            given[name] = value
        for name, kind in info.fields:
            setattr(self, name, given[name] if name in given else _zero(kind))

    def _asdict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name, _ in type(self).__dict__["__bpf__"].fields}

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.__dict__ == self.__dict__

    def __hash__(self) -> int:
        return hash(tuple(self.__dict__.values()))

    def __iter__(self) -> Any:
        return iter(self._asdict().values())

    def __repr__(self) -> str:
        inside = ", ".join(f"{name}={value!r}" for name, value in self._asdict().items())
        return f"{type(self).__name__}({inside})"


_COPIED = ("__init__", "_asdict", "__eq__", "__hash__", "__iter__", "__repr__")


def _decorate(cls: type, union: bool, packed: bool, kernel: str | None, align: int) -> type:
    for name in _COPIED:
        if name not in cls.__dict__ or name == "__hash__":
            setattr(cls, name, _Methods.__dict__[name])
    cls.__bpf__ = StructInfo(cls, union=union, packed=packed, kernel=kernel, align=align)  # type: ignore[attr-defined]  # of a class that is not ours
    return cls


def struct(
    cls: type | None = None, *, packed: bool = False, kernel: str | None = None, align: int = 0
) -> Any:
    """Declare a struct. ``packed`` leaves no padding; ``kernel`` is the kernel's name of the same type."""
    if cls is not None:
        return _decorate(cls, False, packed, kernel, align)
    return lambda cls: _decorate(cls, False, packed, kernel, align)


class Struct:
    """Declares a struct as `struct` does: ``class Event(bpf.Struct): pid: u32``.

    Type checkers let fields be left out of ``Event(…)`` then, and do not look at those that are given.
    """

    def __init_subclass__(
        cls, *, packed: bool = False, kernel: str | None = None, align: int = 0, **unknown: object
    ) -> None:
        if unknown:
            raise SkepError(f"{cls.__name__}: a struct has no option {next(iter(unknown))!r}")
        _decorate(cls, False, packed, kernel, align)


def union(cls: type | None = None, *, packed: bool = False, kernel: str | None = None, align: int = 0) -> Any:
    """Declare a union: all fields start at the same byte."""
    if cls is not None:
        return _decorate(cls, True, packed, kernel, align)
    return lambda cls: _decorate(cls, True, packed, kernel, align)


def enum(cls: Any) -> Any:
    """The storage of an `enum.IntEnum`: ``@bpf.enum(u8)`` above the class; without it enums are u32."""
    if not isinstance(cls, IntType):
        return cls

    def decorate(of: Any) -> Any:
        of.__bpf_int__ = cls
        return of

    return decorate


def zero(of: Any, /, **fields: object) -> Any:
    """A struct of zeros with some fields set: ``of(...)``, of which type checkers want every field."""
    return of(**fields)
