"""The state of a path: frames of registers and stack, what is held, where it came from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from skep.verifier.value import NotInit, Value

if TYPE_CHECKING:
    from skep.verifier.live import Instance

# What a byte of a stack slot holds. Index 0 of a slot's bytes is its highest address, as in the kernel.
INVALID: Final = 0
SPILL: Final = 1
MISC: Final = 2
ZERO: Final = 3
DYNPTR: Final = 4
ITER: Final = 5
IRQ_FLAG: Final = 6

ALL_INVALID: Final = bytes(8)
ALL_SPILL: Final = bytes([SPILL]) * 8
ALL_MISC: Final = bytes([MISC]) * 8
ALL_ZERO: Final = bytes([ZERO]) * 8
ALL_DYNPTR: Final = bytes([DYNPTR]) * 8
ALL_ITER: Final = bytes([ITER]) * 8
ALL_IRQ: Final = bytes([IRQ_FLAG]) * 8

REF_PTR: Final = 1 << 1
REF_IRQ: Final = 1 << 2
REF_LOCK: Final = 1 << 3
REF_RES_LOCK: Final = 1 << 4
REF_RES_LOCK_IRQ: Final = 1 << 5
REF_LOCK_MASK: Final = REF_LOCK | REF_RES_LOCK | REF_RES_LOCK_IRQ

#: A scalar's id, beside the value: the low bits are shared by numbers that are equal, but for a constant
#: that was added in 64 or in 32 bits; the constant (s32) is in the bits from 32 on.
BASE_ID: Final = (1 << 30) - 1
ADD_CONST32: Final = 1 << 30
ADD_CONST64: Final = 1 << 31
ADD_CONST: Final = ADD_CONST32 | ADD_CONST64


class Slot:
    """Eight bytes of stack: what each byte holds, and the value (with its scalar id) where one is spilled.

    Immutable: a store makes a new one. ``value`` is None unless a byte is SPILL, DYNPTR, ITER or IRQ_FLAG.
    """

    __slots__ = ("id", "types", "value")

    def __init__(self, types: bytes, value: Value | None = None, id: int = 0) -> None:
        self.types = types
        self.value = value
        self.id = id

    def __repr__(self) -> str:
        return f"Slot({self.types.hex()}, {self.value!r}, id={self.id})"


class Ref:
    """Something held: a reference, a lock, disabled interrupts. ``insn`` is where it was taken. Immutable."""

    __slots__ = ("id", "insn", "ptr", "type")

    def __init__(self, type: int, id: int, insn: int, ptr: object = None) -> None:
        self.type = type
        self.id = id
        self.insn = insn
        self.ptr = ptr


class Frame:
    """One function activation. ``ids`` are the scalar ids beside the registers (see `linked`)."""

    __slots__ = (
        "async_entry",
        "callback_depth",
        "callback_ret",
        "callsite",
        "frameno",
        "held",
        "ids",
        "in_async",
        "in_callback",
        "in_exception",
        "linked",
        "live",
        "regs",
        "slots",
        "subprog",
    )

    callsite: int
    frameno: int
    subprog: int
    regs: list[Value]
    ids: list[int]
    #: slot i is the eight bytes at fp-8*(i+1); None where nothing was stored
    slots: list[Slot | None]
    #: slots that may hold a pointer, and slots whose number may have an id (bit masks; others do not)
    held: int
    linked: int
    #: where the marks of its function's stack are kept, once they were asked for
    live: Instance | None
    in_callback: bool
    in_async: bool
    in_exception: bool
    async_entry: int
    callback_depth: int
    #: (lowest, highest) return value of a callback
    callback_ret: tuple[int, int]

    def __init__(self) -> None:
        """Empty: for `copy` and `start`, which set everything."""

    @staticmethod
    def start(callsite: int, frameno: int, subprog: int, nothing: NotInit) -> Frame:
        """The frame of a function that begins."""
        new = Frame()
        new.callsite = callsite
        new.frameno = frameno
        new.subprog = subprog
        new.regs = [nothing] * 11
        new.ids = [0] * 11
        new.slots = []
        new.held = new.linked = 0
        new.live = None
        new.in_callback = new.in_async = new.in_exception = False
        new.async_entry = new.callback_depth = 0
        new.callback_ret = (0, 0)
        return new

    def copy(self) -> Frame:
        new = Frame()
        new.callsite = self.callsite
        new.frameno = self.frameno
        new.subprog = self.subprog
        new.regs = self.regs[:]
        new.ids = self.ids[:]
        new.slots = self.slots[:]
        new.held = self.held
        new.linked = self.linked
        new.live = self.live
        new.in_callback = self.in_callback
        new.in_async = self.in_async
        new.in_exception = self.in_exception
        new.async_entry = self.async_entry
        new.callback_depth = self.callback_depth
        new.callback_ret = self.callback_ret
        return new


class Note:
    """A step that precision tracking must know of: where it came from, what it did beside its registers.

    ``insn`` was reached from ``prev``; ``flags`` (see `precision`) name a stack slot that it read or wrote,
    ``linked`` registers and slots that shared an id when it compared one. ``last`` is the note before.
    """

    __slots__ = (
        "asked_frame",
        "asked_regs",
        "asked_slots",
        "flags",
        "insn",
        "last",
        "linked",
        "prev",
        "skip",
        "stamp",
    )

    def __init__(
        self,
        last: Note | None,
        insn: int,
        prev: int,
        flags: int,
        linked: tuple[tuple[int, int, int], ...],
        stamp: int,
    ) -> None:
        self.last = last
        self.insn = insn
        self.prev = prev
        self.flags = flags
        #: (frame, slot, register or -1)
        self.linked = linked
        #: the count of instructions processed when it was made
        self.stamp = stamp
        #: (a note some way back, the slots that it and all to here access, of this frame): `precision`
        self.skip: tuple[Note, int, int] | None = None
        #: what has been carried back past here already: registers and slots of one frame
        self.asked_frame = 0
        self.asked_regs = 0
        self.asked_slots = 0


class Visit:
    """A loop, entered by one chain of calls: the checkpoint it was entered at, and matches inside it."""

    __slots__ = ("backedges", "entry")

    def __init__(self) -> None:
        self.entry: Saved | None = None
        #: the checkpoint that was matched; what the match came from, as far as `precision` needs it; the slot
        self.backedges: list[tuple[Saved, State, int]] = []


class State:
    """A path being followed. ``frame`` is the innermost of ``frames``; ``regs``/``ids`` are its lists."""

    __slots__ = (
        "callback_unroll",
        "dfs_depth",
        "first_insn",
        "frame",
        "frames",
        "hist",
        "hist_len",
        "ids",
        "in_sleepable",
        "insn",
        "irq_id",
        "last_insn",
        "lock_id",
        "lock_ptr",
        "locks",
        "may_goto_depth",
        "parent",
        "preempt_locks",
        "rcu_locks",
        "refs",
        "regs",
        "speculative",
    )

    frames: list[Frame]
    frame: Frame
    regs: list[Value]
    ids: list[int]
    insn: int
    first_insn: int
    last_insn: int
    parent: Saved | None
    hist: Note | None
    hist_len: int
    refs: tuple[Ref, ...]
    locks: int
    lock_id: int
    lock_ptr: object
    preempt_locks: int
    rcu_locks: int
    irq_id: int
    in_sleepable: bool
    speculative: bool
    may_goto_depth: int
    callback_unroll: int
    dfs_depth: int

    def __init__(self) -> None:
        """Empty: for `copy` and `start`, which set everything."""

    @staticmethod
    def start() -> State:
        """A state without frames."""
        new = State()
        new.frames = []
        new.insn = new.first_insn = 0
        new.last_insn = -1
        new.parent = None
        new.hist = None
        new.hist_len = 0
        new.refs = ()
        new.locks = new.lock_id = new.preempt_locks = new.rcu_locks = new.irq_id = 0
        new.lock_ptr = None
        new.in_sleepable = new.speculative = False
        new.may_goto_depth = new.callback_unroll = new.dfs_depth = 0
        return new

    def enter(self, frame: Frame) -> None:
        """Make ``frame``, which is in ``frames``, the current one."""
        self.frame = frame
        self.regs = frame.regs
        self.ids = frame.ids

    def sites(self) -> tuple[int, ...]:
        """Where each function but the outermost was called from."""
        frames = self.frames
        if len(frames) == 1:
            return ()
        return tuple([frame.callsite for frame in frames])

    def copy(self) -> State:
        new = State()
        new.frames = [frame.copy() for frame in self.frames]
        new.insn = self.insn
        new.first_insn = self.first_insn
        new.last_insn = self.last_insn
        new.parent = self.parent
        new.hist = self.hist
        new.hist_len = self.hist_len
        new.refs = self.refs
        new.locks = self.locks
        new.lock_id = self.lock_id
        new.lock_ptr = self.lock_ptr
        new.preempt_locks = self.preempt_locks
        new.rcu_locks = self.rcu_locks
        new.irq_id = self.irq_id
        new.in_sleepable = self.in_sleepable
        new.speculative = self.speculative
        new.may_goto_depth = self.may_goto_depth
        new.callback_unroll = self.callback_unroll
        new.dfs_depth = self.dfs_depth
        new.enter(new.frames[-1])
        return new


class Saved:
    """A checkpoint: a state that later paths are compared with, and which of its numbers mattered.

    ``prec_regs``/``prec_slots`` are bit masks a frame of registers and stack slots whose exact value decided
    something later.
    """

    __slots__ = (
        "branches",
        "cleaned",
        "gone",
        "hint",
        "hint_frame",
        "hits",
        "kept",
        "last",
        "misses",
        "only",
        "parent",
        "prec_regs",
        "prec_slots",
        "refused",
        "sites",
        "state",
        "visit",
    )

    def __init__(self, state: State) -> None:
        self.state = state
        #: paths from here that have not ended yet
        self.branches = 1
        self.cleaned = False
        #: what last told another state from this one: a register, or a slot (from 16 on) of a frame
        self.hint = -1
        self.hint_frame = 0
        #: values (or slots) found there that it does not cover, whatever the rest is; immutable, so for good
        self.refused: set[object] = set()
        #: it covers this number there and no other; -1: see ``refused``
        self.only = -1
        #: for each frame the slots that must agree in something, once it is `cleaned`
        self.kept: list[list[int]] = []
        self.parent = state.parent
        self.hits = 0
        self.misses = 0
        #: given up as unlikely to match
        self.gone = False
        #: where its functions were called from
        self.sites = state.sites()
        #: the loop it is in, if it is in one
        self.visit: Visit | None = None
        count = len(state.frames)
        self.last = count - 1
        self.prec_regs = [0] * count
        self.prec_slots = [0] * count
