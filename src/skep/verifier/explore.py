"""The main loop: paths are followed one after another, the newest branch first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skep.verifier.callbacks import new_frame
from skep.verifier.precision import push_note, push_waypoint
from skep.verifier.prune import Loops, visited
from skep.verifier.state import State

if TYPE_CHECKING:
    from skep.verifier.env import Env


def run(env: Env, subprog: int) -> None:
    """Follow every path of function ``subprog`` from its entry. Raises VerifierError."""
    sub = env.subprogs[subprog]
    st = State.start()
    frame = new_frame(env, -1, 0, subprog)
    st.frames.append(frame)
    st.enter(frame)
    st.insn = st.first_insn = sub.start
    for insn in env.code:
        insn.saved = {}
    env.pending = []
    env.sccs = Loops(env)
    env.state = st
    env.states = 0
    env.prev = -1
    if env.start is not None:
        env.start(env, frame, subprog)
    if env.speculates:
        from skep.verifier.speculation import follow

        follow(env, sub.start)
    else:
        _follow(env, sub.start)


def _follow(env: Env, pc: int) -> None:
    code = env.code
    st = env.state
    env.live.enter(st)
    limit = env.max_insns
    watched = env.log_level > 0 or env.recorder is not None
    prev = -1
    processed = env.insn_processed
    while True:
        insn = code[pc]
        processed += 1
        env.insn_processed = processed
        env.pc = pc
        if processed > limit:
            env.prev = prev
            env.reject(f"BPF program is too large. Processed {processed} insn")
        if insn.mark:
            env.prev = prev
            st.last_insn = prev
            if insn.prune_point and visited(env, st, insn):
                if env.log_level:
                    env.printer.safe(pc)
                if env.recorder is not None:
                    env.recorder.edge(prev, pc)
                if not end_path(env):
                    return
                st = env.state
                pc = st.insn
                prev = env.prev
                continue
            if insn.jmp_point:
                push_note(env, st, 0)
            elif insn.waypoint:
                push_waypoint(env, st)
        env.prev = prev
        if watched:
            if env.log_level:
                env.printer.before(insn, prev)
            if env.recorder is not None:
                env.recorder.note(insn, st, prev)
        prev = pc
        pc = insn.step(env, st)
        if pc < 0:
            if not end_path(env):
                return
            st = env.state
            pc = st.insn
            prev = env.prev


def end_path(env: Env) -> bool:
    """The current path has ended: take up the newest that waits. False: there is none."""
    st = env.state
    env.live.update(st)
    parent = st.parent
    while parent is not None:
        parent.branches -= 1
        if parent.branches:
            break
        env.sccs.leave(parent)
        parent = parent.parent
    if not env.pending:
        return False
    next_state, prev = env.pending.pop()
    env.state = next_state
    env.prev = prev
    env.live.enter(next_state)
    if env.log_level:
        env.printer.resume(prev)
    return True
