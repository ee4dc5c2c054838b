"""Programs that call kernel functions, are called back, iterate, hold and give back: nearly valid ones.

`tests.verifier.generate` makes registers, memory and helpers; here a program is text (of `harness.cases`),
put together from statements that nest: what is taken is given back behind a body of other statements. In
three of five programs small mistakes are made, in some an instruction is changed. A seed gives the same
program always.
"""

from __future__ import annotations

from skep.isa import Insn, jump_target
from skep.isa import opcodes as op
from tests.verifier.families import world
from tests.verifier.families.memory import Memory
from tests.verifier.generate_spoil import spoil
from tests.verifier.harness import cases
from tests.verifier.harness.question import Question

__all__ = ["fit", "question"]

_KFUNC = 2


def fit(insns: list[Insn]) -> bool:
    """Whether a live kernel may be asked: no masks where turns are not counted (see `bounded_work`)."""
    turns = any(
        (insn.opcode == op.LD_IMM64 and insn.src == op.BPF_PSEUDO_FUNC)
        or insn.opcode == op.MAY_GOTO
        or (insn.opcode != op.CALL and (target := jump_target(insn, pc)) is not None and target <= pc)
        for pc, insn in enumerate(insns)
    )
    masks = any(
        insn.opcode & op.CLASS_MASK in (op.BPF_ALU, op.BPF_ALU64)
        and insn.opcode & op.OP_MASK in (op.BPF_AND, op.BPF_OR)
        for insn in insns
    )
    return not (turns and masks) and len(insns) < 4000


def question(seed: int) -> Question | None:
    """The program of a seed; None where it is not fit for a live kernel."""
    writer = Memory(seed)
    rng = writer.random
    writer.say("r6 = r1")
    writer.body(writer.left, 1)
    writer.say(f"r0 = {writer.hook.returns}", "exit")
    lines = list(writer.main.lines)
    for frame in writer.functions:
        lines += [f"{frame.name}:", *frame.lines]
    if rng.random() < 0.15:
        _spoil_line(rng, lines)
    names = [frame.name for frame in writer.functions]
    types = world.types()
    insns, kfuncs, starts = cases.assembled([], lines, [], world.NAMES, names, types.structs)
    if rng.random() < 0.2:
        changed = spoil(rng, insns)
        if all(changed[pc] == insns[pc] for pc, _ in kfuncs):
            insns = changed
    functions = tuple(sorted([(0, "skep_main"), *zip(starts, names, strict=True)]))
    hook = writer.hook
    made = Question(
        insns, hook.prog_type, hook.attach_type, hook.attach_to, world.maps(), "GPL", hook.flags,
        types, functions, tuple(kfuncs),
    )  # fmt: skip
    return made if fit(insns) else None


def _spoil_line(rng: object, lines: list[str]) -> None:
    """A line less, one twice, or two that change places."""
    import random

    assert isinstance(rng, random.Random)
    plain = [n for n, line in enumerate(lines) if not line.endswith(":") and line != "exit"]
    at = rng.choice(plain)
    how = rng.randrange(3)
    if how == 0:
        del lines[at]
    elif how == 1:
        lines.insert(at, lines[at])
    else:
        other = rng.choice([n for n in plain if abs(n - at) < 5])
        lines[at], lines[other] = lines[other], lines[at]
