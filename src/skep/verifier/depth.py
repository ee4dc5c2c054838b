"""The stack that a chain of calls may use together (check_max_stack_depth)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from skep.isa import opcodes as op
from skep.uapi.enums import ProgType as P
from skep.verifier.exceptions import throws
from skep.verifier.subprogs import is_pseudo_call, is_pseudo_func, subprog_at

if TYPE_CHECKING:
    from skep.verifier.env import Env

_MAX_STACK: Final = 512
_MAX_FRAMES: Final = 8
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
    def __init__(self, env: Env, private: bool, unable: set[int]) -> None:
        self.env = env
        self.private = private
        #: functions that an asynchronous callback uses: no stack of their own
        self.unable = unable

    def walk(self, start: int) -> None:
        env = self.env
        subs = env.subprogs
        insns = env.subject.insns
        stack: list[tuple[int, int, int]] = []  # (function, next slot to look at, bytes it added)
        chain: list[int] = []
        depth = 0
        current, at = start, subs[start].start
        added = self.enter(current, depth, 1, chain)
        depth += added
        chain.append(current)
        while True:
            end = subs[current].end
            called = -1
            while at < end:
                raw = insns[at]
                if raw.opcode == op.CALL and raw.src == 2 and throws(env, raw.imm, raw.off):
                    self.check_throw(current, at, chain)
                if is_pseudo_call(raw) or is_pseudo_func(raw):
                    number = subprog_at(env, at + raw.imm + 1)
                    if not (subs[number].is_async and not is_pseudo_call(raw)):
                        if subs[number].is_exception and is_pseudo_call(raw):
                            env.pc = at
                            env.reject(f"insn {at} cannot call exception cb directly")
                        called = number
                        break
                at += 1
            if called >= 0:
                stack.append((current, at + 1, added))
                if len(stack) >= _MAX_FRAMES:
                    env.pc = at
                    env.reject(f"the call stack of {len(stack)} frames is too deep !")
                if called in chain:
                    env.pc = at
                    env.reject("recursive call")
                current, at = called, subs[called].start
                added = self.enter(current, depth, len(stack) + 1, chain)
                depth += added
                chain.append(current)
                continue
            depth -= added
            chain.pop()
            if not stack:
                return
            current, at, added = stack.pop()

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
