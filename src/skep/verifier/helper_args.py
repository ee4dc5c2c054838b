"""The arguments of a helper: each checked against what its prototype wants (check_func_arg)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from skep.uapi.enums import MapType, ProgType
from skep.verifier import dynptr, mem
from skep.verifier import kinds as k
from skep.verifier.facts import args as a
from skep.verifier.facts import records as rec
from skep.verifier.facts.btfwalk import ids_match
from skep.verifier.precision import Backtrack, mark_precise, mark_state
from skep.verifier.ptr import Ptr, btf_of
from skep.verifier.refs import check_lock, in_tree_callback
from skep.verifier.scalar import Scalar
from skep.verifier.stack import Uninit, is_null
from skep.verifier.state import SPILL, ZERO
from skep.verifier.subject import MapFacts
from skep.verifier.value import Value
from skep.verifier.version import FIXES

if TYPE_CHECKING:
    from skep.btf import Btf
    from skep.verifier.env import Env
    from skep.verifier.facts.protos import Arg, Proto
    from skep.verifier.facts.records import Field

_SPIN_LOCK: Final = 93
_SPIN_UNLOCK: Final = 94
_SK_RELEASE: Final = 86
_KPTR_XCHG: Final = 194
_MAP_PEEK: Final = 89
_BTF: Final = k.PTR_TO_BTF_ID
_MEM_TYPES: Final = (
    k.PTR_TO_STACK,
    k.PTR_TO_PACKET,
    k.PTR_TO_PACKET_META,
    k.PTR_TO_MAP_KEY,
    k.PTR_TO_MAP_VALUE,
    k.PTR_TO_MEM,
    k.PTR_TO_MEM | k.MEM_RINGBUF,
    k.PTR_TO_BUF,
    _BTF | k.PTR_TRUSTED,
)
_MEM_TYPES_7: Final = (*_MEM_TYPES, k.PTR_TO_CTX)
#: from then on a pointer that may be NULL is taken where NULL is
_UNTESTED: Final = (5, 17)
_SOCK_TYPES: Final = (k.PTR_TO_SOCK_COMMON, k.PTR_TO_SOCKET, k.PTR_TO_TCP_SOCK, k.PTR_TO_XDP_SOCK)
_BTF_TYPES: Final = (_BTF, _BTF | k.PTR_TRUSTED, _BTF | k.MEM_RCU)
_SCALAR: Final = (k.SCALAR_VALUE,)
#: what an argument wants -> the kinds of register that will do
_TYPES: Final[dict[int, tuple[int, ...]]] = {
    a.ARG_PTR_TO_MAP_KEY: _MEM_TYPES,
    a.ARG_PTR_TO_MAP_VALUE: _MEM_TYPES,
    a.ARG_CONST_SIZE: _SCALAR,
    a.ARG_CONST_SIZE_OR_ZERO: _SCALAR,
    a.ARG_CONST_ALLOC_SIZE_OR_ZERO: _SCALAR,
    a.ARG_SCALAR: _SCALAR,
    a.ARG_CONST_MAP_PTR: (k.CONST_PTR_TO_MAP,),
    a.ARG_PTR_TO_CTX: (k.PTR_TO_CTX,),
    a.ARG_PTR_TO_SOCK_COMMON: _SOCK_TYPES,
    a.ARG_PTR_TO_BTF_ID_SOCK_COMMON: (
        k.PTR_TO_SOCK_COMMON,
        k.PTR_TO_SOCKET,
        k.PTR_TO_TCP_SOCK,
        k.PTR_TO_XDP_SOCK,
        _BTF,
        _BTF | k.PTR_TRUSTED,
    ),
    a.ARG_PTR_TO_SOCKET: (k.PTR_TO_SOCKET,),
    a.ARG_PTR_TO_BTF_ID: _BTF_TYPES,
    a.ARG_PTR_TO_SPIN_LOCK: (k.PTR_TO_MAP_VALUE, _BTF | k.MEM_ALLOC),
    a.ARG_PTR_TO_MEM: _MEM_TYPES,
    a.ARG_PTR_TO_RINGBUF_MEM: (k.PTR_TO_MEM | k.MEM_RINGBUF,),
    a.ARG_PTR_TO_PERCPU_BTF_ID: (
        _BTF | k.MEM_PERCPU,
        _BTF | k.MEM_PERCPU | k.MEM_RCU,
        _BTF | k.MEM_PERCPU | k.PTR_TRUSTED,
    ),
    a.ARG_PTR_TO_FUNC: (k.PTR_TO_FUNC,),
    a.ARG_PTR_TO_STACK: (k.PTR_TO_STACK,),
    a.ARG_PTR_TO_CONST_STR: (k.PTR_TO_MAP_VALUE,),
    a.ARG_PTR_TO_TIMER: (k.PTR_TO_MAP_VALUE,),
    a.ARG_KPTR_XCHG_DEST: (k.PTR_TO_MAP_VALUE, _BTF | k.MEM_ALLOC),
    a.ARG_PTR_TO_DYNPTR: (k.PTR_TO_STACK, k.CONST_PTR_TO_DYNPTR),
}
#: pointers that may have been moved, by constants and more
_MOVABLE: Final = frozenset(
    (
        k.PTR_TO_STACK,
        k.PTR_TO_PACKET,
        k.PTR_TO_PACKET_META,
        k.PTR_TO_MAP_KEY,
        k.PTR_TO_MAP_VALUE,
        k.PTR_TO_MEM,
        k.PTR_TO_MEM | k.MEM_RDONLY,
        k.PTR_TO_MEM | k.MEM_RINGBUF,
        k.PTR_TO_BUF,
        k.PTR_TO_BUF | k.MEM_RDONLY,
        k.PTR_TO_ARENA,
        k.SCALAR_VALUE,
    )
)
#: pointers that a constant may have been added to
_FIXED: Final = frozenset(
    (
        _BTF,
        _BTF | k.MEM_ALLOC,
        _BTF | k.PTR_TRUSTED,
        _BTF | k.MEM_RCU,
        _BTF | k.MEM_ALLOC | k.NON_OWN_REF,
        _BTF | k.MEM_ALLOC | k.NON_OWN_REF | k.MEM_RCU,
    )
)
_COMPARED: Final = frozenset(
    (
        _BTF,
        _BTF | k.PTR_TRUSTED,
        _BTF | k.PTR_TRUSTED | k.PTR_MAYBE_NULL,
        _BTF | k.MEM_RCU,
        _BTF | k.PTR_MAYBE_NULL,
        _BTF | k.PTR_MAYBE_NULL | k.MEM_RCU,
    )
)
_ALLOCATED: Final = (_BTF | k.MEM_ALLOC, _BTF | k.MEM_PERCPU | k.MEM_ALLOC)
_PERCPU: Final = (
    _BTF | k.MEM_PERCPU,
    _BTF | k.MEM_PERCPU | k.MEM_RCU,
    _BTF | k.MEM_PERCPU | k.PTR_TRUSTED,
)


#: wishes of an argument that every pointer to the stack is of the right kind for
_STACK_OK: Final = (
    a.ARG_PTR_TO_MAP_KEY,
    a.ARG_PTR_TO_MEM,
    a.ARG_PTR_TO_MEM | k.MEM_RDONLY,
    a.ARG_PTR_TO_MEM | k.MEM_WRITE,
    a.ARG_PTR_TO_MEM | k.MEM_UNINIT,
    a.ARG_PTR_TO_MEM | k.MEM_UNINIT | k.MEM_WRITE,
)


class Call:
    """What is found out about a call while its arguments are checked."""

    __slots__ = (
        "const_key",
        "dyn_id",
        "kptr",
        "map",
        "map_uid",
        "mem_size",
        "number",
        "proto",
        "ref",
        "release_reg",
        "ret_btf",
        "ret_btf_id",
        "size_max",
        "subprog",
        "uninit",
    )

    def __init__(self, proto: Proto, number: int) -> None:
        self.proto = proto
        self.number = number
        self.map: MapFacts | None = None
        self.map_uid = 0
        #: memory that the call will fill
        self.uninit = Uninit()
        self.release_reg = 0
        #: the reference that came with an argument, or a dynptr's
        self.ref = 0
        self.mem_size = 0
        #: the most that the last size argument can be
        self.size_max = 0
        self.subprog = -1
        self.kptr: Field | None = None
        self.ret_btf: Btf | None = None
        self.ret_btf_id = 0
        #: the index that an array is looked up with, -1 when it is not known
        self.const_key = -1
        self.dyn_id = 0


def check_argument(env: Env, call: Call, index: int) -> None:
    """Argument ``index`` (from 0) of the call, in register ``index`` + 1."""
    arg = call.proto.args[index]
    kind = arg.kind
    if kind == a.ARG_DONTCARE:
        return
    reg = index + 1
    value = env.use(reg)
    if kind == a.ARG_ANYTHING:
        if not env.leaks and value.type != k.SCALAR_VALUE:
            env.reject(f"R{reg} leaks addr into helper function")
        return
    type = value.type
    if type == k.PTR_TO_STACK:
        if kind in _STACK_OK:  # nothing to ask of the pointer itself
            _check_kind(env, call, reg, index, kind, arg)
            return
    elif (
        type == k.CONST_PTR_TO_MAP
        and kind == a.ARG_CONST_MAP_PTR
        and isinstance(value, Ptr)
        and not (value.off or value.ref)
        and value.var is env.scalars.zero
    ):
        _map_pointer(env, call, reg)
        return
    if type in (k.PTR_TO_PACKET, k.PTR_TO_PACKET_META) and not _reads_packet(env, call.proto):
        env.reject("helper access to the packet is not allowed")
    base = kind & k.BASE_MASK
    if base == a.ARG_PTR_TO_MAP_VALUE:
        kind = _resolve_map_value(env, call, kind)
        base = kind & k.BASE_MASK
    if is_null(value) and kind & k.PTR_MAYBE_NULL:
        mark_precise(env, reg)
    else:
        _check_type(env, call, reg, kind, arg)
        check_offset(env, reg, kind)
    value = env.state.regs[reg]
    if kind & k.OBJ_RELEASE:
        _check_release(env, call, reg, base)
    if isinstance(value, Ptr) and value.ref and base != a.ARG_KPTR_XCHG_DEST:
        if call.ref:
            env.reject(f"more than one arg with ref_obj_id R{reg} {value.ref} {call.ref}")
        call.ref = value.ref
    _check_kind(env, call, reg, index, kind, arg)


def _reads_packet(env: Env, proto: Proto) -> bool:
    if not mem.may_read_packet(env):
        return False
    return proto.pkt_access or env.subject.prog_type == ProgType.CGROUP_SOCKOPT


def _resolve_map_value(env: Env, call: Call, kind: int) -> int:
    row = call.map
    assert row is not None
    if row.type in (MapType.SOCKMAP, MapType.SOCKHASH):
        if kind != a.ARG_PTR_TO_MAP_VALUE:
            env.reject("invalid arg_type for sockmap/sockhash")
        return a.ARG_PTR_TO_BTF_ID_SOCK_COMMON
    if row.type == MapType.BLOOM_FILTER and call.number == _MAP_PEEK:
        return a.ARG_PTR_TO_MAP_VALUE
    return kind


# --- kinds --------------------------------------------------------------------------------------


def _check_type(env: Env, call: Call, reg: int, kind: int, arg: Arg) -> None:
    """The register is of a kind that the argument takes (check_reg_type)."""
    value = env.state.regs[reg]
    base = kind & k.BASE_MASK
    accepted = _TYPES[base]
    if accepted is _MEM_TYPES and env.kernel >= (7, 0):
        accepted = _MEM_TYPES_7
    type = value.type
    if kind & k.MEM_RDONLY:
        type &= ~k.MEM_RDONLY
    untested = bool(kind & k.PTR_MAYBE_NULL) and env.kernel >= _UNTESTED
    if untested:
        type &= ~k.PTR_MAYBE_NULL
    if base == a.ARG_PTR_TO_MEM:
        type &= ~dynptr.FLAG_MASK
    xchg = call.number == _KPTR_XCHG
    if xchg and type & k.MEM_ALLOC and type & k.BASE_MASK == _BTF and reg == 2:
        type &= ~(k.MEM_ALLOC | k.MEM_PERCPU)
    inner = value.type == k.PTR_TO_MAP_VALUE_OR_NULL and _holds_maps(env, value)
    if type not in accepted or (inner and type == k.PTR_TO_MAP_VALUE):
        names = ", ".join(k.kind_name(t) for t in accepted)
        said = "map_ptr_or_null" if inner and untested else k.kind_name(value.type)
        env.reject(f"R{reg} type={said} expected={names}")
    if value.type & k.BASE_MASK != _BTF or not isinstance(value, Ptr):
        return
    if accepted[0] == k.PTR_TO_STACK and len(accepted) > 2:  # memory
        if not kind & k.MEM_RDONLY:
            from skep.verifier.helper_call import helper_name

            env.reject(
                f"{helper_name(call.number)}() may write into memory pointed by "
                f"R{reg} type={k.kind_name(value.type)}"
            )
        return
    if value.type in _COMPARED:
        _check_struct(env, call, reg, value, kind, arg)
    elif value.type in _ALLOCATED:
        if xchg and reg == 2:
            from skep.verifier.kptr import match_kptr

            assert call.kptr is not None
            match_kptr(env, call.kptr, reg)
    elif value.type not in _PERCPU:
        env.reject("invalid PTR_TO_BTF_ID register for type match")


def _holds_maps(env: Env, value: Value) -> bool:
    """What a lookup in a map of maps gave, before it is tested: a map, not memory (since 7.3)."""
    if env.kernel < FIXES and env.strict is None:
        return False
    row = value.obj if isinstance(value, Ptr) else None
    return isinstance(row, MapFacts) and row.inner is not None


def _check_struct(env: Env, call: Call, reg: int, p: Ptr, kind: int, arg: Arg) -> None:
    release = bool(kind & k.OBJ_RELEASE)
    if p.type & k.PTR_MAYBE_NULL and (not kind & k.PTR_MAYBE_NULL or release):
        env.reject(f"Possibly NULL pointer passed to helper arg{reg}")
    if call.number == _KPTR_XCHG:
        from skep.verifier.kptr import match_kptr

        assert call.kptr is not None
        match_kptr(env, call.kptr, reg)
        return
    types = env.subject.types
    own = btf_of(p)
    name = arg.btf or "sock_common"
    want = types.find(name, 4) if types is not None else None
    strict = release and call.number != _SK_RELEASE
    if types is None or want is None or not ids_match(own, p.aux, p.off, types, want, strict):
        env.reject(f"R{reg} is of type {own[p.aux].name} but {name} is expected")


def check_btf_argument(env: Env, reg: int, kind: int, btf_id: int) -> None:
    """Register ``reg`` points to struct ``btf_id`` of the kernel's, as an argument ``kind`` wants it."""
    value = env.state.regs[reg]
    type = value.type
    if kind & k.PTR_MAYBE_NULL:
        type &= ~k.PTR_MAYBE_NULL
    if type not in _BTF_TYPES or not isinstance(value, Ptr):
        names = ", ".join(k.kind_name(t) for t in _BTF_TYPES)
        env.reject(f"R{reg} type={k.kind_name(value.type)} expected={names}")
    if value.type & k.PTR_MAYBE_NULL and not kind & k.PTR_MAYBE_NULL:
        env.reject(f"Possibly NULL pointer passed to helper arg{reg}")
    types = env.subject.types
    own = btf_of(value)
    if types is None or not ids_match(own, value.aux, value.off, types, btf_id, False):
        wanted = types[btf_id].name if types is not None else "?"
        env.reject(f"R{reg} is of type {own[value.aux].name} but {wanted} is expected")
    check_offset(env, reg, kind)


def check_offset(env: Env, reg: int, kind: int) -> None:
    """The pointer has not been moved further than its kind allows (check_func_arg_reg_off)."""
    value = env.state.regs[reg]
    if not isinstance(value, Ptr):
        return
    if kind & k.OBJ_RELEASE:
        if kind & k.BASE_MASK == a.ARG_PTR_TO_DYNPTR and value.type == k.PTR_TO_STACK:
            return
        if value.off and env.kernel >= (5, 18):
            env.reject(f"R{reg} must have zero offset when passed to release func or trusted arg to kfunc")
        mem.check_fixed_pointer(env, reg, value, False)
        return
    if value.type in _MOVABLE:
        return
    if value.type == k.PTR_TO_CTX and kind != a.ARG_PTR_TO_CTX and mem.moving_context(env):
        return
    mem.check_fixed_pointer(env, reg, value, value.type in _FIXED)


def _check_release(env: Env, call: Call, reg: int, base: int) -> None:
    value = env.state.regs[reg]
    if base == a.ARG_PTR_TO_DYNPTR:
        if value.type != k.PTR_TO_STACK:
            env.reject("cannot release unowned const bpf_dynptr")
        seen = dynptr.look(env, reg)
        if seen is None or not seen.ref:
            env.reject(f"arg {reg} is an unacquired reference")
    elif not is_null(value) and not (isinstance(value, Ptr) and value.ref):
        env.reject(f"R{reg} must be referenced when passed to release function")
    call.release_reg = reg


# --- what each kind asks ------------------------------------------------------------------------


def _check_kind(env: Env, call: Call, reg: int, index: int, kind: int, arg: Arg) -> None:
    base = kind & k.BASE_MASK
    value = env.state.regs[reg]
    if base == a.ARG_PTR_TO_MEM:
        if kind & k.MEM_FIXED_SIZE:
            old = bool(kind & k.MEM_ALIGNED) and env.kernel < (6, 12)  # numbers were read, not written
            raw = call.uninit if kind & k.MEM_UNINIT and not old else None
            mem.check_mem_region(env, reg, arg.size, bool(kind & k.MEM_WRITE) and not old, False, raw)
            if kind & k.MEM_ALIGNED and isinstance(value, Ptr):
                mem.check_alignment(env, value, 0, arg.size, True)
    elif base in (a.ARG_CONST_SIZE, a.ARG_CONST_SIZE_OR_ZERO):
        before = call.proto.args[index - 1].kind
        raw = call.uninit if before & k.MEM_UNINIT else None
        if isinstance(value, Scalar):
            call.size_max = value.umax
        mem.check_mem_size(
            env, reg, reg - 1, bool(before & k.MEM_WRITE), base == a.ARG_CONST_SIZE_OR_ZERO, raw
        )
    elif base == a.ARG_CONST_MAP_PTR:
        _map_pointer(env, call, reg)
    elif base == a.ARG_PTR_TO_MAP_KEY:
        _map_key(env, call, reg)
    elif base == a.ARG_PTR_TO_MAP_VALUE:
        if is_null(value) and kind & k.PTR_MAYBE_NULL:
            return
        assert call.map is not None
        raw = call.uninit if kind & k.MEM_UNINIT else None
        mem.check_mem_region(env, reg, call.map.value_size, bool(kind & k.MEM_WRITE), False, raw)
    elif base == a.ARG_PTR_TO_PERCPU_BTF_ID:
        assert isinstance(value, Ptr)
        if not value.aux:
            env.reject(f"Helper has invalid btf_id in R{reg}")
        call.ret_btf = btf_of(value)
        call.ret_btf_id = value.aux
    elif base == a.ARG_PTR_TO_SPIN_LOCK:
        if in_tree_callback(env):
            env.reject("can't spin_{lock,unlock} in rbtree cb")
        check_lock(env, reg, call.number == _SPIN_LOCK)
    elif base == a.ARG_PTR_TO_TIMER:
        _timer(env, call, reg)
    elif base == a.ARG_PTR_TO_FUNC:
        assert isinstance(value, Ptr)
        call.subprog = value.aux
    elif base == a.ARG_PTR_TO_DYNPTR:
        rdonly = 0 if kind & (k.MEM_UNINIT | k.OBJ_RELEASE) else k.MEM_RDONLY
        dynptr.check_argument(env, reg, kind | rdonly)
    elif base == a.ARG_CONST_ALLOC_SIZE_OR_ZERO:
        if not (isinstance(value, Scalar) and value.const):
            env.reject(f"R{reg} is not a known constant'")
        call.mem_size = value.tv
        mark_precise(env, reg)
    elif base == a.ARG_PTR_TO_CONST_STR:
        constant_string(env, reg)
    elif base == a.ARG_KPTR_XCHG_DEST:
        _kptr_target(env, call, reg)


def _map_pointer(env: Env, call: Call, reg: int) -> None:
    p = env.state.regs[reg]
    assert isinstance(p, Ptr) and isinstance(p.obj, MapFacts)
    if call.map is not None and (call.map is not p.obj or call.map_uid != p.aux):
        env.reject(
            f"timer pointer in R1 map_uid={call.map_uid} doesn't match map pointer in R2 map_uid={p.aux}"
        )
    call.map = p.obj
    call.map_uid = p.aux


def elides_null(row: MapFacts) -> bool:
    """A lookup of a known index within such a map cannot fail."""
    return row.type in (MapType.ARRAY, MapType.PERCPU_ARRAY) and not row.flags & 1 << 12


def _map_key(env: Env, call: Call, reg: int) -> None:
    row = call.map
    assert row is not None
    p = env.state.regs[reg]
    index = -1
    if elides_null(row) and env.kernel >= (6, 15):
        index = _constant_key(env, p, row.key_size) if isinstance(p, Ptr) else -1
    mem.check_mem_region(env, reg, row.key_size, False, False)
    call.const_key = index


def _constant_key(env: Env, p: Ptr, size: int) -> int:
    """The number that a key of ``size`` bytes on the stack is known to be, -1 when it is not."""
    if not env.bpf or p.type != k.PTR_TO_STACK or not p.var.const:
        return -1
    at = -(p.off + p.var.smin) - 1
    frame = env.frame_of(p)
    spi, low = at >> 3, at & 7
    if at < 0 or spi >= len(frame.slots):
        return -1
    slot = frame.slots[spi]
    if slot is None:
        return -1
    zeros = spills = 0
    while low - zeros >= 0 and slot.types[low - zeros] == ZERO:
        zeros += 1
    if zeros >= size:
        return 0
    if slot.types[7] != SPILL or not isinstance(slot.value, Scalar):
        return -1
    while low - spills >= 0 and slot.types[low - spills] == SPILL:
        spills += 1
    if spills != size or not slot.value.const:
        return -1
    st = env.state
    if st.parent is not None:
        bt = Backtrack(len(st.frames) - 1)
        bt.slots[frame.frameno] |= 1 << spi
        mark_state(env, st, bt, env.pc)
    value = slot.value.tv
    return value if value < 1 << 63 else -1


def _timer(env: Env, call: Call, reg: int) -> None:
    check_map_field(env, reg, rec.TIMER, "bpf_timer")
    p = env.state.regs[reg]
    assert isinstance(p, Ptr) and isinstance(p.obj, MapFacts)
    call.map = p.obj
    call.map_uid = p.aux


def check_map_field(env: Env, reg: int, kind: int, name: str) -> None:
    """Register ``reg`` points to the field ``kind`` of a map's value."""
    p = env.state.regs[reg]
    assert isinstance(p, Ptr) and isinstance(p.obj, MapFacts)
    row = p.obj
    if not p.var.const:
        env.reject(f"R{reg} doesn't have constant offset. {name} has to be at the constant offset")
    if row.btf is None:
        env.reject(f"map '{row.name}' has to have BTF in order to use {name}")
    field = rec.map_record(row).first(kind)
    if field is None:
        env.reject(f"map '{row.name}' has no valid {name}")
    at = p.off + p.var.smin
    if field.off != at:
        env.reject(f"off {at} doesn't point to 'struct {name}' that is at {field.off}")


def _kptr_target(env: Env, call: Call, reg: int) -> None:
    p = env.state.regs[reg]
    assert isinstance(p, Ptr)
    if isinstance(p.obj, MapFacts):
        if p.obj.btf is None:
            env.reject(f"map '{p.obj.name}' has to have BTF in order to use bpf_kptr_xchg")
        call.map = p.obj
    record = rec.pointer_record(p)
    if not p.var.const:
        env.reject(f"R{reg} doesn't have constant offset. kptr has to be at the constant offset")
    if not record.has(rec.KPTR):
        env.reject(f"R{reg} has no valid kptr")
    at = p.off + p.var.smin
    field = record.find(at, rec.KPTR)
    if field is None:
        env.reject(f"off={at} doesn't point to kptr")
    if not field.kind & (rec.KPTR_REF | rec.KPTR_PERCPU):
        env.reject(f"off={at} kptr isn't referenced kptr")
    call.kptr = field


def constant_string(env: Env, reg: int) -> bytes:
    """The string in read-only memory that register ``reg`` points to, without its end."""
    p = env.state.regs[reg]
    assert isinstance(p, Ptr) and isinstance(p.obj, MapFacts)
    row = p.obj
    if row.contents is None:
        env.reject(f"R{reg} does not point to a readonly map'")
    if not p.var.const:
        env.reject(f"R{reg} is not a constant address'")
    mem.check_map(env, reg, p, p.off, row.value_size - p.off, False, direct=False)
    text = row.contents[p.off + p.var.smin :]
    end = text.find(b"\0")
    if end < 0:
        env.reject("string is not zero-terminated")
    return text[:end]
