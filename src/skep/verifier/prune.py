"""Checkpoints: has a state as permissive as this one been followed to its end already?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from skep.verifier import kinds as k
from skep.verifier.insn import Insn
from skep.verifier.precision import mark_all, mark_state, push_note
from skep.verifier.ptr import Dynptr, IrqFlag, IterSlot, Ptr
from skep.verifier.scalar import Scalar
from skep.verifier.state import (
    ADD_CONST,
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

_MAX_BACKEDGE_ROUNDS: Final = 64
#: checkpoints of one instruction, without privileges
_MAX_STATES: Final = 64
_ID: Final = BASE_ID | ADD_CONST
_BY_RANGE: Final = (
    k.PTR_TO_MAP_KEY,
    k.PTR_TO_MAP_VALUE,
    k.PTR_TO_MEM,
    k.PTR_TO_BUF,
    k.PTR_TO_TP_BUFFER,
)


class Idmap:
    """Which id of the old state is which of the new: one to one."""

    __slots__ = ("fresh", "new", "old")

    def __init__(self) -> None:
        self.old: dict[int, int] | None = None
        self.new: set[int] | None = None
        self.fresh = -1

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
            return (
                old.off == new.off
                and ids.check(old.id, new.id)
                and within(old.var, new.var)
                and (not old.id or _same_base(old.var, new.var))
            )
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


def _same_base(old: Scalar, new: Scalar) -> bool:
    return True


def states_equal(env: Env, saved: Saved, cur: State, insn: Insn, exact: int) -> bool:
    """``saved`` covers ``cur``: what is safe from there is safe from here."""
    old = saved.state
    old_frames, cur_frames = old.frames, cur.frames
    count = len(old_frames)
    if count != len(cur_frames):
        return False
    if old.speculative and not cur.speculative:
        return False
    if old.in_sleepable != cur.in_sleepable:
        return False
    last = count - 1
    same = env.alu_exact
    always = same or not env.bpf
    hint = saved.hint
    x, y = old_frames[last].regs[hint], cur_frames[last].regs[hint]
    if x is not y and x.type:
        # What differed last time probably differs again: if so without regard to ids, look no further.
        if x.type == 1:
            if y.type != 1:
                return False
            if exact != NOT_EXACT or always or saved.prec_regs[last] >> hint & 1:
                assert isinstance(x, Scalar) and isinstance(y, Scalar)
                if not within(x, y):
                    return False
        elif x.type != y.type:
            return False
    ids = Idmap()
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
                if y.type != 1:
                    if number == last:
                        saved.hint = r
                    return False
                if exact == NOT_EXACT and not precise >> r & 1 and not always:
                    continue
                if x is y and not a.ids[r]:
                    if exact != EXACT or not b.ids[r]:
                        continue
                    return False
                assert isinstance(x, Scalar)
                if (same and x is not y) or not scalar_safe(x, a.ids[r], y, b.ids[r], True, ids, exact):
                    if number == last:
                        saved.hint = r
                    return False
            elif x is y and isinstance(x, Ptr) and not x.id and not x.ref:
                continue
            elif (x.type and not pointer_safe(x, y, ids, exact)) or (
                not x.type and exact == EXACT and y.type
            ):
                if number == last:
                    saved.hint = r
                return False
        if not _stack_safe(env, a, b, saved.prec_slots[number], ids, exact):
            return False
    return True


def _stack_safe(env: Env, old: Frame, cur: Frame, precise: int, ids: Idmap, exact: int) -> bool:
    new_slots = cur.slots
    limit = len(new_slots)
    same = env.alu_exact
    always = same or not env.bpf
    loose = exact == NOT_EXACT and not always
    any_bytes = loose and env.uninit_ok
    for spi, a in enumerate(old.slots):
        if a is None:
            if exact == EXACT and (spi >= limit or new_slots[spi] is not None):
                return False
            continue
        b = new_slots[spi] if spi < limit else None
        value = a.value
        if value is None:
            if exact != EXACT and (a is b or (b is not None and a.types == b.types)):
                continue
            if any_bytes and ZERO not in a.types:
                continue
        elif value.type == 1 and not precise >> spi & 1 and loose:
            if a is b:
                continue
            if b is not None and a.types == ALL_SPILL == b.types:
                other = b.value
                if other is not None and other.type == 1:
                    continue
                return False
        elif a is b and exact != EXACT and value.type == 1 and not a.id:
            continue
        elif b is not None and a.types == ALL_SPILL == b.types:
            other = b.value
            assert other is not None
            if value is other and isinstance(value, Ptr) and not value.id and not value.ref:
                continue
            if isinstance(value, Scalar):
                mattered = always or bool(precise >> spi & 1)
                if same and value is not other:
                    return False
                if not scalar_safe(value, a.id, other, b.id, mattered, ids, exact):
                    return False
            elif other.type == 1 or not pointer_safe(value, other, ids, exact):
                return False
            continue
        if not _slot_safe(env, a, b, always or bool(precise >> spi & 1), ids, exact, spi >= limit):
            return False
    return True


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


def _slot_safe(
    env: Env, a: Slot, b: Slot | None, precise: bool, ids: Idmap, exact: int, beyond: bool
) -> bool:
    old_types = a.types
    new_types = b.types if b is not None else bytes(8)
    if exact == EXACT and (beyond or old_types != new_types):
        return False
    i = 0
    while i < 8:
        kind = old_types[i]
        if kind == INVALID or (kind == MISC and env.uninit_ok):
            i += 1
            continue
        if beyond:
            return False
        if i == 0 or i == 4:
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


# --- visiting ----------------------------------------------------------------------------------


def visited(env: Env, cur: State, insn: Insn) -> bool:
    """At a prune point: True when the path need not be followed; else the state may be saved here."""
    forced = insn.force_checkpoint
    force_new = forced or cur.hist_len > 40
    add_new = force_new or (
        env.jmps_processed - env.prev_jmps_processed >= 2
        and env.insn_processed - env.prev_insn_processed >= 8
    )
    callsite = cur.frame.callsite
    rows = insn.saved.get(callsite)
    if rows:
        pc = insn.pc
        evicted = 0
        for saved in rows:
            loop = False
            hit = False
            if saved.branches:
                verdict = _open(env, saved, cur, insn)
                if verdict == 1:
                    hit = loop = True
                elif (
                    not force_new
                    and env.jmps_processed - env.prev_jmps_processed < 20
                    and env.insn_processed - env.prev_insn_processed < 100
                ):
                    add_new = False
            else:
                if not saved.cleaned:
                    _clean(env, saved, insn)
                loop = env.sccs.incomplete(saved.state)
                hit = states_equal(env, saved, cur, insn, RANGE_WITHIN if loop else NOT_EXACT)
            if hit:
                saved.hits += 1
                if insn.jmp_point:
                    push_note(env, cur, 0)
                propagate(env, saved, cur, pc)
                if loop:
                    env.sccs.add_backedge(saved, cur, pc)
                return True
            if add_new:
                saved.misses += 1
            n = 64 if forced and saved.branches else 3
            if saved.misses > saved.hits * n + n:
                saved.gone = True
                evicted += 1
        if evicted:
            insn.saved[callsite] = rows = [row for row in rows if not row.gone]
            env.states -= evicted
    if not add_new or (not env.bpf and rows is not None and len(rows) > _MAX_STATES):
        return False
    env.total_states += 1
    env.states += 1
    if env.states > env.peak_states:
        env.peak_states = env.states
    env.prev_jmps_processed = env.jmps_processed
    env.prev_insn_processed = env.insn_processed
    _clear_singular_ids(cur)
    new = cur.copy()
    new.insn = insn.pc
    saved = Saved(new)
    env.sccs.enter(saved)
    cur.parent = saved
    cur.first_insn = insn.pc
    cur.hist = None
    cur.hist_len = 0
    cur.dfs_depth = new.dfs_depth + 1
    if rows is None:
        insn.saved[callsite] = [saved]
    else:
        rows.insert(0, saved)
    return False


def _open(env: Env, saved: Saved, cur: State, insn: Insn) -> int:
    """A checkpoint on the way to here, or one whose branches are still to be followed: 1 for a match."""
    old = saved.state
    frame = old.frame
    if frame.in_async and frame.async_entry != cur.frame.async_entry:
        return 0
    if insn.is_iter_next:
        if states_equal(env, saved, cur, insn, RANGE_WITHIN):
            pointer = cur.regs[1]
            if isinstance(pointer, Ptr):
                slot = cur.frames[pointer.aux].slots[(-pointer.off - pointer.var.smin - 1) >> 3]
                if slot is not None and isinstance(slot.value, IterSlot) and slot.value.state == 1:
                    return 1
        return 0
    new_turn = insn.is_may_goto and old.may_goto_depth != cur.may_goto_depth
    if new_turn and states_equal(env, saved, cur, insn, RANGE_WITHIN):
        return 1
    if insn.calls_callback:
        return 1 if states_equal(env, saved, cur, insn, RANGE_WITHIN) else 0
    if (
        _maybe_looping(old, cur)
        and states_equal(env, saved, cur, insn, EXACT)
        and not _iter_depths_differ(old, cur)
        and old.may_goto_depth == cur.may_goto_depth
        and old.callback_unroll == cur.callback_unroll
    ):
        env.reject(f"infinite loop detected at insn {insn.pc}")
    return 0


def _maybe_looping(old: State, cur: State) -> bool:
    """The innermost registers are the same, ids too."""
    a, b = old.frame, cur.frame
    return len(old.frames) == len(cur.frames) and a.regs == b.regs and a.ids == b.ids


def _iter_depths_differ(old: State, cur: State) -> bool:
    for number, frame in enumerate(old.frames):
        for spi, slot in enumerate(frame.slots):
            if slot is None or not isinstance(slot.value, IterSlot) or slot.value.state != 1:
                continue
            other = cur.frames[number].slots[spi]
            if other is None or not isinstance(other.value, IterSlot):
                return True
            if other.value.depth != slot.value.depth:
                return True
    return False


def _clean(env: Env, saved: Saved, insn: Insn) -> None:
    """Forget registers and slots of a finished checkpoint that nothing reads any more."""
    st = saved.state
    if env.sccs.incomplete(st):
        return
    saved.cleaned = True
    alive = env.live.alive(st, insn.pc)
    last = len(st.frames) - 1
    for number, frame in enumerate(st.frames):
        at = insn if number == last else env.code[st.frames[number + 1].callsite]
        for r in range(10):
            if not at.live_mask >> r & 1:
                frame.regs[r] = env.nothing
                frame.ids[r] = 0
        mask = alive[number]
        slots = frame.slots
        for spi, slot in enumerate(slots):
            if slot is not None and not mask >> spi & 1:
                slots[spi] = None


def _clear_singular_ids(st: State) -> None:
    """A number's id that nothing shares says nothing."""
    counts: dict[int, int] = {}
    for frame in st.frames:
        for id in frame.ids:
            if id:
                base = id & BASE_ID
                counts[base] = counts.get(base, 0) + 1
        for slot in frame.slots:
            if slot is not None and slot.id:
                base = slot.id & BASE_ID
                counts[base] = counts.get(base, 0) + 1
    if not counts:
        return
    for frame in st.frames:
        ids = frame.ids
        for r, id in enumerate(ids):
            if id and counts[id & BASE_ID] == 1:
                ids[r] = 0
        for spi, slot in enumerate(frame.slots):
            if slot is not None and slot.id and counts[slot.id & BASE_ID] == 1:
                frame.slots[spi] = Slot(slot.types, slot.value, 0)


def propagate(env: Env, saved: Saved, cur: State, pc: int) -> bool:
    """What mattered after the checkpoint matters on the way to ``cur``, which is like it."""
    bt = env.backtrack
    bt.reset(len(cur.frames) - 1)
    for number, mask in enumerate(saved.prec_regs):
        bt.regs[number] = mask
    for number, mask in enumerate(saved.prec_slots):
        bt.slots[number] = mask
    return mark_state(env, cur, bt, pc)


# --- loops -------------------------------------------------------------------------------------


class Visit:
    """A loop, entered by one chain of calls: the checkpoint it was entered at, and matches inside it."""

    __slots__ = ("backedges", "entry")

    def __init__(self) -> None:
        self.entry: Saved | None = None
        self.backedges: list[tuple[Saved, State, int]] = []


class Loops:
    """While a loop is being followed, what mattered in its checkpoints is not all known."""

    __slots__ = ("_open", "_visits", "env")

    def __init__(self, env: Env) -> None:
        self.env = env
        self._visits: dict[tuple[int, ...], Visit] = {}
        #: matches inside loops that are not settled
        self._open = 0

    def _chain(self, st: State) -> tuple[int, ...] | None:
        """Call sites down to the outermost frame that is in a loop, and that loop; None outside loops."""
        code = self.env.code
        sites: list[int] = []
        frames = st.frames
        last = len(frames) - 1
        for number in range(last + 1):
            pc = st.insn if number == last else frames[number + 1].callsite
            scc = code[pc].scc
            if scc:
                sites.append(-scc)
                return tuple(sites)
            if number == last:
                return None
            sites.append(pc)
        return None

    def incomplete(self, st: State) -> bool:
        if not self._open:
            return False
        chain = self._chain(st)
        if chain is None:
            return False
        visit = self._visits.get(chain)
        return visit is not None and bool(visit.backedges)

    def enter(self, saved: Saved) -> None:
        chain = self._chain(saved.state)
        if chain is None:
            return
        visit = self._visits.get(chain)
        if visit is None:
            visit = self._visits[chain] = Visit()
        if visit.entry is None:
            visit.entry = saved

    def add_backedge(self, saved: Saved, cur: State, pc: int) -> None:
        chain = self._chain(saved.state)
        visit = self._visits.get(chain) if chain is not None else None
        if visit is None:
            return
        copy = cur.copy()
        copy.insn = pc
        visit.backedges.append((saved, copy, pc))
        self._open += 1

    def leave(self, saved: Saved) -> None:
        """All paths from a checkpoint have ended: if a loop was entered there, settle what mattered in it."""
        if not self._visits:
            return
        chain = self._chain(saved.state)
        visit = self._visits.get(chain) if chain is not None else None
        if visit is None or visit.entry is not saved:
            return
        visit.entry = None
        self._open -= len(visit.backedges)
        rounds = 0
        changed = bool(visit.backedges)
        while changed:
            rounds += 1
            changed = False
            for old, cur, pc in visit.backedges:
                if rounds > _MAX_BACKEDGE_ROUNDS:
                    parent = cur.parent
                    while parent is not None:
                        mark_all(parent)
                        parent = parent.parent
                elif propagate(self.env, old, cur, pc):
                    changed = True
        visit.backedges = []
