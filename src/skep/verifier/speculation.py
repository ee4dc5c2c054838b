"""Without privileges: pointer arithmetic that a mispredicting processor cannot be led astray with.

Linux masks the offset that is added, which it can only where every path adds to the same kind of pointer
with the same limit. Paths that only a misprediction takes are followed too: from 6.17 on a rule broken there
puts a barrier before the instruction and ends the path, before it refused the program. They count as
instructions, and a loop's end that is mispredicted may not end at all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from skep.errors import VerifierError
from skep.isa import opcodes as op
from skep.verifier import kinds as k
from skep.verifier import tnum
from skep.verifier.explore import end_path
from skep.verifier.precision import push_note, push_waypoint
from skep.verifier.prune import visited
from skep.verifier.ptr import Ptr
from skep.verifier.scalar import U32, Scalar
from skep.verifier.state import ALL_INVALID, MISC, ZERO
from skep.verifier.subject import MapFacts

if TYPE_CHECKING:
    from skep.verifier.env import Env
    from skep.verifier.insn import Insn
    from skep.verifier.state import Slot, State
    from skep.verifier.value import Value

_BARRIERS: Final = (6, 17)

_MAX_STACK: Final = 512
_PLAIN: Final = 1 << 4  # the instruction adds numbers only
_NEGATIVE: Final = 1
_IMMEDIATE: Final = 2
_TO_POINTER: Final = 4  # the pointer is the destination
_FROM_POINTER: Final = 8
_TAIL: Final = "pointer arithmetic with it prohibited for !root"


def speculate(env: Env, pc: int, prev: int) -> None:
    """The branch at ``prev`` is decided but may be mispredicted to ``pc``, whatever its operands hold."""
    branch = env.push_branch(pc, prev)
    branch.speculative = True
    insn = env.code[prev]
    regs = branch.regs
    touched = (insn.dst, insn.src) if insn.opcode & op.BPF_X else (insn.dst,)
    for number in touched:
        regs[number] = env.scalars.unknown
        branch.ids[number] = 0


def after_store(env: Env, old: Slot | None, at: int, size: int, value: Value | None) -> None:
    """A store to the stack that the processor may overtake: a barrier follows where that would matter."""
    types = ALL_INVALID if old is None else old.types
    spilled = value is not None and value.type != k.SCALAR_VALUE
    if spilled or any(types[(at - i) & 7] not in (MISC, ZERO) for i in range(size)):
        env.nospec_after.add(env.pc)


def follow(env: Env, pc: int) -> None:
    """The main loop (`explore`), with mispredicted paths and the barriers that end them."""
    st = env.state
    env.live.enter(st)
    prev = -1
    while True:
        insn = env.code[pc]
        env.insn_processed += 1
        env.pc = pc
        if env.insn_processed > env.max_insns:
            env.prev = prev
            env.reject(f"BPF program is too large. Processed {env.insn_processed} insn")
        env.prev = prev
        st.last_insn = prev
        ended = insn.prune_point and visited(env, st, insn)
        if ended and env.log_level:
            env.printer.safe(pc)
        if not ended:
            if insn.jmp_point:
                push_note(env, st, 0)
            elif insn.waypoint:
                push_waypoint(env, st)
            if env.log_level:
                env.printer.before(insn, prev)
            if env.recorder is not None and not st.speculative:
                env.recorder.note(insn, st, prev)
            prev = pc
            pc = _step(env, st, insn)
            ended = pc < 0
        elif env.recorder is not None and not st.speculative:
            env.recorder.edge(prev, pc)
        if ended:
            if not end_path(env):
                return
            st = env.state
            pc = st.insn
            prev = env.prev


def _step(env: Env, st: State, insn: Insn) -> int:
    """The next slot, -1 at the path's end."""
    if not st.speculative:
        return insn.step(env, st)
    if insn.pc in env.nospec:
        return -1
    try:
        following = insn.step(env, st)
    except VerifierError as error:
        if env.kernel < _BARRIERS or error.reason.startswith("The sequence of "):
            raise
        env.nospec.add(insn.pc)
        env.alu_states.pop(insn.pc, None)
        env.notes.clear()
        env.more = ""
        return -1
    return -1 if insn.pc in env.nospec_after else following


def sanitize_value(env: Env) -> None:
    """Two numbers are added by an instruction that must not add pointers on another path."""
    if env.pc not in env.nospec:
        _remember(env, env.pc, _PLAIN, 0)


def _remember(env: Env, pc: int, state: int, limit: int) -> None:
    known = env.alu_states.get(pc)
    if known is not None and known != (state, limit):
        insn = env.code[pc]
        word = "add" if insn.opcode & op.OP_MASK == op.BPF_ADD else "sub"
        env.reject(f"R{insn.dst} tried to {word} from different maps, paths or scalars, {_TAIL}")
    env.alu_states[pc] = (state, limit)


def check_pointer_bounds(
    env: Env, dst: int, p: Ptr, new: Ptr, s: Scalar, operation: int, ptr_is_dst: bool
) -> None:
    """``p operation s`` gave ``new`` in register ``dst``."""
    insn = env.code[env.pc]
    by_register = bool(insn.opcode & op.BPF_X) and env.pc not in env.nospec
    to_left = False
    before = 0
    if by_register and env.state.speculative:
        _truncated(env, dst, p, s, ptr_is_dst)
        by_register = False
    if by_register:
        if not s.const and (s.smin < 0) != (s.smax < 0):
            reg = dst if not ptr_is_dst else insn.src
            env.reject(f"R{reg} has unknown scalar with mixed signed bounds, {_TAIL}")
        to_left = (s.smin < 0) == (operation == op.BPF_ADD)
        before = _limit(env, dst, p, to_left, operation, insn.src if not ptr_is_dst else dst)
        if not s.const:
            env.alu_exact = True
        _truncated(env, dst, p, s, ptr_is_dst)
    _check_result(env, dst, new)
    if by_register:
        after = _limit(env, dst, new, to_left, operation, insn.src if not ptr_is_dst else dst)
        state = (
            (_NEGATIVE if s.smin < 0 else 0)
            | (_IMMEDIATE if s.const else 0)
            | (_TO_POINTER if ptr_is_dst else _FROM_POINTER)
        )
        _remember(env, env.pc, state, abs(before - after))


def _truncated(env: Env, dst: int, p: Ptr, s: Scalar, ptr_is_dst: bool) -> None:
    """Masking makes an offset that is out of its range 0: that path is followed as well."""
    if s.const:
        return
    branch = env.push_branch(env.pc + 1, env.pc)
    branch.speculative = True
    if not ptr_is_dst:
        branch.regs[dst] = p
        branch.ids[dst] = 0


def _limit(env: Env, dst: int, p: Ptr, to_left: bool, operation: int, reg: int) -> int:
    """How far the pointer may go towards the end of its object."""
    if p.type == k.PTR_TO_STACK:
        most = _MAX_STACK + (1 if to_left else 0)
        limit = -(p.var.tv + p.off) & U32
    elif p.type == k.PTR_TO_MAP_VALUE and isinstance(p.obj, MapFacts):
        most = p.obj.extent
        limit = ((p.var.smin if to_left else p.var.umax) + p.off) & U32
    else:
        env.reject(f"R{reg} has pointer with unsupported alu operation, {_TAIL}")
    if limit >= most:
        word = "add" if operation == op.BPF_ADD else "sub"
        env.reject(f"R{dst} tried to {word} beyond pointer bounds, {_TAIL}")
    return limit


def _check_result(env: Env, dst: int, p: Ptr) -> None:
    if p.type == k.PTR_TO_STACK:
        off = p.off + p.var.smin
        if not p.var.const:
            text = tnum.text(p.var.tv, p.var.tm)
            env.reject(f"R{dst} variable stack access prohibited for !root, var_off={text} off={p.off}")
        if not -_MAX_STACK <= off < 0:
            env.reject(f"R{dst} stack pointer arithmetic goes out of range, prohibited for !root; off={off}")
    elif p.type == k.PTR_TO_MAP_VALUE and isinstance(p.obj, MapFacts):
        from skep.verifier.mem import check_map

        try:
            check_map(env, dst, p, p.off, 1, False, direct=False)
        except VerifierError as error:
            text = f"R{dst} pointer arithmetic of map value goes out of range, prohibited for !root"
            more = f"{env.more}\n{text}" if env.more else text
            env.reject(error.reason, more=more)
