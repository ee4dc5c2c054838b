"""Which numbers mattered: backward from where an exact value decided something to where it came from.

A checkpoint's number that no later decision used need not be compared. So when a number is used as an
offset, a size, or in a branch that it decides, the path is walked back, through the checkpoints that it
passed, and whatever the number was made of is marked. The method is that of Linux (backtracking over the
jump history).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from skep.verifier.facts.limits import MAX_FRAMES
from skep.verifier.state import Note, State

if TYPE_CHECKING:
    from skep.verifier.env import Env
    from skep.verifier.state import Saved

#: `Note.flags`: the instruction accessed slot (flags & SPI) of frame (flags >> FRAME_SHIFT & FRAME)
SPI: Final = 63
FRAME_SHIFT: Final = 6
FRAME: Final = 15
STACK_ACCESS: Final = 1 << 10
#: the register compared is a pointer to the stack
DST_STACK: Final = 1 << 11
SRC_STACK: Final = 1 << 12

ARGS: Final = 0b111110
#: notes that a walk which asks for stack slots alone may pass in one step
_STRIDE: Final = 12
_NOTHING: Final = (0,) * (MAX_FRAMES + 1)


class Backtrack:
    """What must be precise: registers and stack slots, a mask for each frame; ``frame`` is the current."""

    __slots__ = ("frame", "regs", "slots")

    def __init__(self, frame: int) -> None:
        self.frame = frame
        self.regs = [0] * (MAX_FRAMES + 1)
        self.slots = [0] * (MAX_FRAMES + 1)

    def reset(self, frame: int) -> None:
        """Ask for nothing, from frame ``frame`` on."""
        self.frame = frame
        self.regs[:] = _NOTHING
        self.slots[:] = _NOTHING

    def empty(self) -> bool:
        i = self.frame
        regs, slots = self.regs, self.slots
        while i >= 0:
            if regs[i] or slots[i]:
                return False
            i -= 1
        return True


def push_note(env: Env, st: State, flags: int, linked: tuple[tuple[int, int, int], ...] = ()) -> None:
    """Remember about the current instruction what `Insn.back` cannot see."""
    last = st.hist
    if last is not None and last.stamp == env.insn_processed:
        last.flags |= flags
        if linked:
            last.linked = linked
        return
    st.hist = Note(last, env.pc, env.prev, flags, linked, env.insn_processed)
    st.hist_len += 1


def push_waypoint(env: Env, st: State) -> None:
    """A note in the midst of long straight code, for walks to stop at; it counts for nothing."""
    count = st.hist_len
    push_note(env, st, 0)
    st.hist_len = count


def mark_precise(env: Env, reg: int) -> None:
    """Register ``reg`` of the current frame holds a number whose exact value decides something here."""
    if not env.bpf:
        return
    st = env.state
    if st.parent is None:
        return
    bt = env.backtrack
    bt.reset(len(st.frames) - 1)
    bt.regs[bt.frame] = 1 << reg
    _walk(env, st, bt, env.pc)


def mark_state(env: Env, st: State, bt: Backtrack, pc: int) -> bool:
    """The same for registers and slots of ``st``, about to run slot ``pc``; True: marks were made."""
    if bt.empty():
        return False
    return _walk(env, st, bt, pc)


def _walk(env: Env, st: State, bt: Backtrack, pc: int) -> bool:
    code = env.code
    changed = False
    hist = st.hist
    first = st.first_insn
    parent = st.parent
    start_parent = parent
    regs, slots = bt.regs, bt.slots
    frame = bt.frame
    i = pc
    following = -1
    passed = 0
    start: Note | None = None  # `_STRIDE` notes from here will be passed in one step
    count = mask = 0
    undo = False  # what is about to run at ``pc`` has done nothing yet
    while True:
        # Back through the instructions since the last checkpoint.
        while True:
            if hist is not None and hist.insn == i:
                if undo:
                    step = hist.skip
                    if (
                        step is not None
                        and not regs[frame]
                        and step[2] == frame
                        and not step[1] & slots[frame]
                    ):
                        lowest = step[0]
                        following = lowest.insn
                        i = lowest.prev
                        hist = lowest.last
                        start = None
                        continue
                    insn = code[i]
                    touch = insn.touch
                    flags = hist.flags
                    linked = hist.linked
                    access = flags & STACK_ACCESS
                    if touch < 0 or linked or (access and flags >> FRAME_SHIFT & FRAME != frame):
                        start = None
                    else:
                        if start is None:
                            start = hist
                            count = mask = 0
                        if access:
                            mask |= 1 << (flags & SPI)
                        count += 1
                        if count == _STRIDE:
                            if hist.last is not None:
                                start.skip = (hist, mask, frame)
                            start = None
                    if linked:
                        _linked(bt, hist)
                    if (
                        touch < 0
                        or touch & regs[frame]
                        or (flags & STACK_ACCESS and slots[flags >> FRAME_SHIFT & FRAME] >> (flags & SPI) & 1)
                    ):
                        if not insn.back(env, bt, hist, following):
                            _all_precise(start_parent)
                            return True
                        if linked:
                            _linked(bt, hist)
                        frame = bt.frame
                        if not regs[frame] and not slots[frame] and bt.empty():
                            return changed
                following = i
                last = hist.last
                if last is None and i == first:
                    break
                passed += 1
                if not passed & 3 and _asked(bt, hist):
                    return changed
                i = hist.prev
                hist = last
            else:
                if undo:
                    insn = code[i]
                    run = insn.run
                    if run < 0 and insn.touch < 0:
                        start = None
                    if run < 0 or run & regs[frame]:
                        if (run < 0 or insn.touch & regs[frame]) and not insn.back(env, bt, None, following):
                            _all_precise(start_parent)
                            return True
                        frame = bt.frame
                        if not regs[frame] and not slots[frame] and bt.empty():
                            return changed
                    else:
                        # Nothing from the block's start to here has to do with it.
                        stop = insn.top
                        if stop < first <= i:
                            stop = first
                        if hist is not None and stop <= hist.insn < i:
                            following = hist.insn + 1
                            i = hist.insn
                            continue
                        i = stop
                following = i
                if hist is None and i == first:
                    break
                i -= 1
            undo = True
            if i < 0:
                _all_precise(start_parent)
                return True
        if parent is None:
            break
        saved = parent
        if _mark_saved(saved, bt):
            changed = True
        if bt.empty():
            return changed
        undo = True
        start = None
        state = saved.state
        following = first
        i = state.last_insn
        first = state.first_insn
        hist = state.hist
        parent = saved.parent
        if i < 0:
            break
    # The function's own arguments, or something that was missed.
    if frame == 0 and not slots[0] and not regs[0] & ~ARGS:
        return changed
    _all_precise(start_parent)
    return True


def _asked(bt: Backtrack, note: Note) -> bool:
    """All that is asked for has been asked for here before: loops would be walked back again and again."""
    frame = bt.frame
    for i in range(frame):
        if bt.regs[i] or bt.slots[i]:
            return False
    regs, slots = bt.regs[frame], bt.slots[frame]
    if note.asked_frame != frame:
        note.asked_frame = frame
        note.asked_regs = regs
        note.asked_slots = slots
        return False
    if not regs & ~note.asked_regs and not slots & ~note.asked_slots:
        return bool(note.asked_regs | note.asked_slots)
    note.asked_regs |= regs
    note.asked_slots |= slots
    return False


def _mark_saved(saved: Saved, bt: Backtrack) -> bool:
    """Mark numbers of a checkpoint; what is no number, or marked already, is asked for no further."""
    changed = False
    frames = saved.state.frames
    for number in range(min(bt.frame, len(frames) - 1), -1, -1):
        mask = bt.regs[number]
        if mask:
            have = saved.prec_regs[number]
            mask &= ~have & 0x3FF
            fresh = 0
            if mask:
                regs = frames[number].regs
                while mask:
                    bit = mask & -mask
                    mask ^= bit
                    if regs[bit.bit_length() - 1].type == 1:
                        fresh |= bit
            bt.regs[number] = fresh
            if fresh:
                saved.prec_regs[number] = have | fresh
                changed = True
        mask = bt.slots[number]
        if mask:
            have = saved.prec_slots[number]
            mask &= ~have
            fresh = 0
            if mask:
                slots = frames[number].slots
                mask &= (1 << len(slots)) - 1
                while mask:
                    bit = mask & -mask
                    mask ^= bit
                    slot = slots[bit.bit_length() - 1]
                    if slot is not None and slot.value is not None and slot.value.type == 1:
                        fresh |= bit
            bt.slots[number] = fresh
            if fresh:
                saved.prec_slots[number] = have | fresh
                changed = True
    return changed


def _linked(bt: Backtrack, note: Note) -> None:
    """If one of the numbers that shared an id must be precise, all must."""
    for frame, spi, reg in note.linked:
        if (bt.slots[frame] >> spi & 1) if reg < 0 else (bt.regs[frame] >> reg & 1):
            break
    else:
        return
    for frame, spi, reg in note.linked:
        if reg < 0:
            bt.slots[frame] |= 1 << spi
        else:
            bt.regs[frame] |= 1 << reg


def _all_precise(parent: Saved | None) -> None:
    """Where the way back is not known: every number of every checkpoint on it."""
    while parent is not None:
        mark_all(parent)
        parent = parent.parent


def mark_all(saved: Saved) -> None:
    """Every number of a checkpoint is compared from now on."""
    for number, frame in enumerate(saved.state.frames):
        mask = 0
        for r in range(10):
            if frame.regs[r].type == 1:
                mask |= 1 << r
        saved.prec_regs[number] |= mask
        mask = 0
        for spi, slot in enumerate(frame.slots):
            if slot is not None and slot.value is not None and slot.value.type == 1:
                mask |= 1 << spi
        saved.prec_slots[number] |= mask
