"""Loads, stores, atomic operations, 64-bit immediates, and the packet loads of old."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from skep.isa import opcodes as op
from skep.verifier import kinds as k
from skep.verifier import stack
from skep.verifier.facts.records import map_record
from skep.verifier.insn import Insn
from skep.verifier.mem import check_mem_access, narrow
from skep.verifier.precision import FRAME, FRAME_SHIFT, SPI, STACK_ACCESS
from skep.verifier.ptr import Ptr
from skep.verifier.scalar import Scalar
from skep.verifier.state import Note, State
from skep.verifier.subject import MapFacts
from skep.verifier.value import Value
from skep.verifier.version import FIXES, MENDED

if TYPE_CHECKING:
    from skep.verifier.env import Env
    from skep.verifier.precision import Backtrack


class Load(Insn):
    """``dst = *(size *)(src + off)``, zero- or sign-extended."""

    __slots__ = ("kinds", "memo", "signed", "size")

    def __init__(self, pc: int, opcode: int, dst: int, src: int, off: int, size: int, signed: bool) -> None:
        super().__init__(pc, opcode, dst, src, off, 0)
        self.size = size
        self.signed = signed
        self.touch = 1 << dst
        #: kinds of pointer it has loaded through: some are converted to other instructions, and must agree
        self.kinds = -1
        #: what was loaded through pointers that always give the same
        self.memo: dict[Value, Value] | None = None

    def step(self, env: Env, st: State) -> int:
        p = st.regs[self.src]
        memo = self.memo
        if memo is not None:
            known = memo.get(p)
            if known is not None:
                st.regs[self.dst] = known
                st.ids[self.dst] = 0
                return self.next
        if not isinstance(p, Ptr):
            env.use(self.src)
            env.reject(f"R{self.src} invalid mem access '{k.kind_name(p.type)}'")
        type = p.type
        if type != self.kinds:
            self.kinds = _agree(env, self.kinds, type, True)
        if type == k.PTR_TO_STACK and p.var is env.scalars.zero and env.plain_stack:
            off = p.off + self.off
            size = self.size
            if -512 <= off <= -size and not off & (size - 1):
                frame = st.frames[p.aux]
                if -off > 8 * len(frame.slots):
                    stack.grow(env, frame, -off)
                stack.read_fixed(env, frame, off, size, self.dst)
                if size < 8:
                    narrow(env, self.dst, size, self.signed)
                return self.next
        check_mem_access(env, self.src, self.off, self.size, False, self.dst, signed=self.signed)
        new = st.regs[self.dst]
        if (
            not st.ids[self.dst]
            and (new.type == 1 or (isinstance(new, Ptr) and not new.id and not new.ref))
            and _same_always(env, p)
        ):
            if memo is None:
                memo = self.memo = {}
            memo[p] = new
        return self.next

    def back(self, env: Env, bt: Backtrack, note: Note | None, following: int) -> bool:
        return _load_back(self.dst, bt, note)


def _same_always(env: Env, p: Ptr) -> bool:
    """Whether access through ``p``, once allowed, is allowed always and gives the same."""
    if env.speculates or not env.leaks:
        return False
    type = p.type
    if type == k.PTR_TO_MAP_VALUE:
        row = p.obj
        return isinstance(row, MapFacts) and not map_record(row).mask
    return type & k.BASE_MASK in _STEADY


_STEADY: Final = (
    k.PTR_TO_CTX,
    k.PTR_TO_PACKET,
    k.PTR_TO_PACKET_META,
    k.PTR_TO_MEM,
    k.PTR_TO_MAP_KEY,
    k.PTR_TO_FLOW_KEYS,
    k.PTR_TO_SOCKET,
    k.PTR_TO_SOCK_COMMON,
    k.PTR_TO_TCP_SOCK,
    k.PTR_TO_TP_BUFFER,
    k.PTR_TO_BUF,
)


def _load_back(reg: int, bt: Backtrack, note: Note | None) -> bool:
    mask = bt.regs[bt.frame]
    bit = 1 << reg
    if mask & bit:
        bt.regs[bt.frame] = mask & ~bit
        if note is not None and note.flags & STACK_ACCESS:
            bt.slots[note.flags >> FRAME_SHIFT & FRAME] |= 1 << (note.flags & SPI)
    return True


def _store_back(insn: Insn, bt: Backtrack, note: Note | None, from_register: bool) -> bool:
    if bt.regs[bt.frame] >> insn.dst & 1:
        return False  # a number used as an address: the difference of two pointers
    if note is None or not note.flags & STACK_ACCESS:
        return True
    frame = note.flags >> FRAME_SHIFT & FRAME
    bit = 1 << (note.flags & SPI)
    if bt.slots[frame] & bit:
        bt.slots[frame] &= ~bit
        if from_register:
            bt.regs[bt.frame] |= 1 << insn.src
    return True


def _agree(env: Env, before: int, type: int, mismatch_ok: bool) -> int:
    """The kind to remember for an instruction that has been used with ``before`` and now is with ``type``."""
    if before < 0:
        return type
    if before != type and (_mismatch(env, before) or _mismatch(env, type)):
        bases = (before & k.BASE_MASK, type & k.BASE_MASK)
        if mismatch_ok and all(base in _CAUGHT for base in bases):
            if k.PTR_TO_MEM not in bases:
                return k.PTR_TO_BTF_ID | k.PTR_UNTRUSTED
            if env.kernel >= _MEMORY_TOO:
                faults = _may_fault(before) or _may_fault(type)
                return k.PTR_TO_MEM | (k.MEM_RDONLY | k.PTR_UNTRUSTED if faults else 0)
        env.reject("same insn cannot be used with different pointers")
    return before


#: loads through these may be ones that the kernel catches, together since 6.17
_CAUGHT: Final = (k.PTR_TO_MEM, k.PTR_TO_BTF_ID)
_MEMORY_TOO: Final = (6, 17)


def _mismatch(env: Env, type: int) -> bool:
    """Accesses through such pointers become other instructions: one cannot serve two kinds."""
    if type & k.BASE_MASK == k.PTR_TO_MEM:
        return env.kernel >= FIXES and _may_fault(type)
    return type & k.BASE_MASK in (
        k.PTR_TO_CTX,
        k.PTR_TO_SOCKET,
        k.PTR_TO_SOCK_COMMON,
        k.PTR_TO_TCP_SOCK,
        k.PTR_TO_XDP_SOCK,
        k.PTR_TO_BTF_ID,
        k.PTR_TO_ARENA,
    )


class Store(Insn):
    """``*(size *)(dst + off) = src``."""

    __slots__ = ("allowed", "kinds", "size")

    def __init__(self, pc: int, opcode: int, dst: int, src: int, off: int, size: int) -> None:
        super().__init__(pc, opcode, dst, src, off, 0)
        self.size = size
        self.touch = 1 << dst
        self.kinds = -1
        #: pointers that may always be stored through
        self.allowed: set[Value] | None = None

    def step(self, env: Env, st: State) -> int:
        value = st.regs[self.src]
        if value.type == k.NOT_INIT:
            env.use(self.src)
        p = st.regs[self.dst]
        allowed = self.allowed
        if allowed is not None and p in allowed:
            live = env.live.current
            if live.seen[self.pc - live.start] != 1:
                live.wrote_nothing(self.pc)
            return self.next
        if p.type != self.kinds:
            if p.type == k.NOT_INIT:
                env.use(self.dst)
            if p.type == k.SCALAR_VALUE:
                env.reject(f"R{self.dst} invalid mem access 'scalar'")
            self.kinds = _agree(env, self.kinds, p.type, False)
        if isinstance(p, Ptr) and p.type == k.PTR_TO_STACK and p.var is env.scalars.zero:
            off = p.off + self.off
            size = self.size
            if -512 <= off <= -size and not off & (size - 1):
                frame = st.frames[p.aux]
                if -off > 8 * len(frame.slots):
                    stack.grow(env, frame, -off)
                stack.write_fixed(env, frame, off, size, value, self.src, False)
                return self.next
        check_mem_access(env, self.dst, self.off, self.size, True, self.src)
        if p.type != k.PTR_TO_STACK:
            env.live.current.wrote_nothing(self.pc)
            if isinstance(p, Ptr) and _same_always(env, p):
                if allowed is None:
                    allowed = self.allowed = set()
                allowed.add(p)
        return self.next

    def back(self, env: Env, bt: Backtrack, note: Note | None, following: int) -> bool:
        return _store_back(self, bt, note, True)


class StoreImm(Insn):
    """``*(size *)(dst + off) = imm``."""

    __slots__ = ("const", "kinds", "size")

    def __init__(self, pc: int, opcode: int, dst: int, off: int, imm: int, size: int, const: Scalar) -> None:
        super().__init__(pc, opcode, dst, 0, off, imm)
        self.size = size
        self.const = const
        self.touch = 1 << dst
        self.kinds = -1

    def step(self, env: Env, st: State) -> int:
        p = st.regs[self.dst]
        if p.type != self.kinds:
            if p.type == k.NOT_INIT:
                env.use(self.dst)
            if p.type == k.SCALAR_VALUE:
                env.reject(f"R{self.dst} invalid mem access 'scalar'")
            self.kinds = _agree(env, self.kinds, p.type, False)
        if p.type == k.PTR_TO_CTX and env.kernel < (6, 4):
            env.reject(f"BPF_ST stores into R{self.dst} ctx is not allowed")
        check_mem_access(env, self.dst, self.off, self.size, True, -1, imm=self.const, imm_zero=not self.imm)
        if p.type != k.PTR_TO_STACK:
            env.live.current.wrote_nothing(self.pc)
        return self.next

    def back(self, env: Env, bt: Backtrack, note: Note | None, following: int) -> bool:
        return _store_back(self, bt, note, False)


class Atomic(Insn):
    """Read-modify-write."""

    __slots__ = ("kinds", "size")

    def __init__(self, pc: int, opcode: int, dst: int, src: int, off: int, imm: int, size: int) -> None:
        super().__init__(pc, opcode, dst, src, off, imm)
        self.size = size
        self.kinds = -1
        self.touch = 1 << dst
        if imm & op.BPF_FETCH:
            self.touch |= 1 if imm == op.BPF_CMPXCHG else 1 << src

    def step(self, env: Env, st: State) -> int:
        dst, src = self.dst, self.src
        if self.size < 4:
            env.reject("invalid atomic operand size")
        env.use(src)
        env.use(dst)
        if self.imm == op.BPF_CMPXCHG:
            env.use(0)
            if st.regs[0].type != k.SCALAR_VALUE and not env.leaks:
                env.reject("R0 leaks addr into mem")
        if st.regs[src].type != k.SCALAR_VALUE and not env.leaks:
            env.reject(f"R{src} leaks addr into mem")
        check_atomic_pointer(env, dst)
        load = -1
        if self.imm & op.BPF_FETCH:
            load = 0 if self.imm == op.BPF_CMPXCHG else src
            env.set_unknown(load)
        check_mem_access(env, dst, self.off, self.size, False, -1, aligned=True)
        if load >= 0:
            check_mem_access(env, dst, self.off, self.size, False, load, aligned=True)
        self.kinds = _agree(env, self.kinds, st.regs[dst].type, False)
        check_mem_access(env, dst, self.off, self.size, True, -1, aligned=True)
        return self.next

    def back(self, env: Env, bt: Backtrack, note: Note | None, following: int) -> bool:
        if self.imm & op.BPF_FETCH:
            return _load_back(0 if self.imm == op.BPF_CMPXCHG else self.src, bt, note)
        return _store_back(self, bt, note, True)


def check_atomic_pointer(env: Env, reg: int) -> None:
    type = env.state.regs[reg].type
    if type in (
        k.PTR_TO_CTX,
        k.PTR_TO_PACKET,
        k.PTR_TO_PACKET_META,
        k.PTR_TO_FLOW_KEYS,
        k.PTR_TO_SOCKET,
        k.PTR_TO_SOCK_COMMON,
        k.PTR_TO_TCP_SOCK,
        k.PTR_TO_XDP_SOCK,
    ):
        env.reject(f"BPF_ATOMIC stores into R{reg} {k.kind_name(type)} is not allowed")


class LoadAcquire(Load):
    """``dst = load_acquire(src + off)``."""

    __slots__ = ()

    def step(self, env: Env, st: State) -> int:
        env.use(self.src)
        _check_acquire_pointer(env, self.src, "loads from")
        if env.kernel >= MENDED and _may_fault(st.regs[self.src].type):
            shown = k.kind_name(st.regs[self.src].type)
            env.reject(f"BPF_ATOMIC loads from R{self.src} {shown} is not allowed")
        return super().step(env, st)


def _may_fault(type: int) -> bool:
    """A plain load through such a pointer is one that the kernel catches."""
    return type == k.PTR_TO_BTF_ID or bool(type & k.PTR_UNTRUSTED)


class StoreRelease(Store):
    """``store_release(dst + off, src)``."""

    __slots__ = ()

    def step(self, env: Env, st: State) -> int:
        env.use(self.src)
        env.use(self.dst)
        _check_acquire_pointer(env, self.dst, "stores into")
        return super().step(env, st)


def _check_acquire_pointer(env: Env, reg: int, what: str) -> None:
    type = env.state.regs[reg].type
    if type in (k.PTR_TO_CTX, k.PTR_TO_PACKET, k.PTR_TO_PACKET_META, k.PTR_TO_FLOW_KEYS) or (
        k.PTR_TO_SOCKET <= type <= k.PTR_TO_TCP_SOCK or type == k.PTR_TO_XDP_SOCK
    ):
        env.reject(f"BPF_ATOMIC {what} R{reg} {k.kind_name(type)} is not allowed")


class LoadImm64(Insn):
    """``dst = imm ll``: a number, a map, an address in a map's value, a kernel variable, or a function."""

    __slots__ = ("value",)

    def __init__(self, pc: int, opcode: int, dst: int, src: int, imm: int, value: Value | None) -> None:
        super().__init__(pc, opcode, dst, src, 0, imm)
        self.next = pc + 2
        self.value = value
        self.touch = 1 << dst

    def step(self, env: Env, st: State) -> int:
        value = self.value
        if value is None:
            from skep.verifier.pseudo import load_pseudo

            value = self.value = load_pseudo(env, self)
        st.regs[self.dst] = value
        st.ids[self.dst] = 0
        return self.next

    def back(self, env: Env, bt: Backtrack, note: Note | None, following: int) -> bool:
        bt.regs[bt.frame] &= ~(1 << self.dst)
        return True


class LoadPacket(Insn):
    """The packet loads of classic BPF: the context in r6, the value in r0; ends the program past the end."""

    __slots__ = ("size",)

    def __init__(self, pc: int, opcode: int, src: int, imm: int, size: int) -> None:
        super().__init__(pc, opcode, 0, src, 0, imm)
        self.size = size
        self.touch = -1

    def step(self, env: Env, st: State) -> int:
        from skep.verifier.calls import check_packet_load

        return check_packet_load(env, st, self)

    def back(self, env: Env, bt: Backtrack, note: Note | None, following: int) -> bool:
        if bt.regs[bt.frame] & 1:
            return False
        if following != self.pc + 1:
            bt.frame += 1
        return True
