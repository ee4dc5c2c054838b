"""Which stack slots may still be read: what decides whether two states must agree on them.

While paths are followed, every access marks the slots that an instruction may read or must write, for the
chain of calls that led to it. When a path ends the marks are carried backward over the control flow, as
live variables are. A slot that is not live before a checkpoint's instruction is left out of the comparison.
The method is that of Linux 6.18 (kernel/bpf/liveness.c).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from skep.isa import opcodes as op

if TYPE_CHECKING:
    from skep.verifier.env import Env
    from skep.verifier.state import State
    from skep.verifier.subprogs import Subprog

_ALL: Final = (1 << 64) - 1
_TAIL_CALL: Final = 12
#: before, a function's writes to its caller's stack counted although a tail call in it leaves it before them;
#: what runs without a kernel must not believe that
TAIL_CALLS_LEAVE: Final = (6, 19)
#: a thousand times what the largest real programs need
MOST_WORK: Final = 10_000_000


class Marks:
    """The marks of one frame's stack, an entry for each instruction of a function."""

    __slots__ = ("live", "marked", "must_write", "read", "written")

    def __init__(self, count: int) -> None:
        self.read = [0] * count
        self.must_write = [0] * count
        #: must-writes of the instruction and all that follow it in the function; of callers' frames only
        self.written = [0] * count
        self.live = [0] * count
        #: instructions that read or write
        self.marked = bytearray(count)


class Instance:
    """A function called by one chain of calls; ``marks`` are those of its frame and of its callers'."""

    __slots__ = (
        "chain",
        "count",
        "dirty",
        "dropped",
        "frames",
        "marks",
        "seen",
        "start",
        "updated",
        "waiting",
        "wrote",
    )

    def __init__(self, chain: tuple[int, ...], start: int, count: int, frames: int) -> None:
        self.chain = chain
        self.start = start
        self.count = count
        self.frames = frames
        self.marks: list[Marks | None] = [None] * frames
        #: 0: not simulated here yet, 1: there was a time when it wrote nothing, 2: it has always written
        self.seen = bytearray(count)
        self.updated = False
        self.dropped = False
        #: for `_solve`: all zero between calls
        self.waiting = bytearray(count)
        #: instructions whose marks changed since they were carried backward
        self.dirty: set[int] = set()
        #: the current instruction has written stack
        self.wrote = False

    def of(self, frame: int) -> Marks:
        marks = self.marks[frame]
        if marks is None:
            marks = self.marks[frame] = Marks(self.count)
        return marks

    def read(self, frame: int, pc: int, mask: int) -> None:
        """The instruction may read the slots of ``mask``."""
        marks = self.marks[frame]
        if marks is None:
            marks = self.of(frame)
        at = pc - self.start
        old = marks.read[at]
        new = old | mask
        if new != old:
            marks.read[at] = new
            marks.marked[at] = 1
            if new & ~marks.live[at]:
                self.updated = True
                self.dirty.add(at)

    def write(self, frame: int, pc: int, mask: int) -> None:
        """The instruction, this time, wrote exactly the slots of ``mask`` of one frame and none of others."""
        self.wrote = True
        at = pc - self.start
        seen = self.seen[at]
        if seen > 1:
            for number, other in enumerate(self.marks):
                if number != frame and other is not None and other.must_write[at]:
                    other.must_write[at] = 0
                    self.updated = self.dropped = True
                    self.dirty.add(at)
        marks = self.marks[frame]
        if marks is None:
            if not mask:
                self.seen[at] = 1
                return
            marks = self.of(frame)
        old = marks.must_write[at]
        new = mask & old if seen else mask
        if new != old:
            marks.must_write[at] = new
            marks.marked[at] = 1
            self.updated = True
            self.dirty.add(at)
            if old & ~new:
                self.dropped = True
        self.seen[at] = 2 if new else 1

    def wrote_nothing(self, pc: int) -> None:
        """The instruction, this time, wrote no stack."""
        if self.seen[pc - self.start] != 1:
            self.write(0, pc, 0)


class Liveness:
    """All instances of one check. ``current`` is that of the state being followed, see `enter`."""

    __slots__ = ("_instances", "current", "env", "given_up", "work")

    def __init__(self, env: Env) -> None:
        self.env = env
        self._instances: dict[tuple[int, ...], Instance] = {}
        self.current = Instance((), 0, 0, 1)
        #: instructions that marks were carried over; beyond `MOST_WORK` every slot counts as read
        self.work = 0
        self.given_up = False

    def instance(self, st: State, frame: int) -> Instance:
        """The instance of frame number ``frame`` of ``st``."""
        frames = st.frames
        own = frames[frame]
        known = own.live
        if known is not None:
            return known
        subprog = own.subprog
        chain = (*[row.callsite for row in frames[1 : frame + 1]], -1, subprog)
        found = self._instances.get(chain)
        if found is None:
            sub = self.env.subprogs[subprog]
            found = Instance(chain, sub.start, sub.end - sub.start, frame + 1)
            self._instances[chain] = found
        own.live = found
        return found

    def enter(self, st: State) -> None:
        """Marks belong to the innermost function of ``st`` from now on."""
        self.current = self.instance(st, len(st.frames) - 1)

    def update(self, st: State) -> None:
        """Carry new marks backward, in every function that ``st`` is in."""
        if self.given_up:
            return
        for frame in range(len(st.frames) - 1, -1, -1):
            instance = self.instance(st, frame)
            if instance.updated:
                self._solve(instance)
                if frame:
                    self._outward(instance, self.instance(st, frame - 1), st.frames[frame].callsite)
                instance.updated = False
                instance.dropped = False

    def _solve(self, instance: Instance) -> None:
        """Carry what changed backward until nothing does."""
        sub = self.env.subprogs[instance.chain[-1]]
        edges, before_edges, tops = sub.edges, sub.before, sub.tops
        # Later instructions first: most functions are settled in one pass.
        first = sorted(instance.dirty)
        waiting = instance.waiting
        steps = 0
        own = instance.frames - 1
        for frame, marks in enumerate(instance.marks):
            if marks is None:
                continue
            read, must, live, marked = marks.read, marks.must_write, marks.live, marks.marked
            work = first[:]
            if frame != own:
                self._solve_written(instance, marks, sub)
            for at in work:
                waiting[at] = 1
            while work:
                at = work.pop()
                waiting[at] = 0
                steps += 1
                after = 0
                for s in edges[at]:
                    after |= live[s]
                before = after & ~must[at] | read[at]
                if before != live[at]:
                    live[at] = before
                    top = tops[at]
                    if top < at:
                        # Straight code: the same, back to the last instruction that reads or writes.
                        last = marked.rfind(1, top, at)
                        start = top if last < 0 else last + 1
                        if start < at:
                            live[start:at] = [before] * (at - start)
                        if last >= 0:
                            if not waiting[last]:
                                waiting[last] = 1
                                work.append(last)
                            continue
                        at = top
                    for p in before_edges[at]:
                        if not waiting[p]:
                            waiting[p] = 1
                            work.append(p)
        instance.dirty = set()
        self.work += steps
        self.given_up = self.work > MOST_WORK

    def _solve_written(self, instance: Instance, marks: Marks, sub: Subprog) -> None:
        """What is written from each instruction on, of a caller's frame: the call needs to know."""
        edges, before_edges = sub.edges, sub.before
        must, written = marks.must_write, marks.written
        leaving = self.env.kernel >= TAIL_CALLS_LEAVE or self.env.strict is not None
        work = sorted(instance.dirty)
        if instance.dropped:
            # What led to fewer writes counts as none, until it is found again.
            reset = set(work)
            todo = work[:]
            while todo:
                at = todo.pop()
                for p in before_edges[at] if written[at] else ():
                    if p not in reset:
                        reset.add(p)
                        todo.append(p)
                written[at] = 0
            work = sorted(reset)
        waiting = instance.waiting
        for at in work:
            waiting[at] = 1
        steps = 0
        while work:
            at = work.pop()
            waiting[at] = 0
            steps += 1
            acc = _ALL if edges[at] and not (leaving and self._leaves(instance.start + at)) else 0
            for s in edges[at]:
                acc &= written[s]
            acc |= must[at]
            if acc != written[at]:
                written[at] = acc
                for p in before_edges[at]:
                    if not waiting[p]:
                        waiting[p] = 1
                        work.append(p)
        self.work += steps

    def _leaves(self, pc: int) -> bool:
        """A tail call here: when it succeeds, nothing of what follows in the function is done."""
        insn = self.env.code[pc]
        return insn.opcode == op.CALL and not insn.src and insn.imm == _TAIL_CALL

    def _outward(self, inner: Instance, outer: Instance, callsite: int) -> None:
        """What a function does to its callers' frames, the call does."""
        at = callsite - outer.start
        seen = outer.seen[at]
        for frame in range(inner.frames - 1):
            marks = inner.marks[frame]
            mask = marks.written[0] if marks is not None else 0
            if marks is not None and marks.live[0]:
                outer.read(frame, callsite, marks.live[0])
            if not mask and not seen:
                continue
            target = outer.of(frame)
            old = target.must_write[at]
            new = mask & old if seen else mask
            if new != old:
                target.must_write[at] = new
                target.marked[at] = 1
                outer.updated = True
                outer.dirty.add(at)
                if old & ~new:
                    outer.dropped = True
        outer.seen[at] = 2

    def alive(self, st: State, pc: int) -> list[int]:
        """For each frame of ``st``, which is at slot ``pc``, the mask of its slots that may still be read."""
        count = len(st.frames)
        if self.given_up:
            return [_ALL] * count
        last = count - 1
        inner = self.instance(st, last)
        out = [0] * count
        for frame in range(count):
            marks = inner.marks[frame]
            if marks is not None:
                out[frame] = marks.live[pc - inner.start]
        code = self.env.code
        for i in range(last):
            callsite = st.frames[i + 1].callsite
            instance = self.instance(st, i)
            at = callsite - instance.start
            if not code[callsite].calls_callback:
                at += 1
            for frame in range(i + 1):
                marks = instance.marks[frame]
                if marks is not None and at < instance.count:
                    out[frame] |= marks.live[at]
        return out
