"""Registers, stack slots and whole states in the words of the kernel's log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from skep.verifier import kinds as k
from skep.verifier.ptr import Dynptr, IterSlot, Ptr, btf_of
from skep.verifier.scalar import S32_MAX, S32_MIN, S64_MAX, S64_MIN, U32, U64, Scalar
from skep.verifier.state import ADD_CONST, BASE_ID, DYNPTR, INVALID, IRQ_FLAG, ITER, MISC, SPILL, ZERO

if TYPE_CHECKING:
    from skep.verifier.state import Frame, Slot, State
    from skep.verifier.value import Value

_BYTE: Final = {INVALID: "?", SPILL: "r", MISC: "m", ZERO: "0", DYNPTR: "d", ITER: "i", IRQ_FLAG: "f"}
_DYNPTRS: Final = ("invalid", "local", "ringbuf", "skb", "xdp", "skb_meta", "file")
_ITER_STATES: Final = ("<invalid>", "active", "drained")
_MAP_KINDS: Final = (k.CONST_PTR_TO_MAP, k.PTR_TO_MAP_KEY, k.PTR_TO_MAP_VALUE)
_PACKET_KINDS: Final = (k.PTR_TO_PACKET, k.PTR_TO_PACKET_META)
_DECIMAL: Final = 0xFFFF


def unsigned(value: int) -> str:
    """A number as the log writes unsigned ones: up to 16 bits decimal, else hexadecimal."""
    return str(value) if value <= _DECIMAL else f"{value:#x}"


def signed(value: int) -> str:
    """A 64-bit number, either sign: small ones decimal, others as their 64 bits in hexadecimal."""
    return str(value) if -0x8000 <= value <= 0x7FFF else f"{value & U64:#x}"


def tnum(value: int, mask: int) -> str:
    """Known bits: a number when all are known, else ``(value; mask)``."""
    return unsigned(value) if not mask else f"({value:#x}; {mask:#x})"


def _ranges(s: Scalar) -> list[str]:
    """The bounds that say something, equal ones joined: ``smin=smin32=0``."""

    def low32(value: int) -> int:
        return value if -0x8000 <= value <= 0x7FFF else value & U32

    rows = [
        ("smin", s.smin, s.smin == S64_MIN),
        ("smax", s.smax, s.smax == S64_MAX),
        ("umin", s.umin, s.umin == 0),
        ("umax", s.umax, s.umax == U64),
        ("smin32", low32(s.s32min), s.s32min == S32_MIN),
        ("smax32", low32(s.s32max), s.s32max == S32_MAX),
        ("umin32", s.u32min, s.u32min == 0),
        ("umax32", s.u32max, s.u32max == U32),
    ]
    gone = [row[2] for row in rows]
    out = []
    for at, (name, value, _) in enumerate(rows):
        if gone[at]:
            continue
        is_signed = name[0] == "s"
        text = f"{name}="
        for other in range(at + 2, 8, 2):
            if gone[other] or rows[other][1] & U64 != value & U64:
                continue
            negative = rows[other][0][0] == "s" and rows[other][1] < 0
            if negative != (is_signed and value < 0):
                continue
            gone[other] = True
            text += f"{rows[other][0]}="
        out.append(text + (signed(value) if is_signed else unsigned(value)))
    return out


def _known(s: Scalar) -> list[str]:
    parts = _ranges(s)
    if s.tm != U64:
        parts.append(f"var_off={tnum(s.tv, s.tm)}")
    return parts


def value_text(value: Value, id: int, frameno: int) -> str:
    """A register or a spilled value; ``id`` is its scalar id, ``frameno`` the frame it is in."""
    if isinstance(value, Scalar):
        if value.const:
            return signed(value.smin)
        parts = []
        if id & BASE_ID:
            text = f"id={id & BASE_ID}"
            if id & ADD_CONST:
                delta = id >> 32
                text += f"{delta - (1 << 32) if delta >> 31 else delta:+d}"
            parts.append(text)
        return f"scalar({','.join([*parts, *_known(value)])})"
    if isinstance(value, Ptr):
        return _pointer(value, frameno)
    if isinstance(value, Dynptr):
        return f"{k.kind_name(value.type)}(type={_dynptr(value)})"
    return k.kind_name(value.type)


def _pointer(p: Ptr, frameno: int) -> str:
    base = p.type & k.BASE_MASK
    name = k.kind_name(p.type)
    if base == k.PTR_TO_ARENA:
        return name
    if base == k.PTR_TO_STACK:
        if p.aux != frameno:
            name += f"[{p.aux}]"
        if p.var.const:
            return name + signed(p.var.smin + p.off)
    if base == k.PTR_TO_BTF_ID:
        name += _type_name(p)
    parts = []
    if p.id:
        parts.append(f"id={p.id}")
    if p.ref:
        parts.append(f"ref_obj_id={p.ref}")
    if p.type & k.NON_OWN_REF:
        parts.append("non_own_ref")
    if base in _MAP_KINDS:
        facts = p.obj
        title = getattr(facts, "name", "")[:15]
        if title:
            parts.append(f"map={title}")
        parts.append(f"ks={getattr(facts, 'key_size', 0)},vs={getattr(facts, 'value_size', 0)}")
    if p.off:
        parts.append(f"off={signed(p.off)}")
    if base in _PACKET_KINDS:
        parts.append(f"r={unsigned(p.aux & U64)}")
    if base == k.PTR_TO_MEM:
        parts.append(f"sz={unsigned(p.aux)}")
    if p.var.const:
        if p.var.tv:
            parts.append(f"imm={signed(p.var.smin)}")
    else:
        parts += _known(p.var)
    return f"{name}({','.join(parts)})"


def _type_name(p: Ptr) -> str:
    return str(getattr(btf_of(p)[p.aux], "name", "?")) if p.obj is not None else "?"


def _dynptr(value: Dynptr) -> str:
    return _DYNPTRS[value.kind] if value.kind < len(_DYNPTRS) else "<unknown>"


def _bytes(slot: Slot) -> str:
    return "".join(_BYTE[one] for one in slot.types)


def slots_text(frame: Frame, chosen: set[int] | None) -> list[str]:
    """The stack slots that hold something, of ``chosen`` or all."""
    out = []
    for at, slot in enumerate(frame.slots):
        if slot is None or (chosen is not None and at not in chosen) or not any(slot.types):
            continue
        where = f"fp{-8 * (at + 1)}"
        last = slot.types[7]
        if last == SPILL and slot.value is not None:
            above = _bytes(slot).partition("r")[0]
            out.append(f"{where}={above}{value_text(slot.value, slot.id, frame.frameno)}")
        elif last == DYNPTR and isinstance(slot.value, Dynptr):
            if not slot.value.first:
                continue
            d = slot.value
            parts = [f"id={d.id}"] if d.id else []
            if d.ref:
                parts.append(f"ref_id={d.ref}")
            out.append(f"{where}=dynptr_{_dynptr(d)}({','.join(parts)})")
        elif last == ITER and isinstance(slot.value, IterSlot):
            one = slot.value
            if not one.ref:
                continue
            name = one.btf[one.btf_id].name
            state = _ITER_STATES[one.state] if one.state < 3 else "<invalid>"
            short = str(name).removeprefix("bpf_iter_")
            out.append(f"{where}=iter_{short}(ref_id={one.ref},state={state},depth={one.depth})")
        else:
            out.append(f"{where}={_bytes(slot)}")
    return out


def state_text(st: State, frame: Frame, regs: int = 0x7FF, slots: set[int] | None = None) -> str:
    """Registers of the mask ``regs`` and slots (None: all) of a frame, and what the path holds.

    ``frame1: R0=0 R10=fp0 fp-8=mmmmmmmm refs=2 cb``; "" when there is nothing to say.
    """
    out = [f"frame{frame.frameno}:"] if frame.frameno else []
    for n in range(11):
        value = frame.regs[n]
        if value.type != k.NOT_INIT and regs >> n & 1:
            out.append(f"R{n}={value_text(value, frame.ids[n], frame.frameno)}")
    out += slots_text(frame, slots)
    if st.refs:
        out.append("refs=" + ",".join(str(row.id) for row in st.refs if row.id))
    if frame.in_callback:
        out.append("cb")
    if frame.in_async:
        out.append("async_cb")
    return " ".join(out)
