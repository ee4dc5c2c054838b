"""What programs of the families share: C types, maps, program types, and where kernel structs keep what."""

from __future__ import annotations

import functools
from typing import NamedTuple

from skep.obj import MapSpec
from skep.uapi.enums import AttachType, ProgType
from tests.verifier.harness import cases, ctypes
from tests.verifier.harness.question import Types

SLEEPABLE = 1 << 4

_STRUCTS = """
struct bpf_rb_root { u64 opaque[2]; };
struct bpf_rb_node { u64 opaque[4]; };
struct bpf_list_head { u64 opaque[2]; };
struct bpf_list_node { u64 opaque[3]; };
struct bpf_refcount { u32 opaque[1]; };
struct bpf_wq { u64 opaque[2]; };
struct task_struct { int skep_unused; };
struct bpf_cpumask { int skep_unused; };
struct plain { long a; long b; long c; };
struct node { long key; long data; struct bpf_rb_node n; };
struct item { long data; struct bpf_list_node l; };
struct shared { struct bpf_refcount ref; struct bpf_rb_node n; struct bpf_list_node l; long data; };
struct timed { struct bpf_timer t; long n; long a[4]; };
struct worked { struct bpf_wq w; long n; };
struct tree { struct bpf_spin_lock lock; struct bpf_rb_root root __contains(node, n); long n; };
struct list { struct bpf_spin_lock lock; struct bpf_list_head head __contains(item, l); long n; };
struct guarded { struct bpf_spin_lock lock; int x; long n; long a[2]; };
struct kept { struct task_struct __kptr *task; struct plain __kptr *own; struct bpf_cpumask __kptr *mask; };
"""

#: static functions that the kernel calls back
CALLBACKS = {
    "loop": "static u64 {}(u32 index, void *ctx)",
    "each": "static long {}(void *map, void *key, void *value, void *ctx)",
    "timer": "static int {}(void *map, int *key, struct timed *value)",
    "work": "static int {}(void *map, int *key, void *value)",
    "drain": "static long {}(void *dynptr, void *ctx)",
    "vma": "static long {}(void *task, void *vma, void *ctx)",
    "less": "static bool {}(struct node *a, struct node *b)",
}
#: functions that are verified apart, by what they take
GLOBALS = {
    "number": "int {}(int a, u64 b)",
    "memory": "int {}(struct plain *p, int a)",
    "nonnull": "int {}(struct plain *p __arg_nonnull, u64 a)",
    "context": "int {}(void *ctx __arg_ctx, int a)",
    "trusted": "int {}(struct task_struct *task __arg_trusted)",
    "nullable": "int {}(struct task_struct *task __arg_trusted __arg_nullable)",
    "arena": "int {}(char *p __arg_arena, int a)",
}
EACH = 2  # functions of a kind that one program may have

_MAPS = (
    "plain array 4 48 2",
    "hash hash 8 16 4",
    "timers array 4 timed 2",
    "works array 4 worked 2",
    "trees array 4 tree 1",
    "lists array 4 list 1",
    "locks array 4 guarded 2",
    "kept array 4 kept 2",
    "records ringbuf 0 0 4096",
    "asked user_ringbuf 0 0 4096",
    "inner array 4 16 2",
    "outer array_of_maps 4 4 2 inner=inner",
    "outers hash_of_maps 4 4 2 inner=inner",
    "arena arena 0 0 4 flags=1024 extra=17592186044416",
    "constants array 4 16 1 data=0102030405060708090a0b0c0d0e0f10",
)
NAMES = [line.split()[0] for line in _MAPS]


class Hook(NamedTuple):
    """A program type: ``what`` tells which statements fit; ``numbers`` are context fields (offset, bytes)."""

    prog_type: ProgType
    attach_type: AttachType | None
    attach_to: str
    flags: int
    what: frozenset[str]
    numbers: tuple[tuple[int, int], ...] = ()
    returns: int = 0


_SKB = ((0, 4), (4, 4), (8, 4), (16, 4), (32, 4))
_FORK = "sched_process_fork"
HOOKS = (
    Hook(ProgType.TRACING, AttachType.TRACE_RAW_TP, _FORK, 0, frozenset({"task", "btf", "irq"})),
    Hook(ProgType.TRACING, AttachType.TRACE_RAW_TP, _FORK, 0, frozenset({"task", "btf", "irq"})),
    Hook(ProgType.SCHED_CLS, None, "", 0, frozenset({"skb", "write", "objects", "locks"}), _SKB),
    Hook(ProgType.SCHED_CLS, None, "", 0, frozenset({"skb", "write", "objects", "locks"}), _SKB),
    Hook(ProgType.XDP, None, "", 0, frozenset({"xdp", "write", "objects", "locks"}), ((12, 4), (16, 4)), 2),
    Hook(ProgType.SYSCALL, None, "", SLEEPABLE, frozenset({"task", "sleep", "locks"})),
    Hook(ProgType.SYSCALL, None, "", SLEEPABLE, frozenset({"task", "sleep", "locks"})),
    Hook(ProgType.CGROUP_SKB, AttachType.CGROUP_INET_INGRESS, "", 0, frozenset({"skb", "locks"}), _SKB, 1),
    Hook(ProgType.KPROBE, None, "", SLEEPABLE, frozenset({"sleep"}), ((0, 8), (112, 8))),
    Hook(ProgType.PERF_EVENT, None, "", 0, frozenset({"objects"}), ((0, 8), (112, 8))),
    Hook(ProgType.TRACING, AttachType.TRACE_ITER, "task", 0, frozenset({"task"})),
)  # fmt: skip


@functools.cache
def types() -> Types:
    """All the structs and prototypes, compiled once."""
    prototypes = [
        text.format(f"{name}{n}") for name, text in (CALLBACKS | GLOBALS).items() for n in range(EACH)
    ]
    return ctypes.types(_STRUCTS, ("int skep_main(void *ctx)", *prototypes))


@functools.cache
def maps() -> tuple[MapSpec, ...]:
    return tuple(cases.map_specs(list(_MAPS), types()))


@functools.cache
def offset(struct: str, member: str) -> int:
    """Where the running kernel keeps a member, in bytes."""
    from tests.verifier.harness.kernel import kernel_types

    found = _find(kernel_types().find(struct, 4), member)
    assert found is not None, f"{struct}.{member}"
    return found


def _find(id: int, member: str) -> int | None:
    from skep.btf.types import Struct, Union
    from tests.verifier.harness.kernel import kernel_types

    struct = kernel_types()[id]
    if not isinstance(struct, Struct | Union):
        return None
    for one in struct.members:
        inner = 0 if one.name == member else None if one.name else _find(one.type, member)
        if inner is not None:
            return one.offset // 8 + inner
    return None
