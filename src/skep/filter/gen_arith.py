"""Arithmetic: packet bytes, numbers, operators, relations. All is unsigned and modulo 2**32."""

from __future__ import annotations

from typing import Final

from skep.filter import linktypes as lt
from skep.filter.emit import (
    ADD_X,
    LD_IMM,
    LD_IND,
    LD_MEM,
    LDX_MEM,
    LINKPL,
    MASK32,
    TAX,
    Cond,
    Emitter,
    both,
    negate,
    refused,
    test,
)
from skep.filter.gen_ip import abbreviation, first_fragment
from skep.filter.ir import Stmt
from skep.isa.classic import (
    BPF_ADD,
    BPF_ALU,
    BPF_AND,
    BPF_B,
    BPF_DIV,
    BPF_H,
    BPF_JEQ,
    BPF_JMP,
    BPF_K,
    BPF_LD,
    BPF_LEN,
    BPF_LSH,
    BPF_MOD,
    BPF_MUL,
    BPF_NEG,
    BPF_OR,
    BPF_RSH,
    BPF_ST,
    BPF_SUB,
    BPF_W,
    BPF_X,
    BPF_XOR,
)

OPERATORS: Final = {
    "+": BPF_ADD,
    "-": BPF_SUB,
    "*": BPF_MUL,
    "/": BPF_DIV,
    "%": BPF_MOD,
    "&": BPF_AND,
    "|": BPF_OR,
    "^": BPF_XOR,
    "<<": BPF_LSH,
    ">>": BPF_RSH,
}
_SIZES = {1: BPF_B, 2: BPF_H, 4: BPF_W}
_NETWORK = frozenset(["ip", "arp", "rarp", "atalk", "decnet", "sca", "lat", "moprc", "mopdl", "ip6"])
_TRANSPORT = frozenset(["sctp", "tcp", "udp", "icmp", "igmp", "igrp", "pim", "vrrp", "carp"])


class Arith:
    """Statements that leave a value in scratch register ``reg``; ``guard`` must hold for it to have one."""

    __slots__ = ("guard", "reg", "stmts")

    def __init__(self, stmts: list[Stmt], reg: int, guard: Cond | None = None) -> None:
        self.stmts = stmts
        self.reg = reg
        self.guard = guard


def constant(g: Emitter, value: int) -> Arith:
    reg = g.alloc()
    return Arith([Stmt(LD_IMM, value), Stmt(BPF_ST, reg)], reg)


def length(g: Emitter) -> Arith:
    """The packet's length on the wire."""
    reg = g.alloc()
    return Arith([Stmt(BPF_LD | BPF_LEN), Stmt(BPF_ST, reg)], reg)


def minus(g: Emitter, a: Arith) -> Arith:
    a.stmts += (Stmt(LD_MEM, a.reg), Stmt(BPF_ALU | BPF_NEG), Stmt(BPF_ST, a.reg))
    return a


def operate(g: Emitter, sign: str, a: Arith, b: Arith) -> Arith:
    """a ``sign`` b."""
    code = OPERATORS[sign]
    first = b.stmts[0]
    if first.code == LD_IMM:
        if code in (BPF_DIV, BPF_MOD) and first.k == 0:
            raise refused("division by zero" if code == BPF_DIV else "remainder of a division by zero")
        if code in (BPF_LSH, BPF_RSH) and first.k > 31:
            raise refused(f"a shift by {first.k} bits: numbers have 32")
    a.stmts += b.stmts
    a.stmts += (Stmt(LDX_MEM, b.reg), Stmt(LD_MEM, a.reg), Stmt(BPF_ALU | BPF_X | code))
    g.free(a.reg)
    g.free(b.reg)
    a.reg = g.alloc()
    a.stmts.append(Stmt(BPF_ST, a.reg))
    # libpcap forgets b's guard here, and with it that b's bytes belong to another protocol.
    return a


def load(g: Emitter, proto: str, index: Arith, size: int) -> Arith:
    """``proto[index:size]``: ``size`` bytes from the header of ``proto`` on, which must be there."""
    reg = g.alloc()
    g.free(index.reg)
    width = _SIZES.get(size)
    if width is None:
        raise refused(f"{size} bytes cannot be loaded at once", "1, 2 or 4 can")
    stmts = index.stmts
    net = (g.payload.const + g.net) & MASK32
    if proto == "link":
        _indexed(g, stmts, index, g.varpart(g.linkhdr), width, g.linkhdr.const)
    elif proto == "radio":
        if g.linktype not in (lt.IEEE802_11_RADIO_AVS, lt.IEEE802_11_RADIO, lt.PRISM_HEADER):
            raise refused("this link type has no radio header")
        _indexed(g, stmts, index, [], width, 0)
    elif proto in _NETWORK:
        _indexed(g, stmts, index, g.varpart(g.payload), width, net)
        _guard(index, abbreviation(g, proto))
    elif proto in _TRANSPORT:
        _indexed(g, stmts, index, g.load_ip_header_length(), width, net)
        carried = abbreviation(g, proto)
        cond = both(carried, first_fragment(g))
        if index.guard is not None:
            cond = both(index.guard, cond)
        index.guard = both(abbreviation(g, "ip"), cond)
    elif proto == "icmp6":
        _guard(index, abbreviation(g, "ip6"))
        _guard(index, g.equal(LINKPL, 6, BPF_B, 58))
        _indexed(g, stmts, index, g.varpart(g.payload), width, (net + 40) & MASK32)
    else:
        raise refused(f"{proto!r} has no bytes that can be indexed")
    index.reg = reg
    stmts.append(Stmt(BPF_ST, reg))
    return index


def _indexed(g: Emitter, stmts: list[Stmt], index: Arith, variable: list[Stmt], width: int, at: int) -> None:
    """A = bytes at (variable part, in X) + index + ``at``."""
    if variable:
        stmts += variable
        stmts += (Stmt(LD_MEM, index.reg), Stmt(ADD_X), Stmt(TAX))
    else:
        stmts.append(Stmt(LDX_MEM, index.reg))
    stmts.append(Stmt(LD_IND | width, at & MASK32))


def _guard(index: Arith, cond: Cond) -> None:
    index.guard = cond if index.guard is None else both(index.guard, cond)


def relation(g: Emitter, jump: int, reverse: bool, a: Arith, b: Arith) -> Cond:
    """a ``jump`` (BPF_JGT, _JGE, _JEQ) b, negated by ``reverse``."""
    stmts = a.stmts
    stmts += b.stmts
    stmts += (Stmt(LDX_MEM, b.reg), Stmt(LD_MEM, a.reg))
    if jump == BPF_JEQ:
        stmts.append(Stmt(BPF_ALU | BPF_SUB | BPF_X))
        cond = test(stmts, BPF_JMP | BPF_JEQ | BPF_K, 0)
    else:
        cond = test(stmts, BPF_JMP | jump | BPF_X, 0)
    if reverse:
        negate(cond)
    g.free(a.reg)
    g.free(b.reg)
    guard = a.guard
    if guard is None:
        guard = b.guard
    elif b.guard is not None:
        guard = both(guard, b.guard)
    return cond if guard is None else both(guard, cond)
