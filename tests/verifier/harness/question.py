"""A program to be judged, with all that a verdict depends on; and a verdict."""

from __future__ import annotations

import re
from typing import NamedTuple

from skep.isa import Insn
from skep.obj import MapSpec
from skep.uapi.enums import AttachType, ProgType


class Types(NamedTuple):
    """BTF of a program: the bytes, FUNC ids by function name, struct ids by name."""

    data: bytes
    functions: dict[str, int]
    structs: dict[str, int]


class Question(NamedTuple):
    """``insns`` name maps by their index in ``maps`` (LD_IMM64 with src 1 or 2, as in `Subject`)."""

    insns: list[Insn]
    prog_type: ProgType = ProgType.SOCKET_FILTER
    attach_type: AttachType | None = None
    attach_to: str = ""
    maps: tuple[MapSpec, ...] = ()
    license: str = "GPL"
    flags: int = 0
    types: Types | None = None
    #: (first slot, name) of every function, the program itself first; empty without BTF
    functions: tuple[tuple[int, str], ...] = ()
    #: slots of kernel function calls -> their names
    kfuncs: tuple[tuple[int, str], ...] = ()


class Answer(NamedTuple):
    """``reason`` is the refusal's text as the kernel words it, all its lines; "" when accepted."""

    accepted: bool
    reason: str = ""
    errno: int = 0
    processed: int = 0
    total_states: int = 0
    peak_states: int = 0
    log: str = ""

    @property
    def first(self) -> str:
        return self.reason.partition("\n")[0]


_STATS = re.compile(
    r"^processed (\d+) insns \(limit \d+\) max_states_per_insn (\d+) total_states (\d+) peak_states (\d+)",
    re.M,
)
#: lines of a log that are no reason: statistics, instructions, states, source lines, branch headers
_NOISE = re.compile(
    r"^(?:processed \d+ insns|verification time |stack depth |insn_cnt|\d+: |; |from \d+|"
    r"mark_precise: |propagating |Func#\d+|func#\d+ @|last_idx |"
    r"Global function (?!\w+\(\) (?:doesn't return|return value))|"
    r"Validating \w+\(\) func#|Live regs before insn|arg#\d+ reference type|frame \d+: |"
    r"caller:|callee:|returning|"
    r"to caller at |-- END PROG LOAD LOG|func '\w+' arg\d+ |\(.*not scalar\)|\s*$)"
)


def reason_of(log: str) -> str:
    """The lines of a log that say why."""
    lines = (
        line.partition("verification time ")[0] for line in log.splitlines()
    )  # one message lacks its end
    return "\n".join(line for line in lines if line and not _NOISE.match(line))


def answer_of(accepted: bool, errno: int, log: str) -> Answer:
    found = _STATS.search(log)
    processed, total, peak = (int(found[n]) for n in (1, 3, 4)) if found else (0, 0, 0)
    return Answer(accepted, "" if accepted else reason_of(log), errno, processed, total, peak, log)


#: numbers that a message may word differently without meaning something else are not among these
_FAMILIES = (
    (r"R\d+ !read_ok|invalid read from stack|invalid indirect read from stack", "uninitialised"),
    (r"invalid access to packet", "packet bounds"),
    (r"invalid access to map value|unbounded memory|min value is negative|max value is outside|"
     r"invalid access to memory|invalid access to map key", "memory bounds"),
    (r"invalid mem access|invalid map_value_or_null|pointer type .* must point", "not a pointer"),
    (r"bpf_context access|dereference of modified ctx|ctx.*off", "context"),
    (r"stack", "stack"),
    (r"type=.* expected=|type=|expected pointer|must be", "argument type"),
    (r"unknown func|cannot use helper|cannot call|not allowed", "not available"),
    (r"pointer arithmetic|pointer.*prohibited|partial copy|math between|leaks addr|tried to",
     "pointer rules"),
    (r"Unreleased reference|reference has not been|release|acquire|lock", "references and locks"),
    (r"misaligned", "alignment"),
    (r"too large|too complex|infinite loop|too many|exceeds|The sequence", "limits"),
    (r"unreachable|jump|back-edge|last insn|subprog|call to|func", "control flow"),
    (r"At program exit|At callback return|At subprogram exit|R0 !read_ok|R0 has", "return value"),
    (r"unknown opcode|reserved|invalid BPF_|invalid shift|div by zero|R\d+ is invalid|frame pointer",
     "instruction"),
)  # fmt: skip


def family(reason: str) -> str:
    """The kind of a refusal, for tables."""
    for pattern, name in _FAMILIES:
        if re.search(pattern, reason):
            return name
    return "other"


def plain(reason: str) -> str:
    """A refusal without its numbers: programs with the same cause share it."""
    return re.sub(r"-?\b(?:0x[0-9a-f]+|\d+)\b", "N", re.sub(r"\bR\d+\b", "Rn", reason))
