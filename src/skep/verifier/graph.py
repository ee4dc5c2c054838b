"""Lists and trees of a program's own objects: roots under a lock, nodes that change hands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from skep.verifier import kinds as k
from skep.verifier.facts import records as rec
from skep.verifier.facts.btfwalk import ids_match
from skep.verifier.ptr import Ptr, btf_of
from skep.verifier.subject import MapFacts
from skep.verifier.value import Value

if TYPE_CHECKING:
    from skep.verifier.env import Env
    from skep.verifier.facts.records import Field

OBJECT: Final = k.PTR_TO_BTF_ID | k.MEM_ALLOC


def check_root(env: Env, reg: int, index: int, kind: int) -> Field:
    """Register ``reg`` is the head of a list or the root of a tree, and its lock is held."""
    p = env.state.regs[reg]
    if not isinstance(p, Ptr) or p.type not in (k.PTR_TO_MAP_VALUE, OBJECT):
        env.reject(f"arg#{index} expected pointer to map value or allocated object")
    if p.type == OBJECT and not p.ref:
        env.reject("allocated object must be referenced")
    name = "bpf_list_head" if kind == rec.LIST_HEAD else "bpf_rb_root"
    if not p.var.const:
        env.reject(f"R{reg} doesn't have constant offset. {name} has to be at the constant offset")
    record = rec.pointer_record(p)
    at = p.off + p.var.smin
    field = record.find(at, kind)
    if field is None:
        env.reject(f"{name} not found at offset={at}")
    st = env.state
    held = st.locks and st.lock_ptr is p.obj and st.lock_id == p.id
    if not held:
        lock = record.first(rec.SPIN_LOCK)
        text = f"bpf_spin_lock at off={lock.off if lock is not None else -1} must be held for {name}"
        if st.locks and st.lock_ptr is not None:
            env.reject("held lock and object are not in the same allocation", more=text)
        env.reject(text)
    return field


def check_node(env: Env, reg: int, field: Field, kind: int) -> None:
    """Register ``reg`` points to the node, in an object, that the list or tree ``field`` holds."""
    p = env.state.regs[reg]
    assert isinstance(p, Ptr)
    name = "bpf_list_node" if kind == rec.LIST_NODE else "bpf_rb_node"
    if not p.var.const:
        env.reject(f"R{reg} doesn't have constant offset. {name} has to be at the constant offset")
    at = p.off + p.var.smin
    if rec.pointer_record(p).find(at, kind) is None:
        env.reject(f"{name} not found at offset={at}")
    own = btf_of(p)
    holds = field.btf[field.btf_id][1]
    if not ids_match(own, p.aux, 0, field.btf, field.btf_id, True):
        env.reject(
            f"operation on {field.name} expects arg#1 {name} at offset={field.node_off} "
            f"in struct {holds}, but arg is at offset={at} in struct {own[p.aux][1]}"
        )
    if at != field.node_off:
        env.reject(f"arg#1 offset={at}, but expected {name} at offset={field.node_off} in struct {holds}")


def node_pointer(env: Env, field: Field, more: int = 0) -> Ptr:
    """A pointer to the node of an object that ``field`` holds."""
    return env.ptrs.make(OBJECT | more, off=field.node_off, aux=field.btf_id, obj=field.btf)


def non_owning_flags(field: Field) -> int:
    """The flags of a pointer to an object that stays in the list or tree."""
    counted = rec.record_of(field.btf, field.btf_id).has(rec.REFCOUNT)
    return k.NON_OWN_REF | (k.MEM_RCU if counted else 0)


def insert(env: Env, ref: int) -> bool:
    """The object held as ``ref`` goes into a list or tree: it can be used, not owned. False: not held."""
    if not env.drop_ref(ref):
        return False

    def change(value: Value) -> Value:
        if isinstance(value, Ptr) and value.ref == ref:
            counted = rec.pointer_record(value).has(rec.REFCOUNT)
            flags = value.type | k.NON_OWN_REF | (k.MEM_RCU if counted else 0)
            return env.ptrs.with_ids(env.ptrs.retype(value, flags), value.id, 0)
        return value

    env.replace(change)
    return True


def is_map_value(p: Value) -> bool:
    return isinstance(p, Ptr) and p.type == k.PTR_TO_MAP_VALUE and isinstance(p.obj, MapFacts)
