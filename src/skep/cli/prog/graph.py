"""`skep prog dump xlated … visual`: the control flow as a graph for dot(1)."""

from __future__ import annotations

from skep.cli.prog.dump import Code, insn_text
from skep.isa import opcodes as op
from skep.isa.ebpf import Insn, decode


def dot(code: Code) -> str:
    """One cluster a function, one node a basic block."""
    insns = list(decode(code.image))
    starts = sorted(
        {0} | {pc + 1 + insn.off for pc, insn in _calls(insns) if 0 <= pc + 1 + insn.off < len(insns)}
    )
    out = ['digraph "DOT graph for eBPF program" {\n']
    for number, start in enumerate(starts):
        end = starts[number + 1] if number + 1 < len(starts) else len(insns)
        out += _function(code, insns, number, start, end)
    out.append("}\n")
    return "".join(out)


def _calls(insns: list[Insn]) -> list[tuple[int, Insn]]:
    return [(pc, i) for pc, i in enumerate(insns) if i.opcode == op.CALL and i.src == op.BPF_PSEUDO_CALL]


def _targets(insns: list[Insn], pc: int) -> list[int] | None:
    """Where control goes after a jump; None for an instruction that just goes on."""
    insn = insns[pc]
    if insn.opcode & op.CLASS_MASK not in (op.BPF_JMP, op.BPF_JMP32):
        return None
    if insn.opcode == op.EXIT:
        return []
    if insn.opcode & op.OP_MASK == op.BPF_CALL:
        return None
    if insn.opcode == op.JA:
        return [pc + 1 + insn.off]
    if insn.opcode == op.GOTOL:
        return [pc + 1 + insn.imm]
    return [pc + 1, pc + 1 + insn.off]


def _function(code: Code, insns: list[Insn], number: int, start: int, end: int) -> list[str]:
    slots = [pc for pc in range(start, end) if pc == start or insns[pc - 1].opcode != op.LD_IMM64]
    leaders = {start}
    for pc in slots:
        targets = _targets(insns, pc)
        if targets is not None:
            leaders.update(targets)
            leaders.add(pc + 1)
    heads = sorted(pc for pc in leaders if start <= pc < end)
    out = [
        f'subgraph "cluster_{number}" {{\n\tstyle="dashed";\n\tcolor="black";\n\tlabel="func_{number} ()";\n'
    ]
    ends: list[tuple[int, list[int]]] = []
    for index, head in enumerate(heads):
        stop = heads[index + 1] if index + 1 < len(heads) else end
        block = [pc for pc in slots if head <= pc < stop]
        label = "| ".join(_escaped(f"{pc:4d}: {insn_text(code, insns, pc)}") + "\\l\\\n" for pc in block)
        out.append(f'\tfn_{number}_bb_{index} [shape=record,style=filled,label="{{{label}}}"];\n\n')
        targets = _targets(insns, block[-1]) if block else []
        ends.append((index, [stop] if targets is None else targets))
    place = {head: index for index, head in enumerate(heads)}
    for index, targets in ends:
        out += [
            f'\tfn_{number}_bb_{index}:s -> fn_{number}_bb_{place[target]}:n [style="solid,bold", '
            "color=black, weight=10, constraint=true];\n"
            for target in targets
            if target in place
        ]
    out.append("}\n")
    return out


def _escaped(text: str) -> str:
    return "".join(f"\\{c}" if c in '<>|&{}"' else c for c in text)
