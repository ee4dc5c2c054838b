"""Two verdicts on one program: what kind of disagreement, and the smallest program that still shows it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from skep.asm import disassemble
from skep.errors import KernelError
from skep.isa import Insn, jump_target
from skep.isa import opcodes as op
from tests.verifier.harness.kernel import Lab
from tests.verifier.harness.ours import judge
from tests.verifier.harness.question import Answer, Question, family, plain

UNSAFE, STRICT, BROKEN, WORDS, SAME, LONG = "unsafe", "strict", "broken", "words", "same", "long"
#: programs that the kernel itself needs more instructions for are left out of mass comparisons
MOST = 20_000
#: in a refusal: the kernel warns about itself in its log, which a running one is not made to do
KERNEL_BUG = "verifier bug"


class Compared(NamedTuple):
    """``kind``: UNSAFE (we accept, the kernel does not), STRICT (the other way), BROKEN (an exception
    that is no VerifierError), WORDS (both reject, with other words), LONG (left out), SAME."""

    kind: str
    kernel: Answer
    ours: Answer
    trouble: str = ""


def compare(lab: Lab, question: Question) -> Compared:
    trouble = ""
    try:
        ours = judge(question, seconds=10, max_insns=3 * MOST)
    except Exception as error:
        ours, trouble = Answer(False), f"{type(error).__name__}: {error}"
    if KERNEL_BUG in ours.reason:
        return Compared(LONG, Answer(False), ours)
    theirs = lab.ask(question)
    if theirs.processed > MOST:
        return Compared(LONG, theirs, Answer(False))
    return Compared(BROKEN, theirs, ours, trouble) if trouble else judged(theirs, ours)


def judged(theirs: Answer, ours: Answer) -> Compared:
    """Two verdicts side by side."""
    if ours.accepted and not theirs.accepted:
        kind = UNSAFE
    elif theirs.accepted and not ours.accepted:
        kind = STRICT
    elif not theirs.accepted and ours.first != theirs.first:
        kind = WORDS
    else:
        kind = SAME
    return Compared(kind, theirs, ours)


class Tally:
    """Counts of comparisons, and by cause."""

    def __init__(self) -> None:
        self.kinds: Counter[str] = Counter()
        self.accepted = 0
        self.rejected = 0
        self.causes: dict[str, Counter[str]] = {
            UNSAFE: Counter(),
            STRICT: Counter(),
            BROKEN: Counter(),
            WORDS: Counter(),
        }
        self.families: Counter[tuple[str, str]] = Counter()
        self.first: dict[tuple[str, str], object] = {}
        self.ratios: list[float] = []

    def add(self, found: Compared, name: object) -> None:
        self.kinds[found.kind] += 1
        if found.kind == LONG:
            return
        if found.kernel.accepted:
            self.accepted += 1
            if found.ours.accepted and found.kernel.processed:
                self.ratios.append(found.ours.processed / found.kernel.processed)
        else:
            self.rejected += 1
        row = "accepted" if found.kernel.accepted else family(found.kernel.first)
        self.families[row, found.kind] += 1
        if found.kind == SAME:
            return
        if found.kind == UNSAFE:
            cause = plain(found.kernel.first)
        elif found.kind == STRICT:
            cause = plain(found.ours.first)
        elif found.kind == BROKEN:
            cause = found.trouble[:100]
        else:
            cause = f"{plain(found.kernel.first)}  |  ours: {plain(found.ours.first)}"
        self.causes[found.kind][cause] += 1
        self.first.setdefault((found.kind, cause), name)

    def table(self, most: int = 25) -> str:
        """Agreement by reason, then the causes of disagreement."""
        lines = [
            f"kernel accepts {self.accepted}, rejects {self.rejected}; "
            + ", ".join(f"{kind} {count}" for kind, count in sorted(self.kinds.items()))
        ]
        if self.ratios:
            ordered = sorted(self.ratios)
            mean = math.exp(sum(map(math.log, ordered)) / len(ordered))
            lines.append(
                f"processed, ours / kernel's: geometric mean {mean:.3f}, least {ordered[0]:.2f}, "
                f"median {ordered[len(ordered) // 2]:.2f}, "
                f"95 % {ordered[int(len(ordered) * 0.95)]:.2f}, most {ordered[-1]:.2f}"
            )
        lines.append(f"{'kernel says':22}{'same':>8}{'words':>8}{'strict':>8}{'UNSAFE':>8}{'broken':>8}")
        for row in sorted({row for row, _ in self.families}):
            counts = [self.families[row, kind] for kind in (SAME, WORDS, STRICT, UNSAFE, BROKEN)]
            lines.append(f"{row:22}" + "".join(f"{count:8}" for count in counts))
        for kind in (UNSAFE, BROKEN, STRICT, WORDS):
            for cause, count in self.causes[kind].most_common(most):
                lines.append(f"{kind:7}{count:6}  {cause}   e.g. {self.first[kind, cause]}")
        return "\n".join(lines)


def without(question: Question, start: int, count: int) -> Question | None:
    """The question less ``count`` slots, jumps led past them; None where that tears something."""
    insns = question.insns
    end = start + count
    if start and insns[start - 1].opcode == op.LD_IMM64:
        return None
    if end < len(insns) and insns[end - 1].opcode == op.LD_IMM64:
        return None
    out: list[Insn] = []
    place = [pc if pc <= start else max(start, pc - count) for pc in range(len(insns) + 1)]
    for pc, insn in enumerate(insns):
        if start <= pc < end:
            continue
        target = jump_target(insn, pc)
        if insn.opcode == op.CALL and insn.src == op.BPF_PSEUDO_CALL:
            target = pc + 1 + insn.imm
        if insn.opcode == op.LD_IMM64 and insn.src == op.BPF_PSEUDO_FUNC:
            target = pc + 1 + insn.imm
        if target is not None and 0 <= target <= len(insns):
            distance = place[target] - place[pc] - 1
            if insn.opcode in (op.GOTOL, op.CALL, op.LD_IMM64):
                insn = insn._replace(imm=distance)
            else:
                insn = insn._replace(off=distance)
        out.append(insn)
    if any(start <= slot < end for slot, _ in question.functions):
        return None
    return question._replace(
        insns=out,
        functions=tuple((place[slot], name) for slot, name in question.functions),
        kfuncs=tuple((place[slot], name) for slot, name in question.kfuncs if not start <= slot < end),
    )


def minimise(question: Question, keeps: Callable[[Question], bool], rounds: int = 600) -> Question:
    """A smaller question for which ``keeps`` still holds."""
    best, tried, progress = question, 0, True
    while progress and tried < rounds:
        progress = False
        for count in (16, 6, 3, 2, 1):
            start = len(best.insns) - count
            while start >= 0 and tried < rounds:
                smaller = without(best, start, count)
                if smaller is not None and smaller.insns:
                    tried += 1
                    try:
                        kept = keeps(smaller)
                    except KernelError:
                        kept = False
                    if kept:
                        best, progress = smaller, True
                        start = min(start, len(best.insns))
                start -= 1
    return best


def shrunk(lab: Lab, question: Question, found: Compared, allowed: Callable[[list[Insn]], bool]) -> Question:
    """The smallest program with the same disagreement, for the same reason."""
    reason = plain(found.kernel.first if found.kind == UNSAFE else found.ours.first)

    def keeps(smaller: Question) -> bool:
        if not allowed(smaller.insns):
            return False
        again = compare(lab, smaller)
        if again.kind != found.kind:
            return False
        if found.kind == BROKEN:
            return again.trouble.split(":")[0] == found.trouble.split(":")[0]
        said = again.kernel.first if found.kind == UNSAFE else again.ours.first
        return plain(said) == reason

    return minimise(question, keeps)


def text(question: Question, found: Compared, name: object) -> str:
    """A disagreement as people read it."""
    kernel = "accepts" if found.kernel.accepted else f"rejects: {found.kernel.reason}"
    ours = found.trouble or ("accepts" if found.ours.accepted else f"rejects: {found.ours.reason}")
    attach = f" {question.attach_type.name.lower()}" if question.attach_type is not None else ""
    lines = [
        f"# {found.kind}: {name}",
        f"# kernel {kernel}".replace("\n", "; "),
        f"# ours   {ours}".replace("\n", "; "),
        f"type: {question.prog_type.name.lower()}{attach}",
        *(f"map{index}: {spec!r}" for index, spec in enumerate(question.maps) if _used(question, index)),
    ]
    return "\n".join([*lines, *disassemble(question.insns)]) + "\n"


def _used(question: Question, index: int) -> bool:
    return any(i.opcode == op.LD_IMM64 and i.src in (1, 2) and i.imm == index for i in question.insns)


def save(folder: Path, question: Question, found: Compared, name: object) -> Path:
    """Keep a disagreement in a file of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{found.kind}-{name}.txt"
    path.write_text(text(question, found, name))
    return path


def run(
    lab: Lab, questions: Iterable[tuple[object, Question | None]], tally: Tally
) -> Iterator[tuple[object, Question, Compared]]:
    """Compare all; gives those that differ in verdict."""
    for name, question in questions:
        if question is None:
            continue
        found = compare(lab, question)
        tally.add(found, name)
        if found.kind in (UNSAFE, STRICT, BROKEN):
            yield name, question, found
