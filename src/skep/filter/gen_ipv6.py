"""Opt-in: transport protocols behind IPv6 extension headers (RFC 8200), where libpcap looks at none.

Classic BPF jumps forward only, so the walk is unrolled for as many headers as the standard's longest
recommended chain has, and two more. ESP ends it: nothing behind can be read.
"""

from __future__ import annotations

from typing import Final

from skep.filter import gen_link as link
from skep.filter.emit import (
    ADD_K,
    ADD_X,
    JEQ,
    JSET,
    LD_IMM,
    LD_IND,
    LD_MEM,
    LDX_MEM,
    LINKPL,
    MASK32,
    Cond,
    Emitter,
    both,
    either,
    refused,
    test,
)
from skep.filter.gen_ip import FRAGMENT
from skep.filter.ir import Block, Stmt
from skep.isa.classic import BPF_ALU, BPF_B, BPF_H, BPF_JGE, BPF_JGT, BPF_JMP, BPF_K, BPF_MUL, BPF_ST

DEPTH: Final = 8
_AH: Final = 51
_EIGHTS: Final = (0, 43, 60)  # hop-by-hop, routing, destination: length in 8-byte units


class _Walk:
    """A walk in the making: scratch registers of the protocol and of where its header starts."""

    def __init__(self, g: Emitter) -> None:
        self.g = g
        self.proto = g.alloc()
        self.at = g.alloc()
        self.net = g.payload.const + g.net & MASK32

    def release(self) -> None:
        self.g.free(self.proto)
        self.g.free(self.at)

    def load(self, off: int, size: int) -> list[Stmt]:
        """A = ``size`` at ``off`` bytes into the header; X is where it starts."""
        return [Stmt(LDX_MEM, self.at), Stmt(LD_IND | size, self.net + off & MASK32)]

    def is_proto(self, number: int) -> Cond:
        return test([Stmt(LD_MEM, self.proto)], JEQ, number)

    def steps(self, wanted: Cond, late: Block | None, stop_at: int | None) -> Cond:
        """The walk in front of ``wanted``. Later fragments go to ``late``, or match nothing without it;
        the walk stops before a header of type ``stop_at``, which is wanted itself."""
        following = wanted.head
        for _ in range(DEPTH):
            following = self._step(wanted, following, late, stop_at)
        g = self.g
        start = g.load(LINKPL, 6, BPF_B)
        start += (Stmt(BPF_ST, self.proto), Stmt(LD_IMM, 40))
        if g.payload.variable:
            start += (*g.varpart(g.payload), Stmt(ADD_X))
        start.append(Stmt(BPF_ST, self.at))
        wanted.head = _jump(start, following)
        return wanted

    def _step(self, wanted: Cond, following: Block, late: Block | None, stop_at: int | None) -> Block:
        eights = _jump(self._advance(1, 8), following)
        ah = _jump(self._advance(2, 4), following)
        whole = _jump([Stmt(LD_MEM, self.at), Stmt(ADD_K, 8), Stmt(BPF_ST, self.at)], following)
        note = [*self.load(0, BPF_B), Stmt(BPF_ST, self.proto)]
        fragment = Block([*note, *self.load(2, BPF_H)], JSET, 0xFFF8, late, whole)
        if late is None:
            wanted.false.append((fragment, True))
        first = wanted.head
        for number, body in ((_AH, ah), (FRAGMENT, fragment), *((n, eights) for n in reversed(_EIGHTS))):
            if number != stop_at:
                first = Block([Stmt(LD_MEM, self.proto)], JEQ, number, body, first)
        return first

    def _advance(self, more: int, unit: int) -> list[Stmt]:
        """Note the next protocol, and step over (length + ``more``) * ``unit`` bytes."""
        return [
            *self.load(0, BPF_B),
            Stmt(BPF_ST, self.proto),
            Stmt(LD_IND | BPF_B, self.net + 1 & MASK32),
            Stmt(ADD_K, more),
            Stmt(BPF_ALU | BPF_MUL | BPF_K, unit),
            Stmt(ADD_X),
            Stmt(BPF_ST, self.at),
        ]


def _jump(stmts: list[Stmt], target: Block) -> Block:
    """Statements, then on to ``target``."""
    return Block(stmts, JEQ, 0, target, target)


def protocol_behind_extensions(g: Emitter, number: int) -> Cond:
    """IPv6 with protocol ``number`` at the end of its header chain, or as a header of the chain."""
    six = link.linktype(g, link.IPV6)
    walk = _Walk(g)
    wanted = walk.is_proto(number)
    # A later fragment has nothing to walk over, but its fragment header names the protocol.
    cond = walk.steps(wanted, wanted.head, number)
    walk.release()
    return both(six, cond)


def port_behind_extensions(
    g: Emitter, low: int, high: int | None, numbers: tuple[int, ...], dir: str | None
) -> Cond:
    """IPv6, one of the protocols ``numbers``, whole or first fragment, with this port or range."""
    if dir not in (None, "src", "dst", "src or dst", "src and dst"):
        raise refused(f"{dir!r} is for 802.11 hardware addresses, not for ports")
    six = link.linktype(g, link.IPV6)
    walk = _Walk(g)
    carried = walk.is_proto(numbers[0])
    for number in numbers[1:]:
        carried = either(carried, walk.is_proto(number))

    def field(off: int) -> Cond:
        if high is None:
            return test(walk.load(off, BPF_H), JEQ, low)
        at_least = test(walk.load(off, BPF_H), BPF_JMP | BPF_JGE | BPF_K, min(low, high))
        above = test(walk.load(off, BPF_H), BPF_JMP | BPF_JGT | BPF_K, max(low, high))
        above.true, above.false = above.false, above.true
        return both(at_least, above)

    if dir == "src" or dir == "dst":
        ports = field(0 if dir == "src" else 2)
    else:
        src = field(0)
        ports = (both if dir == "src and dst" else either)(src, field(2))
    cond = walk.steps(both(carried, ports), None, None)
    walk.release()
    return both(six, cond)
