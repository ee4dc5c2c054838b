"""Calls and returns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from skep.isa import opcodes as op
from skep.uapi.enums import ProgType as P
from skep.verifier import helper_call
from skep.verifier import kinds as k
from skep.verifier.bounds import Bounds
from skep.verifier.callbacks import enter_function
from skep.verifier.facts.limits import MAX_FRAMES
from skep.verifier.insn import PATH_END, Insn
from skep.verifier.precision import ARGS, mark_precise
from skep.verifier.ptr import Ptr
from skep.verifier.scalar import Scalar
from skep.verifier.state import REF_PTR, Frame, Note, State
from skep.verifier.subprogs import subprog_at

if TYPE_CHECKING:
    from skep.verifier.env import Env
    from skep.verifier.precision import Backtrack

_TAIL_CALL: Final = 12
_SPIN_UNLOCK: Final = 94


def clobber(env: Env, frame: Frame) -> None:
    """After a call r0 to r5 hold nothing."""
    regs, ids = frame.regs, frame.ids
    nothing = env.nothing
    for r in range(6):
        regs[r] = nothing
        ids[r] = 0


def _pass_args(env: Env, caller: Frame, callee: Frame) -> None:
    for r in range(1, 6):
        callee.regs[r] = caller.regs[r]
        callee.ids[r] = caller.ids[r]


class CallSubprog(Insn):
    """A call of one of the program's own functions."""

    __slots__ = ("target",)

    def __init__(self, pc: int, opcode: int, imm: int) -> None:
        super().__init__(pc, opcode, 0, op.BPF_PSEUDO_CALL, 0, imm)
        self.target = pc + 1 + imm
        self.touch = -1

    def step(self, env: Env, st: State) -> int:
        env.jmps_processed += 1
        if st.locks:
            env.check_call_under_lock(self)
        number = subprog_at(env, self.target)
        sub = env.subprogs[number]
        if sub.is_global:
            from skep.verifier.globals import check_global_call

            check_global_call(env, st, number)
            if sub.might_throw and env.mended:
                env.push_branch(self.next, self.pc)
                check_resources(env, st, "bpf_throw", True)
                return PATH_END
            return self.next
        caller = st.frame
        enter_function(env, st, number, self.pc, _pass_args)
        clobber(env, caller)
        env.live.enter(st)
        return sub.start

    def back(self, env: Env, bt: Backtrack, note: Note | None, following: int) -> bool:
        frame = bt.frame
        number = subprog_at(env, self.target)
        if env.subprogs[number].is_global:
            bt.regs[frame] &= ~1
            return not bt.regs[frame] & ARGS
        if frame == 0 or bt.regs[frame] & ~ARGS or bt.slots[frame]:
            return False
        bt.regs[frame - 1] |= bt.regs[frame]
        bt.regs[frame] = 0
        bt.frame -= 1
        return True


class CallHelper(Insn):
    """A call of a helper."""

    __slots__ = ()

    def __init__(self, pc: int, opcode: int, imm: int) -> None:
        super().__init__(pc, opcode, 0, 0, 0, imm)
        self.touch = -1

    def step(self, env: Env, st: State) -> int:
        env.jmps_processed += 1
        if st.locks:
            env.check_call_under_lock(self)
        live = env.live.current
        at = self.pc - live.start
        live.wrote = False
        helper_call.check_helper_call(env, self, self.imm)
        if live.seen[at] != 1 and not live.wrote:
            live.wrote_nothing(self.pc)
        if self.imm == _TAIL_CALL and len(st.frames) > 1:
            return tail_call_in_subprog(env, st, self)
        return self.next

    def back(self, env: Env, bt: Backtrack, note: Note | None, following: int) -> bool:
        return _call_back(self, bt, following, self.imm == _TAIL_CALL)


def tail_call_in_subprog(env: Env, st: State, insn: Insn) -> int:
    """A tail call that succeeds leaves the function, with any number for a result and another packet."""
    env.push_branch(insn.next, insn.pc)
    env.clear_packets()
    env.set_unknown(0)
    return leave_function(env, st)


class CallKfunc(Insn):
    """A call of a kernel function."""

    __slots__ = ()

    def __init__(self, pc: int, opcode: int, off: int, imm: int) -> None:
        super().__init__(pc, opcode, 0, op.BPF_PSEUDO_KFUNC_CALL, off, imm)
        self.touch = -1

    def step(self, env: Env, st: State) -> int:
        env.jmps_processed += 1
        if st.locks:
            env.check_call_under_lock(self)
        from skep.verifier.kfunc_call import check_kfunc_call

        live = env.live.current
        live.wrote = False
        thrown = check_kfunc_call(env, self)
        if not live.wrote:
            live.wrote_nothing(self.pc)
        if thrown:
            check_resources(env, st, "bpf_throw", True)
            return PATH_END
        return self.next

    def back(self, env: Env, bt: Backtrack, note: Note | None, following: int) -> bool:
        if not self.imm:
            return False
        return _call_back(self, bt, following, False)


def _call_back(insn: Insn, bt: Backtrack, following: int, tail_call: bool) -> bool:
    frame = bt.frame
    if insn.calls_callback and following != insn.pc + 1:
        # From a callback's first instruction back to the call: its arguments were made by the call.
        if frame == 0 or bt.regs[frame] & ~ARGS or bt.slots[frame]:
            return False
        bt.regs[frame] = 0
        bt.frame -= 1
        return True
    bt.regs[frame] &= ~1
    if bt.regs[frame] & ARGS:
        return False
    if tail_call and following != insn.pc + 1:
        bt.frame += 1
    return True


class Exit(Insn):
    """``exit``: back to the caller, or the end."""

    __slots__ = ()

    def __init__(self, pc: int, opcode: int, off: int) -> None:
        super().__init__(pc, opcode, 0, 0, off, 0)
        self.touch = -1

    def step(self, env: Env, st: State) -> int:
        env.jmps_processed += 1
        if len(st.frames) > 1:
            return leave_function(env, st)
        check_resources(env, st, "BPF_EXIT instruction in main prog", False)
        check_return(env, st)
        return PATH_END

    def back(self, env: Env, bt: Backtrack, note: Note | None, following: int) -> bool:
        from_call = following >= 1 and isinstance(env.code[following - 1], CallSubprog)
        frame = bt.frame
        r0 = from_call and bt.regs[frame] & 1
        if from_call and bt.regs[frame] & ARGS:
            return False
        bt.regs[frame] &= ~1
        bt.frame += 1
        if bt.frame >= MAX_FRAMES:
            return False
        if r0:
            bt.regs[bt.frame] |= 1
        return True


def leave_function(env: Env, st: State) -> int:
    """Return from a function to where it was called."""
    callee = st.frame
    caller = st.frames[-2]
    value = callee.regs[0]
    if value.type == k.PTR_TO_STACK:
        env.reject("cannot return stack pointer to the caller")
    pc = callee.callsite
    callback = callee.in_callback
    if callback:
        if not isinstance(value, Scalar):
            env.use(0)
            env.reject("R0 not a scalar value")
        mark_precise(env, 0)
        low, high = callee.callback_ret
        if not (low <= value.smin and value.smax <= high):
            refuse_range(env, value, low, high, "At callback return", "R0")
    else:
        caller.regs[0] = value
        caller.ids[0] = callee.ids[0]
        pc += 1
    env.live.update(st)
    st.frames.pop()
    st.enter(caller)
    env.live.enter(st)
    if callback:
        from skep.verifier.widen import previous_entry, widen_imprecise

        before = previous_entry(env, st, pc)
        if before is not None:
            widen_imprecise(env, before, st)
    return pc


def check_resources(env: Env, st: State, where: str, thrown: bool) -> None:
    """Nothing is held at the end (check_resource_leak)."""
    if st.locks:
        env.reject(f"{where} cannot be used inside bpf_spin_lock-ed region")
    value = st.regs[0]
    returned = 0
    if env.subject.prog_type == P.STRUCT_OPS and not thrown and isinstance(value, Ptr):
        returned = value.ref
    held = [row for row in st.refs if row.type == REF_PTR and row.id != returned]
    if held:
        lines = [f"Unreleased reference id={row.id} alloc_insn={row.insn}" for row in held]
        env.reject(lines[0], more="\n".join([*lines[1:], f"{where} would lead to reference leak"]))
    if st.irq_id:
        env.reject(f"{where} cannot be used inside bpf_local_irq_save-ed region")
    if st.rcu_locks:
        env.reject(f"{where} cannot be used inside bpf_rcu_read_lock-ed region")
    if st.preempt_locks:
        env.reject(f"{where} cannot be used inside bpf_preempt_disable-ed region")


def refuse_range(env: Env, value: Scalar, low: int, high: int, where: str, name: str) -> None:
    text = f"{where} the register {name} has"
    unknown = True
    if value.smin > -(1 << 63):
        text += f" smin={value.smin}"
        unknown = False
    if value.smax < (1 << 63) - 1:
        text += f" smax={value.smax}"
        unknown = False
    if unknown:
        text += " unknown scalar value"
    env.reject(f"{text} should have been in [{low}, {high}]")


def check_return(env: Env, st: State) -> None:
    """r0 at the end is a value that the program may return."""
    from skep.verifier.facts.returns import return_range, returns_nothing

    frame = st.frames[0]
    subprog = frame.subprog != 0
    subject = env.subject
    if (not subprog or frame.in_exception) and returns_nothing(subject):
        return
    if subprog and not frame.in_async and not frame.in_exception:
        from skep.verifier.globals import returns_void

        if returns_void(env, frame.subprog):
            return
    value = env.use(0)
    where = "At program exit"
    if frame.in_async:
        where = "At async callback return"
        low, high = frame.callback_ret
        _enforce(env, value, low, high, False, where)
        return
    if (
        not subprog
        and subject.prog_type == P.STRUCT_OPS
        and isinstance(value, Ptr)
        and _returns_kptr(env, value)
    ):
        return
    if value.type != k.SCALAR_VALUE and not env.leaks:
        env.reject("R0 leaks addr as return value")
    if subprog and not frame.in_exception:
        if value.type == k.PTR_TO_ARENA and env.kernel >= (7, 0):
            return
        if value.type != k.SCALAR_VALUE:
            env.reject(
                f"At subprogram exit the register R0 is not a scalar value ({k.kind_name(value.type)})"
            )
        return
    limits = return_range(subject, env.kernel)
    if limits is None:
        return
    _enforce(env, value, limits.low, limits.high, limits.word, where)


def _returns_kptr(env: Env, value: Ptr) -> bool:
    return value.type & k.BASE_MASK == k.PTR_TO_BTF_ID and bool(value.ref)


def _enforce(env: Env, value: object, low: int, high: int, word: bool, where: str) -> None:
    if not isinstance(value, Scalar):
        kind = k.kind_name(value.type) if isinstance(value, Ptr) else "?"
        env.reject(f"{where} the register R0 is not a known value ({kind})")
    mark_precise(env, 0)
    if word:
        inside = low <= value.s32min and value.s32max <= high
    else:
        inside = low <= value.smin and value.smax <= high
    if not inside:
        refuse_range(env, value, low, high, where, "R0")


def ranged32(env: Env, s: Scalar, low: int, high: int) -> Scalar:
    """``s`` when its low 32 bits, sign-extended, lie between ``low`` and ``high``."""
    b = Bounds(s)
    b.s32min, b.s32max = max(b.s32min, low), min(b.s32max, high)
    b.smin, b.smax = max(b.smin, low), min(b.smax, high)
    b.sync()
    return b.intern(env.scalars)


_PACKET_LOADERS: Final = (P.SOCKET_FILTER, P.SCHED_CLS, P.SCHED_ACT)


def check_packet_load(env: Env, st: State, insn: Insn) -> int:
    """LD_ABS and LD_IND."""
    if env.subject.prog_type not in _PACKET_LOADERS:
        env.reject("BPF_LD_[ABS|IND] instructions not allowed for this program type")
    for frame in st.frames[1:]:
        if frame.in_callback:
            env.reject("cannot use BPF_LD_[ABS|IND] within callback")
    env.use(6)
    check_resources(env, st, "BPF_LD_[ABS|IND]", False)
    p = st.regs[6]
    if p.type != k.PTR_TO_CTX or not isinstance(p, Ptr):
        env.reject("at the time of BPF_LD_ABS|IND R6 != pointer to skb")
    if insn.opcode & op.MODE_MASK == op.BPF_IND:
        env.use(insn.src)
    from skep.verifier.mem import check_fixed_pointer

    check_fixed_pointer(env, 6, p, False)
    clobber(env, st.frame)
    env.set_unknown(0)
    if len(st.frames) > 1:
        env.push_branch(insn.next, insn.pc)
        env.set_reg(0, env.scalars.zero)
        return leave_function(env, st)
    return insn.next
