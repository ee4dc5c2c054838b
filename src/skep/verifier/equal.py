"""Are two states alike: may the old one hold whatever the new one may, with ids matched one to one?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from skep.verifier import kinds as k
from skep.verifier.insn import Insn
from skep.verifier.ptr import Dynptr, IrqFlag, IterSlot, Ptr
from skep.verifier.scalar import Scalar
from skep.verifier.state import (
    ADD_CONST,
    ALL_INVALID,
    ALL_SPILL,
    BASE_ID,
    DYNPTR,
    INVALID,
    IRQ_FLAG,
    ITER,
    MISC,
    REF_LOCK_MASK,
    SPILL,
    ZERO,
    Frame,
    Saved,
    Slot,
    State,
)
from skep.verifier.value import Value

if TYPE_CHECKING:
    from skep.verifier.env import Env

# How exactly states must agree.
NOT_EXACT: Final = 0
EXACT: Final = 1
RANGE_WITHIN: Final = 2
#: `Saved.hint`: registers, and from here on stack slots
FIRST_SLOT: Final = 16
_MAX_REFUSED: Final = 64

_ID: Final = BASE_ID | ADD_CONST
_BY_RANGE: Final = (
    k.PTR_TO_MAP_KEY,
    k.PTR_TO_MAP_VALUE,
    k.PTR_TO_MEM,
    k.PTR_TO_BUF,
    k.PTR_TO_TP_BUFFER,
    k.PTR_TO_INSN,
)


class Idmap:
    """Which id of the old state is which of the new: one to one."""

    __slots__ = ("fresh", "new", "old")

    def __init__(self) -> None:
        self.old: dict[int, int] | None = None
        self.new: set[int] | None = None
        self.fresh = -1

    def reset(self) -> Idmap:
        """Forget all; itself."""
        self.old = None
        self.new = None
        self.fresh = -1
        return self

    def check(self, old: int, new: int) -> bool:
        if not old or not new:
            return old == new
        if self.old is None or self.new is None:
            self.old = {old: new}
            self.new = {new}
            return True
        known = self.old.get(old)
        if known is not None:
            return known == new
        if new in self.new:
            return False
        self.old[old] = new
        self.new.add(new)
        return True

    def check_scalar(self, old: int, new: int) -> bool:
        if not old:
            return True
        if not new:
            new = self.fresh
            self.fresh -= 1
        if not self.check(old & _ID, new & _ID if new > 0 else new):
            return False
        if old & ADD_CONST and new > 0:
            return self.check(old & BASE_ID, new & BASE_ID)
        return True


# --- comparing ---------------------------------------------------------------------------------


def within(old: Scalar, new: Scalar) -> bool:
    """Every number that ``new`` may be ``old`` may be."""
    return old is new or (
        old.umin <= new.umin
        and old.umax >= new.umax
        and old.smin <= new.smin
        and old.smax >= new.smax
        and old.u32min <= new.u32min
        and old.u32max >= new.u32max
        and old.s32min <= new.s32min
        and old.s32max >= new.s32max
        and not new.tm & ~old.tm
        and new.tv & ~old.tm == old.tv
    )


def scalar_safe(
    old: Scalar, old_id: int, new: Value, new_id: int, precise: bool, ids: Idmap, exact: int
) -> bool:
    if not isinstance(new, Scalar):
        return False
    if exact == EXACT:
        return old is new and ids.check(old_id, new_id)
    if not precise and exact == NOT_EXACT:
        return True
    if old_id:
        if (old_id ^ new_id) & ADD_CONST:
            return False
        if old_id & ADD_CONST and old_id >> 32 != new_id >> 32:
            return False
        if not ids.check_scalar(old_id, new_id):
            return False
    return within(old, new)


def pointer_safe(old: Value, new: Value, ids: Idmap, exact: int) -> bool:
    """``old`` is no number."""
    if old is new:
        if isinstance(old, Ptr):
            return ids.check(old.id, old.id) and ids.check(old.ref, old.ref)
        return True
    if old.type == k.NOT_INIT:
        return exact != EXACT or new.type == k.NOT_INIT
    if old.type != new.type or not isinstance(old, Ptr) or not isinstance(new, Ptr):
        return False
    if exact != EXACT:
        base = old.type & k.BASE_MASK
        if base in _BY_RANGE:
            return (
                old.off == new.off
                and old.aux == new.aux
                and old.obj is new.obj
                and within(old.var, new.var)
                and ids.check(old.id, new.id)
                and ids.check(old.ref, new.ref)
                and ids.check(old.dyn, new.dyn)
            )
        if base == k.PTR_TO_PACKET or base == k.PTR_TO_PACKET_META:
            if old.aux < 0 or new.aux < 0:
                if old.aux != new.aux:
                    return False
            elif old.aux > new.aux:
                return False
            return old.off == new.off and ids.check(old.id, new.id) and within(old.var, new.var)
        if base == k.PTR_TO_ARENA:
            return True
    return (
        old.off == new.off
        and old.var is new.var
        and old.aux == new.aux
        and old.obj is new.obj
        and ids.check(old.id, new.id)
        and ids.check(old.ref, new.ref)
        and ids.check(old.dyn, new.dyn)
    )


def _differs(env: Env, saved: Saved, cur: State, exact: int) -> bool:
    """What told the last state from ``saved`` tells this one too, whatever the ids."""
    number = saved.hint_frame
    a, b = saved.state.frames[number], cur.frames[number]
    at = saved.hint
    if at < FIRST_SLOT:
        x, y = a.regs[at], b.regs[at]
        if x is y or not x.type:
            return False
        if x.type == 1:
            if y.type != 1:
                return True
            if exact == NOT_EXACT and not saved.prec_regs[number] >> at & 1 and env.bpf and not env.alu_exact:
                return False
            assert isinstance(x, Scalar) and isinstance(y, Scalar)
            return env.alu_exact or not within(x, y)
        return x.type != y.type or not pointer_safe(x, y, env.idmap.reset(), exact)
    spi = at - FIRST_SLOT
    slot = a.slots[spi]
    if slot is None:
        return False
    beyond = spi >= len(b.slots)
    other = None if beyond else b.slots[spi]
    precise = bool(saved.prec_slots[number] >> spi & 1) or not env.bpf or env.alu_exact
    return not slot_safe(env, slot, other, precise, env.idmap.reset(), exact, beyond)


def _refuse(saved: Saved, cur: State) -> None:
    """Remember the value of ``cur`` that `saved.hint` found not covered (see `prune.visited`)."""
    frame = cur.frames[saved.hint_frame]
    refused = saved.refused
    if len(refused) >= _MAX_REFUSED:
        refused.clear()
    at = saved.hint
    if at < FIRST_SLOT:
        refused.add(frame.regs[at])
        x = saved.state.frames[saved.hint_frame].regs[at]
        if isinstance(x, Scalar) and x.const and saved.prec_regs[saved.hint_frame] >> at & 1:
            saved.only = x.tv
    elif at - FIRST_SLOT < len(frame.slots):
        refused.add(frame.slots[at - FIRST_SLOT])


def _hint(saved: Saved, frame: int, at: int) -> None:
    """Register or slot ``at`` told another state from ``saved``."""
    saved.refused.clear()
    saved.only = -1
    saved.hint_frame = frame
    saved.hint = at


def states_equal(env: Env, saved: Saved, cur: State, insn: Insn, exact: int) -> bool:
    """``saved`` covers ``cur``: what is safe from there is safe from here."""
    old = saved.state
    old_frames, cur_frames = old.frames, cur.frames
    count = len(old_frames)
    if count != len(cur_frames):
        return False
    # What differed last time probably differs again.
    if saved.hint >= 0 and exact != EXACT and _differs(env, saved, cur, exact):
        if exact == NOT_EXACT:
            _refuse(saved, cur)
        return False
    if old.speculative and not cur.speculative:
        return False
    if old.in_sleepable != cur.in_sleepable:
        return False
    last = count - 1
    same = env.alu_exact
    always = same or not env.bpf
    ids = env.idmap.reset()
    if not _refs_safe(old, cur, ids):
        return False
    code = env.code
    for number in range(count):
        a, b = old_frames[number], cur_frames[number]
        if a.callsite != b.callsite:
            return False
        at = insn if number == last else code[old_frames[number + 1].callsite]
        if a.callback_depth > b.callback_depth:
            return False
        regs_a, regs_b = a.regs, b.regs
        precise = saved.prec_regs[number]
        for r in at.live:
            x, y = regs_a[r], regs_b[r]
            if x.type == 1:
                if y.type == 1:
                    if exact == NOT_EXACT and not precise >> r & 1 and not always:
                        continue
                    if x is y and not a.ids[r]:
                        if exact != EXACT or not b.ids[r]:
                            continue
                        return False
                    assert isinstance(x, Scalar)
                    if (not same or x is y) and scalar_safe(x, a.ids[r], y, b.ids[r], True, ids, exact):
                        continue
            elif x is y and isinstance(x, Ptr) and not x.id and not x.ref:
                continue
            elif x.type:
                if pointer_safe(x, y, ids, exact):
                    continue
            elif exact != EXACT or not y.type:
                continue
            _hint(saved, number, r)
            return False
        precise = saved.prec_slots[number]
        if saved.cleaned and exact != EXACT:
            spi = _kept_differs(env, a.slots, b.slots, saved.kept[number], precise, ids, exact)
        else:
            spi = _stack_differs(env, a, b, precise, ids, exact)
        if spi >= 0:
            _hint(saved, number, FIRST_SLOT + spi)
            return False
    return True


def _kept_differs(
    env: Env,
    old_slots: list[Slot | None],
    new_slots: list[Slot | None],
    kept: list[int],
    precise: int,
    ids: Idmap,
    exact: int,
) -> int:
    """The first of the slots that matter (`Saved.kept`) that does not cover the new one, else -1."""
    limit = len(new_slots)
    always = env.alu_exact or not env.bpf
    loose = exact == NOT_EXACT and not always
    for spi in kept:
        a = old_slots[spi]
        assert a is not None
        b = new_slots[spi] if spi < limit else None
        value = a.value
        if a is b:
            if value is None:
                continue
            type = value.type
            if type == 1:
                if not a.id or (loose and not precise >> spi & 1):
                    continue
            elif isinstance(value, Ptr) and not value.id and not value.ref:
                continue
        elif (
            loose
            and not precise >> spi & 1
            and b is not None
            and value is not None
            and value.type == 1
            and a.types == ALL_SPILL == b.types
        ):
            other = b.value
            if other is None or other.type != 1:
                return spi
            continue
        if not slot_safe(env, a, b, always or bool(precise >> spi & 1), ids, exact, spi >= limit):
            return spi
    return -1


def _stack_differs(env: Env, old: Frame, cur: Frame, precise: int, ids: Idmap, exact: int) -> int:
    """The first slot of ``old`` that does not cover ``cur``'s, -1 when there is none."""
    new_slots = cur.slots
    limit = len(new_slots)
    always = env.alu_exact or not env.bpf
    loose = exact == NOT_EXACT and not always
    spi = -1
    for a in old.slots:
        spi += 1
        if a is None:
            if exact == EXACT and (spi >= limit or new_slots[spi] is not None):
                return spi
            continue
        b = new_slots[spi] if spi < limit else None
        value = a.value
        if a is b and exact != EXACT and (value is None or (value.type == 1 and not a.id)):
            continue
        mattered = always or bool(precise >> spi & 1)
        if loose and not mattered and b is not None and value is not None and value.type == 1:
            if a is b:
                continue
            if a.types == ALL_SPILL == b.types:
                other = b.value
                if other is None or other.type != 1:
                    return spi
                continue
        if not slot_safe(env, a, b, mattered, ids, exact, spi >= limit):
            return spi
    return -1


def _scalar_at(env: Env, slot: Slot | None, im: int) -> tuple[Scalar, int] | None:
    """What loading the slot from its ``im``-th byte on gives: a spilled number, or any number."""
    if slot is None:
        return (env.scalars.unknown, 0) if env.uninit_ok else None
    types = slot.types
    if types[im] == SPILL:
        value = slot.value
        return (value, slot.id) if isinstance(value, Scalar) else None
    for i in range(im, 8):
        kind = types[i]
        if kind != MISC and not (kind == INVALID and env.uninit_ok):
            return None
    return env.scalars.unknown, 0


def slot_safe(env: Env, a: Slot, b: Slot | None, precise: bool, ids: Idmap, exact: int, beyond: bool) -> bool:
    """``precise`` says whether the slot's number must be covered; ``beyond``: the stack is not so deep."""
    old_types = a.types
    value = a.value
    if b is None:
        new_types = ALL_INVALID
        held = None
    else:
        new_types = b.types
        held = b.value
    if exact == EXACT:
        if beyond or old_types != new_types:
            return False
    elif value is None and (old_types == new_types or (env.uninit_ok and ZERO not in old_types)):
        return True  # no number in it, or whatever is there may be there
    if value is None and held is None and exact != EXACT and not beyond:
        # Bytes against bytes: asked of the same ones again and again.
        known = env.plain_memo.get((old_types, new_types))
        if known is None:
            known = _bytes_safe(env, a, b, precise, ids, exact, beyond)
            env.plain_memo[old_types, new_types] = known
        return known
    if value is not None and held is not None and old_types == ALL_SPILL == new_types:
        if value.type == 1:
            assert b is not None and isinstance(value, Scalar)
            if env.alu_exact and value is not held:
                return False
            return scalar_safe(value, a.id, held, b.id, precise, ids, exact)
        if value is held and isinstance(value, Ptr) and not value.id and not value.ref:
            return True
        return held.type != 1 and pointer_safe(value, held, ids, exact)
    if (
        value is not None
        and held is not None
        and value.type == 1
        and old_types == new_types
        and old_types[7] == SPILL
    ):
        # A narrow number, and the bytes beside it are the same.
        assert b is not None and isinstance(value, Scalar)
        return scalar_safe(value, a.id, held, b.id, precise, ids, exact)
    return _bytes_safe(env, a, b, precise, ids, exact, beyond)


def _bytes_safe(
    env: Env, a: Slot, b: Slot | None, precise: bool, ids: Idmap, exact: int, beyond: bool
) -> bool:
    """Byte by byte, or by the halves that a number lies in."""
    old_types = a.types
    new_types = ALL_INVALID if b is None else b.types
    i = 0
    while i < 8:
        kind = old_types[i]
        if kind == INVALID or (kind == MISC and env.uninit_ok):
            i += 1
            continue
        if beyond:
            return False
        if i == 0 or (i == 4 and env.half_slots):
            x = _scalar_at(env, a, i)
            y = _scalar_at(env, b, i)
            if x is not None and y is not None:
                if not scalar_safe(x[0], x[1], y[0], y[1], precise, ids, exact):
                    return False
                i = 8
                continue
        if kind == MISC and new_types[i] == ZERO:
            i += 1
            continue
        if kind != new_types[i]:
            return False
        if i < 7:
            i += 1
            continue
        assert b is not None
        return _special_safe(a.value, b.value, kind, precise, ids, exact, a.id, b.id)
    return True


def _special_safe(
    old: Value | None, new: Value | None, kind: int, precise: bool, ids: Idmap, exact: int, oid: int, nid: int
) -> bool:
    if kind == SPILL:
        if old is None or new is None:
            return old is new
        if isinstance(old, Scalar):
            return scalar_safe(old, oid, new, nid, precise, ids, exact)
        return pointer_safe(old, new, ids, exact)
    if kind == DYNPTR:
        return (
            isinstance(old, Dynptr)
            and isinstance(new, Dynptr)
            and old.kind == new.kind
            and old.first == new.first
            and ids.check(old.ref, new.ref)
        )
    if kind == ITER:
        return (
            isinstance(old, IterSlot)
            and isinstance(new, IterSlot)
            and old.type == new.type
            and old.btf is new.btf
            and old.btf_id == new.btf_id
            and old.state == new.state
            and ids.check(old.ref, new.ref)
        )
    if kind == IRQ_FLAG:
        return (
            isinstance(old, IrqFlag)
            and isinstance(new, IrqFlag)
            and ids.check(old.ref, new.ref)
            and old.kfunc_class == new.kfunc_class
        )
    return True


def _refs_safe(old: State, cur: State, ids: Idmap) -> bool:
    if old.refs is cur.refs and not old.refs:
        if old.locks == cur.locks and old.rcu_locks == cur.rcu_locks:
            return old.preempt_locks == cur.preempt_locks
        return False
    if (
        len(old.refs) != len(cur.refs)
        or old.locks != cur.locks
        or old.preempt_locks != cur.preempt_locks
        or old.rcu_locks != cur.rcu_locks
        or not ids.check(old.irq_id, cur.irq_id)
        or not ids.check(old.lock_id, cur.lock_id)
        or old.lock_ptr is not cur.lock_ptr
    ):
        return False
    for a, b in zip(old.refs, cur.refs, strict=True):
        if not ids.check(a.id, b.id) or a.type != b.type:
            return False
        if a.type & REF_LOCK_MASK and a.ptr is not b.ptr:
            return False
    return True
