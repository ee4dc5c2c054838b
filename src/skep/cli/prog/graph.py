"""`skep prog dump xlated … visual`: the control flow as a graph for dot(1), laid out as bpftool's.

A cluster for each function, between ENTRY and EXIT its basic blocks with the types and source lines that the
program's BTF has. Numbers of instructions begin at each function. (bpftool up to 7.7 looks them up as if they
began at the program, and writes the first function's type and lines into others; here each has its own.)
"""

from __future__ import annotations

from bisect import bisect_right

from skep.cli.noun.hextext import plain_bytes
from skep.cli.prog.dump import Code, insn_text
from skep.isa import opcodes as op
from skep.isa.ebpf import decode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from skep.isa.ebpf import Insn

    #: slot, file and text as offsets of strings, line << 10 | column
    Line = tuple[int, int, int, int]

_ENTRY: Final = 0
_EXIT: Final = 1
_GOTOX: Final = op.JA | op.BPF_X
_STYLE: Final = '[style="solid,bold", color=black, weight=10, constraint=true]'
#: a path longer than this is cut at a slash
_PATH: Final = 32


def dot(code: Code, opcodes: bool = False, linum: bool = False) -> str:
    """The graph; ``opcodes`` adds each instruction's bytes, ``linum`` files and lines."""
    graph = _Graph(code, opcodes, linum)
    out = ['digraph "DOT graph for eBPF program" {\n']
    for number, start, end in graph.functions():
        out += graph.cluster(number, start, end)
    out.append("}\n")
    return "".join(out)


class _Graph:
    def __init__(self, code: Code, opcodes: bool, linum: bool) -> None:
        self.code = code
        self.opcodes = opcodes
        self.linum = linum
        self.insns: list[Insn] = list(decode(code.image))
        self.protos = {start: code.proto(id) for start, id in code.functions}
        #: for each slot where a source line begins, its record
        self.lines = {line[0]: line for line in code.lines}
        self.line_starts = sorted(self.lines)

    def functions(self) -> list[tuple[int, int, int]]:
        """(number, first slot, slot past the last): numbered as calls to them come, in the order they lie."""
        insns = self.insns
        numbers = {0: 0}
        for pc, insn in enumerate(insns):
            if insn.opcode == op.CALL and insn.src == op.BPF_PSEUDO_CALL:
                target = pc + 1 + insn.off
                if 0 <= target < len(insns):
                    numbers.setdefault(target, len(numbers))
        # callbacks and exception handlers are called by the kernel
        for start, _ in self.code.functions:
            if 0 <= start < len(insns):
                numbers.setdefault(start, len(numbers))
        starts = sorted(numbers)
        ends = [*starts[1:], len(insns)]
        return [(numbers[start], start, end) for start, end in zip(starts, ends, strict=True)]

    def cluster(self, number: int, start: int, end: int) -> list[str]:
        slots = [pc for pc in range(start, end) if pc == start or self.insns[pc - 1].opcode != op.LD_IMM64]
        heads = self._heads(slots, start, end)
        name = {head: f"fn_{number}_bb_{index}" for index, head in enumerate(heads, 2)}
        entry, exit = f"fn_{number}_bb_{_ENTRY}", f"fn_{number}_bb_{_EXIT}"
        out = [
            f'subgraph "cluster_{number}" {{\n\tstyle="dashed";\n\tcolor="black";\n'
            f'\tlabel="func_{number} ()";\n',
            f'\t{entry} [shape=Mdiamond,style=filled,label="ENTRY"];\n\n',
        ]
        edges = [(entry, name[heads[0]])]
        for head, stop in zip(heads, [*heads[1:], end], strict=True):
            block = [pc for pc in slots if head <= pc < stop]
            labels = [self._label(block[0], start, self._line_of(block[0]))]
            labels += [self._label(pc, start, self.lines.get(pc)) for pc in block[1:]]
            label = "| ".join(labels)
            out.append(f'\t{name[head]} [shape=record,style=filled,label="{{\\\n{label}}}"];\n\n')
            for target in self._targets(block[-1], stop):
                if target in name:
                    edges.append((name[head], name[target]))
                elif target == end:
                    edges.append((name[head], exit))
        out.append(f'\t{exit} [shape=Mdiamond,style=filled,label="EXIT"];\n\n')
        out += [f"\t{source}:s -> {target}:n {_STYLE};\n" for source, target in edges]
        out.append(f'\t{entry}:s -> {exit}:n [style="invis", constraint=true];\n}}\n')
        return out

    def _heads(self, slots: list[int], start: int, end: int) -> list[int]:
        """The first instructions of the blocks: what is jumped to, and what follows a conditional jump."""
        heads = {start}
        for pc in slots:
            insn = self.insns[pc]
            if not _jumps(insn):
                continue
            if insn.opcode != _GOTOX:
                heads.add(_goal(insn, pc))
            if not _always(insn) or insn.opcode == _GOTOX:
                heads.add(pc + 1)
        inside = set(slots)
        return sorted(head for head in heads if head in inside)

    def _targets(self, pc: int, following: int) -> list[int]:
        """Where a block goes from its last instruction: the function's end is its exit."""
        insn = self.insns[pc]
        if not _jumps(insn):
            # an exit, too, goes on to what follows it, as in bpftool
            return [following]
        if insn.opcode == _GOTOX:  # wherever its table says
            return []
        goal = _goal(insn, pc)
        return [goal] if _always(insn) else [following, goal]

    def _line_of(self, pc: int) -> Line | None:
        """The source line that an instruction is part of: the last that begins at it or before."""
        at = bisect_right(self.line_starts, pc)
        return self.lines[self.line_starts[at - 1]] if at else None

    def _label(self, pc: int, start: int, line: Line | None) -> str:
        code = self.code
        out = []
        if self.protos.get(pc):
            out.append(f"; {self.protos[pc]}:\\l\\\n")
        if line is not None:
            text, file, number, column = code.source(line)
            if text and self.linum:
                short = _short(file)
                dots = "..." if short != file else ""
                out.append(f"; [{dots}{_escaped(short)} line:{number} col:{column}]\\l\\\n")
            if text:
                out.append(f"; {_escaped(text)}\\l\\\n")
        out.append(f"{pc - start}: {_instruction(insn_text(code, self.insns, pc))}\\l\\\n")
        if self.opcodes:
            wide = self.insns[pc].opcode == op.LD_IMM64
            parts = [code.image[8 * i : 8 * i + 8] for i in (pc, pc + 1)[: 2 if wide else 1]]
            out.append("\\ \\ \\ \\ " + " ".join(plain_bytes(part) for part in parts) + "\\l\\\n")
        return "".join(out)


def _jumps(insn: Insn) -> bool:
    if insn.opcode & op.CLASS_MASK not in (op.BPF_JMP, op.BPF_JMP32):
        return False
    return insn.opcode & op.OP_MASK not in (op.BPF_CALL, op.EXIT & op.OP_MASK)


def _always(insn: Insn) -> bool:
    return insn.opcode & op.OP_MASK == op.JA & op.OP_MASK


def _goal(insn: Insn, pc: int) -> int:
    """Where a jump goes: gotol has it in the immediate."""
    return pc + 1 + (insn.imm if insn.opcode == op.GOTOL else insn.off)


def _instruction(text: str) -> str:
    """As print_insn_for_graph: characters that a record's label would take for its own are escaped."""
    return "".join(f"\\{c}" if c in "<>|&" else c for c in text)


def _escaped(text: str) -> str:
    return "".join(f"\\{c}" if c in '\\"{}<>| ' else c for c in text)


def _short(path: str) -> str:
    """The end of a long path, from a slash on."""
    if len(path) <= _PATH:
        return path
    at = path.find("/", len(path) - _PATH)
    if at >= 0:
        return path[at:] if at >= 3 else path
    at = path.rfind("/")
    return path[at:] if at >= 0 else path
