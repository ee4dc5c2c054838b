"""One check in progress: what every transfer function is given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NoReturn

from skep.errors import VerifierError
from skep.verifier import kinds as k
from skep.verifier.ptr import Ptr, Ptrs
from skep.verifier.scalar import Scalars
from skep.verifier.state import REF_PTR, Frame, Ref, Slot, State
from skep.verifier.subject import Subject
from skep.verifier.value import NotInit, Value

if TYPE_CHECKING:
    from collections.abc import Callable

    from skep.verifier.insn import Insn
    from skep.verifier.subprog import Subprog

MAX_INSNS: Final = 1_000_000
MAX_PENDING: Final = 8192
MAX_FRAMES: Final = 8
MAX_STACK: Final = 512


class Env:
    """The check of one subject.

    ``state`` is the path being followed and ``pc`` its instruction. Transfer functions read and replace
    registers through it, and `reject` when a rule is broken.
    """

    __slots__ = (
        "aux",
        "code",
        "explored",
        "gen",
        "insn_processed",
        "jmps_processed",
        "kernel",
        "live",
        "log",
        "log_level",
        "max_states_per_insn",
        "nothing",
        "pc",
        "peak_states",
        "pending",
        "prev_insn_processed",
        "prev_jmps_processed",
        "privileged",
        "ptrs",
        "scalars",
        "state",
        "states",
        "strict",
        "subject",
        "subprogs",
        "total_states",
    )

    def __init__(
        self,
        subject: Subject,
        *,
        kernel: tuple[int, int] = (6, 18),
        privileged: bool = True,
        strict: bool = False,
        log_level: int = 0,
    ) -> None:
        self.subject = subject
        self.kernel = kernel
        self.privileged = privileged
        self.strict = strict
        self.log_level = log_level
        self.log: list[str] = []
        self.scalars = Scalars()
        self.ptrs = Ptrs(self.scalars.zero)
        self.nothing = NotInit()
        self.state = State()
        self.pc = 0
        self.gen = 0
        self.code: list[Insn] = []
        self.subprogs: list[Subprog] = []

    # --- errors --------------------------------------------------------------------------------

    def reject(self, reason: str, hint: str | None = None) -> NoReturn:
        """The program breaks a rule at the current instruction; ``reason`` in the kernel's words."""
        raise VerifierError(reason, insn=self.pc, hint=hint)

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
        """Make every pointer that ``which`` picks unreadable (without privileges: any number)."""
        gone = self.nothing
        unknown = self.scalars.unknown

        def change(value: Value) -> Value:
            if isinstance(value, Ptr) and which(value):
                return gone if self.privileged else unknown
            return value

        self.replace(change)

    def clear_packets(self) -> None:
        """The packet may have moved: pointers into it are no longer any good."""
        self.forget(is_packet)

    # --- references ----------------------------------------------------------------------------

    def acquire(self, kind: int = REF_PTR, ptr: object = None) -> int:
        """Hold a new reference; its id."""
        id = self.new_id()
        self.state.refs = (*self.state.refs, Ref(kind, id, self.pc, ptr))
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
