"""Contexts: what a program is called with, typed by its hook.

`arguments` gives a program's parameters their values. Contexts that the kernel describes in <linux/bpf.h> are
`ContextRef`s here; packets are `contexts_packet`'s, arguments of functions and tracepoints `contexts_args`'s.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any, NamedTuple

from skep.bpf.types import IntType as IntRecord
from skep.bpf.types import Named
from skep.lang import references
from skep.lang.aggregates import TextStorage
from skep.lang.contexts_fields import (
    BOUNDS,
    NAMES,
    OF_TYPE,
    ONLY_AT,
    ORDER,
    PACKETS,
    POINTERS,
    READ_ONLY_SOCK,
    WRITABLE,
)
from skep.lang.values import BUILTIN, INT, NoneType, PtrType, Reference, Type, Value
from skep.obj.sections import Section, lookup
from skep.uapi.contexts import CONTEXTS
from skep.uapi.enums import ProgType

if TYPE_CHECKING:
    from skep.bpf.programs import Program
    from skep.lang.layout import Storage
    from skep.lang.walk import Walker

Param = tuple[str, Any, ast.AST]


def section_of(c: Walker, node: ast.AST) -> Section:
    """Program type and attach type of the program that is compiled."""
    found = lookup(c.program.section) if c.program is not None else None
    if found is None:
        raise c.error(
            node,
            "this works in programs only, not in a function that is compiled on its own",
            "call it in the program, or in a function that is inlined there",
        )
    return found


def arguments(c: Walker, program: Program, params: list[Param]) -> list[Value]:
    """The values of a program's parameters; ``c.ctx`` is the context's operand.

    Refuses what the hook does not offer.
    """
    section = lookup(program.section)
    if section is None:
        raise c.error(
            params[0][2] if params else ast.Pass(),
            f"no hook is called {program.section!r}",
            "docs/language-hooks.md lists the hooks",
        )
    struct = OF_TYPE.get(section.type)
    if struct is None or (section.type == ProgType.KPROBE and not _is_context(params)):
        from skep.lang import contexts_args

        return contexts_args.arguments(c, section, program, params)
    if not params:
        return []
    if len(params) > 1:
        raise c.error(
            params[1][2],
            f"a program of this hook has one parameter, its context (bpf.{_called(struct)})",
            f"def {program.__name__}(ctx: bpf.{_called(struct)}) -> int:",
        )
    name, annotation, node = params[0]
    _check(c, name, annotation, struct, node)
    if section.type == ProgType.KPROBE:
        from skep.lang import contexts_args

        return [contexts_args.registers(c)]
    return [Value(ContextRef(struct, section), c.ctx)]


def _is_context(params: list[Param]) -> bool:
    return len(params) == 1 and (
        params[0][1] == Named("PtRegs") or (params[0][1] is None and params[0][0] == "ctx")
    )


def _called(struct: str) -> str:
    return next((name for name, known in NAMES.items() if known == struct), struct)


def _check(c: Walker, name: str, annotation: Any, struct: str, node: ast.AST) -> None:
    if annotation is None or annotation == Named("Context"):
        return
    if isinstance(annotation, Named) and NAMES.get(annotation.name, annotation.name) == struct:
        return
    shown = f"bpf.{annotation.name}" if isinstance(annotation, Named) else repr(annotation)
    if isinstance(annotation, type):
        shown = annotation.__name__
    raise c.error(node, f"{name} is no {shown} here", f"write: {name}: bpf.{_called(struct)}")


class ContextField(NamedTuple):
    """A field: offset and size in bytes, elements (0: a plain integer), signed, order ("", "be16", …)."""

    offset: int
    size: int
    elements: int
    signed: bool
    order: str


class ContextRef(Reference):
    """A context, or a socket or flow reached from it: fields are integers, read at once."""

    def __init__(
        self, struct: str, section: Section, *, nullable: bool = False, context: bool = True
    ) -> None:
        self.struct = struct
        self.section = section
        self.nullable = nullable
        self.context = context
        self.name = f"bpf.{_called(struct)}" + (" or None" if nullable else "")

    def same(self, other: Type) -> bool:
        return isinstance(other, ContextRef) and other.struct == self.struct and other.context == self.context

    def join(self, other: Type) -> Type | None:
        if isinstance(other, NoneType):
            return self.optional(True)
        if not self.same(other):
            return None
        return self.optional(self.nullable or other.nullable)

    def optional(self, nullable: bool) -> ContextRef:
        """The same, nullable or not."""
        if nullable == self.nullable:
            return self
        return ContextRef(self.struct, self.section, nullable=nullable, context=self.context)

    # --- fields -----------------------------------------------------------------------------------

    def field(self, c: Walker, v: Value, name: str, node: ast.AST) -> ContextField:
        """The field ``name``; refuses where there is none."""
        if self.nullable:
            c.refuse_none(v, node)
        layout = CONTEXTS[self.struct].fields
        found = layout.get(name)
        if found is None:
            known = [f for f in layout if f not in BOUNDS]
            if "packet" in _METHODS and self.has_packet:
                known.append("packet")
            raise c.error(node, f"{self.name} has no field {name!r}", c.nearest(name, known))
        where = ONLY_AT.get((self.struct, name)) if self.context else None
        attach = self.section.attach_type
        if where is not None and attach is not None and not attach.name.startswith(where):
            those = ", ".join(w.lower() + "…" * w.endswith("_") for w in where)
            raise c.error(
                node, f"{self.name}.{name} is not there in programs of this type", f"it is at {those}"
            )
        offset, size, count = found
        return ContextField(offset, abs(size), count, size < 0, ORDER.get(self.struct, {}).get(name, ""))

    @property
    def has_packet(self) -> bool:
        """Whether there is a packet to look into."""
        return self.context and (self.section.type in PACKETS or self.section.type == ProgType.SOCKET_FILTER)

    def attr(self, c: Walker, v: Value, name: str, node: ast.AST) -> Value:
        if self.context and name in _METHODS:
            return Value(BUILTIN, obj=_METHODS[name](self, c, v, node))
        if any(known.startswith(f"{name}.") for known in CONTEXTS[self.struct].fields):
            return Value(ContextPart(self, name), v.ir)
        field = self.field(c, v, name, node)
        if name in BOUNDS:
            way = {"optval": "value()", "optval_end": "value()", "data_meta": "metadata()"}.get(
                name, "packet()"
            )
            hint = f"take what you need from ctx.{way}; len(ctx.{way}) is how much there is"
            raise c.error(node, f"{self.name}.{name} is an address", hint)
        self._readable(c, name, node)
        pointer = POINTERS.get((self.struct, name))
        if pointer is not None:
            struct, nullable = pointer
            got = c.em.op(f"load ptr, ptr {c.within_context(v.ir, field.offset)}, align 8")
            return Value(ContextRef(struct, self.section, nullable=nullable, context=False), got)
        if field.order == "raw":
            raw = Value(ContextBytes(field.size * field.elements), c.within_context(v.ir, field.offset))
            return references.derived(raw, v)
        if field.elements:
            return references.derived(Value(ContextArray(field, self._may_write(name)), v.ir), v)
        return load(c, v.ir, field, node)

    def _readable(self, c: Walker, name: str, node: ast.AST) -> None:
        """Refuse what programs of this type may not look at."""
        if not self.context:
            return
        if not self._allowed(name, write=False):
            raise c.error(
                node,
                f"programs of this type cannot read {self.name}.{name}",
                "the kernel shows it to programs of other types only",
            )

    def _may_write(self, name: str) -> bool:
        if not self.context:
            return self.struct == "bpf_flow_keys"
        if self.section.attach_type in READ_ONLY_SOCK:
            return False
        return name in WRITABLE.get(self.section.type, "").split() and self._allowed(name, write=True)

    def _allowed(self, name: str, *, write: bool) -> bool:
        """Whether the kernel lets programs of this type read or write a field of their context."""
        from skep.verifier.facts.context import place_since

        kind, attach = int(self.section.type), int(self.section.attach_type or 0)
        offset, size, count = CONTEXTS[self.struct].fields[name]
        size = abs(size)
        step = min(size, 4) if count else size
        places = range(offset, offset + size * max(1, count), step)
        return all(place_since(kind, attach, at, step, write) is not None for at in places)

    def set_attr(self, c: Walker, v: Value, name: str, new: Value, node: ast.AST) -> None:
        field = self.field(c, v, name, node)
        if not self._may_write(name):
            raise c.error(
                node, f"{self.name}.{name} cannot be set by a program of this type", "it can be read"
            )
        if field.order == "raw":
            self._set_bytes(c, v, field, new, node)
            return
        if field.elements:
            raise c.error(node, f"{self.name}.{name} is set element by element", f"x.{name}[0] = value")
        store(c, v.ir, field, new, node)

    def _set_bytes(self, c: Walker, v: Value, field: ContextField, new: Value, node: ast.AST) -> None:
        of = TextStorage(field.size * field.elements, False)
        room = c.spill(new, of, node)
        for i in range(field.elements):
            got = c.em.op(f"load i32, ptr {c.offset(room, 4 * i)}, align 4")
            c.em.do(f"store i32 {got}, ptr {c.within_context(v.ir, field.offset + 4 * i)}, align 4")


class ContextPart(Type):
    """A struct within a context: ``ctx.regs`` of a perf event. The operand is the context."""

    llvm = "ptr"

    def __init__(self, whole: ContextRef, part: str) -> None:
        self.whole = whole
        self.part = part
        self.name = f"{whole.name}.{part}"

    def same(self, other: Type) -> bool:
        return isinstance(other, ContextPart) and other.part == self.part and other.whole.same(self.whole)

    def attr(self, c: Walker, v: Value, name: str, node: ast.AST) -> Value:
        known = [f.partition(".")[2] for f in CONTEXTS[self.whole.struct].fields if f.startswith(self.part)]
        if name not in known:
            raise c.error(node, f"{self.name} has no field {name!r}", c.nearest(name, known))
        return self.whole.attr(c, v, f"{self.part}.{name}", node)


def load(c: Walker, base: str, field: ContextField, node: ast.AST, index: int = 0) -> Value:
    """A field's number."""
    record = _record(field)
    size = record.bits // 8
    address = c.within_context(base, field.offset + index * field.size)
    got = c.em.op(f"load i{record.bits}, ptr {address}, align {min(size, 8)}")
    from skep.lang.layout import IntStorage

    return IntStorage(record).widen(c, got)


def store(c: Walker, base: str, field: ContextField, new: Value, node: ast.AST, index: int = 0) -> None:
    """Set a field."""
    from skep.lang.layout import IntStorage

    record = _record(field)
    got = IntStorage(record).narrow(c, new, node)
    bits = field.size * 8
    if record.bits < bits:  # a port of 16 bits in a field of 32
        got = c.em.op(f"zext i{record.bits} {got} to i{bits}")
    address = c.within_context(base, field.offset + index * field.size)
    c.em.do(f"store i{bits} {got}, ptr {address}, align {field.size}")


def _record(field: ContextField) -> IntRecord:
    if field.order:
        bits = int(field.order[2:])
        return IntRecord(field.order, bits, False, True)
    return IntRecord(f"{'s' if field.signed else 'u'}{8 * field.size}", 8 * field.size, field.signed)


class ContextArray(Type):
    """An array of numbers in a context, indexed by constants. The operand is the context."""

    llvm = "ptr"

    def __init__(self, of: ContextField, writable: bool) -> None:
        self.of = of
        self.writable = writable
        self.name = f"{of.elements} numbers of the context"

    def same(self, other: Type) -> bool:
        return isinstance(other, ContextArray) and other.of == self.of

    def _index(self, c: Walker, index: Value, node: ast.AST) -> int:
        at = index.const
        if at is None or not 0 <= at < self.of.elements:
            raise c.error(
                node, f"the index must be a constant from 0 to {self.of.elements - 1}", "write it as a number"
            )
        return at

    def item(self, c: Walker, v: Value, index: Value, node: ast.AST) -> Value:
        return load(c, v.ir, self.of, node, self._index(c, index, node))

    def set_item(self, c: Walker, v: Value, index: Value, new: Value, node: ast.AST) -> None:
        if not self.writable:
            raise c.error(node, f"{self.name} cannot be set here", "it can be read")
        store(c, v.ir, self.of, new, node, self._index(c, index, node))

    def length(self, c: Walker, v: Value, node: ast.AST) -> Value:
        return c.int_const(self.of.elements)

    def items(self, c: Walker, v: Value, node: ast.AST) -> list[Value] | None:
        return [load(c, v.ir, self.of, node, i) for i in range(self.of.elements)]


class ContextBytes(Type):
    """An address of 16 bytes in a context, which is read in words of four. The operand points to it."""

    llvm = "ptr"

    def __init__(self, size: int) -> None:
        self.size = size
        self.name = f"raw({size})"

    def same(self, other: Type) -> bool:
        return isinstance(other, ContextBytes)

    def write(self, c: Walker, v: Value, address: str, into: Storage, node: ast.AST) -> bool:
        if not isinstance(into, TextStorage) or into.size != self.size:
            return False
        for at in range(0, self.size, 4):
            got = c.em.op(f"load i32, ptr {c.offset(v.ir, at)}, align 4")
            c.em.do(f"store i32 {got}, ptr {c.offset(address, at)}, align 1")
        return True

    def materialise(self, c: Walker, v: Value, node: ast.AST) -> Value:
        of = TextStorage(self.size, False)
        room = c.buffer(self.size, 8)
        self.write(c, v, room, of, node)
        return Value(PtrType(of, "stack"), room)

    def item(self, c: Walker, v: Value, index: Value, node: ast.AST) -> Value:
        at = index.const
        if at is None or not 0 <= at < self.size:
            copy = self.materialise(c, v, node)
            return copy.type.item(c, copy, index, node)
        got = c.em.op(f"load i32, ptr {c.offset(v.ir, at & ~3)}, align 4")
        got = c.em.op(f"lshr i32 {got}, {8 * (at & 3)}") if at & 3 else got
        got = c.em.op(f"and i32 {got}, 255")
        return Value(INT, c.em.op(f"zext i32 {got} to i64"), 0, 255)

    def length(self, c: Walker, v: Value, node: ast.AST) -> Value:
        return c.int_const(self.size)

    def items(self, c: Walker, v: Value, node: ast.AST) -> list[Value] | None:
        return [self.item(c, v, c.int_const(at), node) for at in range(self.size)]

    def compare(self, c: Walker, op: ast.cmpop, a: Value, b: Value, node: ast.AST) -> Value:
        return c.compare(op, self.materialise(c, a, node), b, node)


# --- methods ----------------------------------------------------------------------------------------


def _packet(kind: ContextRef, c: Walker, v: Value, node: ast.AST) -> Any:
    if not kind.has_packet:
        if kind.struct == "bpf_sockopt":
            raise c.error(node, f"{kind.name} has no packet", "take the option from ctx.value()")
        raise c.error(
            node,
            f"{kind.name} has no packet that programs of this type may look into",
            "its fields tell what there is: lengths, addresses, ports",
        )
    from skep.lang import contexts_packet

    return contexts_packet.opener(kind, v)


def _value(kind: ContextRef, c: Walker, v: Value, node: ast.AST) -> Any:
    if kind.struct != "bpf_sockopt":
        raise c.error(
            node,
            f"{kind.name} has no field 'value'",
            "contexts of cgroup_getsockopt and cgroup_setsockopt have",
        )
    from skep.lang import contexts_packet

    return contexts_packet.opener(kind, v)


_WITH_METADATA = (ProgType.XDP, ProgType.SCHED_CLS, ProgType.SCHED_ACT)


def _metadata(kind: ContextRef, c: Walker, v: Value, node: ast.AST) -> Any:
    if kind.section.type not in _WITH_METADATA:
        raise c.error(
            node, f"{kind.name} has no metadata in programs of this type", "XDP and tc programs have"
        )
    from skep.lang import contexts_packet

    return contexts_packet.opener(kind, v, ("data_meta", "data"))


_METHODS = {"packet": _packet, "metadata": _metadata, "value": _value}
