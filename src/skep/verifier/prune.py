"""Checkpoints: has a state as permissive as this one been followed to its end already?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from skep.verifier.equal import EXACT, FIRST_SLOT, NOT_EXACT, RANGE_WITHIN, states_equal
from skep.verifier.insn import Insn
from skep.verifier.precision import mark_all, mark_state, push_note
from skep.verifier.ptr import IterSlot, Ptr
from skep.verifier.scalar import Scalar
from skep.verifier.state import ALL_SPILL, BASE_ID, ZERO, Frame, Saved, Slot, State, Visit

if TYPE_CHECKING:
    from skep.verifier.env import Env

_MAX_BACKEDGE_ROUNDS: Final = 64
#: checkpoints of one instruction, without privileges
_MAX_STATES: Final = 64
#: ids that a single number has are taken away at checkpoints (before, its next copy was linked with it)
SINGULAR: Final = (7, 0)


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
        last = len(cur.frames) - 1
        regs = cur.regs
        slots = cur.frame.slots
        depth = len(slots)
        sccs = env.sccs
        recent = not force_new and (
            env.jmps_processed - env.prev_jmps_processed < 20
            and env.insn_processed - env.prev_insn_processed < 100
        )
        sites = cur.sites()
        for saved in rows:
            loop = False
            hit = False
            if saved.sites != sites:
                # Called from elsewhere: never alike.
                if saved.branches and recent:
                    add_new = False
            elif saved.branches:
                # Most are told apart by their registers already.
                if (forced or saved.state.regs == regs) and _open(env, saved, cur, insn):
                    hit = loop = True
                elif recent:
                    add_new = False
            else:
                if not saved.cleaned:
                    _clean(env, saved, insn)
                at = saved.hint
                if at >= 0 and saved.hint_frame == last == saved.last:
                    # What told the last one from it most often tells this one too.
                    if at < FIRST_SLOT:
                        value = regs[at]
                        if saved.only >= 0:
                            known = not isinstance(value, Scalar) or value.tv != saved.only or not value.const
                        else:
                            known = value in saved.refused
                    elif at - FIRST_SLOT < depth:
                        known = slots[at - FIRST_SLOT] in saved.refused
                    else:
                        known = False
                else:
                    known = False
                if not known:
                    loop = sccs.open > 0 and saved.visit is not None and bool(saved.visit.backedges)
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
    if env.kernel >= SINGULAR:
        _clear_singular_ids(env, cur)
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
        if rows:
            _same_hint(saved, rows[0])
        rows.insert(0, saved)
    return False


def _same_hint(saved: Saved, other: Saved) -> None:
    """Look first where states were found to differ from the checkpoint before."""
    number = other.hint_frame
    if number <= saved.last and other.hint < FIRST_SLOT + len(saved.state.frames[number].slots):
        saved.hint_frame = number
        saved.hint = other.hint


def _open(env: Env, saved: Saved, cur: State, insn: Insn) -> bool:
    """A checkpoint on the way to here, or one whose branches are still to be followed: does it match?"""
    old = saved.state
    frame = old.frame
    if frame.in_async and frame.async_entry != cur.frame.async_entry:
        return False
    if insn.is_iter_next:
        if states_equal(env, saved, cur, insn, RANGE_WITHIN):
            pointer = cur.regs[1]
            if isinstance(pointer, Ptr):
                slot = cur.frames[pointer.aux].slots[(-pointer.off - pointer.var.smin - 1) >> 3]
                if slot is not None and isinstance(slot.value, IterSlot) and slot.value.state == 1:
                    return True
        return False
    new_turn = insn.is_may_goto and old.may_goto_depth != cur.may_goto_depth
    if new_turn and states_equal(env, saved, cur, insn, RANGE_WITHIN):
        return True
    if insn.calls_callback:
        return states_equal(env, saved, cur, insn, RANGE_WITHIN)
    if (
        _maybe_looping(old, cur)
        and states_equal(env, saved, cur, insn, EXACT)
        and not _iter_depths_differ(old, cur)
        and old.may_goto_depth == cur.may_goto_depth
        and old.callback_unroll == cur.callback_unroll
    ):
        env.reject(f"infinite loop detected at insn {insn.pc}")
    return False


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
    if saved.visit is not None and saved.visit.backedges:
        return
    saved.cleaned = True
    saved.refused.clear()  # what is forgotten covers anything
    saved.only = -1
    alive = env.live.alive(st, insn.pc)
    nothing = env.nothing
    uninit_ok = env.uninit_ok
    for number, frame in enumerate(st.frames):
        at = insn if number == saved.last else env.code[st.frames[number + 1].callsite]
        regs, ids = frame.regs, frame.ids
        for r in at.dead:
            regs[r] = nothing
            ids[r] = 0
        slots = frame.slots
        mask = alive[number]
        kept: list[int] = []
        for spi, slot in enumerate(slots):
            if slot is not None:
                if not mask >> spi & 1:
                    slots[spi] = None
                elif slot.value is not None or not uninit_ok or ZERO in slot.types:
                    kept.append(spi)  # else: whatever is there may be there
        saved.kept.append(kept)


def _clear_singular_ids(env: Env, st: State) -> None:
    """A number's id that nothing shares says nothing."""
    counts: dict[int, int] = {}
    for frame in st.frames:
        for id in frame.ids:
            if id:
                base = id & BASE_ID
                counts[base] = counts.get(base, 0) + 1
        mask = frame.linked
        linked = 0
        while mask:
            bit = mask & -mask
            mask ^= bit
            slot = frame.slots[bit.bit_length() - 1]
            if slot is not None and slot.id:
                linked |= bit
                base = slot.id & BASE_ID
                counts[base] = counts.get(base, 0) + 1
        frame.linked = linked
    if not counts:
        return
    for frame in st.frames:
        ids = frame.ids
        for r, id in enumerate(ids):
            if id and counts[id & BASE_ID] == 1:
                ids[r] = 0
        mask = frame.linked
        while mask:
            bit = mask & -mask
            mask ^= bit
            spi = bit.bit_length() - 1
            slot = frame.slots[spi]
            if slot is not None and counts[slot.id & BASE_ID] == 1:
                value = slot.value
                if slot.types == ALL_SPILL and value is not None:
                    frame.slots[spi] = env.spilled(value)
                else:
                    frame.slots[spi] = Slot(slot.types, value, 0)


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


class Loops:
    """While a loop is being followed, what mattered in its checkpoints is not all known."""

    __slots__ = ("_frame", "_visits", "env", "open")

    def __init__(self, env: Env) -> None:
        self.env = env
        self._visits: dict[tuple[int, ...], Visit] = {}
        self._frame = Frame()
        #: matches inside loops that are not settled
        self.open = 0

    def _chain(self, st: State, pc: int) -> tuple[int, ...] | None:
        """Call sites down to the outermost frame that is in a loop, and that loop; None outside loops."""
        code = self.env.code
        sites: list[int] = []
        frames = st.frames
        last = len(frames) - 1
        for number in range(last + 1):
            at = pc if number == last else frames[number + 1].callsite
            scc = code[at].scc
            if scc:
                sites.append(-scc)
                return tuple(sites)
            if number == last:
                return None
            sites.append(at)
        return None

    def enter(self, saved: Saved) -> None:
        chain = self._chain(saved.state, saved.state.insn)
        if chain is None:
            return
        visit = self._visits.get(chain)
        if visit is None:
            visit = self._visits[chain] = Visit()
        saved.visit = visit
        if visit.entry is None:
            visit.entry = saved

    def thrown(self, st: State, pc: int) -> None:
        """A path ends inside a loop, which Linux expects only where it has a checkpoint."""
        chain = self._chain(st, pc)
        if chain is not None and chain not in self._visits:
            words = ",".join(str(abs(site)) for site in chain)
            self.env.reject(f"verifier bug: scc exit: no visit info for call chain ({words})")

    def add_backedge(self, saved: Saved, cur: State, pc: int) -> None:
        visit = saved.visit
        if visit is None:
            return
        # What the registers hold is not needed: there may be many of these.
        kept = State()
        kept.frames = [self._frame] * len(cur.frames)
        kept.hist, kept.first_insn, kept.parent = cur.hist, cur.first_insn, cur.parent
        visit.backedges.append((saved, kept, pc))
        self.open += 1

    def leave(self, saved: Saved) -> None:
        """All paths from a checkpoint have ended: if a loop was entered there, settle what mattered in it."""
        visit = saved.visit
        if visit is None or visit.entry is not saved:
            return
        visit.entry = None
        self.open -= len(visit.backedges)
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
