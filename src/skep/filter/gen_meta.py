"""Tests of the packet as a whole: its length, direction, interface, single bytes."""

from __future__ import annotations

from typing import Final

from skep.filter import gen_arith as arith
from skep.filter import linktypes as lt
from skep.filter.emit import (
    AND_K,
    JEQ,
    JGE,
    JGT,
    LINKHDR,
    Cond,
    Emitter,
    negate,
    refused,
    test,
)
from skep.filter.ir import Stmt
from skep.isa.classic import (
    BPF_ALU,
    BPF_B,
    BPF_H,
    BPF_JEQ,
    BPF_K,
    BPF_LD,
    BPF_LEN,
    BPF_OR,
    BPF_W,
    SKF_AD_IFINDEX,
    SKF_AD_OFF,
    SKF_AD_PKTTYPE,
)

_OUTGOING: Final = 4  # PACKET_OUTGOING; cooked headers use the same number


def less(g: Emitter, length: int) -> Cond:
    """At most ``length`` bytes long."""
    return negate(test([Stmt(BPF_LD | BPF_LEN)], JGT, length))


def greater(g: Emitter, length: int) -> Cond:
    """At least ``length`` bytes long."""
    return test([Stmt(BPF_LD | BPF_LEN)], JGE, length)


def byte(g: Emitter, index: int, sign: str, value: int) -> Cond:
    """`byte 12 = 8`: a byte of the link-layer header compared or masked."""
    if sign == "=":
        return g.equal(LINKHDR, index, BPF_B, value)
    if sign == "<":
        return negate(g.at_least(LINKHDR, index, BPF_B, value))
    if sign == ">":
        return g.greater(LINKHDR, index, BPF_B, value)
    # libpcap loads nothing for these two: A is what the test before left there.
    mask = AND_K if sign == "&" else BPF_ALU | BPF_OR | BPF_K
    return negate(test([Stmt(mask, value)], JEQ, 0))


def ifindex(g: Emitter, number: int) -> Cond:
    """Captured on the interface of this number."""
    if g.linktype == lt.LINUX_SLL2:
        return g.equal(LINKHDR, 4, BPF_W, number)
    if g.savefile:
        raise refused("captures of this link type do not keep the interface's number")
    return g.equal(LINKHDR, SKF_AD_OFF + SKF_AD_IFINDEX, BPF_W, number)


def direction(g: Emitter, outbound: bool) -> Cond:
    """Sent by this host, or received."""
    link = g.linktype
    if link == lt.SLIP:
        # The compiled order of the operands decides the registers.
        zero = arith.constant(g, 0)
        first = arith.load(g, "link", arith.constant(g, 0), 1)
        return arith.relation(g, BPF_JEQ, outbound, first, zero)
    if link == lt.IPNET:
        return g.equal(LINKHDR, 2, BPF_H, 1 if outbound else 2)
    if link == lt.LINUX_SLL:
        cond = g.equal(LINKHDR, 0, BPF_H, _OUTGOING)
    elif link == lt.LINUX_SLL2:
        cond = g.equal(LINKHDR, 10, BPF_B, _OUTGOING)
    elif link == lt.PFLOG:
        return g.equal(LINKHDR, 60, BPF_B, 2 if outbound else 1)
    elif link == lt.PPP_PPPD:
        return g.equal(LINKHDR, 0, BPF_B, int(outbound))
    elif link in lt.JUNIPER:
        return g.equal(LINKHDR, 3, BPF_B, int(not outbound), 0x01)
    elif g.savefile:
        raise refused("captures of this link type do not keep the direction")
    else:
        cond = g.equal(LINKHDR, SKF_AD_OFF + SKF_AD_PKTTYPE, BPF_H, _OUTGOING)
    return cond if outbound else negate(cond)
