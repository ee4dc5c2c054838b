"""A call of a kernel function: may it be called here, are its arguments good, what does it leave."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from skep.btf import types as t
from skep.errors import BtfError
from skep.isa.opcodes import BPF_PSEUDO_KFUNC_CALL, CALL
from skep.uapi.enums import AttachType, ProgType
from skep.verifier import callback_states, graph
from skep.verifier import dynptr as dp
from skep.verifier import kinds as k
from skep.verifier.bounds import Bounds
from skep.verifier.callbacks import push
from skep.verifier.facts import kfuncs as kf
from skep.verifier.facts import perfmon_kfuncs
from skep.verifier.facts import records as rec
from skep.verifier.facts.btfwalk import skip_modifiers
from skep.verifier.facts.returns import return_range
from skep.verifier.iterators import iterator_at, next_element
from skep.verifier.kfunc_args import LIST_ADD, TREE_ADD, KfuncCall, check_arguments, is_plain
from skep.verifier.mem import may_write_packet
from skep.verifier.precision import mark_precise
from skep.verifier.ptr import Ptr
from skep.verifier.refs import in_tree_callback, leave_rcu, leave_section
from skep.verifier.scalar import Scalar
from skep.verifier.strict import check_kfunc
from skep.verifier.value import Value
from skep.verifier.version import FIXES, MENDED

if TYPE_CHECKING:
    from skep.btf import Btf
    from skep.verifier.env import Env
    from skep.verifier.insn import Insn

_MAX_ERRNO: Final = 4095
_DEV_BOUND: Final = 1 << 6  # BPF_F_XDP_DEV_BOUND_ONLY
_PERCPU_MAX: Final = 512
_RES_LOCKS: Final = ("bpf_res_spin_lock", "bpf_res_spin_lock_irqsave")
_NEW: Final = ("bpf_obj_new_impl", "bpf_obj_new")
_PERCPU_NEW: Final = ("bpf_percpu_obj_new_impl", "bpf_percpu_obj_new")
_REFCOUNT: Final = ("bpf_refcount_acquire_impl", "bpf_refcount_acquire")
_POPS: Final = ("bpf_list_pop_front", "bpf_list_pop_back", "bpf_rbtree_remove", "bpf_list_del")
_PEEKS: Final = (
    "bpf_rbtree_first",
    "bpf_rbtree_root",
    "bpf_rbtree_left",
    "bpf_rbtree_right",
    "bpf_list_front",
    "bpf_list_back",
)
_SLICES: Final = ("bpf_dynptr_slice", "bpf_dynptr_slice_rdwr")
_WQ_CALLBACK: Final = ("bpf_wq_set_callback_impl", "bpf_wq_set_callback")
#: functions that many kernels have and offer no program
_CONFIGURED: Final = ("bpf_verify_pkcs7_signature", "crash_kexec")
#: functions that change the packet
_CHANGES_PACKET: Final = ("bpf_xdp_pull_data",)
#: since then loops are settled when all their paths have ended
LOOP_VISITS: Final = (6, 17)


def check_kfunc_call(env: Env, insn: Insn) -> bool:
    """Simulate the call; True when it throws, which ends the path."""
    if not insn.imm:
        return False  # a weak function that is not there: only refused where it is reached at the end
    row = env.subject.kfunc(insn.imm, insn.off)
    if row is None:
        env.reject(f"kernel btf_id {insn.imm} is not a function")
    check_kfunc(env, row.name)
    name = row.name
    subject = env.subject
    kind = subject.prog_type
    if subject.attach_prog is not None and kind == 28:  # EXT
        kind = subject.attach_prog.prog_type
    where = _place(env)
    if kf.known(name) and not kf.allowed(name, kind, env.kernel, where):
        since = kf.first(name, kind, where, env.kernel)
        text = f"calling kernel function {name} is not allowed"
        if since is not None:
            text += f" (Linux {since[0]}.{since[1]} has it)"
        env.reject(text)
    if name in _CONFIGURED and not _marked(row.btf, row.btf_id):
        env.reject(f"calling kernel function {name} is not allowed")
    # What a module marks is taken; of the kernel's own all that can be called are known, with what they do.
    if not kf.known(name) and (row.btf is env.subject.types or not _tagged(row.btf, row.btf_id)):
        env.reject(f"calling kernel function {name} is not allowed")
    if name == "__bpf_trap":
        env.reject("unexpected __bpf_trap() due to uninitialized variable?")
    flags = kf.flags(name, env.kernel)
    call = KfuncCall(name, row.btf, row.btf_id, flags)
    if flags & kf.SLEEPABLE and not env.in_sleepable():
        env.reject(f"program must be sleepable to call sleepable kfunc {name}")
    if not env.rights.perfmon and env.kernel >= FIXES and name in perfmon_kfuncs.NAMES:
        env.reject(f"{name} is allowed only to CAP_PERFMON and CAP_SYS_ADMIN")
    if name in _RES_LOCKS:
        _lock_may_fail(env, insn)
    check_arguments(env, call)
    if name.startswith(_DROPS) and env.kernel >= MENDED:
        _check_drop(env, call)
    _callbacks(env, call)
    _sections(env, call)
    _releases(env, call)
    if name == "bpf_throw":
        _check_throw(env)
        if env.kernel >= LOOP_VISITS:
            env.sccs.thrown(env.state, env.pc)
    regs, ids = env.state.regs, env.state.ids
    source = regs[1]
    for r in range(6):
        regs[r] = env.nothing
        ids[r] = 0
    _result(env, call, source)
    if name in _CHANGES_PACKET:
        env.clear_packets()
    if flags & kf.ITER_NEXT:
        assert call.iter is not None
        next_element(env, insn, *call.iter)
    return name == "bpf_throw"


_DROPS: Final = ("bpf_obj_drop", "bpf_percpu_obj_drop")
_TRACING: Final = (
    ProgType.KPROBE,
    ProgType.TRACEPOINT,
    ProgType.PERF_EVENT,
    ProgType.RAW_TRACEPOINT,
    ProgType.RAW_TRACEPOINT_WRITABLE,
)
#: fields that may be given back wherever a program runs
_SAFE_ANYWHERE: Final = (
    rec.SPIN_LOCK
    | rec.RES_SPIN_LOCK
    | rec.TIMER
    | rec.WORKQUEUE
    | rec.TASK_WORK
    | rec.KPTR_UNREF
    | rec.REFCOUNT
)


def _check_drop(env: Env, call: KfuncCall) -> None:
    """What may run in an NMI drops no object whose fields give back others."""
    subject = env.subject
    anywhere = subject.prog_type in _TRACING or (
        subject.prog_type == ProgType.TRACING
        and subject.attach_type != AttachType.TRACE_ITER
        and not subject.sleepable
    )
    if not anywhere or call.obj_btf is None:
        return
    if rec.record_of(call.obj_btf, call.obj_id).mask & ~_SAFE_ANYWHERE:
        env.reject(f"{call.name} cannot be used in tracing programs on types with NMI unsafe fields")


def check_device(env: Env) -> None:
    """Metadata of packets is asked of the device that a program is bound to; seen before any path is."""
    subject = env.subject
    if subject.prog_type != ProgType.XDP or subject.prog_flags & _DEV_BOUND:
        return
    for pc, insn in enumerate(subject.insns):
        if insn.opcode == CALL and insn.src == BPF_PSEUDO_KFUNC_CALL and insn.imm:
            row = subject.kfunc(insn.imm, insn.off)
            if row is not None and row.name.startswith("bpf_xdp_metadata_"):
                env.pc = pc
                env.reject("metadata kfuncs require device-bound program")


def _marked(btf: Btf, id: int) -> bool:
    """Whether types that mark functions for programs (since 6.11) mark this one."""
    marks = [row[2] for _, row in btf.items() if row[0] == t.DECL_TAG and row[1] == "bpf_kfunc"]
    return not marks or id in marks


def _place(env: Env) -> str:
    """What filters of kernel functions look at beside the type: the attach type, or a struct's member."""
    subject = env.subject
    if subject.struct_ops is not None and subject.types is not None:
        struct, index = subject.struct_ops
        id = subject.types.find(struct, t.STRUCT)
        return f"{struct}.{subject.types[id][3][index][0]}" if id else struct
    try:
        return AttachType(subject.attach_type).name
    except ValueError:
        return ""


def _tagged(btf: Btf, id: int) -> bool:
    """A function of a module that says it is for programs."""
    return any(row[0] == t.DECL_TAG and row[1] == "bpf_kfunc" and row[2] == id for _, row in btf.items())


def _lock_may_fail(env: Env, insn: Insn) -> None:
    """Another path on which the lock was not got."""
    branch = env.push_branch(insn.pc + 1, insn.pc)
    frame = branch.frame
    for r in range(6):
        frame.regs[r] = env.nothing
        frame.ids[r] = 0
    b = Bounds(env.scalars.unknown)
    b.smin, b.smax = -_MAX_ERRNO, -1
    b.s32min, b.s32max = -_MAX_ERRNO, -1
    b.sync()
    frame.regs[0] = b.intern(env.scalars)


def _callbacks(env: Env, call: KfuncCall) -> None:
    if call.name in TREE_ADD:
        push(env, call.subprog, callback_states.tree_less)
    elif call.name in _WQ_CALLBACK:
        push(env, call.subprog, callback_states.timer, is_async=True, sleepable=True)
    elif call.name.startswith("bpf_task_work_schedule_"):
        push(env, call.subprog, callback_states.task_work, is_async=True, sleepable=True)
    elif call.name == "bpf_session_cookie":
        call.ret_size = 8
        call.rdonly = False


# --- sections -----------------------------------------------------------------------------------


def _sections(env: Env, call: KfuncCall) -> None:
    """RCU, preemption and interrupts: entering, leaving, and not sleeping in between."""
    st = env.state
    name = call.name
    sleeps = bool(call.flags & kf.SLEEPABLE)
    if name in ("bpf_rcu_read_lock", "bpf_rcu_read_unlock") and in_tree_callback(env):
        env.reject("Calling bpf_rcu_read_{lock,unlock} in unnecessary rbtree callback")
    if name == "bpf_rcu_read_lock":
        if st.rcu_locks and env.kernel < NESTED_RCU:
            env.reject(f"nested rcu read lock (kernel function {name})")
        st.rcu_locks += 1
    elif name == "bpf_rcu_read_unlock":
        if not st.rcu_locks:
            env.reject(f"unmatched rcu read unlock (kernel function {name})")
        st.rcu_locks -= 1
        if env.kernel >= MENDED:
            leave_section(env)
        elif not st.rcu_locks:
            leave_rcu(env)
    elif st.rcu_locks and sleeps:
        env.reject(f"kernel func {name} is sleepable within rcu_read_lock region")
    if name == "bpf_preempt_disable":
        st.preempt_locks += 1
    elif name == "bpf_preempt_enable":
        if not st.preempt_locks:
            env.reject(f"unmatched attempt to enable preemption (kernel function {name})")
        st.preempt_locks -= 1
        leave_section(env)
    elif st.preempt_locks and sleeps:
        env.reject(f"kernel func {name} is sleepable within non-preemptible region")
    if st.irq_id and sleeps:
        env.reject(f"kernel func {name} is sleepable within IRQ-disabled region")
    if call.flags & kf.RCU_PROTECTED and not env.in_rcu() and env.kernel >= (6, 18):
        env.reject(f"kernel func {name} requires RCU critical section protection")


#: the first Linux that lets RCU sections nest
NESTED_RCU: Final = (6, 19)


def _releases(env: Env, call: KfuncCall) -> None:
    name = call.name
    regs = env.state.regs
    if call.release_reg:
        p = regs[call.release_reg]
        assert isinstance(p, Ptr)
        if not env.release(p.ref):
            env.reject(f"kfunc {name}#{call.btf_id} reference has not been acquired before")
    if name in LIST_ADD or name in TREE_ADD:
        p = regs[2]
        assert isinstance(p, Ptr)
        if not graph.insert(env, p.ref):
            env.reject(f"kfunc {name}#{call.btf_id} reference has not been acquired before")


def _check_throw(env: Env) -> None:
    """Without a callback of the program's own, the cookie is what the program returns."""
    env.throws = True
    if any(sub.is_exception for sub in env.subprogs):
        return
    from skep.verifier.calls import refuse_range

    value = env.use(1)
    limits = return_range(env.subject, env.kernel)
    if limits is None:
        return
    if not isinstance(value, Scalar):
        env.reject(f"At program exit the register R1 is not a known value ({k.kind_name(value.type)})")
    mark_precise(env, 1)
    low, high = (value.s32min, value.s32max) if limits.word else (value.smin, value.smax)
    if not (limits.low <= low and high <= limits.high):
        refuse_range(env, value, limits.low, limits.high, "At program exit", "R1")


# --- what the call leaves in r0 -----------------------------------------------------------------


def _result(env: Env, call: KfuncCall, source: Value) -> None:
    btf = call.btf
    ret = skip_modifiers(btf, call.ret)
    kind = btf[ret][0]
    if kind in (t.INT, t.ENUM, t.ENUM64):
        if call.name in _RES_LOCKS:
            env.set_reg(0, env.scalars.zero)
        else:
            env.set_unknown(0)
        return
    if kind != t.PTR:
        return
    made = _pointer(env, call, btf[ret][2])
    if made is None:
        env.set_unknown(0)
        return
    type, aux, obj, off, dyn = made
    ref = id = 0
    null = bool(call.flags & kf.RET_NULL) and not (call.name in _REFCOUNT and call.owned)
    if null:
        type |= k.PTR_MAYBE_NULL
        id = env.new_id()
    if type & k.BASE_MASK == k.PTR_TO_MEM and call.ref and not dyn:
        ref = call.ref
    if call.flags & kf.ACQUIRE:
        ref = env.acquire()
        if null:
            id = ref
    elif call.name in _PEEKS and call.root is not None:
        type |= graph.non_owning_flags(call.root)
    p = env.ptrs.make(type, off=off, id=id, ref=ref, aux=aux, obj=obj, dyn=dyn)
    if not id and rec.pointer_record(p).has(rec.SPIN_LOCK | rec.RES_SPIN_LOCK):
        p = env.ptrs.make(type, off=off, id=env.new_id(), ref=ref, aux=aux, obj=obj, dyn=dyn)
    env.set_reg(0, p)


_Made = tuple[int, int, object, int, int]


def _pointer(env: Env, call: KfuncCall, target: int) -> _Made | None:
    """(kind, aux, obj, offset, dynptr) of the pointer that is returned; None: as good as a number."""
    name = call.name
    btf = call.btf
    if name in _NEW or name in _PERCPU_NEW:
        return _new_object(env, call)
    if name in _REFCOUNT:
        return graph.OBJECT, call.obj_id, call.obj_btf, 0, 0
    if name in _POPS or name in _PEEKS:
        assert call.root is not None
        field = call.root
        return graph.OBJECT, field.btf_id, field.btf, field.node_off, 0
    if name == "bpf_cast_to_kern_ctx":
        return _kernel_context(env, call)
    if name == "bpf_rdonly_cast":
        return _cast(env, call)
    if name in _SLICES:
        return _slice(env, call)
    id = skip_modifiers(btf, target)
    kind = btf[id][0]
    if id == 0:
        return None
    if kind not in (t.STRUCT, t.UNION):
        if not call.ret_size:
            try:
                call.ret_size = btf.size_of(id)
                call.rdonly = True
            except BtfError:
                env.reject(
                    f"kernel function {name} returns pointer type {t.KIND_NAMES[kind]} "
                    f"{btf[id][1]} is not supported"
                )
        return k.PTR_TO_MEM | (k.MEM_RDONLY if call.rdonly else 0), call.ret_size, None, 0, 0
    flags = 0
    if name == "bpf_get_kmem_cache":
        flags = k.PTR_UNTRUSTED
    elif call.flags & kf.ITER_NEXT:
        assert call.iter is not None
        flags = k.MEM_RCU if iterator_at(env, *call.iter).type & k.MEM_RCU else k.PTR_TRUSTED
    elif call.flags & kf.RCU_PROTECTED:
        flags = k.MEM_RCU
    return k.PTR_TO_BTF_ID | flags, id, btf, 0, 0


def _new_object(env: Env, call: KfuncCall) -> _Made:
    assert call.constant is not None
    if call.constant > 0xFFFFFFFF:
        env.reject("local type ID argument must be in range [0, U32_MAX]")
    btf = env.subject.btf
    if btf is None:
        env.reject("bpf_obj_new/bpf_percpu_obj_new requires prog BTF")
    id = call.constant
    if not 0 < id < len(btf) or btf[id][0] != t.STRUCT:
        env.reject("bpf_obj_new/bpf_percpu_obj_new type ID argument must be of a struct")
    if call.name in _NEW:
        return graph.OBJECT, id, btf, 0, 0
    size = btf[id][2]
    if size > _PERCPU_MAX:
        env.reject(f"bpf_percpu_obj_new type size ({size}) is greater than {_PERCPU_MAX}")
    if not is_plain(btf, id):
        env.reject("bpf_percpu_obj_new type ID argument must be of a struct of scalars")
    if rec.record_of(btf, id).mask:
        env.reject("bpf_percpu_obj_new type ID argument must not contain special fields")
    return graph.OBJECT | k.MEM_PERCPU, id, btf, 0, 0


def _kernel_context(env: Env, call: KfuncCall) -> _Made:
    """The kernel's own struct behind the context; its BTF has a list of them by program type."""
    types = env.subject.types
    subject = env.subject if env.subject.attach_prog is None else env.subject.attach_prog
    table = types.find("bpf_ctx_convert", t.STRUCT) if types is not None else None
    if types is None or table is None:
        env.reject(f"kernel function {call.name} needs the kernel's types")
    wanted = f"{ProgType(subject.prog_type).c_name}_kern"
    id = next((member[1] for member in types[table][3] if member[0] == wanted), 0)
    found = skip_modifiers(types, id)
    if types[found][0] != t.STRUCT:
        env.reject(f"kern ctx type id {id} is not a struct")
    return k.PTR_TO_BTF_ID | k.PTR_TRUSTED, found, types, 0, 0


def _cast(env: Env, call: KfuncCall) -> _Made:
    assert call.constant is not None
    btf = call.btf
    id = call.constant
    if id == 0 and env.kernel >= (6, 17):
        return k.PTR_TO_MEM | k.MEM_RDONLY | k.PTR_UNTRUSTED, 0, None, 0, 0
    if not 0 < id < len(btf) or btf[id][0] not in (t.STRUCT, t.UNION):
        what = "a struct or void" if env.kernel >= (6, 17) else "a struct"
        env.reject(f"kfunc bpf_rdonly_cast type ID argument must be of {what}")
    return k.PTR_TO_BTF_ID | k.PTR_UNTRUSTED, id, btf, 0, 0


def _slice(env: Env, call: KfuncCall) -> _Made:
    assert call.constant is not None and call.dynptr is not None
    type = k.PTR_TO_MEM | dp.kind_flag(call.dynptr.kind)
    if call.name == "bpf_dynptr_slice":
        type |= k.MEM_RDONLY
    elif call.dynptr.kind in (dp.SKB, dp.XDP, dp.SKB_META, dp.LOCAL, dp.RINGBUF) and not may_write_packet(
        env
    ):
        env.reject("the prog does not allow writes to packet data")
    return type, call.constant, None, 0, call.dynptr.id
