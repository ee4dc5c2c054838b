"""Type records and annotations to storage types."""

from __future__ import annotations

import ast
import enum
import sys
from typing import TYPE_CHECKING, Any

from skep.bpf import types as t
from skep.bpf.programs import Hook
from skep.errors import CompileError, SkepError
from skep.lang.aggregates import ArrayStorage, StructStorage, TextStorage
from skep.lang.layout import BoolStorage, EnumStorage, IntStorage, OpaqueStorage, PointerStorage, Storage

if TYPE_CHECKING:
    from collections.abc import Callable

_BOOL = BoolStorage()


class Namespace:
    """Storage types by record, each made once. ``kernel`` resolves names of the kernel's types."""

    def __init__(self, kernel: Callable[[Any], Storage | None]) -> None:
        self._known: dict[int, tuple[Any, Storage]] = {}
        self._kernel = kernel
        self._making: list[Any] = []

    def storage(self, record: Any) -> Storage:
        """The storage of a type record or class. Raises SkepError for what is no type."""
        known = self._known.get(id(record))
        if known is not None:
            return known[1]
        if record in self._making:
            raise SkepError(f"struct {record.__name__} contains itself: use bpf.ptr, or an index")
        self._making.append(record)
        try:
            made = self._make(record)
        finally:
            self._making.pop()
        self._known[id(record)] = (record, made)
        return made

    def _make(self, record: Any) -> Storage:
        if isinstance(record, t.IntType):
            return IntStorage(record)
        if record is int:
            return self.storage(t.s64)
        if record is bool:
            return _BOOL
        if isinstance(record, t.CharType):
            return TextStorage(record.size, True)
        if isinstance(record, t.BytesType):
            return TextStorage(record.size, False)
        if isinstance(record, t.ArrayType):
            of = self.storage(record.of)
            if of.size * record.count >= 1 << 32:
                raise SkepError(f"{record!r} is larger than 4 GiB")
            return ArrayStorage(of, record.count)
        if isinstance(record, t.LpmType):
            return StructStorage(
                "lpm_key", [("prefixlen", self.storage(t.u32), 0), ("data", self.storage(record.of), 0)]
            )
        if isinstance(record, t.PointerType):
            to = _struct_of(record.of)
            kernel = isinstance(to, t.Named) or getattr(getattr(to, "__bpf__", None), "kernel", None)
            if kernel and (pointer := self._kernel(to)) is not None:
                return pointer
            return PointerStorage(None if record.of is None else self.storage(record.of))
        if isinstance(record, t.Kptr):
            kept = self._kernel(record)
            if kept is None:
                raise SkepError(
                    f"{record!r} holds no struct of the kernel's: write bpf.Kptr[bpf.task_struct]"
                )
            return kept
        if isinstance(record, t.ArenaPtr):
            from skep.lang.arena import ArenaPointerStorage

            return ArenaPointerStorage(_name(record.of), lambda: self.storage(record.of))
        if isinstance(record, t.ListHead):
            head = self._kernel(record)
            assert head is not None
            return head
        if isinstance(record, t.KernelStruct):
            return OpaqueStorage(record.name, record.size, record.align)
        if isinstance(record, type):
            if "__bpf__" in record.__dict__:
                return self._struct(record)
            if issubclass(record, enum.IntEnum):
                return EnumStorage(record, getattr(record, "__bpf_int__", t.u32))
        if isinstance(to := _struct_of(record), t.Named):
            found = self._kernel(to)
            if found is not None:
                return found
        raise SkepError(f"{_name(record)} is no type that has a size in memory{_hint(record)}")

    def _struct(self, cls: Any) -> StructStorage:
        info = cls.__dict__["__bpf__"]
        for name in (info.name, *(name for name, _ in info.fields)):
            if len(name) > 127:
                raise SkepError(f"{name[:32]!r}... names a type or field: kernels take 127 bytes")
            if not name.isascii():
                raise SkepError(f"{name!r} names a type or field: kernels take ASCII letters, digits, _ only")
        fields = []
        for name, record in info.fields:
            if isinstance(record, t.ArenaPtr) and isinstance(record.of, str):
                record.of = _named(cls, record.of)
            bits = isinstance(record, t.BitsType)
            try:
                fields.append(
                    (name, self.storage(record.of if bits else record), record.width if bits else 0)
                )
            except SkepError as error:
                raise SkepError(f"{cls.__name__}.{name}: {error}") from None
        return StructStorage(
            info.name, fields, union=info.union, packed=info.packed, align=info.align, cls=cls
        )


def _named(cls: Any, name: str) -> Any:
    """What a name stands for in the module of a class."""
    found = cls if name == cls.__name__ else vars(sys.modules[cls.__module__]).get(name)
    if found is None:
        raise SkepError(f"{cls.__name__}: {name!r} names no type of its module")
    return found


def _struct_of(record: Any) -> Any:
    """The name of the struct that a hook is called like (``bpf.socket``)."""
    return t.Named(record.name) if isinstance(record, Hook) else record


def _name(record: Any) -> str:
    return getattr(record, "__name__", None) or repr(record)


def _hint(record: Any) -> str:
    if record in (bytes, str, bytearray):
        return ": say how long, text: bytes = bpf.char(16); an address is a u64"
    if getattr(record, "__origin__", record) in (list, tuple):
        return ": say how many, numbers: list[u32] = bpf.array(u32, 16)"
    if record is float:
        return ": programs have no floating-point numbers"
    if isinstance(record, str):
        return ": write the type itself, without quotes"
    if isinstance(record, type):
        return f": write @bpf.struct above class {record.__name__}, and its fields as annotations"
    if isinstance(record, t.Optional):
        return ": fields cannot be None"
    return ""


def evaluate(scope: Any, node: ast.expr) -> Any:
    """What an annotation in the source stands for. Raises CompileError."""
    text = ast.unparse(node)
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        text = node.value
    try:
        return eval(text, scope.globals, scope.closure)
    except Exception as error:  # the user's own text
        raised: CompileError = scope.file.error(
            node, f"this annotation names no type ({error})", "import it in the module"
        )
        raise raised from None


def annotation(scope: Any, name: str) -> Any:
    """The annotation of a parameter, or of "return"; None without one."""
    found = scope.fn.__annotations__.get(name)
    if isinstance(found, str):
        tree = ast.parse(found, mode="eval").body
        args = scope.node.args
        for arg in [*args.posonlyargs, *args.args, *args.kwonlyargs]:
            if arg.arg == name and arg.annotation is not None:
                return evaluate(scope, arg.annotation)
        return evaluate(scope, scope.node.returns or tree)
    return found


def unwrap(record: Any) -> tuple[Any, bool]:
    """(T, True) of ``T | None``, else (record, False)."""
    if isinstance(record, t.Optional):
        return record.of, True
    parts = getattr(record, "__args__", None)
    if parts is not None and type(None) in parts and len(parts) == 2:
        return next(part for part in parts if part is not type(None)), True
    return record, False
