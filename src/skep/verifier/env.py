"""One check in progress: what every transfer function is given."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, NoReturn

from skep.errors import VerifierError
from skep.verifier import kinds as k
from skep.verifier.equal import Idmap
from skep.verifier.facts.limits import limits
from skep.verifier.precision import Backtrack
from skep.verifier.printer import Printer
from skep.verifier.ptr import Ptr, Ptrs
from skep.verifier.rights import ALL, Rights
from skep.verifier.scalar import Scalar, Scalars
from skep.verifier.state import ALL_SPILL, REF_PTR, Frame, Ref, Slot, State
from skep.verifier.subject import MapFacts, Subject
from skep.verifier.value import NotInit, Value
from skep.verifier.version import MENDED, STABLE

if TYPE_CHECKING:
    from collections.abc import Callable

    from skep.verifier.annotate import Recorder
    from skep.verifier.facts.btfwalk import Found
    from skep.verifier.facts.context import CtxField
    from skep.verifier.facts.protos import Proto
    from skep.verifier.globals import ArgFacts
    from skep.verifier.insn import Insn
    from skep.verifier.live import Liveness
    from skep.verifier.prune import Loops
    from skep.verifier.strict import Strict
    from skep.verifier.subprogs import Subprog

MAX_STACK: Final = 512
#: references that no path can release any more: there are fewer registers and stack slots
MAX_REFS: Final = 16 * (11 + 64)
_MAX_SLOTS: Final = 100_000


class Env:
    """The check of one subject.

    ``state`` is the path being followed and ``pc`` its instruction. Transfer functions read and replace
    registers through it, and `reject` when a rule is broken.
    """

    __slots__ = (
        "alu_exact",
        "alu_states",
        "arg_tags",
        "backtrack",
        "bare",
        "bpf",
        "code",
        "cpus",
        "ctx_memo",
        "ctx_refs",
        "exception_subprog",
        "func_refs",
        "gen",
        "global_args",
        "half_slots",
        "has_calls",
        "idmap",
        "insn_processed",
        "jmps_processed",
        "kernel",
        "leaks",
        "linked_sums",
        "live",
        "log",
        "log_level",
        "loops_allowed",
        "map_calls",
        "max_frames",
        "max_insns",
        "max_pending",
        "mended",
        "more",
        "narrow_memo",
        "nospec",
        "nospec_after",
        "notes",
        "nothing",
        "pc",
        "peak_states",
        "pending",
        "percpu",
        "plain_memo",
        "plain_stack",
        "prev",
        "prev_insn_processed",
        "prev_jmps_processed",
        "printer",
        "protos",
        "ptrs",
        "range_memo",
        "reads_ahead",
        "recorder",
        "rights",
        "scalars",
        "sccs",
        "speculates",
        "spills",
        "spills_all",
        "start",
        "starts",
        "state",
        "states",
        "strict",
        "strict_alignment",
        "subject",
        "subprogs",
        "tail_maps",
        "throws",
        "too_new",
        "total_states",
        "uninit_ok",
        "walk_memo",
    )

    def __init__(
        self,
        subject: Subject,
        *,
        kernel: tuple[int, int] = (6, 18),
        rights: Rights = ALL,
        strict: Strict | None = None,
        log_level: int = 0,
    ) -> None:
        self.subject = subject
        self.kernel = kernel
        #: processors the kernel may have (what bpf_get_smp_processor_id stays below)
        self.cpus = os.cpu_count() or 1
        self.rights = rights
        #: what the host offers where it is no kernel, and stricter rules (see `strict`)
        self.strict = strict
        #: CAP_BPF: precision, loops, functions, large programs
        self.bpf = rights.bpf
        #: addresses may become numbers (allow_ptr_leaks)
        self.leaks = rights.perfmon and strict is None
        #: what a mispredicting processor might do counts (not bypass_spec_v1)
        self.speculates = not rights.perfmon and strict is None
        #: BPF_F_STRICT_ALIGNMENT
        self.strict_alignment = bool(subject.prog_flags & 1)
        #: stack that was never written may be read
        self.uninit_ok = self.leaks and (kernel >= (6, 3) or kernel in STABLE)
        #: stack below all that was written counts as stack that may be read
        self.reads_ahead = self.uninit_ok and (kernel >= (6, 8) or kernel == (6, 1))
        #: an aligned load from the stack, within 512 bytes, needs no further look
        self.plain_stack = self.bpf and self.leaks and self.reads_ahead
        #: every number that is stored to an aligned slot is remembered
        self.spills_all = kernel >= (6, 8)
        #: a number and the sum of it and a constant stay linked
        self.linked_sums = rights.bpf and kernel >= (6, 10)
        #: slots with instructions that the version refuses where a path reaches them
        self.too_new: dict[int, str] = {}
        #: no id survives a fill that extends the sign, no part of a packet is a function's plain memory
        self.mended = kernel >= MENDED or strict is not None
        #: half a slot of data and a number spilled there are compared as numbers
        self.half_slots = kernel >= (7, 0)
        self.loops_allowed = rights.bpf and kernel >= (5, 3)
        self.log_level = log_level
        self.log: list[str] = []
        #: what the kernel prints beside a refusal: before it, and after
        self.notes: list[str] = []
        self.more = ""
        self.printer = Printer(self)
        self.backtrack = Backtrack(0)
        self.idmap = Idmap()
        self.recorder: Recorder | None = None
        self.scalars = Scalars()
        self.ptrs = Ptrs(self.scalars.zero)
        self.nothing = NotInit()
        self.state = State.start()
        self.pc = 0
        #: the instruction before the current one, -1 at the start
        self.prev = -1
        self.gen = 0
        self.code: list[Insn] = []
        self.subprogs: list[Subprog] = []
        self.starts: list[int] = []
        self.has_calls = False
        self.exception_subprog = 0
        #: instructions reached that take a function's address -> its number
        self.func_refs: dict[int, int] = {}
        #: a path has come to bpf_throw
        self.throws = False
        self.pending: list[tuple[State, int]] = []
        self.live: Liveness = None  # type: ignore[assignment]  # set before any instruction is simulated
        self.sccs: Loops = None  # type: ignore[assignment]  # likewise
        self.start: Callable[[Env, Frame, int], None] | None = None
        most = limits(kernel, rights.bpf)
        self.max_insns = most.processed
        self.max_pending = most.pending
        self.max_frames = most.frames
        self.insn_processed = 0
        self.jmps_processed = 0
        self.prev_insn_processed = 0
        self.prev_jmps_processed = 0
        self.states = 0
        self.peak_states = 0
        self.total_states = 0
        self.ctx_memo: dict[tuple[int, int, bool, bool], CtxField] = {}
        self.ctx_refs: dict[int, int] = {}
        #: helpers that the program may call
        self.protos: dict[int, Proto] = {}
        #: where a barrier keeps mispredicted paths out, before the instruction or after it
        self.nospec: set[int] = set()
        self.nospec_after: set[int] = set()
        #: masks depend on the numbers added: states must agree in them exactly
        self.alu_exact = False
        #: without CAP_PERFMON: how an instruction that adds registers is masked
        self.alu_states: dict[int, tuple[int, int]] = {}
        self.walk_memo: dict[tuple[int, int, int, int, bool], Found] = {}
        #: (type of map, helper) that go together
        self.map_calls: set[tuple[int, int]] = set()
        #: bytes of a slot, without a value, that cover others
        self.plain_memo: dict[tuple[bytes, bytes], bool] = {}
        #: slots that hold a value without a scalar id, and slots without a value: one object each
        self.spills: dict[Value, Slot] = {}
        self.bare: dict[bytes, Slot] = {}
        self.range_memo: dict[tuple[int, int], Scalar] = {}
        self.narrow_memo: dict[tuple[Scalar, int, bool], Scalar] = {}
        #: tail calls, by slot, of a program loaded without CAP_PERFMON, and the map that each takes
        self.tail_maps: dict[int, MapFacts] = {}
        self.global_args: dict[int, list[ArgFacts]] = {}
        self.arg_tags: dict[int, dict[int, list[str]]] | None = None
        self.percpu: frozenset[int] | None = None

    # --- errors --------------------------------------------------------------------------------

    def reject(self, reason: str, hint: str | None = None, *, more: str = "") -> NoReturn:
        """The program breaks a rule at the current instruction; ``reason`` in the kernel's words.

        ``more`` are further lines that the kernel prints after it.
        """
        self.more = more
        raise VerifierError(reason, insn=self.pc, hint=hint)

    def refused(self, error: VerifierError) -> VerifierError:
        """The error with its source line and log."""
        source: str | None = None
        if error.insn is not None:
            row = self.subject.line(error.insn)
            if row is not None:
                source = f"{row.file}:{row.line}: {row.text.strip()}"
        lines = [*self.notes, error.reason]
        if self.more:
            lines.append(self.more)
        if self.log_level:
            self.printer.refused()
        log = self.text() + "\n".join(lines) + "\n"
        if self.insn_processed:
            log += self.summary()
        return VerifierError(error.reason, insn=error.insn, source=source, log=log, hint=error.hint)

    def text(self) -> str:
        """The log so far."""
        return "".join(self.log)

    def summary(self) -> str:
        """The last line of the kernel's log, as far as it does not depend on the machine."""
        return (
            f"processed {self.insn_processed} insns (limit {self.max_insns}) max_states_per_insn 0 "
            f"total_states {self.total_states} peak_states {self.peak_states} mark_read 0\n"
        )

    # --- paths ---------------------------------------------------------------------------------

    def push_branch(self, pc: int, prev: int) -> State:
        """Another path from here, at slot ``pc``, reached from ``prev``: a copy of the current state."""
        branch = self.state.copy()
        branch.insn = pc
        self._queue(branch, prev)
        return branch

    def push_async(self, pc: int, prev: int, subprog: int, sleepable: bool) -> State:
        """A path that runs function ``subprog`` by itself, later."""
        st = self.state
        branch = State.start()
        frame = Frame.start(-1, 0, subprog, self.nothing)
        frame.regs[10] = self.ptrs.make(k.PTR_TO_STACK)
        self.subprogs[subprog].entered = True
        branch.frames.append(frame)
        branch.enter(frame)
        branch.insn = pc
        branch.parent = st.parent
        branch.first_insn = st.first_insn
        branch.hist = st.hist
        branch.hist_len = st.hist_len
        branch.dfs_depth = st.dfs_depth
        branch.in_sleepable = sleepable
        self._queue(branch, prev)
        return branch

    def _queue(self, branch: State, prev: int) -> None:
        self.pending.append((branch, prev))
        if self.log_level:
            self.printer.pushed(branch)
        if len(self.pending) > self.max_pending:
            self.reject(f"The sequence of {len(self.pending)} jumps is too complex.")
        parent = branch.parent
        if parent is not None:
            parent.branches += 1

    def speculate(self, pc: int, prev: int) -> None:
        """The processor may run the other way of a branch that is decided (without privileges)."""
        from skep.verifier.speculation import speculate

        speculate(self, pc, prev)

    # --- context -------------------------------------------------------------------------------

    def in_sleepable(self) -> bool:
        """The program (or this callback) may sleep. Timers may not, whoever sets them (Linux 6.18)."""
        st = self.state
        if st.frames[0].in_async and self.kernel >= (6, 18):
            return st.in_sleepable
        return self.subject.sleepable or st.in_sleepable

    def in_rcu(self) -> bool:
        """Pointers that RCU protects stay valid here."""
        st = self.state
        if self.kernel >= MENDED and (st.preempt_locks or st.irq_id):
            return True
        return bool(st.rcu_locks or st.locks or not self.in_sleepable())

    def can_sleep(self) -> bool:
        """Nothing held forbids sleeping here."""
        st = self.state
        return not (st.rcu_locks or st.preempt_locks or st.locks or st.irq_id) and self.in_sleepable()

    def context(self) -> str:
        """What forbids sleeping here, in the kernel's words."""
        st = self.state
        if st.rcu_locks:
            return "rcu_read_lock region"
        if st.preempt_locks:
            return "non-preemptible region"
        if st.irq_id:
            return "IRQ-disabled region"
        if st.locks:
            return "lock region"
        return "non-sleepable prog"

    def check_call_under_lock(self, insn: Insn) -> None:
        """Few calls are allowed while a spin lock is held."""
        from skep.verifier.refs import check_call_under_lock

        check_call_under_lock(self, insn)

    def ctx_ref(self, off: int) -> int:
        """The reference that comes with the context's field at ``off``."""
        return self.ctx_refs.get(off, 0)

    def hold_ctx_refs(self) -> None:
        """References that the program is given with its context (struct_ops)."""
        if self.subject.prog_type != 27:
            return
        from skep.verifier.facts.context import ctx_access

        for off in range(0, 96, 8):
            found = ctx_access(self.subject, off, 8, False, self.kernel)
            if found is not None and found.ref:
                self.ctx_refs[off] = self.acquire()

    # --- registers -----------------------------------------------------------------------------

    def reg(self, n: int) -> Value:
        """Register ``n`` of the current frame, whatever it holds."""
        return self.state.regs[n]

    def use(self, n: int) -> Value:
        """Register ``n``, which must have been written ("R1 !read_ok")."""
        value = self.state.regs[n]
        if value.type == k.NOT_INIT:
            self.reject(f"R{n} !read_ok")
        return value

    def set_reg(self, n: int, value: Value, id: int = 0) -> None:
        """Write register ``n``; ``id`` is the scalar id (a pointer's id is in the pointer)."""
        self.state.regs[n] = value
        self.state.ids[n] = id

    def set_unknown(self, n: int) -> None:
        """Any number."""
        self.state.regs[n] = self.scalars.unknown
        self.state.ids[n] = 0

    def spilled(self, value: Value) -> Slot:
        """The slot with ``value`` in all its bytes, and no scalar id."""
        slot = self.spills.get(value)
        if slot is None:
            if len(self.spills) > _MAX_SLOTS:
                self.spills.clear()  # as with scalars: some are two objects then
            slot = self.spills[value] = Slot(ALL_SPILL, value, 0)
        return slot

    def bytes_slot(self, types: bytes) -> Slot:
        """The slot with such bytes, and no value."""
        slot = self.bare.get(types)
        if slot is None:
            slot = self.bare[types] = Slot(types)
        return slot

    def new_id(self) -> int:
        """A fresh id, for pointers and for linked scalars."""
        self.gen += 1
        return self.gen

    def frame_of(self, p: Ptr) -> Frame:
        """The frame that a stack pointer points into."""
        return self.state.frames[p.aux]

    # --- all registers and slots ---------------------------------------------------------------

    def replace(self, change: Callable[[Value], Value]) -> None:
        """Replace every register and spilled value of all frames by what ``change`` makes of it.

        ``change`` gives the same object back for those it leaves; it is not asked about numbers.
        """
        for frame in self.state.frames:
            regs = frame.regs
            for i, value in enumerate(regs):
                if value.type > 1:
                    new = change(value)
                    if new is not value:
                        regs[i] = new
                        frame.ids[i] = 0
            slots = frame.slots
            for i, slot in enumerate(slots):
                if slot is not None and slot.value is not None and slot.value.type > 1:
                    new = change(slot.value)
                    if new is not slot.value:
                        slots[i] = Slot(slot.types, new, 0)

    def forget(self, which: Callable[[Ptr], bool]) -> None:
        """Make every pointer that ``which`` picks any number (without privileges: unreadable)."""
        gone = self.nothing
        unknown = self.scalars.unknown

        def change(value: Value) -> Value:
            if isinstance(value, Ptr) and which(value):
                return unknown if self.leaks else gone
            return value

        self.replace(change)

    def clear_packets(self) -> None:
        """The packet may have moved: pointers into it are no longer any good."""
        gone = self.scalars.unknown if self.leaks else self.nothing
        for frame in self.state.frames:
            regs = frame.regs
            for i, value in enumerate(regs):
                if value.type > 1 and isinstance(value, Ptr) and is_packet(value):
                    regs[i] = gone
            mask = frame.held
            i = 0
            while mask:
                if mask & 1:
                    slot = frame.slots[i]
                    held = slot.value if slot is not None else None
                    if slot is not None and isinstance(held, Ptr) and is_packet(held):
                        frame.slots[i] = Slot(slot.types, gone)
                mask >>= 1
                i += 1

    # --- references ----------------------------------------------------------------------------

    def acquire(self, kind: int = REF_PTR, ptr: object = None) -> int:
        """Hold a new reference; its id."""
        id = self.new_id()
        refs = self.state.refs = (*self.state.refs, Ref(kind, id, self.pc, ptr))
        if len(refs) > MAX_REFS:
            first = refs[0]
            self.reject(
                f"Unreleased reference id={first.id} alloc_insn={first.insn}",
                more=f"{len(refs)} references are held, more than registers and stack can keep",
            )
        return id

    def find_ref(self, id: int, kinds: int = REF_PTR) -> Ref | None:
        """What is held under ``id``, if it is one of ``kinds``."""
        for row in self.state.refs:
            if row.id == id and row.type & kinds:
                return row
        return None

    def drop_ref(self, id: int, kinds: int = REF_PTR) -> bool:
        """Take ``id`` off the list of what is held; False when it is not there. Registers stay."""
        refs = self.state.refs
        kept = tuple([row for row in refs if not (row.id == id and row.type & kinds)])
        self.state.refs = kept
        return len(kept) != len(refs)

    def release(self, id: int) -> bool:
        """Release reference ``id``: no register that came with it may be used any more. False: not held."""
        if not self.drop_ref(id):
            return False
        self.forget(lambda p: p.ref == id)
        return True


def is_packet(p: Ptr) -> bool:
    """Whether a change of the packet takes the pointer away."""
    base = p.type & k.BASE_MASK
    if base in (k.PTR_TO_PACKET, k.PTR_TO_PACKET_META, k.PTR_TO_PACKET_END):
        return True
    return bool(p.type & (k.DYNPTR_TYPE_SKB | k.DYNPTR_TYPE_XDP | k.DYNPTR_TYPE_SKB_META))
