"""protochain: a loop over the chain of headers, the one thing classic BPF jumps back for."""

from __future__ import annotations

from typing import Final

from skep.filter import gen_link as link
from skep.filter.emit import (
    ADD_K,
    ADD_X,
    JEQ,
    LD_ABS,
    LD_IND,
    LD_MEM,
    LDX_IMM,
    MASK32,
    TAX,
    Cond,
    Emitter,
    both,
    either,
    refused,
    test,
)
from skep.filter.gen_ip import UNDEFINED, inherits_nothing
from skep.filter.ir import Stmt
from skep.isa.classic import (
    BPF_ALU,
    BPF_B,
    BPF_JA,
    BPF_JMP,
    BPF_K,
    BPF_LDX,
    BPF_MISC,
    BPF_MSH,
    BPF_MUL,
    BPF_ST,
    BPF_TXA,
)

_NO_NEXT_HEADER: Final = 59
_AH: Final = 51
#: Extension headers whose second byte is their length: hop-by-hop, destination, routing; then fragment.
_EXTENSIONS: Final = (0, 60, 43, 44)
_TXA: Final = BPF_MISC | BPF_TXA


def protochain(g: Emitter, number: int, over: str | None) -> Cond:
    """Protocol ``number`` somewhere in the chain of headers that starts at IPv4's or IPv6's."""
    # libpcap takes a register here, and keeps it while both halves are made.
    held = g.alloc()
    if over is None:
        four = protochain(g, number, "ip")
        return either(four, protochain(g, number, "ip6"))
    if over == UNDEFINED:
        raise inherits_nothing()
    if over not in ("ip", "ip6"):
        raise refused(f"'{over} protochain' makes no sense", "ip protochain, ip6 protochain")
    if g.payload.variable:
        raise refused("'protochain' needs a link-layer header of fixed length")
    g.fixed = True
    net = g.payload.const + g.net & MASK32
    if over == "ip":
        carried = link.linktype(g, link.IP)
        start = [Stmt(LD_ABS | BPF_B, net + 9 & MASK32), Stmt(BPF_LDX | BPF_MSH | BPF_B, net)]
    else:
        carried = link.linktype(g, link.IPV6)
        start = [Stmt(LD_ABS | BPF_B, net + 6 & MASK32), Stmt(LDX_IMM, 40)]
    loop = test([*start, *_walk(number, net, held, over == "ip6")], JEQ, number)
    g.free(held)
    return both(carried, loop)


def _walk(number: int, net: int, held: int, six: bool) -> list[Stmt]:
    """A = protocol, X = its offset from ``net``: step on until A is ``number``, none, or opaque."""
    end = Stmt(ADD_K, 0)
    is_it = Stmt(JEQ, number, end)
    is_none = Stmt(JEQ, _NO_NEXT_HEADER, end)
    is_it.jf = is_none
    stmts = [is_it, is_none]
    is_ah = Stmt(JEQ, _AH)
    if six:
        # Length in 8-byte units, the first not counted.
        step = [
            Stmt(LD_IND | BPF_B, net),
            Stmt(BPF_ST, held),
            Stmt(LD_IND | BPF_B, net + 1 & MASK32),
            Stmt(ADD_K, 1),
            Stmt(BPF_ALU | BPF_MUL | BPF_K, 8),
            Stmt(ADD_X),
            Stmt(TAX),
            Stmt(LD_MEM, held),
        ]
        tests = [Stmt(JEQ, header, step[0]) for header in _EXTENSIONS]
        for one, other in zip([is_none, *tests], [*tests, is_ah], strict=True):
            one.jf = other
        stmts += tests
        stmts += step
        stmts.append(_again(len(stmts), is_it))
    else:
        skipped = Stmt(ADD_K, 0)
        is_none.jf = skipped
        stmts.append(skipped)
    # AH: length in 4-byte units, two not counted; libpcap moves X to read it.
    past = Stmt(_TXA)
    is_ah.jt, is_ah.jf = past, end
    stmts += (
        is_ah,
        past,
        Stmt(LD_IND | BPF_B, net),
        Stmt(BPF_ST, held),
        Stmt(_TXA),
        Stmt(ADD_K, 1),
        Stmt(TAX),
        Stmt(LD_IND | BPF_B, net),
        Stmt(ADD_K, 2),
        Stmt(BPF_ALU | BPF_MUL | BPF_K, 4),
        Stmt(TAX),
        Stmt(LD_MEM, held),
    )
    stmts.append(_again(len(stmts), is_it))
    stmts.append(end)
    return stmts


def _again(position: int, target: Stmt) -> Stmt:
    """The jump back, ``position`` statements behind its target."""
    return Stmt(BPF_JMP | BPF_JA, -position - 1 & MASK32, target)
