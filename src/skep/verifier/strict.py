"""What a program must keep to beyond Linux's rules to run in a process of ours, without a kernel.

Linux lets privileged programs do what only harms privileged users: addresses may become numbers, stack that
was never written may be read, and loads through pointers to kernel objects may fault, since the kernel
catches that. In a process each of these is a memory error or tells where memory is. `Strict` says what the
host offers; what it lacks is refused too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from skep.uapi.enums import MapType as M
from skep.uapi.enums import ProgType as P
from skep.verifier import kinds as k
from skep.verifier.ptr import Ptr

if TYPE_CHECKING:
    from skep.verifier.env import Env

#: helpers that need a packet, maps, a clock, random numbers or text, but nothing else of a kernel
HELPERS: Final = frozenset(
    (1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 12, 14, 15, 16, 18, 19, 23, 25, 26, 28, 31, 32, 34, 38, 39, 40, 41, 42,
     43, 44, 46, 48, 50, 51, 54, 65, 68, 87, 88, 89, 93, 94, 105, 106, 112, 114, 118, 125, 130, 131, 132,
     133, 134, 160, 164, 165, 177, 181, 182, 188, 189, 190, 195, 197, 198, 199, 200, 201, 202, 203, 208)
)  # fmt: skip
#: kernel functions that count, and work on buffers
KFUNCS: Final = frozenset(
    ("bpf_iter_num_new", "bpf_iter_num_next", "bpf_iter_num_destroy", "bpf_dynptr_from_skb",
     "bpf_dynptr_from_xdp", "bpf_dynptr_slice", "bpf_dynptr_slice_rdwr", "bpf_dynptr_adjust",
     "bpf_dynptr_is_null", "bpf_dynptr_is_rdonly", "bpf_dynptr_size", "bpf_dynptr_clone", "bpf_dynptr_copy",
     "bpf_dynptr_memset")
)  # fmt: skip
MAPS: Final = frozenset(
    (M.HASH, M.ARRAY, M.PROG_ARRAY, M.PERF_EVENT_ARRAY, M.PERCPU_HASH, M.PERCPU_ARRAY, M.LRU_HASH,
     M.LRU_PERCPU_HASH, M.LPM_TRIE, M.ARRAY_OF_MAPS, M.HASH_OF_MAPS, M.DEVMAP, M.DEVMAP_HASH, M.CPUMAP,
     M.QUEUE, M.STACK, M.RINGBUF, M.BLOOM_FILTER)
)  # fmt: skip
#: all but those that are part of a kernel's own functions
PROGRAMS: Final = frozenset(set(P) - {P.UNSPEC, P.TRACING, P.LSM, P.EXT, P.STRUCT_OPS, P.LIRC_MODE2})


class Strict(NamedTuple):
    """What the host of a program offers: numbers of helpers, names of kernel functions, types."""

    helpers: frozenset[int] = HELPERS
    kfuncs: frozenset[str] = KFUNCS
    maps: frozenset[int] = MAPS
    programs: frozenset[int] = PROGRAMS


#: what the userspace kernel is to offer
DEFAULT: Final = Strict()

_TRACE_PRINTK: Final = 6
_PACKET: Final = (k.PTR_TO_PACKET, k.PTR_TO_PACKET_META, k.PTR_TO_PACKET_END)


def check_program(env: Env, strict: Strict) -> None:
    """The host runs programs of this type, and has its maps."""
    kind = env.subject.prog_type
    if kind not in strict.programs:
        env.reject(f"programs of type {P(kind).name.lower()} need a kernel around them")


def check_map(env: Env, name: str, kind: int) -> None:
    """The host has maps of this type."""
    strict = env.strict
    if strict is not None and kind not in strict.maps:
        env.reject(f"maps of type {M(kind).name.lower()} ({name!r}) are not there without a kernel")


def check_helper(env: Env, number: int, shown: str) -> None:
    """The host has the helper."""
    strict = env.strict
    if strict is not None and number not in strict.helpers:
        env.reject(f"helper {shown} is not there without a kernel")


def check_printed(env: Env, number: int) -> None:
    """What is printed beside the text is not in the helper's prototype; addresses are not printed."""
    if env.strict is None or number != _TRACE_PRINTK:
        return
    for reg in (3, 4, 5):
        if env.reg(reg).type > k.SCALAR_VALUE:
            env.reject(f"R{reg} leaks addr into helper function")


def check_kfunc(env: Env, name: str) -> None:
    """The host has the kernel function."""
    strict = env.strict
    if strict is not None and name not in strict.kfuncs:
        env.reject(f"kernel function {name} is not there without a kernel")


def no_kernel_memory(env: Env, what: str) -> None:
    """Kernel objects are not where the program runs."""
    if env.strict is not None:
        env.reject(f"{what} is memory of the kernel, which is not there without one")


def one_object(a: object, b: object) -> bool:
    """Both point into one object, so that their difference is a distance and tells no address."""
    if not isinstance(a, Ptr) or not isinstance(b, Ptr):
        return False
    if a.type in _PACKET and b.type in _PACKET:
        return True
    return (
        a.type == b.type
        and a.type in (k.PTR_TO_STACK, k.PTR_TO_MAP_VALUE, k.PTR_TO_MEM)
        and (a.obj, a.aux, a.id, a.ref) == (b.obj, b.aux, b.id, b.ref)
    )
