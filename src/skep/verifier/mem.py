"""Memory: may this access be made, and what does a load give."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from skep.uapi.enums import ProgType as P
from skep.verifier import indirect, stack, tnum
from skep.verifier import kinds as k
from skep.verifier.facts.records import check_special, kptr_at
from skep.verifier.pointers import MAX_VAR_OFF
from skep.verifier.precision import mark_precise
from skep.verifier.ptr import Ptr
from skep.verifier.scalar import S64_MIN, Scalar
from skep.verifier.stack import Uninit
from skep.verifier.subject import BPF_F_RDONLY_PROG, MapFacts
from skep.verifier.value import Value
from skep.verifier.version import FIXES

if TYPE_CHECKING:
    from skep.verifier.env import Env

_MAX_VAR_SIZE: Final = 1 << 29
_MAX_PACKET: Final = 0xFFFF
_FLOW_KEYS_SIZE: Final = 56
_ARRAY: Final = 2
_NEGATIVE: Final = "min value is negative, either use unsigned index or do a if (index >=0) check."
_PACKET_READERS: Final = frozenset(
    (P.LWT_IN, P.LWT_OUT, P.LWT_SEG6LOCAL, P.SK_REUSEPORT, P.FLOW_DISSECTOR, P.CGROUP_SKB)
)
_PACKET_WRITERS: Final = frozenset(
    (P.SCHED_CLS, P.SCHED_ACT, P.XDP, P.LWT_XMIT, P.SK_SKB, P.SK_MSG, P.CGROUP_SOCKOPT)
)
#: programs whose context is memory as it stands: functions may be handed parts of it
_PLAIN_CONTEXTS: Final = frozenset(
    (
        P.SYSCALL,
        P.TRACING,
        P.LSM,
        P.KPROBE,
        P.TRACEPOINT,
        P.RAW_TRACEPOINT,
        P.RAW_TRACEPOINT_WRITABLE,
        P.STRUCT_OPS,
        P.NETFILTER,
    )
)
#: programs whose accesses to the context the kernel does not rewrite: Linux 7.0 takes a moved pointer there
_AS_IT_STANDS: Final = _PLAIN_CONTEXTS | {P.CGROUP_DEVICE, P.LIRC_MODE2}
_CONTEXT_BYTES: Final = 0xFFFF
_DESCRIBED: Final = {
    k.PTR_TO_FLOW_KEYS: "flow keys ",
    k.PTR_TO_MAP_KEY: "key ",
    k.PTR_TO_MAP_VALUE: "value ",
    k.PTR_TO_CTX: "context ",
    k.PTR_TO_STACK: "stack ",
    k.PTR_TO_SOCKET: "sock ",
    k.PTR_TO_SOCK_COMMON: "sock_common ",
    k.PTR_TO_TCP_SOCK: "tcp_sock ",
    k.PTR_TO_XDP_SOCK: "xdp_sock ",
}


# --- loads and stores --------------------------------------------------------------------------


def check_mem_access(
    env: Env,
    reg: int,
    off: int,
    size: int,
    write: bool,
    value_reg: int,
    *,
    signed: bool = False,
    aligned: bool = False,
    imm_zero: bool = False,
    imm: Value | None = None,
) -> None:
    """Access ``size`` bytes at register ``reg`` plus ``off``.

    A load puts its value into register ``value_reg`` (-1: nowhere); a store takes it from there (-1: an
    immediate, ``imm`` if it is worth knowing, ``imm_zero`` if it is 0). ``aligned`` demands alignment.
    """
    p = env.state.regs[reg]
    if not isinstance(p, Ptr):
        env.reject(f"R{reg} invalid mem access '{k.kind_name(p.type)}'")
    type = p.type
    if type == k.PTR_TO_STACK:
        if size > 1 and not (p.var.const and not (p.off + off + p.var.tv) & (size - 1)):
            check_alignment(env, p, off, size, aligned)
        off += p.off
        stack.check_bounds(env, reg, p, off, size, write)
        if not write:
            stack.read(env, reg, p, off, size, value_reg)
            if value_reg >= 0 and size < 8:
                narrow(env, value_reg, size, signed)
        else:
            value = env.state.regs[value_reg] if value_reg >= 0 else imm
            stack.write(env, reg, p, off, size, value, value_reg, imm_zero)
        return
    if size > 1 and (aligned or env.strict_alignment):
        check_alignment(env, p, off, size, aligned)
    if write and value_reg >= 0 and not env.leaks:
        _check_leak(env, p, value_reg)
    new = access(env, reg, p, off + p.off, size, write, value_reg, signed)
    if not write and value_reg >= 0:
        if new is None:
            new = env.scalars.unknown
        env.set_reg(value_reg, new)
        if size < 8 and isinstance(new, Scalar):
            narrow(env, value_reg, size, signed)


def narrow(env: Env, reg: int, size: int, signed: bool) -> None:
    """A load of ``size`` bytes into ``reg``: what is known of them, extended."""
    value = env.state.regs[reg]
    if isinstance(value, Scalar):
        if signed and env.mended and value.umax >> (8 * size - 1):
            env.state.ids[reg] = 0  # no longer the number that the slot was linked with
        if value is env.scalars.unknown and not signed:
            env.state.regs[reg] = env.scalars.of_size(size)
        else:
            key = (value, size, signed)
            known = env.narrow_memo.get(key)
            if known is None:
                known = env.narrow_memo[key] = stack.narrow_value(env, value, size, signed)
            env.state.regs[reg] = known


_LEAKS: Final = {
    k.PTR_TO_MAP_VALUE: "map",
    k.PTR_TO_MEM: "mem",
    k.PTR_TO_CTX: "ctx",
    k.PTR_TO_PACKET: "packet",
    k.PTR_TO_PACKET_META: "packet",
    k.PTR_TO_FLOW_KEYS: "flow keys",
}


def _check_leak(env: Env, p: Ptr, value_reg: int) -> None:
    where = _LEAKS.get(p.type & k.BASE_MASK)
    if where is not None and env.state.regs[value_reg].type != k.SCALAR_VALUE:
        env.reject(f"R{value_reg} leaks addr into {where}")


def access(
    env: Env, reg: int, p: Ptr, off: int, size: int, write: bool, value_reg: int, signed: bool
) -> Value | None:
    """Check an access outside the stack, at ``off`` from the object's start; what a load gives, or None: a
    number of the load's size.
    """
    type = p.type
    base = type & k.BASE_MASK
    if type == k.PTR_TO_MAP_VALUE:
        return _map_value(env, reg, p, off, size, write, value_reg, signed)
    if type == k.PTR_TO_PACKET or type == k.PTR_TO_PACKET_META:
        if write and not may_write_packet(env):
            env.reject("cannot write into packet")
        check_packet(env, reg, p, off, size, False)
    elif type == k.PTR_TO_CTX:
        if moving_context(env):
            check_range(env, reg, p, off, size, _CONTEXT_BYTES, False)
            off += p.var.umax
        else:
            check_fixed_pointer(env, reg, p, env.kernel >= (7, 0) and env.subject.prog_type in _AS_IT_STANDS)
        return _ctx(env, off, size, write, signed)
    elif base == k.PTR_TO_MEM:
        if type & k.PTR_MAYBE_NULL:
            env.reject(f"R{reg} invalid mem access '{k.kind_name(type)}'")
        if write and type & k.MEM_RDONLY:
            env.reject(f"R{reg} cannot write into {k.kind_name(type)}")
        if type & k.PTR_UNTRUSTED and type & k.MEM_RDONLY:  # such a read cannot fault
            if not env.rights.perfmon and env.kernel >= FIXES:
                env.reject(f"{k.kind_name(type)} access is allowed only to CAP_PERFMON and CAP_SYS_ADMIN")
        else:
            check_range(env, reg, p, off, size, p.aux, False)
    elif base == k.PTR_TO_BTF_ID and not type & k.PTR_MAYBE_NULL:
        from skep.verifier.btfptr import check_access

        return check_access(env, reg, p, off, size, write)
    elif type == k.PTR_TO_MAP_KEY:
        if write:
            env.reject(f"write to change key R{reg} not allowed")
        assert isinstance(p.obj, MapFacts)
        check_range(env, reg, p, off, size, p.obj.key_size, False)
    elif type == k.PTR_TO_FLOW_KEYS:
        if off < 0 or off + size > _FLOW_KEYS_SIZE:
            env.reject(f"invalid access to flow keys off={off} size={size}")
    elif type in (k.PTR_TO_SOCKET, k.PTR_TO_SOCK_COMMON, k.PTR_TO_TCP_SOCK, k.PTR_TO_XDP_SOCK):
        if write:
            env.reject(f"R{reg} cannot write into {k.kind_name(type)}")
        _socket(env, reg, p, off, size)
    elif type == k.PTR_TO_TP_BUFFER:
        check_buffer(env, reg, p, off, size, "tracepoint")
    elif type == k.CONST_PTR_TO_MAP:
        from skep.verifier.btfptr import check_map_pointer

        return check_map_pointer(env, reg, p, off, size, write)
    elif base == k.PTR_TO_BUF and not type & k.PTR_MAYBE_NULL:
        if write and type & k.MEM_RDONLY:
            env.reject(f"R{reg} cannot write into {k.kind_name(type)}")
        check_buffer(env, reg, p, off, size, "rdonly" if type & k.MEM_RDONLY else "rdwr")
    elif type != k.PTR_TO_ARENA:
        env.reject(f"R{reg} invalid mem access '{k.kind_name(type)}'")
    return None


def _map_value(
    env: Env, reg: int, p: Ptr, off: int, size: int, write: bool, value_reg: int, signed: bool
) -> Value | None:
    row = p.obj
    assert isinstance(row, MapFacts)
    if row.table is not None and size > 1:
        check_alignment(env, p, off - p.off, size, True)
    check_map_permission(env, row, off, size, write)
    check_map(env, reg, p, off, size, False, direct=True)
    if row.table is not None and value_reg >= 0:
        return indirect.load(env, p, off, size)
    if not p.var.const:
        return None
    at = off + p.var.smin
    if row.btf is not None:
        field = kptr_at(row, at)
        if field is not None:
            from skep.verifier.kptr import check_kptr_access

            return check_kptr_access(env, reg, value_reg, field, write)
    contents = row.contents
    if not write and contents is not None and row.type == _ARRAY and row.flags & BPF_F_RDONLY_PROG:
        raw = contents[at : at + size].ljust(size, b"\0")
        return env.scalars.const(int.from_bytes(raw, "little", signed=signed))
    return None


def _ctx(env: Env, off: int, size: int, write: bool, signed: bool) -> Value | None:
    from skep.verifier.facts.context import ctx_access

    key = (off, size, write, signed)
    found = env.ctx_memo.get(key)
    if found is None:
        lines: list[str] = []
        found = ctx_access(
            env.subject, off, size, write, env.kernel, signed=signed, privileged=env.bpf, log=lines
        )
        if found is None:
            lines.append(f"invalid bpf_context access off={off} size={size}{_since(env, off, size, write)}")
            env.reject(lines[0], more="\n".join(lines[1:]))
        env.ctx_memo[key] = found
    if found.kind == k.SCALAR_VALUE:
        if found.retval:
            from skep.verifier.facts.returns import hook_range

            limits = hook_range(env.subject, env.kernel)
            if limits is not None:
                from skep.verifier.calls import ranged32

                return ranged32(env, env.scalars.unknown, limits[0], limits[1])
        return None
    id = env.new_id() if found.kind & k.PTR_MAYBE_NULL else 0
    ref = 0
    if found.ref:
        ref = env.ctx_ref(off)
    return env.ptrs.make(found.kind, id=id, ref=ref, aux=found.btf_id, obj=found.btf)


def _since(env: Env, off: int, size: int, write: bool) -> str:
    """When a context has these bytes, where a later release than the one asked about has them."""
    from skep.verifier.facts.context import place_since

    subject = env.subject
    first = place_since(subject.prog_type, subject.attach_type, off, size, write)
    if first is None or first <= env.kernel:
        return ""
    return f" (Linux {first[0]}.{first[1]} has it)"


def _socket(env: Env, reg: int, p: Ptr, off: int, size: int) -> None:
    from skep.verifier.facts.context import object_access

    if p.var.smin < 0:
        env.reject(f"R{reg} {_NEGATIVE}")
    if not object_access(p.type, off, size, False):
        env.reject(f"R{reg} invalid {k.kind_name(p.type)} access off={off} size={size}")


def tnum_text(p: Ptr) -> str:
    """The variable part of a pointer, as the kernel writes it."""
    return tnum.text(p.var.tv, p.var.tm)


# --- rules -------------------------------------------------------------------------------------


def check_alignment(env: Env, p: Ptr, off: int, size: int, strict: bool) -> None:
    strict = strict or env.strict_alignment
    type = p.type
    if type == k.PTR_TO_PACKET or type == k.PTR_TO_PACKET_META:
        if not strict:
            return
        at = (2 + p.off + off) & 0xFFFF_FFFF_FFFF_FFFF  # NET_IP_ALIGN
        v, m = tnum.add(p.var.tv, p.var.tm, at, 0)
        if (v | m) & (size - 1):
            text = tnum_text(p)
            env.reject(f"misaligned packet access off 2+{text}+{p.off}+{off} size {size}")
        return
    if type == k.PTR_TO_ARENA or not (strict or type == k.PTR_TO_STACK):
        return
    at = (p.off + off) & 0xFFFF_FFFF_FFFF_FFFF
    v, m = tnum.add(p.var.tv, p.var.tm, at, 0)
    if (v | m) & (size - 1):
        text = tnum_text(p)
        env.reject(f"misaligned {_DESCRIBED.get(type, '')}access off {text}+{p.off}+{off} size {size}")


def check_within(
    env: Env, reg: int, p: Ptr, off: int, size: int, limit: int, zero_ok: bool, more: str
) -> None:
    """``size`` bytes at ``off`` lie in an object of ``limit`` bytes; ``more`` is said after the refusal."""
    if off >= 0 and (size > 0 or (size == 0 and zero_ok)) and off + size <= limit:
        return
    type = p.type
    if type == k.PTR_TO_MAP_KEY:
        text = f"invalid access to map key, key_size={limit} off={off} size={size}"
    elif type == k.PTR_TO_MAP_VALUE:
        text = f"invalid access to map value, value_size={limit} off={off} size={size}"
    elif type in (k.PTR_TO_PACKET, k.PTR_TO_PACKET_META, k.PTR_TO_PACKET_END):
        text = f"invalid access to packet, off={off} size={size}, R{reg}(id={p.id},off={off},r={limit})"
    elif type == k.PTR_TO_CTX:
        text = f"invalid access to context, ctx_size={limit} off={off} size={size}"
    else:
        text = f"invalid access to memory, mem_size={limit} off={off} size={size}"
    env.reject(text, more=more)


def check_range(env: Env, reg: int, p: Ptr, off: int, size: int, limit: int, zero_ok: bool) -> None:
    """The same for a pointer with a variable part: at its least and at its greatest."""
    var = p.var
    if var.const and not var.tv:
        check_within(
            env, reg, p, off, size, limit, zero_ok, f"R{reg} min value is outside of the allowed memory range"
        )
        return
    low = var.smin
    if low < 0 and (low == S64_MIN or not -(1 << 31) <= off + low < 1 << 31 or low + off < 0):
        env.reject(f"R{reg} {_NEGATIVE}")
    check_within(
        env,
        reg,
        p,
        low + off,
        size,
        limit,
        zero_ok,
        f"R{reg} min value is outside of the allowed memory range",
    )
    if var.umax >= MAX_VAR_OFF:
        env.reject(f"R{reg} unbounded memory access, make sure to bounds check any such access")
    check_within(
        env,
        reg,
        p,
        var.umax + off,
        size,
        limit,
        zero_ok,
        f"R{reg} max value is outside of the allowed memory range",
    )


def check_packet(env: Env, reg: int, p: Ptr, off: int, size: int, zero_ok: bool) -> None:
    if p.var.smin < 0:
        env.reject(f"R{reg} {_NEGATIVE}")
    if p.aux < 0:
        env.reject(f"R{reg} offset is outside of the packet")
    check_within(env, reg, p, off, size, p.aux, zero_ok, f"R{reg} offset is outside of the packet")


def may_write_packet(env: Env) -> bool:
    return env.subject.prog_type in _PACKET_WRITERS


def may_read_packet(env: Env) -> bool:
    """Pointers into the packet may be given to helpers that read it."""
    kind = env.subject.prog_type
    return kind in _PACKET_WRITERS or kind in _PACKET_READERS


def check_map_permission(env: Env, row: MapFacts, off: int, size: int, write: bool) -> None:
    if write and not row.writable:
        env.reject(f"write into map forbidden, value_size={row.value_size} off={off} size={size}")
    if not write and not row.readable:
        env.reject(f"read from map forbidden, value_size={row.value_size} off={off} size={size}")


def check_map(env: Env, reg: int, p: Ptr, off: int, size: int, zero_ok: bool, *, direct: bool) -> None:
    """Access to a map's value; ``direct`` is a load or store, not a helper's."""
    row = p.obj
    assert isinstance(row, MapFacts)
    check_range(env, reg, p, off, size, row.extent, zero_ok)
    if row.btf is not None and row.value_type:
        check_special(env, row, p, off, size, direct)


def moving_context(env: Env) -> bool:
    """The pointer to the context may be moved as one to any memory (system call programs since 7.0)."""
    return env.subject.prog_type == P.SYSCALL and env.kernel >= (7, 0)


def check_fixed_pointer(env: Env, reg: int, p: Ptr, fixed_ok: bool) -> None:
    """The pointer is the one that was given, not moved (or with ``fixed_ok``: only by a constant)."""
    if p.off >= 0 and (fixed_ok or not p.off) and p.var.const and not p.var.tv:
        return
    name = k.kind_name(p.type)
    if p.off < 0:
        env.reject(f"negative offset {name} ptr R{reg} off={p.off} disallowed")
    if not fixed_ok and p.off:
        env.reject(f"dereference of modified {name} ptr R{reg} off={p.off} disallowed")
    if not p.var.const or p.var.tv:
        text = tnum_text(p)
        env.reject(f"variable {name} access var_off={text} disallowed")


def check_buffer(env: Env, reg: int, p: Ptr, off: int, size: int, what: str) -> None:
    if off < 0:
        env.reject(f"R{reg} invalid {what} buffer access: off={off}, size={size}")
    if not p.var.const or p.var.tv:
        text = tnum_text(p)
        env.reject(f"R{reg} invalid variable buffer offset: off={off}, var_off={text}")


# --- regions, for helpers ----------------------------------------------------------------------


def check_mem_region(
    env: Env, reg: int, size: int, write: bool, zero_ok: bool, uninit: Uninit | None = None
) -> None:
    """A helper reads or writes ``size`` bytes where register ``reg`` points (check_helper_mem_access)."""
    value = env.state.regs[reg]
    if isinstance(value, Ptr):
        p = value
        base = p.type & k.BASE_MASK
        if base == k.PTR_TO_STACK:
            stack.check_initialized(env, reg, p, p.off, size, zero_ok, write, uninit)
            return
        if base in (k.PTR_TO_PACKET, k.PTR_TO_PACKET_META):
            check_packet(env, reg, p, p.off, size, zero_ok)
            return
        if base == k.PTR_TO_MAP_KEY:
            if write:
                env.reject(f"R{reg} cannot write into {k.kind_name(p.type)}")
            assert isinstance(p.obj, MapFacts)
            check_range(env, reg, p, p.off, size, p.obj.key_size, False)
            return
        if base == k.PTR_TO_MAP_VALUE:
            assert isinstance(p.obj, MapFacts)
            check_map_permission(env, p.obj, p.off, size, write)
            check_map(env, reg, p, p.off, size, zero_ok, direct=False)
            return
        if base == k.PTR_TO_MEM:
            if write and p.type & k.MEM_RDONLY:
                env.reject(f"R{reg} cannot write into {k.kind_name(p.type)}")
            check_range(env, reg, p, p.off, size, p.aux, zero_ok)
            return
        if base == k.PTR_TO_BUF:
            if write and p.type & k.MEM_RDONLY:
                env.reject(f"R{reg} cannot write into {k.kind_name(p.type)}")
            check_buffer(env, reg, p, p.off, size, "rdonly" if p.type & k.MEM_RDONLY else "rdwr")
            return
        if base == k.PTR_TO_BTF_ID:
            from skep.verifier.btfptr import check_access

            check_access(env, reg, p, p.off, size, False)
            return
        if base == k.PTR_TO_CTX and moving_context(env):
            check_range(env, reg, p, p.off, size, _CONTEXT_BYTES, zero_ok)
            return
        if base == k.PTR_TO_CTX and env.subject.prog_type in _PLAIN_CONTEXTS and env.kernel < (7, 0):
            if not size:
                if zero_ok:
                    return
                env.reject("invalid zero-sized read")
            check_mem_access(env, reg, size - 1, 1, write, -1)
            return
    if zero_ok and size == 0 and stack.is_null(value):
        return
    env.reject(f"R{reg} type={k.kind_name(value.type)} expected=fp")


def check_mem_size(
    env: Env, size_reg: int, mem_reg: int, write: bool, zero_ok: bool, uninit: Uninit | None = None
) -> None:
    """The pair (memory, size) of a call: register ``size_reg`` says how much (check_mem_size_reg)."""
    s = env.state.regs[size_reg]
    if not isinstance(s, Scalar):
        env.reject(f"R{size_reg} type={k.kind_name(s.type)} expected=scalar")
    if not s.const:
        uninit = None
    if s.smin < 0:
        env.reject(f"R{size_reg} min value is negative, either use unsigned or 'var &= const'")
    if s.umin == 0 and not zero_ok:
        env.reject(f"R{size_reg} invalid zero-sized read: u64=[{s.umin},{s.umax}]")
    if s.umax >= _MAX_VAR_SIZE:
        env.reject(f"R{size_reg} unbounded memory access, use 'var &= const' or 'if (var < const)'")
    check_mem_region(env, mem_reg, s.umax, write, zero_ok, uninit)
    mark_precise(env, size_reg)
