"""Global functions: checked by themselves, for any arguments of the types they declare."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from skep.btf import types as t
from skep.errors import BtfError, VerifierError
from skep.uapi.enums import ProgType as P
from skep.verifier import kinds as k
from skep.verifier.facts import args as a
from skep.verifier.facts.limits import FEATURES
from skep.verifier.ptr import Ptr
from skep.verifier.scalar import Scalar
from skep.verifier.stack import is_null
from skep.verifier.state import Frame, State

if TYPE_CHECKING:
    from skep.btf import Btf
    from skep.verifier.env import Env

_MODIFIERS: Final = (t.TYPEDEF, t.VOLATILE, t.CONST, t.RESTRICT, t.TYPE_TAG)
#: struct that stands for the context, by program type
_CONTEXTS: Final = {
    P.SOCKET_FILTER: "__sk_buff",
    P.SCHED_CLS: "__sk_buff",
    P.SCHED_ACT: "__sk_buff",
    P.XDP: "xdp_md",
    P.CGROUP_SKB: "__sk_buff",
    P.CGROUP_SOCK: "bpf_sock",
    P.CGROUP_SOCK_ADDR: "bpf_sock_addr",
    P.LWT_IN: "__sk_buff",
    P.LWT_OUT: "__sk_buff",
    P.LWT_XMIT: "__sk_buff",
    P.LWT_SEG6LOCAL: "__sk_buff",
    P.SOCK_OPS: "bpf_sock_ops",
    P.SK_SKB: "__sk_buff",
    P.SK_MSG: "sk_msg_md",
    P.FLOW_DISSECTOR: "__sk_buff",
    P.KPROBE: "bpf_user_pt_regs_t",
    P.PERF_EVENT: "bpf_perf_event_data",
    P.CGROUP_DEVICE: "bpf_cgroup_dev_ctx",
    P.CGROUP_SYSCTL: "bpf_sysctl",
    P.CGROUP_SOCKOPT: "bpf_sockopt",
    P.SK_REUSEPORT: "sk_reuseport_md",
    P.SK_LOOKUP: "bpf_sk_lookup",
    P.NETFILTER: "bpf_nf_ctx",
    P.RAW_TRACEPOINT: "bpf_raw_tracepoint_args",
    P.RAW_TRACEPOINT_WRITABLE: "bpf_raw_tracepoint_args",
}


class ArgFacts(NamedTuple):
    """An argument of a function: an ARG_* kind with flags, bytes of what it points to, BTF id."""

    kind: int
    size: int = 0
    btf_id: int = 0


def _skip(btf: Btf, id: int) -> int:
    for _ in range(64):
        if btf[id][0] not in _MODIFIERS:
            return id
        id = btf[id][2]
    return 0


def prepare(env: Env, number: int) -> list[ArgFacts]:
    """What a global function's arguments are; refuses what such a function cannot take."""
    known = env.global_args.get(number)
    if known is not None:
        return known
    sub = env.subprogs[number]
    btf = env.subject.btf
    row = env.subject.funcs.get(sub.start)
    if btf is None or row is None or not row.btf_id:
        env.reject("Global functions need valid BTF")
    func = btf[row.btf_id]
    name = func.name
    proto = btf[func[2]]
    if proto[0] != t.FUNC_PROTO:
        env.reject(f"Invalid type of function {name}()")
    params = proto[3]
    if len(params) > 5:
        env.reject(f"Global function {name}() with {len(params)} > 5 args. Buggy compiler.")
    ret = btf[_skip(btf, proto[2])]
    if env.kernel < (7, 0):
        if ret[0] not in (t.INT, t.ENUM, t.ENUM64):
            env.reject(f"Global function {name}() doesn't return scalar. Only those are supported.")
    elif ret[0] not in (t.INT, t.ENUM, t.ENUM64, t.VOID) and not _is_arena(btf, proto[2]):
        env.reject(f"Global function {name}() return value not void or scalar. Only those are supported.")
    tags = (
        _tags(env, btf, row.btf_id)
        if env.kernel >= FEATURES["arguments of global functions with tags"]
        else {}
    )
    out = [_argument(env, btf, i, param[1], tags.get(i, []), name) for i, param in enumerate(params)]
    env.global_args[number] = out
    return out


def _tags(env: Env, btf: Btf, func_id: int) -> dict[int, list[str]]:
    if env.arg_tags is None:
        found: dict[int, dict[int, list[str]]] = {}
        for value in btf:
            if isinstance(value, t.DeclTag) and value[1].startswith("arg:"):
                found.setdefault(value[2], {}).setdefault(value.component, []).append(value[1][4:])
        env.arg_tags = found
    return env.arg_tags.get(func_id, {})


def _argument(env: Env, btf: Btf, i: int, type_id: int, tags: list[str], name: str) -> ArgFacts:
    for tag in tags:
        if tag not in ("ctx", "trusted", "untrusted", "nonnull", "nullable", "arena"):
            env.reject(f"arg#{i} has unsupported set of tags")
    id = _skip(btf, type_id)
    value = btf[id]
    if value[0] != t.PTR:
        if tags:
            env.reject(f"arg#{i} has pointer tag, but is not a pointer type")
        if value[0] in (t.INT, t.ENUM, t.ENUM64):
            return ArgFacts(a.ARG_ANYTHING)
        env.reject(f"Arg#{i} type {t.KIND_NAMES[value[0]]} in {name}() is not supported yet.")
    target = _skip(btf, value[2])
    if "ctx" in tags or _is_context(env, btf, value[2]):
        if [tag for tag in tags if tag != "ctx"]:
            env.reject(f"arg#{i} has invalid combination of tags")
        return ArgFacts(a.ARG_PTR_TO_CTX)
    if env.kernel < (5, 12):  # only the context was known there
        env.reject(f"Arg#{i} type PTR in {name}() is not supported yet.")
    if btf[target][0] == t.STRUCT and btf[target][1] == "bpf_dynptr":
        if tags:
            env.reject(f"arg#{i} has invalid combination of tags")
        return ArgFacts(a.ARG_PTR_TO_DYNPTR | k.MEM_RDONLY)
    if "trusted" in tags or "untrusted" in tags:
        if "nonnull" in tags or ("untrusted" in tags and len(tags) > 1):
            env.reject(f"arg#{i} has invalid combination of tags")
        return _trusted(env, btf, i, target, tags)
    if "arena" in tags:
        if len(tags) > 1:
            env.reject(f"arg#{i} arena cannot be combined with any other tags")
        return ArgFacts(a.ARG_PTR_TO_ARENA)
    if "nullable" in tags:
        env.reject(f"arg#{i} has invalid combination of tags")
    try:
        size = btf.size_of(value[2])
    except BtfError:
        kind = t.KIND_NAMES[btf[target][0]] if target else "void"
        named = btf[target][1] if target and len(btf[target]) > 1 and isinstance(btf[target][1], str) else ""
        env.reject(f"arg#{i} reference type('{kind} {named}') size cannot be determined: -22")
    flag = 0 if "nonnull" in tags else k.PTR_MAYBE_NULL
    return ArgFacts(a.ARG_PTR_TO_MEM | flag, size)


def _trusted(env: Env, btf: Btf, i: int, target: int, tags: list[str]) -> ArgFacts:
    types = env.subject.types
    struct = btf[target]
    found: int | None = None
    if "untrusted" in tags and struct[0] not in (t.STRUCT, t.UNION):
        return ArgFacts(a.ARG_PTR_TO_MEM | k.PTR_UNTRUSTED | k.MEM_RDONLY, 0)
    if types is not None and struct[0] in (t.STRUCT, t.UNION):
        found = types.find(struct[1].split("___")[0], struct[0])
    if found is None:
        env.reject(f"arg#{i} type '{struct[1]}' is not a kernel type")
    flag = k.PTR_UNTRUSTED if "untrusted" in tags else k.PTR_TRUSTED
    if "nullable" in tags:
        flag |= k.PTR_MAYBE_NULL
    return ArgFacts(a.ARG_PTR_TO_BTF_ID | flag, 0, found)


#: contexts whose struct in the kernel is taken for them
_KERNELS: Final = {"__sk_buff": "sk_buff", "xdp_md": "xdp_buff"}


def _is_context(env: Env, btf: Btf, id: int) -> bool:
    subject = env.subject if env.subject.attach_prog is None else env.subject.attach_prog
    want = _CONTEXTS.get(P(subject.prog_type))
    for _ in range(64):
        value = btf[id]
        if value[0] == t.TYPEDEF and value[1] == "bpf_user_pt_regs_t" == want:
            return True
        if value[0] not in _MODIFIERS:
            break
        id = value[2]
    value = btf[id]
    if value[0] != t.STRUCT:
        return False
    if want == "bpf_user_pt_regs_t":
        return bool(value[1] in ("pt_regs", want))
    kernels = _KERNELS.get(want) if want is not None and env.kernel >= (6, 2) else None
    return want is not None and bool(value[1] in (want, kernels))


def enter_arguments(env: Env, frame: Frame, args: list[ArgFacts]) -> None:
    """The registers of a function that is checked by itself."""
    for i, arg in enumerate(args):
        reg = i + 1
        base = arg.kind & k.BASE_MASK
        null = arg.kind & k.PTR_MAYBE_NULL
        if base == a.ARG_PTR_TO_CTX:
            frame.regs[reg] = env.ptrs.make(k.PTR_TO_CTX)
        elif base == a.ARG_PTR_TO_DYNPTR:
            frame.regs[reg] = env.ptrs.make(k.CONST_PTR_TO_DYNPTR, id=env.new_id(), aux=1)
        elif base == a.ARG_PTR_TO_MEM:
            flags = null | arg.kind & (k.PTR_UNTRUSTED | k.MEM_RDONLY)
            frame.regs[reg] = env.ptrs.make(k.PTR_TO_MEM | flags, id=env.new_id(), aux=arg.size)
        elif base == a.ARG_PTR_TO_BTF_ID:
            flags = null | arg.kind & (k.PTR_UNTRUSTED | k.PTR_TRUSTED)
            frame.regs[reg] = env.ptrs.make(
                k.PTR_TO_BTF_ID | flags, id=env.new_id(), aux=arg.btf_id, obj=env.subject.types
            )
        else:
            frame.regs[reg] = env.scalars.unknown


def check_global_call(env: Env, st: State, number: int) -> None:
    """A call of a global function: its arguments fit, its result is any number."""
    from skep.verifier.calls import clobber

    sub = env.subprogs[number]
    if st.locks:
        env.reject(
            "global function calls are not allowed while holding a lock,", more="use static function instead"
        )
    if sub.might_sleep and not env.can_sleep():
        if env.kernel >= (7, 0):
            env.reject(f"sleepable global function {sub.name}() called in {env.context()}")
        env.reject(
            "global functions that may sleep are not allowed in non-sleepable context,",
            more="i.e., in a RCU/IRQ/preempt-disabled section, or in\na non-sleepable BPF program context",
        )
    try:
        for i, arg in enumerate(prepare(env, number)):
            _check_argument(env, st, i, arg)
            _check_packet(env, number, i, arg)
    except _Mismatch as mismatch:
        env.reject(mismatch.reason, more=f"Caller passes invalid args into func#{number} ('{sub.name}')")
    except VerifierError:
        env.more += f"{env.more and chr(10)}Caller passes invalid args into func#{number} ('{sub.name}')"
        raise
    sub.called = True
    if env.log_level:
        env.printer.line(f"Func#{number} ('{sub.name}') is global and assumed valid.")
    if sub.changes_packet:
        env.clear_packets()
    clobber(env, st.frame)
    if not returns_void(env, number):
        env.set_unknown(0)


def _check_packet(env: Env, number: int, i: int, arg: ArgFacts) -> None:
    """What the function takes for plain memory, and may move, is no part of a packet (since 7.2)."""
    if (
        not env.mended
        or arg.kind & k.BASE_MASK != a.ARG_PTR_TO_MEM
        or not env.subprogs[number].changes_packet
    ):
        return
    value = env.state.regs[i + 1]
    from skep.verifier.env import is_packet

    if isinstance(value, Ptr) and is_packet(value):
        raise _Mismatch(f"R{i + 1} is a packet pointer, but func#{number} may change packet data")


def returns_void(env: Env, number: int) -> bool:
    """The global function returns nothing, which Linux 7.0 and later take."""
    btf = env.subject.btf
    row = env.subject.funcs.get(env.subprogs[number].start)
    if env.kernel < (7, 0) or btf is None or row is None:
        return False
    return not _skip(btf, btf[btf[row.btf_id][2]][2])


def _is_arena(btf: Btf, id: int) -> bool:
    """A pointer to arena memory, by its tag."""
    for _ in range(64):
        value = btf[id]
        if value[0] == t.TYPE_TAG and value[1] == "arena":
            return True
        if value[0] not in _MODIFIERS and value[0] != t.PTR:
            return False
        id = value[2]
    return False


class _Mismatch(Exception):
    def __init__(self, reason: str) -> None:
        self.reason = reason


def _check_argument(env: Env, st: State, i: int, arg: ArgFacts) -> None:
    from skep.verifier.mem import check_mem_region
    from skep.verifier.nullness import checked

    reg = i + 1
    value = st.regs[reg]
    base = arg.kind & k.BASE_MASK
    if base == a.ARG_ANYTHING:
        if not isinstance(value, Scalar):
            raise _Mismatch(f"R{reg} is not a scalar")
        return
    if arg.kind & k.PTR_UNTRUSTED:
        return  # only read, and reading it cannot fault
    if base == a.ARG_PTR_TO_ARENA:
        if value.type not in (k.PTR_TO_ARENA, k.SCALAR_VALUE):
            raise _Mismatch(f"R{reg} is not a pointer to arena or scalar.")
        return
    if base == a.ARG_PTR_TO_CTX:
        if value.type != k.PTR_TO_CTX:
            raise _Mismatch(f"arg#{i} expects pointer to ctx")
        assert isinstance(value, Ptr)
        from skep.verifier.mem import check_fixed_pointer

        check_fixed_pointer(env, reg, value, False)
        return
    if base == a.ARG_PTR_TO_MEM:
        if is_null(value):
            if not arg.kind & k.PTR_MAYBE_NULL and env.kernel >= (7, 0):
                raise _Mismatch(f"arg#{i} is expected to be non-NULL")
            return
        null = isinstance(value, Ptr) and value.type & k.PTR_MAYBE_NULL
        if null:
            assert isinstance(value, Ptr)
            st.regs[reg] = checked(env, value)
        kernels = value.type & k.BASE_MASK == k.PTR_TO_BTF_ID and not value.type & k.MEM_ALLOC
        if kernels and env.kernel >= (7, 0):
            env.reject("only read is supported")
        check_mem_region(env, reg, arg.size, False, True)
        check_mem_region(env, reg, arg.size, True, True)
        st.regs[reg] = value
        if null and not arg.kind & k.PTR_MAYBE_NULL:
            raise _Mismatch(f"arg#{i} is expected to be non-NULL")
        return
    if base == a.ARG_PTR_TO_DYNPTR:
        from skep.verifier.dynptr import check_global_argument

        check_global_argument(env, reg)
        return
    if is_null(value) and arg.kind & k.PTR_MAYBE_NULL:
        return
    from skep.verifier.helper_call import check_btf_argument

    check_btf_argument(env, reg, arg.kind, arg.btf_id)


def is_context(env: Env, btf: Btf, id: int) -> bool:
    """Whether type ``id`` of ``btf`` is the context of the program's kind."""
    return _is_context(env, btf, id)


def context_name(env: Env) -> str | None:
    """The struct that the program's context is, as programs see it; None for those without one."""
    subject = env.subject if env.subject.attach_prog is None else env.subject.attach_prog
    return _CONTEXTS.get(P(subject.prog_type))
