"""What is decided before any instruction: the program's type, where it attaches, which maps it may use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from skep.btf import types as t
from skep.uapi.enums import SINCE
from skep.uapi.enums import AttachType as A
from skep.uapi.enums import MapType as M
from skep.uapi.enums import ProgType as P
from skep.verifier import strict
from skep.verifier.facts import lsm_hooks
from skep.verifier.facts import records as rec
from skep.verifier.facts.btfwalk import skip_modifiers
from skep.verifier.features import check_features
from skep.verifier.rights import missing

if TYPE_CHECKING:
    from skep.verifier.env import Env
    from skep.verifier.subject import MapFacts

_TRACING: Final = (P.KPROBE, P.TRACEPOINT, P.PERF_EVENT, P.RAW_TRACEPOINT, P.RAW_TRACEPOINT_WRITABLE)
_SLEEPABLE_ATTACH: Final = (A.TRACE_FENTRY, A.TRACE_FEXIT, A.MODIFY_RETURN, A.TRACE_ITER, A.TRACE_FSESSION)
#: types that take some attach types only
_ATTACH: Final[dict[int, tuple[int, ...]]] = {
    P.CGROUP_SOCK: (
        A.CGROUP_INET_SOCK_CREATE,
        A.CGROUP_INET_SOCK_RELEASE,
        A.CGROUP_INET4_POST_BIND,
        A.CGROUP_INET6_POST_BIND,
    ),
    P.CGROUP_SOCK_ADDR: (
        A.CGROUP_INET4_BIND,
        A.CGROUP_INET6_BIND,
        A.CGROUP_INET4_CONNECT,
        A.CGROUP_INET6_CONNECT,
        A.CGROUP_UNIX_CONNECT,
        A.CGROUP_INET4_GETPEERNAME,
        A.CGROUP_INET6_GETPEERNAME,
        A.CGROUP_UNIX_GETPEERNAME,
        A.CGROUP_INET4_GETSOCKNAME,
        A.CGROUP_INET6_GETSOCKNAME,
        A.CGROUP_UNIX_GETSOCKNAME,
        A.CGROUP_UDP4_SENDMSG,
        A.CGROUP_UDP6_SENDMSG,
        A.CGROUP_UNIX_SENDMSG,
        A.CGROUP_UDP4_RECVMSG,
        A.CGROUP_UDP6_RECVMSG,
        A.CGROUP_UNIX_RECVMSG,
    ),
    P.CGROUP_SKB: (A.CGROUP_INET_INGRESS, A.CGROUP_INET_EGRESS),
    P.CGROUP_SOCKOPT: (A.CGROUP_SETSOCKOPT, A.CGROUP_GETSOCKOPT),
    P.SK_LOOKUP: (A.SK_LOOKUP,),
    P.SK_REUSEPORT: (A.SK_REUSEPORT_SELECT, A.SK_REUSEPORT_SELECT_OR_MIGRATE),
    P.NETFILTER: (A.NETFILTER,),
    P.SYSCALL: (0,),
    P.EXT: (0,),
}
#: loaders leave the attach type of these out where the kernel does not know it
_OPTIONAL_ATTACH: Final = (
    P.XDP,
    P.CGROUP_SKB,
    P.CGROUP_SOCK,
    P.CGROUP_DEVICE,
    P.CGROUP_SYSCTL,
    P.SOCK_OPS,
    P.SK_SKB,
    P.SK_MSG,
    P.SK_REUSEPORT,
    P.FLOW_DISSECTOR,
    P.LIRC_MODE2,
    P.PERF_EVENT,
    P.SCHED_CLS,
)
_SLEEPABLE_MAPS: Final = frozenset(
    (
        M.HASH,
        M.LRU_HASH,
        M.ARRAY,
        M.PERCPU_HASH,
        M.PERCPU_ARRAY,
        M.LRU_PERCPU_HASH,
        M.ARRAY_OF_MAPS,
        M.HASH_OF_MAPS,
        M.RINGBUF,
        M.USER_RINGBUF,
        M.INODE_STORAGE,
        M.SK_STORAGE,
        M.TASK_STORAGE,
        M.CGRP_STORAGE,
        M.QUEUE,
        M.STACK,
        M.ARENA,
        M.INSN_ARRAY,
    )
)
_SLEEPABLE_MAPS_LATER: Final = (M.LPM_TRIE, M.PROG_ARRAY)


def _since(c_name: str) -> tuple[int, int]:
    major, _, minor = SINCE.get(c_name, "3.0").partition(".")
    return int(major), int(minor)


def _attach_name(attach: int) -> str:
    try:
        return A(attach).name.lower()
    except ValueError:
        return str(attach)


def check_program(env: Env) -> None:
    """The program may be loaded as what it says it is."""
    subject = env.subject
    kind, attach = subject.prog_type, subject.attach_type
    try:
        prog = P(kind)
    except ValueError:
        env.reject(f"program type {kind} is unknown")
    first = _since(prog.c_name)
    if first > env.kernel:
        env.reject(f"programs of type {prog.name.lower()} are unknown (Linux {first[0]}.{first[1]} has them)")
    name = _attach_name(attach)
    optional = prog in _OPTIONAL_ATTACH and (prog != P.CGROUP_SOCK or attach == A.CGROUP_INET_SOCK_CREATE)
    if attach and prog != P.STRUCT_OPS and not optional:
        first = _since(f"BPF_{name.upper()}")
        if first > env.kernel:
            env.reject(f"attach type {name} is unknown (Linux {first[0]}.{first[1]} has it)")
    allowed = _ATTACH.get(kind)
    if allowed is not None and attach not in allowed and _since(P(kind).c_name) <= env.kernel:
        env.reject(f"programs of type {prog.name.lower()} cannot have attach type {name}")
    lacks = missing(env.rights, env.kernel, prog)
    if lacks:
        env.reject(f"programs of type {prog.name.lower()} need {lacks}")
    if env.strict is not None:
        strict.check_program(env, env.strict)
    check_features(env)
    _check_sleepable(env)
    if kind in (P.TRACING, P.LSM):
        _check_target(env)
    elif kind == P.STRUCT_OPS:
        _check_member(env)


def _check_sleepable(env: Env) -> None:
    subject = env.subject
    kind, attach = subject.prog_type, subject.attach_type
    if kind == P.SYSCALL and not subject.sleepable:
        env.reject("Syscall programs can only be sleepable")
    if not subject.sleepable or kind == P.SYSCALL:
        return
    fits = (
        (kind == P.TRACING and attach in _SLEEPABLE_ATTACH)
        or (kind == P.LSM and attach != A.LSM_CGROUP)
        or (kind == P.KPROBE and env.kernel >= (5, 18))
        or (kind == P.STRUCT_OPS and env.kernel >= (6, 1))
    )
    if not fits:
        env.reject("Only fentry/fexit/fmod_ret, lsm, iter, uprobe, and struct_ops programs can be sleepable")


#: struct_ops whose programs may sleep in these members only
_SLEEPABLE_MEMBERS: Final = {
    "bpf_dummy_ops": ("test_sleepable",),
    "hid_bpf_ops": ("hid_rdesc_fixup", "hid_hw_request", "hid_hw_output_report"),
    "sched_ext_ops": (
        "init_task",
        "cgroup_init",
        "cgroup_exit",
        "cgroup_prep_move",
        "cpu_online",
        "cpu_offline",
        "init",
        "exit",
        "sub_attach",
        "sub_detach",
    ),
}


def _check_member(env: Env) -> None:
    """What the struct's owner allows of a member (check_member of its bpf_struct_ops)."""
    subject = env.subject
    types = subject.types
    if types is None:
        return
    if subject.struct_ops is None:
        env.reject("attach_btf_id 0 is not supported (no struct of the kernel's own has this program)")
    if not subject.sleepable:
        return
    struct, index = subject.struct_ops
    found = types.find(struct, t.STRUCT)
    allowed = _SLEEPABLE_MEMBERS.get(struct)
    if found is None or allowed is None:
        return
    member = types[found][3][index][0]
    if member not in allowed:
        env.reject(f"attach to unsupported member {member} of struct {struct}")


def _check_target(env: Env) -> None:
    subject = env.subject
    types = subject.attach_btf or subject.types
    if types is None or subject.attach_prog is not None:
        return  # nothing to hold it against
    kind, attach, id = subject.prog_type, subject.attach_type, subject.attach_btf_id
    if not id:
        if subject.attach_name:
            env.reject(f"the kernel has no {subject.attach_name!r} to attach to")
        env.reject("Tracing programs must provide btf_id")
    if id >= len(types):
        env.reject(f"attach_btf_id {id} is invalid")
    value = types[id]
    name: str = value[1] if value[0] != t.PTR else ""
    if not name:
        env.reject(f"attach_btf_id {id} doesn't have a name")
    if kind == P.TRACING and attach == A.TRACE_RAW_TP:
        if value[0] != t.TYPEDEF:
            env.reject(f"attach_btf_id {id} is not a typedef")
        if not name.startswith("btf_trace_"):
            env.reject(f"attach_btf_id {id} points to wrong type name {name}")
        pointer = types[skip_modifiers(types, value[2])]
        if pointer[0] != t.PTR or types[skip_modifiers(types, pointer[2])][0] != t.FUNC_PROTO:
            env.reject(f"attach_btf_id {id} is not a function prototype")
        return
    if value[0] != t.FUNC:
        env.reject(f"attach_btf_id {id} is not a function")
    if kind == P.LSM:
        _check_hook(env, id, name)
    elif attach == A.TRACE_ITER and not name.startswith("bpf_iter_"):
        env.reject(f"{name} is not an iterator")


def _check_hook(env: Env, id: int, name: str) -> None:
    if not env.subject.gpl_compatible:
        env.reject("LSM programs must have a GPL compatible license")
    hook = name.removeprefix("bpf_lsm_")
    if hook == name:
        env.reject(f"attach_btf_id {id} points to wrong type name {name}")
    if hook in lsm_hooks.DISABLED:
        env.reject(f"attach_btf_id {id} points to disabled hook {name}")
    if env.subject.sleepable and hook not in lsm_hooks.SLEEPABLE:
        env.reject(f"{name} is not sleepable")


# --- maps ---------------------------------------------------------------------------------------


def check_map(env: Env, row: MapFacts) -> None:
    """The program may use this map at all (check_map_prog_compatibility)."""
    try:
        kind = M(row.type)
    except ValueError:
        env.reject(f"map type {row.type} of {row.name!r} is unknown")
    strict.check_map(env, row.name, row.type)
    first = _since(kind.c_name)
    if first > env.kernel:
        env.reject(
            f"maps of type {kind.name.lower()} ({row.name!r}) are unknown "
            f"(Linux {first[0]}.{first[1]} has them)"
        )
    prog = env.subject.prog_type
    tracing = prog in _TRACING
    record = rec.map_record_for(row, env.kernel)
    if tracing and record.has(rec.GRAPH_ROOT):
        env.reject("tracing progs cannot use bpf_{list_head,rb_root} yet")
    if record.has(rec.SPIN_LOCK | rec.RES_SPIN_LOCK):
        if prog == P.SOCKET_FILTER:
            env.reject("socket filter progs cannot use bpf_spin_lock yet")
        if tracing:
            env.reject("tracing progs cannot use bpf_spin_lock yet")
    if tracing and env.kernel < (6, 19):
        if record.has(rec.TIMER):
            env.reject("tracing progs cannot use bpf_timer yet")
        if record.has(rec.WORKQUEUE):
            env.reject("tracing progs cannot use bpf_wq yet")
    if kind == M.STRUCT_OPS:
        env.reject("bpf_struct_ops map cannot be used in prog")
    later = kind in _SLEEPABLE_MAPS_LATER and env.kernel >= (7, 0)
    if env.subject.sleepable and kind not in _SLEEPABLE_MAPS and not later:
        env.reject("Sleepable programs can only use array, hash, ringbuf and local storage maps")
