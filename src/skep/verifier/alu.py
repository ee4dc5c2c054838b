"""Arithmetic and moves. What numbers become is computed once for each pair of operands and remembered."""

from __future__ import annotations

from sys import byteorder
from typing import TYPE_CHECKING, Final

from skep.isa import opcodes as op
from skep.verifier import arith, division
from skep.verifier import kinds as k
from skep.verifier.bounds import Bounds
from skep.verifier.insn import Insn
from skep.verifier.pointers import add_scalar
from skep.verifier.precision import mark_precise
from skep.verifier.ptr import Ptr
from skep.verifier.scalar import S32_MAX, S32_MIN, U32, Scalar
from skep.verifier.state import ADD_CONST, ADD_CONST32, ADD_CONST64, Note, State
from skep.verifier.strict import one_object
from skep.verifier.value import Value

if TYPE_CHECKING:
    from skep.verifier.env import Env
    from skep.verifier.precision import Backtrack

SIGNS: Final = {
    op.BPF_ADD: "+=",
    op.BPF_SUB: "-=",
    op.BPF_MUL: "*=",
    op.BPF_DIV: "/=",
    op.BPF_OR: "|=",
    op.BPF_AND: "&=",
    op.BPF_LSH: "<<=",
    op.BPF_RSH: ">>=",
    op.BPF_NEG: "neg",
    op.BPF_MOD: "%=",
    op.BPF_XOR: "^=",
    op.BPF_ARSH: "s>>=",
}
_FORKING: Final = (op.BPF_AND, op.BPF_OR)
_DIVIDING: Final = (op.BPF_DIV, op.BPF_MOD)
_LINKING: Final = (op.BPF_ADD, op.BPF_SUB)
#: before, only these give a range where the second number is not known
_RANGES_BY_RANGES: Final = (6, 10)
_ALWAYS_RANGED: Final = (op.BPF_ADD, op.BPF_SUB, op.BPF_AND)
#: the stable 6.12 has it too
_FORKS_SINCE: Final = (6, 12)


class AluImm(Insn):
    """``dst op= imm``, and NEG."""

    __slots__ = ("const", "forks", "links", "memo", "operation", "wide")

    def __init__(
        self, pc: int, opcode: int, dst: int, off: int, imm: int, const: Scalar, memo: dict[Value, Value]
    ) -> None:
        super().__init__(pc, opcode, dst, 0, off, imm)
        self.operation = opcode & op.OP_MASK
        self.wide = opcode & op.CLASS_MASK == op.BPF_ALU64
        self.const = const
        self.memo = memo
        self.touch = 1 << dst
        self.links = self.operation in _LINKING
        self.forks = self.operation in _FORKING

    def step(self, env: Env, st: State) -> int:
        dst = self.dst
        value = st.regs[dst]
        new = self.memo.get(value)
        if new is None:
            if not isinstance(value, Scalar):
                return self.other(env, st, value)
            if self.forks and env.kernel >= _FORKS_SINCE and _fork(env, st, dst, value):
                value = st.regs[dst]
                assert isinstance(value, Scalar)
            if self.operation in _DIVIDING and env.kernel >= division.SINCE:
                new = division.by_constant(
                    env.scalars, self.operation, self.wide, bool(self.off), value, self.const
                )
            else:
                new = arith.alu(env.scalars, self.operation, self.wide, value, self.const)
            if not value.const and (not self.forks or not _forks(value)):
                self.memo[value] = new
        st.regs[dst] = new
        id = st.ids[dst]
        if id:
            if self.links and env.linked_sums:
                st.ids[dst] = _linked(self.operation, self.wide, id, value, self.const)
            else:
                st.ids[dst] = 0
        return self.next

    def other(self, env: Env, st: State, value: Value) -> int:
        if value.type == k.NOT_INIT:
            env.use(self.dst)
        if self.operation == op.BPF_NEG:
            if not env.leaks:
                env.reject(f"R{self.dst} pointer arithmetic prohibited")
            env.set_unknown(self.dst)
            return self.next
        if value.type == k.PTR_TO_ARENA:
            return self.next
        assert isinstance(value, Ptr)
        add_scalar(env, self.dst, self.operation, self.wide, value, self.const, True)
        moved = st.regs[self.dst]
        if not env.speculates and isinstance(moved, Ptr) and moved.id == value.id:
            self.memo[value] = moved
        return self.next


class AluReg(Insn):
    """``dst op= src``."""

    __slots__ = ("forks", "links", "memo", "operation", "wide")

    def __init__(
        self,
        pc: int,
        opcode: int,
        dst: int,
        src: int,
        off: int,
        memo: dict[tuple[Value, Value], Scalar],
    ) -> None:
        super().__init__(pc, opcode, dst, src, off, 0)
        self.operation = opcode & op.OP_MASK
        self.wide = opcode & op.CLASS_MASK == op.BPF_ALU64
        self.memo = memo
        self.touch = 1 << dst
        self.links = self.operation in _LINKING and dst != src
        self.forks = self.operation in _FORKING

    def step(self, env: Env, st: State) -> int:
        dst = self.dst
        regs = st.regs
        a = regs[dst]
        b = regs[self.src]
        if env.speculates and self.operation in _LINKING and a.type == b.type == k.SCALAR_VALUE:
            from skep.verifier.speculation import sanitize_value

            sanitize_value(env)
        new = self.memo.get((a, b))
        if new is None:
            if not isinstance(a, Scalar) or not isinstance(b, Scalar):
                return self.other(env, st, a, b)
            forks = self.forks and b.const and env.kernel >= _FORKS_SINCE and _forks(a)
            if forks:
                _fork(env, st, dst, a)
                a = regs[dst]
                assert isinstance(a, Scalar)
                if dst == self.src:
                    b = a
            if self.operation in _DIVIDING and env.kernel >= division.SINCE and b.const and not a.const:
                new = division.by_constant(env.scalars, self.operation, self.wide, bool(self.off), a, b)
            elif env.kernel < _RANGES_BY_RANGES and not b.const and self.operation not in _ALWAYS_RANGED:
                new = env.scalars.unknown
            else:
                new = arith.alu(env.scalars, self.operation, self.wide, a, b)
            if not forks and not (a.const and b.const):
                self.memo[a, b] = new
        regs[dst] = new
        id = st.ids[dst]
        if id:
            if self.links and env.linked_sums and isinstance(b, Scalar):
                st.ids[dst] = _linked(self.operation, self.wide, id, a, b)
            else:
                st.ids[dst] = 0
        return self.next

    def other(self, env: Env, st: State, a: Value, b: Value) -> int:
        dst, src = self.dst, self.src
        if b.type == k.NOT_INIT:
            env.use(src)
        if a.type == k.NOT_INIT:
            env.use(dst)
        if a.type == k.PTR_TO_ARENA or b.type == k.PTR_TO_ARENA:
            env.set_reg(dst, a if a.type == k.PTR_TO_ARENA else b)
            return self.next
        if isinstance(b, Scalar):
            assert isinstance(a, Ptr)
            mark_precise(env, src)
            add_scalar(env, dst, self.operation, self.wide, a, b, True)
        elif isinstance(a, Scalar):
            assert isinstance(b, Ptr)
            mark_precise(env, dst)
            add_scalar(env, dst, self.operation, self.wide, b, a, False)
        elif self.operation == op.BPF_SUB and (
            env.leaks or (env.strict is not None and self.wide and one_object(a, b))
        ):
            env.set_unknown(dst)
        else:
            env.reject(f"R{dst} pointer {SIGNS.get(self.operation, '')} pointer prohibited")
        return self.next

    def back(self, env: Env, bt: Backtrack, note: Note | None, following: int) -> bool:
        if bt.regs[bt.frame] >> self.dst & 1 and self.src != 10:
            bt.regs[bt.frame] |= 1 << self.src
        return True


class Swap(Insn):
    """Byte order: bits stay known, ranges do not."""

    __slots__ = ("memo", "swaps")

    def __init__(self, pc: int, opcode: int, dst: int, imm: int, memo: dict[Value, Scalar]) -> None:
        super().__init__(pc, opcode, dst, 0, 0, imm)
        self.memo = memo
        big = bool(opcode & op.BPF_X)
        self.swaps = opcode & op.CLASS_MASK == op.BPF_ALU64 or big == (byteorder == "little")

    def step(self, env: Env, st: State) -> int:
        value = st.regs[self.dst]
        new = self.memo.get(value)
        if new is None:
            if not isinstance(value, Scalar):
                env.use(self.dst)
                if not env.leaks:
                    env.reject(f"R{self.dst} pointer arithmetic prohibited")
                new = env.scalars.unknown
            else:
                new = arith.swap(env.scalars, value, self.imm, self.swaps)
                self.memo[value] = new
        st.regs[self.dst] = new
        if self.swaps or self.imm != 64:
            st.ids[self.dst] = 0
        return self.next


class Forget(Insn):
    """NEG before Linux 6.17 and byte swaps before 6.18: the result is any number."""

    __slots__ = ()

    def __init__(self, pc: int, opcode: int, dst: int, imm: int) -> None:
        super().__init__(pc, opcode, dst, 0, 0, imm)

    def step(self, env: Env, st: State) -> int:
        value = env.use(self.dst)
        if value.type != k.SCALAR_VALUE and not env.leaks:
            env.reject(f"R{self.dst} pointer arithmetic prohibited")
        env.set_unknown(self.dst)
        return self.next


class MovImm(Insn):
    """``dst = imm``, sign-extended or (32-bit) zero-extended."""

    __slots__ = ("const",)

    def __init__(self, pc: int, opcode: int, dst: int, imm: int, const: Scalar) -> None:
        super().__init__(pc, opcode, dst, 0, 0, imm)
        self.const = const
        self.touch = 1 << dst

    def step(self, env: Env, st: State) -> int:
        st.regs[self.dst] = self.const
        st.ids[self.dst] = 0
        return self.next

    def back(self, env: Env, bt: Backtrack, note: Note | None, following: int) -> bool:
        bt.regs[bt.frame] &= ~(1 << self.dst)
        return True


class MovReg(Insn):
    """``dst = src``, 64 bits: a number and its copy share an id from here on."""

    __slots__ = ()

    def __init__(self, pc: int, opcode: int, dst: int, src: int, off: int, imm: int) -> None:
        super().__init__(pc, opcode, dst, src, off, imm)
        self.touch = 1 << dst

    def step(self, env: Env, st: State) -> int:
        value = st.regs[self.src]
        type = value.type
        ids = st.ids
        if type == 1:
            assert isinstance(value, Scalar)
            id = ids[self.src]
            if id & ADD_CONST:
                id = ids[self.src] = 0
            if not id and not value.const:
                id = ids[self.src] = env.new_id()
            ids[self.dst] = id
        elif type == 0:
            env.use(self.src)
        else:
            ids[self.dst] = 0
        st.regs[self.dst] = value
        return self.next

    def back(self, env: Env, bt: Backtrack, note: Note | None, following: int) -> bool:
        return _move_back(self, bt)


def _move_back(insn: Insn, bt: Backtrack) -> bool:
    mask = bt.regs[bt.frame]
    bit = 1 << insn.dst
    if mask & bit:
        mask &= ~bit
        if insn.src != 10:
            mask |= 1 << insn.src
        bt.regs[bt.frame] = mask
    return True


class MovReg32(Insn):
    """``wdst = wsrc``."""

    __slots__ = ("memo",)

    def __init__(self, pc: int, opcode: int, dst: int, src: int, memo: dict[Value, Scalar]) -> None:
        super().__init__(pc, opcode, dst, src, 0, 0)
        self.memo = memo
        self.touch = 1 << dst

    def step(self, env: Env, st: State) -> int:
        value = st.regs[self.src]
        if not isinstance(value, Scalar):
            env.use(self.src)
            if not env.leaks:
                env.reject(f"R{self.src} partial copy of pointer")
            st.regs[self.dst] = env.scalars.of_size(4)
            st.ids[self.dst] = 0
            return self.next
        id = 0
        if value.umax <= U32:
            id = _id_for_copy(env, st, self.src, value)
        new = self.memo.get(value)
        if new is None:
            new = self.memo[value] = arith.zext32(env.scalars, value)
        st.regs[self.dst] = new
        st.ids[self.dst] = id
        return self.next

    def back(self, env: Env, bt: Backtrack, note: Note | None, following: int) -> bool:
        return _move_back(self, bt)


class MovSx(Insn):
    """``dst = (s8, s16, s32)src``, to 64 or to 32 bits."""

    __slots__ = ("bits", "wide")

    def __init__(self, pc: int, opcode: int, dst: int, src: int, off: int) -> None:
        super().__init__(pc, opcode, dst, src, off, 0)
        self.touch = 1 << dst
        self.wide = opcode & op.CLASS_MASK == op.BPF_ALU64
        self.bits = off

    def step(self, env: Env, st: State) -> int:
        value = st.regs[self.src]
        if not isinstance(value, Scalar):
            env.use(self.src)
            if not env.leaks:
                what = "sign-extension part of pointer" if self.wide else "partial copy of pointer"
                env.reject(f"R{self.src} {what}")
            st.regs[self.dst] = env.scalars.unknown if self.wide else env.scalars.of_size(4)
            st.ids[self.dst] = 0
            return self.next
        id = 0
        if value.umax < 1 << (self.bits - 1):
            id = _id_for_copy(env, st, self.src, value)
        extend = arith.sext64 if self.wide else arith.sext32
        st.regs[self.dst] = extend(env.scalars, value, self.bits >> 3)
        st.ids[self.dst] = id
        return self.next

    def back(self, env: Env, bt: Backtrack, note: Note | None, following: int) -> bool:
        return _move_back(self, bt)


class AddrSpaceCast(Insn):
    """``dst = addr_space_cast(src, …)``: to and from an arena pointer."""

    __slots__ = ()

    def __init__(self, pc: int, opcode: int, dst: int, src: int, imm: int) -> None:
        super().__init__(pc, opcode, dst, src, 1, imm)
        self.touch = 1 << dst

    def step(self, env: Env, st: State) -> int:
        env.use(self.src)
        if not any(row.type == 33 for row in env.subject.maps):
            env.reject("addr_space_cast insn can only be used in a program that has an associated arena")
        if self.imm == 1:
            env.set_reg(self.dst, env.ptrs.make(k.PTR_TO_ARENA))
        else:
            env.set_unknown(self.dst)
        return self.next

    def back(self, env: Env, bt: Backtrack, note: Note | None, following: int) -> bool:
        return _move_back(self, bt)


def _id_for_copy(env: Env, st: State, src: int, value: Scalar) -> int:
    id = st.ids[src]
    if id & ADD_CONST:
        id = st.ids[src] = 0
    if not id and not value.const:
        id = st.ids[src] = env.new_id()
    return id


def _linked(operation: int, wide: bool, id: int, before: Value, amount: Scalar) -> int:
    """The id of a number that shared one, after a constant was added or taken away."""
    if id & ADD_CONST or not isinstance(before, Scalar):
        return 0  # a second constant is one too many
    if wide:
        if not amount.const or not S32_MIN <= amount.smin <= S32_MAX:
            return 0
        delta = amount.smin
        flag = ADD_CONST64
    else:
        if amount.tm & U32 or before.umax > U32:
            return 0
        delta = amount.s32min
        flag = ADD_CONST32
    if operation == op.BPF_SUB:
        if delta == S32_MIN:
            return 0
        delta = -delta
    return id | flag | (delta & U32) << 32


def _forks(value: Scalar) -> bool:
    return (value.smin == -1 and value.smax == 0) or (value.s32min == -1 and value.s32max == 0)


def _fork(env: Env, st: State, dst: int, value: Scalar) -> bool:
    """0 or -1, as an arithmetic shift by all bits leaves it: follow each by itself."""
    if value.smin == -1 and value.smax == 0:
        zero, ones = env.scalars.zero, env.scalars.const(-1)
    elif value.s32min == -1 and value.s32max == 0:
        b = Bounds(value)
        b.known32(0)
        zero = b.intern(env.scalars)
        b = Bounds(value)
        b.known32(-1)
        ones = b.intern(env.scalars)
    else:
        return False
    branch = env.push_branch(env.pc, env.pc)
    branch.regs[dst] = zero
    st.regs[dst] = ones
    return True


def _agreed(env: Env, before: int, arena: bool) -> int:
    """What to remember of an instruction: 0 nothing yet, 1 that it had numbers, 2 addresses of an arena.

    Arithmetic on such addresses becomes that of 32 bits, so one instruction cannot serve numbers too.
    """
    now = 2 if arena else 1
    if before and before != now:
        env.reject("same insn cannot be used with and without arena pointer")
    return now


class AluImmArena(AluImm):
    """The same in a program with an arena, from Linux 7.3 on."""

    #: see `_agreed`
    used = 0

    def step(self, env: Env, st: State) -> int:
        self.used = _agreed(env, self.used, st.regs[self.dst].type == k.PTR_TO_ARENA)
        return super().step(env, st)


class AluRegArena(AluReg):
    """The same in a program with an arena, from Linux 7.3 on."""

    #: see `_agreed`
    used = 0

    def step(self, env: Env, st: State) -> int:
        arena = k.PTR_TO_ARENA in (st.regs[self.dst].type, st.regs[self.src].type)
        self.used = _agreed(env, self.used, arena)
        return super().step(env, st)
