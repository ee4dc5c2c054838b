"""Locks, RCU sections and saved interrupt states: taking them and giving them back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from skep.verifier import kinds as k
from skep.verifier.facts import records as rec
from skep.verifier.ptr import IterSlot, Ptr
from skep.verifier.state import (
    REF_IRQ,
    REF_LOCK,
    REF_LOCK_MASK,
    REF_RES_LOCK,
    REF_RES_LOCK_IRQ,
    Ref,
)
from skep.verifier.subject import MapFacts
from skep.verifier.value import Value
from skep.verifier.version import MENDED

if TYPE_CHECKING:
    from skep.verifier.env import Env
    from skep.verifier.insn import Insn

_RES_LOCKS: Final = REF_RES_LOCK | REF_RES_LOCK_IRQ


# --- locks --------------------------------------------------------------------------------------


def _find_lock(env: Env, kinds: int, id: int, ptr: object) -> Ref | None:
    for row in env.state.refs:
        if row.type & kinds and row.id == id and row.ptr is ptr:
            return row
    return None


def take_lock(env: Env, kind: int, id: int, ptr: object) -> None:
    st = env.state
    st.refs = (*st.refs, Ref(kind, id, env.pc, ptr))
    st.locks += 1
    st.lock_id = id
    st.lock_ptr = ptr


def drop_lock(env: Env, kind: int, id: int, ptr: object) -> bool:
    """Give a lock back; the one taken before it, if any, is then the innermost. False: not held."""
    st = env.state
    found = -1
    previous: Ref | None = None
    for i, row in enumerate(st.refs):
        if row.type == kind and row.id == id and row.ptr is ptr:
            found = i
        elif row.type & REF_LOCK_MASK and found < 0:
            previous = row
    if found < 0:
        return False
    st.refs = st.refs[:found] + st.refs[found + 1 :]
    st.locks -= 1
    st.lock_id = previous.id if previous is not None else 0
    st.lock_ptr = previous.ptr if previous is not None else None
    return True


def check_lock(env: Env, reg: int, lock: bool, res: bool = False, irq: bool = False) -> None:
    """Register ``reg`` points to a lock that is taken or given back (process_spin_lock)."""
    p = env.state.regs[reg]
    assert isinstance(p, Ptr)
    name = "bpf_res_spin" if res else "bpf_spin"
    if not p.var.const:
        env.reject(f"R{reg} doesn't have constant offset. {name}_lock has to be at the constant offset")
    row = p.obj if p.type == k.PTR_TO_MAP_VALUE else None
    if isinstance(row, MapFacts) and row.btf is None:
        env.reject(f"map '{row.name}' has to have BTF in order to use {name}_lock")
    field = rec.pointer_record(p).first(rec.RES_SPIN_LOCK if res else rec.SPIN_LOCK)
    if field is None:
        owner = f"map '{row.name}'" if isinstance(row, MapFacts) else "local 'kptr'"
        env.reject(f"{owner} has no valid {name}_lock")
    at = p.off + p.var.smin
    if field.off != at:
        env.reject(f"off {at} doesn't point to 'struct {name}_lock' that is at {field.off}")
    target = p.obj
    kind = (REF_RES_LOCK_IRQ if irq else REF_RES_LOCK) if res else REF_LOCK
    st = env.state
    if lock:
        if st.locks and not res:
            if any(r.type & REF_LOCK for r in st.refs):
                env.reject("Locking two bpf_spin_locks are not allowed")
        elif st.locks and _find_lock(env, _RES_LOCKS, p.id, target) is not None:
            env.reject("Acquiring the same lock again, AA deadlock detected")
        take_lock(env, kind, p.id, target)
        return
    if not st.locks:
        env.reject(f"{name}_unlock without taking a lock")
    if _find_lock(env, kind, p.id, target) is None:
        env.reject(f"{name}_unlock of different lock")
    if p.id != st.lock_id or target is not st.lock_ptr:
        env.reject(f"{name}_unlock cannot be out of order")
    drop_lock(env, kind, p.id, target)
    forget_non_owning(env)
    leave_section(env)


def forget_non_owning(env: Env) -> None:
    """The lock is gone that kept list and tree nodes in place: pointers to them are no good."""
    env.forget(lambda p: bool(p.type & k.NON_OWN_REF) and bool(p.type & k.MEM_ALLOC))


def in_tree_callback(env: Env) -> bool:
    """The path is in the comparison that bpf_rbtree_add calls, under the tree's lock."""
    frame = env.state.frame
    if not frame.in_callback or frame.callsite < 0:
        return False
    insn = env.code[frame.callsite]
    return insn.src == 2 and _kfunc_name(env, insn.imm, insn.off).startswith("bpf_rbtree_add")


def _kfunc_name(env: Env, btf_id: int, module: int) -> str:
    found = env.subject.kfunc(btf_id, module)
    return found.name if found is not None else ""


# --- RCU sections -------------------------------------------------------------------------------


def leave_section(env: Env) -> None:
    """A lock, interrupts or preemption are given back: since 7.2 that ends what they kept, like RCU."""
    if env.kernel >= MENDED and not env.in_rcu():
        leave_rcu(env)


def leave_rcu(env: Env) -> None:
    """The last RCU section ended: what it kept can no longer be trusted."""
    taken = k.MEM_RCU | k.PTR_MAYBE_NULL | (k.NON_OWN_REF if env.kernel >= MENDED else 0)

    def change(value: Value) -> Value:
        if not value.type & k.MEM_RCU:
            return value
        flags = value.type & ~taken | k.PTR_UNTRUSTED
        if isinstance(value, Ptr):
            return env.ptrs.retype(value, flags)
        if isinstance(value, IterSlot):
            more = flags & ~k.BASE_MASK
            return IterSlot(value.btf, value.btf_id, value.state, value.depth, value.ref, more)
        return value

    env.replace(change)


# --- saved interrupt states -----------------------------------------------------------------------


def acquire_irq(env: Env) -> int:
    """Interrupts are off from here on; the id of the saved state."""
    st = env.state
    id = env.new_id()
    st.refs = (*st.refs, Ref(REF_IRQ, id, env.pc, None))
    st.irq_id = id
    return id


def release_irq(env: Env, id: int) -> bool:
    """Restore the state saved as ``id``, which must be the newest. False: it is not."""
    st = env.state
    if id != st.irq_id:
        return False
    previous = 0
    for i, row in enumerate(st.refs):
        if row.type == REF_IRQ and row.id == id:
            st.refs = st.refs[:i] + st.refs[i + 1 :]
            st.irq_id = previous
            return True
        if row.type == REF_IRQ:
            previous = row.id
    return False


# --- calls while a lock is held -----------------------------------------------------------------

_SPIN_UNLOCK: Final = 94
#: kernel functions that may be called while a spin lock is held (kfunc_spin_allowed)
_UNDER_LOCK: Final = frozenset(
    (
        "bpf_list_push_front_impl",
        "bpf_list_push_back_impl",
        "bpf_list_push_front",
        "bpf_list_push_back",
        "bpf_list_add",
        "bpf_list_del",
        "bpf_list_pop_front",
        "bpf_list_pop_back",
        "bpf_list_front",
        "bpf_list_back",
        "bpf_list_is_first",
        "bpf_list_is_last",
        "bpf_list_empty",
        "bpf_rbtree_add_impl",
        "bpf_rbtree_add",
        "bpf_rbtree_remove",
        "bpf_rbtree_first",
        "bpf_rbtree_root",
        "bpf_rbtree_left",
        "bpf_rbtree_right",
        "bpf_refcount_acquire_impl",
        "bpf_refcount_acquire",
        "bpf_iter_num_new",
        "bpf_iter_num_next",
        "bpf_iter_num_destroy",
        "bpf_res_spin_lock",
        "bpf_res_spin_unlock",
        "bpf_res_spin_lock_irqsave",
        "bpf_res_spin_unlock_irqrestore",
        "bpf_arena_alloc_pages",
        "bpf_arena_free_pages",
        "bpf_arena_reserve_pages",
        "bpf_stream_vprintk",
        "bpf_stream_vprintk_impl",
        "bpf_stream_print_stack",
    )
)


def check_call_under_lock(env: Env, insn: Insn) -> None:
    """A call while a lock is held: giving it back, and little else."""
    if insn.src == 0 and insn.imm != _SPIN_UNLOCK:
        env.reject("function calls are not allowed while holding a lock")
    if insn.src != 2:
        return
    name = _kfunc_name(env, insn.imm, insn.off)
    later = env.kernel < (7, 0) and (name or "").startswith(("bpf_arena_", "bpf_stream_"))
    if insn.off or name not in _UNDER_LOCK or later:
        env.reject("function calls are not allowed while holding a lock")
