"""Global variables: ``.data``, ``.bss``, ``.rodata``."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any

from skep.bpf.globals import Global
from skep.bpf.maps import Map
from skep.bpf.struct import annotations_of
from skep.bpf.types import ArrayType, BytesType, CharType, array
from skep.errors import SkepError
from skep.lang.aggregates import ArrayStorage, StructStorage, TextStorage
from skep.lang.arena import ArenaPointerStorage
from skep.lang.debug import quote
from skep.lang.layout import BoolStorage, IntStorage, OpaqueStorage, Storage, atomic
from skep.lang.values import PtrType, Value

if TYPE_CHECKING:
    from skep.lang.unit import Unit
    from skep.lang.walk import Walker


class GlobalVars:
    """The global variables of a unit, defined when first used, or all of a module's."""

    def __init__(self, unit: Unit) -> None:
        self.unit = unit
        self._known: dict[int, tuple[Global, str, Storage]] = {}
        #: by section, the variable with a lock or another object of the kernel's
        self._owning: dict[str, str] = {}

    def define(self, obj: Global, name: str, namespace: dict[str, Any]) -> tuple[str, Storage]:
        """(symbol, storage). Raises SkepError when its type cannot be told."""
        known = self._known.get(id(obj))
        if known is not None:
            return known[1], known[2]
        storage = self._storage(obj, name, namespace)
        symbol = self.unit.symbol(name)
        value = obj.value
        if isinstance(value, (ArrayType, CharType, BytesType)):
            value = None
        data = encode(storage, value, name)
        section = obj.section
        from skep.lang.maps import holding

        owned = _kernels(storage)
        if owned and obj.readonly:
            raise SkepError(f"global {name}: a {owned} cannot be in a constant, declare it with bpf.var")
        if owned and section is not None and holding(storage):
            other = self._owning.setdefault(section, name)
            if other != name:
                raise SkepError(
                    f"global {name}: {other} is in section {section} too, which has one lock: leave it out"
                )
        if section is None and owned:
            section = f".data.{name}"  # one lock for a section
        if section is None:
            section = ".rodata" if obj.readonly else ".data" if any(data) else ".bss"
        text = "zeroinitializer" if not any(data) else f"c{quote_bytes(data)}"
        var = self.unit.di.variable(name, 1, self._described(storage, obj.readonly))
        # Constants are set before loading: what they start as here says nothing.
        kind = "externally_initialized constant" if section.startswith(".rodata") else "global"
        if owned:  # the kernel's objects are not mapped into processes: hidden is how loaders know
            kind = f"hidden {kind}"
        self.unit.top.append(
            f"@{symbol} = {kind} [{len(data)} x i8] {text}, "
            f'section "{section}", align {max(8, storage.align)}, !dbg {var}'
        )
        self._known[id(obj)] = (obj, symbol, storage)
        return symbol, storage

    def _described(self, storage: Storage, readonly: bool) -> str:
        di = self.unit.di
        kind = storage.describe(di)
        if readonly:
            kind = di.node(f"!DIDerivedType(tag: DW_TAG_volatile_type, baseType: {kind})")
            kind = di.node(f"!DIDerivedType(tag: DW_TAG_const_type, baseType: {kind})")
        return kind

    def _storage(self, obj: Global, name: str, namespace: dict[str, Any]) -> Storage:
        if isinstance(obj.value, (ArrayType, CharType, BytesType)):
            return self.unit.namespace.storage(obj.value)
        if type(obj.value) is not int and "__bpf__" in type(obj.value).__dict__:
            return self.unit.namespace.storage(type(obj.value))
        annotations = _annotations(namespace, name)
        record = annotations.get(name)
        if record is None:
            if isinstance(obj.value, bool):
                return self.unit.namespace.storage(bool)
            raise SkepError(f"global {name}: its type is not said: give it one, {name}: u64 = ...")
        if isinstance(obj.value, bytes) and record is bytes:
            return TextStorage(len(obj.value), False)  # addresses and the like: exactly these bytes
        if isinstance(obj.value, str) and (record is bytes or record is str):
            return TextStorage(len(obj.value.encode()) + 1, True)
        if isinstance(obj.value, (list, tuple)) and getattr(record, "__origin__", None) in (list, tuple):
            return self.unit.namespace.storage(array(record.__args__[0], len(obj.value)))
        return self.unit.namespace.storage(record)

    def read(self, c: Walker, obj: Global, name: str, node: ast.AST) -> Value:
        """The variable's value, or a reference to it."""
        symbol, storage = self._defined(c, obj, name, node)
        space = "global"
        if storage.scalar:
            if not obj.readonly:
                return storage.load(c, f"@{symbol}", node)
            # const volatile: set before loading, so the compiler must not know it
            return _volatile(c, storage, f"@{symbol}")
        return Value(
            PtrType(storage, space, writable=not obj.readonly), f"@{symbol}", origin=("global", symbol)
        )

    def _defined(self, c: Walker, obj: Global, name: str, node: ast.AST) -> tuple[str, Storage]:
        try:
            return self.define(obj, name, c.scope.globals)
        except SkepError as error:
            raise c.error(node, str(error)) from None

    def write(self, c: Walker, name: str, value: Value, node: ast.AST) -> None:
        """``name = value`` after ``global name``."""
        obj = c.scope.globals.get(name)
        if not isinstance(obj, Global):
            hint = f"declare it: {name}: u64 = bpf.var(0)"
            if isinstance(obj, Map):
                hint = f"it is a map: {name}[key] = value, or {name}.update(key, value)"
            raise c.error(node, f"{name} is no global variable of the program", hint)
        if obj.readonly:
            raise c.error(
                node, f"{name} is a bpf.const: programs cannot change it", "declare it with bpf.var"
            )
        symbol, storage = self._defined(c, obj, name, node)
        storage.store(c, f"@{symbol}", value, node)

    def add(self, c: Walker, name: str, op: ast.operator, node: ast.AugAssign) -> bool:
        """``name op= value`` in one atomic step; False when it takes two."""
        obj = c.scope.globals.get(name)
        if not isinstance(obj, Global) or obj.readonly:
            return False
        symbol, storage = self._defined(c, obj, name, node)
        if not storage.scalar:
            return False
        base = Value(PtrType(storage, "global"), f"@{symbol}")
        if not isinstance(storage, IntStorage) or storage.size < 4:
            return False
        return atomic(c, storage, base, f"@{symbol}", op, c.expr(node.value), node)


def _volatile(c: Walker, storage: Storage, address: str) -> Value:
    bits = storage.size * 8
    got = c.em.op(f"load volatile i{bits}, ptr {address}, align {storage.align}")
    if isinstance(storage, IntStorage):
        return storage.widen(c, got)
    assert isinstance(storage, BoolStorage)
    return c.boolean(c.em.op(f"icmp ne i8 {got}, 0"))


def _kernels(storage: Storage) -> str | None:
    """The name of what the kernel keeps within a type: a lock, the head of a list, a kptr."""
    if isinstance(storage, OpaqueStorage) or hasattr(storage, "swap"):
        return storage.name
    if isinstance(storage, ArrayStorage):
        return _kernels(storage.of)
    if isinstance(storage, StructStorage):
        return next((name for field in storage.fields.values() if (name := _kernels(field.of))), None)
    return None


def _annotations(namespace: dict[str, Any], name: str) -> dict[str, Any]:
    class Holder:
        __annotations__ = {}

    found = namespace.get("__annotations__")
    if found is None:
        import sys

        module = sys.modules.get(namespace.get("__name__", ""))
        found = getattr(module, "__annotations__", None) or {}
    Holder.__annotations__ = {name: found[name]} if name in found else {}
    return annotations_of(Holder, namespace)


def quote_bytes(data: bytes) -> str:
    """Bytes as IR writes them."""
    return quote(data)


def encode(storage: Storage, value: Any, what: str) -> bytes:
    """The bytes of a first value. Raises SkepError when it does not fit."""
    if value is None or (value == 0 and isinstance(storage, (ArenaPointerStorage, OpaqueStorage))):
        return bytes(storage.size)
    if isinstance(storage, IntStorage):
        if not isinstance(value, int):
            raise SkepError(f"{what}: {value!r} is no integer: give a number")
        if not storage.lo <= value <= storage.hi:
            same = value + (storage.hi + 1 if value < 0 else 0)
            hint = f"write {same:#x}, or take a signed type" if 0 < same <= storage.hi else "use a wider type"
            holds = f"which holds {storage.lo} to {storage.hi}"
            raise SkepError(f"{what}: {value} does not fit {storage.name}, {holds}: {hint}")
        return int(value).to_bytes(storage.size, "big" if storage.record.big else "little", signed=value < 0)
    if isinstance(storage, BoolStorage):
        return bytes([bool(value)])
    if isinstance(storage, TextStorage):
        if not isinstance(value, (str, bytes)) and value != 0:
            raise SkepError(f"{what}: {value!r} is no text, for {storage.name}")
        data = value.encode() if isinstance(value, str) else bytes(value or b"")
        if len(data) > storage.size:
            raise SkepError(f"{what}: {len(data)} bytes do not fit {storage.name}")
        return data.ljust(storage.size, b"\0")
    if isinstance(storage, ArrayStorage):
        if not isinstance(value, (list, tuple)) and value != 0:
            raise SkepError(f"{what}: {value!r} is no list, for {storage.name}")
        items = [] if value == 0 else list(value)
        if len(items) > storage.count:
            raise SkepError(f"{what}: {len(items)} values for {storage.name}")
        made = b"".join(encode(storage.of, item, what) for item in items)
        return made.ljust(storage.size, b"\0")
    if isinstance(storage, StructStorage):
        return _encode_struct(storage, value, what)
    raise SkepError(f"{what}: a {storage.name} cannot have a first value")


def _encode_struct(storage: StructStorage, value: Any, what: str) -> bytes:
    if type(value) is int and value == 0:
        return bytes(storage.size)
    if type(value) is not storage.cls:
        raise SkepError(f"{what}: {value!r} is no {storage.name}")
    number = 0
    for field in storage.fields.values():
        part = getattr(value, field.name)
        if field.width:
            number |= (int(part) & (1 << field.width) - 1) << field.offset * 8 + field.bit
        else:
            data = encode(field.of, part, f"{what}.{field.name}")
            number |= int.from_bytes(data, "little") << field.offset * 8
    return number.to_bytes(storage.size, "little")
