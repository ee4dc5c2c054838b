"""One function of a program as LLVM IR, in SSA form from the start.

Blocks are visited in an order that keeps loops together. A block that is entered from behind gets phis for
the live registers that its loop writes; any other block only for those on which its predecessors disagree.
Simple loops are emitted twice, see `skep.jit.loops`.
"""

from __future__ import annotations

import sys
from typing import Any, Final, NamedTuple

from skep.isa import opcodes as op
from skep.jit import guard, kinds, loops
from skep.jit.body import Value
from skep.jit.cfg import BRANCH, BUDGET, EXIT, FALL, JUMP, MAY, REGISTERS, TURNS, Block
from skep.jit.insns import Instructions, Plan, parameters, result_type, results
from skep.jit.lanes import Done, Lanes
from skep.jit.memory import STACK, STRIDE, Facts
from skep.jit.search import straight
from skep.jit.vector import Turn, Unfit, Vectors

MAY_GOTO_TURNS: Final = 8 << 20  # BPF_MAX_LOOPS

#: Loops with more slots than this are emitted once: what is won per turn is small against the turn.
_MAX_LOOP: Final = 400

#: LLVM turns loops of a few blocks into straight code to vectorise them.
_MAX_VECTOR_BLOCKS: Final = 8

#: In programs of so many slots, a block is split after so many lines of IR: selecting instructions takes
#: LLVM a time that grows faster than a block.
_SPLIT_FROM: Final = 1_000
_MAX_LINES: Final = 64

#: In the same programs, what of every third slot is hidden from LLVM's analysis of known bits.
_SUMS: Final = frozenset(
    op.BPF_ALU64 | operation | source
    for operation in (op.BPF_ADD, op.BPF_SUB, op.BPF_OR, op.BPF_XOR)
    for source in (op.BPF_K, op.BPF_X)
)


class _Edge(NamedTuple):
    """An edge into a block: the label it comes from, the registers and the known bounds there."""

    label: str
    values: list[Value]
    facts: Facts


class _Loop:
    """An innermost loop with one entry and one jump back."""

    __slots__ = (
        "again",
        "asked",
        "before",
        "blocks",
        "compared",
        "cost",
        "count",
        "ends",
        "final",
        "first",
        "fork",
        "guard",
        "header",
        "latch",
        "left",
        "maybe",
        "most",
        "pause",
        "phis",
        "pre",
        "rest",
        "single",
        "steps",
        "test",
        "total",
        "touches",
        "uneven",
    )

    def __init__(self, header: int, latch: int, blocks: list[int], cost: int) -> None:
        self.header = header
        self.latch = latch
        self.blocks = blocks
        self.cost = cost  # of the jump back to the header
        self.most = cost  # of a turn, at most: other jumps back may be inside
        self.uneven = False  # there are some, so turns differ in what they cost
        self.first = 0  # values with smaller numbers are known before the loop
        self.pre: _Edge | None = None  # the registers before the loop
        self.phis: dict[int, str] = {}
        self.guard: list[str] = []  # lines of the guard
        self.count: list[str] = []  # the line that counts the fast copy's turns
        self.ends = ("", "")  # turns left at the end of one, and the label there
        self.again: list[str] = []  # the careful copy's jump back
        self.touches = False  # it loads or stores
        self.single = False  # only its last block leaves it
        self.steps: dict[int, int] = {}
        self.compared: loops.Comparison | None = None  # the condition for another turn
        self.test: loops.Test | None = None  # the same, if the guard has counted the turns
        self.total: Value = 0  # the guard's number of turns
        self.left = ""  # turns left at the start of one, in the fast copy
        self.before = ""  # the block from which the fast copy is entered
        self.asked: str | None = None  # what else its fast copy asks before it jumps back
        self.fork = 0  # where among the lines the fast copy's jump back is
        self.pause = ""  # the label where all guarded turns are over
        self.final: set[Value] = set()  # values of the fast copy's last turn that somebody reads after it
        self.maybe = True  # our own vectors are not made, nor is it in vain
        self.rest: Done | None = None  # where they leave turns to the fast copy

    @property
    def rewarding(self) -> bool:
        """Whether its fast copy may be vectorised."""
        return self.single and self.touches and self.maybe and len(self.blocks) <= _MAX_VECTOR_BLOCKS


class FunctionEmitter(Instructions):
    """Emits one function; `text` is the result."""

    def __init__(self, plan: Plan, key: int) -> None:
        super().__init__(plan, key)
        #: label of a block -> the edges into it
        self.edges: dict[str, list[_Edge]] = {}
        #: (lines to fill in, label, register -> name of its phi), in the end
        self.phis: list[tuple[list[str], str, dict[int, str]]] = []
        #: first slot of the block under emission
        self.here = 0
        self.written: dict[int, int] = {}
        self.loops = self._find_loops() if plan.checks and not plan.blind else {}
        self._latches = {loop.latch: loop for loop in self.loops.values()}
        #: whether some loop has got vectors
        self.vectors = False
        #: the loop whose fast copy is being emitted
        self.fast: _Loop | None = None
        for start, component in self.function.component.items():
            mask = plan.liveness.written[key, start]
            self.written[component] = self.written.get(component, 0) | mask
        # A loop with several ways in: they may bring different values even of what it leaves alone.
        entries: dict[int, set[int]] = {}
        for start, component in self.function.component.items():
            if start == self.function.entry or any(
                self.function.component[pred] != component for pred in self.function.preds[start]
            ):
                entries.setdefault(component, set()).add(start)
        for component, starts in entries.items():
            if len(starts) > 1:
                self.written[component] = (1 << REGISTERS) - 1

    def _find_loops(self) -> dict[int, _Loop]:
        """Header -> loop, for the loops that may get a fast copy."""
        function = self.function
        members: dict[int, list[int]] = {}
        for start in function.order:
            if start in function.component:
                members.setdefault(function.component[start], []).append(start)
        found = {}
        for blocks in members.values():
            headers = [start for start in blocks if start in function.headers]
            inside = set(blocks)
            if len(headers) != 1:
                continue
            header = headers[0]
            latches = [pred for pred in function.preds[header] if pred in inside]
            if len(latches) != 1 or any(
                pred not in inside for start in blocks if start != header for pred in function.preds[start]
            ):
                continue
            shapes = [function.blocks[start] for start in blocks]
            if any(block.kind == MAY or self._calls(block) for block in shapes):
                continue
            if sum(block.end - block.start for block in shapes) > _MAX_LOOP:
                continue
            latch = function.blocks[latches[0]]
            pays = self.plan.budget and latch.kind != FALL and header <= latch.at
            loop = _Loop(header, latch.start, blocks, latch.at - header + 1 if pays else 0)
            loop.single = all(
                block is latch or all(target in inside for target in block.targets) for block in shapes
            )
            if self.plan.budget:
                loop.most = self._dearest(loop)
                loop.uneven = loop.most > loop.cost
            found[header] = loop
        return found

    def _dearest(self, loop: _Loop) -> int:
        """What a turn costs that takes the dearest way from the loop's header to its end."""
        blocks = self.function.blocks
        to = dict.fromkeys(loop.blocks, 0)
        for start in loop.blocks:  # in an order in which all but the jump back leads on
            block = blocks[start]
            for side, target in enumerate(block.targets):
                if target in to and target != loop.header:
                    pays = block.kind == JUMP or (block.kind == BRANCH and not side)
                    cost = block.at - target + 1 if pays and target <= block.at else 0
                    to[target] = max(to[target], to[start] + cost)
        return to[loop.latch] + loop.cost

    def _calls(self, block: Block) -> bool:
        insns = self.plan.insns
        return any(insns[pc].opcode in (op.CALL, op.CALLX) for pc in range(block.start, block.end))

    # --- the function as a whole

    def text(self) -> str:
        """The body of the function, from its brace to its brace."""
        function = self.function
        last = {loop.blocks[-1]: loop for loop in self.loops.values()}
        first = "g" if function.entry in self.loops else "b"
        self._note(f"{first}{function.entry}", _Edge("entry", self._first_values(), {}))
        for start in function.order:
            self._block(function.blocks[start])
            if start in last:
                self._end_loop(last[start])
        opening = self._start()
        lines, names = self._merged([*opening, *self.body.lines])
        for slot, label, phis in self.phis:
            for reg, name in phis.items():
                pairs = ", ".join(
                    f"[ {edge.values[reg]}, %{names.get(edge.label, edge.label)} ]"
                    for edge in self.edges[label]
                )
                slot.append(f"  {name} = phi i64 {pairs}")
        for loop in self.loops.values():
            if loop.left and loop.pre is not None:
                less, here = loop.ends
                before, after = (names.get(label, label) for label in (loop.before, here))
                pairs = f"[ {loop.total}, %{before} ], [ {less}, %{after} ]"
                if loop.rest is not None:
                    pairs += f", [ {loop.rest.left}, %{loop.rest.label} ]"
                loop.count.append(f"  {loop.left} = phi i64 {pairs}")
        flat: list[str] = []
        for line in lines:
            if isinstance(line, str):
                flat.append(line)
            else:
                flat += line
        return "\n".join(flat + self._end(names) + ["}", ""])

    def _merged(self, lines: list[Any]) -> tuple[list[Any], dict[str, str]]:
        """The lines without the labels to which there is one way, from the line before.

        And the block that such a label's has become a part of.
        """
        kept: list[Any] = []
        names: dict[str, str] = {}
        here = "entry"
        for line in lines:
            if isinstance(line, str) and line[-1] == ":":
                label = line[:-1]
                if kept and kept[-1] == f"  br label %{label}" and len(self.edges.get(label, ())) == 1:
                    kept.pop()
                    names[label] = here
                    continue
                here = label
            kept.append(line)
        return kept, names

    def rewarding(self) -> int:
        """How many loops LLVM's vectoriser may find something in: over memory, with one way out."""
        if not self.plan.checks:
            return len(self.function.headers)
        return sum(loop.rewarding for loop in self.loops.values())

    def turning(self) -> bool:
        """Whether some loop has no fast copy."""
        return any(
            header not in self.loops or not self.loops[header].left for header in self.function.headers
        )

    def _start(self) -> list[str]:
        """The entry block: constants of the whole run."""
        function, plan = self.function, self.plan
        lines = ["{", "entry:"]
        if self.memory.uses_ctx_int:
            lines.append("  %ctx_int = ptrtoint ptr %ctx to i64")
        if function.is_main:
            if plan.area:
                lines.append(f"  %area = alloca [{op.MAX_FRAMES * STRIDE} x i8], align 16")
            if plan.budget:
                lines.append("  %budget = load i64, ptr %state, align 8")
        if self.escapes:
            own = "0" if function.is_main else "%top_in"
            lines.append(f"  %own = add i64 {own}, 0")
            lines.append("  %frame = getelementptr i8, ptr %area, i64 %own")
            lines.append(f"  %top = add i64 {own}, {STRIDE}")
        else:
            if plan.area:
                lines.append(f"  %top = add i64 {'0' if function.is_main else '%top_in'}, 0")
            if self.frame:
                lines.append(f"  %frame = alloca [{STACK} x i8], align 16")
        if self.escapes or self.frame:
            lines.append(f"  call void @llvm.memset.p0.i64(ptr align 16 %frame, i8 0, i64 {STACK}, i1 false)")
            lines.append("  %frame_int = ptrtoint ptr %frame to i64")
        if plan.area:
            lines.append("  %area_int = ptrtoint ptr %area to i64")
        lines += [
            f"  %pktlim{size} = call i64 @llvm.usub.sat.i64(i64 %pkt_len, i64 {size - 1})"
            for size in sorted(self.packet_limits - {1})
        ]
        lines.append(f"  br label %{'g' if function.entry in self.loops else 'b'}{function.entry}")
        return lines

    def _end(self, names: dict[str, str]) -> list[str]:
        """The blocks where runs end early; ``names`` is what `_merged` has found."""
        lines = []
        aborted = "0"
        if not self.function.is_main:
            aborted = "{ " + "i64 0, " * len(results(self.plan, self.key)) + "i1 true }"
        unwind = f"  ret {result_type(self.plan, self.key)} {aborted}"
        for why, edges in self.body.traps.items():
            lines.append(f"trap{why}:")
            pc = str(edges[0][1])
            if len(edges) > 1:
                pairs = ", ".join(f"[ {slot}, %{names.get(label, label)} ]" for label, slot in edges)
                pc = f"%pc{why}"
                lines.append(f"  {pc} = phi i32 {pairs}")
            # In two halves: a constant of 64 bits would be the longest instruction there is, on every edge.
            for at, half in ((8, pc), (12, str(why))):
                lines.append(f"  %stop{why}.{at} = getelementptr i8, ptr %state, i64 {at}")
                lines.append(f"  store i32 {half}, ptr %stop{why}.{at}, align 4")
            lines.append(unwind)
        if self.unwinds:
            lines += ["unwind:", unwind]
        return lines

    def _first_values(self) -> list[Value]:
        """Registers where the function starts."""
        values: list[Value] = [0] * REGISTERS
        if self.function.is_main:
            values[2] = "%ctx_len"
            values[BUDGET] = "%budget"
            if self.plan.analysis.at[self.key][self.function.entry][1] != kinds.CTX:
                # A jump back to slot 0 brings numbers in r1, so its address has to be one too.
                self.memory.uses_ctx_int = True
                values[1] = "%ctx_int"
        else:
            for reg in parameters(self.plan, self.key):
                values[reg] = "%budget" if reg == BUDGET else f"%a{reg}"
        values[TURNS] = MAY_GOTO_TURNS
        return values

    # --- blocks

    def _block(self, block: Block) -> None:
        loop = self.loops.get(block.start)
        if loop is not None:
            self._enter_loop(loop)
        phis = self._enter(block.start, "b")
        if loop is not None:
            self._follow(loop, phis)
        self._instructions(block)

    def _instructions(self, block: Block) -> None:
        self.here = block.start
        # Not in loops that may be vectorised, which want no way out.
        most = sys.maxsize
        if len(self.plan.insns) >= _SPLIT_FROM and self.tracker is None and self.fast is None:
            most = _MAX_LINES
        for pc in range(block.start, block.end):
            insn = self.plan.insns[pc]
            if insn.opcode:
                self._insn(pc, insn)
            if most == _MAX_LINES:
                if pc % 3 == 0 and insn.opcode in _SUMS:
                    self._hide(insn.dst)
                if len(self.body.lines) - self.body.begun > most:
                    self._split()
        self._leave(block)

    def _hide(self, reg: int) -> None:
        """Keep LLVM from asking which bits of a sum are known: for each, it looks at 64 values before it."""
        value = self.regs[reg]
        if isinstance(value, str) and self.kinds[reg] == kinds.INT:
            self.regs[reg] = self.body.hidden(value)

    def _split(self) -> None:
        """Go on in a new block, by a branch that LLVM cannot decide.

        It asks whether the state is at an odd address, another one each time: it never is.
        """
        body = self.body
        never = body.op(f"icmp eq ptr %state, inttoptr (i64 {2 * body.count + 1} to ptr)")
        label = body.fresh_label()
        self.unwinds = True
        body.do(f"br i1 {never}, label %unwind, label %{label}, !prof !7003")
        body.start(label)

    def _note(self, label: str, edge: _Edge) -> None:
        self.edges.setdefault(label, []).append(edge)

    def _enter(self, start: int, prefix: str, *, changed: int | None = None) -> dict[int, str]:
        """Start a block: its label, registers, kinds and known bounds; the registers that got a phi.

        ``changed`` are the registers that need one whatever the edges so far say.
        """
        body = self.body
        label = f"{prefix}{start}"
        live = self.function.live[start]
        edges = self.edges[label]
        self.kinds = list(self.plan.analysis.at[self.key][start])
        if changed is None:
            changed = 0
            if start in self.function.headers and prefix == "b":
                changed = self.written[self.function.component[start]]
        body.start(label)
        body.truncated.clear()
        slot: list[str] = []
        body.lines.append(slot)
        one = len(edges) == 1 and not changed
        # Bounds that are known on the only way in stay known, also through a loop's own turns.
        self.memory.facts = dict(edges[0].facts) if one or start in self.loops else {}
        regs = list(edges[0].values)
        phis: dict[int, str] = {}
        if len(edges) > 1:
            for edge in edges:
                for reg, value in enumerate(edge.values):
                    if value != regs[reg]:
                        changed |= 1 << reg
        changed &= live
        reg = 0
        while changed:
            if changed & 1:
                regs[reg] = phis[reg] = body.new()
            changed >>= 1
            reg += 1
        self.phis.append((slot, label, phis))
        self.regs = regs
        return phis

    def _edge(self, target: int, label: str, values: list[Value] | None = None) -> str:
        """Note the edge from here (its jump is in block ``label``) to ``target``; the label to go to."""
        live = self.function.live[target]
        wanted = self.plan.analysis.at[self.key][target]
        values = list(self.regs if values is None else values)
        for reg in range(10):
            have = self.kinds[reg]
            if live >> reg & 1 and have != wanted[reg]:
                values[reg] = self.memory.convert(have, wanted[reg], values[reg])
        goal = self._label(target)
        self._note(goal, _Edge(label, values, dict(self.memory.facts)))
        return goal

    def _label(self, target: int) -> str:
        """The label of block ``target`` as seen from the block under emission."""
        if self.fast is not None and target in self.fast.blocks:
            return f"f{target}"
        loop = self.loops.get(target)
        if loop is not None and self.here not in loop.blocks:
            return f"g{target}"
        return f"b{target}"

    def _go(self, block: Block, target: int) -> None:
        """Jump from the current label to ``target``."""
        fast = self.fast
        if fast is not None and target == fast.header:
            self._turn(fast, None, target)
            return
        cost = self._price(block, target)
        if fast is not None and target in fast.blocks:
            if cost:  # the guard has seen to it that there is enough
                self.regs[BUDGET] = self.body.op(f"sub nuw nsw i64 {self.regs[BUDGET]}, {cost}")
        else:
            self._settle(target, cost)
            if cost:
                self._pay(cost, block.at)
        goal = self._edge(target, self.body.label)
        self._jump(goal, target)

    def _price(self, block: Block, target: int) -> int:
        """What the jump at the end of ``block`` to ``target`` costs; nothing, if it falls through."""
        if not self.plan.budget or block.kind == FALL or target > block.at:
            return 0
        return block.at - target + 1

    def _settle(self, target: int, cost: int, *, over: bool = False) -> None:
        """Bring the budget up to date where the fast copy is left for ``target`` by a jump of such a cost.

        With ``over`` all guarded turns but the jump back of the last are over.
        """
        fast = self.fast
        if fast is not None and not fast.uneven and (cost or self.function.live[target] >> BUDGET & 1):
            self.regs[BUDGET] = self._spent(fast, over=over)

    def _jump(self, goal: str, target: int) -> None:
        """Branch to the label ``goal`` of block ``target``; a loop's own jump back can be marked later."""
        line = f"  br label %{goal}"
        loop = self.loops.get(target)
        if loop is not None and self.fast is None and self.here == loop.latch:
            loop.again.append(line)
            self.body.lines.append(loop.again)
        else:
            self.body.lines.append(line)

    def _leave(self, block: Block) -> None:
        kind = block.kind
        if kind == EXIT:
            self._exit()
        elif kind in (FALL, JUMP):
            self._go(block, block.targets[0])
        elif kind == BRANCH:
            fast = self.fast
            if fast is not None and fast.test is not None and block.start == fast.latch:
                first, second = block.targets
                self._turn(fast, None, second if first == fast.header else first)
                return
            condition = self._condition(self.plan.insns[block.at])
            self._fork(block, condition)
        else:
            body = self.body
            left = self.regs[TURNS]
            condition = body.op(f"icmp eq i64 {left}, 0")
            taken = list(self.regs)
            self.regs[TURNS] = body.op(f"sub i64 {left}, 1")
            self._fork(block, condition, taken)

    def _fork(self, block: Block, condition: str, taken_regs: list[Value] | None = None) -> None:
        """A conditional jump; each side gets a block of its own for what its edge needs."""
        body, fast = self.body, self.fast
        taken, fall = block.targets
        if fast is not None and block.start == fast.latch:
            if taken != fast.header:
                condition = body.op(f"xor i1 {condition}, true")
                taken, fall = fall, taken
            self._turn(fast, condition, fall)
            return
        if self.tracker is not None and self.here in self._latches:
            loop = self._latches[self.here]
            predicate, bits, a, b = self.compared
            if taken != loop.header:
                predicate = loops.NEGATED.get(predicate, "")
            loop.compared = (predicate, bits, a, b)
        yes = body.fresh_label()
        no = body.fresh_label()
        here, fork = body.label, len(body.lines)
        body.lines.append("")
        facts, regs = self.memory.facts, self.regs
        body.start(yes)
        self.regs = list(taken_regs if taken_regs is not None else regs)
        self.memory.facts = dict(facts)
        self._go(block, taken)
        yes = self._straight(fork + 1, here)
        side = len(body.lines)
        body.start(no)
        self.regs, self.memory.facts = regs, facts
        # The fall-through side is never a jump back in the sense of the budget.
        if fast is not None and fall not in fast.blocks:
            self._settle(fall, 0)
        self._jump(self._edge(fall, no), fall)
        no = self._straight(side, here, other=yes)
        body.lines[fork] = f"  br i1 {condition}, label %{yes}, label %{no}"

    def _straight(self, at: int, here: str, other: str = "") -> str:
        """Where a jump's side whose lines start at ``at`` can begin: beyond it, if it is but a jump itself.

        ``here`` is the label of the block that the jump ends, ``other`` where its other side begins: from one
        block there is one way to another, where both sides may bring different values.
        """
        lines = self.body.lines
        label: str = lines[at][:-1]
        jump = "  br label %"
        if len(lines) != at + 2 or not isinstance(lines[-1], str) or not lines[-1].startswith(jump):
            return label
        goal = lines[-1][len(jump) :]
        if goal == other:
            return label
        edges = self.edges[goal]
        edges[-1] = edges[-1]._replace(label=here)
        del lines[at:]
        return goal

    def _exit(self) -> None:
        body, regs = self.body, self.regs
        if self.function.is_main:
            value = self.memory.integer(self._kind(0), regs[0])
            body.do(f"ret i64 {value}")
            return
        made = "poison"
        ty = result_type(self.plan, self.key)
        fields = results(self.plan, self.key)
        for index, reg in enumerate(fields):
            value = regs[reg] if reg == BUDGET else self.memory.integer(self._kind(reg), regs[reg])
            made = body.op(f"insertvalue {ty} {made}, i64 {value}, {index}")
        made = body.op(f"insertvalue {ty} {made}, i1 false, {len(fields)}")
        body.do(f"ret {ty} {made}")

    # --- loops in two copies

    def _enter_loop(self, loop: _Loop) -> None:
        """The guard's block, to be filled in when the careful copy is known."""
        start = loop.header
        self._enter(start, "g", changed=0)
        loop.pre = _Edge(f"g{start}", self.regs, self.memory.facts)
        loop.first = self.body.count
        self.body.lines.append(loop.guard)
        self._note(f"b{start}", loop.pre)

    def _follow(self, loop: _Loop, phis: dict[int, str]) -> None:
        """Follow values from here, the start of a turn, to the end of the careful copy."""
        first = loop.first

        def known(name: str) -> bool:
            return not name.startswith("%v") or int(name[2:]) <= first

        loop.phis = phis
        registers = {name: reg for reg, name in phis.items() if reg < BUDGET}
        self.tracker = self.memory.tracker = loops.Tracker(registers, known)

    def _end_loop(self, loop: _Loop) -> None:
        """Fill in the guard, and emit the fast copy if there is something to win."""
        body, start, pre = self.body, loop.header, loop.pre
        tracker, self.tracker, self.memory.tracker = self.tracker, None, None
        assert tracker is not None and pre is not None
        back = self.edges[f"b{start}"][-1]
        loop.touches = bool(tracker.accesses)
        found = loops.plan(
            tracker,
            {reg: (pre.values[reg], back.values[reg]) for reg in loop.phis if reg < BUDGET},
            loop.compared,
        )
        if not found.slots:
            loop.guard.append(f"  br label %b{start}")
            return
        lines, body.lines = body.lines, loop.guard
        budget = pre.values[BUDGET] if loop.most else None
        loop.steps, loop.test = found.steps, found.test
        loop.total = guard.turns(body, found, pre.values, budget, loop.most, last=loop.single)
        if loop.rewarding:
            loop.total = body.hidden(loop.total)
            self._plain(loop)
        some = body.op(f"icmp ne i64 {loop.total}, 0")
        body.do(f"br i1 {some}, label %f{start}, label %b{start}, !prof !7001")
        body.lines = lines
        self.fast = loop
        self.memory.skip = found.slots
        loop.again[-1] += ", !llvm.loop !7004"
        self._note(f"f{start}", pre)
        loop.before = pre.label
        changed = self.written[self.function.component[start]]
        if not loop.uneven:
            changed &= ~(1 << BUDGET)
        phis: dict[int, str] = {}
        mark = 0
        for member in loop.blocks:
            if member == start:
                phis = self._enter(start, "f", changed=changed)
                loop.left = body.new()
                body.lines.append(loop.count)
                mark = len(body.lines)
            else:
                self._enter(member, "f")
            self._instructions(self.function.blocks[member])
        self.fast = None
        self.memory.skip = frozenset()
        if loop.rewarding and loop.blocks == [start] and loop.test is not None:
            self._vectors(loop, tracker, phis, mark)
        elif loop.touches and not loop.uneven and len(loop.blocks) <= _MAX_VECTOR_BLOCKS:
            self._search(loop, tracker, phis, mark)

    def _vectors(self, loop: _Loop, tracker: loops.Tracker, phis: dict[int, str], mark: int) -> None:
        """Put whole vectors before the fast copy, a single block whose lines start at ``mark``."""
        lines = self.body.lines[mark : loop.fork]
        if loop.ends[1] != f"f{loop.header}" or any(line[-1] == ":" for line in lines):
            return
        try:
            vectors = Vectors(self._turned(loop, tracker, phis, lines))
        except Unfit as error:
            loop.maybe = not error.hopeless
            return
        self._before(loop, vectors)

    def _search(self, loop: _Loop, tracker: loops.Tracker, phis: dict[int, str], mark: int) -> None:
        """The same for a loop that is left by several ways, or by one that no guard can foresee."""
        try:
            lines, exits = straight(self.body.lines[mark:], f"f{loop.header}", loop.ends[1], loop.asked)
            vectors = Vectors(self._turned(loop, tracker, phis, lines)._replace(exits=exits))
        except Unfit:
            return
        self._before(loop, vectors)

    def _turned(self, loop: _Loop, tracker: loops.Tracker, phis: dict[int, str], lines: list[str]) -> Turn:
        """A turn of the fast copy, whose lines are given."""
        pre, back = self.edges[f"f{loop.header}"]
        return Turn(
            lines,
            phis,
            pre.values,
            back.values,
            {reg: step for reg, step in loop.steps.items() if reg in phis},
            {name: tracker.accesses[pc] for name, pc in self.memory.places.items() if pc in tracker.accesses},
            loop.final,
        )

    def _before(self, loop: _Loop, vectors: Vectors) -> None:
        """Emit the vectors, where the guard's jump to the fast copy finds them."""
        body, fast, pre = self.body, f"f{loop.header}", self.edges[f"f{loop.header}"][0]
        loop.maybe, self.vectors = False, True
        body.lines[loop.fork] += ", !llvm.loop !7004"
        loop.before = f"n{loop.header}"
        loop.guard[-1] = loop.guard[-1].replace(f"label %{fast},", f"label %{loop.before},")
        self.edges[fast][0] = pre._replace(label=loop.before)
        done = Lanes(body, vectors).emit(loop.total, loop.before, fast)
        if vectors.whole:
            body.do(f"br label %{loop.pause}")
            return
        loop.rest = done
        self._note(fast, _Edge(done.label, done.values, pre.facts))
        body.do(f"br label %{fast}")

    def _plain(self, loop: _Loop) -> None:
        """Keep LLVM from studying how the values of the careful copy evolve: nothing comes of it."""
        body = self.body
        lines, body.lines = body.lines, []
        edges = self.edges[f"b{loop.header}"]
        values = edges[-1].values
        hidden: dict[Value, str] = {}
        for reg in loop.phis:
            value = values[reg]
            values[reg] = hidden.get(value) or hidden.setdefault(value, body.hidden(value))
        loop.again[:0] = body.lines
        body.lines = lines

    def _turn(self, loop: _Loop, condition: str | None, leave: int) -> None:
        """The end of a turn of the fast copy: ``condition`` (None: always) asks for another one.

        One branch decides between another turn and the rest, so that LLVM sees a loop with one exit.
        """
        body, start, pre = self.body, loop.header, loop.pre
        assert pre is not None
        wanted = self.plan.analysis.at[self.key][start]
        live = self.function.live[start]
        values = list(self.regs)
        for reg in range(10):
            if live >> reg & 1 and self.kinds[reg] != wanted[reg]:
                values[reg] = self.memory.convert(self.kinds[reg], wanted[reg], values[reg])
        if loop.uneven and loop.cost:
            values[BUDGET] = body.op(f"sub nuw nsw i64 {values[BUDGET]}, {loop.cost}")
        more = body.op(f"icmp ne i64 {loop.left}, 1")
        less = body.op(f"sub nuw nsw i64 {loop.left}, 1")
        facts = self.memory.facts
        here = body.label
        pause = body.fresh_label()
        loop.ends = (less, here)
        self._note(f"f{start}", _Edge(here, values, facts))
        test = loop.test
        loop.fork, loop.pause = len(body.lines), pause
        if condition is None or test is not None:
            body.do(f"br i1 {more}, label %f{start}, label %{pause}")
        else:
            loop.asked = condition
            both = body.op(f"and i1 {condition}, {more}")
            out, done = body.fresh_label(), body.fresh_label()
            body.do(f"br i1 {both}, label %f{start}, label %{out}")
            body.start(out)
            body.do(f"br i1 {condition}, label %{pause}, label %{done}")
            body.start(done)
            self._leave_fast(loop, leave, list(self.regs))
        body.start(pause)
        # All guarded turns are over: what moves steadily is known without asking the loop, which leaves
        # LLVM free to vectorise its remainder too.
        values, ends = list(values), list(self.regs)
        for reg, step in loop.steps.items():
            values[reg] = body.plus(pre.values[reg], body.times(loop.total, step))
            if self.kinds[reg] == wanted[reg]:
                ends[reg] = values[reg]
        if loop.cost and not loop.uneven:
            price = body.op(f"mul i64 {loop.total}, {loop.cost}")
            values[BUDGET] = body.op(f"sub i64 {pre.values[BUDGET]}, {price}")
        self._note(f"b{start}", _Edge(pause, values, facts))
        # With several ways out there are no whole vectors to be had, and the test would only cost.
        if test is None or not loop.single:
            body.do(f"br label %b{start}")
            return
        condition = guard.asks(body, test, pre.values, body.op(f"sub i64 {loop.total}, 1"))
        done = body.fresh_label()
        body.do(f"br i1 {condition}, label %b{start}, label %{done}")
        body.start(done)
        goal = self._leave_fast(loop, leave, ends, over=True)
        for target, read in ((start, values), (leave, self.edges[goal][-1].values)):
            mask = self.function.live[target] & (1 << BUDGET) - 1
            loop.final |= {value for reg, value in enumerate(read) if mask >> reg & 1}

    def _leave_fast(self, loop: _Loop, leave: int, values: list[Value], *, over: bool = False) -> str:
        """Go from the end of the fast copy's turn to ``leave`` with such registers; the label gone to."""
        latch = self.function.blocks[loop.latch]
        cost = self._price(latch, leave)
        regs, self.regs = self.regs, values
        self._settle(leave, cost, over=over)
        if cost:
            self._pay(cost, latch.at)
        goal = self._edge(leave, self.body.label)
        self.body.do(f"br label %{goal}")
        self.regs = regs
        return goal

    def _spent(self, loop: _Loop, *, over: bool) -> Value:
        """The budget after the turns of the fast copy that are over."""
        body, pre = self.body, loop.pre
        assert pre is not None
        if not loop.cost:
            return pre.values[BUDGET]
        turns = body.op(f"sub i64 {loop.total}, {1 if over else loop.left}")
        price = body.op(f"mul i64 {turns}, {loop.cost}")
        return body.op(f"sub i64 {pre.values[BUDGET]}, {price}")
