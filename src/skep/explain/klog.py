"""Reading the log that a kernel's verifier printed, of any version and at any level, whole or cut.

The log is a depth-first walk: after a path ends, ``from 12 to 15: R0=…`` takes up the latest branch of
instruction 12 that is still open. The walk is put together again, so that every step knows the one before it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from skep.explain import diag, states, unwrap
from skep.explain.trail import Location, Step, Trail

#: how much of a log is read: its end, where the refusal stands
TAIL: Final = 8 << 20

#: digits that are no number of a verifier's (and that `int` would refuse)
_ENDLESS: Final = re.compile(r"\d{40,}")
_STEP: Final = re.compile(r"(\d+): \(([0-9a-f]{2})\) ?(.*)")
_FROM: Final = re.compile(r"from (\d+) to (\d+)(?: \(speculative execution\))?:(.*)")
_STATE: Final = re.compile(r"(?:(\d+): ?)?((?:R\d+|fp-?\d+|refs)(?:_[rwD]+)?=.*)")
_SOURCE: Final = re.compile(r"; (.*?)(?: @ ([^@]*?):(\d+))?$")
_TARGET: Final = re.compile(r"^(.*?goto pc[+-]\d+|.*?goto \S+) +(\d+): ((?:R\d+|fp-?\d+)=.*)$")
_PROCESSED: Final = re.compile(r"processed (\d+) insns")
_VALIDATING: Final = re.compile(r"Validating (\S+)\(\) func#\d+")
_CALLS: Final = re.compile(r"call pc[+-]?\d+|call [0-9a-zA-Z_]+(?:\+-?\d+)?$")
_WRAPPER: Final = re.compile(
    r"^(?:libbpf: |bpf: |Error: |time=|level=|\[[ 0-9.]+\] )|^\s*-- (?:BEGIN|END) |"
    r"^(?:verifier error|load program): "
)
_PROGRAM: Final = re.compile(
    r"(?:prog|program) '?\"?([A-Za-z_][\w.]*)'?\"?: "
    r"(?:BPF program load failed|failed to load|-- BEGIN|load program)"
)
#: words of loaders that could be a verifier's
_LOADERS: Final = re.compile(
    r"ERROR|Error|Prog section|Verifier|The verifier|Attaching|- |load |bpf\(|Exception|File |Trace|#|HINT"
)
#: what a log holds besides steps, states and reasons; level 2, statistics and progress among it
_NOISE: Final = re.compile(
    r"func#\d+ @\d+$|Func#\d+ |Validating |last_idx |first_idx |mark_precise: |regs=|parent |"
    r"propagating |returning from |to caller at |caller:?$|callee:?$|frame\d|verification time|"
    r"stack depth |insns processed|total_states|max_states|peak_states|mark_read|Live regs before|"
    r"\s+\d+: [.0-9]{10,}|\d+: safe$|from \d+ to \d+: safe$|cur state:|old state|"
    r"arg#\d+ reference type\('UNKNOWN|arg#\d+ type is not a struct|Unrecognized arg#\d+|"
    r"BPF program load failed|failed to load|prog '|added |calling |\d+: hit"
)


def parse(text: str, locate: Callable[[int], Location | None] | None = None) -> Trail:
    """Read a log. ``locate`` gives an instruction's place in the source where the log does not.

    Text around the log (libbpf's, bpftool's, Go's) is passed over. Of logs over `TAIL` characters the end is
    read. Never raises: what is no log gives a trail with no steps whose ``messages`` are its last lines.
    """
    trail = Trail()
    if len(text) > TAIL:
        text = text[-TAIL:]
        text = text[text.find("\n") + 1 :]
        trail.truncated = True
    text = _ENDLESS.sub("?", text)
    lines = unwrap.lines(text)
    trail.report = diag.parse(lines)
    reader = _Reader(trail, locate)
    for line in lines:
        reader.line(line)
    reader.finish()
    return trail


class _Reader:
    """The state of reading: the current path's last step, the steps that may have an open branch."""

    def __init__(self, trail: Trail, locate: Callable[[int], Location | None] | None) -> None:
        self.trail = trail
        self.locate = locate
        self.last: Step | None = None
        self.source: Location | None = None
        #: every conditional jump in the order walked, the latest last, by slot
        self.jumps: dict[int, list[Step]] = {}
        self.state: dict[str, str] = {}
        self.messages: list[str] = []
        self.inside_report = False
        self.ended = False
        self.seen = False
        #: what is said after a log's end: all of another one, perhaps
        self.after: list[str] = []
        #: the refusal of a log before this one: its last step, what was said, the count of instructions
        self.before: tuple[Step | None, list[str], int | None] | None = None

    def line(self, line: str) -> None:
        stripped = line.strip()
        if not stripped:
            return
        if line.startswith("Verification failed: "):
            self.inside_report = True
        found = _PROCESSED.match(stripped)
        if found:
            self.trail.processed = int(found[1])
            self.inside_report = False
            self.ended = self.seen = True
            return
        if self.inside_report:
            # the kernel's own word may follow its report, at the margin
            if line[0] not in " \t" and not line.endswith(":") and not line.startswith("Verification"):
                self.messages.append(stripped)
            return
        match = _STEP.match(line)
        if match:
            self.step(int(match[1]), int(match[2], 16), match[3])
            return
        match = _FROM.match(line)
        if match:
            self.resume(int(match[1]), match[3])
            return
        match = _STATE.match(stripped)
        if match and not _NOISE.match(stripped):
            self.named(match[1], match[2])
            return
        if line.startswith(";"):
            self.comment(line)
            return
        named = _PROGRAM.search(line)
        if named:
            self.trail.function = named[1]
        found = _VALIDATING.match(stripped)
        if found:
            self.trail.subprog = found[1]
            self.last = None
            self.jumps.clear()
        if "is safe for any args" in stripped:
            self.trail.subprog = ""
        if _NOISE.match(stripped) or _WRAPPER.search(line) or named:
            return
        (self.after if self.ended else self.messages).append(stripped)

    def step(self, pc: int, code: int, rest: str) -> None:
        self.seen = True
        self.again()
        text, after = _halves(rest)
        parent = self.last
        if self.messages:  # what was said before is no refusal: the walk goes on
            self.messages.clear()
        place = self.source
        if self.locate is not None:
            place = self.locate(pc) or place
        step = Step(pc, code, text, parent, place)
        step.before = self.state
        self.state = {}
        if parent is not None:
            step.frame = parent.frame + _deeper(parent)
        if after:
            step.after = states.parse(after)
        if " goto " in text and text.startswith("if "):
            self.jumps.setdefault(pc, []).append(step)
            target = _TARGET.match(text)
            if target:
                step.text = target[1]
                step.after = states.parse(target[3])
        elif text.startswith("may_goto"):
            self.jumps.setdefault(pc, []).append(step)
        self.last = step

    def again(self) -> None:
        """What follows the end of a log is another one."""
        if not self.ended:
            return
        if _reasons(self.messages):
            self.before = self.last, self.messages, self.trail.processed
        self.last, self.messages, self.state, self.ended = None, [], {}, False
        self.jumps.clear()

    def resume(self, origin: int, state: str) -> None:
        open_ = self.jumps.get(origin)
        if open_:
            self.last = open_.pop()
        elif self.last is None or self.last.pc != origin:
            self.last = self._behind(origin)
        self.messages.clear()
        self.state = states.parse(state) if "=" in state else {}

    def _behind(self, pc: int) -> Step | None:
        """A step of that slot on the present path (a callback's or iterator's second visit), if any."""
        step = self.last
        for _ in range(10_000):
            if step is None or step.pc == pc:
                return step
            step = step.parent
        return None

    def named(self, pc: str | None, text: str) -> None:
        """A line of state: what holds before the next instruction (and so after the last)."""
        if pc is not None:
            self.again()
        state = states.parse(text)
        if self.last is not None and not self.last.after:
            self.last.after = state
        self.state = state

    def comment(self, line: str) -> None:
        match = _SOURCE.match(line)
        if match is None or states.parse(match[1]):
            return
        if match[1] or match[2]:
            self.source = Location(match[2] or "", int(match[3] or 0), 0, match[1].strip())

    def finish(self) -> None:
        trail = self.trail
        if self.before is not None and not _reasons(self.messages):
            self.last, self.messages, trail.processed = self.before
        said = _reasons(self.messages)
        if self.seen and not said and _known(self.after):  # a program that was refused before its first step
            self.last, said = None, _known(self.after)[:6]
        trail.last = self.last
        trail.messages = said if self.last is not None else _known(said) or said
        trail.accepted = self.seen and not trail.messages and trail.report is None


def _known(messages: list[str]) -> list[str]:
    """From the first message on that is the verifier's for certain: loaders talk before it."""
    from skep.explain.families import FAMILIES

    for at, message in enumerate(messages):
        if not _LOADERS.match(message) and any(family.pattern.search(message) for family in FAMILIES):
            return messages[at:]
    return []


def _deeper(step: Step) -> int:
    if step.text.startswith("call pc"):
        return 1
    return -1 if step.text == "exit" and step.frame > 0 else 0


def _halves(rest: str) -> tuple[str, str]:
    """An instruction's text, and the state behind its semicolon."""
    text, semicolon, state = rest.partition(";")
    if semicolon and ("=" in state or not state.strip()):
        return text.rstrip(), state.strip()
    return rest.rstrip(), ""


def _reasons(messages: list[str]) -> list[str]:
    """The last lines that were said, without the loader's own."""
    kept = [m for m in messages if not m.startswith(("libbpf", "Error", "bpf_prog_load", "failed to"))]
    return kept[-6:]
