"""Calls that call back: which do, and how the callback's state is made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from skep.isa import opcodes as op
from skep.isa.ebpf import Insn as RawInsn
from skep.verifier.state import Frame, State

if TYPE_CHECKING:
    from collections.abc import Callable

    from skep.verifier.env import Env
    from skep.verifier.insn import Insn

    SetState = Callable[[Env, Frame, Frame], None]

_SYNC: Final = (164, 180, 181, 209)  # for_each_map_elem, find_vma, loop, user_ringbuf_drain
_ASYNC: Final = (170,)  # timer_set_callback
#: helpers after which pointers into the packet are gone (bpf_helper_changes_pkt_data)
CHANGES_PACKET: Final = frozenset(
    (9, 10, 11, 12, 13, 18, 19, 31, 38, 39, 43, 44, 50, 54, 63, 65, 73, 74, 75, 76, 90, 91, 143, 144)
)
_ALL_ARGS: Final = 0b111110


class CallKind(NamedTuple):
    """What a call does beside calling."""

    sync_callback: bool = False
    is_async: bool = False
    iter_next: bool = False
    changes_packet: bool = False
    might_sleep: bool = False
    might_throw: bool = False


_PLAIN: Final = CallKind()


def call_kind(env: Env, raw: RawInsn) -> CallKind:
    """The kind of the call ``raw``, by its number or its kernel function's name."""
    if raw.src == 0:
        number = raw.imm
        if number in _SYNC:
            return CallKind(sync_callback=True)
        if number in _ASYNC:
            return CallKind(is_async=True)
        return CallKind(changes_packet=number in CHANGES_PACKET, might_sleep=_sleeps(env, number))
    if raw.src != op.BPF_PSEUDO_KFUNC_CALL:
        return _PLAIN
    row = env.subject.kfunc(raw.imm, raw.off)
    if row is None:
        return _PLAIN
    name = row.name
    return CallKind(
        sync_callback=name in ("bpf_rbtree_add_impl", "bpf_rbtree_add"),
        is_async=name.startswith(("bpf_wq_set_callback", "bpf_task_work_schedule_")),
        iter_next=name.startswith("bpf_iter_") and name.endswith("_next"),
        changes_packet=name == "bpf_xdp_pull_data",
        might_sleep=_kfunc_sleeps(name),
        might_throw=name == "bpf_throw",
    )


def _sleeps(env: Env, number: int) -> bool:
    from skep.verifier.facts.protos import proto

    subject = env.subject
    found = proto(subject.prog_type, number, subject.attach_type, subject.sleepable)
    return found is not None and found.might_sleep


def _kfunc_sleeps(name: str) -> bool:
    try:
        from skep.verifier.facts.kfuncs import sleeps
    except ImportError:
        return False
    return sleeps(name)


def argument_registers(env: Env, raw: RawInsn) -> int:
    """A mask of the registers that a call reads."""
    if raw.src == op.BPF_PSEUDO_CALL:
        return _ALL_ARGS
    if raw.src == op.BPF_PSEUDO_KFUNC_CALL:
        row = env.subject.kfunc(raw.imm, raw.off)
        if row is None:
            return _ALL_ARGS
        proto = row.btf[row.btf[row.btf_id][2]]
        return ((1 << min(5, len(proto[3]))) - 1) << 1
    from skep.verifier.facts.protos import proto as helper_proto

    subject = env.subject
    found = helper_proto(subject.prog_type, raw.imm, subject.attach_type, subject.sleepable)
    if found is None:
        return _ALL_ARGS
    count = 0
    for arg in found.args:
        if not arg.kind:
            break
        count += 1
    return ((1 << count) - 1) << 1


def push(
    env: Env,
    subprog: int,
    set_state: SetState,
    *,
    is_async: bool = False,
    sleepable: bool = False,
) -> State:
    """Queue a path that runs function ``subprog`` as a callback of the current call.

    ``set_state`` fills in the callee's registers and its ``in_callback``, ``callback_ret`` and so on. A
    synchronous callback returns to the call, which is simulated again; an asynchronous one runs by itself.
    """
    sub = env.subprogs[subprog]
    sub.is_callback = True
    st = env.state
    caller = st.frame
    if is_async:
        sub.is_async = True
        branch = env.push_async(sub.start, env.pc, subprog, sleepable)
        callee = branch.frames[0]
        callee.async_entry = caller.async_entry + 1
        set_state(env, caller, callee)
        return branch
    branch = env.push_branch(sub.start, env.pc)
    enter_function(env, branch, subprog, env.pc, set_state)
    branch.callback_unroll += 1
    branch.frames[-2].callback_depth += 1
    caller.callback_depth = 0
    return branch


def enter_function(env: Env, st: State, subprog: int, callsite: int, set_state: SetState) -> None:
    """Add a frame for function ``subprog``, called from slot ``callsite``."""
    if len(st.frames) >= env.max_frames:
        env.reject(f"the call stack of {len(st.frames) + 1} frames is too deep")
    caller = st.frame
    callee = new_frame(env, callsite, len(st.frames), subprog)
    set_state(env, caller, callee)
    st.frames.append(callee)
    st.enter(callee)


def new_frame(env: Env, callsite: int, number: int, subprog: int) -> Frame:
    """A frame that knows only its frame pointer."""
    frame = Frame.start(callsite, number, subprog, env.nothing)
    frame.regs[10] = env.ptrs.make(6, aux=number)
    env.subprogs[subprog].entered = True
    return frame


def calls_back(insn: Insn) -> bool:
    return insn.calls_callback
