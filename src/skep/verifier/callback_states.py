"""What the function that a call calls back is given: one for each kind of callback.

Each is handed the caller's and the new frame, sets registers r1 to r5 of the new one (the others are not
initialised) and the range that it may return.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from skep.verifier import kinds as k
from skep.verifier.facts import records as rec
from skep.verifier.ptr import Ptr
from skep.verifier.subject import MapFacts

if TYPE_CHECKING:
    from skep.verifier.env import Env
    from skep.verifier.state import Frame

_BOOLEAN = (0, 1)
_FOR_EACH_TYPES = (1, 2, 5, 6, 9, 10)  # hash, array, their per-CPU and LRU forms


def _key_and_value(env: Env, row: MapFacts, uid: int, callee: Frame) -> None:
    callee.regs[2] = env.ptrs.make(k.PTR_TO_MAP_KEY, aux=uid, obj=row)
    callee.regs[3] = env.ptrs.make(k.PTR_TO_MAP_VALUE, aux=uid, obj=row)


def map_elem(env: Env, caller: Frame, callee: Frame) -> None:
    """bpf_for_each_map_elem: (map, key, value, context)."""
    p = caller.regs[1]
    assert isinstance(p, Ptr) and isinstance(p.obj, MapFacts)
    if p.obj.type not in _FOR_EACH_TYPES:
        env.reject("callback function not allowed for map")
    callee.regs[1] = p
    _key_and_value(env, p.obj, p.aux, callee)
    callee.regs[4] = caller.regs[3]
    callee.ids[4] = caller.ids[3]
    callee.in_callback = True
    callee.callback_ret = _BOOLEAN


def loop(env: Env, caller: Frame, callee: Frame) -> None:
    """bpf_loop: (index, context)."""
    callee.regs[1] = env.scalars.unknown
    callee.regs[2] = caller.regs[3]
    callee.ids[2] = caller.ids[3]
    callee.in_callback = True
    callee.callback_ret = _BOOLEAN


def timer(env: Env, caller: Frame, callee: Frame) -> None:
    """bpf_timer_set_callback, bpf_wq_set_callback: (map, key, value), later."""
    p = caller.regs[1]
    assert isinstance(p, Ptr) and isinstance(p.obj, MapFacts)
    callee.regs[1] = env.ptrs.make(k.CONST_PTR_TO_MAP, aux=0, obj=p.obj)
    _key_and_value(env, p.obj, 0, callee)
    callee.in_async = True
    callee.callback_ret = (0, 0)


def find_vma(env: Env, caller: Frame, callee: Frame) -> None:
    """bpf_find_vma: (task, vma, context)."""
    types = env.subject.types
    vma = types.find("vm_area_struct", 4) if types is not None else None
    callee.regs[1] = caller.regs[1]
    callee.regs[2] = env.ptrs.make(k.PTR_TO_BTF_ID, aux=vma or 0, obj=types)
    callee.regs[3] = caller.regs[4]
    callee.ids[3] = caller.ids[4]
    callee.in_callback = True
    callee.callback_ret = _BOOLEAN


def user_ringbuf(env: Env, caller: Frame, callee: Frame) -> None:
    """bpf_user_ringbuf_drain: (dynptr, context)."""
    callee.regs[1] = env.ptrs.make(k.CONST_PTR_TO_DYNPTR, id=env.new_id(), aux=1)
    callee.regs[2] = caller.regs[3]
    callee.ids[2] = caller.ids[3]
    callee.in_callback = True
    callee.callback_ret = _BOOLEAN


def tree_less(env: Env, caller: Frame, callee: Frame) -> None:
    """bpf_rbtree_add: two nodes of the tree, which the lock keeps in place."""
    root = caller.regs[1]
    assert isinstance(root, Ptr)
    field = rec.pointer_record(root).find(root.off + root.var.smin, rec.RB_ROOT)
    assert field is not None
    flags = k.PTR_TO_BTF_ID | k.MEM_ALLOC | k.NON_OWN_REF
    if rec.record_of(field.btf, field.btf_id).has(rec.REFCOUNT):
        flags |= k.MEM_RCU
    node = env.ptrs.make(flags, off=field.node_off, aux=field.btf_id, obj=field.btf)
    callee.regs[1] = callee.regs[2] = node
    callee.in_callback = True
    callee.callback_ret = _BOOLEAN


def task_work(env: Env, caller: Frame, callee: Frame) -> None:
    """bpf_task_work_schedule_signal, _resume: (map, key, value), later."""
    p = caller.regs[3]
    assert isinstance(p, Ptr) and isinstance(p.obj, MapFacts)
    callee.regs[1] = env.ptrs.make(k.CONST_PTR_TO_MAP, aux=0, obj=p.obj)
    _key_and_value(env, p.obj, 0, callee)
    callee.in_async = True
    callee.callback_ret = (-(1 << 31), (1 << 31) - 1)
