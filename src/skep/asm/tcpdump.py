"""Classic BPF as `tcpdump -d`, `-dd` and `-ddd` write it (libpcap's bpf_image).

libpcap prints most numbers with %d, so those of 2**31 and above appear negative, as here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from skep.isa import classic as c
from skep.isa.classic import ClassicInsn

_AD: Final = {
    c.SKF_AD_PROTOCOL: "proto",
    c.SKF_AD_PKTTYPE: "type",
    c.SKF_AD_IFINDEX: "ifidx",
    c.SKF_AD_NLATTR: "nla",
    c.SKF_AD_NLATTR_NEST: "nlan",
    c.SKF_AD_MARK: "mark",
    c.SKF_AD_QUEUE: "queue",
    c.SKF_AD_HATYPE: "hatype",
    c.SKF_AD_RXHASH: "rxhash",
    c.SKF_AD_CPU: "cpu",
    c.SKF_AD_ALU_XOR_X: "xor_x",
    c.SKF_AD_VLAN_TAG: "vlan_tci",
    c.SKF_AD_VLAN_TAG_PRESENT: "vlanp",
    c.SKF_AD_PAY_OFFSET: "poff",
    c.SKF_AD_RANDOM: "random",
    c.SKF_AD_VLAN_TPID: "vlan_tpid",
}
_ABS: Final = {c.BPF_W: "ld", c.BPF_H: "ldh", c.BPF_B: "ldb"}
_FIXED: Final = {
    c.BPF_RET | c.BPF_A: ("ret", ""),
    c.BPF_LD | c.BPF_W | c.BPF_LEN: ("ld", "#pktlen"),
    c.BPF_ALU | c.BPF_NEG: ("neg", ""),
    c.BPF_MISC | c.BPF_TAX: ("tax", ""),
    c.BPF_MISC | c.BPF_TXA: ("txa", ""),
}
_K: Final = {
    c.BPF_RET | c.BPF_K: ("ret", "#{d}"),
    c.BPF_LD | c.BPF_W | c.BPF_IND: ("ld", "[x + {d}]"),
    c.BPF_LD | c.BPF_H | c.BPF_IND: ("ldh", "[x + {d}]"),
    c.BPF_LD | c.BPF_B | c.BPF_IND: ("ldb", "[x + {d}]"),
    c.BPF_LD | c.BPF_IMM: ("ld", "#0x{u:x}"),
    c.BPF_LDX | c.BPF_IMM: ("ldx", "#0x{u:x}"),
    c.BPF_LDX | c.BPF_MSH | c.BPF_B: ("ldxb", "4*([{d}]&0xf)"),
    c.BPF_LD | c.BPF_MEM: ("ld", "M[{d}]"),
    c.BPF_LDX | c.BPF_MEM: ("ldx", "M[{d}]"),
    c.BPF_ST: ("st", "M[{d}]"),
    c.BPF_STX: ("stx", "M[{d}]"),
}
_JUMPS: Final = {c.BPF_JEQ: "jeq", c.BPF_JGT: "jgt", c.BPF_JGE: "jge", c.BPF_JSET: "jset"}
_ARITHMETIC: Final = {
    c.BPF_ADD: ("add", "#{d}"),
    c.BPF_SUB: ("sub", "#{d}"),
    c.BPF_MUL: ("mul", "#{d}"),
    c.BPF_DIV: ("div", "#{d}"),
    c.BPF_MOD: ("mod", "#{d}"),
    c.BPF_AND: ("and", "#0x{u:x}"),
    c.BPF_OR: ("or", "#0x{u:x}"),
    c.BPF_XOR: ("xor", "#0x{u:x}"),
    c.BPF_LSH: ("lsh", "#{d}"),
    c.BPF_RSH: ("rsh", "#{d}"),
}


def _signed(k: int) -> int:
    return k - (1 << 32) if k & 0x80000000 else k


def operation(insn: ClassicInsn, pc: int) -> tuple[str, str]:
    """Mnemonic and operand of one instruction at slot ``pc``; ``unimp`` for an unknown opcode."""
    code, k = insn.code, insn.k
    if code in _FIXED:
        return _FIXED[code]
    cls = code & 7
    if code in _K:
        name, form = _K[code]
        return name, form.format(d=_signed(k), u=k)
    if cls == c.BPF_LD and code & ~0x18 == c.BPF_ABS and code & 0x18 in _ABS:
        ancillary = _AD.get(_signed(k) - c.SKF_AD_OFF)
        return _ABS[code & 0x18], f"[{ancillary if ancillary else _signed(k)}]"
    if code == c.BPF_JMP | c.BPF_JA:
        return "ja", str(_signed((pc + 1 + k) & 0xFFFFFFFF))
    if cls == c.BPF_JMP and code & 0xF0 in _JUMPS and code < 0x100:
        return _JUMPS[code & 0xF0], "x" if code & c.BPF_X else f"#0x{k:x}"
    if cls == c.BPF_ALU and code & 0xF0 in _ARITHMETIC and code < 0x100:
        name, form = _ARITHMETIC[code & 0xF0]
        return name, "x" if code & c.BPF_X else form.format(d=_signed(k), u=k)
    return "unimp", f"0x{code:x}"


def image(insn: ClassicInsn, pc: int) -> str:
    """The line of `tcpdump -d` for one instruction at slot ``pc``. Never fails."""
    name, operand = operation(insn, pc)
    # libpcap asks for the class and "not JA" only, so unknown jumps show their targets too.
    if insn.code & 7 == c.BPF_JMP and insn.code & 0xF0 != c.BPF_JA:
        targets = f"jt {pc + 1 + insn.jt}\tjf {pc + 1 + insn.jf}"
        return f"({pc:03d}) {name:<8} {operand:<16} {targets}"
    return f"({pc:03d}) {name:<8} {operand}"


def listing(insns: Iterable[ClassicInsn]) -> list[str]:
    """`tcpdump -d`."""
    return [image(insn, pc) for pc, insn in enumerate(insns)]


def listing_c(insns: Iterable[ClassicInsn]) -> list[str]:
    """`tcpdump -dd`: initialisers of struct sock_filter (struct bpf_insn in BSD)."""
    return [f"{{ 0x{code:x}, {jt}, {jf}, 0x{k:08x} }}," for code, jt, jf, k in insns]


def listing_decimal(insns: Iterable[ClassicInsn]) -> list[str]:
    """`tcpdump -ddd`: the count, then four decimal numbers an instruction."""
    lines = [f"{code} {jt} {jf} {k}" for code, jt, jf, k in insns]
    return [str(len(lines)), *lines]
