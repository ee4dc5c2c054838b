"""An instruction, decoded for the check: `step` simulates it, `back` undoes it for precision tracking."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from skep.verifier.state import Note, Saved, State

if TYPE_CHECKING:
    from skep.verifier.env import Env
    from skep.verifier.precision import Backtrack

#: what `step` gives at the end of a path
PATH_END: Final = -1


class Insn:
    """One instruction at slot ``pc``; subclasses are its kinds.

    ``mark`` says that something is to be done before it: it is a prune point, a jump's target, or both.
    ``touch`` are the registers (a bit mask) that concern `back` when their value must be known precisely.
    ``waypoint`` asks for a note amid long straight code, so that walks back know where others have been.
    ``top`` is the start of the block of instructions that run one after another, and ``run`` what those
    from there to here touch (-1: look at each).
    ``live`` are the registers that may be read from here on, ``scc`` the number of the loop it is in, or 0.
    """

    __slots__ = (
        "calls_callback",
        "dead",
        "dst",
        "force_checkpoint",
        "imm",
        "is_iter_next",
        "is_may_goto",
        "jmp_point",
        "live",
        "live_mask",
        "mark",
        "next",
        "off",
        "opcode",
        "pc",
        "prune_point",
        "run",
        "saved",
        "scc",
        "seen",
        "src",
        "top",
        "touch",
        "waypoint",
    )

    def __init__(self, pc: int, opcode: int, dst: int, src: int, off: int, imm: int) -> None:
        self.pc = pc
        self.opcode = opcode
        self.dst = dst
        self.src = src
        self.off = off
        self.imm = imm
        self.next = pc + 1
        self.mark = False
        self.prune_point = False
        self.jmp_point = False
        self.force_checkpoint = False
        self.is_iter_next = False
        self.is_may_goto = False
        self.calls_callback = False
        self.seen = False
        self.scc = 0
        self.touch = 0
        self.top = pc
        self.waypoint = False
        self.run = -1
        self.live: tuple[int, ...] = tuple(range(11))
        self.live_mask = 0x7FF
        #: those below r10 that are not
        self.dead: tuple[int, ...] = ()
        #: checkpoints made here, newest first, by the call site of the innermost frame
        self.saved: dict[int, list[Saved]] = {}

    def step(self, env: Env, st: State) -> int:
        """Simulate; the slot that comes next, or PATH_END."""
        raise NotImplementedError  # each class of instructions has its own

    def back(self, env: Env, bt: Backtrack, note: Note | None, following: int) -> bool:
        """Turn what must be precise after the instruction into what must be before it.

        ``following`` is the slot that came next. False: not known how, everything must be precise.
        """
        return True


class Tail(Insn):
    """The second slot of a 64-bit immediate, which is never reached."""

    __slots__ = ()

    def step(self, env: Env, st: State) -> int:
        env.reject("unknown opcode 00")


class Bad(Insn):
    """An instruction that is refused when it is reached."""

    __slots__ = ("reads", "reason")

    def __init__(self, pc: int, opcode: int, dst: int, src: int, off: int, imm: int, reason: str) -> None:
        super().__init__(pc, opcode, dst, src, off, imm)
        self.reason = reason
        #: registers that are looked at before
        self.reads: tuple[int, ...] = ()

    def step(self, env: Env, st: State) -> int:
        for register in self.reads:
            env.use(register)
        env.reject(self.reason)
