"""The arguments of a kernel function: what its BTF prototype and their names ask for (check_kfunc_args)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from skep.btf import types as t
from skep.errors import BtfError
from skep.uapi.enums import AttachType, ProgType
from skep.verifier import dynptr, graph, mem
from skep.verifier import kinds as k
from skep.verifier.facts import args as a
from skep.verifier.facts import kfuncs as kf
from skep.verifier.facts import records as rec
from skep.verifier.facts.btfwalk import ids_match, skip_modifiers
from skep.verifier.helper_args import check_map_field, check_offset, constant_string
from skep.verifier.iterators import check_irq_flag, check_iterator
from skep.verifier.nullness import TRUSTED_FLAGS, checked, is_trusted
from skep.verifier.precision import mark_precise
from skep.verifier.ptr import Ptr, btf_of
from skep.verifier.refs import check_lock, in_tree_callback
from skep.verifier.scalar import Scalar
from skep.verifier.stack import is_null
from skep.verifier.subject import MapFacts
from skep.verifier.version import MENDED

if TYPE_CHECKING:
    from skep.btf import Btf
    from skep.verifier.env import Env
    from skep.verifier.facts.records import Field

_SCALARS: Final = (t.INT, t.ENUM, t.ENUM64)
#: kinds of register that stand for a kernel struct
_AS_STRUCT: Final = {
    k.PTR_TO_SOCKET: "sock",
    k.PTR_TO_SOCK_COMMON: "sock_common",
    k.PTR_TO_TCP_SOCK: "tcp_sock",
    k.CONST_PTR_TO_MAP: "bpf_map",
}
#: struct names that programs see -> the kernel's own
_PROJECTIONS: Final = {
    "__sk_buff": "sk_buff",
    "xdp_md": "xdp_buff",
    "bpf_sock": "sock",
    "bpf_sock_addr": "bpf_sock_addr_kern",
}
LIST_ADD: Final = (
    "bpf_list_push_front_impl",
    "bpf_list_push_back_impl",
    "bpf_list_push_front",
    "bpf_list_push_back",
)
TREE_ADD: Final = ("bpf_rbtree_add_impl", "bpf_rbtree_add")
_TREE_NODES: Final = ("bpf_rbtree_remove", "bpf_rbtree_left", "bpf_rbtree_right")
_DYNPTR_KINDS: Final = {
    "bpf_dynptr_from_skb": dynptr.SKB,
    "bpf_dynptr_from_xdp": dynptr.XDP,
    "bpf_dynptr_from_skb_meta": dynptr.SKB_META,
    "bpf_dynptr_from_file": dynptr.FILE,
}


class KfuncCall:
    """What is found out about a call of a kernel function while its arguments are checked."""

    __slots__ = (
        "btf",
        "btf_id",
        "constant",
        "dynptr",
        "flags",
        "iter",
        "map",
        "map_uid",
        "name",
        "obj_btf",
        "obj_id",
        "owned",
        "params",
        "rdonly",
        "ref",
        "release_reg",
        "ret",
        "ret_size",
        "root",
        "subprog",
    )

    def __init__(self, name: str, btf: Btf, btf_id: int, flags: int) -> None:
        self.name = name
        self.btf = btf
        self.btf_id = btf_id
        self.flags = flags
        proto = btf[btf[btf_id][2]]
        self.ret: int = proto[2]
        self.params: tuple[t.Param, ...] = proto[3]
        self.constant: int | None = None
        self.dynptr: dynptr.Seen | None = None
        #: (frame, slot) of an iterator
        self.iter: tuple[int, int] | None = None
        self.map: MapFacts | None = None
        self.map_uid = 0
        #: the program's own object that an argument points to
        self.obj_btf: Btf | None = None
        self.obj_id = 0
        self.owned = False
        self.rdonly = False
        self.ref = 0
        self.release_reg = 0
        self.ret_size = 0
        self.root: Field | None = None
        self.subprog = -1

    @property
    def trusted(self) -> bool:
        return bool(self.flags & kf.TRUSTED_ARGS)

    @property
    def rcu(self) -> bool:
        return bool(self.flags & kf.RCU)


def check_arguments(env: Env, call: KfuncCall) -> None:
    """All arguments of the call, in r1 to r5."""
    params = call.params
    if len(params) > 5:
        env.reject(f"Function {call.name} has {len(params)} > 5 args")
    skip = False
    for index, (name, type_id) in enumerate(params):
        if skip:
            skip = False
            continue
        word = kf.suffix(name)
        if word in ("ign", "prog", "aux"):
            continue
        id = skip_modifiers(call.btf, type_id)
        kind = call.btf[id][0]
        if kind in _SCALARS:
            _scalar(env, call, index, name, word)
        elif kind == t.PTR:
            skip = _pointer(env, call, index, word, call.btf[id][2])
        else:
            env.reject(f"Unrecognized arg#{index} type {t.KIND_NAMES[kind]}")
    if call.flags & kf.RELEASE and not call.release_reg:
        env.reject(f"release kernel function {call.name} expects refcounted PTR_TO_BTF_ID")


def _scalar(env: Env, call: KfuncCall, index: int, name: str, word: str) -> None:
    reg = index + 1
    value = env.state.regs[reg]
    if not isinstance(value, Scalar):
        env.reject(f"R{reg} is not a scalar")
    if word == "k":
        if not value.const:
            env.reject(f"R{reg} must be a known constant")
        mark_precise(env, reg)
        call.constant = value.tv
    elif name in ("rdonly_buf_size", "rdwr_buf_size"):
        call.rdonly = name == "rdonly_buf_size"
        if not value.const:
            env.reject(f"R{reg} is not a const")
        if value.tv > 0xFFFFFFFF:
            env.reject(f"R{reg} rdonly/rdwr_buf_size exceeds u32 max")
        call.ret_size = value.tv
        mark_precise(env, reg)


def _pointer(env: Env, call: KfuncCall, index: int, word: str, target: int) -> bool:
    """A pointer argument; True when it was checked together with the size that follows it."""
    reg = index + 1
    value = env.state.regs[reg]
    null = is_null(value)
    if (
        (call.trusted or call.rcu)
        and (null or value.type & k.PTR_MAYBE_NULL)
        and word not in ("nullable", "opt")
    ):
        shown = f"R{reg}" if env.kernel >= (7, 0) else f"arg{index}"
        env.reject(f"Possibly NULL pointer passed to trusted {shown}")
    if isinstance(value, Ptr) and value.ref:
        call.ref = value.ref
        if call.flags & kf.RELEASE:
            call.release_reg = reg
    from skep.verifier.globals import is_context

    struct_id = skip_modifiers(call.btf, target)
    struct = call.btf[struct_id]
    if call.name == "bpf_cast_to_kern_ctx" or (struct[0] == t.STRUCT and is_context(env, call.btf, target)):
        _offset(env, call, reg)
        if value.type != k.PTR_TO_CTX:
            env.reject(f"arg#{index} expected pointer to ctx, but got {k.kind_name(value.type)}")
        return False
    if word == "nullable" and null and not _is_size(call, env, index + 1):
        return False
    special = _special(env, call, index, word, struct[1] if struct[0] == t.STRUCT else "")
    if special:
        return False
    base = value.type & k.BASE_MASK
    if base == k.PTR_TO_BTF_ID or base in _AS_STRUCT:
        if struct[0] not in (t.STRUCT, t.UNION):
            env.reject(
                f"kernel function {call.name} args#{index} pointer type "
                f"{t.KIND_NAMES[struct[0]]} {struct[1]} is not supported"
            )
        _trust(env, call, reg)
        _offset(env, call, reg)
        _struct(env, call, index, struct_id)
        return False
    if struct[0] == t.FUNC_PROTO:
        if value.type != k.PTR_TO_FUNC or not isinstance(value, Ptr):
            env.reject(f"arg{index} expected pointer to func")
        call.subprog = value.aux
        return False
    return _memory(env, call, index, word, struct_id)


def _offset(env: Env, call: KfuncCall, reg: int) -> None:
    value = env.state.regs[reg]
    released = call.flags & kf.RELEASE and isinstance(value, Ptr) and value.ref
    check_offset(env, reg, k.OBJ_RELEASE if released else a.ARG_DONTCARE)


def _trust(env: Env, call: KfuncCall, reg: int) -> None:
    value = env.state.regs[reg]
    if not (call.trusted or call.rcu) or (isinstance(value, Ptr) and is_trusted(value)):
        return
    if not call.rcu:
        env.reject(f"R{reg} must be referenced or trusted")
    if not value.type & k.MEM_RCU:
        env.reject(f"R{reg} must be a rcu pointer")


# --- structs and memory -------------------------------------------------------------------------


def _struct(env: Env, call: KfuncCall, index: int, want: int) -> None:
    """The register points to a struct like the one that the function takes."""
    reg = index + 1
    p = env.state.regs[reg]
    assert isinstance(p, Ptr)
    btf = call.btf
    base = p.type & k.BASE_MASK
    unsafe = p.type & ~k.BASE_MASK & ~TRUSTED_FLAGS
    if base == k.PTR_TO_BTF_ID and unsafe and not p.type & k.MEM_RCU:
        shown = k.kind_name(base | p.type & TRUSTED_FLAGS)
        env.reject(f"arg#{index} is {k.kind_name(p.type)} expected {shown} or socket")
    if base == k.PTR_TO_BTF_ID:
        own = btf_of(p)
        id = skip_modifiers(own, p.aux)
    else:
        types = env.subject.types
        found = types.find(_AS_STRUCT[base], t.STRUCT) if types is not None else None
        if types is None or found is None:
            env.reject(f"arg#{index} is {k.kind_name(p.type)} expected ptr_ or socket")
        own, id = types, found
    strict = bool(call.flags & kf.RELEASE and p.ref) or _no_cast(own[id][1], btf[want][1])
    if ids_match(own, id, p.off, btf, want, strict, not p.type & k.MEM_ALLOC):
        return
    if _PROJECTIONS.get(btf[want][1]) == own[id][1]:
        return
    env.reject(
        f"kernel function {call.name} args#{index} expected pointer to "
        f"{t.KIND_NAMES[btf[want][0]]} {btf[want][1]} but R{reg} has a pointer to "
        f"{t.KIND_NAMES[own[id][0]]} {own[id][1]}"
    )


def _no_cast(ours: str, theirs: str) -> bool:
    """One name is the other with ``___init``: they look alike and must not be mixed."""
    return ours != theirs and ours.removesuffix("___init") == theirs.removesuffix("___init")


def _is_size(call: KfuncCall, env: Env, index: int) -> str:
    """ "sz" or "szk" when argument ``index`` says how long the one before it is."""
    if index >= len(call.params):
        return ""
    name, type_id = call.params[index]
    word = kf.suffix(name)
    kind = call.btf[skip_modifiers(call.btf, type_id)][0]
    if kind in _SCALARS and word in ("sz", "szk") and isinstance(env.state.regs[index + 1], Scalar):
        return word
    return ""


def is_plain(btf: Btf, id: int, depth: int = 0) -> bool:
    """A struct of numbers, four levels deep at most."""
    value = btf[id]
    if value[0] not in (t.STRUCT, t.UNION):
        return False
    for _, type_id, _, _ in value[3]:
        inner = skip_modifiers(btf, type_id)
        kind = btf[inner][0]
        if kind in (t.STRUCT, t.UNION):
            if depth >= 3 or not is_plain(btf, inner, depth + 1):
                return False
        elif kind == t.ARRAY:
            if not btf[inner][4] or btf[skip_modifiers(btf, btf[inner][2])][0] not in _SCALARS:
                return False
        elif kind not in _SCALARS:
            return False
    return True


def _memory(env: Env, call: KfuncCall, index: int, word: str, id: int) -> bool:
    btf = call.btf
    kind = btf[id][0]
    size_word = _is_size(call, env, index + 1)
    if kind not in _SCALARS and not is_plain(btf, id) and not (size_word and id == 0):
        void = "void, " if size_word else ""
        env.reject(
            f"arg#{index} pointer type {t.KIND_NAMES[kind]} {btf[id][1]} must point to "
            f"{void}scalar, or struct with scalar"
        )
    reg = index + 1
    _offset(env, call, reg)
    st = env.state
    value = st.regs[reg]
    if not size_word:
        try:
            size = btf.size_of(id)
        except BtfError:
            env.reject(
                f"arg#{index} reference type('{t.KIND_NAMES[kind]} {btf[id][1]}') size cannot be determined"
            )
        if is_null(value):
            return False
        _assume_checked(env, reg)
        mem.check_mem_region(env, reg, size, False, True)
        mem.check_mem_region(env, reg, size, True, True)
        st.regs[reg] = value
        return False
    if not (is_null(value) and word in ("opt", "nullable")):
        _assume_checked(env, reg)
        mem.check_mem_size(env, reg + 1, reg, False, True)
        mem.check_mem_size(env, reg + 1, reg, True, True)
        st.regs[reg] = value
    if size_word == "szk":
        size_value = st.regs[reg + 1]
        assert isinstance(size_value, Scalar)
        if not size_value.const:
            env.reject(f"R{reg + 1} must be a known constant")
        call.constant = size_value.tv
    return True


def _assume_checked(env: Env, reg: int) -> None:
    value = env.state.regs[reg]
    if isinstance(value, Ptr) and value.type & k.PTR_MAYBE_NULL:
        env.state.regs[reg] = checked(env, value)


# --- special arguments --------------------------------------------------------------------------


def _special(env: Env, call: KfuncCall, index: int, word: str, struct: str) -> bool:
    """An argument that its name or type makes special; False: it is none."""
    reg = index + 1
    if word == "alloc":
        _trust(env, call, reg)
        _offset(env, call, reg)
        _allocated(env, call, index)
    elif word == "refcounted_kptr":
        _offset(env, call, reg)
        _refcounted(env, call, index)
    elif struct == "bpf_dynptr":
        _offset(env, call, reg)
        _dynptr(env, call, index, word)
    elif (call.flags & kf.ITER and index == 0) or word == "iter":
        _offset(env, call, reg)
        _iterator(env, call, index)
    elif struct == "bpf_list_head":
        _offset(env, call, reg)
        call.root = graph.check_root(env, reg, index, rec.LIST_HEAD)
    elif struct == "bpf_rb_root":
        _offset(env, call, reg)
        call.root = graph.check_root(env, reg, index, rec.RB_ROOT)
    elif struct == "bpf_list_node":
        _offset(env, call, reg)
        _owned_object(env, index)
        _node(env, call, index, rec.LIST_NODE)
    elif struct == "bpf_rb_node":
        _offset(env, call, reg)
        _tree_node(env, call, index)
    elif word == "str":
        _offset(env, call, reg)
        if env.state.regs[reg].type != k.PTR_TO_MAP_VALUE:
            env.reject(f"arg#{index} doesn't point to a const string")
        constant_string(env, reg)
    elif word in ("map", "const_map"):
        _map(env, call, index)
    elif struct == "bpf_wq":
        _map_field(env, call, index, rec.WORKQUEUE, "bpf_wq")
    elif struct == "bpf_task_work":
        _map_field(env, call, index, rec.TASK_WORK, "bpf_task_work")
    elif word == "irq_flag":
        check_irq_flag(
            env,
            reg,
            call.name in ("bpf_local_irq_save", "bpf_res_spin_lock_irqsave"),
            call.name.startswith("bpf_res_spin"),
        )
    elif struct == "bpf_res_spin_lock":
        _res_lock(env, call, index)
    else:
        return False
    return True


def _allocated(env: Env, call: KfuncCall, index: int) -> None:
    p = env.state.regs[index + 1]
    if p.type == graph.OBJECT:
        if not call.name.startswith("bpf_obj_drop"):
            env.reject(f"arg#{index} expected for bpf_obj_drop_impl()")
    elif p.type == graph.OBJECT | k.MEM_PERCPU:
        if not call.name.startswith("bpf_percpu_obj_drop"):
            env.reject(f"arg#{index} expected for bpf_percpu_obj_drop_impl()")
    else:
        env.reject(f"arg#{index} expected pointer to allocated object")
    assert isinstance(p, Ptr)
    if not p.ref:
        env.reject("allocated object must be referenced")
    call.obj_btf = btf_of(p)
    call.obj_id = p.aux


def _refcounted(env: Env, call: KfuncCall, index: int) -> None:
    p = env.state.regs[index + 1]
    if not isinstance(p, Ptr) or p.type & k.BASE_MASK != k.PTR_TO_BTF_ID or not p.type & k.MEM_ALLOC:
        env.reject(f"arg#{index} is neither owning or non-owning ref")
    if env.kernel >= MENDED:
        if p.type & k.PTR_UNTRUSTED:
            env.reject(f"R{index + 1} is neither owning or non-owning ref")
        mem.check_fixed_pointer(env, index + 1, p, False)
    call.owned = not p.type & k.NON_OWN_REF and bool(p.ref)
    if not rec.pointer_record(p).has(rec.REFCOUNT):
        env.reject(f"arg#{index} doesn't point to a type with bpf_refcount field")
    call.obj_btf = btf_of(p)
    call.obj_id = p.aux


def _dynptr(env: Env, call: KfuncCall, index: int, word: str) -> None:
    reg = index + 1
    value = env.state.regs[reg]
    flags = k.MEM_RDONLY if value.type == k.CONST_PTR_TO_DYNPTR else 0
    kind = clone = 0
    if word == "uninit":
        flags |= k.MEM_UNINIT
        if call.name == "bpf_dynptr_clone" and call.dynptr is not None:
            kind, clone = call.dynptr.kind, call.dynptr.ref
        else:
            kind = _DYNPTR_KINDS.get(call.name, dynptr.LOCAL)
    dynptr.check_argument(env, reg, flags, clone, kind)
    if word != "uninit":
        call.dynptr = dynptr.look(env, reg)


def _iterator(env: Env, call: KfuncCall, index: int) -> None:
    if call.name == "bpf_iter_css_task_new":
        subject = env.subject
        if not (
            subject.prog_type == ProgType.LSM
            or (subject.prog_type == ProgType.TRACING and subject.attach_type == AttachType.TRACE_ITER)
            or env.in_sleepable()
        ):
            env.reject("css_task_iter is only allowed in bpf_lsm, bpf_iter and sleepable progs")
    btf = call.btf
    pointer = btf[skip_modifiers(btf, call.params[index][1])]
    id = skip_modifiers(btf, pointer[2])
    frame, spi, ref = check_iterator(env, index + 1, call.flags, call.name, btf, id)
    call.iter = (frame, spi)
    call.ref = ref


def _owned_object(env: Env, index: int) -> None:
    p = env.state.regs[index + 1]
    if not isinstance(p, Ptr) or p.type != graph.OBJECT:
        env.reject(f"arg#{index} expected pointer to allocated object")
    if not p.ref:
        env.reject("allocated object must be referenced")


def _node(env: Env, call: KfuncCall, index: int, kind: int) -> None:
    if call.root is None:
        env.reject(f"arg#{index} expected pointer to map value or allocated object")
    graph.check_node(env, index + 1, call.root, kind)
    p = env.state.regs[index + 1]
    assert isinstance(p, Ptr)
    call.obj_btf = btf_of(p)
    call.obj_id = p.aux


def _tree_node(env: Env, call: KfuncCall, index: int) -> None:
    p = env.state.regs[index + 1]
    if call.name in _TREE_NODES:
        if not isinstance(p, Ptr) or not (p.type & k.NON_OWN_REF or p.ref):
            env.reject(f"{call.name} can only take non-owning or refcounted bpf_rb_node pointer")
        if in_tree_callback(env):
            env.reject(f"{call.name} not allowed in rbtree cb")
    else:
        _owned_object(env, index)
    _node(env, call, index, rec.RB_NODE)


def _map(env: Env, call: KfuncCall, index: int) -> None:
    reg = index + 1
    p = env.state.regs[reg]
    if isinstance(p, Ptr) and p.type & k.BASE_MASK == k.PTR_TO_BTF_ID:
        _trust(env, call, reg)  # a struct bpf_map that the program was handed
        _offset(env, call, reg)
        types = env.subject.types
        found = types.find("bpf_map", t.STRUCT) if types is not None else None
        _struct(env, call, index, found or 0)
        return
    if not isinstance(p, Ptr) or not isinstance(p.obj, MapFacts):
        env.reject(f"pointer in R{reg} isn't map pointer")
    if call.map is not None and (call.map is not p.obj or call.map_uid != p.aux):
        what = "workqueue" if rec.map_record(p.obj).has(rec.WORKQUEUE) else "bpf_task_work"
        env.reject(
            f"{what} pointer in R1 map_uid={call.map_uid} doesn't match map pointer in R2 map_uid={p.aux}"
        )
    call.map = p.obj
    call.map_uid = p.aux
    if p.type != k.CONST_PTR_TO_MAP:
        env.reject(f"R{reg} must be referenced or trusted")
    _offset(env, call, reg)


def _map_field(env: Env, call: KfuncCall, index: int, kind: int, name: str) -> None:
    reg = index + 1
    p = env.state.regs[reg]
    if p.type != k.PTR_TO_MAP_VALUE:
        env.reject(f"arg#{index} doesn't point to a map value")
    check_map_field(env, reg, kind, name)
    assert isinstance(p, Ptr) and isinstance(p.obj, MapFacts)
    call.map = p.obj
    call.map_uid = p.aux


def _res_lock(env: Env, call: KfuncCall, index: int) -> None:
    reg = index + 1
    p = env.state.regs[reg]
    if p.type not in (k.PTR_TO_MAP_VALUE, graph.OBJECT):
        env.reject(f"arg#{index} doesn't point to map value or allocated object")
    check_lock(env, reg, "_lock" in call.name, res=True, irq="irq" in call.name)
