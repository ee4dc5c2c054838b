"""The functions a program consists of: where they start, what they contain."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Final

from skep.btf.types import Func
from skep.isa import opcodes as op
from skep.isa.ebpf import Insn as Slot
from skep.verifier.exceptions import callback_start
from skep.verifier.indirect import GOTOX

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skep.verifier.env import Env

_TAIL_CALL: Final = 12
_MAX_SUBPROGS: Final = 256
_LINKAGE_STATIC: Final = 0


class Subprog:
    """A function: slots ``start`` to ``end``-1. ``order`` is its instructions after their successors.

    ``order`` has (index, successors' indexes), counted from ``start``; ``edges`` the successors of each and
    ``before`` the predecessors. ``tops`` has the start of the straight code that each is in: each instruction
    there but the first is reached from the one before alone, which leads nowhere else.
    """

    __slots__ = (
        "before",
        "called",
        "changes_packet",
        "edges",
        "end",
        "entered",
        "has_ld_abs",
        "has_tail_call",
        "is_async",
        "is_callback",
        "is_exception",
        "is_global",
        "might_sleep",
        "might_throw",
        "name",
        "order",
        "stack_depth",
        "start",
        "tops",
    )

    def __init__(self, start: int) -> None:
        self.start = start
        self.end = start
        self.name = ""
        self.is_global = False
        self.is_callback = False
        self.is_async = False
        self.is_exception = False
        self.called = False
        #: some path runs it
        self.entered = False
        self.has_ld_abs = False
        self.has_tail_call = False
        self.changes_packet = False
        self.might_sleep = False
        self.might_throw = False
        self.stack_depth = 0
        self.edges: list[tuple[int, ...]] = []
        self.before: list[list[int]] = []
        self.tops: list[int] = []
        self.order: list[tuple[int, tuple[int, ...]]] = []


def is_pseudo_call(insn: Slot) -> bool:
    return insn.opcode == op.CALL and insn.src == op.BPF_PSEUDO_CALL


def is_pseudo_func(insn: Slot) -> bool:
    return insn.opcode == op.LD_IMM64 and insn.src == op.BPF_PSEUDO_FUNC


def find_subprogs(env: Env) -> None:
    """Fill in ``env.subprogs``; every jump stays within its function, every function ends."""
    insns = env.subject.insns
    count = len(insns)
    starts = {0}
    for pc, insn in enumerate(insns):
        if is_pseudo_call(insn) or is_pseudo_func(insn):
            env.pc = pc
            if not env.bpf:
                env.reject(
                    "loading/calling other bpf or kernel functions are allowed for CAP_BPF and CAP_SYS_ADMIN"
                )
            target = pc + insn.imm + 1
            if not 0 <= target < count:
                env.reject("call to invalid destination")
            starts.add(target)
            if len(starts) > _MAX_SUBPROGS:
                env.pc = pc
                env.reject("too many subprograms")
    env.has_calls = len(starts) > 1
    thrown = callback_start(env)
    if thrown:
        starts.add(thrown)
    order = sorted(starts)
    env.subprogs = [Subprog(start) for start in order]
    env.starts = order
    for sub, end in zip(env.subprogs, (*order[1:], count), strict=True):
        sub.end = end
    if thrown:
        env.exception_subprog = order.index(thrown)
        handler = env.subprogs[env.exception_subprog]
        handler.is_exception = handler.is_callback = handler.is_async = True
        handler.called = True
    _check_jumps(env, insns)
    _names(env)


def _check_jumps(env: Env, insns: list[Slot]) -> None:
    for sub in env.subprogs:
        for pc in range(sub.start, sub.end):
            opcode, _, src, off, imm = insns[pc]
            cls = opcode & op.CLASS_MASK
            if opcode == op.CALL and src == 0 and imm == _TAIL_CALL:
                sub.has_tail_call = True
            if cls == op.BPF_LD and opcode & op.MODE_MASK in (op.BPF_ABS, op.BPF_IND):
                sub.has_ld_abs = True
            if cls in (op.BPF_JMP, op.BPF_JMP32):
                operation = opcode & op.OP_MASK
                if operation not in (op.BPF_EXIT, op.BPF_CALL) and opcode != GOTOX:
                    target = pc + 1 + (imm if opcode == op.GOTOL else off)
                    if not sub.start <= target < sub.end:
                        env.pc = pc
                        env.reject(f"jump out of range from insn {pc} to {target}")
        last = insns[sub.end - 1].opcode
        if last not in (op.EXIT, op.JA, op.GOTOL, GOTOX):
            env.pc = sub.end - 1
            env.reject("last insn is not an exit or jmp")


def _names(env: Env) -> None:
    """Names and linkage from the program's types."""
    subject = env.subject
    btf = subject.btf
    for number, sub in enumerate(env.subprogs):
        row = subject.funcs.get(sub.start)
        if row is not None:
            sub.name = row.name
            if btf is not None and row.btf_id:
                func = btf[row.btf_id]
                sub.is_global = isinstance(func, Func) and func.linkage != _LINKAGE_STATIC
        if not number:
            continue
        if row is None:
            if sub.has_ld_abs:
                env.pc = sub.start
                env.reject("LD_ABS is not allowed in subprogs without BTF")
            if sub.has_tail_call:
                env.pc = sub.start
                env.reject("tail_call is not allowed in subprogs without BTF")
        elif (sub.has_ld_abs or sub.has_tail_call) and not _returns_int(env, row.btf_id):
            what = "LD_ABS" if sub.has_ld_abs else "tail_call"
            env.pc = sub.start
            env.reject(f"{what} is only allowed in functions that return 'int'.")


def _returns_int(env: Env, func_id: int) -> bool:
    btf = env.subject.btf
    if btf is None or not func_id:
        return False
    proto = btf[btf[func_id][2]]
    kind = btf[btf.resolve(proto[2])]
    return kind[0] in (6, 19) or (kind[0] == 1 and kind[2] <= 8)


def dangling(env: Env) -> list[int]:
    """Instructions that take the address of a function that no path runs."""
    return [pc for pc in sorted(env.func_refs) if not env.subprogs[env.func_refs[pc]].entered]


def check_references(env: Env, reached: Sequence[bool]) -> None:
    """Such a function is removed, and its address then names what moved to its place: a function, or nothing.

    ``reached`` says of each slot whether a path comes there. The JIT looks for the function, unless the
    program is left with a single one.
    """
    left = sum(sub.entered for sub in env.subprogs) + (env.throws and not env.exception_subprog)
    if left < 2:
        return
    count = len(reached)
    for pc in dangling(env):
        at = env.subprogs[env.func_refs[pc]].start
        while at < count and not reached[at]:
            low = high = at
            while low and not reached[low - 1]:
                low -= 1
            while high < count and not reached[high]:
                high += 1
            at += high - low
        if subprog_at(env, at) < 0:
            env.pc = pc
            env.reject(f"verifier bug: No program to jit at insn {at} (subprog < 0)")


def subprog_at(env: Env, start: int) -> int:
    """The number of the function that starts at slot ``start``, -1 for none."""
    at = bisect_right(env.starts, start) - 1
    return at if at >= 0 and env.starts[at] == start else -1


def containing(env: Env, pc: int) -> int:
    """The number of the function that slot ``pc`` is in."""
    return bisect_right(env.starts, pc) - 1
