"""Classic BPF into extended BPF, in two forms.

``skb``: packet bytes through the legacy loads LD_ABS and LD_IND, as the kernel's own converter
(net/core/filter.c) does, but as a program that bpf(2) loads as a socket filter.

``direct``: packet bytes through pointers, guarded by bounds checks that the verifier accepts, for XDP
and tc programs (`skep.filter.ebpf_direct`).

Registers: A in r0, X in r7, the context in r6; both accumulators are 32 bits wide and their upper
halves zero. M[i] is the double word at r10 - 8 * (i + 1): verifiers forget the bounds of a half one.
Needs Linux 5.1 (JMP32); loops, which only ``protochain`` makes, need 6.9 (may_goto).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

from skep.errors import VerifierError
from skep.filter.ebpf_code import Code, opposite
from skep.filter.ebpf_facts import ANCILLARY, Facts, study
from skep.isa import Insn
from skep.isa import classic as c
from skep.isa import opcodes as e

Form = Literal["skb", "direct"]
ProgType = Literal["xdp", "tc"]
Rules = Literal["pcap", "linux"]

A, X, CTX = 0, 7, 6
REJECT = -1  # label of "no match"

FUNC_GET_PRANDOM_U32 = 7
FUNC_GET_SMP_PROCESSOR_ID = 8

_JUMPS = {c.BPF_JEQ: e.BPF_JEQ, c.BPF_JGT: e.BPF_JGT, c.BPF_JGE: e.BPF_JGE, c.BPF_JSET: e.BPF_JSET}


class Verdict(NamedTuple):
    """What a program returns when the filter keeps the packet (``match``) and when it does not.

    XDP: 1 drops, 2 passes. tc: 0 accepts, 2 drops, -1 goes on with the next filter.
    """

    match: int
    other: int


def translate(
    insns: Sequence[c.ClassicInsn],
    *,
    form: Form = "skb",
    prog_type: ProgType = "xdp",
    rules: Rules = "pcap",
    verdict: Verdict | None = None,
) -> list[Insn]:
    """Extended code that decides as ``insns`` do.

    Args:
        insns: classic code; jumps back (``protochain``) are allowed.
        form: ``skb`` for socket filters and for the machines without a kernel, ``direct`` for XDP and tc.
        prog_type: which context the direct form reads.
        rules: where libpcap and Linux differ. ``pcap``: an indexed load whose offset exceeds 32 bits
            is outside the packet, a shift by 32 or more gives 0, a constant offset of 2**31 or more is
            outside unless ancillary. ``linux``: the offset wraps and may be negative (SKF_NET_OFF,
            SKF_LL_OFF), shift counts are masked. The direct form has only ``pcap``.
        verdict: direct form only: values to return instead of the number of bytes to keep.

    Raises:
        VerifierError: the code is not legal, or reads what such a program cannot; or there is no such form.
    """
    for name, value, known in (("form", form, get_args(Form)), ("rules", rules, get_args(Rules))):
        if value not in known:
            raise VerifierError(f"{name} is {' or '.join(map(repr, known))}, not {value!r}")
    if form == "direct":
        from skep.filter.ebpf_direct import LONGEST, Direct

        if rules != "pcap":
            raise VerifierError("the direct form follows libpcap's rules only", hint='rules="pcap"')
        return Direct(insns, study(insns, LONGEST, swaps=False), prog_type, verdict).translate()
    if verdict is not None:
        raise VerifierError(
            "a packet too short ends the skb form with 0, whatever the verdict", hint='use form="direct"'
        )
    facts = study(insns, 0x7FFFFFFF) if rules == "pcap" else study(insns)
    return Translator(insns, facts, rules).translate()


class Translator:
    """The skb form, and what both forms share: everything but packet and ancillary loads."""

    def __init__(self, insns: Sequence[c.ClassicInsn], facts: Facts, rules: Rules) -> None:
        self.insns = insns
        self.facts = facts
        self.rules = rules
        self.code = Code()

    def translate(self) -> list[Insn]:
        self.prologue()
        for word in sorted(self.facts.zeroed):
            self.code.op(e.BPF_ST | e.BPF_MEM | e.BPF_DW, 10, off=_slot(word))
        for pc in range(len(self.insns)):
            if self.facts.before[pc] is not None:
                self.code.label(pc)
                self.insn(pc)
        if self.code.wants(REJECT):  # verifiers refuse dead code
            self.code.label(REJECT)
            self.leave(0)
        return self.code.assemble()

    # --- what the direct form does otherwise ---------------------------------------------------

    def prologue(self) -> None:
        self.code.op(e.BPF_ALU64 | e.BPF_MOV | e.BPF_X, CTX, 1)
        self.mov_imm(A, 0)
        self.mov_imm(X, 0)

    def leave(self, value: int) -> None:
        """Return a constant."""
        self.mov_imm(A, value)
        self.code.exit()

    def leave_a(self) -> None:
        """Return A."""
        self.code.exit()

    def length(self, dst: int) -> None:
        """``dst`` = length of the packet in bytes."""
        self.field(dst, 0)

    def load(self, pc: int, size: int, k: int) -> None:
        """A = big-endian bytes at ``k``."""
        self.code.op(e.BPF_LD | e.BPF_ABS | size, imm=k)

    def load_indexed(self, pc: int, size: int, k: int) -> None:
        """A = big-endian bytes at X + ``k``."""
        if self.rules == "pcap" and self.x_bound(pc) + k > 0x7FFFFFFF:
            self.code.jump(e.BPF_JMP32 | e.BPF_JGT, REJECT, X, imm=0x7FFFFFFF - k)
        self.code.op(e.BPF_LD | e.BPF_IND | size, src=X, imm=k)

    def header_length(self, pc: int, k: int) -> None:
        """X = 4 * (packet[k] & 15); A is kept, and LD_ABS puts its result into A's register."""
        self.code.op(e.BPF_ALU64 | e.BPF_MOV | e.BPF_X, X, A)
        self.load(pc, e.BPF_B, k)
        self.alu(e.BPF_AND, A, 15)
        self.alu(e.BPF_LSH, A, 2)
        self.code.op(e.BPF_ALU64 | e.BPF_MOV | e.BPF_X, 1, X)
        self.code.op(e.BPF_ALU64 | e.BPF_MOV | e.BPF_X, X, A)
        self.code.op(e.BPF_ALU64 | e.BPF_MOV | e.BPF_X, A, 1)

    def ancillary(self, pc: int, what: int) -> None:
        """A = a property of the packet that is not in its bytes."""
        if what == c.SKF_AD_PROTOCOL:
            self.field(A, 16, swap=True)
        elif what == c.SKF_AD_PKTTYPE:
            self.field(A, 4)
        elif what == c.SKF_AD_IFINDEX:
            self.field(A, 40)
        elif what == c.SKF_AD_MARK:
            self.field(A, 8)
        elif what == c.SKF_AD_QUEUE:
            self.field(A, 12)
        elif what == c.SKF_AD_RXHASH:
            self.field(A, 68)
        elif what == c.SKF_AD_VLAN_TAG:
            self.field(A, 24)
        elif what == c.SKF_AD_VLAN_TAG_PRESENT:
            self.field(A, 20)
        elif what == c.SKF_AD_VLAN_TPID:
            self.field(A, 28, swap=True)
        else:
            self.refuse_ancillary(pc, what, "a socket filter loaded with bpf(2)")

    # --- shared ---------------------------------------------------------------------------------

    def x_bound(self, pc: int) -> int:
        """The largest X that can reach ``pc``."""
        state = self.facts.before[pc]
        assert state is not None
        return state.x

    def mov_imm(self, dst: int, value: int) -> None:
        self.code.op(e.BPF_ALU | e.BPF_MOV | e.BPF_K, dst, imm=value & 0xFFFFFFFF)

    def alu(self, operation: int, dst: int, imm: int) -> None:
        self.code.op(e.BPF_ALU | operation | e.BPF_K, dst, imm=imm)

    def field(self, dst: int, offset: int, *, swap: bool = False) -> None:
        """``dst`` = the 32-bit context field at ``offset``, a network-order 16-bit number if ``swap``."""
        self.code.op(e.BPF_LDX | e.BPF_MEM | e.BPF_W, dst, CTX, offset)
        if swap:
            self.code.op(e.BPF_ALU | e.BPF_END | e.BPF_TO_BE, dst, imm=16)

    def refuse_ancillary(self, pc: int, what: int, where: str) -> None:
        name = _ANCILLARY.get(what, f"SKF_AD_OFF + {what}")
        raise VerifierError(
            f"ancillary load {name} has no equivalent in {where}",
            insn=pc,
            hint="attach the classic code instead",
        )

    def insn(self, pc: int) -> None:
        code, _, _, k = self.insns[pc]
        kind = code & 7
        if not self.facts.successors[pc] and kind != c.BPF_RET:
            self.code.goto(REJECT)
        elif kind == c.BPF_LD:
            self._ld(pc, code, k)
        elif kind == c.BPF_LDX:
            mode = code & 0xE0
            if mode == c.BPF_IMM:
                self.mov_imm(X, k)
            elif mode == c.BPF_MEM:
                self.code.op(e.BPF_LDX | e.BPF_MEM | e.BPF_DW, X, 10, _slot(k))
            elif mode == c.BPF_LEN:
                self.length(X)
            else:
                self.header_length(pc, k)
        elif kind in (c.BPF_ST, c.BPF_STX):
            self.code.op(e.BPF_STX | e.BPF_MEM | e.BPF_DW, 10, A if kind == c.BPF_ST else X, _slot(k))
        elif kind == c.BPF_ALU:
            self._alu(pc, code, k)
        elif kind == c.BPF_JMP:
            self._jump(pc)
        elif kind == c.BPF_RET:
            if code == c.BPF_RET | c.BPF_A:
                self.leave_a()
            else:
                self.leave(k)
        elif code & 0xF8 == c.BPF_TAX:
            self.code.op(e.BPF_ALU | e.BPF_MOV | e.BPF_X, X, A)
        else:
            self.code.op(e.BPF_ALU | e.BPF_MOV | e.BPF_X, A, X)

    def _ld(self, pc: int, code: int, k: int) -> None:
        mode, size = code & 0xE0, code & 0x18
        if mode == c.BPF_IMM:
            self.mov_imm(A, k)
        elif mode == c.BPF_MEM:
            self.code.op(e.BPF_LDX | e.BPF_MEM | e.BPF_DW, A, 10, _slot(k))
        elif mode == c.BPF_LEN:
            self.length(A)
        elif mode == c.BPF_IND:
            self.load_indexed(pc, size, k)
        elif k < ANCILLARY:
            self.load(pc, size, k)
        else:
            what = k - ANCILLARY
            if what == c.SKF_AD_ALU_XOR_X:
                self.code.op(e.BPF_ALU | e.BPF_XOR | e.BPF_X, A, X)
            elif what == c.SKF_AD_CPU:
                self.code.op(e.CALL, imm=FUNC_GET_SMP_PROCESSOR_ID)
            elif what == c.SKF_AD_RANDOM:
                self.code.op(e.CALL, imm=FUNC_GET_PRANDOM_U32)
            else:
                self.ancillary(pc, what)

    def _alu(self, pc: int, code: int, k: int) -> None:
        operation = code & 0xF0
        if operation == c.BPF_NEG:
            self.code.op(e.BPF_ALU | e.BPF_NEG, A)
            return
        if not code & c.BPF_X:
            self.alu(operation, A, k)
            return
        if operation in (c.BPF_DIV, c.BPF_MOD):
            self.code.jump(e.BPF_JMP32 | e.BPF_JEQ, REJECT, X)
        elif operation in (c.BPF_LSH, c.BPF_RSH) and self.rules == "pcap" and self.x_bound(pc) > 31:
            # Nothing shifted by any count is nothing: no second jump is needed.
            self.code.op(e.BPF_JMP32 | e.BPF_JLE, X, off=1, imm=31)
            self.mov_imm(A, 0)
        self.code.op(e.BPF_ALU | operation | e.BPF_X, A, X)

    def _jump(self, pc: int) -> None:
        code, jt, jf, k = self.insns[pc]
        targets = self.facts.successors[pc]
        if min(targets) <= pc:
            # A verifier does not follow libpcap's protochain to its end; may_goto bounds it.
            self.code.jump(e.MAY_GOTO, REJECT)
        if len(targets) == 1:
            self.code.goto(targets[0])
            return
        opcode = e.BPF_JMP32 | _JUMPS[code & 0xF0] | code & c.BPF_X
        src, imm = (X, 0) if code & c.BPF_X else (0, k)
        inverse = opposite(opcode)
        if jt == 0 and inverse is not None:
            self.code.jump(inverse, targets[1], A, src, imm)
        else:
            self.code.jump(opcode, targets[0], A, src, imm)
            if jf:
                self.code.goto(targets[1])


def _slot(word: int) -> int:
    return -8 * (word + 1)


_ANCILLARY = {
    c.SKF_AD_PROTOCOL: "SKF_AD_PROTOCOL",
    c.SKF_AD_PKTTYPE: "SKF_AD_PKTTYPE",
    c.SKF_AD_IFINDEX: "SKF_AD_IFINDEX",
    c.SKF_AD_NLATTR: "SKF_AD_NLATTR",
    c.SKF_AD_NLATTR_NEST: "SKF_AD_NLATTR_NEST",
    c.SKF_AD_MARK: "SKF_AD_MARK",
    c.SKF_AD_QUEUE: "SKF_AD_QUEUE",
    c.SKF_AD_HATYPE: "SKF_AD_HATYPE",
    c.SKF_AD_RXHASH: "SKF_AD_RXHASH",
    c.SKF_AD_VLAN_TAG: "SKF_AD_VLAN_TAG",
    c.SKF_AD_VLAN_TAG_PRESENT: "SKF_AD_VLAN_TAG_PRESENT",
    c.SKF_AD_PAY_OFFSET: "SKF_AD_PAY_OFFSET",
    c.SKF_AD_VLAN_TPID: "SKF_AD_VLAN_TPID",
}
