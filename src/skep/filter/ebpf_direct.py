"""Classic BPF into extended BPF with direct packet access, for XDP and tc.

Registers besides A, X and the context: r8 = first byte of the packet, r9 = one past the last, r4 = the
byte at X once an indexed load has been checked. r1 to r3 are scratch.

Every load lies behind a comparison with r9 that the kernel's verifier understands. One comparison
serves several loads: at a load, it asks for as many bytes as *every* way to a match from there needs,
since a packet with fewer ends as "no match" anyway. So short packets get the same verdict, and most paths
compare once per header. Offsets above 65,535 are outside every packet (the verifier's own limit).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from skep.errors import VerifierError
from skep.filter.ebpf import CTX, REJECT, A, Translator, X
from skep.filter.ebpf_facts import ANCILLARY, SIZES, Facts
from skep.isa import classic as c
from skep.isa import opcodes as e

if TYPE_CHECKING:
    from skep.filter.ebpf import ProgType, Verdict

LONGEST: Final = 0xFFFF
DATA, END, AT_X = 8, 9, 4
FUNC_SKB_PULL_DATA = 39

_MOV = e.BPF_ALU64 | e.BPF_MOV | e.BPF_X
_ADD_IMM = e.BPF_ALU64 | e.BPF_ADD | e.BPF_K
_ALWAYS_0: Final = 1 << 40  # more bytes than any packet has: nothing from here on matches
_PULLED = -2  # label after the packet has been made linear


class Direct(Translator):
    """The direct form; see `skep.filter.ebpf.translate`."""

    def __init__(
        self,
        insns: Sequence[c.ClassicInsn],
        facts: Facts,
        prog_type: ProgType,
        verdict: Verdict | None,
    ) -> None:
        super().__init__(insns, facts, "pcap")
        if prog_type not in ("xdp", "tc"):
            raise VerifierError(f"no direct form for program type {prog_type!r}: xdp and tc have one")
        self.prog_type = prog_type
        self.verdict = verdict
        self.needs, self.needs_x = needs(insns, facts)
        self.known, self.known_x = self._known()

    # --- analysis -------------------------------------------------------------------------------

    def bounds(self, pc: int) -> tuple[int, int]:
        """Bytes that the comparison at the load ``pc`` asks for: from the start, and from X."""
        absolute, indexed = reach(self.insns[pc])
        wanted, wanted_x = self.needs[pc], self.needs_x[pc]
        return (
            max(absolute, wanted if absolute and wanted <= LONGEST else 0),
            max(indexed, wanted_x if indexed and wanted_x <= LONGEST else 0),
        )

    def _known(self) -> tuple[list[int], list[int]]:
        """Bytes surely present before each instruction, from the start and from X (with r4 valid)."""
        count = len(self.insns)
        known = [_ALWAYS_0] * count
        known_x = [_ALWAYS_0] * count
        known[0] = known_x[0] = 0
        for pc, targets in enumerate(self.facts.successors):
            for target in targets:
                if target <= pc:
                    known[target] = known_x[target] = 0
        for pc, targets in enumerate(self.facts.successors):
            if self.facts.before[pc] is None:
                continue
            absolute, indexed = reach(self.insns[pc])
            here, here_x = known[pc], known_x[pc]
            if absolute > here:
                here = self.bounds(pc)[0]
            if indexed > here_x:
                here_x = self.bounds(pc)[1]
            if writes_x(self.insns[pc]) or is_call(self.insns[pc]):
                here_x = 0
            for target in targets:
                known[target] = min(known[target], here)
                known_x[target] = min(known_x[target], here_x)
        return known, known_x

    # --- code -----------------------------------------------------------------------------------

    def prologue(self) -> None:
        self.code.op(_MOV, CTX, 1)
        self._pointers()
        if self.prog_type == "tc":
            self._make_linear()
        self.mov_imm(A, 0)
        self.mov_imm(X, 0)

    def _pointers(self) -> None:
        first, last = (0, 4) if self.prog_type == "xdp" else (76, 80)
        self.field(DATA, first)
        self.field(END, last)

    def _make_linear(self) -> None:
        """Pull what the filter may read out of a socket buffer's fragments, if it is there."""
        used = [pc for pc, state in enumerate(self.facts.before) if state is not None]
        if any(reach(self.insns[pc])[1] and self.facts.successors[pc] for pc in used):
            most = LONGEST
        else:
            most = max((self.bounds(pc)[0] for pc in used if self.facts.successors[pc]), default=0)
        if not most:
            return
        self.length(2)
        self.code.op(e.BPF_JMP32 | e.BPF_JLE, 2, off=1, imm=most)
        self.mov_imm(2, most)
        self.code.op(_MOV, 1, END)
        self.code.op(e.BPF_ALU64 | e.BPF_SUB | e.BPF_X, 1, DATA)
        self.code.jump(e.BPF_JMP | e.BPF_JGE | e.BPF_X, _PULLED, 1, 2)
        self.code.op(_MOV, 1, CTX)
        self.code.op(e.CALL, imm=FUNC_SKB_PULL_DATA)
        self._pointers()
        self.code.label(_PULLED)

    def leave(self, value: int) -> None:
        if self.verdict is not None:
            value = self.verdict.match if value else self.verdict.other
        super().leave(value)

    def leave_a(self) -> None:
        if self.verdict is not None:
            self.code.jump(e.BPF_JMP32 | e.BPF_JEQ, REJECT, A)
            self.mov_imm(A, self.verdict.match)
        self.code.exit()

    def length(self, dst: int) -> None:
        if self.prog_type == "tc":
            self.field(dst, 0)
        else:
            self.code.op(_MOV, dst, END)
            self.code.op(e.BPF_ALU64 | e.BPF_SUB | e.BPF_X, dst, DATA)

    def load(self, pc: int, size: int, k: int) -> None:
        self._compare(pc, k, size)
        self._fetch(A, DATA, size, k)

    def header_length(self, pc: int, k: int) -> None:
        self._compare(pc, k, e.BPF_B)
        self._fetch(X, DATA, e.BPF_B, k)
        self.alu(e.BPF_AND, X, 15)
        self.alu(e.BPF_LSH, X, 2)

    def load_indexed(self, pc: int, size: int, k: int) -> None:
        if self.known_x[pc] < k + SIZES[size]:
            bound = self.bounds(pc)[1]
            # The copy of the lower half tells the verifier that the upper one is zero.
            self.code.op(e.BPF_ALU | e.BPF_MOV | e.BPF_X, AT_X, X)
            if self.x_bound(pc) > LONGEST - bound:
                self.code.jump(e.BPF_JMP | e.BPF_JGT, REJECT, AT_X, imm=LONGEST - bound)
            self.code.op(e.BPF_ALU64 | e.BPF_ADD | e.BPF_X, AT_X, DATA)
            self._require(AT_X, bound)
        self._fetch(A, AT_X, size, k)

    def ancillary(self, pc: int, what: int) -> None:
        if self.prog_type == "tc":
            super().ancillary(pc, what)
        elif what == c.SKF_AD_IFINDEX:
            self.field(A, 12)
        elif what == c.SKF_AD_QUEUE:
            self.field(A, 16)
        else:
            self.refuse_ancillary(pc, what, "an XDP program")

    def _compare(self, pc: int, k: int, size: int) -> None:
        if self.known[pc] < k + SIZES[size]:
            self._require(DATA, self.bounds(pc)[0])

    def _require(self, base: int, length: int) -> None:
        self.code.op(_MOV, 1, base)
        self.code.op(_ADD_IMM, 1, imm=length)
        self.code.jump(e.BPF_JMP | e.BPF_JGT | e.BPF_X, REJECT, 1, END)

    def _fetch(self, dst: int, base: int, size: int, k: int) -> None:
        if k > 0x7FFF:
            self.code.op(_MOV, 1, base)
            self.code.op(_ADD_IMM, 1, imm=k)
            base, k = 1, 0
        self.code.op(e.BPF_LDX | e.BPF_MEM | size, dst, base, k)
        if size != e.BPF_B:
            self.code.op(e.BPF_ALU | e.BPF_END | e.BPF_TO_BE, dst, imm=8 * SIZES[size])


def reach(insn: c.ClassicInsn) -> tuple[int, int]:
    """Bytes a load needs, counted from the packet's start and from X; 0 where it needs none."""
    code, _, _, k = insn
    if code & 7 == c.BPF_LD:
        mode = code & 0xE0
        if mode == c.BPF_IND:
            return 0, k + SIZES[code & 0x18]
        if mode == c.BPF_ABS and k < ANCILLARY:
            return k + SIZES[code & 0x18], 0
    elif code == c.BPF_LDX | c.BPF_MSH | c.BPF_B:
        return k + 1, 0
    return 0, 0


def writes_x(insn: c.ClassicInsn) -> bool:
    return insn.code & 7 == c.BPF_LDX or insn.code & 0xFF == c.BPF_MISC | c.BPF_TAX


def is_call(insn: c.ClassicInsn) -> bool:
    """Whether the translation calls a helper, which loses r1 to r5."""
    return insn.code & 0xE7 == c.BPF_LD | c.BPF_ABS and insn.k - ANCILLARY in (
        c.SKF_AD_CPU,
        c.SKF_AD_RANDOM,
    )


def needs(insns: Sequence[c.ClassicInsn], facts: Facts) -> tuple[list[int], list[int]]:
    """For each instruction the bytes without which nothing from there on can match.

    Counted from the packet's start and from the X of that place. Jumps back promise nothing.
    """
    count = len(insns)
    absolute = [0] * count
    indexed = [0] * count
    for pc in range(count - 1, -1, -1):
        insn, targets = insns[pc], facts.successors[pc]
        if not targets:
            never = insn.code & 7 != c.BPF_RET or (insn.code == c.BPF_RET and insn.k == 0)
            absolute[pc] = indexed[pc] = _ALWAYS_0 if never else 0
            continue
        after = min(absolute[target] if target > pc else 0 for target in targets)
        after_x = min(indexed[target] if target > pc else 0 for target in targets)
        if writes_x(insn) and after_x != _ALWAYS_0:
            after_x = 0
        here, here_x = reach(insn)
        absolute[pc], indexed[pc] = max(after, here), max(after_x, here_x)
    return absolute, indexed
