"""A call of a helper: is it allowed here, are its arguments good, what does it leave (check_helper_call)."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Final

from skep.uapi.availability import allowed, first
from skep.uapi.enums import AttachType, MapType, ProgType
from skep.verifier import callback_states, dynptr
from skep.verifier import kinds as k
from skep.verifier.bounds import Bounds
from skep.verifier.callbacks import CHANGES_PACKET, push
from skep.verifier.facts import args as a
from skep.verifier.facts import records as rec
from skep.verifier.facts.btfwalk import is_struct, skip_modifiers
from skep.verifier.facts.protos import Proto, named, proto
from skep.verifier.facts.returns import of_lsm_hook
from skep.verifier.helper_args import (
    Call,
    check_argument,
    constant_string,
    elides_null,
)
from skep.verifier.helper_args import check_btf_argument as check_btf_argument
from skep.verifier.map_calls import check_map_call
from skep.verifier.precision import mark_precise
from skep.verifier.ptr import Ptr
from skep.verifier.rights import PERFMON_HELPERS
from skep.verifier.scalar import Scalar
from skep.verifier.stack import is_null, write_uninit
from skep.verifier.strict import check_helper, check_printed
from skep.verifier.value import Value

if TYPE_CHECKING:
    from skep.verifier.env import Env
    from skep.verifier.insn import Insn

_MAX_ERRNO: Final = 4095
_HELPERS: Final = 212
_LOOKUP: Final = 1
_GET_SMP: Final = 8
_TAIL_CALL: Final = 12
_GET_LOCAL_STORAGE: Final = 81
_FOR_EACH: Final = 164
_SNPRINTF: Final = 165
_TIMER_SET_CALLBACK: Final = 170
_GET_FUNC_IP: Final = 173
_FIND_VMA: Final = 180
_LOOP: Final = 181
_SET_RETVAL: Final = 187
_KPTR_XCHG: Final = 194
_DYNPTR_FROM_MEM: Final = 197
_DYNPTR_WRITE: Final = 202
_DYNPTR_DATA: Final = 203
_PER_CPU: Final = (153, 154)
_USER_RINGBUF_DRAIN: Final = 209
#: get_stack, get_task_stack, probe_read_str and its kernel and user forms
_SIZED: Final = frozenset((67, 141, 45, 115, 114))
_ACQUIRES: Final = frozenset((84, 85, 99, 131, _KPTR_XCHG))
#: helpers that give the same object as another kind of socket
_CASTS: Final = frozenset((95, 96, 136, 137, 138, 139, 140, 196))
#: helpers that change a map
_WRITES_MAP: Final = frozenset((2, 3, 87, 88))
_SOCKOPTS: Final = (49, 57)
_LOCKED_HOOKS: Final = ("bpf_lsm_sock_graft", "bpf_lsm_inet_csk_clone", "bpf_lsm_inet_conn_established")
_UNLOCKED_HOOKS: Final = ("bpf_lsm_socket_post_create", "bpf_lsm_socket_socketpair")
#: functions of which d_path may be called, beside LSM hooks (btf_allowlist_d_path)
_D_PATH_FUNCTIONS: Final = frozenset(
    (
        "security_file_permission",
        "security_inode_getattr",
        "security_file_open",
        "security_path_truncate",
        "vfs_truncate",
        "vfs_fallocate",
        "dentry_open",
        "vfs_getattr",
        "filp_close",
    )
)


@cache
def _names() -> dict[int, str]:
    from skep.uapi.helpers import helpers

    return {number: row.name for number, row in helpers().items()}


def helper_name(number: int) -> str:
    """``bpf_map_lookup_elem``, "unknown" for a number without a helper."""
    name = _names().get(number) or ("unspec" if number == 0 else None)
    return f"bpf_{name}" if name is not None else "unknown"


def find_proto(env: Env, number: int) -> Proto:
    """The prototype of a helper for this program, which may call it."""
    shown = f"{helper_name(number)}#{number}"
    if not 0 <= number < _HELPERS:
        env.reject(f"invalid func {shown}")
    subject = env.subject
    kind, attach = subject.prog_type, subject.attach_type
    if kind == ProgType.EXT and subject.attach_prog is not None:
        kind, attach = subject.attach_prog.prog_type, subject.attach_prog.attach_type
    found = None
    if allowed(kind, number, attach, env.kernel) or number in _SOCKOPTS:
        found = proto(kind, number, attach, subject.sleepable)
    if number in _SOCKOPTS and kind in (ProgType.LSM, ProgType.STRUCT_OPS):
        found = _sockopt(env, number)
    elif number in _SOCKOPTS and not allowed(kind, number, attach, env.kernel):
        found = None
    if found is None or not _rights_allow(env, number):
        text = f"program of this type cannot use helper {shown}"
        if env.kernel < (6, 10):
            text = f"unknown func {shown}"
        since = first(kind, number, attach)
        if since is not None and since > env.kernel:
            text += f" (Linux {since[0]}.{since[1]} has it)"
        env.reject(text)
    check_helper(env, number, shown)
    return found


def _sockopt(env: Env, number: int) -> Proto | None:
    """setsockopt and getsockopt where the function that is attached to decides."""
    subject = env.subject
    short = "setsockopt" if number == _SOCKOPTS[0] else "getsockopt"
    if subject.prog_type == ProgType.STRUCT_OPS:
        from skep.verifier.facts.btf_context import attach_target

        target = attach_target(subject)
        tcp = subject.struct_ops is not None and subject.struct_ops[0] == "tcp_congestion_ops"
        return named(f"sk_{short}") if tcp and target is not None and target.name != "release" else None
    if subject.attach_type != AttachType.LSM_CGROUP:
        return None
    from skep.verifier.facts.btf_context import attach_target

    target = attach_target(subject)
    hook = target.name if target is not None else ""
    if hook in _LOCKED_HOOKS:
        return named(f"sk_{short}")
    return named(f"unlocked_sk_{short}") if hook in _UNLOCKED_HOOKS else None


#: what socket filters and programs for packets of a cgroup may call without CAP_BPF
_UNPRIVILEGED: Final = frozenset(
    (1, 2, 3, 5, 7, 8, 12, 14, 15, 25, 26, 42, 46, 47, 68, 79, 81, 83, 84, 85, 86, 87, 88, 89, 95, 96, 97, 98,
     99, 105, 106, 107, 108, 120, 122, 125, 128, 129, 130, 131, 132, 133, 134, 160, 182, 186, 187, 195, 208)
)  # fmt: skip


def _rights_allow(env: Env, number: int) -> bool:
    rights = env.rights
    if not rights.bpf:
        return unprivileged_helper(number)
    return rights.perfmon or number not in PERFMON_HELPERS


def unprivileged_helper(number: int) -> bool:
    """Programs loaded without CAP_BPF may call it."""
    return number in _UNPRIVILEGED


def check_helper_call(env: Env, insn: Insn, number: int) -> None:
    """Simulate the call of helper ``number`` at the current instruction."""
    fn = env.protos.get(number)
    if fn is None:
        fn = find_proto(env, number)
        if fn.gpl_only and not env.subject.gpl_compatible:
            env.reject("cannot call GPL-restricted function from non-GPL compatible program")
        if fn.allowed and not _attachment_allows(env, fn.allowed):
            env.reject("helper call is not allowed in probe")
        env.protos[number] = fn
    check_printed(env, number)
    st = env.state
    if fn.might_sleep:
        if not env.in_sleepable():
            if env.kernel >= (7, 0):
                env.reject(f"sleepable helper {helper_name(number)}#{number} in {env.context()}")
            env.reject("helper call might sleep in a non-sleepable prog")
        for held, where in (
            (st.rcu_locks, "rcu_read_lock region"),
            (st.preempt_locks, "non-preemptible region"),
            (st.irq_id, "IRQ-disabled region"),
        ):
            if held:
                env.reject(f"sleepable helper {helper_name(number)}#{number} in {where}")
    call = Call(fn, number)
    for index in range(5):
        check_argument(env, call, index)
    row = call.map
    if row is not None and number in _WRITES_MAP and not row.writable:
        env.reject("write into map forbidden")
    if number == _TAIL_CALL and row is not None:
        if row.type != MapType.PROG_ARRAY:
            env.reject("expected prog array map for tail call")
        if not env.rights.perfmon and env.tail_maps.setdefault(insn.pc, row) is not row:
            env.reject("tail_call abusing map_ptr")  # speculation could mix the two
        index_value = st.regs[3]
        if isinstance(index_value, Scalar) and index_value.const and index_value.tv < row.max_entries:
            mark_precise(env, 3)
    write_uninit(env, call.uninit)
    if call.release_reg:
        _release(env, call, f"{helper_name(number)}#{number}")
    # A tail call that succeeds does not come back here; Linux before 6.18 took it for any other helper.
    returns = number != _TAIL_CALL or env.kernel < (6, 18)
    changes_packet = number in CHANGES_PACKET and returns
    if _check_special(env, call, insn):
        changes_packet = True
    result, id = _result(env, call)
    _clear_arguments(env)
    env.set_reg(0, result, id)
    if row is not None and (row.type, number) not in env.map_calls:
        check_map_call(env, row, helper_name(number)[4:], number)
        env.map_calls.add((row.type, number))
    if number == _GET_FUNC_IP:
        _check_func_ip(env)
    if changes_packet:
        env.clear_packets()


def _clear_arguments(env: Env) -> None:
    regs, ids = env.state.regs, env.state.ids
    nothing = env.nothing
    for r in range(6):
        regs[r] = nothing
        ids[r] = 0


def _attachment_allows(env: Env, rule: str) -> bool:
    subject = env.subject
    if rule == "bpf_d_path_allowed":
        if subject.prog_type == ProgType.TRACING and subject.attach_type == AttachType.TRACE_ITER:
            return True
        from skep.verifier.facts.btf_context import attach_target

        target = attach_target(subject)
        if subject.prog_type == ProgType.LSM:
            return subject.sleepable or target is not None
        return target is not None and target.name in _D_PATH_FUNCTIONS
    if rule == "bpf_ima_inode_hash_allowed":
        return subject.sleepable
    if rule == "bpf_sk_storage_tracing_allowed":
        return subject.attach_type in (
            AttachType.TRACE_ITER,
            AttachType.TRACE_RAW_TP,
        ) or subject.attach_type in (AttachType.TRACE_FENTRY, AttachType.TRACE_FEXIT)
    return True


# --- what single helpers ask --------------------------------------------------------------------


def _release(env: Env, call: Call, shown: str) -> None:
    reg = call.release_reg
    arg = call.proto.args[reg - 1].kind
    if arg & k.BASE_MASK == a.ARG_PTR_TO_DYNPTR:
        dynptr.release(env, reg)
        return
    if call.number == _KPTR_XCHG and call.ref:
        done = _hand_over(env, call.ref)
    elif call.ref:
        done = env.release(call.ref)
    else:
        done = is_null(env.state.regs[reg])
    if not done:
        env.reject(f"func {shown} reference has not been acquired before")


def _hand_over(env: Env, ref: int) -> bool:
    """The reference goes into a map: per-CPU objects can still be read under RCU."""
    if not env.drop_ref(ref):
        return False
    in_rcu = env.in_rcu()
    percpu = k.MEM_ALLOC | k.MEM_PERCPU

    def change(value: Value) -> Value:
        if isinstance(value, Ptr) and value.ref == ref:
            if in_rcu and value.type & percpu == percpu:
                p = env.ptrs.retype(value, value.type & ~k.MEM_ALLOC | k.MEM_RCU)
                return env.ptrs.with_ids(p, value.id, 0)
            return env.nothing if not env.leaks else env.scalars.unknown
        return value

    env.replace(change)
    return True


def _check_special(env: Env, call: Call, insn: Insn) -> bool:
    """Rules of single helpers; True: the packet has changed."""
    number = call.number
    st = env.state
    if number == _LOOP:
        mark_precise(env, 1)
        count = st.regs[1]
        if isinstance(count, Scalar) and st.frame.callback_depth < count.umax:
            push(env, call.subprog, callback_states.loop)
        else:
            st.frame.callback_depth = 0
        if is_null(st.regs[4]):
            mark_precise(env, 4)
    elif number == _TAIL_CALL:
        from skep.verifier.calls import check_resources

        check_resources(env, st, "tail_call", False)
    elif number == _GET_LOCAL_STORAGE:
        if not is_null(st.regs[2]):
            env.reject("get_local_storage() doesn't support non-zero flags")
        mark_precise(env, 2)
    elif number == _FOR_EACH:
        push(env, call.subprog, callback_states.map_elem)
    elif number == _TIMER_SET_CALLBACK:
        push(env, call.subprog, callback_states.timer, is_async=True)
    elif number == _FIND_VMA:
        push(env, call.subprog, callback_states.find_vma)
    elif number == _USER_RINGBUF_DRAIN:
        push(env, call.subprog, callback_states.user_ringbuf)
    elif number == _SNPRINTF:
        _check_snprintf(env)
    elif number == _DYNPTR_FROM_MEM:
        if st.regs[1].type != k.PTR_TO_MAP_VALUE:
            name = k.kind_name(st.regs[1].type)
            env.reject(f"Unsupported reg type {name} for bpf_dynptr_from_mem data")
    elif number == _DYNPTR_DATA:
        seen = dynptr.look(env, 1)
        assert seen is not None
        call.dyn_id = seen.id
        call.ref = seen.ref
    elif number == _DYNPTR_WRITE:
        seen = dynptr.look(env, 1)
        return seen is not None and seen.kind in (dynptr.SKB, dynptr.SKB_META)
    elif number == _SET_RETVAL:
        _check_set_retval(env)
    return False


def _check_set_retval(env: Env) -> None:
    """The number becomes what the hook returns; Linux holds it to an errno from 7.0 on."""
    subject = env.subject
    target = None
    if subject.prog_type == ProgType.LSM and subject.attach_type == AttachType.LSM_CGROUP:
        from skep.verifier.facts.btf_context import attach_target

        target = attach_target(subject)
        if target is not None and not target.ret:
            env.reject("BPF_LSM_CGROUP that attach to void LSM hooks can't modify return value!")
    if env.kernel < (7, 0) or (
        subject.prog_type == ProgType.CGROUP_SOCKOPT and subject.attach_type == AttachType.CGROUP_GETSOCKOPT
    ):
        return
    value = env.state.regs[1]
    if not isinstance(value, Scalar):
        env.reject("R1 is not a scalar")
    low, high = -_MAX_ERRNO, 0
    if subject.prog_type == ProgType.LSM and target is not None:
        low, high = of_lsm_hook(target.name)
    mark_precise(env, 1)
    if not (low <= value.s32min and value.s32max <= high):
        from skep.verifier.calls import refuse_range

        refuse_range(env, value, low, high, "At bpf_set_retval", "R1")


def _check_snprintf(env: Env) -> None:
    size = env.state.regs[5]
    if not isinstance(size, Scalar):
        return
    text = constant_string(env, 3)
    from skep.verifier.facts.format import arguments

    count = size.tv // 8
    if size.tv % 8:
        env.reject("data_len must be a multiple of 8")
    if arguments(text, count) is None:
        env.reject("Invalid format string")


def _check_func_ip(env: Env) -> None:
    subject = env.subject
    if subject.prog_type == ProgType.TRACING and subject.attach_type not in (
        AttachType.TRACE_FENTRY,
        AttachType.TRACE_FEXIT,
        AttachType.MODIFY_RETURN,
        AttachType.TRACE_FSESSION,
    ):
        env.reject(
            f"func bpf_get_func_ip#{_GET_FUNC_IP} supported only for fentry/fexit/fsession/fmod_ret programs"
            if env.kernel >= (7, 0)
            else f"func bpf_get_func_ip#{_GET_FUNC_IP} supported only for fentry/fexit/fmod_ret programs"
        )
    if subject.prog_type not in (ProgType.TRACING, ProgType.KPROBE):
        env.reject(f"func bpf_get_func_ip#{_GET_FUNC_IP} not supported for program type {subject.prog_type}")


# --- what the call leaves in r0 -----------------------------------------------------------------


def _result(env: Env, call: Call) -> tuple[Value, int]:
    """r0 after the call, and its scalar id."""
    fn = call.proto
    flags = fn.ret & ~k.BASE_MASK
    base = fn.ret & k.BASE_MASK
    if base == a.RET_INTEGER:
        return _number(env, call), 0
    if base == a.RET_VOID:
        return env.nothing, 0
    aux = 0
    obj: object = None
    if base == a.RET_PTR_TO_MAP_VALUE:
        return _map_result(env, call, flags), 0
    if base == a.RET_PTR_TO_SOCKET:
        kind = k.PTR_TO_SOCKET | flags
    elif base == a.RET_PTR_TO_SOCK_COMMON:
        kind = k.PTR_TO_SOCK_COMMON | flags
    elif base == a.RET_PTR_TO_TCP_SOCK:
        kind = k.PTR_TO_TCP_SOCK | flags
    elif base == a.RET_PTR_TO_MEM:
        kind = k.PTR_TO_MEM | flags
        aux = call.mem_size
    elif base == a.RET_PTR_TO_MEM_OR_BTF_ID:
        kind, aux, obj = _percpu_result(env, call, flags)
    else:
        kind, aux, obj = _struct_result(env, call, flags)
    number = call.number
    id = env.new_id() if kind & k.PTR_MAYBE_NULL else 0
    ref = dyn = 0
    if number == _DYNPTR_DATA:
        dyn, ref = call.dyn_id, call.ref
    elif number in _CASTS:
        ref = call.ref
    elif number in _ACQUIRES:
        id = ref = env.acquire()
    return env.ptrs.make(kind, id=id, ref=ref, aux=aux, obj=obj, dyn=dyn), 0


def _map_result(env: Env, call: Call, flags: int) -> Value:
    row = call.map
    assert row is not None
    lookup = call.number == _LOOKUP
    if lookup and 0 <= call.const_key < row.max_entries and elides_null(row):
        flags &= ~k.PTR_MAYBE_NULL
    id = ref = 0
    if flags & k.PTR_MAYBE_NULL or rec.map_record(row).has(rec.SPIN_LOCK | rec.RES_SPIN_LOCK):
        id = env.new_id()
    if lookup and row.type in (MapType.SOCKMAP, MapType.SOCKHASH):
        id = ref = env.acquire()
    return env.ptrs.make(k.PTR_TO_MAP_VALUE | flags, id=id, ref=ref, aux=call.map_uid, obj=row)


def _percpu_result(env: Env, call: Call, flags: int) -> tuple[int, int, object]:
    btf = call.ret_btf
    assert btf is not None
    source = env.state.regs[1]
    id = skip_modifiers(btf, call.ret_btf_id)
    if not is_struct(btf, id):
        return k.PTR_TO_MEM | flags, btf.size_of(id), None
    if call.number in _PER_CPU and source.type & k.MEM_RCU:
        return k.PTR_TO_BTF_ID | k.MEM_ALLOC | k.MEM_RCU, call.ret_btf_id, btf
    return k.PTR_TO_BTF_ID | flags & ~k.MEM_RDONLY, id, btf


def _struct_result(env: Env, call: Call, flags: int) -> tuple[int, int, object]:
    kind = k.PTR_TO_BTF_ID | flags
    if call.number == _KPTR_XCHG:
        from skep.verifier.kptr import pointee

        assert call.kptr is not None
        btf, id = pointee(env, call.kptr)
        if btf is not env.subject.types:
            kind |= k.MEM_ALLOC
            if call.kptr.kind == rec.KPTR_PERCPU:
                kind |= k.MEM_PERCPU
        return kind, id, btf
    types = env.subject.types
    found = types.find(call.proto.ret_btf, 4) if types is not None else None
    if types is None or found is None:
        shown = f"{helper_name(call.number)}#{call.number}"
        env.reject(f"invalid return type {a.RET_PTR_TO_BTF_ID} of func {shown}")
    return kind, found, types


def _number(env: Env, call: Call) -> Value:
    unknown = env.scalars.unknown
    if call.number in _SIZED:
        return _between(env, -_MAX_ERRNO, call.size_max)
    if call.number == _GET_SMP and env.kernel >= (6, 4):
        return _between(env, 0, env.cpus - 1)
    return unknown


def _between(env: Env, low: int, high: int) -> Value:
    known = env.range_memo.get((low, high))
    if known is not None:
        return known
    b = Bounds(env.scalars.unknown)
    b.smin, b.smax = low, high
    b.s32min, b.s32max = low, high
    if low >= 0:
        b.umin, b.umax = low, high
        b.u32min, b.u32max = low, high
    b.sync()
    known = env.range_memo[low, high] = b.intern(env.scalars)
    return known
