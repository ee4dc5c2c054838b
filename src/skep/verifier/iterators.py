"""Open-coded iterators and saved interrupt states: objects of kernel functions in slots of the stack."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from skep.verifier import kinds as k
from skep.verifier import stack
from skep.verifier.dynptr import destroy_overwritten, frame_pointer_taken, object_slot
from skep.verifier.facts import kfuncs as kf
from skep.verifier.ptr import IrqFlag, IterSlot, Ptr
from skep.verifier.refs import acquire_irq, leave_section, release_irq
from skep.verifier.state import ALL_INVALID, ALL_IRQ, ALL_ITER, IRQ_FLAG, ITER, Slot

if TYPE_CHECKING:
    from skep.btf import Btf
    from skep.verifier.env import Env
    from skep.verifier.insn import Insn

NOT_FIRST: Final = 0
ACTIVE: Final = 1
DRAINED: Final = 2
_CLASSES: Final = ("native", "lock")


def _room(env: Env, reg: int, p: Ptr, slots: int) -> int:
    """Make room for an object of ``slots`` slots; its first slot."""
    for i in range(slots):
        stack.check_bounds(env, reg, p, p.off + 8 * i, 8, True)
    spi = object_slot(env, p, "", slots)
    for i in range(slots):
        destroy_overwritten(env, env.frame_of(p), spi - i)
    return spi


def _check_place(env: Env, p: Ptr, what: str, slots: int, more: str) -> None:
    """The object can lie there; ``more`` is what the kernel says after why not."""
    off = p.off + p.var.smin
    if not p.var.const:
        env.reject(f"{what} has to be at a constant offset", more=more)
    first = off == 0 and slots == 1 and frame_pointer_taken(env)
    if off % 8 or (((-off - 1) >> 3) + 1 < slots and not first):
        env.reject(f"cannot pass in {what} at an offset={off}", more=more)


# --- iterators ----------------------------------------------------------------------------------


def iterator_name(btf: Btf, btf_id: int) -> str:
    """``num`` for struct bpf_iter_num."""
    name: str = btf[btf_id][1]
    return name.removeprefix("bpf_iter_")


def check_iterator(env: Env, reg: int, flags: int, name: str, btf: Btf, btf_id: int) -> tuple[int, int, int]:
    """Register ``reg`` is an iterator that a call makes, uses or ends; (frame, slot, reference) of it.

    ``btf_id`` is its struct, ``flags`` and ``name`` the called function's.
    """
    p = env.state.regs[reg]
    if not isinstance(p, Ptr) or p.type != k.PTR_TO_STACK:
        env.reject(f"arg#{reg - 1} expected pointer to an iterator on stack")
    slots = btf[btf_id][2] // 8
    shown = iterator_name(btf, btf_id)
    frame = env.frame_of(p)
    if flags & kf.ITER_NEW:
        refusal = f"expected uninitialized iter_{shown} as arg #{reg - 1}"
        _check_place(env, p, "iter", slots, refusal)
        spi = object_slot(env, p, "iter", slots)
        if spi >= 0 and any(_holds(frame.slots[spi - i], ITER) for i in range(slots)):
            env.reject(refusal)
        spi = _room(env, reg, p, slots)
        ref = env.acquire()
        more = 0
        if flags & kf.RCU_PROTECTED:
            more = k.MEM_RCU if env.in_rcu() else k.PTR_UNTRUSTED
        for i in range(slots):
            value = IterSlot(btf, btf_id, ACTIVE, 0, ref if i == 0 else 0, more)
            frame.slots[spi - i] = Slot(ALL_ITER, value)
        env.live.current.write(frame.frameno, env.pc, _mask(spi, slots))
        return frame.frameno, spi, ref
    refusal = f"expected an initialized iter_{shown} as arg #{reg - 1}"
    _check_place(env, p, "iter", slots, refusal)
    spi = object_slot(env, p, "iter", slots)
    first: IterSlot | None = None
    for i in range(slots):
        slot = frame.slots[spi - i] if spi >= 0 else None
        held = slot.value if slot is not None and slot.types == ALL_ITER else None
        if not isinstance(held, IterSlot):
            env.reject(refusal)
        if held.type & k.PTR_UNTRUSTED:
            env.reject(f"expected an RCU CS when using {name}")
        wrong = held.btf is not btf or held.btf_id != btf_id or bool(held.ref) != (i == 0)
        if wrong:
            env.reject(refusal)
        if i == 0:
            first = held
    assert first is not None
    env.live.current.read(p.aux, env.pc, _mask(spi, slots))
    if flags & kf.ITER_DESTROY:
        env.release(first.ref)
        for i in range(slots):
            frame.slots[spi - i] = Slot(ALL_INVALID)
    return frame.frameno, spi, first.ref


def _holds(slot: Slot | None, kind: int) -> bool:
    return slot is not None and kind in slot.types


def _mask(spi: int, slots: int) -> int:
    return ((1 << slots) - 1) << (spi - slots + 1)


def iterator_at(env: Env, frame: int, spi: int) -> IterSlot:
    """The first slot of an iterator."""
    slot = env.state.frames[frame].slots[spi]
    assert slot is not None
    value = slot.value
    assert isinstance(value, IterSlot)
    return value


def _turn(env: Env, frames: object, spi: int, state: int, deeper: bool) -> Slot:
    assert isinstance(frames, Slot)
    old = frames.value
    assert isinstance(old, IterSlot)
    new = IterSlot(old.btf, old.btf_id, state, old.depth + deeper, old.ref, old.type & ~k.BASE_MASK)
    return Slot(ALL_ITER, new)


def next_element(env: Env, insn: Insn, frame: int, spi: int) -> None:
    """The iterator was asked for its next: r0 (already set) is an element on one path, NULL on another."""
    from skep.verifier.nullness import checked
    from skep.verifier.widen import previous_entry, widen_imprecise

    st = env.state
    value = iterator_at(env, frame, spi)
    if value.state == ACTIVE:
        parent = st.parent
        before = previous_entry(env, parent.state, insn.pc) if parent is not None else None
        branch = env.push_branch(insn.pc + 1, insn.pc)
        slots = branch.frames[frame].slots
        slots[spi] = _turn(env, slots[spi], spi, ACTIVE, True)
        if before is not None:
            widen_imprecise(env, before, branch)
        element = branch.frame.regs[0]
        if isinstance(element, Ptr):
            branch.frame.regs[0] = checked(env, element)
    slots = st.frames[frame].slots
    slots[spi] = _turn(env, slots[spi], spi, DRAINED, False)
    env.set_reg(0, env.scalars.zero)


# --- saved interrupt states -----------------------------------------------------------------------


def check_irq_flag(env: Env, reg: int, save: bool, lock: bool) -> None:
    """Register ``reg`` points to where a call saves the interrupt state, or restores it from.

    ``lock``: the call is one of bpf_res_spin_lock's family.
    """
    p = env.state.regs[reg]
    if not isinstance(p, Ptr) or p.type != k.PTR_TO_STACK:
        env.reject(f"arg#{reg - 1} doesn't point to an irq flag on stack")
    frame = env.frame_of(p)
    state = "uninitialized" if save else "an initialized"
    refusal = f"expected {state} irq flag as arg#{reg - 1}"
    _check_place(env, p, "irq_flag", 1, refusal)
    spi = object_slot(env, p, "irq_flag", 1)
    if save:
        if spi >= 0 and _holds(frame.slots[spi], IRQ_FLAG):
            env.reject(refusal)
        spi = _room(env, reg, p, 1)
        frame.slots[spi] = Slot(ALL_IRQ, IrqFlag(acquire_irq(env), int(lock)))
        env.live.current.write(frame.frameno, env.pc, 1 << spi)
        return
    slot = frame.slots[spi] if spi >= 0 else None
    value = slot.value if slot is not None and slot.types == ALL_IRQ else None
    if not isinstance(value, IrqFlag):
        env.reject(refusal)
    env.live.current.read(p.aux, env.pc, 1 << spi)
    if value.kfunc_class != int(lock):
        has, used = _CLASSES[value.kfunc_class], _CLASSES[int(lock)]
        env.reject(f"irq flag acquired by {has} kfuncs cannot be restored with {used} kfuncs")
    if not release_irq(env, value.ref):
        st = env.state
        at = next((row.insn for row in st.refs if row.id == st.irq_id), 0)
        env.reject(
            f"cannot restore irq state out of order, expected id={st.irq_id} acquired at insn_idx={at}"
        )
    leave_section(env)
    frame.slots[spi] = Slot(ALL_INVALID)
