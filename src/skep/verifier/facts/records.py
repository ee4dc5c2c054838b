"""The special fields of types: locks, timers, kernel pointers, list and tree nodes in map values and objects.

A `Record` lists those of a struct (or of a variable's section), found by the names and tags that the kernel
goes by; they may not be touched by plain loads and stores, and helpers and kernel functions look for them.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final

from skep.btf import types as t
from skep.errors import BtfError
from skep.verifier import kinds as k
from skep.verifier.subject import MapFacts

if TYPE_CHECKING:
    from skep.btf import Btf
    from skep.verifier.env import Env
    from skep.verifier.ptr import Ptr

# kinds of fields, as bits
SPIN_LOCK: Final = 1 << 0
TIMER: Final = 1 << 1
KPTR_UNREF: Final = 1 << 2
KPTR_REF: Final = 1 << 3
LIST_HEAD: Final = 1 << 4
LIST_NODE: Final = 1 << 5
RB_ROOT: Final = 1 << 6
RB_NODE: Final = 1 << 7
REFCOUNT: Final = 1 << 8
KPTR_PERCPU: Final = 1 << 9
WORKQUEUE: Final = 1 << 10
UPTR: Final = 1 << 11
RES_SPIN_LOCK: Final = 1 << 12
TASK_WORK: Final = 1 << 13
KPTR: Final = KPTR_UNREF | KPTR_REF | KPTR_PERCPU
GRAPH_NODE: Final = LIST_NODE | RB_NODE
GRAPH_ROOT: Final = LIST_HEAD | RB_ROOT

_STRUCTS: Final = {
    "bpf_spin_lock": SPIN_LOCK,
    "bpf_res_spin_lock": RES_SPIN_LOCK,
    "bpf_timer": TIMER,
    "bpf_wq": WORKQUEUE,
    "bpf_list_head": LIST_HEAD,
    "bpf_list_node": LIST_NODE,
    "bpf_rb_root": RB_ROOT,
    "bpf_rb_node": RB_NODE,
    "bpf_refcount": REFCOUNT,
    "bpf_task_work": TASK_WORK,
}
_TAGS: Final = {
    "kptr_untrusted": KPTR_UNREF,
    "kptr": KPTR_REF,
    "percpu_kptr": KPTR_PERCPU,
    "uptr": UPTR,
}
_NAMES: Final = {
    SPIN_LOCK: "bpf_spin_lock",
    RES_SPIN_LOCK: "bpf_res_spin_lock",
    TIMER: "bpf_timer",
    WORKQUEUE: "bpf_wq",
    LIST_HEAD: "bpf_list_head",
    LIST_NODE: "bpf_list_node",
    RB_ROOT: "bpf_rb_root",
    RB_NODE: "bpf_rb_node",
    REFCOUNT: "bpf_refcount",
    TASK_WORK: "bpf_task_work",
    KPTR_UNREF: "kptr",
    KPTR_REF: "kptr",
    KPTR_PERCPU: "percpu_kptr",
    UPTR: "uptr",
}
_SINCE: Final = {
    SPIN_LOCK: (5, 1),
    TIMER: (5, 15),
    KPTR_UNREF: (5, 19),
    KPTR_REF: (5, 19),
    LIST_HEAD: (6, 2),
    LIST_NODE: (6, 2),
    RB_ROOT: (6, 3),
    RB_NODE: (6, 3),
    REFCOUNT: (6, 4),
    KPTR_PERCPU: (6, 6),
    WORKQUEUE: (6, 10),
    UPTR: (6, 13),
    RES_SPIN_LOCK: (6, 15),
    TASK_WORK: (6, 18),
}
_DEPTH: Final = 31
#: a type with more fields, or with two of a kind that there can only be one of, counts as one without
_MAX_FIELDS: Final = 11
_UNIQUE: Final = (SPIN_LOCK, RES_SPIN_LOCK, TIMER, WORKQUEUE, REFCOUNT, TASK_WORK)


def since(kind: int) -> tuple[int, int]:
    """The first Linux that knows a kind of field."""
    return _SINCE[kind]


class Field:
    """A special field ``off`` bytes into its struct.

    ``btf_id`` is what a pointer points to, in ``btf``; for the head of a list or tree it is the struct that
    is held, and ``node_off`` where in it the node lies.
    """

    __slots__ = ("btf", "btf_id", "kind", "node_off", "off", "size")

    def __init__(self, kind: int, off: int, size: int, btf: Btf, btf_id: int = 0, node_off: int = 0) -> None:
        self.kind = kind
        self.off = off
        self.size = size
        self.btf = btf
        self.btf_id = btf_id
        self.node_off = node_off

    @property
    def name(self) -> str:
        """As the kernel's messages call it."""
        return _NAMES[self.kind]

    def __repr__(self) -> str:
        return f"Field({self.name}, off={self.off}, btf_id={self.btf_id})"


class Record:
    """The special fields of one type, by offset."""

    __slots__ = ("fields", "mask")

    def __init__(self, fields: list[Field]) -> None:
        self.fields = sorted(fields, key=lambda field: field.off)
        self.mask = 0
        for field in self.fields:
            self.mask |= field.kind

    def has(self, kinds: int) -> bool:
        return bool(self.mask & kinds)

    def find(self, off: int, kinds: int) -> Field | None:
        """The field of one of ``kinds`` that starts at ``off``."""
        for field in self.fields:
            if field.off == off and field.kind & kinds:
                return field
        return None

    def first(self, kinds: int) -> Field | None:
        for field in self.fields:
            if field.kind & kinds:
                return field
        return None

    @property
    def refcount_off(self) -> int:
        """Where the reference count lies, -1 without one."""
        found = self.first(REFCOUNT)
        return found.off if found is not None else -1


_EMPTY: Final = Record([])


@lru_cache(maxsize=512)
def record_of(btf: Btf, id: int) -> Record:
    """The record of a type of ``btf``; one without fields for other types."""
    fields: list[Field] = []
    try:
        _collect(btf, id, 0, 0, fields)
    except (BtfError, IndexError):
        return _EMPTY
    kinds = [field.kind for field in fields]
    if len(fields) > _MAX_FIELDS or any(kinds.count(kind) > 1 for kind in _UNIQUE):
        return _EMPTY
    return Record(fields)


def _collect(btf: Btf, id: int, base: int, depth: int, out: list[Field]) -> None:
    """Add the fields of a struct or section at ``base``."""
    id = btf.resolve(id)
    value = btf[id]
    if value[0] == t.DATASEC:
        for var, offset, _ in value[3]:
            row = btf[var]
            if row[0] == t.VAR:
                _member(btf, row[2], base + offset, depth, var, -1, out)
    elif value[0] in (t.STRUCT, t.UNION):
        if value[0] == t.UNION and depth == 0:
            return
        for index, (_, type_id, bits, width) in enumerate(value[3]):
            if not width and bits % 8 == 0:
                _member(btf, type_id, base + bits // 8, depth, id, index, out)


def _member(btf: Btf, type_id: int, off: int, depth: int, owner: int, index: int, out: list[Field]) -> None:
    plain = btf.resolve(type_id)
    value = btf[plain]
    count = 1
    for _ in range(32):
        if value[0] != t.ARRAY:
            break
        count *= value[4]
        type_id = value[2]
        plain = btf.resolve(type_id)
        value = btf[plain]
    if not count or count > 1 << 16:
        return
    if value[0] == t.PTR:
        kind, target = _pointer(btf, value[2])
        if kind:
            out.extend(Field(kind, off + 8 * i, 8, btf, target) for i in range(count))
        return
    if value[0] not in (t.STRUCT, t.UNION):
        return
    known = _STRUCTS.get(value[1]) if value[0] == t.STRUCT else None
    if known is not None:
        kind = known
        target, node_off = _contains(btf, owner, index, kind) if kind & GRAPH_ROOT else (0, 0)
        step = btf.size_of(plain)
        out.extend(Field(kind, off + step * i, step, btf, target, node_off) for i in range(count))
        return
    if value[0] == t.STRUCT and depth < _DEPTH:
        inner: list[Field] = []
        _collect(btf, plain, 0, depth + 1, inner)
        if inner:
            step = btf.size_of(plain)
            out.extend(
                Field(f.kind, off + step * i + f.off, f.size, f.btf, f.btf_id, f.node_off)
                for i in range(count)
                for f in inner
            )


def _pointer(btf: Btf, target: int) -> tuple[int, int]:
    """(kind of kptr or 0, struct) of what a pointer points to."""
    kind = 0
    for _ in range(32):
        value = btf[target]
        if value[0] == t.TYPE_TAG:
            kind = _TAGS.get(value[1], kind)
        elif value[0] not in (t.CONST, t.VOLATILE, t.RESTRICT, t.TYPEDEF):
            break
        target = value[2]
    return kind, target


def _contains(btf: Btf, owner: int, index: int, kind: int) -> tuple[int, int]:
    """(struct, offset of its node) that the tag ``contains:struct:node`` of a list or tree names."""
    for row in btf:
        if row[0] != t.DECL_TAG or row[2] != owner or row[3] != index:
            continue
        if not row[1].startswith("contains:"):
            continue
        _, struct, node = [*row[1].split(":"), "", ""][:3]
        found = btf.find(struct, t.STRUCT)
        if found is None:
            break
        for name, type_id, bits, _ in btf[found][3]:
            if name == node and _STRUCTS.get(btf[btf.resolve(type_id)][1]) == kind << 1:  # its node
                return found, bits // 8
        break
    raise BtfError("a list or tree of nothing")  # the whole type then counts as plain


# --- of values and pointers ---------------------------------------------------------------------


def map_record(row: MapFacts) -> Record:
    """The record of a map's values."""
    if not row.record_known:
        row.record = record_of(row.btf, row.value_type) if row.btf is not None and row.value_type else _EMPTY
        row.record_known = True
    found = row.record
    assert isinstance(found, Record)
    return found


def map_record_for(row: MapFacts, kernel: tuple[int, int]) -> Record:
    """The same as a release sees it, from now on: fields that it does not know are bytes."""
    row.record_known = False
    record = map_record(row)
    if any(since(field.kind) > kernel for field in record.fields):
        record = row.record = Record([field for field in record.fields if since(field.kind) <= kernel])
    return record


def pointer_record(p: Ptr) -> Record:
    """The record of what a pointer points to: a map's value, or an object of the program's own."""
    if p.type & k.BASE_MASK == k.PTR_TO_MAP_VALUE and isinstance(p.obj, MapFacts):
        return map_record(p.obj)
    if p.type & k.BASE_MASK == k.PTR_TO_BTF_ID and p.type & k.MEM_ALLOC and p.obj is not None:
        return record_of(p.obj, p.aux)
    return _EMPTY


def has_timer(row: MapFacts) -> bool:
    """Whether values have a timer or work item, which must go with their own map."""
    return map_record(row).has(TIMER | WORKQUEUE | TASK_WORK)


def has_spin_lock(p: Ptr) -> bool:
    """Whether a pointer may point to an object with a lock (reg_may_point_to_spin_lock)."""
    return pointer_record(p).has(SPIN_LOCK | RES_SPIN_LOCK)


def kptr_at(row: MapFacts, off: int) -> Field | None:
    """The kernel pointer ``off`` bytes into a map's value."""
    record = map_record(row)
    return record.find(off, KPTR | UPTR) if record.mask else None


def check_special(env: Env, row: MapFacts, p: Ptr, off: int, size: int, direct: bool) -> None:
    """An access of ``size`` bytes at ``off`` beyond ``p``'s variable part touches no special field.

    ``direct``: it is a load or store, which may be of exactly one kernel pointer.
    """
    record = map_record(row)
    if not record.mask:
        return
    low, high = p.var.smin + off, p.var.umax + off + size
    for field in record.fields:
        at = field.off
        if not (low < at + field.size and at < high):
            continue
        name = field.name
        if not field.kind & (KPTR | UPTR):
            env.reject(f"{name} cannot be accessed directly by load/store")
        if not direct:
            env.reject(f"{name} cannot be accessed indirectly by helper")
        if not p.var.const:
            env.reject(f"{name} access cannot have variable offset")
        if at != off + p.var.tv:
            env.reject(f"{name} access misaligned expected={at} off={off + p.var.tv}")
        if size != 8:
            env.reject(f"{name} access size must be BPF_DW")


def check_special_alloc(env: Env, btf: Btf, p: Ptr, off: int, size: int) -> None:
    """The same for an object of the program's own, where nothing special may be touched."""
    for field in record_of(btf, p.aux).fields:
        if off < field.off + field.size and field.off < off + size:
            env.reject(f"direct access to {field.name} is disallowed")
