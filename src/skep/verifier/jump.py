"""Jumps: decided where the numbers decide them, else both ways, each knowing what it implies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from skep.isa import opcodes as op
from skep.verifier import arith, compare
from skep.verifier import kinds as k
from skep.verifier.bounds import Bounds, s32
from skep.verifier.insn import Insn
from skep.verifier.nullness import checked, may_hold_lock, not_null
from skep.verifier.precision import DST_STACK, SRC_STACK, mark_precise, push_note
from skep.verifier.ptr import Ptr
from skep.verifier.scalar import U64, Scalar
from skep.verifier.state import ADD_CONST, ADD_CONST32, BASE_ID, REF_PTR, Note, Slot, State
from skep.verifier.value import Value

if TYPE_CHECKING:
    from skep.verifier.env import Env
    from skep.verifier.precision import Backtrack

_MAX_PACKET: Final = 0xFFFF
_MAX_LINKED: Final = 6
_REFLEXIVE: Final = (op.BPF_JEQ, op.BPF_JGE, op.BPF_JLE, op.BPF_JSGE, op.BPF_JSLE)
_PACKETS: Final = (k.PTR_TO_PACKET, k.PTR_TO_PACKET_META, k.PTR_TO_PACKET_END)


class Decision:
    """What a comparison of two numbers comes to: decided (`taken` 1 or 0), or both outcomes."""

    __slots__ = ("outcome", "taken")

    def __init__(self, taken: int, outcome: compare.Outcome | None) -> None:
        self.taken = taken
        self.outcome = outcome


_TAKEN: Final = Decision(1, None)
_NOT_TAKEN: Final = Decision(0, None)


def decide(env: Env, a: Scalar, b: Scalar, operation: int, narrow: bool, same: bool = False) -> Decision:
    if a.const and b.const:
        return _TAKEN if compare.holds(a.tv, b.tv, operation, narrow) else _NOT_TAKEN
    if same and env.kernel >= (7, 0) and operation != op.BPF_JSET:
        return _TAKEN if operation in _REFLEXIVE else _NOT_TAKEN
    if env.kernel < (6, 8):
        return _decide_old(env, a, b, operation, narrow)
    taken = compare.taken(a, b, operation, narrow)
    if taken >= 0:
        return Decision(taken, None)
    return Decision(-1, compare.refine(env.scalars, a, b, operation, narrow, same))


def _decide_old(env: Env, a: Scalar, b: Scalar, operation: int, narrow: bool) -> Decision:
    """As before Linux 6.8: only a comparison with a constant decides or teaches anything, or equality."""
    mask = 0xFFFF_FFFF if narrow else U64
    if not b.tm & mask:
        taken = compare.taken_by_constant(a, b, operation, narrow, env.kernel >= (6, 4))
        if taken >= 0:
            return Decision(taken, None)
        return Decision(-1, compare.refine(env.scalars, a, b, operation, narrow, edges=False))
    if not a.tm & mask:
        flipped = compare.flip(operation)
        if env.kernel >= (6, 4):
            taken = compare.taken_by_constant(b, a, flipped, narrow, True)
            if taken >= 0:
                return Decision(taken, None)
        swapped = compare.refine(env.scalars, b, a, flipped, narrow, edges=False)
        return Decision(-1, compare.Outcome(swapped.true_b, swapped.true_a, swapped.false_b, swapped.false_a))
    outcome = compare.Outcome(a, b, a, b)
    if not narrow and operation in (op.BPF_JEQ, op.BPF_JNE):
        learnt = compare.refine(env.scalars, a, b, op.BPF_JEQ, False, edges=False)
        if operation == op.BPF_JEQ:
            outcome = compare.Outcome(learnt.true_a, learnt.true_b, a, b)
        else:
            outcome = compare.Outcome(a, b, learnt.true_a, learnt.true_b)
    return Decision(-1, outcome)


class Goto(Insn):
    """``goto`` and ``gotol``."""

    __slots__ = ("target",)

    def __init__(self, pc: int, opcode: int, target: int, off: int, imm: int) -> None:
        super().__init__(pc, opcode, 0, 0, off, imm)
        self.target = target

    def step(self, env: Env, st: State) -> int:
        env.jmps_processed += 1
        return self.target


class JumpImm(Insn):
    """``if dst op imm goto``."""

    __slots__ = ("const", "memo", "narrow", "operation", "target")

    def __init__(
        self,
        pc: int,
        opcode: int,
        dst: int,
        off: int,
        imm: int,
        const: Scalar,
        memo: dict[Value, Decision],
    ) -> None:
        super().__init__(pc, opcode, dst, 0, off, imm)
        self.operation = opcode & op.OP_MASK
        self.narrow = opcode & op.CLASS_MASK == op.BPF_JMP32
        self.const = const
        self.memo = memo
        self.target = pc + 1 + off

    def step(self, env: Env, st: State) -> int:
        env.jmps_processed += 1
        dst = self.dst
        value = st.regs[dst]
        decision = self.memo.get(value)
        if decision is None:
            if not isinstance(value, Scalar):
                return self.pointer(env, st, value)
            decision = decide(env, value, self.const, self.operation, self.narrow)
            if not value.const:
                self.memo[value] = decision
        if decision.taken >= 0:
            mark_precise(env, dst)
            if decision.taken:
                if env.speculates:
                    env.speculate(self.next, self.pc)
                return self.target
            if env.speculates:
                env.speculate(self.target, self.pc)
            return self.next
        outcome = decision.outcome
        assert outcome is not None
        id = st.ids[dst]
        if id:
            linked = collect_linked(env, st, id, ())
            if len(linked) > 1:
                push_note(env, st, 0, linked)
            branch = env.push_branch(self.target, self.pc)
            branch.regs[dst] = outcome.true_a
            st.regs[dst] = outcome.false_a
            if len(linked) > 1:
                id = st.ids[dst]
                sync_linked(env, st, linked, outcome.false_a, id, dst)
                sync_linked(env, branch, linked, outcome.true_a, id, dst)
        else:
            branch = env.push_branch(self.target, self.pc)
            branch.regs[dst] = outcome.true_a
            st.regs[dst] = outcome.false_a
        return self.next

    def pointer(self, env: Env, st: State, value: Value) -> int:
        dst = self.dst
        if value.type == k.NOT_INIT:
            env.use(dst)
        assert isinstance(value, Ptr)
        if value.type == k.PTR_TO_STACK:
            push_note(env, st, DST_STACK)
        operation = self.operation
        zero = self.const.tv == 0
        if not self.narrow and zero and operation in (op.BPF_JEQ, op.BPF_JNE) and not_null(env, value):
            taken = operation == op.BPF_JNE
            if env.speculates:
                env.speculate(self.next if taken else self.target, self.pc)
            return self.target if taken else self.next
        branch = env.push_branch(self.target, self.pc)
        null_test = not self.narrow and zero and operation in (op.BPF_JEQ, op.BPF_JNE)
        if null_test and value.type & k.PTR_MAYBE_NULL:
            if operation == op.BPF_JEQ:
                _split_or_null(env, branch, st, value)
            else:
                _split_or_null(env, st, branch, value)
        elif not env.leaks:
            env.reject(f"R{dst} pointer comparison prohibited")
        return self.next


class JumpReg(Insn):
    """``if dst op src goto``."""

    __slots__ = ("memo", "narrow", "operation", "target")

    def __init__(
        self,
        pc: int,
        opcode: int,
        dst: int,
        src: int,
        off: int,
        memo: dict[tuple[Value, Value], Decision],
    ) -> None:
        super().__init__(pc, opcode, dst, src, off, 0)
        self.operation = opcode & op.OP_MASK
        self.narrow = opcode & op.CLASS_MASK == op.BPF_JMP32
        self.memo = memo
        self.target = pc + 1 + off
        self.touch = 1 << dst | 1 << src

    def step(self, env: Env, st: State) -> int:
        env.jmps_processed += 1
        dst, src = self.dst, self.src
        a, b = st.regs[dst], st.regs[src]
        decision = self.memo.get((a, b))
        if decision is None:
            if not isinstance(a, Scalar) or not isinstance(b, Scalar):
                return self.pointer(env, st, a, b)
            decision = decide(env, a, b, self.operation, self.narrow, dst == src)
            if not (a.const and b.const):
                self.memo[a, b] = decision
        if decision.taken >= 0:
            mark_precise(env, dst)
            mark_precise(env, src)
            return self.go(env, decision.taken == 1)
        outcome = decision.outcome
        assert outcome is not None
        linked: tuple[tuple[int, int, int], ...] = ()
        if st.ids[src]:
            linked = collect_linked(env, st, st.ids[src], ())
        if st.ids[dst]:
            linked = collect_linked(env, st, st.ids[dst], linked)
        if len(linked) > 1:
            push_note(env, st, 0, linked)
        branch = env.push_branch(self.target, self.pc)
        branch.regs[dst] = outcome.true_a
        branch.regs[src] = outcome.true_b
        st.regs[dst] = outcome.false_a
        st.regs[src] = outcome.false_b
        if len(linked) > 1:
            id = st.ids[src]
            if id:
                sync_linked(env, st, linked, outcome.false_b, id, src)
                sync_linked(env, branch, linked, outcome.true_b, id, src)
            id = st.ids[dst]
            if id:
                now, then = st.regs[dst], branch.regs[dst]
                assert isinstance(now, Scalar) and isinstance(then, Scalar)
                sync_linked(env, st, linked, now, id, dst)
                sync_linked(env, branch, linked, then, id, dst)
        return self.next

    def go(self, env: Env, taken: bool) -> int:
        if env.speculates:
            env.speculate(self.next if taken else self.target, self.pc)
        return self.target if taken else self.next

    def back(self, env: Env, bt: Backtrack, note: Note | None, following: int) -> bool:
        mask = bt.regs[bt.frame]
        if mask & self.touch:
            flags = note.flags if note is not None else 0
            if not flags & SRC_STACK:
                mask |= 1 << self.src
            if not flags & DST_STACK:
                mask |= 1 << self.dst
            bt.regs[bt.frame] = mask
        return True

    def pointer(self, env: Env, st: State, a: Value, b: Value) -> int:
        dst, src = self.dst, self.src
        if a.type == k.NOT_INIT:
            env.use(dst)
        if b.type == k.NOT_INIT:
            env.use(src)
        packets = a.type in _PACKETS and b.type in _PACKETS
        if not packets and b.type != k.SCALAR_VALUE and not env.leaks:
            env.reject(f"R{src} pointer comparison prohibited")
        flags = (SRC_STACK if b.type == k.PTR_TO_STACK else 0) | (
            DST_STACK if a.type == k.PTR_TO_STACK else 0
        )
        if flags:
            push_note(env, st, flags)
        taken = self.predict(env, a, b)
        if taken >= 0:
            if isinstance(a, Scalar):
                mark_precise(env, dst)
            if isinstance(b, Scalar):
                mark_precise(env, src)
            return self.go(env, taken == 1)
        branch = env.push_branch(self.target, self.pc)
        operation = self.operation
        if not self.narrow and isinstance(a, Ptr) and isinstance(b, Ptr):
            self.equal(env, st, branch, a, b)
        if self.tests_null(env, a, b):
            assert isinstance(a, Ptr)
            mark_precise(env, src)  # it is 0 on this path
            if operation == op.BPF_JEQ:
                _split_or_null(env, branch, st, a)
            else:
                _split_or_null(env, st, branch, a)
            return self.next
        if (
            (
                not (packets and isinstance(a, Ptr) and isinstance(b, Ptr))
                or not self.packets(env, st, branch, a, b, operation)
            )
            and a.type != k.SCALAR_VALUE
            and not env.leaks
        ):
            env.reject(f"R{dst} pointer comparison prohibited")
        return self.next

    def predict(self, env: Env, a: Value, b: Value) -> int:
        """Decided although a pointer is compared?"""
        operation = self.operation
        if self.narrow:
            return -1
        if a.type in _PACKETS and b.type in _PACKETS:
            assert isinstance(a, Ptr) and isinstance(b, Ptr)
            if b.type == k.PTR_TO_PACKET_END:
                packet = a
            elif a.type == k.PTR_TO_PACKET_END:
                packet = b
                operation = compare.flip(operation)
            else:
                return -1
            if packet.type == k.PTR_TO_PACKET_END or packet.aux >= 0:
                return -1
            if operation in (op.BPF_JLE, op.BPF_JGT):
                if packet.aux == k.BEYOND_PKT_END:
                    return 1 if operation == op.BPF_JGT else 0
            elif operation in (op.BPF_JLT, op.BPF_JGE):
                return 1 if operation == op.BPF_JGE else 0
            return -1
        if isinstance(a, Scalar):
            a, b = b, a
            operation = compare.flip(operation)
        if not isinstance(b, Scalar) or not b.const or b.tv or not not_null(env, a):
            return -1
        return 0 if operation == op.BPF_JEQ else 1 if operation == op.BPF_JNE else -1

    def tests_null(self, env: Env, a: Value, b: Value) -> bool:
        """A pointer compared with a register that holds 0: from 7.0 on as good as with 0 itself."""
        return bool(
            env.kernel >= (7, 0)
            and not self.narrow
            and self.operation in (op.BPF_JEQ, op.BPF_JNE)
            and a.type & k.PTR_MAYBE_NULL
            and isinstance(b, Scalar)
            and b.const
            and not b.tv
        )

    def equal(self, env: Env, st: State, branch: State, a: Ptr, b: Ptr) -> None:
        """A pointer equal to one that is not NULL is not NULL."""
        if a.type & k.BASE_MASK == k.PTR_TO_BTF_ID or b.type & k.BASE_MASK == k.PTR_TO_BTF_ID:
            return
        if self.operation == op.BPF_JEQ:
            same = branch
        elif self.operation == op.BPF_JNE:
            same = st
        else:
            return
        if not_null(env, a) and b.type & k.PTR_MAYBE_NULL:
            same.regs[self.src] = checked(env, b)
        if not_null(env, b) and a.type & k.PTR_MAYBE_NULL:
            same.regs[self.dst] = checked(env, a)

    def packets(self, env: Env, st: State, branch: State, a: Ptr, b: Ptr, operation: int) -> bool:
        """Compared with the packet's end: how much of the packet is there."""
        if operation not in (op.BPF_JGT, op.BPF_JLT, op.BPF_JGE, op.BPF_JLE):
            return False
        if (a.type == k.PTR_TO_PACKET and b.type == k.PTR_TO_PACKET_END) or (
            a.type == k.PTR_TO_PACKET_META and _is_start(b)
        ):
            packet, reg = a, self.dst
        elif (a.type == k.PTR_TO_PACKET_END and b.type == k.PTR_TO_PACKET) or (
            _is_start(a) and b.type == k.PTR_TO_PACKET_META
        ):
            packet, reg = b, self.src
            operation = compare.flip(operation)
        else:
            return False
        # packet > end: not taken, packet <= end is known; >=: not taken, packet < end.
        if operation == op.BPF_JGT:
            inside, outside, open_end = st, branch, False
        elif operation == op.BPF_JLE:
            inside, outside, open_end = branch, st, False
        elif operation == op.BPF_JGE:
            inside, outside, open_end = st, branch, True
        else:
            inside, outside, open_end = branch, st, True
        find_packet_range(env, inside, packet, open_end)
        if packet.type == k.PTR_TO_PACKET:
            mark = k.AT_PKT_END if open_end else k.BEYOND_PKT_END
            outside.regs[reg] = env.ptrs.moved(packet, packet.off, packet.var, packet.id, mark)
        return True


def _is_start(p: Ptr) -> bool:
    return p.type == k.PTR_TO_PACKET and not p.id and not p.off and p.var.const and not p.var.tv


def find_packet_range(env: Env, st: State, p: Ptr, open_end: bool) -> None:
    """``p`` is within the packet: so are all pointers of its id, as far as ``p``'s offset."""
    if p.off < 0 or (p.off == 0 and open_end):
        return
    if p.var.umax > _MAX_PACKET or p.var.umax + p.off > _MAX_PACKET:
        return
    reach = p.off + 1 if open_end else p.off
    type, id = p.type, p.id
    for frame in st.frames:
        for i, value in enumerate(frame.regs):
            if value.type == type and isinstance(value, Ptr) and value.id == id and value.aux < reach:
                frame.regs[i] = env.ptrs.moved(value, value.off, value.var, id, reach)
        mask = frame.held
        i = 0
        while mask:
            if mask & 1:
                slot = frame.slots[i]
                if slot is not None and slot.value is not None and slot.value.type == type:
                    value = slot.value
                    if isinstance(value, Ptr) and value.id == id and value.aux < reach:
                        new = env.ptrs.moved(value, value.off, value.var, id, reach)
                        frame.slots[i] = env.spilled(new)
            mask >>= 1
            i += 1


def _split_or_null(env: Env, null: State, other: State, p: Ptr) -> None:
    """Two copies of a state: in ``null`` all pointers of ``p``'s id are NULL, in ``other`` they are not."""
    id = p.id
    if p.ref and p.ref == id:
        null.refs = tuple([row for row in null.refs if not (row.id == id and row.type == REF_PTR)])
    zero = env.scalars.zero
    known: dict[int, Value] = {}
    for number, frame in enumerate(null.frames):
        twin = other.frames[number]
        regs = frame.regs
        for i, value in enumerate(regs):
            if value.type & k.PTR_MAYBE_NULL and isinstance(value, Ptr) and value.id == id:
                regs[i] = zero
                frame.ids[i] = 0
                twin.regs[i] = _resolved(env, value, known)
                twin.ids[i] = 0
        mask = frame.held
        i = 0
        while mask:
            if mask & 1:
                slot = frame.slots[i]
                if slot is not None and slot.value is not None:
                    value = slot.value
                    if value.type & k.PTR_MAYBE_NULL and isinstance(value, Ptr) and value.id == id:
                        frame.slots[i] = env.spilled(zero)
                        twin.slots[i] = env.spilled(_resolved(env, value, known))
            mask >>= 1
            i += 1


def _resolved(env: Env, p: Ptr, known: dict[int, Value]) -> Value:
    """``p``, which is not NULL."""
    found = known.get(p.num)
    if found is None:
        new = checked(env, p)
        if not may_hold_lock(new):
            new = env.ptrs.with_ids(new, 0, new.ref)
        found = known[p.num] = new
    return found


# --- linked numbers ----------------------------------------------------------------------------


def collect_linked(
    env: Env, st: State, id: int, found: tuple[tuple[int, int, int], ...]
) -> tuple[tuple[int, int, int], ...]:
    """Where numbers of the id are: (frame, slot, register or -1); those past the sixth lose their id."""
    id &= BASE_ID
    out = list(found)
    for number in range(len(st.frames) - 1, -1, -1):
        frame = st.frames[number]
        ids = frame.ids
        at = env.pc if number == len(st.frames) - 1 else st.frames[number + 1].callsite
        for reg in env.code[at].live:
            if ids[reg] and ids[reg] & BASE_ID == id:
                if len(out) < _MAX_LINKED:
                    out.append((number, 0, reg))
                else:
                    ids[reg] = 0
        mask = frame.linked
        spi = 0
        while mask:
            if mask & 1:
                slot = frame.slots[spi]
                if slot is not None and slot.id and slot.id & BASE_ID == id:
                    if len(out) < _MAX_LINKED:
                        out.append((number, spi, -1))
                    else:
                        frame.slots[spi] = Slot(slot.types, slot.value, 0)
            mask >>= 1
            spi += 1
    return tuple(out)


def sync_linked(
    env: Env,
    st: State,
    linked: tuple[tuple[int, int, int], ...],
    known: Scalar,
    known_id: int,
    known_reg: int,
) -> None:
    """``known`` was learned of register ``known_reg`` of the current frame: tell those that share its id."""
    here = len(st.frames) - 1
    base = known_id & BASE_ID
    for number, spi, reg in linked:
        frame = st.frames[number]
        if reg >= 0:
            if number == here and reg == known_reg:
                continue
            id = frame.ids[reg]
            if id & BASE_ID != base or frame.regs[reg].type != k.SCALAR_VALUE:
                continue
            if (id ^ known_id) & ADD_CONST == ADD_CONST:
                continue
            value, new_id = _synced(env, known, known_id, id)
            frame.regs[reg] = value
            frame.ids[reg] = new_id
        else:
            slot = frame.slots[spi]
            if slot is None or slot.id & BASE_ID != base:
                continue
            if (slot.id ^ known_id) & ADD_CONST == ADD_CONST:
                continue
            value, new_id = _synced(env, known, known_id, slot.id)
            frame.slots[spi] = Slot(slot.types, value, new_id)


def _synced(env: Env, known: Scalar, known_id: int, id: int) -> tuple[Scalar, int]:
    mine, theirs = s32(id >> 32), s32(known_id >> 32)
    if mine == theirs:
        return known, known_id
    b = Bounds(known)
    arith.add(b, env.scalars.const((mine - theirs) & U64))
    if (id | known_id) & ADD_CONST32:
        b.zext()
    b.sync()
    return b.intern(env.scalars), id


class MayGoto(Insn):
    """``may_goto``: falls through any number of times, then jumps."""

    __slots__ = ("target",)

    def __init__(self, pc: int, opcode: int, off: int) -> None:
        super().__init__(pc, opcode, 0, 0, off, 0)
        self.target = pc + 1 + off
        self.is_may_goto = True

    def step(self, env: Env, st: State) -> int:
        env.jmps_processed += 1
        from skep.verifier.widen import previous_entry, widen_imprecise

        before = previous_entry(env, st.parent.state, self.pc) if st.parent is not None else None
        queued = env.push_branch(self.next, self.pc)
        queued.may_goto_depth += 1
        if before is not None:
            widen_imprecise(env, before, queued)
        return self.target
