"""The main loop: paths are followed one after another, the newest branch first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from skep.verifier.callbacks import new_frame
from skep.verifier.precision import push_note
from skep.verifier.prune import Loops, visited
from skep.verifier.state import Saved, State

if TYPE_CHECKING:
    from skep.verifier.env import Env

_MAX_DEPTH: Final = 1 << 30


def run(env: Env, subprog: int) -> None:
    """Follow every path of function ``subprog`` from its entry. Raises VerifierError."""
    sub = env.subprogs[subprog]
    st = State()
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
    _follow(env, sub.start)


def _follow(env: Env, pc: int) -> None:
    code = env.code
    st = env.state
    env.live.enter(st)
    limit = env.max_insns
    prev = -1
    processed = env.insn_processed
    while True:
        insn = code[pc]
        processed += 1
        env.insn_processed = processed
        env.pc = pc
        if processed > limit:
            env.reject(f"BPF program is too large. Processed {processed} insn")
        if insn.mark:
            env.prev = prev
            st.last_insn = prev
            if insn.prune_point and visited(env, st, insn):
                if not end_path(env):
                    return
                st = env.state
                pc = st.insn
                prev = env.prev
                continue
            if insn.jmp_point:
                push_note(env, st, 0)
        elif env.tracing:
            st.last_insn = prev
        env.prev = prev
        if env.log_level:
            env.printer.before(insn, prev)
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


def push_branch(env: Env, pc: int, prev: int) -> State:
    """Another path from here, at slot ``pc``, reached from ``prev``: a copy of the current state."""
    branch = env.state.copy()
    branch.insn = pc
    _queue(env, branch, prev, branch.parent)
    return branch


def _queue(env: Env, branch: State, prev: int, parent: Saved | None) -> None:
    env.pending.append((branch, prev))
    if len(env.pending) > env.max_pending:
        env.reject(f"The sequence of {len(env.pending)} jumps is too complex.")
    if parent is not None:
        parent.branches += 1


def push_async(env: Env, pc: int, prev: int, subprog: int, sleepable: bool) -> State:
    """A path that runs a callback by itself, later."""
    st = env.state
    branch = State()
    frame = new_frame(env, -1, 0, subprog)
    branch.frames.append(frame)
    branch.enter(frame)
    branch.insn = pc
    branch.parent = st.parent
    branch.first_insn = st.first_insn
    branch.hist = st.hist
    branch.hist_len = st.hist_len
    branch.dfs_depth = st.dfs_depth
    branch.in_sleepable = sleepable
    _queue(env, branch, prev, branch.parent)
    return branch
