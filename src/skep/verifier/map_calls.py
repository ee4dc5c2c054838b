"""Which helpers go with which types of map: both sides must agree (check_map_func_compatibility)."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Final

from skep.uapi.enums import AttachType, ProgType
from skep.uapi.enums import MapType as M
from skep.verifier.version import FIXES

if TYPE_CHECKING:
    from skep.verifier.env import Env
    from skep.verifier.subject import MapFacts

_LOOKUP: Final = ("map_lookup_elem",)
_QUEUE: Final = ("map_peek_elem", "map_pop_elem", "map_push_elem")
_RINGBUF: Final = (
    "ringbuf_output",
    "ringbuf_reserve",
    "ringbuf_query",
    "ringbuf_reserve_dynptr",
    "ringbuf_submit_dynptr",
    "ringbuf_discard_dynptr",
)
_PERF: Final = (
    "perf_event_read",
    "perf_event_output",
    "skb_output",
    "perf_event_read_value",
    "xdp_output",
)
#: map type -> the helpers that take it; types that are not here take all that do not name types themselves
_BY_MAP: Final = {
    M.PROG_ARRAY: ("tail_call",),
    M.PERF_EVENT_ARRAY: _PERF,
    M.RINGBUF: _RINGBUF,
    M.USER_RINGBUF: ("user_ringbuf_drain",),
    M.STACK_TRACE: ("get_stackid",),
    M.CGROUP_ARRAY: ("skb_under_cgroup", "current_task_under_cgroup"),
    M.CGROUP_STORAGE: ("get_local_storage",),
    M.PERCPU_CGROUP_STORAGE: ("get_local_storage",),
    M.DEVMAP: ("redirect_map", *_LOOKUP),
    M.DEVMAP_HASH: ("redirect_map", *_LOOKUP),
    M.CPUMAP: ("redirect_map",),
    M.XSKMAP: ("redirect_map", *_LOOKUP),
    M.ARRAY_OF_MAPS: _LOOKUP,
    M.HASH_OF_MAPS: _LOOKUP,
    M.SOCKMAP: ("sk_redirect_map", "sock_map_update", "msg_redirect_map", "sk_select_reuseport", *_LOOKUP),
    M.SOCKHASH: (
        "sk_redirect_hash",
        "sock_hash_update",
        "msg_redirect_hash",
        "sk_select_reuseport",
        *_LOOKUP,
    ),
    M.REUSEPORT_SOCKARRAY: ("sk_select_reuseport",),
    M.QUEUE: _QUEUE,
    M.STACK: _QUEUE,
    M.SK_STORAGE: ("sk_storage_get", "sk_storage_delete", "kptr_xchg"),
    M.INODE_STORAGE: ("inode_storage_get", "inode_storage_delete", "kptr_xchg"),
    M.TASK_STORAGE: ("task_storage_get", "task_storage_delete", "kptr_xchg"),
    M.CGRP_STORAGE: ("cgrp_storage_get", "cgrp_storage_delete", "kptr_xchg"),
    M.BLOOM_FILTER: ("map_peek_elem", "map_push_elem"),
    M.INSN_ARRAY: (),
}
#: helpers that take these types of map only
_BY_HELPER: Final[dict[str, tuple[M, ...]]] = {
    "tail_call": (M.PROG_ARRAY,),
    **dict.fromkeys(_PERF, (M.PERF_EVENT_ARRAY,)),
    **dict.fromkeys(_RINGBUF, (M.RINGBUF,)),
    "user_ringbuf_drain": (M.USER_RINGBUF,),
    "get_stackid": (M.STACK_TRACE,),
    "current_task_under_cgroup": (M.CGROUP_ARRAY,),
    "skb_under_cgroup": (M.CGROUP_ARRAY,),
    "redirect_map": (M.DEVMAP, M.DEVMAP_HASH, M.CPUMAP, M.XSKMAP),
    "sk_redirect_map": (M.SOCKMAP,),
    "msg_redirect_map": (M.SOCKMAP,),
    "sock_map_update": (M.SOCKMAP,),
    "sk_redirect_hash": (M.SOCKHASH,),
    "msg_redirect_hash": (M.SOCKHASH,),
    "sock_hash_update": (M.SOCKHASH,),
    "get_local_storage": (M.CGROUP_STORAGE, M.PERCPU_CGROUP_STORAGE),
    "sk_select_reuseport": (M.REUSEPORT_SOCKARRAY, M.SOCKMAP, M.SOCKHASH),
    "map_pop_elem": (M.QUEUE, M.STACK),
    "map_peek_elem": (M.QUEUE, M.STACK, M.BLOOM_FILTER),
    "map_push_elem": (M.QUEUE, M.STACK, M.BLOOM_FILTER),
    "map_lookup_percpu_elem": (M.PERCPU_ARRAY, M.PERCPU_HASH, M.LRU_PERCPU_HASH),
    "sk_storage_get": (M.SK_STORAGE,),
    "sk_storage_delete": (M.SK_STORAGE,),
    "inode_storage_get": (M.INODE_STORAGE,),
    "inode_storage_delete": (M.INODE_STORAGE,),
    "task_storage_get": (M.TASK_STORAGE,),
    "task_storage_delete": (M.TASK_STORAGE,),
    "cgrp_storage_get": (M.CGRP_STORAGE,),
    "cgrp_storage_delete": (M.CGRP_STORAGE,),
}
#: programs that cannot hold a socket's lock and may update or delete in socket maps
_SOCKMAP_WRITERS: Final = (
    ProgType.SOCKET_FILTER,
    ProgType.SCHED_CLS,
    ProgType.SCHED_ACT,
    ProgType.XDP,
    ProgType.SK_REUSEPORT,
    ProgType.FLOW_DISSECTOR,
    ProgType.SK_LOOKUP,
)
_SOCKMAP_WRITERS_LATER: Final = (ProgType.SK_REUSEPORT, ProgType.SK_LOOKUP)


@cache
def _by_map(map_type: int) -> tuple[str, ...] | None:
    return {int(key): names for key, names in _BY_MAP.items()}.get(map_type)


def _may_update_sockmap(env: Env, name: str) -> bool:
    if name not in ("map_update_elem", "map_delete_elem"):
        return False
    subject = env.subject
    if subject.prog_type == ProgType.TRACING and subject.attach_type == AttachType.TRACE_ITER:
        return True
    if subject.prog_type == ProgType.SOCK_OPS and name == "map_delete_elem":
        return True
    return subject.prog_type in (_SOCKMAP_WRITERS if env.kernel < FIXES else _SOCKMAP_WRITERS_LATER)


def check_map_call(env: Env, row: MapFacts, name: str, number: int) -> None:
    """Helper ``name`` (without "bpf_") may be given this map."""
    takers = _by_map(row.type)
    fits = takers is None or name in takers
    refusal = f"cannot pass map_type {row.type} into func bpf_{name}#{number}"
    if not fits and row.type in (M.SOCKMAP, M.SOCKHASH):
        fits = _may_update_sockmap(env, name)
        if not fits and name in ("map_update_elem", "map_delete_elem"):
            env.reject("cannot update sockmap in this context", more=refusal)
    wanted = _BY_HELPER.get(name)
    if not fits or (wanted is not None and row.type not in wanted):
        env.reject(refusal)
