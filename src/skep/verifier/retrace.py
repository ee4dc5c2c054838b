"""The way to a refusal walked once more, alone, for its log: what a long check did beside it is not repeated.

Every state knows its checkpoints and the jumps since, as precision needs them. The way is put together from
these, backward; then its instructions are simulated again, from the last checkpoint that is near enough
or from the entry, with the branches taken that were taken.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from skep.errors import VerifierError
from skep.verifier.callbacks import new_frame
from skep.verifier.precision import push_note
from skep.verifier.printer import Printer
from skep.verifier.state import State

if TYPE_CHECKING:
    from skep.verifier.env import Env

#: how many instructions of the way are logged at most
MOST: Final = 10_000


#: refusals by the main loop, before the instruction
_ARRIVING: Final = ("BPF program is too large", "infinite loop detected")
#: refusals after all paths, which no path tells of
_AFTER: Final = ("combined stack size", "tail_calls are not allowed", "the call stack of ")


class Way(NamedTuple):
    """``slots`` in order, the last is the one refused; ``start``: the state before, None at the entry."""

    slots: list[int]
    start: State | None


def way_back(env: Env, arriving: bool) -> Way | None:
    """The slots that led to the current instruction; None where the history does not tell.

    ``arriving``: the jump to the instruction is not in the history yet.
    """
    st = env.state
    slots = [env.pc]
    hist, first, parent = st.hist, st.first_insn, st.parent
    pc = env.pc
    if arriving and env.prev >= 0:
        pc = env.prev
        slots.append(pc)
    near: tuple[int, State] | None = None
    while True:
        if pc == first and (hist is None or (hist.last is None and hist.insn == pc)):
            if parent is None:
                break
            if len(slots) > MOST:
                if near is None:
                    near = len(slots), parent.state
                break
            near = len(slots), parent.state
            state = parent.state
            pc, first, hist, parent = state.last_insn, state.first_insn, state.hist, parent.parent
            if pc < 0:
                break
        elif hist is not None and hist.insn == pc:
            pc, hist = hist.prev, hist.last
        else:
            pc -= 1
        if pc < 0:
            return None
        slots.append(pc)
    if len(slots) <= MOST:
        return Way(slots[::-1], None)
    if near is None:
        return None
    count, start = near
    return Way(slots[:count][::-1], start)


def retraced(env: Env, error: VerifierError) -> str:
    """A log of level 1 of the way to ``error``, "" where it cannot be walked again."""
    if error.reason.startswith(_AFTER) or not env.state.frames:
        return ""  # refused after all paths, or before any
    way = way_back(env, error.reason.startswith(_ARRIVING))
    if way is None:
        return ""
    processed = env.insn_processed
    subprog = env.state.frames[0].subprog
    env.log, env.log_level, env.recorder = [], 1, None
    env.printer = Printer(env)
    env.pending, env.notes, env.more = [], [], ""
    try:
        _walk(env, way, subprog)
    except VerifierError as found:
        if _plain(found.reason) != _plain(error.reason):
            return ""
    except LookupError:
        return ""  # ranges that were widened in a loop may be narrower now, and decide its branches
    finally:
        env.insn_processed = processed
    env.pc = way.slots[-1]
    return env.refused(error).log


def _plain(reason: str) -> str:
    """Without numbers: ids are others now."""
    return "".join(c for c in reason if not c.isdigit())


def _walk(env: Env, way: Way, subprog: int) -> None:
    slots = [pc for pc in way.slots if env.code[pc].opcode]  # a wide instruction is one
    if way.start is not None:
        st = way.start.copy()
        st.parent = None
        st.first_insn = slots[0]
        st.hist, st.hist_len, st.last_insn = None, 0, -1
        env.state = st
    else:
        st = State.start()
        frame = new_frame(env, -1, 0, subprog)
        st.frames.append(frame)
        st.enter(frame)
        st.insn = st.first_insn = slots[0]
        env.state = st
        if env.start is not None:
            env.start(env, frame, subprog)
    env.live.enter(st)
    prev = -1
    for at, pc in enumerate(slots):
        insn = env.code[pc]
        env.insn_processed += 1
        env.pc, env.prev, st.last_insn = pc, prev, prev
        if insn.jmp_point:
            push_note(env, st, 0)
        env.printer.before(insn, prev)
        following = insn.step(env, st)
        prev = pc
        if at + 1 == len(slots):
            return
        if following != slots[at + 1]:
            st = _other(env, slots[at + 1])
            env.state = st
            env.live.enter(st)
            env.printer.resume(prev)
        env.pending.clear()


def _other(env: Env, wanted: int) -> State:
    """The branch that waits at the slot that came next."""
    for branch, _ in env.pending:
        if branch.insn == wanted:
            return branch
    raise LookupError(wanted)
