"""Loops whose end is promised: numbers that no decision needed become any number on the next turn."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skep.verifier.scalar import Scalar
from skep.verifier.state import Saved, Slot, State

if TYPE_CHECKING:
    from skep.verifier.env import Env


def previous_entry(env: Env, st: State, pc: int) -> Saved | None:
    """The newest checkpoint at ``pc`` on the way to here, called as ``st`` is."""
    rows = env.code[pc].saved.get(st.frame.callsite)
    if not rows:
        return None
    sites = [frame.callsite for frame in st.frames]
    for saved in rows:
        old = saved.state
        if (
            saved.branches
            and old.dfs_depth < st.dfs_depth
            and [frame.callsite for frame in old.frames] == sites
        ):
            return saved
    return None


def widen_imprecise(env: Env, saved: Saved, cur: State) -> None:
    """Forget what numbers of ``cur`` are that changed since ``saved`` and did not matter."""
    if not env.bpf:
        return
    unknown = env.scalars.unknown
    for number, old in enumerate(saved.state.frames):
        if number >= len(cur.frames):
            return
        new = cur.frames[number]
        precise = saved.prec_regs[number]
        for r in range(10):
            a, b = old.regs[r], new.regs[r]
            if not isinstance(a, Scalar) or not isinstance(b, Scalar) or precise >> r & 1:
                continue
            if a is not b or bool(old.ids[r]) != bool(new.ids[r]):
                new.regs[r] = unknown
                new.ids[r] = 0
        precise = saved.prec_slots[number]
        for spi in range(min(len(old.slots), len(new.slots))):
            x, y = old.slots[spi], new.slots[spi]
            if x is None or y is None or precise >> spi & 1:
                continue
            if not isinstance(x.value, Scalar) or not isinstance(y.value, Scalar):
                continue
            if x.value is not y.value or bool(x.id) != bool(y.id):
                new.slots[spi] = Slot(y.types, unknown, 0)
