"""Code in front of everything: lengths of headers that differ from packet to packet.

It goes into the first block, once the whole expression is known, and only for lengths that are used.
"""

from __future__ import annotations

from typing import Final

from skep.filter import linktypes as lt
from skep.filter.emit import (
    ADD_K,
    AND_K,
    JEQ,
    JSET,
    LD_ABS,
    LD_IMM,
    LD_IND,
    LD_MEM,
    LDX_IMM,
    TAX,
    Cond,
    Emitter,
    both,
    test,
)
from skep.filter.ir import Stmt
from skep.isa.classic import (
    BPF_ALU,
    BPF_B,
    BPF_JA,
    BPF_JMP,
    BPF_K,
    BPF_LSH,
    BPF_MISC,
    BPF_OR,
    BPF_ST,
    BPF_TXA,
    BPF_W,
    BPF_X,
)

_IEEE80211_IN_PPI: Final = 0x69000000  # DLT 105, little-endian in the header


def prepend(g: Emitter, cond: Cond) -> Cond:
    """``cond`` with what its offsets need in front.

    The lengths are those of the outermost headers. libpcap computes the innermost's: behind `geneve` or
    `pppoes` over 802.11 or pflog it reads scratch words that nothing has set.
    """
    header, payload = g.outer_linkhdr, g.outer_payload
    if payload.reg != -1 and header.variable and header.reg == -1:
        header.reg = g.alloc()
    first = cond.head
    stmts: list[Stmt] = []
    if g.outermost in lt.WIRELESS:
        g.fixed = g.fixed or g.outermost == lt.PRISM_HEADER
        if header.reg != -1:
            stmts = _radio_header(g)
        stmts = _wlan_header(g, stmts, first.stmts[0])
    elif g.outermost == lt.PFLOG and payload.reg != -1:
        # The first byte is the length, without its padding to four bytes.
        stmts = [
            Stmt(LD_ABS | BPF_B, 0),
            Stmt(ADD_K, 3),
            Stmt(AND_K, 0xFFFFFFFC),
            Stmt(BPF_ST, payload.reg),
            Stmt(TAX),
        ]
    if not stmts and g.vlan_in_metadata:
        stmts = [Stmt(LD_IMM, 0), Stmt(BPF_ST, payload.reg), Stmt(BPF_ST, g.outer_type_at.reg)]
    if g.zeroed:
        stmts = [Stmt(LD_IMM, 0), *(Stmt(BPF_ST, reg) for reg in g.zeroed), *stmts]
    if stmts:
        first.stmts = stmts + first.stmts
    if g.outermost == lt.PPI:
        cond = both(test([Stmt(LD_ABS | BPF_W, 4)], JEQ, _IEEE80211_IN_PPI), cond)
    return cond


def _radio_header(g: Emitter) -> list[Stmt]:
    """X and the register = length of what precedes the 802.11 header."""
    store = [Stmt(BPF_ST, g.outer_linkhdr.reg), Stmt(TAX)]
    if g.outermost == lt.IEEE802_11_RADIO_AVS:
        return [Stmt(LD_ABS | BPF_W, 4), *store]
    if g.outermost == lt.PRISM_HEADER:
        # AVS headers are found under this link type too, and say so; Prism's own length is fixed.
        avs = Stmt(LD_ABS | BPF_W, 4)
        prism = Stmt(LD_IMM, 144)
        return [
            Stmt(LD_ABS | BPF_W, 0),
            Stmt(AND_K, 0xFFFFF000),
            Stmt(JEQ, 0x80211000, avs, prism),
            avs,
            Stmt(BPF_JMP | BPF_JA, 1, store[0]),
            prism,
            *store,
        ]
    # radiotap and PPI: 16 bits, little-endian.
    return [
        Stmt(LD_ABS | BPF_B, 3),
        Stmt(BPF_ALU | BPF_LSH | BPF_K, 8),
        Stmt(TAX),
        Stmt(LD_ABS | BPF_B, 2),
        Stmt(BPF_ALU | BPF_OR | BPF_X),
        *store,
    ]


def _wlan_header(g: Emitter, stmts: list[Stmt], then: Stmt) -> list[Stmt]:
    """The register = start of the payload: 24 bytes on, 26 for QoS data, padded where radiotap says so."""
    reg = g.outer_payload.reg
    if reg == -1:
        return stmts
    g.fixed = True
    if not stmts:
        stmts = [Stmt(LDX_IMM, g.outermost_linkhdr.const)]
    data = Stmt(JSET, 0x08)
    control = Stmt(JSET, 0x04)
    qos = Stmt(JSET, 0x80)
    grow = Stmt(LD_MEM, reg)
    data.jt, data.jf = control, then
    control.jt, control.jf = then, qos
    qos.jt = grow
    stmts += (
        Stmt(BPF_MISC | BPF_TXA),
        Stmt(ADD_K, 24),
        Stmt(BPF_ST, reg),
        Stmt(LD_IND | BPF_B, 0),
        data,
        control,
        qos,
        grow,
        Stmt(ADD_K, 2),
        Stmt(BPF_ST, reg),
    )
    if g.outermost != lt.IEEE802_11_RADIO:
        qos.jf = then
        return stmts
    # radiotap's flags field, when present and not displaced by further bitmaps, tells of padding;
    # an eight-byte timestamp may come before it. The words are little-endian.
    present = Stmt(LD_ABS | BPF_W, 4)
    flags = Stmt(JSET, 0x02000000)
    more = Stmt(JSET, 0x00000080)
    timestamp = Stmt(JSET, 0x01000000)
    after = Stmt(LD_ABS | BPF_B, 16)
    padded_after = Stmt(JSET, 0x20)
    plain = Stmt(LD_ABS | BPF_B, 8)
    padded = Stmt(JSET, 0x20)
    round_up = Stmt(LD_MEM, reg)
    qos.jf = present
    flags.jt, flags.jf = more, then
    more.jt, more.jf = then, timestamp
    timestamp.jt, timestamp.jf = after, plain
    padded_after.jt, padded_after.jf = round_up, then
    padded.jt, padded.jf = round_up, then
    stmts += (
        present,
        flags,
        more,
        timestamp,
        after,
        padded_after,
        plain,
        padded,
        round_up,
        Stmt(ADD_K, 3),
        Stmt(AND_K, 0xFFFFFFFC),
        Stmt(BPF_ST, reg),
    )
    return stmts
