"""The kernel struct behind each type of map, which programs may read members of (since Linux 5.8)."""

from __future__ import annotations

from typing import Final

from skep.uapi.enums import MapType as M

_STRUCTS: Final[dict[int, str]] = {
    M.HASH: "bpf_htab",
    M.PERCPU_HASH: "bpf_htab",
    M.LRU_HASH: "bpf_htab",
    M.LRU_PERCPU_HASH: "bpf_htab",
    M.HASH_OF_MAPS: "bpf_htab",
    M.ARRAY: "bpf_array",
    M.PERCPU_ARRAY: "bpf_array",
    M.PROG_ARRAY: "bpf_array",
    M.PERF_EVENT_ARRAY: "bpf_array",
    M.CGROUP_ARRAY: "bpf_array",
    M.ARRAY_OF_MAPS: "bpf_array",
    M.STACK_TRACE: "bpf_stack_map",
    M.LPM_TRIE: "lpm_trie",
    M.DEVMAP: "bpf_dtab",
    M.DEVMAP_HASH: "bpf_dtab",
    M.SOCKMAP: "bpf_stab",
    M.SOCKHASH: "bpf_shtab",
    M.CPUMAP: "bpf_cpu_map",
    M.XSKMAP: "xsk_map",
    M.CGROUP_STORAGE: "bpf_cgroup_storage_map",
    M.PERCPU_CGROUP_STORAGE: "bpf_cgroup_storage_map",
    M.REUSEPORT_SOCKARRAY: "reuseport_array",
    M.QUEUE: "bpf_queue_stack",
    M.STACK: "bpf_queue_stack",
    M.SK_STORAGE: "bpf_local_storage_map",
    M.INODE_STORAGE: "bpf_local_storage_map",
    M.TASK_STORAGE: "bpf_local_storage_map",
    M.CGRP_STORAGE: "bpf_local_storage_map",
    M.STRUCT_OPS: "bpf_struct_ops_map",
    M.RINGBUF: "bpf_ringbuf_map",
    M.USER_RINGBUF: "bpf_ringbuf_map",
    M.BLOOM_FILTER: "bpf_bloom_filter",
    M.ARENA: "bpf_arena",
}


def map_struct(map_type: int) -> str:
    """The struct's name; "bpf_map", the part they all begin with, for a type that is not known."""
    return _STRUCTS.get(map_type, "bpf_map")
