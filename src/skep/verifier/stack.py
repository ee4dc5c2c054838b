"""The stack: stores that keep what is known of a value, loads that give it back, byte by byte."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from skep.verifier import arith, tnum
from skep.verifier import kinds as k
from skep.verifier.precision import FRAME_SHIFT, STACK_ACCESS, mark_precise, push_note
from skep.verifier.ptr import Ptr
from skep.verifier.scalar import Scalar
from skep.verifier.state import (
    ADD_CONST,
    ALL_INVALID,
    ALL_MISC,
    ALL_SPILL,
    ALL_ZERO,
    DYNPTR,
    INVALID,
    IRQ_FLAG,
    ITER,
    MISC,
    SPILL,
    ZERO,
    Frame,
    Slot,
)
from skep.verifier.value import Value
from skep.verifier.version import STABLE

if TYPE_CHECKING:
    from skep.verifier.env import Env

MAX_STACK: Final = 512
MAX_VAR_OFF: Final = 1 << 29
_UNSPILLABLE: Final = (0, k.SCALAR_VALUE, k.PTR_TO_TP_BUFFER, k.CONST_PTR_TO_DYNPTR)


def grow(env: Env, frame: Frame, depth: int) -> None:
    """Make room for ``depth`` bytes below the frame pointer."""
    slots = frame.slots
    need = (depth + 7) >> 3
    if len(slots) < need:
        slots.extend([None] * (need - len(slots)))
    sub = env.subprogs[frame.subprog]
    if sub.stack_depth < 8 * need:
        sub.stack_depth = 8 * need


def is_null(value: Value | None) -> bool:
    return isinstance(value, Scalar) and value.const and value.tv == 0


def slot_range_mask(low: int, high: int) -> int:
    """The slots that bytes ``low`` to ``high``-1 (below the frame pointer: negative) lie in."""
    first = -high >> 3
    return ((1 << (-low - 1 >> 3) + 1 - first) - 1) << first


# --- bounds ------------------------------------------------------------------------------------


def check_bounds(env: Env, reg: int, p: Ptr, off: int, size: int, write: bool) -> None:
    """The access lies within the stack; makes room for it."""
    extra = " write to" if write else " read from"
    var = p.var
    if var.const:
        low = var.smin + off
        high = low + size
    else:
        if var.smax >= MAX_VAR_OFF or var.smin <= -MAX_VAR_OFF:
            env.reject(f"invalid unbounded variable-offset{extra} stack R{reg}")
        low = var.smin + off
        high = var.smax + off + size
    frame = env.state.frames[p.aux]
    lowest = -MAX_STACK if write or env.reads_ahead else -8 * len(frame.slots)
    if not lowest <= low <= -1 or high > 0 or size < 0:
        if var.const:
            env.reject(f"invalid{extra} stack R{reg} off={off} size={size}")
        text = tnum.text(var.tv, var.tm)
        env.reject(f"invalid variable-offset{extra} stack R{reg} var_off={text} off={off} size={size}")
    grow(env, frame, -low)


# --- special slots -----------------------------------------------------------------------------


def destroy_special(env: Env, frame: Frame, spi: int) -> None:
    """A store is about to hit the slot: a dynptr there is gone (if it may be)."""
    slot = frame.slots[spi]
    if slot is not None and slot.types[7] == DYNPTR:
        from skep.verifier.dynptr import destroy_overwritten

        destroy_overwritten(env, frame, spi)


def scrub(types: bytes) -> bytes:
    """Bytes of a slot whose value (spilled, or a special object) is forgotten: all that was set is data."""
    if types[7] in (SPILL, DYNPTR, ITER, IRQ_FLAG):
        return types.translate(_TO_MISC)
    return types


_TO_MISC: Final = bytes([INVALID]) + bytes([MISC]) * 255


# --- stores ------------------------------------------------------------------------------------


def write(
    env: Env, reg: int, p: Ptr, off: int, size: int, value: Value | None, value_reg: int, imm_zero: bool
) -> None:
    """Store ``value`` (None: unknown bytes), which register ``value_reg`` (or none: -1) holds.

    ``imm_zero`` says that a constant zero without a register is stored.
    """
    if p.var.const:
        write_fixed(env, env.state.frames[p.aux], off + p.var.smin, size, value, value_reg, imm_zero)
    else:
        write_variable(env, p, off, size, value, value_reg, imm_zero)


def write_fixed(
    env: Env, frame: Frame, off: int, size: int, value: Value | None, value_reg: int, imm_zero: bool
) -> None:
    at = -off - 1
    spi = at >> 3
    slots = frame.slots
    old = slots[spi]
    st = env.state
    if (
        not env.leaks
        and old is not None
        and old.types[7] == SPILL
        and old.value is not None
        and old.value.type != k.SCALAR_VALUE
        and size != 8
    ):
        env.reject("attempt to corrupt spilled pointer on stack")
    if env.speculates:
        from skep.verifier.speculation import after_store

        after_store(env, old, at, size, value if value_reg >= 0 else None)
    if old is not None and old.types[7] == DYNPTR:
        destroy_special(env, frame, spi)
        old = slots[spi]
    live = env.live.current
    live.write(frame.frameno, env.pc, 1 << spi if size == 8 else 0)
    aligned = not off & 7
    id = 0
    if (
        aligned
        and env.bpf
        and isinstance(value, Scalar)
        and (env.spills_all or _remembered(env, value, size, value_reg >= 0))
    ):
        if value_reg >= 0 and (size == 8 or value.umax < 1 << 8 * size):
            ids = st.ids
            id = ids[value_reg]
            if id & ADD_CONST:
                id = ids[value_reg] = 0
            if not id and not value.const and env.spills_all:
                id = ids[value_reg] = env.new_id()
        if size == 8:
            slots[spi] = Slot(ALL_SPILL, value, id) if id else env.spilled(value)
        else:
            types = ALL_INVALID if old is None else old.types
            rest = types[: 8 - size].translate(_BESIDE if env.leaks or env.kernel >= (6, 11) else _BESIDE_SET)
            slots[spi] = Slot(rest + ALL_SPILL[:size], value, id)
        if id:
            frame.linked |= 1 << spi
    elif value is not None and value.type & k.BASE_MASK not in _UNSPILLABLE:
        if size != 8:
            env.reject("invalid size of register spill")
        if frame is not st.frame and value.type == k.PTR_TO_STACK:
            env.reject("cannot spill pointers to stack into stack frame of the caller")
        slots[spi] = env.spilled(value)
        frame.held |= 1 << spi
    else:
        kind = MISC
        if is_null(value) or imm_zero:
            if value_reg >= 0:
                mark_precise(env, value_reg)
            kind = ZERO
        types = ALL_INVALID if old is None else scrub(old.types)
        fill = ALL_ZERO if kind == ZERO else ALL_MISC
        top = (at & 7) + 1
        slots[spi] = env.bytes_slot(types[: top - size] + fill[:size] + types[top:])
        return
    push_note(env, st, STACK_ACCESS | frame.frameno << FRAME_SHIFT | spi)


def _remembered(env: Env, value: Scalar, size: int, by_register: bool) -> bool:
    """Before 6.8: whether a number that is stored stays known."""
    if value.const and not value.tv:
        return False  # zero bytes
    kernel = env.kernel
    if kernel in STABLE:
        return value is not env.scalars.unknown
    if not by_register:
        return kernel >= (6, 4)
    if kernel < (5, 11):
        return size == 8 and value.const
    return value is not env.scalars.unknown and (size == 8 or kernel >= (5, 16))


#: bytes beside a narrow spill: data, but zero stays zero and nothing stays nothing if that matters
_BESIDE: Final = bytes([INVALID, MISC, MISC, ZERO]) + bytes([MISC]) * 252
_BESIDE_SET: Final = bytes([MISC, MISC, MISC, ZERO]) + bytes([MISC]) * 252


def write_variable(
    env: Env, p: Ptr, off: int, size: int, value: Value | None, value_reg: int, imm_zero: bool
) -> None:
    """Somewhere among several bytes: each may now hold data."""
    frame = env.state.frames[p.aux]
    low = p.var.smin + off
    high = p.var.smax + off + size
    zero = is_null(value) or imm_zero
    zero_used = False
    slots = frame.slots
    for spi in range((-low - 1) >> 3, (-high >> 3) - 1, -1):
        destroy_special(env, frame, spi)
    by_slot = env.leaks and env.uninit_ok
    data = Slot(ALL_MISC)
    i = low - 1
    while i < high - 1:
        i += 1
        at = -i - 1
        spi = at >> 3
        slot = slots[spi]
        if slot is not None and slot.types == ALL_MISC:
            i += at & 7  # data stays data, to the slot's end
            continue
        if at & 7 == 7 and by_slot and i + 8 <= high:
            # A whole slot, where no byte is refused.
            if zero and slot is not None:
                if slot.types == ALL_ZERO or (slot.types == ALL_SPILL and is_null(slot.value)):
                    zero_used = True
                    i += 7
                    continue
                whole = slot.types == ALL_SPILL
            else:
                whole = True
            if whole:
                slots[spi] = data
                i += 7
                continue
        kind = INVALID if slot is None else slot.types[at & 7]
        if not env.leaks and kind not in (MISC, ZERO):
            env.reject(f"spilled ptr in range of var-offset stack write; insn {env.pc}, ptr off: {i}")
        if zero and kind == SPILL and slot is not None and is_null(slot.value):
            zero_used = True
            continue
        new_kind = MISC
        if zero and kind == ZERO:
            new_kind = ZERO
            zero_used = True
        if kind == INVALID and not env.uninit_ok:
            env.reject(
                f"uninit stack in range of var-offset write prohibited for !root; insn {env.pc}, off: {i}"
            )
        types = bytearray(ALL_INVALID if slot is None else scrub(slot.types))
        types[at & 7] = new_kind
        slots[spi] = env.bytes_slot(bytes(types))
    env.live.current.write(frame.frameno, env.pc, 0)
    if zero_used and value_reg >= 0:
        mark_precise(env, value_reg)


# --- loads -------------------------------------------------------------------------------------


def read(env: Env, reg: int, p: Ptr, off: int, size: int, dst: int) -> None:
    """Load into register ``dst`` (-1: only check)."""
    if dst < 0 and not p.var.const:
        text = tnum.text(p.var.tv, p.var.tm)
        env.reject(
            "variable offset stack pointer cannot be passed into helper function; "
            f"var_off={text} off={off} size={size}"
        )
    frame = env.state.frames[p.aux]
    if p.var.const:
        read_fixed(env, frame, off + p.var.smin, size, dst)
        return
    check_initialized(env, reg, p, off, size, False, False, None, direct=True)
    low, high = p.var.smin + off, p.var.smax + off + size
    _bytes_into(env, frame, low, high, dst)


def _bytes_into(env: Env, frame: Frame, low: int, high: int, dst: int) -> None:
    """A register from bytes: zero when all are, else any number."""
    for i in range(low, high):
        at = -i - 1
        slot = frame.slots[at >> 3]
        if slot is None or slot.types[at & 7] != ZERO:
            env.set_unknown(dst)
            return
    env.set_reg(dst, env.scalars.zero)


def read_fixed(env: Env, frame: Frame, off: int, size: int, dst: int) -> None:
    at = -off - 1
    spi = at >> 3
    slot = frame.slots[spi]
    env.live.current.read(frame.frameno, env.pc, 1 << spi)
    if slot is not None and slot.types[7] == SPILL and slot.value is not None:
        value = slot.value
        types = slot.types
        note = True
        if size != 8 or types[0] != SPILL:
            if not isinstance(value, Scalar):
                env.reject("invalid size of register fill")
            if dst < 0:
                return
            spilled = types.count(SPILL)
            if (size == spilled or (size < spilled and env.kernel >= (6, 8))) and not off & 7:
                id = slot.id
                if size < 8 and value.umax >> 8 * size:
                    id = 0
                env.set_reg(dst, value, id)
            else:
                note = _partial(env, off, size, types, at, value, dst)
        elif dst >= 0:
            env.set_reg(dst, value, slot.id)
        elif value.type != k.SCALAR_VALUE and not env.leaks:
            env.reject(f"leaking pointer from stack off {off}")
        if note:
            push_note(env, env.state, STACK_ACCESS | frame.frameno << FRAME_SHIFT | spi)
        return
    types = ALL_INVALID if slot is None else slot.types
    for i in range(size):
        kind = types[(at - i) & 7]
        if kind in (MISC, ZERO) or (kind == INVALID and env.uninit_ok):
            continue
        env.reject(f"invalid read from stack off {off}+{i} size {size}")
    if dst >= 0:
        _bytes_into(env, frame, off, off + size, dst)


def _partial(env: Env, off: int, size: int, types: bytes, at: int, value: Scalar, dst: int) -> bool:
    """Part of a spilled number and bytes beside it; True when the number mattered."""
    spills = zeros = 0
    for i in range(size):
        kind = types[(at - i) & 7]
        if kind == SPILL:
            spills += 1
        elif kind == ZERO:
            zeros += 1
        elif kind != MISC and not (kind == INVALID and env.uninit_ok):
            env.reject(f"invalid read from stack off {off}+{i} size {size}")
    if spills == size and value.const and not value.tv and env.kernel >= (6, 9):
        env.set_reg(dst, env.scalars.zero)
        return True
    if zeros == size:
        env.set_reg(dst, env.scalars.zero)
    else:
        env.set_unknown(dst)
    return False


# --- regions, for helpers ----------------------------------------------------------------------


class Uninit:
    """Memory that a call will fill: collected while its arguments are checked, written after the call."""

    __slots__ = ("reg", "size")

    def __init__(self) -> None:
        self.reg = -1
        self.size = 0


def check_initialized(
    env: Env,
    reg: int,
    p: Ptr,
    off: int,
    size: int,
    zero_ok: bool,
    write: bool,
    uninit: Uninit | None,
    direct: bool = False,
) -> None:
    """All bytes of a stack region may be read; with ``write`` they are data afterwards, whatever they were.

    With ``uninit`` (and a known offset) they need not be initialised: noted there instead. ``direct`` is a
    load, not a helper's access.
    """
    if not size and not zero_ok:
        env.reject("invalid zero-sized read")
    check_bounds(env, reg, p, off, size, write if env.kernel >= (6, 8) else uninit is not None)
    frame = env.state.frames[p.aux]
    var = p.var
    if var.const:
        low = high = var.smin + off
    else:
        if env.speculates:
            text = tnum.text(var.tv, var.tm)
            env.reject(f"R{reg} variable offset stack access prohibited for !root, var_off={text}")
        uninit = None
        low = var.smin + off
        high = var.smax + off
    slots = frame.slots
    clobbers = write or (env.kernel < (6, 14) and not direct)
    if uninit is not None:
        for i in range(low, high + size):
            at = -i - 1
            slot = slots[at >> 3] if at >> 3 < len(slots) else None
            if slot is not None and slot.types[at & 7] == DYNPTR:
                env.reject(f"potential write to dynptr at off={i} disallowed")
        uninit.reg = reg
        uninit.size = size
        return
    any_bytes = not clobbers and env.leaks and env.uninit_ok
    i = low - 1
    while i < high + size - 1:
        i += 1
        at = -i - 1
        spi = at >> 3
        slot = slots[spi]
        if slot is None:
            kind = INVALID
            if not clobbers and env.uninit_ok:
                i += at & 7  # to the slot's end
                continue
        elif (
            slot.types == ALL_MISC
            or (any_bytes and (slot.value is None or slot.types[7] == SPILL))
            or (slot.types == ALL_SPILL and not clobbers and env.leaks)
        ):
            i += at & 7
            continue
        else:
            kind = slot.types[at & 7]
        if kind == MISC:
            continue
        if kind == ZERO or (kind == INVALID and env.uninit_ok):
            if clobbers:
                types = bytearray(ALL_INVALID if slot is None else slot.types)
                types[at & 7] = MISC
                value, id = (None, 0) if slot is None else (slot.value, slot.id)
                slots[spi] = Slot(bytes(types), value, id)
            continue
        if (
            slot is not None
            and slot.types[7] == SPILL
            and slot.value is not None
            and (slot.value.type == k.SCALAR_VALUE or env.leaks)
            and (kind != INVALID or env.strict is None)  # Linux takes the bytes beside a narrow spill for set
        ):
            if clobbers:
                slots[spi] = env.bytes_slot(scrub(slot.types))
            continue
        if var.const:
            env.reject(f"invalid read from stack R{reg} off {low}+{i - low} size {size}")
        text = tnum.text(var.tv, var.tm)
        env.reject(f"invalid read from stack R{reg} var_off {text}+{i - low} size {size}")
    if high + size > low:
        env.live.current.read(p.aux, env.pc, slot_range_mask(low, high + size))


def write_uninit(env: Env, uninit: Uninit) -> None:
    """The call has filled the region: data, whatever was there."""
    if uninit.reg < 0:
        return
    p = env.state.regs[uninit.reg]
    if not isinstance(p, Ptr) or p.type != k.PTR_TO_STACK:
        return
    frame = env.state.frames[p.aux]
    low = p.off + p.var.smin
    high = low + uninit.size
    slots = frame.slots
    misc: Slot | None = None
    for spi in range(-high >> 3, (-low - 1 >> 3) + 1):
        top = -8 * spi
        if low <= top - 8 and top <= high:
            destroy_special(env, frame, spi)
            if misc is None:
                misc = env.bytes_slot(ALL_MISC)
            slots[spi] = misc
        else:
            for i in range(max(low, top - 8), min(high, top)):
                write_byte(env, frame, i)
    # Linux takes it as so many writes of a byte, none of which fills a slot: what was there stays live.
    env.live.current.write(p.aux, env.pc, 0)


def write_byte(env: Env, frame: Frame, off: int) -> None:
    """One byte of unknown data at ``off`` below the frame pointer."""
    at = -off - 1
    spi = at >> 3
    destroy_special(env, frame, spi)
    slot = frame.slots[spi]
    types = bytearray(ALL_INVALID if slot is None else scrub(slot.types))
    types[at & 7] = MISC
    frame.slots[spi] = env.bytes_slot(bytes(types))


def narrow_value(env: Env, s: Scalar, size: int, signed: bool) -> Scalar:
    """A load of ``size`` bytes of a known number."""
    if signed:
        return arith.sext64(env.scalars, s, size)
    return arith.truncate(env.scalars, s, size)
