"""The stack that a chain of calls may use together (check_max_stack_depth)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from skep.isa import opcodes as op
from skep.uapi.enums import ProgType as P
from skep.verifier.exceptions import throws
from skep.verifier.facts.limits import limits
from skep.verifier.subprogs import is_pseudo_call, is_pseudo_func, subprog_at

if TYPE_CHECKING:
    from skep.verifier.env import Env

_MAX_STACK: Final = 512
#: global functions are counted from themselves on
GLOBALS_START: Final = (7, 2)
_PRIVATE_MIN: Final = 64
_PRIVATE: Final = (P.KPROBE, P.TRACEPOINT, P.PERF_EVENT, P.RAW_TRACEPOINT)


def check_depth(env: Env) -> None:
    """Walks every chain of calls from the program's entry and from each asynchronous callback."""
    subs = env.subprogs
    private = env.kernel >= (6, 13) and _private_possible(env)
    unable: set[int] = set()
    for number in range(len(subs) - 1, -1, -1):
        if number == 0 or subs[number].is_async:
            _Chain(env, private and number == 0, unable).walk(number)


def _private_possible(env: Env) -> bool:
    if any(sub.has_tail_call for sub in env.subprogs):
        return False
    kind = env.subject.prog_type
    if kind in _PRIVATE:
        return True
    return kind == P.TRACING and env.subject.attach_type in (24, 25, 26)


class _Chain:
    """One walk. Chains multiply from level to level, so what was walked at no less depth is left out."""

    def __init__(self, env: Env, private: bool, unable: set[int]) -> None:
        self.env = env
        self.private = private
        #: functions that an asynchronous callback uses: no stack of their own
        self.unable = unable
        self.calls: dict[int, list[tuple[int, int]]] = {}
        #: function -> (bytes, frames, whether below a callback) that it was walked with to the end
        self.walked: dict[int, list[tuple[int, int, bool]]] = {}

    def calls_of(self, number: int) -> list[tuple[int, int]]:
        """(slot, function called or -1 where it throws), in order."""
        found = self.calls.get(number)
        if found is not None:
            return found
        env = self.env
        sub = env.subprogs[number]
        insns = env.subject.insns
        found = self.calls[number] = []
        for at in range(sub.start, sub.end):
            raw = insns[at]
            if raw.opcode == op.CALL and raw.src == 2 and throws(env, raw.imm, raw.off):
                found.append((at, -1))
            direct = is_pseudo_call(raw)
            if direct or is_pseudo_func(raw):
                called = subprog_at(env, at + raw.imm + 1)
                if direct or not env.subprogs[called].is_async:
                    found.append((at, called))
        return found

    def walk(self, start: int) -> None:
        env = self.env
        subs = env.subprogs
        chain: list[int] = []
        #: (function, its next call, bytes it added, bytes and frames before it, below a callback)
        stack: list[tuple[int, int, int, tuple[int, int, bool]]] = []
        depth = frames = 0
        current, at = start, 0
        before = (0, 0, False)
        added = self.enter(current, depth, 1, chain)
        depth += added
        chain.append(current)
        while True:
            calls = self.calls_of(current)
            entered = False
            while at < len(calls):
                slot, called = calls[at]
                at += 1
                env.pc = slot
                if called < 0:
                    self.check_throw(current, slot, chain)
                    continue
                if subs[called].is_exception and is_pseudo_call(env.subject.insns[slot]):
                    env.reject(f"insn {slot} cannot call exception cb directly")
                inner = 0 if env.kernel >= GLOBALS_START and subs[called].is_global else frames + 1
                if inner >= limits(env.kernel).frames:
                    env.reject(f"the call stack of {inner} frames is too deep !")
                below = any(subs[row].is_callback for row in chain)
                key = (depth, inner, below)
                if self.known(called, key):
                    continue
                stack.append((current, at, added, before))
                before, frames = key, inner
                current, at = called, 0
                added = self.enter(current, depth, len(stack) + 1, chain)
                depth += added
                chain.append(current)
                entered = True
                break
            if entered:
                continue
            self.walked.setdefault(current, []).append(before)
            depth -= added
            chain.pop()
            if not stack:
                return
            current, at, added, before = stack.pop()
            frames = before[1]

    def known(self, number: int, key: tuple[int, int, bool]) -> bool:
        """Whether ``number`` was walked in a place that is no better."""
        return any(
            row[0] >= key[0] and row[1] >= key[1] and row[2] >= key[2] for row in self.walked.get(number, ())
        )

    def check_throw(self, current: int, at: int, chain: list[int]) -> None:
        """A callback cannot throw, nor what it calls."""
        subs = self.env.subprogs
        if any(subs[row].is_callback for row in chain):
            self.env.pc = at
            self.env.reject(f"bpf_throw kfunc (insn {at}) cannot be called from callback subprog {current}")

    def enter(self, number: int, depth: int, frames: int, chain: list[int]) -> int:
        env = self.env
        sub = env.subprogs[number]
        env.pc = sub.start
        if sub.has_ld_abs and any(env.subprogs[row].is_callback for row in (*chain, number)):
            env.reject("cannot use BPF_LD_[ABS|IND] within callback")
        if number and sub.has_tail_call and depth >= 256:
            env.reject(
                f"tail_calls are not allowed when call stack of previous frames is {depth} bytes. Too large"
            )
        if not self.private:
            self.unable.add(number)
        if env.kernel >= (6, 9):
            size = (sub.stack_depth + 15) & ~15
        else:
            size = (max(sub.stack_depth, 1) + 31) & ~31
        if self.private and number not in self.unable and size >= _PRIVATE_MIN:
            if size > _MAX_STACK:
                env.reject(f"stack size of subprog {number} is {size}. Too large")
            return 0
        if depth + size > _MAX_STACK:
            env.reject(f"combined stack size of {frames} calls is {depth + size}. Too large")
        return size


def refuse_recursion(env: Env) -> None:
    """From 7.2 on no function may call itself, over whatever others (before, chains were too deep then)."""
    subs = env.subprogs
    insns = env.subject.insns
    state = bytearray(len(subs))  # 1: on the way, 2: done
    for first in range(len(subs)):
        if state[first]:
            continue
        state[first] = 1
        way = [(first, subs[first].start)]
        while way:
            current, at = way.pop()
            for pc in range(at, subs[current].end):
                raw = insns[pc]
                direct = is_pseudo_call(raw)
                if not direct and not is_pseudo_func(raw):
                    continue
                called = subprog_at(env, pc + raw.imm + 1)
                if state[called] == 1 and direct:
                    env.pc = pc
                    env.reject(f"recursive call from {subs[current].name}() to {subs[called].name}()")
                if not state[called]:
                    state[called] = 1
                    way += [(current, pc + 1), (called, subs[called].start)]
                    break
            else:
                state[current] = 2
