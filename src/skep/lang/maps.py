"""Maps in programs: their definitions in the object, and what programs do with them.

`mapkinds` has the maps that are no tables: queues, rings, stack traces, arrays of programs and sockets.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

from skep.bpf.maps import Map, StructOps
from skep.bpf.programs import Program
from skep.errors import SkepError
from skep.lang.aggregates import ArrayStorage, StructStorage
from skep.lang.arguments import named
from skep.lang.core_refs import KernelRef
from skep.lang.layout import OpaqueStorage, Storage, atomic
from skep.lang.pointers import KernelPointerStorage
from skep.lang.values import BUILTIN, OPTIONAL, TUPLE, PtrType, Type, Value
from skep.uapi.enums import MapType as Kind

if TYPE_CHECKING:
    from skep.lang.unit import Unit
    from skep.lang.walk import Walker

_KINDS = {"percpu_hash": "PERCPU_HASH", "percpu_array": "PERCPU_ARRAY", "lru_percpu_hash": "LRU_PERCPU_HASH"}
NOEXIST = 1


def kind_of(map: Map) -> Kind:
    """The kernel's map type."""
    return Kind[_KINDS.get(map.kind, map.kind.upper())]


class Maps:
    """The maps of a unit, each defined when it is first named."""

    def __init__(self, unit: Unit) -> None:
        self.unit = unit
        self._known: dict[int, tuple[Map, str]] = {}
        self._named: set[str] = set()

    def symbol(self, map: Map, name: str) -> str:
        """The map's symbol. Raises SkepError for a key or value that is no type."""
        known = self._known.get(id(map))
        if known is not None:
            return known[1]
        symbol = self.unit.symbol(map.name or name)
        if map.kind == "arena":
            from skep.lang.arena import only

            self.unit.arena = only(self.unit.arena, symbol)
        self._known[id(map)] = (map, symbol)
        self._define(map, symbol)
        return symbol

    def key(self, map: Map) -> Storage:
        return self.unit.namespace.storage(map.key)

    def value(self, map: Map) -> Storage:
        return self.unit.namespace.storage(map.value)

    def _define(self, map: Map, symbol: str) -> None:
        if isinstance(map, StructOps):
            from skep.lang.contexts_struct_ops import define

            define(self.unit, map, symbol)
            return
        di = self.unit.di
        fields, size = self._fields(map, symbol)
        initial = self._initial(map, symbol)
        members = [(name, kind, at * 64, 64, -1) for at, (name, kind) in enumerate(fields)]
        if initial is not None or map.inner is not None or map.kind == "prog_array":
            # A flexible array member: the type says 0 slots, the variable has those that are filled.
            members.append(("values", self._values(map), len(fields) * 64, 0, -1))
        kind = di.struct("", size, members)
        var = di.variable(symbol, 1, kind)
        if initial:
            head, slot = f"[{len(fields) * 8} x i8]", f"[{len(initial)} x ptr]"
            text = f"{{ {head}, {slot} }} {{ {head} zeroinitializer, {slot} [{', '.join(initial)}] }}"
        else:
            text = f"[{size} x i8] zeroinitializer"
        self.unit.top.append(f'@{symbol} = global {text}, section ".maps", align 8, !dbg {var}')
        record = getattr(map, "record", None)
        if record is not None:
            self.name_type(f"{symbol}__record", self.unit.namespace.storage(record))

    def name_type(self, name: str, record: Storage) -> None:
        """Say what lies in a ring: the kernel allows no value type there. A pointer variable that nobody
        loads does, in a section of its own; readers (`skep.kernel.object`) find it by its name."""
        if name in self._named:
            return
        self._named.add(name)
        var = self.unit.di.variable(name, 1, self.unit.di.pointer(record.describe(self.unit.di)))
        self.unit.top.append(f'@{name} = global ptr null, section ".skep.records", align 8, !dbg {var}')

    def _fields(self, map: Map, symbol: str) -> tuple[list[tuple[str, str]], int]:
        """Members of the definition, as libbpf reads them: a number N is a pointer to ``int[N]``."""
        di = self.unit.di
        word = di.base("int", 32, "signed")

        byte = di.base("char", 8, "signed_char")

        def count(n: int) -> str:
            if n >> 29:  # kernels take no array of 4 GiB and more
                return di.pointer(di.array(byte, 8 * n, n))
            return di.pointer(di.array(word, 32 * n, n))

        kind = kind_of(map)
        fields = [("type", count(int(kind)))]
        if map.max_entries:
            fields.append(("max_entries", count(map.max_entries)))
        if map.flags:
            fields.append(("map_flags", count(map.flags)))
        if map.extra >> 32:  # an address: more than an array can count
            fields.append(("map_extra", di.enum("", 8, False, [(f"{symbol}_at", map.extra)])))
        elif map.extra:
            fields.append(("map_extra", count(map.extra)))
        if map.numa is not None:
            fields[-1:] = [*fields[-1:], ("numa_node", count(map.numa))]
        if map.pin:
            fields.append(("pinning", count(1)))
        sized = kind in _SIZES_ONLY
        for side, record in (("key", map.key), ("value", map.value)):
            if record is None or (map.inner is not None and side == "value"):
                continue
            try:
                storage = self.unit.namespace.storage(record)
            except SkepError as error:
                raise SkepError(f"map {symbol}: its {side}: {error}") from None
            _holds(symbol, kind, side, storage)
            if sized:
                fields.append((f"{side}_size", count(storage.size)))
            else:
                fields.append((side, di.pointer(storage.describe(di))))
        return fields, 8 * len(fields)

    def _values(self, map: Map) -> str:
        """The type of ``values``: pointers to maps of the inner definition, or to programs."""
        di = self.unit.di
        if map.inner is None:
            of = di.node(
                "!DISubroutineType(types: " + di.node("!{" + di.base("int", 32, "signed") + "}") + ")"
            )
        else:
            fields, size = self._fields(map.inner, "inner map")
            of = di.struct("", size, [(n, k, at * 64, 64, -1) for at, (n, k) in enumerate(fields)])
        return di.array(di.pointer(of), 0, 0)

    def _shape(self, map: Map) -> tuple[object, ...]:
        """What maps must have in common to stand in one map of maps."""
        parts = (map.key, map.value)
        sizes = [None if one is None else self.unit.namespace.storage(one).size for one in parts]
        return (map.kind, *sizes, map.flags)

    def _initial(self, map: Map, symbol: str) -> list[str] | None:
        """The slots that ``initial`` fills, up to the last one."""
        if map.initial is None:
            return None
        given = dict(map.initial) if isinstance(map.initial, dict) else dict(enumerate(map.initial))
        if not all(isinstance(i, int) and i >= 0 for i in given):
            raise SkepError(f"map {symbol}: initial has indices from 0 on")
        slots = ["ptr null"] * (max(given, default=-1) + 1)
        for at, obj in given.items():
            if obj is None:
                continue
            if not isinstance(obj, (Program if map.inner is None else Map)):
                what = "programs" if map.inner is None else "maps"
                raise SkepError(f"map {symbol}: initial[{at}] is {obj!r}, and its slots hold {what}")
            if map.max_entries and at >= map.max_entries:
                raise SkepError(f"map {symbol}: initial[{at}] is beyond its {map.max_entries} slots")
            if isinstance(obj, Map):
                if map.inner is not None and self._shape(obj) != self._shape(map.inner):
                    raise SkepError(
                        f"map {symbol}: initial[{at}] is of another kind, key or value than the inner maps"
                    )
                slots[at] = f"ptr @{self.symbol(obj, obj.name or f'{symbol}_{at}')}"
            else:
                slots[at] = f"ptr @{obj.__name__}"
                self.unit.wanted(obj)
        return slots


_SIZES_ONLY = frozenset(
    (
        Kind.PERF_EVENT_ARRAY,
        Kind.PROG_ARRAY,
        Kind.CGROUP_ARRAY,
        Kind.STACK_TRACE,
        Kind.REUSEPORT_SOCKARRAY,
        Kind.SOCKMAP,
        Kind.SOCKHASH,
        Kind.DEVMAP,
        Kind.DEVMAP_HASH,
        Kind.CPUMAP,
        Kind.XSKMAP,
        Kind.QUEUE,
        Kind.STACK,
        Kind.BLOOM_FILTER,
        Kind.ARRAY_OF_MAPS,
        Kind.HASH_OF_MAPS,
    )
)


def map_value(c: Walker, map: Map, name: str, node: ast.AST) -> Value:
    """The value of a map's name."""
    try:
        symbol = c.unit.maps.symbol(map, name)
    except SkepError as error:
        raise c.error(node, str(error), "mend the declaration") from None
    return Value(table_type(map, symbol), f"@{symbol}", obj=map)


def table_type(map: Map, symbol: str) -> Type:
    """The type that knows what a map of this kind can do."""
    from skep.lang.mapkinds import KINDS

    return KINDS.get(map.kind, Table)(map, symbol)


Method = Callable[["Walker", Value, list[Value], dict[str, Value], ast.AST], Value]


_STORAGES = (Kind.SK_STORAGE, Kind.INODE_STORAGE, Kind.TASK_STORAGE, Kind.CGRP_STORAGE, Kind.CGROUP_STORAGE)
#: objects of the kernel's -> the maps whose values may have one (kernel/bpf/syscall.c, map_check_btf)
_HOLDERS = {
    "bpf_spin_lock": (Kind.HASH, Kind.ARRAY, *_STORAGES),
    "bpf_res_spin_lock": (Kind.HASH, Kind.ARRAY, *_STORAGES),
    "bpf_list_head": (Kind.HASH, Kind.LRU_HASH, Kind.ARRAY),
    "bpf_rb_root": (Kind.HASH, Kind.LRU_HASH, Kind.ARRAY),
    "bpf_timer": (Kind.HASH, Kind.LRU_HASH, Kind.ARRAY),
    "bpf_wq": (Kind.HASH, Kind.LRU_HASH, Kind.ARRAY),
    "bpf_task_work": (Kind.HASH, Kind.LRU_HASH, Kind.ARRAY),
}


def _holds(symbol: str, kind: Kind, side: str, of: Storage) -> None:
    """Refuse a lock or timer in a map whose values cannot have one."""
    names = list(_objects(of))
    if names and (why := unfit(of)) is not None:
        raise SkepError(f"map {symbol}: {why}")
    for name in names:
        holders = _HOLDERS.get(name)
        if holders is not None and (side == "key" or kind not in holders):
            kinds = ", ".join(holder.name.lower() for holder in holders)
            raise SkepError(
                f"map {symbol}: a {name} cannot be in the {side} of a map of type {kind.name.lower()} "
                f"(it can be in values of {kinds})"
            )


def holding(of: Storage) -> str | None:
    """The name of an object of the kernel's within a type, None when there is none."""
    return next(_objects(of), None)


def unfit(of: Storage) -> str | None:
    """Why the kernel takes no BTF with a type that holds objects of its own, None when it does."""
    names = {*_objects(of)}
    if names & {"bpf_list_head", "bpf_rb_root"} and not names & {"bpf_spin_lock", "bpf_res_spin_lock"}:
        return "a list or tree needs a lock beside it: lock: bpf.SpinLock"
    if {"bpf_list_node", "bpf_rb_node"} <= names and "bpf_refcount" not in names:
        return f"{of.name} can be in a list and a tree, and has to count its references: refs: bpf.Refcount"
    return crooked(of) if names else None


def crooked(of: Storage) -> str | None:
    """What is wrong with bit fields in a type that holds an object of the kernel's, None when nothing is.

    The kernel takes no such BTF when a bit field begins within a byte.
    """
    if isinstance(of, ArrayStorage):
        return crooked(of.of)
    if not isinstance(of, StructStorage):
        return None
    for field in of.fields.values():
        if field.width and field.bit % 8:
            return (
                f"bit field {of.name}.{field.name} begins within a byte, which the kernel takes in no struct "
                "with a lock or node: use whole bytes"
            )
        if (inner := crooked(field.of)) is not None:
            return inner
    return None


def _objects(of: Storage) -> Iterator[str]:
    """The names of the kernel's objects within a type."""
    if isinstance(of, OpaqueStorage):
        yield of.name
    elif isinstance(of, StructStorage):
        for field in of.fields.values():
            yield from _objects(field.of)
    elif isinstance(of, ArrayStorage):
        yield from _objects(of.of)


_INIT = "p = m.get(key); if p is None: m.insert(key, bpf.zero(T)); p = m.get(key)"
#: what BCC and Python call things -> how they are written here
_ELSEWHERE = {
    "lookup_or_init": _INIT,
    "lookup_or_try_init": _INIT,
    "increment": "m[key] += 1",
    "perf_submit": "m.output(event): the context goes in by itself",
    "ringbuf_output": "m.output(event)",
    "ringbuf_reserve": "with m.reserve() as e: ...",
    "submit": "with m.reserve() as e: ... submits at the end of the block",
    "ringbuf_submit": "with m.reserve() as e: ... submits at the end of the block",
    "pop": "p = m.get(key); del m[key]",
    "items": "m.for_each(f) calls f(map, key, value) for each element",
    "keys": "m.for_each(f) calls f(map, key, value) for each element",
    "values": "m.for_each(f) calls f(map, key, value) for each element",
    "clear": "del m[key] one by one, or clear it in Python: obj.NAME.clear()",
    "get_stackid": "m.id(flags)",
    "call": "m.tail_call(index)",
    "redirect_map": "m.redirect(key)",
}


#: what to write in place of NAME[key], by the kind of map
_INSTEAD: Final = {
    "hash_of_maps": "{}.get(key) gives the inner map, or None",
    "array_of_maps": "{}.get(index) gives the inner map, or None",
    "prog_array": "{}.tail_call(index) jumps to the program there",
    "devmap": "{}.redirect(index) sends the packet there",
    "cpumap": "{}.redirect(index) sends the packet there",
    "queue": "{}.pop() gives the next, or None",
    "stack": "{}.pop() gives the next, or None",
}


class MapType(Type):
    """A map; ``Value.ir`` is its address, a symbol or what a map of maps gave."""

    def __init__(self, map: Map, symbol: str) -> None:
        self.map = map
        self.symbol = symbol
        self.name = f"map {symbol}"
        if map.kind in _INSTEAD:
            self.instead = _INSTEAD[map.kind].format(symbol)

    def same(self, other: Type) -> bool:
        return isinstance(other, MapType) and other.map is self.map

    def attr(self, c: Walker, v: Value, name: str, node: ast.AST) -> Value:
        method = getattr(self, f"do_{name}", None)
        if method is None:
            known = [key[3:] for key in dir(self) if key.startswith("do_")]
            hint = _ELSEWHERE.get(name) or c.nearest(name, known)
            raise c.error(node, f"a {type(self.map).__name__} has no {name!r}", hint)

        def call(c: Walker, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
            made: Value = method(c, v, args, kwargs, node)
            return made

        return Value(BUILTIN, obj=call)

    def key_address(self, c: Walker, key: Value, node: ast.AST) -> str:
        c.node = node
        of = c.unit.maps.key(self.map)
        return c.spill(key, of, node)

    def value_address(self, c: Walker, value: Value, node: ast.AST) -> str:
        return c.spill(value, c.unit.maps.value(self.map), node)

    def count_lost(self, c: Walker) -> None:
        """Count what could not be stored, in the global variable NAME_lost."""
        symbol = c.unit.lost_counter(self.symbol)
        c.em.op(f"atomicrmw add ptr @{symbol}, i64 1 monotonic, align 8")


class Table(MapType):
    """Hash tables, arrays and LPM tries."""

    @property
    def is_array(self) -> bool:
        return self.map.kind in ("array", "percpu_array")

    @property
    def space(self) -> str:
        return "percpu" if "percpu" in self.map.kind else "map"

    def key_address(self, c: Walker, key: Value, node: ast.AST) -> str:
        c.node = node
        of = c.unit.maps.key(self.map)
        if self.map.kind == "lpm_trie" and isinstance(of, StructStorage):
            data = of.fields["data"].of
            pair = key.type is TUPLE and len(key.obj) == 2 and data.scalar  # (bits, address)
            whole = pair or (isinstance(key.type, PtrType) and key.type.of.same(of))
            if not whole:  # a bare address: the longest prefix
                bits = data.size * 8
                key = c.tuple([c.int_const(bits), key])
        return c.spill(key, of, node)

    def find(self, c: Walker, v: Value, key: Value, node: ast.AST) -> str:
        """The operand of the value's address, or null."""
        address = self.key_address(c, key, node)
        return c.em.op(f"call align 8 ptr inttoptr (i64 1 to ptr)(ptr {v.ir}, ptr {address})")

    def reference(self, c: Walker, address: str, *, nullable: bool) -> Value:
        return Value(PtrType(c.unit.maps.value(self.map), self.space, nullable=nullable), address)

    def found(self, c: Walker, v: Value, address: str, node: ast.AST, *, nullable: bool) -> Value:
        """What a lookup gave. The verifier takes each lookup's for another value."""
        made = self.reference(c, address, nullable=nullable)
        made.origin = (c.scope.prefix, id(node))
        return made

    def do_lookup(
        self, c: Walker, v: Value, args: list[Value], kwargs: dict[str, Value], node: ast.AST
    ) -> Value:
        given = named(c, "lookup", ("key",), 1, args, kwargs, node)
        return self.found(c, v, self.find(c, v, given["key"], node), node, nullable=True)

    def do_get(
        self, c: Walker, v: Value, args: list[Value], kwargs: dict[str, Value], node: ast.AST
    ) -> Value:
        given = named(c, "get", ("key", "default"), 1, args, kwargs, node)
        of = c.unit.maps.value(self.map)
        found = self.find(c, v, given["key"], node)
        if not of.scalar:
            if "default" in given:
                raise c.error(node, f"a {of.name} has no default", "test what get() gives for None")
            return self.found(c, v, found, node, nullable=True)
        there = c.em.op(f"icmp ne ptr {found}, null")
        default = given.get("default")
        number = c.as_int(default, node) if default is not None else c.int_const(0)
        value = self._value_or(c, of, found, there, number, node)
        if default is None and (made := of.of_number(c, value)) is not None:
            return made
        if isinstance(of, KernelPointerStorage) and default is None:
            at = c.em.op(f"inttoptr i64 {value.ir} to ptr")
            return Value(KernelRef(of.kind, "kernel", nullable=True), at)
        if default is not None:
            return value
        return Value(OPTIONAL, obj=(there, value))

    def _value_or(
        self, c: Walker, of: Storage, found: str, there: str, default: Value, node: ast.AST
    ) -> Value:
        """What lies at ``found``, or ``default``."""
        yes, done = c.label("hit"), c.label("got")
        slot = c.em.slot("i64", ("got", c.fresh()))
        c.em.do(f"store i64 {default.ir}, ptr {slot}")
        c.em.cond(there, yes, done)
        c.em.place(yes)
        value = of.number(c, found, node)
        c.em.do(f"store i64 {value.ir}, ptr {slot}")
        c.em.br(done)
        c.em.place(done)
        got = c.em.op(f"load i64, ptr {slot}")
        return c.int(got, min(value.lo, default.lo), max(value.hi, default.hi))

    def item(self, c: Walker, v: Value, index: Value, node: ast.AST) -> Value:
        if not self.is_array:
            raise c.error(
                node,
                f"{self.symbol}[...] may not be there",
                f"{self.symbol}.get(key) gives None then, {self.symbol}.get(key, 0) a default",
            )
        number = c.index(index, self.map.max_entries, self.name, node)
        of = c.unit.maps.value(self.map)
        found = self.find(c, v, number, node)
        there = c.em.op(f"icmp ne ptr {found}, null")
        if of.scalar:
            value = self._value_or(c, of, found, there, c.int_const(0), node)
            return of.of_number(c, value) or value
        c.abort_unless(there)
        return self.found(c, v, found, node, nullable=False)

    def set_item(self, c: Walker, v: Value, index: Value, new: Value, node: ast.AST) -> None:
        of = c.unit.maps.value(self.map)
        if not self.is_array:
            self._update(c, v, index, new, "0", node)
            return
        number = c.index(index, self.map.max_entries, self.name, node)
        if next(_objects(of), None) is not None:  # the kernel leaves locks and timers alone
            self._update(c, v, number, new, "0", node)
            return
        found = self.find(c, v, number, node)
        c.abort_unless(c.em.op(f"icmp ne ptr {found}, null"))
        of.store(c, found, new, node)

    def _update(self, c: Walker, v: Value, key: Value, value: Value, flags: str, node: ast.AST) -> str:
        key_at = self.key_address(c, key, node)
        value_at = self.value_address(c, value, node)
        return c.helper(2, [f"ptr {v.ir}", f"ptr {key_at}", f"ptr {value_at}", f"i64 {flags}"])

    def do_update(
        self, c: Walker, v: Value, args: list[Value], kwargs: dict[str, Value], node: ast.AST
    ) -> Value:
        given = named(c, "update", ("key", "value", "flags"), 2, args, kwargs, node)
        flags = c.as_int(given["flags"], node).ir if "flags" in given else "0"
        return c.int(self._update(c, v, given["key"], given["value"], flags, node), -4095, 0)

    def do_insert(
        self, c: Walker, v: Value, args: list[Value], kwargs: dict[str, Value], node: ast.AST
    ) -> Value:
        """Store unless the key is there; whether it was stored."""
        given = named(c, "insert", ("key", "value"), 2, args, kwargs, node)
        got = self._update(c, v, given["key"], given["value"], str(NOEXIST), node)
        return c.boolean(c.em.op(f"icmp eq i64 {got}, 0"))

    def del_item(self, c: Walker, v: Value, index: Value, node: ast.AST) -> None:
        self.do_delete(c, v, [index], {}, node)

    def do_delete(
        self, c: Walker, v: Value, args: list[Value], kwargs: dict[str, Value], node: ast.AST
    ) -> Value:
        """Delete; whether the key was there."""
        given = named(c, "delete", ("key",), 1, args, kwargs, node)
        if self.is_array:
            raise c.error(node, "elements of an array cannot be deleted", "store 0")
        got = c.helper(3, [f"ptr {v.ir}", f"ptr {self.key_address(c, given['key'], node)}"])
        return c.boolean(c.em.op(f"icmp eq i64 {got}, 0"))

    def contains(self, c: Walker, v: Value, item: Value, node: ast.AST) -> Value:
        return c.boolean(c.em.op(f"icmp ne ptr {self.find(c, v, item, node)}, null"))

    def add_item(self, c: Walker, v: Value, index: Value, op: ast.operator, by: Value, node: ast.AST) -> None:
        """Look up, else insert zero, look up again, add: atomic where other processors may write."""
        of = c.unit.maps.value(self.map)
        if not of.scalar:
            raise c.error(
                node, f"a {of.name} cannot be added to", f"p = {self.symbol}.lookup(key); p.field += 1"
            )
        if self.is_array:
            index = c.index(index, self.map.max_entries, self.name, getattr(node, "target", node))
        key = self.key_address(c, index, node)
        value = Value(PtrType(of, self.space), "")
        done = c.label("added")
        slot = c.em.slot("ptr", ("entry", c.fresh()))
        first = c.em.op(f"call align 8 ptr inttoptr (i64 1 to ptr)(ptr {v.ir}, ptr {key})")
        c.em.do(f"store ptr {first}, ptr {slot}")
        there, missing = c.label("there"), c.label("missing")
        c.em.cond(c.em.op(f"icmp ne ptr {first}, null"), there, missing)
        c.em.place(missing)
        if not self.is_array:
            zero = c.buffer(of.size, 8, ("zero", of.size))
            c.zero(zero, of.size, of.align)
            c.helper(2, [f"ptr {v.ir}", f"ptr {key}", f"ptr {zero}", f"i64 {NOEXIST}"])
            again = c.em.op(f"call align 8 ptr inttoptr (i64 1 to ptr)(ptr {v.ir}, ptr {key})")
            c.em.do(f"store ptr {again}, ptr {slot}")
            full = c.label("full")
            c.em.cond(c.em.op(f"icmp ne ptr {again}, null"), there, full)
            c.em.place(full)
            self.count_lost(c)
        c.em.br(done)
        c.em.place(there)
        value.ir = c.em.op(f"load ptr, ptr {slot}")
        if not atomic(c, of, value, value.ir, op, by, node):
            old = of.load(c, value.ir, node)
            of.store(c, value.ir, c.binary(op, old, by, node), node)
        c.em.br(done)
        c.em.place(done)

    def do_for_each(
        self, c: Walker, v: Value, args: list[Value], kwargs: dict[str, Value], node: ast.AST
    ) -> Value:
        """Call ``function(map, key, value, context)`` for each element until it gives True; how many."""
        from skep.lang import callbacks

        given = named(c, "for_each", ("function", "context"), 1, args, kwargs, node)
        along = callbacks.given_along(given.get("context"))
        of = ("any", c.unit.maps.key(self.map), c.unit.maps.value(self.map), along)
        fn = callbacks.callback(c, given["function"], node, "for_each", of)
        context = callbacks.context(c, given.get("context"), node)
        return c.int(c.helper(164, [f"ptr {v.ir}", f"ptr {fn}", context, "i64 0"]), -4095, 0xFFFFFFFF)

    def do_lookup_percpu(
        self, c: Walker, v: Value, args: list[Value], kwargs: dict[str, Value], node: ast.AST
    ) -> Value:
        given = named(c, "lookup_percpu", ("key", "cpu"), 2, args, kwargs, node)
        if self.space != "percpu":
            raise c.error(
                node, f"{self.symbol} is not per processor", "bpf.PerCpuHash and bpf.PerCpuArray are"
            )
        key = self.key_address(c, given["key"], node)
        cpu = c.as_int(given["cpu"], node).ir
        got = c.em.op(f"call align 8 ptr inttoptr (i64 195 to ptr)(ptr {v.ir}, ptr {key}, i64 {cpu})")
        return self.reference(c, got, nullable=True)


__all__ = ["Any", "MapType", "Maps", "Table", "kind_of", "map_value", "table_type"]
