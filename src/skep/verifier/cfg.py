"""The control flow: reachability, prune points, loops (SCCs), live registers, orders."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from skep.isa import opcodes as op
from skep.isa.ebpf import Insn as Slot
from skep.isa.facts import CALLER_SAVED, defs, uses
from skep.verifier.indirect import GOTOX, GotoX, slots_of
from skep.verifier.subprogs import containing, is_pseudo_call, is_pseudo_func

if TYPE_CHECKING:
    from skep.verifier.callbacks import CallKind
    from skep.verifier.env import Env

_DISCOVERED: Final = 0x10
_EXPLORED: Final = 0x20
_FALLTHROUGH: Final = 1
_BRANCH: Final = 2
#: straight code longer than this gets waypoints, at instructions that leave no note themselves
_LONG: Final = 96
_ARITHMETIC: Final = (op.BPF_ALU, op.BPF_ALU64)
_JUMPS: Final = (op.BPF_JMP, op.BPF_JMP32)


class _Walk:
    """The depth-first walk that finds unreachable instructions and marks prune points."""

    def __init__(self, env: Env) -> None:
        self.env = env
        self.insns = env.subject.insns
        self.state = [0] * len(self.insns)
        self.stack: list[int] = []
        self.kinds: dict[tuple[int, int, int], CallKind] = {}

    def run(self, start: int) -> None:
        code, insns = self.env.code, self.insns
        state, stack = self.state, self.stack
        count = len(state)
        state[start] = _DISCOVERED
        stack.append(start)
        while stack:
            t = stack[-1]
            raw = insns[t]
            if raw.opcode & op.CLASS_MASK not in _JUMPS and not is_pseudo_func(raw):
                # Straight code: there and back, as `visit` would.
                if state[t] != _DISCOVERED:
                    state[t] = _EXPLORED
                    stack.pop()
                    continue
                w = code[t].next
                if w < count and not state[w]:
                    state[t] = _DISCOVERED | _FALLTHROUGH
                    state[w] = _DISCOVERED
                    stack.append(w)
                    continue
            if not self.visit(t):
                state[t] = _EXPLORED
                stack.pop()

    def push(self, t: int, w: int, edge: int) -> bool:
        env = self.env
        state = self.state
        if state[t] >= (_DISCOVERED | edge):
            return False
        if not 0 <= w < len(state):
            env.pc = t
            env.reject(f"jump out of range from insn {t} to {w}")
        if edge == _BRANCH:
            self.mark(w)
        if state[w] == 0:
            state[t] = _DISCOVERED | edge
            state[w] = _DISCOVERED
            self.stack.append(w)
            return True
        if state[w] & 0xF0 == _DISCOVERED:
            if not env.loops_allowed:
                env.pc = t
                env.reject(f"back-edge from insn {t} to {w}")
        else:
            state[t] = _DISCOVERED | edge
        return False

    def mark(self, pc: int) -> None:
        insn = self.env.code[pc]
        insn.prune_point = insn.jmp_point = True

    def visit(self, t: int) -> bool:
        """Push one unvisited successor of ``t``; False when there is none left."""
        raw = self.insns[t]
        code = self.env.code
        insn = code[t]
        if is_pseudo_func(raw):
            return self.call(t, raw, True)
        cls = raw.opcode & op.CLASS_MASK
        if cls not in (op.BPF_JMP, op.BPF_JMP32):
            return self.push(t, insn.next, _FALLTHROUGH)
        operation = raw.opcode & op.OP_MASK
        if operation == op.BPF_EXIT:
            return False
        if operation == op.BPF_CALL:
            kind = self.kind(raw)
            if kind.is_async:
                insn.prune_point = True
            if kind.sync_callback:
                insn.calls_callback = insn.force_checkpoint = True
                insn.prune_point = insn.jmp_point = True
            if kind.iter_next:
                insn.prune_point = insn.force_checkpoint = insn.is_iter_next = True
            if kind.changes_packet:
                self.env.subprogs[containing(self.env, t)].changes_packet = True
            if kind.might_sleep:
                self.env.subprogs[containing(self.env, t)].might_sleep = True
            if kind.might_throw:
                self.env.subprogs[containing(self.env, t)].might_throw = True
            return self.call(t, raw, is_pseudo_call(raw))
        if operation == op.BPF_JA:
            if isinstance(insn, GotoX):
                return self.indirect(t, insn)
            target = t + 1 + (raw.imm if cls == op.BPF_JMP32 else raw.off)
            if self.push(t, target, _FALLTHROUGH):
                return True
            self.mark(target)
            return False
        insn.prune_point = True
        if insn.is_may_goto:
            insn.force_checkpoint = True
        if self.push(t, t + 1, _FALLTHROUGH):
            return True
        return self.push(t, t + 1 + raw.off, _BRANCH)

    def indirect(self, t: int, insn: GotoX) -> bool:
        """All that the tables name at once."""
        if not insn.slots:
            sub = self.env.subprogs[containing(self.env, t)]
            insn.slots = slots_of(self.env, t, sub.start, sub.end)
        insn.prune_point = True
        found = False
        for w in insn.slots:
            self.env.code[w].jmp_point = True
            if not self.state[w]:
                self.state[w] = _DISCOVERED
                self.stack.append(w)
                found = True
        return found

    def kind(self, raw: Slot) -> CallKind:
        key = (raw.src, raw.off, raw.imm)
        known = self.kinds.get(key)
        if known is None:
            from skep.verifier.callbacks import call_kind

            known = self.kinds[key] = call_kind(self.env, raw)
        return known

    def call(self, t: int, raw: Slot, visit_callee: bool) -> bool:
        after = self.env.code[t].next
        if self.push(t, after, _FALLTHROUGH):
            return True
        if after < len(self.state):
            self.mark(after)
        if not visit_callee:
            return False
        target = t + raw.imm + 1
        self.env.code[t].prune_point = True
        subs = self.env.subprogs
        caller, callee = subs[containing(self.env, t)], subs[containing(self.env, target)]
        caller.changes_packet |= callee.changes_packet
        caller.might_sleep |= callee.might_sleep
        caller.might_throw |= callee.might_throw
        return self.push(t, target, _BRANCH)


def check_cfg(env: Env) -> None:
    """Every instruction can be reached; marks prune points, jump targets and forced checkpoints."""
    walk = _Walk(env)
    walk.run(0)
    if env.exception_subprog:
        walk.run(env.subprogs[env.exception_subprog].start)
    pc = 0
    insns = env.subject.insns
    while pc < len(insns):
        if walk.state[pc] != _EXPLORED:
            env.pc = pc
            env.reject(f"unreachable insn {pc}")
        if insns[pc].opcode == op.LD_IMM64:
            if pc + 1 < len(insns) and walk.state[pc + 1]:
                env.pc = pc
                env.reject(f"jump into the middle of ldimm64 insn {pc}")
            pc += 1
        pc += 1
    top = run = 0
    starts = set(env.starts)
    for insn in env.code:
        insn.mark = insn.prune_point or insn.jmp_point
        if insn.pc - top >= _LONG and not insn.mark and insn.opcode & op.CLASS_MASK in _ARITHMETIC:
            insn.mark = insn.waypoint = True
        if insn.mark or run < 0 or insn.touch < 0 or insn.pc in starts:
            top = insn.pc
            run = 0
        run |= insn.touch
        insn.top = top
        insn.run = run


def successors(raw: Slot, pc: int) -> tuple[int, ...]:
    """The slots that may come next within the function."""
    opcode = raw.opcode
    cls = opcode & op.CLASS_MASK
    if cls in (op.BPF_JMP, op.BPF_JMP32):
        operation = opcode & op.OP_MASK
        if operation == op.BPF_EXIT:
            return ()
        if operation == op.BPF_JA:
            return (pc + 1 + (raw.imm if cls == op.BPF_JMP32 else raw.off),)
        if operation != op.BPF_CALL:
            return (pc + 1, pc + 1 + raw.off)
    return (pc + 2,) if opcode == op.LD_IMM64 else (pc + 1,)


def analyse(env: Env) -> None:
    """Orders, loops and live registers of every function."""
    insns = env.subject.insns
    next_scc = 1
    for sub in env.subprogs:
        start, end = sub.start, sub.end
        edges: list[tuple[int, ...]] = []
        for pc in range(start, end):
            if pc > start and insns[pc - 1].opcode == op.LD_IMM64 and insns[pc].opcode == 0:
                edges.append(())
            elif isinstance(insn := env.code[pc], GotoX):
                edges.append(tuple([s - start for s in insn.slots]))
            else:
                edges.append(tuple([s - start for s in successors(insns[pc], pc) if start <= s < end]))
        post = _postorder(edges)
        sub.order = [(at, edges[at]) for at in post]
        sub.edges = edges
        sub.before = [[] for _ in edges]
        for at in post:
            for successor in edges[at]:
                sub.before[successor].append(at)
        wide = [insns[pc].opcode == op.LD_IMM64 for pc in range(start, end)]
        sub.tops = _tops(edges, sub.before, wide)
        next_scc = _components(env, start, edges, next_scc)
        _live_registers(env, start, edges, sub.before, post)


def _tops(edges: list[tuple[int, ...]], before: list[list[int]], wide: list[bool]) -> list[int]:
    """For each index, where the straight code that it is in starts; ``wide`` are those of two slots."""
    tops = list(range(len(edges)))
    for at, after in enumerate(edges):
        # A jump over one instruction is none of it: that one is reached from elsewhere.
        if len(after) == 1 and after[0] == at + 1 + wide[at] and len(before[after[0]]) == 1:
            tops[after[0]] = tops[at]
    return tops


def _postorder(edges: list[tuple[int, ...]]) -> list[int]:
    """Indexes reachable from 0, each after its successors (but for back edges)."""
    order: list[int] = []
    seen = bytearray(len(edges))
    stack = [(0, 0)]
    seen[0] = 1
    while stack:
        at, i = stack[-1]
        out = edges[at]
        if i < len(out):
            stack[-1] = (at, i + 1)
            s = out[i]
            if not seen[s]:
                seen[s] = 1
                stack.append((s, 0))
        else:
            order.append(at)
            stack.pop()
    return order


def _components(env: Env, start: int, edges: list[tuple[int, ...]], number: int) -> int:
    """Tarjan's strongly connected components: a number for the instructions of each loop, else 0."""
    count = len(edges)
    index = [0] * count
    low = [0] * count
    on_stack = bytearray(count)
    stack: list[int] = []
    counter = 1
    work = [(0, 0)]
    index[0] = low[0] = counter
    stack.append(0)
    on_stack[0] = 1
    while work:
        at, i = work[-1]
        out = edges[at]
        if i < len(out):
            work[-1] = (at, i + 1)
            s = out[i]
            if not index[s]:
                counter += 1
                index[s] = low[s] = counter
                stack.append(s)
                on_stack[s] = 1
                work.append((s, 0))
            elif on_stack[s]:
                low[at] = min(low[at], index[s])
            continue
        work.pop()
        if work:
            up = work[-1][0]
            low[up] = min(low[up], low[at])
        if low[at] == index[at]:
            members: list[int] = []
            while True:
                m = stack.pop()
                on_stack[m] = 0
                members.append(m)
                if m == at:
                    break
            if len(members) > 1 or at in edges[at]:
                for m in members:
                    env.code[start + m].scc = number
                number += 1
            elif env.code[start + at].calls_callback:
                # A call that calls back may run its callback many times: a loop of one instruction.
                env.code[start + at].scc = number
                number += 1
    return number


#: static liveness takes LD_ABS and LD_IND for readers of every register
_ALL_READ_SINCE: Final = (6, 15)


def _live_registers(
    env: Env, start: int, edges: list[tuple[int, ...]], before: list[list[int]], post: list[int]
) -> None:
    """Registers that may be read at or after each instruction, r10 always."""
    insns = env.subject.insns
    from skep.verifier.callbacks import argument_registers

    use = [0] * len(edges)
    kill = [0] * len(edges)
    calls: dict[tuple[int, int, int], int] = {}
    for at in post:
        raw = insns[start + at]
        opcode = raw.opcode
        if opcode == op.CALL:
            key = (raw.src, raw.off, raw.imm)
            mask = calls.get(key, -1)
            if mask < 0:
                mask = calls[key] = argument_registers(env, raw)
            kill[at] = CALLER_SAVED | 1
            use[at] = mask
            continue
        use[at] = uses(raw) & 0x3FF if opcode != GOTOX else 1 << raw.dst
        kill[at] = defs(raw) & 0x3FF
        if opcode & op.CLASS_MASK == op.BPF_LD and opcode != op.LD_IMM64:
            if env.kernel >= _ALL_READ_SINCE:
                use[at] = 0x3FF
            kill[at] = CALLER_SAVED | 1
    live = [0] * len(edges)
    # All once, later ones first; then what comes before those that changed.
    work = post[::-1]
    waiting = bytearray(len(edges))
    for at in work:
        waiting[at] = 1
    while work:
        at = work.pop()
        waiting[at] = 0
        after = 0
        for s in edges[at]:
            after |= live[s]
        now = after & ~kill[at] | use[at]
        if now != live[at]:
            live[at] = now
            for p in before[at]:
                if not waiting[p]:
                    waiting[p] = 1
                    work.append(p)
    names = {mask: tuple([r for r in range(11) if (mask | 1 << 10) >> r & 1]) for mask in set(live)}
    rest = {mask: tuple([r for r in range(10) if not mask >> r & 1]) for mask in names}
    for at, mask in enumerate(live):
        insn = env.code[start + at]
        insn.live_mask = mask | 1 << 10
        insn.live = names[mask]
        insn.dead = rest[mask]
