"""Dynptrs: made in two slots of the stack, used through helpers, gone when overwritten or released.

The first slot of a pair is the one at the lower address (the greater slot number), as in Linux.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from skep.verifier import kinds as k
from skep.verifier.facts.args import ARG_PTR_TO_DYNPTR
from skep.verifier.ptr import Dynptr, Ptr
from skep.verifier.state import ALL_DYNPTR, ALL_INVALID, Frame, Slot

if TYPE_CHECKING:
    from skep.verifier.env import Env

LOCAL: Final = 1
RINGBUF: Final = 2
SKB: Final = 3
XDP: Final = 4
SKB_META: Final = 5
FILE: Final = 6
SLOTS: Final = 2
_NAMES: Final = {
    LOCAL: "local",
    RINGBUF: "ringbuf",
    SKB: "skb",
    XDP: "xdp",
    SKB_META: "skb_meta",
    FILE: "file",
}
_FLAGS: Final = {
    k.DYNPTR_TYPE_LOCAL: LOCAL,
    k.DYNPTR_TYPE_RINGBUF: RINGBUF,
    k.DYNPTR_TYPE_SKB: SKB,
    k.DYNPTR_TYPE_XDP: XDP,
    k.DYNPTR_TYPE_SKB_META: SKB_META,
}
FLAG_MASK: Final = (
    k.DYNPTR_TYPE_LOCAL
    | k.DYNPTR_TYPE_RINGBUF
    | k.DYNPTR_TYPE_SKB
    | k.DYNPTR_TYPE_XDP
    | k.DYNPTR_TYPE_SKB_META
)
_SLICES: Final = (k.PTR_TO_MEM, k.PTR_TO_MEM | k.PTR_MAYBE_NULL)


def flag_kind(flags: int) -> int:
    """The dynptr kind that DYNPTR_TYPE flags of an argument name, 0 for none."""
    return _FLAGS.get(flags & FLAG_MASK, 0)


def kind_flag(kind: int) -> int:
    """The DYNPTR_TYPE flag of pointers into a dynptr's data, 0 for kinds without one."""
    for flag, number in _FLAGS.items():
        if number == kind:
            return flag
    return 0


def counted(kind: int) -> bool:
    """Dynptrs of this kind hold a reference."""
    return kind in (RINGBUF, FILE)


# --- where they are -----------------------------------------------------------------------------


def frame_pointer_taken(env: Env) -> bool:
    """C's division rounds toward zero: the frame pointer itself was taken for the first slot.

    Linux 7.2 no longer does; 6.19 to 7.1 were not asked.
    """
    return env.strict is None and env.kernel < (6, 19)


def object_slot(env: Env, p: Ptr, what: str, slots: int) -> int:
    """The slot of an object of ``slots`` slots that a stack pointer points to; -1: below the stack so far."""
    if not p.var.const:
        env.reject(f"{what} has to be at a constant offset")
    off = p.off + p.var.smin
    spi = (-off - 1) >> 3
    if off == 0 and frame_pointer_taken(env):
        spi = 0
    if off % 8 or spi + 1 < slots:
        env.reject(f"cannot pass in {what} at an offset={off}")
    return spi if off <= 0 and spi < len(env.frame_of(p).slots) else -1


def first_slot(env: Env, p: Ptr) -> Dynptr | None:
    """The dynptr that starts where a stack pointer points, None where none does."""
    spi = object_slot(env, p, "dynptr", SLOTS)
    if spi < 0:
        return None
    slots = env.frame_of(p).slots
    here, below = slots[spi], slots[spi - 1]
    if here is None or below is None or here.types != ALL_DYNPTR or below.types != ALL_DYNPTR:
        return None
    value = here.value
    return value if isinstance(value, Dynptr) and value.first else None


# --- making and ending them ---------------------------------------------------------------------


def destroy_overwritten(env: Env, frame: Frame, spi: int) -> None:
    """Slot ``spi`` is about to be written: a dynptr there is gone, with all pointers into it."""
    slot = frame.slots[spi] if spi < len(frame.slots) else None
    if slot is None or not isinstance(slot.value, Dynptr) or slot.types != ALL_DYNPTR:
        return
    value = slot.value
    if not value.first:
        spi += 1
    if counted(value.kind) and not (env.kernel >= (7, 0) and _clones(env, value.ref) > 1):
        env.reject("cannot overwrite referenced dynptr")
    frame.slots[spi] = frame.slots[spi - 1] = Slot(ALL_INVALID)
    env.forget(lambda p: p.type in _SLICES and p.dyn == value.id)


def _clones(env: Env, ref: int) -> int:
    """How many dynptrs share a reference: while there is another, one may be overwritten (Linux 7.0)."""
    count = 0
    for frame in env.state.frames:
        for slot in frame.slots:
            half = slot.value if slot is not None else None
            if isinstance(half, Dynptr) and half.first and half.ref == ref:
                count += 1
    return count


def initialise(
    env: Env, reg: int, kind: int, clone_ref: int = 0, parent: int = 0, rdonly: bool = False
) -> None:
    """A call makes a dynptr of ``kind`` where register ``reg`` points (mark_stack_slots_dynptr)."""
    p = env.state.regs[reg]
    assert isinstance(p, Ptr)
    frame = env.frame_of(p)
    spi = object_slot(env, p, "dynptr", SLOTS)
    destroy_overwritten(env, frame, spi)
    destroy_overwritten(env, frame, spi - 1)
    id = env.new_id()
    ref = 0
    if counted(kind):
        ref = clone_ref or env.acquire()
    frame.slots[spi] = Slot(ALL_DYNPTR, Dynptr(kind, True, id, ref, rdonly))
    frame.slots[spi - 1] = Slot(ALL_DYNPTR, Dynptr(kind, False, id, ref, rdonly))
    env.live.current.write(frame.frameno, env.pc, 1 << spi | 1 << spi - 1)


def release(env: Env, reg: int) -> None:
    """A call releases the dynptr where register ``reg`` points, its clones and pointers into them."""
    p = env.state.regs[reg]
    assert isinstance(p, Ptr)
    frame = env.frame_of(p)
    spi = object_slot(env, p, "dynptr", SLOTS)
    found = first_slot(env, p)
    assert found is not None
    if not counted(found.kind):
        frame.slots[spi] = frame.slots[spi - 1] = Slot(ALL_INVALID)
        return
    env.release(found.ref)
    # Linux before 7.0 forgets clones in other frames; what runs without a kernel must not.
    everywhere = env.kernel >= (7, 0) or env.strict is not None
    for one in env.state.frames if everywhere else (frame,):
        for i, slot in enumerate(one.slots):
            half = slot.value if slot is not None else None
            if isinstance(half, Dynptr) and half.first and half.ref == found.ref:
                one.slots[i] = one.slots[i - 1] = Slot(ALL_INVALID)


# --- as arguments -------------------------------------------------------------------------------


class Seen:
    """A dynptr that an argument names: its kind, id and reference."""

    __slots__ = ("id", "kind", "rdonly", "ref")

    def __init__(self, kind: int, id: int, ref: int, rdonly: bool) -> None:
        self.kind = kind
        self.id = id
        self.ref = ref
        self.rdonly = rdonly


def look(env: Env, reg: int) -> Seen | None:
    """The dynptr in register ``reg``: on the stack, or the one a callback was given."""
    p = env.state.regs[reg]
    if not isinstance(p, Ptr):
        return None
    if p.type == k.CONST_PTR_TO_DYNPTR:
        return Seen(p.aux, p.id, p.ref, False)
    if p.type != k.PTR_TO_STACK:
        return None
    found = first_slot(env, p)
    return Seen(found.kind, found.id, found.ref, found.rdonly) if found is not None else None


def check_argument(env: Env, reg: int, flags: int, clone_ref: int = 0, kind: int = 0) -> None:
    """Register ``reg`` holds a dynptr as an argument with ``flags`` wants it (process_dynptr_func).

    MEM_UNINIT: it is made here, of the kind that the flags (or ``kind``) say.
    """
    from skep.verifier.stack import check_bounds

    p = env.state.regs[reg]
    if not isinstance(p, Ptr) or p.type not in (k.PTR_TO_STACK, k.CONST_PTR_TO_DYNPTR):
        env.reject(f"arg#{reg - 1} expected pointer to stack or const struct bpf_dynptr")
    if flags & k.MEM_UNINIT:
        if p.type == k.CONST_PTR_TO_DYNPTR:
            env.reject("Dynptr has to be an uninitialized dynptr")
        _uninitialised(env, p)
        for off in (0, 8):
            check_bounds(env, reg, p, p.off + off, 8, True)
        initialise(env, reg, kind or flag_kind(flags), clone_ref)
        return
    if p.type == k.CONST_PTR_TO_DYNPTR and not flags & k.MEM_RDONLY:
        env.reject("cannot pass pointer to const bpf_dynptr, the helper mutates it")
    seen = look(env, reg)
    if seen is None:
        env.reject(f"Expected an initialized dynptr as arg #{reg - 1}")
    wanted = flag_kind(flags)
    if wanted and seen.kind != wanted:
        env.reject(f"Expected a dynptr of type {_NAMES[wanted]} as arg #{reg - 1}")
    if p.type == k.PTR_TO_STACK:
        spi = object_slot(env, p, "dynptr", SLOTS)
        env.live.current.read(p.aux, env.pc, 1 << spi | 1 << spi - 1)


def _uninitialised(env: Env, p: Ptr) -> None:
    """The place may become a dynptr; what is wrong with it is told in two lines, as the kernel does."""
    off = p.off + p.var.smin
    more = "Dynptr has to be an uninitialized dynptr"
    if not p.var.const:
        env.reject("dynptr has to be at a constant offset", more=more)
    if off % 8 or (-off - 1 >> 3) + 1 < SLOTS:
        env.reject(f"cannot pass in dynptr at an offset={off}", more=more)


def check_global_argument(env: Env, reg: int) -> None:
    """Register ``reg`` holds a dynptr of any kind, for a global function that does not change it."""
    from skep.verifier.helper_args import check_offset

    check_offset(env, reg, ARG_PTR_TO_DYNPTR | k.MEM_RDONLY)
    check_argument(env, reg, k.MEM_RDONLY)
