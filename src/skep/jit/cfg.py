"""Control flow of a program: blocks, functions, loops, live registers.

Blocks belong to the whole program; a function is what can be reached from its first slot without
calls, so two functions may share blocks. Registers are bits of a mask: 0..9, and what native code
keeps in registers besides (`BUDGET`, `TURNS`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from skep.errors import CompileError, DecodeError
from skep.isa import Insn
from skep.isa import opcodes as op
from skep.isa.facts import jump_target

#: Registers of native code beside r0..r9: the budget left (in r10's place: r10 never changes) and the
#: turns left to may_goto.
BUDGET: Final = 10
TURNS: Final = 11
REGISTERS: Final = 12

#: How a block ends.
FALL, JUMP, BRANCH, EXIT, MAY = range(5)

#: More instructions than this, counted once for each function that reaches them, are refused.
MAX_EMITTED: Final = 2_000_000


class Block:
    """A straight run of slots [start, end), and what follows it.

    ``at`` is the slot of the jump that ends it (``end`` excludes the jump); ``targets`` holds the
    successors' starts: for BRANCH and MAY the taken one first.
    """

    __slots__ = ("at", "end", "kind", "start", "targets")

    def __init__(self, start: int, end: int, kind: int, at: int, targets: tuple[int, ...]) -> None:
        self.start = start
        self.end = end
        self.kind = kind
        self.at = at
        self.targets = targets


class Function:
    """The blocks reachable from ``entry``, in reverse postorder."""

    __slots__ = (
        "back",
        "blocks",
        "calls",
        "component",
        "entry",
        "headers",
        "is_main",
        "length",
        "live",
        "name",
        "order",
        "preds",
        "results",
    )

    def __init__(self, entry: int, *, is_main: bool, name: str) -> None:
        self.entry = entry
        self.is_main = is_main
        self.name = name
        self.blocks: dict[int, Block] = {}
        self.order: list[int] = []
        #: predecessors of a block, once for each edge
        self.preds: dict[int, list[int]] = {}
        #: blocks that some edge enters from later in the order
        self.headers: set[int] = set()
        #: block -> its strongly connected component; empty without loops
        self.component: dict[int, int] = {}
        #: whether some edge costs budget
        self.back = False
        #: subprograms it calls, by first slot
        self.calls: set[int] = set()
        #: slots from its start to the next subprogram's
        self.length = 0
        #: registers live at the start of each block
        self.live: dict[int, int] = {}
        #: registers that callers read after it returns (r0, and r1..r5 if someone does)
        self.results = 1

    @property
    def slots(self) -> int:
        """Slots that it can reach, without its jumps."""
        return sum(block.end - block.start for block in self.blocks.values())

    @property
    def pays(self) -> bool:
        """Whether running it costs budget."""
        return self.back or bool(self.calls)


def subprogram_starts(insns: Sequence[Insn]) -> list[int]:
    """Slot 0 and every target of a call within the program, ascending."""
    starts = {0}
    for pc, insn in enumerate(insns):
        if insn.opcode == op.CALL and insn.src == op.BPF_PSEUDO_CALL:
            starts.add(pc + 1 + insn.imm)
    return sorted(starts)


def refuse_foreign(insns: Sequence[Insn]) -> None:
    """Refuse what only a kernel has.

    Raises:
        DecodeError: kernel functions, maps or functions as immediates, address space casts.
    """
    wide = False
    for pc, (opcode, _dst, src, off, _imm) in enumerate(insns):
        if wide:
            wide = False
        elif opcode == op.LD_IMM64:
            wide = True
            if src:
                what = "a function's address" if src == op.BPF_PSEUDO_FUNC else "a map, or a kernel variable"
                raise DecodeError(
                    f"insn {pc}: {what} as 64-bit immediate needs a kernel, and this machine is none",
                    offset=pc * 8,
                )
        elif opcode == op.CALL and src == op.BPF_PSEUDO_KFUNC_CALL:
            raise DecodeError(f"insn {pc}: kernel functions do not exist in this machine", offset=pc * 8)
        elif opcode == op.BPF_ALU64 | op.BPF_MOV | op.BPF_X and off == op.BPF_ADDR_SPACE_CAST:
            raise DecodeError(f"insn {pc}: arenas do not exist in this machine", offset=pc * 8)


def blocks_of(insns: Sequence[Insn], starts: Sequence[int]) -> dict[int, Block]:
    """Every block of the program by its first slot."""
    leaders = set(starts)
    count = len(insns)
    ends: list[int] = []
    pc = 0
    while pc < count:
        insn = insns[pc]
        opcode = insn.opcode
        cls = opcode & 7
        if opcode == op.LD_IMM64:
            pc += 1
        elif (cls == op.BPF_JMP or cls == op.BPF_JMP32) and opcode != op.CALL and opcode != op.CALLX:
            ends.append(pc)
            leaders.add(pc + 1)
            if opcode != op.EXIT:
                target = jump_target(insn, pc)
                assert target is not None
                leaders.add(target)
        pc += 1
    blocks: dict[int, Block] = {}
    ordered = sorted(leaders)
    at = 0
    for index, start in enumerate(ordered):
        if start >= count:
            break
        limit = ordered[index + 1] if index + 1 < len(ordered) else count
        while at < len(ends) and ends[at] < start:
            at += 1
        if at < len(ends) and ends[at] < limit:
            jump = ends[at]
            insn = insns[jump]
            if insn.opcode == op.EXIT:
                blocks[start] = Block(start, jump, EXIT, jump, ())
                continue
            target = jump_target(insn, jump)
            assert target is not None
            if insn.opcode in (op.JA, op.GOTOL):
                blocks[start] = Block(start, jump, JUMP, jump, (target,))
            elif insn.opcode == op.MAY_GOTO:
                blocks[start] = Block(start, jump, MAY, jump, (target, jump + 1))
            elif target == jump + 1:
                blocks[start] = Block(start, jump, FALL, jump, (target,))
            else:
                blocks[start] = Block(start, jump, BRANCH, jump, (target, jump + 1))
        else:
            blocks[start] = Block(start, limit, FALL, limit - 1, (limit,))
    return blocks


def function_of(
    insns: Sequence[Insn], blocks: dict[int, Block], entry: int, *, is_main: bool, name: str
) -> Function:
    """The function that starts at slot ``entry``: its blocks in reverse postorder, edges and loops."""
    function = Function(entry, is_main=is_main, name=name)
    function.order = _reverse_postorder(blocks, entry)
    position = {start: index for index, start in enumerate(function.order)}
    function.blocks = {start: blocks[start] for start in function.order}
    preds: dict[int, list[int]] = {start: [] for start in function.order}
    heads = False
    for start in function.order:
        block = blocks[start]
        for target in block.targets:
            preds[target].append(start)
            if position[target] <= position[start]:
                heads = True
            if block.kind in (JUMP, BRANCH, MAY) and target <= block.at and target != block.at + 1:
                function.back = True
        for pc in range(block.start, block.end):
            insn = insns[pc]
            if insn.opcode == op.CALL and insn.src == op.BPF_PSEUDO_CALL:
                function.calls.add(pc + 1 + insn.imm)
    function.preds = preds
    if heads:
        function.component = _components(function)
        # Keep each loop together: its blocks follow each other, and what it leads to comes after it.
        rank = {name: at for at, name in enumerate(dict.fromkeys(function.component.values()))}
        function.order.sort(key=lambda start: (-rank[function.component[start]], position[start]))
        position = {start: index for index, start in enumerate(function.order)}
        function.headers = {
            start
            for start in function.order
            if any(position[pred] >= position[start] for pred in preds[start])
        }
    return function


def _reverse_postorder(blocks: dict[int, Block], entry: int) -> list[int]:
    seen = {entry}
    post: list[int] = []
    stack = [(entry, iter(reversed(blocks[entry].targets)))]
    while stack:
        start, rest = stack[-1]
        for target in rest:
            if target not in seen:
                seen.add(target)
                stack.append((target, iter(reversed(blocks[target].targets))))
                break
        else:
            post.append(start)
            stack.pop()
    post.reverse()
    return post


def _components(function: Function) -> dict[int, int]:
    """Each block's strongly connected component, named by one of its members.

    The dictionary lists components in reverse topological order.
    """
    blocks = function.blocks
    index: dict[int, int] = {}
    low: dict[int, int] = {}
    component: dict[int, int] = {}
    path: list[int] = []
    on_path: set[int] = set()
    for root in function.order:
        if root in index:
            continue
        work = [(root, 0)]
        while work:
            node, child = work.pop()
            if child == 0:
                index[node] = low[node] = len(index)
                path.append(node)
                on_path.add(node)
            targets = blocks[node].targets
            for at in range(child, len(targets)):
                target = targets[at]
                if target not in index:
                    work.append((node, at + 1))
                    work.append((target, 0))
                    break
                if target in on_path:
                    low[node] = min(low[node], index[target])
            else:
                if low[node] == index[node]:
                    while True:
                        member = path.pop()
                        on_path.discard(member)
                        component[member] = node
                        if member == node:
                            break
                if work:
                    parent = work[-1][0]
                    low[parent] = min(low[parent], low[node])
    return component


def check_size(total: int, functions: int) -> None:
    """Refuse programs whose functions share so much code that copies of it would explode.

    Raises:
        CompileError: more than `MAX_EMITTED` instructions in all (``total``).
    """
    if total > MAX_EMITTED:
        raise CompileError(
            f"{functions} subprograms that jump into each other come to {total} instructions",
            hint=f"the limit is {MAX_EMITTED}",
        )
