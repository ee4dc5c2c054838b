"""Contexts that are the arguments of a kernel function: tp_btf, fentry, fexit, LSM, iterators, struct_ops.

Argument n is the eight bytes at 8·n; its BTF type says whether it is a number or a pointer, and to what. The
rules are those of btf_ctx_access in Linux 6.18.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from skep.btf import types as t
from skep.uapi.enums import AttachType, ProgType
from skep.verifier import kinds as k
from skep.verifier.facts.btfwalk import is_struct, skip_modifiers
from skep.verifier.facts.context import SCALAR, CtxField

if TYPE_CHECKING:
    from skep.btf import Btf
    from skep.verifier.subject import Subject

#: MAX_BPF_FUNC_REG_ARGS and MAX_BPF_FUNC_ARGS
_REG_ARGS: Final = 5
_MAX_ARGS: Final = 12

_OR_NULL: Final = k.PTR_TO_BTF_ID | k.PTR_MAYBE_NULL
_TRUSTED_OR_NULL: Final = _OR_NULL | k.PTR_TRUSTED
_RDONLY_BUF: Final = k.PTR_TO_BUF | k.PTR_MAYBE_NULL | k.MEM_RDONLY
_BUF: Final = k.PTR_TO_BUF | k.PTR_MAYBE_NULL
#: iterator -> argument -> what it is; other arguments are trusted pointers
ITERATORS: Final = {
    "bpf_prog": {1: _OR_NULL},
    "bpf_link": {1: _OR_NULL},
    "bpf_map": {1: _TRUSTED_OR_NULL},
    "bpf_map_elem": {2: _RDONLY_BUF, 3: _BUF},
    "bpf_sk_storage_map": {2: _OR_NULL, 3: _BUF},
    "cgroup": {1: _TRUSTED_OR_NULL},
    "dmabuf": {1: _OR_NULL},
    "ipv6_route": {1: _OR_NULL},
    "kmem_cache": {1: _TRUSTED_OR_NULL},
    "ksym": {1: _OR_NULL},
    "netlink": {1: _OR_NULL},
    "sockmap": {2: _RDONLY_BUF, 3: _OR_NULL},
    "task": {1: _TRUSTED_OR_NULL},
    "task_file": {1: _OR_NULL, 3: _OR_NULL},
    "task_vma": {1: _OR_NULL, 2: _OR_NULL},
    "tcp": {1: _TRUSTED_OR_NULL},
    "udp": {1: _TRUSTED_OR_NULL},
    "unix": {1: _TRUSTED_OR_NULL},
}
#: LSM hooks whose arguments may be going away
_UNTRUSTED_LSM: Final = (
    "bpf_lsm_bpf_map_free",
    "bpf_lsm_bpf_prog_free",
    "bpf_lsm_file_alloc_security",
    "bpf_lsm_file_free_security",
    "bpf_lsm_sk_alloc_security",
    "bpf_lsm_sk_free_security",
    "bpf_lsm_task_free",
)
#: tracepoints of `NULL_ARGUMENTS` that 6.18 does not know of, asked
_NULLS_LATER: Final = {"sched_process_wait": (7, 0)}
#: structs of struct_ops whose `struct sock *` arguments are TCP sockets
_TCP_OPS: Final = ("tcp_congestion_ops",)


class Target:
    """What a program attaches to: its name, prototype and where the prototype is."""

    __slots__ = ("btf", "first", "name", "params", "ret", "stub")

    def __init__(self, btf: Btf, name: str, proto: int, first: int) -> None:
        value = btf[proto]
        self.btf = btf
        self.name = name
        self.ret: int = value[2]
        #: (name, type) of the arguments; the first ``first`` are not the program's
        self.params: tuple[t.Param, ...] = value[3]
        self.first = first
        #: names of the parameters of a struct_ops member's stub, which may say more
        self.stub: tuple[str, ...] = ()


def attach_target(subject: Subject) -> Target | None:
    """What ``subject`` attaches to by BTF, None when that is nothing with a prototype."""
    btf = subject.attach_btf or subject.types
    if btf is None:
        return None
    if subject.prog_type == ProgType.STRUCT_OPS:
        return _member_target(subject, btf)
    id = subject.attach_btf_id
    if not 0 < id < len(btf):
        return None
    value = btf[id]
    if subject.attach_type == AttachType.TRACE_RAW_TP:
        if value[0] != t.TYPEDEF or not value[1].startswith("btf_trace_"):
            return None
        pointer = btf[skip_modifiers(btf, value[2])]
        if pointer[0] != t.PTR:
            return None
        proto = skip_modifiers(btf, pointer[2])
        return Target(btf, value[1].removeprefix("btf_trace_"), proto, 1) if _is_proto(btf, proto) else None
    if value[0] != t.FUNC:
        return None
    proto = value[2]
    return Target(btf, value[1], proto, 0) if _is_proto(btf, proto) else None


def _is_proto(btf: Btf, id: int) -> bool:
    return bool(btf[id][0] == t.FUNC_PROTO)


def _member_target(subject: Subject, btf: Btf) -> Target | None:
    if subject.struct_ops is None:
        return None
    struct, index = subject.struct_ops
    found = btf.find(struct, t.STRUCT)
    if found is None or not 0 <= index < len(btf[found][3]):
        return None
    name, type_id, _, _ = btf[found][3][index]
    pointer = btf[skip_modifiers(btf, type_id)]
    if pointer[0] != t.PTR:
        return None
    proto = skip_modifiers(btf, pointer[2])
    if not _is_proto(btf, proto):
        return None
    target = Target(btf, name, proto, 0)
    stub = btf.find(f"{struct}__{name}", t.FUNC)
    if stub is not None:
        target.stub = tuple(str(row[0]) for row in btf[btf[stub][2]][3])
    return target


def _trusted(subject: Subject, target: Target) -> bool:
    kind = subject.prog_type
    if kind == ProgType.TRACING:
        return subject.attach_type in (AttachType.TRACE_RAW_TP, AttachType.TRACE_ITER)
    if kind == ProgType.LSM:
        return target.name not in _UNTRUSTED_LSM
    return kind == ProgType.STRUCT_OPS


def _has_return(subject: Subject) -> bool:
    return subject.prog_type == ProgType.LSM or subject.attach_type in (
        AttachType.TRACE_FEXIT,
        AttachType.MODIFY_RETURN,
        AttachType.TRACE_FSESSION,
    )


def btf_ctx_access(
    subject: Subject, off: int, size: int, kernel: tuple[int, int] = (6, 18), log: list[str] | None = None
) -> CtxField | None:
    """What a read of ``size`` bytes at ``off`` of the arguments yields; None: not allowed."""
    say = log.append if log is not None else _nothing
    if off < 0 or off >= 8 * _MAX_ARGS or off % size:
        return None
    target = attach_target(subject)
    if target is None:
        return SCALAR if off // 8 < _REG_ARGS else None
    name = target.name
    if off % 8:
        say(f"func '{name}' offset {off} is not multiple of 8")
        return None
    params = target.params[target.first :]
    at = _argument_at(target, off)
    retval = False
    if at > len(params) or (at == len(params) and not _has_return(subject)):
        say(f"func '{name}' doesn't have {at + 1}-th argument")
        return None
    btf = target.btf
    if at == len(params):
        retval = subject.attach_type == AttachType.LSM_MAC
        type_id = target.ret
        stub_name = param_name = ""
    else:
        param_name, type_id = params[at]
        stub_name = target.stub[at] if at < len(target.stub) else ""
    type_id = skip_modifiers(btf, type_id)
    value = btf[type_id]
    kind = value[0]
    if (kind == t.INT and value[2] <= 8) or kind in (t.ENUM, t.ENUM64, t.STRUCT, t.UNION):
        return CtxField(k.SCALAR_VALUE, retval=True) if retval else SCALAR
    if kind != t.PTR:
        if at == len(params) and type_id == 0:  # no return value to look at
            say(f"func '{name}' arg{at} '' has type VOID. Only pointer access is allowed")
            return None
        what = t.KIND_NAMES[kind]
        say(f"func '{name}' arg{at} '{value[1]}' has type {what}. Only pointer access is allowed")
        return None
    if size != 8:
        say(f"func '{name}' size {size} must be 8")
        return None
    pointed = value[2]
    iterator = _iterator_argument(subject, target, at)
    if iterator and iterator & k.BASE_MASK == k.PTR_TO_BUF:
        return CtxField(iterator)
    target_id = skip_modifiers(btf, pointed)
    if target_id == 0 or btf[target_id][0] in (t.INT, t.ENUM, t.ENUM64):
        return SCALAR  # void * and int * are numbers to a program
    if kernel >= (7, 0) and not is_struct(btf, target_id):
        return SCALAR  # and so are pointers to pointers
    if iterator:
        return CtxField(iterator, btf, target_id) if is_struct(btf, target_id) else None
    return _pointer(subject, target, at, (param_name, stub_name), pointed, kernel, say)


def _pointer(
    subject: Subject,
    target: Target,
    at: int,
    names: tuple[str, str],
    pointed: int,
    kernel: tuple[int, int],
    say: object,
) -> CtxField | None:
    btf = target.btf
    kind = k.PTR_TO_BTF_ID
    if _trusted(subject, target):
        kind |= k.PTR_TRUSTED
    if any(name.endswith("__nullable") for name in names):
        kind |= k.PTR_MAYBE_NULL
    ref = names[1].endswith("__ref")
    error = False
    if subject.attach_type == AttachType.TRACE_RAW_TP and subject.prog_type == ProgType.TRACING:
        from skep.verifier.facts.tracepoint_nulls import NULL_ARGUMENTS

        mask = NULL_ARGUMENTS.get(target.name)
        if mask is not None and kernel >= _NULLS_LATER.get(target.name, (0, 0)):
            kind |= k.PTR_MAYBE_NULL if mask >> 4 * at & 1 else 0
            error = bool(mask >> 4 * at & 2) and kernel >= (7, 0)  # 6.18 gives a pointer, asked
        elif subject.attach_btf is not None and subject.attach_btf is not subject.types:
            kind |= k.PTR_MAYBE_NULL  # a module's tracepoint, of which nothing is known
    tag = btf[pointed]
    if tag[0] == t.TYPE_TAG:
        kind |= {"user": k.MEM_USER, "percpu": k.MEM_PERCPU}.get(tag[1], 0)
    target_id = skip_modifiers(btf, pointed)
    if not is_struct(btf, target_id):
        if callable(say):
            say(f"func '{target.name}' arg{at} type {t.KIND_NAMES[btf[target_id][0]]} is not a struct")
        return None
    if callable(say):
        say(
            f"func '{target.name}' arg{at} has btf_id {target_id} "
            f"type {t.KIND_NAMES[btf[target_id][0]]} '{btf[target_id][1] or '(anon)'}'"
        )
    if error:
        return SCALAR
    if subject.struct_ops is not None and subject.struct_ops[0] in _TCP_OPS and btf[target_id][1] == "sock":
        target_id = btf.find("tcp_sock", t.STRUCT) or target_id
    return CtxField(kind, btf, target_id, ref)


def _argument_at(target: Target, off: int) -> int:
    """The argument at byte ``off``, the return value's place after them: structs of 9 to 16 bytes take two.

    As the kernel does, a tracepoint's first hidden argument is counted here and left out later.
    """
    end = 0
    for i, (_, type_id) in enumerate(target.params):
        end += _place_bytes(target.btf, type_id)
        if off < end:
            return i
    end += _place_bytes(target.btf, target.ret)
    return len(target.params) + (off >= end)


def _place_bytes(btf: Btf, type_id: int) -> int:
    value = btf[skip_modifiers(btf, type_id)]
    if value[0] in (t.INT, t.STRUCT, t.UNION, t.ENUM, t.ENUM64, t.FLOAT):
        return int(value[2] + 7) // 8 * 8
    return 8 if value[0] == t.PTR else 0


def _iterator_argument(subject: Subject, target: Target, at: int) -> int:
    if subject.prog_type != ProgType.TRACING or subject.attach_type != AttachType.TRACE_ITER:
        return 0
    return ITERATORS.get(target.name.removeprefix("bpf_iter_"), {}).get(at, 0)


def _nothing(_: str) -> None:
    pass
