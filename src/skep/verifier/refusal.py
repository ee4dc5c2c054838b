"""A refusal with its explanation: the log of the way there is read as a kernel's would be."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from skep.explain import Location, explain
from skep.isa.opcodes import LD_IMM64

if TYPE_CHECKING:
    from skep.errors import VerifierError
    from skep.verifier.subject import Subject

#: how many instructions may be walked again for the log, when none was asked for
WALK_AGAIN: Final = 50_000


def explained(subject: Subject, error: VerifierError, log: str) -> VerifierError:
    """The same error with what its log explains: hint, explanation, source line."""
    found = explain(log or _short(subject, error), locator(subject))
    if found is not None:
        found.function = found.function or subject.name
    made = type(error)(
        error.reason,
        insn=error.insn,
        source=error.source,
        log=log,
        hint=error.hint or (found.summary() if found is not None else None),
        explanation=found,
    )
    made.__cause__ = error.__cause__
    return made


def locator(subject: Subject) -> Callable[[int], Location | None]:
    """Where each slot of a program comes from, as its line information says."""
    starts = [row.slot for row in subject.lines]

    def locate(pc: int) -> Location | None:
        at = bisect_right(starts, pc) - 1
        if at < 0:
            return None
        row = subject.lines[at]
        return Location(row.file, row.line, row.column, row.text)

    return locate


def _short(subject: Subject, error: VerifierError) -> str:
    """A log of nothing but the reason and the place, for a walk too long to repeat."""
    where = ""
    if error.insn is not None and error.insn < len(subject.insns):
        from skep.asm import disassemble

        at = subject.insns[error.insn]
        wide = subject.insns[error.insn : error.insn + 2] if at.opcode == LD_IMM64 else [at]
        line = disassemble(wide)[0].strip()
        text = line.partition(") ")[2] if line.partition(": (")[1] else line
        where = f"{error.insn}: ({at.opcode:02x}) {text}\n"
    return f"{where}{error.reason}\nprocessed 0 insns\n"
